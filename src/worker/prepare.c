/* Ledger, snapshot, schema: what must stand before data moves. */
#include "worker/run.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/schema/dump.h"
#include "engine/schema/tablespaces.h"
#include "engine/seam/shapes.h"
#include "pg/quote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARCHIVE_MAX = 1 << 30 };

bool step_ledger(Run *run, Error *err) {
    if (run->has_ledger)
        return true;
    if ((!run->ledger_exists && !run_remove_report(run, err)) ||
        !ledger_take(run->dest, run->arena, &run->identity, &run->ledger, err))
        return false;
    run->has_ledger = true;
    if (run->ledger_exists)
        run_event(run, "info", "going on with the unfinished migration %s", run->identity.job_id);
    return true;
}

static bool take_snapshot(Run *run, Error *err) {
    SnapshotParams params = {
        .source_conninfo = run->options.source,
        .job_id = run->identity.job_id,
        .lease_us = run->options.snapshot_lease * USEC_PER_SEC,
        .log_fd = run->log_fd,
    };

    return run_before_snapshot(run, err) &&
           snapshot_take(run->dest, &run->ledger, run->arena, &params, &run->stop, &run->snapshot, err) &&
           run_mark_snapshot(run, err);
}

/* Keepers that earlier runs left: of a snapshot that was never recorded, or not released any more. While we work, our
 * lock on the source would keep them alive, and after us their lease. */
static bool end_other_keepers(Run *run, const char *own_pid, Error *err) {
    return db_query(run->source,
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                    " WHERE application_name = 'pgcrane ' || $1 || ' keeper' AND pid <> $2::integer",
                    2, (const char *const[]){run->identity.job_id, own_pid}, NULL, err) ||
           error_wrap(err, "ending keepers of earlier snapshots");
}

bool step_snapshot(Run *run, Error *err) {
    bool alive = false;

    if (!ledger_step_done(run->dest, "copied", &run->load.copied, err))
        return false;
    if (run->load.copied) {
        tracker_phase_skip(run->tracker, PHASE_SNAPSHOT);
        return end_other_keepers(run, "0", err) && ledger_last_snapshot(run->dest, run->arena, &run->snapshot, err);
    }
    tracker_phase_begin(run->tracker, PHASE_SNAPSHOT);
    bool ok = snapshot_find(run->source, run->dest, run->arena, &run->snapshot, &alive, err);
    if (ok && !alive) {
        if (run->snapshot.id > 0)
            run_event(run, "warning",
                      "the earlier snapshot is gone: tables that are not finished are copied again under a new one");
        ok = take_snapshot(run, err);
    }
    ok = ok && run_mark_snapshot(run, err); /* of one that an earlier run took, too */
    tracker_phase_end(run->tracker, PHASE_SNAPSHOT);
    return ok && end_other_keepers(run, run->snapshot.keeper_pid, err);
}

/* ---- Schema ---- */

static bool dump_once(Run *run, Buf *archive, Error *err) {
    SchemaDump dump = {
        .pg_dump = run->pg_dump.path,
        .conninfo = run->options.source,
        .snapshot_id = run->snapshot.snapshot_id,
    };

    run_event(run, "info", "reading the schema with %s (%s)", run->pg_dump.path, run->pg_dump.version);
    return schema_dump(&dump, &run->stop, archive, err);
}

/* pg_dump cannot lock what was dropped or renamed since the snapshot, however often it is asked. Nothing was copied
 * under the snapshot yet, so it goes: once for another try, and then so that the next run takes a new one. */
static bool dump_schema(Run *run, Buf *archive, Error *err) {
    bool ok = dump_once(run, archive, err);
    Error ignored;

    if (!ok && err->reason == REASON_CLIENT_FAILED && !err->retryable) {
        run_event(run, "warning", "%s; trying again under a new snapshot", err->message);
        ok = snapshot_release(run->source, &run->snapshot, err) && take_snapshot(run, err) &&
             dump_once(run, archive, err);
        if (!ok && !snapshot_release(run->source, &run->snapshot, &ignored))
            log_error_value(LOG_WARNING, &ignored);
    }
    return ok && ledger_note_schema_snapshot(run->dest, &run->ledger, run->snapshot.id, err) &&
           ledger_save_archive(run->dest, &run->ledger, archive->data, archive->len, err);
}

static int compare_oids(const void *a, const void *b) {
    const uint32_t *left = a;
    const uint32_t *right = b;

    return (*left > *right) - (*left < *right);
}

