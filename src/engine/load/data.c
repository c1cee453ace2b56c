/*
 * Table data and what is built on it: one work list for the lanes.
 *
 * NOTES: a range of a table, from both sides
 *
 *   source                                          destination
 *   BEGIN REPEATABLE READ READ ONLY
 *   SET TRANSACTION SNAPSHOT; picture as recorded?
 *   LOCK TABLE ONLY t IN ACCESS SHARE MODE
 *   relfilenode under the snapshot = now = plan's?
 *   names of columns under the snapshot = now?
 *   t is still the table with this oid?
 *                                                   BEGIN; epoch is ours (share lock)
 *   COPY (SELECT ... ctid range) TO STDOUT   ---->  COPY t FROM STDIN
 *                                                   UPDATE chunk SET rows WHERE rows IS NULL (exactly one)
 *                                                   COMMIT
 *   COMMIT (ends the lock)
 *
 * TRUNCATE and rewrites are not MVCC-safe: without the comparison a table rewritten after the snapshot would be copied
 * as empty, without any error. The lock comes first, so nothing can be rewritten between comparison and COPY. Locks are
 * per range: a waiting ALTER of the application gets its turn between two ranges. Statements find columns by the names
 * of now, rows are those of the snapshot: a column that got another's name meanwhile would be copied into its place.
 *
 * Crash points: before COMMIT everything of the range is undone on the destination; after COMMIT its line says so. A
 * COMMIT whose reply is lost is asked for in the ledger before the range is tried again.
 */
#include "engine/load/load.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/load/graph.h"
#include "engine/snapshot/snapshot.h"
#include "pg/copy.h"
#include "pg/quote.h"
#include "pg/sqlstate.h"

#include <stdio.h>
#include <string.h>

typedef enum DataTaskKind { TASK_COPY, TASK_ENTRY, TASK_LARGE_OBJECTS, TASK_RELEASE } DataTaskKind;

enum { SMALL_SHARE = 4 };
enum { FREEZE_BYTES = 1 << 20 }; /* below, the TRUNCATE that FREEZE needs costs more than it gains */

typedef struct Data {
    DbRowGate gate;
    const LoadParams *params;
    LoadResult *result;
    Arena *arena;
    Graph *graph;
    GraphTask *tasks; /* by lane slot: what a TASK_ENTRY runs */
    bool *slot_used;
    size_t slots;
    size_t next_table, next_chunk;
    int64_t copying, building;
    int64_t running_cost; /* of copies and builds under way */
    size_t tables_left;   /* not complete */
    bool large_objects_given, large_objects_done, release_given;
    bool forgotten; /* the ledger lacks what we saw committed */
} Data;

/* ---- Choosing (pool's lock held) ---- */

/* The next range of the largest table that has one. */
static bool next_copy(Data *data, PoolTask *ret_task) {
    const Plan *plan = data->params->plan;

    if (__atomic_load_n(&data->result->snapshot_lost, __ATOMIC_RELAXED) || data->copying >= data->params->copy_max)
        return false;
    for (; data->next_table < plan->count; data->next_table++, data->next_chunk = 0) {
        const PlanTable *table = &plan->tables[data->next_table];

        while (!table->is_void && data->next_chunk < table->chunks_count && table->chunks[data->next_chunk].done)
            data->next_chunk++;
        if (table->is_void || data->next_chunk >= table->chunks_count)
            continue;
        *ret_task = (PoolTask){.kind = TASK_COPY,
                               .item = data->next_table,
                               .part = data->next_chunk++,
                               .cost = table->chunks[data->next_chunk - 1].disk_bytes};
        data->copying++;
        data->running_cost += ret_task->cost;
        return true;
    }
    return false;
}

/* Nothing else runs, or will soon, that is worth a processor beside a build of this cost: copies are given out, and
 * what runs or is ready is small. */
static bool has_no_company(const Data *data, int64_t cost) {
    bool copies_given = data->tables_left == 0 || data->next_table >= data->params->plan->count;

    return copies_given && data->running_cost + graph_ready_cost(data->graph) < cost / SMALL_SHARE;
}

