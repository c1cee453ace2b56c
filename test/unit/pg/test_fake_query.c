/* Unit test of statements, against a scripted libpq: failures, lost sessions, stop in each wait. */
#include "pg/query.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static Stop stop;
static Error err;
static DbConn *conn;
static FakeConn *fake;

static const DbTarget target = {.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    fake = fake_conn_new();
    return stop_init(&stop, &err) && db_open(&target, "test", &stop, &conn, &err) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    db_closep(&conn);
    fake_pq_reset();
    stop_fini(&stop);
    return 0;
}

static void assert_usable(void) {
    Error ignored;

    assert_false(db_is_broken(conn));
    assert_true(db_exec(conn, "SELECT 'still there'", &ignored));
}

static void test_rows(void **state) {
    static const char *const values[] = {"42", "t", "1.5", NULL, "f", "x"};
    DbResult *result CLEANUP(db_result_freep) = NULL;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.sql_has = "$1", .values = values, .n_rows = 2, .n_columns = 3});
    assert_true(db_query(conn, "SELECT $1", 1, values, &result, &err));
    assert_int_equal(db_rows(result), 2);
    assert_int_equal(db_int64(result, 0, 0), 42);
    assert_true(db_bool(result, 0, 1));
    assert_true(db_double(result, 0, 2) > 1.4 && db_double(result, 0, 2) < 1.6);
    assert_int_equal(db_length(result, 0, 0), 2);
    assert_true(db_is_null(result, 1, 0));
    assert_string_equal(db_text(result, 1, 0), "");
    assert_int_equal(db_int64(result, 1, 0), 0);
    assert_false(db_bool(result, 1, 1));
}

static void test_sql_error(void **state) {
    DbResult *result = NULL;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.sqlstate = "23505",
                                       .message = "duplicate key",
                                       .detail = "Key (a)=(1) exists.",
                                       .context = "COPY t, line 3\nmore"});
    assert_false(db_query(conn, "INSERT", 0, NULL, &result, &err));
    assert_null(result);
    assert_int_equal(err.reason, REASON_BAD_DATA);
    assert_false(err.retryable);
    assert_string_equal(err.sqlstate, "23505");
    assert_string_equal(err.message, "duplicate key (Key (a)=(1) exists.; COPY t, line 3)");
    assert_usable();
}

static void test_retryable_error(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.sqlstate = "40P01", .message = "deadlock detected"});
    assert_false(db_exec(conn, "UPDATE", &err));
    assert_int_equal(err.reason, REASON_CONFLICT);
    assert_true(err.retryable);
    assert_string_equal(err.message, "deadlock detected");
    assert_usable();
}

static void test_remedies(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.sqlstate = "53300", .message = "too many"});
    fake_conn_expect(fake, (FakeReply){.sqlstate = "53200", .message = "out of memory"});
    assert_false(db_exec(conn, "SELECT 1", &err));
    assert_non_null(strstr(err.remedy, "max_connections"));
    assert_false(db_exec(conn, "SELECT 1", &err));
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_null(strstr(err.remedy, "max_connections"));
}

static void test_long_detail_is_cut_between_characters(void **state) {
    char detail[1001];

    (void)state;
    for (size_t i = 0; i < 1000; i += 2)
        memcpy(detail + i, "ü", 2);
    memmove(detail + 1, detail, 999); /* now the cut would fall into a character */
    detail[0] = 'x';
    detail[999] = '\0';
    fake_conn_expect(fake, (FakeReply){.sqlstate = "23514", .message = "m", .detail = detail});
    assert_false(db_exec(conn, "INSERT", &err));
    assert_int_equal(strlen(err.message), strlen("m (") + 299 + strlen(")"));
    assert_int_equal((unsigned char)err.message[strlen("m (") + 298], 0xBC);
}

static void test_session_ended_by_server(void **state) {
    static const char *const codes[] = {"57P01", "57P02", "25P03", "XX000"};

    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        if (i > 0)
            (void)(tear_down(state) + set_up(state));
        fake_conn_expect(fake, (FakeReply){.sqlstate = codes[i], .severity = "FATAL", .message = "terminating"});
        assert_false(db_exec(conn, "SELECT 1", &err));
        assert_string_equal(err.sqlstate, codes[i]);
        assert_true(db_is_broken(conn));
        assert_false(db_exec(conn, "SELECT 2", &err));
        assert_int_equal(err.reason, REASON_CONNECTION_LOST);
        db_rollback(conn); /* does nothing */
        db_cancel(conn);
        assert_int_equal(fake->cancels, 0);
    }
}

static void test_connection_lost(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.loses = true});
    assert_false(db_exec(conn, "SELECT 1", &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "server closed the connection unexpectedly"));
    assert_null(strchr(err.message, '\n'));
    assert_true(db_is_broken(conn));
}

static void test_flush_in_parts(void **state) {
    (void)state;
    fake->flush_unsent = 5;
    assert_true(db_exec(conn, "SELECT 1", &err));
    assert_int_equal(fake->flush_unsent, 0);
}

