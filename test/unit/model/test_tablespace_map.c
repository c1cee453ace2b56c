/* --tablespace-map. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/tablespace_map.h"

#include <string.h>

static int set_up(void **state) {
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

static const char *found(Arena *arena, const char *text, const char *from) {
    TablespaceMap map;
    Error err;

    if (!tablespace_map_parse(arena, text, &map, &err))
        fail_msg("%s: %s", text, err.message);
    return tablespace_map_find(&map, from);
}

static void test_pairs(void **state) {
    assert_null(found(*state, NULL, "fast"));
    assert_string_equal(found(*state, "fast=ssd", "fast"), "ssd");
    assert_null(found(*state, "fast=ssd", "Fast"));
    assert_string_equal(found(*state, "fast=ssd,slow=", "slow"), "");
    assert_string_equal(found(*state, "slow=,fast=ssd", "fast"), "ssd");
    assert_string_equal(found(*state, "pg_default=ssd", "pg_default"), "ssd");
    assert_string_equal(found(*state, "my disk=ä", "my disk"), "ä");
}

static void test_quoted(void **state) {
    assert_string_equal(found(*state, "\"a,b=\"\"c\"=\"d,e\",f=g", "a,b=\"c"), "d,e");
    assert_string_equal(found(*state, "\"a,b\"=x,f=g", "f"), "g");
    assert_string_equal(found(*state, "a=\"\"", "a"), "");
}

/* The default one is not meant by "all". */
static void test_all_others(void **state) {
    assert_string_equal(found(*state, "*=", "any"), "");
    assert_string_equal(found(*state, "a=b,*=c", "a"), "b");
    assert_string_equal(found(*state, "*=c,a=b", "x"), "c");
    assert_null(found(*state, "*=c", "pg_default"));
    assert_string_equal(found(*state, "*=c,pg_default=d", "pg_default"), "d");
}

static void test_refused(void **state) {
    static const char *const bad[] = {"a",     "=b",    "a=b,",     ",a=b",    "a=b=c",    "a=b,a=c",  "\"a=b",
                                      "a\"=b", "a=\"b", "a=b,,c=d", "*=a,*=b", "\"a\"x=b", "a=\"b\"c", "\"\"=b"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        TablespaceMap map;
        Error err;

        if (tablespace_map_parse(*state, bad[i], &map, &err))
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(err.reason, REASON_USAGE);
        assert_non_null(strstr(err.message, bad[i]));
        assert_true(err.remedy[0] != '\0');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pairs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quoted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
