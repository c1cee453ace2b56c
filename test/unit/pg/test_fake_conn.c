/* Unit test of connecting, against a scripted libpq: why a login failed, stop, time-outs, settings. */
#include "pg/conn.h"
#include "pg/query.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static Stop stop;
static Error err;

static const DbTarget source = {.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};
static const DbTarget dest = {.side = DB_DEST, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    return stop_init(&stop, &err) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    fake_pq_reset();
    stop_fini(&stop);
    return 0;
}

/* What libpq says when the server refuses, and what must come of it. */
static const struct {
    const char *message;
    ErrorReason reason;
    bool retryable;
    const char *sqlstate;
} refusals[] = {
    {"connection to server at \"h\", port 5432 failed: FATAL:  28P01: password authentication failed\n"
     "LOCATION:  auth_failed, auth.c:333\n",
     REASON_LOGIN_REFUSED, false, "28P01"},
    {"x failed: FATAL:  3D000: Datenbank »d« existiert nicht\n", REASON_NO_DATABASE, false, "3D000"},
    {"x failed: ВАЖНО:  57P03: система баз данных запускается\n", REASON_SERVER_BUSY, true, "57P03"},
    {"x failed: FATAL:  53300: sorry, too many clients already\n", REASON_SERVER_BUSY, true, "53300"},
    {"x failed: FATAL:  42501: permission denied for database \"d\"\n", REASON_NOT_PERMITTED, false, "42501"},
    {"x failed: FATAL:  55000: database is not currently accepting connections\n", REASON_LOGIN_REFUSED, false,
     "55000"},
    {"x failed: FATAL:  08P01: no such database: d\n", REASON_NO_DATABASE, false, "08P01"},
    {"x failed: FATAL:  08P01: no more connections allowed (max_client_conn)\n", REASON_SERVER_BUSY, true, "08P01"},
    {"x failed: Connection refused\n\tIs the server running?\n", REASON_UNREACHABLE, true, ""},
    {"x failed: server closed the connection unexpectedly\n", REASON_UNREACHABLE, true, ""},
    {"x failed: received invalid response to SSL negotiation: q\n", REASON_TLS_FAILED, false, ""},
    {"x failed: expected authentication request from server, but received H\n", REASON_UNREACHABLE, true, ""},
    {"x failed: SSL error: certificate verify failed\n", REASON_TLS_FAILED, false, ""},
    {"x failed: SSL SYSCALL error: EOF detected\n", REASON_UNREACHABLE, true, ""},
    {"x failed: root certificate file \"/r\" does not exist\n", REASON_TLS_FAILED, false, ""},
    {"x failed: FATAL: no pg_hba.conf entry for host \"h\", SSL off\n", REASON_LOGIN_REFUSED, false, ""},
    {"x failed: FATAL: database \"d\" does not exist\n", REASON_NO_DATABASE, false, ""},
    {"x failed: FATAL: the database system is shutting down\n", REASON_SERVER_BUSY, true, ""},
    {"x failed: fe_sendauth: no password supplied\n", REASON_LOGIN_REFUSED, false, ""},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        DbConn *conn = NULL;
        fake_pq_reset();
        FakeConn *fake = fake_conn_new();
        fake->login_error = refusals[i].message;
        assert_false(db_open(&source, "test", &stop, &conn, &err));
        if (err.reason != refusals[i].reason || err.retryable != refusals[i].retryable)
            fail_msg("%s gives %s, retryable %d", refusals[i].message, error_reason_name(err.reason), err.retryable);
        assert_string_equal(err.sqlstate, refusals[i].sqlstate);
        assert_true(fake->finished);
        assert_null(conn);
        assert_null(strchr(err.message, '\n'));
        assert_null(strstr(err.message, "LOCATION"));
        assert_non_null(strstr(err.message, "source u@h:5432/d"));
        if (err.sqlstate[0] != '\0')
            assert_null(strstr(err.message, err.sqlstate));
    }
}

/* A source that lacks the database is not helped by an empty one. */
static void test_no_database_on_either_side(void **state) {
    const DbTarget *const targets[] = {&source, &dest};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        DbConn *conn = NULL;

        fake_pq_reset();
        fake_conn_new()->login_error = "x failed: FATAL:  3D000: database \"d\" does not exist\n";
        assert_false(db_open(targets[i], "test", &stop, &conn, &err));
        assert_int_equal(err.reason, REASON_NO_DATABASE);
        assert_true((strstr(err.remedy, "createdb") != NULL) == (targets[i]->side == DB_DEST));
        assert_true((strstr(err.remedy, "pgcrane jobs update JOB") != NULL) == (targets[i]->side == DB_SOURCE));
    }
}

static void test_password_wanted_in_unknown_words(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake->login_error = "x failed: something new\n";
    fake->needs_password = true;
    assert_false(db_open(&source, "test", &stop, &conn, &err));
    assert_int_equal(err.reason, REASON_LOGIN_REFUSED);
}

static void test_parameters(void **state) {
    DbTarget target = source;
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    target.conninfo = "host=h user=u dbname=d application_name=mine keepalives_idle=7 client_encoding=LATIN1";
    assert_true(db_open(&target, "lane", &stop, &conn, &err));
    assert_non_null(strstr(fake->params, ";application_name=pgcrane j7 lane;"));
    assert_non_null(strstr(fake->params, ";client_encoding=UTF8;"));
    assert_non_null(strstr(fake->params, ";keepalives_idle=7;"));
    assert_non_null(strstr(fake->params, ";keepalives_interval=10;"));
    assert_non_null(strstr(fake->params, ";tcp_user_timeout=60000;"));
    assert_null(strstr(fake->params, "mine"));
    assert_null(strstr(fake->params, "probe"));
    db_close(conn);
    assert_true(fake->finished);
}

