/* Unit test of ledger.c against a scripted libpq: each statement failing, another run, another migration. */
#include "engine/ledger/ledger.h"

#include "support/fake_side.h"

#include <stdlib.h>

static Arena *arena;
static FakeSide dest;
static Error err;

static const LedgerIdentity identity = {
    .job_id = "j7", .source_system = "711", .source_database = "shop", .fingerprint = "v1", .owner = ""};
static const Ledger ledger = {.job_id = "j7", .epoch = 8};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    arena = arena_new();
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

#define BEGIN_ROW FAKE_ROW("BEGIN; SELECT 1 FROM pgcrane.job WHERE epoch = 8 FOR SHARE", "1")

/* --- Taking --- */

/* clang-format off */
#define TAKE_HEAD                                                                                                      \
    FAKE_OK("SET synchronous_commit = on"),                                                                            \
    FAKE_ROW("pg_try_advisory_lock", "t"),                                                                             \
    FAKE_OK("pg_terminate_backend")
#define TAKE_OLD(system, database, fingerprint, format)                                                                \
    TAKE_HEAD,                                                                                                         \
    FAKE_ROW("to_regclass('pgcrane.job')", "t"),                                                                       \
    FAKE_ROW("FROM pgcrane.job", "j7", system, database, fingerprint, format, "")
#define TAKE_NEW                                                                                                       \
    TAKE_HEAD,                                                                                                         \
    FAKE_ROW("to_regclass('pgcrane.job')", "f"),                                                                       \
    FAKE_OK("BEGIN"), FAKE_OK("CREATE SCHEMA pgcrane"), FAKE_OK("INSERT INTO pgcrane.job"), FAKE_OK("COMMIT")
/* clang-format on */

static bool call_take(DbConn *conn, Error *call_err) {
    Ledger taken = {.epoch = -1};
    bool ok = ledger_take(conn, arena, &identity, &taken, call_err);

    if (!ok)
        assert_int_equal(taken.epoch, -1);
    return ok;
}

static void test_take_an_existing_one(void **state) {
    Ledger taken = {0};

    (void)state;
    fake_side_play(&dest, TAKE_OLD("711", "shop", "v1", "5"), FAKE_ROW("SET epoch = epoch + 1 RETURNING", "9"));
    assert_true(ledger_take(dest.conn, arena, &identity, &taken, &err));
    assert_int_equal(taken.epoch, 9);
    assert_string_equal(taken.job_id, "j7");
    fake_side_played(&dest);
}

static void test_take_a_new_one(void **state) {
    Ledger taken = {0};

    (void)state;
    fake_side_play(&dest, TAKE_NEW, FAKE_ROW("SET epoch = epoch + 1", "1"));
    assert_true(ledger_take(dest.conn, arena, &identity, &taken, &err));
    assert_int_equal(taken.epoch, 1);
    fake_side_played(&dest);
}

static void test_each_statement_of_taking_fails(void **state) {
    const FakeReply old[] = {TAKE_OLD("711", "shop", "v1", "5"), FAKE_ROW("SET epoch", "9")};
    const FakeReply new[] = {TAKE_NEW};

    (void)state;
    fake_side_each_fails(old, COUNT_OF(old), SIZE_MAX, call_take);
    fake_side_each_fails(new, COUNT_OF(new), 5, call_take);
}

static void test_failpoint_after_creating(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_NEW);
    setenv("PGCRANE_FAILPOINT", "ledger.created:error", 1);
    bool taken = call_take(dest.conn, &err);
    unsetenv("PGCRANE_FAILPOINT");
#ifdef PGCRANE_FAILPOINTS
    assert_false(taken);
    assert_int_equal(err.reason, REASON_FAILPOINT);
#else
    assert_true(taken);
#endif
}

static void assert_mismatch(const char *words) {
    assert_false(call_take(dest.conn, &err));
    assert_int_equal(err.reason, REASON_LEDGER_MISMATCH);
    assert_false(err.retryable);
    assert_non_null(strstr(err.message, words));
    fake_side_played(&dest); /* the epoch was left alone */
}

