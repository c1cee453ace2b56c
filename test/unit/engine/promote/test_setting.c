/* What the journal says about the source's setting, and how it is set back; the steps' names. */
#include "engine/promote/promote_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_back(void **state) {
    Arena *arena = arena_new();

    (void)state;
    assert_string_equal(
        promote_setting_back_sql(arena, "sh\"op", promote_setting_line(arena, "2026-01-31 12:00:00.5+00", NULL)),
        "ALTER DATABASE \"sh\"\"op\" RESET default_transaction_read_only");
    assert_string_equal(
        promote_setting_back_sql(arena, "shop", promote_setting_line(arena, "2026-01-31 12:00:00.5+00", "off")),
        "ALTER DATABASE \"shop\" SET default_transaction_read_only = 'off'");
    assert_string_equal(
        promote_setting_back_sql(arena, "shop",
                                 promote_setting_line(arena, "2026-01-31 12:00:00.5+00", "it's; since x; reset")),
        "ALTER DATABASE \"shop\" SET default_transaction_read_only = 'it''s; since x; reset'");
    arena_free(arena);
}

static void test_since(void **state) {
    Arena *arena = arena_new();

    (void)state;
    assert_string_equal(promote_setting_since(arena, promote_setting_line(arena, "2026-01-31 12:00:00.5+00", "off")),
                        "2026-01-31 12:00:00.5+00");
    /* As earlier versions wrote it. */
    assert_string_equal(promote_setting_since(arena, "reset"), "-infinity");
    assert_string_equal(promote_setting_since(arena, "set off"), "-infinity");
    assert_string_equal(promote_setting_back_sql(arena, "shop", "set off"),
                        "ALTER DATABASE \"shop\" SET default_transaction_read_only = 'off'");
    assert_string_equal(promote_setting_back_sql(arena, "shop", "reset"),
                        "ALTER DATABASE \"shop\" RESET default_transaction_read_only");
    arena_free(arena);
}

static void test_unknown_line(void **state) {
    Arena *arena = arena_new();

    (void)state;
    assert_null(promote_setting_back_sql(arena, "shop", "resets"));
    assert_null(promote_setting_back_sql(arena, "shop", ""));
    assert_null(promote_setting_back_sql(arena, "shop", "since today"));
    arena_free(arena);
}

static void test_steps(void **state) {
    (void)state;
    assert_string_equal(promote_step_name(PROMOTE_LAG), "LAG");
    assert_string_equal(promote_step_name(PROMOTE_HOOK_AFTER), "HOOK_AFTER");
    for (int step = 0; step < PROMOTE_STEP_MAX_; step++)
        assert_true(strlen(promote_step_help((PromoteStep)step)) > 10);
    assert_string_equal(promote_step_name(PROMOTE_STEP_MAX_), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back),
        cmocka_unit_test(test_since),
        cmocka_unit_test(test_unknown_line),
        cmocka_unit_test(test_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
