/* What the source's role may read: tables, sequences, large objects, rows. */
#include "engine/preflight/check.h"

/* Tables whose rows move: the user's, and those of extensions that hold configuration (pg_extension.extconfig). */
#define SQL_MOVED_TABLE                                                                                                \
    SQL_USER_SCHEMA " AND (" SQL_NOT_MEMBER(                                                                           \
        "pg_class", "c") " OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))"

bool check_schema_privilege(Preflight *p, Error *err) {
    /* One row per table, as the filters go by table; findings are per schema. */
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, DB_SOURCE,
                         "SELECT n.nspname, c.relname, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_class c"
                         " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                         " WHERE c.relkind IN ('r', 'p', 'S') AND " SQL_MOVED_TABLE
                         " AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY n.nspname",
                         &rows, err))
        return false;
    const char *reported = NULL;
    for (int row = 0; row < db_rows(rows); row++) {
        const char *schema = db_text(rows, row, 0);
        bool passes = false;
        if (reported != NULL && strcmp(reported, schema) == 0)
            continue;
        if (!preflight_passes(p, schema, db_text(rows, row, 1), &passes, err))
            return false;
        if (!passes)
            continue;
        reported = schema;
        const char *const values[] = {db_text(rows, row, 2), p->source_role.quoted};
        finding_add(p, CHECK_SOURCE_SCHEMA_PRIVILEGE, template_fill(p->scratch, "schema {1}", values, 2),
                    template_fill(p->scratch, "role {2} has no USAGE on schema {1} of the source", values, 2),
                    template_fill(p->scratch, "GRANT USAGE ON SCHEMA {1} TO {2};", values, 2));
    }
    return true;
}

#define SQL_UNREADABLE_TABLES                                                                                          \
    "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"                                   \
    " pg_catalog.quote_ident(current_user),"                                                                           \
    " CASE WHEN c.relispartition THEN 'partition' WHEN c.relhassubclass THEN 'parent table' ELSE 'table' END"          \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                             \
    " WHERE c.relkind IN ('r', 'p') AND " SQL_MOVED_TABLE                                                              \
    " AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY n.nspname, c.relname"

bool check_table_privilege(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_TABLE_PRIVILEGE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 5,
        .sql = SQL_UNREADABLE_TABLES,
        .object = "table {3}",
        .message = "role {4} may not read {5} {3} of the source",
        .fix = "GRANT SELECT ON TABLE {3} TO {4};",
    };
    return check_by_sql(p, &check, err);
}

/* The definitions are read whole and filtered afterwards, because types and functions that a chosen table needs may be
 * anywhere: so pg_dump locks every table, and a lock needs SELECT. */
bool check_lock_privilege(Preflight *p, Error *err) {
    if (!p->filtered)
        return true;
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, DB_SOURCE, SQL_UNREADABLE_TABLES, &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++) {
        bool passes = false;
        if (!preflight_passes(p, db_text(rows, row, 0), db_text(rows, row, 1), &passes, err))
            return false;
        if (passes)
            continue; /* SOURCE_TABLE_PRIVILEGE */
        const char *const values[] = {db_text(rows, row, 2), p->source_role.quoted};
        finding_add(p, CHECK_SOURCE_LOCK_PRIVILEGE, template_fill(p->scratch, "table {1}", values, 2),
                    template_fill(p->scratch,
                                  "table {1} does not move, but pg_dump locks it to read the definitions, and role {2} "
                                  "may not",
                                  values, 2),
                    template_fill(p->scratch, "GRANT SELECT ON TABLE {1} TO {2};", values, 2));
    }
    return true;
}

bool check_sequence_privilege(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_SEQUENCE_PRIVILEGE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(current_user)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind = 'S' AND " SQL_MOVED_TABLE
               " AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY n.nspname, c.relname",
        .object = "sequence {3}",
        .message = "role {4} may not read the position of sequence {3} of the source",
        .fix = "GRANT SELECT ON SEQUENCE {3} TO {4};",
    };
    return check_by_sql(p, &check, err);
}

/* One finding for all: there may be millions. What has_largeobject_privilege() says in 18 is worked out from owner and
 * grants, which everybody may read. */
bool check_large_object_privilege(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_LARGE_OBJECT_PRIVILEGE,
        .side = DB_SOURCE,
        .columns = 4,
        .sql = "SELECT x.count, pg_catalog.quote_ident(current_user), pg_catalog.quote_literal("
               "pg_catalog.quote_ident(current_user)), x.first FROM (SELECT pg_catalog.count(*),"
               " pg_catalog.min(l.oid::bigint) AS first FROM pg_catalog.pg_largeobject_metadata l"
               " WHERE NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')"
               " AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) a WHERE a.privilege_type = 'SELECT'"
               "  AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))) x"
               " WHERE x.count > 0 AND pg_catalog.current_setting('lo_compat_privileges') <> 'on'"
               " AND NOT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')",
        .object = "large objects",
        .message = "role {2} may not read {1} large objects of the source (the first is {4})",
        .fix = "DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_catalog.pg_largeobject_metadata LOOP EXECUTE"
               " pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %s', o, {3}); END LOOP; END $$;",
    };
    return check_by_sql(p, &check, err);
}

/* The copy runs with row_security = off, so that hidden rows are an error and never missing without a word. */
bool check_row_security(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_ROW_SECURITY,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(current_user)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND " SQL_MOVED_TABLE
               " AND pg_catalog.row_security_active(c.oid) ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "row security policies of table {3} hide rows from role {4}",
        .fix = "ALTER ROLE {4} BYPASSRLS;",
    };
    return check_by_sql(p, &check, err);
}
