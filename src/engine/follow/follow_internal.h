/*
 * What the files of following share: the items that go from the receiver to the applier, and the Follow itself.
 *
 * Who owns what. An item belongs to the queue (free or ready), to the receiver (being filled) or to the applier (being
 * run): one at a time. The receiver's and the applier's own things are touched by their thread alone, and freed when
 * both have ended. What is shared is either atomic or under `lock`.
 */
#pragma once

#include "engine/follow/follow.h"

#include <pthread.h>
#include <stdatomic.h>

/* One is filled, one applied, one waits. More would only take memory. */
enum { ITEMS = 3 };

typedef enum ItemKind {
    ITEM_PARTS,    /* a batch */
    ITEM_TRUNCATE, /* tables that one statement emptied */
    ITEM_MESSAGE,  /* for the hook */
    ITEM_TABLE,    /* a relation to be resolved: the receiver waits for the answer */
    ITEM_ADVANCE,  /* only the position */
    ITEM_KINDS_,
} ItemKind;

typedef struct Item {
    ItemKind kind;
    Batch *batch;
    Arena *arena; /* of what the pointers below point to, but for `relation` */
    ApplyTruncate truncate;
    PgoLogical message;
    const PgoRelation *relation;
    const FollowTable *followed; /* TABLE: what the relation is a copy's; NULL: none's */
    const ApplyTable *before;    /* TABLE: what it was when it was resolved last, NULL = never */
    bool asks;                   /* TABLE: the hook judges whether it is applied */
    bool got_keyed;              /* TABLE: it is keyless, and an update or delete of it came */
    bool commits;                /* the destination's transaction ends with this item */
    Lsn to;                      /* the position then; this and the next two only when it commits */
    int64_t transactions;
    int64_t time_us;   /* commit time of the last of them, 0 = none */
    int64_t oldest_us; /* commit time of the oldest transaction in it, 0 = none */
} Item;

typedef struct Answer { /* to ITEM_TABLE */
    bool apply;
    const ApplyTable *table;
} Answer;

typedef struct Queue { /* under the lock */
    Item items[ITEMS];
    Item *free[ITEMS];
    size_t free_count;
    Item *ready[ITEMS]; /* in order */
    size_t ready_count;
    bool has_answer;
    Answer answer;
} Queue;

/* oid -> pointer. Open addressing, at most half full, nothing is ever removed. */
typedef struct OidCell {
    uint32_t oid; /* 0 = free */
    void *value;
} OidCell;

typedef struct OidMap {
    OidCell *cells;
    size_t cells_count; /* a power of two, or 0 */
    size_t filled;
} OidMap;

struct Follow {
    Arena *arena; /* holds this struct */
    FollowParams params;
    Stop stop; /* of both connections */
    pthread_t receiver_thread, applier_thread;
    bool has_receiver, has_applier; /* threads to join */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* anything below, until the atomics */
    Queue queue;
    bool has_position; /* the applier has read the ledger */
    Position start;    /* where it stood then */
    bool is_streaming; /* the receiver has opened the stream */
    bool failed;
    Error error;
    FollowConflict conflict; /* of `error` */
    Position applied;
    int64_t applied_time_us;
    int64_t applying_oldest_us; /* of the destination's open transaction */
    ApplyCounts counts;
    bool replica_role;
    OidMap table_counts; /* of FollowTableCount */
    Arena *counts_arena;
    Arena *tables_arena;   /* ApplyTables: filled by the applier, read by both. Never freed before the end */
    Arena *receiver_arena; /* what the receiver keeps; the applier reads definitions in it */
    _Atomic Lsn durable;   /* may be acknowledged, up to the next */
    _Atomic Lsn confirm_limit;
    _Atomic Lsn wanted;      /* somebody waits for this position; 0 = nobody */
    atomic_size_t in_flight; /* items pushed and not done */
    /* Written by the receiver */
    _Atomic Lsn received, source_end, last_change, last_marker;
    _Atomic int64_t server_time_us, filling_oldest_us, skipped, ignored;
};

/* --- queue.c --- */

void queue_init(Queue *queue, size_t batch_bytes);
void queue_fini(Queue *queue);
/* An empty item to fill; NULL when there is none until the deadline, or on stop. */
Item *queue_take_free(Follow *follow, int64_t deadline_us);
void queue_push(Follow *follow, Item *item);
/* The next item to apply; NULL on stop. */
Item *queue_next(Follow *follow);
/* The applier is done with it: it is emptied and can be filled again. */
void queue_done(Follow *follow, Item *item);
void queue_answer(Follow *follow, Answer answer);
/* False: none until the deadline, or stop. */
bool queue_take_answer(Follow *follow, int64_t deadline_us, Answer *ret_answer);
bool queue_is_idle(const Follow *follow);
/* At most so many items handed over are not applied yet. False: not until the deadline, or stop. */
bool queue_wait_until(Follow *follow, size_t most, int64_t deadline_us);
/* For `changed`; deadline 0 = none. */
void follow_wait_changed(Follow *follow, int64_t deadline_us);

void *oid_map_get(const OidMap *map, uint32_t oid);
void oid_map_put(OidMap *map, Arena *arena, uint32_t oid, void *value);

/* --- the threads --- */

/* Keeps the first error, and ends both threads. */
void follow_fail(Follow *follow, const Error *err);
void *receiver_main(void *follow);
void *applier_main(void *follow);
