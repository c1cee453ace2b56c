/*
 * Roles: those that the destination lacks are made with all that they have on the source. What is there stays as it is,
 * and is compared.
 *
 * Which attributes one may give depends on the version, on the giver's own, and on means of managed services that no
 * catalogue shows: so all are tried together, and when that is refused one by one.
 */
#include "common/failpoint.h"
#include "engine/instance/prepare.h"
#include "engine/instance/provider.h"
#include "pg/quote.h"

#include <stdlib.h>

typedef struct FlagInfo {
    const char *present, *absent;
    bool absent_by_default, privileged;
} FlagInfo;

static const FlagInfo flag_infos[ROLE_FLAG_MAX_] = {
#define X(flag, absent, column, privileged) {#flag, absent, ROLE_##flag != ROLE_INHERIT, privileged},
    ROLE_FLAGS(X)
#undef X
};

#define FLAG_COLUMN(flag, absent, column, privileged) ", r." #column
#define FLAG_COLUMNS ROLE_FLAGS(FLAG_COLUMN)

/* ---- Reading ---- */

static int compare_roles(const void *left, const void *right) {
    return strcmp(((const InstanceRole *)left)->name, ((const InstanceRole *)right)->name);
}

const InstanceRole *role_find(const InstanceRoleVec *roles, const char *name) {
    InstanceRole wanted = {.name = name};

    return roles->len == 0 ? NULL : bsearch(&wanted, roles->items, roles->len, sizeof(*roles->items), compare_roles);
}

static InstanceRole role_of(Arena *arena, const DbResult *rows, int row) {
    InstanceRole role = {
        .name = arena_strdup(arena, db_text(rows, row, 0)),
        .bootstrap = db_bool(rows, row, 1),
        .theirs = db_bool(rows, row, 2),
        .limit = db_int64(rows, row, 3),
        .valid_until = db_is_null(rows, row, 4) ? NULL : arena_strdup(arena, db_text(rows, row, 4)),
        .comment = db_is_null(rows, row, 5) ? NULL : arena_strdup(arena, db_text(rows, row, 5)),
    };

    for (int flag = 0; flag < ROLE_FLAG_MAX_; flag++)
        role.flags[flag] = db_bool(rows, row, 6 + flag);
    return role;
}

