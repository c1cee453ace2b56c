/* Roles that the definitions name: owners, grants, policies, user mappings. */
#include "engine/preflight/check.h"

/*
 * pg_shdepend knows all of them but the bootstrap superuser (oid 10), which is pinned and so recorded nowhere: what it
 * owns is asked for by kind. With filters one row per relation (parameter 1), else one per role. Before 15 it owns the
 * schema public of any database, which pg_dump tells where another owner is usual: of 15 and later (parameter 2).
 * Columns: schema, relation, role, quoted, may log in, owns, is granted, is named otherwise, objects, an example.
 */
#define SQL_IS_OURS(catalog, name)                                                                                     \
    "SELECT 'pg_catalog." catalog "'::pg_catalog.regclass::oid, o.oid FROM pg_catalog." catalog " o WHERE o." name     \
    " ~ " SQL_OURS
#define SQL_OUR_OBJECTS                                                                                                \
    SQL_IS_OURS("pg_publication", "pubname")                                                                           \
    " UNION ALL " SQL_IS_OURS("pg_event_trigger", "evtname") " UNION ALL " SQL_IS_OURS(                                \
        "pg_namespace",                                                                                                \
        "nspname") " UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid, f.oid FROM pg_catalog.pg_proc f" \
                   " JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname ~ " SQL_OURS

/* An extension's members get their owner from CREATE EXTENSION; their grants are dumped. */
#define SQL_RECORDED                                                                                                   \
    "SELECT s.refobjid AS role, s.deptype::text AS how, s.classid, s.objid FROM pg_catalog.pg_shdepend s"              \
    " WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass"                                                \
    " AND s.dbid = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())"       \
    " AND s.deptype IN ('o', 'a', 'r') AND s.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass"                \
    " AND (s.deptype <> 'o' OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = s.classid"             \
    "  AND m.objid = s.objid AND m.deptype = 'e'))"                                                                    \
    " AND (s.classid, s.objid) NOT IN (" SQL_OUR_OBJECTS ")"

#define SQL_OF_BOOTSTRAP(catalog, alias)                                                                               \
    " UNION ALL SELECT 10::oid, 'o', 'pg_catalog." catalog "'::pg_catalog.regclass::oid, " alias ".oid"                \
    " FROM pg_catalog." catalog " " alias

#define SQL_BOOTSTRAP_OWNS(catalog, alias, prefix, condition)                                                          \
    SQL_OF_BOOTSTRAP(catalog, alias)                                                                                   \
    " JOIN pg_catalog.pg_namespace n ON n.oid = " alias "." prefix "namespace"                                         \
    " WHERE " alias "." prefix "owner = 10 AND " condition " AND " SQL_USER_SCHEMA                                     \
    " AND " SQL_NOT_MEMBER(catalog, alias)

#define SQL_USED                                                                                                       \
    SQL_RECORDED                                                                                                       \
    SQL_BOOTSTRAP_OWNS("pg_class", "c", "rel", "c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')")                     \
    SQL_BOOTSTRAP_OWNS("pg_proc", "f", "pro", "true")                                                                  \
    SQL_BOOTSTRAP_OWNS("pg_type", "t", "typ", "t.typtype IN ('d', 'e', 'r')")                                          \
    SQL_OF_BOOTSTRAP("pg_namespace", "n")                                                                              \
    " WHERE n.nspowner = 10 AND (n.nspname <> 'public' OR $2::bool)"                                                   \
    " AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER("pg_namespace", "n")                                                \
        SQL_OF_BOOTSTRAP("pg_default_acl", "d") " WHERE d.defaclrole = 10"

/* With what it is for (o: owner, a: grant, r: named otherwise) and, where it is one or belongs to one, its relation. */
#define SQL_NAMED                                                                                                      \
    "SELECT u.role, u.classid, u.objid, n.nspname, c.relname,"                                                         \
    " CASE u.classid WHEN 'pg_catalog.pg_default_acl'::pg_catalog.regclass THEN 'a'"                                   \
    "  WHEN 'pg_catalog.pg_user_mapping'::pg_catalog.regclass THEN 'r' ELSE u.how END AS kind"                         \
    " FROM used u LEFT JOIN pg_catalog.pg_policy l"                                                                    \
    "  ON u.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND l.oid = u.objid"                                 \
    " LEFT JOIN pg_catalog.pg_class c ON c.oid = CASE u.classid"                                                       \
    "  WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN u.objid ELSE l.polrelid END"                               \
    " LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                                                   \
    " WHERE n.nspname IS NULL OR (" SQL_USER_SCHEMA ")"

