/* A fixed number of threads that work off one bounded queue. */
#include "common/taskpool.h"

#include "common/arena.h"
#include "common/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

typedef struct Call {
    TaskCallback callback;
    void *context;
} Call;

struct TaskPool {
    Arena *arena; /* holds this struct */
    char name[12];
    pthread_t *threads;
    size_t threads_count;
    pthread_mutex_t lock;
    pthread_cond_t ready;
    /* Under the lock: */
    Call *ring;
    size_t cap, first, waiting, named;
    bool ending;
};

/* False when the pool ends and nothing is left. */
static bool take(TaskPool *pool, Call *ret_call) {
    pthread_mutex_lock(&pool->lock);
    while (pool->waiting == 0 && !pool->ending)
        pthread_cond_wait(&pool->ready, &pool->lock);
    bool taken = pool->waiting > 0;
    if (taken) {
        *ret_call = pool->ring[pool->first];
        pool->first = (pool->first + 1) % pool->cap;
        pool->waiting--;
    }
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

static void name_thread(TaskPool *pool) {
    char name[sizeof(pool->name) + 12];

    pthread_mutex_lock(&pool->lock);
    size_t number = ++pool->named;
    pthread_mutex_unlock(&pool->lock);
    snprintf(name, sizeof(name), "%s%u", pool->name, (unsigned)number);
    log_thread_name(name);
}

static void *run_thread(void *context) {
    TaskPool *pool = context;
    Call call;

    name_thread(pool);
    while (take(pool, &call))
        call.callback(call.context);
    return NULL;
}

/* Threads inherit the mask of whoever makes them. */
static bool start_threads(TaskPool *pool, size_t threads, Error *err) {
    sigset_t all, before;
    int why = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->threads_count < threads && why == 0) {
        why = pthread_create(&pool->threads[pool->threads_count], NULL, run_thread, pool);
        if (why == 0)
            pool->threads_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return why == 0 || error_set(err, REASON_SYSTEM, "cannot start a thread (error %d)", why);
}

bool taskpool_new(const char *name, size_t threads, size_t queue_max, TaskPool **ret_pool, Error *err) {
    Arena *arena = arena_new();
    TaskPool *pool = arena_new_of(arena, TaskPool);

    pool->arena = arena;
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    pool->cap = MAX(queue_max, 1);
    pool->ring = arena_array(arena, Call, pool->cap);
    pool->threads = arena_array(arena, pthread_t, threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->ready, NULL);
    if (!start_threads(pool, threads, err)) {
        taskpool_freep(&pool);
        return false;
    }
    *ret_pool = pool;
    return true;
}

void taskpool_freep(TaskPool **pool) {
    TaskPool *gone = *pool;
    if (gone == NULL)
        return;
    pthread_mutex_lock(&gone->lock);
    gone->ending = true;
    pthread_cond_broadcast(&gone->ready);
    pthread_mutex_unlock(&gone->lock);
    for (size_t i = 0; i < gone->threads_count; i++)
        pthread_join(gone->threads[i], NULL);
    pthread_cond_destroy(&gone->ready);
    pthread_mutex_destroy(&gone->lock);
    arena_free(gone->arena);
    *pool = NULL;
}

bool taskpool_submit(TaskPool *pool, TaskCallback callback, void *context) {
    pthread_mutex_lock(&pool->lock);
    bool room = pool->waiting < pool->cap;
    if (room) {
        pool->ring[(pool->first + pool->waiting++) % pool->cap] = (Call){callback, context};
        pthread_cond_signal(&pool->ready);
    }
    pthread_mutex_unlock(&pool->lock);
    return room;
}

size_t taskpool_waiting(TaskPool *pool) {
    pthread_mutex_lock(&pool->lock);
    size_t waiting = pool->waiting;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}
