/* Unit test of graph.c: what may be built when. */
#include "engine/load/graph.h"

#include "small_toc.h"

#include <stdio.h>
#include <time.h>

static SmallToc small;

static int set_up(void **state) {
    (void)state;
    small = small_toc_new(64);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    small_toc_fini(&small);
    return 0;
}

static Graph *make(void) {
    return graph_new(
        small.arena,
        &(GraphParams){.toc = &small.toc, .chosen = small.chosen, .entry_done = small.done, .plan = &small.plan});
}

static GraphTask expect(Graph *graph, GraphStep step, size_t entry) {
    GraphTask task = {0};

    assert_true(graph_has_ready(graph));
    assert_true(graph_next(graph, &task));
    assert_string_equal(small.toc.entries[task.entry].tag, small.toc.entries[entry].tag);
    assert_int_equal(task.step, step);
    return task;
}

static void expect_nothing(Graph *graph) {
    GraphTask task = {.entry = 77};

    assert_false(graph_has_ready(graph));
    assert_false(graph_next(graph, &task));
    assert_int_equal(task.entry, 77);
}

static void test_nothing(void **state) {
    (void)state;
    Graph *graph = make();
    expect_nothing(graph);
    assert_int_equal(graph_entries(graph), 0);
    assert_int_equal(graph_entries_done(graph), 0);
}

static void test_the_most_costly_first(void **state) {
    static const int64_t sizes[] = {10, 50, 30, 20, 40};
    static const size_t order[] = {1, 4, 2, 3, 0};
    size_t indexes[5];

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%zu", i);
        size_t table = small_toc_table(&small, name, sizes[i], 1, 0);
        snprintf(name, sizeof(name), "i%zu", i);
        indexes[i] = small_toc_index(&small, name, table);
    }
    Graph *graph = make();
    assert_int_equal(graph_entries(graph), 5);
    for (size_t i = 0; i < 5; i++) {
        GraphTask task = expect(graph, GRAPH_BUILD, indexes[order[i]]);
        assert_int_equal(task.cost, sizes[order[i]]);
        assert_true(task.marks_entry);
        assert_null(task.index);
        assert_non_null(strstr(task.sql, "CREATE INDEX"));
    }
    expect_nothing(graph);
}

static void test_waits_for_the_last_range(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 2, 2);
    size_t other = small_toc_table(&small, "o", 10, 1, 1);
    size_t index = small_toc_index(&small, "i", table);
    small_toc_index(&small, "j", other);
    Graph *graph = make();

    expect_nothing(graph);
    graph_table_copied(graph, 0);
    GraphTask task = expect(graph, GRAPH_BUILD, index);
    expect_nothing(graph);
    graph_table_copied(graph, 0); /* once more sets nothing free */
    expect_nothing(graph);
    graph_finished(graph, &task);
    assert_int_equal(graph_entries_done(graph), 1);
    expect_nothing(graph);
}

/* All builds of the table hold SHARE; the key becomes a constraint when none is left. */
static void test_two_step_key(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t key = small_toc_key(&small, "t_pkey", table);
    size_t index = small_toc_index(&small, "i", table);
    Graph *graph = make();
    GraphTask a = {0}, b = {0};

    assert_true(graph_next(graph, &a) && graph_next(graph, &b));
    expect_nothing(graph);
    GraphTask *key_task = a.entry == key ? &a : &b;
    GraphTask *index_task = a.entry == key ? &b : &a;
    assert_int_equal(key_task->entry, key);
    assert_int_equal(index_task->entry, index);
    assert_string_equal(key_task->index, "\"public\".t_pkey");
    assert_false(key_task->marks_entry);
    assert_non_null(strstr(key_task->sql, "CREATE UNIQUE INDEX t_pkey ON ONLY public.t"));

    graph_finished(graph, key_task);
    assert_int_equal(graph_entries_done(graph), 0);
    expect_nothing(graph);
    graph_finished(graph, index_task);
    assert_int_equal(graph_entries_done(graph), 1);
    GraphTask complete = expect(graph, GRAPH_COMPLETE, key);
    assert_true(complete.marks_entry);
    assert_non_null(strstr(complete.sql, "PRIMARY KEY USING INDEX t_pkey"));
    graph_finished(graph, &complete);
    assert_int_equal(graph_entries_done(graph), 2);
    expect_nothing(graph);
}

