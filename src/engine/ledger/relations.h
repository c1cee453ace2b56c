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
    bool is_new;         /* never copied: made on the source while it was followed */
    bool keyed;          /* its updates and deletes are in the stream, and were since its copy */
    const char *suspect; /* NULL, or why it has to be compared or copied again before the promote */
} LedgerRelation;

NODISCARD bool relations_read(DbConn *dest, Arena *arena, LedgerRelation **ret_relations, size_t *ret_count,
                              Error *err);
NODISCARD bool relations_any_suspect(DbConn *dest, bool *ret_any, Error *err);
/* In the caller's transaction (the applier's), by oid; the first reason stays. No error when the ledger has no such
 * table. */
NODISCARD bool relation_set_suspect(DbConn *dest, uint32_t oid, const char *reason, Error *err);
NODISCARD bool relations_set_all_suspect(DbConn *dest, const Ledger *ledger, const char *reason, Error *err);
/* A table whose every change applies, since its making was in the stream. In the caller's transaction. */
NODISCARD bool relation_add_followed(DbConn *dest, uint32_t oid, Error *err);
/* A table that was never copied, and whose beginning was not in the stream: it waits for a copy. In the caller's
 * transaction; names it if it was known by its oid only. */
NODISCARD bool relation_add_suspect(DbConn *dest, uint32_t oid, const char *schema, const char *name,
                                    const char *reason, Error *err);
/* A table that is to be copied again whatever is known of it: as relation_set_suspect(), or, when the ledger does not
 * have it, as relation_add_suspect(). */
NODISCARD bool relation_mark(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *reason,
                             Error *err);
/* Do its changes apply? False also when the ledger has no such table. */
NODISCARD bool relation_is_followed(DbConn *dest, uint32_t oid, bool *ret_followed, Error *err);
NODISCARD bool relation_is_suspect(DbConn *dest, uint32_t oid, bool *ret_suspect, Error *err);
