/* Slots and streams against a scripted libpq: what each refusal comes to, feedback, silence, and every way to end. */
#include "common/clock.h"
#include "pg/repl.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/time.h>

#define SLOT_COLUMNS "plugin = 'pgoutput'"
#define TEXT(words) (words), sizeof(words) - 1

static Stop stop;
static Error err;
static FakeConn *fake;
static ReplStream *stream;
static DbTarget target;

static const char *const publications[] = {"p'1", "Q\"2\"\\", NULL};
static const char *const settled[] = {"t", "f", "", "0", "0/100", "0/80", "0/200"};
static const char *const in_use[] = {"t", "f", "", "99", "0/100", "0/80", "0/200"};
static const char *const nobody[] = {NULL};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    fake = fake_conn_new();
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

static void expect_session(int version) {
    fake->version = version;
    fake_conn_expect(fake, (FakeReply){.sql_has = "set_config"});
    if (version >= 140000)
        fake_conn_expect(fake, (FakeReply){.sql_has = "client_connection_check_interval"});
}

static void expect_slot(const char *const values[7]) {
    fake_conn_expect(fake, (FakeReply){.sql_has = SLOT_COLUMNS, .values = values, .n_rows = 1, .n_columns = 7});
}

static void expect_no_slot(void) {
    fake_conn_expect(fake, (FakeReply){.sql_has = SLOT_COLUMNS, .n_columns = 7});
}

static void expect_publications(void) {
    static const char *const minute[] = {"60000"};

    fake_conn_expect(fake, (FakeReply){.sql_has = "pg_publication", .values = nobody, .n_rows = 1, .n_columns = 1});
    fake_conn_expect(fake, (FakeReply){.sql_has = "wal_sender_timeout", .values = minute, .n_rows = 1, .n_columns = 1});
    if (fake->version >= 130000)
        fake_conn_expect(fake, (FakeReply){.sql_has = "logical_decoding_work_mem"});
}

static void expect_up_to_start(const char *const slot[7]) {
    expect_session(150020);
    expect_publications();
    expect_slot(slot);
}

static void expect_failure(const char *sql_has, const char *sqlstate) {
    fake_conn_expect(fake, (FakeReply){.sql_has = sql_has, .sqlstate = sqlstate, .message = "weigert sich"});
}

static ReplStart start_at(uint64_t lsn) {
    return (ReplStart){
        .slot = "s", .publications = publications, .lsn = lsn, .slot_wait_us = 1, .binary = true, .messages = true};
}

static void refuse(uint64_t lsn, ErrorReason reason, const char *words) {
    ReplStart start = start_at(lsn);

    assert_false(repl_stream_open(&target, &start, &stop, &stream, &err));
    if (err.reason != reason || strstr(err.message, words) == NULL)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
    assert_null(stream);
    assert_true(fake->finished);
}

/* Opens a stream of which the rest is scripted by `reply`. */
static void open_stream(FakeReply reply, int64_t feedback_us, int64_t silence_us) {
    ReplStart start = start_at(0x100);

    expect_up_to_start(settled);
    reply.kind = FAKE_COPY_BOTH;
    reply.sql_has = "START_REPLICATION";
    fake_conn_expect(fake, reply);
    start.feedback_interval_us = feedback_us;
    start.silence_us = silence_us;
    if (!repl_stream_open(&target, &start, &stop, &stream, &err))
        fail_msg("%s", err.message);
}

static ReplResult receive(ReplData *ret_data) {
    return repl_receive(stream, clock_now_us() + 50 * USEC_PER_MSEC, ret_data, &err);
}

static void assert_lost(const char *words) {
    ReplData data = {.len = 77};

    assert_int_equal(receive(&data), REPL_FAILED);
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    if (strstr(err.message, words) == NULL)
        fail_msg("%s", err.message);
    assert_int_equal(data.len, 77);
}

static void assert_feedback(unsigned char low_byte, bool asks) {
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(fake->last_put + 1 + i * 8, "\0\0\0\0\0\0\1", 7);
        assert_int_equal((unsigned char)fake->last_put[8 + i * 8], low_byte);
    }
    assert_int_equal(fake->last_put[0], 'r');
    assert_int_equal(fake->last_put[33], asks);
    assert_int_equal(fake->largest_put, 34);
}

/* --- Connecting --------------------------------------------------------------------------------------------------- */

