/* Lanes: threads with connections that run tasks from one work list. */
#include "engine/load/pool.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/namesakes.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/fd.h"

enum { ATTEMPTS_MAX = 8, LOCK_ATTEMPTS_MAX = 60 };
#define PAUSE_MIN_US (100 * USEC_PER_MSEC)
#define PAUSE_MAX_US (10 * USEC_PER_SEC)
#define CONNECT_PATIENCE_US (60 * USEC_PER_SEC)

struct Pool {
    Arena *arena; /* holds this struct */
    Tracker *tracker;
    int lanes_count;
    Lane *lanes;
    Stop stop; /* of all lanes' connections */
    /* One run */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const PoolWork *work;
    int running, threads;
    bool failed;
    Error error;
    int done_fd; /* written by the last thread to end */
};

typedef struct LaneThread {
    Pool *pool;
    Lane *lane;
} LaneThread;

bool pool_new(const DbTarget *source, const DbTarget *dest, int lanes, Tracker *tracker, Pool **ret_pool, Error *err) {
    Arena *arena = arena_new();
    Pool *pool = arena_new_of(arena, Pool);

    *pool = (Pool){.arena = arena, .tracker = tracker, .lanes_count = lanes, .done_fd = eventfd(0, EFD_CLOEXEC)};
    if (pool->done_fd < 0 || !stop_init(&pool->stop, err)) {
        arena_free(arena);
        return error_errno(err, REASON_SYSTEM, "eventfd");
    }
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->changed, NULL);
    pool->lanes = arena_array(arena, Lane, (size_t)lanes);
    for (int i = 0; i < lanes; i++)
        pool->lanes[i] = (Lane){
            .no = i + 1, .arena = arena_new(), .source_target = source, .dest_target = dest, .stop = &pool->stop};
    *ret_pool = pool;
    return true;
}

void pool_freep(Pool **pool_pointer) {
    Pool *pool = *pool_pointer;

    if (pool == NULL)
        return;
    for (int i = 0; i < pool->lanes_count; i++) {
        db_close(pool->lanes[i].source);
        db_close(pool->lanes[i].dest);
        arena_free(pool->lanes[i].arena);
    }
    stop_fini(&pool->stop);
    fd_close(&pool->done_fd);
    (void)pthread_cond_destroy(&pool->changed);
    (void)pthread_mutex_destroy(&pool->lock);
    arena_free(pool->arena);
    *pool_pointer = NULL;
}

int pool_lanes(const Pool *pool) {
    return pool->lanes_count;
}

static bool lane_open(Lane *lane, const DbTarget *target, DbConn **conn, Error *err) {
    char purpose[16];

    if (*conn != NULL && !db_is_broken(*conn))
        return true;
    db_closep(conn);
    (void)snprintf(purpose, sizeof(purpose), "lane%d", lane->no);
    /* An earlier one of this lane may still have a table's lock, which an index would wait for. */
    if (db_open_patient(target, purpose, lane->stop, CONNECT_PATIENCE_US, conn, err) && db_end_namesakes(*conn, err))
        return true;
    db_closep(conn);
    return false;
}

bool lane_source(Lane *lane, DbConn **ret_source, Error *err) {
    if (!lane_open(lane, lane->source_target, &lane->source, err))
        return false;
    *ret_source = lane->source;
    return true;
}

bool lane_dest(Lane *lane, DbConn **ret_dest, Error *err) {
    if (!lane_open(lane, lane->dest_target, &lane->dest, err))
        return false;
    *ret_dest = lane->dest;
    return true;
}

/* Leaves both sessions without an open transaction, or closed. */
static void lane_reset(Lane *lane) {
    DbConn **conns[] = {&lane->source, &lane->dest};

    for (size_t i = 0; i < COUNT_OF(conns); i++) {
        if (*conns[i] == NULL)
            continue;
        db_rollback(*conns[i]);
        if (db_is_broken(*conns[i]))
            db_closep(conns[i]);
    }
}

/* Decorrelated jitter: between the minimum and three times the last pause. */
static int64_t next_pause(int64_t last_us, unsigned *seed) {
    int64_t span = MAX(last_us * 3 - PAUSE_MIN_US, 1);

    *seed = *seed * 1103515245u + 12345u;
    return MIN(PAUSE_MIN_US + (int64_t)(*seed >> 8) % span, PAUSE_MAX_US);
}

static bool may_retry(const Error *err, int attempt) {
    int most = err->reason == REASON_LOCK_BUSY ? LOCK_ATTEMPTS_MAX : ATTEMPTS_MAX;

    return err->retryable && attempt < most;
}

