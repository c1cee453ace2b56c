/*
 * A server with a few routes, for the integration tests of src/http:
 *
 *     http_probe [NAME=VALUE...]
 *
 * NAME is a limit of http/limits.def, or listen (may be repeated), cert, key, threads, stop_timeout_us. Prints one JSON
 * object a line: {"listening": [...]} when it serves, {"access": ...} for each request, {"stream_closed": ...}. SIGTERM
 * stops it, SIGUSR1 has it print its counters. It ends with 0 and {"stopped": true}.
 */
#include "common/json.h"
#include "common/log.h"
#include "http/router.h"
#include "http/server.h"
#include "http/stream.h"
#include "support/probe.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LISTEN_MAX = 8, STREAMS_MAX = 64 };

struct Probe {
    Loop *loop;
    HttpServer *server;
    HttpConfig config;
    const char *listen[LISTEN_MAX];
};

/* --- routes --- */

static json_t *fields_json(HttpFields fields) {
    json_t *array = json_array();
    for (size_t i = 0; i < fields.count; i++)
        json_array_append_new(array, json_pack("[s,s]", fields.items[i].name, fields.items[i].value));
    return array;
}

static void send_json(HttpRequest *request, HttpResponse *response, json_t *message) {
    char *text = json_dumps(message, JSON_COMPACT);
    const char *copy = arena_strdup(request->arena, text);

    http_response_body(response, "application/json", copy, strlen(copy));
    free(text);
    json_decref(message);
}

/* All that a handler can see. */
static void echo(void *context, HttpRequest *request, HttpResponse *response) {
    json_t *segments = json_array(), *message = json_object();
    (void)context;

    for (size_t i = 0; i < request->path.count; i++)
        json_array_append_new(segments, json_string(request->path.segments[i]));
    json_object_set_new(message, "method", json_string(http_method_name(request->method)));
    json_object_set_new(message, "target", json_string(request->target));
    json_object_set_new(message, "segments", segments);
    json_object_set_new(message, "query", fields_json(request->query));
    json_object_set_new(message, "headers", fields_json(request->headers));
    json_object_set_new(message, "params", fields_json(request->params));
    json_object_set_new(message, "host", json_string(request->host));
    json_object_set_new(message, "body", json_string_lossy(request->body));
    json_object_set_new(message, "body_len", json_integer((json_int_t)request->body_len));
    json_object_set_new(message, "peer", json_string(request->peer));
    json_object_set_new(message, "tls", json_boolean(request->tls));
    send_json(request, response, message);
}

static int64_t number(const HttpRequest *request, const char *name, int64_t absent) {
    const char *text = http_fields_get(request->query, name);
    return text == NULL ? absent : strtoll(text, NULL, 10);
}

/* ?ms=: as a handler that waits for the store would, until the server waits no longer. */
static void slow(void *context, HttpRequest *request, HttpResponse *response) {
    (void)context;
    int64_t deadline_us = clock_now_us() + number(request, "ms", 1000) * USEC_PER_MSEC;
    bool stopped = stop_wait_fd(request->stop, -1, 0, deadline_us) == WAIT_STOPPED;
    const char *text = stopped ? "stopped" : "slow";
    http_response_body(response, "text/plain", text, strlen(text));
}

static void big(void *context, HttpRequest *request, HttpResponse *response) {
    size_t len = (size_t)number(request, "bytes", 1000000);
    char *body = arena_alloc(request->arena, len);
    (void)context;

    for (size_t i = 0; i < len; i++)
        body[i] = (char)('a' + i % 26);
    http_response_body(response, "text/plain", body, len);
}

static void status(void *context, HttpRequest *request, HttpResponse *response) {
    (void)context;
    http_response_status(response, (int)number(request, "code", 200));
    http_response_body(response, "text/plain", "status", 6);
}

/* ?name=&value=: what a careless handler could put in. */
static void header(void *context, HttpRequest *request, HttpResponse *response) {
    (void)context;
    http_response_header(response, http_fields_get(request->query, "name"), http_fields_get(request->query, "value"));
    http_response_body(response, "text/plain", "header", 6);
}

/* --- streams --- */

typedef struct Feed {
    HttpStream *stream;
    LoopTimer *timer;
    Loop *loop;
    int64_t next, last, bytes;
} Feed;

static const char *const ends[] = {"gone", "slow", "ended", "stopped"};

static void feed_free(void *context) {
    Feed *feed = context;
    loop_timer_freep(&feed->timer);
    http_stream_releasep(&feed->stream);
    free(feed);
}

static void on_stream_closed(void *context, HttpStreamEnd why) {
    Feed *feed = context;
    say(json_pack("{s:s, s:I}", "stream_closed", ends[why], "sent", (json_int_t)feed->next));
    loop_post(feed->loop, feed_free, feed);
}

static void feed_some(void *context) {
    Feed *feed = context;
    char id[24], *data = malloc((size_t)feed->bytes + 1);

    memset(data, 'x', (size_t)feed->bytes);
    data[feed->bytes] = '\0';
    snprintf(id, sizeof(id), "%lld", (long long)feed->next + 1);
    if (feed->stream != NULL && http_stream_send(feed->stream, id, "tick", data))
        feed->next++;
    if (feed->next == feed->last && feed->stream != NULL)
        http_stream_end(feed->stream);
    free(data);
}

static void feed_begin(void *context) {
    Feed *feed = context;
    feed->timer = loop_every(feed->loop, 2 * USEC_PER_MSEC, feed_some, feed);
}

