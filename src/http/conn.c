/*
 * A connection: its states, and what it reads in each.
 *
 *     HANDSHAKE -> HEAD -> BODY -> HANDLING -> WRITING -> IDLE -> HEAD ...
 *                                           -> STREAMING     -> LINGERING -> closed
 *
 * While a request is handled and its response written, nothing is read: a client that sends the next one early leaves
 * it in its own buffers. Each state has a list in the server with deadlines in order, so that no connection has a
 * timer.
 *
 * The last response is followed by LINGERING: our half is closed and what the client still sends is read and dropped.
 * Closing with bytes unread would make the kernel reset the connection, and the client may lose the response.
 */
#include "http/internal.h"

#include "common/heap.h"

#include <string.h>

typedef struct StateInfo {
    bool reads;
    bool has_timeout;
    size_t timeout; /* its place in HttpLimits */
} StateInfo;

#define TIMEOUT(limit) true, offsetof(HttpLimits, limit)

static const StateInfo states[] = {
    [CONN_HANDSHAKE] = {true, TIMEOUT(head_timeout_us)},
    [CONN_IDLE] = {true, TIMEOUT(idle_timeout_us)},
    [CONN_HEAD] = {true, TIMEOUT(head_timeout_us)},
    [CONN_BODY] = {true, TIMEOUT(body_timeout_us)},
    [CONN_HANDLING] = {false}, /* ends by the handler */
    [CONN_WRITING] = {false},  /* ends by bufferevent's own time-out for writing */
    [CONN_STREAMING] = {true, TIMEOUT(heartbeat_us)},
    [CONN_LINGERING] = {true, TIMEOUT(linger_timeout_us)},
};

static int64_t new_deadline(const HttpServer *server, const StateInfo *info) {
    const char *limits = (const char *)&server->config.limits;
    int64_t timeout_us;

    if (!info->has_timeout)
        return 0;
    memcpy(&timeout_us, limits + info->timeout, sizeof(timeout_us));
    return timeout_us == 0 ? 0 : clock_now_us() + timeout_us;
}

static void set_write_timeout(HttpConn *conn, bool on) {
    int64_t us = conn->server->config.limits.write_timeout_us;
    struct timeval after = {.tv_sec = us / USEC_PER_SEC, .tv_usec = us % USEC_PER_SEC};

    bufferevent_set_timeouts(conn->bev, NULL, on && us > 0 ? &after : NULL);
}

void conn_enter(HttpConn *conn, ConnState state) {
    HttpServer *server = conn->server;
    bool was_writing = conn->state == CONN_WRITING || conn->state == CONN_STREAMING;
    bool writes = state == CONN_WRITING || state == CONN_STREAMING;

    TAILQ_REMOVE(&server->conns[conn->state], conn, link);
    conn->state = (uint8_t)state;
    conn->deadline_us = new_deadline(server, &states[state]);
    TAILQ_INSERT_TAIL(&server->conns[state], conn, link);
    if (was_writing != writes)
        set_write_timeout(conn, writes);
    if (states[state].reads && !conn->peer_ended)
        bufferevent_enable(conn->bev, EV_READ);
    else
        bufferevent_disable(conn->bev, EV_READ);
}

static void end_exchange(HttpConn *conn, bool complete) {
    HttpExchange *exchange = conn->exchange;

    conn->exchange = NULL;
    if (exchange == NULL)
        return;
    exchange->conn = NULL;
    if (conn->state != CONN_HANDLING) /* else the handler still has it */
        exchange_finish(exchange, complete);
}

static void end_stream(HttpConn *conn, HttpStreamEnd why) {
    HttpStream *stream = conn->stream;

    conn->stream = NULL;
    if (stream == NULL)
        return;
    conn->server->streams--;
    conn->server->counters.streams_open--;
    stream_detach(stream, why);
}

void conn_close(HttpConn *conn, HttpStreamEnd why) {
    HttpServer *server = conn->server;

    TAILQ_REMOVE(&server->conns[conn->state], conn, link);
    end_exchange(conn, false);
    end_stream(conn, why);
    peers_remove(server->peers, &conn->peer);
    bufferevent_free(conn->bev);
    heap_free(conn);
    server_conn_gone(server);
}

