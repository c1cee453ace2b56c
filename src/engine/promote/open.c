/*
 * OPEN: one transaction of the destination, after which it is the database.
 *
 * In it: what only the new primary may have (triggers that fire always, policies, event triggers, publications,
 * subscriptions), the step "opened", and the end of the journal's line about the fence. If the reply to COMMIT is lost,
 * a new connection first waits for the row lock that our transaction shares, so that the old session has committed or
 * is gone, and then reads the step.
 *
 * NOTES: "proven" is said only of what is known. PROOF shows what the stream brought up to its marker; from there to
 * the COMMIT only the locks keep writers out, and the session that holds them may be ended by others. So it is asked
 * right before the COMMIT and once more right after it (fence.c says why one answer covers the time before it):
 *
 *   ends before the first question    undone. Writers may have gone on: following goes on, too, nothing is lost
 *   ends between the two              what was written on the source in between may be missing. COMMIT cannot be taken
 *                                     back, so the promote is open and not proven: a note, and its own exit code
 *   ends after the second             the answer was given when the COMMIT was through: whoever writes to the source
 *                                     now, writes to a database that is not in use any more
 *   COMMIT's reply is lost            the same two questions, the second after it has become known what became of it
 *   it does not become known          the fence is let go, and the next run finds the step "opened" without the step
 *                                     "proven"
 *   we die before the second answer   the same: "proven" is written after it, in a transaction of its own. It does not
 *                                     wait for standbys: one that lost it says "not proven", which is no harm
 *   a table is made under the fence   nobody has locked it. COMPARE refuses it; after COMPARE each of the questions
 *                                     finds it, with the same consequences
 *
 * After the second question a third marker goes through the stream, which shows the same by the other way: the last
 * change of a migrated table lies before the first marker still. Following has to end for that, or a moment later: it
 * must not apply what the source's sessions write when the locks go.
 */
#include "engine/promote/waiting.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/quote.h"

#define ASK_PATIENCE_US (30 * USEC_PER_SEC)
#define WATCH_US (5 * USEC_PER_SEC)
#define COMMIT_US (10 * USEC_PER_SEC) /* it cannot be undone: time enough to hear of it */

static bool write_open(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *forget = "DELETE FROM pgcrane.source_object WHERE kind = $1";

    return ledger_begin(params->dest, params->load->ledger, err) && waiting_run(promote, err) &&
           ledger_mark_step(params->dest, PROMOTE_STEP_OPENED, err) &&
           (!params->options->keep_slot || ledger_mark_step(params->dest, PROMOTE_STEP_KEEP_SLOT, err)) &&
           db_query(params->dest, forget, 1, (const char *const[]){JOURNAL_FENCE}, NULL, err) &&
           promote_copy_sequences_again(promote, err) && failpoint("promote.before_open_commit", err) &&
           promote_fence_stands(promote, err) && failpoint("promote.open_asked", err);
}

/* The session that lives on has ended its transaction, one way or the other. */
static bool ask_whether_opened(Promote *promote, bool *ret_opened, Error *err) {
    CLEANUP(db_closep) DbConn *dest = NULL;

    promote_deadline(promote, WATCH_US);
    db_rollback(promote->params->dest);
    if (!db_is_broken(promote->params->dest) &&
        ledger_step_done(promote->params->dest, PROMOTE_STEP_OPENED, ret_opened, err))
        return true;
    if (!db_open_patient(promote->params->dest_target, "ask", NULL, ASK_PATIENCE_US, &dest, err))
        return false;
    db_set_deadline(dest, clock_now_us() + 2 * ASK_PATIENCE_US);
    return db_exec(dest,
                   "SET synchronous_commit = local; SET lock_timeout = '30s'; SELECT 1 FROM pgcrane.job FOR UPDATE",
                   err) &&
           ledger_step_done(dest, PROMOTE_STEP_OPENED, ret_opened, err);
}

/* A COMMIT that failed: the server said no, or nothing. */
static bool settle_commit(Promote *promote, bool *ret_known, Error *err) {
    Error cause = *err;
    bool opened = false;

    log_error_value(LOG_WARNING, err);
    if (!ask_whether_opened(promote, &opened, err)) {
        *ret_known = false;
        return false;
    }
    *err = cause;
    if (opened && cause.reason == REASON_TIMED_OUT)
        promote_note(promote,
                     "the destination has committed, but did not say so in time: a synchronous standby of it may"
                     " not have got that yet");
    return opened;
}

