/*
 * Planner statistics for what was moved: the tables with rows of their own, and partitioned roots (which analyses their
 * partitions too), and parents that are empty but for what their children hold, whom nobody else analyses.
 *
 * Nothing is kept in the ledger: statistics again cost less than a line each, and are right at any time.
 */
#include "engine/load/load.h"

#include "common/log.h"
#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

typedef struct Analyze {
    const LoadParams *params;
    StringVec tables; /* quoted */
    size_t next;
    bool vacuum;
    Arena *arena;
    NotMovedVec *not_moved;
} Analyze;

static bool analyze_next(void *context, PoolTask *ret_task) {
    Analyze *analyze = context;

    if (analyze->next >= analyze->tables.len)
        return false;
    *ret_task = (PoolTask){.item = analyze->next++};
    return true;
}

/* Not fenced: statistics of another run do no harm, and VACUUM cannot run in a transaction. */
static bool analyze_run(void *context, Lane *lane, PoolTask *task, Error *err) {
    Analyze *analyze = context;
    const char *table = analyze->tables.items[task->item];
    const char *verb = analyze->vacuum ? "VACUUM (ANALYZE)" : "ANALYZE";
    TaskSlot *slot = tracker_task_begin(analyze->params->tracker, PHASE_ANALYZE, "analyze", table, 0);
    DbConn *dest = NULL;
    bool ok = lane_dest(lane, &dest, err) && db_execf(dest, err, "%s %s", verb, table);

    tracker_task_end(analyze->params->tracker, slot, ok);
    if (ok || err->retryable || err->reason == REASON_CANCELLED)
        return ok || error_wrap(err, "%s of %s", verb, table);
    /* A partition on a foreign server that cannot be read, an index expression that fails: the rows are there all the
     * same. */
    task->given_up = true;
    (void)snprintf(task->note, sizeof(task->note), "%.250s", err->message);
    return true;
}

static void analyze_finished(void *context, const PoolTask *task) {
    Analyze *analyze = context;

    if (!task->given_up)
        return;
    NotMoved item = {.kind = "statistics",
                     .object = analyze->tables.items[task->item],
                     .reason = arena_strdup(analyze->arena, task->note),
                     .sql = arena_printf(analyze->arena, "ANALYZE %s;", analyze->tables.items[task->item])};

    vec_push(analyze->arena, analyze->not_moved, item);
}

/* Partitioned roots, empty parents and populated materialized views are not in the plan: they are looked up on the
 * destination, by the archive. */
static bool add_others(const LoadParams *params, DbConn *control, Arena *arena, Analyze *analyze, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
                      " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                      " WHERE (c.relkind = 'p' AND NOT c.relispartition OR c.relkind = 'm' AND c.relispopulated"
                      "  OR c.relkind = 'r' AND c.relhassubclass AND pg_catalog.pg_relation_size(c.oid) = 0)"
                      " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

    (void)params;
    if (!db_query(control, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing partitioned tables");
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, &analyze->tables, sql_qualified(arena, db_text(rows, i, 0), db_text(rows, i, 1)));
    return true;
}

/* Never analyzed, by us or by autovacuum. A view that was filled again keeps what was known of its rows before. */
static const char late_sql[] =
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane') AND c.relpersistence <> 't'"
    " AND (c.relkind = 'm' AND c.relispopulated OR c.relkind = 'r' AND pg_catalog.pg_relation_size(c.oid) > 0"
    "  AND pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL"
    "  AND pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid) IS NULL) ORDER BY 1, 2";

static bool analyze_late(DbConn *dest, const char *table, Arena *arena, NotMovedVec *not_moved, Error *err) {
    if (db_execf(dest, err, "ANALYZE %s", table))
        return true;
    if (err->sqlstate[0] == '\0' || err->reason == REASON_CANCELLED || db_is_broken(dest))
        return error_wrap(err, "ANALYZE of %s", table);
    NotMoved item = {.kind = "statistics",
                     .object = table,
                     .reason = arena_strdup(arena, err->message),
                     .sql = arena_printf(arena, "ANALYZE %s;", table)};

    vec_push(arena, not_moved, item);
    return true;
}

bool load_analyze_late(DbConn *dest, Arena *arena, NotMovedVec *not_moved, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(dest, late_sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing what has no statistics");
    if (db_rows(rows) == 0)
        return true;
    if (!db_exec(dest, "SET lock_timeout = '5s'", err))
        return false;
    for (int i = 0; i < db_rows(rows); i++)
        if (!analyze_late(dest, sql_qualified(arena, db_text(rows, i, 0), db_text(rows, i, 1)), arena, not_moved, err))
            return false;
    return db_exec(dest, "SET lock_timeout = 0", err);
}

bool load_analyze(const LoadParams *params, DbConn *control, Arena *arena, bool vacuum, NotMovedVec *not_moved,
                  Error *err) {
    Analyze analyze = {.params = params, .vacuum = vacuum, .arena = arena, .not_moved = not_moved};
    PoolWork work = {.context = &analyze, .next = analyze_next, .run = analyze_run, .finished = analyze_finished};

    for (size_t i = 0; i < params->plan->count; i++)
        if ((!params->plan->tables[i].is_partition || vacuum) && params->plan->tables[i].chunks_count > 0)
            vec_push(arena, &analyze.tables, params->plan->tables[i].quoted);
    if (!add_others(params, control, arena, &analyze, err))
        return false;
    tracker_phase_total(params->tracker, PHASE_ANALYZE, 0, (int64_t)analyze.tables.len);
    return pool_run(params->pool, &work, params->stop, err);
}
