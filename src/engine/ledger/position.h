/*
 * How far the stream has been applied: one line a lane, moved in the transaction that applies (engine/apply).
 *
 * `lsn` is the end of the last source transaction applied, or a position that a keepalive gave while nothing was
 * outstanding. `transactions` counts source transactions that changed a migrated table and were applied (not those that
 * the copy had already).
 */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/ledger.h"

typedef struct Position {
    Lsn lsn;
    int64_t transactions;
} Position;

/* The lane's line with this position, unless it has one already. In a transaction of its own. */
NODISCARD bool position_init(DbConn *dest, const Ledger *ledger, int lane, Lsn lsn, Error *err);
NODISCARD bool position_read(DbConn *dest, int lane, bool *ret_found, Position *ret_position, Error *err);
