/*
 * After the data: foreign keys, triggers, grants, sequences, refresh, statistics, and the end of the ledger.
 *
 * NOTES: the last transaction
 * Event triggers (they would fire on our own DDL), publications and subscriptions come last, in one transaction with
 * the end of the ledger. The report is written to the state folder before it. So the next run of the same command finds
 * either a ledger (and goes on), or no ledger and a report (and says that it is done); a crash between the two at most
 * writes the report again.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "common/log.h"
#include "engine/finish/finish.h"
#include "engine/seam/identity_full.h"
#include "worker/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static RestorePass pass_of(const LoadParams *params, size_t entry) {
    return restore_pass(params->toc, &params->toc->entries[entry], &params->restore);
}

static bool is_index_attach(const LoadParams *params, size_t entry) {
    return strcmp(params->toc->entries[entry].desc, "INDEX ATTACH") == 0;
}

/* Tables that show different moments agree when the stream has brought all of them to the same one. */
static bool catch_up(Run *run, Error *err) {
    Lsn until = 0;

    return !run->options.follow ||
           (run_needs_catching_up(run, &until, err) && (until == 0 || run_follow_until(run, until, err)));
}

bool step_foreign_keys(Run *run, Error *err) {
    if (run->options.follow && !run->replica_role) {
        tracker_phase_skip(run->tracker, PHASE_FOREIGN_KEY); /* they would judge the order of changes: at the promote */
        return serial_run(&run->load, run->dest, is_index_attach, PHASE_FOREIGN_KEY, &run->not_moved, run->arena, err);
    }
    if (!catch_up(run, err))
        return false;
    tracker_phase_begin(run->tracker, PHASE_FOREIGN_KEY);
    /* A key of a partitioned table is valid, and can be referenced, once its partitions' indexes are attached. */
    bool ok = serial_run(&run->load, run->dest, is_index_attach, PHASE_FOREIGN_KEY, &run->not_moved, run->arena, err) &&
              load_foreign_keys(&run->load, run->dest, run->arena, err);
    tracker_phase_end(run->tracker, PHASE_FOREIGN_KEY);
    return ok;
}

/* Also what load_data() left: indexes that depend on something of this pass. */
static bool is_post_data_pass(const LoadParams *params, size_t entry) {
    return pass_of(params, entry) == RESTORE_POST_DATA || pass_of(params, entry) == RESTORE_PARALLEL;
}

static bool is_early_post_data(const LoadParams *params, size_t entry) {
    return is_post_data_pass(params, entry) && !run_is_deferred(params, entry);
}

bool step_post_data(Run *run, Error *err) {
    tracker_phase_begin(run->tracker, PHASE_FINISH);
    bool ok = serial_run(&run->load, run->dest, run->options.follow ? is_early_post_data : is_post_data_pass,
                         PHASE_FINISH, &run->not_moved, run->arena, err) &&
              (!run->options.follow || seam_identity_full_copies(run->dest, &run->ledger, err));
    tracker_phase_end(run->tracker, PHASE_FINISH);
    return ok;
}

bool step_sequences(Run *run, Error *err) {
    StringVec missing = {0};

    if (run->options.schema_only)
        return true;
    tracker_phase_begin(run->tracker, PHASE_FINISH);
    bool ok = finish_sequences(&run->load, run->source, run->dest, run->arena, &missing, err);
    tracker_phase_end(run->tracker, PHASE_FINISH);
    for (size_t i = 0; ok && i < missing.len; i++) {
        NotMoved item = {.kind = "value of sequence",
                         .object = missing.items[i],
                         .reason = "the destination has no sequence of that name"};

        vec_push(run->arena, &run->not_moved, item);
    }
    return ok;
}

static bool is_acl(const LoadParams *params, size_t entry) {
    return pass_of(params, entry) == RESTORE_ACL;
}

static bool is_refresh(const LoadParams *params, size_t entry) {
    return strcmp(params->toc->entries[entry].desc, "MATERIALIZED VIEW DATA") == 0;
}

static bool refresh_views(Run *run, Error *err) {
    ViewSettings settings = {0};
    Error ignored;

    if (!finish_view_settings(run->source, run->dest, &settings, err))
        return false;
    if (serial_run(&run->load, run->dest, is_refresh, PHASE_FINISH, &run->not_moved, run->arena, err))
        return finish_view_settings_back(run->dest, &settings, err);
    if (!finish_view_settings_back(run->dest, &settings, &ignored))
        log_error_value(LOG_WARNING, &ignored);
    return false;
}

