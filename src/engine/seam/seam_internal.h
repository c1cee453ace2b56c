/* What the files of the seam share; nobody else includes this. */
#pragma once

#include "engine/seam/seam.h"

/* Before 11 a publication has no TRUNCATE. */
enum { SEAM_TRUNCATE_VERSION = 110000 };

/* Nothing of ours waits longer than this for a lock on the source; for tables, perhaps a little longer, so that an
 * autovacuum in our way gives up (pg/lock_timeout.h). */
#define SEAM_LOCK_TIMEOUT_MS 3000
/* Begins a writing transaction on the source that commits without waiting for its standbys: a standby that is away must
 * not stop us where it does not stop us from reading. */
#define SEAM_BEGIN_SQL "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '3s'"

/* SEAM_BEGIN_SQL; an autovacuum gives way; the application's event triggers do not see what is done in it, where our
 * role has a say in that. Our own capture's need not: of publications they take no notice, and tables get a replica
 * identity of ours before it is there, or while it goes. */
NODISCARD bool seam_begin(DbConn *source, Error *err);

/* Who has transactions open that hold an xid: in words, "" for nobody. limit: only xids up to this one, 0 = all. */
NODISCARD bool seam_blockers(DbConn *source, Arena *arena, uint64_t limit, const char **ret_who, Error *err);

/* A flushed commit; *ret_message = where its message ends (so less than the commit record's end), *ret_end >= the
 * commit record's end, and flushed. */
NODISCARD bool seam_emit(DbConn *source, const char *content, Lsn *ret_message, Lsn *ret_end, Error *err);

/* As repl_slot_drop(), without an error in the server's log when there is none. */
NODISCARD bool seam_drop_slot(DbConn *source, const char *slot, Error *err);

/* Waits a moment before a next try; CANCELLED when the connection is to stop. */
NODISCARD bool seam_pause(DbConn *source, Error *err);
