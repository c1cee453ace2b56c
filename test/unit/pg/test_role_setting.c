/* Unit test of settings as they are stored, made into SQL again. */
#include "pg/role_setting.h"

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

static const char *sql_of(Arena *arena, const char *name, const char *text) {
    RoleSetting setting = role_setting_parse(arena, name, text);

    return role_setting_sql(arena, &setting);
}

static void test_lists(void **state) {
    assert_string_equal(sql_of(*state, "search_path", "\"$user\", \"My \"\"S\"\"\", public"),
                        "'$user', 'My \"S\"', 'public'");
    assert_string_equal(sql_of(*state, "Search_Path", "\"a, b\",c"), "'a, b', 'c'");
    assert_string_equal(sql_of(*state, "search_path", "\"\""), "''");
    assert_string_equal(sql_of(*state, "search_path", ""), "''");
    assert_string_equal(sql_of(*state, "temp_tablespaces", "a, \"\", \"it's\""), "'a', '', 'it''s'");
}

/* What SET ... FROM CURRENT may have stored. */
static void test_lists_that_need_no_quotes(void **state) {
    assert_string_equal(sql_of(*state, "search_path", "Foo,$user,\n\t\"b c\" ,1st"), "'foo', '$user', 'b c', '1st'");
    assert_string_equal(sql_of(*state, "session_preload_libraries", "$libdir/Lib, b.so"), "'$libdir/Lib', 'b.so'");
}

/* Whoever wrote to the catalogue does not write our statements. */
static void test_no_lists(void **state) {
    static const char *const texts[] = {"a b", "\"a", "a,", ",a", "a\"b\"", "public; DROP ROLE x", "a,,b"};

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_string_equal(sql_of(*state, "search_path", texts[i]), sql_literal(*state, texts[i]));
    assert_string_equal(sql_of(*state, "work_mem", "1MB, \"2\""), "'1MB, \"2\"'");
    assert_string_equal(sql_of(*state, "my.search_path", "a, b"), "'a, b'");
}

static void test_tablespaces(void **state) {
    RoleSetting setting = role_setting_parse(*state, "default_tablespace", "a, \"b");

    assert_true(setting.is_tablespace && !setting.is_list && setting.items.len == 1);
    setting.items.items[0] = "it's";
    assert_string_equal(role_setting_sql(*state, &setting), "'it''s'");
    assert_false(role_setting_parse(*state, "temp_tablespaces", "a b").is_tablespace);
    assert_string_equal(sql_of(*state, "default_tablespace", ""), "''");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lists_that_need_no_quotes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tablespaces, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