static bool mark_proven(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;

    promote_deadline(promote, WATCH_US);
    if (!ledger_begin(params->dest, params->load->ledger, err))
        return false;
    if (db_exec(params->dest, "SET LOCAL synchronous_commit = local", err) &&
        ledger_mark_step(params->dest, PROMOTE_STEP_PROVEN, err) && ledger_commit(params->dest, err))
        return true;
    db_rollback(params->dest);
    return false;
}

/* What the stream has brought now that the destination is open. That it cannot be asked disproves nothing. */
static bool watch_stream(const Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const PromoteParams *params = promote->params;
    FollowStatus status;
    Error ignored;
    Lsn end = 0;

    if (!seam_marker(params->source, "opened", &end, &ignored) ||
        !promote_wait_applied(promote, end, clock_now_us() + WATCH_US, &ignored)) {
        log_error_value(LOG_WARNING, &ignored);
        return true;
    }
    follow_status(params->follow, &status);
    log_info("promote watch end=%s last_change=%s", lsn_format(scratch, end), lsn_format(scratch, status.last_change));
    return status.last_change <= promote->result.marker ||
           error_set(err, REASON_BAD_DATA, "a migrated table was changed on the source at %s, after the marker at %s",
                     lsn_format(scratch, status.last_change), lsn_format(scratch, promote->result.marker));
}

/* The destination is open: does what PROOF has shown still hold? */
static void settle_proof(Promote *promote) {
    Error err = {0};

    if (!promote->result.proven)
        return;
    if (promote_fence_stands(promote, &err) && watch_stream(promote, &err)) {
        if (!mark_proven(promote, &err))
            log_error_value(LOG_WARNING, &err);
        return;
    }
    promote->result.proven = false;
    promote_event(promote, "warning", "not proven: %s", err.message);
    promote_note(promote,
                 "unproven: it is not known that nothing was written to the source up to the moment when the"
                 " destination was open (%s); what was written there since is not on the destination: compare both"
                 " before the source is thrown away",
                 err.message);
}

static void tell_open(Promote *promote) {
    const PromoteParams *params = promote->params;

    for (size_t i = 0; i < promote->waiting.not_moved.len; i++)
        vec_push(promote->arena, params->not_moved, promote->waiting.not_moved.items[i]);
    for (size_t i = 0; i < promote->waiting.dropped.len; i++)
        promote_note(promote, "%s", promote->waiting.dropped.items[i]);
    if (promote->mode == FENCE_FULL)
        promote_note(promote,
                     "the source stays read-only, and so does each session that logs in meanwhile, until it ends; to"
                     " write to it again: " PROMOTE_WRITABLE_SQL,
                     sql_ident(promote->arena, db_name(params->source)));
    if (promote->mode == FENCE_LOCKS)
        promote_note(promote, "the source's tables were locked only until the destination was open: it accepts writes"
                              " again, which go nowhere, and its sequences go on: numbers taken there from now on are"
                              " given by the destination once more");
    if (promote->mode == FENCE_NONE)
        promote_note(promote, "unproven: nothing kept the source from being written to (--fence none); sequences,"
                              " large objects and tables without identity may be older than its last writes");
}

bool promote_open(Promote *promote, bool *ret_known, Error *err) {
    const PromoteParams *params = promote->params;

    if (!write_open(promote, err)) {
        db_rollback(params->dest);
        return false;
    }
    promote_deadline(promote, COMMIT_US);
    promote_uninterrupted(promote);
    if (!ledger_commit(params->dest, err) && !settle_commit(promote, ret_known, err))
        return false;
    promote_deadline(promote, WATCH_US);
    promote->result.opened = true;
    promote->result.outage_us = clock_now_us() - promote->outage_from_us;
    promote_event(promote, "info", "the destination is open");
    /* From here on nothing may fail: an error would look as if it were not open. */
    Error ignored;

    if (!failpoint("promote.open_committed", &ignored))
        promote_event(promote, "warning", "%s", ignored.message);
    settle_proof(promote);
    tell_open(promote);
    if (!failpoint("promote.after_open_commit", &ignored))
        promote_event(promote, "warning", "%s", ignored.message);
    if (params->opened != NULL)
        params->opened(params->context);
    promote_fence_release(promote);
    promote_unlimit(promote);
    if (!failpoint("promote.after_release", &ignored))
        promote_event(promote, "warning", "%s", ignored.message);
    return true;
}
