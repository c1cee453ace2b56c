/*
 * Sessions in a guarded database that are not pgcrane's.
 *
 * A session is in no list before it has read pg_database and its settings, but holds a lock on the database's row of
 * pg_database from before it reads them until it is listed. So a look that finds neither a session nor such a lock
 * finds all that came in by what was there before.
 */
#include "common/clock.h"
#include "engine/demote/demote_internal.h"

#define PATIENCE_US (10 * USEC_PER_SEC)
#define LOOK_US (20 * USEC_PER_MSEC)

/* Of others' sessions a role without rights sees neither kind nor begin: those are sessions like others. */
#define MAY_END                                                                                                        \
    "(me.rolsuper OR (NOT r.rolsuper AND (pg_catalog.pg_has_role(a.usesysid, 'USAGE')"                                 \
    " OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))))"
/* $1: the database's oid; $2: those that began up to then, NULL = all. Workers of the server itself write nothing
 * that a limit could keep out, nor does a walsender while it streams; before and behind that it runs SQL. Ours are
 * those of the login, whoever it acts as (SET ROLE), and of no member of it. */
#define END_SQL                                                                                                        \
    "SELECT a.pid, 'session ' || a.pid || ' (' || coalesce(a.usename, '?') || ', '"                                    \
    " || coalesce(a.application_name, '') || ')', " MAY_END ", CASE WHEN " MAY_END                                     \
    " THEN pg_catalog.pg_terminate_backend(a.pid) END"                                                                 \
    " FROM pg_catalog.pg_roles me, pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r"                      \
    " ON r.oid = a.usesysid"                                                                                           \
    " WHERE me.rolname = current_user AND a.usesysid IS NOT NULL AND a.datid = $1::oid AND a.pid <> "                  \
    "pg_catalog.pg_backend_pid()"                                                                                      \
    " AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'walsender')"                               \
    " AND a.pid NOT IN (SELECT w.pid FROM pg_catalog.pg_stat_replication w WHERE w.state <> 'startup')"                \
    " AND ($2::timestamptz IS NULL OR a.backend_start <= $2::timestamptz)"                                             \
    " AND NOT (a.usename = session_user AND pg_catalog.strpos(coalesce(a.application_name, ''), 'pgcrane ') = 1)"
#define LOGINS_SQL                                                                                                     \
    "SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'object'"                                                  \
    " AND l.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND l.objid = $1::oid"                             \
    " AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()"                          \
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = l.pid AND a.datid = $1::oid)"

static int count_endable(const DbResult *sessions) {
    int count = 0;

    for (int row = 0; row < db_rows(sessions); row++)
        count += db_bool(sessions, row, 2);
    return count;
}

static bool look(DbConn *conn, const char *oid, const char *until, DbResult **ret_sessions, bool *ret_over,
                 Error *err) {
    CLEANUP(db_result_freep) DbResult *logins = NULL;

    if (!db_query(conn, LOGINS_SQL, 1, &oid, &logins, err) ||
        !db_query(conn, END_SQL, 2, (const char *const[]){oid, until}, ret_sessions, err))
        return error_wrap(err, "ending sessions of the destination");
    *ret_over = db_rows(logins) == 0 && count_endable(*ret_sessions) == 0;
    return true;
}

static void name_left(Arena *arena, const DbResult *sessions, StringVec *left) {
    for (int row = 0; row < db_rows(sessions); row++)
        vec_push(arena, left,
                 arena_printf(arena, "%s %s", db_text(sessions, row, 1),
                              db_bool(sessions, row, 2) ? "does not end" : "is none that our role may end"));
}

bool demote_end_sessions(DbConn *conn, Arena *arena, const char *oid, const char *until, StringVec *left, Error *err) {
    int64_t deadline = clock_now_us() + PATIENCE_US;

    for (;;) {
        CLEANUP(db_result_freep) DbResult *sessions = NULL;
        bool over = false;

        if (!look(conn, oid, until, &sessions, &over, err))
            return false;
        if (over || clock_now_us() > deadline) {
            name_left(arena, sessions, left);
            return true;
        }
        if (stop_wait_fd(db_stop(conn), -1, 0, clock_now_us() + LOOK_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}