/* Grants come before REFRESH: a materialized view is refreshed as its owner, who may need them. */
bool step_refresh(Run *run, Error *err) {
    tracker_phase_begin(run->tracker, PHASE_FINISH);
    bool ok = failpoint("acl.before", err) &&
              serial_run(&run->load, run->dest, is_acl, PHASE_FINISH, &run->not_moved, run->arena, err) &&
              /* A migration that is followed fills its views at the promote. */
              (run->options.schema_only || run->options.data_only || run->options.follow || refresh_views(run, err)) &&
              (run->options.data_only ||
               finish_database(&run->load, run->source, run->dest, false, &run->not_moved, run->arena, err));
    tracker_phase_end(run->tracker, PHASE_FINISH);
    return ok;
}

bool step_analyze(Run *run, Error *err) {
    if (run->options.schema_only || (run->options.no_analyze && !run->options.vacuum)) {
        tracker_phase_skip(run->tracker, PHASE_ANALYZE);
        return true;
    }
    tracker_phase_begin(run->tracker, PHASE_ANALYZE);
    bool ok = load_analyze(&run->load, run->dest, run->arena, run->options.vacuum, &run->not_moved, err);
    tracker_phase_end(run->tracker, PHASE_ANALYZE);
    return ok;
}

/* Behind the promote, which fills the materialized views: no write waits for this. */
bool step_statistics(Run *run, Error *err) {
    size_t before = run->not_moved.len;
    bool gone = false;

    if (run->options.no_analyze)
        return true;
    if (!run_ledger_is_gone(run, &gone, err))
        return false;
    if (gone || load_analyze_late(run->dest, run->arena, &run->not_moved, err))
        return true;
    run->not_moved.len = before; /* the next attempt lists it again */
    return false;
}

static bool is_last(const LoadParams *params, size_t entry) {
    return pass_of(params, entry) == RESTORE_LAST && !is_refresh(params, entry);
}

static bool count_snapshots(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->dest, "SELECT pg_catalog.count(DISTINCT snapshot) FROM pgcrane.relation WHERE snapshot <> 0", 0,
                  NULL, &row, err))
        return error_wrap(err, "counting snapshots");
    run->snapshots_used = db_int64(row, 0, 0);
    return true;
}

