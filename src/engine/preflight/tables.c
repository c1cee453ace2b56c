/* Objects of the source that do not arrive as they are. */
#include "engine/preflight/check.h"

/* A partitioned table's index is invalid as long as a partition lacks its part; pg_dump keeps that one. */
bool check_invalid_index(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_INVALID_INDEX,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, i.relname),"
               " pg_catalog.format('%I.%I', n.nspname, c.relname)"
               " FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
               " JOIN pg_catalog.pg_class c ON c.oid = x.indrelid"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE (NOT x.indisready OR (NOT x.indisvalid AND c.relkind <> 'p')) AND " SQL_USER_SCHEMA
               " ORDER BY n.nspname, i.relname",
        .object = "index {3}",
        .message = "index {3} of table {4} is invalid and does not move",
        .fix = "REINDEX INDEX {3}; -- or DROP INDEX {3};",
    };
    return check_by_sql(p, &check, err);
}

bool check_unlogged_table(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_UNLOGGED_TABLE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 3,
        .sql =
            "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND " SQL_USER_SCHEMA " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "table {3} is unlogged: its rows move, and stay unlogged (a crash of the destination empties it)",
        .fix = "",
    };
    /* With --follow there is a sharper row for it. */
    return p->input->options->follow || check_by_sql(p, &check, err);
}

bool check_foreign_table(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_FOREIGN_TABLE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname), s.srvname"
               " FROM pg_catalog.pg_foreign_table f JOIN pg_catalog.pg_class c ON c.oid = f.ftrelid"
               " JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE " SQL_USER_SCHEMA " ORDER BY n.nspname, c.relname",
        .object = "foreign table {3}",
        .message = "only the definition of foreign table {3} moves: its rows stay on server {4}",
        .fix = "",
    };
    return check_by_sql(p, &check, err);
}
