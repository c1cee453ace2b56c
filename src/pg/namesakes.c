/* Sessions that a connection of ours has left behind. */
#include "pg/namesakes.h"

#include "common/clock.h"
#include "common/log.h"
#include "pg/conn_internal.h"
#include "pg/quote.h"

#define PATIENCE_US (30 * USEC_PER_SEC)
#define PAUSE_US (20 * USEC_PER_MSEC)

/* The simple protocol: of replication connections, too. */
bool db_has_own_name(DbConn *conn, bool *ret_has, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = arena_printf(arena, "SELECT pg_catalog.current_setting('application_name') = %s",
                                   sql_literal(arena, conn->application_name));

    if (!db_query_last(conn, sql, &row, err))
        return error_wrap(err, "asking for our session's name");
    *ret_has = db_rows(row) == 1 && db_bool(row, 0, 0);
    if (!*ret_has && !conn->other_name_told)
        log_warning("the %s gives our session \"%s\" another application_name: sessions that we left are not found",
                    db_side_name(conn->side), conn->application_name);
    conn->other_name_told |= !*ret_has;
    return true;
}

bool db_end_namesakes(DbConn *conn, Error *err) {
    int64_t deadline = clock_now_us() + PATIENCE_US;
    bool has_name = false;

    if (!db_has_own_name(conn, &has_name, err))
        return false;
    while (has_name) {
        CLEANUP(db_result_freep) DbResult *left = NULL;

        if (!db_query(conn,
                      "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                      " WHERE datname = pg_catalog.current_database() AND usename = session_user"
                      " AND pid <> pg_catalog.pg_backend_pid() AND application_name = $1",
                      1, (const char *const[]){conn->application_name}, &left, err))
            return error_wrap(err, "ending an earlier session of ours");
        if (db_rows(left) == 0)
            return true;
        if (clock_now_us() > deadline)
            return error_set(err, REASON_LOCK_BUSY, "an earlier session of ours (%s, pid %s) does not end",
                             db_side_name(db_conn_side(conn)), db_text(left, 0, 0));
        if (stop_wait_fd(db_stop(conn), -1, 0, clock_now_us() + PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    return true;
}
