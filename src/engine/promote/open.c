/*
 * OPEN: one transaction of the destination, after which it is the database.
 *
 * In it: what only the new primary may have (triggers that fire always, policies, event triggers, publications,
 * subscriptions), the step "opened", and the end of the journal's line about the fence. If the reply to COMMIT is lost,
 * a new connection first waits for the row lock that our transaction shares, so that the old session has committed or
 * is gone, and then reads the step.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/load/serial.h"

#include <string.h>

#define ASK_PATIENCE_US (30 * USEC_PER_SEC)

static bool is_everything(const LoadParams *load, size_t entry) {
    (void)load;
    (void)entry;
    return true;
}

static bool waits_for_open(const PromoteParams *params, size_t entry) {
    const TocEntry *toc = &params->load->toc->entries[entry];

    if (params->is_deferred != NULL && params->is_deferred(params->load, entry))
        return true;
    return restore_pass(params->load->toc, toc, &params->load->restore) == RESTORE_LAST &&
           strcmp(toc->desc, "MATERIALIZED VIEW DATA") != 0;
}

/* One pass in archive order: an entry may depend on one of the other kind. */
static bool run_entries(const Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const PromoteParams *params = promote->params;
    LoadParams load = *params->load;
    bool *chosen = arena_array(scratch, bool, MAX(load.toc->count, 1));

    for (size_t i = 0; i < load.toc->count; i++)
        chosen[i] = params->load->chosen[i] && waits_for_open(params, i);
    load.chosen = chosen;
    return serial_run_in_transaction(&load, params->dest, is_everything, params->not_moved, promote->arena, err);
}

static bool write_open(const Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *forget = "DELETE FROM pgcrane.source_object WHERE kind = $1";

    return ledger_begin(params->dest, params->load->ledger, err) && run_entries(promote, err) &&
           ledger_mark_step(params->dest, PROMOTE_STEP_OPENED, err) &&
           (!promote->result.proven || ledger_mark_step(params->dest, PROMOTE_STEP_PROVEN, err)) &&
           db_query(params->dest, forget, 1, (const char *const[]){JOURNAL_FENCE}, NULL, err) &&
           failpoint("promote.before_open_commit", err);
}

static bool ask_whether_opened(const Promote *promote, bool *ret_opened, Error *err) {
    CLEANUP(db_closep) DbConn *dest = NULL;

    return db_open_patient(promote->params->dest_target, "ask", NULL, ASK_PATIENCE_US, &dest, err) &&
           db_exec(dest, "SET lock_timeout = '30s'; SELECT 1 FROM pgcrane.job FOR UPDATE", err) &&
           ledger_step_done(dest, PROMOTE_STEP_OPENED, ret_opened, err);
}

/* A COMMIT that failed: the server said no, or nothing. */
static bool settle_commit(const Promote *promote, bool *ret_known, Error *err) {
    Error cause = *err;
    bool opened = false;

    log_error_value(LOG_WARNING, err);
    if (!ask_whether_opened(promote, &opened, err)) {
        *ret_known = false;
        return false;
    }
    *err = cause;
    return opened;
}

static void tell_open(Promote *promote) {
    const PromoteParams *params = promote->params;

    if (promote->mode == FENCE_FULL)
        promote_note(promote, "the source stays read-only; to write to it again: " PROMOTE_WRITABLE_SQL,
                     db_name(params->source));
    if (promote->mode == FENCE_LOCKS)
        promote_note(promote, "the source's tables were locked only until the destination was open: it accepts writes"
                              " again, which go nowhere");
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
    promote_uninterrupted(promote);
    if (!ledger_commit(params->dest, err) && !settle_commit(promote, ret_known, err))
        return false;
    promote->result.opened = true;
    promote->result.outage_us = clock_now_us() - promote->outage_from_us;
    tell_open(promote);
    promote_event(promote, "info", "the destination is open");
    /* From here on nothing may fail: an error would look as if it were not open. */
    Error ignored;

    if (!failpoint("promote.after_open_commit", &ignored))
        promote_event(promote, "warning", "%s", ignored.message);
    if (params->opened != NULL)
        params->opened(params->context);
    promote_fence_release(promote);
    if (!failpoint("promote.after_release", &ignored))
        promote_event(promote, "warning", "%s", ignored.message);
    return true;
}
