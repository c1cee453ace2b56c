/*
 * Waiting for changes of the store.
 *
 * NOTES
 * store_wait() is for one thread, and a thread for each stream would be too many: one looks after each change and sends
 * every stream what is new for it. Without any change it looks all the same, every second, since the store's hint may
 * be lost.
 *
 * A stream is in the list until on_closed has come and the thread has seen that: only the thread frees it.
 */
#include "api/watch.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { EVENTS_AT_ONCE = 200, EVENT_TEXT_MAX = 64 * 1024, FEED_BYTES = 64 * 1024 };
static const int64_t look_us = USEC_PER_SEC, more_us = 20 * USEC_PER_MSEC;

typedef struct Follower Follower;
struct Follower {
    Arena *arena; /* holds the follower itself */
    Follower *next;
    const char *job;
    int64_t after_id;
    HttpStream *stream;
    atomic_bool closed;
};

struct Watch {
    Arena *arena;
    Store *store;
    Stop stop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    uint64_t turn;
    int waiting, waiting_max;
    Follower *new_followers;
    /* Of the thread: */
    Follower *followers;
};

/* ---- Streams ---- */

static void on_closed(void *context, HttpStreamEnd why UNUSED) {
    Follower *follower = context;

    atomic_store(&follower->closed, true);
}

json_t *watch_event_json(const StoreEvent *event, Arena *arena) {
    CLEANUP(json_freep) json_t *detail = NULL;
    Error ignored;

    if (event->detail[0] != '\0' && !json_parse(event->detail, strlen(event->detail), &detail, &ignored))
        detail = json_string_lossy(event->detail); /* shown as it is */
    return json_pack("{s:o, s:s, s:s, s:o, s:O*}", "id", json_string(arena_printf(arena, "%" PRId64, event->id)),
                     "time", clock_rfc3339(arena, event->time_us), "kind", event->kind, "message",
                     json_string_lossy(event->message), "detail", detail);
}

/* How many bytes it took. */
static size_t send_event(Follower *follower, const StoreEvent *event, Arena *arena) {
    CLEANUP(json_freep) json_t *line = watch_event_json(event, arena);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, EVENT_TEXT_MAX);
    json_print(line, 0, &text);
    if (!text.overflowed)
        (void)http_stream_send(follower->stream, arena_printf(arena, "%" PRId64, event->id), event->kind, text.data);
    follower->after_id = event->id;
    return text.len;
}

typedef struct Looking {
    const Follower *follower;
    StoreEvent *events;
    size_t count;
} Looking;

static bool read_events(StoreTx *tx, void *context, Error *err) {
    Looking *looking = context;
    StoreResource job = {0};

    return store_get(tx, looking->follower->job, &job, err) &&
           store_event_list(tx, looking->follower->job, looking->follower->after_id, EVENTS_AT_ONCE, &looking->events,
                            &looking->count, err);
}

/* Some of what is new for it: not more at once than a stream holds. True: there is more. The job gone: the stream ends.
 * The store away: next time. */
static bool feed(Watch *watch, Follower *follower) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Looking looking = {.follower = follower};
    size_t sent = 0, at = 0;
    Error err;

    if (http_stream_closed(follower->stream))
        return false;
    if (!store_read(watch->store, arena, read_events, &looking, &err)) {
        if (err.reason == REASON_NO_RESOURCE)
            http_stream_end(follower->stream);
        return false;
    }
    for (; at < looking.count && sent < FEED_BYTES; at++)
        sent += send_event(follower, &looking.events[at], arena);
    return at < looking.count || looking.count == EVENTS_AT_ONCE;
}

static void take_new(Watch *watch) {
    (void)pthread_mutex_lock(&watch->lock);
    while (watch->new_followers != NULL) {
        Follower *follower = watch->new_followers;

        watch->new_followers = follower->next;
        follower->next = watch->followers;
        watch->followers = follower;
    }
    (void)pthread_mutex_unlock(&watch->lock);
}

/* True: there is more for one of them. */
static bool feed_all(Watch *watch) {
    Follower **link = &watch->followers;
    bool more = false;

    take_new(watch);
    while (*link != NULL) {
        Follower *follower = *link;

        if (atomic_load(&follower->closed)) {
            *link = follower->next;
            http_stream_releasep(&follower->stream);
            arena_free(follower->arena);
            continue;
        }
        more = feed(watch, follower) || more;
        link = &follower->next;
    }
    return more;
}

