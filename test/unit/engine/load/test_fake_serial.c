/* Unit test of serial.c against a scripted server: groups, what may be refused, failures. */
#include "engine/load/serial.h"

#include "fake_load.h"

#include <stdio.h>

static FakeLoad load;
static NotMovedVec not_moved;
static Error err;

static int set_up(void **state) {
    (void)state;
    fake_load_begin(&load);
    not_moved = (NotMovedVec){0};
    err = (Error){0};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_load_end(&load);
    return 0;
}

static bool is_wanted(const LoadParams *params, size_t entry) {
    return strcmp(params->toc->entries[entry].desc, "TABLE") != 0;
}

static bool run(void) {
    return serial_run(fake_load_params(&load), load.control.conn, is_wanted, PHASE_FINISH, &not_moved, load.arena,
                      &err);
}

static size_t add(const char *desc, const char *tag, const char *sql) {
    return small_toc_add(&load.small, desc, tag, sql, NULL, 0);
}

static PhaseProgress phase(void) {
    Progress progress = {0};

    tracker_read(load.tracker, load.arena, &progress);
    return progress.phases[PHASE_FINISH];
}

#define MARKED FAKE_OK("INSERT INTO pgcrane.entry")

static void test_in_order(void **state) {
    (void)state;
    add("TABLE", "t", "CREATE TABLE t;\n");
    size_t view = add("VIEW", "v", "CREATE VIEW v;\n");
    size_t done = add("VIEW", "done", "CREATE VIEW done;\n");
    size_t left_out = add("VIEW", "left_out", "CREATE VIEW left_out;\n");
    size_t trigger = add("TRIGGER", "tr", "CREATE TRIGGER tr;\n");
    load.small.done[done] = true;
    load.small.chosen[left_out] = false;
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_OK("CREATE VIEW v"), MARKED, FAKE_OK("CREATE TRIGGER tr"), MARKED,
                   FAKE_OK("COMMIT"));
    assert_true(run());
    fake_side_played(&load.control);
    assert_true(load.small.done[view] && load.small.done[trigger]);
    assert_int_equal(phase().done, 3);
    assert_int_equal(phase().total, 3);
}

static void test_nothing_to_run(void **state) {
    (void)state;
    add("TABLE", "t", "CREATE TABLE t;\n");
    assert_true(run());
    fake_side_played(&load.control);
    add("VIEW", "empty", ""); /* nothing to send, but its line is written */
    fake_side_play(&load.control, FAKE_BEGIN, MARKED, FAKE_OK("COMMIT"));
    assert_true(run());
    fake_side_played(&load.control);
}

static bool call_run(DbConn *conn, Error *call_err) {
    memset(load.small.done, 0, 3);
    bool ok = serial_run(fake_load_params(&load), conn, is_wanted, PHASE_FINISH, &not_moved, load.arena, call_err);
    assert_int_equal(load.small.done[0], ok);
    return ok;
}

static void test_each_statement_fails(void **state) {
    const FakeReply script[] = {FAKE_BEGIN,         FAKE_OK("CREATE VIEW v"), MARKED, FAKE_OK("SAVEPOINT"),
                                FAKE_OK("COMMENT"), FAKE_OK("RELEASE"),       MARKED, FAKE_OK("COMMIT")};

    (void)state;
    add("VIEW", "v", "CREATE VIEW v;\n");
    add("COMMENT", "EXTENSION hstore", "COMMENT ON EXTENSION hstore IS 'x';\n");
    for (size_t at = 0; at < COUNT_OF(script); at++)
        fake_side_fails_at(script, COUNT_OF(script), at, false, 0, call_run);
    assert_int_equal(not_moved.len, 0);
}

static void test_error_names_the_entry(void **state) {
    (void)state;
    add("FUNCTION", "f(integer)", "CREATE FUNCTION f;\n");
    add("SCHEMA", "s", "CREATE SCHEMA s;\n");
    load.small.toc.entries[1].schema = "";
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_FAIL(NULL, "42601", "syntax error"), FAKE_BEGIN,
                   FAKE_FAIL(NULL, "42P06", "exists"));
    assert_false(run());
    assert_string_equal(err.message, "FUNCTION public.f(integer): syntax error");
    load.small.chosen[0] = false;
    assert_false(run());
    assert_string_equal(err.message, "SCHEMA s: exists");
}

static void test_may_be_refused(void **state) {
    static const char *const kinds[][2] = {
        {"COMMENT", "EXTENSION hstore"}, {"ACL", "SCHEMA public"},      {"PUBLICATION", "p"},
        {"SUBSCRIPTION", "s"},           {"EVENT TRIGGER", "e"},        {"COMMENT", "EVENT TRIGGER e"},
        {"PUBLICATION TABLE", "p t"},    {"COMMENT", "SUBSCRIPTION s"},
    };

    (void)state;
    fake_side_play(&load.control, FAKE_BEGIN);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        add(kinds[i][0], kinds[i][1], "DO IT;\n");
        fake_side_play(&load.control, FAKE_OK("SAVEPOINT entry"),
                       FAKE_FAIL("DO IT", i % 2 == 0 ? "42501" : "42704", "must be superuser"),
                       FAKE_OK("ROLLBACK TO entry; RELEASE entry"));
    }
    fake_side_play(&load.control, FAKE_OK("COMMIT"));
    assert_true(run());
    fake_side_played(&load.control);
    assert_int_equal(not_moved.len, COUNT_OF(kinds));
    assert_string_equal(not_moved.items[0].kind, "COMMENT");
    assert_string_equal(not_moved.items[0].object, "EXTENSION hstore");
    assert_string_equal(not_moved.items[0].reason, "must be superuser");
    assert_true(load.small.done[7]);
}

