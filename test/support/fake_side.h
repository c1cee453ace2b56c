/*
 * One connection to a scripted server (fake_pq.h), and a script of which each statement is made to fail in turn.
 *
 * fake_side_fails_at() is for functions that are a list of statements: it opens a connection for each of them, lets
 * that one fail, and looks at how the function ends.
 */
#pragma once

#include "pg/query.h"
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct FakeSide {
    DbConn *conn;
    FakeConn *fake;
    Stop stop;
} FakeSide;

#define FAKE_OK(has) ((FakeReply){.sql_has = (has)})
#define FAKE_FAIL(has, state, text) ((FakeReply){.sql_has = (has), .sqlstate = (state), .message = (text)})
/* One row: its values follow. */
#define FAKE_ROW(has, ...)                                                                                             \
    ((FakeReply){.sql_has = (has),                                                                                     \
                 .values = (const char *const[]){__VA_ARGS__},                                                         \
                 .n_rows = 1,                                                                                          \
                 .n_columns = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)})
/* Several rows of `columns` values. */
#define FAKE_ROWS_OF(has, columns, ...)                                                                                \
    ((FakeReply){.sql_has = (has),                                                                                     \
                 .values = (const char *const[]){__VA_ARGS__},                                                         \
                 .n_rows = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *) / (columns),                    \
                 .n_columns = (columns)})

static inline void fake_side_open(FakeSide *side, DbSide which) {
    DbTarget target = {.side = which, .conninfo = "host=h user=u dbname=d", .job_id = "j7"};
    Error err = {0};

    assert_true(stop_init(&side->stop, &err));
    side->fake = fake_conn_new();
    if (!db_open(&target, "test", &side->stop, &side->conn, &err))
        fail_msg("%s", err.message);
    side->fake->statements = 0;
}

static inline void fake_side_close(FakeSide *side) {
    db_closep(&side->conn);
    stop_fini(&side->stop);
}

static inline void fake_side_script(FakeSide *side, const FakeReply *replies, size_t count) {
    for (size_t i = 0; i < count; i++)
        fake_conn_expect(side->fake, replies[i]);
}

#define fake_side_play(side, ...)                                                                                      \
    fake_side_script((side), (const FakeReply[]){__VA_ARGS__},                                                         \
                     sizeof((const FakeReply[]){__VA_ARGS__}) / sizeof(FakeReply))

/* All of the script was used, and nothing more was sent. */
static inline void fake_side_played(const FakeSide *side) {
    assert_int_equal(side->fake->next_reply, side->fake->n_replies);
    assert_int_equal(side->fake->statements, side->fake->n_replies);
}

typedef bool (*FakeSideCall)(DbConn *conn, Error *err);

/* Statement `at` of the script is refused (DISK_FULL) or, with `lost`, ends the connection. Statements from
 * `rollback_from` on are inside a transaction that must be rolled back. */
static inline void fake_side_fails_at(const FakeReply *replies, size_t count, size_t at, bool lost,
                                      size_t rollback_from, FakeSideCall call) {
    FakeSide side = {0};
    Error err = {0};

    fake_side_open(&side, DB_DEST);
    fake_side_script(&side, replies, count);
    side.fake->n_replies = (int)at;
    FakeReply failure = {.sql_has = replies[at].sql_has, .loses = lost, .sqlstate = lost ? NULL : "53100"};
    failure.message = "could not extend file";
    fake_conn_expect(side.fake, failure);
    side.fake->in_transaction = at >= rollback_from;
    if (call(side.conn, &err))
        fail_msg("statement %zu (%s) failed unnoticed", at, replies[at].sql_has);
    assert_int_equal(err.reason, lost ? REASON_CONNECTION_LOST : REASON_DISK_FULL);
    assert_true(err.retryable);
    assert_non_null(strstr(err.message, lost ? "was lost" : "could not extend file"));
    bool rolled_back = !lost && at >= rollback_from;
    if (rolled_back)
        assert_string_equal(side.fake->sql, "ROLLBACK");
    assert_int_equal(side.fake->statements, at + 1 + rolled_back);
    fake_side_close(&side);
}

static inline void fake_side_each_fails(const FakeReply *replies, size_t count, size_t rollback_from,
                                        FakeSideCall call) {
    for (size_t at = 0; at < count; at++)
        for (int lost = 0; lost < 2; lost++) {
            fake_pq_reset();
            fake_side_fails_at(replies, count, at, lost != 0, rollback_from, call);
        }
    fake_pq_reset();
}
