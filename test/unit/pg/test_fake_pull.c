/* A backlog that is fetched by SQL, against a scripted libpq: when it is, what comes of it, and where the stream goes
 * on. */
#include "common/clock.h"
#include "pg/repl.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define HEADER "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
#define ROW(length, words) "\0\1\0\0\0" length words
#define TRAILER "\377\377"
#define XLOG "w\0\0\0\0\0\0\1\2\0\0\0\0\0\0\1\3\0\0\0\0\0\0\0\4hello"

static Stop stop;
static Error err;
static FakeConn *first, *puller, *streamer; /* in the order of connecting */
static ReplStream *stream;
static DbTarget target;

static const char *const publications[] = {"p", NULL};
static const char *const far_behind[] = {"t", "f", "", "0", "0/100", "0/80", "0/3000000"};
static const char *const nothing[] = {NULL};
static const char *const minute[] = {"60000"};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    first = fake_conn_new();
    puller = fake_conn_new();
    streamer = fake_conn_new();
    target = (DbTarget){.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};
    return stop_init(&stop, &err) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    repl_stream_closep(&stream);
    fake_pq_reset();
    stop_fini(&stop);
    return 0;
}

/* --- Scripts ------------------------------------------------------------------------------------------------------ */

static void expect_session(FakeConn *conn, int version) {
    conn->version = version;
    fake_conn_expect(conn, (FakeReply){.sql_has = "set_config"});
    fake_conn_expect(conn, (FakeReply){.sql_has = "client_connection_check_interval"});
}

static void expect_publications(FakeConn *conn) {
    fake_conn_expect(conn, (FakeReply){.sql_has = "pg_publication", .values = nothing, .n_rows = 1, .n_columns = 1});
}

static void expect_slot(FakeConn *conn, const char *const values[7]) {
    fake_conn_expect(conn, (FakeReply){.sql_has = "plugin = ", .values = values, .n_rows = 1, .n_columns = 7});
}

static void expect_first(const char *const slot[7]) {
    expect_session(first, 150020);
    expect_publications(first);
    expect_slot(first, slot);
}

static void expect_state(const char *const values[4]) {
    fake_conn_expect(
        puller,
        (FakeReply){.sql_has = "confirmed_flush_lsn, restart_lsn", .values = values, .n_rows = 1, .n_columns = 4});
}

static const char *const small[] = {"f"};
static const char *const at_begin[] = {"0/100", "0/80", "0/3000000", "946684800000007"};

/* Up to the reader, and what comes of that. */
static void expect_puller(FakeReply copy) {
    expect_session(puller, 150020);
    fake_conn_expect(puller, (FakeReply){.sql_has = "synchronized_standby_slots", .n_columns = 1});
    fake_conn_expect(puller, (FakeReply){.sql_has = "reltoastrelid", .values = small, .n_rows = 1, .n_columns = 1});
    fake_conn_expect(puller, (FakeReply){.sql_has = "logical_decoding_work_mem"});
    fake_conn_expect(puller, (FakeReply){.sql_has = "temp_file_limit", .sqlstate = "42501", .message = "no"});
    fake_conn_expect(puller, (FakeReply){.sql_has = "tcp_keepalives_idle"});
    fake_conn_expect(puller, (FakeReply){.sql_has = "pg_terminate_backend"});
    copy.sql_has = "pg_copy_logical_replication_slot";
    fake_conn_expect(puller, copy);
}

static void expect_reader(void) {
    expect_puller((FakeReply){0});
    expect_state(at_begin);
}

static void expect_chunk(FakeReply reply) {
    reply.kind = FAKE_COPY_OUT;
    reply.sql_has = "pg_logical_slot_get_binary_changes('s_reader', ";
    fake_conn_expect(puller, reply);
}

static void expect_stream(FakeConn *conn, const char *start_at) {
    static const char *const rows[] = {XLOG};
    static const size_t lengths[] = {sizeof(XLOG) - 1};
    static const char *const settled[] = {"t", "f", "", "0", "0/100", "0/80", "0/3000000"};

    fake_conn_expect(conn, (FakeReply){.sql_has = "wal_sender_timeout", .values = minute, .n_rows = 1, .n_columns = 1});
    fake_conn_expect(conn, (FakeReply){.sql_has = "logical_decoding_work_mem"});
    expect_slot(conn, settled);
    fake_conn_expect(conn, (FakeReply){.kind = FAKE_COPY_BOTH,
                                       .sql_has = start_at,
                                       .values = rows,
                                       .n_rows = 1,
                                       .lengths = lengths,
                                       .hangs = true});
}

