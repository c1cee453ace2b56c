/* Who may ask when there are no tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/access.h"

static void test_loopback(void **state UNUSED) {
    static const char *const own[] = {"127.0.0.1",    "127.0.0.1:8432", "127.8.9.1:1", "localhost",
                                      "LocalHost:80", "[::1]:8432",     "[::1]",       "::1"};
    static const char *const foreign[] = {"",
                                          ":80",
                                          "*:80",
                                          "0.0.0.0:80",
                                          "[::]:80",
                                          "10.0.0.1",
                                          "127.0.0.1.evil.example",
                                          "127.evil.example",
                                          "localhost.evil.example",
                                          "[::1].evil.example:80",
                                          "evil.example",
                                          "[::ffff:127.0.0.1]:80",
                                          "local"};

    for (size_t at = 0; at < COUNT_OF(own); at++)
        assert_true(access_is_loopback(own[at]));
    for (size_t at = 0; at < COUNT_OF(foreign); at++)
        assert_false(access_is_loopback(foreign[at]));
}

typedef struct Case {
    const char *peer, *host, *origin;
    bool admitted;
} Case;

static void test_who_is_admitted(void **state UNUSED) {
    static const Case cases[] = {
        {"127.0.0.1:4711", "127.0.0.1:8432", NULL, true},
        {"127.0.0.1:4711", "localhost", "http://localhost:3000", true},
        {"127.0.0.1:4711", "", NULL, true}, /* HTTP/1.0: no browser */
        {"unix", "any.example", NULL, true},
        {"unix", "any.example", "https://evil.example", false},
        {"127.0.0.1:4711", "evil.example", NULL, false},
        {"127.0.0.1:4711", "localhost", "https://evil.example", false},
        {"127.0.0.1:4711", "localhost", "null", false},
        {"127.0.0.1:4711", "localhost", "https://evil.example/?://localhost", false},
        {"127.0.0.1:4711", "localhost", "", false},
    };

    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        const HttpField origin = {"origin", cases[at].origin};
        const HttpRequest request = {
            .peer = cases[at].peer, .host = cases[at].host, .headers = {&origin, cases[at].origin != NULL ? 1 : 0}};
        const char *who = NULL;
        Error err;

        assert_int_equal(access_local(NULL, &request, NULL, ACCESS_CHANGE, &who, &err), cases[at].admitted);
        if (cases[at].admitted)
            assert_string_equal(who, "local");
        else
            assert_int_equal(error_reason_code(err.reason), ERR_PERMISSION_DENIED);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_who_is_admitted),
    };

    return cmocka_run_group_tests_name("access", tests, NULL, NULL);
}
