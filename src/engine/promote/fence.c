/*
 * The fence: nobody writes to a migrated table of the source any more, and everything written before lies before the
 * marker.
 *
 *   full    setting on; then, until the deadline: sessions that began before it are ended, all tables are locked
 *   locks   all tables are locked
 *   none    nothing: the user says that nobody writes
 *
 * All locks are taken by one statement, or none: what does not come within a short time-out is given back, so that the
 * application's sessions that queue behind us go on for a while. Without an end of sessions the time-out grows: a long
 * transaction has to be outwaited. Sessions that began after the setting was committed see it, and are left alone: an
 * application that connects again and reads must not keep us here for ever.
 *
 * Then transactions of this database that have an xid (writers of what we did not lock: large objects, tables left out)
 * are waited for, and the marker is written. That the marker lies after every commit on a locked table needs no such
 * wait: a transaction gives its locks back only after its commit record was written and it was taken off the list of
 * running transactions. So transactions of other databases are not waited for, however long they run.
 *
 * Tables that were made while we waited for locks, or by one of those transactions, were in no list: when both waits
 * are over the tables are listed again and locked, until nothing is new.
 *
 * The locks are not taken on trust later on. The session that holds them may be ended by others (a time-out for idle
 * transactions, a proxy, the server's crash), and nothing would tell us. So it is asked whether its transaction is the
 * one that took the locks (promote_fence_stands): locks are given back with the transaction only, there is no
 * savepoint, so that one answer covers all the time before it. open.c says when it is asked.
 *
 * Taken back, the setting stays with each session that logged in under it. fence_undo.c says which these are, and ends
 * them.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#include <stdio.h>
#include <string.h>

#define POLL_US (5 * USEC_PER_MSEC)
#define TRY_FIRST_MS INT64_C(200)
#define TRY_LAST_MS INT64_C(2000)
#define PAUSE_LOCKS_US (200 * USEC_PER_MSEC)
#define SILENCE_US (5 * USEC_PER_SEC)

static bool pause_for(const Promote *promote, int64_t us, Error *err) {
    return stop_wait_fd(promote->params->stop, -1, 0, clock_now_us() + us) != WAIT_STOPPED ||
           error_set(err, REASON_CANCELLED, "stopped while writes on the source were being stopped");
}

static bool is_late(const Promote *promote) {
    return clock_now_us() >= promote->deadline_us;
}

static bool fail_late(const Promote *promote, const char *what, const char *who, Error *err) {
    error_set(err, REASON_LOCK_BUSY, "%s within --fence-timeout (%lld s)%s%.500s", what,
              (long long)promote->params->options->fence_timeout, who[0] == '\0' ? "" : ": ", who);
    return error_remedy(err, "end the sessions named, or raise --fence-timeout");
}

/* deadlock_timeout is also how long an autovacuum in our way is waited for before it is asked to give up. Keepalives:
 * if this machine dies, or the network between, the locks must not stay for the two hours that servers wait by default.
 */
static bool open_fence(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;

    return db_open(params->source_target, "fence", params->stop, &promote->fence, err) &&
           (db_exec(promote->fence,
                    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"
                    " SELECT pg_catalog.set_config('deadlock_timeout', '50ms', false) FROM pg_catalog.pg_roles"
                    " WHERE rolname = current_user AND rolsuper",
                    err) ||
            error_wrap(err, "preparing the fence's session"));
}

/* ---- Sessions ---- */

typedef struct Sessions {
    char since[64];     /* the source's clock after the setting was committed, "infinity": all */
    const char *hidden; /* pids whose start we may not see, of the first look: "{1,2}" */
} Sessions;

static bool begin_sessions(Promote *promote, Sessions *sessions, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.clock_timestamp(), coalesce(pg_catalog.array_agg(a.pid), '{}')" PROMOTE_SESSIONS
                  " AND a.backend_start IS NULL",
                  1, (const char *const[]){promote->params->job_id}, &row, err))
        return error_wrap(err, "looking at the source's sessions");
    (void)snprintf(sessions->since, sizeof(sessions->since), "%s", db_text(row, 0, 0));
    sessions->hidden = arena_strdup(promote->arena, db_text(row, 0, 1));
    return true;
}

