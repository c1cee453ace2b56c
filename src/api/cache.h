/*
 * Answers about resources as text, so that a page of a list need not be parsed and written anew for each client.
 *
 * Contract
 * - An answer is that of one version of one resource (its uid and version): what is changed is found no more. Nothing
 *   has to be told to the cache, and it may forget anything at any time.
 * - Any thread. At most CACHE_SLOTS answers, and CACHE_BYTES_MAX bytes of them.
 */
#pragma once

#include "common/arena.h"
#include "store/store.h"

enum { CACHE_SLOTS = 8192, CACHE_TEXT_MAX = 16 * 1024, CACHE_BYTES_MAX = 12 * 1024 * 1024 };

typedef struct Cache Cache;

RETURNS_NONNULL Cache *cache_new(void);
void cache_freep(Cache **cache);

/* A copy in the arena; NULL = it is not here. */
const char *cache_find(Cache *cache, Arena *arena, const StoreResource *resource);
/* The text is copied; one that is too long is left out. */
void cache_keep(Cache *cache, const StoreResource *resource, const char *text);
