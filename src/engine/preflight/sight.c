/*
 * What a role sees of a server beside the catalogues, which are everybody's. doc/design/verify.md has the list.
 *
 * pg_stat_activity has a row for each session, and pg_settings leaves rows out: neither fails. Whether a role sees them
 * is its membership in pg_read_all_stats and pg_read_all_settings, both of which pg_monitor is a member of. Since 15 it
 * has to inherit it, before it was enough to have it.
 */
#include "engine/preflight/check.h"

enum { INHERITED_MAJOR = 15 };

static const char *member_sql(Arena *arena, const char *role, int major) {
    return arena_printf(arena,
                        "EXISTS (SELECT FROM pg_catalog.pg_roles s WHERE s.rolname = '%s'"
                        " AND pg_catalog.pg_has_role(s.oid, '%s'))",
                        role, major >= INHERITED_MAJOR ? "USAGE" : "MEMBER");
}

const char *sight_sql(Arena *arena, int major) {
    return arena_printf(arena, "%s, %s", member_sql(arena, "pg_read_all_stats", major),
                        member_sql(arena, "pg_read_all_settings", major));
}

static bool be_blind(const RoleFacts *role, DbSide side, const char *what, Error *err) {
    error_set(err, REASON_NOT_PERMITTED, "role %s does not see %s of the %s", role->quoted, what, db_side_name(side));
    return error_remedy(err, "GRANT pg_monitor TO %s;", role->quoted);
}

static const RoleFacts *role_of(const Preflight *p, DbSide side) {
    return side == DB_SOURCE ? &p->source_role : &p->dest_role;
}

bool sight_of_sessions(const Preflight *p, DbSide side, Error *err) {
    const RoleFacts *role = role_of(p, side);

    return role->sees_sessions || be_blind(role, side, "what sessions of other roles do", err);
}

bool sight_of_settings(const Preflight *p, DbSide side, Error *err) {
    const RoleFacts *role = role_of(p, side);

    return role->sees_settings || be_blind(role, side, "settings for administrators", err);
}
