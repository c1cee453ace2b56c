/*
 * Lanes: a fixed number of threads, each with its own connections and arena, that run tasks from one work list.
 *
 * Contract
 * - A PoolWork decides what may run now (next) and what a finished task sets free (finished); both are called with the
 * pool's lock held, so a work list needs no lock of its own. run() is called without it.
 * - Retries are decided here and nowhere else: a task that fails with a retryable error runs again on the same lane,
 * after a growing, jittered pause, with broken connections opened anew; a fixed number of attempts. Tasks must
 * therefore be idempotent: each asks the ledger first when `attempt` is above 1, because a COMMIT's reply may have been
 * lost.
 * - The first error that is not mended so ends all lanes (their connections' Stop is requested) and is the result.
 * - pool_run() returns when nothing is runnable and nothing runs. Connections stay open for the next work list.
 */
#pragma once

#include "engine/ledger/ledger.h"
#include "model/tracker.h"

typedef struct Lane {
    int no;
    Arena *arena;   /* emptied before each attempt */
    DbConn *source; /* NULL until lane_source() */
    DbConn *dest;
    const DbTarget *source_target;
    const DbTarget *dest_target;
    const Stop *stop;
} Lane;

typedef struct PoolTask {
    int kind;
    size_t item, part; /* meaning: the work list's */
    int64_t cost;
    int attempt;    /* from 1 */
    bool alone;     /* next() says: nothing else is worth a processor now */
    char note[256]; /* why it was given up, for finished() */
    bool given_up;  /* run() says: not done, but no error either (its table's snapshot is void) */
} PoolTask;

typedef struct PoolWork {
    void *context;
    bool (*next)(void *context, PoolTask *ret_task);
    bool (*run)(void *context, Lane *lane, PoolTask *task, Error *err);
    void (*finished)(void *context, const PoolTask *task);
} PoolWork;

typedef struct Pool Pool;

NODISCARD bool pool_new(const DbTarget *source, const DbTarget *dest, int lanes, Tracker *tracker, Pool **ret_pool,
                        Error *err);
void pool_freep(Pool **pool);
int pool_lanes(const Pool *pool);
NODISCARD bool pool_run(Pool *pool, const PoolWork *work, const Stop *user_stop, Error *err);

/* The lane's connections, opened when needed. */
NODISCARD bool lane_source(Lane *lane, DbConn **ret_source, Error *err);
NODISCARD bool lane_dest(Lane *lane, DbConn **ret_dest, Error *err);
