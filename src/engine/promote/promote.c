/*
 * Promote: the walk through its steps, and the way back.
 *
 * NOTES: who holds what, and what a crash finds
 *
 *                       source                               destination              ledger and journal
 *   LAG, PREPARE        written to                           follows                  -
 *   HOOK_BEFORE         perhaps paused by the hook           follows                  -
 *   FENCE               [setting on] sessions ended,         follows                  fence: "what to set back"
 *                       all tables locked EXCLUSIVE by                                (written before the setting)
 *                       the fence's session
 *   FENCE, end          marker: a flushed commit             follows                  -
 *   DRAIN               locked                               has the marker           position >= marker
 *   COPY_REST ... PROOF locked                               complete                 -
 *   OPEN                locked                               COMMIT: is the database  step "opened", fence line gone
 *   after               locks go, setting stays              the application's        -
 *
 * The locks are the fence: a session that had the tables open cannot keep them, one that turns the setting off cannot
 * write, and what was committed before them (a transaction keeps its locks until its commit record is written and it is
 * taken off the list of running ones) lies before the marker in WAL. The marker's commit is flushed, and flushes what
 * was committed asynchronously before it. The setting and the end of sessions are for the application: it fails at once
 * instead of waiting, and stays out when the locks are gone.
 *
 * What the locks do not cover is looked at by itself: transactions that only wrote large objects (their end is waited
 * for, the objects are compared), prepared transactions (refused), sequences (read after all sessions are gone, and
 * once more before OPEN's COMMIT), tables that are made meanwhile (fence.c). That the locks are still held is asked
 * before and after OPEN's COMMIT (open.c).
 *
 * Crash of this process, at any point:
 *   before the journal's line     nothing was done on the source but by the hook
 *   line there, "opened" not      the locks went with our session; the setting may be on. promote_undo() sets back what
 *                                 the line says, whether or not the setting was ever changed, and forgets the line
 *   "opened"                      the line went in the same transaction: the setting is never taken back. The locks
 *                                 went with our session; with the setting on, the application stays out
 *   COMMIT of OPEN under way      the next run takes the ledger over, which waits for that transaction; then one of the
 *                                 two above is true
 *
 * A COMMIT whose reply is lost while we live: a new connection asks, and waits for the old session's end by the lock
 * that every writing transaction holds on the job's row. Until it is known the locks stay. When it cannot be known (the
 * destination stays away), we give up with the locks gone and the setting on; whoever starts following next finds out.
 *
 * Crash of the source: the locks are gone, the setting is not. Crash of the destination before OPEN: its transaction is
 * gone. Either way the step under way fails, and the way back is promote_undo(), on the control connections, or on new
 * ones where these are broken (an application that connects again and again may leave no place for new ones). They have
 * no stop flag then: the way back is walked to its end even when the user wants to stop. A server that stays away
 * longer than that is waited for by the caller, who follows nothing before (`unsettled`).
 *
 * Hooks. That both later ones are due is in the ledger before the first one runs, whatever becomes of this process: who
 * finds the promote interrupted runs the one that is due, if the machine has its command (hooks.c).
 *
 * Two runs. The setting is changed, in either direction, only while the job's row of the ledger is shared with our
 * epoch, which makes a run that takes over wait. So a run that was taken over never takes back the other's fence. A
 * fence's session that survived its worker (a cut network) holds its locks until keepalives end it, or promote_undo().
 *
 * With `--fence locks` there is no setting: writers wait for the locks, and go on on the source when they are released,
 * also after OPEN. With `--fence none` nothing holds anybody; such a promote is never called proven.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

static const char *const step_helps[PROMOTE_STEP_MAX_] = {
#define X(name, help) [PROMOTE_##name] = help,
    PROMOTE_STEPS(X)
#undef X
};
static const char *const step_names[PROMOTE_STEP_MAX_] = {
#define X(name, help) [PROMOTE_##name] = #name,
    PROMOTE_STEPS(X)
#undef X
};

/* Undo finds a way as long as the servers come back within this. */
#define UNDO_PATIENCE_US (30 * USEC_PER_SEC)
#define UNDO_LIVE_US (12 * USEC_PER_SEC) /* on the control connections, which may be silent */

const char *promote_step_name(PromoteStep step) {
    return step < PROMOTE_STEP_MAX_ ? step_names[step] : "?";
}

