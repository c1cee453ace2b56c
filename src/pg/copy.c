/*
 * COPY out of one server into another: the pump that moves table data.
 *
 * One loop, nothing blocks but its poll. Rows are taken from libpq one by one (it has no other call) and gathered in a
 * batch. A batch goes to the destination when it is full, or, from SEND_EARLY bytes on, when the source has nothing at
 * the moment: the destination then works while the source produces. While libpq still sends one batch, the next one is
 * filled; only when that is full, too, the source has to wait. So both servers are busy as long as either has work, and
 * memory stays below two batches and a row.
 *
 * Per row: one call of libpq, one copy, no clock, no poll, no atomic. Stop is looked at once per batch and in each
 * wait.
 *
 * Ends. Source fails: the destination gets CopyFail. Destination fails (copy_in.c says how that is noticed): the
 * source's statement is cancelled and its remaining rows thrown away. After that both sessions are idle, or broken.
 */
#include "pg/copy.h"

#include "common/clock.h"
#include "pg/conn_internal.h"
#include "pg/query.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { BATCH_SIZE = COPY_PIECE_MAX, SEND_EARLY = 64 << 10, GATE_BYTES = 32 << 20 };
#define GATE_POLL_US (20 * USEC_PER_MSEC)

typedef struct Pump {
    const DbCopy *copy;
    PGconn *source; /* of copy->source */
    DbSide failed;
    char *batch;
    size_t len;
    bool pending;          /* libpq has not sent all of the last batch */
    bool dry;              /* the last look brought no row */
    uint64_t row_began_at; /* bytes received when a row was first seen to be incomplete; 0 = none is */
    size_t seen_waiting;
    bool source_eof; /* the connection ended; what was read before is still to be parsed */
    DbCopyResult result;
} Pump;

static bool dest_failed(Pump *pump) {
    pump->failed = DB_DEST;
    return false;
}

static void count_bytes(Pump *pump, size_t len) {
    pump->result.bytes += (int64_t)len;
    if (pump->copy->bytes != NULL)
        atomic_fetch_add_explicit(pump->copy->bytes, (int64_t)len, memory_order_relaxed);
}

/* Waits for the piece before, then hands this one over. A server that has given up takes all it is sent, gladly and
 * fast: nothing is ever pending then, so it has to be asked. */
static bool send_piece(Pump *pump, const char *bytes, size_t len, Error *err) {
    DbConn *dest = pump->copy->dest;

    if (dest->stop != NULL && stop_requested(dest->stop))
        return query_stopped(dest, err);
    if (pump->pending && !copy_in_drain(dest, err))
        return dest_failed(pump);
    if (!copy_in_peek(dest, err) || !copy_in_send(dest, bytes, len, &pump->pending, err))
        return dest_failed(pump);
    count_bytes(pump, len);
    return true;
}

static bool send_batch(Pump *pump, Error *err) {
    size_t len = pump->len;

    pump->len = 0;
    return len == 0 || send_piece(pump, pump->batch, len, err);
}

/* A row that is no match for the batch: what is gathered goes first, then the row itself from where libpq put it. */
static bool take_big_row(Pump *pump, const char *row, size_t len, Error *err) {
    if (!send_batch(pump, err))
        return false;
    if (len <= BATCH_SIZE) {
        memcpy(pump->batch, row, len);
        pump->len = len;
        return true;
    }
    for (size_t done = 0; done < len; done += BATCH_SIZE)
        if (!send_piece(pump, row + done, MIN(len - done, (size_t)BATCH_SIZE), err))
            return false;
    return true;
}

static inline bool take_row(Pump *pump, const char *row, size_t len, Error *err) {
    if (pump->result.largest_row < (int64_t)len)
        pump->result.largest_row = (int64_t)len;
    if (len > BATCH_SIZE - pump->len)
        return take_big_row(pump, row, len, err);
    memcpy(pump->batch + pump->len, row, len);
    pump->len += len;
    return true;
}

static bool serve_dest(Pump *pump, short events, Error *err) {
    DbConn *dest = pump->copy->dest;

    if ((events & ~POLLOUT) != 0 && !copy_in_look(dest, err))
        return dest_failed(pump);
    if (pump->pending && !copy_in_flush(dest, &pump->pending, err))
        return dest_failed(pump);
    return true;
}

/* Waits for rows; meanwhile the destination gets what is pending. */
static bool wait_source(Pump *pump, Error *err) {
    const Stop *stop = pump->copy->source->stop;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = PQsocket(pump->source), .events = POLLIN},
            {.fd = PQsocket(pump->copy->dest->pg), .events = (short)(POLLIN | (pump->pending ? POLLOUT : 0))},
            {.fd = stop != NULL ? stop->event_fd : -1, .events = POLLIN},
        };
        if (fds[0].fd < 0)
            return query_fail_conn(pump->copy->source, err);
        if (poll(fds, COUNT_OF(fds), -1) < 0 && errno != EINTR)
            return error_errno(err, REASON_SYSTEM, "poll");
        if (stop != NULL && stop_requested(stop))
            return query_stopped(pump->copy->source, err);
        if (fds[1].revents != 0 && !serve_dest(pump, fds[1].revents, err))
            return false;
        if (fds[0].revents != 0)
            return true;
    }
}

