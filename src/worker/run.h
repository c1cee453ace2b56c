/*
 * One run of a migration inside the worker: what its steps share.
 *
 * Owned by the main thread; the reporter thread touches only wire, tracker, stop and `confirm`. Lives until the process
 * ends.
 */
#pragma once

#include "engine/load/serial.h"
#include "engine/preflight/preflight.h"
#include "engine/schema/filter.h"
#include "engine/snapshot/snapshot.h"
#include "pg/client_bins.h"
#include "wire/wire.h"

#include <pthread.h>

typedef struct Confirm {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool pending, yes;
} Confirm;

typedef struct Run {
    Arena *arena;
    Wire *wire;
    Stop stop;
    Tracker *tracker;
    Confirm confirm;
    MigrateOptions options;
    /* connect */
    DbTarget source_target, dest_target, lane_source_target, lane_dest_target;
    DbConn *source, *dest; /* control connections */
    LedgerIdentity identity;
    const char *state_dir; /* of this job */
    const char *source_display, *dest_display;
    int log_fd;
    ClientBin pg_dump;
    bool ledger_exists;
    bool finished; /* nothing is left to do: a dry run */
    /* ledger, snapshot */
    Ledger ledger;
    bool has_ledger; /* taken by this run */
    LedgerSnapshot snapshot;
    int64_t snapshots_used;
    /* schema */
    Toc toc;
    bool *chosen;
    bool *entry_done;
    uint32_t *table_oids; /* of chosen TABLE entries, sorted */
    size_t table_oids_count;
    /* load */
    Pool *pool;
    int64_t lanes;
    Plan plan;
    LoadParams load;
    LoadResult result;
    int64_t chunks_kept;
    NotMovedVec not_moved;
    StringVec notes;
} Run;

/* A line for people, at once. */
void run_event(Run *run, const char *level, const char *format, ...) PRINTF(3, 4);
/* Asks through the control plane and waits. CANCELLED when stopped meanwhile. */
NODISCARD bool run_confirm(Run *run, const char *title, const StringVec *lines, bool *ret_yes, Error *err);

/* Steps, in order (worker.c has the table). Each may be run again. */
NODISCARD bool step_connect(Run *run, Error *err);
NODISCARD bool step_preflight(Run *run, Error *err);
NODISCARD bool step_dry_run(Run *run, Error *err);
NODISCARD bool step_start_over(Run *run, Error *err);
NODISCARD bool step_ledger(Run *run, Error *err);
NODISCARD bool step_snapshot(Run *run, Error *err);
NODISCARD bool step_schema(Run *run, Error *err);
NODISCARD bool step_pre_data(Run *run, Error *err);
NODISCARD bool step_load(Run *run, Error *err);
NODISCARD bool step_foreign_keys(Run *run, Error *err);
NODISCARD bool step_post_data(Run *run, Error *err);
NODISCARD bool step_sequences(Run *run, Error *err);
NODISCARD bool step_refresh(Run *run, Error *err);
NODISCARD bool step_analyze(Run *run, Error *err);
NODISCARD bool step_finish(Run *run, Error *err);

/* Reads from the ledger which entries of the archive are done; nothing before the archive was read. */
NODISCARD bool run_note_done(Run *run, Error *err);
/* What --restart would drop, a line each; none when there is no unfinished run. */
NODISCARD bool run_describe_start_over(Run *run, Arena *arena, StringVec *ret_lines, Error *err);
/* Opens what is broken of the two control connections, and takes its place in both servers again. */
NODISCARD bool run_reconnect(Run *run, Error *err);
/* REPORT to the control plane, and report.json in the state folder. */
NODISCARD bool run_report(Run *run, Error *err);
