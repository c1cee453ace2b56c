/*
 * The parallel part of a load: table data, large objects, indexes and keys as their tables finish, foreign keys,
 * statistics.
 *
 * Contract
 * - Everything done is in the ledger, in the transaction that did it; each function may be run again at any time and
 * goes on.
 * - load_data() copies under one snapshot. It returns true also when some tables could not be copied under it: then
 * `snapshot_lost` or `tables_void` says so, and the caller takes a new snapshot and calls again with a plan settled
 * anew.
 * - When the last range is in, before the last indexes are built, the step "copied" is marked and the snapshot's keeper
 * ended: the source can vacuum again.
 */
#pragma once

#include "engine/load/pool.h"
#include "engine/plan/plan.h"
#include "engine/schema/statements.h"
#include "model/held_back.h"

typedef struct LoadParams {
    Pool *pool;
    const Ledger *ledger;
    const LedgerSnapshot *snapshot;
    Plan *plan;
    const Toc *toc;     /* count 0 for --data-only */
    const bool *chosen; /* per entry */
    bool *entry_done;   /* per entry: in the ledger; kept up to date */
    RestoreOptions restore;
    int64_t copy_max;  /* copies at once */
    int64_t build_max; /* index builds at once */
    bool data_only;
    bool no_freeze;    /* no table is emptied by the transaction that fills it: plan_spares_wal() */
    bool replica_role; /* our sessions on the destination may leave triggers and foreign keys out */
    bool filtered;     /* tables may be left out by options */
    /* Does a table pass the filters? NULL = not known. */
    bool (*wanted)(void *context, const char *schema, const char *name);
    void *wanted_context;
    const char *tablespace_map; /* the option; NULL = none */
    bool large_objects;         /* copy them too */
    /* What of the source database's settings and grants waits for the end of the destination's guard. NULL = it has
     * none. */
    bool (*hold_back)(void *context, HeldBack *held, Error *err);
    void *hold_back_context;
    bool copied; /* the ledger's step "copied" is there: nothing is read from the source any more */
    Tracker *tracker;
    const Stop *stop; /* the user's */
} LoadParams;

typedef struct LoadResult {
    int64_t chunks_copied;
    int64_t largest_row;
    bool snapshot_lost;
    size_t tables_void;
    char reason[300]; /* why, for people */
} LoadResult;

NODISCARD bool load_data(const LoadParams *params, LoadResult *result, Error *err);

/* Foreign keys: all added NOT VALID, then validated in parallel (what was NOT VALID on the source stays so); those of
 * partitioned tables leaf by leaf before PostgreSQL 18, which refuses NOT VALID there. `control`: the control
 * connection to the destination. */
NODISCARD bool load_foreign_keys(const LoadParams *params, DbConn *control, Arena *arena, Error *err);

/* ANALYZE (or VACUUM, ANALYZE) of every table moved; partitioned tables by their root. What cannot be analyzed is
 * listed. */
NODISCARD bool load_analyze(const LoadParams *params, DbConn *control, Arena *arena, bool vacuum,
                            NotMovedVec *not_moved, Error *err);

/* What has no statistics yet when a promote has opened the destination: materialized views, which it filled, and tables
 * that were empty when the others were analyzed, or were copied again. The application is at work: no lock is waited
 * for longer than a moment. Without failing; what was refused is listed. */
NODISCARD bool load_analyze_late(DbConn *dest, Arena *arena, NotMovedVec *not_moved, Error *err);

/* Large objects under the snapshot, in batches; owner, grants and comment with them. One lane's work inside
 * load_data(). */
NODISCARD bool load_large_objects(const LoadParams *params, DbConn *source, DbConn *dest, Error *err);
/* The objects of a list of oids ("1,2"), as they are now, in the caller's transaction; none of them is there. */
NODISCARD bool load_large_objects_again(const LoadParams *params, DbConn *source, DbConn *dest, const char *oids,
                                        Error *err);

/* remedy.c: what helps against what a server refuses of a load. The definitions are in the ledger, and the rows under a
 * snapshot that a later run goes on with: what is mended on the source is read by a new start alone. */
#define LOAD_START_OVER "run the same command again with --restart (a job of the service: pgcrane jobs restart JOB)"
/* Did a server refuse the statement, for a reason that no later try helps against, and no remedy says yet what does? */
bool load_is_refusal(const Error *err);
/* For a refusal of a definition: sets a remedy. Always false. */
bool load_refused_definition(Error *err);
