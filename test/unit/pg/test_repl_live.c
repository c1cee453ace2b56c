/*
 * Slots and streams of a real server: skipped unless PGCRANE_TEST_SOURCE names one (superuser, wal_level logical,
 * nobody else on it; PGCRANE_TEST_REPLICA: one with wal_level replica). test/integration/test_repl.py starts them.
 */
#include "common/clock.h"
#include "common/lsn.h"
#include "pg/pgoutput.h"
#include "pg/repl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#define PATIENCE_US (20 * USEC_PER_SEC)

static const char *const publications[] = {"one", "It's \"two\", \\", NULL};

static Arena *arena;
static Error err;
static Stop stop;
static DbTarget target;
static DbConn *conn;
static PgoTransaction last_begin; /* servers before 15 send empty transactions, too */

static void must(bool good) {
    if (!good)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
}

static void sql(const char *text) {
    must(db_exec(conn, text, &err));
}

static char *value(const char *text) {
    char *got = NULL;

    must(db_query_value(conn, arena, text, 0, NULL, &got, &err));
    return got;
}

static Lsn position(const char *text) {
    Lsn lsn = 0;

    assert_true(lsn_parse(value(text), &lsn));
    return lsn;
}

static Lsn now_lsn(void) {
    return position("SELECT pg_current_wal_insert_lsn()");
}

/* Also those that a failed test has left in use. */
static void drop_all_slots(void) {
    char *name;

    while ((name = value("SELECT min(slot_name) FROM pg_replication_slots")) != NULL)
        must(repl_slot_drop(conn, name, &err));
}

static int set_up(void **state) {
    DbTarget plain;

    (void)state;
    arena = arena_new();
    target = (DbTarget){.side = DB_SOURCE, .conninfo = getenv("PGCRANE_TEST_SOURCE"), .job_id = "live"};
    plain = target;
    plain.extra_setup = "SET search_path = public";
    must(stop_init(&stop, &err) && db_open(&plain, "test", &stop, &conn, &err));
    sql("DROP TABLE IF EXISTS t; DROP PUBLICATION IF EXISTS one; DROP PUBLICATION IF EXISTS \"It's \"\"two\"\", \\\";"
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, span interval, raw bytea, x float8);"
        "CREATE PUBLICATION one FOR TABLE t; CREATE PUBLICATION \"It's \"\"two\"\", \\\"");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    drop_all_slots();
    db_closep(&conn);
    stop_fini(&stop);
    arena_freep(&arena);
    return 0;
}

static ReplStart start_at(Lsn lsn) {
    return (ReplStart){.slot = "s",
                       .publications = publications,
                       .lsn = lsn,
                       .messages = true,
                       .feedback_interval_us = 50 * USEC_PER_MSEC,
                       .slot_wait_us = 200 * USEC_PER_MSEC};
}

static ReplStream *open_stream(const ReplStart *start) {
    ReplStream *stream = NULL;

    must(repl_stream_open(&target, start, &stop, &stream, &err));
    return stream;
}

static void refuse(const ReplStart *start, ErrorReason reason, const char *words) {
    ReplStream *stream = NULL;

    if (repl_stream_open(&target, start, &stop, &stream, &err))
        fail_msg("the stream was opened");
    if (err.reason != reason || strstr(err.message, words) == NULL)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
    assert_null(stream);
}

/* The next message of that type; its bytes stay in the arena. */
static PgoMessage next_message(ReplStream *stream, PgoType type) {
    int64_t deadline = clock_now_us() + PATIENCE_US;

    for (;;) {
        ReplData data;
        PgoMessage message;
        ReplResult result = repl_receive(stream, deadline, &data, &err);
        if (result != REPL_DATA)
            fail_msg("no %s: %s", pgo_type_name(type), result == REPL_FAILED ? err.message : "time is up");
        if (data.is_keepalive)
            continue;
        assert_true(data.end_lsn >= data.start_lsn);
        char *bytes = arena_strndup(arena, data.bytes, data.len);
        must(pgo_decode(arena, bytes, data.len, false, &message, &err));
        if (message.type == PGO_BEGIN)
            last_begin = message.transaction;
        if (message.type == type)
            return message;
    }
}

static bool value_is(const PgoValue *got, const char *text) {
    return got->len == strlen(text) && memcmp(got->bytes, text, got->len) == 0;
}

static Lsn create(void) {
    Lsn lsn = 0;

    must(repl_slot_create(&target, "s", true, &stop, &lsn, &err));
    assert_true(lsn > 0 && lsn <= now_lsn());
    return lsn;
}

/* --- The tests ---------------------------------------------------------------------------------------------------- */

