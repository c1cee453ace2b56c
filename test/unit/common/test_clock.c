/* Time and numbers for people, and sizes from people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/time.h>

static void test_clocks(void **state UNUSED) {
    int64_t before = clock_now_us();
    clock_sleep_us(20000);
    clock_sleep_us(0);
    clock_sleep_us(-5);
    int64_t after = clock_now_us();
    assert_true(after - before >= 20000);
    assert_true(clock_wall_us() > INT64_C(1700000000) * USEC_PER_SEC);
}

static void on_alarm(int signal_number UNUSED) {
}

static void test_sleep_is_whole_in_spite_of_signals(void **state UNUSED) {
    struct sigaction action = {.sa_handler = on_alarm}, old;
    sigaction(SIGALRM, &action, &old);
    struct itimerval often = {{0, 10000}, {0, 10000}};
    setitimer(ITIMER_REAL, &often, NULL);
    int64_t before = clock_now_us();
    clock_sleep_us(60000);
    assert_true(clock_now_us() - before >= 60000);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    sigaction(SIGALRM, &old, NULL);
}

static void test_poll_timeout(void **state UNUSED) {
    assert_int_equal(clock_poll_timeout(0), -1);
    assert_int_equal(clock_poll_timeout(1), 0);
    assert_int_equal(clock_poll_timeout(clock_now_us() - 1), 0);
    int timeout = clock_poll_timeout(clock_now_us() + 10 * USEC_PER_SEC);
    assert_true(timeout > 9000 && timeout <= 10000);
    assert_int_equal(clock_poll_timeout(INT64_MAX), INT_MAX);
}

static void test_rfc3339(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(clock_rfc3339(arena, 0), "1970-01-01T00:00:00.000Z");
    assert_string_equal(clock_rfc3339(arena, INT64_C(1795441290123999)), "2026-11-23T13:41:30.123Z");
    assert_string_equal(clock_rfc3339(arena, -1000), "1969-12-31T23:59:59.999Z");
}

static void test_duration(void **state UNUSED) {
    static const struct {
        int64_t us;
        const char *text;
    } cases[] = {
        {-5, "0.00s"},
        {0, "0.00s"},
        {420000, "0.42s"},
        {9994999, "9.99s"},
        {9995000, "10.0s"},
        {12300000, "12.3s"},
        {59949999, "59.9s"},
        {59960000, "1m 00s"},
        {185 * USEC_PER_SEC, "3m 05s"},
        {3599600000, "1h 00m"},
        {7380 * USEC_PER_SEC, "2h 03m"},
        {360000 * USEC_PER_SEC, "100h 00m"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(clock_duration(arena, cases[i].us), cases[i].text);
}

static void test_numbers(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(format_bytes(arena, 0), "0 B");
    assert_string_equal(format_bytes(arena, 812), "812 B");
    assert_string_equal(format_bytes(arena, 1024), "1.0 kB");
    assert_string_equal(format_bytes(arena, 1048575), "1.0 MB");
    assert_string_equal(format_bytes(arena, 1536 * 1024), "1.5 MB");
    assert_string_equal(format_bytes(arena, INT64_C(2469606195)), "2.3 GB");
    assert_string_equal(format_bytes(arena, -2048), "-2.0 kB");
    assert_string_equal(format_bytes(arena, INT64_MAX), "8.0 EB");
    assert_string_equal(format_bytes(arena, INT64_MIN), "-8.0 EB");
    assert_string_equal(format_count(arena, 0), "0");
    assert_string_equal(format_count(arena, 999), "999");
    assert_string_equal(format_count(arena, 6000000), "6,000,000");
    assert_string_equal(format_count(arena, -1234), "-1,234");
    assert_string_equal(format_count(arena, INT64_MIN), "-9,223,372,036,854,775,808");
}

static void test_parse_bytes(void **state UNUSED) {
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"64MB", 64 << 20},
        {"1 GB", 1 << 30},
        {"10kB", 10240},
        {"10kb", 10240},
        {"7B", 7},
        {"2TB", INT64_C(2) << 40},
        {"9223372036854775807", INT64_MAX},
    };
    static const char *const bad[] = {
        "",    "MB", "-1", "1.5GB", "1XB", "1 MB x", " 1", "9223372036854775808", "8EB", "+5", "92233720368547758070",
        "0x10"};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        int64_t bytes = -1;
        assert_true(parse_bytes(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        int64_t bytes = -7;
        assert_false(parse_bytes(bad[i], &bytes));
        assert_int_equal(bytes, -7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks),       cmocka_unit_test(test_sleep_is_whole_in_spite_of_signals),
        cmocka_unit_test(test_poll_timeout), cmocka_unit_test(test_rfc3339),
        cmocka_unit_test(test_duration),     cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_parse_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
