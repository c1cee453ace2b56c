/* The bytes of a response, and what a handler cannot put into them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "http/response.h"

#include <string.h>

static const char date[] = "Sun, 06 Nov 1994 08:49:37 GMT";
static Arena *arena;
static HttpResponse response;
static Buf out;

static int setup(void **state UNUSED) {
    arena = arena_new();
    response_init(&response, arena, NULL, 0);
    buf_init(&out, 100000);
    return 0;
}

static int teardown(void **state UNUSED) {
    arena_freep(&arena);
    buf_fini(&out);
    return 0;
}

static void assert_head(ResponseConnection connection, const char *expected) {
    buf_clear(&out);
    response_print_head(&response, connection, date, &out);
    assert_string_equal(out.data, expected);
}

#define START(line) "HTTP/1.1 " line "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

static void test_head(void **state UNUSED) {
    assert_head(RESPONSE_KEEP, START("200 OK") "Content-Length: 0\r\n\r\n");
    http_response_status(&response, 201);
    http_response_header(&response, "ETag", "\"a\"");
    http_response_header(&response, "X-Twice", "1");
    http_response_header(&response, "X-Twice", "a\tb \xc3\xa9");
    http_response_body(&response, "text/plain", "abc", 3);
    assert_head(RESPONSE_KEEP_1_0, START("201 Created") "ETag: \"a\"\r\nX-Twice: 1\r\nX-Twice: a\tb \xc3\xa9\r\n"
                                                        "Content-Type: text/plain\r\nContent-Length: 3\r\n"
                                                        "Connection: keep-alive\r\n\r\n");
    http_response_status(&response, 599);
    http_response_body(&response, NULL, "abc", 3);
    assert_false(response.broken);
    assert_head(RESPONSE_CLOSE, START("599 ") "ETag: \"a\"\r\nX-Twice: 1\r\nX-Twice: a\tb \xc3\xa9\r\n"
                                              "Content-Length: 3\r\nConnection: close\r\n\r\n");
}

static void test_without_body(void **state UNUSED) {
    http_response_status(&response, 204);
    assert_head(RESPONSE_KEEP, START("204 No Content") "\r\n");
    http_response_status(&response, 304);
    assert_head(RESPONSE_KEEP, START("304 Not Modified") "\r\n");
}

/* Each alone breaks the response. */
static void test_what_cannot_be_said(void **state UNUSED) {
    static const HttpField bad[] = {
        {"X", "a\r\nSet-Cookie: b"},
        {"X", "a\nb"},
        {"X", "a\rb"},
        {"X", "\x01"},
        {"X", "\x7f"},
        {"X\r\nY", "a"},
        {"X Y", "a"},
        {"X:", "a"},
        {"", "a"},
        {"\xc3\xa9", "a"},
        {"Content-Length", "1"},
        {"connection", ""},
        {"DATE", "x"},
        {"Keep-Alive", "x"},
        {"Trailer", "x"},
        {"Transfer-Encoding", "x"},
        {"upgrade", "x"},
        {"Content-Type", "x"},
    };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        response_init(&response, arena, NULL, 0);
        http_response_header(&response, bad[i].name, bad[i].value);
        if (!response.broken)
            fail_msg("%s: %s was taken", bad[i].name, bad[i].value);
        assert_int_equal(response.headers.len, 0);
    }
    response_init(&response, arena, NULL, 0);
    http_response_body(&response, "text/plain\r\nX: y", "a", 1);
    assert_true(response.broken);
    static const int statuses[] = {0, 100, 199, 600, -1};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        response_init(&response, arena, NULL, 0);
        http_response_status(&response, statuses[i]);
        assert_true(response.broken);
        assert_int_equal(response.status, 200);
    }
}

static void test_error(void **state UNUSED) {
    http_response_header(&response, "X", "y");
    http_response_header(&response, "X", "\n");
    http_response_error(&response, 404, "no \"%s\"", "a\xff");
    assert_false(response.broken); /* it replaces all that was said */
    assert_int_equal(response.headers.len, 0);
    assert_string_equal(response.type, "application/json; charset=UTF-8");
    assert_string_equal(response.body,
                        "{\"error\":{\"code\":404,\"message\":\"no \\\"a?\\\"\",\"status\":\"NOT_FOUND\"}}");
    assert_int_equal(response.body_len, strlen(response.body));
    http_response_error(&response, 418, "x");
    assert_string_equal(response.body, "{\"error\":{\"code\":418,\"message\":\"x\",\"status\":\"INVALID_ARGUMENT\"}}");
    http_response_error(&response, 599, "x");
    assert_string_equal(response.body, "{\"error\":{\"code\":599,\"message\":\"x\",\"status\":\"INTERNAL\"}}");
}

static void test_names(void **state UNUSED) {
    assert_string_equal(http_method_name(HTTP_METHOD_NONE), "-");
    assert_string_equal(http_method_name(HTTP_METHOD_PATCH), "PATCH");
    assert_string_equal(http_method_name(HTTP_METHOD_MAX_), "-");
    assert_string_equal(http_status_text(404), "Not Found");
    assert_string_equal(http_status_text(999), "");
}

static void test_date(void **state UNUSED) {
    char text[30];

    response_date(INT64_C(784111777) * USEC_PER_SEC + 999999, text, sizeof(text));
    assert_string_equal(text, date);
    response_date(INT64_C(1709251199) * USEC_PER_SEC, text, sizeof(text));
    assert_string_equal(text, "Thu, 29 Feb 2024 23:59:59 GMT");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_head, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_said, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error, setup, teardown),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