static const struct {
    const char *login_error;
    ErrorReason reason;
    const char *remedy;
} logins[] = {
    {"x failed: FATAL:  42501: keine Berechtigung\n", REASON_NOT_PERMITTED, "ALTER ROLE \"u\" REPLICATION"},
    {"x failed: FATAL:  53300: mehr als max_wal_senders\n", REASON_SERVER_BUSY, "raise max_wal_senders"},
    {"x failed: FATAL:  53300: sorry, too many clients already\n", REASON_SERVER_BUSY, "raise max_connections"},
    {"x failed: FATAL:  28000: no pg_hba.conf entry for replication\n", REASON_LOGIN_REFUSED, "pg_hba.conf"},
};

static void test_refused_connections(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(logins); i++) {
        uint64_t lsn = 7;
        fake_pq_reset();
        fake = fake_conn_new();
        fake->login_error = logins[i].login_error;
        assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
        assert_int_equal(err.reason, logins[i].reason);
        if (strstr(err.remedy, logins[i].remedy) == NULL)
            fail_msg("%s: %s", logins[i].login_error, err.remedy);
        assert_int_equal(lsn, 7);
    }
}

static void test_connection_parameters(void **state) {
    uint64_t lsn = 0;

    (void)state;
    target.conninfo = "host=h user=u dbname='o d\\\\b' replication=false password='a\\'b\\\\c d'";
    expect_session(150020);
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err)); /* nothing is scripted */
    assert_non_null(strstr(fake->params, "replication=database;"));
    assert_non_null(strstr(fake->params, "password=a'b\\c d;"));
    assert_non_null(strstr(fake->params, "dbname=o d\\b;"));
    assert_non_null(strstr(fake->params, "application_name=pgcrane j7 slot;"));

    target.conninfo = "host=h nonsense";
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
    assert_int_equal(err.reason, REASON_BAD_CONNINFO);
}

/* --- Making and dropping slots ------------------------------------------------------------------------------------ */