/* Long tasks first: a build takes as long as many ranges, so that ranges are what fills the lanes at the end. */
static bool next_build(Data *data, PoolTask *ret_task) {
    size_t slot = 0;

    if (data->building >= data->params->build_max || !graph_has_ready(data->graph))
        return false;
    while (data->slot_used[slot])
        slot++;
    (void)graph_next(data->graph, &data->tasks[slot]);
    data->slot_used[slot] = true;
    data->building++;
    *ret_task = (PoolTask){.kind = TASK_ENTRY, .item = slot, .cost = data->tasks[slot].cost};
    ret_task->alone = has_no_company(data, ret_task->cost);
    data->running_cost += ret_task->cost;
    return true;
}

static bool data_next(void *context, PoolTask *ret_task) {
    Data *data = context;

    if (data->params->large_objects && !data->large_objects_given) {
        data->large_objects_given = true;
        *ret_task = (PoolTask){.kind = TASK_LARGE_OBJECTS};
        return true;
    }
    if (data->tables_left == 0 && data->large_objects_done && !data->release_given) {
        data->release_given = true;
        *ret_task = (PoolTask){.kind = TASK_RELEASE};
        return true;
    }
    return next_build(data, ret_task) || next_copy(data, ret_task);
}

static void copy_finished(Data *data, const PoolTask *task) {
    PlanTable *table = &data->params->plan->tables[task->item];

    data->copying--;
    if (task->given_up) {
        if (!__atomic_load_n(&data->result->snapshot_lost, __ATOMIC_RELAXED) && !table->is_void)
            data->result->tables_void++;
        table->is_void = true;
        return;
    }
    table->chunks[task->part].done = true;
    data->result->chunks_copied++;
    if (--table->chunks_left > 0)
        return;
    data->tables_left--;
    tracker_add_table(data->params->tracker);
    graph_table_copied(data->graph, task->item);
}

static void data_finished(void *context, const PoolTask *task) {
    Data *data = context;

    data->running_cost -= task->cost;
    if (task->given_up && task->note[0] != '\0')
        (void)snprintf(data->result->reason, sizeof(data->result->reason), "%s", task->note);
    if (task->kind == TASK_COPY) {
        copy_finished(data, task);
        return;
    }
    if (task->kind == TASK_LARGE_OBJECTS)
        data->large_objects_done = !task->given_up;
    if (task->kind == TASK_RELEASE)
        data->forgotten = task->given_up;
    if (task->kind != TASK_ENTRY)
        return;
    const GraphTask *build = &data->tasks[task->item];

    data->building--;
    if (build->marks_entry) {
        data->params->entry_done[build->entry] = true;
        tracker_add_index(data->params->tracker);
    }
    graph_finished(data->graph, build);
    data->slot_used[task->item] = false;
}

/* ---- Copying a range (no lock held) ---- */

