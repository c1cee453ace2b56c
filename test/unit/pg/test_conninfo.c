/* Unit test of connection strings: what is shown, what is refused, and that no password gets out. No server. */
#include "pg/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const environment[] = {"PGHOST",    "PGPORT",    "PGUSER",        "PGDATABASE", "PGPASSWORD",
                                          "PGSERVICE", "PGSSLMODE", "PGSERVICEFILE", "PGHOSTADDR"};

static int set_up(void **state) {
    for (size_t i = 0; i < COUNT_OF(environment); i++)
        unsetenv(environment[i]);
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

static void assert_display(Arena *arena, const char *conninfo, const char *expected) {
    const char *display = NULL;
    Error err;

    if (!db_display(arena, conninfo, &display, &err))
        fail_msg("%s: %s", conninfo, err.message);
    assert_string_equal(display, expected);
}

static void test_display(void **state) {
    assert_display(*state, "postgresql://u:geheim@h:5433/d", "u@h:5433/d");
    assert_display(*state, "postgres://u@h/d?sslmode=require", "u@h:5432/d");
    assert_display(*state, "host=h port=1 user=u password='ge heim' dbname=d", "u@h:1/d");
    assert_display(*state, "host=/run/x user=u dbname=d", "u@/d (socket)");
    assert_display(*state, "user=u", "u@/u (socket)");
    assert_display(*state, "hostaddr=10.0.0.1 user=u dbname=d", "u@10.0.0.1:5432/d");
    assert_display(*state, "host=db hostaddr=127.0.0.1 port=40001 user=u dbname=d", "u@db/d (at 127.0.0.1:40001)");
    assert_display(*state, "postgresql://u:p%40ss%2F@h/d", "u@h:5432/d");
    assert_display(*state, "postgresql://u@h/d?user=me@tenant", "me@tenant@h:5432/d");
}

static void test_several_hosts(void **state) {
    assert_display(*state, "postgresql://u@a,b:7/d", "u@a:5432,b:7/d");
    assert_display(*state, "host=a,b port=9 user=u dbname=d", "u@a:9,b:9/d");
}

static void test_environment_counts(void **state) {
    setenv("PGHOST", "envhost", 1);
    setenv("PGPASSWORD", "geheim", 1);
    setenv("PGUSER", "envuser", 1);
    assert_display(*state, "dbname=d", "envuser@envhost:5432/d");
}

/* Strings whose password (all or part of it) must not be in any message. */
static const char *const bad_strings[] = {
    "password=my geheim rest",
    "password=a\"geheim b\" c",
    "user=u password='geheim",
    "postgresql://u:pa@geheim@h/d",
    "postgresql://u:pa/geheim@h/d",
    "postgresql://u:12/geheim@h/d",
    "postgresql://u:geheim/x@h/d",
    "postgresql://u:%zzgeheim@h/d",
    "postgresql://u:geheim@[::1/d",
    "postgresql://h/d?geheim",
    "postgresql://h/d?geheim=1",
    "geheim=1",
    "geheim",
    "host=h port=geheim",
    "host=h sslmode=geheim",
    "service=geheim",
    "postgresql://u@h/d?x=geheim=2",
};

static void test_bad_strings_are_not_echoed(void **state) {
    for (size_t i = 0; i < COUNT_OF(bad_strings); i++) {
        const char *display = NULL;
        Error err;
        if (db_display(*state, bad_strings[i], &display, &err))
            fail_msg("accepted: %s", bad_strings[i]);
        assert_int_equal(err.reason, REASON_BAD_CONNINFO);
        if (strstr(err.message, "geheim") != NULL || strstr(err.remedy, "geheim") != NULL)
            fail_msg("%s gives: %s", bad_strings[i], err.message);
    }
}

static void test_open_refuses_bad_string(void **state) {
    const DbTarget target = {.side = DB_DEST, .conninfo = "password=my geheim", .job_id = "j"};
    DbConn *conn = NULL;
    Error err;

    (void)state;
    assert_false(db_open(&target, "test", NULL, &conn, &err));
    assert_int_equal(err.reason, REASON_BAD_CONNINFO);
    assert_null(strstr(err.message, "geheim"));
    assert_non_null(strstr(err.message, "destination"));
    assert_null(conn);
}

static void test_service_file(void **state) {
    Buf buf CLEANUP(buf_fini);
    Error err;

    (void)state;
    buf_init(&buf, 100000);
    setenv("PGUSER", "envuser", 1);
    assert_true(
        db_service_file("host=h port=7 password='p w#=' dbname=d application_name=mine sslmode=require", &buf, &err));
    assert_int_equal(strncmp(buf.data, "[pgcrane]\n", 10), 0);
    assert_non_null(strstr(buf.data, "\nhost=h\n"));
    assert_non_null(strstr(buf.data, "\nport=7\n"));
    assert_non_null(strstr(buf.data, "\nuser=envuser\n"));
    assert_non_null(strstr(buf.data, "\npassword=p w#=\n"));
    assert_non_null(strstr(buf.data, "\ndbname=d\n"));
    assert_non_null(strstr(buf.data, "\nsslmode=require\n"));
    assert_null(strstr(buf.data, "application_name"));
    assert_null(strstr(buf.data, "probe"));
}

static void test_service_file_cannot_say_all(void **state) {
    static const char *const strings[] = {"password='geheim '", "password='ge\nheim'", "password='geheim\t'"};
    Error err;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(strings); i++) {
        Buf buf CLEANUP(buf_fini);
        buf_init(&buf, 100000);
        assert_false(db_service_file(strings[i], &buf, &err));
        assert_int_equal(err.reason, REASON_BAD_CONNINFO);
        assert_non_null(strstr(err.message, "password"));
        assert_null(strstr(err.message, "heim"));
        assert_int_equal(buf.len, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_display, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_several_hosts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_environment_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_strings_are_not_echoed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_refuses_bad_string, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service_file_cannot_say_all, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
