/*
 * Statements and their results.
 *
 * libpq is used without blocking: send, flush, consume, take results; each wait looks at the stop flag and at the
 * connection's deadline. The server may block on writing to us while we write to it, so whoever waits for "writable"
 * also reads (query_flush).
 */
#include "pg/query.h"

#include "pg/conn_internal.h"
#include "pg/sqlstate.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DETAIL_MAX = 300, CONTEXT_MAX = 200, FORMAT_MAX = 1 << 20 };

/* A DbResult is libpq's PGresult under our name: the one cast is here. */
struct DbResult {
    char opaque;
};

static const PGresult *pg_result(const DbResult *result) {
    return (const PGresult *)(const void *)result;
}

static DbResult *as_result(PGresult *result) {
    return (DbResult *)(void *)result;
}

static void clearp(PGresult **result) {
    PQclear(*result);
    *result = NULL;
}

/* --- Errors ------------------------------------------------------------------------------------------------------- */

/* Length of `text` cut to `max` bytes without splitting a UTF-8 character. */
static int cut(const char *text, size_t max) {
    size_t len = strnlen(text, max + 1);

    if (len > max)
        for (len = max; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
            len--;
    return (int)len;
}

/* After FATAL and PANIC the server ends the session, whatever the code is. */
static bool ends_session(const PGresult *result) {
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

bool query_fail_conn(DbConn *conn, Error *err) {
    const char *message = PQerrorMessage(conn->pg);

    conn->broken = true;
    return error_set(err, REASON_CONNECTION_LOST, "the connection to the %s was lost: %.*s", db_side_name(conn->side),
                     (int)strcspn(message, "\n"), message);
}

void query_note_sqlstate(SqlstateInfo info, const char *sqlstate, Error *err) {
    err->retryable = info.retryable;
    snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", sqlstate);
    /* The reason's own remedy is about the number of connections. */
    if (info.reason == REASON_SERVER_BUSY && sqlstate[0] != '\0' && strcmp(sqlstate, "53300") != 0)
        error_remedy(err, "see that server's log; when it has recovered run the same command again");
    /* What was read of the row, under a snapshot or from the log, stays as it was. */
    if (sqlstate_is_encoding(sqlstate))
        error_remedy(err, "write that text anew on the source, in characters that both encodings have, then start over:"
                          " the same command with --restart; or take a destination of the source's encoding");
}

bool query_fail_result(DbConn *conn, const PGresult *result, Error *err) {
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);

    if (sqlstate == NULL || primary == NULL) {
        /* Made by libpq itself: the server is gone, or it spoke nonsense. */
        return query_fail_conn(conn, err);
    }
    SqlstateInfo info = sqlstate_info(sqlstate);
    detail = detail != NULL ? detail : "";
    context = context != NULL ? context : "";
    size_t context_len = MIN(strcspn(context, "\n"), CONTEXT_MAX);
    error_set(err, info.reason, "%s%s%.*s%s%.*s%s", primary, detail[0] != '\0' ? " (" : "", cut(detail, DETAIL_MAX),
              detail, context[0] != '\0' ? (detail[0] != '\0' ? "; " : " (") : "", cut(context, context_len), context,
              detail[0] != '\0' || context[0] != '\0' ? ")" : "");
    query_note_sqlstate(info, sqlstate, err);
    if (ends_session(result) || info.reason == REASON_CONNECTION_LOST || PQstatus(conn->pg) == CONNECTION_BAD)
        conn->broken = true;
    return false;
}

bool query_stopped(DbConn *conn, Error *err) {
    return error_set(err, REASON_CANCELLED, "stopped while working on the %s", db_side_name(conn->side));
}

/* --- Waits -------------------------------------------------------------------------------------------------------- */

bool query_wait(DbConn *conn, short events, Error *err) {
    int fd = PQsocket(conn->pg);

    if (fd < 0)
        return query_fail_conn(conn, err);
    WaitResult waited = stop_wait_fd(conn->stop, fd, events, conn->deadline_us);

    if (waited == WAIT_READY)
        return true;
    db_cancel(conn);
    return waited == WAIT_TIMEOUT
               ? error_set(err, REASON_TIMED_OUT, "the %s has not answered in time", db_side_name(conn->side))
               : query_stopped(conn, err);
}

bool query_flush(DbConn *conn, Error *err) {
    for (;;) {
        int unsent = PQflush(conn->pg);
        if (unsent == 0)
            return true;
        if (unsent < 0)
            return query_fail_conn(conn, err);
        if (!query_wait(conn, POLLIN | POLLOUT, err))
            return false;
        if (!PQconsumeInput(conn->pg))
            return query_fail_conn(conn, err);
    }
}

bool query_next(DbConn *conn, PGresult **ret_result, Error *err) {
    while (PQisBusy(conn->pg)) {
        if (!query_wait(conn, POLLIN, err))
            return false;
        /* A failure here leaves what came before it to be parsed: FATAL messages arrive so. */
        if (!PQconsumeInput(conn->pg) && PQisBusy(conn->pg))
            return query_fail_conn(conn, err);
    }
    *ret_result = PQgetResult(conn->pg);
    return true;
}

static bool send_query(DbConn *conn, const char *sql, int n_params, const char *const *params, bool simple,
                       Error *err) {
    if (db_is_broken(conn))
        return error_set(err, REASON_CONNECTION_LOST, "the connection to the %s is gone", db_side_name(conn->side));
    int sent =
        simple ? PQsendQuery(conn->pg, sql) : PQsendQueryParams(conn->pg, sql, n_params, NULL, params, NULL, NULL, 0);
    if (!sent && PQstatus(conn->pg) != CONNECTION_BAD)
        return error_set(err, REASON_INTERNAL, "statement not sent: %s", PQerrorMessage(conn->pg));
    if (!sent)
        return query_fail_conn(conn, err);
    return query_flush(conn, err);
}

static bool is_good(ExecStatusType status) {
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE ||
           status == PGRES_EMPTY_QUERY;
}

/* A COPY where none is expected would leave the session in a state that nobody serves. */
static bool refuse_copy(DbConn *conn, Error *err) {
    db_cancel(conn);
    return error_set(err, REASON_INTERNAL, "COPY is not possible here");
}

/* Takes all results: the last one is returned, the first failure decides. */
static bool collect(DbConn *conn, PGresult **ret_result, Error *err) {
    PGresult *last CLEANUP(clearp) = NULL;
    bool good = true;

    for (;;) {
        PGresult *result = NULL;
        Error later;
        if (!query_next(conn, &result, good ? err : &later))
            return false;
        if (result == NULL)
            break;
        ExecStatusType status = PQresultStatus(result);
        PQclear(last);
        last = result;
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT)
            return refuse_copy(conn, err);
        if (good && !is_good(status))
            good = query_fail_result(conn, result, err);
    }
    if (!good)
        return false;
    if (last == NULL)
        return query_fail_conn(conn, err);
    *ret_result = last;
    last = NULL;
    return true;
}

