/*
 * Many statements in one round trip (query.h), and the statements that are prepared for it.
 *
 * The server works while the next statement is being made: each goes out as far as the socket takes it, without
 * waiting. The results are short, so nobody blocks on writing them; they are read at the end, behind the one Sync.
 *
 * Prepared statements are known by their text, in a fixed number of cells; the newest of two that share a cell stays.
 * What happens to the table meanwhile is the server's business: it plans anew by the same text. Not so what happens to
 * types: a parameter keeps the type that it had when it was prepared, though another one has the name now
 * (db_forget_prepared()). A cell is only marked when the server has said yes, since after a failure it skips what
 * follows.
 */
#include "common/hash.h"
#include "pg/conn_internal.h"
#include "pg/query.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 512, NAME_MAX_LEN = 32, TEXT_SHOWN = 200 };

typedef struct Cell {
    char *sql;
    uint32_t number; /* names are never used twice */
    bool is_prepared;
} Cell;

typedef struct Pending {
    const char *label;
    int64_t expected;
    uint32_t prepares; /* the number of a cell, 0 = none */
} Pending;

typedef struct Pipeline {
    Cell cells[CELLS];
    uint32_t last_number;
    Pending *pending;
    size_t count, cap;
} Pipeline;

void pipeline_free(Pipeline *pipeline) {
    if (pipeline == NULL)
        return;
    for (size_t i = 0; i < CELLS; i++)
        free(pipeline->cells[i].sql);
    free(pipeline->pending);
    free(pipeline);
}

static bool out_of_memory(Error *err) {
    return error_set(err, REASON_INTERNAL, "out of memory");
}

static bool broken(DbConn *conn, Error *err) {
    return error_set(err, REASON_CONNECTION_LOST, "the connection to the %s is gone", db_side_name(conn->side));
}

bool db_pipeline_begin(DbConn *conn, Error *err) {
    if (db_is_broken(conn))
        return broken(conn, err);
    if (conn->pipeline == NULL)
        conn->pipeline = calloc(1, sizeof(*conn->pipeline));
    if (conn->pipeline == NULL)
        return out_of_memory(err);
    conn->pipeline->count = 0;
    return PQenterPipelineMode(conn->pg) == 1 || error_set(err, REASON_INTERNAL, "a pipeline was refused");
}

static bool note(Pipeline *pipeline, Pending pending, Error *err) {
    if (pipeline->count == pipeline->cap) {
        size_t cap = pipeline->cap == 0 ? 64 : pipeline->cap * 2;
        Pending *more = reallocarray(pipeline->pending, cap, sizeof(*more));

        if (more == NULL)
            return out_of_memory(err);
        pipeline->pending = more;
        pipeline->cap = cap;
    }
    pipeline->pending[pipeline->count++] = pending;
    return true;
}

/* --- Prepared statements ------------------------------------------------------------------------------------------ */

static void name_of(const Cell *cell, char *name) {
    (void)snprintf(name, NAME_MAX_LEN, "pgcrane_%" PRIu32, cell->number);
}

/* Another text takes the cell; the server forgets the old one's statement. */
static bool cell_take(DbConn *conn, Cell *cell, const char *sql, Error *err) {
    char name[NAME_MAX_LEN], text[NAME_MAX_LEN + 16];

    name_of(cell, name);
    if (cell->is_prepared) {
        (void)snprintf(text, sizeof(text), "DEALLOCATE %s", name);
        if (!PQsendQueryParams(conn->pg, text, 0, NULL, NULL, NULL, NULL, 0))
            return query_fail_conn(conn, err);
        if (!note(conn->pipeline, (Pending){.label = "", .expected = -1}, err))
            return false;
    }
    free(cell->sql);
    *cell = (Cell){.sql = strdup(sql), .number = ++conn->pipeline->last_number};
    return cell->sql != NULL || out_of_memory(err);
}

bool db_forget_prepared(DbConn *conn, Error *err) {
    Pipeline *pipeline = conn->pipeline;

    if (pipeline == NULL)
        return true;
    if (!db_exec(conn, "DEALLOCATE ALL", err))
        return error_wrap(err, "forgetting prepared statements");
    for (size_t i = 0; i < CELLS; i++) {
        free(pipeline->cells[i].sql);
        pipeline->cells[i] = (Cell){0};
    }
    return true;
}

