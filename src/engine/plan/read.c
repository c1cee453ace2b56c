/* The source's tables under a snapshot, set-wise: 100,000 of them are one query. */
#include "engine/plan/plan.h"

#include "pg/quote.h"

#include <stdlib.h>
#include <string.h>

enum { CORES_OF_A_COPY = 2 };
static const int64_t WHOLE_MOST = INT64_C(32) << 30;

/*
 * Types whose binary form is the same on every server of version 10 to 19 and carries no oid of the source: built-in
 * types by oid, and their arrays (whose element oid is a built-in's). Enums, composites, domains, ranges over user
 * types and reg* travel as text. So do arrays of floats where rows are found by their whole image: a NaN that is not
 * the one that 'NaN' is read as would stay it (apply/sql.c does the same for floats themselves).
 */
#define BINARY_TYPES                                                                                                   \
    "'bool'::regtype,'bytea'::regtype,'\"char\"'::regtype,'int8'::regtype,'int2'::regtype,'int4'::regtype,"            \
    "'text'::regtype,'json'::regtype,'jsonb'::regtype,'float4'::regtype,'float8'::regtype,'bpchar'::regtype,"          \
    "'varchar'::regtype,'date'::regtype,'time'::regtype,'timetz'::regtype,'timestamp'::regtype,"                       \
    "'timestamptz'::regtype,'interval'::regtype,'numeric'::regtype,'uuid'::regtype,'inet'::regtype,"                   \
    "'cidr'::regtype,'macaddr'::regtype,'bit'::regtype,'varbit'::regtype,'money'::regtype"
#define BINARY_ARRAY_TYPES                                                                                             \
    "'bool[]'::regtype,'int8[]'::regtype,'int2[]'::regtype,'int4[]'::regtype,'text[]'::regtype,'varchar[]'::regtype,"  \
    "'float4[]'::regtype,'float8[]'::regtype,'numeric[]'::regtype,'timestamptz[]'::regtype,'uuid[]'::regtype,"         \
    "'date[]'::regtype"

/*
 * Columns once for every relation: an aggregate over pg_attribute, joined by hash. %1$s: generated columns (12+).
 * The hash is of names in UTF8, whatever encoding the server has, and sorted as such: each side makes its own. A
 * database without an encoding (SQL_ASCII) has the bytes that it was given. Of names in ASCII the hash is what it was
 * before names were converted: ledgers of then go on.
 */
/* clang-format off */
#define SQL_UTF8(text)                                                                                                 \
    "CASE WHEN pg_catalog.getdatabaseencoding() = 'SQL_ASCII'"                                                         \
    " THEN pg_catalog.decode(pg_catalog.replace(" text ", E'\\\\', E'\\\\\\\\'), 'escape')"                            \
    " ELSE pg_catalog.convert_to(" text ", 'UTF8') END"
#define SQL_COLUMN "a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) || ' ' || %1$s::text"
#define COLUMNS_SQL                                                                                                    \
    "SELECT a.attrelid,"                                                                                               \
    " pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY a.attnum)"                                 \
    "  FILTER (WHERE %1$s = '') AS columns,"                                                                           \
    " pg_catalog.md5(pg_catalog.string_agg(" SQL_UTF8(SQL_COLUMN) ", ','::bytea"                                       \
    "  ORDER BY " SQL_UTF8("a.attname::text") ")) AS hash,"                                                            \
    " pg_catalog.bool_and(a.atttypid IN (" BINARY_TYPES "," BINARY_ARRAY_TYPES ") OR %1$s <> '') AS binary,"           \
    " pg_catalog.bool_or(a.atttypid IN ('float4[]'::regtype,'float8[]'::regtype)) AS floats"                           \
    " FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid"
/* clang-format on */

/*
 * Leaves whose rows may belong to another one on the destination: they are written through the root, and find theirs
 * anew. That is so where a hash is of an oid, which is another one there: an enum's label, a regclass, and whatever is
 * made of such. Of an expression only the operator class tells the type, as far as that goes. And where a bytea or
 * float is turned into text, which is as the settings of whoever wrote the row were.
 */
