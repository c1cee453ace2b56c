/* Waiting for NOTIFY (query.h). */
#include "pg/conn_internal.h"
#include "pg/query.h"

#include <poll.h>

/* Takes what libpq has parsed. */
static bool take_all(DbConn *conn) {
    PGnotify *notify = NULL;
    bool came = false;

    while ((notify = PQnotifies(conn->pg)) != NULL) {
        PQfreemem(notify);
        came = true;
    }
    return came;
}

bool db_wait_notification(DbConn *conn, int64_t deadline_us, bool *ret_came, Error *err) {
    for (;;) {
        if (db_is_broken(conn) || !PQconsumeInput(conn->pg))
            return query_fail_conn(conn, err);
        (void)PQisBusy(conn->pg); /* makes libpq parse */
        *ret_came = take_all(conn);
        if (*ret_came)
            return true;
        WaitResult waited = stop_wait_fd(conn->stop, PQsocket(conn->pg), POLLIN, deadline_us);
        if (waited == WAIT_STOPPED)
            return query_stopped(conn, err);
        if (waited == WAIT_TIMEOUT)
            return true;
    }
}
