/* The source's state: what is locked, how old its transactions are, what its rows need that no row of its shows. */
#include "engine/preflight/check.h"

/* pg_dump locks each table for reading, and whoever comes behind a lock that waits, waits too. */
bool check_source_locked(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_LOCKED_TABLE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 6,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname), a.pid, a.usename,"
               " pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)"
               " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
               " WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted"
               " AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d"
               "  WHERE d.datname = pg_catalog.current_database())"
               " AND c.relkind IN ('r', 'p') AND a.xact_start < pg_catalog.clock_timestamp() - interval '5 seconds'"
               " AND " SQL_USER_SCHEMA " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "process {4} of {5} has locked table {3} for {6}: reading its definition waits for that",
        .fix = "SELECT pg_terminate_backend({4}); -- or wait for it",
    };
    return check_by_sql(p, &check, err) && sight_of_sessions(p, DB_SOURCE, err);
}

/* Of any database. The snapshot of the copy, and later the slot, hold back what vacuum may freeze. 1.6 of the 2.1
 * thousand million that there are: autovacuum begins at 0.2, and where it keeps up nothing comes near. */
bool check_source_wraparound(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_WRAPAROUND,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(d.datname), pg_catalog.age(d.datfrozenxid),"
               " 2147483647 - pg_catalog.age(d.datfrozenxid) FROM pg_catalog.pg_database d"
               " WHERE pg_catalog.age(d.datfrozenxid) > 1600000000 ORDER BY 2 DESC",
        .object = "database {1}",
        .message = "the oldest rows of database {1} are {2} transactions old: after {3} more the server takes no"
                   " writes, and while the migration copies, vacuum cannot freeze rows",
        .fix = "VACUUM (FREEZE); -- in database {1}, before the load",
    };
    return check_by_sql(p, &check, err);
}

/* It is not ended for others' sake, as a usual autovacuum is, and adding a table to a publication waits for it. */
bool check_follow_wraparound_vacuum(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_WRAPAROUND_VACUUM,
        .side = DB_SOURCE,
        .columns = 2,
        .sql = "SELECT a.pid, a.query FROM pg_catalog.pg_stat_activity a"
               " WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'autovacuum worker'"
               " AND a.query LIKE '%(to prevent wraparound)'"
               " AND a.query !~ '^autovacuum: VACUUM (ANALYZE )?pg_(catalog|toast)[.]' ORDER BY a.pid",
        .object = "process {1}",
        .message = "{2} is running: the table cannot be published until it is through",
        .fix = "wait for it: SELECT * FROM pg_stat_progress_vacuum WHERE pid = {1};",
    };
    return check_by_sql(p, &check, err) && sight_of_sessions(p, DB_SOURCE, err);
}

/* Versions of a database's own rules are recorded from 15 on. */
static bool check_database_collation(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_COLLATION_VERSION,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(d.datname), d.datcollversion,"
               " pg_catalog.pg_database_collation_actual_version(d.oid) FROM pg_catalog.pg_database d"
               " WHERE d.datname = pg_catalog.current_database()"
               " AND d.datcollversion <> pg_catalog.pg_database_collation_actual_version(d.oid)",
        .object = "database {1}",
        .message = "text of database {1} was sorted by version {2} of the system's rules, which are version {3} now: a"
                   " unique index may hold duplicates, which the destination refuses",
        .fix = "REINDEX DATABASE {1}; ALTER DATABASE {1} REFRESH COLLATION VERSION;",
    };
    return db_major(p->input->source) < 15 || check_by_sql(p, &check, err);
}

bool check_collation_version(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_COLLATION_VERSION,
        .side = DB_SOURCE,
        .columns = 4,
        .sql = "SELECT pg_catalog.format('%I.%I', l.collnamespace::pg_catalog.regnamespace::text, l.collname),"
               " l.collversion, pg_catalog.pg_collation_actual_version(l.oid), u.count FROM ("
               " SELECT v.id, pg_catalog.count(*) FROM pg_catalog.pg_index x"
               "  CROSS JOIN LATERAL pg_catalog.unnest(x.indcollation::oid[]) AS v (id)"
               "  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid"
               "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE " SQL_USER_SCHEMA " GROUP BY v.id) u"
               " JOIN pg_catalog.pg_collation l ON l.oid = u.id"
               " WHERE l.collversion <> pg_catalog.pg_collation_actual_version(l.oid) ORDER BY 1",
        .object = "collation {1}",
        .message = "{4} columns of indexes are sorted by version {2} of collation {1}, which is version {3} now: a"
                   " unique index may hold duplicates, which the destination refuses",
        .fix = "REINDEX DATABASE; ALTER COLLATION {1} REFRESH VERSION;",
    };
    return check_database_collation(p, err) && check_by_sql(p, &check, err);
}

/* 2205 regclass, 2210 regclass[]. Schemas, types and functions are there when rows arrive; indexes are not. */
bool check_oid_alias(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OID_ALIAS,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a"
               " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n"
               "  ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
               " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'"
               " AND CASE t.typbasetype WHEN 0 THEN t.oid ELSE t.typbasetype END IN (2205, 2210)"
               " AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER("pg_class", "c") " ORDER BY 1, 2, a.attnum",
        .object = "column {4} of table {3}",
        .message = "column {4} of table {3} is of type regclass: a row that names an index, which is made only behind"
                   " the rows, or something that does not move, is refused by the destination",
        .fix = "ALTER TABLE {3} ALTER COLUMN {4} TYPE text; -- if it holds such names",
    };
    return check_by_sql(p, &check, err);
}

