/*
 * What is going on right now, gathered from many threads: phases, tasks under way, counters.
 *
 * Thread-safe throughout. A TaskSlot is claimed by one thread, and its counters may be bumped without a lock.
 * tracker_read() makes a Progress (strings copied into the arena given), at any time.
 */
#pragma once

#include "model/progress.h"

#include <stdatomic.h>

typedef struct Tracker Tracker;

enum { TRACKER_TASKS_MAX = 128 };

typedef struct TaskSlot {
    _Atomic int64_t done; /* bytes, for the copy pump */
    int64_t total;
    int64_t started_us;
    Phase phase;
    char kind[24];
    char object[200];
    bool used;
} TaskSlot;

Tracker *tracker_new(void);
void tracker_freep(Tracker **tracker);

/* A phase lasts from its first begin to its last task's end (without tasks: to its last end). It may begin again. */
void tracker_phase_total(Tracker *tracker, Phase phase, int64_t done, int64_t total);
void tracker_phase_begin(Tracker *tracker, Phase phase);
void tracker_phase_end(Tracker *tracker, Phase phase);
void tracker_phase_skip(Tracker *tracker, Phase phase);

/* A task inside a phase: adds to its busy time, and to its `done` items when `completed`. Never NULL: when all slots
 * are taken, a spare one that is not shown. */
TaskSlot *tracker_task_begin(Tracker *tracker, Phase phase, const char *kind, const char *object, int64_t total);
void tracker_task_end(Tracker *tracker, TaskSlot *task, bool completed);

void tracker_set_totals(Tracker *tracker, int64_t bytes_total, int64_t tables_total, int64_t indexes_total);
/* What earlier runs did: the counters begin there. */
void tracker_set_done(Tracker *tracker, int64_t disk_bytes, int64_t tables, int64_t indexes);
void tracker_add_copied(Tracker *tracker, int64_t disk_bytes, int64_t wire_bytes, int64_t rows);
void tracker_add_table(Tracker *tracker); /* complete: also an item of PHASE_COPY */
void tracker_add_index(Tracker *tracker);
void tracker_add_retry(Tracker *tracker);
int64_t tracker_retries(Tracker *tracker);

/* Following, as it is now: copied (strings too). */
void tracker_set_cdc(Tracker *tracker, const CdcProgress *cdc);

/* Of a promote under way, "" = none. The text stays where it is: a constant. */
void tracker_set_promote_step(Tracker *tracker, const char *step);

void tracker_read(Tracker *tracker, Arena *arena, Progress *ret_progress);
