/*
 * Statements and their results.
 *
 * - Values go in as parameters (text form), identifiers through quote.h.
 * - Every wait obeys the connection's Stop. After a failure the session is usable again (or db_is_broken()); an open
 * transaction is in the failed state until db_rollback().
 * - A DbResult owns its rows: CLEANUP(db_result_freep). Text returned by db_text lives as long as the result; never
 * NULL ("" for NULL).
 */
#pragma once

#include "pg/conn.h"

typedef struct DbResult DbResult;

void db_result_free(DbResult *result);
void db_result_freep(DbResult **result);

/* One or several statements (simple protocol), results thrown away. */
NODISCARD bool db_exec(DbConn *conn, const char *sql, Error *err);
NODISCARD bool db_execf(DbConn *conn, Error *err, const char *format, ...) PRINTF(3, 4);
/* One statement with $1.. parameters (NULL pointer = SQL NULL). ret_result may be NULL. */
NODISCARD bool db_query(DbConn *conn, const char *sql, int n_params, const char *const *params, DbResult **ret_result,
                        Error *err);
/* Several statements separated by semicolons in one round trip; *ret_result is the result of the last one. */
NODISCARD bool db_query_last(DbConn *conn, const char *sql, DbResult **ret_result, Error *err);
/* First column of the only row, in `arena`; an error when there is not exactly one row. NULL gives NULL. */
NODISCARD bool db_query_value(DbConn *conn, Arena *arena, const char *sql, int n_params, const char *const *params,
                              char **ret_value, Error *err);
/* As db_query without result; fails with ROW_COUNT unless exactly `expected` rows were affected. */
NODISCARD bool db_exec_rows(DbConn *conn, const char *sql, int n_params, const char *const *params, int64_t expected,
                            Error *err);
/* Rows one at a time (single-row mode): for results that may be large. row() gets a one-row result; returning false
 * ends. */
typedef bool (*DbRowFunc)(const DbResult *row, void *context, Error *err);
NODISCARD bool db_query_each(DbConn *conn, const char *sql, int n_params, const char *const *params, DbRowFunc row,
                             void *context, Error *err);

/*
 * Many statements in one round trip: begin, send often, end, which takes all results. Only statements whose rows nobody
 * wants; the first failure makes the server skip the rest. What is sent a second time is prepared, so the same text is
 * to be given for the same shape. Inside a transaction; no other call between begin and end.
 * - expected: the number of rows it must affect, or -1. `label` begins the message of a failure; both strings live
 * until the end.
 * - A send fails only when the connection is broken or stopped: then there is nothing to end.
 */
NODISCARD bool db_pipeline_begin(DbConn *conn, Error *err);
NODISCARD bool db_pipeline_send(DbConn *conn, const char *label, const char *sql, int n_params,
                                const char *const *params, int64_t expected, Error *err);
NODISCARD bool db_pipeline_end(DbConn *conn, Error *err);
/* Behind definitions: a type may be another one under its name. Not inside a pipeline. */
NODISCARD bool db_forget_prepared(DbConn *conn, Error *err);

/* Waits for a notification of whatever the session listens to (LISTEN), outside a transaction; what has come since the
 * last call counts. *ret_came = false at the deadline (clock_now_us() scale, 0 = none). CANCELLED on stop. */
NODISCARD bool db_wait_notification(DbConn *conn, int64_t deadline_us, bool *ret_came, Error *err);

/* Rolls back whatever is open; on a broken connection does nothing. Never fails. */
void db_rollback(DbConn *conn);

int db_rows(const DbResult *result);
int db_columns(const DbResult *result);
int64_t db_affected(const DbResult *result);
const char *db_text(const DbResult *result, int row, int column);
size_t db_length(const DbResult *result, int row, int column);
bool db_is_null(const DbResult *result, int row, int column);
int64_t db_int64(const DbResult *result, int row, int column); /* 0 for NULL */
double db_double(const DbResult *result, int row, int column);
bool db_bool(const DbResult *result, int row, int column);

/* Bytes as COPY ... FROM STDIN (one stream already formatted by the caller): begin, put often, end. ret_rows = the
 * server's own count. */
NODISCARD bool db_copy_in_begin(DbConn *conn, const char *sql, Error *err);
NODISCARD bool db_copy_in_put(DbConn *conn, const void *bytes, size_t len, Error *err);
NODISCARD bool db_copy_in_end(DbConn *conn, int64_t *ret_rows, Error *err);
