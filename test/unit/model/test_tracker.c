/* Unit test of tracker.c: phases, tasks, counters, rate and estimate; many threads. */
#include "model/tracker.h"

#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

static Tracker *tracker;
static Arena *arena;
static Progress progress;

static int set_up(void **state) {
    (void)state;
    tracker = tracker_new();
    arena = arena_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    tracker_freep(&tracker);
    arena_freep(&arena);
    return 0;
}

static const PhaseProgress *phase(Phase which) {
    tracker_read(tracker, arena, &progress);
    return &progress.phases[which];
}

static void test_at_first(void **state) {
    (void)state;
    tracker_read(tracker, arena, &progress);
    for (int i = 0; i < PHASE_MAX_; i++) {
        assert_int_equal(progress.phases[i].state, PHASE_WAITING);
        assert_int_equal(progress.phases[i].elapsed_us, 0);
    }
    assert_int_equal(progress.tasks.len, 0);
    assert_int_equal(progress.eta_us, -1);
    assert_true(progress.bytes_per_second == 0);
}

static void test_phases(void **state) {
    (void)state;
    tracker_phase_begin(tracker, PHASE_SCHEMA);
    assert_int_equal(phase(PHASE_SCHEMA)->state, PHASE_RUNNING);
    clock_sleep_us(2000);
    int64_t running = phase(PHASE_SCHEMA)->elapsed_us; /* counts while it runs */
    assert_true(running >= 2000);
    tracker_phase_total(tracker, PHASE_SCHEMA, 3, 7);
    tracker_phase_end(tracker, PHASE_SCHEMA);
    int64_t ended = phase(PHASE_SCHEMA)->elapsed_us;
    clock_sleep_us(2000);
    assert_int_equal(phase(PHASE_SCHEMA)->elapsed_us, ended); /* and not after */
    assert_true(ended >= running);
    assert_int_equal(phase(PHASE_SCHEMA)->state, PHASE_DONE);
    assert_int_equal(phase(PHASE_SCHEMA)->done, 3);
    assert_int_equal(phase(PHASE_SCHEMA)->total, 7);

    tracker_phase_begin(tracker, PHASE_SCHEMA); /* once more: from its first begin */
    assert_true(phase(PHASE_SCHEMA)->elapsed_us >= ended + 2000);
}

static void test_skipped(void **state) {
    (void)state;
    tracker_phase_begin(tracker, PHASE_SNAPSHOT);
    tracker_phase_skip(tracker, PHASE_SNAPSHOT);
    tracker_phase_skip(tracker, PHASE_ANALYZE);
    assert_int_equal(phase(PHASE_SNAPSHOT)->state, PHASE_RUNNING);
    assert_int_equal(phase(PHASE_ANALYZE)->state, PHASE_SKIPPED);
}

static void test_tasks(void **state) {
    char long_name[400];

    (void)state;
    memset(long_name, 'n', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    TaskSlot *first = tracker_task_begin(tracker, PHASE_COPY, "copy", "public.a", 1000);
    clock_sleep_us(1000);
    TaskSlot *second = tracker_task_begin(tracker, PHASE_INDEX, "a kind of many, many letters", long_name, 0);
    atomic_store(&first->done, 400);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.tasks.len, 2);
    assert_string_equal(progress.tasks.items[0].object, "public.a"); /* the longest running first */
    assert_string_equal(progress.tasks.items[0].kind, "copy");
    assert_int_equal(progress.tasks.items[0].done, 400);
    assert_int_equal(progress.tasks.items[0].total, 1000);
    assert_true(progress.tasks.items[0].elapsed_us > progress.tasks.items[1].elapsed_us);
    assert_int_equal(strlen(progress.tasks.items[1].object), sizeof(second->object) - 1);
    assert_int_equal(strlen(progress.tasks.items[1].kind), sizeof(second->kind) - 1);

    tracker_task_end(tracker, first, true);
    tracker_task_end(tracker, second, false);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.tasks.len, 0);
    assert_int_equal(progress.phases[PHASE_COPY].done, 1);
    assert_int_equal(progress.phases[PHASE_INDEX].done, 0);
    assert_true(progress.phases[PHASE_COPY].busy_us >= 1000);
}