bool roles_read(Arena *arena, DbConn *conn, InstanceRoleVec *ret_roles, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    InstanceRoleVec roles = {0};
    const char *sql =
        arena_printf(arena,
                     "SELECT r.rolname, r.oid = 10, %s, r.rolconnlimit, r.rolvaliduntil,"
                     " pg_catalog.shobj_description(r.oid, 'pg_authid')" FLAG_COLUMNS " FROM pg_catalog.pg_roles r",
                     provider_role_sql(arena, "r.rolname"));

    if (!db_query(conn, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the roles of the %s", db_side_name(db_conn_side(conn)));
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, &roles, role_of(arena, rows, i));
    if (roles.len > 0)
        qsort(roles.items, roles.len, sizeof(*roles.items), compare_roles);
    *ret_roles = roles;
    return true;
}

/* ---- Statements ---- */

static char *with_flag(Arena *arena, char *sql, const InstanceRole *role, int flag) {
    const FlagInfo *info = &flag_infos[flag];

    return arena_printf(arena, "%s %s", sql, role->flags[flag] ? info->present : info->absent);
}

char *role_create_sql(Arena *arena, const InstanceRole *role, bool privileged) {
    char *sql = arena_printf(arena, "CREATE ROLE %s", sql_ident(arena, role->name));

    for (int flag = 0; flag < ROLE_FLAG_MAX_; flag++)
        if (role->flags[flag] == flag_infos[flag].absent_by_default && (privileged || !flag_infos[flag].privileged))
            sql = with_flag(arena, sql, role, flag);
    if (role->limit >= 0)
        sql = arena_printf(arena, "%s CONNECTION LIMIT %lld", sql, (long long)role->limit);
    if (role->valid_until != NULL)
        sql = arena_printf(arena, "%s VALID UNTIL %s", sql, sql_literal(arena, role->valid_until));
    return sql;
}

static bool same_text(const char *left, const char *right) {
    return left == NULL || right == NULL ? left == right : strcmp(left, right) == 0;
}

const char *role_difference(Arena *arena, const InstanceRole *here, const InstanceRole *there, const char **ret_fix) {
    char *fix = arena_strdup(arena, "");

    for (int flag = 0; flag < ROLE_FLAG_MAX_; flag++)
        if (here->flags[flag] != there->flags[flag])
            fix = with_flag(arena, fix, here, flag);
    if (here->limit != there->limit)
        fix = arena_printf(arena, "%s CONNECTION LIMIT %lld", fix, (long long)here->limit);
    if (!same_text(here->valid_until, there->valid_until))
        fix = arena_printf(arena, "%s VALID UNTIL %s", fix,
                           sql_literal(arena, here->valid_until == NULL ? "infinity" : here->valid_until));
    if (fix[0] == '\0')
        return NULL;
    *ret_fix = arena_printf(arena, "ALTER ROLE %s%s;", sql_ident(arena, here->name), fix);
    return arena_printf(arena, "%s is%s on the source", sql_ident(arena, here->name), fix);
}

/* ---- Making ---- */

/* One by one, each as far as it is allowed; what is left out is told by roles_compare(). */
static bool give_privileged(Prepare *p, const InstanceRole *role, Error *err) {
    for (int flag = 0; flag < ROLE_FLAG_MAX_; flag++) {
        bool done = false;
        const char *sql =
            arena_printf(p->arena, "ALTER ROLE %s %s", sql_ident(p->arena, role->name), flag_infos[flag].present);

        if (role->flags[flag] && flag_infos[flag].privileged && !prepare_try(p, sql, &done, NULL, err))
            return false;
    }
    return true;
}

static bool create_role(Prepare *p, const InstanceRole *role, bool *ret_done, const char **ret_why, Error *err) {
    const char *lesser = role_create_sql(p->arena, role, false);
    const char *full = role_create_sql(p->arena, role, true);

    if (!prepare_try(p, full, ret_done, ret_why, err))
        return false;
    if (*ret_done || strcmp(full, lesser) == 0)
        return true;
    return prepare_try(p, lesser, ret_done, ret_why, err) && (!*ret_done || give_privileged(p, role, err));
}

static bool comment_on(Prepare *p, const InstanceRole *role, Error *err) {
    bool done = false;
    const char *why = "";
    const char *name = sql_ident(p->arena, role->name);
    const char *sql = role->comment == NULL ? NULL
                                            : arena_printf(p->arena, "COMMENT ON ROLE %s IS %s", name,
                                                           sql_literal(p->arena, role->comment));

    if (sql == NULL)
        return true;
    if (!prepare_try(p, sql, &done, &why, err))
        return false;
    if (!done)
        note_refused(&p->notes, NOTE_ROLE_SETTING, arena_printf(p->arena, "comment on %s", name), why,
                     arena_printf(p->arena, "%s;", sql));
    return true;
}

static bool make_role(Prepare *p, InstanceRole *role, Error *err) {
    const char *why = "";
    bool done = false;

    if (!failpoint("instance.role", err) || !create_role(p, role, &done, &why, err))
        return false;
    if (!done) {
        note_refused(&p->notes, NOTE_ROLE_MISSING, sql_ident(p->arena, role->name), why,
                     arena_printf(p->arena, "%s;", role_create_sql(p->arena, role, true)));
        return true;
    }
    role->made = true;
    p->made->roles++;
    return comment_on(p, role, err);
}

bool roles_make(Prepare *p, Error *err) {
    for (size_t i = 0; i < p->source_roles.len; i++) {
        InstanceRole *role = &p->source_roles.items[i];

        if (strncmp(role->name, "pg_", 3) != 0 && !role->theirs && role_find(&p->dest_roles, role->name) == NULL &&
            !make_role(p, role, err))
            return false;
    }
    return p->made->roles == 0 || roles_read(p->arena, p->dest, &p->dest_roles, err);
}

const char *role_is_administrator(const Prepare *p, const char *name) {
    const InstanceRole *there = role_find(&p->dest_roles, name);

    if (there != NULL && there->bootstrap)
        return "the server's own superuser";
    return strcmp(name, p->user) == 0 ? "the role that pgcrane works as" : NULL;
}

bool role_gains_superuser(const Prepare *p, const char *name) {
    const InstanceRole *here = role_find(&p->source_roles, name);
    const InstanceRole *there = role_find(&p->dest_roles, name);

    return here != NULL && there != NULL && there->flags[ROLE_SUPERUSER] && !here->flags[ROLE_SUPERUSER];
}

/* A managed source's postgres is a role like others, and that of a server of one's own is its superuser: made the same,
 * nobody could administrate the server any more. */
static void note_difference(Prepare *p, const char *name, const char *difference, const char *fix) {
    const char *who = role_is_administrator(p, name);

    if (who == NULL)
        note_add(&p->notes, NOTE_ROLE_ATTRIBUTES, difference, fix);
    else
        note_add(&p->notes, NOTE_ROLE_ATTRIBUTES,
                 arena_printf(p->arena, "%s; there it is %s, and is left so", difference, who), "");
}

/* The superuser that initdb made is another person's on each server, or the provider's stand-in for one. */
void roles_compare(Prepare *p) {
    for (size_t i = 0; i < p->source_roles.len; i++) {
        const InstanceRole *here = &p->source_roles.items[i];
        const InstanceRole *there = role_find(&p->dest_roles, here->name);
        const char *fix = "";

        if (strncmp(here->name, "pg_", 3) == 0 || here->theirs || here->bootstrap || there == NULL)
            continue;
        const char *difference = role_difference(p->arena, here, there, &fix);
        if (difference != NULL)
            note_difference(p, here->name, difference, fix);
    }
}