#define PARTITIONS_SQL                                                                                                 \
    " up (leaf, parent, depth) AS (SELECT i.inhrelid, i.inhparent, 1 FROM pg_catalog.pg_inherits i"                    \
    "  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition AND c.relkind = 'r'"                    \
    "  UNION ALL SELECT up.leaf, i.inhparent, up.depth + 1 FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = "     \
    "up.parent),"                                                                                                      \
    " hashed (root, type) AS (SELECT p.partrelid, a.atttypid FROM pg_catalog.pg_partitioned_table p"                   \
    "   JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])"           \
    "   WHERE p.partstrat = 'h'"                                                                                       \
    "  UNION SELECT h.root, v.type FROM hashed h JOIN pg_catalog.pg_type t ON t.oid = h.type, LATERAL ("               \
    "   SELECT t.typelem UNION ALL SELECT t.typbasetype"                                                               \
    "   UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a"                                                    \
    "    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped"                                        \
    "   UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid%3$s)) AS v (type)"         \
    "   WHERE v.type <> 0),"                                                                                           \
    " elsewhere AS (SELECT h.root FROM hashed h JOIN pg_catalog.pg_type t ON t.oid = h.type"                           \
    "   WHERE t.typtype = 'e' OR (t.typname LIKE 'reg%%' AND t.typnamespace = 'pg_catalog'::regnamespace)"             \
    "  UNION SELECT p.partrelid FROM pg_catalog.pg_partitioned_table p"                                                \
    "   CROSS JOIN LATERAL unnest(p.partattrs::int2[], p.partclass::oid[]) AS k (n, class)"                            \
    "   JOIN pg_catalog.pg_opclass o ON o.oid = k.class WHERE p.partstrat = 'h' AND k.n = 0"                           \
    "   AND o.opcintype IN ('anyenum'::regtype, 'anyarray'::regtype, 'record'::regtype, 'anyrange'::regtype,"          \
    "    'oid'::regtype)"                                                                                              \
    "  UNION SELECT p.partrelid FROM pg_catalog.pg_partitioned_table p WHERE p.partexprs::text ~ "                     \
    "'COERCEVIAIO :arg [{]VAR :varno [0-9]+ :varattno [0-9]+ :vartype (17|700|701|1186) '),"                           \
    " via AS (SELECT u.leaf, n.nspname AS schema, r.relname AS name"                                                   \
    "  FROM (SELECT leaf, (pg_catalog.array_agg(parent ORDER BY depth DESC))[1] AS root FROM up GROUP BY leaf"         \
    "   HAVING pg_catalog.bool_or(parent IN (SELECT root FROM elsewhere))) u"                                          \
    "  JOIN pg_catalog.pg_class r ON r.oid = u.root JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace)"

/*
 * The file number of now is asked for after the size, hence the subquery: a table that was truncated between the two
 * would be empty, yet look untouched, and would not be read at all. (In one list of columns the server computes sizes,
 * being volatile, behind the sort, and so after everything else.)
 */
#define TABLES_SQL                                                                                                     \
    "WITH RECURSIVE columns AS (" COLUMNS_SQL "),"                                                                     \
    " config AS (SELECT c.oid, c.condition FROM pg_catalog.pg_extension e,"                                            \
    "  LATERAL unnest(e.extconfig, e.extcondition) AS c (oid, condition)),"                                            \
    " member AS (SELECT d.objid FROM pg_catalog.pg_depend d"                                                           \
    "  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype = 'e')," PARTITIONS_SQL                         \
    " SELECT oid, nspname, relname, relfilenode, blocks, bytes, columns, hash, is_binary, is_heap, condition, "        \
    "is_config,"                                                                                                       \
    " relispartition, pg_catalog.pg_relation_filenode(oid) IS DISTINCT FROM relfilenode, via_schema, via_name"         \
    " FROM (SELECT c.oid, n.nspname, c.relname, c.relfilenode,"                                                        \
    " pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint AS blocks,"                \
    " pg_catalog.pg_relation_size(c.oid)"                                                                              \
    "  + CASE WHEN c.reltoastrelid <> 0 THEN pg_catalog.pg_relation_size(c.reltoastrelid) ELSE 0 END AS bytes,"        \
    " coalesce(columns.columns, '') AS columns, coalesce(columns.hash, '') AS hash,"                                   \
    " coalesce(columns.binary AND (c.relreplident <> 'f' OR NOT columns.floats), false) AS is_binary,"                 \
    " coalesce(am.amname, 'heap') = 'heap' AS is_heap, "                                                               \
    "config.condition,"                                                                                                \
    " config.oid IS NOT NULL AS is_config, c.relispartition, via.schema AS via_schema, via.name AS via_name"           \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                             \
    " LEFT JOIN columns ON columns.attrelid = c.oid LEFT JOIN config ON config.oid = c.oid"                            \
    " LEFT JOIN via ON via.leaf = c.oid"                                                                               \
    " LEFT JOIN pg_catalog.pg_am am ON am.oid = %2$s"                                                                  \
    " WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'" \
    " AND n.nspname <> 'pgcrane' AND (config.oid IS NOT NULL OR c.oid NOT IN (SELECT objid FROM member))"              \
    " ORDER BY bytes DESC, c.oid OFFSET 0) AS listed"

