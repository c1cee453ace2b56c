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
    assert_string_equal(promote_setting_back_sql(arena, "sh\"op", promote_setting_line(arena, NULL)),
                        "ALTER DATABASE \"sh\"\"op\" RESET default_transaction_read_only");
    assert_string_equal(promote_setting_back_sql(arena, "shop", promote_setting_line(arena, "off")),
                        "ALTER DATABASE \"shop\" SET default_transaction_read_only = 'off'");
    assert_string_equal(promote_setting_back_sql(arena, "shop", promote_setting_line(arena, "it's")),
                        "ALTER DATABASE \"shop\" SET default_transaction_read_only = 'it''s'");
    arena_free(arena);
}

static void test_unknown_line(void **state) {
    Arena *arena = arena_new();

    (void)state;
    assert_null(promote_setting_back_sql(arena, "shop", "resets"));
    assert_null(promote_setting_back_sql(arena, "shop", ""));
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
        cmocka_unit_test(test_unknown_line),
        cmocka_unit_test(test_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
