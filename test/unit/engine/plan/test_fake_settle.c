/* Unit test of settle.c against a scripted libpq: what an earlier run left, and each statement failing. */
#include "engine/plan/plan.h"

#include "support/fake_side.h"

#include <stdio.h>

static Arena *arena;
static FakeSide dest;
static Error err;
static Plan plan;

static const Ledger ledger = {.job_id = "j7", .epoch = 8};
static const LedgerSnapshot snapshot = {.id = 2};

static void add_table(uint32_t oid, const char *name, int64_t blocks, size_t chunks) {
    PlanTable *table = &plan.tables[plan.count++];

    *table = (PlanTable){.oid = oid,
                         .schema = "public",
                         .name = name,
                         .quoted = arena_printf(arena, "public.%s", name),
                         .display = arena_printf(arena, "public.%s", name),
                         .filenode = oid + 1,
                         .columns_hash = "h",
                         .is_heap = true,
                         .is_fresh = true,
                         .blocks = blocks,
                         .bytes = blocks * 100,
                         .chunks_count = chunks,
                         .chunks_left = chunks};
    table->chunks = arena_array(arena, PlanChunk, MAX(chunks, 1));
    for (size_t i = 0; i < chunks; i++)
        table->chunks[i] = (PlanChunk){
            .no = (int32_t)i, .first_block = (int64_t)i * 10, .end_block = i + 1 == chunks ? -1 : (int64_t)i * 10 + 10};
}

static void new_plan(void) {
    plan = (Plan){.tables = arena_array(arena, PlanTable, 2000)};
}

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    arena = arena_new();
    new_plan();
    err = (Error){0};
    fake_side_open(&dest, DB_DEST);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_side_close(&dest);
    fake_pq_reset();
    arena_freep(&arena);
    return 0;
}

static bool settle(bool data_only) {
    return plan_settle(dest.conn, &ledger, arena, &snapshot, data_only, &plan, &err);
}

/* clang-format off */
#define NOTHING_OLD FAKE_OK("FROM pgcrane.relation"), FAKE_OK("FROM pgcrane.chunk ORDER BY")
#define BEGIN_ROW FAKE_ROW("epoch = 8 FOR SHARE", "1")
#define COPY_LINES                                                                                                     \
    (FakeReply){.sql_has = "COPY pgcrane.relation", .kind = FAKE_COPY_IN, .tuples = "1"},                              \
    (FakeReply){.sql_has = "COPY pgcrane.chunk", .kind = FAKE_COPY_IN, .tuples = "1"}
/* clang-format on */

static void assert_lines(const char *lines) {
    assert_int_equal(dest.fake->copied, strlen(lines));
    assert_true(dest.fake->checksum == fake_checksum(0, lines, strlen(lines)));
}

static void test_first_run(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    add_table(16500, "back\\slash\ttab\nline\r", 5, 1);
    add_table(16600, "empty", 0, 0);
    fake_side_play(&dest, NOTHING_OLD, BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(false));
    fake_side_played(&dest);
    assert_lines("16400\t2\tpublic\torders\t16401\th\n"
                 "16500\t2\tpublic\tback\\\\slash\\ttab\\nline\\r\t16501\th\n"
                 "16600\t2\tpublic\tempty\t16601\th\n"
                 "16400\t0\t0\t10\n"
                 "16400\t1\t10\t\\N\n"
                 "16500\t0\t0\t\\N\n");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(plan.tables[i].snapshot, 2);
    assert_int_equal(plan.chunks_kept, 0);
    assert_int_equal(plan.tables[0].chunks_left, 2);
}

static void test_no_tables(void **state) {
    (void)state;
    fake_side_play(&dest, NOTHING_OLD);
    assert_true(settle(false));
    fake_side_played(&dest);
}

