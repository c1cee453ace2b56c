/* The barrier: waits until every transaction that runs now has ended (seam.c says why it must be done like this). */
#include "engine/seam/seam_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#include <inttypes.h>
#include <stdlib.h>

#define POLL_MIN_US (20 * USEC_PER_MSEC)
#define POLL_MAX_US (500 * USEC_PER_MSEC)
#define BLOCKED_EVERY_US (1 * USEC_PER_SEC)

/* Before 13 there are no 64-bit xids as a type, only functions that give bigint. */
enum { XID8_VERSION = 130000 };

/*
 * Holders of an xid have a granted exclusive lock on it. Prepared transactions have no session; they are in a list of
 * their own, whatever database they belong to: xids and snapshots know no databases. $1 = 0 or the limit: its low 32
 * bits are compared on the circle of xids.
 */
#define NOT_AFTER_LIMIT(xid)                                                                                           \
    "($1::bigint = 0 OR (($1::bigint & 4294967295) - (" xid ")::text::bigint + 4294967296) % 4294967296 < 2147483648)"

static const char blockers_sql[] =
    "SELECT coalesce(pg_catalog.string_agg(who, '; '), '') FROM ("
    "SELECT 'session ' || a.pid || ' (' || coalesce(a.usename, '?') || '@' || coalesce(a.datname, '?') || ', '"
    "  || coalesce(a.application_name, '') || ', ' || coalesce(a.state, '?')"
    "  || coalesce(', waits for ' || a.wait_event, '') || ', since '"
    "  || coalesce(pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text, '?') || ')'"
    " AS who, 1 AS kind, a.xact_start AS since"
    " FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.pid IN ("
    "SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.locktype = 'transactionid' AND l.granted"
    " AND l.mode = 'ExclusiveLock' AND " NOT_AFTER_LIMIT(
        "l.transactionid") ")"
                           " UNION ALL "
                           "SELECT 'prepared transaction ' || pg_catalog.quote_literal(p.gid) || ' (' || p.owner || "
                           "'@' || p.database"
                           "  || ', since ' || pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - "
                           "p.prepared)::text || ')',"
                           " 2, p.prepared FROM pg_catalog.pg_prepared_xacts p WHERE " NOT_AFTER_LIMIT(
                               "p.transaction") " ORDER BY kind DESC, since LIMIT 8) AS blockers";

bool seam_blockers(DbConn *source, Arena *arena, uint64_t limit, const char **ret_who, Error *err) {
    char *who = NULL;

    if (!db_query_value(source, arena, blockers_sql, 1, (const char *const[]){arena_printf(arena, "%" PRIu64, limit)},
                        &who, err))
        return error_wrap(err, "looking for running transactions");
    *ret_who = who;
    return true;
}

/* An xid of our own, given back at once, by an abort: that one waits for no standby, whatever the settings are. (A
 * commit that wrote nothing does not wait either, in the versions there are; nothing promises it.) */
static bool take_xid(DbConn *source, Arena *arena, uint64_t *ret_xid, Error *err) {
    char *xid = NULL;
    const char *sql = db_version(source) >= XID8_VERSION ? "SELECT pg_catalog.pg_current_xact_id()"
                                                         : "SELECT pg_catalog.txid_current()";

    if (!db_exec(source, "BEGIN", err) || !db_query_value(source, arena, sql, 0, NULL, &xid, err) ||
        !db_exec(source, "ROLLBACK", err)) {
        db_rollback(source);
        return error_wrap(err, "taking a transaction id");
    }
    *ret_xid = strtoull(xid, NULL, 10);
    return true;
}

static bool read_xmin(DbConn *source, Arena *arena, uint64_t *ret_xmin, Error *err) {
    char *xmin = NULL;
    const char *sql = db_version(source) >= XID8_VERSION
                          ? "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())"
                          : "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())";

    if (!db_query_value(source, arena, sql, 0, NULL, &xmin, err))
        return error_wrap(err, "looking for the oldest running transaction");
    *ret_xmin = strtoull(xmin, NULL, 10);
    return true;
}

bool seam_barrier_tell(DbConn *source, uint64_t barrier, SeamBlocked blocked, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *who = "";

    if (!seam_blockers(source, arena, barrier, &who, err))
        return false;
    log_info("barrier %" PRIu64 " waits for: %s", barrier, who);
    if (blocked != NULL && who[0] != '\0')
        blocked(context, who);
    return true;
}

bool seam_barrier_begin(DbConn *source, uint64_t *ret_barrier, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return take_xid(source, arena, ret_barrier, err);
}

bool seam_barrier_look(DbConn *source, uint64_t barrier, bool *ret_passed, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    uint64_t xmin = 0;

    if (!read_xmin(source, arena, &xmin, err))
        return false;
    *ret_passed = xmin > barrier;
    if (*ret_passed)
        log_info("barrier %" PRIu64 " passed, oldest running is %" PRIu64, barrier, xmin);
    return true;
}

bool seam_barrier_within(DbConn *source, const Stop *stop, int64_t limit_us, SeamBlocked blocked, void *context,
                         bool *ret_passed, Error *err) {
    const int64_t began = clock_now_us(), tell_every = limit_us > 0 ? limit_us : BLOCKED_EVERY_US;
    int64_t pause = POLL_MIN_US, next_tell = began + tell_every;
    uint64_t barrier = 0;

    if (!seam_barrier_begin(source, &barrier, err))
        return false;
    for (;;) {
        if (!seam_barrier_look(source, barrier, ret_passed, err))
            return false;
        if (*ret_passed)
            return failpoint("seam.barrier_passed", err);
        if (clock_now_us() >= next_tell) {
            if (!seam_barrier_tell(source, barrier, blocked, context, err))
                return false;
            if (limit_us > 0)
                return true;
            next_tell = clock_now_us() + tell_every;
        }
        if (stop_wait_fd(stop, -1, 0, clock_now_us() + pause) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while transactions of the source were waited for");
        pause = MIN(pause * 2, POLL_MAX_US);
    }
}

bool seam_barrier(DbConn *source, const Stop *stop, SeamBlocked blocked, void *context, Error *err) {
    bool passed = false;

    return seam_barrier_within(source, stop, 0, blocked, context, &passed, err);
}
