/*
 * An HTTP/1.1 server on an event loop.
 *
 * What is where: listen.c accepts, conn.c has the states of a connection, parse.c and target.c read a request,
 * exchange.c takes it to a handler and its response back, stream.c sends events. This file has the server's own life:
 * limits, time-outs, the stop.
 */
#include "http/internal.h"

#include "common/log.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { TICK_US = 200 * 1000 };

/* --- limits --- */

HttpLimits http_limits_default(void) {
    return (HttpLimits){
#define X(name, value, help) .name = (value),
#include "http/limits.def"
#undef X
    };
}

bool http_limits_set(HttpLimits *limits, const char *name, int64_t value) {
    const struct {
        const char *name;
        int64_t *value;
    } all[] = {
#define X(name, value, help) {#name, &limits->name},
#include "http/limits.def"
#undef X
    };

    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (strcmp(all[i].name, name) == 0) {
            *all[i].value = value;
            return true;
        }
    }
    return false;
}

/* --- counters --- */

HttpCounters http_server_counters(HttpServer *server) {
    HttpCounters counters = {
#define X(name, total, help) .name = atomic_load(&server->counters.name),
        HTTP_COUNTERS(X)
#undef X
    };
    counters.queue = server->pool == NULL ? 0 : taskpool_waiting(server->pool);
    return counters;
}

/* --- connections --- */

