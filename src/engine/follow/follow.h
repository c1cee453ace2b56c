/*
 * Change data capture: the source's stream, applied to the destination until told to stop.
 *
 * Contract
 * - follow_start() opens a replication connection and a connection to the destination, and two threads: the receiver
 *   (stream -> decode -> skip what the copy has -> batches) and the applier (batches -> one transaction each, with the
 *   position). Between them a short queue: memory is bounded whatever a transaction's size.
 * - What is confirmed to the slot is only what is durably committed in the destination, and no more than the limit.
 * - A change of a table is skipped only when seam_in_copy() says so for that table's own picture. A relation that is
 *   not among `tables` is the hook's to judge.
 * - A failure ends both threads; follow_check() tells it. Nothing is retried here: the caller starts anew, from the
 *   ledger's position.
 * - Owned by one thread (the worker's main thread); follow_status() and follow_tables() may be called from any thread.
 */
#pragma once

#include "engine/apply/apply.h"
#include "engine/ledger/position.h"
#include "engine/seam/seam.h"
#include "pg/repl.h"

typedef struct FollowTable {
    uint32_t oid;        /* on the source */
    SeamPicture picture; /* of the snapshot it was copied under */
    /* Nothing of it is applied: it waits for a copy, its rows there may be anything. */
    bool is_paused;
    bool is_keyless; /* its updates and deletes are not in the stream, whatever its replica identity is */
    /* What its copy is called, when nobody repeats a change of its name on the destination; NULL = any name fits. */
    const char *schema, *name;
} FollowTable;

/* Both run in the applier's thread, on its connection, all that came before being applied (in the open transaction).
 */
typedef struct FollowHooks {
    void *context;
    /* A relation that is not among the tables: *ret_apply true = apply all its changes (it was made after the copy). */
    bool (*unknown_table)(void *context, DbConn *dest, const PgoRelation *relation, bool *ret_apply, Error *err);
    /* A followed table that the destination has in another form (TABLE_CHANGED: why). Its changes are not applied by
     * this Follow from here on: the hook has to note that, so that they come by another way. NULL: it is an error. */
    bool (*table_changed)(void *context, DbConn *dest, const PgoRelation *relation, const char *why, Error *err);
    /* A transactional logical message whose prefix begins with "pgcrane". */
    bool (*message)(void *context, DbConn *dest, const PgoLogical *message, Error *err);
} FollowHooks;

typedef struct FollowParams {
    const DbTarget *source_target, *dest_target;
    const Ledger *ledger;
    const char *slot;
    const char *const *publications; /* NULL-terminated */
    const FollowTable *tables;       /* any order; live as long as the Follow */
    size_t tables_count;
    /* NULL, or of the snapshot that the schema was copied under: messages that it shows are not the hook's, since the
     * copied schema has their effect. */
    const SeamPicture *schema_picture;
    /* The first of follow_limit_confirmed(); 0 = none. */
    Lsn confirm_limit;
    FollowHooks hooks;
    const Stop *stop;   /* while follow_start() connects; NULL = none */
    size_t batch_bytes; /* 0 = 8 MB */
    size_t batch_rows;  /* 0 = 50,000 */
} FollowParams;

typedef struct Follow Follow;

NODISCARD bool follow_start(const FollowParams *params, Follow **ret_follow, Error *err);
/* Ends both threads at a batch's border: what is not committed is thrown away, the slot has it still. NULL is fine. */
void follow_stopp(Follow **follow);
/* The source is not told of more than this from now on, though more may be applied; UINT64_MAX = no limit. */
void follow_limit_confirmed(Follow *follow, Lsn limit);
/* False when a thread has failed: *err is its error. */
NODISCARD bool follow_check(Follow *follow, Error *err);

typedef struct FollowConflict {
    uint32_t table;                  /* the source's oid */
    char display[APPLY_REFUSED_MAX]; /* its name, cut when it is that long */
    char refused[APPLY_REFUSED_MAX]; /* what the server said, without what we know of the row */
} FollowConflict;

/* When that is a CONFLICT of a row: which table's change was refused, and why. Else false. */
bool follow_conflict(Follow *follow, FollowConflict *ret_conflict);

typedef enum FollowWait { FOLLOW_REACHED, FOLLOW_TIMEOUT, FOLLOW_STOPPED, FOLLOW_FAILED } FollowWait;
/* Waits until everything up to lsn is durably applied. stop may be NULL. */
FollowWait follow_wait(Follow *follow, Lsn lsn, int64_t deadline_us, const Stop *stop, Error *err);

typedef struct FollowStatus {
    Lsn received;            /* end of the last message of the stream */
    Lsn applied;             /* the durable position */
    Lsn source_end;          /* the server's end of WAL as it last said */
    int64_t server_time_us;  /* its clock then, microseconds since 2000-01-01 */
    int64_t applied_time_us; /* commit time of the last transaction applied, 0 = none yet */
    int64_t pending_time_us; /* commit time of the oldest transaction received but not applied, 0 = none */
    int64_t transactions;    /* applied, over all runs (the ledger's) */
    int64_t skipped;         /* changes the copy had already */
    int64_t ignored;         /* changes of tables that are not migrated */
    Lsn last_change;         /* end of the last transaction *received* that changes a migrated table; 0 = none yet */
    Lsn last_marker;         /* where the last message of prefix "pgcrane" stood */
    ApplyCounts counts;      /* of this run */
    bool replica_role;       /* foreign keys and triggers do not fire on the destination */
} FollowStatus;
void follow_status(Follow *follow, FollowStatus *ret_status);

typedef struct FollowTableCount {
    const char *display;
    int64_t inserts, updates, deletes, truncates; /* applied by this run */
} FollowTableCount;
/* The tables that changed, the busiest first; strings in the arena. */
void follow_tables(Follow *follow, Arena *arena, FollowTableCount **ret_counts, size_t *ret_count);
