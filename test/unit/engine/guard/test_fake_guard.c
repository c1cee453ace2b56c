/* guard.c and timeline.c against a scripted libpq: every version's slot, every cause, every broken answer. */
#include "engine/guard/guard.h"

#include "support/fake_side.h"

static Arena *arena;
static Stop stop;
static Error err;

enum { SLOT_COLUMNS = 19 };

/* What a healthy slot looks like; tests change one column. */
static const char *const healthy[SLOT_COLUMNS] = {
    "0/5000000", "0/1000000", "0/2000000", "67108864", "reserved", "1048576", "64MB", "64", "f",        NULL,
    NULL,        "logical",   "12",        "f",        NULL,       "f",       "t",    NULL, "200000000"};

static int set_up(void **state) {
    (void)state;
    fake_pq_reset();
    arena = arena_new();
    err = (Error){0};
    assert_true(stop_init(&stop, &err));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    fake_pq_reset();
    stop_fini(&stop);
    arena_freep(&arena);
    return 0;
}

static bool read_with(int version, const char *const values[SLOT_COLUMNS], GuardReading *ret_reading, char *sql,
                      size_t size) {
    DbTarget target = {.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};
    FakeConn *fake = fake_conn_new();
    DbConn *conn = NULL;

    fake->version = version;
    assert_true(db_open(&target, "test", &stop, &conn, &err));
    fake_conn_expect(fake, (FakeReply){.values = values, .n_rows = 1, .n_columns = SLOT_COLUMNS});
    bool good = guard_read(conn, arena, "s", ret_reading, &err);
    if (sql != NULL)
        assert_true((size_t)snprintf(sql, size, "%s", fake->sql) < size);
    db_closep(&conn);
    return good;
}

static bool read_changed(size_t column, const char *value, size_t column2, const char *value2) {
    const char *values[SLOT_COLUMNS];
    GuardReading reading;

    memcpy(values, healthy, sizeof(values));
    values[column] = value;
    values[column2] = value2;
    return read_with(170000, values, &reading, NULL, 0);
}

static void a_healthy_slot(void **state) {
    GuardReading reading;

    (void)state;
    assert_true(read_with(150000, healthy, &reading, NULL, 0));
    assert_int_equal(reading.current, 0x5000000);
    assert_int_equal(reading.restart, 0x1000000);
    assert_int_equal(reading.confirmed, 0x2000000);
    assert_int_equal(reading.retained_bytes, 67108864);
    assert_int_equal(reading.limit_bytes, 64 << 20);
    assert_int_equal(reading.left_bytes, 1048576);
    assert_string_equal(reading.wal_status, "reserved");
    assert_int_equal(reading.catalog_xmin_age, 12);
    assert_int_equal(reading.freeze_max_age, 200000000);
    assert_false(reading.active);
}

static void below_zero_is_nothing_left(void **state) {
    const char *values[SLOT_COLUMNS];
    GuardReading reading;

    (void)state;
    memcpy(values, healthy, sizeof(values));
    values[5] = "-8388608";
    assert_true(read_with(150000, values, &reading, NULL, 0));
    assert_int_equal(reading.left_bytes, 0);
}

/* What a version does not have is not asked for. */
static void versions(void **state) {
    static const struct {
        int version;
        const char *has[3], *has_not[3];
    } rows[] = {
        {100023, {"restart_lsn"}, {"wal_status", "conflicting", "invalidation_reason"}},
        {120022, {"restart_lsn"}, {"wal_status", "conflicting", "invalidation_reason"}},
        {130000, {"wal_status", "safe_wal_size"}, {"conflicting", "invalidation_reason"}},
        {150000, {"wal_status", "safe_wal_size"}, {"conflicting", "invalidation_reason"}},
        {160000, {"wal_status", "conflicting"}, {"invalidation_reason"}},
        {170000, {"wal_status", "invalidation_reason"}, {"conflicting"}},
        {190000, {"wal_status", "invalidation_reason"}, {"conflicting"}},
    };
    char sql[FAKE_SQL_MAX];
    GuardReading reading;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_true(read_with(rows[i].version, healthy, &reading, sql, sizeof(sql)));
        for (size_t j = 0; j < 3; j++) {
            if (rows[i].has[j] != NULL && strstr(sql, rows[i].has[j]) == NULL)
                fail_msg("%d does not ask for %s", rows[i].version, rows[i].has[j]);
            if (rows[i].has_not[j] != NULL && strstr(sql, rows[i].has_not[j]) != NULL)
                fail_msg("%d asks for %s", rows[i].version, rows[i].has_not[j]);
        }
    }
}

