/* What the definitions need at the destination: collations, a superuser's rights, libraries. Extensions, roles and
 * tablespaces are in files of their own. */
#include "engine/preflight/check.h"

static bool definitions_move(const Preflight *p) {
    return !p->input->options->data_only;
}

/* Rows of `source` (schema, name, key, ...) whose key `index` lacks, one call per key. Rows come sorted by key. */
typedef void (*MissingFunc)(Preflight *p, const DbResult *source, int row);

static bool each_missing(Preflight *p, const DbResult *source, const RowIndex *index, MissingFunc report, Error *err) {
    const char *reported = NULL;
    for (int row = 0; row < db_rows(source); row++) {
        const char *key = db_text(source, row, 2);
        bool passes = db_is_null(source, row, 0); /* used by something that is no table */
        if ((reported != NULL && strcmp(reported, key) == 0) || row_index_find(index, key) >= 0)
            continue;
        if (!passes && !preflight_passes(p, db_text(source, row, 0), db_text(source, row, 1), &passes, err))
            return false;
        if (!passes)
            continue;
        reported = key;
        report(p, source, row);
    }
    return true;
}

/* --- collations --- */

static void report_collation(Preflight *p, const DbResult *source, int row) {
    const char *const values[] = {db_text(source, row, 3), db_text(source, row, 4)};
    finding_add(p, CHECK_COLLATION_MISSING, template_fill(p->scratch, "collation {1}", values, 2),
                template_fill(p->scratch, "{2} uses collation {1}, which the destination does not have", values, 2),
                "install that locale on the destination's machine, then: SELECT"
                " pg_import_system_collations('pg_catalog');");
}

/* Collations of pg_catalog come from the operating system at initdb and are in no dump; others are dumped. */
/* Of the encoding that the database has there, or gets when it is made: the source's. */
static bool dest_collations(Preflight *p, DbResult **ret_rows, Error *err) {
    char *encoding = NULL;
    DbConn *named_by = p->input->dest_absent ? p->input->source : p->input->dest;

    if (!db_query_value(named_by, p->scratch, "SELECT pg_catalog.current_setting('server_encoding')", 0, NULL,
                        &encoding, err))
        return false;
    const char *const params[] = {encoding};
    return db_query(p->input->dest,
                    "SELECT l.collname FROM pg_catalog.pg_collation l"
                    " WHERE l.collencoding IN (-1, pg_catalog.pg_char_to_encoding($1))"
                    " AND l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace",
                    1, params, ret_rows, err);
}

bool check_collations(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *source = NULL;
    CLEANUP(db_result_freep) DbResult *dest = NULL;
    if (!definitions_move(p))
        return true;
    if (!preflight_query(
            p, DB_SOURCE,
            "SELECT u.nspname, u.relname, l.collname, pg_catalog.quote_ident(l.collname), u.what FROM ("
            " SELECT a.attcollation AS id, n.nspname, c.relname,"
            "  pg_catalog.format('column %I.%I.%I', n.nspname, c.relname, a.attname) AS what"
            "  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
            "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            "  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped"
            "  AND a.attcollation NOT IN (0, 100) AND " SQL_USER_SCHEMA
            " UNION ALL SELECT v.id, n.nspname, c.relname, pg_catalog.format('index %I.%I', n.nspname, i.relname)"
            "  FROM pg_catalog.pg_index x CROSS JOIN LATERAL pg_catalog.unnest(x.indcollation::oid[]) AS v (id)"
            "  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid JOIN pg_catalog.pg_class c ON c.oid = x.indrelid"
            "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            "  WHERE v.id NOT IN (0, 100) AND " SQL_USER_SCHEMA " UNION ALL SELECT v.id, n.nspname, c.relname,"
            "  pg_catalog.format('partition key of %I.%I', n.nspname, c.relname)"
            "  FROM pg_catalog.pg_partitioned_table x"
            "  CROSS JOIN LATERAL pg_catalog.unnest(x.partcollation::oid[]) AS v (id)"
            "  JOIN pg_catalog.pg_class c ON c.oid = x.partrelid"
            "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            "  WHERE v.id NOT IN (0, 100) AND " SQL_USER_SCHEMA
            " UNION ALL SELECT CASE t.typtype WHEN 'd' THEN t.typcollation ELSE r.rngcollation END, NULL, NULL,"
            "  pg_catalog.format('type %I.%I', n.nspname, t.typname)"
            "  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
            "  LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid"
            "  WHERE t.typtype IN ('d', 'r') AND " SQL_USER_SCHEMA ") u"
            " JOIN pg_catalog.pg_collation l ON l.oid = u.id"
            " WHERE l.oid <> 100 AND l.collnamespace = 'pg_catalog'::pg_catalog.regnamespace"
            " ORDER BY l.collname, u.what",
            &source, err))
        return false;
    if (db_rows(source) == 0)
        return true;
    if (!dest_collations(p, &dest, err))
        return false;
    return each_missing(p, source, row_index_new(p->scratch, dest, 0), report_collation, err);
}

/* --- what only a superuser makes --- */

#define SQL_OWN(catalog, alias) alias ".oid >= " SQL_FIRST_USER_OID " AND " SQL_NOT_MEMBER(catalog, alias)

