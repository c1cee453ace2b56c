/* What is going on right now: one mutex over a small table of phases and tasks. */
#include "model/tracker.h"

#include "common/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct PhaseRecord {
    PhaseState state;
    int64_t first_us, last_us;
    int64_t busy_us;
    int64_t done, total;
} PhaseRecord;

enum { RATE_SAMPLES = 12 };

typedef struct RateSample {
    int64_t at_us, bytes;
} RateSample;

struct Tracker {
    Arena *arena; /* holds this struct */
    pthread_mutex_t lock;
    int64_t started_us;
    PhaseRecord phases[PHASE_MAX_];
    TaskSlot tasks[TRACKER_TASKS_MAX];
    TaskSlot spare;
    int64_t bytes_total, tables_total, indexes_total;
    int64_t disk_bytes, wire_bytes, rows, tables, indexes, retries;
    RateSample samples[RATE_SAMPLES]; /* one a second: the rate is over the last dozen */
    size_t samples_count;
    Arena *cdc_arena; /* holds what cdc points to; NULL = never set */
    CdcProgress cdc;
    const char *promote_step; /* cdc's: told by itself, since it changes while the rest does not */
};

Tracker *tracker_new(void) {
    Arena *arena = arena_new();
    Tracker *tracker = arena_new_of(arena, Tracker);

    tracker->arena = arena;
    tracker->started_us = clock_now_us();
    tracker->promote_step = "";
    (void)pthread_mutex_init(&tracker->lock, NULL);
    return tracker;
}

void tracker_freep(Tracker **tracker) {
    if (*tracker == NULL)
        return;
    (void)pthread_mutex_destroy(&(*tracker)->lock);
    arena_free((*tracker)->cdc_arena);
    arena_free((*tracker)->arena);
    *tracker = NULL;
}

static void lock(Tracker *tracker) {
    (void)pthread_mutex_lock(&tracker->lock);
}

static void unlock(Tracker *tracker) {
    (void)pthread_mutex_unlock(&tracker->lock);
}

static void phase_touch(PhaseRecord *record) {
    int64_t now = clock_now_us();

    if (record->first_us == 0)
        record->first_us = now;
    record->last_us = now;
}

void tracker_phase_total(Tracker *tracker, Phase phase, int64_t done, int64_t total) {
    lock(tracker);
    tracker->phases[phase].done = done;
    tracker->phases[phase].total = total;
    unlock(tracker);
}

void tracker_phase_begin(Tracker *tracker, Phase phase) {
    lock(tracker);
    tracker->phases[phase].state = PHASE_RUNNING;
    phase_touch(&tracker->phases[phase]);
    unlock(tracker);
}

void tracker_phase_end(Tracker *tracker, Phase phase) {
    PhaseRecord *record = &tracker->phases[phase];

    lock(tracker);
    if (record->state == PHASE_RUNNING && record->busy_us == 0) /* with tasks: the last one's end is the phase's */
        phase_touch(record);
    record->state = PHASE_DONE;
    unlock(tracker);
}

void tracker_phase_skip(Tracker *tracker, Phase phase) {
    lock(tracker);
    if (tracker->phases[phase].state == PHASE_WAITING)
        tracker->phases[phase].state = PHASE_SKIPPED;
    unlock(tracker);
}

static TaskSlot *task_free_slot(Tracker *tracker) {
    for (size_t i = 0; i < TRACKER_TASKS_MAX; i++)
        if (!tracker->tasks[i].used)
            return &tracker->tasks[i];
    return &tracker->spare;
}

TaskSlot *tracker_task_begin(Tracker *tracker, Phase phase, const char *kind, const char *object, int64_t total) {
    lock(tracker);
    TaskSlot *task = task_free_slot(tracker);

    task->used = true;
    atomic_store_explicit(&task->done, 0, memory_order_relaxed);
    task->total = total;
    task->phase = phase;
    task->started_us = clock_now_us();
    (void)snprintf(task->kind, sizeof(task->kind), "%s", kind);
    (void)snprintf(task->object, sizeof(task->object), "%s", object);
    phase_touch(&tracker->phases[phase]);
    unlock(tracker);
    return task;
}

