/*
 * Bytes to requests.
 *
 * llhttp gets the head in one piece, so that each name and value is one span of memory. What it is lenient about, or
 * may become in another version, is checked here again: see head_scan() and head_checks[]. Trailers are read and
 * dropped: merged into the headers they would get around every check of the head.
 */
#include "http/parse.h"

#include "common/utf8.h"
#include "common/vec.h"
#include "http/target.h"

#include <string.h>
#include <strings.h>

typedef VEC(HttpField) FieldVec;

/* What the callbacks of one call work on. */
typedef struct Parse {
    HttpRequest *request;
    const HttpLimits *limits;
    ParsedBody *body;
    FieldVec headers;
    bool head_done, message_done;
    Refusal refusal;
} Parse;

/* --- the guard --- */

HeadScan head_scan(const char *bytes, size_t len, size_t *scanned) {
    for (size_t i = *scanned; i < len; i++) {
        char c = bytes[i], before = i == 0 ? '\n' : bytes[i - 1];
        if (c == '\n' && before != '\r')
            return HEAD_BAD; /* a line that ends with LF alone */
        if (c != '\n' && before == '\r')
            return HEAD_BAD; /* CR inside a line */
        if ((c == ' ' || c == '\t') && before == '\n')
            return HEAD_BAD; /* a folded header, or blanks before the request line */
        if (((unsigned char)c < 0x20 && strchr("\t\r\n", c) == NULL) || c == 0x7f || c == '\0')
            return HEAD_BAD;
        *scanned = i + 1;
        if (c == '\n' && i >= 3 && bytes[i - 2] == '\n')
            return HEAD_DONE;
    }
    return HEAD_MORE;
}

/* "METHOD target HTTP/1.1", with one blank each: llhttp takes several. */
static bool request_line_is_exact(const char *head) {
    size_t start = strspn(head, "\r\n"), len = strcspn(head + start, "\r"), blanks = 0;

    for (size_t i = start; i < start + len; i++) {
        if (head[i] == '\t')
            return false;
        blanks += head[i] == ' ';
    }
    return blanks == 2;
}

/* --- llhttp's callbacks --- */

static bool refuse(Refusal *refusal, int status, const char *why) {
    *refusal = (Refusal){status, why};
    return false;
}

static int stop(Parse *parse, int status, const char *why) {
    refuse(&parse->refusal, status, why);
    return HPE_USER;
}

static HttpMethod method_of(uint8_t parsed) {
    const char *name = llhttp_method_name(parsed);
    HttpMethod method = HTTP_METHOD_MAX_ - 1;

    while (method != HTTP_METHOD_NONE && strcmp(http_method_name(method), name) != 0)
        method--;
    return method;
}

static int on_url(llhttp_t *parser, const char *at, size_t len) {
    Parse *parse = parser->data;

    if (len > (size_t)parse->limits->target_bytes)
        return stop(parse, 414, "the target of the request is too long");
    parse->request->method = method_of(llhttp_get_method(parser));
    parse->request->target = arena_strndup(parse->request->arena, at, len);
    return 0;
}

static char *lower_case(Arena *arena, const char *text, size_t len) {
    char *lower = arena_strndup(arena, text, len);
    for (char *c = lower; *c != '\0'; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c | 0x20);
    }
    return lower;
}

/* Trailers come here too: body is set then. */
static int on_header_field(llhttp_t *parser, const char *at, size_t len) {
    Parse *parse = parser->data;

    if (parse->body != NULL)
        return 0;
    if (parse->headers.len == (size_t)parse->limits->headers)
        return stop(parse, 431, "the request has too many headers");
    HttpField field = {lower_case(parse->request->arena, at, len), ""};
    vec_push(parse->request->arena, &parse->headers, field);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len) {
    Parse *parse = parser->data;

    if (parse->body != NULL || len == 0)
        return 0;
    if (parse->headers.len == 0)
        return HPE_USER; /* uncovered: llhttp gives a name first */
    while (at[len - 1] == ' ' || at[len - 1] == '\t')
        len--; /* a value begins with neither, so that this ends */
    parse->headers.items[parse->headers.len - 1].value = arena_strndup(parse->request->arena, at, len);
    return 0;
}

/* An upgrade is an offer that nobody has to take: what follows is read as HTTP. */
static int on_headers_complete(llhttp_t *parser) {
    Parse *parse = parser->data;

    parse->head_done = true;
    parser->upgrade = 0;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len) {
    Parse *parse = parser->data;

    if (parse->body == NULL)
        return HPE_USER; /* uncovered: the head is parsed without what follows it */
    buf_append(&parse->body->bytes, at, len);
    return parse->body->bytes.overflowed ? stop(parse, 413, "the body of the request is too large") : 0;
}

static int on_message_complete(llhttp_t *parser) {
    Parse *parse = parser->data;

    parse->message_done = true;
    return HPE_PAUSED; /* what follows is another request's */
}

