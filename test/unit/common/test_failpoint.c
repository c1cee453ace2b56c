/* Fail points: actions, counting, lists, and entries that are wrong (constant true where not built in). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/failpoint.h"

#include <stdlib.h>
#include <string.h>

static void use(const char *list) {
    assert_int_equal(setenv("PGCRANE_FAILPOINT", list, 1), 0);
}

#ifdef PGCRANE_FAILPOINTS

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_none(void **state UNUSED) {
    Error err;
    unsetenv("PGCRANE_FAILPOINT");
    assert_true(failpoint("a", &err));
    use("");
    assert_true(failpoint("a", &err));
    use("other:error");
    assert_true(failpoint("a", &err));
}

static void test_errors(void **state UNUSED) {
    Error err;
    use("x:kill,a:error,b:retryable");
    assert_false(failpoint("a", &err));
    assert_int_equal(err.reason, REASON_FAILPOINT);
    assert_false(err.retryable);
    assert_string_equal(err.message, "fail point a");
    assert_false(failpoint("a", &err)); /* each time */
    assert_false(failpoint("b", &err));
    assert_true(err.retryable);
}

/* The tenth entry: places before it were counted by other tests. */
static void test_nth_passage(void **state UNUSED) {
    Error err;
    use("x:error,x:error,x:error,x:error,x:error,x:error,x:error,x:error,x:error,a:error:2,a:error:4");
    assert_true(failpoint("a", &err));
    assert_false(failpoint("a", &err));
    /* An entry that fires ends the passage: the second entry counts one less. */
    assert_true(failpoint("a", &err));
    assert_true(failpoint("a", &err));
    assert_false(failpoint("a", &err));
    assert_true(failpoint("a", &err));
}

static void test_sleep(void **state UNUSED) {
    Error err;
    use("a:sleep=30");
    int64_t begin = clock_now_us();
    assert_true(failpoint("a", &err));
    assert_true(clock_now_us() - begin >= 30000);
}

static void test_kill(void **state UNUSED) {
    pid_t pid = fork();
    if (pid == 0) {
        Error err;
        use("a:kill");
        (void)!failpoint("a", &err);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A test with a slip in its variable must not pass because nothing happened. */
static void test_mistakes(void **state UNUSED) {
    static const char *const bad[] = {"a",        "a:explode", "a:sleep=",  "a:sleep=1x",
                                      "a:error:", "a:error:x", "a:error:1x"};
    Error err;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        use(bad[i]);
        assert_false(failpoint("a", &err));
        assert_int_equal(err.reason, REASON_FAILPOINT);
        assert_string_not_equal(err.message, "fail point a");
    }
    char list[400];
    memset(list, 'n', 200);
    list[200] = '\0';
    use(list);
    assert_false(failpoint("a", &err));
    assert_non_null(strstr(err.message, "too long"));
    for (size_t i = 0; i < 40; i++)
        memcpy(list + i * 8, "x:error,", 9);
    use(list);
    assert_false(failpoint("a", &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),  cmocka_unit_test(test_errors), cmocka_unit_test(test_nth_passage),
        cmocka_unit_test(test_sleep), cmocka_unit_test(test_kill),   cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_not_built_in(void **state UNUSED) {
    Error err;
    use("a:error");
    int64_t begin = clock_now_us();
    assert_true(failpoint("a", &err));
    use("a:sleep=2000");
    assert_true(failpoint("a", &err));
    assert_true(clock_now_us() - begin < USEC_PER_SEC);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_not_built_in)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
