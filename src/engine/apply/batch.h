/*
 * Many source transactions as one net effect per row: the heart of a fast and right apply. Pure.
 *
 * Contract
 * - Changes are added in commit order; only whole source transactions are in a batch when it is sealed (the caller cuts
 * at commit boundaries, or in the middle of one large transaction that goes into one destination transaction).
 * - Everything is copied into the batch's arena. batch_bytes() tells when to cut.
 * - The result is a list of parts, one per table in the order of their first change. A part is either set-wise
 * (deletes, then updates, then inserts, each with distinct rows) or serial (`is_serial`: the changes as they came, to
 * be applied one by one).
 * - Applying all parts' statements leaves the table as the changes one after the other would have, and each statement's
 * row count is exactly the number of its rows.
 *
 * Rules (each lost or duplicated rows when left out; test/unit/engine/apply names them)
 *  1. Rows are known by the bytes of their replica identity, not by SQL equality. An entry remembers the key the row
 * has *in the destination* (its original key) and its current key. A key change renames the entry: one UPDATE that sets
 * the key. DELETE + INSERT only when no column of the new row is unchanged TOAST. A key that one row gives up and
 * another takes in the same batch (swap, chain, cycle) makes the part serial.
 *  2. insert, delete = nothing. delete, insert = replace: DELETE and INSERT (both carry all values). insert, update =
 * insert of the new values, an unchanged one keeps the insert's. update, update: the later value; unchanged keeps the
 * earlier, and stays unchanged when both are. An unchanged value in a key column without an old tuple is an error
 * (BAD_DATA).
 *  3. Updates are grouped by the set of columns they set (unchanged TOAST, generated and ALWAYS-identity columns are
 * not set; an ALWAYS-identity column whose value changed needs DELETE + INSERT, i.e. replace, or serial when TOAST is
 * unchanged).
 *  4. A table with identity FULL has no key but its whole row: a multiset of images. Its part is serial unless every
 * change is an insert. The same for tables without identity (inserts only; an update or delete of one is BAD_DATA).
 *  5. Serial parts keep the changes exactly as they came.
 *  6. Inserts keep their order (sequences of serial ids stay ascending); updates and deletes are sorted by key bytes.
 */
#pragma once

#include "common/vec.h"
#include "pg/pgoutput.h"

typedef struct BatchColumn {
    const char *name;
    bool is_key;
    bool is_generated;       /* not sent, not set */
    bool is_always_identity; /* cannot be SET */
} BatchColumn;

/* What the batch must know of a table; the caller owns it, and it outlives the batch. */
typedef struct BatchTable {
    uint32_t relation; /* the source's oid, as in the stream */
    char identity;     /* d, i: by key columns; f: whole row; n: none */
    uint16_t columns_count;
    const BatchColumn *columns; /* in the order of the stream's tuples */
} BatchTable;

typedef enum BatchOp { BATCH_INSERT, BATCH_UPDATE, BATCH_DELETE } BatchOp;

typedef struct BatchRow {
    const PgoValue *key; /* values of the key columns as they are in the destination: update, delete */
    const PgoValue
        *values; /* all columns: insert; those of the group's mask are to be SET: update. NULL for a delete */
} BatchRow;

/* One statement's rows. */
typedef struct BatchGroup {
    BatchOp op;
    const uint8_t *set_mask; /* update: one byte a column, 1 = SET */
    const BatchRow *rows;
    size_t rows_count;
} BatchGroup;

typedef struct BatchChange { /* of a serial part */
    BatchOp op;
    char old_kind;
    PgoTuple old_tuple, new_tuple;
} BatchChange;

typedef struct BatchPart {
    const BatchTable *table;
    bool is_serial;
    const BatchGroup *groups; /* deletes, then updates, then inserts */
    size_t groups_count;
    const BatchChange *changes; /* always there: the fall-back when a set-wise part fails on the destination */
    size_t changes_count;
} BatchPart;

typedef struct Batch Batch;

Batch *batch_new(
    size_t max_bytes); /* hard ceiling: past it batch_add fails with INTERNAL, the caller cuts long before */
void batch_freep(Batch **batch);
void batch_clear(Batch *batch); /* keeps the memory */

/* One row message. BAD_DATA when it breaks a rule of identity. */
NODISCARD bool batch_add(Batch *batch, const BatchTable *table, PgoType type, const PgoRow *row, Error *err);
size_t batch_bytes(const Batch *batch);
size_t batch_changes(const Batch *batch);
/* The parts; valid until batch_clear(). May be called once per filling. */
NODISCARD bool batch_seal(Batch *batch, const BatchPart **ret_parts, size_t *ret_count, Error *err);