/* True when the ledger says the range is in: asked before another attempt. */
static bool already_copied(DbConn *dest, Arena *arena, const PlanTable *table, const PlanChunk *chunk, bool *ret_done,
                           Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(arena, "SELECT rows IS NOT NULL FROM pgcrane.chunk WHERE relation = %u AND no = %d",
                                   table->oid, chunk->no);

    if (!db_query(dest, sql, 0, NULL, &row, err))
        return error_wrap(err, "asking the ledger about %s", table->display);
    *ret_done = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

static bool judge_lock_error(const PlanTable *table, Error *err) {
    if (snapshot_judge_error(err), err->reason == REASON_SNAPSHOT_LOST)
        return false;
    if (strcmp(err->sqlstate, "42P01") == 0 || strcmp(err->sqlstate, "3F000") == 0)
        return error_set(err, REASON_TABLE_CHANGED, "table %s was dropped or renamed on the source while it was copied",
                         table->display);
    return error_wrap(err, "reading table %s on the source", table->display);
}

/* A plain query of the catalogue answers under the snapshot; functions that look things up see them as they are now. */
#define SAME_NAMES                                                                                                     \
    "(SELECT "                                                                                                         \
    "pg_catalog.bool_and((pg_catalog.pg_identify_object_as_address('pg_catalog.pg_class'::pg_catalog.regclass,"        \
    " a.attrelid, a.attnum)).object_names[3] = a.attname) FROM pg_catalog.pg_attribute a"                              \
    " WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)"

/* Opens the range's transaction on the source: snapshot, lock, and the comparison of the head comment. */
static bool open_table(const LoadParams *params, Lane *lane, DbConn *source, const PlanTable *table, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(
        lane->arena,
        "%s SET LOCAL lock_timeout = '2s'; LOCK TABLE ONLY %s IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0;"
        " SELECT %s, pg_catalog.pg_postmaster_start_time()::text, c.relfilenode, "
        "pg_catalog.pg_relation_filenode(c.oid),"
        " pg_catalog.to_regclass(%s)::oid, coalesce(" SAME_NAMES ", true) FROM pg_catalog.pg_class c WHERE c.oid = %u",
        snapshot_begin_sql(lane->arena, params->snapshot), table->quoted, snapshot_picture_sql(db_version(source)),
        sql_literal(lane->arena, table->quoted), table->oid);

    if (!db_query_last(source, sql, &row, err)) {
        db_rollback(source);
        return judge_lock_error(table, err);
    }
    if (db_rows(row) != 1 || (uint32_t)db_int64(row, 0, 4) != table->oid)
        return error_set(err, REASON_TABLE_CHANGED, "table %s was replaced by another of its name on the source",
                         table->display);
    if (strcmp(db_text(row, 0, 0), params->snapshot->picture) != 0 ||
        strcmp(db_text(row, 0, 1), params->snapshot->postmaster_start) != 0)
        return error_set(err, REASON_SNAPSHOT_LOST,
                         "the snapshot's id shows another picture: the source was restarted");
    if (!db_bool(row, 0, 5))
        return error_set(err, REASON_TABLE_CHANGED, "columns of table %s were renamed or dropped on the source",
                         table->display);
    if ((uint32_t)db_int64(row, 0, 2) != table->filenode || (uint32_t)db_int64(row, 0, 3) != table->filenode)
        return error_set(err, REASON_TABLE_REWRITTEN,
                         "table %s was rewritten or truncated on the source after the snapshot", table->display);
    return true;
}

/* The range as a condition: TID range scans exist from 14; before, a list of all tids the blocks can have (291 line
 * pointers are the most that fit a block of 8 kB; block_size larger than that gets the bound of its own size). */
static const char *range_condition(Arena *arena, const PlanTable *table, const PlanChunk *chunk, int source_version) {
    if (table->chunks_count == 1)
        return "";
    if (source_version >= 140000)
        return chunk->end_block < 0 ? arena_printf(arena, " WHERE ctid >= '(%lld,0)'", (long long)chunk->first_block)
                                    : arena_printf(arena, " WHERE ctid >= '(%lld,0)' AND ctid < '(%lld,0)'",
                                                   (long long)chunk->first_block, (long long)chunk->end_block);
    const char *end =
        chunk->end_block < 0
            ? arena_printf(arena,
                           "(pg_catalog.pg_relation_size(%u) / pg_catalog.current_setting('block_size')::bigint)",
                           table->oid)
            : arena_printf(arena, "%lld", (long long)chunk->end_block);
    return arena_printf(arena,
                        " WHERE ctid = ANY (ARRAY(SELECT ('(' || b || ',' || l || ')')::tid"
                        " FROM pg_catalog.generate_series(%lld, %s - 1) b, pg_catalog.generate_series(1,"
                        " (pg_catalog.current_setting('block_size')::bigint / 28)) l))",
                        (long long)chunk->first_block, end);
}

static const char *source_copy_sql(Arena *arena, const PlanTable *table, const PlanChunk *chunk, int source_version) {
    const char *format = table->binary ? " WITH (FORMAT binary)" : "";
    const char *where = table->condition != NULL ? arena_printf(arena, " %s", table->condition)
                                                 : range_condition(arena, table, chunk, source_version);

    if (where[0] == '\0' || strcmp(where, " ") == 0) /* the table's own scan, without the executor */
        return table->columns[0] == '\0'
                   ? arena_printf(arena, "COPY %s TO STDOUT%s", table->quoted, format)
                   : arena_printf(arena, "COPY %s (%s) TO STDOUT%s", table->quoted, table->columns, format);
    return arena_printf(arena, "COPY (SELECT %s FROM ONLY %s%s) TO STDOUT%s", table->columns, table->quoted, where,
                        format);
}

static bool may_freeze(const LoadParams *params, const PlanTable *table) {
    return table->chunks_count == 1 && table->is_fresh && table->condition == NULL && table->via == NULL &&
           !params->data_only && !params->no_freeze && table->bytes >= FREEZE_BYTES;
}

static const char *dest_copy_sql(Arena *arena, const PlanTable *table, bool freeze) {
    const char *options = table->binary && freeze ? " WITH (FORMAT binary, FREEZE)"
                          : table->binary         ? " WITH (FORMAT binary)"
                          : freeze                ? " WITH (FREEZE)"
                                                  : "";

    const char *target = table->via != NULL ? table->via : table->quoted;

    return table->columns[0] == '\0'
               ? arena_printf(arena, "COPY %s FROM STDIN%s", target, options)
               : arena_printf(arena, "COPY %s (%s) FROM STDIN%s", target, table->columns, options);
}

/* One range on its way. */
typedef struct RangeCopy {
    const PlanTable *table;
    const PlanChunk *chunk;
    TaskSlot *slot;
    int attempt;
    bool gate_held; /* of Data: a huge row is in our source connection */
} RangeCopy;

/* Which partition a row belongs to, or whether a CHECK holds, is computed anew: what the server takes for immutable
 * need not be, and the hash of a text is of its bytes. What a value of a type like regclass names has to be there. A
 * row that is mended is still the old one under the snapshot, and a table that is left out makes it another migration:
 * all but the first are for a new start. */
static bool add_remedy(const PlanTable *table, DbSide side, Error *err) {
    if (sqlstate_is_unqualified(err->sqlstate, err->message))
        return error_remedy(err, SQLSTATE_UNQUALIFIED_REMEDY);
    if (side == DB_DEST && strcmp(err->sqlstate, "42P01") == 0)
        return error_remedy(
            err, "a value (of type regclass) names what comes to the destination behind the rows, such as"
                 " an index, or what is not moved: make the column's type text on the source, or leave the"
                 " table out (--exclude-table) and copy it when the migration is done; then " LOAD_START_OVER);
    if (side == DB_DEST && strcmp(err->sqlstate, "23514") == 0)
        return error_remedy(
            err,
            "what %s says of this row is computed otherwise here: it depends on the database's encoding (hash of a"
            " text: make the destination in the source's), on the settings of who wrote the row, or on a function;"
            " write the row anew on the source (an UPDATE of its key, under the database's settings), change the"
            " definition there, or leave the table out (--exclude-table); then " LOAD_START_OVER
            ": rows and definitions are read once",
            table->is_partition ? "the partition's bound (or a CHECK)" : "a CHECK");
    if (!load_is_refusal(err) || err->reason == REASON_NOT_PERMITTED)
        return false;
    return error_remedy(err, "mend the row or the definition on the source, or leave the table out (--exclude-table);"
                             " then " LOAD_START_OVER ": rows and definitions are read once");
}

/* The destination's transaction: rows and their line together. */
static bool copy_rows(Data *data, Lane *lane, RangeCopy *range, DbCopyResult *ret_copied, Error *err) {
    const PlanTable *table = range->table;
    const PlanChunk *chunk = range->chunk;
    const LoadParams *params = data->params;
    bool freeze = may_freeze(params, table);
    DbCopy copy = {
        .source = lane->source,
        .dest = lane->dest,
        .source_sql = source_copy_sql(lane->arena, table, chunk, db_version(lane->source)),
        .dest_sql = dest_copy_sql(lane->arena, table, freeze),
        .bytes = &range->slot->done,
        .gate = &data->gate,
        .gate_held = &range->gate_held,
    };
    DbSide side = DB_SOURCE;

    if (!ledger_begin(lane->dest, params->ledger, err))
        return false;
    if (freeze && !db_execf(lane->dest, err, "TRUNCATE ONLY %s", table->quoted))
        return error_wrap(err, "emptying table %s on the destination", table->display);
    if (!db_copy_pump(&copy, ret_copied, &side, err)) {
        (void)add_remedy(table, side, err);
        return error_wrap(err, "copying table %s (%s)", table->display, db_side_name(side));
    }
    const char *mark = arena_printf(
        lane->arena, "UPDATE pgcrane.chunk SET rows = %lld WHERE relation = %u AND no = %d AND rows IS NULL",
        (long long)ret_copied->rows, table->oid, chunk->no);
    return failpoint("copy.after_copy", err) && db_exec_rows(lane->dest, mark, 0, NULL, 1, err) &&
           failpoint("copy.before_commit", err) && ledger_commit(lane->dest, err) &&
           failpoint("copy.after_commit", err);
}

static void note_copied(Data *data, const PlanChunk *chunk, const DbCopyResult *copied) {
    tracker_add_copied(data->params->tracker, chunk->disk_bytes, copied->bytes, copied->rows);
    /* Racing lanes may lose an update of the largest row: it is a figure for the report, and relaxed is enough. */
    if (copied->largest_row > __atomic_load_n(&data->result->largest_row, __ATOMIC_RELAXED))
        __atomic_store_n(&data->result->largest_row, copied->largest_row, __ATOMIC_RELAXED);
}

static bool copy_range(Data *data, Lane *lane, RangeCopy *range, Error *err) {
    const LoadParams *params = data->params;
    DbCopyResult copied = {0};
    DbConn *source = NULL;
    DbConn *dest = NULL;
    bool done = false;

    if (!lane_dest(lane, &dest, err) || !lane_source(lane, &source, err))
        return false;
    if (range->attempt > 1 && !already_copied(dest, lane->arena, range->table, range->chunk, &done, err))
        return false;
    if (done) {
        tracker_add_copied(params->tracker, range->chunk->disk_bytes, 0, 0);
        return true;
    }
    if (!failpoint("copy.before_chunk", err) || !open_table(params, lane, source, range->table, err) ||
        !copy_rows(data, lane, range, &copied, err))
        return false;
    note_copied(data, range->chunk, &copied);
    db_rollback(source); /* read-only: ends the lock; a source that is lost just now is found out by the next range */
    return true;
}

/* libpq keeps the buffer of the largest row it met: only closing the connection gives it back. */
static void give_gate_back(Data *data, Lane *lane, const RangeCopy *range) {
    if (!range->gate_held)
        return;
    db_closep(&lane->source);
    db_row_gate_release(&data->gate);
}

/* A void snapshot is no failure of the run: the caller takes a new one. */
static bool is_void_snapshot(Data *data, PoolTask *task, const Error *err) {
    if (err->reason != REASON_SNAPSHOT_LOST && err->reason != REASON_TABLE_REWRITTEN)
        return false;
    log_error_value(LOG_WARNING, err);
    if (err->reason == REASON_SNAPSHOT_LOST)
        __atomic_store_n(&data->result->snapshot_lost, true, __ATOMIC_RELAXED);
    (void)snprintf(task->note, sizeof(task->note), "%.250s", err->message);
    task->given_up = true;
    return true;
}

static bool run_copy(Data *data, Lane *lane, PoolTask *task, Error *err) {
    const PlanTable *table = &data->params->plan->tables[task->item];
    const PlanChunk *chunk = &table->chunks[task->part];
    TaskSlot *slot = tracker_task_begin(data->params->tracker, PHASE_COPY, "copy", table->display, chunk->disk_bytes);
    log_debug("copy table=%s range=%d of %zu attempt=%d", table->display, chunk->no + 1, table->chunks_count,
              task->attempt);
    RangeCopy range = {.table = table, .chunk = chunk, .slot = slot, .attempt = task->attempt};
    bool ok = copy_range(data, lane, &range, err);

    give_gate_back(data, lane, &range);

    if (!ok && is_void_snapshot(data, task, err)) {
        if (lane->source != NULL)
            db_rollback(lane->source);
        db_rollback(lane->dest);
        ok = true;
    }
    tracker_task_end(data->params->tracker, slot, false); /* tables are counted when their last range is in */
    return ok;
}

/* ---- Building (no lock held) ---- */

/* Was it done by an attempt (or a run) whose COMMIT's reply was lost? */
static bool already_built(DbConn *dest, Arena *arena, const TocEntry *entry, const GraphTask *build, bool *ret_done,
                          Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(
        arena, "SELECT EXISTS (SELECT FROM pgcrane.entry WHERE dump_id = %d), pg_catalog.to_regclass(%s) IS NOT NULL",
        entry->dump_id, build->index == NULL ? "NULL" : sql_literal(arena, build->index));

    if (!db_query(dest, sql, 0, NULL, &row, err))
        return error_wrap(err, "asking the ledger about %s", entry->tag);
    *ret_done = db_bool(row, 0, 0) || db_bool(row, 0, 1);
    return true;
}

static bool build_entry(Data *data, Lane *lane, const GraphTask *build, const PoolTask *task, Error *err) {
    const TocEntry *entry = &data->params->toc->entries[build->entry];
    DbConn *dest = NULL;
    bool done = false;

    if (!lane_dest(lane, &dest, err))
        return false;
    if ((task->attempt > 1 || build->index != NULL) && !already_built(dest, lane->arena, entry, build, &done, err))
        return false;
    if (done)
        return true;
    if (!ledger_begin(dest, data->params->ledger, err))
        return false;
    /* Parallel workers of one build only help when there is nothing else to give the processors. */
    if (!task->alone && db_version(dest) >= 110000 &&
        !db_exec(dest, "SET LOCAL max_parallel_maintenance_workers = 0", err))
        return false;
    if (!db_exec(dest, build->sql, err)) {
        (void)load_refused_definition(err);
        return error_wrap(err, "building %s %s", entry->desc, entry->tag);
    }
    return (!build->marks_entry || ledger_mark_entry(dest, entry->dump_id, err)) &&
           failpoint("index.before_commit", err) && ledger_commit(dest, err) && failpoint("index.after_commit", err);
}

static bool run_build(Data *data, Lane *lane, PoolTask *task, Error *err) {
    const GraphTask *build = &data->tasks[task->item];
    const TocEntry *entry = &data->params->toc->entries[build->entry];
    const char *kind = build->step == GRAPH_COMPLETE ? "attach" : strcmp(entry->desc, "INDEX") == 0 ? "index" : "key";
    TaskSlot *slot = tracker_task_begin(data->params->tracker, PHASE_INDEX, kind,
                                        sql_display(lane->arena, entry->schema, entry->tag), 0);
    log_debug("build %s %s step=%d attempt=%d", entry->desc, entry->tag, (int)build->step, task->attempt);
    bool ok = build_entry(data, lane, build, task, err);

    tracker_task_end(data->params->tracker, slot, ok && build->marks_entry);
    return ok;
}

static bool run_large_objects(Data *data, Lane *lane, PoolTask *task, Error *err) {
    TaskSlot *slot = tracker_task_begin(data->params->tracker, PHASE_COPY, "copy", "large objects", 0);
    DbConn *source = NULL;
    DbConn *dest = NULL;
    bool ok = lane_source(lane, &source, err) && lane_dest(lane, &dest, err) &&
              load_large_objects(data->params, source, dest, err);

    tracker_task_end(data->params->tracker, slot, false);
    return ok || is_void_snapshot(data, task, err);
}

/* What the lanes saw committed, a server that crashed since may have forgotten. */
static bool all_in_ledger(const LoadParams *params, DbConn *dest, bool *ret_all, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT NOT EXISTS (SELECT FROM pgcrane.chunk WHERE rows IS NULL),"
                  " EXISTS (SELECT FROM pgcrane.step WHERE name = 'large objects')",
                  0, NULL, &row, err))
        return error_wrap(err, "asking the ledger whether all is copied");
    *ret_all = db_bool(row, 0, 0) && (!params->large_objects || db_bool(row, 0, 1));
    return true;
}