static bool run(DbConn *conn, const char *sql, int n_params, const char *const *params, bool simple,
                PGresult **ret_result, Error *err) {
    return send_query(conn, sql, n_params, params, simple, err) && collect(conn, ret_result, err);
}

bool query_start_copy(DbConn *conn, const char *sql, ExecStatusType expected, Error *err) {
    PGresult *result CLEANUP(clearp) = NULL;

    if (!send_query(conn, sql, 0, NULL, true, err) || !query_next(conn, &result, err))
        return false;
    if (PQresultStatus(result) == expected)
        return true;
    if (is_good(PQresultStatus(result)) || PQresultStatus(result) == PGRES_COPY_IN ||
        PQresultStatus(result) == PGRES_COPY_OUT)
        return refuse_copy(conn, err);
    query_fail_result(conn, result, err);
    conn_drain(conn, NULL);
    return false;
}

bool query_finish(DbConn *conn, int64_t *ret_rows, Error *err) {
    PGresult *result CLEANUP(clearp) = NULL;

    if (!collect(conn, &result, err))
        return false;
    if (ret_rows != NULL)
        *ret_rows = db_affected(as_result(result));
    return true;
}

/* --- Statements --------------------------------------------------------------------------------------------------- */

bool db_exec(DbConn *conn, const char *sql, Error *err) {
    PGresult *result CLEANUP(clearp) = NULL;

    return run(conn, sql, 0, NULL, true, &result, err);
}

bool db_execf(DbConn *conn, Error *err, const char *format, ...) {
    Buf sql CLEANUP(buf_fini);
    va_list args;

    buf_init(&sql, FORMAT_MAX);
    va_start(args, format);
    buf_vprintf(&sql, format, args);
    va_end(args);
    return buf_ok(&sql, "a statement", err) && db_exec(conn, sql.data, err);
}

bool db_query(DbConn *conn, const char *sql, int n_params, const char *const *params, DbResult **ret_result,
              Error *err) {
    PGresult *result CLEANUP(clearp) = NULL;

    if (!run(conn, sql, n_params, params, false, &result, err))
        return false;
    if (ret_result != NULL) {
        *ret_result = as_result(result);
        result = NULL;
    }
    return true;
}

bool db_query_last(DbConn *conn, const char *sql, DbResult **ret_result, Error *err) {
    PGresult *result = NULL;

    if (!run(conn, sql, 0, NULL, true, &result, err))
        return false;
    *ret_result = as_result(result);
    return true;
}

