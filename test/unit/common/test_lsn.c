/* WAL positions: there and back, all that servers write, and what is none. */
#include "common/lsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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

static const struct {
    const char *text;
    Lsn lsn;
    const char *canonical;
} good[] = {
    {"0/0", 0, "0/0"},
    {"16/B374D848", UINT64_C(0x16B374D848), "16/B374D848"},
    {"16/b374d848", UINT64_C(0x16B374D848), "16/B374D848"},
    {"0/1", 1, "0/1"},
    {"0/01949A58", UINT64_C(0x1949A58), "0/1949A58"}, /* the form of 19 */
    {"1/0", UINT64_C(0x100000000), "1/0"},
    {"A/F", UINT64_C(0xA0000000F), "A/F"},
    {"FFFFFFFF/FFFFFFFF", UINT64_MAX, "FFFFFFFF/FFFFFFFF"},
};

static void test_there_and_back(void **state) {
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        Lsn lsn = 7;
        assert_true(lsn_parse(good[i].text, &lsn));
        assert_int_equal(lsn, good[i].lsn);
        assert_string_equal(lsn_format(*state, lsn), good[i].canonical);
    }
}

static void test_refused(void **state) {
    static const char *const bad[] = {"",      "/",           "1",    "1/",   "/1",    "1//2",
                                      "1/2/3", "1/2 ",        " 1/2", "-1/2", "0x1/2", "123456789/0",
                                      "1/G",   "0/123456789", "g/1",  "1:2",  "1/2\n"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Lsn lsn = 7;
        if (lsn_parse(bad[i], &lsn))
            fail_msg("\"%s\" was taken for a position", bad[i]);
        assert_int_equal(lsn, 7);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, set_up, tear_down),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