static const struct {
    int version;
    bool failover;
    const char *sql;
} creations[] = {
    {130023, true, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput NOEXPORT_SNAPSHOT"},
    {140020, false, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput NOEXPORT_SNAPSHOT"},
    {150020, true, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing')"},
    {170012, false, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing')"},
    {180006, true, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER)"},
};

static void test_create_by_version(void **state) {
    static const char *const row[] = {"s", "16/B374D848", NULL, "pgoutput"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(creations); i++) {
        uint64_t lsn = 0;
        fake_pq_reset();
        fake = fake_conn_new();
        expect_session(creations[i].version);
        fake_conn_expect(fake, (FakeReply){.values = row, .n_rows = 1, .n_columns = 4});
        assert_true(repl_slot_create(&target, "s", creations[i].failover, &stop, &lsn, &err));
        assert_string_equal(fake->sql, creations[i].sql);
        assert_true(lsn == UINT64_C(0x16B374D848));
        assert_true(fake->finished);
    }
}

static void create_fails(const char *sqlstate, const char *wal_level, ErrorReason reason, const char *remedy) {
    uint64_t lsn = 7;

    fake_pq_reset();
    fake = fake_conn_new();
    expect_session(150020);
    expect_failure("CREATE_REPLICATION_SLOT", sqlstate);
    if (wal_level != NULL)
        fake_conn_expect(fake, (FakeReply){.sql_has = "wal_level", .values = &wal_level, .n_rows = 1, .n_columns = 1});
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
    assert_int_equal(err.reason, reason);
    assert_string_equal(err.message, "creating replication slot \"s\": weigert sich");
    assert_string_equal(err.sqlstate, sqlstate);
    if (strstr(err.remedy, remedy) == NULL)
        fail_msg("%s: %s", sqlstate, err.remedy);
    assert_int_equal(lsn, 7);
}

static void test_refused_creations(void **state) {
    (void)state;
    create_fails("55000", "replica", REASON_SQL_FAILED, "wal_level is replica: ALTER SYSTEM SET wal_level = 'logical'");
    create_fails("55000", "logical", REASON_SQL_FAILED, "");
    assert_null(strstr(err.remedy, "wal_level"));
    create_fails("53400", NULL, REASON_SERVER_BUSY, "raise max_replication_slots");
    create_fails("42710", NULL, REASON_SQL_FAILED, "SELECT pg_drop_replication_slot('s')");
    create_fails("42602", NULL, REASON_SQL_FAILED, "");
}

static void test_create_without_a_position(void **state) {
    static const char *const row[] = {"s", "somewhere", NULL, "pgoutput"};
    uint64_t lsn = 7;

    (void)state;
    expect_session(150020);
    fake_conn_expect(fake, (FakeReply){.values = row, .n_rows = 1, .n_columns = 4});
    assert_false(repl_slot_create(&target, "s", false, &stop, &lsn, &err));
    assert_int_equal(err.reason, REASON_INTERNAL);
    assert_int_equal(lsn, 7);
}

static bool drop(FakeReply end, FakeReply first, FakeReply second) {
    DbConn *conn = NULL;

    fake_pq_reset();
    fake = fake_conn_new();
    assert_true(db_open(&target, "drop", &stop, &conn, &err));
    end.sql_has = "pg_terminate_backend";
    first.sql_has = second.sql_has = "pg_drop_replication_slot";
    fake_conn_expect(fake, end);
    fake_conn_expect(fake, first);
    fake_conn_expect(fake, end);
    fake_conn_expect(fake, second);
    fake->statements = 0;
    bool dropped = repl_slot_drop(conn, "s", &err);
    db_closep(&conn);
    return dropped;
}

static void test_drop(void **state) {
    static const FakeReply good = {0}, missing = {.sqlstate = "42704"}, held = {.sqlstate = "55006"};
    static const FakeReply forbidden = {.sqlstate = "42501", .message = "no"};

    (void)state;
    assert_true(drop(good, good, good));
    assert_int_equal(fake->statements, 2);
    assert_true(drop(good, missing, good));
    assert_int_equal(fake->statements, 2);
    assert_true(drop(good, held, good));
    assert_int_equal(fake->statements, 4);
    assert_true(drop(good, held, missing));
    assert_false(drop(forbidden, good, good));
    assert_int_equal(err.reason, REASON_NOT_PERMITTED);
    assert_non_null(strstr(err.message, "ending the process that holds replication slot \"s\""));
    assert_false(drop(good, held, forbidden));
    assert_string_equal(err.message, "dropping replication slot \"s\": no");
}

/* --- Where a stream may begin ------------------------------------------------------------------------------------- */

static const struct {
    const char *row[7];
    ErrorReason reason;
    const char *words;
} slots[] = {
    {{"f", "f", "", "0", "0/100", "0/80", "0/200"}, REASON_LEDGER_MISMATCH, "not one of pgoutput"},
    {{"t", "t", "wal_removed", "0", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "max_slot_wal_keep_size"},
    {{"t", "t", "idle_timeout", "0", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "idle_replication_slot_timeout"},
    {{"t", "t", "rows_removed", "99", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "catalog rows"},
    {{"t", "t", "wal_level_insufficient", "0", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "wal_level"},
    {{"t", "t", "something_new", "0", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "something_new"},
    {{"t", "t", "", "0", "0/100", "0/80", "0/200"}, REASON_SLOT_LOST, "does not say why"},
    {{"t", "f", "", "0", "0/0", "0/80", "0/200"}, REASON_SLOT_LOST, "never completed"},
    {{"t", "f", "", "0", "0/101", "0/80", "0/200"}, REASON_DEST_WENT_BACK, "confirmed up to 0/101"},
    {{"t", "f", "", "0", "0/80", "0/80", "0/FF"}, REASON_SOURCE_WENT_BACK, "the source went back"},
    {{"t", "f", "", "0", "here", "0/80", "0/200"}, REASON_INTERNAL, "positions that are none"},
    {{"t", "f", "", "99", "0/100", "0/80", "0/200"}, REASON_SERVER_BUSY, "in use by process 99"},
};

static void test_slots_that_do_not_fit(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(slots); i++) {
        fake_pq_reset();
        fake = fake_conn_new();
        expect_up_to_start(slots[i].row);
        refuse(0x100, slots[i].reason, slots[i].words);
        assert_int_equal(err.retryable, slots[i].reason == REASON_SERVER_BUSY);
        if (slots[i].reason == REASON_SLOT_LOST || slots[i].reason == REASON_LEDGER_MISMATCH)
            assert_non_null(strstr(err.remedy, "--restart"));
    }
}

static void test_no_slot(void **state) {
    (void)state;
    expect_session(150020);
    expect_publications();
    expect_no_slot();
    refuse(0x100, REASON_SLOT_LOST, "replication slot \"s\" does not exist");
}

static void test_slot_columns_by_version(void **state) {
    static const struct {
        int version;
        const char *has, *has_not;
    } rows[] = {{100023, "false", "wal_status"}, {130023, "wal_status", "invalidation"}, {170012, "invalidation", "#"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        fake_pq_reset();
        fake = fake_conn_new();
        expect_session(rows[i].version);
        expect_publications();
        expect_no_slot();
        refuse(0x100, REASON_SLOT_LOST, "");
        assert_non_null(strstr(fake->sql, rows[i].has));
        assert_null(strstr(fake->sql, rows[i].has_not));
    }
}

static void test_failing_looks(void **state) {
    static const char *const missing[] = {"\"Q\"\"2\"\"\\\""};

    (void)state;
    expect_session(150020);
    expect_failure("pg_publication", "42501");
    refuse(0x100, REASON_NOT_PERMITTED, "looking for the publications: weigert sich");
    fake = fake_conn_new();
    expect_session(150020);
    expect_publications();
    expect_failure(SLOT_COLUMNS, "42501");
    refuse(0x100, REASON_NOT_PERMITTED, "reading the state of slot \"s\": weigert sich");
    fake = fake_conn_new();
    expect_session(150020);
    fake_conn_expect(fake, (FakeReply){.sql_has = "('p''1')", .values = missing, .n_rows = 1, .n_columns = 1});
    refuse(0x100, REASON_PUBLICATION_LOST, "publication \"Q\"\"2\"\"\\\"");
}

static void test_start_statement(void **state) {
    (void)state;
    open_stream((FakeReply){.hangs = true}, 0, 0);
    assert_string_equal(fake->sql, "START_REPLICATION SLOT \"s\" LOGICAL 0/100 (proto_version '1', publication_names "
                                   "'\"p''1\",\"Q\"\"2\"\"\\\"', binary 'true', messages 'true')");
    repl_stream_closep(&stream);
    /* Before 14 neither can be asked for. */
    ReplStart start = start_at(0x100);
    fake = fake_conn_new();
    expect_session(130023);
    expect_publications();
    expect_slot(settled);
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_BOTH, .hangs = true});
    assert_true(repl_stream_open(&target, &start, &stop, &stream, &err));
    assert_non_null(strstr(fake->sql, "\"Q\"\"2\"\"\\\"')"));
}

static void test_start_refused(void **state) {
    static const char *const lost[] = {"t", "t", "wal_removed", "0", "0/100", "0/80", "0/200"};

    (void)state;
    expect_up_to_start(settled);
    expect_failure("START_REPLICATION", "42704");
    expect_no_slot(); /* dropped since we looked */
    refuse(0x100, REASON_SLOT_LOST, "starting replication from slot \"s\": replication slot \"s\" does not exist");
    fake = fake_conn_new();
    expect_up_to_start(settled);
    expect_failure("START_REPLICATION", "55000");
    expect_slot(lost);
    refuse(0x100, REASON_SLOT_LOST, "max_slot_wal_keep_size");
    fake = fake_conn_new();
    expect_up_to_start(settled);
    expect_failure("START_REPLICATION", "22023");
    expect_slot(settled); /* nothing wrong with it: the server's word stands */
    refuse(0x100, REASON_SQL_FAILED, "starting replication from slot \"s\": weigert sich");
}

static void test_slot_becomes_free(void **state) {
    ReplStart start = start_at(0x100);

    (void)state;
    start.slot_wait_us = 20 * USEC_PER_SEC;
    expect_up_to_start(in_use);
    expect_slot(settled);
    expect_failure("START_REPLICATION", "55006"); /* somebody was faster */
    expect_slot(settled);
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_BOTH, .sql_has = "START_REPLICATION", .hangs = true});
    if (!repl_stream_open(&target, &start, &stop, &stream, &err))
        fail_msg("%s", err.message);
}

static void request_stop(int signal_number) {
    (void)signal_number;
    stop_request(&stop);
}

static void test_stop_while_the_slot_is_in_use(void **state) {
    struct itimerval timer = {.it_value = {.tv_usec = 20000}};
    ReplStart start = start_at(0x100);

    (void)state;
    start.slot_wait_us = 60 * USEC_PER_SEC;
    expect_up_to_start(in_use);
    for (int i = 0; i < 40; i++)
        expect_slot(in_use);
    signal(SIGALRM, request_stop);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    assert_false(repl_stream_open(&target, &start, &stop, &stream, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
}

/* --- The stream --------------------------------------------------------------------------------------------------- */

#define XLOG "w\0\0\0\0\0\0\1\2\0\0\0\0\0\0\1\3\0\0\0\0\0\0\0\4hello"
#define KEEPALIVE "k\0\0\0\0\0\0\1\5\0\0\0\0\0\0\0\6\0"
#define KEEPALIVE_ASKING "k\0\0\0\0\0\0\1\5\0\0\0\0\0\0\0\6\1"

static void test_messages(void **state) {
    static const char *const rows[] = {XLOG, KEEPALIVE, KEEPALIVE_ASKING, XLOG};
    static const size_t lengths[] = {sizeof(XLOG) - 1, sizeof(KEEPALIVE) - 1, sizeof(KEEPALIVE_ASKING) - 1, 25};
    ReplData data;

    (void)state;
    open_stream((FakeReply){.values = rows, .n_rows = 4, .lengths = lengths, .hangs = true}, USEC_PER_SEC * 100, 0);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_false(data.is_keepalive);
    assert_true(data.start_lsn == 0x102 && data.end_lsn == 0x103 && data.server_time_us == 4);
    assert_int_equal(data.len, 5);
    assert_memory_equal(data.bytes, "hello", 5);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_true(data.is_keepalive && !data.reply_requested);
    assert_true(data.end_lsn == 0x105 && data.server_time_us == 6 && data.start_lsn == 0);
    assert_int_equal(fake->puts, 0);
    repl_acknowledge(stream, 0x110);
    repl_acknowledge(stream, 0x10F);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_true(data.reply_requested);
    assert_int_equal(fake->puts, 1);
    assert_feedback(0x10, false);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_int_equal(data.len, 0);
    assert_int_equal(receive(&data), REPL_TIMEOUT);
    assert_int_equal(fake->puts, 1);
}

static void test_first_feedback_is_the_start(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.hangs = true}, USEC_PER_MSEC, 0);
    assert_int_equal(receive(&data), REPL_TIMEOUT);
    assert_true(fake->puts >= 2 && fake->puts <= 60);
    assert_feedback(0, false);
}

static void test_silence(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.hangs = true}, USEC_PER_SEC * 100, 60 * USEC_PER_MSEC);
    assert_int_equal(repl_receive(stream, clock_now_us() + 40 * USEC_PER_MSEC, &data, &err), REPL_TIMEOUT);
    assert_int_equal(fake->puts, 1);
    assert_feedback(0, true);
    assert_int_equal(repl_receive(stream, 0, &data, &err), REPL_FAILED);
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "has said nothing for"));
    assert_int_equal(fake->puts, 1);
}

enum { ASKED = 120 };
static const char *asking[ASKED];
static size_t asking_lengths[ASKED];

/* A server that asks for a reply, and again as soon as it has one. */
static void open_asked(int64_t feedback_us, int64_t insists_us) {
    ReplStart start = start_at(0x100);

    fake_pq_reset();
    fake = fake_conn_new();
    expect_up_to_start(settled);
    fake_conn_expect(fake, (FakeReply){.kind = FAKE_COPY_BOTH,
                                       .sql_has = "START_REPLICATION",
                                       .values = asking,
                                       .n_rows = ASKED,
                                       .lengths = asking_lengths,
                                       .hangs = true});
    start.feedback_interval_us = feedback_us;
    start.insists_us = insists_us;
    if (!repl_stream_open(&target, &start, &stop, &stream, &err))
        fail_msg("%s", err.message);
}

static void ask_all(void) {
    for (size_t i = 0; i < ASKED; i++) {
        asking[i] = KEEPALIVE_ASKING;
        asking_lengths[i] = sizeof(KEEPALIVE_ASKING) - 1;
    }
}

/* How many come until the stream ends, each `pause_us` after the one before. */
static size_t count_asked(int64_t pause_us) {
    ReplData data;
    size_t count = 0;

    while (count < ASKED && receive(&data) == REPL_DATA) {
        count++;
        if (pause_us > 0)
            (void)stop_wait_fd(NULL, -1, 0, clock_now_us() + pause_us);
    }
    return count;
}

static void test_source_that_shuts_down(void **state) {
    (void)state;
    ask_all();
    open_asked(USEC_PER_SEC * 100, 10 * USEC_PER_MSEC);
    assert_int_equal(count_asked(USEC_PER_MSEC), 49);
    assert_int_equal(err.reason, REASON_CONNECTION_LOST);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "the source is shutting down"));
    assert_int_equal(fake->puts, 49);
    repl_stream_closep(&stream);
    assert_int_equal(fake->copy_ends, 0); /* it is not waited for */
}