static void test_another_source(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_OLD("712", "shop", "v1", "5"));
    assert_mismatch("another source (database shop of system 712)");
}

static void test_another_database(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_OLD("711", "shop2", "v1", "5"));
    assert_mismatch("another source (database shop2 of system 711)");
}

/* Its id is made of more than names. */
static void test_made_anew(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_HEAD, FAKE_ROW("to_regclass('pgcrane.job')", "t"),
                   FAKE_ROW("FROM pgcrane.job", "j6", "711", "shop", "v1", "5", ""));
    assert_false(call_take(dest.conn, &err));
    assert_int_equal(err.reason, REASON_DATABASE_REPLACED);
    assert_non_null(strstr(err.message, "unfinished migration j6, and these two databases are j7"));
    assert_non_null(strstr(err.remedy, "pgcrane abort --source-only j6"));
    fake_side_played(&dest);
}

static void test_other_options(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_OLD("711", "shop", "v0", "5"));
    assert_mismatch("it had [v0], this command has [v1]");
}

static void test_another_format(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_OLD("711", "shop", "v1", "1"));
    assert_mismatch("made by another version");
    assert_non_null(strstr(err.remedy, "abort --source-only")); /* --restart would fail here, too */
}

static void test_half_a_ledger(void **state) {
    (void)state;
    fake_side_play(&dest, TAKE_HEAD, FAKE_ROW("to_regclass", "t"), FAKE_OK("FROM pgcrane.job"));
    assert_mismatch("made by another version");
}

static void test_lock_and_sessions_of_a_killed_run(void **state) {
    Ledger taken = {0};

    (void)state;
    fake_side_play(&dest, FAKE_OK("SET synchronous_commit"), FAKE_ROW("pg_try_advisory_lock", "f"),
                   FAKE_ROW("pg_try_advisory_lock", "t"), FAKE_ROW("pg_terminate_backend", "4712", "t"),
                   FAKE_OK("pg_terminate_backend"), FAKE_ROW("to_regclass", "t"),
                   FAKE_ROW("FROM pgcrane.job", "j7", "711", "shop", "v1", "5", ""), FAKE_ROW("SET epoch", "3"));
    assert_true(ledger_take(dest.conn, arena, &identity, &taken, &err));
    assert_int_equal(taken.epoch, 3);
    fake_side_played(&dest);
}