static void test_slot_is_as_wanted(void **state) {
    Lsn lsn = create();

    (void)state;
    assert_true(position("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'") == lsn);
    assert_string_equal(value("SELECT plugin || ' ' || temporary FROM pg_replication_slots"), "pgoutput false");
    if (db_major(conn) >= 17)
        assert_string_equal(value("SELECT failover FROM pg_replication_slots"), "t");
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
    assert_string_equal(err.sqlstate, "42710");
    assert_non_null(strstr(err.remedy, "pg_drop_replication_slot('s')"));
    must(repl_slot_drop(conn, "s", &err));
    assert_string_equal(value("SELECT count(*) FROM pg_replication_slots"), "0");
    must(repl_slot_drop(conn, "s", &err)); /* it is gone already: fine */
}

static void test_changes_come_with_our_settings(void **state) {
    (void)state;
    sql("ALTER ROLE CURRENT_USER SET datestyle = 'SQL, DMY'; ALTER ROLE CURRENT_USER SET intervalstyle = "
        "'sql_standard';"
        "ALTER ROLE CURRENT_USER SET bytea_output = 'escape'; ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo';"
        "ALTER ROLE CURRENT_USER SET extra_float_digits = -10; ALTER ROLE CURRENT_USER SET statement_timeout = '50ms'");
    ReplStart start = start_at(create());
    ReplStream *stream = open_stream(&start);
    sql("ALTER ROLE CURRENT_USER RESET ALL");
    sql("INSERT INTO t VALUES (1, '2026-02-01 00:00+00', '-1 day 2 hours', 'a\\000b', 0.1::float8 + 0.2)");
    PgoMessage insert = next_message(stream, PGO_INSERT);
    PgoMessage commit = next_message(stream, PGO_COMMIT);
    const PgoValue *values = insert.row.new_tuple.values;
    assert_true(value_is(&values[1], "2026-02-01 00:00:00+00"));
    assert_true(value_is(&values[2], "-1 days +02:00:00"));
    assert_true(value_is(&values[3], "\\x610062"));
    assert_memory_equal(values[4].bytes, "0.30000000000000004", strlen("0.30000000000000004"));
    assert_true(last_begin.lsn == commit.transaction.lsn && commit.transaction.end_lsn > commit.transaction.lsn);
    repl_stream_closep(&stream);
    assert_null(stream);
}

static void test_binary_and_messages(void **state) {
    (void)state;
    if (db_major(conn) < 14)
        return; /* asked for all the same in the other tests: it must not hurt */
    ReplStart start = start_at(create());
    start.binary = true;
    ReplStream *stream = open_stream(&start);
    sql("INSERT INTO t VALUES (258); SELECT pg_logical_emit_message(true, 'pgcrane', 'hello')");
    PgoMessage insert = next_message(stream, PGO_INSERT);
    assert_int_equal(insert.row.new_tuple.values[0].kind, PGO_BINARY);
    assert_memory_equal(insert.row.new_tuple.values[0].bytes, "\0\0\1\2", 4);
    PgoMessage message = next_message(stream, PGO_MESSAGE);
    assert_string_equal(message.logical.prefix, "pgcrane");
    assert_int_equal(message.logical.len, 5);
    repl_stream_closep(&stream);
}

static void test_only_what_is_acknowledged_is_confirmed(void **state) {
    ReplStart start = start_at(create());
    ReplStream *stream = open_stream(&start);
    ReplData data;

    (void)state;
    sql("INSERT INTO t VALUES (1)");
    Lsn first = next_message(stream, PGO_COMMIT).transaction.end_lsn;
    sql("INSERT INTO t VALUES (2)");
    Lsn second = next_message(stream, PGO_COMMIT).transaction.end_lsn;
    repl_acknowledge(stream, first);
    repl_acknowledge(stream, start.lsn); /* never back */
    /* Several intervals of feedback, none of which may say more. */
    ReplResult result = REPL_DATA;
    for (int64_t end = clock_now_us() + 300 * USEC_PER_MSEC; result == REPL_DATA;)
        result = repl_receive(stream, end, &data, &err);
    assert_int_equal(result, REPL_TIMEOUT);
    assert_true(position("SELECT confirmed_flush_lsn FROM pg_replication_slots") == first);
    repl_stream_closep(&stream);
    /* Closed politely: free at once. */
    assert_string_equal(value("SELECT active FROM pg_replication_slots"), "f");
    assert_true(position("SELECT confirmed_flush_lsn FROM pg_replication_slots") == first);

    refuse(&start, REASON_DEST_WENT_BACK, "those between are gone");
    start.lsn = now_lsn() + (1 << 30);
    refuse(&start, REASON_SOURCE_WENT_BACK, "the source went back");
    start.lsn = first;
    stream = open_stream(&start);
    assert_true(next_message(stream, PGO_COMMIT).transaction.end_lsn == second);
    repl_acknowledge(stream, second);
    repl_stream_closep(&stream); /* its last word is the position */
    assert_true(position("SELECT confirmed_flush_lsn FROM pg_replication_slots") == second);
}

