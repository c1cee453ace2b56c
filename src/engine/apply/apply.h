/*
 * Applies a sealed batch to the destination, with its position, in one transaction.
 *
 * Contract
 * - apply_begin ... apply_parts (once, or several times for one transaction that is larger than a batch) ...
 * apply_commit. The position is moved by compare-and-set in the same transaction: exactly one row, or nothing commits.
 * - Every statement's row count must equal the group's rows. A unique or exclusion violation, or a wrong count, undoes
 * that table's part (savepoint) and applies its changes one by one in source order; each must then touch exactly one
 * row. If that fails too the call fails with CONFLICT, naming table, key and what was to be done; nothing is skipped.
 * The table's ApplyTrouble says so, too, and the error keeps the server's SQLSTATE.
 * - The connection's session: apply_session_setup. One thread.
 */
#pragma once

#include "common/lsn.h"
#include "engine/apply/table.h"
#include "engine/ledger/ledger.h"

typedef struct ApplyCounts {
    int64_t inserts, updates, deletes, truncates; /* rows, tables */
    int64_t serial_parts;
} ApplyCounts;

typedef struct ApplyTruncate {
    const ApplyTable *const *tables;
    size_t count;
    bool cascade, restart_identity;
} ApplyTruncate;

/* Replica role when it may be set (no triggers, no foreign keys); plans pinned to index nested loops; *ret_replica says
 * whether. */
NODISCARD bool apply_session_setup(DbConn *dest, bool *ret_replica, Error *err);

NODISCARD bool apply_begin(DbConn *dest, const Ledger *ledger, Error *err);
NODISCARD bool apply_parts(DbConn *dest, const BatchPart *parts, size_t count, ApplyCounts *counts, Error *err);
/* All tables of one message together; RESTART IDENTITY and CASCADE as the source did (cascaded tables are in the
 * message). */
NODISCARD bool apply_truncate(DbConn *dest, const ApplyTruncate *truncate, ApplyCounts *counts, Error *err);
/* Moves lane's position from `from` to `to` with the number of source transactions in between, and commits. FENCED when
 * the row is not where we left it. */
NODISCARD bool apply_commit(DbConn *dest, int lane, Lsn from, Lsn to, int64_t transactions, Error *err);