static void test_stop_while_waiting(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SET synchronous_commit"), FAKE_ROW("pg_try_advisory_lock", "f"));
    stop_request(&dest.stop);
    assert_false(call_take(dest.conn, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    fake_side_played(&dest);
}

static void test_stop_while_sessions_end(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SET synchronous_commit"), FAKE_ROW("pg_try_advisory_lock", "t"),
                   FAKE_ROW("pg_terminate_backend", "4712", "t"));
    stop_request(&dest.stop);
    assert_false(call_take(dest.conn, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
}

/* --- The epoch --- */

static void test_begin(void **state) {
    (void)state;
    fake_side_play(&dest, BEGIN_ROW);
    assert_true(ledger_begin(dest.conn, &ledger, &err));
    fake_side_played(&dest);
}

static void test_begin_is_fenced(void **state) {
    (void)state;
    dest.fake->in_transaction = true;
    fake_side_play(&dest, FAKE_OK("epoch = 8 FOR SHARE"));
    assert_false(ledger_begin(dest.conn, &ledger, &err));
    assert_int_equal(err.reason, REASON_FENCED);
    assert_false(err.retryable);
    assert_non_null(strstr(err.message, "epoch was 8"));
    assert_string_equal(dest.fake->sql, "ROLLBACK");
}

static bool call_begin(DbConn *conn, Error *call_err) {
    return ledger_begin(conn, &ledger, call_err);
}

static bool call_retake(DbConn *conn, Error *call_err) {
    return ledger_retake(conn, &ledger, NULL, call_err);
}

static void test_begin_and_retake_fail(void **state) {
    const FakeReply begin[] = {BEGIN_ROW};
    const FakeReply retake[] = {FAKE_OK("SET synchronous_commit = on"), FAKE_ROW("pg_try_advisory_lock", "t"),
                                FAKE_ROW("FROM pgcrane.job WHERE epoch = $1", "1")};

    (void)state;
    fake_side_each_fails(begin, COUNT_OF(begin), 0, call_begin);
    fake_side_each_fails(retake, COUNT_OF(retake), SIZE_MAX, call_retake);
}

static void test_retake(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SET synchronous_commit = on"), FAKE_ROW("pg_try_advisory_lock", "t"),
                   FAKE_ROW("epoch = $1", "1"));
    assert_true(ledger_retake(dest.conn, &ledger, NULL, &err));
    fake_side_played(&dest);
}

static void test_retake_is_fenced(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SET synchronous_commit = on"), FAKE_ROW("pg_try_advisory_lock", "t"),
                   FAKE_OK("epoch = $1"));
    assert_false(ledger_retake(dest.conn, &ledger, NULL, &err));
    assert_int_equal(err.reason, REASON_FENCED);
}

static void test_commit(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("COMMIT"), FAKE_FAIL("COMMIT", "40001", "no"), (FakeReply){.loses = true});
    assert_true(ledger_commit(dest.conn, &err));
    assert_false(ledger_commit(dest.conn, &err));
    assert_string_equal(err.message, "committing on the destination: no");
    assert_true(err.retryable);
    assert_false(ledger_commit(dest.conn, &err));
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
}

/* --- Steps, entries --- */

static void test_steps(void **state) {
    bool done = false;

    (void)state;
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.step", "1"), FAKE_OK("FROM pgcrane.step"),
                   FAKE_FAIL("FROM pgcrane.step", "42501", "denied"), FAKE_OK("INSERT INTO pgcrane.step"),
                   FAKE_FAIL("INSERT INTO pgcrane.step", "23505", "duplicate key"));
    assert_true(ledger_step_done(dest.conn, "archive", &done, &err));
    assert_true(done);
    assert_true(ledger_step_done(dest.conn, "archive", &done, &err));
    assert_false(done);
    done = true;
    assert_false(ledger_step_done(dest.conn, "archive", &done, &err));
    assert_true(done);
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_true(ledger_mark_step(dest.conn, "copied", &err));
    assert_false(ledger_mark_step(dest.conn, "copied", &err));
    assert_string_equal(err.message, "marking step copied in the ledger: duplicate key");
    fake_side_played(&dest);
}

