/* Unit test of data.c against scripted servers: every end a range or a build can come to. */
#include "fake_load.h"

#include <stdio.h>
#include <stdlib.h>

static FakeLoad load;
static LoadResult result;
static Error err;

static int set_up(void **state) {
    (void)state;
    fake_load_begin(&load);
    result = (LoadResult){0};
    err = (Error){0};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_load_end(&load);
    return 0;
}

static bool run(void) {
    return load_data(fake_load_params(&load), &result, &err);
}

/* clang-format off */
/* picture, start, filenode under the snapshot, filenode now, oid now; of the first table */
#define SOURCE_OPEN FAKE_ROW("SET TRANSACTION SNAPSHOT 's-1'", "1:2:", "monday", "20000", "20000", "16384", "t")
#define COPY_OUT(has)                                                                                                  \
    (FakeReply){.sql_has = (has), .kind = FAKE_COPY_OUT, .values = (const char *const[]){"1\ta\n", "2\tb\n"},          \
                .n_rows = 2, .tuples = "2"}
#define COPY_IN(has) (FakeReply){.sql_has = (has), .kind = FAKE_COPY_IN, .tuples = "2"}
#define MARK(count) (FakeReply){.sql_has = "UPDATE pgcrane.chunk SET rows = 2", .tuples = (count)}
#define ALL_IN_LEDGER                                                                                                  \
    (FakeReply){.sql_has = "FROM pgcrane.chunk WHERE rows IS NULL", .values = (const char *const[]){"t", "f"},         \
                .n_rows = 1, .n_columns = 2}
#define DEST_RELEASE                                                                                                   \
    FAKE_OK("FROM pgcrane.step"), FAKE_BEGIN, ALL_IN_LEDGER, FAKE_OK("SET LOCAL synchronous_commit = on"),                            \
    FAKE_OK("INSERT INTO pgcrane.step"), FAKE_OK("COMMIT")
#define SOURCE_RELEASE FAKE_OK("pg_terminate_backend")
/* clang-format on */

static PlanTable *one_table(void) {
    small_toc_table(&load.small, "t", 1000, 1, 1);
    return &load.small.plan.tables[0];
}

/* --- One range --- */

static void test_a_range(void **state) {
    Progress progress = {0};

    (void)state;
    PlanTable *table = one_table();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT("COPY public.t (id,v) TO STDOUT"), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN("COPY public.t (id,v) FROM STDIN"), MARK("1"), FAKE_OK("COMMIT"),
              DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
    assert_int_equal(result.chunks_copied, 1);
    assert_false(result.snapshot_lost);
    assert_int_equal(result.tables_void, 0);
    assert_int_equal(table->chunks_left, 0);
    assert_true(table->chunks[0].done);
    assert_int_equal(load.dest->copied, 8);

    tracker_read(load.tracker, load.arena, &progress);
    assert_int_equal(progress.tables_done, 1);
    assert_int_equal(progress.rows_done, 2);
    assert_int_equal(progress.bytes_done, 1000);
    assert_int_equal(progress.phases[PHASE_COPY].done, 1);
    assert_int_equal(progress.tasks.len, 0);
}

static void test_each_range_counts_its_table_once(void **state) {
    Progress progress = {0};

    (void)state;
    small_toc_table(&load.small, "t", 1000, 3, 3);
    fake_play(load.source, SOURCE_OPEN, COPY_OUT("WHERE ctid >= '(0,0)' AND ctid < '(10,0)'"), SOURCE_OPEN,
              COPY_OUT("WHERE ctid >= '(10,0)' AND ctid < '(20,0)'"), SOURCE_OPEN,
              COPY_OUT("FROM ONLY public.t WHERE ctid >= '(20,0)') TO STDOUT"), SOURCE_RELEASE);
    for (int i = 0; i < 3; i++)
        fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("1"), FAKE_OK("COMMIT"));
    fake_play(load.dest, DEST_RELEASE);
    assert_true(run());
    assert_int_equal(result.chunks_copied, 3);
    tracker_read(load.tracker, load.arena, &progress);
    assert_int_equal(progress.tables_done, 1);
    assert_int_equal(progress.phases[PHASE_COPY].done, 1);
}

