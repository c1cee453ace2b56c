/* A pool of threads: everything runs once, the queue has an end, and the threads take no signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/taskpool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

typedef struct Work {
    atomic_int done, running;
    atomic_bool go;
    atomic_bool blocked;
} Work;

static void count(void *context) {
    Work *work = context;
    sigset_t mask;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    atomic_store(&work->blocked, sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1);
    atomic_fetch_add(&work->done, 1);
}

static void wait_for_go(void *context) {
    Work *work = context;

    atomic_fetch_add(&work->running, 1);
    while (!atomic_load(&work->go))
        clock_sleep_us(USEC_PER_MSEC);
    atomic_fetch_add(&work->done, 1);
}

static TaskPool *make(size_t threads, size_t queue_max) {
    TaskPool *pool = NULL;
    Error err;
    assert_true(taskpool_new("test", threads, queue_max, &pool, &err));
    return pool;
}

static void test_all_run(void **state UNUSED) {
    Work work = {0};
    TaskPool *pool = make(3, 1000);

    for (int i = 0; i < 1000; i++)
        assert_true(taskpool_submit(pool, count, &work));
    taskpool_freep(&pool); /* runs what waits */
    assert_null(pool);
    taskpool_freep(&pool);
    assert_int_equal(atomic_load(&work.done), 1000);
    assert_true(atomic_load(&work.blocked));
}

static void test_full(void **state UNUSED) {
    Work work = {0};
    TaskPool *pool = make(2, 3);

    for (int i = 0; i < 2; i++)
        assert_true(taskpool_submit(pool, wait_for_go, &work));
    while (atomic_load(&work.running) < 2)
        clock_sleep_us(USEC_PER_MSEC);
    for (int i = 0; i < 3; i++)
        assert_true(taskpool_submit(pool, count, &work));
    assert_int_equal(taskpool_waiting(pool), 3);
    assert_false(taskpool_submit(pool, count, &work));
    atomic_store(&work.go, true);
    while (taskpool_waiting(pool) > 0)
        clock_sleep_us(USEC_PER_MSEC);
    assert_true(taskpool_submit(pool, count, &work)); /* the ring goes round */
    taskpool_freep(&pool);
    assert_int_equal(atomic_load(&work.done), 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_run),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
