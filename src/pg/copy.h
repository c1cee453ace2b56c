/*
 * COPY out of one server into another: the pump that moves table data.
 *
 * Contract
 * - Raw bytes are forwarded, never parsed; rows are gathered into large CopyData messages (COPY FROM takes any split of
 * the stream).
 * - Memory: the batch buffer (1 MB) plus what libpq needs for the largest row; `largest_row` is reported. A row is put
 * in pieces of at most 1 MB, so that libpq never holds it a second time on the way out.
 * - Success means: both servers ended the COPY, and their own row counts (command tags) are equal; else ROW_COUNT.
 * - After a failure each connection is either usable (in a failed transaction) or db_is_broken(). `*ret_failed_side`
 * says which server the failure came from, so that the caller knows what to reconnect.
 * - `bytes` counts up while it runs, for the progress display (relaxed atomic, other threads may read).
 */
#pragma once

#include "pg/conn.h"

#include <pthread.h>

/*
 * One huge row at a time: libpq holds a row twice (its input buffer, which grows to the next power of two, and the copy
 * it hands out), so lanes that each meet a row of 500 MB would need gigabytes together. A pump that has read GATE_BYTES
 * (32 MB) of a row without its end waits for the gate before it reads on. libpq never gives the buffer back, so the
 * holder keeps the gate until it has closed the source connection: `*gate_held` says that it must.
 */
typedef struct DbRowGate {
    pthread_mutex_t lock;
} DbRowGate;

void db_row_gate_init(DbRowGate *gate);
void db_row_gate_fini(DbRowGate *gate);
void db_row_gate_release(DbRowGate *gate);

typedef struct DbCopy {
    DbConn *source;
    DbConn *dest;
    const char *source_sql; /* COPY (...) TO STDOUT ... */
    const char *dest_sql;   /* COPY ... FROM STDIN ... */
    _Atomic int64_t *bytes; /* may be NULL */
    DbRowGate *gate;        /* may be NULL */
    bool *gate_held;        /* with gate: set when this call took it, also when it then failed */
} DbCopy;

typedef struct DbCopyResult {
    int64_t rows;
    int64_t bytes;
    int64_t largest_row;
} DbCopyResult;

NODISCARD bool db_copy_pump(const DbCopy *copy, DbCopyResult *ret_result, DbSide *ret_failed_side, Error *err);