/* What is there already is sent by the caller's own thread; then the follower is the watch's. */
void watch_stream(Watch *watch, HttpResponse *response, const char *job, int64_t after_id) {
    Arena *arena = arena_new();
    Follower *follower = arena_new_of(arena, Follower);

    follower->arena = arena;
    follower->job = arena_strdup(arena, job);
    follower->after_id = after_id;
    follower->stream = http_response_stream(response, on_closed, follower);
    (void)feed(watch, follower);
    (void)pthread_mutex_lock(&watch->lock);
    follower->next = watch->new_followers;
    watch->new_followers = follower;
    (void)pthread_mutex_unlock(&watch->lock);
}

/* ---- The thread ---- */

static void next_turn(Watch *watch) {
    (void)pthread_mutex_lock(&watch->lock);
    watch->turn++;
    (void)pthread_cond_broadcast(&watch->changed);
    (void)pthread_mutex_unlock(&watch->lock);
}

static void *run(void *context) {
    Watch *watch = context;
    bool woken = false, was_away = false, more = false;
    Error err;

    log_thread_name("watch");
    while (!stop_requested(&watch->stop)) {
        bool away = !store_wait(watch->store, clock_now_us() + (more ? more_us : look_us), &woken, &err);
        if (away && !was_away && !stop_requested(&watch->stop))
            log_error_value(LOG_WARNING, &err);
        if (away)
            (void)stop_wait_fd(&watch->stop, -1, 0, clock_now_us() + look_us);
        was_away = away;
        next_turn(watch);
        more = feed_all(watch);
    }
    return NULL;
}

static void free_followers(Watch *watch) {
    take_new(watch);
    while (watch->followers != NULL) {
        Follower *follower = watch->followers;

        watch->followers = follower->next;
        http_stream_releasep(&follower->stream);
        arena_free(follower->arena);
    }
}

static bool start_thread(Watch *watch, Error *err) {
    pthread_condattr_t attributes;

    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_init(&watch->lock, NULL);
    int failed = pthread_create(&watch->thread, NULL, run, watch);
    return failed == 0 || error_set(err, REASON_SYSTEM, "a thread cannot be started: error %d", failed);
}

bool watch_new(Store *store, int waiting_max, Watch **ret_watch, Error *err) {
    Arena *arena = arena_new();
    Watch *watch = arena_new_of(arena, Watch);

    watch->arena = arena;
    watch->store = store;
    watch->waiting_max = waiting_max;
    if (!stop_init(&watch->stop, err)) {
        arena_free(arena);
        return false;
    }
    if (!start_thread(watch, err)) {
        stop_fini(&watch->stop);
        arena_free(arena);
        return false;
    }
    *ret_watch = watch;
    return true;
}

void watch_stop(Watch *watch) {
    stop_request(&watch->stop);
    next_turn(watch);
}

void watch_freep(Watch **watch_pointer) {
    Watch *watch = *watch_pointer;

    if (watch == NULL)
        return;
    watch_stop(watch);
    (void)pthread_join(watch->thread, NULL);
    free_followers(watch);
    stop_fini(&watch->stop);
    (void)pthread_cond_destroy(&watch->changed);
    (void)pthread_mutex_destroy(&watch->lock);
    arena_free(watch->arena);
    *watch_pointer = NULL;
}

/* ---- Calls that wait ---- */

bool watch_enter(Watch *watch) {
    (void)pthread_mutex_lock(&watch->lock);
    bool may = watch->waiting < watch->waiting_max;
    watch->waiting += may;
    (void)pthread_mutex_unlock(&watch->lock);
    return may;
}

void watch_leave(Watch *watch) {
    (void)pthread_mutex_lock(&watch->lock);
    watch->waiting--;
    (void)pthread_mutex_unlock(&watch->lock);
}

uint64_t watch_turn(Watch *watch) {
    (void)pthread_mutex_lock(&watch->lock);
    uint64_t turn = watch->turn;
    (void)pthread_mutex_unlock(&watch->lock);
    return turn;
}

/* Every turn ends the wait, and there is one a second at least: so stop and deadline are seen in time. */
bool watch_wait(Watch *watch, uint64_t seen, int64_t deadline_us, const Stop *stop) {
    struct timespec until = {.tv_sec = deadline_us / USEC_PER_SEC, .tv_nsec = deadline_us % USEC_PER_SEC * 1000};
    int waited = 0;

    (void)pthread_mutex_lock(&watch->lock);
    while (watch->turn == seen && waited == 0)
        waited = pthread_cond_timedwait(&watch->changed, &watch->lock, &until);
    (void)pthread_mutex_unlock(&watch->lock);
    return waited == 0 && !stop_requested(stop) && !stop_requested(&watch->stop);
}