/* Nobody waits for this to be sent: it fits into any socket's buffer, or the client gets nothing. */
static void turn_away(int fd, bool tls) {
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n"
                                 "Connection: close\r\n\r\n";
    if (!tls)
        (void)!send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static struct bufferevent *make_bufferevent(HttpServer *server, int fd, bool tls) {
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails on unix sockets, which have no delay */
    if (tls)
        return tls_bufferevent(server, fd);
    return bufferevent_socket_new(loop_base(server->loop), fd, BEV_OPT_CLOSE_ON_FREE);
}

void server_accept(HttpServer *server, int fd, const struct sockaddr *peer, bool tls) {
    const HttpLimits *limits = &server->config.limits;
    PeerAddress address = peer_address(peer);

    server->counters.connections++;
    if (server->open >= (size_t)limits->connections ||
        !peers_add(server->peers, &address, (size_t)limits->connections_per_address)) {
        server->counters.connections_refused++;
        turn_away(fd, tls);
        return;
    }
    struct bufferevent *bev = make_bufferevent(server, fd, tls);
    if (bev == NULL) {
        peers_remove(server->peers, &address); /* uncovered: needs a full machine */
        turn_away(fd, true);                   /* uncovered: as above */
        return;                                /* uncovered: as above */
    }
    server->open++;
    server->counters.connections_open++;
    conn_new(server, bev, &address, tls);
}

void http_server_adopt(HttpServer *server, int fd) {
    evutil_make_socket_nonblocking(fd);
    evutil_make_socket_closeonexec(fd);
    server_accept(server, fd, NULL, false);
}

const char *server_date(HttpServer *server) {
    int64_t now_us = clock_wall_us();

    if (now_us / USEC_PER_SEC != server->date_second) {
        server->date_second = now_us / USEC_PER_SEC;
        response_date(now_us, server->date, sizeof(server->date));
    }
    return server->date;
}

/* --- time-outs and the stop --- */

static void tell_stopped(void *context) {
    HttpServer *server = context;

    if (server->config.on_stopped != NULL)
        server->config.on_stopped(server->config.context);
}

/* By a posted call: the connection that went last may be deep in callbacks. */
static void check_stopped(HttpServer *server) {
    if (server->stop_deadline_us == 0 || server->open > 0 || server->told_stopped)
        return;
    server->told_stopped = true;
    loop_post(server->loop, tell_stopped, server);
}

void server_conn_gone(HttpServer *server) {
    server->open--;
    server->counters.connections_open--;
    check_stopped(server);
}

static void close_all(HttpServer *server) {
    for (ConnState state = 0; state < CONN_MAX_; state++) {
        HttpConn *conn;
        while ((conn = TAILQ_FIRST(&server->conns[state])) != NULL)
            conn_close(conn, HTTP_STREAM_STOPPED);
    }
}

/* The first of each list has the earliest deadline. None that is met here gets a new one in the past. */
static void on_tick(void *context) {
    HttpServer *server = context;
    int64_t now_us = clock_now_us();

    for (ConnState state = 0; state < CONN_MAX_; state++) {
        HttpConn *conn;
        while ((conn = TAILQ_FIRST(&server->conns[state])) != NULL && conn->deadline_us != 0 &&
               conn->deadline_us <= now_us)
            conn_time_out(conn);
    }
    if (server->stop_deadline_us == 0 || now_us < server->stop_deadline_us)
        return;
    stop_request(&server->hard_stop);
    if (server->open > 0)
        log_warning("%zu connections are closed before their requests were answered", server->open);
    close_all(server);
}

static void stop_conns(HttpServer *server) {
    static const ConnState waiting[] = {CONN_HANDSHAKE, CONN_IDLE, CONN_HEAD, CONN_STREAMING};

    for (size_t i = 0; i < COUNT_OF(waiting); i++) {
        HttpConn *conn = TAILQ_FIRST(&server->conns[waiting[i]]), *next;
        for (; conn != NULL; conn = next) {
            next = TAILQ_NEXT(conn, link);
            conn_stop(conn);
        }
    }
}

static void on_stop(void *context, int fd, short events) {
    HttpServer *server = context;
    (void)fd;
    (void)events;

    loop_watch_freep(&server->stop_watch);
    server->stop_deadline_us = clock_now_us() + server->config.stop_timeout_us;
    listen_end(server);
    stop_conns(server);
    check_stopped(server);
}

void http_server_stop(HttpServer *server) {
    stop_request(&server->stop);
}

/* --- life --- */

static HttpServer *make(Loop *loop, const HttpConfig *config) {
    Arena *arena = arena_new();
    HttpServer *server = arena_new_of(arena, HttpServer);

    server->arena = arena;
    server->loop = loop;
    server->config = *config;
    server->stop.event_fd = server->hard_stop.event_fd = -1;
    server->peers = peers_new();
    for (ConnState state = 0; state < CONN_MAX_; state++)
        TAILQ_INIT(&server->conns[state]);
    return server;
}

static bool start(HttpServer *server, Error *err) {
    const HttpConfig *config = &server->config;

    if (!stop_init(&server->stop, err) || !stop_init(&server->hard_stop, err) || !tls_setup(server, err))
        return false;
    if (config->threads > 0 && !taskpool_new("http", config->threads, (size_t)config->limits.queue, &server->pool, err))
        return false;
    if (!listen_all(server, err))
        return false;
    server->stop_watch = loop_watch(server->loop, server->stop.event_fd, POLLIN, on_stop, server);
    server->tick = loop_every(server->loop, TICK_US, on_tick, server);
    return true;
}

bool http_server_new(Loop *loop, const HttpConfig *config, HttpServer **ret_server, Error *err) {
    HttpServer *server = make(loop, config);

    if (!start(server, err)) {
        http_server_freep(&server);
        return false;
    }
    *ret_server = server;
    return true;
}

void http_server_freep(HttpServer **server) {
    HttpServer *gone = *server;

    if (gone == NULL)
        return;
    gone->told_stopped = true; /* nobody waits for it any more */
    listen_end(gone);
    loop_timer_freep(&gone->tick);
    loop_watch_freep(&gone->stop_watch);
    close_all(gone);
    if (gone->hard_stop.event_fd >= 0)
        stop_request(&gone->hard_stop);
    taskpool_freep(&gone->pool);
    loop_run_posted(gone->loop); /* what the handlers left */
    loop_step(gone->loop);       /* libevent frees buffers, and so bodies, in its next round */
    tls_fini(gone);
    peers_freep(&gone->peers);
    stop_fini(&gone->stop);
    stop_fini(&gone->hard_stop);
    arena_free(gone->arena);
    *server = NULL;
}