bool db_query_value(DbConn *conn, Arena *arena, const char *sql, int n_params, const char *const *params,
                    char **ret_value, Error *err) {
    DbResult *result CLEANUP(db_result_freep) = NULL;

    if (!db_query(conn, sql, n_params, params, &result, err))
        return false;
    if (db_rows(result) != 1 || PQnfields(pg_result(result)) < 1)
        return error_set(err, REASON_INTERNAL, "one row was expected, %d came: %.*s", db_rows(result),
                         cut(sql, CONTEXT_MAX), sql);
    *ret_value = db_is_null(result, 0, 0) ? NULL : arena_strdup(arena, db_text(result, 0, 0));
    return true;
}

bool db_exec_rows(DbConn *conn, const char *sql, int n_params, const char *const *params, int64_t expected,
                  Error *err) {
    DbResult *result CLEANUP(db_result_freep) = NULL;

    if (!db_query(conn, sql, n_params, params, &result, err))
        return false;
    if (db_affected(result) != expected)
        return error_set(err, REASON_ROW_COUNT, "%" PRId64 " rows instead of %" PRId64 " were affected by: %.*s",
                         db_affected(result), expected, cut(sql, CONTEXT_MAX), sql);
    return true;
}

/* Hands single rows on; *ret_end = no more results. */
static bool each_result(DbConn *conn, DbRowFunc row, void *context, bool *ret_end, Error *err) {
    PGresult *result CLEANUP(clearp) = NULL;

    if (!query_next(conn, &result, err))
        return false;
    *ret_end = result == NULL;
    if (result == NULL)
        return true;
    if (!is_good(PQresultStatus(result))) {
        query_fail_result(conn, result, err);
        conn_drain(conn, NULL);
        return false;
    }
    return PQntuples(result) == 0 || row(as_result(result), context, err);
}

bool db_query_each(DbConn *conn, const char *sql, int n_params, const char *const *params, DbRowFunc row, void *context,
                   Error *err) {
    bool end = false;

    if (!send_query(conn, sql, n_params, params, false, err))
        return false;
    if (!PQsetSingleRowMode(conn->pg)) {
        db_cancel(conn);
        return error_set(err, REASON_INTERNAL, "single-row mode refused");
    }
    while (!end) {
        if (each_result(conn, row, context, &end, err))
            continue;
        db_cancel(conn); /* rows may still be on their way: nobody wants them */
        return false;
    }
    return true;
}

void db_rollback(DbConn *conn) {
    int64_t deadline_us = conn->deadline_us;
    Error ignored;

    if (PQtransactionStatus(conn->pg) == PQTRANS_ACTIVE)
        db_cancel(conn);
    if (db_is_broken(conn) || PQtransactionStatus(conn->pg) == PQTRANS_IDLE)
        return;
    if (deadline_us != 0) /* it may have passed: the usual reason for being here */
        conn->deadline_us = MAX(deadline_us, clock_now_us() + DRAIN_TIMEOUT_US);
    if (!db_exec(conn, "ROLLBACK", &ignored))
        conn->broken = true; /* what is open now is not known */
    conn->deadline_us = deadline_us;
}

/* --- Results ------------------------------------------------------------------------------------------------------ */

void db_result_free(DbResult *result) {
    PQclear((PGresult *)(void *)result);
}

void db_result_freep(DbResult **result) {
    db_result_free(*result);
    *result = NULL;
}

int db_rows(const DbResult *result) {
    return PQntuples(pg_result(result));
}

int db_columns(const DbResult *result) {
    return PQnfields(pg_result(result));
}

int64_t db_affected(const DbResult *result) {
    /* libpq only reads here, its prototype just does not say so. */
    union {
        const PGresult *in;
        PGresult *out;
    } alias = {.in = pg_result(result)};

    return strtoll(PQcmdTuples(alias.out), NULL, 10);
}

const char *db_text(const DbResult *result, int row, int column) {
    const char *value = PQgetvalue(pg_result(result), row, column);

    return value != NULL ? value : "";
}

size_t db_length(const DbResult *result, int row, int column) {
    return (size_t)PQgetlength(pg_result(result), row, column);
}

bool db_is_null(const DbResult *result, int row, int column) {
    return PQgetisnull(pg_result(result), row, column) != 0;
}

int64_t db_int64(const DbResult *result, int row, int column) {
    return strtoll(db_text(result, row, column), NULL, 10);
}

double db_double(const DbResult *result, int row, int column) {
    return strtod(db_text(result, row, column), NULL);
}

bool db_bool(const DbResult *result, int row, int column) {
    return db_text(result, row, column)[0] == 't';
}