const char *promote_step_help(PromoteStep step) {
    return step < PROMOTE_STEP_MAX_ ? step_helps[step] : "?";
}

void promote_event(const Promote *promote, const char *level, const char *format, ...) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    va_list args;

    va_start(args, format);
    const char *text = arena_vprintf(arena, format, args);
    va_end(args);
    log_info("promote %s: %s", level, text);
    if (promote->params->event != NULL)
        promote->params->event(promote->params->context, level, text);
}

void promote_note(Promote *promote, const char *format, ...) {
    va_list args;

    va_start(args, format);
    const char *text = arena_vprintf(promote->arena, format, args);
    va_end(args);
    vec_push(promote->arena, &promote->result.notes, text);
}

bool promote_refuse(const Promote *promote, const char *what, const StringVec *problems, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, (size_t)1 << 20);
    if (problems->len == 0)
        return true;
    for (size_t i = 0; i < problems->len; i++) {
        promote_event(promote, "error", "%s", problems->items[i]);
        buf_printf(&text, "%s%s", i == 0 ? "" : "; ", problems->items[i]);
    }
    error_set(err, REASON_PROMOTE_REFUSED, "%s: %zu %s: %s", what, problems->len,
              problems->len == 1 ? "problem" : "problems", text.data);
    return error_remedy(err, "the source is written to and followed as before: mend what is named, then promote again");
}

/* ---- The steps ---- */

/* Also when there is no hook before: the one after runs all the same. */
static bool run_hook_before(Promote *promote, Error *err) {
    const MigrateOptions *options = promote->params->options;

    if (!promote_remember_hooks(promote, err))
        return false;
    if (options->hook_before == NULL)
        return true;
    promote->hook_before_ran = true;
    promote->hooks_from_us = clock_now_us();
    return promote_hook(promote, options->hook_before, "before", promote->params->stop, err) &&
           failpoint("promote.after_hook_before", err);
}

/* Too late for a way back: its failure is told as loudly as can be. */
static bool run_hook_after(Promote *promote, Error *err) {
    const MigrateOptions *options = promote->params->options;

    if (options->hook_after == NULL)
        return true;
    if (!failpoint("promote.before_hook_after", err) ||
        !promote_hook(promote, options->hook_after, "after", NULL, err)) {
        promote_event(promote, "error", "the destination is open, but the hook after it failed: %s", err->message);
        promote_note(promote, "the hook after the promote failed, run it by hand: %s (%s)", options->hook_after,
                     err->message);
    }
    promote_forget_hooks(promote);
    return true;
}

/* What an application that the hooks stop and let go has seen of it. */
static void measure_with_hooks(Promote *promote) {
    const MigrateOptions *options = promote->params->options;
    int64_t without = promote->result.outage_us;
    int64_t before = promote->hooks_from_us == 0 ? 0 : promote->outage_from_us - promote->hooks_from_us;

    if (options->hook_before != NULL || options->hook_after != NULL)
        promote->result.outage_with_hooks_us =
            MAX(before, 0) + without +
            (options->hook_after != NULL ? clock_now_us() - promote->outage_from_us - without : 0);
}

static bool (*const step_runs[PROMOTE_STEP_MAX_])(Promote *, Error *) = {
    [PROMOTE_LAG] = promote_wait_lag,    [PROMOTE_PREPARE] = promote_prepare, [PROMOTE_HOOK_BEFORE] = run_hook_before,
    [PROMOTE_FENCE] = promote_fence,     [PROMOTE_DRAIN] = promote_drain,     [PROMOTE_COPY_REST] = promote_copy_rest,
    [PROMOTE_COMPARE] = promote_compare, [PROMOTE_PROOF] = promote_prove,     [PROMOTE_HOOK_AFTER] = run_hook_after,
};

/* ---- Who may interrupt ---- */

/* The control connections are the run's; for the time of a promote they end where it is called off, or a long statement
 * (hashing a table, REFRESH, checking a foreign key) would be waited for first. */
static void lend_stop(Promote *promote) {
    promote->source_stop = db_stop(promote->params->source);
    promote->dest_stop = db_stop(promote->params->dest);
    db_set_stop(promote->params->source, promote->params->stop);
    db_set_stop(promote->params->dest, promote->params->stop);
}

static void give_stop_back(const Promote *promote) {
    db_set_stop(promote->params->source, promote->source_stop);
    db_set_stop(promote->params->dest, promote->dest_stop);
}

