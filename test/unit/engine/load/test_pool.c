/* Unit test of pool.c: lanes, retries, ends. No connections: the tasks are the test's own. */
#include "engine/load/pool.h"

#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#define LONG_US (60 * USEC_PER_SEC) /* a wait that only a stop ends in time */
#define SOON_US (10 * USEC_PER_SEC)

enum { TASKS_MAX = 4096 };

static Tracker *tracker;
static Pool *pool;
static Stop user_stop;
static Error err;

static int set_up_lanes(int lanes) {
    tracker = tracker_new();
    return stop_init(&user_stop, &err) && pool_new(NULL, NULL, lanes, tracker, &pool, &err) ? 0 : -1;
}

static int set_up(void **state) {
    (void)state;
    return set_up_lanes(4);
}

static int set_up_one(void **state) {
    (void)state;
    return set_up_lanes(1);
}

static int tear_down(void **state) {
    (void)state;
    pool_freep(&pool);
    tracker_freep(&tracker);
    stop_fini(&user_stop);
    return 0;
}

/* A list of `count` tasks; each finished one sets `frees` more free. Asserts would end the wrong thread: what happened
 * is counted, and looked at afterwards. */
typedef struct List {
    size_t given, count, frees, limit;
    size_t finished;
    bool (*run)(Lane *lane, PoolTask *task, Error *err);
    bool alone;
    atomic_int runs[TASKS_MAX];
    int finishes[TASKS_MAX];
    PoolTask last;
    int given_up;
} List;

static List list;
static atomic_int now_running, most_running;

static bool list_next(void *context, PoolTask *ret_task) {
    List *tasks = context;

    if (tasks->given == tasks->count)
        return false;
    *ret_task = (PoolTask){.item = tasks->given++, .alone = tasks->alone};
    return true;
}

static bool list_run(void *context, Lane *lane, PoolTask *task, Error *task_err) {
    List *tasks = context;
    int running = atomic_fetch_add(&now_running, 1) + 1;
    int most = atomic_load(&most_running);

    while (running > most && !atomic_compare_exchange_weak(&most_running, &most, running))
        ;
    atomic_fetch_add(&tasks->runs[task->item], 1);
    bool ok = tasks->run(lane, task, task_err);
    atomic_fetch_sub(&now_running, 1);
    return ok;
}

static void list_finished(void *context, const PoolTask *task) {
    List *tasks = context;

    tasks->finishes[task->item]++;
    tasks->finished++;
    tasks->count = MIN(tasks->count + tasks->frees, tasks->limit);
    tasks->last = *task;
    tasks->given_up += task->given_up;
}

static bool run_list(size_t count, bool (*run)(Lane *lane, PoolTask *task, Error *err)) {
    PoolWork work = {.context = &list, .next = list_next, .run = list_run, .finished = list_finished};

    memset(&list, 0, sizeof(list));
    list.count = list.limit = count;
    list.run = run;
    atomic_store(&now_running, 0);
    atomic_store(&most_running, 0);
    return pool_run(pool, &work, &user_stop, &err);
}

static bool succeed(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane, (void)task, (void)task_err;
    return true;
}

static void test_nothing_to_do(void **state) {
    (void)state;
    assert_int_equal(pool_lanes(pool), 4);
    assert_true(run_list(0, succeed));
    assert_true(run_list(0, succeed));
}

static void test_one_lane_runs_in_order(void **state) {
    (void)state;
    assert_true(run_list(20, succeed));
    assert_int_equal(list.finished, 20);
    assert_int_equal(list.last.item, 19);
    assert_int_equal(list.last.attempt, 1);
    assert_int_equal(tracker_retries(tracker), 0);
}

/* --- Nothing is lost --- */

static bool take_a_while(Lane *lane, PoolTask *task, Error *task_err) {
    unsigned random = (unsigned)task->item * 2654435761u;

    (void)task_err;
    (void)arena_alloc(lane->arena, 100);
    if (random % 3 == 0)
        clock_sleep_us((int64_t)(random >> 8) % 300);
    return true;
}

