/* Passwords are struck out of connection strings, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/secret.h"

static void check_mask(const char *given, const char *expected) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *text = arena_strdup(arena, given);
    bool found = secret_mask(text);
    assert_string_equal(text, expected);
    assert_int_equal(found, strcmp(given, expected) != 0);
}

static void test_uri(void **state UNUSED) {
    check_mask("postgresql://app:secret@host/db", "postgresql://app:******@host/db");
    check_mask("postgres://app:s%40/x@host", "postgres://app:s%40/x@host"); /* '/' ends the authority: no password */
    check_mask("postgresql://app@host:5432/db", "postgresql://app@host:5432/db");
    check_mask("postgresql://host:5432/db", "postgresql://host:5432/db");
    check_mask("postgresql://app:@host/db", "postgresql://app:@host/db");
    check_mask("postgresql://app:a:b@h1:1,h2:2/db", "postgresql://app:***@h1:1,h2:2/db");
}

static void test_uri_query(void **state UNUSED) {
    check_mask("postgresql://h/db?user=a&password=xyz", "postgresql://h/db?user=a&password=***");
    check_mask("postgresql://h/db?password=xyz&sslmode=require", "postgresql://h/db?password=***&sslmode=require");
    check_mask("postgresql://h/db?pass%77ord=xyz", "postgresql://h/db?pass%77ord=***");
    check_mask("postgresql://h/db?sslpassword=k&application_name=password",
               "postgresql://h/db?sslpassword=*&application_name=password");
    check_mask("postgresql://u:one@h/db?password=two", "postgresql://u:***@h/db?password=***");
}

static void test_key_values(void **state UNUSED) {
    check_mask("host=h password=abc dbname=d", "host=h password=*** dbname=d");
    check_mask("password = 'a b\\'c' user=u", "password = ******** user=u");
    check_mask("host=h password=a\\ b user=u", "host=h password=**** user=u");
    check_mask("host=h sslpassword=abc", "host=h sslpassword=***");
    check_mask("host=password user=sslpassword", "host=password user=sslpassword");
    check_mask("password='never closed", "password=*************");
    check_mask("password=", "password=");
    check_mask("--jobs", "--jobs");
    check_mask("", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uri),
        cmocka_unit_test(test_uri_query),
        cmocka_unit_test(test_key_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
