/*
 * Connections to PostgreSQL, opened with deadlines and one fixed list of session settings.
 *
 * Contract
 * - A DbConn belongs to one thread at a time. Every wait ends at the connection's Stop (CANCELLED).
 * - Everything libpq knows (URI, key=value, PG* environment, .pgpass, service, TLS) works; the whole libpq conninfo is
 * the user's.
 * - Session settings are the same for all connections (conn.c lists them with reasons): text forms of values must not
 * depend on a role's or database's defaults, and no time-out of a role may end our work. They are *set by SQL after
 * login*, so poolers and the `options` parameter do not matter.
 * - A failure carries an ErrorReason by SQLSTATE (sqlstate.h) or, before there is a session, by what libpq said:
 * UNREACHABLE, LOGIN_REFUSED, NO_DATABASE, TLS_FAILED, SERVER_BUSY.
 * - No message, log or display form ever contains a password.
 * Relies on: libpq 15, PQconnectPoll. The deadline is kept here (PQconnectPoll ignores connect_timeout); only the
 * name look-up inside libpq blocks for as long as the resolver wants.
 */
#pragma once

#include "common/arena.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/stop.h"

struct pg_conn; /* PGconn: only pg/ looks inside */

typedef enum DbSide { DB_SOURCE, DB_DEST, DB_STORE } DbSide;
const char *db_side_name(DbSide side); /* "source", "destination", "store" */

typedef struct DbTarget {
    DbSide side;
    const char *conninfo;       /* URI or key=value, may hold a password */
    const char *job_id;         /* becomes part of application_name: "pgcrane JOBID PURPOSE" */
    int64_t connect_timeout_us; /* 0 = 10 s */
    const char *extra_setup;    /* NULL or SQL run after the fixed settings */
    const char *database;       /* NULL or another one of the same server */
} DbTarget;

typedef struct DbConn DbConn;

NODISCARD bool db_open(const DbTarget *target, const char *purpose, const Stop *stop, DbConn **ret_conn, Error *err);
/* As db_open, but tries again after retryable failures, with growing, jittered pauses (0.2 s to 10 s), until
 * `patience_us` has passed. */
NODISCARD bool db_open_patient(const DbTarget *target, const char *purpose, const Stop *stop, int64_t patience_us,
                               DbConn **ret_conn, Error *err);
void db_close(DbConn *conn); /* NULL is fine; an open transaction ends as the server ends it: rolled back */
void db_closep(DbConn **conn);

/* "user@host:port/database" or "user@/database (socket)", never a password. In `arena`. Fails with BAD_CONNINFO. */
NODISCARD bool db_display(Arena *arena, const char *conninfo, const char **ret_display, Error *err);

int db_version(const DbConn *conn);       /* 150020 */
int db_major(const DbConn *conn);         /* 15 */
bool db_is_sql_ascii(const DbConn *conn); /* a database without an encoding: its bytes are never converted */
DbSide db_conn_side(const DbConn *conn);
const char *db_name(const DbConn *conn); /* database */
const char *db_user(const DbConn *conn);
int db_backend_pid(const DbConn *conn);
/* The application_name that this connection asked for. A session may have another one all the same: a pooler between us
 * may give it its own. That of a login trigger (17 on) is replaced by ours when the connection is opened. */
const char *db_application_name(const DbConn *conn);
/* Another name, once the job's id is known. */
NODISCARD bool db_rename(DbConn *conn, const char *job_id, const char *purpose, Error *err);
/* The session is over (server gone, killed): only db_close is left to do. */
bool db_is_broken(const DbConn *conn);
/* Warnings that the server has sent so far: a GRANT that grants nothing is one, and no failure. Notices are turned off.
 */
int64_t db_warnings(const DbConn *conn);
const Stop *db_stop(const DbConn *conn);
/* For all statements from now on (clock_now_us() scale, 0 = none): one that is not done by then is cancelled and fails
 * with TIMED_OUT. For what a server's own time-outs do not end: a COMMIT that waits for a standby (cancelled, it is
 * committed all the same), a network that is silent (the session is broken then). Not in the middle of a COPY of rows.
 */
void db_set_deadline(DbConn *conn, int64_t deadline_us);
/* Waits end at another flag from now on; NULL = at none. It lives until it is replaced, or as long as the connection.
 */
void db_set_stop(DbConn *conn, const Stop *stop);
struct pg_conn *db_pgconn(DbConn *conn); /* for pg/ only */
int db_socket(const DbConn *conn);       /* to wait for the server's end of session */

/* Asks the server to end what this connection runs (PQcancel), then drains results until the session is idle or broken.
 * Used after a failure in mid-COPY. */
void db_cancel(DbConn *conn);

/* A libpq service file's text for this connection, under [pgcrane]: how a child (pg_dump) gets its parameters without
 * argv or environment. Holds the password: write it 0600 and remove it. */
NODISCARD bool db_service_file(const char *conninfo, Buf *buf, Error *err);
