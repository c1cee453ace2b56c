/*
 * The watch: a thread with its own connection to the source that looks, from the moment there is a slot to the end of
 * the run, at what following does there: through the load, while tables are copied again, while the destination is away
 * and while a promote waits.
 *
 * The slot: what it costs the source. It is lost, or fills a disk, during a long load too. And its publications: what
 * they leave out is as lost (seam_check_published()).
 *
 * Replica identities: a published table that loses its identity makes the application's own UPDATE fail until it has
 * left the publication of updates. That must not wait for the main thread, nor for the destination. What the stream
 * lacks from then on is found by shapes_check(): the ledger has the table as published. The main thread is told to look
 * at once (watch_take_unpublished()).
 *
 * What it finds fatal (a lost slot, --max-retained) stops the run; the main thread tells it as the run's error. That it
 * cannot reach the source for a while is no finding: the main thread will say so.
 */
#include "worker/run.h"

#include "common/clock.h"
#include "common/log.h"

#include <stdatomic.h>
#include <string.h>

#define WATCH_PAUSE_US (2 * USEC_PER_SEC)
#define WATCH_PATIENCE_US (30 * USEC_PER_SEC)
enum { IDENTITIES_SHARE = 20 }; /* of the time goes into looking at them, at most one part in so many */

struct Watch {
    Arena *arena;
    Run *run;
    pthread_t thread;
    Stop stop;
    pthread_mutex_t lock;
    bool has_reading;
    GuardReading reading; /* without its text */
    GuardRate rate;
    Error fatal; /* reason INTERNAL (0) = none */
    bool is_fatal;
    int64_t identities_due_us;
    atomic_bool unpublished; /* since somebody asked */
};

static void set_fatal(Watch *watch, const Error *err) {
    (void)pthread_mutex_lock(&watch->lock);
    watch->fatal = *err;
    watch->is_fatal = true;
    (void)pthread_mutex_unlock(&watch->lock);
    stop_request(&watch->run->stop);
    (void)run_call_off(watch->run); /* a promote listens to a stop of its own */
}

static void note_reading(Watch *watch, const GuardReading *reading) {
    atomic_store(&watch->run->heard_us, clock_now_us());
    (void)pthread_mutex_lock(&watch->lock);
    watch->reading = *reading;
    watch->reading.wal_status = NULL;
    guard_apply_limit(&watch->reading, watch->run->options.max_retained);
    watch->has_reading = true;
    guard_rate_add(&watch->rate, reading->current, clock_now_us());
    (void)pthread_mutex_unlock(&watch->lock);
}

static bool check_limit(const Watch *watch, const GuardReading *reading, Error *err) {
    int64_t limit = watch->run->options.max_retained;

    return limit == 0 || reading->retained_bytes <= limit ||
           error_set(err, REASON_RETAINED_LIMIT,
                     "slot %s holds %lld MB of WAL on the source, more than --max-retained; it was removed",
                     watch->run->names.slot, (long long)(reading->retained_bytes >> 20));
}

/* A lock that is not had, such as that of an ALTER TABLE, is tried again at the next look. Large catalogues are looked
 * at less often. */
static bool look_at_identities(Watch *watch, DbConn *source, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec lost = {0};
    int64_t began = clock_now_us();

    if (began < watch->identities_due_us)
        return true;
    bool ok = seam_unpublish_keyless(source, &watch->run->names, arena, &lost, err);
    watch->identities_due_us = clock_now_us() + (clock_now_us() - began) * IDENTITIES_SHARE;
    if (!ok)
        return err->reason == REASON_LOCK_BUSY && !db_is_broken(source);
    for (size_t i = 0; i < lost.len; i++)
        run_event(watch->run, "warning",
                  "table %s: it lost its replica identity; its updates and deletes are not published any more",
                  lost.items[i]);
    if (lost.len > 0)
        atomic_store(&watch->unpublished, true);
    return true;
}

