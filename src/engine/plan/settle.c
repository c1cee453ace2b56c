/*
 * The plan and the ledger: what an earlier run finished stays, the rest is planned anew.
 *
 * NOTES: who may be in which state
 *
 * A table's lines in the ledger are one row in `relation` (under which snapshot) and its ranges in `chunk`, written in
 * one transaction before any of its rows is copied. A range's `rows` is set by the transaction that copied it (UPDATE
 * ... WHERE rows IS NULL, exactly one row: a range can never be copied twice). So for each table the next run finds one
 * of: no lines            nothing was copied: lines are written all ranges set      complete: kept, whatever snapshot
 * it was some or none set, snapshot alive        its ranges are kept as they were cut (block ranges mean nothing under
 * another snapshot) some or none set, snapshot lost         TRUNCATE, its lines deleted and written anew in the same
 * transaction A crash between two groups of tables leaves each table in one of these states again.
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/plan/plan.h"
#include "pg/quote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tables of one transaction. Emptying takes locks on the table, its TOAST and all their indexes: few of those. */
enum { GROUP_TABLES = 500, GROUP_EMPTIED = 16 };

typedef struct OldRelation {
    uint32_t oid;
    int32_t snapshot;
    const char *columns_hash, *display;
    size_t chunks, chunks_done;
    PlanTable *table; /* NULL: not in the plan any more */
} OldRelation;

typedef VEC(OldRelation) OldRelationVec;

typedef struct Settle {
    DbConn *dest;
    const Ledger *ledger;
    Arena *arena;
    const LedgerSnapshot *snapshot;
    bool data_only;
    Plan *plan;
    PlanTable **by_oid; /* sorted */
    OldRelationVec old;
} Settle;

static int compare_oids(const void *a, const void *b) {
    const PlanTable *const *left = a;
    const PlanTable *const *right = b;

    return ((*left)->oid > (*right)->oid) - ((*left)->oid < (*right)->oid);
}

static PlanTable *find_table(const Settle *settle, uint32_t oid) {
    PlanTable key = {.oid = oid};
    PlanTable *key_pointer = &key;
    PlanTable **found = settle->plan->count == 0 ? NULL
                                                 : bsearch(&key_pointer, settle->by_oid, settle->plan->count,
                                                           sizeof(*settle->by_oid), compare_oids);
    return found == NULL ? NULL : *found;
}

static bool read_old(const DbResult *row, void *context, Error *err) {
    Settle *settle = context;
    OldRelation old = {
        .oid = (uint32_t)db_int64(row, 0, 0),
        .snapshot = (int32_t)db_int64(row, 0, 1),
        .columns_hash = arena_strdup(settle->arena, db_text(row, 0, 2)),
        .chunks = (size_t)db_int64(row, 0, 3),
        .chunks_done = (size_t)db_int64(row, 0, 4),
        .display = sql_display(settle->arena, db_text(row, 0, 5), db_text(row, 0, 6)),
    };

    (void)err;
    old.table = find_table(settle, old.oid);
    vec_push(settle->arena, &settle->old, old);
    return true;
}

static bool read_ledger(Settle *settle, Error *err) {
    PlanTable **by_oid = arena_array(settle->arena, PlanTable *, MAX(settle->plan->count, 1));

    for (size_t i = 0; i < settle->plan->count; i++)
        by_oid[i] = &settle->plan->tables[i];
    qsort(by_oid, settle->plan->count, sizeof(*by_oid), compare_oids);
    settle->by_oid = by_oid;
    return db_query_each(settle->dest,
                         "SELECT r.oid, r.snapshot, r.columns_hash, pg_catalog.count(c.no), pg_catalog.count(c.rows),"
                         " r.schema_name, r.table_name"
                         " FROM pgcrane.relation r LEFT JOIN pgcrane.chunk c ON c.relation = r.oid"
                         " GROUP BY r.oid ORDER BY r.oid",
                         0, NULL, read_old, settle, err) ||
           error_wrap(err, "reading the ledger's tables");
}

