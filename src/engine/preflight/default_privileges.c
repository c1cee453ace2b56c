/*
 * Default privileges of the destination's database that reach what pgcrane makes there.
 *
 * They count at the moment of CREATE, for the role that creates, which is ours whoever gets the object afterwards. The
 * archive does not undo them: of an object it has what differs from PostgreSQL's own defaults. An entry of a whole
 * database stands in the place of those, one of a schema is added to them (catalog pg_default_acl).
 */
#include "engine/preflight/check.h"

/*
 * One row for each entry of role $1 that makes a difference: what it is, a key that is the same on both servers when
 * the difference is, the difference, and what takes it back. MAINTAIN is 17's: what came from an older server has it
 * besides.
 */
static const char entries_sql[] =
    "WITH entry AS (SELECT d.oid, n.nspname, d.defaclacl AS acl, pg_catalog.quote_ident(r.rolname) AS role,"
    "  CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'"
    "   WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind,"
    "  CASE WHEN d.defaclnamespace = 0 THEN pg_catalog.acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'"
    "   ELSE d.defaclobjtype END, r.oid) END AS built_in"
    "  FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole"
    "  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace WHERE r.rolname = $1),"
    " difference AS (SELECT e.oid, x.granted,"
    "  pg_catalog.string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) AS privileges,"
    "  pg_catalog.string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)"
    "   FILTER (WHERE x.privilege_type <> 'MAINTAIN') AS known,"
    "  ' ON ' || e.kind || CASE WHEN x.granted THEN ' TO ' ELSE ' FROM ' END || g.name"
    "   || CASE WHEN x.is_grantable AND x.granted THEN ' WITH GRANT OPTION' ELSE '' END AS given,"
    "  ' ON ' || e.kind || CASE WHEN x.granted THEN ' FROM ' ELSE ' TO ' END || g.name"
    "   || CASE WHEN x.is_grantable AND NOT x.granted THEN ' WITH GRANT OPTION' ELSE '' END AS back"
    "  FROM entry e CROSS JOIN LATERAL ("
    "   (SELECT true AS granted, a.grantee, a.privilege_type, a.is_grantable FROM pg_catalog.aclexplode(e.acl) a"
    "    EXCEPT SELECT true, b.grantee, b.privilege_type, b.is_grantable FROM pg_catalog.aclexplode(e.built_in) b)"
    "   UNION ALL"
    "   (SELECT false, b.grantee, b.privilege_type, b.is_grantable FROM pg_catalog.aclexplode(e.built_in) b"
    "    EXCEPT SELECT false, a.grantee, a.privilege_type, a.is_grantable FROM pg_catalog.aclexplode(e.acl) a)) x"
    "  CROSS JOIN LATERAL (SELECT coalesce((SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles r"
    "   WHERE r.oid = x.grantee), 'PUBLIC') AS name) g"
    "  GROUP BY e.oid, e.kind, x.granted, x.is_grantable, g.name)"
    " SELECT 'default privileges of role ' || e.role || ' on ' || pg_catalog.lower(e.kind)"
    "  || coalesce(' in schema ' || pg_catalog.quote_ident(e.nspname), '') AS object,"
    " pg_catalog.concat_ws(E'\\n', e.kind, coalesce(e.nspname, ''), pg_catalog.string_agg("
    "  CASE WHEN d.granted THEN 'GRANT ' ELSE 'REVOKE ' END || d.known || d.given, '; ' ORDER BY d.given, d.known)),"
    " pg_catalog.string_agg(CASE WHEN d.granted THEN 'GRANT ' ELSE 'REVOKE ' END || d.privileges || d.given, '; '"
    "  ORDER BY d.given, d.known),"
    " pg_catalog.string_agg('ALTER DEFAULT PRIVILEGES FOR ROLE ' || e.role"
    "  || coalesce(' IN SCHEMA ' || pg_catalog.quote_ident(e.nspname), '')"
    "  || CASE WHEN d.granted THEN ' REVOKE ' ELSE ' GRANT ' END || d.privileges || d.back || ';', ' '"
    "  ORDER BY d.given, d.known)"
    " FROM entry e JOIN difference d ON d.oid = e.oid GROUP BY e.oid, e.role, e.kind, e.nspname ORDER BY 1";

/* Without the source's grants the destination's own are what is wanted. */
static bool is_wanted(const Preflight *p) {
    const MigrateOptions *options = p->input->options;

    return !options->data_only && !options->no_acl && !p->input->dest_absent;
}

bool check_dest_default_privileges(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *ours = NULL;
    CLEANUP(db_result_freep) DbResult *theirs = NULL;
    const char *const role[] = {p->dest_role.name};

    if (!is_wanted(p))
        return true;
    if (!db_query(p->input->source, entries_sql, 1, role, &ours, err) ||
        !db_query(p->input->dest, entries_sql, 1, role, &theirs, err))
        return false;
    const RowIndex *moves = row_index_new(p->scratch, ours, 1);
    for (int i = 0; i < db_rows(theirs); i++)
        if (row_index_find(moves, db_text(theirs, i, 1)) < 0)
            finding_add(p, CHECK_DESTINATION_DEFAULT_PRIVILEGE, db_text(theirs, i, 0),
                        arena_printf(p->scratch,
                                     "%s of the destination reach what pgcrane makes there, whoever owns it then, and"
                                     " are not the source's: %s",
                                     db_text(theirs, i, 0), db_text(theirs, i, 2)),
                        arena_printf(p->scratch, "%s -- until the migration is done", db_text(theirs, i, 3)));
    return true;
}