/* Asks all that began before the setting to end; *ret_left = how many there were. Who may not be ended stays, and is
 * told at the deadline. */
static bool end_sessions(const Promote *promote, const Sessions *sessions, int *ret_left, const char **ret_who,
                         Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "SELECT " PROMOTE_WHO ", CASE WHEN " PROMOTE_MAY_END
                      " THEN pg_catalog.pg_terminate_backend(a.pid) END" PROMOTE_SESSIONS
                      " AND (a.backend_start <= $2::timestamptz OR (a.backend_start IS NULL"
                      "  AND a.pid = ANY ($3::integer[])))";

    if (promote->mode != FENCE_FULL) {
        *ret_left = 0;
        return true;
    }
    if (!db_query(promote->params->source, sql, 3,
                  (const char *const[]){promote->params->job_id, sessions->since, sessions->hidden}, &rows, err))
        return error_wrap(err, "ending the source's sessions");
    *ret_left = db_rows(rows);
    *ret_who = db_rows(rows) == 0 ? "" : arena_strdup(promote->arena, db_text(rows, 0, 0));
    return true;
}

/* ---- Locks ---- */

/* In the way of our locks: granted ones on what we lock that conflict with EXCLUSIVE. */
static const char *who_blocks(const Promote *promote) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Error ignored;
    char *who = NULL;
    const char *sql =
        "SELECT coalesce(pg_catalog.string_agg(w, '; '), '') FROM (SELECT DISTINCT coalesce(" PROMOTE_WHO
        ", 'a prepared transaction') || ' on ' || l.relation::pg_catalog.regclass AS w"
        " FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock'"
        " AND l.relation IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p'))"
        " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
        " AND (l.relation >= 16384 OR ($2 = 'objects' AND l.relation IN"
        "  ('pg_catalog.pg_largeobject'::pg_catalog.regclass,"
        "   'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass)))"
        " AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
        " AND pg_catalog.strpos(coalesce(a.application_name, ''), 'pgcrane ' || $1 || ' ') <> 1 LIMIT 5) AS s";

    if (!db_query_value(promote->params->source, scratch, sql, 2,
                        (const char *const[]){promote->params->job_id, promote->objects_locked ? "objects" : ""}, &who,
                        &ignored))
        return "";
    return arena_strdup(promote->arena, who);
}

/* The transaction's begin and its session: behind a pooler another server session might answer. */
static bool read_holder(Promote *promote, char **ret_holder, Error *err) {
    return db_query_value(promote->fence, promote->arena,
                          "SELECT pg_catalog.pg_backend_pid() || ' ' || pg_catalog.transaction_timestamp()", 0, NULL,
                          ret_holder, err);
}

/* *ret_locked false: somebody was in the way, and nothing is held. */
static bool try_lock(Promote *promote, int64_t limit_ms, bool *ret_locked, Error *err) {
    char *holder = NULL;

    if (db_execf(promote->fence, err,
                 "BEGIN READ WRITE; SET LOCAL lock_timeout = %lld; SET LOCAL statement_timeout = %lld",
                 (long long)limit_ms, (long long)limit_ms) &&
        (promote->lock_count == 0 || db_exec(promote->fence, promote->lock_sql, err)) &&
        db_exec(promote->fence, "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0", err) &&
        read_holder(promote, &holder, err)) {
        promote->holder = holder;
        *ret_locked = true;
        return true;
    }
    db_rollback(promote->fence);
    *ret_locked = false;
    if (strcmp(err->sqlstate, "42P01") == 0 || strcmp(err->sqlstate, "3F000") == 0) /* a table is gone meanwhile */
        return promote_fence_tables(promote, err);
    return err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT ||
           error_wrap(err, "locking the source's tables");
}

