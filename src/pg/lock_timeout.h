/*
 * How long a transaction waits for locks, where an autovacuum may be in the way.
 *
 * PostgreSQL asks an autovacuum to give way only on behalf of who has waited for deadlock_timeout (one second by
 * default), and not at all when it is to prevent wraparound of transaction numbers. Who waits for less never gets past
 * it, however often he tries. And who waits for longer makes all wait who come after him, readers included. So the long
 * wait is only for where a vacuum or an ANALYZE has its lock; and a superuser, who may, shortens deadlock_timeout
 * there, until the transaction ends. pg_locks shows everybody's locks to every role.
 *
 * Contract
 * - lock_timeout_set(), inside a transaction, for what is left of it: `ms` milliseconds; longer, `most_ms` at most, as
 *   long as somebody has the lock of a vacuum (SHARE UPDATE EXCLUSIVE), on the relation `quoted` or its TOAST table,
 * or, with NULL, on any of the database. Where deadlock_timeout is longer than `most_ms` allows, waiting would be in
 * vain: `ms`. One round trip. *ret_ms (may be NULL): what was set.
 * - It is asked once: an autovacuum that comes a moment later is outwaited by the next try.
 */
#pragma once

#include "pg/conn.h"

/* Whoever queues behind our lock, an application of the source, say, waits for no longer than this. */
enum { LOCK_TIMEOUT_MOST_MS = 5000 };

NODISCARD bool lock_timeout_set(DbConn *conn, const char *quoted, int ms, int most_ms, int *ret_ms, Error *err);
