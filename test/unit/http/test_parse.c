/* The guard of the head, heads that are whole, and bodies in any pieces. The rest is in test_http_framing.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/parse.h"

#include <string.h>

static Arena *arena;
static HttpLimits limits;
static HttpRequest request;
static ParsedHead head;
static Refusal refusal;
static llhttp_t parser;

static int setup(void **state UNUSED) {
    arena = arena_new();
    limits = http_limits_default();
    return 0;
}

static int teardown(void **state UNUSED) {
    arena_freep(&arena);
    return 0;
}

/* In one piece and byte by byte alike; *ret_len: the head's length, or what was looked at. */
static HeadScan scan(const char *bytes, size_t len, size_t *ret_len) {
    size_t whole = 0, slow = 0;
    HeadScan result = head_scan(bytes, len, &whole), step = HEAD_MORE;

    for (size_t i = 1; i <= len && step == HEAD_MORE; i++)
        step = head_scan(bytes, i, &slow);
    assert_int_equal(step, result);
    assert_int_equal(slow, whole);
    *ret_len = whole;
    return result;
}

static void test_scan(void **state UNUSED) {
    static const char good[] = "GET / HTTP/1.1\r\nA: b\tc \xc3\xa9\r\n\r\n";
    static const char *const bad[] = {"a\nb",     "\n",    "a\rb",  "\r\r\n",  " a",    "\ta",     "a\r\n b",
                                      "a\r\n\tb", "a\x01", "a\x7f", "a\r\n\n", "a\x0b", "\x16\x03"};
    size_t len;

    assert_int_equal(scan(good, strlen(good), &len), HEAD_DONE);
    assert_int_equal(len, strlen(good));
    assert_int_equal(scan("a\r\n\r\nb\n\0", 8, &len), HEAD_DONE); /* what follows is not looked at */
    assert_int_equal(len, 5);
    assert_int_equal(scan(good, strlen(good) - 1, &len), HEAD_MORE);
    assert_int_equal(scan("", 0, &len), HEAD_MORE);
    assert_int_equal(scan("\r\na\r\n\r\n", 7, &len), HEAD_DONE);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (scan(bad[i], strlen(bad[i]), &len) != HEAD_BAD)
            fail_msg("row %zu was taken", i);
    }
    assert_int_equal(scan("a\0b", 3, &len), HEAD_BAD);
}

static bool parse(const char *text) {
    request = (HttpRequest){.arena = arena};
    refusal = (Refusal){0};
    return parse_head(&parser, text, strlen(text), &limits, &request, &head, &refusal);
}

static void test_head(void **state UNUSED) {
    assert_true(parse("GET /a/b:c?d=e HTTP/1.1\r\nHOST: h\r\nX-Empty:\r\nX: y  \t\r\nLast-Event-ID: 7\r\n\r\n"));
    assert_int_equal(request.method, HTTP_METHOD_GET);
    assert_string_equal(request.target, "/a/b:c?d=e");
    assert_string_equal(request.raw_path, "/a/b:c");
    assert_string_equal(request.path.verb, "c");
    assert_string_equal(http_fields_get(request.query, "d"), "e");
    assert_int_equal(request.headers.count, 4);
    assert_string_equal(request.host, "h");
    assert_string_equal(http_fields_get(request.headers, "x-empty"), "");
    assert_string_equal(http_fields_get(request.headers, "x"), "y");
    assert_string_equal(request.last_event_id, "7");
    assert_true(head.complete && head.keep_alive && !head.chunked && !head.http_1_0 && !head.expect_continue);
}

static void test_head_with_body(void **state UNUSED) {
    assert_true(parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"));
    assert_true(!head.complete && !head.chunked && head.expect_continue);
    assert_true(parse("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"));
    assert_true(!head.complete && head.chunked);
    assert_true(parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
    assert_true(head.complete);
}

static void test_keep_alive(void **state UNUSED) {
    assert_true(parse("GET / HTTP/1.0\r\n\r\n"));
    assert_true(!head.keep_alive && head.http_1_0);
    assert_true(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert_true(head.keep_alive);
    assert_true(parse("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
    assert_false(head.keep_alive);
    assert_true(parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n"));
    assert_false(head.keep_alive);
    assert_true(parse("GET / HTTP/1.1\r\nHost: h\r\nConnection: closed, xclose\r\n\r\n"));
    assert_true(head.keep_alive);
}

static void test_refusals(void **state UNUSED) {
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        {"\r\n\r\n", 400},
        {"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", 413},
        {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", 417},
        {"MKCOL / HTTP/1.1\r\nHost: h\r\n\r\n", 501},
        {"GET /.. HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: h\r\nA: \xc0\x80\r\n\r\n", 400},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (parse(rows[i].text))
            fail_msg("row %zu was taken", i);
        assert_int_equal(refusal.status, rows[i].status);
        assert_non_null(refusal.why);
    }
    limits.headers = 1;
    assert_false(parse("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"));
    assert_int_equal(refusal.status, 431);
    limits.target_bytes = 3;
    assert_false(parse("GET /abc HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_int_equal(refusal.status, 414);
}

/* The body behind a chunked head, `step` bytes at a time; *ret_taken: what belongs to the request. */
static bool read_body(const char *text, size_t step, ParsedBody *body, size_t *ret_taken) {
    size_t len = strlen(text), at = 0;

    assert_true(parse("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    parsed_body_init(body, &limits);
    while (at < len && !body->done) {
        size_t taken = 0;
        if (!parse_body(&parser, text + at, MIN(step, len - at), body, &taken, &refusal))
            return false;
        at += taken;
    }
    *ret_taken = at;
    return true;
}

static void test_body(void **state UNUSED) {
    static const char text[] = "3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nTrailer: x\r\n\r\nGET /";
    size_t taken;

    for (size_t step = 1; step <= sizeof(text); step++) {
        ParsedBody body;
        assert_true(read_body(text, step, &body, &taken));
        assert_true(body.done);
        assert_string_equal(body.bytes.data, "abcd");
        assert_int_equal(taken, strlen(text) - strlen("GET /"));
        parsed_body_fini(&body);
    }
    assert_int_equal(request.headers.count, 2); /* no trailer among them */
}

static void test_body_limits(void **state UNUSED) {
    ParsedBody body;
    size_t taken;

    limits.body_bytes = 3;
    assert_false(read_body("4\r\nabcd\r\n0\r\n\r\n", 100, &body, &taken));
    assert_int_equal(refusal.status, 413);
    parsed_body_fini(&body);
    limits.head_bytes = 8; /* framing without a byte of body */
    assert_false(read_body("000000000000000001\r\na\r\n0\r\n\r\n", 9, &body, &taken));
    assert_int_equal(refusal.status, 413);
    parsed_body_fini(&body);
    assert_false(read_body("1\r\nab\r\n0\r\n\r\n", 100, &body, &taken));
    assert_int_equal(refusal.status, 400);
    parsed_body_fini(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test_setup_teardown(test_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_head_with_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keep_alive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_body_limits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