static void test_ranges_before_14(void **state) {
    (void)state;
    load.source->version = 130010;
    small_toc_table(&load.small, "t", 1000, 2, 1); /* the second is done */
    fake_play(load.source, SOURCE_OPEN, COPY_OUT("generate_series(0, 10 - 1) b"), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
    assert_int_equal(result.chunks_copied, 1);
}

static void test_open_range_before_14(void **state) {
    (void)state;
    load.source->version = 120010;
    small_toc_table(&load.small, "t", 1000, 2, 1);
    PlanTable *table = &load.small.plan.tables[0];
    table->chunks[0].done = true;
    table->chunks[1].done = false;
    fake_play(load.source, SOURCE_OPEN, COPY_OUT("generate_series(10, (pg_catalog.pg_relation_size(16384) /"),
              SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
}

static void copies(const char *source_sql, const char *dest_sql) {
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(source_sql), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(dest_sql), MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
}

static void test_binary(void **state) {
    (void)state;
    one_table()->binary = true;
    copies("COPY public.t (id,v) TO STDOUT WITH (FORMAT binary)",
           "COPY public.t (id,v) FROM STDIN WITH (FORMAT binary)");
}

static void test_no_columns(void **state) {
    (void)state;
    one_table()->columns = "";
    copies("COPY public.t TO STDOUT", "COPY public.t FROM STDIN");
}

static void test_rows_of_an_extension(void **state) {
    (void)state;
    one_table()->condition = "WHERE id > 7";
    copies("COPY (SELECT id,v FROM ONLY public.t WHERE id > 7) TO STDOUT", "COPY public.t (id,v) FROM STDIN");
}

static void test_freeze(void **state) {
    (void)state;
    PlanTable *table = one_table();
    table->is_fresh = table->binary = true;
    table->bytes = 2 << 20;
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, FAKE_OK("TRUNCATE ONLY public.t"), COPY_IN("WITH (FORMAT binary, FREEZE)"),
              MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.dest);
}

static void test_freeze_not_with_data_only(void **state) {
    (void)state;
    PlanTable *table = one_table();
    table->is_fresh = true;
    table->bytes = 2 << 20;
    load.params.data_only = true;
    copies(NULL, "COPY public.t (id,v) FROM STDIN");
    assert_null(strstr(load.dest->sql, "FREEZE"));
}

/* --- The table is not what it was --- */

static void assert_void(bool snapshot_lost, const char *words) {
    assert_true(run());
    assert_int_equal(result.snapshot_lost, snapshot_lost);
    assert_int_equal(result.tables_void, snapshot_lost ? 0 : 1);
    assert_int_equal(result.chunks_copied, 0);
    assert_true(load.small.plan.tables[0].is_void);
    assert_non_null(strstr(result.reason, words));
    assert_int_equal(tracker_retries(load.tracker), 0);
    fake_played(load.source);
    fake_played(load.dest); /* nothing was begun, and the snapshot not released */
}

static void test_rewritten(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_ROW(NULL, "1:2:", "monday", "20000", "20077", "16384", "t"));
    assert_void(false, "table public.t was rewritten or truncated");
}

static void test_another_picture(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_ROW(NULL, "1:3:", "monday", "20000", "20000", "16384", "t"));
    assert_void(true, "shows another picture");
}

static void test_source_restarted(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_ROW(NULL, "1:2:", "tuesday", "20000", "20000", "16384", "t"));
    assert_void(true, "the source was restarted");
}

static void test_snapshot_is_gone(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_FAIL("SNAPSHOT", "22023", "invalid snapshot identifier: \"s-1\""));
    assert_void(true, "the snapshot is gone");
}

/* One table rewritten: the others are copied all the same, and the snapshot stays. */
static void test_the_others_go_on(void **state) {
    (void)state;
    one_table();
    small_toc_table(&load.small, "u", 900, 1, 1);
    fake_play(load.source, FAKE_ROW(NULL, "1:2:", "monday", "20000", "20077", "16384", "t"),
              FAKE_ROW(NULL, "1:2:", "monday", "20001", "20001", "16385", "t"), COPY_OUT("public.u"));
    fake_play(load.dest, FAKE_BEGIN, COPY_IN("public.u"), MARK("1"), FAKE_OK("COMMIT"));
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
    assert_int_equal(result.tables_void, 1);
    assert_int_equal(result.chunks_copied, 1);
}

static void assert_fails(ErrorReason reason, const char *words) {
    assert_false(run());
    assert_int_equal(err.reason, reason);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, err.message);
    assert_int_equal(result.chunks_copied, 0);
    fake_played(load.source);
    fake_played(load.dest);
}

static void test_dropped(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_FAIL("LOCK TABLE ONLY public.t", "42P01", "relation \"public.t\" does not exist"));
    assert_fails(REASON_TABLE_CHANGED, "table public.t was dropped or renamed");
}

