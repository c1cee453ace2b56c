/*
 * Net effect per row: how each change moves the entry of its row.
 *
 *     state of the row     insert           update                      delete
 *     not touched yet      INSERT           UPDATE (origin = old key)   DELETE (origin = old key)
 *     INSERT               contradiction    INSERT, values merged       NOTHING
 *     UPDATE               contradiction    UPDATE, values merged       DELETE of the origin
 *     DELETE, NOTHING      a new entry      contradiction               contradiction
 *
 * Delete and insert of one key are two entries with one slot: the old row, deleted, is its origin, the new row has it
 * now. A further delete makes NOTHING of the second and leaves the first. A contradiction makes the part serial (rule
 * 7). A part that is serial keeps no entries any more, only its changes.
 *
 * With identity FULL the key is the whole row, and any number of rows may have it, which nothing tells apart. So a slot
 * has a stack: rows that the batch gave this image lie on it and are taken first, then one of the destination's is.
 * There is no contradiction then, the destination's row count tells.
 */
#include "engine/apply/batch_internal.h"

#include <assert.h>

enum { FIRST_PART_CELLS = 16 };

/* --- life --- */

Batch *batch_new(size_t max_bytes) {
    Arena *own = arena_new();
    Batch *batch = arena_new_of(own, Batch);
    *batch = (Batch){.own = own, .arena = arena_new(), .max_bytes = max_bytes};
    return batch;
}

void batch_freep(Batch **batch) {
    if (*batch == NULL)
        return;
    arena_free((*batch)->arena);
    arena_free((*batch)->own);
    *batch = NULL;
}

void batch_clear(Batch *batch) {
    arena_reset(batch->arena);
    *batch = (Batch){.own = batch->own, .arena = batch->arena, .max_bytes = batch->max_bytes};
}

size_t batch_bytes(const Batch *batch) {
    return arena_used(batch->arena);
}

size_t batch_changes(const Batch *batch) {
    return batch->changes_count;
}

/* --- parts --- */

static void note_columns(Arena *arena, Part *part) {
    const BatchTable *table = part->table;
    part->key_columns = arena_array(arena, uint16_t, table->columns_count);
    for (uint16_t i = 0; i < table->columns_count; i++) {
        if (table->columns[i].is_key || part->is_image)
            part->key_columns[part->keys_count++] = i;
        if (table->columns[i].is_always_identity)
            part->has_always = true;
    }
    part->keys_adjacent = part->has_key && part->keys_count > 0 &&
                          part->key_columns[part->keys_count - 1] - part->key_columns[0] == part->keys_count - 1;
    for (size_t i = 0; i < COUNT_OF(part->scratch); i++)
        part->scratch[i] = arena_array(arena, PgoValue, part->keys_count);
}

static Part *part_new(Batch *batch, const BatchTable *table) {
    Part *part = arena_new_of(batch->arena, Part);
    part->table = table;
    part->number = (uint32_t)batch->parts.len;
    part->is_image = table->identity == 'f' && table->columns_count > 0;
    part->has_key = table_has_key(table) || part->is_image;
    part->entries_end = &part->entries;
    note_columns(batch->arena, part);
    vec_push(batch->arena, &batch->parts, part);
    return part;
}

/* The cell of a relation's part, or the free one where it belongs. */
static Part **part_cell(Part **cells, size_t count, uint32_t relation) {
    size_t at = relation * (size_t)0x9e3779b1 & (count - 1);
    while (cells[at] != NULL && cells[at]->table->relation != relation)
        at = (at + 1) & (count - 1);
    return &cells[at];
}

static void part_cells_grow(Batch *batch) {
    size_t count = batch->part_cells_count == 0 ? FIRST_PART_CELLS : batch->part_cells_count * 2;
    Part **cells = arena_array(batch->arena, Part *, count);
    for (size_t i = 0; i < batch->parts.len; i++)
        *part_cell(cells, count, batch->parts.items[i]->table->relation) = batch->parts.items[i];
    batch->part_cells = cells;
    batch->part_cells_count = count;
}

/* NULL: failed. */
static Part *part_of(Batch *batch, const BatchTable *table, Error *err) {
    if (batch->parts.len * 2 >= batch->part_cells_count)
        part_cells_grow(batch);
    Part **cell = part_cell(batch->part_cells, batch->part_cells_count, table->relation);
    if (*cell == NULL)
        *cell = part_new(batch, table);
    if ((*cell)->table == table)
        return *cell;
    error_set(err, REASON_INTERNAL, "relation %u changed in the middle of a batch", table->relation);
    return NULL;
}