void db_row_gate_init(DbRowGate *gate) {
    (void)pthread_mutex_init(&gate->lock, NULL);
}

void db_row_gate_fini(DbRowGate *gate) {
    (void)pthread_mutex_destroy(&gate->lock);
}

void db_row_gate_release(DbRowGate *gate) {
    (void)pthread_mutex_unlock(&gate->lock);
}

static bool take_gate(Pump *pump, Error *err) {
    const DbCopy *copy = pump->copy;

    while (pthread_mutex_trylock(&copy->gate->lock) != 0)
        if (stop_wait_fd(copy->source->stop, -1, 0, clock_now_us() + GATE_POLL_US) == WAIT_STOPPED)
            return query_stopped(copy->source, err);
    *copy->gate_held = true;
    return true;
}

/* Bytes the connection has received in its life, by the kernel's own count; 0 for a unix socket, which has none. */
static uint64_t bytes_received(const Pump *pump) {
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(PQsocket(pump->source), IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_received;
}

/* How much of one row libpq may hold by now. It does not tell, so the socket is asked. On a unix socket only what waits
 * before each read can be seen; libpq reads on while more comes, about twenty times as much. */
static bool is_huge_row(Pump *pump) {
    uint64_t received = bytes_received(pump);
    int waiting = 0;

    if (received > 0) {
        if (pump->row_began_at == 0)
            pump->row_began_at = received;
        return received - pump->row_began_at >= GATE_BYTES;
    }
    if (ioctl(PQsocket(pump->source), FIONREAD, &waiting) == 0 && waiting > 0)
        pump->seen_waiting += (size_t)waiting;
    return pump->seen_waiting >= GATE_BYTES / 20;
}

/* Called only when the read before brought no whole row: rows of ordinary size cost nothing here. */
static bool watch_row_size(Pump *pump, Error *err) {
    const DbCopy *copy = pump->copy;

    if (copy->gate == NULL || *copy->gate_held || !is_huge_row(pump))
        return true;
    return take_gate(pump, err);
}

/* libpq has no whole row. The first time just read: a busy source has sent more by now, and a poll would tell us so. */
static bool refill(Pump *pump, Error *err) {
    if (pump->source_eof)
        return query_fail_conn(pump->copy->source, err);
    if (pump->dry) {
        if (!pump->pending && pump->len >= SEND_EARLY && !send_batch(pump, err))
            return false;
        if (!wait_source(pump, err) || !watch_row_size(pump, err))
            return false;
    }
    pump->dry = true;
    pump->source_eof = !PQconsumeInput(pump->source);
    return true;
}

static bool stream(Pump *pump, Error *err) {
    for (;;) {
        char *row = NULL;
        int len = PQgetCopyData(pump->source, &row, 1);
        if (len > 0) {
            pump->dry = false;
            pump->row_began_at = pump->seen_waiting = 0;
            bool taken = take_row(pump, row, (size_t)len, err);
            PQfreemem(row);
            if (!taken)
                return false;
        } else if (len == 0) {
            if (!refill(pump, err))
                return false;
        } else {
            return len == -1 || query_fail_conn(pump->copy->source, err);
        }
    }
}

/* The destination may only be told that all is well after the source has said so. */
static bool finish(Pump *pump, Error *err) {
    DbConn *dest = pump->copy->dest;
    int64_t rows_read = 0;
    int64_t rows_written = 0;

    if (!query_finish(pump->copy->source, &rows_read, err) || !send_batch(pump, err))
        return false;
    if ((pump->pending && !copy_in_drain(dest, err)) || !db_copy_in_end(dest, &rows_written, err))
        return dest_failed(pump);
    if (rows_read != rows_written) {
        error_set(err, REASON_ROW_COUNT, "the source sent %" PRId64 " rows, the destination stored %" PRId64, rows_read,
                  rows_written);
        return dest_failed(pump);
    }
    pump->result.rows = rows_written;
    return true;
}

static bool run_pump(Pump *pump, Error *err) {
    const DbCopy *copy = pump->copy;

    if (!query_start_copy(copy->source, copy->source_sql, PGRES_COPY_OUT, err))
        return false;
    if (!db_copy_in_begin(copy->dest, copy->dest_sql, err))
        return dest_failed(pump);
    return stream(pump, err) && finish(pump, err);
}

bool db_copy_pump(const DbCopy *copy, DbCopyResult *ret_result, DbSide *ret_failed_side, Error *err) {
    Pump pump = {.copy = copy, .source = copy->source->pg, .failed = DB_SOURCE};

    pump.batch = malloc(BATCH_SIZE);
    bool good = pump.batch != NULL ? run_pump(&pump, err) : error_set(err, REASON_SYSTEM, "out of memory");
    free(pump.batch);
    if (good) {
        *ret_result = pump.result;
        return true;
    }
    *ret_failed_side = pump.failed;
    db_cancel(copy->dest);
    db_cancel(copy->source);
    return false;
}