static void test_source_that_only_asks(void **state) {
    (void)state;
    ask_all();
    open_asked(USEC_PER_SEC * 100, 0); /* not for long enough */
    assert_int_equal(count_asked(USEC_PER_MSEC), ASKED);
    repl_stream_closep(&stream);

    open_asked(USEC_PER_SEC * 100, USEC_PER_MSEC); /* it has been told */
    repl_acknowledge(stream, 0x105);
    assert_int_equal(count_asked(USEC_PER_MSEC), ASKED);
    repl_stream_closep(&stream);

    open_asked(USEC_PER_MSEC, USEC_PER_MSEC); /* when its time-out demands it */
    assert_int_equal(count_asked(2 * USEC_PER_MSEC), ASKED);
    repl_stream_closep(&stream);

    for (size_t i = 0; i < ASKED; i += 40) { /* it goes on */
        asking[i] = XLOG;
        asking_lengths[i] = sizeof(XLOG) - 1;
    }
    open_asked(USEC_PER_SEC * 100, USEC_PER_MSEC);
    assert_int_equal(count_asked(USEC_PER_MSEC), ASKED);
    repl_stream_closep(&stream);

    for (size_t i = 0; i < ASKED; i++) {
        asking[i] = i % 40 == 0 ? "k\0\0\0\0\0\0\1\6\0\0\0\0\0\0\0\6\1" : KEEPALIVE_ASKING;
        asking_lengths[i] = sizeof(KEEPALIVE_ASKING) - 1;
    }
    open_asked(USEC_PER_SEC * 100, USEC_PER_MSEC);
    assert_int_equal(count_asked(USEC_PER_MSEC), ASKED);
}