static bool run_with_retries(Pool *pool, Lane *lane, PoolTask *task, Error *err) {
    int64_t pause = PAUSE_MIN_US;
    unsigned seed = (unsigned)lane->no * 7919u + (unsigned)clock_now_us();

    for (task->attempt = 1;; task->attempt++) {
        arena_reset(lane->arena);
        if (pool->work->run(pool->work->context, lane, task, err))
            return true;
        lane_reset(lane);
        if (stop_requested(&pool->stop) || !may_retry(err, task->attempt))
            return false;
        tracker_add_retry(pool->tracker);
        log_error_value(LOG_WARNING, err);
        pause = next_pause(pause, &seed);
        if (stop_wait_fd(&pool->stop, -1, 0, clock_now_us() + pause) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}

/* With the lock held: the first failure wins and ends the others. */
static void fail(Pool *pool, const Error *err) {
    if (!pool->failed) {
        pool->failed = true;
        pool->error = *err;
    }
    stop_request(&pool->stop);
    (void)pthread_cond_broadcast(&pool->changed);
}

static void run_one(Pool *pool, Lane *lane, PoolTask *task) {
    Error err = {0};

    pool->running++;
    (void)pthread_mutex_unlock(&pool->lock);
    bool ok = run_with_retries(pool, lane, task, &err);
    (void)pthread_mutex_lock(&pool->lock);
    pool->running--;
    if (ok)
        pool->work->finished(pool->work->context, task);
    else
        fail(pool, &err);
    (void)pthread_cond_broadcast(&pool->changed);
}

static void lane_loop(Pool *pool, Lane *lane) {
    while (!pool->failed) {
        PoolTask task = {0};

        if (pool->work->next(pool->work->context, &task)) {
            run_one(pool, lane, &task);
        } else if (pool->running == 0) {
            return; /* nothing runs that could set something free */
        } else {
            (void)pthread_cond_wait(&pool->changed, &pool->lock);
        }
    }
}

static void *lane_thread(void *argument) {
    const LaneThread *thread = argument;
    Pool *pool = thread->pool;
    char name[16];

    (void)snprintf(name, sizeof(name), "lane%d", thread->lane->no);
    log_thread_name(name);
    (void)pthread_mutex_lock(&pool->lock);
    lane_loop(pool, thread->lane);
    if (--pool->threads == 0)
        (void)eventfd_write(pool->done_fd, 1);
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Waits for the last lane; the user's stop ends them all. */
static void wait_for_lanes(Pool *pool, const Stop *user_stop) {
    eventfd_t value = 0;

    if (stop_wait_fd(user_stop, pool->done_fd, POLLIN, 0) == WAIT_STOPPED) {
        Error err = {0};

        (void)error_set(&err, REASON_CANCELLED, "stopped");
        (void)pthread_mutex_lock(&pool->lock);
        fail(pool, &err);
        (void)pthread_mutex_unlock(&pool->lock);
    }
    (void)stop_wait_fd(NULL, pool->done_fd, POLLIN, 0);
    (void)eventfd_read(pool->done_fd, &value);
}

/* Forgets how the last run failed: the step that called it may be tried again. No lane runs here. */
static bool clear_failure(Pool *pool, Error *err) {
    if (!stop_requested(&pool->stop))
        return true;
    stop_fini(&pool->stop);
    pool->failed = false;
    return stop_init(&pool->stop, err);
}

bool pool_run(Pool *pool, const PoolWork *work, const Stop *user_stop, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LaneThread *threads = arena_array(arena, LaneThread, (size_t)pool->lanes_count);
    pthread_t *ids = arena_array(arena, pthread_t, (size_t)pool->lanes_count);
    int started = 0;

    if (!clear_failure(pool, err))
        return false;
    pool->work = work;
    (void)pthread_mutex_lock(&pool->lock);
    for (; started < pool->lanes_count; started++) {
        threads[started] = (LaneThread){.pool = pool, .lane = &pool->lanes[started]};
        if (pthread_create(&ids[started], NULL, lane_thread, &threads[started]) != 0)
            break;
    }
    pool->threads = started;
    (void)pthread_mutex_unlock(&pool->lock);
    if (started == 0)
        return error_set(err, REASON_SYSTEM, "cannot start a thread");
    wait_for_lanes(pool, user_stop);
    for (int i = 0; i < started; i++)
        (void)pthread_join(ids[i], NULL);
    if (pool->failed)
        *err = pool->error;
    return !pool->failed;
}