static void note_tables(Run *run) {
    run->table_oids = arena_array(run->arena, uint32_t, MAX(run->toc.count, 1));
    run->table_oids_count = 0;
    for (size_t i = 0; i < run->toc.count; i++)
        if (run->chosen[i] && strcmp(run->toc.entries[i].desc, "TABLE") == 0)
            run->table_oids[run->table_oids_count++] = run->toc.entries[i].object_oid;
    qsort(run->table_oids, run->table_oids_count, sizeof(*run->table_oids), compare_oids);
}

/* Which entries an earlier run has done, by dump id: the archive is the same one, it comes from the ledger. */
bool run_note_done(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    IntVec ids = {0};

    if (run->toc.count == 0)
        return true;
    if (!ledger_entries(run->dest, arena, &ids, err))
        return false;
    run->entry_done = run->load.entry_done = arena_array(run->arena, bool, run->toc.count);
    for (size_t i = 0; i < ids.len; i++) {
        const TocEntry *entry = toc_find(&run->toc, ids.items[i]);

        if (entry != NULL)
            run->entry_done[entry - run->toc.entries] = true;
    }
    return true;
}

static void note_not_moved(Run *run, const Selection *selection) {
    for (size_t i = 0; i < selection->dropped.len; i++)
        vec_push(run->arena, &run->not_moved, selection->dropped.items[i]);
    for (size_t i = 0; i < run->toc.count; i++)
        if (run->chosen[i] && strcmp(run->toc.entries[i].desc, "FOREIGN TABLE") == 0) {
            NotMoved item = {.kind = "foreign table",
                             .object =
                                 arena_printf(run->arena, "%s.%s", run->toc.entries[i].schema, run->toc.entries[i].tag),
                             .reason = "definition only: its rows are on another server"};

            vec_push(run->arena, &run->not_moved, item);
        }
}