/* The server's word, what must be said, what must be advised. */
static void lost_slots(void **state) {
    static const struct {
        const char *cause, *said, *advised;
    } rows[] = {
        {"wal_removed", "max_slot_wal_keep_size = 64MB", "max_slot_wal_keep_size = -1"},
        {"idle_timeout", "idle_replication_slot_timeout = ", "idle_replication_slot_timeout = 0"},
        {"wal_level_insufficient", "wal_level = logical", "wal_level"},
        {"rows_removed", "catalogue rows", "hot_standby_feedback"},
        {"conflict", "catalogue rows", "wal_level"},
        {"something_new", "something_new", "--restart"},
        {NULL, "it does not say why", "--restart"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        err = (Error){0};
        assert_false(read_changed(8, "t", 9, rows[i].cause));
        assert_int_equal(err.reason, REASON_SLOT_LOST);
        assert_false(err.retryable);
        if (strstr(err.message, rows[i].said) == NULL || strstr(err.message, "for good") == NULL ||
            strstr(err.remedy, rows[i].advised) == NULL)
            fail_msg("%s / %s", err.message, err.remedy);
    }
}

static void slots_that_are_not_ours(void **state) {
    (void)state;
    assert_false(read_changed(13, NULL, 16, "f"));
    assert_int_equal(err.reason, REASON_SLOT_LOST);
    assert_non_null(strstr(err.message, "does not exist"));
    assert_false(read_changed(16, "f", 16, "f"));
    assert_int_equal(err.reason, REASON_SLOT_LOST);
    assert_non_null(strstr(err.message, "replaced"));
    assert_false(read_changed(14, "4711", 17, "psql"));
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_non_null(strstr(err.remedy, "pg_terminate_backend(4711)"));
    /* In recovery nothing else is asked: the slot may come with the promotion. */
    assert_false(read_changed(15, "t", 13, NULL));
    assert_int_equal(err.reason, REASON_SERVER_BUSY);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, "recovery"));
}

static void answers_that_are_none(void **state) {
    (void)state;
    for (size_t column = 0; column < 3; column++) {
        err = (Error){0};
        assert_false(read_changed(column, "nonsense", column, "nonsense"));
        assert_int_equal(err.reason, REASON_INTERNAL);
    }
}

static bool call_read(DbConn *conn, Error *error) {
    GuardReading reading;

    return guard_read(conn, arena, "s", &reading, error);
}

static bool call_record(DbConn *conn, Error *error) {
    return guard_record_timeline(conn, &(Ledger){.job_id = "j7", .epoch = 3}, 2, error);
}

static void statements_that_fail(void **state) {
    const FakeReply read[] = {{.sql_has = "pg_replication_slots"}};

    (void)state;
    fake_side_each_fails(read, 1, SIZE_MAX, call_read);
}

static void recording_is_one_fenced_transaction(void **state) {
    FakeSide dest = {0};

    (void)state;
    fake_side_open(&dest, DB_DEST);
    fake_side_play(&dest, {.sql_has = "pgcrane.job", .values = (const char *const[]){"1"}, .n_rows = 1, .n_columns = 1},
                   {.sql_has = "UPDATE pgcrane.stream", .tuples = "1"}, {.sql_has = "COMMIT"});
    if (!call_record(dest.conn, &err))
        fail_msg("%s", err.message);
    fake_side_played(&dest);
    /* No stream's line: nothing is kept. */
    fake_side_play(&dest, {.sql_has = "pgcrane.job", .values = (const char *const[]){"1"}, .n_rows = 1, .n_columns = 1},
                   {.sql_has = "UPDATE pgcrane.stream", .tuples = "0"}, {.sql_has = "ROLLBACK"});
    dest.fake->in_transaction = true;
    assert_false(call_record(dest.conn, &err));
    assert_int_equal(err.reason, REASON_ROW_COUNT);
    fake_side_close(&dest);
}

