/* Sessions that a connection of ours has left behind. */
#include "pg/namesakes.h"

#include "common/clock.h"

#define PATIENCE_US (30 * USEC_PER_SEC)
#define PAUSE_US (20 * USEC_PER_MSEC)

bool db_end_namesakes(DbConn *conn, Error *err) {
    int64_t deadline = clock_now_us() + PATIENCE_US;

    for (;;) {
        CLEANUP(db_result_freep) DbResult *left = NULL;

        if (!db_query(conn,
                      "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                      " WHERE datname = pg_catalog.current_database() AND usename = session_user"
                      " AND pid <> pg_catalog.pg_backend_pid()"
                      " AND application_name = pg_catalog.current_setting('application_name')",
                      0, NULL, &left, err))
            return error_wrap(err, "ending an earlier session of ours");
        if (db_rows(left) == 0)
            return true;
        if (clock_now_us() > deadline)
            return error_set(err, REASON_LOCK_BUSY, "an earlier session of ours (%s, pid %s) does not end",
                             db_side_name(db_conn_side(conn)), db_text(left, 0, 0));
        if (stop_wait_fd(db_stop(conn), -1, 0, clock_now_us() + PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}
