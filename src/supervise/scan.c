/*
 * Jobs that somebody should have, and nobody has: after a node was lost, or a daemon began anew. And jobs whose pause
 * after an error is over, or that have failed while a session of their instance is at work here (instance.c).
 */
#include "common/clock.h"
#include "common/log.h"
#include "jobs/fact.h"
#include "supervise/guard.h"

#include <string.h>

static const int64_t scan_us = 1 * USEC_PER_SEC, guards_us = 10 * USEC_PER_SEC;

static const JobState of_interest[] = {JOB_STARTING,   JOB_RUNNING,  JOB_STOPPING, JOB_RESUMING,
                                       JOB_RESTARTING, JOB_DELETING, JOB_FAILED,   JOB_COMPLETED};

typedef VEC(const char *) NameVec;

typedef struct Scan {
    const Supervisor *this;
    Arena *arena;
    NameVec names;
    bool with_guards; /* also those that are completed: they may be many, and few have a destination to hand back */
} Scan;

/* One that failed for good is nobody's, when all of it has ended; nor is one that is completed, when its destination is
 * handed back. */
static bool waits_for_something(const Scan *scan, const StoreResource *resource, bool *ret_waits, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    if (!record_open(resource, &job, err))
        return false;
    JobState state = job_view(&job).state;
    *ret_waits =
        job_retry_at_us(&job) > 0 || (state == JOB_COMPLETED && guard_is_up(&job)) ||
        (state == JOB_FAILED && job_is_preparing(&job) && instance_session_lives(scan->this, scan->arena, &job));
    return true;
}

static bool add_page(Scan *scan, const StorePage *page, bool over, Error *err) {
    for (size_t at = 0; at < page->count; at++) {
        bool wanted = true;

        if (over && !waits_for_something(scan, &page->items[at], &wanted, err))
            return false;
        if (wanted)
            vec_push(scan->arena, &scan->names, arena_strdup(scan->arena, page->items[at].name));
    }
    return true;
}

static bool list(StoreTx *tx, void *context, Error *err) {
    Scan *scan = context;

    scan->names.len = 0;
    for (size_t at = 0; at < COUNT_OF(of_interest); at++) {
        StoreQuery query = {
            .kind = STORE_MIGRATION_JOB, .state = job_state_name(of_interest[at]), .page_size = STORE_PAGE_MAX};
        StorePage page = {0};
        bool over = of_interest[at] == JOB_FAILED || of_interest[at] == JOB_COMPLETED;

        if (of_interest[at] == JOB_COMPLETED && !scan->with_guards)
            continue;
        do {
            if (!store_list(tx, &query, &page, err) || !add_page(scan, &page, over, err))
                return false;
            query.cursor = page.next_cursor;
        } while (page.next_cursor[0] != '\0');
    }
    return true;
}

typedef struct TakeOver {
    const Supervisor *this;
    const char *name;
    int64_t epoch;
} TakeOver;

static bool take_over(StoreTx *tx, void *context, Error *err) {
    TakeOver *wanted = context;

    return lease_take(wanted->this, tx, wanted->name, &wanted->epoch, err);
}

bool jobs_scan(Supervisor *this, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Scan scan = {.this = this, .arena = arena, .with_guards = clock_now_us() >= this->next_guards_us};

    if (clock_now_us() < this->next_scan_us)
        return true;
    if (!store_read(this->config.store, arena, list, &scan, err))
        return false;
    this->next_scan_us = clock_now_us() + scan_us;
    if (scan.with_guards)
        this->next_guards_us = clock_now_us() + guards_us;
    for (size_t at = 0; at < scan.names.len; at++) {
        CLEANUP(arena_freep) Arena *scratch = arena_new();
        TakeOver wanted = {.this = this, .name = scan.names.items[at]};

        if (held_find(this, wanted.name) != NULL)
            continue;
        if (!store_write(this->config.store, scratch, take_over, &wanted, err))
            return false;
        if (wanted.epoch > 0)
            (void)held_add(this, wanted.name, wanted.epoch);
    }
    return true;
}
