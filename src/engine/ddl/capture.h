/*
 * DDL of the source, in the stream: event triggers that write each command as a logical message (opt-in).
 *
 * Contract
 * - ddl_capture_install() makes, in one transaction and journalled before, a schema on the source (name derived from
 * the job's id) with its functions and event triggers; ddl_capture_remove() drops them, in any state. Needs a
 * superuser, or a server where the role may make event triggers: ddl_capture_allowed() asks.
 * - The functions never fail the application's command: whatever goes wrong inside becomes a message that says so (the
 *   table is then suspect), never an error.
 * - A table that loses its replica identity leaves the publication of updates and deletes in the same transaction. One
 * that gains one comes in when the command is a transaction of its own; otherwise a message says that it needs a copy,
 * and whoever follows publishes it (capture_sql.c has the reason).
 * - The schema and the event triggers ("..._end", "..._drop", "..._rw" behind the slot's name) are in a dump of the
 * source: whoever makes one leaves them out.
 * - Not before PostgreSQL 14: its stream has no messages (ddl_capture_allowed() says no).
 * - Messages have the prefix "pgcrane.ddl" and a JSON body (ddl/replay.h), which names the slot: others are not
 * concerned.
 */
#pragma once

#include "engine/ledger/journal.h"
#include "engine/seam/seam.h"

NODISCARD bool ddl_capture_allowed(DbConn *source, bool *ret_allowed, Error *err);
NODISCARD bool ddl_capture_install(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names,
                                   Error *err);
/* No error when there is none. seam_remove() passes its line of the journal over. dest NULL: as there. */
NODISCARD bool ddl_capture_remove(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names,
                                  Error *err);
/* The schema's name, for those who must leave it out (pg_dump, comparison). */
const char *ddl_capture_schema(Arena *arena, const SeamNames *names);
