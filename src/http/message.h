/*
 * A request as a handler sees it, and the response that it fills in.
 *
 * Contract
 * - A request and all it points to live until its handler returns, in request->arena, which is the handler's to use.
 *   The response's body may be in that arena or live longer than the response.
 * - A handler runs on a thread of the server's pool and may wait. request->stop is requested when the server will wait
 *   no longer.
 * - Text from the peer is checked before a handler sees it: valid UTF-8 without NUL, in the path without any control
 *   character. The body is bytes (a NUL follows it).
 * - What a handler cannot say in HTTP (a header with a line break, a header that is the server's) makes the response a
 *   500 without any of it.
 */
#pragma once

#include "common/arena.h"
#include "common/compiler.h"
#include "common/stop.h"

/* Others are answered with 501 before a handler is asked. */
#define HTTP_METHODS(X) X(GET) X(HEAD) X(POST) X(PUT) X(PATCH) X(DELETE) X(OPTIONS)

typedef enum HttpMethod {
    HTTP_METHOD_NONE,
#define X(name) HTTP_METHOD_##name,
    HTTP_METHODS(X)
#undef X
        HTTP_METHOD_MAX_,
} HttpMethod;

const char *http_method_name(HttpMethod method); /* "-" for none */

typedef struct HttpField {
    const char *name; /* of a header: in lower case */
    const char *value;
} HttpField;

typedef struct HttpFields {
    const HttpField *items; /* in the order of the request, duplicates kept */
    size_t count;
} HttpFields;

/* The first value of that name, or NULL. Names of headers are given in lower case. */
const char *http_fields_get(HttpFields fields, const char *name);

/*
 * The path, cut at its slashes before anything was decoded: "%2F" is a character of a segment. No segment is empty, "."
 * or
 * "..". What follows the last colon of the last segment is the verb of a custom method: "/jobs/a:start".
 */
typedef struct HttpPath {
    const char *const *segments; /* decoded; the last one without its verb */
    size_t count;                /* 0 for "/" */
    const char *verb;            /* decoded; NULL when there is none */
    bool trailing_slash;         /* behind a segment */
} HttpPath;

typedef struct HttpRequest {
    Arena *arena;
    HttpMethod method;
    const char *target; /* path and query as they came; "*" for OPTIONS of the server */
    const char *raw_path;
    HttpPath path;
    HttpFields query; /* decoded */
    HttpFields headers;
    HttpFields params; /* of the route: http/router.h */
    const void *route_data;
    const char *host; /* "" when an HTTP/1.0 request has none */
    const char *body;
    size_t body_len;
    const char *last_event_id; /* of a stream that is asked for again; NULL */
    const char *peer;          /* "192.0.2.1:4711", "[2001:db8::1]:4711", "unix" */
    bool tls;
    const Stop *stop;
} HttpRequest;

typedef struct HttpResponse HttpResponse;
typedef struct HttpStream HttpStream; /* http/stream.h */

/* 200 when nothing is said. 200 to 599. */
void http_response_status(HttpResponse *response, int status);
/* Adds a header; copies both. Content-Length, Connection, Date, Transfer-Encoding and the like are the server's. */
void http_response_header(HttpResponse *response, const char *name, const char *value);
/* body is not copied. type may be NULL. */
void http_response_body(HttpResponse *response, const char *type, const void *body, size_t len);
/* Instead of all that was said: an error in Google's shape, {"error": {"code": 404, "message": ..., "status": ...}}. */
void http_response_error(HttpResponse *response, int status, const char *format, ...) PRINTF(3, 4);

/* "Not Found"; "" for a status that HTTP does not know. */
const char *http_status_text(int status);
