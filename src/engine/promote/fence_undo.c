/*
 * The way back of a fence: the source database's setting as it was, and an end for the sessions that took it over.
 *
 * NOTES: whom the setting stays with
 * A session reads default_transaction_read_only once, when it logs in. Setting the database back changes nothing for
 * those that logged in meanwhile: the application connects again at once, and a pool would keep its read-only sessions
 * for ever. So when the RESET is committed, the sessions are ended that may have read the setting:
 *
 *   from     the moment in the journal's line, read from the source's clock before the setting was made, less the time
 *            that a login may take: one that began before and read its settings afterwards has it, too. The fence ends
 *            those that are older, so who is hit in vain had no session to keep, or connects once more
 *   until    the source's clock once the RESET's COMMIT was answered: whoever begins later reads it
 *
 *   login    a session is in no list before it has read its settings (18: only without its database), but holds a lock
 *            on the database's row of pg_database from before it reads them until it is listed. So first those are
 *            waited for that hold that lock and are not listed; after that all that began before is listed
 *   hidden   of other roles' sessions we may not see the begin: those that are listed then
 *   settings that a role has, or had, of its own go before the database's. They are not asked for: they may be others
 *            than when the session logged in, and a session too many costs a new connection, one too few all its writes
 *
 * Ended is what the fence may end, by the same rules; never ours, no replication, nobody's parallel workers. Sessions
 * that we may not end, or that do not end, are named with the SQL, and the undo is done all the same. The journal's
 * line goes last: who finds it after a crash sets back what is set back already, and ends all up to then.
 * A fence of another kind has no line, and leaves nobody read-only.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#define OLD_FENCE_PATIENCE_US (15 * USEC_PER_SEC)
#define END_PATIENCE_US (5 * USEC_PER_SEC)
#define LOOK_US (10 * USEC_PER_MSEC)

enum { NAMES_SHOWN = 5 };

static bool pause_undo(const DbConn *source, Error *err) {
    return stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + LOOK_US) != WAIT_STOPPED ||
           error_set(err, REASON_CANCELLED, "stopped");
}

/* ---- Sessions that took the setting over ---- */

typedef struct Late {
    const char *job_id;
    const char *since, *until; /* the source's clock */
    const char *hidden;        /* pids whose begin we may not see: "{1,2}" */
} Late;

/* $1: among these pids, NULL = any. */
#define LOGINS                                                                                                         \
    "SELECT coalesce(pg_catalog.array_agg(l.pid), '{}')::text, pg_catalog.clock_timestamp()::text,"                    \
    " count(*) FROM pg_catalog.pg_locks l"                                                                             \
    " WHERE l.locktype = 'object' AND l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass"                       \
    " AND l.objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"            \
    " AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()"                          \
    " AND ($1::integer[] IS NULL OR l.pid = ANY ($1::integer[]))"                                                      \
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = l.pid"                                   \
    "  AND a.datname = pg_catalog.current_database())"

/* The first look is the moment from which on everybody reads the setting as it was. */
static bool wait_for_logins(DbConn *source, Arena *arena, Late *late, Error *err) {
    int64_t deadline = clock_now_us() + END_PATIENCE_US;
    const char *pids = NULL;

    for (;;) {
        CLEANUP(db_result_freep) DbResult *row = NULL;

        if (!db_query(source, LOGINS, 1, &pids, &row, err))
            return error_wrap(err, "looking for logins on the source");
        if (pids == NULL)
            late->until = arena_strdup(arena, db_text(row, 0, 1));
        if (db_int64(row, 0, 2) == 0)
            return true;
        pids = arena_strdup(arena, db_text(row, 0, 0));
        if (clock_now_us() > deadline) {
            log_info("undo: logins that do not end: %s", pids);
            return true;
        }
        if (!pause_undo(source, err))
            return false;
    }
}

static bool list_hidden(DbConn *source, Arena *arena, Late *late, Error *err) {
    char *pids = NULL;

    if (!db_query_value(source, arena,
                        "SELECT coalesce(pg_catalog.array_agg(a.pid), '{}')::text" PROMOTE_SESSIONS
                        " AND a.backend_start IS NULL",
                        1, &late->job_id, &pids, err))
        return error_wrap(err, "looking at the source's sessions");
    late->hidden = pids;
    return true;
}

/* Asks them to end. Columns: pid, who, may we. */
static bool end_late(DbConn *source, const Late *late, DbResult **ret_rows, Error *err) {
    const char *sql = "SELECT a.pid, " PROMOTE_WHO ", " PROMOTE_MAY_END ", CASE WHEN " PROMOTE_MAY_END
                      " THEN pg_catalog.pg_terminate_backend(a.pid) END" PROMOTE_SESSIONS
                      " AND coalesce(a.backend_type, '') NOT IN ('walsender', 'autovacuum worker', 'parallel worker')"
                      " AND ((a.backend_start <= $3::timestamptz AND a.backend_start >= $2::timestamptz"
                      "   - 2 * pg_catalog.current_setting('authentication_timeout')::interval)"
                      "  OR (a.backend_start IS NULL AND a.pid = ANY ($4::integer[]))) ORDER BY 3, 1";

    return db_query(source, sql, 4, (const char *const[]){late->job_id, late->since, late->until, late->hidden},
                    ret_rows, err) ||
           error_wrap(err, "ending sessions of the source that are read-only still");
}

static int count_endable(const DbResult *rows) {
    int count = 0;

    for (int i = 0; i < db_rows(rows); i++)
        count += db_bool(rows, i, 2);
    return count;
}