static void test_no_task_is_lost(void **state) {
    PoolWork work = {.context = &list, .next = list_next, .run = list_run, .finished = list_finished};

    (void)state;
    for (size_t frees = 0; frees < 3; frees++) {
        memset(&list, 0, sizeof(list));
        list.count = frees == 0 ? TASKS_MAX : 1;
        list.limit = TASKS_MAX;
        list.frees = frees;
        list.run = take_a_while;
        assert_true(pool_run(pool, &work, &user_stop, &err));
        assert_int_equal(list.finished, TASKS_MAX);
        for (size_t i = 0; i < TASKS_MAX; i++) {
            assert_int_equal(atomic_load(&list.runs[i]), 1);
            assert_int_equal(list.finishes[i], 1);
        }
    }
}

/* Each waits until all four run: with fewer lanes at work this would time out. */
static bool meet_the_others(Lane *lane, PoolTask *task, Error *task_err) {
    int64_t deadline = clock_now_us() + SOON_US;

    (void)task;
    while (atomic_load(&most_running) < 4)
        if (clock_now_us() > deadline || stop_requested(lane->stop))
            return error_set(task_err, REASON_TIMED_OUT, "alone") || (task_err->retryable = false);
    return true;
}

static void test_all_lanes_work(void **state) {
    (void)state;
    assert_true(run_list(4, meet_the_others));
}

/* --- Retries --- */

static bool fail_twice(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane;
    return task->attempt > 2 || error_set(task_err, REASON_CONNECTION_LOST, "attempt %d", task->attempt);
}

static void test_retryable_failures_are_retried(void **state) {
    (void)state;
    int64_t begin = clock_now_us();
    assert_true(run_list(1, fail_twice));
    assert_int_equal(atomic_load(&list.runs[0]), 3);
    assert_int_equal(list.finishes[0], 1);
    assert_int_equal(list.last.attempt, 3);
    assert_int_equal(tracker_retries(tracker), 2);
    assert_true(clock_now_us() - begin >= 200 * USEC_PER_MSEC); /* two pauses of 0.1 s at least */
}

static bool fill_arena_and_fail_once(Lane *lane, PoolTask *task, Error *task_err) {
    if (arena_used(lane->arena) != 0)
        return error_set(task_err, REASON_INTERNAL, "the lane's arena was not emptied");
    (void)arena_alloc(lane->arena, 1000);
    return task->attempt > 1 || error_set(task_err, REASON_LOCK_BUSY, "busy");
}

static void test_arena_is_emptied_before_each_attempt(void **state) {
    (void)state;
    assert_true(run_list(2, fill_arena_and_fail_once));
    assert_int_equal(tracker_retries(tracker), 2);
}

static bool fail_for_good(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane;
    return task->item != 2 || error_set(task_err, REASON_BAD_DATA, "task %zu is bad", task->item);
}

static void test_other_failures_are_not(void **state) {
    (void)state;
    assert_false(run_list(5, fail_for_good));
    assert_int_equal(err.reason, REASON_BAD_DATA);
    assert_string_equal(err.message, "task 2 is bad");
    assert_int_equal(atomic_load(&list.runs[2]), 1);
    assert_int_equal(list.finishes[2], 0);
    assert_int_equal(atomic_load(&list.runs[3]), 0);
    assert_int_equal(tracker_retries(tracker), 0);
}

/* --- Ends --- */

static bool wait_for_stop(Lane *lane, PoolTask *task, Error *task_err) {
    int64_t deadline = clock_now_us() + SOON_US;

    if (task->item == 0) {
        while (atomic_load(&now_running) < 4 && clock_now_us() < deadline)
            ;
        return error_set(task_err, REASON_TABLE_CHANGED, "the first failure");
    }
    return stop_wait_fd(lane->stop, -1, 0, clock_now_us() + LONG_US) == WAIT_STOPPED
               ? error_set(task_err, REASON_CANCELLED, "ended with the others")
               : error_set(task_err, REASON_TIMED_OUT, "nobody stopped this lane");
}

static void test_a_failure_ends_all_lanes(void **state) {
    (void)state;
    int64_t begin = clock_now_us();
    assert_false(run_list(10, wait_for_stop));
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_string_equal(err.message, "the first failure");
    assert_true(clock_now_us() - begin < SOON_US);
    assert_int_equal(atomic_load(&now_running), 0);
    assert_int_equal(list.given, 4);
}