void promote_uninterrupted(const Promote *promote) {
    db_set_stop(promote->params->source, NULL);
    db_set_stop(promote->params->dest, NULL);
    if (promote->fence != NULL)
        db_set_stop(promote->fence, NULL);
}

/* With the application shut out, those who wait for our locks need not be waited for. */
static bool begin_fenced(Promote *promote, PromoteStep step, Error *err) {
    if (step <= PROMOTE_FENCE || step > PROMOTE_OPEN)
        return true;
    promote_end_waiting(promote);
    return promote_limit(promote, err);
}

static bool has_work(const Promote *promote, PromoteStep step) {
    const MigrateOptions *options = promote->params->options;

    return (step != PROMOTE_HOOK_BEFORE || options->hook_before != NULL) &&
           (step != PROMOTE_HOOK_AFTER || options->hook_after != NULL);
}

static bool run_step(Promote *promote, PromoteStep step, bool *ret_known, Error *err) {
    const Stop *stop = promote->params->stop;
    int64_t begun = clock_now_us();

    promote->step = step;
    if (promote->params->step != NULL && has_work(promote, step))
        promote->params->step(promote->params->context, step);
    if (step <= PROMOTE_OPEN && stop != NULL && stop_requested(stop))
        return error_set(err, REASON_CANCELLED, "stopped");
    log_info("promote step=%s", promote_step_name(step));
    bool ok = begin_fenced(promote, step, err) &&
              (step == PROMOTE_OPEN ? promote_open(promote, ret_known, err) : step_runs[step](promote, err));
    if (has_work(promote, step))
        promote->result.step_us[step] = clock_now_us() - begun;
    return ok || (step >= PROMOTE_FENCE ? promote_explain_late(promote, err) : false);
}

/* ---- The way back ---- */

/* On these, which no stop flag ends meanwhile. Their transactions are rolled back already. */
static bool undo_on(Promote *promote, DbConn *source, DbConn *dest, int64_t patience_us, Error *err) {
    const Stop *source_stop = db_stop(source), *dest_stop = db_stop(dest);
    StringVec left = {0};
    bool undone = false;

    db_set_stop(source, NULL);
    db_set_stop(dest, NULL);
    db_set_deadline(source, clock_now_us() + patience_us);
    db_set_deadline(dest, clock_now_us() + patience_us);
    bool ok = promote_undo(source, dest, promote->params->load->ledger, promote->arena, &undone, &left, err);
    db_set_deadline(source, 0);
    db_set_deadline(dest, 0);
    db_set_stop(source, source_stop);
    db_set_stop(dest, dest_stop);
    for (size_t i = 0; i < left.len; i++) {
        promote_event(promote, "error", "%s", left.items[i]);
        promote_note(promote, "%s", left.items[i]);
    }
    return ok;
}

/* A connection that lives is better than a new one: the application connects again and again, and takes each place that
 * becomes free. One of a broken pair is replaced. */
static bool undo_source(Promote *promote, bool anew, Error *err) {
    const PromoteParams *params = promote->params;
    CLEANUP(db_closep) DbConn *source = NULL;
    CLEANUP(db_closep) DbConn *dest = NULL;
    bool new_source = anew || db_is_broken(params->source), new_dest = anew || db_is_broken(params->dest);

    if ((new_source && !db_open_patient(params->source_target, "undo", NULL, UNDO_PATIENCE_US, &source, err)) ||
        (new_dest && !db_open_patient(params->dest_target, "undo", NULL, UNDO_PATIENCE_US, &dest, err)))
        return false;
    return undo_on(promote, new_source ? source : params->source, new_dest ? dest : params->dest,
                   new_source || new_dest ? UNDO_PATIENCE_US : UNDO_LIVE_US, err);
}

/* What fails on the control connections may be theirs alone: a network that is silent, a session that was ended. */
static bool undo_source_somehow(Promote *promote, Error *err) {
    if (undo_source(promote, false, err))
        return true;
    if (err->reason == REASON_FENCED)
        return false;
    log_error_value(LOG_WARNING, err);
    return undo_source(promote, true, err);
}

