/*
 * Sessions that a connection of ours has left behind.
 *
 * A server finds out late that the other end of a connection is gone: not before its keepalives when a firewall has
 * forgotten it, and never as long as a bastion or a balancer between us keeps its own end open. Until then the session
 * keeps what it has: an open transaction, its locks, a COMMIT that may still come.
 *
 * Contract
 * - The application_name (conn.h makes it of job and purpose) is one connection's alone, and whoever calls this has the
 *   job's lock on that server: so another session of that name, of our role and in our database, is one that was left.
 * - Compared is the name that was asked for, never the one that the session has: a pooler, or a trigger, may have given
 *   it one that the application's sessions have as well. When ours has another, nobody's session is ended, since others
 *   of that name prove nothing; that is logged once for each connection.
 * - Ends those, and waits until they are gone, so that what they had sent is decided: LOCK_BUSY after 30 seconds.
 * - Needs no right: a role may end its own sessions (documentation, pg_terminate_backend).
 */
#pragma once

#include "pg/query.h"

/* Has this session the name that was asked for? Of replication connections, too. */
NODISCARD bool db_has_own_name(DbConn *conn, bool *ret_has, Error *err);
NODISCARD bool db_end_namesakes(DbConn *conn, Error *err);
