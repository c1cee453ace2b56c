/* Unit test of the COPY pump, against two scripted libpq connections. */
#include "pg/copy.h"
#include "pg/query.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MEGABYTE = 1 << 20, ROWS = 3000, ROW_SIZE = 1000 };

static Stop stop;
static Error err;
static DbConn *source, *dest;
static FakeConn *fake_source, *fake_dest;
static _Atomic int64_t bytes;
static char row_text[ROW_SIZE + 1];
static const char *rows[ROWS];

static const DbTarget source_target = {.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j"};
static const DbTarget dest_target = {.side = DB_DEST, .conninfo = "host=h user=u dbname=d", .job_id = "j"};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    fake_source = fake_conn_new();
    fake_dest = fake_conn_new();
    atomic_store(&bytes, 0);
    memset(row_text, 'r', ROW_SIZE);
    row_text[ROW_SIZE - 1] = '\n';
    for (size_t i = 0; i < ROWS; i++)
        rows[i] = row_text;
    return stop_init(&stop, &err) && db_open(&source_target, "s", &stop, &source, &err) &&
                   db_open(&dest_target, "d", &stop, &dest, &err)
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    db_closep(&source);
    db_closep(&dest);
    fake_pq_reset();
    stop_fini(&stop);
    return 0;
}

static bool pump(DbCopyResult *ret_result, DbSide *ret_side) {
    const DbCopy copy = {.source = source,
                         .dest = dest,
                         .source_sql = "COPY t TO STDOUT",
                         .dest_sql = "COPY t FROM STDIN",
                         .bytes = &bytes};

    return db_copy_pump(&copy, ret_result, ret_side, &err);
}

static void assert_fails(DbSide expected_side, ErrorReason expected_reason) {
    DbCopyResult result = {.rows = -1};
    DbSide side = expected_side == DB_SOURCE ? DB_DEST : DB_SOURCE;

    if (pump(&result, &side))
        fail_msg("the pump succeeded");
    if (err.reason != expected_reason)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
    assert_int_equal(side, expected_side);
    assert_int_equal(result.rows, -1);
}

static void assert_usable(DbConn *conn) {
    Error ignored;

    assert_false(db_is_broken(conn));
    assert_true(db_exec(conn, "SELECT 1", &ignored));
}

static FakeReply out(int n_rows, const char *tuples) {
    return (FakeReply){
        .kind = FAKE_COPY_OUT, .sql_has = "TO STDOUT", .values = rows, .n_rows = n_rows, .tuples = tuples};
}

static FakeReply in(const char *tuples) {
    return (FakeReply){.kind = FAKE_COPY_IN, .sql_has = "FROM STDIN", .tuples = tuples};
}

static void expect(FakeReply source_reply, FakeReply dest_reply) {
    fake_conn_expect(fake_source, source_reply);
    fake_conn_expect(fake_dest, dest_reply);
}

static unsigned long expected_checksum(int n_rows) {
    unsigned long sum = 0;

    for (int i = 0; i < n_rows; i++)
        sum = fake_checksum(sum, rows[i], strlen(rows[i]));
    return sum;
}

static void test_all_bytes_arrive_in_order(void **state) {
    DbCopyResult result = {0};
    DbSide side = DB_SOURCE;
    static char texts[ROWS][16];

    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        snprintf(texts[i], sizeof(texts[i]), "row %zu\n", i);
        if (i % 3 == 0)
            rows[i] = texts[i];
    }
    expect(out(ROWS, "3000"), in("3000"));
    fake_dest->flush_unsent = 7;
    fake_dest->put_no_room = 1;
    assert_true(pump(&result, &side));
    assert_int_equal(fake_dest->checksum, expected_checksum(ROWS));
    assert_int_equal(result.rows, ROWS);
    assert_int_equal(result.largest_row, ROW_SIZE);
    assert_int_equal(result.bytes, fake_dest->copied);
    assert_int_equal(atomic_load(&bytes), result.bytes);
    assert_int_equal(fake_dest->copy_ends, 1);
    assert_false(fake_dest->copy_end_was_error);
    assert_true(fake_dest->largest_put <= MEGABYTE);
    assert_true(fake_dest->largest_put > ROW_SIZE); /* rows were gathered */
    assert_usable(source);
    assert_usable(dest);
}

