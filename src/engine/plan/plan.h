/*
 * Which tables are copied, in which ranges of blocks, under which snapshot: made from the source's catalogue and the
 * ledger.
 *
 * Contract
 * - plan_read() lists the source's tables under a snapshot (the connection is inside snapshot_begin()); sizes and block
 * counts are read at that moment, therefore after the snapshot: no row it shows lies beyond the last, open-ended range.
 * - plan_settle() brings the ledger's earlier work in: tables that are complete stay; ranges done under this snapshot
 * stay; a table begun under a lost one is emptied and planned anew; then the ledger holds the whole plan.
 * - A table rewritten or truncated since the snapshot (relfilenode under the snapshot differs from now) cannot be
 * copied under it: such a table is marked `is_void`, and waits for a new snapshot.
 */
#pragma once

#include "engine/ledger/ledger.h"
#include "engine/schema/toc.h"
#include "model/options.h"

typedef struct PlanChunk {
    int32_t no;
    int64_t first_block;
    int64_t end_block;  /* exclusive; -1 = open */
    int64_t disk_bytes; /* its share of the table's size */
    bool done;
} PlanChunk;

typedef struct PlanTable {
    uint32_t oid; /* on the source */
    const char *schema;
    const char *name;
    const char *quoted;       /* "s"."t" */
    const char *display;      /* s.t */
    uint32_t filenode;        /* under the snapshot */
    const char *columns;      /* quoted, comma-separated, without generated ones; "" = none */
    const char *columns_hash; /* names, types, generated: must be alike on both sides */
    const char *condition;    /* of an extension's configuration table: " WHERE ..." or ""; NULL for a user table */
    const char *via; /* quoted root to write through, NULL = the table itself. Such a table is one range: what is
                      * half copied could not be told from other leaves' rows */
    bool binary;     /* every column's type has the same binary form on all servers */
    bool is_heap;    /* block ranges make sense */
    bool is_partition;
    bool is_void;     /* rewritten since the snapshot */
    bool is_begun;    /* an earlier run began it under a snapshot that is lost: its lines are written anew */
    bool is_complete; /* settled: an earlier run, or this one under another snapshot, has copied all of it */
    bool has_rows;    /* some of its ranges are in: it is emptied first */
    bool is_fresh;    /* nothing was ever copied into it: its first transaction may truncate and freeze */
    int64_t blocks;
    int64_t bytes;    /* main fork and TOAST */
    int32_t snapshot; /* ledger id of the snapshot its ranges are copied under */
    PlanChunk *chunks;
    size_t chunks_count;
    size_t chunks_left;
} PlanTable;

typedef struct Plan {
    PlanTable *tables; /* the largest first */
    size_t count;
    size_t chunks_kept; /* done by an earlier run */
    StringVec notes;
} Plan;

/* Does the table belong to the migration? */
typedef bool (*PlanFilter)(const PlanTable *table, void *context, bool *ret_wanted, Error *err);

NODISCARD bool plan_read(DbConn *source, Arena *arena, PlanFilter filter, void *context, Plan *ret_plan, Error *err);
typedef struct PlanSplit {
    int64_t size;    /* of a range, about, in bytes; 0 = by size and lanes */
    int64_t lanes;   /* sessions that copy */
    int64_t cores;   /* that both servers and we have; counts when `spares_wal` */
    bool spares_wal; /* the destination writes no WAL for a table that is filled by the transaction that emptied it */
} PlanSplit;

/* Does the destination (wal_level = minimal: PostgreSQL's manual, "Disable WAL Archival and Streaming Replication")?
 * *ret_unsafe: it does, and its recovery may lose what was written so: before PostgreSQL 13 (c6b92041d), such as the
 * rows of an index of TOAST that has WAL only from its second page on. */
NODISCARD bool plan_spares_wal(DbConn *dest, bool *ret_spares, bool *ret_unsafe, Error *err);
/* Cuts tables into ranges. */
void plan_split(Arena *arena, Plan *plan, const PlanSplit *split);
/* Compares the columns of every table of which something is left to copy with the destination's; TABLE_CHANGED names
 * the first that differ. One that is complete may have been changed on the source since: when it is followed, the
 * change is in the stream. */
NODISCARD bool plan_check_dest(DbConn *dest, Arena *arena, const Plan *plan, Error *err);
NODISCARD bool plan_settle(DbConn *dest, const Ledger *ledger, Arena *arena, const LedgerSnapshot *snapshot,
                           bool data_only, Plan *plan, Error *err);
