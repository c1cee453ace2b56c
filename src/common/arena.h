/*
 * Bump allocation by scope: everything made for a step, a table or a message goes at once.
 *
 * Contract
 * - arena_alloc() cannot fail (the process ends): therefore every size a peer controls is capped before it gets here.
 * - Memory is zeroed and aligned for any type. There is no single free; arena_reset() empties, arena_free() destroys.
 * - An arena belongs to one thread at a time. Under ASan what was reset is poisoned.
 */
#pragma once

#include "common/compiler.h"

#include <stdarg.h>

typedef struct Arena Arena;

RETURNS_NONNULL Arena *arena_new(void);
void arena_free(Arena *arena); /* NULL is fine */
void arena_freep(Arena **arena);
void arena_reset(Arena *arena);

RETURNS_NONNULL void *arena_alloc(Arena *arena, size_t size);
#define arena_new_of(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define arena_array(arena, type, count) ((type *)arena_alloc_array((arena), sizeof(type), (count)))
RETURNS_NONNULL void *arena_alloc_array(Arena *arena, size_t size, size_t count); /* ends the process on overflow */

char *arena_strdup(Arena *arena, const char *text); /* NULL gives NULL */
char *arena_strndup(Arena *arena, const char *text, size_t len);
RETURNS_NONNULL char *arena_printf(Arena *arena, const char *format, ...) PRINTF(2, 3);
char *arena_vprintf(Arena *arena, const char *format, va_list args) PRINTF(2, 0);

/* Bytes handed out since the last reset: for tests and for the memory report. */
size_t arena_used(const Arena *arena);
