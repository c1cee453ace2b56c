/*
 * One request and its answer.
 *
 * A handler's thread owns request and response from exchange_dispatch() until the call that it posts back; meanwhile
 * the loop's thread touches only `conn`, which it clears when the connection goes away.
 */
#include "http/internal.h"

#include "common/log.h"

#include <string.h>

enum { HEAD_OUT_MAX = 256 * 1024 };

HttpExchange *exchange_new(HttpConn *conn) {
    HttpServer *server = conn->server;
    Arena *arena = arena_new();
    HttpExchange *exchange = arena_new_of(arena, HttpExchange);

    exchange->arena = arena;
    exchange->server = server;
    exchange->conn = conn;
    exchange->refs = 1;
    exchange->began_us = clock_now_us();
    exchange->request = (HttpRequest){
        .arena = arena,
        .target = NULL,
        .raw_path = "",
        .host = "",
        .peer = peer_print(arena, &conn->peer),
        .tls = conn->tls,
        .stop = &server->hard_stop,
    };
    response_init(&exchange->response, arena, server->loop, (size_t)server->config.limits.stream_bytes);
    parsed_body_init(&exchange->body, &server->config.limits);
    conn->exchange = exchange;
    return exchange;
}

static void unref(HttpExchange *exchange) {
    if (--exchange->refs > 0)
        return;
    parsed_body_fini(&exchange->body);
    arena_free(exchange->arena);
}

static void on_body_sent(const void *bytes, size_t len, void *context) {
    (void)bytes;
    (void)len;
    unref(context);
}

/* --- when it is over --- */

static void count_status(HttpServer *server, int status) {
    switch (status / 100) {
    case 2:
        server->counters.requests_2xx++;
        break;
    case 3:
        server->counters.requests_3xx++;
        break;
    case 4:
        server->counters.requests_4xx++;
        break;
    default:
        server->counters.requests_5xx++;
        break;
    }
}

static size_t body_out(const HttpExchange *exchange) {
    bool sent = response_has_body(&exchange->response) && exchange->request.method != HTTP_METHOD_HEAD;
    return sent ? exchange->response.body_len : 0;
}

void exchange_finish(HttpExchange *exchange, bool complete) {
    HttpServer *server = exchange->server;
    const HttpRequest *request = &exchange->request;
    const char *agent = http_fields_get(request->headers, "user-agent");
    HttpAccess access = {
        .method = request->method,
        .target = request->target == NULL ? "" : request->target,
        .peer = request->peer,
        .user_agent = agent == NULL ? "" : agent,
        .status = exchange->response.status,
        .tls = request->tls,
        .complete = complete,
        .body_in = exchange->body.bytes.len,
        .body_out = body_out(exchange),
        .duration_us = clock_now_us() - exchange->began_us,
    };

    count_status(server, access.status);
    if (complete)
        server->counters.bytes_out += exchange->head_out + access.body_out;
    if (server->config.on_access != NULL)
        server->config.on_access(server->config.context, &access);
    unref(exchange);
}

/* --- the answer --- */

static void drop_stream(HttpResponse *response, HttpStreamEnd why) {
    HttpStream *stream = response->stream;

    response->stream = NULL;
    if (stream != NULL)
        stream_detach(stream, why);
}

/* What the handler left is made into something that can be sent. */
static void settle(HttpExchange *exchange) {
    HttpServer *server = exchange->server;
    HttpResponse *response = &exchange->response;

    if (response->broken) {
        log_warning("the response to %s %s was not valid HTTP", http_method_name(exchange->request.method),
                    exchange->request.raw_path);
        http_response_error(response, 500, "the server made a response that cannot be sent");
    }
    if (response->stream != NULL && response->status != 200) {
        drop_stream(response, HTTP_STREAM_ENDED);
    } else if (response->stream != NULL &&
               (server->streams >= (size_t)server->config.limits.streams || server->stop_deadline_us != 0)) {
        drop_stream(response, HTTP_STREAM_STOPPED);
        http_response_error(response, 503, "the server has no room for another stream of events");
        http_response_header(response, "Retry-After", "5");
    }
}

