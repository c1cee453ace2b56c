/* What is in the destination already: clashes, other content, and with --data-only the tables to fill. */
#include "engine/preflight/check.h"

#include "common/buf.h"

#include <ctype.h>

/* --- clashes --- */

/*
 * Objects of a database as (key, kind, DROP's word, schema, name). The key is what must be unique: a table, a view, a
 * sequence and a type share one space of names, functions go by their arguments too. The kinds that live on their own
 * only; what belongs to a table comes and goes with it.
 */
#define SQL_OBJECTS                                                                                                    \
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), CASE c.relkind WHEN 'v' THEN 'view'"                     \
    " WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type'"   \
    " ELSE 'table' END, n.nspname, c.relname"                                                                          \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                             \
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')"                                                          \
    " AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(                                                                    \
        "pg_class",                                                                                                    \
        "c") " UNION ALL"                                                                                              \
             " SELECT pg_catalog.format('%I.%I(%s)', n.nspname, r.proname, pg_catalog.oidvectortypes(r.proargtypes))," \
             " 'function', n.nspname, r.proname FROM pg_catalog.pg_proc r"                                             \
             " JOIN pg_catalog.pg_namespace n ON n.oid = r.pronamespace"                                               \
             " WHERE " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(                                                         \
                 "pg_proc", "r") " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend i WHERE i.classid = "              \
                                 "'pg_catalog.pg_proc'::pg_catalog.regclass"                                           \
                                 "  AND i.objid = r.oid AND i.deptype = 'i') UNION ALL"                                \
                                 " SELECT pg_catalog.format('%I.%I', n.nspname, t.typname), CASE t.typtype WHEN 'd' "  \
                                 "THEN 'domain' ELSE 'type' END,"                                                      \
                                 " n.nspname, t.typname FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON "  \
                                 "n.oid = t.typnamespace"                                                              \
                                 " WHERE (t.typtype IN ('d', 'e', 'r') OR (t.typtype = 'b' AND t.typcategory <> 'A'))" \
                                 " AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(                                       \
                                     "pg_type", "t") " UNION ALL"                                                      \
                                                     " SELECT pg_catalog.format('schema %I', n.nspname), 'schema', "   \
                                                     "n.nspname, '' FROM pg_catalog.pg_namespace n"                    \
                                                     " WHERE n.nspname <> 'public' AND " SQL_USER_SCHEMA               \
                                                     " AND " SQL_NOT_MEMBER("pg_namespace", "n") " ORDER BY 2, 1"

const char preflight_objects_sql[] = SQL_OBJECTS;

/* "schema a" is its own name, others have their kind in front. */
static const char *object_display(Arena *arena, const char *kind, const char *key) {
    return strcmp(kind, "schema") == 0 ? key : arena_printf(arena, "%s %s", kind, key);
}