/* Our half is closed once what is written is out. */
static void linger(HttpConn *conn) {
    tls_say_goodbye(conn->bev);
    shutdown(bufferevent_getfd(conn->bev), SHUT_WR);
    if (conn->peer_ended)
        conn_close(conn, HTTP_STREAM_GONE);
    else
        conn_enter(conn, CONN_LINGERING);
}

static void refuse(HttpConn *conn, Refusal refusal) {
    HttpExchange *exchange = conn->exchange != NULL ? conn->exchange : exchange_new(conn);
    exchange_refuse(exchange, refusal);
}

/* --- reading --- */

static void drop_input(HttpConn *conn) {
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    evbuffer_drain(input, evbuffer_get_length(input));
}

/* A head that is not whole yet: may it still become one? */
static bool head_too_large(HttpConn *conn, const char *bytes, size_t len) {
    enum { AROUND_TARGET = 64 }; /* method and version */
    const HttpLimits *limits = &conn->server->config.limits;
    bool in_target = memchr(bytes, '\n', len) == NULL;

    if (in_target && len > (size_t)limits->target_bytes + AROUND_TARGET)
        refuse(conn, (Refusal){414, "the target of the request is too long"});
    else if (len >= (size_t)limits->head_bytes)
        refuse(conn, (Refusal){431, "the headers of the request are too large"});
    else
        return false;
    return true;
}

static void begin_body(HttpConn *conn) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    bool waits = conn->exchange->head.expect_continue && evbuffer_get_length(bufferevent_get_input(conn->bev)) == 0;

    conn_enter(conn, CONN_BODY);
    if (!waits)
        return;
    evbuffer_add(bufferevent_get_output(conn->bev), go_on, sizeof(go_on) - 1);
    conn->server->counters.requests_1xx++;
    conn->server->counters.bytes_out += sizeof(go_on) - 1;
}

static void take_head(HttpConn *conn, const char *bytes) {
    HttpExchange *exchange = exchange_new(conn);
    size_t len = conn->scanned;
    const char *head = arena_strndup(exchange->arena, bytes, len);
    Refusal refusal;

    evbuffer_drain(bufferevent_get_input(conn->bev), len);
    conn->server->counters.bytes_in += len;
    conn->scanned = 0;
    conn->requests++;
    if (!parse_head(&exchange->parser, head, len, &conn->server->config.limits, &exchange->request, &exchange->head,
                    &refusal))
        refuse(conn, refusal);
    else if (exchange->head.complete)
        exchange_dispatch(exchange);
    else
        begin_body(conn);
}

/* True: there may be more to do with what was read. */
static bool read_head(HttpConn *conn) {
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    size_t len = MIN(evbuffer_get_length(input), (size_t)conn->server->config.limits.head_bytes);
    size_t scanned = conn->scanned;

    if (len == 0)
        return false;
    if (conn->state == CONN_IDLE)
        conn_enter(conn, CONN_HEAD);
    const char *bytes = (const char *)evbuffer_pullup(input, (ssize_t)len);
    HeadScan scan = head_scan(bytes, len, &scanned);
    conn->scanned = (uint32_t)scanned;
    if (scan == HEAD_MORE)
        return head_too_large(conn, bytes, len);
    if (scan == HEAD_DONE)
        take_head(conn, bytes);
    else
        refuse(conn, (Refusal){400, "the request is not valid HTTP"});
    return true;
}

static bool read_body(HttpConn *conn) {
    HttpExchange *exchange = conn->exchange;
    struct evbuffer *input = bufferevent_get_input(conn->bev);
    struct evbuffer_iovec piece;
    Refusal refusal;
    size_t taken;

    if (evbuffer_peek(input, -1, NULL, &piece, 1) < 1 || piece.iov_len == 0)
        return false;
    if (!parse_body(&exchange->parser, piece.iov_base, piece.iov_len, &exchange->body, &taken, &refusal)) {
        refuse(conn, refusal);
        return true;
    }
    evbuffer_drain(input, taken);
    conn->server->counters.bytes_in += taken;
    if (exchange->body.done)
        exchange_dispatch(exchange);
    return true;
}

