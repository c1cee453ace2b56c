/* Unit test of plan_read() and plan_check_dest() against a scripted libpq. */
#include "engine/plan/plan.h"

#include "support/fake_side.h"

static Arena *arena;
static FakeSide side;
static Error err;

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    arena = arena_new();
    err = (Error){0};
    fake_side_open(&side, DB_SOURCE);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_side_close(&side);
    fake_pq_reset();
    arena_freep(&arena);
    return 0;
}

/* oid, schema, name, filenode, blocks, bytes, columns, hash, binary, heap, condition, of an extension, partition,
 * rewritten */
#define ORDERS "16400", "public", "orders", "16401", "100", "900000", "id,\"V\"", "h1", "t", "t", NULL, "f", "f", "f"
#define EXTENSION "16500", "Ext", "conf", "16501", "1", "8192", "k", "h2", "f", "t", "WHERE NOT b", "t", "f", "f"
#define EXT_WHOLE "16501", "Ext", "all", "16502", "1", "8192", "k", "h2", "f", "t", "", "t", "f", "f"
#define PART "16600", "public", "p1", "16601", "0", "0", "", "", "f", "f", NULL, "f", "t", "t"
#define DROPPED "16700", "public", "gone", "16701", NULL, NULL, "a", "h", "t", "t", NULL, "f", "f", "t"

static bool all(const PlanTable *table, void *context, bool *ret_wanted, Error *filter_err) {
    (void)table, (void)context, (void)ret_wanted, (void)filter_err;
    return true;
}

static bool not_the_extension(const PlanTable *table, void *context, bool *ret_wanted, Error *filter_err) {
    int *calls = context;

    (void)filter_err;
    ++*calls;
    *ret_wanted = strcmp(table->schema, "Ext") != 0;
    return true;
}

static bool refuse(const PlanTable *table, void *context, bool *ret_wanted, Error *filter_err) {
    (void)context, (void)ret_wanted;
    return error_set(filter_err, REASON_USAGE, "no pattern fits %s", table->name);
}

static void test_tables(void **state) {
    Plan plan = {0};

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF("a.attgenerated", 14, ORDERS, EXTENSION, EXT_WHOLE, PART, DROPPED));
    assert_true(plan_read(side.conn, arena, all, NULL, &plan, &err));
    assert_int_equal(plan.count, 5);

    const PlanTable *orders = &plan.tables[0];
    assert_int_equal(orders->oid, 16400);
    assert_string_equal(orders->quoted, "\"public\".\"orders\"");
    assert_string_equal(orders->display, "public.orders");
    assert_int_equal(orders->filenode, 16401);
    assert_int_equal(orders->blocks, 100);
    assert_int_equal(orders->bytes, 900000);
    assert_string_equal(orders->columns, "id,\"V\"");
    assert_string_equal(orders->columns_hash, "h1");
    assert_true(orders->binary && orders->is_heap && orders->is_fresh);
    assert_false(orders->is_void || orders->is_partition || orders->is_begun);
    assert_null(orders->condition);
    assert_int_equal(orders->snapshot, 0);

    assert_string_equal(plan.tables[1].condition, "WHERE NOT b");
    assert_string_equal(plan.tables[1].display, "\"Ext\".conf");
    assert_string_equal(plan.tables[2].condition, "");
    assert_true(plan.tables[3].is_partition && plan.tables[3].is_void);
    assert_false(plan.tables[3].is_heap || plan.tables[3].binary);
    assert_int_equal(plan.tables[4].bytes, 0);
}

static void test_filter(void **state) {
    Plan plan = {0};
    int calls = 0;

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF(NULL, 14, ORDERS, EXTENSION, PART));
    assert_true(plan_read(side.conn, arena, not_the_extension, &calls, &plan, &err));
    assert_int_equal(calls, 3);
    assert_int_equal(plan.count, 2);
    assert_string_equal(plan.tables[1].name, "p1");
}

static void test_filter_fails(void **state) {
    Plan plan = {.count = 77};

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF(NULL, 14, ORDERS, PART));
    assert_false(plan_read(side.conn, arena, refuse, NULL, &plan, &err));
    assert_string_equal(err.message, "listing the source's tables: no pattern fits orders");
    assert_int_equal(plan.count, 77);
    assert_true(db_exec(side.conn, "SELECT 1", &err)); /* the rows left were thrown away */
}

static void test_no_tables(void **state) {
    Plan plan = {.count = 77};

    (void)state;
    fake_side_play(&side, FAKE_OK("pg_class"));
    assert_true(plan_read(side.conn, arena, all, NULL, &plan, &err));
    assert_int_equal(plan.count, 0);
}

static void test_old_server(void **state) {
    Plan plan = {0};

    (void)state;
    side.fake->version = 110022;
    fake_side_play(&side, FAKE_OK("am.oid = NULL::oid"));
    assert_true(plan_read(side.conn, arena, all, NULL, &plan, &err));
    assert_null(strstr(side.fake->sql, "attgenerated")); /* columns of version 12 */
    assert_null(strstr(side.fake->sql, "relam"));
}

static void test_read_fails(void **state) {
    Plan plan = {.count = 77};

    (void)state;
    fake_side_play(&side, FAKE_FAIL(NULL, "55P03", "canceling statement due to lock timeout"),
                   (FakeReply){.sql_has = "pg_class", .loses = true});
    assert_false(plan_read(side.conn, arena, all, NULL, &plan, &err));
    assert_int_equal(err.reason, REASON_LOCK_BUSY);
    assert_true(err.retryable);
    assert_false(plan_read(side.conn, arena, all, NULL, &plan, &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_int_equal(plan.count, 77);
}

/* --- The destination's columns --- */

static Plan two_tables(void) {
    static PlanTable tables[] = {
        {.quoted = "\"public\".\"z\"", .display = "public.z", .columns_hash = "hz"},
        {.quoted = "\"public\".\"a\"", .display = "public.a", .columns_hash = "ha"},
    };

    return (Plan){.tables = tables, .count = 2};
}

static void test_dest_is_alike(void **state) {
    Plan plan = two_tables();

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF("relkind IN ('r', 'p', 'f')", 3, "public", "a", "ha", "other", "a", "xx",
                                       "public", "more", "", "public", "z", "hz"));
    assert_true(plan_check_dest(side.conn, arena, &plan, &err));
}

static void test_dest_differs(void **state) {
    Plan plan = two_tables();

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF(NULL, 3, "public", "z", "hz", "public", "a", "other"));
    assert_false(plan_check_dest(side.conn, arena, &plan, &err));
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_non_null(strstr(err.message, "columns of table public.a are not the same"));
}

static void test_dest_lacks_a_table(void **state) {
    Plan plan = two_tables();

    (void)state;
    fake_side_play(&side, FAKE_ROWS_OF(NULL, 3, "public", "a", "ha"));
    assert_false(plan_check_dest(side.conn, arena, &plan, &err));
    assert_int_equal(err.reason, REASON_TABLE_CHANGED);
    assert_string_equal(err.message, "table public.z is not on the destination");
}

static void test_dest_fails(void **state) {
    Plan plan = two_tables();
    Plan none = {0};

    (void)state;
    fake_side_play(&side, FAKE_FAIL(NULL, "42501", "permission denied"));
    assert_false(plan_check_dest(side.conn, arena, &plan, &err));
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_true(plan_check_dest(side.conn, arena, &none, &err));
    fake_side_played(&side); /* nothing to compare: nothing asked */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_filter_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_is_alike, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_differs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_lacks_a_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_fails, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
