/*
 * Unit test of snapshot.c against a scripted libpq. The keeper is this very program, started as `keeper JOB`: it
 * answers what the job's name says.
 */
#include "engine/snapshot/snapshot.h"

#include "support/fake_side.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static Arena *arena;
static FakeSide source, dest;
static Error err;

static const LedgerSnapshot snapshot = {.id = 3,
                                        .snapshot_id = "00000003-00000002-1",
                                        .picture = "10:20:",
                                        .postmaster_start = "monday",
                                        .keeper_pid = "5"};
static const Ledger ledger = {.job_id = "j7", .epoch = 8};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    arena = arena_new();
    err = (Error){0};
    fake_side_open(&source, DB_SOURCE);
    fake_side_open(&dest, DB_DEST);
    source.fake->in_transaction = true;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_side_close(&source);
    fake_side_close(&dest);
    fake_pq_reset();
    arena_freep(&arena);
    return 0;
}

/* --- Text --- */

static void test_texts(void **state) {
    LedgerSnapshot odd = {.snapshot_id = "a'b"};

    (void)state;
    assert_string_equal(snapshot_begin_sql(arena, &odd),
                        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT 'a''b';");
    assert_string_equal(snapshot_picture_sql(120022), "pg_catalog.txid_current_snapshot()::text");
    assert_string_equal(snapshot_picture_sql(130000), "pg_catalog.pg_current_snapshot()::text");
}

/* --- Errors of an import --- */

static void test_judge_error(void **state) {
    static const struct {
        const char *sqlstate, *message;
        bool lost;
    } cases[] = {
        {"22023", "invalid snapshot identifier: \"00000003-00000002-1\"", true},
        {"42704", "snapshot \"00000003-00000002-1\" does not exist", true},
        {"55000", "could not import the requested snapshot", true},
        {"22023", "invalid value for parameter \"lock_timeout\"", false},
        {"55000", "cannot copy from a sequence", false},
        {"42P01", "relation \"snapshot\" does not exist", false},
        {"", "the connection to the source was lost (snapshot)", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        error_set(&err, REASON_SQL_FAILED, "%s", cases[i].message);
        (void)snprintf(err.sqlstate, sizeof(err.sqlstate), "%s", cases[i].sqlstate);
        assert_false(snapshot_judge_error(&err));
        assert_int_equal(err.reason, cases[i].lost ? REASON_SNAPSHOT_LOST : REASON_SQL_FAILED);
        assert_non_null(strstr(err.message, cases[i].message));
    }
}

static void test_begin(void **state) {
    (void)state;
    fake_side_play(&source, FAKE_ROW("SET TRANSACTION SNAPSHOT '00000003-00000002-1'", "10:20:", "monday"));
    assert_true(snapshot_begin(source.conn, &snapshot, &err));
    fake_side_played(&source);
}

static void test_begin_shows_another_picture(void **state) {
    (void)state;
    fake_side_play(&source, FAKE_ROW(NULL, "10:21:", "monday"), FAKE_OK("ROLLBACK"),
                   FAKE_ROW(NULL, "10:20:", "tuesday"), FAKE_OK("ROLLBACK"));
    for (int i = 0; i < 2; i++) {
        err = (Error){0};
        assert_false(snapshot_begin(source.conn, &snapshot, &err));
        assert_int_equal(err.reason, REASON_SNAPSHOT_LOST);
        assert_true(err.retryable);
    }
    fake_side_played(&source);
}

static void test_begin_fails(void **state) {
    (void)state;
    fake_side_play(&source, FAKE_FAIL("SNAPSHOT", "22023", "invalid snapshot identifier"), FAKE_OK("ROLLBACK"),
                   FAKE_FAIL("SNAPSHOT", "53200", "out of memory"), FAKE_OK("ROLLBACK"),
                   (FakeReply){.sql_has = "SNAPSHOT", .loses = true});
    assert_false(snapshot_begin(source.conn, &snapshot, &err));
    assert_int_equal(err.reason, REASON_SNAPSHOT_LOST);
    assert_false(snapshot_begin(source.conn, &snapshot, &err));
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_false(snapshot_begin(source.conn, &snapshot, &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    fake_side_played(&source);
}

/* --- The ledger's last one --- */

#define LAST_ROW FAKE_ROW("FROM pgcrane.snapshot", "3", "00000003-00000002-1", "10:20:", "7", "monday", "5")

static void test_find_none(void **state) {
    LedgerSnapshot found = {.id = 9};
    bool alive = true;

    (void)state;
    fake_side_play(&dest, FAKE_OK("FROM pgcrane.snapshot"));
    assert_true(snapshot_find(source.conn, dest.conn, arena, &found, &alive, &err));
    assert_false(alive);
    assert_int_equal(found.id, 0);
    assert_int_equal(source.fake->statements, 0);
}

static void test_find_alive(void **state) {
    LedgerSnapshot found = {0};
    bool alive = false;

    (void)state;
    fake_side_play(&dest, LAST_ROW);
    fake_side_play(&source, FAKE_ROW("SNAPSHOT", "10:20:", "monday"), FAKE_OK("ROLLBACK"));
    assert_true(snapshot_find(source.conn, dest.conn, arena, &found, &alive, &err));
    assert_true(alive);
    assert_int_equal(found.id, 3);
    fake_side_played(&source);
}

static void test_find_lost(void **state) {
    LedgerSnapshot found = {0};
    bool alive = true;

    (void)state;
    fake_side_play(&dest, LAST_ROW);
    fake_side_play(&source, FAKE_FAIL("SNAPSHOT", "42704", "snapshot does not exist"), FAKE_OK("ROLLBACK"));
    assert_true(snapshot_find(source.conn, dest.conn, arena, &found, &alive, &err));
    assert_false(alive);
    assert_int_equal(found.id, 3); /* the caller says that it is gone */
}

static void test_find_fails(void **state) {
    LedgerSnapshot found = {0};
    bool alive = false;

    (void)state;
    fake_side_play(&dest, FAKE_FAIL("FROM pgcrane.snapshot", "42P01", "no ledger"), LAST_ROW);
    fake_side_play(&source, (FakeReply){.loses = true});
    assert_false(snapshot_find(source.conn, dest.conn, arena, &found, &alive, &err));
    assert_non_null(strstr(err.message, "no ledger"));
    assert_false(snapshot_find(source.conn, dest.conn, arena, &found, &alive, &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_false(alive);
}

/* --- Attaching and releasing --- */

static void test_attach(void **state) {
    (void)state;
    fake_side_play(&source, FAKE_OK("pg_advisory_lock_shared"), FAKE_FAIL("pg_advisory_lock_shared", "57P01", "bye"));
    assert_true(snapshot_attach(source.conn, "j7", &err));
    assert_false(snapshot_attach(source.conn, "j7", &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
}

static void test_release(void **state) {
    LedgerSnapshot none = {0};

    (void)state;
    assert_true(snapshot_release(source.conn, &none, &err));
    assert_int_equal(source.fake->statements, 0);
    fake_side_play(&source, FAKE_ROW("pg_terminate_backend", "t"), FAKE_OK("pg_terminate_backend"),
                   FAKE_FAIL("pg_terminate_backend", "42501", "not yours"));
    assert_true(snapshot_release(source.conn, &snapshot, &err));
    assert_true(snapshot_release(source.conn, &snapshot, &err)); /* gone already */
    assert_false(snapshot_release(source.conn, &snapshot, &err));
    assert_string_equal(err.message, "ending the snapshot's keeper: not yours");
    fake_side_played(&source);
}

/* --- Taking a new one --- */

/* What the program does as a keeper. */
static int act_as_keeper(const char *job_id) {
    static const char good[] = "{\"snapshot_id\":\"s-1\",\"picture\":\"1:2:\",\"system_identifier\":\"7\","
                               "\"postmaster_start\":\"monday\",\"pid\":\"4713\"}";
    static const char bad[] = "{\"error\":\"no more connections\",\"reason\":\"SERVER_BUSY\",\"remedy\":\"wait\"}";
    static const char odd[] = "{\"error\":\"what?\",\"reason\":\"NO_SUCH_REASON\"}";
    char text[4096];
    size_t len = 0;

    for (ssize_t got = 1; got > 0 && len + 1 < sizeof(text); len += got > 0 ? (size_t)got : 0)
        got = read(3, text + len, sizeof(text) - 1 - len);
    text[len] = '\0';
    const char *answer = strcmp(job_id, "bad") == 0     ? bad
                         : strcmp(job_id, "odd") == 0   ? odd
                         : strcmp(job_id, "chaos") == 0 ? "{\"snapshot_id\":"
                         : strcmp(job_id, "mute") == 0  ? ""
                                                        : good;
    bool told = strstr(text, "host=src password=x") != NULL && strstr(text, "600000000") != NULL;
    return told && write(3, answer, strlen(answer)) == (ssize_t)strlen(answer) ? 0 : 1;
}

static bool take(const char *job_id, LedgerSnapshot *ret_snapshot) {
    SnapshotParams params = {.source_conninfo = "host=src password=x",
                             .job_id = job_id,
                             .lease_us = INT64_C(600000000),
                             .log_fd = STDERR_FILENO};

    return snapshot_take(dest.conn, &ledger, arena, &params, &dest.stop, ret_snapshot, &err);
}

static void test_take(void **state) {
    LedgerSnapshot taken = {0};

    (void)state;
    fake_side_play(&dest, FAKE_ROW("epoch = 8 FOR SHARE", "1"), FAKE_ROW("INSERT INTO pgcrane.snapshot", "2"),
                   FAKE_OK("COMMIT"));
    assert_true(take("good", &taken));
    assert_int_equal(taken.id, 2);
    assert_string_equal(taken.snapshot_id, "s-1");
    assert_string_equal(taken.picture, "1:2:");
    assert_string_equal(taken.postmaster_start, "monday");
    assert_string_equal(taken.keeper_pid, "4713");
    fake_side_played(&dest);
}

static void assert_not_taken(const char *job_id, ErrorReason reason, const char *words) {
    LedgerSnapshot taken = {.id = 77};

    err = (Error){0};
    assert_false(take(job_id, &taken));
    assert_int_equal(err.reason, reason);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(taken.id, 77);
}

static void test_keeper_fails(void **state) {
    (void)state;
    assert_not_taken("bad", REASON_SERVER_BUSY, "taking a snapshot: no more connections");
    assert_string_equal(err.remedy, "wait");
    assert_not_taken("odd", REASON_SNAPSHOT_LOST, "what?");
    assert_not_taken("mute", REASON_SNAPSHOT_LOST, "ended before it answered");
    assert_int_equal(dest.fake->statements, 0);
}

static void test_keeper_answers_nonsense(void **state) {
    LedgerSnapshot taken = {.id = 77};

    (void)state;
    assert_false(take("chaos", &taken));
    assert_non_null(strstr(err.message, "the keeper's answer"));
    assert_int_equal(taken.id, 77);
}

static void test_stop_while_the_keeper_works(void **state) {
    (void)state;
    stop_request(&dest.stop);
    assert_not_taken("good", REASON_CANCELLED, "stopped");
}

static void test_take_is_fenced(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("FOR SHARE"));
    assert_not_taken("good", REASON_FENCED, "taken this migration over");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_judge_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin_shows_another_picture, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_find_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_find_alive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_find_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_find_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_attach, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_release, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_take, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keeper_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keeper_answers_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_the_keeper_works, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_take_is_fenced, set_up, tear_down),
    };

    if (argc == 3 && strcmp(argv[1], "keeper") == 0)
        return act_as_keeper(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