static bool stop_all_when_all_run(Lane *lane, PoolTask *task, Error *task_err) {
    (void)task;
    if (atomic_load(&most_running) == 4)
        stop_request(&user_stop);
    return stop_wait_fd(lane->stop, -1, 0, clock_now_us() + LONG_US) == WAIT_STOPPED
               ? error_set(task_err, REASON_CONNECTION_LOST, "torn down by the stop")
               : error_set(task_err, REASON_TIMED_OUT, "nobody stopped this lane");
}

static void test_user_stop(void **state) {
    (void)state;
    int64_t begin = clock_now_us();
    assert_false(run_list(10, stop_all_when_all_run));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(clock_now_us() - begin < SOON_US);
    assert_int_equal(list.finished, 0);
    assert_int_equal(tracker_retries(tracker), 0);
}

static bool fail_and_stop(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane;
    if (task->attempt == 2)
        stop_request(&user_stop);
    return error_set(task_err, REASON_LOCK_BUSY, "locked, attempt %d", task->attempt);
}

static void test_user_stop_in_a_pause(void **state) {
    (void)state;
    int64_t begin = clock_now_us();
    assert_false(run_list(1, fail_and_stop));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(clock_now_us() - begin < SOON_US);
    assert_in_range(atomic_load(&list.runs[0]), 2, 3);
}

static void test_stopped_before_the_start(void **state) {
    (void)state;
    stop_request(&user_stop);
    assert_false(run_list(4, wait_for_stop));
    assert_in_range(err.reason, REASON_CANCELLED, REASON_TABLE_CHANGED);
}

/* A step that failed with a retryable error is run again by the worker, with the same pool. */
static void test_runs_again_after_a_failure(void **state) {
    (void)state;
    assert_false(run_list(5, fail_for_good));
    err = (Error){0};
    assert_true(run_list(20, take_a_while));
    assert_int_equal(list.finished, 20);
}

/* --- What a task is told, and says --- */

static bool give_up(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane, (void)task_err;
    task->given_up = task->item % 2 == 1;
    (void)snprintf(task->note, sizeof(task->note), "task %zu", task->item);
    return true;
}

static void test_given_up_is_no_failure(void **state) {
    (void)state;
    assert_true(run_list(6, give_up));
    assert_int_equal(list.finished, 6);
    assert_int_equal(list.given_up, 3);
    assert_true(list.last.given_up);
    assert_string_equal(list.last.note, "task 5");
}

static atomic_int seen_alone;

static bool count_alone(Lane *lane, PoolTask *task, Error *task_err) {
    (void)lane, (void)task_err;
    atomic_fetch_add(&seen_alone, task->alone);
    return true;
}

static void run_alone(size_t count, bool (*run)(Lane *lane, PoolTask *task, Error *err)) {
    PoolWork work = {.context = &list, .next = list_next, .run = list_run, .finished = list_finished};

    memset(&list, 0, sizeof(list));
    atomic_store(&most_running, 0);
    atomic_store(&seen_alone, 0);
    list.count = list.limit = count;
    list.run = run;
    list.alone = true;
    assert_true(pool_run(pool, &work, &user_stop, &err));
}

static void test_alone_is_handed_on(void **state) {
    (void)state;
    run_alone(5, count_alone);
    assert_int_equal(atomic_load(&seen_alone), 5);
}

static atomic_int lane_numbers;

static bool note_lane(Lane *lane, PoolTask *task, Error *task_err) {
    atomic_fetch_or(&lane_numbers, 1 << lane->no);
    return meet_the_others(lane, task, task_err);
}

static void test_lanes_are_numbered_from_one(void **state) {
    (void)state;
    atomic_store(&lane_numbers, 0);
    assert_true(run_list(4, note_lane));
    assert_int_equal(atomic_load(&lane_numbers), 2 + 4 + 8 + 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_lane_runs_in_order, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_no_task_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_lanes_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retryable_failures_are_retried, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arena_is_emptied_before_each_attempt, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_other_failures_are_not, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_a_failure_ends_all_lanes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_user_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_user_stop_in_a_pause, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_before_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_runs_again_after_a_failure, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_is_no_failure, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_alone_is_handed_on, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_lanes_are_numbered_from_one, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