static void test_completions_come_before_builds(void **state) {
    (void)state;
    size_t big = small_toc_table(&small, "big", 1000, 1, 1);
    size_t big_index = small_toc_index(&small, "big_i", big);
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t key = small_toc_key(&small, "t_pkey", table);
    small_toc_index(&small, "i", table);
    Graph *graph = make();
    GraphTask a = {0}, b = {0};

    assert_true(graph_next(graph, &a) && graph_next(graph, &b));
    graph_table_copied(graph, 0);
    graph_finished(graph, &a);
    graph_finished(graph, &b);
    expect(graph, GRAPH_COMPLETE, key);
    expect(graph, GRAPH_BUILD, big_index);
}

static void test_several_keys_wait_for_all(void **state) {
    GraphTask tasks[4] = {0};

    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    for (size_t i = 0; i < 4; i++)
        small_toc_key(&small, (const char *const[]){"k0", "k1", "k2", "k3"}[i], table);
    Graph *graph = make();
    for (size_t i = 0; i < 4; i++)
        assert_true(graph_next(graph, &tasks[i]));
    for (size_t i = 0; i < 4; i++) {
        expect_nothing(graph);
        graph_finished(graph, &tasks[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        GraphTask task = {0};
        assert_true(graph_next(graph, &task));
        assert_int_equal(task.step, GRAPH_COMPLETE);
        graph_finished(graph, &task);
    }
    assert_int_equal(graph_entries_done(graph), 4);
    expect_nothing(graph);
}

static void test_key_alone_is_one_step(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t key = small_toc_key(&small, "t_pkey", table);
    GraphTask task = expect(make(), GRAPH_BUILD, key);
    assert_true(task.marks_entry);
    assert_null(task.index);
    assert_non_null(strstr(task.sql, "ADD CONSTRAINT t_pkey PRIMARY KEY (id)"));
}

static void test_keys_of_an_empty_table_are_one_step(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 0, 0, 0);
    small_toc_key(&small, "t_pkey", table);
    small_toc_index(&small, "i", table);
    Graph *graph = make();
    for (int i = 0; i < 2; i++) {
        GraphTask task = {0};
        assert_true(graph_next(graph, &task));
        assert_true(task.marks_entry);
    }
    expect_nothing(graph);
}

/* An earlier run may have committed the first step: whether there are two must not depend on what is done. */
static void test_resumed_key_has_two_steps_still(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t key = small_toc_key(&small, "t_pkey", table);
    size_t index = small_toc_index(&small, "i", table);
    small.done[index] = true;
    Graph *graph = make();
    assert_int_equal(graph_entries(graph), 2);
    assert_int_equal(graph_entries_done(graph), 1);
    GraphTask task = expect(graph, GRAPH_BUILD, key);
    assert_non_null(task.index);
    graph_finished(graph, &task);
    GraphTask complete = expect(graph, GRAPH_COMPLETE, key);
    graph_finished(graph, &complete);
    assert_int_equal(graph_entries_done(graph), 2);
}

static void test_index_on_key_of_its_own_table(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t key = small_toc_key(&small, "t_pkey", table);
    size_t index = small_toc_add(&small, "INDEX", "i", "CREATE INDEX i ON public.t USING btree (v);\n",
                                 (const size_t[]){table, key}, 2);
    Graph *graph = make();
    GraphTask task = {0};

    for (int steps = 0; graph_next(graph, &task) && steps < 10; steps++)
        graph_finished(graph, &task);
    assert_int_equal(graph_entries_done(graph), 2);
    assert_int_equal(task.entry, index);
}

static void test_what_depends_on_later_work_is_late(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t rule = small_toc_add(&small, "RULE", "v _RETURN", "CREATE OR REPLACE VIEW;\n", &table, 1);
    size_t matview = small_toc_add(&small, "MATERIALIZED VIEW", "m", "CREATE MATERIALIZED VIEW;\n", &rule, 1);
    size_t late = small_toc_index(&small, "late", matview);
    small_toc_add(&small, "INDEX", "later", "CREATE INDEX later ON public.t (v);\n", (const size_t[]){table, late}, 2);
    size_t index = small_toc_index(&small, "i", table);
    Graph *graph = make();

    assert_int_equal(graph_entries(graph), 1);
    GraphTask task = expect(graph, GRAPH_BUILD, index);
    graph_finished(graph, &task);
    expect_nothing(graph);

    small.done[rule] = small.done[matview] = true; /* a later run */
    small.done[index] = true;
    graph = make();
    assert_int_equal(graph_entries(graph), 3);
    task = expect(graph, GRAPH_BUILD, late);
    expect_nothing(graph);
    graph_finished(graph, &task);
    assert_true(graph_has_ready(graph));
}

static void test_void_table_blocks_its_own(void **state) {
    (void)state;
    size_t rewritten = small_toc_table(&small, "rewritten", 100, 1, 0);
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    small_toc_key(&small, "rewritten_pkey", rewritten);
    small_toc_index(&small, "rewritten_i", rewritten);
    size_t index = small_toc_index(&small, "i", table);
    small.plan.tables[0].is_void = true;
    Graph *graph = make();

    assert_int_equal(graph_entries(graph), 3);
    GraphTask task = expect(graph, GRAPH_BUILD, index);
    graph_finished(graph, &task);
    expect_nothing(graph);
}

static void test_dependents_count_once(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 1);
    small_toc_add(&small, "INDEX", "i", "CREATE INDEX i ON public.t (v);\n", (const size_t[]){table, table, table}, 3);
    Graph *graph = make();
    GraphTask task = {0};

    expect_nothing(graph);
    graph_table_copied(graph, 0);
    assert_true(graph_next(graph, &task));
    expect_nothing(graph);
}