static bool refuse_prepared(const Promote *promote, Error *err) {
    StringVec problems = {0};

    return promote_prepared(promote, &problems, err) &&
           promote_refuse(promote, "writes on the source cannot be stopped", &problems, err);
}

static bool take_locks(Promote *promote, const Sessions *sessions, Error *err) {
    int64_t limit_ms = TRY_FIRST_MS;
    const char *who = "";
    bool locked = false;
    int left = 0;

    for (;;) {
        if (!end_sessions(promote, sessions, &left, &who, err) || !try_lock(promote, limit_ms, &locked, err))
            return false;
        if (locked)
            return true;
        if (!refuse_prepared(promote, err))
            return false;
        if (is_late(promote))
            return fail_late(promote, "the source's tables could not be locked", who_blocks(promote), err);
        if (promote->mode == FENCE_LOCKS && !pause_for(promote, PAUSE_LOCKS_US, err))
            return false;
        limit_ms = MIN(limit_ms * 2, TRY_LAST_MS);
    }
}

/* ---- Who still writes ---- */

static bool end_rest(Promote *promote, const Sessions *sessions, Error *err) {
    const char *who = "";
    int left = 0;

    for (;;) {
        if (!end_sessions(promote, sessions, &left, &who, err))
            return false;
        if (left == 0)
            return true;
        if (is_late(promote))
            return fail_late(promote, "not all sessions of the source have ended", who, err);
        if (!pause_for(promote, POLL_US, err))
            return false;
    }
}

#define XIDS                                                                                                           \
    " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"                                  \
    " WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted"                                   \
    " AND a.datname = pg_catalog.current_database()"

/* Transactions that run now and have written; "{}" when there are none. */
static bool read_xids(const Promote *promote, char **ret_xids, Error *err) {
    return db_query_value(promote->params->source, promote->arena,
                          "SELECT coalesce(pg_catalog.array_agg(l.transactionid::text), '{}')::text" XIDS, 0, NULL,
                          ret_xids, err) ||
           error_wrap(err, "looking for running transactions");
}

static bool read_waiting(const Promote *promote, const char *xids, char **ret_who, Error *err) {
    return db_query_value(promote->params->source, promote->arena,
                          "SELECT coalesce(pg_catalog.string_agg(" PROMOTE_WHO ", '; '), '')" XIDS
                          " AND l.transactionid::text = ANY ($1::text[])",
                          1, (const char *const[]){xids}, ret_who, err) ||
           error_wrap(err, "waiting for running transactions");
}

static bool wait_for_writers(const Promote *promote, Error *err) {
    char *xids = NULL, *who = NULL;

    if (!refuse_prepared(promote, err) || !read_xids(promote, &xids, err))
        return false;
    if (strcmp(xids, "{}") == 0)
        return true;
    for (;;) {
        if (!read_waiting(promote, xids, &who, err))
            return false;
        if (who[0] == '\0')
            return true;
        if (is_late(promote))
            return fail_late(promote, "transactions of the source have not ended", who, err);
        if (!pause_for(promote, POLL_US, err))
            return false;
    }
}

/* ---- Tables that were made meanwhile ---- */

static bool list_again(Promote *promote, bool *ret_same, Error *err) {
    const char *before = promote->lock_sql;

    if (!promote_fence_tables(promote, err))
        return false;
    *ret_same = strcmp(before, promote->lock_sql) == 0;
    return true;
}

/* Those that we hold are not waited for again. Nothing is given back meanwhile: who uses a new table is few. */
static bool lock_new(Promote *promote, Error *err) {
    int64_t left = MAX(promote->deadline_us - clock_now_us(), USEC_PER_MSEC) / USEC_PER_MSEC;

    log_info("promote fence: new tables, %zu in all", promote->lock_count);
    if (db_execf(promote->fence, err, "SET LOCAL lock_timeout = %lld", (long long)left) &&
        (promote->lock_count == 0 || db_exec(promote->fence, promote->lock_sql, err)) &&
        db_exec(promote->fence, "SET LOCAL lock_timeout = 0", err))
        return true;
    return err->reason == REASON_LOCK_BUSY
               ? fail_late(promote, "tables made meanwhile could not be locked", who_blocks(promote), err)
               : error_wrap(err, "locking tables that were made meanwhile");
}