/* --- copies --- */

static size_t tuple_bytes(const PgoTuple *tuple) {
    size_t bytes = tuple->count * (sizeof(PgoValue) + 1); /* + 1: the NUL behind each */
    for (uint16_t i = 0; i < tuple->count; i++)
        bytes += tuple->values[i].len;
    return bytes;
}

/* One piece of memory: the values, then their bytes. */
static PgoTuple copy_tuple(Arena *arena, const PgoTuple *from) {
    if (from->count == 0)
        return (PgoTuple){0};
    PgoValue *values = arena_alloc(arena, tuple_bytes(from));
    char *bytes = (char *)(values + from->count);
    for (uint16_t i = 0; i < from->count; i++) {
        const PgoValue *value = &from->values[i];
        values[i] = (PgoValue){.kind = value->kind};
        if (value->kind == PGO_NULL || value->kind == PGO_UNCHANGED)
            continue;
        values[i].len = value->len;
        values[i].bytes = bytes;
        if (value->len > 0)
            memcpy(bytes, value->bytes, value->len);
        bytes += value->len + 1; /* the arena gave zeros */
    }
    return (PgoTuple){.count = from->count, .values = values};
}

static bool check_room(const Batch *batch, const PgoRow *row, Error *err) {
    size_t more = tuple_bytes(&row->old_tuple) + tuple_bytes(&row->new_tuple) + sizeof(BatchChange) + sizeof(Entry) +
                  sizeof(KeySlot);
    if (batch->changes_count == 0 || arena_used(batch->arena) + more <= batch->max_bytes)
        return true;
    return error_set(err, REASON_INTERNAL, "a batch of %zu bytes is full and was not cut", batch->max_bytes);
}

/* --- entries --- */

static Entry *entry_new(Batch *batch, Part *part, EntryState state) {
    Entry *entry = arena_new_of(batch->arena, Entry);
    entry->state = state;
    *part->entries_end = entry;
    part->entries_end = &entry->next;
    return entry;
}

/* The row that has this key now: known from before, or one that the batch meets for the first time. NULL: the batch
 * knows that there is none. */
static Entry *row_of(Batch *batch, Part *part, KeySlot *slot) {
    if (slot->is_known)
        return slot->current;
    Entry *entry = entry_new(batch, part, ENTRY_UPDATE);
    entry->origin = slot;
    entry->current = slot;
    slot->origin = entry;
    slot->current = entry;
    slot->is_known = true;
    return entry;
}

static void settle_on(KeySlot *slot, Entry *entry) {
    slot->current = entry;
    slot->is_known = true;
    entry->current = slot;
}

static bool has_unchanged(const PgoValue *values, uint16_t count) {
    for (uint16_t i = 0; i < count; i++) {
        if (values[i].kind == PGO_UNCHANGED)
            return true;
    }
    return false;
}

/* Unchanged values come from `older`; from its key columns only, when it is the old tuple of a key (all else is NULL
 * there). The array is new: changes stay as they came. */
static const PgoValue *fill(Batch *batch, const Part *part, const PgoValue *newer, const PgoValue *older,
                            bool only_keys) {
    const BatchTable *table = part->table;
    if (older == NULL || !has_unchanged(newer, table->columns_count))
        return newer;
    PgoValue *filled = arena_array(batch->arena, PgoValue, table->columns_count);
    for (uint16_t i = 0; i < table->columns_count; i++) {
        bool wanted = newer[i].kind == PGO_UNCHANGED && (!only_keys || part->is_image || table->columns[i].is_key);
        filled[i] = wanted ? older[i] : newer[i];
    }
    return filled;
}

/* One row of this image, which has it no longer: one that the batch made so, else one of the destination's. */
static Entry *image_take(Batch *batch, Part *part, const PgoValue *image) {
    KeySlot *slot = key_slot(batch, part, image);
    Entry *entry = slot->current;
    if (entry != NULL) {
        slot->current = entry->below;
        return entry;
    }
    entry = entry_new(batch, part, ENTRY_UPDATE);
    entry->origin = slot;
    return entry;
}

static void image_put(Batch *batch, Part *part, Entry *entry, const PgoValue *image) {
    KeySlot *slot = key_slot(batch, part, image);
    entry->values = image;
    entry->current = slot;
    entry->below = slot->current;
    slot->current = entry;
}

