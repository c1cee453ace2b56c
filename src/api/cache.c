/*
 * Answers about resources as text.
 *
 * NOTES
 * One place for each hash of a name: who comes later takes it. That is enough for what is asked for again and again,
 * and needs no order of use to be kept.
 */
#include "api/cache.h"

#include "common/hash.h"
#include "common/heap.h"

#include <pthread.h>
#include <string.h>

enum { UID_MAX = 64 };

typedef struct Slot {
    char uid[UID_MAX + 1];
    int64_t version;
    char *text; /* NULL = free */
    size_t len;
} Slot;

struct Cache {
    pthread_mutex_t lock;
    size_t bytes;
    Slot slots[CACHE_SLOTS];
};

Cache *cache_new(void) {
    Cache *cache = heap_new_of(Cache);

    (void)pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void cache_freep(Cache **cache) {
    for (size_t at = 0; *cache != NULL && at < CACHE_SLOTS; at++)
        heap_free((*cache)->slots[at].text);
    if (*cache != NULL)
        (void)pthread_mutex_destroy(&(*cache)->lock);
    heap_free(*cache);
    *cache = NULL;
}

static Slot *slot_of(Cache *cache, const StoreResource *resource) {
    return &cache->slots[hash_text64(resource->uid) % CACHE_SLOTS];
}

const char *cache_find(Cache *cache, Arena *arena, const StoreResource *resource) {
    const char *found = NULL;

    (void)pthread_mutex_lock(&cache->lock);
    const Slot *slot = slot_of(cache, resource);
    if (slot->text != NULL && slot->version == resource->version && strcmp(slot->uid, resource->uid) == 0)
        found = arena_strndup(arena, slot->text, slot->len);
    (void)pthread_mutex_unlock(&cache->lock);
    return found;
}

static void empty(Cache *cache, Slot *slot) {
    cache->bytes -= slot->len;
    heap_free(slot->text);
    *slot = (Slot){0};
}

static void fill(Slot *slot, const StoreResource *resource, const char *text, size_t len) {
    (void)snprintf(slot->uid, sizeof(slot->uid), "%s", resource->uid);
    slot->version = resource->version;
    slot->text = heap_alloc(len + 1);
    slot->len = len;
    memcpy(slot->text, text, len + 1);
}

void cache_keep(Cache *cache, const StoreResource *resource, const char *text) {
    size_t len = strlen(text);

    if (len > CACHE_TEXT_MAX || resource->uid[0] == '\0' || strlen(resource->uid) > UID_MAX)
        return;
    (void)pthread_mutex_lock(&cache->lock);
    Slot *slot = slot_of(cache, resource);
    empty(cache, slot);
    if (cache->bytes + len <= CACHE_BYTES_MAX) {
        fill(slot, resource, text, len);
        cache->bytes += len;
    }
    (void)pthread_mutex_unlock(&cache->lock);
}
