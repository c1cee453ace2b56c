/*
 * From entries to statements.
 *
 * 1. settle: each entry gets its last state. An update that can't be an UPDATE (a changed ALWAYS-identity column)
 *    becomes a replace; every other gets the group of the columns it uses. Here a part may still become serial.
 * 2. hand-over: an UPDATE that takes a key from another UPDATE makes the part serial. After 1, because a replace frees
 *    its key by its DELETE.
 * 3. build: deletes, updates by group, inserts; rows sorted.
 */
#include "engine/apply/batch_internal.h"

#include <stdlib.h>

/* --- 1: settle --- */

static bool is_complete(const BatchTable *table, const PgoValue *values) {
    for (uint16_t i = 0; i < table->columns_count; i++) {
        if (values[i].kind == PGO_UNCHANGED && !table->columns[i].is_generated)
            return false;
    }
    return true;
}

/* Did a column that can't be SET change, as far as the batch can know? */
static bool always_changed(const Part *part, const Entry *entry) {
    const BatchColumn *columns = part->table->columns;
    for (uint16_t k = 0; k < part->keys_count; k++) {
        uint16_t i = part->key_columns[k];
        if (columns[i].is_always_identity && !values_equal(&entry->origin->key[k], &entry->values[i], 1))
            return true;
    }
    for (uint16_t i = 0; i < part->table->columns_count; i++) {
        if (columns[i].is_always_identity && !columns[i].is_key && entry->first[i].kind != PGO_UNCHANGED &&
            !values_equal(&entry->first[i], &entry->values[i], 1))
            return true;
    }
    return false;
}

static BatchUse use_of(const BatchColumn *column, const PgoValue *value) {
    if (column->is_generated || value->kind == PGO_UNCHANGED)
        return BATCH_LEAVE;
    if (column->is_always_identity)
        return column->is_key ? BATCH_LEAVE : BATCH_MATCH;
    return BATCH_SET;
}

/* Key columns that keep their bytes are set only if nothing else is. Returns whether anything is set. With identity
 * FULL all columns are set: a statement for each mix would look for its rows in the whole table each time. */
static bool find_uses(const Part *part, const Entry *entry, uint8_t *uses) {
    const BatchColumn *columns = part->table->columns;
    size_t set = 0;
    for (uint16_t i = 0; i < part->table->columns_count; i++) {
        uses[i] = (uint8_t)use_of(&columns[i], &entry->values[i]);
        set += uses[i] == BATCH_SET;
    }
    for (uint16_t k = 0; k < part->keys_count && !part->is_image; k++) {
        uint16_t i = part->key_columns[k];
        if (set > 1 && uses[i] == BATCH_SET && values_equal(&entry->origin->key[k], &entry->values[i], 1)) {
            uses[i] = BATCH_LEAVE;
            set--;
        }
    }
    return set > 0;
}

/* The list is short: as many as there are combinations of unchanged TOAST columns. The one hit goes to the front, since
 * most updates of a table look alike. */
static UpdateGroup *group_of(Batch *batch, Part *part, const uint8_t *uses) {
    size_t count = part->table->columns_count;
    UpdateGroup **at = &part->groups;
    while (*at != NULL && memcmp((*at)->uses, uses, count) != 0)
        at = &(*at)->next;
    UpdateGroup *group = *at;
    if (group != NULL) {
        *at = group->next;
    } else {
        group = arena_new_of(batch->arena, UpdateGroup);
        group->uses = arena_array(batch->arena, uint8_t, count);
        memcpy(group->uses, uses, count);
        part->groups_count++;
    }
    group->next = part->groups;
    part->groups = group;
    return group;
}

/* false: the part has to be serial. */
static bool settle_update(Batch *batch, Part *part, Entry *entry, uint8_t *scratch) {
    if (part->has_always && always_changed(part, entry)) {
        entry->state = ENTRY_REPLACE;
        return is_complete(part->table, entry->values);
    }
    if (find_uses(part, entry, scratch)) {
        entry->group = group_of(batch, part, scratch);
        return true;
    }
    /* Nothing can be set: there is nothing to do, unless a column had to be compared. */
    entry->state = ENTRY_NOTHING;
    return memchr(scratch, BATCH_MATCH, part->table->columns_count) == NULL;
}

static bool settle(Batch *batch, Part *part) {
    uint8_t *scratch = arena_array(batch->arena, uint8_t, part->table->columns_count);
    for (Entry *entry = part->entries; entry != NULL; entry = entry->next) {
        if (entry->state == ENTRY_UPDATE && !settle_update(batch, part, entry, scratch))
            return false;
    }
    return true;
}

