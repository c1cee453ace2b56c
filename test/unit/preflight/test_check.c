/* The pure pieces of the pre-flight checks: templates, names of locales and packages, the table itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/preflight/check.h"

static void templates_take_values_once(void **state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const values[] = {"a.b", "{1}"};
    (void)state;

    assert_string_equal(template_fill(arena, "table {1} of {2}", values, 2), "table a.b of {1}");
    assert_string_equal(template_fill(arena, "{1}{1}", values, 1), "a.ba.b");
    assert_string_equal(template_fill(arena, "beyond: {3}.", values, 2), "beyond: .");
    assert_string_equal(template_fill(arena, "", values, 2), "");
}

static void templates_leave_other_braces(void **state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const values[] = {"x"};
    (void)state;

    assert_string_equal(template_fill(arena, "{0} {a} {12} {1", values, 1), "{0} {a} {12} {1");
    assert_string_equal(template_fill(arena, "{{1}}", values, 1), "{x}");
    assert_string_equal(template_fill(arena, "{", values, 1), "{");
}

static void locales_of_two_spellings_are_one(void **state) {
    (void)state;

    assert_true(locale_same("en_US.UTF-8", "en_US.utf8"));
    assert_true(locale_same("C", "POSIX"));
    assert_true(locale_same("POSIX", "C"));
    assert_true(locale_same("", ""));
    assert_false(locale_same("C", "C.UTF-8"));
    assert_false(locale_same("de_DE.UTF-8", "en_US.UTF-8"));
    assert_false(locale_same("en_US", "en_US.utf8"));
}

static void packages_have_their_own_names(void **state) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)state;

    assert_string_equal(extension_package(arena, "postgis_topology", 15), "postgresql-15-postgis-3");
    assert_string_equal(extension_package(arena, "vector", 18), "postgresql-18-pgvector");
    assert_string_equal(extension_package(arena, "plpython3u", 17), "postgresql-plpython3-17");
    assert_string_equal(extension_package(arena, "my_own_thing", 16), "postgresql-16-my-own-thing");
}

static void checks_have_one_id_each(void **state) {
    (void)state;

    assert_int_equal(preflight_checks_count, CHECK_MAX_);
    for (size_t i = 0; i < preflight_checks_count; i++) {
        assert_true(preflight_checks[i].help[0] != '\0');
        for (size_t j = i + 1; j < preflight_checks_count; j++)
            assert_string_not_equal(preflight_checks[i].id, preflight_checks[j].id);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_take_values_once),       cmocka_unit_test(templates_leave_other_braces),
        cmocka_unit_test(locales_of_two_spellings_are_one), cmocka_unit_test(packages_have_their_own_names),
        cmocka_unit_test(checks_have_one_id_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