/* Cut at other blocks than this run would: the ledger's ranges count, not the new ones. */
static void test_goes_on_under_the_same_snapshot(void **state) {
    (void)state;
    add_table(16400, "orders", 40, 1);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "2", "h", "3", "1"),
                   FAKE_ROWS_OF("FROM pgcrane.chunk", 5, "16400", "0", "0", "10", "500", /* done */
                                "16400", "1", "10", "30", NULL,                          /* not */
                                "16400", "2", "30", NULL, NULL),
                   BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(false));
    fake_side_played(&dest);
    assert_int_equal(dest.fake->copied, 0); /* no line twice */

    const PlanTable *table = &plan.tables[0];
    assert_int_equal(table->chunks_count, 3);
    assert_int_equal(table->chunks_left, 2);
    assert_int_equal(plan.chunks_kept, 1);
    assert_true(table->chunks[0].done);
    assert_false(table->chunks[1].done);
    assert_int_equal(table->chunks[1].end_block, 30);
    assert_int_equal(table->chunks[1].disk_bytes, 2000);
    assert_int_equal(table->chunks[2].end_block, -1);
    assert_int_equal(table->chunks[2].disk_bytes, 1000);
    assert_false(table->is_fresh || table->is_begun);
}

static void test_nothing_done_yet_is_fresh(void **state) {
    (void)state;
    add_table(16400, "orders", 40, 1);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "2", "h", "1", "0"),
                   FAKE_ROW("FROM pgcrane.chunk", "16400", "0", "0", NULL, NULL), BEGIN_ROW, COPY_LINES,
                   FAKE_OK("COMMIT"));
    assert_true(settle(false));
    assert_true(plan.tables[0].is_fresh);
    assert_int_equal(plan.tables[0].chunks_left, 1);
}

static void test_complete_stays_whatever_snapshot(void **state) {
    (void)state;
    add_table(16400, "orders", 40, 2);
    add_table(16500, "rewritten", 40, 2);
    plan.tables[1].is_void = true;
    fake_side_play(&dest,
                   FAKE_ROWS_OF("FROM pgcrane.relation", 5, "16400", "1", "h", "1", "1", "16500", "1", "h", "1", "1"),
                   FAKE_ROWS_OF("FROM pgcrane.chunk", 5, "16400", "0", "0", NULL, "500", "16500", "0", "0", NULL, "0"),
                   BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(false));
    assert_int_equal(dest.fake->copied, 0);
    assert_int_equal(plan.chunks_kept, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(plan.tables[i].snapshot, 1);
        assert_int_equal(plan.tables[i].chunks_left, 0);
        assert_false(plan.tables[i].is_void);
    }
}

static void begun_under_lost_snapshot(bool data_only, const char *emptying) {
    add_table(16400, "orders", 20, 2);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "1", "h", "3", "1"),
                   FAKE_ROW("FROM pgcrane.chunk", "16400", "0", "0", "5", "7"), BEGIN_ROW, FAKE_OK(emptying),
                   FAKE_OK("DELETE FROM pgcrane.chunk WHERE relation = 16400;"
                           " DELETE FROM pgcrane.relation WHERE oid = 16400"),
                   COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(data_only));
    fake_side_played(&dest);
    assert_lines("16400\t2\tpublic\torders\t16401\th\n16400\t0\t0\t10\n16400\t1\t10\t\\N\n");
    assert_true(plan.tables[0].is_begun);
    assert_int_equal(plan.tables[0].snapshot, 2);
    assert_int_equal(plan.tables[0].chunks_left, 2);
    assert_int_equal(plan.chunks_kept, 0);
}

static void test_begun_under_a_lost_snapshot(void **state) {
    (void)state;
    begun_under_lost_snapshot(false, "TRUNCATE ONLY public.orders");
}

static void test_begun_with_data_only(void **state) {
    (void)state;
    begun_under_lost_snapshot(true, "DELETE FROM ONLY public.orders");
}

/* Waits for a new snapshot: no line, no emptying. */
static void test_void_table_waits(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    plan.tables[0].is_void = true;
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "1", "h", "3", "1"), FAKE_OK("FROM pgcrane.chunk"),
                   BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(false));
    fake_side_played(&dest);
    assert_int_equal(dest.fake->copied, 0);
    assert_int_equal(plan.tables[0].snapshot, 0);
}

