/*
 * Archive entries that run one after the other, in archive order: definitions before data, and what comes after it.
 *
 * Each entry's line in the ledger commits with it. A few kinds may fail for want of privilege (a comment on an
 * extension, a publication of all tables): they are reported as not moved, in a savepoint of their own; anything else
 * ends the run with the entry's name. A new owner who may not create in the object's schema is lent that right by who
 * may grant it, until the entry has run (serial.c).
 */
#pragma once

#include "engine/load/load.h"

typedef bool (*EntryFilter)(const LoadParams *params, size_t entry);

/* Groups of entries share a transaction. */
NODISCARD bool serial_run(const LoadParams *params, DbConn *control, EntryFilter wanted, Phase phase,
                          NotMovedVec *not_moved, Arena *arena, Error *err);
/* The same, with what schemas grant run where it stands in the archive, too: behind its schema, and before what is
 * given to its owner there (restore_schema_grants()). Without a line in the ledger and without a word when it is
 * refused: the entry itself comes later, and is told then. */
NODISCARD bool serial_run_with_grants(const LoadParams *params, DbConn *control, EntryFilter wanted, Phase phase,
                                      NotMovedVec *not_moved, Arena *arena, Error *err);
/* The same as serial_run() inside the caller's transaction, without ledger lines (the ledger is gone by then), and
 * without loans. */
NODISCARD bool serial_run_in_transaction(const LoadParams *params, DbConn *control, EntryFilter wanted,
                                         NotMovedVec *not_moved, Arena *arena, Error *err);