static void test_stop(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.hangs = true}, 0, 0);
    fake->stop_when_waiting = &stop;
    assert_int_equal(repl_receive(stream, 0, &data, &err), REPL_STOPPED);
    assert_int_equal(repl_receive(stream, 0, &data, &err), REPL_STOPPED);
    assert_int_equal(fake->cancels, 0); /* a cancel request means nothing in this mode */
}

static void test_ends(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.loses = true}, 0, 0);
    assert_lost("server closed the connection");
    repl_stream_closep(&stream);
    assert_int_equal(fake->copy_ends, 0);

    fake = fake_conn_new();
    open_stream((FakeReply){.garbage = true}, 0, 0);
    assert_lost("the connection to the source was lost");
    repl_stream_closep(&stream);

    fake = fake_conn_new();
    open_stream((FakeReply){0}, 0, 0); /* ends well: a shutdown */
    assert_lost("the source has ended the stream");
    repl_stream_closep(&stream);

    static const char *const rows[] = {KEEPALIVE};
    static const size_t lengths[] = {sizeof(KEEPALIVE) - 1};
    fake = fake_conn_new();
    open_stream((FakeReply){.values = rows,
                            .n_rows = 1,
                            .lengths = lengths,
                            .sqlstate = "57P01",
                            .severity = "FATAL",
                            .message = "terminating"},
                0, 0);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_lost("terminating");

    repl_stream_closep(&stream);
    fake = fake_conn_new();
    open_stream((FakeReply){.values = rows, .n_rows = 1, .lengths = lengths, .sqlstate = "42704"}, 0, 0);
    assert_int_equal(receive(&data), REPL_DATA);
    assert_int_equal(receive(&data), REPL_FAILED);
    assert_int_equal(err.reason, REASON_SQL_FAILED);
    assert_false(err.retryable);
}

