/*
 * A promote from the worker's side: the request, what the engine needs for it, what the control plane is told, and the
 * closing afterwards.
 *
 * NOTES: where a killed run goes on (step_recover), and this one after a promote whose way back failed, each time
 * before it follows (run_settle_promote)
 * - The ledger has the step "opened": the destination is the database. What is left is closing: the source's slot,
 *   publications and triggers, then the ledger.
 * - It has not: whatever a promote did to the source is undone, and the source is followed again.
 * - Either way the hook that is due runs: what hooks there are was written down before the first one ran, and what
 *   their commands are, on the machine where they were given.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ledger/journal.h"
#include "pg/quote.h"
#include "worker/run.h"

#include <string.h>

#define SETTLE_US (5 * USEC_PER_SEC)

/* ---- The request ---- */

/* The promote's own settings come with the request, everything else is the run's. */
static void copy_settings(const MigrateOptions *asked, Arena *arena, MigrateOptions *options) {
    options->fence = arena_strdup(arena, asked->fence);
    options->fence_timeout = asked->fence_timeout;
    options->lag_limit = asked->lag_limit;
    options->lag_timeout = asked->lag_timeout;
    options->recopy_limit = asked->recopy_limit;
    options->accept_ddl = asked->accept_ddl;
    options->hook_before = asked->hook_before == NULL ? NULL : arena_strdup(arena, asked->hook_before);
    options->hook_after = asked->hook_after == NULL ? NULL : arena_strdup(arena, asked->hook_after);
    options->hook_undo = asked->hook_undo == NULL ? NULL : arena_strdup(arena, asked->hook_undo);
    options->keep_slot = asked->keep_slot;
    options->dry_run = asked->dry_run;
}

static bool renew_stop(Run *run, Error *err) {
    stop_fini(&run->request.called_off);
    if (!stop_init(&run->request.called_off, err))
        return false;
    return !stop_requested(&run->stop) || error_set(err, REASON_CANCELLED, "stopped");
}

/* Under one lock with run_call_off(): what comes before it finds the request waiting and takes it away, what comes
 * after it stops the promote. */
static bool take_request(Run *run, MigrateOptions *ret_options, bool *ret_wanted, Error *err) {
    (void)pthread_mutex_lock(&run->request.lock);
    bool pending = run->request.pending;
    bool ok = renew_stop(run, err);

    *ret_options = run->options;
    run->promote_asked = pending;
    run->promote_no = pending ? run->request.no : 0;
    *ret_wanted = pending || strcmp(run->options.promote, "auto") == 0;
    if (pending)
        copy_settings(&run->request.options, run->arena, ret_options);
    run->request.pending = false;
    (void)pthread_mutex_unlock(&run->request.lock);
    return ok;
}

bool run_call_off(Run *run) {
    (void)pthread_mutex_lock(&run->request.lock);
    bool waited = run->request.pending;
    run->request.pending = false;
    stop_request(&run->request.called_off);
    (void)pthread_mutex_unlock(&run->request.lock);
    return waited;
}

static void keep_request(Run *run, const json_t *body) {
    MigrateOptions options;
    Error err;

    (void)pthread_mutex_lock(&run->request.lock);
    Arena *arena = run->request.arena == NULL ? (run->request.arena = arena_new()) : run->request.arena;
    bool ok = options_from_json(arena, json_get_object(body, "options"), &options, &err);
    if (ok) {
        run->request.options = options;
        run->request.no = json_get_int(body, "no", 0);
        run->request.pending = true;
    }
    (void)pthread_mutex_unlock(&run->request.lock);
    if (!ok)
        run_event(run, "warning", "a request to promote could not be read: %s", err.message);
}

/* ---- What is told ---- */

typedef struct Telling {
    Run *run;
    const PromoteSubject *subject;
} Telling;

static void on_event(void *context, const char *level, const char *text) {
    const Telling *telling = context;

    run_event(telling->run, level, "%s", text);
}

/* At once: many a step is over before the next picture's turn. */
static void on_step(void *context, PromoteStep step) {
    const Telling *telling = context;

    tracker_set_promote_step(telling->run->tracker, promote_step_help(step));
    run_send_progress(telling->run);
}

