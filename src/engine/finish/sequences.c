/* Sequences: read in groups on the source, set in one transaction per group on the destination. */
#include "engine/finish/finish.h"

#include "common/failpoint.h"
#include "pg/quote.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP_SEQUENCES = 500 };

static int compare_oids(const void *a, const void *b) {
    const uint32_t *left = a;
    const uint32_t *right = b;

    return (*left > *right) - (*left < *right);
}

typedef struct Missing {
    Arena *arena;
    StringVec *names; /* NULL = nobody asks */
} Missing;

typedef struct Oids {
    uint32_t *items; /* sorted */
    size_t count;
} Oids;

static void sort(Oids *oids) {
    if (oids->count > 1)
        qsort(oids->items, oids->count, sizeof(*oids->items), compare_oids);
}

static bool has(const Oids *oids, uint32_t oid) {
    return oids->count > 0 && bsearch(&oid, oids->items, oids->count, sizeof(*oids->items), compare_oids) != NULL;
}

/* The archive's SEQUENCE entries, all or those chosen: identity columns' sequences are among them. */
static Oids sequences_of_archive(const LoadParams *params, Arena *arena, bool all) {
    Oids oids = {.items = arena_array(arena, uint32_t, MAX(params->toc->count, 1))};

    for (size_t i = 0; i < params->toc->count; i++)
        if ((all || params->chosen[i]) && strcmp(params->toc->entries[i].desc, "SEQUENCE") == 0)
            oids.items[oids.count++] = params->toc->entries[i].object_oid;
    sort(&oids);
    return oids;
}

/* Columns of the list: oid, schema, name, is an extension's configuration, oid, schema and name of the table whose
 * column owns it. */
static bool is_owner_wanted(const LoadParams *params, const DbResult *rows, int row) {
    return db_int64(rows, row, 4) != 0 && params->wanted != NULL &&
           params->wanted(params->wanted_context, db_text(rows, row, 5), db_text(rows, row, 6));
}

/* One that was made since the definitions were read is there when it was made there, too: while it was followed. Under
 * filters its owner says whether it is one of ours (serial and identity columns own theirs), or, where nobody owns it,
 * its own name. */
static bool is_wanted_of_archive(const LoadParams *params, const Oids *chosen, const Oids *all, const DbResult *rows,
                                 int row) {
    uint32_t oid = (uint32_t)db_int64(rows, row, 0);

    if (has(all, oid))
        return has(chosen, oid);
    if (!params->filtered || is_owner_wanted(params, rows, row))
        return true;
    return db_int64(rows, row, 4) == 0 && params->wanted != NULL &&
           params->wanted(params->wanted_context, db_text(rows, row, 1), db_text(rows, row, 2));
}

/* The tables copied and what they are partitions or children of: a partitioned table has no rows, and so is not in the
 * plan, but its column's sequence numbers those of its partitions. */
