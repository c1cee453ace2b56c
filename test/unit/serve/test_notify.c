/* What systemd says of its watchdog, and whether it is us who is meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "serve/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void set(const char *variable, const char *value) {
    if (value == NULL)
        unsetenv(variable);
    else
        setenv(variable, value, 1);
}

static void test_watchdog(void **state) {
    char own[32];
    (void)state;
    (void)snprintf(own, sizeof(own), "%d", (int)getpid());
    const struct {
        const char *usec, *pid;
        int64_t limit_us;
    } cases[] = {
        {"60000000", own, 60000000},
        {"60000000", NULL, 60000000},
        {"60000000", "1", 0},
        {"60000000", "", 0},
        {NULL, own, 0},
        {"", own, 0},
        {"0", own, 0},
        {"-5", own, 0},
        {"12x", own, 0},
        {"99999999999999999999", own, 0},
    };
    for (size_t at = 0; at < sizeof(cases) / sizeof(cases[0]); at++) {
        set("WATCHDOG_USEC", cases[at].usec);
        set("WATCHDOG_PID", cases[at].pid);
        assert_int_equal(notify_watchdog_us(), cases[at].limit_us);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_watchdog)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