static void on_opened(void *context) {
    const Telling *telling = context;

    run_release_guard(telling->run); /* first: nobody gets in before */
    telling->subject->opened(telling->subject->context);
}

static json_t *steps_to_json(const PromoteResult *result) {
    json_t *steps = json_array();

    for (int i = 0; i < PROMOTE_STEP_MAX_; i++)
        if (result->step_us[i] > 0)
            (void)json_array_append_new(steps, json_pack("{s:s, s:I}", "name", promote_step_help((PromoteStep)i), "us",
                                                         (json_int_t)result->step_us[i]));
    return steps;
}

/* no: of the request that this is the answer to, 0 = it began by itself. */
static bool tell_promoted(Run *run, int64_t no, const PromoteResult *result, bool dry_run, const Error *failure,
                          Error *err) {
    json_t *notes = json_array();

    for (size_t i = 0; i < result->notes.len; i++)
        (void)json_array_append_new(notes, json_string_lossy(result->notes.items[i]));
    json_t *body = json_pack("{s:b, s:b, s:o, s:b, s:b, s:I, s:I, s:o, s:o, s:o, s:I, s:I, s:I}", "ok", failure == NULL,
                             "dry_run", dry_run, "error", failure == NULL ? json_null() : wire_error_to_json(failure),
                             "opened", result->opened, "proven", result->proven, "outage_us",
                             (json_int_t)result->outage_us, "outage_with_hooks_us",
                             (json_int_t)result->outage_with_hooks_us, "steps", steps_to_json(result), "notes", notes,
                             "marker", json_string(result->marker == 0 ? "" : lsn_format(run->arena, result->marker)),
                             "sequences", (json_int_t)result->sequences, "large_objects",
                             (json_int_t)result->large_objects, "tables_copied", (json_int_t)result->tables_copied);
    (void)json_object_set_new(body, "no", json_integer(no));
    return run_send(run, WIRE_PROMOTED, body, err);
}

/* One that still waits for its turn, such as for a server that is away, is over with that. */
void run_request_promote(Run *run, const json_t *body) {
    Error err;

    if (!json_get_bool(body, "cancel", false)) {
        keep_request(run, body);
        return;
    }
    if (!run_call_off(run))
        return;
    error_set(&err, REASON_CANCELLED, "the promote was called off before it began");
    if (!tell_promoted(run, run->request.no, &(PromoteResult){0}, false, &err, &err))
        log_error_value(LOG_WARNING, &err);
}

/* ---- The promote ---- */

/* The engine's stop is the request's own: calling a promote off does not end the run. Ending the run calls it off. */
static bool run_engine(Run *run, const MigrateOptions *options, const PromoteSubject *subject, PromoteResult *result,
                       Error *err) {
    Telling telling = {.run = run, .subject = subject};
    const PromoteParams params = {
        .options = options,
        .load = &run->load,
        .source = run->source,
        .dest = run->dest,
        .source_target = &run->source_target,
        .dest_target = &run->dest_target,
        .job_id = run->identity.job_id,
        .folder = run->state_dir,
        .names = run->names,
        .published = run->published,
        .follow = subject->follow,
        .tables = subject->tables,
        .tables_count = subject->count,
        .pg_dump = run->pg_dump.path,
        .is_own = run_is_own_entry,
        .not_moved = &run->not_moved,
        .drift = run_drift_params(run, run->arena),
        .stop = &run->request.called_off,
        .event = on_event,
        .step = on_step,
        .opened = on_opened,
        .context = &telling,
    };

    return promote_run(&params, run->arena, result, err);
}

/* Whether the slot is to stay was said to the promote, perhaps not to the run that closes it. */
static bool read_opened(Run *run, PromoteResult *result, Error *err) {
    bool keep_slot = false;

    if (!ledger_step_done(run->dest, PROMOTE_STEP_OPENED, &result->opened, err) ||
        !ledger_step_done(run->dest, PROMOTE_STEP_PROVEN, &result->proven, err) ||
        !ledger_step_done(run->dest, PROMOTE_STEP_KEEP_SLOT, &keep_slot, err))
        return false;
    run->options.keep_slot |= keep_slot;
    return true;
}