static bool settle_writers(Promote *promote, Error *err) {
    bool same = false;

    while (!same) {
        if (!wait_for_writers(promote, err))
            return false;
        if (promote->mode == FENCE_NONE)
            return true;
        if (!list_again(promote, &same, err) || (!same && !lock_new(promote, err)))
            return false;
    }
    return true;
}

/* ---- Does it stand? ---- */

bool promote_fence_stands(Promote *promote, Error *err) {
    char *holder = NULL;
    bool same = false;

    if (promote->mode == FENCE_NONE)
        return true;
    if (!read_holder(promote, &holder, err)) {
        error_wrap(err, "the fence has fallen: the session that locked the source's tables is gone");
        return error_remedy(err, "see in the source's log who ended it (an idle_in_transaction_session_timeout, an"
                                 " administrator, a proxy), then promote again");
    }
    if (strcmp(holder, promote->holder) != 0)
        return error_set(err, REASON_BAD_DATA,
                         "the fence has fallen: another transaction than the one that locked the source's tables"
                         " answers (%s, not %s)",
                         holder, promote->holder);
    return list_again(promote, &same, err) &&
           (same || error_set(err, REASON_BAD_DATA,
                              "the fence has a gap: a table was made on the source while the others were locked"));
}

/* ---- The step ---- */

/* A server that says nothing any more is not waited for much longer than one that says no. */
static void set_deadline(Promote *promote) {
    int64_t patience_us = promote->params->options->fence_timeout * USEC_PER_SEC;

    promote->deadline_us = clock_now_us() + patience_us;
    promote_deadline(promote, patience_us + SILENCE_US);
}

static bool raise_fence(Promote *promote, Error *err) {
    Sessions sessions = {.since = "infinity", .hidden = "{}"};

    if (!open_fence(promote, err) || !promote_other_fence(promote, err) || !promote_fence_tables(promote, err))
        return false;
    promote->outage_from_us = clock_now_us();
    if (promote->mode == FENCE_FULL && !promote_setting_on(promote, err))
        return false;
    set_deadline(promote);
    if (promote->mode == FENCE_FULL && !begin_sessions(promote, &sessions, err))
        return false;
    return take_locks(promote, &sessions, err) && failpoint("promote.after_lock", err) &&
           end_rest(promote, &sessions, err);
}

bool promote_fence(Promote *promote, Error *err) {
    promote->outage_from_us = clock_now_us();
    set_deadline(promote);
    if (promote->mode != FENCE_NONE && !raise_fence(promote, err))
        return false;
    if (!settle_writers(promote, err) || !seam_marker(promote->params->source, "promote", &promote->result.marker, err))
        return false;
    log_info("promote fence tables=%zu us=%lld", promote->lock_count,
             (long long)(clock_now_us() - promote->outage_from_us));
    return failpoint("promote.after_marker", err);
}

/* Whoever waits for a lock of ours would write to a database that is not in use any more. */
void promote_end_waiting(const Promote *promote) {
    Error err = {0};

    if (promote->mode != FENCE_FULL)
        return;
    const char *sql = "SELECT pg_catalog.pg_terminate_backend(a.pid)" PROMOTE_SESSIONS " AND " PROMOTE_MAY_END
                      " AND a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted)";

    if (!db_query(promote->params->source, sql, 1, (const char *const[]){promote->params->job_id}, NULL, &err))
        log_error_value(LOG_WARNING, &err);
}

void promote_fence_release(Promote *promote) {
    promote_end_waiting(promote);
    if (promote->fence != NULL)
        db_rollback(promote->fence);
    db_closep(&promote->fence);
}
