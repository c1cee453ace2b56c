/* Unit test of quoting. */
#include "pg/quote.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state) {
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

static void test_ident(void **state) {
    assert_string_equal(sql_ident(*state, "a"), "\"a\"");
    assert_string_equal(sql_ident(*state, ""), "\"\"");
    assert_string_equal(sql_ident(*state, "a\"b"), "\"a\"\"b\"");
    assert_string_equal(sql_ident(*state, "\""), "\"\"\"\"");
    assert_string_equal(sql_ident(*state, "back\\slash 'x'"), "\"back\\slash 'x'\"");
    assert_string_equal(sql_ident(*state, "größe"), "\"größe\"");
}

static void test_qualified(void **state) {
    assert_string_equal(sql_qualified(*state, "my.schema", "t\"x"), "\"my.schema\".\"t\"\"x\"");
}

static void test_literal(void **state) {
    assert_string_equal(sql_literal(*state, "plain"), "'plain'");
    assert_string_equal(sql_literal(*state, ""), "''");
    assert_string_equal(sql_literal(*state, NULL), "NULL");
    assert_string_equal(sql_literal(*state, "it's"), "'it''s'");
    assert_string_equal(sql_literal(*state, "'; DROP TABLE x; --"), "'''; DROP TABLE x; --'");
    /* The E must not join a word in front of it. */
    assert_string_equal(sql_literal(*state, "a\\'b"), " E'a\\\\''b'");
    assert_string_equal(sql_literal(*state, "\\"), " E'\\\\'");
}

static void test_display(void **state) {
    assert_string_equal(sql_display(*state, "public", "orders_2"), "public.orders_2");
    assert_string_equal(sql_display(*state, "public", "Orders"), "public.\"Orders\"");
    assert_string_equal(sql_display(*state, "a b", "2x"), "\"a b\".\"2x\"");
    assert_string_equal(sql_display(*state, "_s", "t$1"), "_s.t$1");
    assert_string_equal(sql_display(*state, "", "größe"), "\"\".\"größe\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ident, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_qualified, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_literal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_display, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