static void process(HttpConn *conn) {
    bool more = true;

    while (more) {
        if (conn->state == CONN_IDLE || conn->state == CONN_HEAD)
            more = read_head(conn);
        else if (conn->state == CONN_BODY)
            more = read_body(conn);
        else
            more = false;
    }
}

static void on_read(struct bufferevent *bev, void *context) {
    HttpConn *conn = context;
    (void)bev;

    if (conn->state == CONN_STREAMING || conn->state == CONN_LINGERING)
        drop_input(conn);
    else
        process(conn);
}

/* --- writing --- */

void conn_written(HttpConn *conn) {
    end_exchange(conn, true);
    if (!conn->keep || conn->server->stop_deadline_us != 0) {
        linger(conn);
        return;
    }
    conn_enter(conn, CONN_IDLE);
    process(conn);
}

static void on_write(struct bufferevent *bev, void *context) {
    HttpConn *conn = context;

    if (conn->state == CONN_WRITING && evbuffer_get_length(bufferevent_get_output(bev)) == 0)
        conn_written(conn);
}

void conn_end_stream(HttpConn *conn, HttpStreamEnd why) {
    end_stream(conn, why);
    conn->keep = false;
    conn_enter(conn, CONN_WRITING);
    if (evbuffer_get_length(bufferevent_get_output(conn->bev)) == 0)
        conn_written(conn);
}

/* --- ends --- */

/* The client has closed its half. What it asked before is answered all the same. */
static void on_end_of_input(HttpConn *conn) {
    conn->peer_ended = true;
    bool partial = conn->state == CONN_BODY ||
                   (conn->state == CONN_HEAD && evbuffer_get_length(bufferevent_get_input(conn->bev)) > 0);

    if (partial)
        refuse(conn, (Refusal){400, "the request ended before its end"});
    else if (conn->state != CONN_HANDLING && conn->state != CONN_WRITING)
        conn_close(conn, HTTP_STREAM_GONE);
}

static void on_event(struct bufferevent *bev, short what, void *context) {
    HttpConn *conn = context;
    (void)bev;

    if (what & BEV_EVENT_CONNECTED) {
        conn_enter(conn, CONN_HEAD);
    } else if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING) && conn->state != CONN_HANDSHAKE) {
        on_end_of_input(conn);
    } else {
        if (what & BEV_EVENT_TIMEOUT)
            conn->server->counters.timeouts++;
        conn_close(conn, HTTP_STREAM_GONE);
    }
}

void conn_time_out(HttpConn *conn) {
    bool begun = conn->state == CONN_BODY ||
                 (conn->state == CONN_HEAD && evbuffer_get_length(bufferevent_get_input(conn->bev)) > 0);

    if (conn->state == CONN_STREAMING) {
        conn_enter(conn, CONN_STREAMING);
        stream_heartbeat(conn->stream);
        return;
    }
    conn->server->counters.timeouts += conn->state != CONN_LINGERING;
    if (begun)
        refuse(conn, (Refusal){408, "the request took too long to come"});
    else
        conn_close(conn, HTTP_STREAM_GONE);
}

void conn_stop(HttpConn *conn) {
    bool waits = conn->state == CONN_IDLE || conn->state == CONN_HANDSHAKE ||
                 (conn->state == CONN_HEAD && evbuffer_get_length(bufferevent_get_input(conn->bev)) == 0);

    if (waits)
        conn_close(conn, HTTP_STREAM_STOPPED);
    else if (conn->state == CONN_STREAMING)
        conn_end_stream(conn, HTTP_STREAM_STOPPED);
}

void conn_new(HttpServer *server, struct bufferevent *bev, const PeerAddress *peer, bool tls) {
    HttpConn *conn = heap_new_of(HttpConn);

    conn->server = server;
    conn->bev = bev;
    conn->peer = *peer;
    conn->tls = tls;
    conn->state = tls ? CONN_HANDSHAKE : CONN_HEAD;
    TAILQ_INSERT_TAIL(&server->conns[conn->state], conn, link);
    bufferevent_setcb(bev, on_read, on_write, on_event, conn);
    bufferevent_enable(bev, EV_WRITE);
    conn_enter(conn, conn->state);
}
