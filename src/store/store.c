/*
 * Where the control plane keeps its wishes: connections, transactions and what is done when they fail.
 *
 * NOTES on crashes. A transaction is there as a whole or not at all; this is what each moment of death comes to.
 *
 * - Before COMMIT: nothing happened. SQLite's WAL has frames without a commit mark, which the next one to open ignores
 *   and overwrites; PostgreSQL rolls back when the session ends (the server notices a dead peer by itself and, should
 *   the process just hang, ends it after three idle seconds in a transaction, so that it does not keep the others out).
 * - After COMMIT, before the answer to whoever asked: it is in the store. The client asks again; a request id gives the
 *   same operation, a version that was expected fails with STALE_VERSION, a create with NAME_TAKEN.
 * - After COMMIT, before the action it asks for: the action is in the outbox, written by the same transaction, and is
 *   given out again when the span of whoever took it is over. Between carrying it out and "done" too: at least once.
 * - Power loss with SQLite: synchronous = FULL syncs the WAL at each COMMIT, so what was answered is there, and a torn
 *   frame behind it fails its checksum. If that sync itself fails, COMMIT fails and is rolled back; should the machine
 * die at that very moment, the frames may be on the disk all the same, and what was called failed is found done.
 * - Fail-over of PostgreSQL: sessions break, and come back to the new primary. What the new primary does not have
 *   (asynchronous replication) was answered and is lost: only synchronous replication helps against that. Epochs of
 *   leases may then be given out twice in the store, which is why the destination's ledger counts its own.
 * - COMMIT whose reply is lost, PostgreSQL: every writing transaction inserts a random token. On a new connection the
 *   same token is inserted again. If that is a duplicate, the transaction was committed. If it is not, the transaction
 *   is not there, and never will be, since its own insert would now be the duplicate (one that is still on its way
 * holds the token's index entry, and ours waits for it): the body may be run again. This is also right after a
 * fail-over, where the number of a transaction would say nothing. Only when the store does not come back within the
 * patience, the caller gets STORE_COMMIT_UNKNOWN.
 *
 * One writer at a time. SQLite has no other way (BEGIN IMMEDIATE). For PostgreSQL a transaction-level advisory lock is
 * the first thing a writing transaction takes, and it runs READ COMMITTED: each statement behind the lock sees
 * everything that was committed before, and nobody else commits meanwhile, so that the execution is not just
 * serializable but serial. SERIALIZABLE would need no lock, but then each two transactions that append to the same log
 * or draw the same counter fail each other, ids become visible out of order (a reader of "all behind id N" would lose
 * rows), and the one that does most loses most often. Control planes write some tens of times a second; the lock is
 * held for milliseconds. Compare-and-set by versions stands on top of it: it is for what a person saw in one
 * transaction and changes in another.
 */
#include "store/backend.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "pg/conn.h"
#include "store/schema.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define PATIENCE_DEFAULT_US (5 * USEC_PER_SEC)
#define PAUSE_MIN_US (20 * USEC_PER_MSEC)
#define PAUSE_MAX_US (500 * USEC_PER_MSEC)

/* --- Connections ---------------------------------------------------------------------------------------------------
 */

static const struct {
    StoreRole role;
    size_t first, end;
} slots_of[] = {
    [STORE_WRITER] = {STORE_WRITER, STORE_SLOT_WRITER, STORE_SLOT_READER},
    [STORE_READER] = {STORE_READER, STORE_SLOT_READER, STORE_SLOT_LISTENER},
    [STORE_LISTENER] = {STORE_LISTENER, STORE_SLOT_LISTENER, STORE_SLOTS},
};

static StoreSlot *free_slot(Store *store, StoreRole role) {
    for (size_t i = slots_of[role].first; i < slots_of[role].end; i++)
        if (!store->slots[i].is_busy)
            return &store->slots[i];
    return NULL;
}

/* Does this thread hold one? It would wait for itself. */
static bool is_nested(const Store *store) {
    for (size_t i = 0; i < STORE_SLOT_LISTENER; i++)
        if (store->slots[i].is_busy && pthread_equal(store->slots[i].user, pthread_self()))
            return true;
    return false;
}