static void test_the_longest_first(void **state) {
    static const char *const names[] = {"a", "b", "c", "d"};
    TaskSlot *slots[4];

    (void)state;
    for (int i = 0; i < 3; i++) {
        slots[i] = tracker_task_begin(tracker, PHASE_COPY, "copy", names[i], 1);
        clock_sleep_us(100);
    }
    tracker_task_end(tracker, slots[0], true); /* its slot is the first, and taken by the youngest */
    slots[3] = tracker_task_begin(tracker, PHASE_COPY, "copy", names[3], 1);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.tasks.len, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(progress.tasks.items[i].object, names[i + 1]);
}

/* With tasks a phase ends with the last of them, not when somebody says so later. */
static void test_phase_ends_with_its_last_task(void **state) {
    (void)state;
    tracker_phase_begin(tracker, PHASE_COPY);
    TaskSlot *task = tracker_task_begin(tracker, PHASE_COPY, "copy", "a", 1);
    clock_sleep_us(1000);
    tracker_task_end(tracker, task, true);
    clock_sleep_us(50000);
    tracker_phase_end(tracker, PHASE_COPY);
    assert_in_range(phase(PHASE_COPY)->elapsed_us, 1000, 49999);
}

static void test_more_tasks_than_slots(void **state) {
    static TaskSlot *slots[TRACKER_TASKS_MAX + 2];

    (void)state;
    for (size_t i = 0; i < TRACKER_TASKS_MAX + 2; i++) {
        slots[i] = tracker_task_begin(tracker, PHASE_COPY, "copy", "a", 1);
        assert_non_null(slots[i]);
    }
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.tasks.len, TRACKER_TASKS_MAX);
    for (size_t i = 0; i < TRACKER_TASKS_MAX + 2; i++)
        tracker_task_end(tracker, slots[i], true);
    assert_int_equal(phase(PHASE_COPY)->done, TRACKER_TASKS_MAX + 2);
    assert_int_equal(progress.tasks.len, 0);
}

static void test_counters(void **state) {
    (void)state;
    tracker_set_totals(tracker, 1000, 4, 6);
    tracker_set_done(tracker, 300, 1, 2);
    tracker_add_copied(tracker, 200, 555, 7);
    tracker_add_table(tracker);
    tracker_add_index(tracker);
    tracker_add_retry(tracker);
    tracker_add_retry(tracker);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.bytes_done, 500);
    assert_int_equal(progress.bytes_total, 1000);
    assert_int_equal(progress.wire_bytes, 555);
    assert_int_equal(progress.rows_done, 7);
    assert_int_equal(progress.tables_done, 2);
    assert_int_equal(progress.tables_total, 4);
    assert_int_equal(progress.indexes_done, 3);
    assert_int_equal(progress.indexes_total, 6);
    assert_int_equal(tracker_retries(tracker), 2);
}

/* The wire carries more or less than what lies on disk: what is shown never passes the whole. */
static void test_bytes_under_way(void **state) {
    (void)state;
    tracker_set_totals(tracker, 1000, 1, 0);
    TaskSlot *copy = tracker_task_begin(tracker, PHASE_COPY, "copy", "a", 400);
    TaskSlot *index = tracker_task_begin(tracker, PHASE_INDEX, "index", "i", 0);
    atomic_store(&copy->done, 100);
    atomic_store(&index->done, 100);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.bytes_done, 100);
    atomic_store(&copy->done, 9000);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.bytes_done, 400);
    tracker_add_copied(tracker, 5000, 0, 0);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.bytes_done, 1000);
}

static void test_rate_and_estimate(void **state) {
    (void)state;
    tracker_set_totals(tracker, 1000000, 2, 0);
    tracker_set_done(tracker, 500000, 1, 0); /* by an earlier run: no part of the rate */
    tracker_phase_begin(tracker, PHASE_COPY);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.eta_us, -1); /* no rate yet */
    clock_sleep_us(20000);
    tracker_add_copied(tracker, 100000, 0, 0);
    tracker_read(tracker, arena, &progress);
    assert_true(progress.bytes_per_second > 0);
    assert_true(progress.bytes_per_second <= 100000 / 0.02 + 1);
    double expected = 400000 / progress.bytes_per_second * 1e6;
    assert_true(progress.eta_us > (int64_t)(expected * 0.99) && progress.eta_us < (int64_t)(expected * 1.01) + 1);
    tracker_add_copied(tracker, 400000, 0, 0);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.eta_us, 0);
}