static void expect_streamer(const char *start_at) {
    expect_session(streamer, 150020);
    expect_publications(streamer);
    expect_stream(streamer, start_at);
}

static void open_it(void) {
    const ReplStart start = {
        .slot = "s", .publications = publications, .lsn = 0x100, .slot_wait_us = 1, .messages = true, .pull = true};

    if (!repl_stream_open(&target, &start, &stop, &stream, &err))
        fail_msg("%s", err.message);
}

static ReplResult receive(ReplData *ret_data) {
    return repl_receive(stream, clock_now_us() + USEC_PER_SEC, ret_data, &err);
}

static void assert_streams(void) {
    ReplData data;

    assert_int_equal(receive(&data), REPL_DATA);
    assert_memory_equal(data.bytes, "hello", 5);
}

/* --- What it gives ------------------------------------------------------------------------------------------------ */

static const char *const near_the_end[] = {"0/2FFFF00", "0/2000000", "0/3000000", "946684800000009"};

static void test_a_backlog(void **state) {
    static const char *const rows[] = {HEADER ROW("\3", "abc") ROW("\0", ""), ROW("\1", "d"), TRAILER};
    static const size_t lengths[] = {19 + 9 + 6, 7, 2};
    ReplData data;

    (void)state;
    expect_first(far_behind);
    expect_reader();
    expect_chunk((FakeReply){.values = rows, .n_rows = 3, .lengths = lengths, .tuples = "3"});
    expect_state(near_the_end);
    fake_conn_expect(puller, (FakeReply){.sql_has = "pg_replication_slot_advance"});
    expect_streamer("START_REPLICATION SLOT \"s\" LOGICAL 0/2FFFF00 ");
    open_it();
    assert_true(first->finished);
    static const char *const words[] = {"abc", "", "d"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        assert_int_equal(receive(&data), REPL_DATA);
        assert_false(data.is_keepalive);
        assert_true(data.server_lsn == 0x3000000 && data.server_time_us == 7);
        assert_int_equal(data.len, strlen(words[i]));
        assert_memory_equal(data.bytes, words[i], data.len);
    }
    /* Four megabytes from where the slot stands. */
    assert_non_null(strstr(puller->sql, "'0/400100', NULL, 'proto_version', '1', 'publication_names', '\"p\"'"));
    assert_non_null(strstr(puller->sql, "'messages', 'true'"));
    repl_acknowledge(stream, 0x200);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_true(data.is_keepalive && data.end_lsn == 0x2FFFF00 && data.server_lsn == 0x3000000);
    assert_false(data.reply_requested);
    /* The own slot moved to what is durable, and so does the stream's feedback say, wherever it begins. */
    assert_streams();
    assert_non_null(strstr(puller->sql, "pg_drop_replication_slot"));
    assert_true(puller->finished);
    assert_true(repl_send_feedback(stream, false, &err));
    assert_memory_equal(streamer->last_put + 1, "\0\0\0\0\0\0\2\0", 8);
}

static void test_a_large_transaction(void **state) {
    static const char *const on_the_way[] = {"0/400100", "0/80", "0/3000000", "946684800000008"};
    static const char *const none[] = {HEADER TRAILER};
    static const size_t lengths[] = {21};
    ReplData data;

    (void)state;
    expect_first(far_behind);
    expect_reader();
    expect_chunk((FakeReply){.values = none, .n_rows = 1, .lengths = lengths, .tuples = "0"});
    expect_state(on_the_way);
    expect_chunk((FakeReply){.hangs = true});
    open_it();
    assert_int_equal(receive(&data), REPL_DATA);
    assert_true(data.is_keepalive && data.end_lsn == 0x400100);
    assert_int_equal(repl_receive(stream, 1, &data, &err), REPL_TIMEOUT);
    /* Nothing came of 4 MB: 16 more. */
    assert_non_null(strstr(puller->sql, "'0/1400100'"));
    stop_request(&stop);
    assert_int_equal(receive(&data), REPL_STOPPED);
    repl_stream_closep(&stream);
    assert_int_equal(puller->cancels, 1);
    assert_true(puller->finished);
}