static bool take_slot(Store *store, StoreRole role, StoreSlot **ret_slot, Error *err) {
    StoreSlot *slot = NULL;

    pthread_mutex_lock(&store->lock);
    bool nested = is_nested(store);
    while (!nested && (slot = free_slot(store, role)) == NULL)
        pthread_cond_wait(&store->freed, &store->lock); /* whoever has one is bounded by time-outs */
    if (slot != NULL) {
        slot->is_busy = true;
        slot->user = pthread_self();
    }
    pthread_mutex_unlock(&store->lock);
    if (nested)
        return error_set(err, REASON_INTERNAL, "a transaction of the store was begun inside another");
    *ret_slot = slot;
    return true;
}

static void disconnect(Store *store, StoreSlot *slot) {
    if (slot->conn != NULL)
        store->ops->disconnect(slot->conn);
    slot->conn = NULL;
}

static void give_slot(Store *store, StoreSlot *slot) {
    if (slot->conn != NULL && store->ops->is_broken(slot->conn))
        disconnect(store, slot);
    pthread_mutex_lock(&store->lock);
    slot->is_busy = false;
    pthread_cond_broadcast(&store->freed);
    pthread_mutex_unlock(&store->lock);
}

static bool connect(Store *store, StoreRole role, StoreSlot *slot, Error *err) {
    if (slot->conn != NULL && store->ops->is_broken(slot->conn))
        disconnect(store, slot);
    return slot->conn != NULL || store->ops->connect(store, role, &slot->conn, err);
}

/* --- Trying again --------------------------------------------------------------------------------------------------
 */

typedef struct Patience {
    const Stop *stop;
    int64_t until_us, pause_us;
} Patience;

static Patience patience_of(const Store *store) {
    return (Patience){store->config.stop, clock_now_us() + store->config.patience_us, PAUSE_MIN_US};
}

/* Sleeps, if the failure may pass and there is time; false = give up with err as it is. */
static bool again(Patience *patience, Error *err) {
    bool passes = err->reason == REASON_STORE_UNAVAILABLE || err->reason == REASON_STORE_LOCKED ||
                  err->reason == REASON_CONFLICT || err->reason == REASON_FAILPOINT;
    int64_t wake_us = clock_now_us() + patience->pause_us;

    if (!passes || !err->retryable || wake_us >= patience->until_us)
        return false;
    if (stop_wait_fd(patience->stop, -1, 0, wake_us) == WAIT_STOPPED)
        return error_set(err, REASON_CANCELLED, "stopped while waiting for the store");
    patience->pause_us = MIN(patience->pause_us * 2, PAUSE_MAX_US);
    return true;
}

/* --- Transactions ---------------------------------------------------------------------------------------------------
 */

typedef enum Outcome { TX_DONE, TX_FAILED, TX_AGAIN, TX_UNCLEAR } Outcome;

typedef struct Work {
    Store *store;
    Arena *arena;
    StoreBody body;
    void *context;
    bool is_write;
    char token[STORE_TOKEN_SIZE];
} Work;

static bool make_token(char *token, Error *err) {
    unsigned char random[(STORE_TOKEN_SIZE - 1) / 2];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return error_errno(err, REASON_SYSTEM, "no random numbers");
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(token + 2 * i, 3, "%02x", random[i]);
    return true;
}

static void ring(Store *store) {
    const uint64_t one = 1;

    (void)!write(store->wake_fd, &one, sizeof(one)); /* full: it is readable, which is all that is wanted */
}

static bool run_body(Work *work, StoreTx *tx, Error *err) {
    if (!work->body(tx, work->context, err))
        return false;
    if (tx->has_failed)
        return error_set(err, REASON_INTERNAL, "a statement of the store failed and nobody looked at it");
    return !work->is_write || failpoint("store.before_commit", err);
}

static Outcome commit(Work *work, StoreTx *tx, Error *err) {
    const StoreOps *ops = work->store->ops;
    StoreCommit result = ops->commit(tx->conn, work->token, tx->wake, err);

    if (result == STORE_COMMIT_UNCLEAR)
        return TX_UNCLEAR;
    if (result == STORE_ROLLED_BACK) {
        ops->rollback(tx->conn);
        return TX_AGAIN;
    }
    if (tx->wake)
        ring(work->store);
    return TX_DONE;
}