static void test_estimate_has_a_share_for_indexes(void **state) {
    (void)state;
    tracker_set_totals(tracker, 1000, 1, 2);
    tracker_phase_begin(tracker, PHASE_COPY);
    clock_sleep_us(4000);
    tracker_add_copied(tracker, 1000, 0, 0);
    tracker_read(tracker, arena, &progress);
    assert_in_range(progress.eta_us, 2000, progress.phases[PHASE_COPY].elapsed_us / 2 + 1);
    tracker_add_index(tracker);
    tracker_add_index(tracker);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.eta_us, 0);
}

/* A new round counts again from less: no negative rate. */
static void test_rate_is_never_negative(void **state) {
    (void)state;
    tracker_set_totals(tracker, 1000, 1, 0);
    tracker_add_copied(tracker, 900, 0, 0);
    tracker_read(tracker, arena, &progress);
    clock_sleep_us(2000);
    tracker_add_copied(tracker, -500, 0, 0);
    tracker_read(tracker, arena, &progress);
    assert_true(progress.bytes_per_second >= 0);
}

/* What is set is copied, and what is read as well: neither end may keep the other's memory. */
static void test_following(void **state) {
    Arena *given = arena_new();
    CdcProgress cdc = {.state = CDC_FOLLOWING, .applied_lsn = arena_strdup(given, "0/1"), .lag_bytes = 5};

    (void)state;
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.cdc.state, CDC_NONE);
    vec_push(given, &cdc.tables, ((CdcTable){.name = arena_strdup(given, "public.a"), .inserts = 7}));
    vec_push(given, &cdc.problems, arena_strdup(given, "a problem"));
    tracker_set_cdc(tracker, &cdc);
    arena_free(given);
    tracker_read(tracker, arena, &progress);
    tracker_set_cdc(tracker, &(CdcProgress){.state = CDC_PROMOTED});
    assert_int_equal(progress.cdc.state, CDC_FOLLOWING);
    assert_string_equal(progress.cdc.applied_lsn, "0/1");
    assert_null(progress.cdc.source_lsn);
    assert_int_equal(progress.cdc.lag_bytes, 5);
    assert_int_equal(progress.cdc.tables.len, 1);
    assert_string_equal(progress.cdc.tables.items[0].name, "public.a");
    assert_int_equal(progress.cdc.tables.items[0].inserts, 7);
    assert_int_equal(progress.cdc.problems.len, 1);
    assert_string_equal(progress.cdc.problems.items[0], "a problem");
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.cdc.state, CDC_PROMOTED);
    assert_int_equal(progress.cdc.tables.len, 0);
}

enum { THREADS = 4, ROUNDS = 500 };

static void *busy_thread(void *argument) {
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        TaskSlot *slot = tracker_task_begin(tracker, PHASE_COPY, "copy", "public.t", 100);
        atomic_fetch_add(&slot->done, 100);
        tracker_add_copied(tracker, 1, 2, 3);
        tracker_add_retry(tracker);
        tracker_set_cdc(tracker, &(CdcProgress){.state = CDC_FOLLOWING, .applied_lsn = "0/1"});
        tracker_task_end(tracker, slot, true);
    }
    return NULL;
}

static void test_many_threads(void **state) {
    pthread_t threads[THREADS];

    (void)state;
    tracker_set_totals(tracker, INT64_C(1) << 40, 1, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, busy_thread, NULL), 0);
    for (int i = 0; i < 200; i++) {
        tracker_read(tracker, arena, &progress);
        assert_in_range(progress.tasks.len, 0, THREADS);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    tracker_read(tracker, arena, &progress);
    assert_int_equal(progress.phases[PHASE_COPY].done, THREADS * ROUNDS);
    assert_int_equal(progress.bytes_done, THREADS * ROUNDS);
    assert_int_equal(progress.rows_done, THREADS * ROUNDS * 3);
    assert_int_equal(tracker_retries(tracker), THREADS * ROUNDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_at_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_phases, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_skipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tasks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_longest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_phase_ends_with_its_last_task, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_tasks_than_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_counters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rate_and_estimate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_estimate_has_a_share_for_indexes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rate_is_never_negative, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_following, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_threads, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