/* How a stream of ours ends when somebody else ends its session. */
static void is_cut(ReplStream *stream) {
    ReplData data;
    ReplResult result = REPL_DATA;

    while (result == REPL_DATA)
        result = repl_receive(stream, clock_now_us() + PATIENCE_US, &data, &err);
    assert_int_equal(result, REPL_FAILED);
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_true(err.retryable);
}

static void test_slot_in_use(void **state) {
    ReplStart start = start_at(create());
    ReplStream *first = open_stream(&start);

    (void)state;
    target.job_id = "another";
    refuse(&start, REASON_SERVER_BUSY, value("SELECT 'process ' || active_pid FROM pg_replication_slots"));
    assert_true(err.retryable);
    assert_non_null(strstr(err.remedy, "pg_terminate_backend"));
    target.job_id = "live";
    must(repl_slot_drop(conn, "s", &err));
    assert_string_equal(value("SELECT count(*) FROM pg_replication_slots"), "0");
    is_cut(first);
    repl_stream_closep(&first);
    refuse(&start, REASON_SLOT_LOST, "does not exist");
}

/* One of ours that was left, and whose end the server has not heard of. */
static void test_slot_in_use_by_a_namesake(void **state) {
    ReplStart start = start_at(create());
    ReplStream *first = open_stream(&start), *second;

    (void)state;
    start.slot_wait_us = PATIENCE_US;
    second = open_stream(&start);
    is_cut(first);
    repl_stream_closep(&first);
    repl_stream_closep(&second);
}

static void test_publication_gone(void **state) {
    ReplStart start = start_at(create());

    (void)state;
    sql("DROP PUBLICATION \"It's \"\"two\"\", \\\"");
    refuse(&start, REASON_PUBLICATION_LOST, "\"It's \"\"two\"\", \\\"");
}

static void test_invalidated_slot(void **state) {
    ReplStart start = start_at(create());

    (void)state;
    if (db_major(conn) < 13)
        return; /* slots cannot be lost */
    sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    sql("SELECT pg_reload_conf()");
    for (int i = 0; i < 8; i++)
        sql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t; SELECT pg_switch_wal(); CHECKPOINT");
    assert_string_equal(value("SELECT wal_status FROM pg_replication_slots"), "lost");
    refuse(&start, REASON_SLOT_LOST, "max_slot_wal_keep_size");
    assert_false(err.retryable);
    sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
    sql("SELECT pg_reload_conf()");
}

/* Asks for a stop when the slot is there and waits. */
static void *stop_when_waiting(void *unused) {
    int64_t deadline = clock_now_us() + PATIENCE_US;

    (void)unused;
    while (strcmp(value("SELECT count(*) FROM pg_replication_slots WHERE active"), "1") != 0 &&
           clock_now_us() < deadline)
        clock_sleep_us(10 * USEC_PER_MSEC);
    stop_request(&stop);
    return NULL;
}

static void test_stop_while_waiting_for_transactions(void **state) {
    DbConn *other = NULL;
    pthread_t thread;
    Stop none;
    Lsn lsn = 0;

    (void)state;
    must(stop_init(&none, &err) && db_open(&target, "other", &none, &other, &err));
    must(db_exec(other, "BEGIN; INSERT INTO public.t VALUES (1)", &err));
    db_closep(&conn);
    DbTarget plain = target;
    must(db_open(&plain, "watch", &none, &conn, &err)); /* one that does not obey the stop */
    assert_int_equal(pthread_create(&thread, NULL, stop_when_waiting, NULL), 0);
    Error failure;
    bool created = repl_slot_create(&target, "s", false, &stop, &lsn, &failure);
    pthread_join(thread, NULL);
    assert_false(created);
    assert_int_equal(failure.reason, REASON_CANCELLED);
    assert_string_equal(value("SELECT count(*) FROM pg_replication_slots"), "0");
    db_closep(&other);
    drop_all_slots();
    db_closep(&conn);
    stop_fini(&none);
    stop_fini(&stop);
    must(stop_init(&stop, &err) && db_open(&target, "after", &stop, &conn, &err));
}

static void test_no_right_to_replicate(void **state) {
    DbTarget poor = target;
    Lsn lsn = 0;

    (void)state;
    sql("DROP ROLE IF EXISTS \"po'or\"; CREATE ROLE \"po'or\" LOGIN");
    poor.conninfo = arena_printf(arena, "%s&user=po'or", target.conninfo);
    assert_false(repl_slot_create(&poor, "s", false, &stop, &lsn, &err));
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_non_null(strstr(err.remedy, "ALTER ROLE \"po'or\" REPLICATION"));
    sql("DROP ROLE \"po'or\"");
}