/* --- When it streams at once -------------------------------------------------------------------------------------- */

static void test_not_worth_it(void **state) {
    static const char *const others[][7] = {
        {"t", "f", "", "0", "0/100", "0/80", "0/700000"}, /* a few megabytes */
        {"t", "f", "", "0", "0/100", "0/0", "0/3000000"}, /* nowhere to read from */
    };

    for (size_t i = 0; i < COUNT_OF(others); i++) {
        set_up(state);
        expect_first(others[i]);
        expect_stream(first, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
        open_it();
        assert_streams();
        assert_int_equal(puller->statements, 0);
        tear_down(state);
    }
}

static void test_no_slot_left(void **state) {
    (void)state;
    expect_first(far_behind);
    expect_puller((FakeReply){.sqlstate = "53400", .message = "all are in use"});
    expect_stream(first, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
    open_it();
    assert_true(puller->finished);
    assert_streams();
}

static void test_settings_that_a_copy_does_not_keep(void **state) {
    static const char *const idle[] = {"idle_replication_slot_timeout"};

    (void)state;
    expect_first(far_behind);
    expect_session(puller, 150020);
    fake_conn_expect(puller, (FakeReply){.sql_has = "idle_replication", .values = idle, .n_rows = 1, .n_columns = 1});
    expect_stream(first, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
    open_it();
    assert_true(puller->finished);
    assert_streams();
}

static void test_large_values_are_expected(void **state) {
    static const char *const large[] = {"t"};

    (void)state;
    expect_first(far_behind);
    expect_session(puller, 150020);
    fake_conn_expect(puller, (FakeReply){.sql_has = "synchronized_standby_slots", .n_columns = 1});
    fake_conn_expect(puller, (FakeReply){.sql_has = "reltoastrelid", .values = large, .n_rows = 1, .n_columns = 1});
    expect_stream(first, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
    open_it();
    assert_true(puller->finished);
    assert_streams();
}

static const struct {
    int version;
    bool sound;
} minors[] = {{140017, false}, {150012, false}, {160008, false}, {170004, false}, {140018, true},
              {150013, true},  {160009, true},  {170005, true},  {180000, true}};

static void test_old_minor_releases(void **state) {
    for (size_t i = 0; i < COUNT_OF(minors); i++) {
        set_up(state);
        expect_session(first, minors[i].version);
        expect_publications(first);
        expect_slot(first, far_behind);
        if (minors[i].sound) {
            expect_session(puller, minors[i].version);
            fake_conn_expect(puller,
                             (FakeReply){.sql_has = "synchronized_standby", .sqlstate = "42501", .message = "no"});
        }
        expect_stream(first, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
        open_it();
        assert_int_equal(puller->statements > 0, minors[i].sound);
        assert_streams();
        tear_down(state);
    }
}

/* The slot is behind the ledger: what lies between is not decoded. */
static void test_the_reader_begins_at_the_ledger(void **state) {
    static const char *const behind[] = {"t", "f", "", "0", "0/90", "0/80", "0/3000000"};
    ReplData data;

    (void)state;
    expect_first(behind);
    expect_puller((FakeReply){0});
    fake_conn_expect(puller, (FakeReply){.sql_has = "pg_replication_slot_advance"});
    expect_state(at_begin);
    expect_chunk((FakeReply){.hangs = true});
    open_it();
    assert_int_equal(repl_receive(stream, 1, &data, &err), REPL_TIMEOUT);
}

static const char *const chunk_errors[] = {"53400", "53100", "XX000", "55000", "57014"};

/* Nothing of the chunk was given: the stream gives it, or says what is wrong with the slot. */
static void test_a_chunk_that_fails(void **state) {
    for (size_t i = 0; i < COUNT_OF(chunk_errors); i++) {
        set_up(state);
        expect_first(far_behind);
        expect_reader();
        fake_conn_expect(puller,
                         (FakeReply){.sql_has = "get_binary_changes", .sqlstate = chunk_errors[i], .message = "no"});
        expect_streamer("START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
        open_it();
        assert_streams();
        tear_down(state);
    }
}

/* A server announces the COPY before it decodes, and says behind that what went wrong. */
static void test_a_chunk_that_fails_while_it_is_decoded(void **state) {
    for (size_t i = 0; i < COUNT_OF(chunk_errors); i++) {
        set_up(state);
        expect_first(far_behind);
        expect_reader();
        expect_chunk((FakeReply){.fails_late = true, .sqlstate = chunk_errors[i], .message = "no"});
        expect_streamer("START_REPLICATION SLOT \"s\" LOGICAL 0/100 ");
        open_it();
        assert_streams();
        assert_true(puller->finished);
        tear_down(state);
    }
}

/* The error has taken the reader away. */
static void test_the_slot_cannot_be_moved(void **state) {
    static const char *const rows[] = {HEADER TRAILER};
    static const size_t lengths[] = {21};
    ReplData data;

    (void)state;
    expect_first(far_behind);
    expect_reader();
    expect_chunk((FakeReply){.values = rows, .n_rows = 1, .lengths = lengths, .tuples = "0"});
    expect_state(near_the_end);
    fake_conn_expect(puller,
                     (FakeReply){.sql_has = "pg_replication_slot_advance", .sqlstate = "55000", .message = "lost"});
    expect_streamer("START_REPLICATION SLOT \"s\" LOGICAL 0/2FFFF00 ");
    open_it();
    assert_int_equal(receive(&data), REPL_DATA);
    assert_true(data.is_keepalive);
    repl_acknowledge(stream, 0x200);
    assert_streams();
}

/* --- When it fails ------------------------------------------------------------------------------------------------ */

static void fails(ErrorReason reason, const char *words) {
    ReplData data;

    open_it();
    ReplResult result = receive(&data);
    while (result == REPL_DATA)
        result = receive(&data);
    assert_int_equal(result, REPL_FAILED);
    if (err.reason != reason || strstr(err.message, words) == NULL)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
}

static void test_it_is_lost(void **state) {
    static const char *const rows[] = {HEADER ROW("\3", "abc")};
    static const size_t lengths[] = {28};

    (void)state;
    expect_first(far_behind);
    expect_reader();
    expect_chunk((FakeReply){.values = rows, .n_rows = 1, .lengths = lengths, .loses = true});
    fails(REASON_CONNECTION_LOST, "");
}

static void test_malformed(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
    } pieces[] = {
        {"PGCOPX\n\377\r\n\0\0\0\0\0\0\0\0\0", 19}, /* another signature */
        {HEADER, 18},                               /* cut */
        {"PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\1", 19}, /* an extension that is not there */
        {HEADER "\0", 20},                          /* half a number of fields */
        {HEADER "\0\2\0\0\0\1a", 26},               /* two fields */
        {HEADER "\0\1\0\0", 23},                    /* half a length */
        {HEADER "\0\1\0\0\0\2a", 26},               /* longer than it is */
        {HEADER "\0\1\377\377\377\377", 25},        /* NULL */
        {HEADER "\377\377x", 22},                   /* something behind the end */
    };

    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        set_up(state);
        expect_first(far_behind);
        expect_reader();
        expect_chunk((FakeReply){.values = &pieces[i].bytes, .n_rows = 1, .lengths = &pieces[i].len, .tuples = "1"});
        fails(REASON_WIRE_BAD, "malformed COPY");
        tear_down(state);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_backlog, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_large_transaction, set_up, tear_down),
        cmocka_unit_test(test_not_worth_it),
        cmocka_unit_test_setup_teardown(test_no_slot_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_settings_that_a_copy_does_not_keep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_values_are_expected, set_up, tear_down),
        cmocka_unit_test(test_old_minor_releases),
        cmocka_unit_test_setup_teardown(test_the_reader_begins_at_the_ledger, set_up, tear_down),
        cmocka_unit_test(test_a_chunk_that_fails),
        cmocka_unit_test(test_a_chunk_that_fails_while_it_is_decoded),
        cmocka_unit_test_setup_teardown(test_the_slot_cannot_be_moved, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_is_lost, set_up, tear_down),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