static bool read_chunk(const DbResult *row, void *context, Error *err) {
    Settle *settle = context;
    PlanTable *table = find_table(settle, (uint32_t)db_int64(row, 0, 0));

    (void)err;
    if (table == NULL || table->snapshot == 0)
        return true;
    int64_t first = db_int64(row, 0, 2);
    int64_t end = db_is_null(row, 0, 3) ? -1 : db_int64(row, 0, 3);
    int64_t blocks = MAX(table->blocks, 1);
    int64_t share = MAX((end < 0 ? blocks : end) - first, 0);

    table->chunks[table->chunks_count++] = (PlanChunk){
        .no = (int32_t)db_int64(row, 0, 1),
        .first_block = first,
        .end_block = end,
        .disk_bytes = (int64_t)((double)table->bytes * (double)share / (double)blocks),
        .done = !db_is_null(row, 0, 4),
    };
    if (db_is_null(row, 0, 4))
        table->chunks_left++;
    else
        settle->plan->chunks_kept++;
    return true;
}

static bool is_complete(const OldRelation *old) {
    return old->chunks == old->chunks_done;
}

/* A table whose columns changed since its lines were written cannot be gone on with. */
static bool check_unchanged(const Settle *settle, const OldRelation *old, Error *err) {
    if (old->table == NULL)
        return is_complete(old) ||
               error_set(err, REASON_TABLE_CHANGED, "table %s, which was being copied, is not on the source any more",
                         old->display);
    if (strcmp(old->columns_hash, old->table->columns_hash) == 0)
        return true;
    if (!is_complete(old))
        return error_set(err, REASON_TABLE_CHANGED, "the columns of table %s were changed on the source",
                         old->table->display);
    vec_push(
        settle->arena, &settle->plan->notes,
        arena_printf(settle->arena, "table %s was changed on the source after it was copied", old->table->display));
    return true;
}

/* Takes over the ranges of tables that are complete or go on under the same snapshot. */
static bool keep_old(Settle *settle, Error *err) {
    for (size_t i = 0; i < settle->old.len; i++) {
        const OldRelation *old = &settle->old.items[i];
        PlanTable *table = old->table;

        if (!check_unchanged(settle, old, err))
            return false;
        if (table == NULL)
            continue;
        if (!is_complete(old) && old->snapshot != settle->snapshot->id) {
            table->is_begun = true;
            table->has_rows = old->chunks_done > 0;
            continue;
        }
        table->snapshot = old->snapshot;
        table->is_complete = is_complete(old);
        table->is_void = table->is_void && !is_complete(old);
        table->is_fresh = old->chunks_done == 0;
        table->chunks = arena_array(settle->arena, PlanChunk, MAX(old->chunks, 1));
        table->chunks_count = table->chunks_left = 0;
    }
    return db_query_each(settle->dest,
                         "SELECT relation, no, first_block, end_block, rows FROM pgcrane.chunk ORDER BY relation, no",
                         0, NULL, read_chunk, settle, err) ||
           error_wrap(err, "reading the ledger's ranges");
}

/* Empties a table begun under a lost snapshot and forgets its lines. One without a finished range has none of our rows:
 * what a configuration table got from its extension stays. */
static bool empty_table(const Settle *settle, const PlanTable *table, Error *err) {
    return (!table->has_rows ||
            db_execf(settle->dest, err, settle->data_only ? "DELETE FROM ONLY %s" : "TRUNCATE ONLY %s",
                     table->quoted)) &&
           db_execf(settle->dest, err,
                    "DELETE FROM pgcrane.chunk WHERE relation = %u; DELETE FROM pgcrane.relation WHERE oid = %u",
                    table->oid, table->oid);
}

static void append_copy_field(Buf *buf, const char *text) {
    for (; *text != '\0'; text++)
        switch (*text) {
        case '\\':
            buf_append_str(buf, "\\\\");
            break;
        case '\n':
            buf_append_str(buf, "\\n");
            break;
        case '\r':
            buf_append_str(buf, "\\r");
            break;
        case '\t':
            buf_append_str(buf, "\\t");
            break;
        default:
            buf_append_char(buf, *text);
        }
}

