/*
 * DDL of the source, in the stream: event triggers that write each command as a logical message (opt-in).
 *
 * Contract
 * - ddl_capture_install() makes, in one transaction and journalled before, a schema on the source (name derived from
 * the job's id) with its functions and event triggers; ddl_capture_remove() drops them, in any state. Needs a
 * superuser, or a server where the role may make event triggers.
 * - The functions never fail the application's command: whatever goes wrong inside becomes a message that says so (the
 *   table is then suspect), never an error.
 * - A table that loses its replica identity leaves the publication of updates and deletes in the same transaction. One
 * that gains one comes in when the command is a transaction of its own; otherwise a message says that it needs a copy,
 * and whoever follows publishes it (capture_sql.c has the reason).
 * - The schema and the event triggers ("..._end", "..._drop", "..._rw" behind the slot's name) are in a dump of the
 * source: whoever makes one leaves them out.
 * - Not before PostgreSQL 14, as the stream has no messages there: preflight's FOLLOW_DDL_VERSION refuses it.
 * - Messages have the prefix "pgcrane.ddl"; they are the slot's name, the capture's secret and a JSON body
 * (ddl/replay.h), with blanks in between. Who follows another slot is not concerned, and nobody obeys what lacks the
 * secret (capture_sql.c). ddl_capture_secret() reads it, as the one who made the capture; a capture made anew has
 * another.
 */
#pragma once

#include "engine/ledger/journal.h"
#include "engine/seam/seam.h"

NODISCARD bool ddl_capture_install(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names,
                                   Error *err);
/* No error when there is none. seam_remove() passes its line of the journal over. dest NULL: as there. */
NODISCARD bool ddl_capture_remove(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names,
                                  Error *err);
/* Is it as it was when it was installed? *ret_changed: what is not, for people; NULL = all is. What was done while it
 * was something else may not be in the stream. */
NODISCARD bool ddl_capture_check(DbConn *source, DbConn *dest, Arena *arena, const SeamNames *names,
                                 const char **ret_changed, Error *err);
/* NULL = there is none (also a capture of an older version), or we may not read it. */
NODISCARD bool ddl_capture_secret(DbConn *source, Arena *arena, const SeamNames *names, const char **ret_secret,
                                  Error *err);
/* The schema's name, for those who must leave it out (pg_dump, comparison). */
const char *ddl_capture_schema(Arena *arena, const SeamNames *names);
