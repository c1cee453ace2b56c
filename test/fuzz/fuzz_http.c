/*
 * Any bytes on a connection of the HTTP server: the first tells in what pieces they come, the rest is what the client
 * sends before it closes its half.
 *
 * The handler sees only what its contract says; each answer is a response; however the bytes are cut, as many requests
 * are found in them; and no connection outlives its client.
 */
#include "common/buf.h"
#include "common/utf8.h"
#include "http/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEPS_MAX = 100000, ANSWER_MAX = 16 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text) {
    for (size_t len = strlen(text); len > 0;) {
        size_t step = utf8_char_len(text, len);
        assert(step > 0);
        text += step;
        len -= step;
    }
}

static void check_fields(HttpFields fields) {
    for (size_t i = 0; i < fields.count; i++) {
        check_text(fields.items[i].name);
        check_text(fields.items[i].value);
    }
}

static void on_request(void *context, HttpRequest *request, HttpResponse *response) {
    (void)context;
    assert(request->method > HTTP_METHOD_NONE && request->method < HTTP_METHOD_MAX_);
    assert(request->target[0] == '/' || strcmp(request->target, "*") == 0);
    assert(strlen(request->body) <= request->body_len);
    for (size_t i = 0; i < request->path.count; i++) {
        const char *segment = request->path.segments[i];
        check_text(segment);
        assert(strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0 && strpbrk(segment, "\r\n") == NULL);
    }
    for (size_t i = 0; i < request->headers.count; i++) {
        assert(strpbrk(request->headers.items[i].name, " \t\r\n:ABCDEFGHIJKLMNOPQRSTUVWXYZ") == NULL);
        assert(strpbrk(request->headers.items[i].value, "\r\n") == NULL);
    }
    check_fields(request->query);
    check_fields(request->headers);
    http_response_body(response, "text/plain", "ok", 2);
}

static HttpServer *make_server(Loop **ret_loop) {
    HttpConfig config = {.limits = http_limits_default(), .handler = on_request};
    HttpServer *server = NULL;
    Error err;

    if (!loop_new(ret_loop, &err) || !http_server_new(*ret_loop, &config, &server, &err))
        abort();
    return server;
}

/* --- the client --- */

static void receive(int fd, Buf *answer) {
    char bytes[4096];
    ssize_t got;

    while ((got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        buf_append(answer, bytes, (size_t)got);
}

static void send_pieces(Loop *loop, int fd, const uint8_t *data, size_t size, size_t piece, Buf *answer) {
    for (size_t at = 0; at < size;) {
        ssize_t sent = send(fd, data + at, MIN(piece, size - at), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            break; /* it was refused */
        at += sent < 0 ? 0 : (size_t)sent;
        loop_step(loop);
        receive(fd, answer);
    }
}

/* Final responses in the answer. */
static size_t count_responses(const Buf *answer) {
    size_t count = 0;

    for (const char *at = answer->data; *at != '\0';) {
        assert(strncmp(at, "HTTP/1.1 ", 9) == 0);
        const char *end = strstr(at, "\r\n\r\n"), *length = strstr(at, "\r\nContent-Length: ");
        assert(end != NULL);
        bool interim = at[9] == '1';
        bool bodiless = interim || length == NULL || length > end;
        count += !interim;
        at = end + 4;
        size_t len = bodiless ? 0 : strtoul(length + strlen("\r\nContent-Length: "), NULL, 10);
        /* The answer to HEAD has a length and no body. */
        if (len > 0 && strncmp(at, "HTTP/1.1 ", 9) != 0 && *at != '\0')
            at += MIN(len, strlen(at));
    }
    return count;
}

static size_t talk(HttpServer *server, Loop *loop, const uint8_t *data, size_t size, size_t piece) {
    CLEANUP(buf_fini) Buf answer;
    int fds[2], steps = 0;

    buf_init(&answer, ANSWER_MAX);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    http_server_adopt(server, fds[0]);
    send_pieces(loop, fds[1], data, size, piece, &answer);
    shutdown(fds[1], SHUT_WR);
    for (; http_server_counters(server).connections_open > 0; steps++) {
        assert(steps < STEPS_MAX);
        loop_step(loop);
        receive(fds[1], &answer);
    }
    receive(fds[1], &answer);
    close(fds[1]);
    assert(!answer.overflowed);
    return count_responses(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Loop *loop;
    static HttpServer *server;

    if (size < 1)
        return 0;
    if (server == NULL)
        server = make_server(&loop);
    size_t whole = talk(server, loop, data + 1, size - 1, SIZE_MAX);
    size_t pieces = talk(server, loop, data + 1, size - 1, (size_t)data[0] % 61 + 1);
    assert(whole == pieces);
    return 0;
}