/* One run of the body. TX_AGAIN: it was the store that failed; whether another run helps, its error says. */
static Outcome run_once(Work *work, StoreSlot *slot, Error *err) {
    const StoreOps *ops = work->store->ops;

    if (!connect(work->store, work->is_write ? STORE_WRITER : STORE_READER, slot, err) ||
        !ops->begin(slot->conn, work->is_write, err))
        return TX_AGAIN;
    StoreTx tx = {.store = work->store, .conn = slot->conn, .arena = work->arena, .is_write = work->is_write};
    bool good = run_body(work, &tx, err);
    if (good && work->is_write)
        return commit(work, &tx, err);
    ops->rollback(slot->conn);
    if (good)
        return TX_DONE;
    return tx.has_failed ? TX_AGAIN : TX_FAILED;
}

/* A COMMIT went out and no answer came: TX_DONE, TX_AGAIN (it is certain that nothing was committed), or TX_UNCLEAR
 * when the store does not come back. */
static Outcome settle(Work *work, StoreSlot *slot, Error *err) {
    Patience patience = patience_of(work->store);
    bool committed = false;

    for (;;) {
        disconnect(work->store, slot);
        if (connect(work->store, STORE_WRITER, slot, err) && failpoint("store.settle", err) &&
            work->store->ops->settle(slot->conn, work->token, &committed, err) &&
            failpoint("store.settle_unanswered", err))
            break;
        if (again(&patience, err))
            continue;
        char why[ERROR_MESSAGE_MAX];
        memcpy(why, err->message, sizeof(why));
        error_set(err, REASON_STORE_COMMIT_UNKNOWN, "the connection was lost while committing: %s", why);
        return TX_UNCLEAR;
    }
    if (!committed) {
        error_set(err, REASON_STORE_UNAVAILABLE, "the connection to the store was lost before it committed");
        return TX_AGAIN;
    }
    ring(work->store);
    return TX_DONE;
}

static bool run_work(Work *work, Error *err) {
    Patience patience = patience_of(work->store);
    StoreSlot *slot = NULL;
    Outcome outcome = TX_AGAIN;

    if (!take_slot(work->store, work->is_write ? STORE_WRITER : STORE_READER, &slot, err))
        return false;
    do {
        outcome = TX_FAILED;
        if (work->is_write && !make_token(work->token, err))
            break;
        outcome = run_once(work, slot, err);
        if (outcome == TX_UNCLEAR)
            outcome = settle(work, slot, err);
    } while (outcome == TX_AGAIN && again(&patience, err));
    give_slot(work->store, slot);
    return outcome == TX_DONE;
}

bool store_write(Store *store, Arena *arena, StoreBody body, void *context, Error *err) {
    Work work = {.store = store, .arena = arena, .body = body, .context = context, .is_write = true};

    return run_work(&work, err) && failpoint("store.after_commit", err);
}

bool store_read(Store *store, Arena *arena, StoreBody body, void *context, Error *err) {
    Work work = {.store = store, .arena = arena, .body = body, .context = context};

    return run_work(&work, err);
}

/* --- Opening --------------------------------------------------------------------------------------------------------
 */

/* One step in a transaction of its own. The version is read behind the writers' lock: of two daemons that start at
 * once, the second finds the step done. */
static bool migrate_step(Store *store, StoreConn *conn, bool *ret_is_current, Error *err) {
    char token[STORE_TOKEN_SIZE];
    int version = 0;

    if (!store->ops->read_version(conn, &version, err))
        return false;
    if (version > schema_version)
        return error_set(err, REASON_STORE_NEWER, "the store %s has schema version %d, this program knows %d",
                         store->display, version, schema_version);
    *ret_is_current = version == schema_version;
    if (*ret_is_current)
        return true;
    if (!store->ops->run_step(conn, version + 1, err))
        return error_wrap(err, "schema step %d of the store", version + 1);
    if (!failpoint("store.migrate", err) || !make_token(token, err))
        return false;
    /* An unclear one is found out by looking at the version again. */
    return store->ops->commit(conn, token, false, err) == STORE_COMMITTED;
}