static void test_replaced(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_ROW(NULL, "1:2:", "monday", "20000", "20000", "99999", "t"));
    assert_fails(REASON_TABLE_CHANGED, "table public.t was replaced");
}

static void test_columns_were_renamed(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_ROW(NULL, "1:2:", "monday", "20000", "20000", "16384", "f"));
    assert_fails(REASON_TABLE_CHANGED, "columns of table public.t were renamed");
}

static void test_may_not_be_read(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_FAIL("LOCK TABLE", "42501", "permission denied"));
    assert_fails(REASON_NOT_PERMITTED, "reading table public.t on the source: permission denied");
}

/* --- The destination --- */

static void test_fenced(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, SOURCE_OPEN);
    fake_play(load.dest, FAKE_OK("FOR SHARE"));
    assert_fails(REASON_FENCED, "taken this migration over");
}

static void test_bad_data(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL));
    fake_play(load.dest, FAKE_BEGIN,
              (FakeReply){.sql_has = "COPY",
                          .kind = FAKE_COPY_IN,
                          .sqlstate = "22P02",
                          .message = "invalid input",
                          .speaks_after = SIZE_MAX});
    assert_fails(REASON_BAD_DATA, "copying table public.t (destination): invalid input");
}

static void test_counts_differ(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL));
    fake_play(load.dest, FAKE_BEGIN, (FakeReply){.sql_has = "COPY", .kind = FAKE_COPY_IN, .tuples = "1"});
    assert_fails(REASON_ROW_COUNT, "public.t");
}

/* The line was set meanwhile: the range would be in twice. */
static void test_line_is_set_already(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL));
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("0"));
    assert_fails(REASON_ROW_COUNT, "0 rows instead of 1");
}

static void test_emptying_fails(void **state) {
    (void)state;
    PlanTable *table = one_table();
    table->is_fresh = true;
    table->bytes = 2 << 20;
    fake_play(load.source, SOURCE_OPEN);
    fake_play(load.dest, FAKE_BEGIN, FAKE_FAIL("TRUNCATE", "0A000", "cannot truncate"));
    assert_fails(REASON_UNSUPPORTED, "emptying table public.t on the destination");
}

/* --- Again --- */

static void test_lock_is_busy(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_FAIL("LOCK TABLE", "55P03", "canceling statement due to lock timeout"), SOURCE_OPEN,
              COPY_OUT(NULL), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_ROW("SELECT rows IS NOT NULL FROM pgcrane.chunk WHERE relation = 16384 AND no = 0", "f"),
              FAKE_BEGIN, COPY_IN(NULL), MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
    assert_int_equal(tracker_retries(load.tracker), 1);
    assert_int_equal(result.chunks_copied, 1);
}

/* COMMIT's reply was lost, and the ledger knows: the range is in, and not copied again. */
static void test_reply_of_commit_lost(void **state) {
    Progress progress = {0};

    (void)state;
    one_table();
    FakeConn *second = fake_conn_new();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("1"), (FakeReply){.sql_has = "COMMIT", .loses = true});
    fake_play(second, FAKE_LOGIN, FAKE_ROW("SELECT rows IS NOT NULL", "t"), DEST_RELEASE);
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
    fake_played(second);
    assert_int_equal(result.chunks_copied, 1);
    tracker_read(load.tracker, load.arena, &progress);
    assert_int_equal(progress.bytes_done, 1000);
}

/* ... or it does not: copied again. */
static void test_commit_lost(void **state) {
    (void)state;
    one_table();
    FakeConn *second = fake_conn_new();
    fake_play(load.source, SOURCE_OPEN, COPY_OUT(NULL), SOURCE_OPEN, COPY_OUT(NULL), SOURCE_RELEASE);
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), MARK("1"), (FakeReply){.sql_has = "COMMIT", .loses = true});
    fake_play(second, FAKE_LOGIN, FAKE_ROW("SELECT rows IS NOT NULL", "f"), FAKE_BEGIN, COPY_IN(NULL), MARK("1"),
              FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(second);
    assert_int_equal(result.chunks_copied, 1);
}

