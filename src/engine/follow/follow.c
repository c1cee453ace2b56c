/*
 * Following: the two threads' life, and what others may know of them.
 *
 * The stream. The receiver opens it at the ledger's position and drops what committed before. Source transactions go
 * into a batch; between transactions the batch is cut when it is full, or when the applier has nothing to do (so an
 * idle destination gets every transaction at once, a busy one gets large batches). A batch that is full inside a
 * transaction is handed over without a commit, and so is one that ends early because of a TRUNCATE, a message for the
 * hook or a table to be resolved: the destination's transaction stays open until the source's has ended. So each of the
 * destination's transactions is a row of whole source transactions, with the position behind the last one and their
 * number in the same UPDATE.
 *
 * Positions. `progress`: everything that committed on the source before is in some item, or nothing to us. It moves
 * with each COMMIT and, between transactions, with the source's keepalives (everything below a keepalive's end was sent
 * before it). With nothing to apply it is written down now and then (ITEM_ADVANCE), at once when somebody waits for it
 * or the source asks. `durable`: the ledger's position as far as we have heard of the COMMIT. Only that is
 * acknowledged: what the source throws away is always below the ledger's position.
 *
 *   point                                what is there then             what the next start does
 *   receiver or source dies at any time  ledger P; slot <= P            opens at P: all above comes again
 *   applier or destination dies before   ledger P; the transaction is   the same: P says nothing of it was applied
 *   its COMMIT was sent                  rolled back
 *   COMMIT sent, reply lost              ledger P or P', both right     ends the old session first, so that it is
 *                                                                       decided; then reads which. Transactions and
 *                                                                       their number moved together or not at all
 *   after COMMIT, before feedback        ledger P', slot < P'           opens at P': the source leaves out what
 *                                                                       committed before, and so do we
 *   after feedback                       ledger P', slot <= P'          the same
 *   source crashed, slot went back       slot < confirmed before        opens at P: the slot's position on disk is
 *                                                                       only ever older than P
 *   destination failed over, lost        ledger P < slot                the source would forward silently: repl.c
 *   commits that were acknowledged                                      looks first: DEST_WENT_BACK
 *   source failed over, lost WAL         ledger P > source's end        SOURCE_WENT_BACK
 *
 * Failures. The first error is kept, and stops both threads by the Stop that all their waits know. A stop in the middle
 * of a COMMIT is a lost reply. Nothing here tries again.
 */
#include "common/clock.h"
#include "common/log.h"
#include "engine/follow/follow_internal.h"

#include <stdlib.h>
#include <time.h>

#define START_SLICE_US (20 * USEC_PER_MSEC)
#define WAIT_SLICE_US (20 * USEC_PER_MSEC)

enum { BATCH_BYTES = 8 << 20, BATCH_ROWS = 50000 };