static const char *object_drop(Preflight *p, const char *kind, const char *key) {
    if (strcmp(kind, "schema") == 0)
        return arena_printf(p->scratch, "DROP SCHEMA %s CASCADE; -- on the destination, with all that is in it",
                            key + strlen("schema "));
    /* A routine is a procedure or an aggregate too. */
    bool routine = strcmp(kind, "function") == 0 && db_major(p->input->dest) >= 11;
    char *word = arena_strdup(p->scratch, routine ? "routine" : kind);
    for (char *c = word; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    return arena_printf(p->scratch, "DROP %s %s; -- on the destination", word, key);
}

/* Does the source bring an object of this name? Types and functions that a chosen table needs come along whatever the
 * filters say, which only the archive knows: those are left to the load. */
static bool object_arrives(Preflight *p, const DbResult *source, int row, bool *ret_arrives, Error *err) {
    if (strcmp(db_text(source, row, 1), "schema") == 0) {
        *ret_arrives = !p->filtered;
        return true;
    }
    return preflight_passes(p, db_text(source, row, 2), db_text(source, row, 3), ret_arrives, err);
}

enum { OTHERS_NAMED = 5 };

static void report_not_empty(Preflight *p, size_t count, const Buf *names) {
    if (count > 0)
        finding_add(p, CHECK_DESTINATION_NOT_EMPTY, arena_printf(p->scratch, "database %s", db_name(p->input->dest)),
                    arena_printf(p->scratch, "the destination holds %zu other objects, which stay as they are: %s%s",
                                 count, names->data, count > OTHERS_NAMED ? ", ..." : ""),
                    "");
}

bool check_content(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *source = NULL;
    CLEANUP(db_result_freep) DbResult *dest = NULL;
    CLEANUP(buf_fini) Buf others;
    buf_init(&others, 4096);
    size_t others_count = 0;
    if (p->input->resuming || p->input->options->data_only)
        return true;
    if (!preflight_query(p, DB_DEST, SQL_OBJECTS, &dest, err))
        return false;
    if (db_rows(dest) == 0)
        return true;
    if (!preflight_query(p, DB_SOURCE, SQL_OBJECTS, &source, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, source, 0);
    for (int row = 0; row < db_rows(dest); row++) {
        const char *key = db_text(dest, row, 0), *kind = db_text(dest, row, 1);
        const char *object = object_display(p->scratch, kind, key);
        int found = row_index_find(index, key);
        bool arrives = false;
        if (found >= 0 && !object_arrives(p, source, found, &arrives, err))
            return false;
        if (arrives)
            finding_add(
                p, CHECK_DESTINATION_CLASH, object,
                arena_printf(p->scratch, "%s is in the destination already, and the source brings its own", object),
                object_drop(p, kind, key));
        else if (others_count++ < OTHERS_NAMED)
            buf_printf(&others, "%s%s", others.len > 0 ? ", " : "", object);
    }
    report_not_empty(p, others_count, &others);
    return true;
}

/* --- --data-only --- */

/* Between the columns of a table, and between a column's name and its type: characters that no name holds in practice,
 * and if one did, the table would be reported as different rather than taken for equal. */
#define COLUMN_END "\x01"
#define NAME_END " "

/* Tables with their columns as one text: (key, schema, name, columns, ...). */
#define SQL_TABLES                                                                                                     \
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname, c.relname,"                                   \
    " COALESCE((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || '" NAME_END "'"                      \
    "   || pg_catalog.format_type(a.atttypid, a.atttypmod), E'\\x01' ORDER BY a.attname)"                              \
    "  FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ''),"         \
    " c.relkind = 'r' AND pg_catalog.pg_relation_size(c.oid) > 0,"                                                     \
    " pg_catalog.has_table_privilege(c.oid, 'INSERT') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"             \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                             \
    " WHERE c.relkind IN ('r', 'p') AND " SQL_USER_SCHEMA                                                              \
    " AND " SQL_NOT_MEMBER("pg_class", "c") " ORDER BY n.nspname, c.relname"

/* Is `item` (of `len` bytes) one of the columns in `columns`? */
static bool columns_have(const char *columns, const char *item, size_t len) {
    while (*columns != '\0') {
        size_t here = strcspn(columns, COLUMN_END);
        if (here == len && memcmp(columns, item, len) == 0)
            return true;
        columns += here + (columns[here] != '\0');
    }
    return false;
}

/* Names the columns of `columns` that `others` lacks, with their types. */
static void columns_missing(const char *columns, const char *others, Buf *out) {
    while (*columns != '\0') {
        size_t len = strcspn(columns, COLUMN_END);
        if (!columns_have(others, columns, len))
            buf_printf(out, "%s%.*s", out->len > 0 ? ", " : "", (int)len, columns);
        columns += len + (columns[len] != '\0');
    }
}

static void report_columns(Preflight *p, const char *table, const char *source, const char *dest) {
    CLEANUP(buf_fini) Buf missing;
    CLEANUP(buf_fini) Buf extra;
    buf_init(&missing, 65536);
    buf_init(&extra, 65536);
    columns_missing(source, dest, &missing);
    columns_missing(dest, source, &extra);
    const char *which = missing.len == 0 ? "" : arena_printf(p->scratch, " without (%s)", missing.data);
    const char *more = extra.len == 0 ? "" : arena_printf(p->scratch, " with (%s) that the source lacks", extra.data);
    finding_add(
        p, CHECK_DATA_ONLY_COLUMNS, arena_printf(p->scratch, "table %s", table),
        arena_printf(p->scratch, "table %s of the destination is not the source's: it is%s%s%s", table, which,
                     missing.len > 0 && extra.len > 0 ? " and" : "", more),
        arena_printf(p->scratch,
                     "pg_dump --schema-only --table '%s' SOURCE # shows the definition to bring the destination to",
                     table));
}

static bool nonempty_batch(Preflight *p, const DbResult *dest, const Buf *sql, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (sql->len == 0)
        return true;
    if (!buf_ok(sql, "the list of tables", err) || !preflight_query(p, DB_DEST, sql->data, &rows, err))
        return false;
    for (int i = 0; i < db_rows(rows); i++) {
        const char *table = db_text(dest, (int)db_int64(rows, i, 0), 0);
        finding_add(p, CHECK_DATA_ONLY_NOT_EMPTY, arena_printf(p->scratch, "table %s", table),
                    arena_printf(p->scratch, "table %s of the destination holds rows already", table),
                    arena_printf(p->scratch, "TRUNCATE %s; -- on the destination", table));
    }
    return true;
}

/* A table with pages may still be empty (deleted rows): those are looked into, many per statement. */
static bool check_empty(Preflight *p, const DbResult *dest, const bool *wanted, Error *err) {
    enum { BATCH = 200, BATCH_BYTES = 1 << 20 };
    CLEANUP(buf_fini) Buf sql;
    buf_init(&sql, BATCH_BYTES);
    int in_batch = 0;
    for (int row = 0; row < db_rows(dest); row++) {
        if (!wanted[row] || !db_bool(dest, row, 4))
            continue;
        buf_printf(&sql, "%sSELECT %d WHERE EXISTS (SELECT FROM ONLY %s)", in_batch > 0 ? " UNION ALL " : "", row,
                   db_text(dest, row, 0));
        if (++in_batch < BATCH)
            continue;
        if (!nonempty_batch(p, dest, &sql, err))
            return false;
        buf_clear(&sql);
        in_batch = 0;
    }
    return nonempty_batch(p, dest, &sql, err);
}

static void report_table_missing(Preflight *p, const char *table) {
    finding_add(
        p, CHECK_DATA_ONLY_TABLE_MISSING, arena_printf(p->scratch, "table %s", table),
        arena_printf(p->scratch, "table %s does not exist at the destination, and --data-only makes none", table),
        "run it without --data-only, or first with --schema-only");
}

static void report_table_closed(Preflight *p, const char *table) {
    finding_add(
        p, CHECK_DATA_ONLY_PRIVILEGE, arena_printf(p->scratch, "table %s", table),
        arena_printf(p->scratch, "role %s may not fill table %s of the destination", p->dest_role.quoted, table),
        arena_printf(p->scratch, "GRANT SELECT, INSERT ON TABLE %s TO %s;", table, p->dest_role.quoted));
}

bool check_data_only(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *source = NULL;
    CLEANUP(db_result_freep) DbResult *dest = NULL;
    if (!p->input->options->data_only)
        return true;
    if (!preflight_query(p, DB_SOURCE, SQL_TABLES, &source, err) ||
        !preflight_query(p, DB_DEST, SQL_TABLES, &dest, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, dest, 0);
    bool *wanted = arena_array(p->scratch, bool, (size_t)db_rows(dest) + 1);
    for (int row = 0; row < db_rows(source); row++) {
        const char *table = db_text(source, row, 0);
        int found = row_index_find(index, table);
        bool passes = false;
        if (!preflight_passes(p, db_text(source, row, 1), db_text(source, row, 2), &passes, err))
            return false;
        if (!passes)
            continue;
        if (found < 0)
            report_table_missing(p, table);
        else if (strcmp(db_text(source, row, 3), db_text(dest, found, 3)) != 0)
            report_columns(p, table, db_text(source, row, 3), db_text(dest, found, 3));
        if (found >= 0 && !db_bool(dest, found, 5))
            report_table_closed(p, table);
        else if (found >= 0)
            wanted[found] = true;
    }
    return p->input->resuming || check_empty(p, dest, wanted, err);
}
