/* Server-sent events, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/sse.h"

#include <string.h>

enum { TEXT_MAX = 64 * 1024 };

/* "id/type/data;" of each event. */
static bool take(void *context, const SseEvent *event, Error *err) {
    Buf *seen = context;

    if (strcmp(event->data, "stop") == 0)
        return error_set(err, REASON_CANCELLED, "stop");
    buf_printf(seen, "%s/%s/%s;", event->id, event->type, event->data);
    return true;
}

/* In pieces of every size: line ends and fields may be cut anywhere. */
static void check(const char *bytes, const char *expected) {
    for (size_t step = 1; step <= strlen(bytes); step++) {
        CLEANUP(buf_fini) Buf seen;
        SseParser parser;
        Error err;

        buf_init(&seen, TEXT_MAX);
        sse_init(&parser, take, &seen);
        for (size_t at = 0; at < strlen(bytes); at += step)
            assert_true(sse_feed(&parser, bytes + at, MIN(step, strlen(bytes) - at), &err));
        sse_fini(&parser);
        assert_string_equal(seen.data, expected);
    }
}

static void test_events(void **state UNUSED) {
    check("id: 1\nevent: STATE\ndata: {\"a\":1}\n\n", "1/STATE/{\"a\":1};");
    check("data: a\n\ndata: b\n\n", "//a;//b;");
    check("data: a\ndata:  b\n\n", "//a\n b;");
    check("data\n\n", "//;");
    check("id: 7\ndata: a\n\ndata: b\n\n", "7//a;7//b;"); /* the id stays */
    check("event: x\n\ndata: b\n\n", "//b;");             /* a type without data is forgotten */
    check("nonsense: 1\nretry: 5\ndata:a\n\n", "//a;");
}

static void test_line_ends(void **state UNUSED) {
    check("data: a\r\n\r\ndata: b\r\rdata: c\n\n", "//a;//b;//c;");
    check("\xEF\xBB\xBF"
          "data: a\n\n",
          "//a;");
    check(": a comment\n\n:\n\ndata: a\n\n", "//a;");
}

static void test_what_is_not_whole_is_not_told(void **state UNUSED) {
    check("data: a\n\ndata: b\n", "//a;");
}

static void test_restart(void **state UNUSED) {
    CLEANUP(buf_fini) Buf seen;
    CLEANUP(sse_fini) SseParser parser = {0};
    Error err;
    static const char begun[] = "id: 4\ndata: a\n\ndata: half", anew[] = "data: b\n\n";

    buf_init(&seen, TEXT_MAX);
    sse_init(&parser, take, &seen);
    assert_true(sse_feed(&parser, begun, strlen(begun), &err));
    sse_restart(&parser);
    assert_string_equal(parser.last_id.data, "4");
    assert_true(sse_feed(&parser, anew, strlen(anew), &err));
    assert_string_equal(seen.data, "4//a;4//b;");
}

static void test_the_taker_ends_it(void **state UNUSED) {
    CLEANUP(buf_fini) Buf seen;
    CLEANUP(sse_fini) SseParser parser = {0};
    Error err;
    static const char bytes[] = "data: a\n\ndata: stop\n\ndata: b\n\n";

    buf_init(&seen, TEXT_MAX);
    sse_init(&parser, take, &seen);
    assert_false(sse_feed(&parser, bytes, strlen(bytes), &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_string_equal(seen.data, "//a;");
}

static void test_ceilings(void **state UNUSED) {
    CLEANUP(buf_fini) Buf seen;
    CLEANUP(sse_fini) SseParser parser = {0};
    bool good = true;
    size_t sent = 0;
    Error err;

    buf_init(&seen, TEXT_MAX);
    sse_init(&parser, take, &seen);
    for (; good && sent < 8 * 1024 * 1024; sent += 10)
        good = sse_feed(&parser, "data: abcd", 10, &err);
    assert_false(good);
    assert_in_range(sent, 1024 * 1024, 1024 * 1024 + 100); /* of one line */
    good = true;
    sse_restart(&parser);
    for (sent = 0; good && sent < 16 * 1024 * 1024; sent += 16)
        good = sse_feed(&parser, "data: abcdefghi\n", 16, &err);
    assert_false(good);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_what_is_not_whole_is_not_told),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_the_taker_ends_it),
        cmocka_unit_test(test_ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