/* Relations make the best examples. */
#define SQL_EXAMPLE_ORDER " ORDER BY u.kind DESC, u.relname IS NULL, u.classid, u.objid))[1]"

static const char roles_used_sql[] =
    "WITH used AS (" SQL_USED "), named AS (" SQL_NAMED ")"
    " SELECT CASE WHEN $1::bool THEN u.nspname END, CASE WHEN $1::bool THEN u.relname END,"
    " r.rolname, pg_catalog.quote_ident(r.rolname), r.rolcanlogin,"
    " pg_catalog.count(*) FILTER (WHERE u.kind = 'o'), pg_catalog.count(*) FILTER (WHERE u.kind = 'a'),"
    " pg_catalog.count(*) FILTER (WHERE u.kind = 'r'),"
    /* Describing each of 20,000 relations takes seconds. */
    " CASE WHEN $1::bool AND pg_catalog.min(u.relname::text) IS NOT NULL"
    "  THEN pg_catalog.format('%I.%I', pg_catalog.min(u.nspname::text), pg_catalog.min(u.relname::text))"
    "  ELSE pg_catalog.pg_describe_object((pg_catalog.array_agg(u.classid" SQL_EXAMPLE_ORDER ","
    "   (pg_catalog.array_agg(u.objid" SQL_EXAMPLE_ORDER ", 0) END"
    " FROM named u JOIN pg_catalog.pg_roles r ON r.oid = u.role"
    " GROUP BY 1, 2, r.rolname, r.rolcanlogin ORDER BY r.rolname";

typedef struct RoleUse {
    const char *name, *quoted, *example;
    bool can_login;
    int64_t owned, granted, named;
} RoleUse;

/* Counts only what matters under --no-owner and --no-acl. */
static void role_use_add(const MigrateOptions *options, const DbResult *rows, int row, RoleUse *use) {
    use->owned += options->no_owner ? 0 : db_int64(rows, row, 5);
    use->granted += options->no_acl ? 0 : db_int64(rows, row, 6);
    use->named += db_int64(rows, row, 7);
}

static const char *role_use_describe(Arena *arena, const RoleUse *use) {
    const char *how = use->owned > 0 ? "owns" : use->granted > 0 ? "is named in the grants of" : "is named by";
    int64_t count = use->owned > 0 ? use->owned : use->granted > 0 ? use->granted : use->named;
    if (count == 1)
        return arena_printf(arena, "%s %s", how, use->example);
    return arena_printf(arena, "%s %lld objects of the source, among them %s", how, (long long)count, use->example);
}

static void report_role_missing(Preflight *p, const RoleUse *use) {
    const char *without = use->named > 0 || (use->owned > 0 && use->granted > 0) ? ""
                          : use->owned > 0                                       ? " -- or --no-owner"
                                                                                 : " -- or --no-acl";
    if (use->named == 0 && use->owned > 0 && use->granted > 0)
        without = " -- or --no-owner --no-acl";
    finding_add(p, CHECK_ROLE_MISSING, arena_printf(p->scratch, "role %s", use->quoted),
                arena_printf(p->scratch, "role %s %s, but does not exist at the destination", use->quoted,
                             role_use_describe(p->scratch, use)),
                arena_printf(p->scratch, "CREATE ROLE %s%s;%s", use->quoted, use->can_login ? " LOGIN" : "", without));
}

/* Who is a member of a superuser's role is one. */
static const char *not_member_fix(const Preflight *p, const RoleUse *use, bool makes_superuser) {
    if (makes_superuser)
        return arena_printf(
            p->scratch,
            "connect to the destination as a superuser, or leave owners out by --no-owner, or, on the"
            " source, give what it owns to a role that is none (ALTER ... OWNER TO ...): a membership in"
            " %s would make a superuser of %s",
            use->quoted, p->dest_role.quoted);
    return arena_printf(p->scratch, "GRANT %s TO %s; -- or --no-owner", use->quoted, p->dest_role.quoted);
}