static void test_flush_fails(void **state) {
    (void)state;
    fake->flush_fails = true;
    assert_false(db_exec(conn, "SELECT 1", &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_true(db_is_broken(conn));
}

static void test_stop_while_sending(void **state) {
    (void)state;
    fake->never_writable = true;
    fake->stop_when_waiting = &stop;
    assert_false(db_exec(conn, "SELECT 1", &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_int_equal(fake->cancels, 1);
    assert_false(db_is_broken(conn));
}

static void test_stop_while_waiting(void **state) {
    (void)state;
    fake->stop_when_waiting = &stop;
    fake_conn_expect(fake, (FakeReply){.hangs = true});
    assert_false(db_exec(conn, "SELECT pg_sleep(1000)", &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_int_equal(fake->cancels, 1);
    assert_false(db_is_broken(conn));
}

static void test_server_ignores_cancel(void **state) {
    (void)state;
    fake->stop_when_waiting = &stop;
    fake->ignores_cancel = true;
    fake_conn_expect(fake, (FakeReply){.hangs = true});
    assert_false(db_exec(conn, "SELECT pg_sleep(1000)", &err)); /* takes the 5 s of DRAIN_TIMEOUT_US */
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(db_is_broken(conn));
}

static void test_query_value(void **state) {
    static const char *const values[] = {"one", "two"};
    Arena *arena CLEANUP(arena_freep) = arena_new();
    char *value = NULL;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 1, .n_columns = 1});
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 2, .n_columns = 1});
    fake_conn_expect(fake, (FakeReply){.n_columns = 1});
    assert_true(db_query_value(conn, arena, "SELECT a", 0, NULL, &value, &err));
    assert_string_equal(value, "one");
    assert_false(db_query_value(conn, arena, "SELECT b", 0, NULL, &value, &err));
    assert_non_null(strstr(err.message, "2 came: SELECT b"));
    assert_false(db_query_value(conn, arena, "SELECT c", 0, NULL, &value, &err));
    assert_string_equal(value, "one");
}

static void test_exec_rows(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.tuples = "1"});
    fake_conn_expect(fake, (FakeReply){.tuples = "0"});
    assert_true(db_exec_rows(conn, "UPDATE a", 0, NULL, 1, &err));
    assert_false(db_exec_rows(conn, "UPDATE b", 0, NULL, 1, &err));
    assert_int_equal(err.reason, REASON_ROW_COUNT);
}

static bool sum_until_three(const DbResult *row, void *context, Error *row_err) {
    int64_t *sum = context;

    *sum += db_int64(row, 0, 0);
    return *sum < 3 || error_set(row_err, REASON_USAGE, "enough");
}

static void test_each(void **state) {
    static const char *const values[] = {"1", "1", "1", "1"};
    int64_t sum = 0;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 2, .n_columns = 1});
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 4, .n_columns = 1});
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 2, .n_columns = 1, .sqlstate = "22012"});
    assert_true(db_query_each(conn, "SELECT", 0, NULL, sum_until_three, &sum, &err));
    assert_int_equal(sum, 2);
    sum = 0;
    assert_false(db_query_each(conn, "SELECT", 0, NULL, sum_until_three, &sum, &err));
    assert_int_equal(err.reason, REASON_USAGE);
    assert_int_equal(sum, 3);
    sum = 0;
    assert_false(db_query_each(conn, "SELECT", 0, NULL, sum_until_three, &sum, &err));
    assert_int_equal(sum, 2);
    assert_string_equal(err.sqlstate, "22012");
    assert_usable();
}

static void test_copy_where_none_is_expected(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_OUT});
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_IN});
    assert_false(db_exec(conn, "COPY t TO STDOUT", &err));
    assert_int_equal(err.reason, REASON_INTERNAL);
    assert_false(db_exec(conn, "COPY t FROM STDIN", &err));
    assert_int_equal(err.reason, REASON_INTERNAL);
    assert_usable();
}

static void test_rollback(void **state) {
    (void)state;
    int before = fake->statements;
    db_rollback(conn); /* nothing is open */
    assert_int_equal(fake->statements, before);
    fake->in_transaction = true;
    fake_conn_expect(fake, (FakeReply){.sql_has = "ROLLBACK"});
    db_rollback(conn);
    assert_int_equal(fake->statements, before + 1);
    fake_conn_expect(fake, (FakeReply){.sql_has = "ROLLBACK", .sqlstate = "XX000"});
    db_rollback(conn);
    assert_true(db_is_broken(conn));
}

static void test_execf(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.sql_has = "SET x = 7"});
    assert_true(db_execf(conn, &err, "SET %s = %d", "x", 7));
}

static void test_copy_in(void **state) {
    static const char bytes[] = "1\t2\n";
    int64_t rows = 0;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_IN, .tuples = "2"});
    fake->put_no_room = 2;
    assert_true(db_copy_in_begin(conn, "COPY t FROM STDIN", &err));
    assert_true(db_copy_in_put(conn, bytes, 4, &err));
    assert_true(db_copy_in_put(conn, bytes, 4, &err));
    assert_true(db_copy_in_end(conn, &rows, &err));
    assert_int_equal(rows, 2);
    assert_int_equal(fake->copied, 8);
    assert_false(fake->copy_end_was_error);
    assert_usable();
}

static void test_copy_in_refused(void **state) {
    (void)state;
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_IN, .sqlstate = "42P01", .message = "no such table"});
    assert_false(db_copy_in_begin(conn, "COPY t FROM STDIN", &err));
    assert_string_equal(err.message, "no such table");
    assert_usable();
}

static void test_copy_in_fails_at_end(void **state) {
    int64_t rows = -1;

    (void)state;
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_IN, .sqlstate = "23503", .speaks_after = SIZE_MAX});
    assert_true(db_copy_in_begin(conn, "COPY t FROM STDIN", &err));
    assert_true(db_copy_in_put(conn, "x\n", 2, &err));
    assert_false(db_copy_in_end(conn, &rows, &err));
    assert_string_equal(err.sqlstate, "23503");
    assert_int_equal(rows, -1);
    assert_usable();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sql_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retryable_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remedies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_detail_is_cut_between_characters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_session_ended_by_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_connection_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush_in_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flush_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_sending, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_server_ignores_cancel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_query_value, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_exec_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_where_none_is_expected, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rollback, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_execf, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_in_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_in_fails_at_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
