/*
 * The writing side of COPY ... FROM STDIN, without blocking.
 *
 * A server that errs in mid-COPY says so at once and from then on throws away what it is sent. libpq reads that message
 * only after PQputCopyEnd(), and offers no call that asks for it. What can be seen is that the socket has become
 * readable and that it was no notice: in mid-COPY nothing else is sent. Then the COPY is ended with CopyFail, never
 * with CopyDone, so that a wrong guess costs an error and not half a table. (When libpq happens to read the message
 * while it tries to send, the look comes to nothing and the error is found at the end: slower, still right.)
 */
#include "pg/conn_internal.h"
#include "pg/query.h"

#include <poll.h>

/* Ends the COPY as failed. The error is the server's own where there is one. */
static bool fail_copy(DbConn *conn, Error *err) {
    Error own;

    query_fail_conn(conn, &own);
    conn->broken = PQstatus(conn->pg) == CONNECTION_BAD;
    bool said = conn_drain(conn, err);
    if (!said)
        *err = own;
    conn->broken = conn->broken || PQstatus(conn->pg) == CONNECTION_BAD || !said;
    return false;
}

bool copy_in_flush(DbConn *conn, bool *ret_pending, Error *err) {
    int unsent = PQflush(conn->pg);

    if (unsent < 0)
        return fail_copy(conn, err);
    *ret_pending = unsent == 1;
    return true;
}

bool copy_in_look(DbConn *conn, Error *err) {
    int64_t notices = conn->notices;
    PGnotify *notify = NULL;
    bool harmless = false;

    if (!PQconsumeInput(conn->pg))
        return fail_copy(conn, err);
    (void)PQisBusy(conn->pg); /* makes libpq take the notices */
    while ((notify = PQnotifies(conn->pg)) != NULL) {
        PQfreemem(notify);
        harmless = true;
    }
    return harmless || conn->notices > notices || fail_copy(conn, err);
}

bool copy_in_peek(DbConn *conn, Error *err) {
    struct pollfd readable = {.fd = PQsocket(conn->pg), .events = POLLIN};

    if (readable.fd < 0)
        return fail_copy(conn, err);
    return poll(&readable, 1, 0) <= 0 || copy_in_look(conn, err);
}

/* A wait that ends when the server can take more or has something to say. */
static bool wait_sendable(DbConn *conn, Error *err) {
    if (PQsocket(conn->pg) < 0)
        return fail_copy(conn, err);
    return query_wait(conn, POLLIN | POLLOUT, err) && copy_in_peek(conn, err);
}

bool copy_in_drain(DbConn *conn, Error *err) {
    for (;;) {
        bool pending = false;
        if (!copy_in_flush(conn, &pending, err))
            return false;
        if (!pending)
            return true;
        if (!wait_sendable(conn, err))
            return false;
    }
}

bool copy_in_send(DbConn *conn, const char *bytes, size_t len, bool *ret_pending, Error *err) {
    for (;;) {
        int put = PQputCopyData(conn->pg, bytes, (int)len);
        if (put == 1)
            return copy_in_flush(conn, ret_pending, err);
        if (put < 0)
            return fail_copy(conn, err);
        /* No room, and libpq could not get more. */
        if (!wait_sendable(conn, err))
            return false;
    }
}

bool db_copy_in_begin(DbConn *conn, const char *sql, Error *err) {
    return query_start_copy(conn, sql, PGRES_COPY_IN, err);
}

bool db_copy_in_put(DbConn *conn, const void *bytes, size_t len, Error *err) {
    const char *rest = bytes;

    while (len > 0) {
        size_t piece = MIN(len, (size_t)COPY_PIECE_MAX);
        bool pending = false;
        if (!copy_in_send(conn, rest, piece, &pending, err) || (pending && !copy_in_drain(conn, err)))
            return false;
        rest += piece;
        len -= piece;
    }
    return true;
}

bool db_copy_in_end(DbConn *conn, int64_t *ret_rows, Error *err) {
    for (;;) {
        int ended = PQputCopyEnd(conn->pg, NULL);
        if (ended == 1)
            break;
        if (ended < 0)
            return fail_copy(conn, err);
        if (!wait_sendable(conn, err))
            return false;
    }
    return query_flush(conn, err) && query_finish(conn, ret_rows, err);
}
