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

/* pg_dump leaves out what belongs to an extension, but for the rows of its configuration tables. Of a partitioned table
 * the leaves have the rows. */
bool check_extension_table(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_EXTENSION_TABLE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(e.extname)"
               " FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid"
               " JOIN pg_catalog.pg_class c ON c.oid = d.objid"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
               " AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'"
               " AND c.relkind = 'r' AND c.relpersistence <> 't'"
               " AND NOT coalesce(c.oid = ANY (e.extconfig), false) AND " SQL_USER_SCHEMA
               " AND pg_catalog.pg_relation_size(c.oid) > 0 ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "rows of table {3} do not move: it belongs to extension {4}, which makes it anew, empty, or not at"
                   " all",
        .fix = "ALTER EXTENSION {4} DROP TABLE {3}; -- then it moves as others do; leave it when CREATE EXTENSION fills"
               " it",
    };
    return p->input->options->schema_only || check_by_sql(p, &check, err);
}

enum { WITHOUT_OIDS_VERSION = 120000 }; /* and without abstime, reltime and tinterval */

static bool has_no_oids(const Preflight *p) {
    return db_version(p->input->source) >= WITHOUT_OIDS_VERSION;
}

bool check_oids(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OIDS,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 3,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind IN ('r', 'p') AND c.relhasoids AND " SQL_USER_SCHEMA " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "table {3} is WITH OIDS: its rows move without their oids, and what refers to a row by its oid finds"
                   " it no more",
        .fix = "ALTER TABLE {3} SET WITHOUT OIDS; -- when the oids are used: ALTER TABLE {3} ADD row_oid oid; UPDATE"
               " {3} SET row_oid = oid; first",
    };
    return has_no_oids(p) || check_by_sql(p, &check, err);
}

bool check_oid_key(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OID_INDEX,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 5,
        .sql =
            "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
            " pg_catalog.format('%I.%I', n.nspname, i.relname),"
            " coalesce((SELECT pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT %I;', n.nspname, c.relname,"
            "   k.conname) FROM pg_catalog.pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')),"
            "  pg_catalog.format('DROP INDEX %I.%I;', n.nspname, i.relname))"
            " FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid"
            " JOIN pg_catalog.pg_class c ON c.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = "
            "c.relnamespace"
            " WHERE c.relhasoids AND -2 = ANY (x.indkey::int2[]) AND " SQL_USER_SCHEMA " ORDER BY n.nspname, i.relname",
        .object = "index {4}",
        .message = "index {4} of table {3} is on its rows' oids, which do not move: it cannot be made",
        .fix =
            "{5} ALTER TABLE {3} SET WITHOUT OIDS; -- when the oids are used: ALTER TABLE {3} ADD row_oid oid; UPDATE"
            " {3} SET row_oid = oid; first",
    };
    return has_no_oids(p) || check_by_sql(p, &check, err);
}

/* 702 abstime, 703 reltime, 704 tinterval, and their arrays. */
bool check_gone_types(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_GONE_TYPE,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 6,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(a.attname), pg_catalog.format_type(b.oid, -1),"
               " pg_catalog.format(CASE b.oid WHEN 702 THEN 'timestamptz' WHEN 703 THEN 'interval'"
               "  ELSE 'text USING %1$I::text' END, a.attname)"
               " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
               " JOIN pg_catalog.pg_type b ON b.oid = CASE t.typbasetype WHEN 0 THEN t.oid ELSE t.typbasetype END"
               " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"
               " AND b.oid IN (702, 703, 704, 1023, 1024, 1025) AND " SQL_USER_SCHEMA
               " ORDER BY n.nspname, c.relname, a.attnum",
        .object = "column {4} of table {3}",
        .message = "column {4} of table {3} is of type {5}, which the destination does not have",
        .fix = "ALTER TABLE {3} ALTER COLUMN {4} TYPE {6};",
    };
    return has_no_oids(p) || db_version(p->input->dest) < WITHOUT_OIDS_VERSION || check_by_sql(p, &check, err);
}

#define OLD_POLYMORPHIC                                                                                                \
    "f.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND f.proname IN ('array_append', 'array_cat',"            \
    " 'array_position', 'array_positions', 'array_prepend', 'array_remove', 'array_replace', 'width_bucket')"          \
    " AND ('anyarray'::pg_catalog.regtype = ANY (f.proargtypes::pg_catalog.oid[])) "

#define IS_POLYMORPHIC(type) type " IN ('anyarray'::pg_catalog.regtype, 'anyelement'::pg_catalog.regtype)"

/* What would refuse its DROP: said in front of the rest of the fix. */
#define SQL_USERS_OF(catalog, alias)                                                                                   \
    "(SELECT coalesce('first what uses it, which is made again behind it: ' || pg_catalog.string_agg(DISTINCT"         \
    "  CASE WHEN v.oid IS NULL THEN pg_catalog.pg_describe_object(u.classid, u.objid, u.objsubid)"                     \
    "  ELSE pg_catalog.format('%s %I.%I', CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'"       \
    "   ELSE 'rule of table' END, vn.nspname, v.relname) END, ', ') || '; ', '')"                                      \
    " FROM pg_catalog.pg_depend u LEFT JOIN pg_catalog.pg_rewrite w ON w.oid = u.objid"                                \
    "  AND u.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"                                                   \
    " LEFT JOIN pg_catalog.pg_class v ON v.oid = w.ev_class"                                                           \
    " LEFT JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace WHERE u.refclassid = 'pg_catalog." catalog       \
    "'::pg_catalog.regclass AND u.refobjid = " alias ".oid AND u.deptype = 'n')"