static bool copied_tables(const LoadParams *params, DbConn *source, Arena *arena, Oids *ret_oids, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "WITH RECURSIVE up (child, parent) AS (SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"
                      " UNION SELECT up.child, i.inhparent FROM up JOIN pg_catalog.pg_inherits i"
                      " ON i.inhrelid = up.parent) SELECT child, parent FROM up";
    Oids tables = {.items = arena_array(arena, uint32_t, MAX(params->plan->count, 1))};

    if (!db_query(source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing parents of tables");
    for (size_t i = 0; i < params->plan->count; i++)
        tables.items[tables.count++] = params->plan->tables[i].oid;
    sort(&tables);
    Oids all = {.items = arena_array(arena, uint32_t, tables.count + (size_t)db_rows(rows) + 1)};
    for (; all.count < tables.count; all.count++)
        all.items[all.count] = tables.items[all.count];
    for (int i = 0; i < db_rows(rows); i++)
        if (has(&tables, (uint32_t)db_int64(rows, i, 0)))
            all.items[all.count++] = (uint32_t)db_int64(rows, i, 1);
    sort(&all);
    *ret_oids = all;
    return true;
}

/* --data-only: what the tables copied own (or those made since), and what nobody owns when no table was left out. */
static bool is_wanted_data_only(const LoadParams *params, const Oids *tables, const DbResult *rows, int row) {
    uint32_t owner = (uint32_t)db_int64(rows, row, 4);

    return owner == 0 ? !params->filtered : has(tables, owner) || is_owner_wanted(params, rows, row);
}

/* Sequences of extensions travel with them when they are configuration. */
static bool list_sequences(const LoadParams *params, DbConn *source, Arena *arena, StringVec *ret_names, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    Oids oids = {0}, all = {0};
    StringVec names = {0};
    const char *sql = "SELECT c.oid, n.nspname, c.relname, c.oid = ANY (coalesce((SELECT pg_catalog.array_agg(x.o)"
                      " FROM pg_catalog.pg_extension e, LATERAL pg_catalog.unnest(e.extconfig) AS x (o)), '{}')),"
                      " coalesce(o.oid, 0), o.nspname, o.relname"
                      " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                      " LEFT JOIN LATERAL (SELECT t.oid, m.nspname, t.relname FROM pg_catalog.pg_depend d"
                      "  JOIN pg_catalog.pg_class t ON t.oid = d.refobjid"
                      "  JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace"
                      "  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid"
                      "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0"
                      "  AND d.deptype IN ('a', 'i') LIMIT 1) AS o ON true"
                      " WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
                      " AND n.nspname <> 'information_schema' ORDER BY c.oid";

    if (params->data_only && !copied_tables(params, source, arena, &oids, err))
        return false;
    if (!params->data_only) {
        oids = sequences_of_archive(params, arena, false);
        all = sequences_of_archive(params, arena, true);
    }
    if (!db_query(source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing sequences");
    for (int i = 0; i < db_rows(rows); i++) {
        bool wanted = params->data_only ? is_wanted_data_only(params, &oids, rows, i)
                                        : is_wanted_of_archive(params, &oids, &all, rows, i);

        if (db_bool(rows, i, 3) || wanted)
            vec_push(arena, &names, sql_qualified(arena, db_text(rows, i, 1), db_text(rows, i, 2)));
    }
    *ret_names = names;
    return true;
}

static char *read_sql(Arena *arena, const StringVec *names, size_t first, size_t end) {
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, (size_t)16 << 20);
    for (size_t i = first; i < end; i++)
        buf_printf(&sql, "%sSELECT %s, last_value, is_called FROM %s", i == first ? "" : " UNION ALL ",
                   sql_literal(arena, names->items[i]), names->items[i]);
    return arena_strndup(arena, sql.data, sql.len);
}

/* to_regclass gives NULL for one that is not there, and setval of NULL does nothing. */
static const char *set_one_sql(Arena *arena, const DbResult *values, int row) {
    return arena_printf(arena, "SELECT pg_catalog.setval(pg_catalog.to_regclass(%s), %s, %s);",
                        sql_literal(arena, db_text(values, row, 0)), db_text(values, row, 1),
                        db_bool(values, row, 2) ? "true" : "false");
}

/* Sets those that are there and says which are not: to_regclass gives NULL, and setval of NULL does nothing. */
static char *set_sql(Arena *arena, const DbResult *values) {
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, (size_t)16 << 20);
    for (int i = 0; i < db_rows(values); i++) {
        const char *name = sql_literal(arena, db_text(values, i, 0));

        buf_printf(&sql, "%sSELECT %s WHERE pg_catalog.setval(pg_catalog.to_regclass(%s), %s, %s) IS NULL",
                   i == 0 ? "" : " UNION ALL ", name, name, db_text(values, i, 1),
                   db_bool(values, i, 2) ? "true" : "false");
    }
    return arena_strndup(arena, sql.data, sql.len);
}

static bool set_group(DbConn *dest, Arena *arena, const DbResult *values, Missing *missing, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(dest, set_sql(arena, values), 0, NULL, &rows, err))
        return false;
    for (int i = 0; missing->names != NULL && i < db_rows(rows); i++)
        vec_push(missing->arena, missing->names, arena_strdup(missing->arena, db_text(rows, i, 0)));
    return true;
}

static bool copy_group(const LoadParams *params, DbConn *source, DbConn *dest, const StringVec *names, size_t first,
                       size_t end, Missing *missing, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *values = NULL;

    if (!db_query(source, read_sql(arena, names, first, end), 0, NULL, &values, err))
        return error_wrap(err, "reading sequences");
    if (!ledger_begin(dest, params->ledger, err))
        return false;
    if (set_group(dest, arena, values, missing, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "setting sequences");
}

bool finish_sequences(const LoadParams *params, DbConn *source, DbConn *dest, Arena *arena, StringVec *ret_missing,
                      Error *err) {
    Missing missing = {.arena = arena, .names = ret_missing};
    StringVec names = {0};

    if (!failpoint("sequences.before", err) || !list_sequences(params, source, arena, &names, err))
        return false;
    for (size_t first = 0; first < names.len; first += GROUP_SEQUENCES)
        if (!copy_group(params, source, dest, &names, first, MIN(first + GROUP_SEQUENCES, names.len), &missing, err))
            return false;
    return true;
}

/* ---- Those that have moved since ---- */

static bool read_all(const LoadParams *params, DbConn *source, Arena *arena, StringVec *ret_readings, Error *err) {
    StringVec names = {0}, readings = {0};

    if (!list_sequences(params, source, arena, &names, err))
        return false;
    for (size_t first = 0; first < names.len; first += GROUP_SEQUENCES) {
        CLEANUP(db_result_freep) DbResult *values = NULL;
        size_t end = MIN(first + GROUP_SEQUENCES, names.len);

        if (!db_query(source, read_sql(arena, &names, first, end), 0, NULL, &values, err))
            return error_wrap(err, "reading sequences");
        for (int i = 0; i < db_rows(values); i++)
            vec_push(arena, &readings, set_one_sql(arena, values, i));
    }
    *ret_readings = readings;
    return true;
}

/* Both lists are by oid; a sequence that was made or removed in between shifts one of them. */
static bool has_reading(const StringVec *readings, size_t *at, const char *reading) {
    size_t i = *at;

    if (i >= readings->len || strcmp(readings->items[i], reading) != 0)
        for (i = 0; i < readings->len && strcmp(readings->items[i], reading) != 0; i++)
            ;
    *at = i < readings->len ? i + 1 : *at + 1;
    return i < readings->len;
}

bool finish_sequences_moved(const LoadParams *params, DbConn *source, DbConn *dest, Arena *arena, StringVec *readings,
                            Error *err) {
    StringVec now = {0};
    size_t at = 0;

    if (!read_all(params, source, arena, &now, err))
        return false;
    for (size_t i = 0; readings->len > 0 && i < now.len; i++)
        if (!has_reading(readings, &at, now.items[i]) && !db_exec(dest, now.items[i], err))
            return error_wrap(err, "setting sequences");
    *readings = now;
    return true;
}