static const llhttp_settings_t callbacks = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- checks of a head that was parsed --- */

typedef struct HeadView {
    HttpRequest *request;
    const HttpLimits *limits;
    bool http_1_0;
    uint64_t content_length;
    ParsedHead *head;
} HeadView;

static size_t count_of(HttpFields headers, const char *name) {
    size_t count = 0;
    for (size_t i = 0; i < headers.count; i++)
        count += strcmp(headers.items[i].name, name) == 0;
    return count;
}

static bool is_token(const char *text) {
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *text != '\0' && text[strspn(text, allowed)] == '\0';
}

static bool is_utf8(const char *text) {
    for (size_t len = strlen(text); len > 0;) {
        size_t step = utf8_char_len(text, len);
        if (step == 0)
            return false;
        text += step;
        len -= step;
    }
    return true;
}

static bool check_method(HeadView *view, Refusal *refusal) {
    return view->request->method != HTTP_METHOD_NONE || refuse(refusal, 501, "the server does not know this method");
}

static bool check_fields(HeadView *view, Refusal *refusal) {
    HttpFields headers = view->request->headers;

    for (size_t i = 0; i < headers.count; i++) {
        if (!is_token(headers.items[i].name))
            return refuse(refusal, 400, "the name of a header is not valid");
        if (!is_utf8(headers.items[i].value))
            return refuse(refusal, 400, "a header is not UTF-8 text");
    }
    return true;
}

/* Two servers that differ about where a body ends is how requests are smuggled: one way to say it, once. */
static bool check_framing(HeadView *view, Refusal *refusal) {
    HttpFields headers = view->request->headers;
    size_t codings = count_of(headers, "transfer-encoding"), lengths = count_of(headers, "content-length");

    if (lengths > 1 || (lengths > 0 && codings > 0))
        return refuse(refusal, 400, "the length of the body is said twice");
    if (codings > 0 && view->http_1_0)
        return refuse(refusal, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (codings > 1)
        return refuse(refusal, 400, "Transfer-Encoding is said twice");
    if (codings > 0 && strcasecmp(http_fields_get(headers, "transfer-encoding"), "chunked") != 0)
        return refuse(refusal, 501, "the server knows no Transfer-Encoding but chunked");
    view->head->chunked = codings > 0;
    if (lengths > 0 && view->content_length > (uint64_t)view->limits->body_bytes)
        return refuse(refusal, 413, "the body of the request is too large");
    return true;
}

static bool check_host(HeadView *view, Refusal *refusal) {
    HttpFields headers = view->request->headers;
    const char *host = http_fields_get(headers, "host");

    if (count_of(headers, "host") > 1)
        return refuse(refusal, 400, "the request has two Host headers");
    if (host == NULL && !view->http_1_0)
        return refuse(refusal, 400, "the request has no Host header");
    if (host != NULL && !target_authority_valid(host, strlen(host)))
        return refuse(refusal, 400, "the Host header is not valid");
    view->request->host = host == NULL ? "" : host;
    return true;
}

static bool check_expect(HeadView *view, Refusal *refusal) {
    const char *expect = http_fields_get(view->request->headers, "expect");

    if (expect == NULL || view->http_1_0)
        return true;
    if (strcasecmp(expect, "100-continue") != 0)
        return refuse(refusal, 417, "the server cannot meet this expectation");
    view->head->expect_continue = true;
    return true;
}

/* "http://host/path" is what a proxy is sent; it is for us when it names the host that Host names. */
static bool strip_absolute(HttpRequest *request, Refusal *refusal) {
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        size_t scheme_len = strlen(schemes[i]);
        if (strncasecmp(request->target, schemes[i], scheme_len) != 0)
            continue;
        const char *authority = request->target + scheme_len;
        size_t len = strcspn(authority, "/?#");
        if (len != strlen(request->host) || strncasecmp(authority, request->host, len) != 0)
            return refuse(refusal, 400, "target and Host name different hosts");
        request->target =
            authority[len] == '/' ? authority + len : arena_printf(request->arena, "/%s", authority + len);
    }
    return true;
}

static bool check_target(HeadView *view, Refusal *refusal) {
    HttpRequest *request = view->request;

    if (strcmp(request->target, "*") == 0 && request->method == HTTP_METHOD_OPTIONS) {
        request->raw_path = request->target;
        return true;
    }
    if (!strip_absolute(request, refusal))
        return false;
    if (request->target[0] != '/' || strchr(request->target, '#') != NULL)
        return refuse(refusal, 400, "the target of the request is not valid");
    size_t path_len = strcspn(request->target, "?");
    const char *query = request->target[path_len] == '?' ? request->target + path_len + 1 : NULL;
    request->raw_path = arena_strndup(request->arena, request->target, path_len);
    refusal->status = 400;
    return target_path(request->arena, request->raw_path, &request->path, &refusal->why) &&
           target_query(request->arena, query, (size_t)view->limits->query_params, &request->query, &refusal->why);
}