void follow_fail(Follow *follow, const Error *err) {
    (void)pthread_mutex_lock(&follow->lock);
    bool ours = err->reason == REASON_CANCELLED && stop_requested(&follow->stop);
    if (!follow->failed && !ours) {
        follow->failed = true;
        follow->error = *err;
    }
    stop_request(&follow->stop);
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

static bool init(Follow *follow, Error *err) {
    pthread_condattr_t monotonic;

    if (!stop_init(&follow->stop, err))
        return false;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&follow->lock, NULL);
    (void)pthread_cond_init(&follow->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    follow->counts_arena = arena_new();
    follow->tables_arena = arena_new();
    follow->receiver_arena = arena_new();
    queue_init(&follow->queue, follow->params.batch_bytes);
    return true;
}

static void fini(Follow *follow) {
    queue_fini(&follow->queue);
    arena_free(follow->counts_arena);
    arena_free(follow->tables_arena);
    arena_free(follow->receiver_arena);
    (void)pthread_cond_destroy(&follow->changed);
    (void)pthread_mutex_destroy(&follow->lock);
    stop_fini(&follow->stop);
}

static bool start_thread(pthread_t *thread, bool *ret_has, void *(*main)(void *), Follow *follow, Error *err) {
    *ret_has = pthread_create(thread, NULL, main, follow) == 0;
    return *ret_has || error_set(err, REASON_SYSTEM, "cannot start a thread");
}

/* Until the stream is open. */
static bool wait_for_stream(Follow *follow, Error *err) {
    const Stop *stop = follow->params.stop;
    bool stopping = false;

    (void)pthread_mutex_lock(&follow->lock);
    while (!follow->is_streaming && !follow->failed && !stopping) {
        follow_wait_changed(follow, clock_now_us() + START_SLICE_US);
        stopping = stop != NULL && stop_requested(stop);
    }
    bool ok = follow->is_streaming; /* what failed since then is follow_check()'s to tell */
    if (!ok && follow->failed)
        *err = follow->error;
    else if (!ok)
        (void)error_set(err, REASON_CANCELLED, "stopped");
    (void)pthread_mutex_unlock(&follow->lock);
    return ok;
}

bool follow_start(const FollowParams *params, Follow **ret_follow, Error *err) {
    Arena *arena = arena_new();
    Follow *follow = arena_new_of(arena, Follow);

    follow->arena = arena;
    follow->params = *params;
    atomic_store(&follow->confirm_limit, params->confirm_limit == 0 ? UINT64_MAX : params->confirm_limit);
    if (params->batch_bytes == 0)
        follow->params.batch_bytes = BATCH_BYTES;
    if (params->batch_rows == 0)
        follow->params.batch_rows = BATCH_ROWS;
    if (!init(follow, err)) {
        arena_free(arena);
        return false;
    }
    if (!start_thread(&follow->applier_thread, &follow->has_applier, applier_main, follow, err) ||
        !start_thread(&follow->receiver_thread, &follow->has_receiver, receiver_main, follow, err) ||
        !wait_for_stream(follow, err)) {
        follow_stopp(&follow);
        return false;
    }
    *ret_follow = follow;
    return true;
}

void follow_stopp(Follow **follow_pointer) {
    Follow *follow = *follow_pointer;

    if (follow == NULL)
        return;
    (void)pthread_mutex_lock(&follow->lock);
    stop_request(&follow->stop);
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
    if (follow->has_applier)
        (void)pthread_join(follow->applier_thread, NULL);
    if (follow->has_receiver)
        (void)pthread_join(follow->receiver_thread, NULL);
    fini(follow);
    arena_free(follow->arena);
    *follow_pointer = NULL;
}

/* --- Questions ---------------------------------------------------------------------------------------------------- */

void follow_limit_confirmed(Follow *follow, Lsn limit) {
    atomic_store(&follow->confirm_limit, limit);
}

bool follow_check(Follow *follow, Error *err) {
    (void)pthread_mutex_lock(&follow->lock);
    bool failed = follow->failed;
    if (failed)
        *err = follow->error;
    (void)pthread_mutex_unlock(&follow->lock);
    return !failed;
}

bool follow_conflict(Follow *follow, FollowConflict *ret_conflict) {
    (void)pthread_mutex_lock(&follow->lock);
    bool has = follow->failed && follow->error.reason == REASON_CONFLICT && follow->conflict.table != 0;
    if (has)
        *ret_conflict = follow->conflict;
    (void)pthread_mutex_unlock(&follow->lock);
    return has;
}

/* With the lock. */
static FollowWait wait_locked(Follow *follow, Lsn lsn, int64_t deadline_us, const Stop *stop, Error *err) {
    for (;;) {
        int64_t now = clock_now_us();
        if (follow->applied.lsn >= lsn)
            return FOLLOW_REACHED;
        if (follow->failed) {
            *err = follow->error;
            return FOLLOW_FAILED;
        }
        if (stop != NULL && stop_requested(stop))
            return FOLLOW_STOPPED;
        if (deadline_us != 0 && now >= deadline_us)
            return FOLLOW_TIMEOUT;
        follow_wait_changed(follow, deadline_us == 0 ? now + WAIT_SLICE_US : MIN(deadline_us, now + WAIT_SLICE_US));
    }
}

FollowWait follow_wait(Follow *follow, Lsn lsn, int64_t deadline_us, const Stop *stop, Error *err) {
    atomic_store(&follow->wanted, lsn);
    (void)pthread_mutex_lock(&follow->lock);
    FollowWait result = wait_locked(follow, lsn, deadline_us, stop, err);
    (void)pthread_mutex_unlock(&follow->lock);
    atomic_store(&follow->wanted, 0);
    return result;
}

/* With the lock: of what is being applied, what waits, what is being filled. */
static int64_t oldest_pending(const Follow *follow) {
    int64_t oldest = follow->applying_oldest_us;

    for (size_t i = 0; oldest == 0 && i < follow->queue.ready_count; i++)
        oldest = follow->queue.ready[i]->oldest_us;
    return oldest != 0 ? oldest : atomic_load(&follow->filling_oldest_us);
}

void follow_status(Follow *follow, FollowStatus *ret_status) {
    FollowStatus status = {.received = atomic_load(&follow->received),
                           .source_end = atomic_load(&follow->source_end),
                           .server_time_us = atomic_load(&follow->server_time_us),
                           .skipped = atomic_load(&follow->skipped),
                           .ignored = atomic_load(&follow->ignored),
                           .last_change = atomic_load(&follow->last_change),
                           .last_marker = atomic_load(&follow->last_marker)};

    (void)pthread_mutex_lock(&follow->lock);
    status.applied = follow->applied.lsn;
    status.transactions = follow->applied.transactions;
    status.applied_time_us = follow->applied_time_us;
    status.pending_time_us = oldest_pending(follow);
    status.counts = follow->counts;
    status.replica_role = follow->replica_role;
    (void)pthread_mutex_unlock(&follow->lock);
    *ret_status = status;
}

static int64_t total(const FollowTableCount *count) {
    return count->inserts + count->updates + count->deletes + count->truncates;
}

static int by_total(const void *a, const void *b) {
    int64_t left = total(a), right = total(b);

    return (left < right) - (left > right);
}

void follow_tables(Follow *follow, Arena *arena, FollowTableCount **ret_counts, size_t *ret_count) {
    const OidMap *map = &follow->table_counts;
    size_t count = 0;

    (void)pthread_mutex_lock(&follow->lock);
    FollowTableCount *counts = arena_array(arena, FollowTableCount, map->filled);
    for (size_t i = 0; i < map->cells_count; i++) {
        if (map->cells[i].oid == 0)
            continue;
        counts[count] = *(const FollowTableCount *)map->cells[i].value;
        counts[count].display = arena_strdup(arena, counts[count].display);
        count++;
    }
    (void)pthread_mutex_unlock(&follow->lock);
    qsort(counts, count, sizeof(*counts), by_total);
    *ret_counts = counts;
    *ret_count = count;
}