static void test_empty_table(void **state) {
    DbCopyResult result = {.rows = -1};
    DbSide side = DB_SOURCE;

    (void)state;
    expect(out(0, "0"), in("0"));
    assert_true(pump(&result, &side));
    assert_int_equal(result.rows, 0);
    assert_int_equal(fake_dest->copied, 0);
}

static void test_big_row_goes_in_pieces(void **state) {
    DbCopyResult result = {0};
    DbSide side = DB_SOURCE;
    FakeReply reply = out(1, "2");
    size_t big = 3 * MEGABYTE + 17;

    (void)state;
    reply.big_row = big;
    expect(reply, in("2"));
    fake_dest->flush_unsent = 3;
    assert_true(pump(&result, &side));
    assert_int_equal(result.largest_row, big);
    assert_int_equal(fake_dest->copied, ROW_SIZE + big);
    assert_int_equal(fake_dest->largest_put, MEGABYTE);
}

static void test_unequal_counts(void **state) {
    (void)state;
    expect(out(10, "10"), in("9"));
    assert_fails(DB_DEST, REASON_ROW_COUNT);
    assert_non_null(strstr(err.message, "sent 10 rows"));
    assert_usable(source);
    assert_usable(dest);
}

static void test_source_refuses(void **state) {
    FakeReply reply = out(0, NULL);

    (void)state;
    reply.sqlstate = "42501";
    fake_conn_expect(fake_source, reply);
    assert_fails(DB_SOURCE, REASON_NOT_PERMITTED);
    assert_null(strstr(fake_dest->sql, "COPY"));
    assert_usable(source);
    assert_usable(dest);
}

static void test_dest_refuses(void **state) {
    FakeReply reply = in(NULL);

    (void)state;
    reply.sqlstate = "42P01";
    expect(out(ROWS, "3000"), reply);
    assert_fails(DB_DEST, REASON_SQL_FAILED);
    assert_usable(source);
    assert_usable(dest);
}

static void test_source_fails_in_mid_copy(void **state) {
    FakeReply reply = out(2000, NULL);

    (void)state;
    reply.sqlstate = "XX001";
    reply.message = "invalid page";
    expect(reply, in("0"));
    assert_fails(DB_SOURCE, REASON_BAD_DATA);
    assert_string_equal(err.message, "invalid page");
    assert_int_equal(fake_dest->copy_ends, 1);
    assert_true(fake_dest->copy_end_was_error); /* or half a table would be there for good */
    assert_usable(source);
    assert_usable(dest);
}

static void test_dest_fails_in_mid_copy(void **state) {
    FakeReply reply = in(NULL);

    (void)state;
    reply.sqlstate = "53100";
    reply.message = "no space left";
    reply.speaks_after = 100 << 10;
    expect(out(ROWS, "3000"), reply);
    assert_fails(DB_DEST, REASON_DISK_FULL);
    assert_string_equal(err.message, "no space left");
    assert_true(fake_dest->copied < 2 * MEGABYTE); /* noticed while there was more to send */
    assert_true(fake_dest->copy_end_was_error);
    assert_int_equal(fake_source->cancels, 1);
    assert_usable(source);
    assert_usable(dest);
}

static void test_dest_fails_at_end(void **state) {
    FakeReply reply = in(NULL);

    (void)state;
    reply.sqlstate = "23505";
    reply.speaks_after = SIZE_MAX;
    expect(out(10, "10"), reply);
    assert_fails(DB_DEST, REASON_BAD_DATA);
    assert_usable(source);
    assert_usable(dest);
}

