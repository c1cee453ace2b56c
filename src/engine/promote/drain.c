/*
 * Waiting for the destination: until it has caught up (LAG), and until it has the marker (DRAIN).
 *
 * Lag is measured by what matters, not by clocks of two servers: a marker is written on the source, and the time until
 * it is applied is the lag. It is also how long the drain would take if writes stopped now.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#define LAG_GOOD_US (100 * USEC_PER_MSEC) /* no need to try for better */
#define SLICE_US (3 * USEC_PER_SEC)
#define DRAIN_MIN_US                                                                                                   \
    (2 * USEC_PER_SEC) /* as limits.c has it: who was waited for at the fence has left nothing else                    \
                        */
enum { LAG_TRIES = 5 };

bool promote_wait_applied(const Promote *promote, Lsn lsn, int64_t deadline_us, Error *err) {
    switch (follow_wait(promote->params->follow, lsn, deadline_us, promote->params->stop, err)) {
    case FOLLOW_REACHED:
        return true;
    case FOLLOW_TIMEOUT:
        return error_set(err, REASON_TIMED_OUT, "the destination has not caught up in time");
    case FOLLOW_STOPPED:
        return error_set(err, REASON_CANCELLED, "stopped while the destination catches up");
    case FOLLOW_FAILED:
        break;
    }
    return false;
}

static void tell_lag(const Promote *promote, Lsn lsn) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FollowStatus status;

    follow_status(promote->params->follow, &status);
    promote_event(promote, "info", "waiting for the destination to catch up: %s behind",
                  format_bytes(arena, lsn > status.applied ? (int64_t)(lsn - status.applied) : 0));
}

/* In slices, so that somebody who watches sees that it goes on. */
static bool wait_telling(const Promote *promote, Lsn lsn, int64_t deadline, Error *err) {
    for (;;) {
        int64_t slice = MIN(clock_now_us() + SLICE_US, deadline);

        if (promote_wait_applied(promote, lsn, slice, err))
            return true;
        if (err->reason != REASON_TIMED_OUT || !follow_check(promote->params->follow, err))
            return false;
        if (clock_now_us() >= deadline) {
            error_set(err, REASON_TIMED_OUT, "the destination was not within --lag-limit of the source in %lld s",
                      (long long)promote->params->options->lag_timeout);
            return error_remedy(err, "wait until it has caught up, or raise --lag-timeout or --lag-limit");
        }
        tell_lag(promote, lsn);
    }
}

bool promote_wait_now(const Promote *promote, const char *why, Error *err) {
    int64_t deadline = clock_now_us() + promote->params->options->lag_timeout * USEC_PER_SEC;
    Lsn lsn = 0;

    return seam_marker(promote->params->source, why, &lsn, err) && wait_telling(promote, lsn, deadline, err);
}

bool promote_wait_lag(Promote *promote, Error *err) {
    const MigrateOptions *options = promote->params->options;
    int64_t deadline = clock_now_us() + options->lag_timeout * USEC_PER_SEC;
    int64_t limit = MAX(options->lag_limit * USEC_PER_SEC, LAG_GOOD_US);

    for (int good = 0; good < LAG_TRIES;) {
        Lsn lsn = 0;

        if (!follow_check(promote->params->follow, err) || !seam_marker(promote->params->source, "lag", &lsn, err))
            return false;
        int64_t begun = clock_now_us();
        if (!wait_telling(promote, lsn, deadline, err))
            return false;
        promote->lag_us = clock_now_us() - begun;
        log_info("promote lag_us=%lld", (long long)promote->lag_us);
        if (promote->lag_us <= LAG_GOOD_US)
            break;
        good += promote->lag_us <= limit;
    }
    return failpoint("promote.after_lag", err);
}

bool promote_drain(Promote *promote, Error *err) {
    int64_t deadline = MAX(promote->deadline_us, clock_now_us() + DRAIN_MIN_US);

    if (!promote_wait_applied(promote, promote->result.marker, deadline, err)) {
        if (err->reason == REASON_TIMED_OUT)
            error_set(err, REASON_TIMED_OUT, "the marker was not applied within --fence-timeout (%lld s)",
                      (long long)promote->params->options->fence_timeout);
        return false;
    }
    return follow_check(promote->params->follow, err) && failpoint("promote.after_drain", err);
}