/* pg_dump leaves them out without a word. */
static bool note_invalid_indexes(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "SELECT n.nspname, c.relname FROM pg_catalog.pg_index i"
                      " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
                      " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                      " JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
                      " WHERE NOT i.indisvalid AND t.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' ORDER BY 1, 2";

    if (!db_query(run->source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing invalid indexes");
    for (int i = 0; i < db_rows(rows); i++) {
        NotMoved item = {.kind = "index",
                         .object = sql_display(run->arena, db_text(rows, i, 0), db_text(rows, i, 1)),
                         .reason = "it is invalid on the source: REINDEX or drop it there"};

        vec_push(run->arena, &run->not_moved, item);
    }
    return true;
}

/* The name is our ledger's: pg_dump is told to leave it out, and nothing else would say so. */
static bool note_own_schema(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'pgcrane'", 0, NULL, &row, err))
        return error_wrap(err, "looking for a schema pgcrane");
    NotMoved item = {.kind = "SCHEMA",
                     .object = "pgcrane",
                     .reason = "the name belongs to pgcrane's own ledger: rename the schema on the source"};
    if (db_rows(row) > 0)
        vec_push(run->arena, &run->not_moved, item);
    return true;
}

bool run_is_filtered(const Run *run) {
    const MigrateOptions *options = &run->options;

    return options->tables.len + options->schemas.len + options->exclude_tables.len + options->exclude_schemas.len > 0;
}

static void set_load_params(Run *run) {
    run->load = (LoadParams){
        .ledger = &run->ledger,
        .snapshot = &run->snapshot,
        .plan = &run->plan,
        .toc = &run->toc,
        .chosen = run->chosen,
        .entry_done = run->entry_done,
        .tablespace_map = run->options.tablespace_map,
        .restore = {.no_owner = run->options.no_owner,
                    .no_acl = run->options.no_acl,
                    .server_version = db_version(run->dest),
                    .subscriptions_run_as_owner =
                        restore_owner_runs_subscriptions(run->toc.dump_version, db_version(run->dest))},
        .copy_max = run->options.jobs,
        .build_max = run->options.index_jobs,
        .data_only = run->options.data_only,
        .replica_role = run->replica_role,
        .hold_back = run->guarded ? run_hold_back : NULL,
        .hold_back_context = run,
        .filtered = run_is_filtered(run),
        .wanted = run_wanted,
        .wanted_context = run,
        .copied = run->load.copied,
        .no_freeze = run->load.no_freeze,
        .tracker = run->tracker,
        .stop = &run->stop,
    };
}

static bool read_schema(Run *run, Error *err) {
    CLEANUP(buf_fini) Buf archive;
    Selection selection = {0};
    bool found = false;

    buf_init(&archive, ARCHIVE_MAX);
    if (!ledger_load_archive(run->dest, &archive, &found, err) || (!found && !dump_schema(run, &archive, err)))
        return false;
    if (!buf_ok(&archive, "the schema archive", err) ||
        !toc_parse(run->arena, archive.data, archive.len, &run->toc, err) ||
        !schema_map_tablespaces(run->arena, run->source, run->dest, &run->options, &run->toc, err) ||
        !schema_select(run->arena, &run->toc, &run->options, &selection, err))
        return false;
    run->chosen = selection.chosen;
    for (size_t i = 0; i < run->toc.count; i++)
        run->chosen[i] = run->chosen[i] && !run_is_own_entry(&run->toc.entries[i]);
    run->not_moved.len = 0;
    note_not_moved(run, &selection);
    return note_own_schema(run, err) && note_invalid_indexes(run, err);
}

/* Filters that match nothing are found out only by the archive. Nothing was made yet but our own record, which would
 * bind the corrected command to the wrong filters: it goes. */
static void forget_bad_filters(Run *run) {
    Error err = {0};

    if (run->ledger_exists)
        return;
    if (!snapshot_release(run->source, &run->snapshot, &err) || !ledger_begin(run->dest, &run->ledger, &err) ||
        !ledger_drop(run->dest, &err) || !ledger_commit(run->dest, &err)) {
        db_rollback(run->dest);
        log_error_value(LOG_WARNING, &err);
    }
}

bool step_schema(Run *run, Error *err) {
    tracker_phase_begin(run->tracker, PHASE_SCHEMA);
    bool ok = run->options.data_only || (read_schema(run, err) && run_note_done(run, err));
    tracker_phase_end(run->tracker, PHASE_SCHEMA);
    if (!ok && err->reason == REASON_USAGE)
        forget_bad_filters(run);
    if (!ok)
        return false;
    if (run->chosen == NULL)
        run->chosen = arena_array(run->arena, bool, 1);
    if (run->entry_done == NULL)
        run->entry_done = arena_array(run->arena, bool, 1);
    note_tables(run);
    set_load_params(run);
    return true;
}

static bool is_pre_data(const LoadParams *params, size_t entry) {
    return restore_pass(params->toc, &params->toc->entries[entry], &params->restore) == RESTORE_PRE_DATA;
}

bool step_pre_data(Run *run, Error *err) {
    tracker_phase_begin(run->tracker, PHASE_SCHEMA);
    bool ok =
        serial_run_with_grants(&run->load, run->dest, is_pre_data, PHASE_SCHEMA, &run->not_moved, run->arena, err);
    tracker_phase_end(run->tracker, PHASE_SCHEMA);
    return ok;
}

/* ---- Data ---- */

static bool filter_table(const PlanTable *table, void *context, bool *ret_wanted, Error *err) {
    const Run *run = context;

    if (run->options.data_only && !run->load.copied)
        return filter_table_by_name(run->arena, &run->options, table->schema, table->name, ret_wanted, err);
    if (table->condition != NULL &&
        !run->options.data_only) { /* of an extension: comes with it, unless only some tables are wanted */
        *ret_wanted = run->options.tables.len == 0 && run->options.schemas.len == 0;
        return true;
    }
    *ret_wanted = bsearch(&table->oid, run->table_oids, run->table_oids_count, sizeof(uint32_t), compare_oids) != NULL;
    return true;
}

/* When the copy of --data-only is complete, its tables are those of the ledger: a table that the source got since
 * cannot be copied under the snapshot that is gone. */
static bool note_tables_of_ledger(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!run->options.data_only || !run->load.copied)
        return true;
    if (!db_query(run->dest, "SELECT oid FROM pgcrane.relation ORDER BY oid", 0, NULL, &rows, err))
        return error_wrap(err, "reading the ledger's tables");
    run->table_oids_count = (size_t)db_rows(rows);
    run->table_oids = arena_array(run->arena, uint32_t, MAX(run->table_oids_count, 1));
    for (int i = 0; i < db_rows(rows); i++)
        run->table_oids[i] = (uint32_t)db_int64(rows, i, 0);
    return true;
}

/* "lock timeout" alone does not tell which table, nor who holds it. */
static bool name_locked_tables(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *who = NULL;
    Error ignored;
    const char *sql =
        "SELECT pg_catalog.string_agg(pg_catalog.format('%s (by session %s)', c.oid::regclass, l.pid), ', ')"
        " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind = 'r' AND l.database ="
        " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

    if (!db_query_value(run->source, arena, sql, 0, NULL, &who, &ignored) || who == NULL)
        return false;
    (void)error_set(err, REASON_LOCK_BUSY, "locked on the source for more than 30 s: %.400s", who);
    return error_remedy(err, "let that session end, or end it: SELECT pg_terminate_backend(PID); on the source");
}

bool run_split_plan(Run *run, Arena *arena, Plan *plan, Error *err) {
    PlanSplit split = {
        .size = run->options.split_size, .lanes = run->options.jobs, .cores = (int64_t)sysconf(_SC_NPROCESSORS_ONLN)};

    if (!plan_spares_wal(run->dest, &split.spares_wal, &run->load.no_freeze, err))
        return false;
    plan_split(arena, plan, &split);
    return true;
}

static bool make_plan(Run *run, Error *err) {
    if (!note_tables_of_ledger(run, err))
        return false;
    /* When everything is copied the plan only says what there is: the snapshot is gone by then. */
    if (run->load.copied ? !db_exec(run->source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err)
                         : !snapshot_begin(run->source, &run->snapshot, err))
        return false;
    Shapes shapes = {0};
    bool shaped = run->options.follow && !run->load.copied;
    /* A table that the application holds locked would hold up the sizes of all. */
    bool ok = db_exec(run->source, "SET LOCAL lock_timeout = '30s'", err) &&
              plan_read(run->source, run->arena, filter_table, run, &run->plan, err) &&
              (!shaped || shapes_read(run->source, run->arena, &run->names, 0, &shapes, err));
    db_rollback(run->source);
    if (!ok)
        return err->reason == REASON_LOCK_BUSY && name_locked_tables(run, err);
    return run_split_plan(run, run->arena, &run->plan, err) &&
           plan_settle(run->dest, &run->ledger, run->arena, &run->snapshot, run->options.data_only, &run->plan, err) &&
           plan_check_dest(run->dest, run->arena, &run->plan, err) &&
           (!shaped || shapes_note(run->dest, &run->ledger, &shapes, run->snapshot.id, err));
}

static bool wants_large_objects(const Run *run) {
    return !run->options.schema_only && run->options.tables.len == 0 && run->options.schemas.len == 0;
}

static bool open_pool(Run *run, Error *err) {
    if (run->pool != NULL)
        pool_freep(&run->pool);
    if (!pool_new(&run->lane_source_target, &run->lane_dest_target, (int)run->lanes, run->tracker, &run->pool, err))
        return false;
    run->load.pool = run->pool;
    return true;
}

/* One round under one snapshot. *ret_again: some tables need another. */
static bool load_round(Run *run, bool *ret_again, Error *err) {
    LoadResult result = {.largest_row = run->result.largest_row, .chunks_copied = run->result.chunks_copied};

    run->plan = (Plan){0};
    if (!run->options.schema_only && !make_plan(run, err)) {
        if (err->reason != REASON_SNAPSHOT_LOST)
            return false;
        /* The keeper died since: another snapshot, not another try. */
        (void)snprintf(run->result.reason, sizeof(run->result.reason), "%.250s", err->message);
        *ret_again = true;
        return true;
    }
    run->load.large_objects = wants_large_objects(run) && !run->load.copied;
    run->chunks_kept = MAX(run->chunks_kept, (int64_t)run->plan.chunks_kept - result.chunks_copied);
    bool ok = load_data(&run->load, &result, err);
    run->load.large_objects = wants_large_objects(run); /* a promote compares them, whoever copied them */
    run->result = result;
    *ret_again = !run->load.copied && (result.snapshot_lost || result.tables_void > 0);
    return ok;
}

/* A commit that waits for the disk, on the session that saw the plan read: when it stands, the server did not crash in
 * between, and all that the lanes committed without waiting is durable. Otherwise the step runs again, from what the
 * ledger says. */
static bool make_durable(Run *run, Error *err) {
    return ledger_begin(run->dest, &run->ledger, err) && ledger_commit(run->dest, err);
}

enum { ROUNDS_MAX = 8 };

bool step_load(Run *run, Error *err) {
    bool again = true;
    bool ok = true;

    if (!open_pool(run, err) || !ledger_step_done(run->dest, "copied", &run->load.copied, err))
        return false;
    tracker_phase_begin(run->tracker, PHASE_COPY);
    tracker_phase_begin(run->tracker, PHASE_INDEX);
    for (int round = 1; ok && again; round++) {
        ok = load_round(run, &again, err);
        if (!ok || !again)
            break;
        if (round >= ROUNDS_MAX) {
            ok = error_set(err, REASON_SNAPSHOT_LOST, "no snapshot lasted long enough in %d rounds: %s", ROUNDS_MAX,
                           run->result.reason);
            err->retryable = false;
            break;
        }
        run_event(run, "warning", "%s; what is not finished is copied under a new snapshot", run->result.reason);
        ok = snapshot_release(run->source, &run->snapshot, err) && take_snapshot(run, err);
    }
    ok = ok && make_durable(run, err);
    tracker_phase_end(run->tracker, PHASE_COPY);
    tracker_phase_end(run->tracker, PHASE_INDEX);
    for (size_t i = 0; ok && i < run->plan.notes.len; i++)
        vec_push(run->arena, &run->notes, run->plan.notes.items[i]);
    return ok;
}
