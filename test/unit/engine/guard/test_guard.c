/* Rates of the guard, and histories of timelines: pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/clock.h"
#include "engine/guard/guard.h"
#include "pg/repl_timeline.h"

#define MB (INT64_C(1) << 20)

static void rate_of_steady_writes(void **state) {
    GuardRate rate = {0};
    GuardReading reading = {.left_bytes = 600 * MB};

    (void)state;
    assert_int_equal(guard_seconds_left(&rate, &reading), -1);
    for (int second = 1; second <= 300; second++)
        guard_rate_add(&rate, (Lsn)(10 * MB * second), second * USEC_PER_SEC);
    assert_true(rate.bytes_per_second > 9.99 * (double)MB && rate.bytes_per_second < 10.01 * (double)MB);
    assert_int_equal(guard_seconds_left(&rate, &reading), 60);
    reading.left_bytes = -1;
    assert_int_equal(guard_seconds_left(&rate, &reading), -1);
    reading.left_bytes = 0;
    assert_int_equal(guard_seconds_left(&rate, &reading), 0);
}

static void limit_of_ours_and_the_servers(void **state) {
    GuardRate rate = {.first_us = 1, .bytes_per_second = (double)MB};
    GuardReading none = {.retained_bytes = 30 * MB, .limit_bytes = -1, .left_bytes = -1};
    GuardReading both = {.retained_bytes = 30 * MB, .limit_bytes = 50 * MB, .left_bytes = 20 * MB};

    (void)state;
    guard_apply_limit(&none, 0);
    assert_int_equal(none.limit_bytes, -1);
    assert_int_equal(guard_seconds_left(&rate, &none), -1);
    guard_apply_limit(&none, 100 * MB);
    assert_int_equal(none.limit_bytes, 100 * MB);
    assert_int_equal(guard_seconds_left(&rate, &none), 70);
    guard_apply_limit(&none, 10 * MB); /* over it already */
    assert_int_equal(guard_seconds_left(&rate, &none), 0);
    guard_apply_limit(&both, 100 * MB);
    assert_int_equal(both.limit_bytes, 50 * MB);
    assert_int_equal(guard_seconds_left(&rate, &both), 20);
    guard_apply_limit(&both, 40 * MB);
    assert_int_equal(both.limit_bytes, 40 * MB);
    assert_int_equal(guard_seconds_left(&rate, &both), 10);
}

static void age_of_the_catalogues(void **state) {
    GuardReading reading = {.catalog_xmin_age = 149999999, .freeze_max_age = 200000000};

    (void)state;
    assert_false(guard_is_age_high(&reading));
    reading.catalog_xmin_age++;
    assert_true(guard_is_age_high(&reading));
    reading.freeze_max_age = 0;
    assert_false(guard_is_age_high(&reading));
}

static void rate_follows_a_change_in_minutes(void **state) {
    GuardRate rate = {0};
    Lsn lsn = 0;
    int64_t second = 1;

    (void)state;
    for (; second <= 60; second++)
        guard_rate_add(&rate, lsn += (Lsn)MB, second * USEC_PER_SEC);
    /* One burst of a second does not turn it over. */
    guard_rate_add(&rate, lsn += (Lsn)(60 * MB), second++ * USEC_PER_SEC);
    assert_true(rate.bytes_per_second < 3.0 * (double)MB);
    for (; second <= 400; second++)
        guard_rate_add(&rate, lsn, second * USEC_PER_SEC);
    assert_true(rate.bytes_per_second < 0.05 * (double)MB);
}

static void rate_of_an_idle_server_has_no_end(void **state) {
    GuardRate rate = {0};
    const GuardReading reading = {.left_bytes = 1};

    (void)state;
    guard_rate_add(&rate, 5, USEC_PER_SEC);
    guard_rate_add(&rate, 5, 9 * USEC_PER_SEC);
    assert_int_equal(guard_seconds_left(&rate, &reading), -1);
}

static void rate_begins_anew_when_the_source_went_back(void **state) {
    GuardRate rate = {0};

    (void)state;
    guard_rate_add(&rate, (Lsn)(50 * MB), USEC_PER_SEC);
    guard_rate_add(&rate, (Lsn)(60 * MB), 2 * USEC_PER_SEC);
    assert_true(rate.bytes_per_second > 0);
    guard_rate_add(&rate, (Lsn)MB, 3 * USEC_PER_SEC);
    assert_true(rate.bytes_per_second < 1);
    assert_int_equal(rate.first_lsn, MB);
}

static void rate_ignores_looks_too_close(void **state) {
    GuardRate rate = {0};

    (void)state;
    guard_rate_add(&rate, 0, USEC_PER_SEC);
    guard_rate_add(&rate, (Lsn)MB, USEC_PER_SEC + 1);
    assert_true(rate.bytes_per_second < 1);
    guard_rate_add(&rate, (Lsn)MB, 2 * USEC_PER_SEC);
    assert_true(rate.bytes_per_second > 0.9 * (double)MB);
}

static void history_of_two_fail_overs(void **state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ReplSwitch *switches = NULL;
    size_t count = 0;
    Error err = {0};

    (void)state;
    assert_true(repl_history_parse(arena, "1\t0/3000000\tno recovery target specified\n\n# a word\r\n  2 16/B374D848\n",
                                   &switches, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(switches[0].timeline, 1);
    assert_int_equal(switches[0].lsn, 0x3000000);
    assert_int_equal(switches[1].timeline, 2);
    assert_int_equal(switches[1].lsn, 0x16B374D848);
}

static void history_without_lines(void **state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ReplSwitch *switches = NULL;
    size_t count = 9;
    Error err = {0};

    (void)state;
    assert_true(repl_history_parse(arena, "", &switches, &count, &err));
    assert_int_equal(count, 0);
}

static void history_that_is_none(void **state) {
    static const char *const texts[] = {
        "x\t0/1\n", "1\n", "1\t\n", "1\tzero\n", "0\t0/1\n", "-1\t0/1\n", "99999999999\t0/1\n", "1\t0/1\n2 0-1"};
    CLEANUP(arena_freep) Arena *arena = arena_new();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        ReplSwitch *switches = NULL;
        size_t count = 0;
        Error err = {0};

        if (repl_history_parse(arena, texts[i], &switches, &count, &err))
            fail_msg("taken: %s", texts[i]);
        assert_int_equal(err.reason, REASON_WIRE_BAD);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_of_steady_writes),
        cmocka_unit_test(limit_of_ours_and_the_servers),
        cmocka_unit_test(age_of_the_catalogues),
        cmocka_unit_test(rate_follows_a_change_in_minutes),
        cmocka_unit_test(rate_of_an_idle_server_has_no_end),
        cmocka_unit_test(rate_begins_anew_when_the_source_went_back),
        cmocka_unit_test(rate_ignores_looks_too_close),
        cmocka_unit_test(history_of_two_fail_overs),
        cmocka_unit_test(history_without_lines),
        cmocka_unit_test(history_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
