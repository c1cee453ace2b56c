/*
 * Keys of a batch: how they are cut out of tuples, compared and looked up.
 *
 * A key is known by its bytes as they are in the stream (rule 1). What is equal for the destination's operator but not
 * in its bytes (1.0 and 1.00) gets two slots; that is safe, since the source sends the old key whenever its bytes
 * change, and an order of statements that is wrong for the destination ends in a violation or a wrong count there.
 */
#include "engine/apply/batch_internal.h"

enum { FIRST_CELLS = 64 };

const PgoValue *key_of(const Part *part, const PgoValue *values, int which) {
    if (part->keys_adjacent)
        return values + part->key_columns[0];
    PgoValue *key = part->scratch[which];
    for (uint16_t i = 0; i < part->keys_count; i++)
        key[i] = values[part->key_columns[i]];
    return key;
}

static bool value_equal(const PgoValue *a, const PgoValue *b) {
    return a->kind == b->kind && a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

bool values_equal(const PgoValue *a, const PgoValue *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!value_equal(&a[i], &b[i]))
            return false;
    }
    return true;
}

int key_compare(const PgoValue *a, const PgoValue *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t shorter = MIN(a[i].len, b[i].len);
        int order = shorter == 0 ? 0 : memcmp(a[i].bytes, b[i].bytes, shorter);
        if (order != 0)
            return order;
        if (a[i].len != b[i].len)
            return a[i].len < b[i].len ? -1 : 1;
        if (a[i].kind != b[i].kind) /* NULL and '', in an image */
            return a[i].kind == PGO_NULL ? -1 : 1;
    }
    return 0;
}

/* Both halves of the product folded: every input bit reaches every output bit. */
static uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The length goes in as well: ("a", "bc") and ("ab", "c") are two keys. */
static uint64_t hash_value(uint64_t hash, const PgoValue *value) {
    hash = fold(hash ^ value->len, 0x9e3779b97f4a7c15);
    uint32_t at = 0;
    for (; value->len - at >= sizeof(uint64_t); at += (uint32_t)sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, value->bytes + at, sizeof(word));
        hash = fold(hash ^ word, 0xd6e8feb86659fd93);
    }
    uint64_t rest = 0;
    if (value->len > at)
        memcpy(&rest, value->bytes + at, value->len - at);
    return fold(hash ^ rest, 0xd6e8feb86659fd93);
}

/* Begins with the batch's address: whoever chooses keys in the source can't choose collisions. No output depends on the
 * order of the cells. */
static uint64_t hash_key(const Batch *batch, const Part *part, const PgoValue *key) {
    uint64_t hash = fold((uint64_t)(uintptr_t)batch ^ part->number, 0xa0761d6478bd642f);
    for (uint16_t i = 0; i < part->keys_count; i++)
        hash = hash_value(hash, &key[i]);
    return hash;
}

static IndexCell *free_cell(const KeyIndex *index, uint64_t hash) {
    size_t mask = index->cells_count - 1;
    size_t at = hash & mask;
    while (index->cells[at].slot != NULL)
        at = (at + 1) & mask;
    return &index->cells[at];
}

static void index_grow(Arena *arena, KeyIndex *index) {
    KeyIndex grown = {.cells_count = index->cells_count == 0 ? FIRST_CELLS : index->cells_count * 2,
                      .filled = index->filled};
    grown.cells = arena_array(arena, IndexCell, grown.cells_count);
    for (size_t i = 0; i < index->cells_count; i++) {
        if (index->cells[i].slot != NULL)
            *free_cell(&grown, index->cells[i].hash) = index->cells[i];
    }
    *index = grown;
}

static KeySlot *slot_new(Arena *arena, const Part *part, const PgoValue *key) {
    KeySlot *slot = arena_new_of(arena, KeySlot);
    slot->part = part;
    if (!part->keys_adjacent) { /* else it is in a tuple of the batch, which stays */
        PgoValue *kept = arena_array(arena, PgoValue, part->keys_count);
        memcpy(kept, key, part->keys_count * sizeof(*kept));
        key = kept;
    }
    slot->key = key;
    return slot;
}

KeySlot *key_slot(Batch *batch, const Part *part, const PgoValue *key) {
    KeyIndex *index = &batch->index;
    if (index->filled * 2 >= index->cells_count)
        index_grow(batch->arena, index);
    uint64_t hash = hash_key(batch, part, key);
    size_t mask = index->cells_count - 1;
    size_t at = hash & mask;
    for (; index->cells[at].slot != NULL; at = (at + 1) & mask) {
        KeySlot *slot = index->cells[at].slot;
        if (index->cells[at].hash == hash && slot->part == part && values_equal(slot->key, key, part->keys_count))
            return slot;
    }
    index->cells[at] = (IndexCell){.hash = hash, .slot = slot_new(batch->arena, part, key)};
    index->filled++;
    return index->cells[at].slot;
}
