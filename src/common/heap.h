/*
 * Single objects whose lives do not nest in a scope: a connection, a stream. What lives and dies together belongs in an
 * arena.
 *
 * Memory is zeroed; out of memory ends the process, so that counts which a peer controls are capped before.
 */
#pragma once

#include "common/compiler.h"

RETURNS_NONNULL void *heap_alloc(size_t size);
#define heap_new_of(type) ((type *)heap_alloc(sizeof(type)))
void heap_free(void *object); /* NULL is fine */