static bool migrate(Store *store, StoreSlot *slot, Error *err) {
    bool current = false;

    while (!current) {
        if (!connect(store, STORE_WRITER, slot, err) || !store->ops->begin(slot->conn, true, err))
            return false;
        bool good = migrate_step(store, slot->conn, &current, err);
        store->ops->rollback(slot->conn); /* nothing, behind a commit */
        if (!good)
            return false;
    }
    return store->ops->after_open == NULL || store->ops->after_open(store, slot->conn, err);
}

static bool open_store(Store *store, Error *err) {
    Patience patience = patience_of(store);
    StoreSlot *slot = NULL;
    bool good = false;

    store->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (store->wake_fd < 0)
        return error_errno(err, REASON_SYSTEM, "eventfd");
    if (!take_slot(store, STORE_WRITER, &slot, err))
        return false;
    do
        good = migrate(store, slot, err);
    while (!good && again(&patience, err));
    give_slot(store, slot);
    return good;
}

/* For messages: without a password. */
static bool name_store(Store *store, Error *err) {
    store->display = store->config.where;
    return store->config.backend == STORE_SQLITE || db_display(store->arena, store->config.where, &store->display, err);
}

bool store_open(const StoreConfig *config, Store **ret_store, Error *err) {
    CLEANUP(store_closep) Store *store = NULL;
    Arena *arena = arena_new();

    store = arena_new_of(arena, Store);
    store->arena = arena;
    store->ops = config->backend == STORE_SQLITE ? &store_sqlite_ops : &store_pg_ops;
    store->config = *config;
    store->config.where = arena_strdup(arena, config->where);
    store->config.patience_us = config->patience_us > 0 ? config->patience_us : PATIENCE_DEFAULT_US;
    store->wake_fd = -1;
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->freed, NULL);
    if (!name_store(store, err) || !open_store(store, err))
        return error_wrap(err, "opening the store");
    *ret_store = store;
    store = NULL;
    return true;
}

void store_close(Store *store) {
    if (store == NULL)
        return;
    for (size_t i = 0; i < STORE_SLOTS; i++)
        disconnect(store, &store->slots[i]);
    pthread_cond_destroy(&store->freed);
    pthread_mutex_destroy(&store->lock);
    fd_close(&store->wake_fd);
    arena_free(store->arena);
}

void store_closep(Store **store) {
    store_close(*store);
    *store = NULL;
}

/* --- Waiting, tidying
 * ------------------------------------------------------------------------------------------------- */

/* What was told before we listened, nobody knows: a new connection wakes. */
static bool start_listening(Store *store, StoreSlot *slot, bool *ret_is_new, Error *err) {
    *ret_is_new = store->ops->listens && (slot->conn == NULL || store->ops->is_broken(slot->conn));
    return !store->ops->listens || connect(store, STORE_LISTENER, slot, err);
}

bool store_wait(Store *store, int64_t deadline_us, bool *ret_woken, Error *err) {
    StoreSlot *slot = NULL;

    if (!take_slot(store, STORE_LISTENER, &slot, err))
        return false;
    bool good = start_listening(store, slot, ret_woken, err) &&
                (*ret_woken || store->ops->wait(store, slot->conn, deadline_us, ret_woken, err));
    give_slot(store, slot);
    return good;
}

static bool tidy_body(StoreTx *tx, void *context, Error *err) {
    const char *hour = tx_int(tx, 3600 * USEC_PER_SEC);

    (void)context;
    return TX_RUN(tx, NULL, err, "DELETE FROM request WHERE time_us < store_wall() - CAST($1 AS bigint)", hour);
}

bool store_tidy(Store *store, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StoreSlot *slot = NULL;

    if (!store_write(store, arena, tidy_body, NULL, err) || !take_slot(store, STORE_WRITER, &slot, err))
        return false;
    bool good = connect(store, STORE_WRITER, slot, err) && store->ops->tidy(slot->conn, err);
    give_slot(store, slot);
    return good;
}
