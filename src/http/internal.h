/*
 * What the files of the server share. Everything here belongs to the loop's thread but the request and response of an
 * exchange that is being handled, and what a stream has under its lock.
 */
#pragma once

#include "common/buf.h"
#include "common/taskpool.h"
#include "http/parse.h"
#include "http/peers.h"
#include "http/response.h"
#include "http/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/socket.h>

/* What each reads and when it ends: the table in conn.c. */
typedef enum ConnState {
    CONN_HANDSHAKE,
    CONN_IDLE,
    CONN_HEAD,
    CONN_BODY,
    CONN_HANDLING,
    CONN_WRITING,
    CONN_STREAMING,
    CONN_LINGERING,
    CONN_MAX_,
} ConnState;

typedef struct HttpConn HttpConn;

/* One request and its answer. Lives as long as the connection, the handler, or the body on its way out needs it. */
typedef struct HttpExchange {
    Arena *arena; /* holds this struct */
    HttpServer *server;
    HttpConn *conn; /* NULL: gone meanwhile */
    unsigned refs;
    llhttp_t parser;
    HttpRequest request;
    HttpResponse response;
    ParsedHead head;
    ParsedBody body;
    int64_t began_us;
    size_t head_out;
} HttpExchange;

/* Small: there are thousands of them idle. */
struct HttpConn {
    TAILQ_ENTRY(HttpConn) link; /* of its state's list, in the order of the deadlines */
    HttpServer *server;
    struct bufferevent *bev;
    HttpExchange *exchange;
    HttpStream *stream;
    int64_t deadline_us; /* 0: none */
    PeerAddress peer;
    uint32_t requests;
    uint32_t scanned; /* of the head that is not whole yet */
    uint8_t state;    /* ConnState */
    bool tls, keep, peer_ended;
};

typedef TAILQ_HEAD(ConnList, HttpConn) ConnList;

typedef struct Listener {
    HttpServer *server;
    struct evconnlistener *listener;
    LoopTimer *pause; /* descriptors ran out */
    const char *address, *unix_path;
} Listener;

struct HttpServer {
    Arena *arena; /* holds this struct */
    Loop *loop;
    HttpConfig config;
    TaskPool *pool;
    struct ssl_ctx_st *tls;
    Listener *listeners;
    size_t listeners_count;
    Peers *peers;
    ConnList conns[CONN_MAX_];
    size_t open, streams;
    LoopTimer *tick;
    Stop stop, hard_stop;
    LoopWatch *stop_watch;
    int64_t stop_deadline_us; /* 0: not stopping */
    bool told_stopped;
    char date[32];
    int64_t date_second;
    struct {
#define X(name, total, help) _Atomic uint64_t name;
        HTTP_COUNTERS(X)
#undef X
    } counters;
};

/* --- listen.c --- */

NODISCARD bool listen_all(HttpServer *server, Error *err);
void listen_end(HttpServer *server);

/* --- tls.c --- */

NODISCARD bool tls_setup(HttpServer *server, Error *err);
void tls_fini(HttpServer *server);
struct bufferevent *tls_bufferevent(HttpServer *server, int fd); /* NULL: not possible now */
void tls_say_goodbye(struct bufferevent *bev);

/* --- server.c --- */

/* Takes fd; peer NULL: unknown. */
void server_accept(HttpServer *server, int fd, const struct sockaddr *peer, bool tls);
const char *server_date(HttpServer *server);
void server_conn_gone(HttpServer *server);

/* --- conn.c --- */

void conn_new(HttpServer *server, struct bufferevent *bev, const PeerAddress *peer, bool tls);
void conn_enter(HttpConn *conn, ConnState state);
/* At its deadline. */
void conn_time_out(HttpConn *conn);
/* The server stops: ends what waits for the client. */
void conn_stop(HttpConn *conn);
void conn_close(HttpConn *conn, HttpStreamEnd why);
/* All of the response is out. */
void conn_written(HttpConn *conn);
void conn_end_stream(HttpConn *conn, HttpStreamEnd why);

/* --- exchange.c --- */

HttpExchange *exchange_new(HttpConn *conn);
/* Has the handler called. */
void exchange_dispatch(HttpExchange *exchange);
/* Answers in place of the handler, and the connection ends. */
void exchange_refuse(HttpExchange *exchange, Refusal refusal);
/* Logs and counts it, and gives up the connection's reference. */
void exchange_finish(HttpExchange *exchange, bool complete);

/* --- stream.c --- */

/* The head of the response is in the connection's output. */
void stream_attach(HttpStream *stream, HttpConn *conn);
void stream_heartbeat(HttpStream *stream);
/* Has on_closed called, and gives up the server's reference. */
void stream_detach(HttpStream *stream, HttpStreamEnd why);