void tracker_task_end(Tracker *tracker, TaskSlot *task, bool completed) {
    PhaseRecord *record = &tracker->phases[task->phase];

    lock(tracker);
    phase_touch(record);
    record->busy_us += clock_now_us() - task->started_us;
    if (completed)
        record->done++;
    task->used = false;
    unlock(tracker);
}

void tracker_set_totals(Tracker *tracker, int64_t bytes_total, int64_t tables_total, int64_t indexes_total) {
    lock(tracker);
    tracker->bytes_total = bytes_total;
    tracker->tables_total = tables_total;
    tracker->indexes_total = indexes_total;
    unlock(tracker);
}

void tracker_set_done(Tracker *tracker, int64_t disk_bytes, int64_t tables, int64_t indexes) {
    lock(tracker);
    tracker->disk_bytes = disk_bytes;
    tracker->tables = tables;
    tracker->indexes = indexes;
    tracker->samples_count = 0;
    unlock(tracker);
}

void tracker_add_copied(Tracker *tracker, int64_t disk_bytes, int64_t wire_bytes, int64_t rows) {
    lock(tracker);
    tracker->disk_bytes += disk_bytes;
    tracker->wire_bytes += wire_bytes;
    tracker->rows += rows;
    unlock(tracker);
}

void tracker_add_table(Tracker *tracker) {
    lock(tracker);
    tracker->tables++;
    tracker->phases[PHASE_COPY].done++;
    unlock(tracker);
}

void tracker_add_index(Tracker *tracker) {
    lock(tracker);
    tracker->indexes++;
    unlock(tracker);
}

void tracker_add_retry(Tracker *tracker) {
    lock(tracker);
    tracker->retries++;
    unlock(tracker);
}

int64_t tracker_retries(Tracker *tracker) {
    lock(tracker);
    int64_t retries = tracker->retries;
    unlock(tracker);
    return retries;
}

static CdcProgress copy_cdc(Arena *arena, const CdcProgress *from) {
    CdcProgress cdc = *from;

    cdc.applied_lsn = arena_strdup(arena, from->applied_lsn);
    cdc.source_lsn = arena_strdup(arena, from->source_lsn);
    cdc.tables = (CdcTableVec){0};
    cdc.problems = (StringVec){0};
    for (size_t i = 0; i < from->tables.len; i++) {
        CdcTable table = from->tables.items[i];

        table.name = arena_strdup(arena, table.name);
        vec_push(arena, &cdc.tables, table);
    }
    for (size_t i = 0; i < from->problems.len; i++)
        vec_push(arena, &cdc.problems, arena_strdup(arena, from->problems.items[i]));
    return cdc;
}

/* The copy is made outside of the lock, in an arena of its own, and the one before goes with its arena. */
void tracker_set_cdc(Tracker *tracker, const CdcProgress *cdc) {
    Arena *arena = arena_new();
    CdcProgress copy = copy_cdc(arena, cdc);

    lock(tracker);
    Arena *before = tracker->cdc_arena;
    tracker->cdc_arena = arena;
    tracker->cdc = copy;
    unlock(tracker);
    arena_free(before);
}

void tracker_set_promote_step(Tracker *tracker, const char *step) {
    lock(tracker);
    tracker->promote_step = step;
    unlock(tracker);
}

static void read_phases(const Tracker *tracker, int64_t now, Progress *progress) {
    for (int i = 0; i < PHASE_MAX_; i++) {
        const PhaseRecord *record = &tracker->phases[i];
        int64_t end = record->state == PHASE_RUNNING ? now : record->last_us;

        progress->phases[i] = (PhaseProgress){
            .state = record->state,
            .elapsed_us = record->first_us == 0 ? 0 : end - record->first_us,
            .done = record->done,
            .total = record->total,
            .busy_us = record->busy_us,
        };
    }
}

