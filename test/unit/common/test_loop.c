/* The event loop: timers, descriptors, calls from other threads, and its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/loop.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

typedef struct Seen {
    Loop *loop;
    LoopTimer *timer;
    LoopWatch *watch;
    int count, until;
    short events;
    int order[8];
} Seen;

static void make(Seen *seen) {
    Error err;
    *seen = (Seen){0};
    assert_true(loop_new(&seen->loop, &err));
}

static void run(Seen *seen) {
    Error err;
    assert_true(loop_run(seen->loop, &err));
}

static void on_count(void *context) {
    Seen *seen = context;
    if (++seen->count == seen->until)
        loop_quit(seen->loop);
}

static void test_every(void **state UNUSED) {
    Seen seen;
    make(&seen);
    seen.until = 3;
    int64_t began = clock_now_us();
    seen.timer = loop_every(seen.loop, 10 * USEC_PER_MSEC, on_count, &seen);
    run(&seen);
    assert_int_equal(seen.count, 3);
    /* libevent counts by a clock that is a tick of the kernel's behind at worst (CLOCK_MONOTONIC_COARSE). */
    assert_true(clock_now_us() - began >= 20 * USEC_PER_MSEC);
    loop_timer_freep(&seen.timer);
    assert_null(seen.timer);
    loop_timer_freep(&seen.timer);
    loop_freep(&seen.loop);
    assert_null(seen.loop);
    loop_freep(&seen.loop);
}

static void free_own_timer(void *context) {
    Seen *seen = context;
    loop_timer_freep(&seen->timer);
    seen->count++;
}

static void quit_loop(void *context) {
    loop_quit(context);
}

static void test_after(void **state UNUSED) {
    Seen seen;
    make(&seen);
    seen.timer = loop_after(seen.loop, 5 * USEC_PER_MSEC, free_own_timer, &seen);
    LoopTimer *end = loop_after(seen.loop, 50 * USEC_PER_MSEC, quit_loop, seen.loop);
    run(&seen);
    assert_int_equal(seen.count, 1);
    loop_timer_freep(&end);
    loop_freep(&seen.loop);
}

static void on_fd(void *context, int fd, short events) {
    Seen *seen = context;
    char c;
    assert_int_equal(read(fd, &c, 1), 1);
    seen->events = events;
    on_count(seen);
}

static void test_watch(void **state UNUSED) {
    Seen seen;
    int fds[2];
    make(&seen);
    seen.until = 2;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "ab", 2), 2);
    seen.watch = loop_watch(seen.loop, fds[0], POLLIN, on_fd, &seen);
    run(&seen);
    assert_int_equal(seen.events, POLLIN);
    loop_watch_freep(&seen.watch);
    assert_null(seen.watch);
    loop_watch_freep(&seen.watch);
    close(fds[0]);
    close(fds[1]);
    loop_freep(&seen.loop);
}

static void on_writable(void *context, int fd, short events) {
    Seen *seen = context;
    (void)fd;
    seen->events = events;
    loop_watch_freep(&seen->watch); /* its own */
    loop_quit(seen->loop);
}

static void test_watch_for_writing(void **state UNUSED) {
    Seen seen;
    int fds[2];
    make(&seen);
    assert_int_equal(pipe(fds), 0);
    seen.watch = loop_watch(seen.loop, fds[1], POLLOUT, on_writable, &seen);
    run(&seen);
    assert_int_equal(seen.events, POLLOUT);
    close(fds[0]);
    close(fds[1]);
    loop_freep(&seen.loop);
}

static void *post_many(void *context) {
    Seen *seen = context;
    for (int i = 0; i < 1000; i++)
        loop_post(seen->loop, on_count, seen);
    return NULL;
}

static void test_post_from_threads(void **state UNUSED) {
    Seen seen;
    pthread_t threads[4];
    make(&seen);
    seen.until = 4000;
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &seen), 0);
    run(&seen);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(seen.count, 4000);
    loop_freep(&seen.loop);
}

static void first(void *context) {
    Seen *seen = context;
    seen->order[seen->count++] = 1;
}

static void second(void *context) {
    Seen *seen = context;
    seen->order[seen->count++] = 2;
    loop_post(seen->loop, first, seen); /* comes in the next round */
}

static void test_posted(void **state UNUSED) {
    Seen seen;
    make(&seen);
    loop_post(seen.loop, first, &seen);
    loop_post(seen.loop, second, &seen);
    loop_run_posted(seen.loop);
    assert_int_equal(seen.count, 2);
    assert_true(seen.order[0] == 1 && seen.order[1] == 2);
    loop_step(seen.loop);
    assert_int_equal(seen.count, 3);
    loop_post(seen.loop, first, &seen);
    loop_freep(&seen.loop); /* nothing is lost */
    assert_int_equal(seen.count, 4);
}

static Loop *to_quit;

static void on_signal(int number) {
    (void)number;
    loop_quit(to_quit);
}

static void test_quit(void **state UNUSED) {
    Seen seen;
    make(&seen);
    loop_quit(seen.loop); /* before it runs */
    run(&seen);
    loop_freep(&seen.loop);
    make(&seen);
    to_quit = seen.loop;
    signal(SIGALRM, on_signal);
    alarm(1);
    run(&seen);
    loop_freep(&seen.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every),
        cmocka_unit_test(test_after),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_watch_for_writing),
        cmocka_unit_test(test_post_from_threads),
        cmocka_unit_test(test_posted),
        cmocka_unit_test(test_quit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
