/*
 * A typed, growing vector in an arena.
 *
 *     typedef VEC(int) IntVec;
 *     IntVec v = {0};
 *     vec_push(arena, &v, 42);
 *
 * Growing copies into new arena memory: pointers to items are invalid after a push. Needs no release.
 */
#pragma once

#include "common/arena.h"

#include <string.h>

#define VEC(type)                                                                                                      \
    struct {                                                                                                           \
        type *items;                                                                                                   \
        size_t len;                                                                                                    \
        size_t cap;                                                                                                    \
    }

#define vec_push(arena, vec, item)                                                                                     \
    do {                                                                                                               \
        if ((vec)->len == (vec)->cap) {                                                                                \
            size_t new_cap_ = (vec)->cap == 0 ? 8 : (vec)->cap * 2;                                                    \
            void *new_items_ = arena_alloc_array((arena), sizeof(*(vec)->items), new_cap_);                            \
            if ((vec)->len > 0)                                                                                        \
                memcpy(new_items_, (vec)->items, (vec)->len * sizeof(*(vec)->items));                                  \
            (vec)->items = new_items_;                                                                                 \
            (vec)->cap = new_cap_;                                                                                     \
        }                                                                                                              \
        (vec)->items[(vec)->len++] = (item);                                                                           \
    } while (0)

typedef VEC(const char *) StringVec;

static inline bool string_vec_has(const StringVec *vec, const char *text) {
    for (size_t i = 0; i < vec->len; i++)
        if (strcmp(vec->items[i], text) == 0)
            return true;
    return false;
}