/* Copies tasks into the arena, the longest running first; returns the bytes of copies that are under way. */
static int64_t read_tasks(const Tracker *tracker, Arena *arena, int64_t now, Progress *progress) {
    int64_t moving = 0;

    for (size_t i = 0; i < TRACKER_TASKS_MAX; i++) {
        const TaskSlot *task = &tracker->tasks[i];

        if (!task->used)
            continue;
        TaskProgress item = {
            .kind = arena_strdup(arena, task->kind),
            .object = arena_strdup(arena, task->object),
            .done = atomic_load_explicit(&task->done, memory_order_relaxed),
            .total = task->total,
            .elapsed_us = now - task->started_us,
        };
        if (task->phase == PHASE_COPY)
            moving += MIN(item.done, item.total);
        vec_push(arena, &progress->tasks, item);
    }
    for (size_t i = 1; i < progress->tasks.len; i++) /* few items: insertion sort */
        for (size_t j = i; j > 0 && progress->tasks.items[j].elapsed_us > progress->tasks.items[j - 1].elapsed_us;
             j--) {
            TaskProgress swap = progress->tasks.items[j];
            progress->tasks.items[j] = progress->tasks.items[j - 1];
            progress->tasks.items[j - 1] = swap;
        }
    return moving;
}

/* Bytes a second over the samples kept; adds a sample when the newest is a second old. */
static double rate(Tracker *tracker, int64_t now, int64_t bytes) {
    size_t count = MIN(tracker->samples_count, (size_t)RATE_SAMPLES);
    const RateSample *newest = &tracker->samples[(tracker->samples_count + RATE_SAMPLES - 1) % RATE_SAMPLES];
    const RateSample *oldest =
        &tracker->samples[tracker->samples_count < RATE_SAMPLES ? 0 : tracker->samples_count % RATE_SAMPLES];
    double result = 0;

    if (count > 0 && now > oldest->at_us)
        result = (double)(bytes - oldest->bytes) * (double)USEC_PER_SEC / (double)(now - oldest->at_us);
    if (count == 0 || now - newest->at_us >= USEC_PER_SEC)
        tracker->samples[tracker->samples_count++ % RATE_SAMPLES] = (RateSample){.at_us = now, .bytes = bytes};
    return result < 0 ? 0 : result;
}

/* Indexes and what follows took, on the data sets of the benchmark, between a half and two thirds of the copy's time;
 * they overlap with it. So: the copy's own estimate, plus a share for what has not begun. */
static int64_t eta(const Tracker *tracker, const Progress *progress) {
    double left = (double)(progress->bytes_total - progress->bytes_done);
    double work_us = 0;

    if (progress->phases[PHASE_COPY].state == PHASE_WAITING || progress->bytes_total == 0)
        return -1;
    if (left > 0 && progress->bytes_per_second <= 0)
        return -1;
    if (left > 0)
        work_us = left / progress->bytes_per_second * (double)USEC_PER_SEC;
    if (tracker->indexes_total > 0) {
        double undone = (double)(tracker->indexes_total - tracker->indexes) / (double)tracker->indexes_total;
        work_us += undone * 0.5 * (double)progress->phases[PHASE_COPY].elapsed_us;
    }
    return (int64_t)work_us;
}

void tracker_read(Tracker *tracker, Arena *arena, Progress *ret_progress) {
    int64_t now = clock_now_us();

    *ret_progress = (Progress){0};
    lock(tracker);
    read_phases(tracker, now, ret_progress);
    int64_t moving = read_tasks(tracker, arena, now, ret_progress);
    ret_progress->elapsed_us = now - tracker->started_us;
    ret_progress->bytes_total = tracker->bytes_total;
    ret_progress->bytes_done = MIN(tracker->disk_bytes + moving, tracker->bytes_total);
    ret_progress->wire_bytes = tracker->wire_bytes;
    ret_progress->rows_done = tracker->rows;
    ret_progress->tables_done = tracker->tables;
    ret_progress->tables_total = tracker->tables_total;
    ret_progress->indexes_done = tracker->indexes;
    ret_progress->indexes_total = tracker->indexes_total;
    ret_progress->bytes_per_second = rate(tracker, now, ret_progress->bytes_done);
    ret_progress->eta_us = eta(tracker, ret_progress);
    ret_progress->cdc = copy_cdc(arena, &tracker->cdc);
    ret_progress->cdc.promote_step = arena_strdup(arena, tracker->promote_step);
    unlock(tracker);
}
