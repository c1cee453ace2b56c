/* Buffers: growth, the ceiling that sticks, reserving and consuming. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"

#include <string.h>

static void test_append(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, SIZE_MAX);
    assert_string_equal(buf.data, "");
    buf_append_str(&buf, "abc");
    buf_append_char(&buf, 'd');
    buf_append(&buf, "\0e", 2);
    buf_append(&buf, NULL, 0);
    buf_printf(&buf, "%d%s", 12, "x");
    buf_printf(&buf, "%s", "");
    assert_int_equal(buf.len, 9);
    assert_memory_equal(buf.data, "abcd\0e12x", 10);
    buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
}

static void test_growth(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, 1000000);
    for (int i = 0; i < 100000; i++)
        buf_append_str(&buf, "0123456789");
    assert_int_equal(buf.len, 1000000);
    assert_int_equal(buf.cap, 1000001);
    assert_string_equal(buf.data + 999990, "0123456789");
    Error err;
    assert_true(buf_ok(&buf, "text", &err));
}

static void test_ceiling(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    Error err;
    buf_init(&buf, 5);
    buf_append_str(&buf, "abcd");
    buf_append_str(&buf, "ef"); /* dropped whole */
    assert_string_equal(buf.data, "abcd");
    assert_false(buf_ok(&buf, "the answer", &err));
    assert_int_equal(err.reason, REASON_SYSTEM);
    assert_string_equal(err.message, "the answer is larger than 5 bytes");
    buf_append_char(&buf, 'e'); /* fits, but the mark stays */
    assert_string_equal(buf.data, "abcde");
    assert_false(buf_ok(&buf, "the answer", &err));
    buf_printf(&buf, "%d", 1);
    assert_string_equal(buf.data, "abcde");
    assert_null(buf_reserve(&buf, 1));
    buf_clear(&buf);
    assert_true(buf_ok(&buf, "the answer", &err));
}

static void test_empty_ceiling(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, 0);
    buf_append_char(&buf, 'a');
    assert_true(buf.overflowed);
    assert_string_equal(buf.data, "");
}

static void test_reserve(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, 5000);
    buf_append_str(&buf, "ab");
    char *room = buf_reserve(&buf, 4000);
    assert_ptr_equal(room, buf.data + 2);
    memcpy(room, "cd", 2);
    buf.len += 2; /* fewer than reserved */
    assert_string_equal(buf.data, "abcd");
}

static void test_consume(void **state UNUSED) {
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, 100);
    buf_append_str(&buf, "abcdef");
    buf_consume(&buf, 2);
    assert_string_equal(buf.data, "cdef");
    assert_int_equal(buf.len, 4);
    buf_consume(&buf, 99);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),        cmocka_unit_test(test_growth),  cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_empty_ceiling), cmocka_unit_test(test_reserve), cmocka_unit_test(test_consume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
