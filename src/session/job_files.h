/*
 * What a migration keeps in its folder STATE_DIR/JOB for other commands and later runs.
 *
 * job.json      what to do: options without any password, and whether there was one. Written when a run begins.
 * status.json   how it stands: replaced as a whole, so that a reader never sees half of one.
 * control.lock  locked (fcntl, open file description) by the process that runs the migration, which therefore is the
 * only writer of the others. control.sock  where that process listens (control.h).
 *
 * The truth about a migration is in its destination; this is what a terminal beside it can know without asking there.
 */
#pragma once

#include "model/job_state.h"
#include "model/options.h"
#include "model/progress.h"

typedef struct Job {
    const char *id;
    const char *folder;
    const char *source, *dest; /* display forms */
    const char *created_at;
    const char *fingerprint;         /* of the options */
    bool source_struck, dest_struck; /* the connection string had a password, which is not here */
    MigrateOptions options;
} Job;

/* The phase in the words of that API: PREPARING_THE_DUMP, FULL_DUMP, CDC, PROMOTE_IN_PROGRESS. */
const char *job_phase_of(const Progress *progress);

typedef struct JobStatus {
    JobState state;
    const char *phase;
    int64_t pid;
    const char *updated_at;
    int64_t run;  /* of the service: which of its runs wrote the file; 0 = a terminal's */
    bool running; /* a process holds the lock now; not in the file */
    /* No process holds the lock, but whether the one that wrote the file has ended cannot be known here: it was on
     * another machine or in another folder, or lives without the lock. NULL = it can; else which one, for people. */
    const char *elsewhere;
    bool has_progress;
    Progress progress;
    bool has_error;
    Error error;
} JobStatus;

/* Strikes passwords out, and leaves out what belongs to one run alone (--restart, --dry-run, --yes, output). A job.json
 * that is there keeps its created_at. */
NODISCARD bool job_write(const Job *job, Error *err);
NODISCARD bool job_read(Arena *arena, const char *state_dir, const char *id, Job *ret_job, Error *err);
/* All folders of state_dir that hold a job.json, sorted by id. */
NODISCARD bool job_list(Arena *arena, const char *state_dir, StringVec *ret_ids, Error *err);
/* The job whose id is `given` or begins so; NULL: the only one there is, or the only one that is not complete. Fails
 * with NO_JOB, and with USAGE and their list when there are several. */
NODISCARD bool job_find(Arena *arena, const char *state_dir, const char *given, Job *ret_job, Error *err);
/* Takes the job off the list; logs and reports stay. */
NODISCARD bool job_forget(const char *folder, Error *err);

/* said: what stands in the file as it was said on the wire, by key ("progress", "error", "report", ...); borrowed. */
NODISCARD bool job_status_write(const Job *job, const JobStatus *status, const json_t *said, Error *err);
/* *ret_json (may be NULL): the file's content with "running" added. One whose process is gone without a word is
 * STOPPED, with the error WORKER_LOST; where that cannot be known (`elsewhere`), its state stays and "running" is null.
 * A job that never ran is NOT_STARTED. */
NODISCARD bool job_status_read(Arena *arena, const Job *job, JobStatus *ret_status, json_t **ret_json, Error *err);

/* The same for whoever looks again soon: never waits for one that is just ending. */
NODISCARD bool job_status_peek(Arena *arena, const Job *job, JobStatus *ret_status, json_t **ret_json, Error *err);

/* Does a process run the migration of this folder? */
bool job_is_locked(const Job *job);

/* *ret_fd -1: another process has it. Closing the descriptor gives it back. */
NODISCARD bool job_lock(const char *folder, int *ret_fd, Error *err);