/* Once the source can be written to again. */
static void undo_hook(const Promote *promote) {
    const char *command = promote->params->options->hook_undo;
    Error err = {0};

    if (!promote->hook_before_ran)
        return;
    if (command != NULL &&
        (!failpoint("promote.before_hook_undo", &err) || !promote_hook(promote, command, "undo", NULL, &err)))
        promote_event(promote, "error", "the hook that undoes the first one failed, run it by hand: %s (%s)", command,
                      err.message);
    promote_forget_hooks(promote);
}

static bool keeps_its_reason(ErrorReason reason) {
    return reason == REASON_PROMOTE_REFUSED || reason == REASON_CANCELLED || reason == REASON_FENCED;
}

static void note_cause(Promote *promote, const Error *cause) {
    promote->result.cause = arena_printf(promote->arena, "promote called off in step %s: %s",
                                         promote_step_name(promote->step), cause->message);
    promote->result.cause_remedy = arena_strdup(promote->arena, cause->remedy);
}

static bool call_off(Promote *promote, Error *err) {
    const char *step = promote_step_name(promote->step);
    Error cause = *err, trouble = {0};

    note_cause(promote, &cause);
    log_error_value(LOG_WARNING, &cause);
    db_closep(&promote->fence);
    if (promote->setting_touched && !undo_source_somehow(promote, &trouble)) {
        promote->result.unsettled = true;
        log_error_value(LOG_ERROR, &trouble);
        return error_wrap(err, "promote failed in step %s, and the source may still be read-only (%.300s)", step,
                          trouble.message) ||
               error_remedy(
                   err,
                   "the migration makes it writable again as soon as both servers answer, with the hook that"
                   " undoes; when its process has ended, the same command does it; by hand: " PROMOTE_WRITABLE_SQL,
                   sql_ident(promote->arena, db_name(promote->params->source)));
    }
    undo_hook(promote);
    if (keeps_its_reason(cause.reason))
        return error_wrap(err, "promote called off in step %s", step);
    error_set(err, REASON_PROMOTE_UNDONE, "%s", promote->result.cause);
    if (cause.remedy[0] != '\0')
        error_remedy(err, "nothing is lost: the source is writable as before and is still followed. %s", cause.remedy);
    return false;
}

/* ---- The walk ---- */

static FenceMode fence_mode(const MigrateOptions *options) {
    return strcmp(options->fence, "none") == 0    ? FENCE_NONE
           : strcmp(options->fence, "locks") == 0 ? FENCE_LOCKS
                                                  : FENCE_FULL;
}

/* COMMIT of OPEN was sent and nobody knows: the setting stays until the ledger could be asked. */
static bool leave_unknown(Promote *promote, Error *err) {
    promote->result.unsettled = true;
    note_cause(promote, err);
    db_closep(&promote->fence);
    error_wrap(err, "it is not known whether the destination was opened: the reply to COMMIT was lost");
    return error_remedy(err, "do not write to either side: as soon as the destination answers, the migration asks it,"
                             " and goes on there or makes the source writable again; when its process has ended, the"
                             " same command does it");
}

static bool take_back(Promote *promote, bool known, Error *err) {
    if (known) /* writers need not wait for our own clearing up */
        db_closep(&promote->fence);
    give_stop_back(promote);
    promote_unlimit(promote);
    return known ? call_off(promote, err) : leave_unknown(promote, err);
}

static bool walk(Promote *promote, PromoteStep last, Error *err) {
    for (PromoteStep step = PROMOTE_LAG; step <= last; step++) {
        bool known = true;

        if (!run_step(promote, step, &known, err))
            return take_back(promote, known, err);
    }
    give_stop_back(promote);
    promote_unlimit(promote);
    return true;
}

bool promote_run(const PromoteParams *params, Arena *arena, PromoteResult *ret_result, Error *err) {
    CLEANUP(arena_freep) Arena *waiting = arena_new();
    Promote promote = {
        .params = params, .arena = arena, .mode = fence_mode(params->options), .waiting = {.arena = waiting}};
    const PromoteStep last = params->options->dry_run ? PROMOTE_PREPARE : PROMOTE_HOOK_AFTER;

    lend_stop(&promote);
    bool ok = walk(&promote, last, err);

    if (ok && params->options->dry_run) {
        promote.result.outage_us = promote_estimate_us(&promote);
        promote_tell_views(&promote);
    } else if (ok) {
        measure_with_hooks(&promote);
        promote_refresh_busy_views(&promote);
        promote_tell_views(&promote);
    }
    *ret_result = promote.result;
    return ok;
}