bool check_superuser_needed(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SUPERUSER_NEEDED,
        .side = DB_SOURCE,
        .columns = 1,
        .sql =
            "SELECT pg_catalog.format('language %I', l.lanname) FROM pg_catalog.pg_language l"
            " WHERE " SQL_OWN(
                "pg_language",
                "l") " UNION ALL"
                     " SELECT pg_catalog.format('function %I.%I(%s) in language %I', n.nspname, r.proname,"
                     "  pg_catalog.oidvectortypes(r.proargtypes), l.lanname) FROM pg_catalog.pg_proc r"
                     "  JOIN pg_catalog.pg_language l ON l.oid = r.prolang"
                     "  JOIN pg_catalog.pg_namespace n ON n.oid = r.pronamespace"
                     "  WHERE NOT l.lanpltrusted AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(
                         "pg_proc",
                         "r") " UNION ALL"
                              " SELECT pg_catalog.format('access method %I', a.amname) FROM pg_catalog.pg_am a"
                              " WHERE " SQL_OWN(
                                  "pg_am",
                                  "a") " UNION ALL"
                                       " SELECT pg_catalog.format('foreign-data wrapper %I', w.fdwname)"
                                       "  FROM pg_catalog.pg_foreign_data_wrapper w"
                                       " WHERE " SQL_OWN(
                                           "pg_foreign_data_wrapper",
                                           "w") " UNION ALL"
                                                " SELECT pg_catalog.format('event trigger %I', t.evtname) FROM "
                                                "pg_catalog.pg_event_trigger t"
                                                " WHERE " SQL_OWN(
                                                    "pg_event_trigger",
                                                    "t") " AND t.evtname !~ " SQL_OURS " UNION ALL"
                                                         " SELECT pg_catalog.format('base type %I.%I', n.nspname, "
                                                         "t.typname) FROM pg_catalog.pg_type t"
                                                         "  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
                                                         "  WHERE t.typtype = 'b' AND t.typcategory <> 'A' "
                                                         "AND " SQL_USER_SCHEMA "  AND " SQL_NOT_MEMBER(
                                                             "pg_type",
                                                             "t") " UNION ALL"
                                                                  " SELECT pg_catalog.format('operator class %I.%I', "
                                                                  "n.nspname, o.opcname) FROM pg_catalog.pg_opclass o"
                                                                  "  JOIN pg_catalog.pg_namespace n ON n.oid = "
                                                                  "o.opcnamespace"
                                                                  "  WHERE " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(
                                                                      "pg_opclass",
                                                                      "o") " UNION ALL"
                                                                           " SELECT pg_catalog.format('text search "
                                                                           "template %I.%I', n.nspname, o.tmplname)"
                                                                           "  FROM pg_catalog.pg_ts_template o JOIN "
                                                                           "pg_catalog.pg_namespace n ON n.oid = "
                                                                           "o.tmplnamespace"
                                                                           "  WHERE " SQL_USER_SCHEMA
                                                                           " AND " SQL_NOT_MEMBER(
                                                                               "pg_ts_template",
                                                                               "o") " UNION ALL"
                                                                                    " SELECT pg_catalog.format('text "
                                                                                    "search parser %I.%I', n.nspname, "
                                                                                    "o.prsname)"
                                                                                    "  FROM pg_catalog.pg_ts_parser o "
                                                                                    "JOIN pg_catalog.pg_namespace n ON "
                                                                                    "n.oid = o.prsnamespace"
                                                                                    "  WHERE " SQL_USER_SCHEMA
                                                                                    " AND " SQL_NOT_MEMBER(
                                                                                        "pg_ts_parser",
                                                                                        "o") " UNION ALL"
                                                                                             " SELECT "
                                                                                             "pg_catalog.format('"
                                                                                             "publication %I FOR ALL "
                                                                                             "TABLES', b.pubname)"
                                                                                             "  FROM "
                                                                                             "pg_catalog.pg_"
                                                                                             "publication b WHERE "
                                                                                             "b.puballtables AND "
                                                                                             "b.pubname !~ " SQL_OURS,
        .object = "{1}",
        .message = "{1} can be made only by a superuser, which the destination's role is not",
        .fix = "connect to the destination as a superuser, or drop it from the source",
    };
    /* A filter leaves most of this out, and what it keeps only the archive knows. */
    if (!definitions_move(p) || p->filtered || p->dest_role.superuser || p->dest_role.managed)
        return true;
    return check_by_sql(p, &check, err);
}

bool check_libraries(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_LIBRARY_NEEDED,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 5,
        .sql = "SELECT n.nspname, r.proname, pg_catalog.format('%I.%I(%s)', n.nspname, r.proname,"
               " pg_catalog.oidvectortypes(r.proargtypes)), r.probin, r.prosrc FROM pg_catalog.pg_proc r"
               " JOIN pg_catalog.pg_language l ON l.oid = r.prolang"
               " JOIN pg_catalog.pg_namespace n ON n.oid = r.pronamespace"
               " WHERE l.lanname = 'c' AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER("pg_proc", "r") " ORDER BY 3",
        .object = "function {3}",
        .message = "function {3} is {5}() of library {4}, which the destination's server must have too",
        .fix = "LOAD '{4}'; -- on the destination tells whether it has",
    };
    return !definitions_move(p) || check_by_sql(p, &check, err);
}
