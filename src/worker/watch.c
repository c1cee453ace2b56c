/*
 * The slot's watch: a thread with its own connection that reads, from the moment there is a slot, what it costs the
 * source. It runs through the whole migration: a slot is lost, or fills a disk, during a long load too.
 *
 * What it finds fatal (a lost slot, --max-retained) stops the run; the main thread tells it as the run's error. That it
 * cannot reach the source for a while is no finding: the main thread will say so.
 */
#include "worker/run.h"

#include "common/clock.h"
#include "common/log.h"

#include <string.h>

#define WATCH_PAUSE_US (2 * USEC_PER_SEC)
#define WATCH_PATIENCE_US (30 * USEC_PER_SEC)
#define HEARTBEAT_US (60 * USEC_PER_SEC)

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
    Lsn beat_confirmed; /* as it was at the last heartbeat */
    int64_t beat_us;
};

static void set_fatal(Watch *watch, const Error *err) {
    (void)pthread_mutex_lock(&watch->lock);
    watch->fatal = *err;
    watch->is_fatal = true;
    (void)pthread_mutex_unlock(&watch->lock);
    stop_request(&watch->run->stop);
}

static void note_reading(Watch *watch, const GuardReading *reading) {
    (void)pthread_mutex_lock(&watch->lock);
    watch->reading = *reading;
    watch->reading.wal_status = NULL;
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

/* An idle database in a busy server: nothing of ours comes, and the slot would stay where it is. */
static void beat(Watch *watch, DbConn *source, const GuardReading *reading) {
    Error err;
    int64_t now = clock_now_us();

    if (now - watch->beat_us < HEARTBEAT_US)
        return;
    if (watch->beat_confirmed == reading->confirmed && !guard_heartbeat(source, &err))
        log_error_value(LOG_WARNING, &err);
    watch->beat_confirmed = reading->confirmed;
    watch->beat_us = now;
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
    beat(watch, *source, &reading);
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
    *watch = (Watch){.run = run, .beat_us = clock_now_us()};
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

void watch_fill(Run *run, CdcProgress *cdc) {
    cdc->retained_bytes = cdc->limit_bytes = cdc->limit_seconds = -1;
    if (run->watch == NULL)
        return;
    (void)pthread_mutex_lock(&run->watch->lock);
    if (run->watch->has_reading) {
        const GuardReading *reading = &run->watch->reading;

        cdc->retained_bytes = reading->retained_bytes;
        cdc->limit_bytes = reading->limit_bytes;
        cdc->limit_seconds = guard_seconds_left(&run->watch->rate, reading);
    }
    (void)pthread_mutex_unlock(&run->watch->lock);
}

Lsn watch_current(Run *run) {
    if (run->watch == NULL)
        return 0;
    (void)pthread_mutex_lock(&run->watch->lock);
    Lsn current = run->watch->has_reading ? run->watch->reading.current : 0;
    (void)pthread_mutex_unlock(&run->watch->lock);
    return current;
}