static void test_entries(void **state) {
    IntVec ids = {0};

    (void)state;
    fake_side_play(&dest, FAKE_ROWS_OF("FROM pgcrane.entry", 1, "7", "3", "2000000000"), FAKE_OK("FROM pgcrane.entry"),
                   FAKE_FAIL("FROM pgcrane.entry", "53200", "memory"), FAKE_OK("INSERT INTO pgcrane.entry"),
                   FAKE_FAIL("INSERT INTO pgcrane.entry", "23505", "twice"));
    assert_true(ledger_entries(dest.conn, arena, &ids, &err));
    assert_int_equal(ids.len, 3);
    assert_int_equal(ids.items[0], 7);
    assert_int_equal(ids.items[2], 2000000000);
    assert_true(ledger_entries(dest.conn, arena, &ids, &err));
    assert_int_equal(ids.len, 0);
    assert_false(ledger_entries(dest.conn, arena, &ids, &err));
    assert_true(ledger_mark_entry(dest.conn, 7, &err));
    assert_false(ledger_mark_entry(dest.conn, 7, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
}

/* --- The archive --- */

enum { BIG = (1 << 20) + 5 };

static bool call_save(DbConn *conn, Error *call_err) {
    return ledger_save_archive(conn, &ledger, arena_alloc(arena, BIG), BIG, call_err);
}

#define SAVE_SCRIPT                                                                                                    \
    BEGIN_ROW, FAKE_OK("INSERT INTO pgcrane.archive"), FAKE_OK("INSERT INTO pgcrane.archive"),                         \
        FAKE_OK("INSERT INTO pgcrane.step"), FAKE_OK("COMMIT")

static void test_save_archive_in_pieces(void **state) {
    (void)state;
    fake_side_play(&dest, SAVE_SCRIPT);
    assert_true(call_save(dest.conn, &err));
    fake_side_played(&dest);
}

static void test_save_archive_fails(void **state) {
    const FakeReply script[] = {SAVE_SCRIPT};

    (void)state;
    fake_side_each_fails(script, COUNT_OF(script), 0, call_save);
}

static void test_load_archive(void **state) {
    CLEANUP(buf_fini) Buf bytes;
    bool found = false;

    (void)state;
    buf_init(&bytes, 1000);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.step", "1"),
                   FAKE_ROWS_OF("FROM pgcrane.archive ORDER BY part", 1, "\\x00a1fF", "\\x", "\\x0a"));
    assert_true(ledger_load_archive(dest.conn, &bytes, &found, &err));
    assert_true(found);
    assert_int_equal(bytes.len, 4);
    assert_memory_equal(bytes.data, "\x00\xA1\xFF\x0A", 4);
}

static void test_no_archive(void **state) {
    CLEANUP(buf_fini) Buf bytes;
    bool found = true;

    (void)state;
    buf_init(&bytes, 1000);
    fake_side_play(&dest, FAKE_OK("FROM pgcrane.step"));
    assert_true(ledger_load_archive(dest.conn, &bytes, &found, &err));
    assert_false(found);
    assert_int_equal(bytes.len, 0);
    fake_side_played(&dest);
}

static bool call_load(DbConn *conn, Error *call_err) {
    CLEANUP(buf_fini) Buf bytes;
    bool found = false;

    buf_init(&bytes, 1000);
    bool ok = ledger_load_archive(conn, &bytes, &found, call_err);
    assert_false(found && !ok);
    return ok;
}

static void test_load_archive_fails(void **state) {
    const FakeReply script[] = {FAKE_ROW("FROM pgcrane.step", "1"), FAKE_ROW("FROM pgcrane.archive", "\\x00")};

    (void)state;
    fake_side_each_fails(script, COUNT_OF(script), SIZE_MAX, call_load);
}

static void test_archive_too_large(void **state) {
    CLEANUP(buf_fini) Buf bytes;
    bool found = false;

    (void)state;
    buf_init(&bytes, 4);
    fake_side_play(&dest, FAKE_ROW("FROM pgcrane.step", "1"),
                   FAKE_ROWS_OF("FROM pgcrane.archive", 1, "\\x01020304", "\\x05060708"));
    assert_false(ledger_load_archive(dest.conn, &bytes, &found, &err));
    assert_non_null(strstr(err.message, "the schema archive"));
    assert_false(found);
}

/* --- Snapshots, the end --- */

static bool call_add_snapshot(DbConn *conn, Error *call_err) {
    LedgerSnapshot snapshot = {.snapshot_id = "1-2-3",
                               .picture = "1:1:",
                               .system_identifier = "7",
                               .postmaster_start = "t",
                               .keeper_pid = "5"};
    bool ok = ledger_add_snapshot(conn, &ledger, &snapshot, call_err);

    assert_int_equal(snapshot.id, ok ? 4 : 0);
    return ok;
}

#define ADD_SCRIPT BEGIN_ROW, FAKE_ROW("INSERT INTO pgcrane.snapshot", "4"), FAKE_OK("COMMIT")

static void test_add_snapshot(void **state) {
    const FakeReply script[] = {ADD_SCRIPT};

    (void)state;
    fake_side_play(&dest, ADD_SCRIPT);
    assert_true(call_add_snapshot(dest.conn, &err));
    fake_side_played(&dest);
    fake_side_close(&dest);
    fake_side_each_fails(script, COUNT_OF(script), 0, call_add_snapshot);
    fake_side_open(&dest, DB_DEST);
}

static void test_last_snapshot(void **state) {
    LedgerSnapshot snapshot = {.id = 99};

    (void)state;
    fake_side_play(&dest, FAKE_ROW("ORDER BY id DESC LIMIT 1", "4", "1-2-3", "1:1:", "7", "today", "5"),
                   FAKE_FAIL(NULL, "42P01", "no table"), FAKE_OK("FROM pgcrane.snapshot"));
    assert_true(ledger_last_snapshot(dest.conn, arena, &snapshot, &err));
    assert_int_equal(snapshot.id, 4);
    assert_string_equal(snapshot.snapshot_id, "1-2-3");
    assert_string_equal(snapshot.picture, "1:1:");
    assert_string_equal(snapshot.postmaster_start, "today");
    assert_string_equal(snapshot.keeper_pid, "5");
    assert_false(ledger_last_snapshot(dest.conn, arena, &snapshot, &err));
    assert_int_equal(snapshot.id, 4);
    assert_true(ledger_last_snapshot(dest.conn, arena, &snapshot, &err));
    assert_int_equal(snapshot.id, 0);
}

#define DROP_SCRIPT                                                                                                    \
    FAKE_OK("SAVEPOINT pgcrane_silence"), FAKE_OK("SET LOCAL session_replication_role = replica"),                     \
        FAKE_OK("DROP SCHEMA pgcrane CASCADE"), FAKE_OK("SET LOCAL session_replication_role TO DEFAULT")

static void test_drop(void **state) {
    const FakeReply script[] = {DROP_SCRIPT};

    (void)state;
    fake_side_play(&dest, DROP_SCRIPT);
    assert_true(ledger_drop(dest.conn, &err));
    fake_side_played(&dest);
    fake_side_close(&dest);
    fake_side_each_fails(script, COUNT_OF(script), COUNT_OF(script), ledger_drop);
    fake_side_open(&dest, DB_DEST);
}

/* Neither setting is ours to change: then the drop is tried as it is. */
static void test_drop_without_a_say(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SAVEPOINT"), FAKE_FAIL("session_replication_role", "42501", "permission denied"),
                   FAKE_OK("ROLLBACK TO SAVEPOINT"), FAKE_OK("DROP SCHEMA pgcrane CASCADE"));
    assert_true(ledger_drop(dest.conn, &err));
    fake_side_played(&dest);
}