/* A session whose COMMIT of OPEN is under way still shares the job's row: what it does is waited for. */
static bool wait_for_open(Run *run, Error *err) {
    if (!run->promote_unsettled ||
        db_exec(run->dest, "BEGIN; SET LOCAL lock_timeout = '30s'; SELECT 1 FROM pgcrane.job FOR UPDATE; COMMIT", err))
        return true;
    db_rollback(run->dest);
    return error_wrap(err, "asking whether the destination was opened");
}

/* As on_event(), of what is done afterwards: what is to be done by hand stands in the report, too. */
static void on_event_afterwards(void *context, const char *level, const char *text) {
    Run *run = context;

    run_event(run, level, "%s", text);
    if (strcmp(level, "error") == 0)
        vec_push(run->arena, &run->notes, arena_strdup(run->arena, text));
}

/* As the promote itself would have said it, which did not live to its end. */
static bool note_read_only(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source,
                  "SELECT 1 FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = 0 AND s.setdatabase ="
                  " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
                  " AND 'default_transaction_read_only=on' = ANY (s.setconfig)",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the source database's settings");
    if (db_rows(row) > 0)
        vec_push(run->arena, &run->notes,
                 arena_printf(run->arena, "the source is read-only; to write to it again: " PROMOTE_WRITABLE_SQL,
                              sql_ident(run->arena, db_name(run->source))));
    return true;
}

/* The source's hook and its clearing up are nobody's any more. */
bool run_close_dest(Run *run, bool *ret_opened, Error *err) {
    run->promote_unsettled = true;
    if (!wait_for_open(run, err) || !read_opened(run, &run->promoted, err))
        return false;
    run->promote_unsettled = false;
    *ret_opened = run->promoted.opened;
    return !*ret_opened ||
           promote_finish_keys(run->dest, &run->ledger, run->arena, &run->not_moved, on_event_afterwards, run, err);
}

bool run_settle_promote(Run *run, Error *err) {
    StringVec left = {0};
    bool undone = false;

    if (!wait_for_open(run, err) || !read_opened(run, &run->promoted, err))
        return false;
    run->opened = run->promoted.opened;
    if (!run->opened && !promote_undo(run->source, run->dest, &run->ledger, run->arena, &undone, &left, err))
        return false;
    if (run->opened)
        run_event(run, "info", "the destination is open already: closing what is left");
    if (undone)
        run_event(run, "warning", "an interrupted promote was undone: the source is writable again");
    for (size_t i = 0; i < left.len; i++)
        on_event_afterwards(run, "error", left.items[i]);
    const LeftHooks hooks = {
        .folder = run->state_dir, .told = &run->hook_told, .event = on_event_afterwards, .context = run};
    if (!promote_run_left_hook(run->dest, &run->ledger, run->opened, &hooks, err) ||
        (run->opened && !note_read_only(run, err)))
        return false;
    run->promote_unsettled = false;
    return true;
}

bool run_remedy_unsettled(const Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return error_remedy(
        err,
        "run the same command again: when both servers answer, it makes the source writable again, or"
        " goes on at the destination when that was opened; by hand, unless that was opened: " PROMOTE_WRITABLE_SQL,
        sql_ident(arena, run->identity.source_database));
}

/* Once, and not for long: following settles what is left, before it begins again. */
static void try_to_settle(Run *run, const PromoteSubject *subject, PromoteResult *result, Error *failure) {
    Error trouble = {0};

    run->promote_unsettled = true;
    subject->unsettled(subject->context);
    if (!run_reconnect_within(run, SETTLE_US, &trouble) || !run_settle_promote(run, &trouble)) {
        log_error_value(LOG_WARNING, &trouble);
        return;
    }
    result->opened = run->promoted.opened;
    result->proven = run->promoted.proven;
    if (result->opened)
        subject->opened(subject->context);
    else
        error_set(failure, REASON_PROMOTE_UNDONE, "%s", result->cause);
}