static bool copy_lines(DbConn *dest, const char *sql, const Buf *lines, Error *err) {
    int64_t rows = 0;

    return buf_ok(lines, "the plan", err) && db_copy_in_begin(dest, sql, err) &&
           db_copy_in_put(dest, lines->data, lines->len, err) && db_copy_in_end(dest, &rows, err);
}

static void append_table(const Settle *settle, const PlanTable *table, Buf *relations, Buf *chunks) {
    buf_printf(relations, "%u\t%d\t", table->oid, settle->snapshot->id);
    append_copy_field(relations, table->schema);
    buf_append_char(relations, '\t');
    append_copy_field(relations, table->name);
    buf_printf(relations, "\t%u\t%s\n", table->filenode, table->columns_hash);
    for (size_t i = 0; i < table->chunks_count; i++) {
        const PlanChunk *chunk = &table->chunks[i];

        buf_printf(chunks, "%u\t%d\t%lld\t", table->oid, chunk->no, (long long)chunk->first_block);
        if (chunk->end_block < 0)
            buf_append_str(chunks, "\\N\n");
        else
            buf_printf(chunks, "%lld\n", (long long)chunk->end_block);
    }
}

/* Lines of the tables [first, end) that have none under a living snapshot, gathered; tables to start over are emptied.
 */
static bool gather_group(const Settle *settle, size_t first, size_t end, Buf *relations, Buf *chunks, Error *err) {
    for (size_t i = first; i < end; i++) {
        const PlanTable *table = &settle->plan->tables[i];

        if (table->snapshot != 0 || table->is_void)
            continue;
        if (table->is_begun && !empty_table(settle, table, err))
            return false;
        append_table(settle, table, relations, chunks);
    }
    return true;
}

static size_t group_end(const Plan *plan, size_t first) {
    size_t end = first;

    for (size_t emptied = 0; end < MIN(first + GROUP_TABLES, plan->count) && emptied < GROUP_EMPTIED; end++)
        emptied += plan->tables[end].has_rows;
    return end;
}

static bool write_group(const Settle *settle, size_t first, size_t end, Error *err) {
    CLEANUP(buf_fini) Buf relations;
    CLEANUP(buf_fini) Buf chunks;

    buf_init(&relations, (size_t)64 << 20);
    buf_init(&chunks, (size_t)256 << 20);
    if (!ledger_begin(settle->dest, settle->ledger, err))
        return false;
    if (gather_group(settle, first, end, &relations, &chunks, err) &&
        copy_lines(settle->dest,
                   "COPY pgcrane.relation (oid, snapshot, schema_name, table_name, filenode, columns_hash) FROM STDIN",
                   &relations, err) &&
        copy_lines(settle->dest, "COPY pgcrane.chunk (relation, no, first_block, end_block) FROM STDIN", &chunks,
                   err) &&
        ledger_commit(settle->dest, err))
        return true;
    db_rollback(settle->dest);
    return error_wrap(err, "writing the plan to the ledger");
}

bool plan_settle(DbConn *dest, const Ledger *ledger, Arena *arena, const LedgerSnapshot *snapshot, bool data_only,
                 Plan *plan, Error *err) {
    Settle settle = {
        .dest = dest, .ledger = ledger, .arena = arena, .snapshot = snapshot, .data_only = data_only, .plan = plan};

    if (!read_ledger(&settle, err) || !keep_old(&settle, err))
        return false;
    for (size_t first = 0; first < plan->count; first = group_end(plan, first))
        if (!write_group(&settle, first, group_end(plan, first), err))
            return false;
    for (size_t i = 0; i < plan->count; i++)
        if (plan->tables[i].snapshot == 0 && !plan->tables[i].is_void)
            plan->tables[i].snapshot = snapshot->id;
    log_info("plan tables=%zu chunks_kept=%zu", plan->count, plan->chunks_kept);
    return failpoint("plan.written", err);
}
