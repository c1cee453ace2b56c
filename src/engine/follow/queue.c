/*
 * The short queue between receiver and applier, and the map by oid that both use.
 *
 * One lock and one condition: what goes through here are batches, not changes. An item that was applied is emptied at
 * once, in the applier's thread: a huge transaction's memory does not wait for the next use.
 */
#include "common/clock.h"
#include "engine/follow/follow_internal.h"

#include <string.h>
#include <time.h>

/* A batch is cut long before this; one row may be of any size. */
enum { BATCH_SLACK = 64 << 20, MAP_FIRST = 64 };

void queue_init(Queue *queue, size_t batch_bytes) {
    for (size_t i = 0; i < ITEMS; i++) {
        queue->items[i] = (Item){.batch = batch_new(batch_bytes + BATCH_SLACK), .arena = arena_new()};
        queue->free[queue->free_count++] = &queue->items[i];
    }
}

void queue_fini(Queue *queue) {
    for (size_t i = 0; i < ITEMS; i++) {
        batch_freep(&queue->items[i].batch);
        arena_freep(&queue->items[i].arena);
    }
}

void follow_wait_changed(Follow *follow, int64_t deadline_us) {
    struct timespec until = {.tv_sec = deadline_us / USEC_PER_SEC,
                             .tv_nsec = (long)(deadline_us % USEC_PER_SEC * 1000)};

    if (deadline_us == 0)
        (void)pthread_cond_wait(&follow->changed, &follow->lock);
    else
        (void)pthread_cond_timedwait(&follow->changed, &follow->lock, &until);
}

static bool may_wait(const Follow *follow, int64_t deadline_us) {
    return !stop_requested(&follow->stop) && (deadline_us == 0 || clock_now_us() < deadline_us);
}

Item *queue_take_free(Follow *follow, int64_t deadline_us) {
    Queue *queue = &follow->queue;
    Item *item = NULL;

    (void)pthread_mutex_lock(&follow->lock);
    while (queue->free_count == 0 && may_wait(follow, deadline_us))
        follow_wait_changed(follow, deadline_us);
    if (queue->free_count > 0 && !stop_requested(&follow->stop))
        item = queue->free[--queue->free_count];
    (void)pthread_mutex_unlock(&follow->lock);
    return item;
}

void queue_push(Follow *follow, Item *item) {
    Queue *queue = &follow->queue;

    (void)pthread_mutex_lock(&follow->lock);
    (void)atomic_fetch_add(&follow->in_flight, 1);
    queue->ready[queue->ready_count++] = item;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
}

Item *queue_next(Follow *follow) {
    Queue *queue = &follow->queue;
    Item *item = NULL;

    (void)pthread_mutex_lock(&follow->lock);
    while (queue->ready_count == 0 && may_wait(follow, 0))
        follow_wait_changed(follow, 0);
    if (!stop_requested(&follow->stop)) {
        item = queue->ready[0];
        queue->ready_count--;
        memmove(queue->ready, queue->ready + 1, queue->ready_count * sizeof(*queue->ready));
        if (follow->applying_oldest_us == 0)
            follow->applying_oldest_us = item->oldest_us;
    }
    (void)pthread_mutex_unlock(&follow->lock);
    return item;
}

void queue_done(Follow *follow, Item *item) {
    Queue *queue = &follow->queue;

    batch_clear(item->batch);
    arena_reset(item->arena);
    (void)pthread_mutex_lock(&follow->lock);
    *item = (Item){.batch = item->batch, .arena = item->arena};
    queue->free[queue->free_count++] = item;
    (void)atomic_fetch_sub(&follow->in_flight, 1);
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
}

void queue_answer(Follow *follow, Answer answer) {
    (void)pthread_mutex_lock(&follow->lock);
    follow->queue.answer = answer;
    follow->queue.has_answer = true;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
}

bool queue_take_answer(Follow *follow, int64_t deadline_us, Answer *ret_answer) {
    Queue *queue = &follow->queue;

    (void)pthread_mutex_lock(&follow->lock);
    while (!queue->has_answer && may_wait(follow, deadline_us))
        follow_wait_changed(follow, deadline_us);
    bool has = queue->has_answer;
    if (has)
        *ret_answer = queue->answer;
    queue->has_answer = false;
    (void)pthread_mutex_unlock(&follow->lock);
    return has;
}

bool queue_wait_until(Follow *follow, size_t most, int64_t deadline_us) {
    (void)pthread_mutex_lock(&follow->lock);
    while (atomic_load(&follow->in_flight) > most && may_wait(follow, deadline_us))
        follow_wait_changed(follow, deadline_us);
    (void)pthread_mutex_unlock(&follow->lock);
    return atomic_load(&follow->in_flight) <= most;
}

bool queue_is_idle(const Follow *follow) {
    return atomic_load(&follow->in_flight) == 0;
}

/* --- The map ------------------------------------------------------------------------------------------------------ */

static OidCell *find_cell(const OidMap *map, uint32_t oid) {
    size_t mask = map->cells_count - 1;
    size_t i = (oid * UINT32_C(2654435769)) & mask;

    while (map->cells[i].oid != 0 && map->cells[i].oid != oid)
        i = (i + 1) & mask;
    return &map->cells[i];
}

void *oid_map_get(const OidMap *map, uint32_t oid) {
    return map->cells_count == 0 ? NULL : find_cell(map, oid)->value;
}

static void grow(OidMap *map, Arena *arena) {
    OidMap larger = {.cells_count = map->cells_count == 0 ? MAP_FIRST : map->cells_count * 2, .filled = map->filled};

    larger.cells = arena_array(arena, OidCell, larger.cells_count);
    for (size_t i = 0; i < map->cells_count; i++)
        if (map->cells[i].oid != 0)
            *find_cell(&larger, map->cells[i].oid) = map->cells[i];
    *map = larger;
}

void oid_map_put(OidMap *map, Arena *arena, uint32_t oid, void *value) {
    if (map->filled * 2 >= map->cells_count)
        grow(map, arena);
    OidCell *cell = find_cell(map, oid);
    map->filled += cell->oid == 0;
    *cell = (OidCell){.oid = oid, .value = value};
}
