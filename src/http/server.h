/*
 * An HTTP/1.1 server on an event loop (common/loop.h), which calls a handler on threads of its own.
 *
 * Contract
 * - The loop's thread makes and frees the server and runs all callbacks of HttpConfig but the handler. It never waits.
 * - The process ignores SIGPIPE: a peer that is gone is found by the write that fails.
 * - http_server_stop() and http_server_counters() may be called from any thread, the former from a signal handler.
 * - Framing is strict: a request that two servers could read differently is answered with 400 and the connection is
 *   closed. doc/design/http.md lists what is refused.
 */
#pragma once

#include "common/clock.h"
#include "common/error.h"
#include "common/loop.h"
#include "http/message.h"

typedef struct HttpServer HttpServer;

typedef struct HttpLimits {
#define X(name, value, help) int64_t name;
#include "http/limits.def"
#undef X
} HttpLimits;

HttpLimits http_limits_default(void);
/* By the name in limits.def; false when there is none. */
NODISCARD bool http_limits_set(HttpLimits *limits, const char *name, int64_t value);

/* What became of one request; of one that could not be read too. */
typedef struct HttpAccess {
    HttpMethod method;
    const char *target; /* "" when it could not be read */
    const char *peer;
    const char *user_agent; /* "" when there is none */
    int status;
    bool tls;
    bool complete; /* all of the response was handed to the system */
    size_t body_in, body_out;
    int64_t duration_us; /* from the end of the request's head to the end of the response */
} HttpAccess;

typedef void (*HttpHandler)(void *context, HttpRequest *request, HttpResponse *response);

typedef struct HttpConfig {
    /* HOST:PORT, [IPV6]:PORT, :PORT or *:PORT for all addresses, or the path of a unix socket. Port 0: a free one. */
    const char *const *listen;
    size_t listen_count;
    const char *tls_cert_file, *tls_key_file; /* PEM; both or neither. Unix sockets never have TLS. */
    HttpLimits limits;
    size_t threads; /* 0: the handler runs on the loop's thread (for tests) */
    HttpHandler handler;
    void (*on_access)(void *context, const HttpAccess *access); /* may be NULL */
    void (*on_stopped)(void *context);                          /* http_server_stop() is done; may be NULL */
    void *context;
    int64_t stop_timeout_us; /* how long requests under way may take when the server stops */
} HttpConfig;

/* Listens at once. The config is copied, but not the strings in it. */
NODISCARD bool http_server_new(Loop *loop, const HttpConfig *config, HttpServer **ret_server, Error *err);
/* Closes what is open, waits for the handlers that still run, and runs one round of the loop. Not from a callback. */
void http_server_freep(HttpServer **server);

/* Accepts no more, ends streams, lets requests under way come to their end, for stop_timeout_us at most; then
 * on_stopped. */
void http_server_stop(HttpServer *server);

/* Where it listens, with the port that was found: "127.0.0.1:43210". NULL past the last. */
const char *http_server_address(const HttpServer *server, size_t index);
/* Takes over a connected stream socket, as if it had been accepted. */
void http_server_adopt(HttpServer *server, int fd);

/* X(name, is it a count so far, help); the rest are momentary. */
#define HTTP_COUNTERS(X)                                                                                               \
    X(connections, true, "connections accepted")                                                                       \
    X(connections_open, false, "connections open")                                                                     \
    X(connections_refused, true, "connections closed at once, for a limit")                                            \
    X(requests_1xx, true, "interim responses")                                                                         \
    X(requests_2xx, true, "requests answered with 2xx")                                                                \
    X(requests_3xx, true, "requests answered with 3xx")                                                                \
    X(requests_4xx, true, "requests answered with 4xx")                                                                \
    X(requests_5xx, true, "requests answered with 5xx")                                                                \
    X(requests_open, false, "requests being handled")                                                                  \
    X(queue, false, "requests waiting for a thread")                                                                   \
    X(bytes_in, true, "bytes of requests")                                                                             \
    X(bytes_out, true, "bytes of responses")                                                                           \
    X(timeouts, true, "connections closed for a time-out")                                                             \
    X(streams_open, false, "streams of events open")                                                                   \
    X(streams_slow, true, "streams closed because their reader was too slow")

typedef struct HttpCounters {
#define X(name, total, help) uint64_t name;
    HTTP_COUNTERS(X)
#undef X
} HttpCounters;

HttpCounters http_server_counters(HttpServer *server);