/* A query may fail for reasons of the source's own; a passing failure, or a lost session, is no refusal. */
static void test_refresh_may_fail(void **state) {
    (void)state;
    add("MATERIALIZED VIEW DATA", "m", "REFRESH MATERIALIZED VIEW m;\n");
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_OK("SAVEPOINT entry"), FAKE_FAIL("REFRESH", "42P01", "no table"),
                   FAKE_OK("ROLLBACK TO entry; RELEASE entry"), FAKE_OK("COMMIT"), FAKE_BEGIN,
                   FAKE_OK("SAVEPOINT entry"), FAKE_FAIL("REFRESH", "40P01", "deadlock"), FAKE_BEGIN,
                   FAKE_OK("SAVEPOINT entry"), (FakeReply){.sql_has = "REFRESH", .loses = true});
    assert_true(run());
    assert_int_equal(not_moved.len, 1);
    for (int i = 0; i < 2; i++) {
        load.small.done[0] = false;
        assert_false(run());
        assert_true(err.retryable);
    }
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_int_equal(not_moved.len, 1);
    fake_side_played(&load.control);
}

static void test_others_may_not(void **state) {
    (void)state;
    add("COMMENT", "TABLE t", "COMMENT ON TABLE t;\n");
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_FAIL("COMMENT", "42501", "must be owner"));
    assert_false(run());
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_int_equal(not_moved.len, 0);
    assert_false(load.small.done[0]);
}

/* The group again, with the right granted in front and taken back behind; not where nothing may be granted. */
static void test_right_to_create_is_lent(void **state) {
    (void)state;
    TocEntry *entry = &load.small.toc.entries[add("VIEW", "v", "CREATE VIEW v;\n")];
    entry->owner = "Bob";
    entry->drop_stmt = "DROP VIEW public.v;";
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_FAIL("OWNER TO", "42501", "permission denied for schema public"),
                   FAKE_BEGIN, FAKE_ROW("has_schema_privilege", "1"),
                   FAKE_OK("GRANT CREATE ON SCHEMA \"public\" TO \"Bob\""), FAKE_OK("OWNER TO \"Bob\""),
                   FAKE_OK("REVOKE CREATE ON SCHEMA \"public\" FROM \"Bob\""), MARKED, FAKE_OK("COMMIT"));
    assert_true(run());
    fake_side_played(&load.control);
    load.small.done[0] = false;
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_FAIL("OWNER TO", "42501", "permission denied for schema public"),
                   FAKE_BEGIN, FAKE_OK("has_schema_privilege"),
                   FAKE_FAIL("OWNER TO", "42501", "permission denied for schema public"));
    assert_false(run());
    assert_non_null(strstr(err.remedy, "GRANT CREATE, USAGE ON SCHEMA \"public\" TO \"Bob\";"));
    fake_side_played(&load.control);
}

static void test_only_want_of_privilege_is_a_refusal(void **state) {
    (void)state;
    add("PUBLICATION", "p", "CREATE PUBLICATION p;\n");
    fake_side_play(&load.control, FAKE_BEGIN, FAKE_OK("SAVEPOINT"), FAKE_FAIL("CREATE", "42710", "already exists"));
    assert_false(run());
    assert_non_null(strstr(err.message, "PUBLICATION public.p: already exists"));
}

static void test_groups(void **state) {
    char name[16];

    (void)state;
    for (int i = 0; i < 201; i++) {
        snprintf(name, sizeof(name), "v%d", i);
        add("VIEW", name, ""); /* only lines: the fake's script is short */
    }
    fake_side_play(&load.control, FAKE_BEGIN);
    /* 100 lines and COMMIT are not in the script: they succeed, but the next BEGIN finds no row. */
    assert_false(run());
    assert_int_equal(err.reason, REASON_FENCED);
    assert_int_equal(load.control.fake->statements, 1 + 100 + 1 + 1);
    assert_true(load.small.done[99]);
    assert_false(load.small.done[100]);
    assert_int_equal(phase().done, 100);
    assert_int_equal(phase().total, 201);
}

static void test_in_the_callers_transaction(void **state) {
    (void)state;
    size_t trigger = add("EVENT TRIGGER", "e", "CREATE EVENT TRIGGER e;\n");
    add("PUBLICATION", "p", "CREATE PUBLICATION p;\n");
    fake_side_play(&load.control, FAKE_OK("SAVEPOINT"), FAKE_OK("CREATE EVENT TRIGGER"), FAKE_OK("RELEASE"),
                   FAKE_OK("SAVEPOINT"), FAKE_FAIL("CREATE PUBLICATION", "53100", "disk full"));
    assert_false(
        serial_run_in_transaction(fake_load_params(&load), load.control.conn, is_wanted, &not_moved, load.arena, &err));
    assert_int_equal(err.reason, REASON_DISK_FULL);
    fake_side_played(&load.control); /* neither ledger lines nor a rollback */
    assert_false(load.small.done[trigger]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_statement_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_error_names_the_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_may_be_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refresh_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_may_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_right_to_create_is_lent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_want_of_privilege_is_a_refusal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_groups, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_the_callers_transaction, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
