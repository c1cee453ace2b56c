/* What the files of pg/ share about a connection; nobody outside pg/ includes it. */
#pragma once

#include "common/clock.h"
#include "pg/conn.h"
#include "pg/sqlstate.h"

#include <libpq-fe.h>

/* Servers answer a cancelled statement at once; a session that does not within this time is given up. */
#define DRAIN_TIMEOUT_US (5 * USEC_PER_SEC)

/* NAMEDATALEN: what is longer, the server would cut at the same place. */
enum { APPLICATION_NAME_MAX = 64 };

struct DbConn {
    PGconn *pg;
    const Stop *stop;
    DbSide side;
    bool broken;
    int64_t deadline_us;                         /* of every wait, clock_now_us() scale; 0 = none */
    struct Pipeline *pipeline;                   /* pipeline.c; NULL until the first one */
    char application_name[APPLICATION_NAME_MAX]; /* that we asked for; the session's may differ (namesakes.h) */
    bool other_name_told;                        /* that it differs */
    int64_t notices; /* received so far: copy.c tells a notice in mid-COPY from an error by it */
};

/* --- conninfo.c: connection strings ------------------------------------------------------------------------------ */

/* Every option that libpq would use for `conninfo`: given, from the service file, from the environment or a default.
 * Nothing is connected. Release with PQconninfoFree(). Fails with BAD_CONNINFO. */
NODISCARD bool conninfo_resolve(const char *conninfo, PQconninfoOption **ret_options, Error *err);
void conninfo_freep(PQconninfoOption **options);
/* NULL when it has no value or an empty one. */
const char *conninfo_get(const PQconninfoOption *options, const char *keyword);
char *conninfo_display(Arena *arena, const PQconninfoOption *options);

/* --- settings.c: the fixed session settings ----------------------------------------------------------------------- */

/* One SELECT that sets all of them. */
void settings_build(Buf *sql, DbSide side, int version, bool sql_ascii);
/* A statement that may fail without harm, NULL when this version has none. */
const char *settings_optional(int version);

/* --- conn.c ------------------------------------------------------------------------------------------------------- */

/* Reads (and throws away) what the server still sends, ending a COPY if one is open, until the session is idle; marks
 * it broken when that takes longer than DRAIN_TIMEOUT_US. Does not look at the stop flag: that is the usual reason for
 * being here. True = a failed result was among them and err (may be NULL) holds the first one. */
bool conn_drain(DbConn *conn, Error *err);
/* Sends a cancel request (owned from now on, NULL = failed) and waits at most CANCEL_PATIENCE_US for it to be through.
 */
bool cancel_send(PGcancel *cancel);

/* --- query.c: waits and results ----------------------------------------------------------------------------------- */

/* Notes in an err that is set already what its SQLSTATE ("" = none) means. */
void query_note_sqlstate(SqlstateInfo info, const char *sqlstate, Error *err);
/* Fills err from a failed result and notes when the session is over. */
bool query_fail_result(DbConn *conn, const PGresult *result, Error *err);
/* Fills err from the connection's own message: for failures without a result, which leave no usable session. */
bool query_fail_conn(DbConn *conn, Error *err);
/* Waits for `events` on the connection's socket; on stop, or at the connection's deadline, cancels the statement and
 * fails with CANCELLED or TIMED_OUT. */
NODISCARD bool query_wait(DbConn *conn, short events, Error *err);
/* Sends what libpq still holds. */
NODISCARD bool query_flush(DbConn *conn, Error *err);
/* The next result, NULL after the last one. Never blocks without looking at the stop flag. */
NODISCARD bool query_next(DbConn *conn, PGresult **ret_result, Error *err);
/* Sends one statement (simple protocol) and takes its first result, which must have the given status. */
NODISCARD bool query_start_copy(DbConn *conn, const char *sql, ExecStatusType expected, Error *err);
/* Reads results until the session is idle. Keeps the row count of the command tag and the first error. */
NODISCARD bool query_finish(DbConn *conn, int64_t *ret_rows, Error *err);
/* Cancelled by our own stop flag. */
bool query_stopped(DbConn *conn, Error *err);

/* --- pipeline.c --------------------------------------------------------------------------------------------------- */

void pipeline_free(struct Pipeline *pipeline); /* NULL is fine */

/* --- copy_in.c: the writing side of COPY, used by the pump, too ----------------------------------------------------
 */

enum { COPY_PIECE_MAX = 1 << 20 };

/* Gives libpq one piece of at most COPY_PIECE_MAX bytes and sends what goes without waiting; *ret_pending = some of it
 * is left. Call only with nothing pending. */
NODISCARD bool copy_in_send(DbConn *conn, const char *bytes, size_t len, bool *ret_pending, Error *err);
/* Sends without waiting. */
NODISCARD bool copy_in_flush(DbConn *conn, bool *ret_pending, Error *err);
/* Waits until nothing is pending. */
NODISCARD bool copy_in_drain(DbConn *conn, Error *err);
/* To be called when the socket is readable: fails when the server has given up on the COPY. */
NODISCARD bool copy_in_look(DbConn *conn, Error *err);
/* The same when it is not known whether it is readable. */
NODISCARD bool copy_in_peek(DbConn *conn, Error *err);