static void test_dropped_table(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "1", "h", "1", "1"),
                   FAKE_ROW("FROM pgcrane.chunk", "16400", "0", "0", NULL, "500"),
                   FAKE_ROW("FROM pgcrane.relation", "16400", "1", "h", "2", "1", "public", "gone"));
    assert_true(settle(false)); /* complete: nothing to do */
    assert_int_equal(plan.chunks_kept, 0);
    assert_false(settle(false));
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_non_null(strstr(err.message, "table public.gone"));
}

static void test_changed_columns(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "2", "before", "2", "1"));
    assert_false(settle(false));
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_non_null(strstr(err.message, "columns of table public.orders"));
    assert_non_null(strstr(err.remedy, "--restart"));
}

static void test_changed_after_it_was_copied(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.relation", "16400", "2", "before", "1", "1"),
                   FAKE_ROW("FROM pgcrane.chunk", "16400", "0", "0", NULL, "500"), BEGIN_ROW, COPY_LINES,
                   FAKE_OK("COMMIT"));
    assert_true(settle(false));
    assert_int_equal(plan.notes.len, 1);
    assert_string_equal(plan.notes.items[0], "table public.orders was changed on the source after it was copied");
}

static void test_groups_of_tables(void **state) {
    char name[16];

    (void)state;
    for (uint32_t i = 0; i < 1001; i++) {
        snprintf(name, sizeof(name), "t%u", i);
        add_table(20000 + i, arena_strdup(arena, name), 0, 0);
    }
    fake_side_play(&dest, NOTHING_OLD, BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"), BEGIN_ROW, COPY_LINES,
                   FAKE_OK("COMMIT"), BEGIN_ROW, COPY_LINES, FAKE_OK("COMMIT"));
    assert_true(settle(false));
    fake_side_played(&dest);
}

static void test_fenced(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    fake_side_play(&dest, NOTHING_OLD, FAKE_OK("FOR SHARE"));
    assert_false(settle(false));
    assert_int_equal(err.reason, REASON_FENCED);
    fake_side_played(&dest);
    assert_int_equal(plan.tables[0].snapshot, 0);
}

static bool call_settle(DbConn *conn, Error *call_err) {
    arena_reset(arena);
    new_plan();
    add_table(16400, "orders", 20, 2);
    bool ok = plan_settle(conn, &ledger, arena, &snapshot, false, &plan, call_err);
    assert_int_equal(plan.tables[0].snapshot, ok ? 2 : 0);
    return ok;
}

static void test_each_statement_fails(void **state) {
    const FakeReply script[] = {FAKE_ROW("FROM pgcrane.relation", "16400", "1", "h", "3", "1"),
                                FAKE_OK("FROM pgcrane.chunk"),
                                BEGIN_ROW,
                                FAKE_OK("TRUNCATE"),
                                FAKE_OK("DELETE FROM pgcrane.chunk"),
                                COPY_LINES,
                                FAKE_OK("COMMIT")};

    (void)state;
    fake_side_close(&dest);
    fake_side_each_fails(script, COUNT_OF(script), 2, call_settle);
    fake_side_open(&dest, DB_DEST);
}

static void test_copy_refused_at_the_end(void **state) {
    (void)state;
    add_table(16400, "orders", 20, 2);
    dest.fake->in_transaction = true;
    fake_side_play(&dest, NOTHING_OLD, BEGIN_ROW,
                   (FakeReply){.sql_has = "COPY pgcrane.relation",
                               .kind = FAKE_COPY_IN,
                               .sqlstate = "23505",
                               .message = "duplicate key",
                               .speaks_after = SIZE_MAX},
                   FAKE_OK("ROLLBACK"));
    assert_false(settle(false));
    assert_int_equal(err.reason, REASON_BAD_DATA);
    assert_non_null(strstr(err.message, "writing the plan to the ledger: duplicate key"));
    fake_side_played(&dest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goes_on_under_the_same_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_done_yet_is_fresh, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_complete_stays_whatever_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begun_under_a_lost_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begun_with_data_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_void_table_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dropped_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_after_it_was_copied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_groups_of_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_statement_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_refused_at_the_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
