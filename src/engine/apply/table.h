/*
 * A table of the stream as it is in the destination, and the SQL that changes it. The SQL builders are pure.
 *
 * Contract
 * - apply_table_load() maps the stream's columns to the destination's by name; a column that is missing there, or a
 * table that is, is TABLE_CHANGED. What the destination has besides (a generated column, one with a default) is left
 * alone.
 * - Statements take one array parameter per used column, in text form, `unnest`ed in parallel: all arrays have the
 * length of the rows (unnest pads shorter ones with NULL silently: apply_rows.c checks). Columns of array types travel
 * as text[] and are cast, since unnest flattens arrays of arrays.
 * - Statements touch exactly this table (ONLY): partitions are streamed as leaves.
 * - A row is found by its key's very value, as the batch knows it, not by what a type takes for equal ('a' and 'A' of a
 * citext, 1.0 and 1.00): an identity's index may be of a finer equality than its column's type.
 */
#pragma once

#include "engine/apply/batch.h"
#include "pg/query.h"

typedef struct ApplyColumn {
    const char *quoted;
    const char *type;      /* of the destination, by format_type: "integer", "text[]", "shop.status" */
    const char *base_type; /* a domain's base: what the parameter array is made of */
    const char *equals;    /* of the base type's default operator class: "=", "OPERATOR(public.=)"; NULL: has none */
    bool is_array;         /* (the base type) */
    bool is_indexed;       /* an index begins with it */
    /* Two values that are not the same bytes may be equal by `equals`: a key is compared as text besides. */
    bool is_coarse;
    /* REPLICA IDENTITY USING INDEX: the equality of that index where it is another one; it is what the index helps
     * with. NULL = as `equals`. */
    const char *index_equals, *index_type, *index_collation;
} ApplyColumn;

enum { APPLY_REFUSED_MAX = 256 };

/* What the applier learnt of a table; belongs to its thread. */
typedef struct ApplyTrouble {
    unsigned failures; /* set-wise, one after the other */
    unsigned parts;    /* how many parts still go one by one at once */
    /* A change of it was refused, and the call failed with CONFLICT: what the server said alone. "" = none was. */
    char refused[APPLY_REFUSED_MAX];
} ApplyTrouble;

typedef struct ApplyTable {
    BatchTable batch; /* first: a BatchTable pointer of the batch is this table's */
    const char *quoted, *display;
    const ApplyColumn *columns; /* in stream order */
    uint16_t *keys;             /* indexes of key columns; identity FULL: of all */
    uint16_t keys_count;
    uint16_t sent_columns; /* those not generated */
    bool has_always_identity;
    ApplyTrouble *trouble;
    bool is_partitioned; /* it has no rows itself: in the stream only in a TRUNCATE */
    bool is_keyless;
    const char *immediate_sql; /* checks its deferrable unique and exclusion constraints at once; NULL = it has none */
} ApplyTable;

/* is_keyless: its updates and deletes are not in the stream, though it may have an identity that the stream tells of:
 * to us it has none. */
NODISCARD bool apply_table_load(DbConn *dest, Arena *arena, const PgoRelation *relation, bool is_keyless,
                                ApplyTable **ret_table, Error *err);

/* Is everything that was learnt of it the same? Whether it failed before does not count. */
bool apply_table_same(const ApplyTable *a, const ApplyTable *b);

/* DELETE ... USING (SELECT unnest($1::t[]) ...): parameters are the key columns in order. */
char *apply_delete_sql(Arena *arena, const ApplyTable *table);
/* Finds keys that the destination takes for one though the batch has several, so that none of two may be matched by the
 * same row: gives a row for each such key, parameters as for the delete. NULL: there can be none. */
char *apply_twice_sql(Arena *arena, const ApplyTable *table);
/* UPDATE ... FROM (SELECT unnest ...): parameters are the key columns, then the used columns in order. */
char *apply_update_sql(Arena *arena, const ApplyTable *table, const uint8_t *uses);
/* INSERT ... SELECT unnest ...: parameters are all columns that are not generated. Without such: the number of rows. */
char *apply_insert_sql(Arena *arena, const ApplyTable *table);
/* COPY ... FROM STDIN in text form, the same columns. */
char *apply_copy_sql(Arena *arena, const ApplyTable *table);

/* The same for identity FULL (DELETE when uses is NULL): rows are found by their image (`*=`, which tells -0 from
 * 0, 1.0 from 1.00, and takes NULL for NULL), one row of the table for each row of the group. Parameters: all columns
 * of the image, then two integer[], the number of the image and which of the rows with it this is, then the used
 * columns. `preselect`, one a column: it is NULL in no row of the group, so it may narrow the search. */
char *apply_full_sql(Arena *arena, const ApplyTable *table, const uint8_t *uses, const bool *preselect);

/* One change alone, in source order: parameters are text or NULL, in the arena. It must touch exactly one row. For
 * identity FULL the row is found by its image, and only one of equal ones is touched. */
/* An insert into a table without identity: its deletes and updates are not in the stream, so that a row that is gone on
 * the source may be in the way. Then nothing is inserted. Who follows compares such a table in the end. */
bool apply_is_loose(const ApplyTable *table, BatchOp op);
/* A loose one for which ON CONFLICT is no way, since a deferrable constraint forbids it: in a savepoint of its own, and
 * behind immediate_sql, so that it fails by itself and not at COMMIT. */
bool apply_needs_savepoint(const ApplyTable *table, BatchOp op);
typedef struct ApplySingle {
    const char *sql;
    const char *const *params;
    int params_count;
} ApplySingle;
NODISCARD bool apply_single(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single,
                            Error *err);
/* The update as DELETE and INSERT in one statement, values that are unchanged taken from the old row: when an ALWAYS
 * identity column has changed. */
NODISCARD bool apply_replace(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single,
                             Error *err);
/* The beginning of the destination's row with the change's key, old or new, as text in the one column; one whose key is
 * only equal by its type will do. */
NODISCARD bool apply_find(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single,
                          Error *err);