/* A partition's key depends on the root's, whose table holds no rows and is in no plan. */
static void test_keys_of_partitions_follow_the_root(void **state) {
    (void)state;
    size_t root = small_toc_add(&small, "TABLE", "root", "CREATE TABLE;\n", NULL, 0);
    size_t part = small_toc_table(&small, "part", 10, 1, 0);
    size_t root_key = small_toc_key(&small, "root_pkey", root);
    size_t part_key = small_toc_add(&small, "CONSTRAINT", "part_pkey",
                                    "ALTER TABLE ONLY public.part\n    ADD CONSTRAINT part_pkey PRIMARY KEY (id);\n",
                                    (const size_t[]){part, root_key}, 2);
    Graph *graph = make();
    GraphTask task = expect(graph, GRAPH_BUILD, root_key);

    expect_nothing(graph);
    graph_finished(graph, &task);
    expect(graph, GRAPH_BUILD, part_key);
}

static void test_not_chosen_and_done(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t done = small_toc_index(&small, "done", table);
    size_t left_out = small_toc_index(&small, "left_out", table);
    small.done[done] = true;
    small.chosen[left_out] = false;
    small.toc.entries[done].deps_count = 0;
    Graph *graph = make();
    assert_int_equal(graph_entries(graph), 1);
    assert_int_equal(graph_entries_done(graph), 1);
    expect_nothing(graph);
}

static void test_unknown_dependencies_do_not_hold(void **state) {
    (void)state;
    size_t table = small_toc_table(&small, "t", 10, 1, 0);
    size_t index =
        small_toc_add(&small, "INDEX", "i", "CREATE INDEX i ON public.t (v);\n", (const size_t[]){9999, table, 63}, 3);
    expect(make(), GRAPH_BUILD, index);
}

/* --- Any order of events --- */

typedef struct Play {
    SmallToc world;
    Graph *graph;
    size_t table_of[512];
    bool copied[64];
    bool built[512], finished[512];
    int building[64]; /* of a table: builds that run */
    int left[64];     /* of a table: builds not finished */
    GraphTask running[512];
    size_t running_count;
    size_t runs;
} Play;

static unsigned random_below(unsigned *seed, unsigned limit) {
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 8) % limit;
}

static void play_world(Play *play, unsigned *seed) {
    char name[24];

    play->world = small_toc_new(512);
    for (unsigned t = 0; t < 12; t++) {
        snprintf(name, sizeof(name), "t%u", t);
        size_t table = small_toc_table(&play->world, name, (int64_t)random_below(seed, 3) * 100, 1, 1);
        for (unsigned k = random_below(seed, 5); k > 0; k--) {
            snprintf(name, sizeof(name), "k%u_%u", t, k);
            size_t entry = random_below(seed, 2) == 0 ? small_toc_key(&play->world, name, table)
                                                      : small_toc_index(&play->world, name, table);
            play->table_of[entry] = t;
            play->left[t]++;
        }
    }
}