static void test_notice_is_no_failure(void **state) {
    DbCopyResult result = {0};
    DbSide side = DB_SOURCE;

    (void)state;
    expect(out(ROWS, "3000"), in("3000"));
    fake_dest->notices = 1;
    fake_dest->flush_unsent = 2;
    assert_true(pump(&result, &side));
    assert_int_equal(fake_dest->notices, 0);
}

static void test_source_lost(void **state) {
    FakeReply reply = out(100, NULL);

    (void)state;
    reply.loses = true;
    expect(reply, in("0"));
    assert_fails(DB_SOURCE, REASON_CONNECTION_LOST);
    assert_true(db_is_broken(source));
    assert_true(fake_dest->copy_end_was_error);
    assert_usable(dest);
}

static void test_source_garbage(void **state) {
    FakeReply reply = out(100, NULL);

    (void)state;
    reply.garbage = true;
    expect(reply, in("0"));
    assert_fails(DB_SOURCE, REASON_CONNECTION_LOST);
    assert_true(db_is_broken(source));
    assert_usable(dest);
}

static void test_dest_killed(void **state) {
    FakeReply reply = in(NULL);

    (void)state;
    reply.sqlstate = "57P01";
    reply.severity = "FATAL";
    reply.speaks_after = 100 << 10;
    expect(out(ROWS, "3000"), reply);
    assert_fails(DB_DEST, REASON_CONNECTION_LOST);
    assert_string_equal(err.sqlstate, "57P01");
    assert_true(db_is_broken(dest));
    assert_usable(source);
}

static void test_dest_lost_on_put(void **state) {
    (void)state;
    expect(out(ROWS, "3000"), in("0"));
    fake_dest->put_fails = true;
    assert_fails(DB_DEST, REASON_CONNECTION_LOST);
    assert_true(db_is_broken(dest));
    assert_usable(source);
}

static void test_stop_while_source_is_silent(void **state) {
    FakeReply reply = out(5, NULL);

    (void)state;
    reply.hangs = true;
    expect(reply, in("0"));
    fake_source->stop_when_waiting = &stop;
    assert_fails(DB_SOURCE, REASON_CANCELLED);
    assert_int_equal(fake_source->cancels, 1);
    assert_true(fake_dest->copy_end_was_error);
    assert_false(db_is_broken(source));
    assert_false(db_is_broken(dest));
}

/* The destination's socket is full when its COPY begins. */
static void test_stop_while_dest_is_full(void **state) {
    (void)state;
    expect(out(ROWS, "3000"), in("0"));
    fake_dest->never_writable = true;
    fake_dest->stop_when_waiting = &stop;
    assert_fails(DB_DEST, REASON_CANCELLED);
    assert_int_equal(fake_source->cancels, 1);
    assert_false(db_is_broken(source));
    assert_false(db_is_broken(dest));
}

static void test_stop_at_end_of_copy(void **state) {
    FakeReply reply = in(NULL);

    (void)state;
    reply.hangs = true;
    expect(out(5, "5"), reply);
    fake_dest->stop_when_waiting = &stop;
    assert_fails(DB_DEST, REASON_CANCELLED);
    assert_int_equal(fake_dest->cancels, 1);
    assert_false(db_is_broken(dest));
}

static void test_stop_before_the_first_batch(void **state) {
    (void)state;
    expect(out(ROWS, "3000"), in("0"));
    stop_request(&stop);
    assert_fails(DB_SOURCE, REASON_CANCELLED);
    assert_int_equal(fake_dest->copied, 0);
    assert_false(db_is_broken(source));
    assert_false(db_is_broken(dest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_bytes_arrive_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_big_row_goes_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unequal_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_fails_in_mid_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_fails_in_mid_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_fails_at_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_notice_is_no_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_source_garbage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dest_lost_on_put, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_source_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_dest_is_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_at_end_of_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_before_the_first_batch, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