typedef struct ReadContext {
    Arena *arena;
    PlanFilter filter;
    void *context;
    VEC(PlanTable) tables;
} ReadContext;

/* One row of TABLES_SQL. A table dropped after the snapshot has NULL sizes: it is kept (its definition is in the
 * archive), and its copy will say what happened. */
static bool read_table(const DbResult *row, void *context, Error *err) {
    ReadContext *read = context;
    Arena *arena = read->arena;
    bool wanted = true;
    PlanTable table = {
        .oid = (uint32_t)db_int64(row, 0, 0),
        .schema = arena_strdup(arena, db_text(row, 0, 1)),
        .name = arena_strdup(arena, db_text(row, 0, 2)),
        .filenode = (uint32_t)db_int64(row, 0, 3),
        .blocks = db_int64(row, 0, 4),
        .bytes = db_int64(row, 0, 5),
        .columns = arena_strdup(arena, db_text(row, 0, 6)),
        .columns_hash = arena_strdup(arena, db_text(row, 0, 7)),
        .binary = db_bool(row, 0, 8),
        .is_heap = db_bool(row, 0, 9),
        .condition = db_bool(row, 0, 11) ? arena_strdup(arena, db_text(row, 0, 10)) : NULL,
        .is_partition = db_bool(row, 0, 12),
        .is_void = db_bool(row, 0, 13),
        .is_fresh = true,
        .via = db_is_null(row, 0, 14) ? NULL : sql_qualified(arena, db_text(row, 0, 14), db_text(row, 0, 15)),
    };

    if (!read->filter(&table, read->context, &wanted, err))
        return false;
    if (!wanted)
        return true;
    table.quoted = sql_qualified(arena, table.schema, table.name);
    table.display = sql_display(arena, table.schema, table.name);
    vec_push(arena, &read->tables, table);
    return true;
}

bool plan_read(DbConn *source, Arena *arena, PlanFilter filter, void *context, Plan *ret_plan, Error *err) {
    bool generated = db_version(source) >= 120000; /* attgenerated and table access methods came together */
    ReadContext read = {.arena = arena, .filter = filter, .context = context};
    const char *sql =
        arena_printf(arena, TABLES_SQL, generated ? "a.attgenerated" : "''", generated ? "c.relam" : "NULL::oid",
                     db_version(source) >= 140000 ? ", r.rngmultitypid" : "");

    if (!db_query_each(source, sql, 0, NULL, read_table, &read, err))
        return error_wrap(err, "listing the source's tables");
    *ret_plan = (Plan){.tables = read.tables.items, .count = read.tables.len};
    return true;
}

static int64_t total_bytes(const Plan *plan) {
    int64_t total = 0;

    for (size_t i = 0; i < plan->count; i++)
        total += plan->tables[i].bytes;
    return total;
}

static int64_t automatic_split(int64_t total, int64_t lanes) {
    /* At least sixteen ranges a lane, so that the last one to finish is a small share of the whole; below 16 MB the
     * fixed cost of a range (two round trips and two commits) begins to show, above 128 MB there is nothing left to
     * gain. */
    int64_t size = total / MAX(lanes, 1) / 16;
    return MIN(MAX(size, INT64_C(16) << 20), INT64_C(128) << 20);
}

/* Up to which size a table is better copied whole, by one lane, than with WAL by several. A copy keeps two cores busy,
 * one for each server; more at once gain nothing. With WAL it costs about a quarter more. What is lost with a
 * connection, a range, is kept within minutes. */
static int64_t whole_size(int64_t total, const PlanSplit *split) {
    int64_t at_once = MIN(MAX(split->cores / CORES_OF_A_COPY, 1), MAX(split->lanes, 1));

    return MIN(total / at_once / 4 * 5, WHOLE_MOST);
}