static void test_drop_is_refused(void **state) {
    (void)state;
    fake_side_play(&dest, FAKE_OK("SAVEPOINT"), FAKE_OK("SET LOCAL session_replication_role = replica"),
                   FAKE_FAIL("DROP", "P0001", "no drops here"), FAKE_OK("ROLLBACK TO SAVEPOINT"),
                   FAKE_ROW("FROM pg_catalog.pg_event_trigger", "keep, \"Never\""));
    assert_false(ledger_drop(dest.conn, &err));
    fake_side_played(&dest);
    assert_string_equal(err.message, "dropping the ledger: no drops here");
    assert_non_null(strstr(err.remedy, "keep, \"Never\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_take_an_existing_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_take_a_new_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failpoint_after_creating, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_source, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_database, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_options, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_format, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_a_ledger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_and_sessions_of_a_killed_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_while_sessions_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_begin_is_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retake_is_fenced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_save_archive_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load_archive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_archive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_archive_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop_without_a_say, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_add_snapshot, set_up, tear_down),
    };
    const struct CMUnitTest failures[] = {
        cmocka_unit_test(test_each_statement_of_taking_fails),
        cmocka_unit_test(test_begin_and_retake_fail),
        cmocka_unit_test(test_save_archive_fails),
        cmocka_unit_test(test_load_archive_fails),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    arena = arena_new();
    failed += cmocka_run_group_tests(failures, NULL, NULL);
    arena_freep(&arena);
    return failed;
}
