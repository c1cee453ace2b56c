/* Unit test of plan_split(): how tables are cut into ranges. Pure. */
#include "engine/plan/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MB (INT64_C(1) << 20)

static Arena *arena;

static int set_up(void **state) {
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_freep(&arena);
    return 0;
}

static PlanTable heap(int64_t bytes) {
    return (PlanTable){.is_heap = true, .bytes = bytes, .blocks = bytes / 8192};
}

static void split(PlanTable *tables, size_t count, int64_t split_size, int64_t lanes) {
    Plan plan = {.tables = tables, .count = count};

    plan_split(arena, &plan, &(PlanSplit){.size = split_size, .lanes = lanes});
}

/* Ranges follow each other from block 0, the last one is open, shares add up. */
static void assert_whole_table(const PlanTable *table) {
    int64_t next = 0, bytes = 0;

    assert_true(table->chunks_count > 0);
    assert_int_equal(table->chunks_left, table->chunks_count);
    for (size_t i = 0; i < table->chunks_count; i++) {
        const PlanChunk *chunk = &table->chunks[i];

        assert_int_equal(chunk->no, i);
        assert_int_equal(chunk->first_block, next);
        assert_false(chunk->done);
        next = chunk->end_block;
        bytes += chunk->disk_bytes;
        if (i + 1 < table->chunks_count)
            assert_true(chunk->end_block > chunk->first_block);
    }
    assert_int_equal(next, -1);
    assert_in_range(bytes, table->bytes - (int64_t)table->chunks_count, table->bytes);
}

static void test_small_table_is_one_range(void **state) {
    PlanTable table = heap(10 * MB);

    (void)state;
    split(&table, 1, 16 * MB, 4);
    assert_int_equal(table.chunks_count, 1);
    assert_whole_table(&table);
}

static void test_large_table_is_cut(void **state) {
    PlanTable table = heap(100 * MB);

    (void)state;
    split(&table, 1, 16 * MB, 4);
    assert_int_equal(table.chunks_count, 7);
    assert_int_equal(table.chunks[1].first_block, 2048);
    assert_int_equal(table.chunks[0].disk_bytes, 16 * MB);
    assert_whole_table(&table);
}

/* TOAST counts in bytes, not in blocks: ranges get fewer blocks. */
static void test_wide_rows(void **state) {
    PlanTable table = {.is_heap = true, .bytes = 1000 * MB, .blocks = 100};

    (void)state;
    split(&table, 1, 16 * MB, 4);
    assert_int_equal(table.chunks_count, 100); /* one block a range, never none */
    assert_whole_table(&table);
}

static void test_one_block(void **state) {
    PlanTable table = {.is_heap = true, .bytes = 500 * MB, .blocks = 1};

    (void)state;
    split(&table, 1, 16 * MB, 4);
    assert_int_equal(table.chunks_count, 1);
    assert_whole_table(&table);
}

static void test_empty_table(void **state) {
    PlanTable tables[] = {heap(0), heap(0), heap(0)};

    (void)state;
    tables[1].condition = ""; /* an extension's: read by its own query */
    tables[2].is_void = true; /* was emptied after the snapshot: it may have had rows under it */
    split(tables, 3, 16 * MB, 4);
    assert_int_equal(tables[0].chunks_count, 0);
    assert_int_equal(tables[0].chunks_left, 0);
    assert_int_equal(tables[1].chunks_count, 1);
    assert_int_equal(tables[2].chunks_count, 1);
}

static void test_what_cannot_be_cut(void **state) {
    PlanTable tables[] = {heap(1000 * MB), heap(1000 * MB)};

    (void)state;
    tables[0].is_heap = false;
    tables[1].condition = "WHERE a";
    split(tables, 2, 16 * MB, 4);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tables[i].chunks_count, 1);
        assert_whole_table(&tables[i]);
    }
}

static size_t ranges_of(int64_t bytes, int64_t lanes) {
    PlanTable table = heap(bytes);

    split(&table, 1, 0, lanes);
    assert_whole_table(&table);
    return table.chunks_count;
}

static void test_automatic_size(void **state) {
    (void)state;
    assert_int_equal(ranges_of(64 * MB, 4), 4);             /* never below 16 MB */
    assert_int_equal(ranges_of(2048 * MB, 4), 64);          /* 32 MB: sixteen for each of four lanes */
    assert_int_equal(ranges_of(2048 * MB, 1), 16);          /* 128 MB */
    assert_int_equal(ranges_of(1024 * 1024 * MB, 4), 8192); /* never above 128 MB */
    assert_int_equal(ranges_of(2048 * MB, 0), 16);          /* lanes not known */
}

static size_t ranges_without_wal(int64_t bytes, int64_t other, int64_t lanes, int64_t cores) {
    PlanTable tables[] = {heap(bytes), heap(other)};
    Plan plan = {.tables = tables, .count = 2};

    plan_split(arena, &plan, &(PlanSplit){.lanes = lanes, .cores = cores, .spares_wal = true});
    assert_whole_table(&tables[0]);
    return tables[0].chunks_count;
}

static void test_whole_where_that_spares_wal(void **state) {
    (void)state;
    assert_int_equal(ranges_without_wal(2048 * MB, MB, 2, 2), 1);          /* one copy keeps two cores busy */
    assert_int_equal(ranges_without_wal(2048 * MB, MB, 8, 3), 1);          /* ... whatever the lanes */
    assert_int_equal(ranges_without_wal(2048 * MB, MB, 1, 64), 1);         /* one lane */
    assert_int_equal(ranges_without_wal(2048 * MB, MB, 8, 16), 7);         /* most of all there is: several at it */
    assert_int_equal(ranges_without_wal(2048 * MB, 16384 * MB, 8, 16), 1); /* one of many of its size */
    assert_true(ranges_without_wal(1024 * 1024 * MB, MB, 2, 2) == 32);     /* never above 32 GB at a time */
    assert_true(ranges_without_wal(2048 * MB, 0, 0, 0) == 1);              /* nothing known */
}

static void test_largest_size_there_is(void **state) {
    PlanTable table = {.is_heap = true, .bytes = INT64_C(32) << 40, .blocks = UINT32_MAX};

    (void)state;
    split(&table, 1, 0, 64);
    assert_in_range(table.chunks_count, 262144, 262200); /* whole blocks: a little below 128 MB each */
    assert_int_equal(table.chunks[table.chunks_count - 1].end_block, -1);
    assert_true(table.chunks[table.chunks_count - 1].first_block < UINT32_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_small_table_is_one_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_table_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wide_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_whole_where_that_spares_wal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_automatic_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_largest_size_there_is, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
