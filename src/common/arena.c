/*
 * Bump allocation by scope.
 *
 * A chain of blocks, the newest first; only the newest is filled. Blocks double from 8 kB to 1 MB. An allocation of
 * more than half a block gets a block of its own behind the newest, so that the rest of the newest stays in use.
 */
#include "common/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISONS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISONS 1
#endif

#ifdef ARENA_POISONS
#include <sanitizer/asan_interface.h>
#define POISON(address, size) ASAN_POISON_MEMORY_REGION((address), (size))
#define UNPOISON(address, size) ASAN_UNPOISON_MEMORY_REGION((address), (size))
#else
#define POISON(address, size) ((void)(address), (void)(size))
#define UNPOISON(address, size) ((void)(address), (void)(size))
#endif

enum { FIRST_BLOCK = 8 * 1024, LARGEST_BLOCK = 1024 * 1024, ALIGNMENT = _Alignof(max_align_t) };

typedef struct Block Block;
struct Block {
    Block *next;
    size_t size;
    size_t filled;
    _Alignas(max_align_t) unsigned char data[];
};

struct Arena {
    Block *blocks;
    size_t next_size;
    size_t used;
};

/* Out of memory ends the process: what was committed is safe, and a path that is never run is worse than a restart. */
static NORETURN void memory_fail(const char *why, size_t size) {
    fprintf(stderr, "pgcrane: %s (%zu bytes)\n", why, size);
    abort();
}

static Block *block_new(size_t size) {
    Block *block = malloc(sizeof(Block) + size);
    if (block == NULL)
        memory_fail("out of memory", size); /* uncovered: needs a full machine */
    *block = (Block){.size = size};
    POISON(block->data, size);
    return block;
}

static void block_free(Block *block) {
    UNPOISON(block->data, block->size);
    free(block);
}

Arena *arena_new(void) {
    Arena *arena = calloc(1, sizeof(*arena));
    if (arena == NULL)
        memory_fail("out of memory", sizeof(*arena)); /* uncovered: needs a full machine */
    arena->next_size = FIRST_BLOCK;
    return arena;
}

static void free_chain(Block *block) {
    while (block != NULL) {
        Block *next = block->next;
        block_free(block);
        block = next;
    }
}

void arena_free(Arena *arena) {
    if (arena == NULL)
        return;
    free_chain(arena->blocks);
    free(arena);
}

void arena_freep(Arena **arena) {
    arena_free(*arena);
    *arena = NULL;
}

/* Keeps the newest block, the largest of the doubling ones: a loop that resets does not go to malloc each time. */
void arena_reset(Arena *arena) {
    Block *kept = arena->blocks;
    arena->used = 0;
    if (kept == NULL)
        return;
    free_chain(kept->next);
    if (kept->size > LARGEST_BLOCK) {
        block_free(kept);
        arena->blocks = NULL;
        return;
    }
    kept->next = NULL;
    kept->filled = 0;
    POISON(kept->data, kept->size);
}

static void *take(Arena *arena, Block *block, size_t padded, size_t size) {
    void *memory = block->data + block->filled;
    block->filled += padded;
    arena->used += padded;
    UNPOISON(memory, size); /* not the padding: an overrun by one is seen */
    return memset(memory, 0, size);
}

static Block *add_own_block(Arena *arena, size_t size) {
    Block *block = block_new(size);
    if (arena->blocks == NULL) {
        arena->blocks = block;
    } else {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    }
    return block;
}

void *arena_alloc(Arena *arena, size_t size) {
    if (size > SIZE_MAX / 2)
        memory_fail("allocation too large", size);
    size_t padded = (MAX(size, 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    Block *newest = arena->blocks;
    if (newest != NULL && newest->size - newest->filled >= padded)
        return take(arena, newest, padded, size);
    if (padded > arena->next_size / 2)
        return take(arena, add_own_block(arena, padded), padded, size);

    Block *block = block_new(arena->next_size);
    arena->next_size = MIN(arena->next_size * 2, (size_t)LARGEST_BLOCK);
    block->next = newest;
    arena->blocks = block;
    return take(arena, block, padded, size);
}

void *arena_alloc_array(Arena *arena, size_t size, size_t count) {
    size_t total;
    if (__builtin_mul_overflow(size, count, &total))
        memory_fail("array too large", count);
    return arena_alloc(arena, total);
}

char *arena_strndup(Arena *arena, const char *text, size_t len) {
    char *copy = arena_alloc(arena, len + 1);
    memcpy(copy, text, len);
    return copy;
}

char *arena_strdup(Arena *arena, const char *text) {
    return text == NULL ? NULL : arena_strndup(arena, text, strlen(text));
}

char *arena_vprintf(Arena *arena, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0)
        memory_fail("bad format", 0); /* uncovered: formats are literals, checked by the compiler */
    char *text = arena_alloc(arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, args);
    return text;
}

char *arena_printf(Arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

size_t arena_used(const Arena *arena) {
    return arena->used;
}