/* False: over, for a reason that ends the run. A connection that is lost is opened again by the next look. */
static bool look(Watch *watch, DbConn **source, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    GuardReading reading;

    if (*source == NULL &&
        !db_open_patient(&watch->run->source_target, "watch", &watch->stop, WATCH_PATIENCE_US, source, err))
        return true;
    if (!guard_read(*source, arena, watch->run->names.slot, &reading, err)) {
        if (err->reason == REASON_SLOT_LOST)
            return false;
        log_error_value(LOG_WARNING, err);
        db_closep(source);
        return true;
    }
    note_reading(watch, &reading);
    if (!check_limit(watch, &reading, err))
        return false;
    if (!seam_check_published(*source, &watch->run->names, watch->run->published, err) && !db_is_broken(*source) &&
        err->reason == REASON_PUBLICATION_LOST)
        return false;
    if (!look_at_identities(watch, *source, err)) {
        log_error_value(LOG_WARNING, err);
        db_closep(source);
    }
    return true;
}

static void *watch_thread(void *argument) {
    Watch *watch = argument;
    CLEANUP(db_closep) DbConn *source = NULL;
    Error err = {0};

    log_thread_name("watch");
    do {
        if (!look(watch, &source, &err)) {
            set_fatal(watch, &err);
            break;
        }
    } while (stop_wait_fd(&watch->stop, -1, 0, clock_now_us() + WATCH_PAUSE_US) != WAIT_STOPPED);
    return NULL;
}

bool watch_start(Run *run, Error *err) {
    if (run->watch != NULL)
        return true;
    Watch *watch = arena_new_of(run->arena, Watch);
    *watch = (Watch){.run = run};
    (void)pthread_mutex_init(&watch->lock, NULL);
    if (!stop_init(&watch->stop, err))
        return false;
    if (pthread_create(&watch->thread, NULL, watch_thread, watch) != 0) {
        stop_fini(&watch->stop);
        return error_set(err, REASON_SYSTEM, "cannot start a thread");
    }
    run->watch = watch;
    return true;
}

void watch_end(Run *run) {
    if (run->watch == NULL)
        return;
    stop_request(&run->watch->stop);
    (void)pthread_join(run->watch->thread, NULL);
    stop_fini(&run->watch->stop);
    (void)pthread_mutex_destroy(&run->watch->lock);
    run->watch = NULL;
}

bool watch_check(Run *run, Error *err) {
    if (run->watch == NULL)
        return true;
    (void)pthread_mutex_lock(&run->watch->lock);
    bool fatal = run->watch->is_fatal;
    if (fatal)
        *err = run->watch->fatal;
    (void)pthread_mutex_unlock(&run->watch->lock);
    return !fatal;
}

static void fill_age(const GuardReading *reading, Arena *arena, CdcProgress *cdc) {
    cdc->catalog_age = reading->catalog_xmin_age;
    if (guard_is_age_high(reading))
        vec_push(
            arena, &cdc->problems,
            arena_printf(arena,
                         "the slot keeps VACUUM on the source from rows of the catalogues that died in the last"
                         " %lld transactions, of %lld that autovacuum_freeze_max_age allows: promote or abort soon",
                         (long long)reading->catalog_xmin_age, (long long)reading->freeze_max_age));
}

void watch_fill(Run *run, Arena *arena, CdcProgress *cdc) {
    cdc->retained_bytes = cdc->limit_bytes = cdc->limit_seconds = cdc->catalog_age = -1;
    if (run->watch == NULL)
        return;
    (void)pthread_mutex_lock(&run->watch->lock);
    if (run->watch->has_reading) {
        const GuardReading *reading = &run->watch->reading;

        cdc->retained_bytes = reading->retained_bytes;
        cdc->limit_bytes = reading->limit_bytes;
        cdc->limit_seconds = guard_seconds_left(&run->watch->rate, reading);
        fill_age(reading, arena, cdc);
    }
    (void)pthread_mutex_unlock(&run->watch->lock);
}

bool watch_take_unpublished(Run *run) {
    return run->watch != NULL && atomic_exchange(&run->watch->unpublished, false);
}

Lsn watch_current(Run *run) {
    if (run->watch == NULL)
        return 0;
    (void)pthread_mutex_lock(&run->watch->lock);
    Lsn current = run->watch->has_reading ? run->watch->reading.current : 0;
    (void)pthread_mutex_unlock(&run->watch->lock);
    return current;
}