static void test_messages_that_are_none(void **state) {
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{TEXT("x")}, {TEXT("w")}, {XLOG, 24}, {TEXT("k")}, {KEEPALIVE, 17}, {KEEPALIVE "\0", 19}};
    ReplData data;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        fake_pq_reset();
        fake = fake_conn_new();
        open_stream((FakeReply){.values = &bad[i].bytes, .n_rows = 1, .lengths = &bad[i].len, .hangs = true}, 0, 0);
        assert_int_equal(receive(&data), REPL_FAILED);
        assert_int_equal(err.reason, REASON_WIRE_BAD);
        repl_stream_closep(&stream);
    }
}

static void test_feedback_that_cannot_be_sent(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.hangs = true}, USEC_PER_MSEC, 0);
    fake->put_fails = true;
    assert_lost("the connection to the source was lost");
    repl_stream_closep(&stream);

    fake = fake_conn_new();
    open_stream((FakeReply){.hangs = true}, USEC_PER_MSEC, 0);
    fake->flush_fails = true;
    assert_lost("the connection to the source was lost");
    repl_stream_closep(&stream);

    static const char *const rows[] = {KEEPALIVE_ASKING};
    static const size_t lengths[] = {sizeof(KEEPALIVE_ASKING) - 1};
    fake = fake_conn_new();
    open_stream((FakeReply){.values = rows, .n_rows = 1, .lengths = lengths, .hangs = true}, 0, 0);
    fake->put_fails = true;
    assert_lost("the connection to the source was lost");
    repl_stream_closep(&stream);

    /* No room: left out, and said with the next one. */
    fake = fake_conn_new();
    open_stream((FakeReply){.hangs = true}, USEC_PER_MSEC, 0);
    fake->put_no_room = 1;
    assert_int_equal(receive(&data), REPL_TIMEOUT);
    assert_true(fake->puts >= 1);
}

