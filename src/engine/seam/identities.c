/*
 * Which tables can be followed in their updates and deletes: the server's own rules for a replica identity.
 *
 * Publishing updates of a table without one makes the *application's* UPDATE fail, so this has to be at least as strict
 * as the server:
 * - "default": a primary key, valid and immediate (a deferrable one counts for nothing);
 * - "using index": that index, as long as it is there and valid;
 * - "full": all columns; "nothing": none.
 * - No generated column in it. From 18 the server refuses updates of such tables (for "full", too); before, it leaves
 *   the column out of what it sends, and what is left of a key need not be unique.
 *
 * Partitions. The server checks the leaf that a row is in; so a root has an identity when all its leaves do *and* it
 * has a primary key itself, which leaves made later inherit (REPLICA IDENTITY is not inherited). Where that is not so,
 * the leaves that have one stand for themselves, and a leaf made later is found by looking again. Unlogged leaves are
 * never in a stream and do not count. Before 13 a root cannot be published: all leaves stand for themselves.
 *
 * A leaf with an identity is listed beside its root, too. The server asks at each change what the table is a partition
 * of just then: one that is detached, changed and attached again has nothing of its changes published by the root, and
 * nobody who looks later sees it; and one that is not listed itself may be unlogged for a while.
 */
#include "engine/seam/seam_internal.h"

#include "common/vec.h"
#include "pg/quote.h"

/* clang-format off */
/* What of the catalogue is the same in all versions; %1$s: number of key columns, %2$s: generated, %3$s: the root. */
#define FACTS_SQL \
    "WITH generated AS (" \
    " SELECT a.attrelid, a.attnum FROM pg_catalog.pg_attribute a" \
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND %2$s <> '')," \
    " keys AS (" \
    " SELECT i.indrelid, pg_catalog.bool_or(i.indisprimary) AS is_primary, pg_catalog.bool_or(i.indisreplident) AS is_identity" \
    " FROM pg_catalog.pg_index i" \
    " WHERE (i.indisprimary OR i.indisreplident) AND i.indisvalid AND i.indimmediate" \
    " AND NOT EXISTS (SELECT 1 FROM generated g WHERE g.attrelid = i.indrelid" \
    "  AND g.attnum = ANY ((i.indkey::int2[])[0:%1$s - 1]))" \
    " GROUP BY i.indrelid)," \
    " facts AS (" \
    " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, %3$s AS root," \
    " CASE WHEN c.relkind = 'p' OR c.relreplident = 'd' THEN coalesce(k.is_primary, false)" \
    "  WHEN c.relreplident = 'i' THEN coalesce(k.is_identity, false)" \
    "  WHEN c.relreplident = 'f' THEN NOT EXISTS (SELECT 1 FROM generated g WHERE g.attrelid = c.oid)" \
    "  ELSE false END AS own" \
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace" \
    " LEFT JOIN keys k ON k.indrelid = c.oid" \
    " WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname !~ '^pg_'" \
    " AND n.nspname NOT IN ('information_schema', 'pgcrane')" \
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass" \
    "  AND d.objid = c.oid AND d.deptype = 'e'))"

/* 13 on: a tree has what its root and all its leaves have. A root that cannot be published (unlogged) is not there. */
#define TREES_SQL \
    FACTS_SQL "," \
    " trees AS (" \
    " SELECT root, pg_catalog.bool_or(oid = root) AS has_root," \
    " pg_catalog.bool_and(own) AND pg_catalog.bool_or(oid = root) AS all_own" \
    " FROM facts WHERE relkind = 'r' OR oid = root GROUP BY root)" \
    " SELECT f.oid, f.nspname, f.relname," \
    " NOT f.relispartition OR (f.relkind = 'r' AND (f.own OR NOT t.has_root)) AS is_listed," \
    " CASE WHEN f.relkind = 'r' AND f.relispartition THEN f.own ELSE t.all_own END AS has_identity" \
    " FROM facts f JOIN trees t USING (root)"

#define FLAT_SQL \
    FACTS_SQL \
    " SELECT f.oid, f.nspname, f.relname, f.relkind = 'r' AS is_listed, f.own AS has_identity FROM facts f"
/* clang-format on */

enum { ROOTS_VERSION = 130000, GENERATED_VERSION = 120000, INCLUDE_VERSION = 110000 };

const char *seam_identities_sql(Arena *arena, int version) {
    const char *key_count = version >= INCLUDE_VERSION ? "i.indnkeyatts" : "i.indnatts";
    const char *generated = version >= GENERATED_VERSION ? "a.attgenerated" : "''";

    if (version < ROOTS_VERSION)
        return arena_printf(arena, FLAT_SQL, key_count, generated, "c.oid");
    return arena_printf(arena, TREES_SQL, key_count, generated,
                        "CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::oid ELSE c.oid END");
}

typedef struct Reading {
    Arena *arena;
    VEC(SeamTable) tables;
} Reading;

static bool read_table(const DbResult *row, void *context, Error *err) {
    Reading *reading = context;
    SeamTable table = {
        .schema = arena_strdup(reading->arena, db_text(row, 0, 0)),
        .name = arena_strdup(reading->arena, db_text(row, 0, 1)),
        .quoted = sql_qualified(reading->arena, db_text(row, 0, 0), db_text(row, 0, 1)),
        .has_identity = db_bool(row, 0, 2),
    };

    (void)err;
    vec_push(reading->arena, &reading->tables, table);
    return true;
}

bool seam_read_identities(DbConn *source, Arena *arena, SeamTable **ret_tables, size_t *ret_count, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Reading reading = {.arena = arena};
    const char *sql = arena_printf(scratch,
                                   "SELECT nspname, relname, has_identity FROM (%s) AS identities WHERE is_listed"
                                   " ORDER BY nspname, relname",
                                   seam_identities_sql(scratch, db_version(source)));

    if (!db_query_each(source, sql, 0, NULL, read_table, &reading, err))
        return error_wrap(err, "reading the replica identities of the source's tables");
    *ret_tables = reading.tables.items;
    *ret_count = reading.tables.len;
    return true;
}
