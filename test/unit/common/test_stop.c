/* Stop: it wakes waits of other threads, works from a signal handler, and wins over a ready descriptor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/stop.h"
#include "support/leaks.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

static void test_request(void **state UNUSED) {
    Stop stop;
    Error err;
    assert_true(stop_init(&stop, &err));
    assert_false(stop_requested(&stop));
    assert_int_equal(stop_wait_fd(&stop, -1, 0, 1), WAIT_TIMEOUT);
    for (int i = 0; i < 3; i++)
        stop_request(&stop);
    assert_true(stop_requested(&stop));
    for (int i = 0; i < 3; i++) /* stays so */
        assert_int_equal(stop_wait_fd(&stop, -1, 0, 0), WAIT_STOPPED);
    struct pollfd readable = {.fd = stop.event_fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 0), 1);
    stop_fini(&stop);
    assert_int_equal(stop.event_fd, -1);
}

static void test_ready_and_stop(void **state UNUSED) {
    Stop stop;
    Error err;
    int ends[2];
    assert_true(stop_init(&stop, &err));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(stop_wait_fd(&stop, ends[0], POLLIN, clock_now_us() + 5000), WAIT_TIMEOUT);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(stop_wait_fd(&stop, ends[0], POLLIN, 0), WAIT_READY);
    assert_int_equal(stop_wait_fd(&stop, ends[0], POLLIN, 1), WAIT_READY); /* looks once even when it is late */
    assert_int_equal(stop_wait_fd(NULL, ends[0], POLLIN, 0), WAIT_READY);
    assert_int_equal(stop_wait_fd(NULL, -1, 0, clock_now_us() + 1000), WAIT_TIMEOUT);
    stop_request(&stop);
    assert_int_equal(stop_wait_fd(&stop, ends[0], POLLIN, 0), WAIT_STOPPED);
    fd_close(&ends[1]);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(stop_wait_fd(NULL, ends[0], POLLIN, 0), WAIT_READY); /* a hang-up */
    fd_close(&ends[0]);
    stop_fini(&stop);
}

static void test_no_descriptor_left(void **state UNUSED) {
    Stop stop = {.event_fd = -7};
    Error err;
    rlim_t before = limit_descriptors(0);
    bool made = stop_init(&stop, &err);
    restore_descriptors(before);
    assert_false(made);
    assert_int_equal(err.reason, REASON_SYSTEM);
    assert_int_equal(stop.event_fd, -7);
}

static Stop *handler_stop;

static void on_signal(int signal_number) {
    if (signal_number == SIGUSR1)
        stop_request(handler_stop);
}

/* Interruptions that are no stop neither end a wait nor lengthen it. */
static void test_interrupted_wait(void **state UNUSED) {
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 7000}, {0, 7000}}, NULL);
    int64_t begin = clock_now_us();
    assert_int_equal(stop_wait_fd(NULL, -1, 0, begin + 50000), WAIT_TIMEOUT);
    int64_t took = clock_now_us() - begin;
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_true(took >= 50000);
}

typedef struct Waiter {
    Stop *stop;
    WaitResult result;
} Waiter;

static void *wait_for_ever(void *data) {
    Waiter *waiter = data;
    waiter->result = stop_wait_fd(waiter->stop, -1, 0, 0);
    return NULL;
}

static void wake(bool by_signal) {
    enum { WAITERS = 4 };
    Stop stop;
    Error err;
    pthread_t threads[WAITERS];
    Waiter waiters[WAITERS];
    struct sigaction action = {.sa_handler = on_signal}, old;
    assert_true(stop_init(&stop, &err));
    handler_stop = &stop;
    sigaction(SIGUSR1, &action, &old);
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (Waiter){.stop = &stop, .result = WAIT_TIMEOUT};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ever, &waiters[i]), 0);
    }
    if (by_signal)
        pthread_kill(threads[0], SIGUSR1);
    else
        stop_request(&stop);
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(waiters[i].result, WAIT_STOPPED);
    }
    sigaction(SIGUSR1, &old, NULL);
    stop_fini(&stop);
}

static void test_wakes_threads(void **state UNUSED) {
    wake(false);
}

static void test_wakes_from_signal_handler(void **state UNUSED) {
    wake(true);
}

static void *request_later(void *data) {
    clock_sleep_us(30000); /* so that the wait below is in poll(2), not before it */
    stop_request(data);
    return NULL;
}

static void test_stop_during_poll(void **state UNUSED) {
    Stop stop;
    Error err;
    pthread_t thread;
    assert_true(stop_init(&stop, &err));
    assert_int_equal(pthread_create(&thread, NULL, request_later, &stop), 0);
    assert_int_equal(stop_wait_fd(&stop, -1, 0, clock_now_us() + 10 * USEC_PER_SEC), WAIT_STOPPED);
    pthread_join(thread, NULL);
    stop_fini(&stop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_ready_and_stop),
        cmocka_unit_test(test_no_descriptor_left),
        cmocka_unit_test(test_interrupted_wait),
        cmocka_unit_test(test_wakes_threads),
        cmocka_unit_test(test_wakes_from_signal_handler),
        cmocka_unit_test(test_stop_during_poll),
    };
    return cmocka_run_group_tests(tests, leaks_begin, leaks_end);
}