static bool stays_open(const HttpExchange *exchange) {
    const HttpServer *server = exchange->server;
    uint64_t most = (uint64_t)server->config.limits.requests_per_connection;

    return exchange->head.keep_alive && exchange->response.stream == NULL && server->stop_deadline_us == 0 &&
           (most == 0 || exchange->conn->requests < most);
}

static void print_head(HttpExchange *exchange, Buf *out) {
    HttpResponse *response = &exchange->response;
    ResponseConnection connection = RESPONSE_CLOSE;

    if (exchange->conn->keep)
        connection = exchange->head.http_1_0 ? RESPONSE_KEEP_1_0 : RESPONSE_KEEP;
    response_print_head(response, connection, server_date(exchange->server), out);
    if (!out->overflowed)
        return;
    log_warning("the headers of the response to %s are too large", exchange->request.raw_path);
    drop_stream(response, HTTP_STREAM_ENDED);
    http_response_error(response, 500, "the server made a response that cannot be sent");
    buf_clear(out);
    response_print_head(response, connection, server_date(exchange->server), out);
}

static void begin_stream(HttpConn *conn, HttpExchange *exchange) {
    HttpStream *stream = exchange->response.stream;

    exchange->response.stream = NULL;
    if (exchange->request.method == HTTP_METHOD_HEAD) {
        stream_detach(stream, HTTP_STREAM_ENDED);
        conn_enter(conn, CONN_WRITING);
        return;
    }
    conn->exchange = NULL;
    conn_enter(conn, CONN_STREAMING);
    stream_attach(stream, conn);
    exchange_finish(exchange, true);
}

static void respond(HttpExchange *exchange) {
    HttpConn *conn = exchange->conn;
    struct evbuffer *output = bufferevent_get_output(conn->bev);
    CLEANUP(buf_fini) Buf head;

    buf_init(&head, HEAD_OUT_MAX);
    settle(exchange);
    conn->keep = stays_open(exchange);
    print_head(exchange, &head);
    exchange->head_out = head.len;
    evbuffer_add(output, head.data, head.len);
    if (exchange->response.stream != NULL) {
        begin_stream(conn, exchange);
        return;
    }
    size_t len = body_out(exchange);
    if (len > 0) {
        exchange->refs++;
        evbuffer_add_reference(output, exchange->response.body, len, on_body_sent, exchange);
    }
    conn_enter(conn, CONN_WRITING);
}

void exchange_refuse(HttpExchange *exchange, Refusal refusal) {
    exchange->head.keep_alive = false; /* what follows cannot be told apart from the request */
    http_response_error(&exchange->response, refusal.status, "%s", refusal.why);
    respond(exchange);
}

/* --- the handler --- */

static void handled(void *context) {
    HttpExchange *exchange = context;

    exchange->server->counters.requests_open--;
    if (exchange->conn != NULL) {
        respond(exchange);
        return;
    }
    drop_stream(&exchange->response, HTTP_STREAM_GONE);
    exchange_finish(exchange, false);
}

static void call_handler(HttpExchange *exchange) {
    const HttpConfig *config = &exchange->server->config;
    config->handler(config->context, &exchange->request, &exchange->response);
}

/* On a thread of the pool. */
static void handle(void *context) {
    HttpExchange *exchange = context;

    call_handler(exchange);
    loop_post(exchange->server->loop, handled, exchange);
}

void exchange_dispatch(HttpExchange *exchange) {
    HttpServer *server = exchange->server;

    exchange->request.body = exchange->body.bytes.data;
    exchange->request.body_len = exchange->body.bytes.len;
    conn_enter(exchange->conn, CONN_HANDLING);
    server->counters.requests_open++;
    if (server->pool == NULL) {
        call_handler(exchange);
        handled(exchange);
    } else if (!taskpool_submit(server->pool, handle, exchange)) {
        http_response_error(&exchange->response, 503, "the server has too many requests to handle");
        http_response_header(&exchange->response, "Retry-After", "1");
        handled(exchange);
    }
}
