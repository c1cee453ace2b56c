/*
 * What a migration is doing now, and what it did: the picture the worker sends and the CLI (later the API) shows.
 *
 * Plain data. Strings live in the arena they were made in. All sizes in bytes, times in microseconds.
 */
#pragma once

#include "common/arena.h"
#include "common/json.h"
#include "common/vec.h"

/* X(NAME, "title on the phase rail", "what happens, for the report") - in the order they begin; copy and index overlap.
 */
#define PHASES(X)                                                                                                      \
    X(PREFLIGHT, "Check", "connections, versions, privileges, clashes")                                                \
    X(SEAM, "Slot", "publications and the slot that keeps the changes")                                                \
    X(SNAPSHOT, "Snapshot", "one consistent picture of the source")                                                    \
    X(SCHEMA, "Schema", "definitions before data")                                                                     \
    X(COPY, "Copy", "table data and large objects")                                                                    \
    X(INDEX, "Index", "indexes, keys and constraints")                                                                 \
    X(FOREIGN_KEY, "Foreign keys", "added and validated")                                                              \
    X(FINISH, "Finish", "sequences, triggers, materialized views, grants, settings")                                   \
    X(ANALYZE, "Analyze", "planner statistics")                                                                        \
    X(CDC, "Follow", "every change of the source, applied as it comes")                                                \
    X(PROMOTE, "Promote", "writes stop on the source and begin on the destination")

typedef enum Phase {
#define X(name, title, help) PHASE_##name,
    PHASES(X)
#undef X
        PHASE_MAX_,
} Phase;

const char *phase_name(Phase phase);  /* "COPY" */
const char *phase_title(Phase phase); /* "Copy" */
const char *phase_help(Phase phase);
/* SEAM, CDC, PROMOTE: a migration without --follow has none of them. */
bool phase_is_of_follow(Phase phase);

typedef enum PhaseState { PHASE_WAITING, PHASE_RUNNING, PHASE_DONE, PHASE_SKIPPED } PhaseState;

typedef struct PhaseProgress {
    PhaseState state;
    int64_t elapsed_us;  /* from its first to its last work */
    int64_t done, total; /* items; total 0 = not known */
    int64_t busy_us;     /* sum over lanes: busy_us / elapsed_us = concurrency */
} PhaseProgress;

typedef struct TaskProgress {
    const char *kind;    /* "copy", "index", "constraint", "foreign key", "analyze", ... */
    const char *object;  /* "public.orders" or "public.orders_pkey" */
    int64_t done, total; /* bytes for copy, 0/0 when not known */
    int64_t elapsed_us;
} TaskProgress;

typedef VEC(TaskProgress) TaskProgressVec;

typedef struct CdcTable {
    const char *name;
    int64_t inserts, updates, deletes, truncates; /* applied by this run */
} CdcTable;
typedef VEC(CdcTable) CdcTableVec;

/* Following: X(NAME, "for people") */
#define CDC_STATES(X)                                                                                                  \
    X(NONE, "not following")                                                                                           \
    X(CATCHING_UP, "catching up")                                                                                      \
    X(FOLLOWING, "caught up")                                                                                          \
    X(RETRYING, "a server is away, trying again")                                                                      \
    X(COPYING_AGAIN, "some tables are copied again")                                                                   \
    X(PROMOTING, "promoting")                                                                                          \
    X(PROMOTED, "promoted")

typedef enum CdcState {
#define X(name, help) CDC_##name,
    CDC_STATES(X)
#undef X
        CDC_STATE_MAX_,
} CdcState;

const char *cdc_state_name(CdcState state); /* "CATCHING_UP" */
const char *cdc_state_help(CdcState state);
CdcState cdc_state_from_name(const char *name); /* CDC_NONE when there is none of that name */

typedef struct CdcProgress {
    CdcState state;
    const char *applied_lsn, *source_lsn;              /* "0/16B3748" */
    int64_t lag_bytes, lag_us;                         /* -1 = not known yet */
    int64_t eta_us;                                    /* until caught up; -1 = not known, or falling behind */
    int64_t transactions;                              /* of the source, applied over all runs */
    int64_t inserts, updates, deletes, truncates, ddl; /* by this run */
    double inserts_rate, updates_rate, deletes_rate;   /* a second, over the last seconds */
    int64_t retained_bytes;                            /* WAL the source keeps because of us; -1 = not known */
    int64_t limit_bytes;                               /* what it keeps at most; -1 = no limit */
    int64_t limit_seconds;                             /* until then at the present rate; -1 = without end */
    int64_t catalog_age;                               /* transactions since the slot's catalog_xmin; -1 = not known */
    const char *promote_step;                          /* for people, "" = none */
    CdcTableVec tables;                                /* the busiest first, at most 20 */
    StringVec problems;                                /* tables that are suspect, differences, warnings */
} CdcProgress;

typedef struct Progress {
    PhaseProgress phases[PHASE_MAX_];
    int64_t elapsed_us;
    int64_t bytes_done, bytes_total; /* on-disk size of source tables, TOAST included */
    int64_t wire_bytes;              /* bytes of COPY data moved */
    int64_t rows_done;
    int64_t tables_done, tables_total;
    int64_t indexes_done, indexes_total;
    double bytes_per_second; /* over the last seconds */
    int64_t eta_us;          /* for the whole migration; -1 = not known yet */
    TaskProgressVec tasks;   /* under way, the longest running first */
    CdcProgress cdc;         /* state NONE unless following */
} Progress;

/* A phase of --follow is no part of a migration of which none of them has begun. */
bool progress_has_phase(const Progress *progress, Phase phase);

typedef struct NotMoved {
    const char *kind; /* "foreign table", "subscription", ... */
    const char *object;
    const char *reason;
    const char *sql; /* that would make it, by whoever may; NULL = there is none */
} NotMoved;
typedef VEC(NotMoved) NotMovedVec;

typedef struct ReportStep { /* of the promote */
    const char *name;       /* for people */
    int64_t us;
} ReportStep;
typedef VEC(ReportStep) ReportStepVec;

typedef struct Report {
    const char *job_id;
    const char *source; /* display forms, without password */
    const char *dest;
    const char *source_version;
    const char *dest_version;
    const char *pg_dump;              /* path and version of the client used */
    int64_t source_bytes, dest_bytes; /* of the databases at the end; -1 = not known */
    Progress progress;                /* at the end: phases with durations */
    int64_t jobs, index_jobs;
    int64_t snapshots;                  /* 1 = all tables show the same moment of the source */
    int64_t chunks_copied, chunks_kept; /* kept = finished by an earlier run and not repeated */
    int64_t retries;
    int64_t largest_row;
    NotMovedVec not_moved;
    StringVec notes; /* sentences the user should read */
    bool promoted;   /* a continuous migration that came to its end: the rest of this is about it */
    bool proven;
    int64_t outage_us, outage_with_hooks_us; /* without hooks: 0 */
    ReportStepVec promote_steps;
} Report;

json_t *progress_to_json(const Progress *progress); /* new reference */
NODISCARD bool progress_from_json(Arena *arena, const json_t *json, Progress *ret_progress, Error *err);
json_t *report_to_json(const Report *report); /* new reference */
NODISCARD bool report_from_json(Arena *arena, const json_t *json, Report *ret_report, Error *err);