static void report_role_not_member(Preflight *p, const RoleUse *use, bool makes_superuser) {
    finding_add(p, CHECK_ROLE_NOT_MEMBER, arena_printf(p->scratch, "role %s", use->quoted),
                arena_printf(p->scratch, "role %s %s, and role %s may not give objects to it at the destination",
                             use->quoted, role_use_describe(p->scratch, use), p->dest_role.quoted),
                not_member_fix(p, use, makes_superuser));
}

/* All rows of one role, from `row` on; returns the row behind them. */
static bool role_use_gather(Preflight *p, const DbResult *used, int *row, RoleUse *ret_use, Error *err) {
    int first = *row;
    RoleUse use = {
        .name = db_text(used, first, 2),
        .quoted = db_text(used, first, 3),
        .can_login = db_bool(used, first, 4),
        .example = db_text(used, first, 8),
    };
    for (; *row < db_rows(used) && strcmp(db_text(used, *row, 2), use.name) == 0; (*row)++) {
        bool passes = true;
        /* What is no relation comes along only when a chosen table needs it, which the archive knows and not we. */
        if (p->filtered && db_is_null(used, *row, 0))
            continue;
        if (p->filtered && !preflight_passes(p, db_text(used, *row, 0), db_text(used, *row, 1), &passes, err))
            return false;
        if (!passes)
            continue;
        if (use.owned + use.granted + use.named == 0)
            use.example = db_text(used, *row, 8);
        role_use_add(p->input->options, used, *row, &use);
    }
    *ret_use = use;
    return true;
}

/* Are roles that lack, and memberships, made before the migration begins (engine/instance)? A provider's own are not.
 */
static const char made_sql[] =
    "SELECT r.rolsuper OR r.rolcreaterole FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

static bool roles_are_made(Preflight *p, bool *ret_made, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    *ret_made = false;
    if (!p->input->instance_follows)
        return true;
    if (!preflight_query(p, DB_DEST, made_sql, &row, err))
        return false;
    *ret_made = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

static bool is_of_provider(const char *role) {
    static const char *const beginnings[] = {"rds", "cloudsql", "alloydb", "azure", "neon_", "cloud_admin"};

    for (size_t i = 0; i < COUNT_OF(beginnings); i++)
        if (strncmp(role, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

bool check_roles(Preflight *p, Error *err) {
    bool made = false;
    CLEANUP(db_result_freep) DbResult *used = NULL;
    CLEANUP(db_result_freep) DbResult *dest = NULL;
    if (p->input->options->data_only)
        return true;
    const char *const params[] = {p->filtered ? "true" : "false", db_major(p->input->dest) >= 15 ? "true" : "false"};
    const char *membership = db_major(p->input->dest) >= 16 ? "SET" : "MEMBER";
    if (!roles_are_made(p, &made, err) || !db_query(p->input->source, roles_used_sql, 2, params, &used, err) ||
        !preflight_query(
            p, DB_DEST,
            /* Before 16 whoever may make roles may give any but a superuser's. */
            arena_printf(p->scratch,
                         "SELECT r.rolname, pg_catalog.pg_has_role(r.oid, '%s'), %s, EXISTS (SELECT FROM"
                         "  pg_catalog.pg_roles s WHERE s.rolsuper AND pg_catalog.pg_has_role(r.oid, s.oid, 'MEMBER'))"
                         " FROM pg_catalog.pg_roles r",
                         membership,
                         db_major(p->input->dest) >= 16 ? "pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')"
                                                        : "NOT r.rolsuper"),
            &dest, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, dest, 0);
    for (int row = 0; row < db_rows(used);) {
        RoleUse use;
        if (!role_use_gather(p, used, &row, &use, err))
            return false;
        int found = row_index_find(index, use.name);
        if (found < 0 && use.owned + use.granted + use.named > 0 && (!made || is_of_provider(use.name)))
            report_role_missing(p, &use);
        else if (found >= 0 && use.owned > 0 && !db_bool(dest, found, 1) && !(made && db_bool(dest, found, 2)))
            report_role_not_member(p, &use, db_bool(dest, found, 3));
    }
    return true;
}
