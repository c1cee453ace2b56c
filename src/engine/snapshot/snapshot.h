/*
 * One consistent picture of the source, held by a keeper process, imported by every lane.
 *
 * Contract
 * - A snapshot is usable while its keeper's session lives. Ids are unique only while the server runs (the counter
 * starts again with it), so an importer always compares pg_current_snapshot() with the picture recorded:
 * snapshot_import_sql() returns it.
 * - Whoever works holds snapshot_attach()'s lock, so that the keeper's lease does not run out.
 */
#pragma once

#include "engine/ledger/ledger.h"

typedef struct SnapshotParams {
    const char *source_conninfo;
    const char *job_id;
    int64_t lease_us;
    int log_fd; /* the keeper's standard error */
} SnapshotParams;

/* Shared advisory lock on the source, for the life of the session. */
NODISCARD bool snapshot_attach(DbConn *source, const char *job_id, Error *err);

/* The ledger's last snapshot if it can still be imported; *ret_alive false otherwise. */
NODISCARD bool snapshot_find(DbConn *source, DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, bool *ret_alive,
                             Error *err);
/* A new keeper with a new snapshot, recorded in the ledger. */
NODISCARD bool snapshot_take(DbConn *dest, const Ledger *ledger, Arena *arena, const SnapshotParams *params,
                             const Stop *stop, LedgerSnapshot *ret_snapshot, Error *err);
/* Ends the keeper's session (and with it the keeper). No error when it is gone already. */
NODISCARD bool snapshot_release(DbConn *source, const LedgerSnapshot *snapshot, Error *err);

/* `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '...';` */
char *snapshot_begin_sql(Arena *arena, const LedgerSnapshot *snapshot);
/* SQL expression of the current picture, by server version: pg_current_snapshot()::text or, before 13,
 * txid_current_snapshot()::text. */
const char *snapshot_picture_sql(int server_version);
/* Opens a transaction on `source` under the snapshot. SNAPSHOT_LOST when it cannot be imported or shows another
 * picture. */
NODISCARD bool snapshot_begin(DbConn *source, const LedgerSnapshot *snapshot, Error *err);
/* Turns an error of an import into SNAPSHOT_LOST where it is that; returns false. */
bool snapshot_judge_error(Error *err);