static void expect_settings(FakeConn *fake, const char *has) {
    fake_conn_expect(fake, (FakeReply){.sql_has = has});
}

static void test_settings(void **state) {
    DbTarget target = dest;
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    target.extra_setup = "SET lock_timeout = '3s'";
    expect_settings(fake, "set_config('check_function_bodies', 'off', false)");
    expect_settings(fake, "client_connection_check_interval");
    expect_settings(fake, "SET lock_timeout = '3s'");
    assert_true(db_open(&target, "test", &stop, &conn, &err));
    assert_int_equal(fake->statements, 3);
    assert_int_equal(db_conn_side(conn), DB_DEST);
    assert_int_equal(db_major(conn), 15);
    assert_string_equal(db_name(conn), "fakedb");
    assert_string_equal(db_user(conn), "fakeuser");
    assert_int_equal(db_backend_pid(conn), 4711);
    assert_ptr_equal(db_stop(conn), &stop);
    db_close(conn);
}

static void test_settings_of_old_server(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake->version = 130010;
    expect_settings(fake, "'row_security'");
    assert_true(db_open(&source, "test", &stop, &conn, &err));
    assert_int_equal(fake->statements, 1); /* no client_connection_check_interval before 14 */
    assert_null(strstr(fake->sql, "idle_session_timeout"));
    assert_null(strstr(fake->sql, "'transaction_timeout'"));
    assert_null(strstr(fake->sql, "check_function_bodies"));
    assert_null(strstr(fake->sql, "client_encoding"));
    db_close(conn);
}

static void test_sql_ascii(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake->server_encoding = "SQL_ASCII";
    expect_settings(fake, "set_config('client_encoding', 'SQL_ASCII', false)");
    assert_true(db_open(&source, "test", &stop, &conn, &err));
    db_close(conn);
}

static void test_optional_setting_may_fail(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake_conn_expect(fake, (FakeReply){0});
    fake_conn_expect(fake, (FakeReply){.sql_has = "client_connection_check_interval", .sqlstate = "22023"});
    assert_true(db_open(&source, "test", &stop, &conn, &err));
    db_close(conn);
}

static void test_settings_fail(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake_conn_expect(fake, (FakeReply){.sqlstate = "42501", .message = "no"});
    assert_false(db_open(&source, "test", &stop, &conn, &err));
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_null(conn);
    assert_true(fake->finished);
}

static void test_stop_while_connecting(void **state) {
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake->login_silent = true;
    fake->stop_when_waiting = &stop;
    assert_false(db_open(&source, "test", &stop, &conn, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(fake->finished);
}

static void test_silent_server_times_out(void **state) {
    DbTarget target = source;
    DbConn *conn = NULL;
    FakeConn *fake = fake_conn_new();

    (void)state;
    fake->login_silent = true;
    target.connect_timeout_us = 20000;
    assert_false(db_open(&target, "test", &stop, &conn, &err));
    assert_int_equal(err.reason, REASON_UNREACHABLE);
    assert_true(err.retryable);
    assert_true(fake->finished);
}

static void test_next_host_after_silent_one(void **state) {
    DbTarget target = source;
    DbConn *conn = NULL;
    FakeConn *first = fake_conn_new();
    FakeConn *second = fake_conn_new();

    (void)state;
    target.conninfo = "host=a,b,c port=1,2,3 user=u dbname=d";
    target.connect_timeout_us = 20000;
    first->login_silent = true;
    first->host = "b"; /* libpq went past "a" by itself */
    assert_true(db_open(&target, "test", &stop, &conn, &err));
    assert_non_null(strstr(first->params, "host=a,b,c;"));
    assert_non_null(strstr(second->params, "host=c;"));
    assert_non_null(strstr(second->params, "port=3;"));
    assert_true(first->finished);
    db_close(conn);
}

static void test_patient(void **state) {
    DbConn *conn = NULL;
    FakeConn *first = fake_conn_new();

    (void)state;
    (void)fake_conn_new();
    first->login_error = "x failed: FATAL:  57P03: the database system is starting up\n";
    assert_true(db_open_patient(&source, "test", &stop, INT64_C(60000000), &conn, &err));
    db_close(conn);
}

static void test_patience_ends(void **state) {
    DbConn *conn = NULL;
    FakeConn *first = fake_conn_new();

    (void)state;
    first->login_error = "x failed: FATAL:  57P03: the database system is starting up\n";
    assert_false(db_open_patient(&source, "test", &stop, 1000, &conn, &err));
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
}

static void test_no_patience_with_wrong_password(void **state) {
    DbConn *conn = NULL;
    FakeConn *first = fake_conn_new();
    FakeConn *second = fake_conn_new();

    (void)state;
    first->login_error = "x failed: FATAL:  28P01: password authentication failed\n";
    assert_false(db_open_patient(&source, "test", &stop, INT64_C(60000000), &conn, &err));
    assert_int_equal(err.reason, REASON_LOGIN_REFUSED);
    assert_string_equal(second->params, ""); /* not tried */
}

static void test_stop_ends_patience(void **state) {
    DbConn *conn = NULL;
    FakeConn *first = fake_conn_new();

    (void)state;
    first->login_silent = true;
    first->stop_when_waiting = &stop;
    assert_false(db_open_patient(&source, "test", &stop, INT64_C(60000000), &conn, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_database_on_either_side, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_password_wanted_in_unknown_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_of_old_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sql_ascii, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_optional_setting_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_connecting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_silent_server_times_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_next_host_after_silent_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patient, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_patience_with_wrong_password, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_ends_patience, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