static void test_source_lost_in_mid_copy(void **state) {
    (void)state;
    one_table();
    FakeConn *second = fake_conn_new();
    fake_play(load.source, SOURCE_OPEN, (FakeReply){.sql_has = "COPY", .kind = FAKE_COPY_OUT, .loses = true});
    fake_play(second, FAKE_LOGIN_RENAMED, SOURCE_OPEN, COPY_OUT(NULL), SOURCE_RELEASE);
    load.dest->in_transaction = true;
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL), FAKE_OK("ROLLBACK"), FAKE_ROW("SELECT rows IS NOT NULL", "f"),
              FAKE_BEGIN, COPY_IN(NULL), MARK("1"), FAKE_OK("COMMIT"), DEST_RELEASE);
    assert_true(run());
    fake_played(second);
    fake_played(load.dest);
    assert_true(load.dest->copy_end_was_error || load.dest->copy_ends == 2);
}

static void test_asking_the_ledger_fails(void **state) {
    (void)state;
    one_table();
    fake_play(load.source, FAKE_FAIL("LOCK TABLE", "55P03", "lock timeout"));
    fake_play(load.dest, FAKE_FAIL("SELECT rows IS NOT NULL", "42P01", "no ledger"));
    assert_fails(REASON_SQL_FAILED, "asking the ledger about public.t: no ledger");
}

static void test_user_stop_in_mid_copy(void **state) {
    (void)state;
    one_table();
    load.source->stop_when_waiting = &load.stop;
    fake_play(load.source, SOURCE_OPEN, (FakeReply){.sql_has = "COPY", .kind = FAKE_COPY_OUT, .hangs = true});
    fake_play(load.dest, FAKE_BEGIN, COPY_IN(NULL));
    assert_false(run());
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_int_equal(load.source->cancels, 1);
    assert_int_equal(result.chunks_copied, 0);
}

/* --- The end of copying --- */

static void test_copied_before(void **state) {
    (void)state;
    small_toc_table(&load.small, "t", 1000, 1, 0);
    load.params.copied = true;
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
}

static void test_step_is_there_already(void **state) {
    (void)state;
    small_toc_table(&load.small, "t", 1000, 1, 0);
    fake_play(load.dest, FAKE_ROW("FROM pgcrane.step", "1"));
    fake_play(load.source, SOURCE_RELEASE);
    assert_true(run());
    fake_played(load.source);
    fake_played(load.dest);
}

/* A destination that crashed forgot what lanes had committed without waiting for the disk. */
static void test_ledger_lacks_a_range(void **state) {
    (void)state;
    small_toc_table(&load.small, "t", 1000, 1, 0);
    load.dest->in_transaction = true;
    fake_play(load.dest, FAKE_OK("FROM pgcrane.step"), FAKE_BEGIN, FAKE_ROW("rows IS NULL", "f", "t"),
              FAKE_OK("ROLLBACK"));
    assert_fails(REASON_CONNECTION_LOST, "");
    assert_true(err.retryable);
}

static void test_large_objects_are_not_in_the_ledger(void **state) {
    (void)state;
    small_toc_table(&load.small, "t", 1000, 1, 0);
    load.params.large_objects = true;
    fake_play(load.dest, FAKE_ROW("FROM pgcrane.step", "1"), FAKE_OK("FROM pgcrane.step"), FAKE_BEGIN, ALL_IN_LEDGER);
    assert_fails(REASON_CONNECTION_LOST, "");
}

static void test_release_fails(void **state) {
    (void)state;
    small_toc_table(&load.small, "t", 1000, 1, 0);
    fake_play(load.dest, DEST_RELEASE);
    fake_play(load.source, FAKE_FAIL("pg_terminate_backend", "42501", "not yours"));
    assert_fails(REASON_NOT_PERMITTED, "ending the snapshot's keeper");
}

/* --- Builds --- */

static size_t table_with_index(void) {
    size_t table = small_toc_table(&load.small, "t", 1000, 1, 0);

    load.params.copied = true; /* no release in the scripts */
    return small_toc_index(&load.small, "i", table);
}

#define BUILD_BEGIN FAKE_BEGIN
#define NO_WORKERS FAKE_OK("SET LOCAL max_parallel_maintenance_workers = 0")
#define BUILD_HEAD BUILD_BEGIN, FAKE_OK("CREATE INDEX i")

static void test_build(void **state) {
    Progress progress = {0};

    (void)state;
    size_t index = table_with_index();
    fake_play(load.dest, BUILD_HEAD, FAKE_OK("INSERT INTO pgcrane.entry"), FAKE_OK("COMMIT"));
    assert_true(run());
    fake_played(load.dest);
    assert_true(load.small.done[index]);
    tracker_read(load.tracker, load.arena, &progress);
    assert_int_equal(progress.indexes_done, 1);
    assert_int_equal(progress.phases[PHASE_INDEX].done, 1);
}