/* --- Timelines ---------------------------------------------------------------------------------------------------- */

typedef struct Server {
    const char *system, *timeline, *end, *recovery, *history;
} Server;

static bool check(Server server, int32_t recorded, Lsn behind, int32_t *ret_timeline) {
    DbTarget target = {.side = DB_SOURCE, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};
    JournalStream stream = {.slot = "s", .system_identifier = "77", .timeline = recorded};
    FakeConn *fake = fake_conn_new();

    fake->version = 150000;
    /* The settings come first. */
    fake_conn_expect(fake, (FakeReply){.sql_has = "set_config"});
    fake_conn_expect(fake, FAKE_OK("client_connection_check_interval"));
    fake_conn_expect(fake, FAKE_ROW("pg_is_in_recovery", server.recovery));
    fake_conn_expect(fake, FAKE_ROW("IDENTIFY_SYSTEM", server.system, server.timeline, server.end, "d"));
    if (server.history != NULL)
        fake_conn_expect(fake, FAKE_ROW("TIMELINE_HISTORY", "x.history", server.history));
    err = (Error){0};
    bool good = guard_check_timeline(&target, &stop, &stream, behind, &err);
    *ret_timeline = stream.timeline;
    return good;
}

static void timelines(void **state) {
    static const struct {
        Server server;
        int32_t recorded;
        Lsn behind;
        int32_t now; /* 0 = refused */
        ErrorReason reason;
        const char *said;
    } rows[] = {
        {{"77", "1", "0/500", "f", NULL}, 1, 0x500, 1, 0, NULL},
        {{"77", "1", "0/4FF", "f", NULL}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "restored"},
        {{"78", "1", "0/500", "f", NULL}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "another server"},
        {{"77", "1", "0/500", "t", NULL}, 1, 0x500, 0, REASON_SERVER_BUSY, "recovery"},
        {{"77", "2", "0/900", "f", "1\t0/500\tx\n"}, 1, 0x500, 2, 0, NULL},
        {{"77", "2", "0/900", "f", "1\t0/4FF\tx\n"}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "timeline 2"},
        /* Two fail-overs: each switch counts from the recorded one on, earlier ones do not. */
        {{"77", "3", "0/900", "f", "1\t0/100\tx\n2\t0/600\tx\n"}, 2, 0x500, 3, 0, NULL},
        {{"77", "3", "0/900", "f", "1\t0/100\tx\n2\t0/600\tx\n"}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "0/100"},
        {{"77", "3", "0/900", "f", "1\t0/700\tx\n2\t0/400\tx\n"}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "0/400"},
        /* A sibling, and the old primary that came back. */
        {{"77", "3", "0/900", "f", "1\t0/700\tx\n"}, 2, 0x500, 0, REASON_SOURCE_WENT_BACK, "does not descend"},
        {{"77", "1", "0/900", "f", NULL}, 2, 0x500, 0, REASON_SOURCE_WENT_BACK, "does not descend"},
        {{"77", "2", "0/4FF", "f", "1\t0/500\tx\n"}, 1, 0x500, 0, REASON_SOURCE_WENT_BACK, "restored"},
        {{"77", "2", "0/900", "f", "nonsense"}, 1, 0x500, 0, REASON_WIRE_BAD, "history"},
        {{"77", "1", "nonsense", "f", NULL}, 1, 0x500, 0, REASON_WIRE_BAD, "who it is"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int32_t now = 0;
        bool good = check(rows[i].server, rows[i].recorded, rows[i].behind, &now);

        if (good != (rows[i].now != 0))
            fail_msg("row %zu: %s", i, good ? "taken" : err.message);
        assert_int_equal(now, good ? rows[i].now : rows[i].recorded);
        if (!good && (err.reason != rows[i].reason || strstr(err.message, rows[i].said) == NULL))
            fail_msg("row %zu: %s: %s", i, error_reason_name(err.reason), err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_healthy_slot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(below_zero_is_nothing_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slots_that_are_not_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(statements_that_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(recording_is_one_fenced_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(timelines, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