#define OLD_AGGREGATES                                                                                                 \
    "SELECT n.nspname, p.proname AS name, 'aggregate', p.oid::pg_catalog.regprocedure::text AS what,"                  \
    " (SELECT pg_catalog.string_agg(f.oid::pg_catalog.regprocedure::text, ', ' ORDER BY f.oid)"                        \
    "  FROM pg_catalog.pg_proc f WHERE (f.oid IN (a.aggtransfn, a.aggcombinefn, a.aggfinalfn)"                         \
    "   AND " IS_POLYMORPHIC(                                                                                          \
        "a.aggtranstype") " OR f.oid IN (a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)"                              \
                          "   AND " IS_POLYMORPHIC(                                                                    \
                              "a.aggmtranstype") ") AND " OLD_POLYMORPHIC                                              \
                                                 ") AS made_of," SQL_USERS_OF(                                         \
                                                     "pg_proc",                                                        \
                                                     "p") " FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc p " \
                                                          "ON p.oid = a.aggfnoid"                                      \
                                                          " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"  \
                                                          " WHERE " SQL_USER_SCHEMA                                    \
                                                          " AND " SQL_NOT_MEMBER("pg_proc", "p")

#define OLD_OPERATORS                                                                                                  \
    "SELECT n.nspname, o.oprname, 'operator', o.oid::pg_catalog.regoperator::text,"                                    \
    " f.oid::pg_catalog.regprocedure::text, " SQL_USERS_OF(                                                            \
        "pg_operator", "o") " FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"  \
                            " JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode WHERE " OLD_POLYMORPHIC                   \
                            "AND " IS_POLYMORPHIC("o.oprleft") " AND " SQL_USER_SCHEMA                                 \
                                                               " AND " SQL_NOT_MEMBER("pg_operator", "o")

/* In 14 these take and give anycompatiblearray. What is declared with the old types, and calls them by their
 * signatures, cannot be made there; a function that calls them in its body can. As pg_upgrade has it
 * (check_for_incompatible_polymorphics), and by all functions that an aggregate names, also those of its moving form.
 */
bool check_old_polymorphics(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OLD_POLYMORPHIC,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 6,
        .sql = "SELECT * FROM (" OLD_AGGREGATES " UNION ALL " OLD_OPERATORS ") l WHERE made_of IS NOT NULL"
               " ORDER BY 1, 2, 4",
        .object = "{3} {4}",
        .message = "{3} {4} is made of {5}, which the destination does not have as such: from 14 on it takes"
                   " anycompatiblearray, and the {3} cannot be made there",
        .fix = "DROP {3} {4}; -- {6}and make it on the destination afterwards, with anycompatiblearray for anyarray"
               " and anycompatible for anyelement",
    };
    return db_major(p->input->source) >= 14 || db_major(p->input->dest) < 14 || check_by_sql(p, &check, err);
}

/* pg_dump makes a child's columns in this order: those of its parents, in theirs, then its own. */
bool check_inherited_order(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_INHERITED_ORDER,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT * FROM (SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " (SELECT CASE WHEN pg_catalog.array_agg(o.attname ORDER BY o.attnum)"
               "   <> pg_catalog.array_agg(o.attname ORDER BY o.place, o.attnum)"
               "  THEN pg_catalog.string_agg(pg_catalog.quote_ident(o.attname), ', ' ORDER BY o.place, o.attnum) END"
               "  FROM (SELECT a.attname, a.attnum, (SELECT min(ARRAY[h.inhseqno, p.attnum::int])"
               "   FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_attribute p ON p.attrelid = h.inhparent"
               "    AND p.attname = a.attname AND p.attnum > 0 AND NOT p.attisdropped"
               "   WHERE h.inhrelid = c.oid) AS place FROM pg_catalog.pg_attribute a"
               "   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) o) AS there"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind = 'r' AND NOT c.relispartition AND " SQL_USER_SCHEMA
               " AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid)) l"
               " WHERE there IS NOT NULL ORDER BY 1, 2",
        .object = "table {3}",
        .message = "table {3} inherits columns that stand behind its own: on the destination the order is {4}, which is"
                   " what SELECT *, and INSERT and COPY without a list of columns, go by",
        .fix = "",
    };
    return check_by_sql(p, &check, err);
}

/* Left out wherever tables are listed: the ledger of a migration to this database, and what one from it has made here,
 * which is functions, and the secret of a capture (ddl/capture_sql.c). */
bool check_reserved_schema(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_RESERVED_SCHEMA,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, o.name, pg_catalog.format('%I.%I', n.nspname, o.name),"
               " pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n JOIN ("
               " SELECT relnamespace AS schema, relname AS name FROM pg_catalog.pg_class"
               "  WHERE relkind IN ('r', 'p', 'v', 'f', 'S', 'c') OR (relkind = 'm' AND relname <> 'secret')"
               " UNION ALL SELECT typnamespace, typname FROM pg_catalog.pg_type WHERE typtype IN ('e', 'd', 'r')"
               " UNION ALL SELECT pronamespace, proname FROM pg_catalog.pg_proc"
               "  WHERE pronamespace = pg_catalog.to_regnamespace('pgcrane')) o ON o.schema = n.oid"
               " WHERE n.nspname ~ " SQL_OURS " OR (n.nspname = 'pgcrane'"
               " AND pg_catalog.obj_description(n.oid, 'pg_namespace') IS DISTINCT FROM"
               "  'pgcrane''s record of a migration under way; removed when it is done')"
               " ORDER BY 1, 2",
        .object = "{3}",
        .message = "{3} is in a schema whose name is kept for what pgcrane makes itself: it would not be moved",
        .fix = "ALTER SCHEMA {4} RENAME TO another_name; -- or leave it out by --exclude-schema",
    };
    return check_by_sql(p, &check, err);
}
