/*
 * Triggers and rules of the destination that fire for what pgcrane writes there.
 *
 * Before the promote opens it there are none of ours: those that would fire wait for OPEN, and those that --ddl brings
 * are kept from firing. So one that fires was made, or enabled, by somebody else, and may change each row that is
 * applied. Its table is suspect: the rows are copied again when it is gone, and until then nothing is promoted.
 *
 * Seen is what stands when somebody looks. One that came and went between two looks leaves no certain trace
 * (pg_class.relhastriggers is set on all tables with foreign keys, and VACUUM takes it back). Nor is it known what one
 * has written to other tables.
 */
#pragma once

#include "common/vec.h"
#include "engine/ledger/ledger.h"

typedef struct Stranger {
    const char *what; /* "trigger t of public.item" */
    const char *schema, *table;
    const char *fix; /* what to do on the destination */
    uint32_t oid;    /* the table's on the source */
    bool is_suspect; /* already */
} Stranger;
typedef VEC(Stranger) StrangerVec;

/* On tables that the ledger has. replica_role: our sessions leave out what may be left out. */
NODISCARD bool strangers_read(DbConn *source, DbConn *dest, Arena *arena, bool replica_role, StrangerVec *ret_found,
                              Error *err);
/* Marks their tables, in a transaction of its own. */
NODISCARD bool strangers_mark(DbConn *dest, const Ledger *ledger, const StrangerVec *found, Error *err);
/* Is there one on this table of the destination? */
NODISCARD bool strangers_stand(DbConn *dest, const char *schema, const char *table, bool replica_role, bool *ret_stand,
                               Error *err);
/* "trigger t of public.item fires for ... (there: DROP TRIGGER ...)" */
const char *stranger_text(Arena *arena, const Stranger *stranger);