/* ?events=&bytes=: numbered events, from behind Last-Event-ID on. */
static void events(void *context, HttpRequest *request, HttpResponse *response) {
    Probe *probe = context;
    Feed *feed = calloc(1, sizeof(*feed));

    feed->loop = probe->loop;
    feed->next = request->last_event_id == NULL ? 0 : strtoll(request->last_event_id, NULL, 10);
    feed->last = number(request, "events", 3);
    feed->bytes = number(request, "bytes", 1);
    feed->stream = http_response_stream(response, on_stream_closed, feed);
    http_stream_send(feed->stream, NULL, NULL, "two\nlines"); /* before the head is out */
    loop_post(probe->loop, feed_begin, feed);
}

/* A stream that says nothing: only the server's comments. */
static void quiet(void *context, HttpRequest *request, HttpResponse *response) {
    Probe *probe = context;
    Feed *feed = calloc(1, sizeof(*feed));
    (void)request;

    feed->loop = probe->loop;
    feed->stream = http_response_stream(response, on_stream_closed, feed);
}

static const HttpRoute routes[] = {
    {HTTP_METHOD_GET, "/echo", echo},
    {HTTP_METHOD_POST, "/echo", echo},
    {HTTP_METHOD_PATCH, "/echo", echo},
    {HTTP_METHOD_GET, "/slow", slow},
    {HTTP_METHOD_GET, "/big", big},
    {HTTP_METHOD_GET, "/status", status},
    {HTTP_METHOD_GET, "/header", header},
    {HTTP_METHOD_GET, "/events", events},
    {HTTP_METHOD_GET, "/quiet", quiet},
    {HTTP_METHOD_GET, "/things/{id}", echo},
    {HTTP_METHOD_POST, "/things/{id}:{verb}", echo},
};

static void on_request(void *context, HttpRequest *request, HttpResponse *response) {
    http_route((HttpRouter){routes, COUNT_OF(routes)}, context, request, response);
}

/* --- the program --- */

static void on_access(void *context, const HttpAccess *access) {
    (void)context;
    say(json_pack("{s:{s:s, s:o, s:s, s:i, s:b, s:I, s:I, s:I}}", "access", "method", http_method_name(access->method),
                  "target", json_string_lossy(access->target), "peer", access->peer, "status", access->status,
                  "complete", access->complete, "body_in", (json_int_t)access->body_in, "body_out",
                  (json_int_t)access->body_out, "duration_us", (json_int_t)access->duration_us));
}

static void on_stopped(void *context) {
    Probe *probe = context;
    loop_quit(probe->loop);
}

static void say_counters(Probe *probe) {
    HttpCounters counters = http_server_counters(probe->server);
    json_t *all = json_object();

#define X(name, total, help) json_object_set_new(all, #name, json_integer((json_int_t)counters.name));
    HTTP_COUNTERS(X)
#undef X
    say(json_pack("{s:o}", "counters", all));
}

static void on_signal(void *context, int fd, short polled) {
    Probe *probe = context;
    struct signalfd_siginfo info;
    (void)polled;

    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1)
        say_counters(probe);
    else
        http_server_stop(probe->server);
}

static bool set_option(Probe *probe, const char *text, Error *err) {
    const char *equals = strchr(text, '=');
    char name[64];

    if (equals == NULL || (size_t)(equals - text) >= sizeof(name))
        return error_set(err, REASON_USAGE, "%s is not NAME=VALUE", text);
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    int64_t value = strtoll(equals + 1, NULL, 10);
    if (strcmp(name, "listen") == 0 && probe->config.listen_count < LISTEN_MAX)
        probe->listen[probe->config.listen_count++] = equals + 1;
    else if (strcmp(name, "cert") == 0)
        probe->config.tls_cert_file = equals + 1;
    else if (strcmp(name, "key") == 0)
        probe->config.tls_key_file = equals + 1;
    else if (strcmp(name, "threads") == 0)
        probe->config.threads = (size_t)value;
    else if (strcmp(name, "stop_timeout_us") == 0)
        probe->config.stop_timeout_us = value;
    else if (!http_limits_set(&probe->config.limits, name, value))
        return error_set(err, REASON_USAGE, "there is no option %s", name);
    return true;
}

static bool serve(Probe *probe, int signal_fd, Error *err) {
    json_t *addresses = json_array();

    if (!loop_new(&probe->loop, err) || !http_server_new(probe->loop, &probe->config, &probe->server, err)) {
        json_decref(addresses);
        return false;
    }
    for (size_t i = 0; http_server_address(probe->server, i) != NULL; i++)
        json_array_append_new(addresses, json_string(http_server_address(probe->server, i)));
    say(json_pack("{s:o}", "listening", addresses));
    LoopWatch *watch = loop_watch(probe->loop, signal_fd, POLLIN, on_signal, probe);
    bool ok = loop_run(probe->loop, err);
    loop_watch_freep(&watch);
    return ok;
}

int main(int argc, char **argv) {
    Probe probe = {.config = {.limits = http_limits_default(),
                              .threads = 2,
                              .handler = on_request,
                              .on_access = on_access,
                              .on_stopped = on_stopped,
                              .stop_timeout_us = 5 * USEC_PER_SEC}};
    Error err;
    bool ok = true;
    sigset_t signals;
    struct rlimit files;

    log_init(STDERR_FILENO, LOG_INFO);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    probe.config.context = &probe;
    probe.config.listen = probe.listen;
    for (int i = 1; i < argc && ok; i++)
        ok = set_option(&probe, argv[i], &err);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    ok = ok && serve(&probe, signal_fd, &err);
    http_server_freep(&probe.server);
    loop_freep(&probe.loop);
    close(signal_fd);
    if (!ok) {
        log_error_value(LOG_ERROR, &err);
        return 1;
    }
    say(json_pack("{s:b}", "stopped", 1));
    return 0;
}
