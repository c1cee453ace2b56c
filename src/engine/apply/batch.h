/*
 * Many source transactions as one net effect per row: the heart of a fast and right apply. Pure.
 *
 * Contract
 * - Changes are added in commit order; only whole source transactions are in a batch when it is sealed (the caller cuts
 * at commit boundaries, or in the middle of one large transaction that goes into one destination transaction).
 * - Everything is copied into the batch's arena, each value with a NUL behind it. batch_bytes() tells when to cut.
 * - The result is a list of parts, one per table in the order of their first change. A part is either set-wise
 * (deletes, then updates, then inserts, each with distinct rows) or serial (`is_serial`: the changes as they came, to
 * be applied one by one).
 * - Applying all parts' statements leaves the table as the changes one after the other would have, and each statement's
 * row count is exactly the number of its rows.
 * - One definition a table: a batch ends before a changed relation, a TRUNCATE and DDL. A second BatchTable of the same
 * relation is refused (INTERNAL).
 *
 * Rules (each lost or duplicated rows when left out; test/unit/engine/apply names them)
 *  1. Rows are known by the bytes of their replica identity, not by SQL equality. An entry remembers the key the row
 * has *in the destination* (its original key) and its current key. A key change renames the entry: one UPDATE that sets
 * the key columns that differ. A key that one UPDATE gives up and another UPDATE takes (swap, chain, cycle) makes the
 * part serial: the order within a statement is the server's. Not so when the taker is an insert or the giver ends
 * deleted: the order of statements frees the key in time.
 *  2. insert, delete = nothing. delete, insert = replace: DELETE and INSERT (both carry all values). insert, update =
 * insert of the new values, an unchanged one keeps the insert's. update, update: the later value; unchanged keeps the
 * earlier, and stays unchanged when both are. An unchanged value in a key column is the old tuple's; without an old
 * tuple it is an error (BAD_DATA), and so are a NULL key and an insert with an unchanged value.
 *  3. Updates are grouped by the set of columns they set. Not set are unchanged TOAST, generated columns, key columns
 * that keep their bytes, ALWAYS-identity columns. An ALWAYS-identity column whose value changed needs DELETE + INSERT
 * (replace), or serial when a TOAST value is unchanged. Outside the key the stream does not say whether it changed
 * (UPDATE ... SET it = DEFAULT does): such a column is BATCH_MATCH, to be compared in the WHERE, and a wrong row count
 * tells. An update that would set nothing sets a key column to what it is, so that its row is still counted.
 *  4. A table with identity FULL has no key but its whole row: a multiset of images. A row's key is then all its
 * values; several rows of a group may have the same, and stand side by side: as many rows of that image are to be
 * touched. A table without identity has inserts only; an update or delete of one is BAD_DATA.
 *  5. Serial parts keep the changes exactly as they came; set-wise parts have them too, for the fall-back.
 *  6. Inserts keep their order (sequences of serial ids stay ascending); updates and deletes are sorted by key bytes.
 *  7. A change that contradicts the batch (insert of a key that is there, update or delete of one that is gone) makes
 * the part serial: the destination judges, and the error names the row.
 */
#pragma once

#include "common/vec.h"
#include "pg/pgoutput.h"

typedef struct BatchColumn {
    const char *name;
    bool is_key;
    bool is_generated;       /* never set; in the stream only when it is published (18+) */
    bool is_always_identity; /* cannot be SET */
} BatchColumn;

/* What the batch must know of a table; the caller owns it, and it outlives the batch. */
typedef struct BatchTable {
    uint32_t relation; /* the source's oid, as in the stream */
    char identity;     /* d, i: by key columns (without any: as n); f: whole row; n: none */
    uint16_t columns_count;
    const BatchColumn *columns; /* in the order of the stream's tuples */
} BatchTable;

typedef enum BatchOp { BATCH_INSERT, BATCH_UPDATE, BATCH_DELETE } BatchOp;

typedef enum BatchUse { /* of a column in an update */
                        BATCH_LEAVE,
                        BATCH_SET,
                        BATCH_MATCH, /* in the WHERE beside the key: an ALWAYS-identity column outside the key */
} BatchUse;

typedef struct BatchRow {
    const PgoValue *key;    /* values of the key columns (identity FULL: all) as they are in the destination: update,
                               delete. NULL for insert */
    const PgoValue *values; /* all columns: insert; those that the group uses: update. NULL for a delete */
} BatchRow;

/* One statement's rows. */
typedef struct BatchGroup {
    BatchOp op;
    const uint8_t *uses; /* update: a BatchUse a column; at least one is SET. NULL for others */
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
    const BatchGroup *groups; /* deletes, then updates, then inserts; none when serial or when nothing remains */
    size_t groups_count;
    const BatchChange *changes; /* always there: the fall-back when a set-wise part fails on the destination */
    size_t changes_count;
} BatchPart;

typedef struct Batch Batch;

/* max_bytes: hard ceiling. A change that would go past it fails with INTERNAL, the caller cuts long before; only the
 * first change may be of any size, or a huge row could never be applied; its part is serial then. Sealing takes some
 * more. */
Batch *batch_new(size_t max_bytes);
void batch_freep(Batch **batch);
void batch_clear(Batch *batch); /* ready for the next filling */

/* One row message (PGO_INSERT, PGO_UPDATE, PGO_DELETE). BAD_DATA when it breaks a rule of identity. Refused = nothing
 * was added. */
NODISCARD bool batch_add(Batch *batch, const BatchTable *table, PgoType type, const PgoRow *row, Error *err);
size_t batch_bytes(const Batch *batch);
size_t batch_changes(const Batch *batch);
/* The parts; valid until batch_clear(). Once per filling. */
NODISCARD bool batch_seal(Batch *batch, const BatchPart **ret_parts, size_t *ret_count, Error *err);