/* *ret_prepared: the statement is known to the server, or will be when this one comes. */
static bool prepare(DbConn *conn, const char *label, const char *sql, char *name, bool *ret_prepared, Error *err) {
    Pipeline *pipeline = conn->pipeline;
    Cell *cell = &pipeline->cells[hash_text64(sql) % CELLS];

    *ret_prepared = false;
    if (cell->sql == NULL || strcmp(cell->sql, sql) != 0)
        return cell_take(conn, cell, sql, err);
    name_of(cell, name);
    *ret_prepared = true;
    for (size_t i = 0; !cell->is_prepared && i < pipeline->count; i++)
        if (pipeline->pending[i].prepares == cell->number)
            return true;
    if (cell->is_prepared)
        return true;
    if (!PQsendPrepare(conn->pg, name, sql, 0, NULL))
        return query_fail_conn(conn, err);
    return note(pipeline, (Pending){.label = label, .expected = -1, .prepares = cell->number}, err);
}

/* --- Sending and taking ------------------------------------------------------------------------------------------- */

bool db_pipeline_send(DbConn *conn, const char *label, const char *sql, int n_params, const char *const *params,
                      int64_t expected, Error *err) {
    char name[NAME_MAX_LEN];
    bool prepared = false;

    if (db_is_broken(conn))
        return broken(conn, err);
    if (conn->stop != NULL && stop_requested(conn->stop)) {
        (void)cancel_send(PQgetCancel(conn->pg));
        conn->broken = true;
        return query_stopped(conn, err);
    }
    if (!prepare(conn, label, sql, name, &prepared, err))
        return false;
    int sent = prepared ? PQsendQueryPrepared(conn->pg, name, n_params, params, NULL, NULL, 0)
                        : PQsendQueryParams(conn->pg, sql, n_params, NULL, params, NULL, NULL, 0);
    if (!sent || PQflush(conn->pg) < 0)
        return query_fail_conn(conn, err);
    return note(conn->pipeline, (Pending){.label = label, .expected = expected}, err);
}

/* Another text may have taken the cell meanwhile. */
static void note_prepared(Pipeline *pipeline, uint32_t number) {
    for (size_t i = 0; i < CELLS; i++)
        if (pipeline->cells[i].number == number)
            pipeline->cells[i].is_prepared = true;
}

static bool judge(DbConn *conn, const Pending *pending, PGresult *result, Error *err) {
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        query_fail_result(conn, result, err);
    } else {
        int64_t rows = pending->expected < 0 ? -1 : strtoll(PQcmdTuples(result), NULL, 10);

        if (rows == pending->expected || pending->expected < 0)
            return true;
        error_set(err, REASON_ROW_COUNT, "%" PRId64 " rows instead of %" PRId64 " were affected", rows,
                  pending->expected);
    }
    return error_wrap(err, "%s", pending->label);
}

/* One statement's results, up to the NULL behind them; *good false: it failed, and err says how unless one has before.
 * false: the connection is of no use any more. */
static bool take_results(DbConn *conn, const Pending *pending, bool *good, Error *err) {
    for (;;) {
        PGresult *result = NULL;

        if (!query_next(conn, &result, err))
            return false;
        if (result == NULL)
            return true;
        /* Also behind a wrong count of rows, which is no error to the server. */
        if (pending->prepares != 0 && PQresultStatus(result) == PGRES_COMMAND_OK)
            note_prepared(conn->pipeline, pending->prepares);
        if (*good && PQresultStatus(result) != PGRES_PIPELINE_ABORTED)
            *good = judge(conn, pending, result, err);
        bool lost = db_is_broken(conn);
        PQclear(result);
        if (lost)
            return false;
    }
}

/* A server that goes away may say so only here, or not at all. */
static bool judge_end(DbConn *conn, const PGresult *result, Error *err) {
    if (PQstatus(conn->pg) == CONNECTION_BAD && (result == NULL || PQresultStatus(result) != PGRES_FATAL_ERROR))
        return broken(conn, err);
    if (result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR)
        return query_fail_result(conn, result, err);
    return error_set(err, REASON_INTERNAL, "a pipeline did not end as it should (result %d)",
                     result == NULL ? -1 : (int)PQresultStatus(result));
}

static bool take_sync(DbConn *conn, Error *err) {
    PGresult *result = NULL;

    if (!query_next(conn, &result, err))
        return false;
    bool ended = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
    bool ok = (ended && PQexitPipelineMode(conn->pg) == 1) || judge_end(conn, result, err);
    PQclear(result);
    return ok;
}

bool db_pipeline_end(DbConn *conn, Error *err) {
    Pipeline *pipeline = conn->pipeline;
    bool good = true;

    if (!PQpipelineSync(conn->pg))
        return query_fail_conn(conn, err);
    Error end;
    bool usable = query_flush(conn, err);
    for (size_t i = 0; usable && i < pipeline->count; i++)
        usable = take_results(conn, &pipeline->pending[i], &good, err);
    if (usable && take_sync(conn, &end))
        return good;
    conn->broken = true; /* what it still sends nobody could tell apart */
    if (usable)
        *err = end; /* whatever a statement said before: it was undone with the session */
    return false;
}