/* A peer that does not read gets no second feedback, and nobody spins. */
static void test_peer_that_does_not_read(void **state) {
    ReplData data;

    (void)state;
    open_stream((FakeReply){.hangs = true}, USEC_PER_MSEC, 0);
    fake->never_writable = true;
    assert_int_equal(receive(&data), REPL_TIMEOUT);
    assert_int_equal(fake->puts, 1);
    fake->never_writable = false;
    fake->flush_unsent = 1;
    assert_int_equal(receive(&data), REPL_TIMEOUT);
    assert_true(fake->puts > 1);
}

static void test_close(void **state) {
    (void)state;
    open_stream((FakeReply){.hangs = true}, 0, 0);
    repl_acknowledge(stream, 0x123);
    fake->flush_unsent = 3;
    repl_stream_closep(&stream);
    assert_null(stream);
    assert_int_equal(fake->copy_ends, 1);
    assert_false(fake->copy_end_was_error);
    assert_true(fake->finished);
    repl_stream_closep(&stream); /* NULL */

    static const char *const rows[] = {KEEPALIVE, XLOG};
    static const size_t lengths[] = {sizeof(KEEPALIVE) - 1, sizeof(XLOG) - 1};
    fake = fake_conn_new();
    open_stream((FakeReply){.values = rows, .n_rows = 2, .lengths = lengths, .hangs = true}, 0, 0);
    repl_acknowledge(stream, 0x124);
    repl_stream_closep(&stream); /* what nobody took is thrown away */
    assert_feedback(0x24, false);
    assert_true(fake->finished);
}

static void test_close_takes_a_second_at_most(void **state) {
    int64_t began;

    (void)state;
    open_stream((FakeReply){.hangs = true}, 0, 0);
    fake->ignores_end = true;
    began = clock_now_us();
    repl_stream_closep(&stream);
    assert_true(clock_now_us() - began < 5 * USEC_PER_SEC);
    assert_true(fake->finished);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_refused_connections),
        TEST(test_connection_parameters),
        TEST(test_create_by_version),
        TEST(test_refused_creations),
        TEST(test_create_without_a_position),
        TEST(test_drop),
        TEST(test_slots_that_do_not_fit),
        TEST(test_no_slot),
        TEST(test_slot_columns_by_version),
        TEST(test_failing_looks),
        TEST(test_start_statement),
        TEST(test_start_refused),
        TEST(test_slot_becomes_free),
        TEST(test_stop_while_the_slot_is_in_use),
        TEST(test_messages),
        TEST(test_first_feedback_is_the_start),
        TEST(test_silence),
        TEST(test_source_that_shuts_down),
        TEST(test_source_that_only_asks),
        TEST(test_stop),
        TEST(test_ends),
        TEST(test_messages_that_are_none),
        TEST(test_feedback_that_cannot_be_sent),
        TEST(test_peer_that_does_not_read),
        TEST(test_close),
        TEST(test_close_takes_a_second_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