static void split_table(Arena *arena, PlanTable *table, int64_t split_size) {
    bool whole = !table->is_heap || table->condition != NULL || table->via != NULL || table->bytes <= split_size;
    int64_t blocks = MAX(table->blocks, 1);
    int64_t step = whole ? blocks : MAX(1, (int64_t)((double)split_size * (double)blocks / (double)table->bytes));
    size_t count = (size_t)((blocks + step - 1) / step);

    if (table->blocks == 0 && table->condition == NULL && !table->is_void)
        return; /* empty since the snapshot: nothing to read */
    table->chunks = arena_array(arena, PlanChunk, count);
    table->chunks_count = table->chunks_left = count;
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        int64_t first = (int64_t)i * step;

        table->chunks[i] = (PlanChunk){
            .no = (int32_t)i,
            .first_block = first,
            .end_block = last ? -1 : first + step,
            .disk_bytes =
                (int64_t)((double)table->bytes * (double)((last ? blocks : first + step) - first) / (double)blocks),
        };
    }
}

void plan_split(Arena *arena, Plan *plan, const PlanSplit *split) {
    int64_t total = total_bytes(plan);
    int64_t size = split->size > 0 ? split->size : automatic_split(total, split->lanes);

    if (split->size <= 0 && split->spares_wal)
        size = MAX(size, whole_size(total, split));

    for (size_t i = 0; i < plan->count; i++)
        split_table(arena, &plan->tables[i], size);
}

bool plan_spares_wal(DbConn *dest, bool *ret_spares, bool *ret_unsafe, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT pg_catalog.current_setting('wal_level') = 'minimal'", 0, NULL, &row, err))
        return error_wrap(err, "asking the destination for its wal_level");
    bool is_minimal = db_bool(row, 0, 0);
    *ret_spares = is_minimal && db_version(dest) >= 130000;
    *ret_unsafe = is_minimal && !*ret_spares;
    return true;
}

typedef struct DestColumns {
    Arena *arena;
    const Plan *plan;
    const PlanTable **by_name; /* sorted */
    bool *seen;
} DestColumns;

static int compare_names(const void *a, const void *b) {
    const PlanTable *const *left = a;
    const PlanTable *const *right = b;

    return strcmp((*left)->quoted, (*right)->quoted);
}

static bool compare_columns(const DbResult *row, void *context, Error *err) {
    DestColumns *dest = context;
    PlanTable key = {.quoted = sql_qualified(dest->arena, db_text(row, 0, 0), db_text(row, 0, 1))};
    const PlanTable *key_pointer = &key;
    const PlanTable **found =
        bsearch(&key_pointer, dest->by_name, dest->plan->count, sizeof(*dest->by_name), compare_names);

    if (found == NULL)
        return true;
    dest->seen[found - dest->by_name] = true;
    if ((*found)->is_complete || strcmp(db_text(row, 0, 2), (*found)->columns_hash) == 0)
        return true;
    return error_set(err, REASON_TABLE_CHANGED, "the columns of table %s are not the same on source and destination",
                     (*found)->display);
}

bool plan_check_dest(DbConn *dest, Arena *arena, const Plan *plan, Error *err) {
    DestColumns columns = {.arena = arena, .plan = plan};
    bool generated = db_version(dest) >= 120000;

    if (plan->count == 0)
        return true;
    columns.by_name = arena_array(arena, const PlanTable *, plan->count);
    columns.seen = arena_array(arena, bool, plan->count);
    for (size_t i = 0; i < plan->count; i++)
        columns.by_name[i] = &plan->tables[i];
    qsort(columns.by_name, plan->count, sizeof(*columns.by_name), compare_names);
    const char *sql =
        arena_printf(arena,
                     "WITH columns AS (" COLUMNS_SQL ") SELECT n.nspname, c.relname, coalesce(hash, '')"
                     " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                     " LEFT JOIN columns ON columns.attrelid = c.oid WHERE c.relkind IN ('r', 'p', 'f')",
                     generated ? "a.attgenerated" : "''");
    if (!db_query_each(dest, sql, 0, NULL, compare_columns, &columns, err))
        return error_wrap(err, "comparing the tables of both sides");
    for (size_t i = 0; i < plan->count; i++)
        if (!columns.seen[i] && !columns.by_name[i]->is_complete)
            return error_set(err, REASON_TABLE_CHANGED, "table %s is not on the destination",
                             columns.by_name[i]->display);
    return true;
}
