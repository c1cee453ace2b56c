/* Words of a shell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/shell.h"

static void test_shell_quote(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(shell_quote(arena, "postgresql://a@h:1/d"), "postgresql://a@h:1/d");
    assert_string_equal(shell_quote(arena, "host=h user=u"), "'host=h user=u'");
    assert_string_equal(shell_quote(arena, "it's"), "'it'\\''s'");
    assert_string_equal(shell_quote(arena, ""), "''");
    assert_string_equal(shell_quote(arena, "***"), "'***'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shell_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