/* What it says is for the one who asked; whether it is followed on, is for the caller. */
static bool tell_end(Run *run, const PromoteResult *result, const MigrateOptions *options, bool ok,
                     const Error *failure, Error *err) {
    run->opened = result->opened;
    run->promoted = *result;
    if (result->opened)
        run->options.keep_slot = options->keep_slot;
    run->promote_refused = !ok && !result->opened;
    run->refusal = *failure;
    if (!tell_promoted(run, run->promote_no, result, options->dry_run, ok || result->opened ? NULL : failure, err))
        return false;
    return !stop_requested(&run->stop) || result->opened || error_set(err, REASON_CANCELLED, "stopped");
}

bool run_promote(Run *run, const PromoteSubject *subject, bool *ret_opened, Error *err) {
    PromoteResult result = {0};
    MigrateOptions options;
    Error failure = {0};
    bool wanted = false;

    if (!take_request(run, &options, &wanted, err))
        return false;
    *ret_opened = false;
    run->promote_refused = false;
    if (!wanted) /* called off in between */
        return true;
    tracker_phase_begin(run->tracker, PHASE_PROMOTE);
    bool ok = run_engine(run, &options, subject, &result, &failure);
    tracker_set_promote_step(run->tracker, "");
    tracker_phase_end(run->tracker, PHASE_PROMOTE);
    if (result.unsettled)
        try_to_settle(run, subject, &result, &failure);
    *ret_opened = result.opened;
    return tell_end(run, &result, &options, ok, &failure, err);
}

/* ---- Around it ---- */

/* The journal's line of the fence: what was to be set back stays as it is once the destination is open. */
static bool forget_fence(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec lines = {0};

    if (!journal_names(run->dest, arena, JOURNAL_FENCE, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++)
        if (!journal_forget(run->dest, &run->ledger, JOURNAL_FENCE, lines.items[i], err))
            return false;
    return true;
}

bool step_recover(Run *run, Error *err) {
    run->names = seam_names(run->arena, run->identity.job_id);
    return run_settle_promote(run, err);
}

static bool clear_source(Run *run, Error *err) {
    if (run->options.keep_slot) {
        vec_push(run->arena, &run->notes,
                 arena_printf(run->arena,
                              "--keep-slot: on the source, slot %s and publications %s and %s are left; the slot holds"
                              " WAL until SELECT pg_drop_replication_slot('%s');%s",
                              run->names.slot, run->names.publication_all, run->names.publication_keys, run->names.slot,
                              run->options.identity_full ? " replica identities that --identity-full had set are set"
                                                           " back, and updates of those tables are not published"
                                                         : ""));
        return run_keep_slot_only(run, err);
    }
    return run_remove_from_source(run, err) || error_wrap(err, "the destination is open; clearing up the source");
}

/* The destination may be another server by now: a standby that was failed over to, without the last commits. */
static bool check_still_opened(Run *run, Error *err) {
    bool opened = false;

    if (!ledger_step_done(run->dest, PROMOTE_STEP_OPENED, &opened, err))
        return false;
    if (opened)
        return true;
    error_set(
        err, REASON_LEDGER_MISMATCH,
        "the destination was opened, and does not know of it any more: a fail-over lost that, or it was restored");
    return error_remedy(err, "nothing was removed from the source; run the same command again: it makes the source"
                             " writable and follows it as before, then promote again");
}

/* The slot and all else on the source go before the ledger, which names them, and before what takes long. */
bool step_close_source(Run *run, Error *err) {
    bool gone = false;

    watch_end(run);
    if (!run_ledger_is_gone(run, &gone, err) || gone)
        return gone;
    if (!check_still_opened(run, err))
        return false;
    run_release_guard(run); /* of a promote that was killed behind OPEN */
    return forget_fence(run, err) && run_wait_for_standbys(run, err) && failpoint("close.before_remove", err) &&
           clear_source(run, err) &&
           promote_finish_keys(run->dest, &run->ledger, run->arena, &run->not_moved, on_event_afterwards, run, err);
}
