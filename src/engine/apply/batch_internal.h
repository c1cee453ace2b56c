/*
 * What the files of the batch share: entries (rows), key slots and parts (tables).
 *
 * A slot stands for one key of one table. It knows two rows: the one that has this key in the destination before the
 * batch (origin), and the one that has it now, after the changes added so far (current). With both in one slot a change
 * costs one look-up, a key change two.
 *
 * Values are never written after they were copied in: entries point to the tuples of the changes, and a merged tuple is
 * a new array. So a part's changes stay as they came (rule 5) at no cost.
 */
#pragma once

#include "engine/apply/batch.h"

typedef struct Entry Entry;
typedef struct KeySlot KeySlot;
typedef struct Part Part;
typedef struct UpdateGroup UpdateGroup;

typedef enum EntryState {
    ENTRY_NOTHING, /* not in the destination, and not to be: inserted and deleted */
    ENTRY_INSERT,
    ENTRY_UPDATE,
    ENTRY_DELETE,
    ENTRY_REPLACE, /* only while sealing: an update that has to be DELETE + INSERT */
} EntryState;

struct Entry { /* one row that the batch touches */
    Entry *next;
    EntryState state;
    KeySlot *origin;        /* its key in the destination; NULL: not there, or a table without key */
    KeySlot *current;       /* its key now; NULL: deleted, or a table without key */
    Entry *below;           /* identity FULL: the next row with the same image */
    const PgoValue *values; /* all columns; unchanged = as it is in the destination. NULL: deleted untouched */
    const PgoValue *first;  /* the values of its first update, before any later one */
    UpdateGroup *group;     /* only while sealing */
};

struct KeySlot {
    const Part *part;
    const PgoValue *key; /* keys_count values */
    Entry *origin;
    Entry *current; /* identity FULL: the first of those that the batch knows to have this image */
    bool is_known;  /* origin and current say how it is, NULL included; else the batch has not met this key yet */
};

typedef struct IndexCell {
    uint64_t hash;
    KeySlot *slot; /* NULL = free */
} IndexCell;

typedef struct KeyIndex { /* open addressing, linear; at most half full */
    IndexCell *cells;
    size_t cells_count; /* a power of two */
    size_t filled;
} KeyIndex;

typedef struct SortItem {
    uint64_t prefix; /* of the key, as a number of the same order: decides nearly all comparisons without a look away */
    const Entry *entry;
} SortItem;

typedef VEC(SortItem) SortVec;

struct UpdateGroup { /* updates that use the same columns */
    UpdateGroup *next;
    uint8_t *uses;
    SortVec items;
};

struct Part {
    const BatchTable *table;
    uint32_t number;
    bool has_key;
    bool is_image;      /* identity FULL: the whole row is the key, and several rows may have it */
    bool keys_adjacent; /* the key columns stand side by side: a key is a piece of its tuple */
    bool has_always;    /* an ALWAYS-identity column */
    bool is_serial;
    uint16_t keys_count;
    uint16_t *key_columns;
    PgoValue *scratch[2]; /* keys that are only looked up: old, new */
    Entry *entries;       /* in the order of their first change */
    Entry **entries_end;
    VEC(BatchChange) changes;
    UpdateGroup *groups; /* this and the rest only while sealing */
    size_t groups_count;
    SortVec deletes;
    VEC(BatchRow) inserts;
};

struct Batch {
    Arena *own;   /* the batch itself */
    Arena *arena; /* one filling */
    size_t max_bytes;
    size_t changes_count;
    bool is_sealed;
    KeyIndex index;
    VEC(Part *) parts;
    Part **part_cells; /* parts by relation, open addressing */
    size_t part_cells_count;
};

/* --- batch_key.c --- */

/* The key of a tuple, in the tuple or in the part's scratch [which]. */
const PgoValue *key_of(const Part *part, const PgoValue *values, int which);
bool values_equal(const PgoValue *a, const PgoValue *b, size_t count);
/* Order by the bytes of the first column, then the next. */
int key_compare(const PgoValue *a, const PgoValue *b, size_t count);
/* The slot of a key, made if it is not there. */
KeySlot *key_slot(Batch *batch, const Part *part, const PgoValue *key);

/* --- batch_check.c --- */

/* Does the change keep the rules of identity? Looks at nothing but the table and the change. */
NODISCARD bool change_check(const BatchTable *table, BatchOp op, const PgoRow *row, Error *err);
bool table_has_key(const BatchTable *table);