static bool end_ledger(Run *run, Error *err) {
    if (!ledger_begin(run->dest, &run->ledger, err))
        return false;
    /* A promote has run the last entries when it opened the destination. */
    if (ledger_drop(run->dest, err) &&
        (run->opened || serial_run_in_transaction(&run->load, run->dest, is_last, &run->not_moved, run->arena, err)) &&
        failpoint("finish.before_commit", err) && ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return load_refused_definition(err);
}

/* A COMMIT whose reply was lost: the next attempt finds no ledger. */
bool run_ledger_is_gone(Run *run, bool *ret_gone, Error *err) {
    LedgerIdentity found;
    bool exists = false;

    if (!ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    *ret_gone = !exists;
    return true;
}

/* Of a promote the note is its own. */
static bool note_read_only(Run *run, Error *err) {
    const char *note = NULL;

    if (run->opened)
        return true;
    if (!finish_read_only_note(run->dest, run->arena, &note, err))
        return false;
    if (note != NULL)
        vec_push(run->arena, &run->notes, note);
    return true;
}

/* Both remedies of pgcrane that disable one end with the migration, and nothing else reminds of that. */
static bool note_event_triggers(Run *run, Error *err) {
    const char *note = NULL;

    if (!finish_event_triggers_note(run->dest, run->arena, &note, err))
        return false;
    if (note != NULL)
        vec_push(run->arena, &run->notes, note);
    return true;
}

/* Here, and not when the definitions are made: the run that ends what another began has this step, too. A source that
 * was shut down behind the promote, or a catalogue that the server cannot read, is no reason not to end. */
static bool note_extension_members(Run *run, Error *err) {
    const MembersParams params = {.wanted = run_wanted, .context = run, .filtered = run_is_filtered(run)};

    if (run->members_compared)
        return true;
    if (!finish_extension_members(run->source, run->dest, &params, run->arena, &run->not_moved, err)) {
        if (err->retryable && !run->opened)
            return false;
        if (db_is_broken(run->dest) || stop_requested(&run->stop))
            return false;
        vec_push(run->arena, &run->notes,
                 arena_printf(run->arena, "whether all that extensions own has moved is not known: %s", err->message));
    }
    run->members_compared = true;
    return true;
}

bool step_finish(Run *run, Error *err) {
    bool gone = false;

    if (!run_ledger_is_gone(run, &gone, err))
        return false;
    if (!gone && (!note_extension_members(run, err) || !count_snapshots(run, err) || !run_report(run, err) ||
                  !failpoint("finish.before_drop", err) || !end_ledger(run, err)))
        return false;
    run->has_ledger = false;
    return note_read_only(run, err) && note_event_triggers(run, err) && run_report(run, err);
}

/* ---- Report ---- */

static void add_notes(Run *run, Report *report) {
    for (size_t i = 0; i < run->notes.len; i++)
        vec_push(run->arena, &report->notes, run->notes.items[i]);
    if (run->snapshots_used > 1 && !run->options.follow)
        vec_push(
            run->arena, &report->notes,
            arena_printf(run->arena,
                         "tables show %lld different moments of the source, because a snapshot was lost on the way;"
                         " if the source was written to meanwhile, use --restart for one consistent picture",
                         (long long)run->snapshots_used));
    if (!run->options.vacuum && !run->options.schema_only)
        vec_push(run->arena, &report->notes,
                 "tables are analyzed, not vacuumed: autovacuum sets their visibility maps later (or use --vacuum)");
}

static void add_promote(const Run *run, Report *report) {
    const PromoteResult *result = &run->promoted;

    if (!run->opened)
        return;
    report->promoted = true;
    report->proven = result->proven;
    report->outage_us = result->outage_us;
    report->outage_with_hooks_us = result->outage_with_hooks_us;
    for (size_t i = 0; i < result->notes.len; i++)
        vec_push(run->arena, &report->notes, result->notes.items[i]);
    for (int i = 0; i < PROMOTE_STEP_MAX_; i++) {
        ReportStep step = {.name = promote_step_help((PromoteStep)i), .us = result->step_us[i]};

        if (step.us > 0)
            vec_push(run->arena, &report->promote_steps, step);
    }
}

/* 150020 = "15.20" */
static const char *version_text(Arena *arena, int version) {
    return arena_printf(arena, "%d.%d", version / 10000, version % 10000);
}

/* A run that died just before its end has left one, and so has an earlier migration. Without a ledger beside it, it
 * would say that all is done. */
bool run_remove_report(const Run *run, Error *err) {
    const char *path = arena_printf(run->arena, "%s/report.json", run->state_dir);

    return unlink(path) == 0 || errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot remove %s", path);
}

/* -1: it cannot be asked any more, which is no reason to fail at the end. */
static int64_t database_bytes(DbConn *conn) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Error why;

    if (db_query(conn, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())", 0, NULL, &row, &why))
        return db_int64(row, 0, 0);
    log_error_value(LOG_WARNING, &why);
    return -1;
}

bool run_report(Run *run, Error *err) {
    CLEANUP(buf_fini) Buf text;
    Report report = {
        .job_id = run->identity.job_id,
        .source = run->source_display,
        .dest = run->dest_display,
        .source_version = version_text(run->arena, db_version(run->source)),
        .dest_version = version_text(run->arena, db_version(run->dest)),
        .pg_dump = run->pg_dump.path == NULL
                       ? ""
                       : arena_printf(run->arena, "%s (%s)", run->pg_dump.path, run->pg_dump.version),
        .jobs = run->options.jobs,
        .index_jobs = run->options.index_jobs,
        .snapshots = run->snapshots_used,
        .chunks_copied = run->result.chunks_copied,
        .chunks_kept = run->chunks_kept,
        .retries = tracker_retries(run->tracker),
        .largest_row = run->result.largest_row,
        .not_moved = run->not_moved,
        .source_bytes = database_bytes(run->source),
        .dest_bytes = database_bytes(run->dest),
    };

    add_notes(run, &report);
    add_promote(run, &report);
    tracker_read(run->tracker, run->arena, &report.progress);
    json_t *json = report_to_json(&report);
    buf_init(&text, (size_t)64 << 20);
    json_print(json, 2, &text);
    const char *path = arena_printf(run->arena, "%s/report.json", run->state_dir);
    bool ok = buf_ok(&text, "the report", err) && fd_write_file(path, text.data, text.len, 0600, err);
    if (!ok || run->has_ledger) {
        json_decref(json);
        return ok;
    }
    run->report = json;
    return true;
}