/* The line is written with a synchronous commit: it makes everything the lanes committed before it durable, so that
 * "copied" is true also after a crash of the destination. Only then may the snapshot go. */
static bool mark_copied(const LoadParams *params, DbConn *dest, bool *ret_all, Error *err) {
    if (!ledger_begin(dest, params->ledger, err) || !all_in_ledger(params, dest, ret_all, err))
        return false;
    if (!*ret_all) {
        db_rollback(dest);
        return true;
    }
    return db_exec(dest, "SET LOCAL synchronous_commit = on", err) && ledger_mark_step(dest, "copied", err) &&
           ledger_commit(dest, err);
}

static bool run_release(Data *data, Lane *lane, PoolTask *task, Error *err) {
    const LoadParams *params = data->params;
    DbConn *source = NULL;
    DbConn *dest = NULL;
    bool done = false;

    if (!lane_source(lane, &source, err) || !lane_dest(lane, &dest, err) ||
        !ledger_step_done(dest, "copied", &done, err))
        return false;
    if (!done && !mark_copied(params, dest, &done, err))
        return false;
    task->given_up = !done;
    return !done || (failpoint("copied.before_release", err) && snapshot_release(source, params->snapshot, err));
}

static bool data_run(void *context, Lane *lane, PoolTask *task, Error *err) {
    switch ((DataTaskKind)task->kind) {
    case TASK_COPY:
        return run_copy(context, lane, task, err);
    case TASK_ENTRY:
        return run_build(context, lane, task, err);
    case TASK_LARGE_OBJECTS:
        return run_large_objects(context, lane, task, err);
    case TASK_RELEASE:
        return run_release(context, lane, task, err);
    }
    UNREACHABLE();
}

