/* Connection strings lose their passwords and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg/strip.h"

#include <string.h>

static void test_strip(void **state UNUSED) {
    static const struct {
        const char *given, *kept;
        bool struck;
    } cases[] = {
        {"postgresql://u:s%40cret@h:1/d?sslmode=require", "user='u' dbname='d' host='h' port='1' sslmode='require'",
         true},
        {"host=h password='a b' sslpassword=x user=u", "user='u' host='h'", true},
        {"service=old", "service='old'", false},
        {"host=h password=''", "host='h'", false},
        {"host='it''s'", NULL, false},
        {"dbname='it\\'s \\\\ so'", "dbname='it\\'s \\\\ so'", false},
        {"postgresql://a,b:5/d", "dbname='d' host='a,b' port=',5'", false},
        {"", "", false},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *kept = "untouched", *again = NULL;
        bool struck = !cases[i].struck;
        Error err;
        if (cases[i].kept == NULL) {
            assert_false(db_strip_secrets(arena, cases[i].given, &kept, &struck, &err));
            assert_int_equal(err.reason, REASON_BAD_CONNINFO);
            assert_string_equal(kept, "untouched");
            continue;
        }
        assert_true(db_strip_secrets(arena, cases[i].given, &kept, &struck, &err));
        assert_int_equal(struck, cases[i].struck);
        assert_string_equal(kept, cases[i].kept);
        assert_true(db_strip_secrets(arena, kept, &again, &struck, &err)); /* it is one that libpq reads */
        assert_string_equal(again, kept);
        assert_false(struck);
    }
}

/* Whatever libpq may come to hold secret, it must not be kept, and no complaint may show it. */
static void test_no_secret_in_a_complaint(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *kept;
    bool struck;
    Error err;
    assert_false(db_strip_secrets(arena, "host=h password=hush hush2", &kept, &struck, &err));
    assert_null(strstr(err.message, "hush"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_strip), cmocka_unit_test(test_no_secret_in_a_complaint)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