/* A function that is not immutable may look at other rows, which arrive in another order than they were written. */
#define SQL_CHECK_FUNCTIONS(owner, owner_catalog, id, kind)                                                            \
    "SELECT n.nspname, " owner ", pg_catalog.format('" kind " %I.%I', n.nspname, " owner "),"                          \
    " pg_catalog.quote_ident(k.conname), pg_catalog.format('%I.%I', m.nspname, f.proname)"                             \
    " FROM pg_catalog.pg_constraint k JOIN pg_catalog." owner_catalog " o ON o.oid = k." id                            \
    " JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace"                                                        \
    " JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass"                      \
    "  AND d.objid = k.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass"                               \
    " JOIN pg_catalog.pg_proc f ON f.oid = d.refobjid JOIN pg_catalog.pg_namespace m ON m.oid = f.pronamespace"        \
    " WHERE k.contype = 'c' AND f.provolatile <> 'i' AND f.oid >= " SQL_FIRST_USER_OID " AND " SQL_USER_SCHEMA         \
    " AND " SQL_NOT_MEMBER("pg_proc", "f")

bool check_constraint_function(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_CHECK_FUNCTION,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 5,
        .sql = SQL_CHECK_FUNCTIONS("o.relname", "pg_class", "conrelid", "table") " UNION ALL " SQL_CHECK_FUNCTIONS(
            "o.typname", "pg_type", "contypid", "domain") " ORDER BY 1, 2, 4",
        .object = "constraint {4} of {3}",
        .message = "constraint {4} of {3} calls function {5}, which is not immutable: when it looks at other rows, or"
                   " at tables without their schemas, rows that arrive before those are refused",
        .fix = "",
    };
    return check_by_sql(p, &check, err);
}

bool check_unpopulated_view(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_UNPOPULATED_VIEW,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 3,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind = 'm' AND NOT c.relispopulated AND " SQL_USER_SCHEMA " ORDER BY 1, 2",
        .object = "materialized view {3}",
        .message = "materialized view {3} was never filled on the source, and is not at the destination either",
        .fix = "REFRESH MATERIALIZED VIEW {3};",
    };
    return check_by_sql(p, &check, err);
}

/* Hidden from all but superusers, and whom they are for: the user itself where it may use the server, of one for PUBLIC
 * the server's owner. */
bool check_user_mapping(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_USER_MAPPING,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(u.srvname),"
               " CASE u.umuser WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(u.usename) END,"
               " pg_catalog.quote_ident(current_user) FROM pg_catalog.pg_user_mappings u"
               " JOIN pg_catalog.pg_foreign_server s ON s.oid = u.srvid WHERE u.umoptions IS NULL"
               " AND NOT CASE WHEN u.umuser = 0 THEN pg_catalog.pg_has_role(s.srvowner, 'USAGE')"
               "  ELSE u.usename = current_user AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE')"
               "   OR pg_catalog.has_server_privilege(s.oid, 'USAGE')) END"
               " AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) ORDER BY 1, 2",
        .object = "user mapping for {2} on server {1}",
        .message = "role {3} may not see the options of the user mapping for {2} on server {1}: it arrives without"
                   " them, its password among them",
        .fix = "ALTER USER MAPPING FOR {2} SERVER {1} OPTIONS (ADD password '...'); -- on the destination, behind the"
               " load",
    };
    return p->input->options->data_only || check_by_sql(p, &check, err);
}

bool check_other_slot(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OTHER_SLOT,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(s.slot_name), s.plugin, CASE WHEN s.active THEN 'is read now'"
               " ELSE 'is read by nobody now' END FROM pg_catalog.pg_replication_slots s"
               " WHERE s.slot_type = 'logical' AND s.database = pg_catalog.current_database() AND NOT s.temporary"
               " AND s.slot_name !~ '^pgcrane_' ORDER BY 1",
        .object = "replication slot {1}",
        .message = "replication slot {1} ({2}) {3}, and does not move: what follows this database has to begin anew"
                   " with the destination",
        .fix = "",
    };
    return check_by_sql(p, &check, err);
}

/* --- filters --- */

static void report_left_out(Preflight *p, const DbResult *rows, int row) {
    const char *const values[] = {db_text(rows, row, 4), db_text(rows, row, 5), db_text(rows, row, 6)};

    finding_add(p, CHECK_FILTER_FOREIGN_KEY, template_fill(p->scratch, "foreign key {3} of table {1}", values, 3),
                template_fill(p->scratch,
                              "foreign key {3} of table {1} refers to table {2}, which the filters leave out: it is not"
                              " made at the destination",
                              values, 3),
                template_fill(p->scratch, "--table '{2}' moves it, too", values, 3));
}

bool check_filter_foreign_key(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!p->filtered || p->input->options->data_only)
        return true;
    if (!preflight_query(p, DB_SOURCE,
                         "SELECT n.nspname, c.relname, m.nspname, f.relname,"
                         " pg_catalog.format('%I.%I', n.nspname, c.relname),"
                         " pg_catalog.format('%I.%I', m.nspname, f.relname), pg_catalog.quote_ident(k.conname)"
                         " FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
                         " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                         " JOIN pg_catalog.pg_class f ON f.oid = k.confrelid"
                         " JOIN pg_catalog.pg_namespace m ON m.oid = f.relnamespace"
                         " WHERE k.contype = 'f' AND NOT c.relispartition AND NOT f.relispartition"
                         " AND " SQL_USER_SCHEMA " ORDER BY 1, 2, 7",
                         &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++) {
        bool moves = false, there = false;

        if (!preflight_passes(p, db_text(rows, row, 0), db_text(rows, row, 1), &moves, err) ||
            !preflight_passes(p, db_text(rows, row, 2), db_text(rows, row, 3), &there, err))
            return false;
        if (moves && !there)
            report_left_out(p, rows, row);
    }
    return true;
}