static bool has_word(const char *list, const char *word) {
    while (*list != '\0') {
        list += strspn(list, ", \t");
        size_t len = strcspn(list, ", \t");
        if (len == strlen(word) && strncasecmp(list, word, len) == 0)
            return true;
        list += len;
    }
    return false;
}

static bool check_connection(HeadView *view, Refusal *refusal) {
    HttpFields headers = view->request->headers;
    bool close = false, keep = false;
    (void)refusal;

    for (size_t i = 0; i < headers.count; i++) {
        if (strcmp(headers.items[i].name, "connection") != 0)
            continue;
        close = close || has_word(headers.items[i].value, "close");
        keep = keep || has_word(headers.items[i].value, "keep-alive");
    }
    view->head->http_1_0 = view->http_1_0;
    view->head->keep_alive = !close && (keep || !view->http_1_0);
    view->request->last_event_id = http_fields_get(headers, "last-event-id");
    return true;
}

static bool (*const head_checks[])(HeadView *view, Refusal *refusal) = {
    check_method, check_fields, check_framing, check_host, check_expect, check_target, check_connection,
};

/* --- the whole head --- */

static bool refuse_parsed(const Parse *parse, llhttp_errno_t code, Refusal *refusal) {
    if (parse->refusal.status != 0) {
        *refusal = parse->refusal;
        return false;
    }
    if (code == HPE_INVALID_VERSION)
        return refuse(refusal, 505, "the server speaks HTTP/1.1 and HTTP/1.0");
    return refuse(refusal, 400, "the request is not valid HTTP");
}

bool parse_head(llhttp_t *parser, const char *head, size_t len, const HttpLimits *limits, HttpRequest *request,
                ParsedHead *ret_head, Refusal *ret_refusal) {
    Parse parse = {.request = request, .limits = limits};

    if (!request_line_is_exact(head))
        return refuse(ret_refusal, 400, "the request line is not valid");
    llhttp_init(parser, HTTP_REQUEST, &callbacks);
    parser->data = &parse;
    llhttp_errno_t code = llhttp_execute(parser, head, len);
    parser->data = NULL;
    request->headers = (HttpFields){parse.headers.items, parse.headers.len};
    bool at_end = code == HPE_OK || (code == HPE_PAUSED && llhttp_get_error_pos(parser) == head + len);
    unsigned version = llhttp_get_http_major(parser) * 10U + llhttp_get_http_minor(parser);
    if (parse.head_done && version != 10 && version != 11)
        return refuse(ret_refusal, 505, "the server speaks HTTP/1.1 and HTTP/1.0");
    /* Of the codings that llhttp does not know the checks below tell more than it does. */
    bool coding = parse.head_done && code == HPE_INVALID_TRANSFER_ENCODING;
    if (!coding && (!at_end || !parse.head_done || request->target == NULL))
        return refuse_parsed(&parse, code, ret_refusal);
    ParsedHead parsed = {.complete = parse.message_done};
    HeadView view = {request, limits, version == 10, parser->content_length, &parsed};
    for (size_t i = 0; i < COUNT_OF(head_checks); i++) {
        if (!head_checks[i](&view, ret_refusal))
            return false;
    }
    if (coding)
        return refuse_parsed(&parse, code, ret_refusal);
    *ret_head = parsed;
    return true;
}

/* --- the body --- */

void parsed_body_init(ParsedBody *body, const HttpLimits *limits) {
    *body = (ParsedBody){.framing_max = (size_t)limits->head_bytes};
    buf_init(&body->bytes, (size_t)limits->body_bytes);
}

void parsed_body_fini(ParsedBody *body) {
    buf_fini(&body->bytes);
}

/* Chunks of a few bytes are fine; sizes, extensions and trailers without end are not. */
static bool too_much_framing(const ParsedBody *body) {
    enum { PER_BYTE = 8 }; /* "1\r\nx\r\n" has 5 */
    return body->received - body->bytes.len > body->framing_max + PER_BYTE * body->bytes.len;
}

bool parse_body(llhttp_t *parser, const char *bytes, size_t len, ParsedBody *body, size_t *ret_taken,
                Refusal *ret_refusal) {
    Parse parse = {.body = body};

    parser->data = &parse;
    llhttp_errno_t code = llhttp_execute(parser, bytes, len);
    parser->data = NULL;
    if (code != HPE_OK && !(code == HPE_PAUSED && parse.message_done))
        return refuse_parsed(&parse, code, ret_refusal);
    size_t taken = parse.message_done ? (size_t)(llhttp_get_error_pos(parser) - bytes) : len;
    body->received += taken;
    body->done = parse.message_done;
    if (too_much_framing(body))
        return refuse(ret_refusal, 413, "the body of the request has too much framing");
    *ret_taken = taken;
    return true;
}
