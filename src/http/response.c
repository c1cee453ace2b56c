/* The response while a handler fills it in, and its bytes. */
#include "http/response.h"

#include "common/clock.h"
#include "common/json.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

typedef struct StatusText {
    int status;
    const char *text;
    const char *google; /* google.rpc.Code; NULL: that of the class */
} StatusText;

static const StatusText statuses[] = {
    {100, "Continue", NULL},
    {200, "OK", NULL},
    {201, "Created", NULL},
    {202, "Accepted", NULL},
    {204, "No Content", NULL},
    {206, "Partial Content", NULL},
    {301, "Moved Permanently", NULL},
    {302, "Found", NULL},
    {303, "See Other", NULL},
    {304, "Not Modified", NULL},
    {307, "Temporary Redirect", NULL},
    {308, "Permanent Redirect", NULL},
    {400, "Bad Request", "INVALID_ARGUMENT"},
    {401, "Unauthorized", "UNAUTHENTICATED"},
    {403, "Forbidden", "PERMISSION_DENIED"},
    {404, "Not Found", "NOT_FOUND"},
    {405, "Method Not Allowed", "UNIMPLEMENTED"},
    {406, "Not Acceptable", NULL},
    {408, "Request Timeout", "DEADLINE_EXCEEDED"},
    {409, "Conflict", "ABORTED"},
    {412, "Precondition Failed", "FAILED_PRECONDITION"},
    {413, "Content Too Large", NULL},
    {414, "URI Too Long", NULL},
    {415, "Unsupported Media Type", NULL},
    {417, "Expectation Failed", NULL},
    {429, "Too Many Requests", "RESOURCE_EXHAUSTED"},
    {431, "Request Header Fields Too Large", NULL},
    {499, "Client Closed Request", "CANCELLED"},
    {500, "Internal Server Error", "INTERNAL"},
    {501, "Not Implemented", "UNIMPLEMENTED"},
    {502, "Bad Gateway", "UNAVAILABLE"},
    {503, "Service Unavailable", "UNAVAILABLE"},
    {504, "Gateway Timeout", "DEADLINE_EXCEEDED"},
    {505, "HTTP Version Not Supported", "UNIMPLEMENTED"},
};

/* What says how a message is framed or kept: a second opinion in a handler would be a hole. */
static const char *const own_headers[] = {
    "Connection", "Content-Length", "Content-Type", "Date", "Keep-Alive", "Trailer", "Transfer-Encoding", "Upgrade",
};

static const char *const method_names[] = {"-",
#define X(name) #name,
                                           HTTP_METHODS(X)
#undef X
};

const char *http_method_name(HttpMethod method) {
    return (unsigned)method < HTTP_METHOD_MAX_ ? method_names[method] : method_names[0];
}

const char *http_fields_get(HttpFields fields, const char *name) {
    for (size_t i = 0; i < fields.count; i++) {
        if (strcmp(fields.items[i].name, name) == 0)
            return fields.items[i].value;
    }
    return NULL;
}

static const StatusText *find_status(int status) {
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        if (statuses[i].status == status)
            return &statuses[i];
    }
    return NULL;
}

const char *http_status_text(int status) {
    const StatusText *found = find_status(status);
    return found == NULL ? "" : found->text;
}

/* --- filling in --- */

void response_init(HttpResponse *response, Arena *arena, Loop *loop, size_t stream_bytes) {
    *response = (HttpResponse){.arena = arena, .loop = loop, .status = 200, .stream_bytes = stream_bytes};
}

void http_response_status(HttpResponse *response, int status) {
    if (status < 200 || status > 599)
        response->broken = true;
    else
        response->status = status;
}

static bool is_own(const char *name) {
    for (size_t i = 0; i < COUNT_OF(own_headers); i++) {
        if (strcasecmp(own_headers[i], name) == 0)
            return true;
    }
    return false;
}

static bool name_is_valid(const char *name) {
    static const char allowed[] = "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *name != '\0' && name[strspn(name, allowed)] == '\0';
}

/* No control character but a tab: no value can end its line. */
static bool value_is_valid(const char *value) {
    for (; *value != '\0'; value++) {
        if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
            return false;
    }
    return true;
}

void http_response_header(HttpResponse *response, const char *name, const char *value) {
    if (!name_is_valid(name) || !value_is_valid(value) || is_own(name)) {
        response->broken = true;
        return;
    }
    HttpField field = {arena_strdup(response->arena, name), arena_strdup(response->arena, value)};
    vec_push(response->arena, &response->headers, field);
}

void http_response_body(HttpResponse *response, const char *type, const void *body, size_t len) {
    if (type != NULL && !value_is_valid(type)) {
        response->broken = true;
        return;
    }
    response->type = arena_strdup(response->arena, type);
    response->body = body;
    response->body_len = len;
}

static const char *google_status(int status) {
    const StatusText *found = find_status(status);
    if (found != NULL && found->google != NULL)
        return found->google;
    return status < 500 ? "INVALID_ARGUMENT" : "INTERNAL";
}

void http_response_error(HttpResponse *response, int status, const char *format, ...) {
    enum { ERROR_BODY_MAX = 64 * 1024 };
    va_list args;
    va_start(args, format);
    const char *message = arena_vprintf(response->arena, format, args);
    va_end(args);

    CLEANUP(json_freep) json_t *body = json_object();
    json_t *error = json_object();
    json_object_set_new(error, "code", json_integer(status));
    json_object_set_new(error, "message", json_string_lossy(message));
    json_object_set_new(error, "status", json_string(google_status(status)));
    json_object_set_new(body, "error", error);
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, ERROR_BODY_MAX);
    json_print(body, 0, &text);
    response->headers.len = 0;
    response->broken = text.overflowed;
    http_response_status(response, status);
    http_response_body(response, "application/json; charset=UTF-8", arena_strndup(response->arena, text.data, text.len),
                       text.len);
}

/* --- bytes --- */

bool response_has_body(const HttpResponse *response) {
    return response->stream == NULL && response->status != 204 && response->status != 304;
}

void response_date(int64_t wall_us, char *ret_text, size_t size) {
    /* Not by strftime's %a and %b, which speak the language of the locale. */
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t seconds = (time_t)(wall_us / USEC_PER_SEC);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    snprintf(ret_text, size, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
             tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void response_print_head(const HttpResponse *response, ResponseConnection connection, const char *date, Buf *out) {
    buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", response->status, http_status_text(response->status), date);
    for (size_t i = 0; i < response->headers.len; i++)
        buf_printf(out, "%s: %s\r\n", response->headers.items[i].name, response->headers.items[i].value);
    if (response->stream != NULL)
        /* X-Accel-Buffering: a proxy (nginx) must not keep events back. */
        buf_append_str(out, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\n");
    else if (response->type != NULL)
        buf_printf(out, "Content-Type: %s\r\n", response->type);
    if (response_has_body(response))
        buf_printf(out, "Content-Length: %zu\r\n", response->body_len);
    if (connection == RESPONSE_CLOSE)
        buf_append_str(out, "Connection: close\r\n");
    else if (connection == RESPONSE_KEEP_1_0)
        buf_append_str(out, "Connection: keep-alive\r\n");
    buf_append_str(out, "\r\n");
}