static const char *describe_left(Arena *arena, const DbResult *rows) {
    const char *who = "", *pids = "";

    for (int i = 0; i < db_rows(rows); i++) {
        if (i < NAMES_SHOWN)
            who = arena_printf(arena, "%s%s%s%s", who, i == 0 ? "" : "; ", db_text(rows, i, 1),
                               db_bool(rows, i, 2) ? ", which does not end" : ", which we may not end");
        pids = arena_printf(arena, "%s%s%s", pids, i == 0 ? "" : ", ", db_text(rows, i, 0));
    }
    return arena_printf(arena,
                        "the source is writable, but %d session%s that logged in while it was not stay%s read-only"
                        " until %s: %s%s; on the source, as a role that may: SELECT pg_terminate_backend(pid) FROM"
                        " pg_stat_activity WHERE pid IN (%s)",
                        db_rows(rows), db_rows(rows) == 1 ? "" : "s", db_rows(rows) == 1 ? "s" : "",
                        db_rows(rows) == 1 ? "it ends" : "they end", who, db_rows(rows) > NAMES_SHOWN ? "; ..." : "",
                        pids);
}

/* Until a look finds none; those that cannot be ended are named in `left`. */
static bool end_late_sessions(DbConn *source, const char *job_id, const char *line, Arena *arena, StringVec *left,
                              Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Late late = {.job_id = job_id, .since = promote_setting_since(scratch, line)};
    int64_t deadline = clock_now_us() + END_PATIENCE_US;

    if (!wait_for_logins(source, scratch, &late, err) || !list_hidden(source, scratch, &late, err))
        return false;
    for (;;) {
        CLEANUP(db_result_freep) DbResult *rows = NULL;

        if (!end_late(source, &late, &rows, err))
            return false;
        if (count_endable(rows) == 0 || clock_now_us() > deadline) {
            if (db_rows(rows) > 0)
                vec_push(arena, left, describe_left(arena, rows));
            return true;
        }
        if (!pause_undo(source, err))
            return false;
    }
}

/* ---- Back ---- */

/* A fence whose worker is gone, but whose connection the server still takes for alive, holds its locks on. */
static bool end_old_fences(DbConn *source, const char *job_id, Error *err) {
    int64_t deadline = clock_now_us() + OLD_FENCE_PATIENCE_US;

    for (;;) {
        CLEANUP(db_result_freep) DbResult *left = NULL;

        if (!db_query(source,
                      "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                      " WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()"
                      " AND application_name = pg_catalog.left('pgcrane ' || $1 || ' fence', 63)",
                      1, (const char *const[]){job_id}, &left, err))
            return error_wrap(err, "ending the fence's session");
        if (db_rows(left) == 0)
            return true;
        if (clock_now_us() > deadline)
            return error_set(err, REASON_LOCK_BUSY, "the fence's session (source, pid %s) does not end",
                             db_text(left, 0, 0));
        if (!pause_undo(source, err))
            return false;
    }
}

static bool set_back(DbConn *source, const char *line, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql = promote_setting_back_sql(arena, db_name(source), line);

    if (sql == NULL)
        return error_set(err, REASON_LEDGER_MISMATCH, "the journal has a fence that this version does not know: %s",
                         line);
    if (!db_execf(source, err, PROMOTE_ALTER_SQL "%s; COMMIT", sql)) {
        db_rollback(source);
        return error_wrap(err, "setting its database back");
    }
    log_info("undone on the source: %s", sql);
    return failpoint("promote.after_undo_setting", err);
}

static bool forget_line(DbConn *dest, Error *err) {
    return db_query(dest, "DELETE FROM pgcrane.source_object WHERE kind = $1", 1, (const char *const[]){JOURNAL_FENCE},
                    NULL, err);
}

static bool undo_in_transaction(DbConn *source, DbConn *dest, const Ledger *ledger, Arena *arena, bool *ret_undone,
                                StringVec *left, Error *err) {
    const char *line = NULL;
    bool opened = false;

    if (!end_old_fences(source, ledger->job_id, err) || !ledger_step_done(dest, PROMOTE_STEP_OPENED, &opened, err) ||
        !promote_setting_read_line(dest, arena, &line, err))
        return false;
    *ret_undone = !opened && line != NULL;
    return !*ret_undone ||
           (set_back(source, line, err) && end_late_sessions(source, ledger->job_id, line, arena, left, err) &&
            forget_line(dest, err));
}

/* Said only where there was something to undo. */
static bool explain_undo(const char *line, Error *err) {
    return line != NULL && error_wrap(err, "making the source writable again");
}

/* In one transaction that shares the job's row: a run that was taken over takes nothing back, it might be the other's
 * fence by now. */
bool promote_undo(DbConn *source, DbConn *dest, const Ledger *ledger, Arena *arena, bool *ret_undone, StringVec *left,
                  Error *err) {
    StringVec found = {0};
    const char *line = NULL;
    bool undone = false;

    if (!promote_setting_read_line(dest, arena, &line, err))
        return false;
    if (!ledger_begin(dest, ledger, err))
        return explain_undo(line, err);
    /* Not waiting for the destination's standbys, whose absence may be why we are here: one that has the line still
     * sets back what is set back already. */
    if (!db_exec(dest, "SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '5s'", err) ||
        !undo_in_transaction(source, dest, ledger, arena, &undone, &found, err) || !ledger_commit(dest, err)) {
        db_rollback(dest);
        return explain_undo(line, err);
    }
    *ret_undone = undone;
    for (size_t i = 0; i < found.len; i++)
        vec_push(arena, left, found.items[i]);
    return true;
}
