/*
 * A change that the destination refuses: whose fault is it?
 *
 * Either somebody wrote to the destination: that ends the run, with both rows named, since nothing may be skipped. Or
 * the table has another definition there: a label, NOT NULL, a constraint that the source no longer has. Then it is the
 * only table that cannot go on: it rests (suspect) until both sides are alike, and is copied again.
 *
 * Or a domain's constraint is NOT VALID: a value of before, which the source did not look at, is checked with each
 * change of its row. The copy sets such a constraint aside, so the table rests and is copied again, too.
 *
 * A table that the main thread has marked since following began, or that is found to be another one than was copied
 * when it is looked at now, rests from the next start on only: that it lacks changes is known, and what is refused
 * until then is no news.
 *
 * The transaction that failed was rolled back as a whole, so the ledger's position is before it, and following starts
 * again from there, without this table. The applier's connection sees the destination only and may not wait for the
 * source; so it is the main thread that compares, after the failure. The definitions compared are those of now: one
 * that differed for a moment only, and no longer does, is taken for a row of somebody else's.
 */
#include "common/clock.h"
#include "common/log.h"
#include "engine/finish/finish.h"
#include "engine/ledger/relations.h"
#include "worker/following.h"

#include <string.h>

#define BUSY_PAUSE_US (200 * USEC_PER_MSEC)
enum { BUSY_TRIES = 5, REASON_BYTES_MAX = 600 };

/* What is in the way passes, be it a lock or a definition that went away meanwhile: then *err is LOCK_BUSY, and
 * following starts again. */
static bool compare(Following *following, Error *err) {
    const Stop *stop = &following->run->stop;
    bool busy = true;

    for (int i = 0; i < BUSY_TRIES; i++) {
        if (i > 0 && stop_wait_fd(stop, -1, 0, clock_now_us() + BUSY_PAUSE_US) == WAIT_STOPPED)
            break;
        if (!following_look_at_drift(following, &busy, err))
            return false;
        if (!busy)
            return true;
    }
    const Error why = *err;
    return error_set(err, REASON_LOCK_BUSY, "%s", why.message);
}

static bool mark(Run *run, uint32_t oid, const char *why, Error *err) {
    if (!ledger_begin(run->dest, &run->ledger, err))
        return false;
    if (relation_set_suspect(run->dest, oid, why, err) && ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return false;
}

/* What of the table's own differences the refusal came from, NULL = from none. */
static const Drift *explain(const DriftVec *own, const FollowConflict *conflict, const char *sqlstate) {
    for (size_t i = 0; i < own->len; i++)
        if (drift_explains(&own->items[i], sqlstate, conflict->refused))
            return &own->items[i];
    return NULL;
}

/* *ret_rests: it does. */
static bool rest_for_domain(Following *following, const FollowConflict *conflict, const Error *refused, bool *ret_rests,
                            Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Run *run = following->run;
    const char *what = NULL;

    *ret_rests = false;
    if (strcmp(refused->sqlstate, "23514") != 0)
        return true;
    if (!finish_not_valid_refuses(run->source, arena, conflict->table, conflict->refused, &what, err))
        return false;
    if (what == NULL)
        return true;
    const char *why = arena_printf(arena, "%s, refuses a value that the source keeps; %.*s", what, REASON_BYTES_MAX,
                                   refused->message);
    if (!mark(run, conflict->table, why, err))
        return false;
    run_event(run, "warning",
              "table %s is copied again: %s; each such change costs a copy of it: drop the constraint on both sides"
              " until the promote is done to spare them",
              conflict->display, why);
    *ret_rests = true;
    return true;
}

bool following_rest_table(Following *following, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Run *run = following->run;
    FollowConflict conflict;
    const Error refused = *err;
    DriftVec own = {0};
    bool is_suspect = false;

    if (err->reason != REASON_CONFLICT || err->retryable || stop_requested(&run->stop) || following->follow == NULL ||
        !follow_conflict(following->follow, &conflict))
        return false;
    /* It may be another table than the one that was copied: truncated, say, by a source that publishes no TRUNCATE. */
    if (!following_look_at_shapes(following, err) || !relation_is_suspect(run->dest, conflict.table, &is_suspect, err))
        return false;
    if (is_suspect) {
        log_info("table %s is suspect: it rests from now on", conflict.display);
        return true;
    }
    if (!compare(following, err) ||
        !drift_of_table(run->source, arena, conflict.table, &following->drifts, &own, err)) {
        log_error_value(LOG_WARNING, &refused);
        return false;
    }
    const Drift *drift = explain(&own, &conflict, refused.sqlstate);
    if (drift == NULL) {
        bool rests = false;

        if (rest_for_domain(following, &conflict, &refused, &rests, err) && !rests)
            *err = refused;
        return rests;
    }
    const char *why =
        arena_printf(arena, "%s: %s; %.*s", drift->object, drift->message, REASON_BYTES_MAX, refused.message);
    if (!mark(run, conflict.table, why, err))
        return false;
    run_event(run, "warning", "table %s is paused: %s; it is copied again when both sides are alike%s%s",
              conflict.display, why, drift->fix[0] == '\0' ? "" : ", on the destination: ", drift->fix);
    return true;
}
