/* The tables of a migration as the ledger has them, and which of them the stream may have missed changes of. */
#pragma once

#include "common/lsn.h"
#include "engine/ledger/ledger.h"

typedef struct LedgerRelation {
    uint32_t oid; /* on the source */
    const char *schema, *name;
    const char *picture; /* of the snapshot it was copied under */
    Lsn w;               /* of that snapshot */
    bool copied;         /* all its ranges are in */
    const char *suspect; /* NULL, or why it has to be compared or copied again before the promote */
} LedgerRelation;

NODISCARD bool relations_read(DbConn *dest, Arena *arena, LedgerRelation **ret_relations, size_t *ret_count,
                              Error *err);
/* In the caller's transaction (the applier's), by oid; the first reason stays. No error when the ledger has no such
 * table. */
NODISCARD bool relation_set_suspect(DbConn *dest, uint32_t oid, const char *reason, Error *err);
