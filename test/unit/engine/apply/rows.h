/*
 * Rows and parts of the batch tests as text: a tuple is "1|abc|~|-", where ~ is NULL and - is unchanged; NULL is no
 * tuple. Sealed parts are printed in the same way, one statement after the other.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/apply/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Fixture {
    Arena *arena; /* of the stream: poisoned by each add(), the batch must have its own copy */
    Arena *text;
    Batch *batch;
    Error err;
} Fixture;

static UNUSED Fixture fixture_new(size_t max_bytes) {
    return (Fixture){.arena = arena_new(), .text = arena_new(), .batch = batch_new(max_bytes)};
}

static UNUSED void fixture_end(Fixture *f) {
    arena_free(f->arena);
    arena_free(f->text);
    batch_freep(&f->batch);
}

static UNUSED PgoTuple tuple_of(Arena *arena, const char *text) {
    if (text == NULL)
        return (PgoTuple){0};
    uint16_t count = 1;
    for (const char *c = text; *c != '\0'; c++)
        count = (uint16_t)(count + (*c == '|'));
    PgoValue *values = arena_array(arena, PgoValue, count);
    for (uint16_t i = 0; i < count; i++) {
        uint32_t len = (uint32_t)strcspn(text, "|");
        if (len == 1 && (*text == '~' || *text == '-')) {
            values[i].kind = *text == '~' ? PGO_NULL : PGO_UNCHANGED;
        } else { /* its own bytes without a NUL, so that a reader past the end is caught */
            char *bytes = arena_alloc(arena, len);
            memcpy(bytes, text, len);
            values[i] = (PgoValue){.kind = PGO_TEXT, .len = len, .bytes = bytes};
        }
        text += len + 1;
    }
    return (PgoTuple){.count = count, .values = values};
}

/* old_kind: 0, 'K' or 'O'. */
static UNUSED bool try_add(Fixture *f, const BatchTable *table, char type, char old_kind, const char *old,
                           const char *new) {
    PgoRow row = {.relation = table->relation,
                  .old_kind = old_kind,
                  .old_tuple = tuple_of(f->arena, old),
                  .new_tuple = tuple_of(f->arena, new)};
    bool done = batch_add(f->batch, table, (PgoType)type, &row, &f->err);
    arena_reset(f->arena);
    return done;
}

static UNUSED void insert(Fixture *f, const BatchTable *table, const char *new) {
    assert_true(try_add(f, table, 'I', 0, NULL, new));
}

static UNUSED void update(Fixture *f, const BatchTable *table, const char *new) {
    assert_true(try_add(f, table, 'U', 0, NULL, new));
}

static UNUSED void update_key(Fixture *f, const BatchTable *table, const char *old, const char *new) {
    assert_true(try_add(f, table, 'U', 'K', old, new));
}

static UNUSED void drop(Fixture *f, const BatchTable *table, const char *old) {
    assert_true(try_add(f, table, 'D', table->identity == 'f' ? 'O' : 'K', old, NULL));
}

static UNUSED const char *print_values(Arena *arena, const PgoValue *values, size_t count, const uint8_t *uses) {
    const char *text = "";
    for (size_t i = 0; i < count; i++) {
        const char *mark = uses != NULL && uses[i] == BATCH_MATCH ? "=" : "";
        const char *value = values[i].bytes;
        if (uses != NULL && uses[i] == BATCH_LEAVE)
            value = "";
        else if (values[i].kind == PGO_NULL)
            value = "~";
        else if (values[i].kind == PGO_UNCHANGED)
            value = "-";
        text = arena_printf(arena, "%s%s%s%s", text, i == 0 ? "" : "|", mark, value);
    }
    return text;
}

static UNUSED size_t keys_of(const BatchTable *table) {
    size_t keys = 0;
    for (uint16_t i = 0; i < table->columns_count; i++)
        keys += table->columns[i].is_key;
    return keys;
}

/* "D 1; D 2. U 3: |x. I 4|y|z." A serial part: "serial." */
static UNUSED const char *print_part(Arena *arena, const BatchPart *part) {
    static const char letters[] = {[BATCH_INSERT] = 'I', [BATCH_UPDATE] = 'U', [BATCH_DELETE] = 'D'};
    if (part->is_serial) {
        assert_int_equal(part->groups_count, 0);
        return "serial.";
    }
    const BatchTable *table = part->table;
    const char *text = "";
    for (size_t g = 0; g < part->groups_count; g++) {
        const BatchGroup *group = &part->groups[g];
        assert_true(group->rows_count > 0);
        assert_int_equal(group->op == BATCH_UPDATE, group->uses != NULL);
        for (size_t r = 0; r < group->rows_count; r++) {
            const BatchRow *row = &group->rows[r];
            const char *key = row->key == NULL ? "" : print_values(arena, row->key, keys_of(table), NULL);
            const char *values =
                row->values == NULL ? "" : print_values(arena, row->values, table->columns_count, group->uses);
            text = arena_printf(arena, "%s%s%c %s%s%s", text, r > 0 ? "; " : (g > 0 ? " " : ""), letters[group->op],
                                key, group->op == BATCH_UPDATE ? ": " : "", values);
        }
        text = arena_printf(arena, "%s.", text);
    }
    return text;
}

static UNUSED const BatchPart *seal_parts(Fixture *f, size_t count) {
    const BatchPart *parts = NULL;
    size_t got = 0;
    assert_true(batch_seal(f->batch, &parts, &got, &f->err));
    assert_int_equal(got, count);
    return parts;
}

/* The one part of the batch, sealed and printed; the batch is empty afterwards. */
static UNUSED void expect_sealed(Fixture *f, const char *expected, const char *file, int line) {
    const char *text = print_part(f->text, &seal_parts(f, 1)[0]);
    if (strcmp(text, expected) != 0) {
        print_error("sealed:   %s\nexpected: %s\n", text, expected);
        _fail(file, line);
    }
    batch_clear(f->batch);
}

#define EXPECT(f, expected) expect_sealed((f), (expected), __FILE__, __LINE__)