/* --- 2: hand-over --- */

/* Images are not unique: nothing is handed over. */
static bool has_hand_over(const Part *part) {
    if (part->is_image)
        return false;
    for (const Entry *entry = part->entries; entry != NULL; entry = entry->next) {
        if (entry->state != ENTRY_UPDATE || entry->current == entry->origin)
            continue;
        const Entry *giver = entry->current->origin;
        if (giver != NULL && giver->state == ENTRY_UPDATE)
            return true;
    }
    return false;
}

/* --- 3: build --- */

static uint64_t key_prefix(const PgoValue *key) {
    unsigned char first[8] = {0};
    if (key->len > 0)
        memcpy(first, key->bytes, MIN(key->len, sizeof(first)));
    uint64_t prefix = 0;
    for (size_t i = 0; i < sizeof(first); i++)
        prefix = prefix << 8 | first[i];
    return prefix;
}

static int compare_items(const void *left, const void *right) {
    const SortItem *a = left, *b = right;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    const KeySlot *slot = a->entry->origin;
    return key_compare(slot->key, b->entry->origin->key, slot->part->keys_count);
}

static void deal_entry(Arena *arena, Part *part, const Entry *entry) {
    EntryState state = entry->state;
    if (state == ENTRY_INSERT || state == ENTRY_REPLACE)
        vec_push(arena, &part->inserts, ((BatchRow){.values = entry->values}));
    if (state == ENTRY_NOTHING || state == ENTRY_INSERT)
        return;
    SortItem item = {.prefix = key_prefix(entry->origin->key), .entry = entry};
    if (state == ENTRY_UPDATE)
        vec_push(arena, &entry->group->items, item);
    else
        vec_push(arena, &part->deletes, item);
}

static const BatchRow *sorted_rows(Arena *arena, const SortVec *from, bool with_values) {
    qsort(from->items, from->len, sizeof(*from->items), compare_items);
    BatchRow *rows = arena_array(arena, BatchRow, from->len);
    for (size_t i = 0; i < from->len; i++) {
        rows[i].key = from->items[i].entry->origin->key;
        rows[i].values = with_values ? from->items[i].entry->values : NULL;
    }
    return rows;
}

static void build(Arena *arena, Part *part, BatchPart *made) {
    for (const Entry *entry = part->entries; entry != NULL; entry = entry->next)
        deal_entry(arena, part, entry);

    BatchGroup *groups = arena_array(arena, BatchGroup, part->groups_count + 2);
    size_t count = 0;
    if (part->deletes.len > 0)
        groups[count++] = (BatchGroup){
            .op = BATCH_DELETE, .rows = sorted_rows(arena, &part->deletes, false), .rows_count = part->deletes.len};
    for (const UpdateGroup *group = part->groups; group != NULL; group = group->next)
        groups[count++] = (BatchGroup){.op = BATCH_UPDATE,
                                       .uses = group->uses,
                                       .rows = sorted_rows(arena, &group->items, true),
                                       .rows_count = group->items.len};
    if (part->inserts.len > 0)
        groups[count++] =
            (BatchGroup){.op = BATCH_INSERT, .rows = part->inserts.items, .rows_count = part->inserts.len};
    made->groups = groups;
    made->groups_count = count;
}

/* Its first change went past the ceiling, and so is the only one. Escaped, as a line of COPY or in an array, it may
 * come to twice its size, and neither may pass 1 GB; a statement's parameters are not escaped. */
static bool is_huge(const Batch *batch, const Part *part) {
    return part->changes.len == 1 && batch->changes_count == 1 && arena_used(batch->arena) > batch->max_bytes;
}

bool batch_seal(Batch *batch, const BatchPart **ret_parts, size_t *ret_count, Error *err) {
    if (batch->is_sealed)
        return error_set(err, REASON_INTERNAL, "a batch was sealed twice");
    batch->is_sealed = true;
    BatchPart *parts = arena_array(batch->arena, BatchPart, batch->parts.len);
    for (size_t i = 0; i < batch->parts.len; i++) {
        Part *part = batch->parts.items[i];
        parts[i] =
            (BatchPart){.table = part->table, .changes = part->changes.items, .changes_count = part->changes.len};
        parts[i].is_serial = part->is_serial || is_huge(batch, part) || !settle(batch, part) || has_hand_over(part);
        if (!parts[i].is_serial)
            build(batch->arena, part, &parts[i]);
    }
    *ret_parts = parts;
    *ret_count = batch->parts.len;
    return true;
}