/* With another build waiting, parallel workers of the first would only take its processor; the last one may have them.
 */
static void test_last_build_has_workers(void **state) {
    (void)state;
    size_t table = small_toc_table(&load.small, "t", 1000, 1, 0);
    size_t first = small_toc_index(&load.small, "i", table);
    size_t second = small_toc_index(&load.small, "j", table);
    load.params.copied = true;
    fake_play(load.dest, BUILD_BEGIN, NO_WORKERS, FAKE_OK("CREATE INDEX"), FAKE_OK("INSERT INTO pgcrane.entry"),
              FAKE_OK("COMMIT"), BUILD_BEGIN, FAKE_OK("CREATE INDEX"), FAKE_OK("INSERT INTO pgcrane.entry"),
              FAKE_OK("COMMIT"));
    assert_true(run());
    fake_played(load.dest);
    assert_true(load.small.done[first] && load.small.done[second]);
}

static void test_build_fails(void **state) {
    (void)state;
    size_t index = table_with_index();
    fake_play(load.dest, BUILD_BEGIN, FAKE_FAIL("CREATE INDEX", "23505", "could not create unique index"));
    assert_fails(REASON_BAD_DATA, "building INDEX i: could not create unique index");
    assert_false(load.small.done[index]);
}

static void test_build_is_fenced(void **state) {
    (void)state;
    table_with_index();
    fake_play(load.dest, FAKE_OK("FOR SHARE"));
    assert_fails(REASON_FENCED, "taken this migration over");
}

static void test_reply_of_a_build_lost(void **state) {
    (void)state;
    size_t index = table_with_index();
    FakeConn *second = fake_conn_new();
    fake_play(load.dest, BUILD_HEAD, FAKE_OK("INSERT INTO pgcrane.entry"),
              (FakeReply){.sql_has = "COMMIT", .loses = true});
    fake_play(second, FAKE_LOGIN, FAKE_ROW("FROM pgcrane.entry WHERE dump_id = 2", "t", "f"));
    assert_true(run());
    fake_played(second);
    assert_true(load.small.done[index]);
}

static void test_build_is_tried_again(void **state) {
    (void)state;
    table_with_index();
    fake_play(load.dest, BUILD_BEGIN, FAKE_FAIL("CREATE INDEX", "40P01", "deadlock detected"),
              FAKE_ROW("FROM pgcrane.entry", "f", NULL), BUILD_HEAD, FAKE_OK("INSERT INTO pgcrane.entry"),
              FAKE_OK("COMMIT"));
    assert_true(run());
    fake_played(load.dest);
    assert_int_equal(tracker_retries(load.tracker), 1);
}

static void test_asking_about_a_build_fails(void **state) {
    (void)state;
    table_with_index();
    fake_play(load.dest, BUILD_BEGIN, FAKE_FAIL("CREATE INDEX", "40P01", "deadlock detected"),
              FAKE_FAIL("FROM pgcrane.entry", "42P01", "no ledger"));
    assert_fails(REASON_SQL_FAILED, "asking the ledger about i: no ledger");
}

/* The first step of the key was committed by an earlier run. */
static void test_second_step_alone(void **state) {
    (void)state;
    size_t table = small_toc_table(&load.small, "t", 1000, 1, 0);
    size_t key = small_toc_key(&load.small, "t_pkey", table);
    size_t index = small_toc_index(&load.small, "i", table);
    load.params.copied = true;
    load.small.done[index] = true;
    fake_play(load.dest, FAKE_ROW("to_regclass('\"public\".t_pkey')", "f", "t"), FAKE_BEGIN, NO_WORKERS,
              FAKE_OK("PRIMARY KEY USING INDEX t_pkey"), FAKE_OK("INSERT INTO pgcrane.entry"), FAKE_OK("COMMIT"));
    assert_true(run());
    fake_played(load.dest);
    assert_true(load.small.done[key]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_range_counts_its_table_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ranges_before_14, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_range_before_14, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_binary, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_of_an_extension, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_freeze, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_freeze_not_with_data_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rewritten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_picture, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_restarted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_snapshot_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_others_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_columns_were_renamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_may_not_be_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_counts_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_line_is_set_already, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_emptying_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_is_busy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reply_of_commit_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commit_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_lost_in_mid_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_asking_the_ledger_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_user_stop_in_mid_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copied_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_step_is_there_already, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ledger_lacks_a_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_objects_are_not_in_the_ledger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_build, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_build_has_workers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_build_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_build_is_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reply_of_a_build_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_build_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_asking_about_a_build_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_second_step_alone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
