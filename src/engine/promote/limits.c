/*
 * No wait under the fence is endless: the application waits, too.
 *
 * Each step has what is left of --fence-timeout, but never less than a moment. Three things may take longer than that,
 * and each is ended by something else:
 * - Locks (lock_timeout). Who wants a table of the source for itself alone (VACUUM FULL, LOCK TABLE) waits for the
 *   fence's locks, and our other session would wait behind him; on the destination somebody may read what is to be
 *   copied anew.
 * - Statements (statement_timeout): copying and comparing what no stream carries, constraints that wait for OPEN.
 * - What no server ends by itself (a deadline of ours, somewhat later): a COMMIT that waits for a synchronous standby
 * of the destination, and a network or proxy that says nothing.
 *
 * OPEN's COMMIT is under the deadline, too, but nothing is concluded from that. It is cancelled then, which a COMMIT
 * that waits for a standby survives, and the ledger is asked what became of it. (statement_timeout never ends a COMMIT:
 * the server stops that clock before it.)
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"

#include <string.h>

#define WAIT_MIN_US (2 * USEC_PER_SEC)
#define AFTERWARDS_US (5 * USEC_PER_SEC)
#define LOCKS_FIRST_US USEC_PER_SEC /* that it was a lock says more than that it took long */
#define GRACE_US (2 * USEC_PER_SEC) /* the server's own time-outs come first: they say more */

static void set_deadlines(Promote *promote, int64_t deadline_us) {
    db_set_deadline(promote->params->source, deadline_us);
    db_set_deadline(promote->params->dest, deadline_us);
    if (promote->fence != NULL)
        db_set_deadline(promote->fence, deadline_us);
}

bool promote_limit(Promote *promote, Error *err) {
    int64_t left_us = MAX(promote->deadline_us - clock_now_us(), WAIT_MIN_US);
    const char *sql =
        arena_printf(promote->arena, "SET lock_timeout = %lld; SET statement_timeout = %lld",
                     (long long)(left_us / USEC_PER_MSEC), (long long)((left_us + LOCKS_FIRST_US) / USEC_PER_MSEC));

    promote->limit_us = clock_now_us() + left_us;
    set_deadlines(promote, promote->limit_us + GRACE_US);
    return db_exec(promote->params->source, sql, err) && db_exec(promote->params->dest, sql, err);
}

void promote_deadline(Promote *promote, int64_t us) {
    set_deadlines(promote, clock_now_us() + us);
}

bool promote_explain_late(const Promote *promote, Error *err) {
    bool is_ended = strcmp(err->sqlstate, "57014") == 0 && promote->limit_us != 0; /* by whom? */
    bool is_late = err->reason == REASON_TIMED_OUT || (is_ended && clock_now_us() >= promote->limit_us);

    if (!is_late || strstr(err->message, "--fence-timeout") != NULL)
        return false;
    error_wrap(err, "not done within --fence-timeout (%lld s)", (long long)promote->params->options->fence_timeout);
    return error_remedy(err, "see what both servers wait for in pg_stat_activity (a synchronous standby that is away?),"
                             " or raise --fence-timeout");
}

void promote_unlimit(Promote *promote) {
    DbConn *conns[] = {promote->params->source, promote->params->dest};
    Error ignored;

    promote_deadline(promote, AFTERWARDS_US);
    for (size_t i = 0; i < COUNT_OF(conns); i++) {
        if (db_is_broken(conns[i]))
            continue;
        db_rollback(conns[i]);
        if (!db_exec(conns[i], "SET lock_timeout = 0; SET statement_timeout = 0", &ignored))
            log_error_value(LOG_WARNING, &ignored);
    }
    set_deadlines(promote, 0);
}