static void play_take(Play *play) {
    GraphTask task = {0};

    while (graph_next(play->graph, &task)) {
        size_t table = play->table_of[task.entry];
        assert_true(play->copied[table]);
        if (task.step == GRAPH_BUILD) {
            assert_false(play->built[task.entry]);
            play->built[task.entry] = true;
            play->building[table]++;
        } else {
            assert_int_equal(play->building[table], 0); /* its lock would wait for them, and they for it */
            assert_int_equal(play->left[table], 0);
        }
        play->running[play->running_count++] = task;
    }
}

static void play_finish(Play *play, size_t at) {
    GraphTask task = play->running[at];
    size_t table = play->table_of[task.entry];

    play->running[at] = play->running[--play->running_count];
    if (task.step == GRAPH_BUILD) {
        play->building[table]--;
        play->left[table]--;
    }
    if (task.marks_entry) {
        assert_false(play->finished[task.entry]);
        play->finished[task.entry] = true;
        play->runs++;
    }
    graph_finished(play->graph, &task);
}

static void test_any_order_of_events(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        Play play = {0};
        unsigned next_table = 0;
        unsigned random = seed;

        play_world(&play, &random);
        play.graph = graph_new(play.world.arena, &(GraphParams){.toc = &play.world.toc,
                                                                .chosen = play.world.chosen,
                                                                .entry_done = play.world.done,
                                                                .plan = &play.world.plan});
        while (next_table < 12 || play.running_count > 0) {
            if (next_table < 12 && (play.running_count == 0 || random_below(&random, 3) == 0)) {
                play.copied[next_table] = true;
                graph_table_copied(play.graph, next_table++);
            } else {
                play_finish(&play, random_below(&random, (unsigned)play.running_count));
            }
            play_take(&play);
        }
        assert_int_equal(play.runs, graph_entries(play.graph));
        assert_int_equal(graph_entries_done(play.graph), graph_entries(play.graph));
        small_toc_fini(&play.world);
    }
}

/* --- Many tables --- */

enum { MANY = 100000 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define SLOW_BUILD 1
#endif

static double cpu_seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void many_tables(SmallToc *world) {
    char name[32];

    for (int t = 0; t < MANY; t++) {
        snprintf(name, sizeof(name), "t%d", t);
        size_t table = small_toc_table(world, name, 1 + t % 1000, 1, 1);
        snprintf(name, sizeof(name), "t%d_pkey", t);
        small_toc_key(world, name, table);
        snprintf(name, sizeof(name), "t%d_i", t);
        small_toc_index(world, name, table);
    }
}

static void test_many_tables(void **state) {
    SmallToc world = small_toc_new((size_t)MANY * 3);
    GraphTask task = {0};
    size_t tasks = 0;

    (void)state;
    many_tables(&world);
    double begin = cpu_seconds();
    Graph *graph = graph_new(
        world.arena,
        &(GraphParams){.toc = &world.toc, .chosen = world.chosen, .entry_done = world.done, .plan = &world.plan});
    for (size_t t = 0; t < MANY; t++)
        graph_table_copied(graph, t); /* the worst case for the heap: all ready at once */
    for (; graph_next(graph, &task); tasks++)
        graph_finished(graph, &task);
    double seconds = cpu_seconds() - begin;
    assert_int_equal(tasks, (size_t)MANY * 3); /* index, key, its completion */
    assert_int_equal(graph_entries_done(graph), (size_t)MANY * 2);
    small_toc_fini(&world);
    print_message("# %d tables with two indexes each: %.2f s\n", MANY, seconds);
#ifdef SLOW_BUILD
    assert_true(seconds < 15);
#else
    assert_true(seconds < 4); /* 0.7 s to 1.3 s; with a square in it, minutes */
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_most_costly_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waits_for_the_last_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_step_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_completions_come_before_builds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_several_keys_wait_for_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_alone_is_one_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_of_an_empty_table_are_one_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resumed_key_has_two_steps_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_index_on_key_of_its_own_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_depends_on_later_work_is_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_void_table_blocks_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dependents_count_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_of_partitions_follow_the_root, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_chosen_and_done, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_dependencies_do_not_hold, set_up, tear_down),
        cmocka_unit_test(test_any_order_of_events),
        cmocka_unit_test(test_many_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