/* ---- The whole ---- */

static void set_totals(const Data *data) {
    const Plan *plan = data->params->plan;
    int64_t bytes = 0, done_bytes = 0, tables_done = 0;

    for (size_t t = 0; t < plan->count; t++) {
        const PlanTable *table = &plan->tables[t];

        bytes += table->bytes;
        tables_done += table->chunks_left == 0 && !table->is_void;
        for (size_t c = 0; c < table->chunks_count; c++)
            done_bytes += table->chunks[c].done ? table->chunks[c].disk_bytes : 0;
        if (table->chunks_count == 0 && !table->is_void)
            done_bytes += table->bytes;
    }
    tracker_set_totals(data->params->tracker, bytes, (int64_t)plan->count, (int64_t)graph_entries(data->graph));
    tracker_set_done(data->params->tracker, done_bytes, tables_done, (int64_t)graph_entries_done(data->graph));
    tracker_phase_total(data->params->tracker, PHASE_COPY, tables_done, (int64_t)plan->count);
    tracker_phase_total(data->params->tracker, PHASE_INDEX, (int64_t)graph_entries_done(data->graph),
                        (int64_t)graph_entries(data->graph));
}

bool load_data(const LoadParams *params, LoadResult *result, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t slots = (size_t)pool_lanes(params->pool) + 1;
    Data data = {.params = params, .result = result, .arena = arena, .slots = slots};
    PoolWork work = {.context = &data, .next = data_next, .run = data_run, .finished = data_finished};

    data.tasks = arena_array(arena, GraphTask, slots);
    data.slot_used = arena_array(arena, bool, slots);
    data.graph = graph_new(arena, &(GraphParams){.toc = params->toc,
                                                 .chosen = params->chosen,
                                                 .entry_done = params->entry_done,
                                                 .plan = params->plan,
                                                 .restore = params->restore});
    for (size_t t = 0; t < params->plan->count; t++) {
        const PlanTable *table = &params->plan->tables[t];

        result->tables_void += table->is_void;
        data.tables_left += table->is_void || table->chunks_left > 0;
    }
    data.release_given = params->copied;
    data.large_objects_done = !params->large_objects;
    set_totals(&data);
    db_row_gate_init(&data.gate);
    bool ok = pool_run(params->pool, &work, params->stop, err);
    db_row_gate_fini(&data.gate);
    if (!ok)
        return false;
    return !data.forgotten || error_set(err, REASON_CONNECTION_LOST,
                                        "the destination crashed and lost its last commits: they are made again");
}