static void apply_image(Batch *batch, Part *part, const BatchChange *change) {
    const PgoValue *old = change->old_tuple.values;
    Entry *entry = change->op == BATCH_INSERT ? entry_new(batch, part, ENTRY_INSERT) : image_take(batch, part, old);
    if (change->op == BATCH_DELETE) {
        entry->state = entry->origin == NULL ? ENTRY_NOTHING : ENTRY_DELETE;
        entry->current = NULL;
        return;
    }
    const PgoValue *values = fill(batch, part, change->new_tuple.values, old, true);
    if (entry->first == NULL)
        entry->first = values;
    image_put(batch, part, entry, values);
}

static bool apply_insert(Batch *batch, Part *part, const BatchChange *change) {
    Entry *entry = NULL;
    if (part->has_key) {
        KeySlot *slot = key_slot(batch, part, key_of(part, change->new_tuple.values, 1));
        if (slot->current != NULL)
            return false;
        entry = entry_new(batch, part, ENTRY_INSERT);
        settle_on(slot, entry);
    } else {
        entry = entry_new(batch, part, ENTRY_INSERT);
    }
    entry->values = change->new_tuple.values;
    return true;
}

static bool apply_update(Batch *batch, Part *part, const BatchChange *change) {
    const PgoValue *old = change->old_tuple.values;
    const PgoValue *values = fill(batch, part, change->new_tuple.values, old, true);
    const PgoValue *new_key = key_of(part, values, 1);
    const PgoValue *old_key = old == NULL ? new_key : key_of(part, old, 0);
    KeySlot *slot = key_slot(batch, part, old_key);
    Entry *entry = row_of(batch, part, slot);
    if (entry == NULL)
        return false;
    if (old != NULL && !values_equal(old_key, new_key, part->keys_count)) {
        KeySlot *target = key_slot(batch, part, new_key);
        if (target->current != NULL)
            return false;
        slot->current = NULL;
        settle_on(target, entry);
    }
    if (entry->first == NULL)
        entry->first = values;
    entry->values = fill(batch, part, values, entry->values, false);
    return true;
}

static bool apply_delete(Batch *batch, Part *part, const BatchChange *change) {
    KeySlot *slot = key_slot(batch, part, key_of(part, change->old_tuple.values, 0));
    Entry *entry = row_of(batch, part, slot);
    if (entry == NULL)
        return false;
    entry->state = entry->origin == NULL ? ENTRY_NOTHING : ENTRY_DELETE;
    entry->current = NULL;
    slot->current = NULL;
    return true;
}

/* false: the part can only be applied in the changes' own order. */
static bool apply_change(Batch *batch, Part *part, const BatchChange *change) {
    if (part->is_image) {
        apply_image(batch, part, change);
        return true;
    }
    if (!part->has_key && change->op != BATCH_INSERT)
        return false;
    switch (change->op) {
    case BATCH_INSERT:
        return apply_insert(batch, part, change);
    case BATCH_UPDATE:
        return apply_update(batch, part, change);
    case BATCH_DELETE:
        return apply_delete(batch, part, change);
    }
    UNREACHABLE();
}

static bool op_of(PgoType type, BatchOp *ret_op) {
    static const struct {
        PgoType type;
        BatchOp op;
    } ops[] = {{PGO_INSERT, BATCH_INSERT}, {PGO_UPDATE, BATCH_UPDATE}, {PGO_DELETE, BATCH_DELETE}};
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        if (ops[i].type == type) {
            *ret_op = ops[i].op;
            return true;
        }
    }
    return false;
}

bool batch_add(Batch *batch, const BatchTable *table, PgoType type, const PgoRow *row, Error *err) {
    assert(row->relation == table->relation);
    BatchOp op = BATCH_INSERT;
    if (batch->is_sealed || !op_of(type, &op))
        return error_set(err, REASON_INTERNAL, "message %c can't be added to the batch", (char)type);
    if (!change_check(table, op, row, err) || !check_room(batch, row, err))
        return false;
    Part *part = part_of(batch, table, err);
    if (part == NULL)
        return false;

    BatchChange change = {.op = op,
                          .old_kind = row->old_kind,
                          .old_tuple = copy_tuple(batch->arena, &row->old_tuple),
                          .new_tuple = copy_tuple(batch->arena, &row->new_tuple)};
    vec_push(batch->arena, &part->changes, change);
    batch->changes_count++;
    if (!part->is_serial && !apply_change(batch, part, &change))
        part->is_serial = true;
    return true;
}
