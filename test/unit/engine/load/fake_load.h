/* A load with one lane whose two connections are scripted (fake_pq.h), for tests of what lanes do. */
#pragma once

#include "engine/load/load.h"
#include "small_toc.h"
#include "support/fake_side.h"

typedef struct FakeLoad {
    SmallToc small;
    Tracker *tracker;
    Pool *pool;
    Stop stop;
    FakeConn *source, *dest; /* the lane's */
    FakeSide control;
    LoadParams params;
    Arena *arena;
} FakeLoad;

static const Ledger fake_ledger = {.job_id = "j7", .epoch = 8};
static const LedgerSnapshot fake_snapshot = {
    .id = 1, .snapshot_id = "s-1", .picture = "1:2:", .postmaster_start = "monday", .keeper_pid = "5"};
static const DbTarget fake_source_target = {.side = DB_SOURCE, .conninfo = "host=s user=u dbname=d", .job_id = "j7"};
static const DbTarget fake_dest_target = {.side = DB_DEST, .conninfo = "host=d user=u dbname=d", .job_id = "j7"};

static const char *const fake_one[] = {"1"};
#define FAKE_BEGIN ((FakeReply){.sql_has = "epoch = 8 FOR SHARE", .values = fake_one, .n_rows = 1, .n_columns = 1})
/* What opening a session sends. */
#define FAKE_LOGIN                                                                                                     \
    FAKE_OK("set_config('application_name', 'pgcrane j7 lane"), FAKE_OK("client_connection_check_interval"),           \
        FAKE_ROW("current_setting('application_name') = 'pgcrane j7 lane", "t"), FAKE_OK("pg_terminate_backend")
/* The session has another name than the one that was asked for: nobody's is ended by name. */
#define FAKE_LOGIN_RENAMED                                                                                             \
    FAKE_OK("set_config"), FAKE_OK("client_connection_check_interval"), FAKE_ROW("current_setting", "f")

#define fake_play(conn_, ...) fake_side_play(&(FakeSide){.fake = (conn_)}, __VA_ARGS__)

static inline void fake_played(const FakeConn *fake) {
    assert_int_equal(fake->next_reply, fake->n_replies);
    assert_int_equal(fake->statements, fake->n_replies);
}

static inline bool fake_load_open_next(void *context, PoolTask *ret_task) {
    bool *given = context;
    bool first = !*given;

    *given = true;
    *ret_task = (PoolTask){0};
    return first;
}

static inline bool fake_load_open_run(void *context, Lane *lane, PoolTask *task, Error *err) {
    DbConn *conn = NULL;

    (void)context, (void)task;
    return lane_dest(lane, &conn, err) && lane_source(lane, &conn, err);
}

static inline void fake_load_open_finished(void *context, const PoolTask *task) {
    (void)context, (void)task;
}

/* The lane logs in before the scripts begin. */
static inline void fake_load_open_lane(FakeLoad *load) {
    bool given = false;
    Error err = {0};
    PoolWork work = {
        .context = &given, .next = fake_load_open_next, .run = fake_load_open_run, .finished = fake_load_open_finished};

    load->dest = fake_conn_new();
    load->source = fake_conn_new();
    assert_true(pool_new(&fake_source_target, &fake_dest_target, 1, load->tracker, &load->pool, &err));
    if (!pool_run(load->pool, &work, &load->stop, &err))
        fail_msg("%s", err.message);
    assert_non_null(strstr(load->dest->params, "host=d"));
    load->dest->statements = load->source->statements = 0;
    load->params.pool = load->pool;
}

static inline void fake_load_begin(FakeLoad *load) {
    Error err = {0};

    fake_pq_reset();
    *load = (FakeLoad){.small = small_toc_new(300), .tracker = tracker_new()};
    load->arena = load->small.arena;
    assert_true(stop_init(&load->stop, &err));
    fake_load_open_lane(load);
    fake_side_open(&load->control, DB_DEST);
    load->params = (LoadParams){.pool = load->pool,
                                .ledger = &fake_ledger,
                                .snapshot = &fake_snapshot,
                                .chosen = load->small.chosen,
                                .entry_done = load->small.done,
                                .copy_max = 1,
                                .build_max = 1,
                                .tracker = load->tracker,
                                .stop = &load->stop};
}

/* The archive and plan are complete: the parameters point to them. */
static inline const LoadParams *fake_load_params(FakeLoad *load) {
    load->params.toc = &load->small.toc;
    load->params.plan = &load->small.plan;
    return &load->params;
}

static inline void fake_load_end(FakeLoad *load) {
    fake_side_close(&load->control);
    pool_freep(&load->pool);
    tracker_freep(&load->tracker);
    stop_fini(&load->stop);
    small_toc_fini(&load->small);
    fake_pq_reset();
}
