/* Errors: defaults by reason, cutting without halving a character, errno, wrapping, the tables of names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/error.h"
#include "common/utf8.h"

#include <errno.h>
#include <string.h>

static void test_set(void **state UNUSED) {
    Error err;
    memset(&err, 0x55, sizeof(err));
    assert_false(error_set(&err, REASON_UNREACHABLE, "host %s", "db1"));
    assert_int_equal(err.reason, REASON_UNREACHABLE);
    assert_true(err.retryable);
    assert_string_equal(err.sqlstate, "");
    assert_string_equal(err.message, "host db1");
    assert_non_null(strstr(err.remedy, "pg_isready"));
    assert_non_null(strstr(err.file, "test_error.c"));
    assert_int_equal(err.line, __LINE__ - 7);
}

static void test_set_from_itself(void **state UNUSED) {
    Error err;
    error_set(&err, REASON_SYSTEM, "first");
    error_set(&err, REASON_INTERNAL, "second after %s", err.message);
    assert_string_equal(err.message, "second after first");
    assert_false(error_remedy(&err, "not %s", err.remedy));
    assert_string_equal(err.remedy, "not this is a defect in pgcrane: please report it with the log");
}

static void test_errno(void **state UNUSED) {
    Error err;
    errno = ENOENT;
    assert_false(error_errno(&err, REASON_SYSTEM, "cannot open %s", "x"));
    assert_string_equal(err.message, "cannot open x: No such file or directory");
    assert_int_equal(errno, ENOENT);

    char path[3000];
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    error_errno(&err, REASON_SYSTEM, "%s", path);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    assert_non_null(strstr(err.message, "pp: No such file or directory"));
}

static void test_wrap(void **state UNUSED) {
    Error err;
    error_set(&err, REASON_LOCK_BUSY, "inner");
    memcpy(err.sqlstate, "55P03", 6);
    int line = err.line;
    assert_false(error_wrap(&err, "table %s", "public.a"));
    assert_string_equal(err.message, "table public.a: inner");
    assert_int_equal(err.reason, REASON_LOCK_BUSY);
    assert_string_equal(err.sqlstate, "55P03");
    assert_int_equal(err.line, line);
}

/* Whatever the offset of the two-byte characters, none is cut in half. */
static void test_cut_is_whole(void **state UNUSED) {
    char text[2 * ERROR_MESSAGE_MAX + 1];
    for (size_t offset = 0; offset < 4; offset++) {
        size_t len = 0;
        while (len < offset)
            text[len++] = 'a';
        for (; len + 2 < sizeof(text); len += 2)
            memcpy(text + len, "\xc3\xa9", 2);
        text[len] = '\0';
        Error err;
        error_set(&err, REASON_SYSTEM, "%s", text);
        size_t kept = strlen(err.message);
        assert_int_equal(kept, offset % 2 == 1 ? ERROR_MESSAGE_MAX - 1 : ERROR_MESSAGE_MAX - 2);
        error_wrap(&err, "b");
        kept = strlen(err.message);
        assert_true(kept >= ERROR_MESSAGE_MAX - 2);
        assert_int_equal((unsigned char)err.message[kept - 1], 0xa9);
    }
}

static void test_names(void **state UNUSED) {
    for (int i = 0; i < REASON_MAX_; i++) {
        ErrorReason reason = (ErrorReason)i;
        assert_int_equal(error_reason_from_name(error_reason_name(reason)), reason);
        assert_true(error_reason_exit_code(reason) >= 2);
        assert_string_not_equal(error_code_name(error_reason_code(reason)), "UNKNOWN");
    }
    assert_int_equal(error_reason_from_name("NO_SUCH"), REASON_MAX_);
    assert_string_equal(error_reason_name(REASON_MAX_), "UNKNOWN");
    assert_int_equal(error_reason_code(REASON_MAX_), ERR_UNKNOWN);
    assert_int_equal(error_reason_exit_code(REASON_MAX_), 2);
    assert_int_equal(error_reason_exit_code(REASON_USAGE), 64);
    assert_int_equal(error_reason_code(REASON_LOGIN_REFUSED), ERR_UNAUTHENTICATED);
    assert_string_equal(error_code_name(ERR_DATA_LOSS), "DATA_LOSS");
    assert_string_equal(error_code_name((ErrorCode)17), "UNKNOWN");
    assert_string_equal(error_code_name((ErrorCode)-1), "UNKNOWN");
}

static void test_utf8_char_len(void **state UNUSED) {
    static const struct {
        const char *bytes;
        size_t len, expected;
    } cases[] = {
        {"a", 1, 1},
        {"", 0, 0},
        {"\xc3\xa9", 2, 2},
        {"\xc3\xa9", 1, 0},
        {"\xc3(", 2, 0},
        {"\x80", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xe2\x82\xac", 3, 3},
        {"\xe0\x80\x80", 3, 0},
        {"\xed\xa0\x80", 3, 0},
        {"\xf0\x9f\x90\x98", 4, 4},
        {"\xf0\x80\x80\x80", 4, 0},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xe2\x82(", 3, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_int_equal(utf8_char_len(cases[i].bytes, cases[i].len), cases[i].expected);
}

static void test_utf8_cut(void **state UNUSED) {
    assert_int_equal(utf8_cut("abc", 3, 5), 3);
    assert_int_equal(utf8_cut("abc", 3, 2), 2);
    assert_int_equal(utf8_cut("a\xc3\xa9", 3, 2), 1);
    assert_int_equal(utf8_cut("\xf0\x9f\x90\x98z", 5, 3), 0);
    assert_int_equal(utf8_cut("\xf0\x9f\x90\x98z", 5, 4), 4);
    assert_int_equal(utf8_cut("\x80\x80\x80\x80\x80\x80\x80\x80", 8, 6), 6); /* no UTF-8: cut as asked */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),           cmocka_unit_test(test_set_from_itself), cmocka_unit_test(test_errno),
        cmocka_unit_test(test_wrap),          cmocka_unit_test(test_cut_is_whole),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_utf8_char_len), cmocka_unit_test(test_utf8_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