static void test_no_slots_left(void **state) {
    Lsn lsn = 0;
    int made = 0;

    (void)state;
    while (repl_slot_create(&target, arena_printf(arena, "s%d", made), false, &stop, &lsn, &err))
        assert_true(++made < 50);
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_non_null(strstr(err.remedy, "max_replication_slots"));
}

static void test_no_senders_left(void **state) {
    ReplStream *streams[8] = {NULL};
    ReplStart start = start_at(0);
    int made = 0;

    (void)state;
    for (; made < 8; made++) {
        start.slot = arena_printf(arena, "s%d", made);
        /* The sender that made the slot may not be gone when the stream begins: either may be one too many. */
        if (!repl_slot_create(&target, start.slot, false, &stop, &start.lsn, &err) ||
            !repl_stream_open(&target, &start, &stop, &streams[made], &err))
            break;
    }
    assert_in_range(made, 1, 7);
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_true(err.retryable);
    assert_non_null(strstr(err.remedy, "max_wal_senders"));
    while (made > 0)
        repl_stream_closep(&streams[--made]);
}

/* --- Pipelines: what the server has prepared, and what it has not ------------------------------------------------- */

static bool piped(const char *first, int64_t first_rows, const char *second, const char *id) {
    const char *const params[] = {id};

    must(db_pipeline_begin(conn, &err) &&
         (first == NULL || db_pipeline_send(conn, "first", first, 0, NULL, first_rows, &err)) &&
         db_pipeline_send(conn, "second", second, 1, params, 1, &err));
    return db_pipeline_end(conn, &err);
}

/* A wrong count is an error to us alone: what stands behind it in the pipeline was prepared, and is not a second time.
 */
static void test_prepared_behind_a_wrong_count(void **state) {
    static const char insert[] = "INSERT INTO t (id) VALUES ($1::int)";

    (void)state;
    sql("BEGIN");
    must(piped(NULL, 0, insert, "1"));
    assert_false(piped("UPDATE t SET x = 1 WHERE id = 99", 1, insert, "2")); /* prepares it */
    assert_int_equal(err.reason, REASON_ROW_COUNT);
    must(piped(NULL, 0, insert, "3"));
    assert_string_equal(value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "1 2 3");
    assert_string_equal(value("SELECT count(*)::text FROM pg_prepared_statements"), "1");
    sql("ROLLBACK");
}

/* What stands behind an error the server has skipped: it is prepared when it comes again. */
static void test_not_prepared_behind_an_error(void **state) {
    static const char insert[] = "INSERT INTO t (id) VALUES ($1::int)";

    (void)state;
    sql("BEGIN; SAVEPOINT before");
    must(piped(NULL, 0, insert, "1"));
    assert_false(piped("SELECT 1 / (SELECT 0)", -1, insert, "2"));
    assert_string_equal(err.sqlstate, "22012");
    sql("ROLLBACK TO before");
    must(piped(NULL, 0, insert, "3"));
    must(piped(NULL, 0, insert, "4"));
    assert_string_equal(value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"), "3 4");
    assert_string_equal(value("SELECT count(*)::text FROM pg_prepared_statements"), "1");
    sql("ROLLBACK");
}

static void test_wal_level(void **state) {
    const char *replica = getenv("PGCRANE_TEST_REPLICA");
    Lsn lsn = 0;

    (void)state;
    if (replica == NULL)
        skip();
    target.conninfo = replica;
    if (db_major(conn) >= 19) { /* raises the level by itself while there is a logical slot */
        must(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
        return;
    }
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
    assert_string_equal(err.sqlstate, "55000");
    assert_non_null(strstr(err.remedy, "wal_level is replica"));
}

static void test_needs_a_server(void **state) {
    (void)state;
    skip();
}

int main(void) {
    const struct CMUnitTest none[] = {cmocka_unit_test(test_needs_a_server)};
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_slot_is_as_wanted),
        TEST(test_changes_come_with_our_settings),
        TEST(test_binary_and_messages),
        TEST(test_only_what_is_acknowledged_is_confirmed),
        TEST(test_slot_in_use),
        TEST(test_slot_in_use_by_a_namesake),
        TEST(test_publication_gone),
        TEST(test_invalidated_slot),
        TEST(test_stop_while_waiting_for_transactions),
        TEST(test_no_right_to_replicate),
        TEST(test_no_slots_left),
        TEST(test_no_senders_left),
        TEST(test_wal_level),
        TEST(test_prepared_behind_a_wrong_count),
        TEST(test_not_prepared_behind_an_error),
    };
    return getenv("PGCRANE_TEST_SOURCE") == NULL ? cmocka_run_group_tests(none, NULL, NULL)
                                                 : cmocka_run_group_tests(tests, NULL, NULL);
}
