/*
 * What may happen to a migration job, as one table.
 *
 * Contract
 * - Pure: no store, no clock, no log, no memory. Safe in any thread.
 * - An event is a wish (what a user asks) or a fact (what a worker, or time, brought about). What follows from it is
 * the first row of job_transitions that fits; nothing else in the program decides that.
 * - A wish without a row is refused: FAILED_PRECONDITION, with the wishes that are allowed. A fact without a row is of
 * a time that is over (a worker that spoke while it was being replaced): job_transition_find() refuses it as well, and
 *   the caller drops it.
 * - A wish that is asked again while it is being carried out, or has been, is no error: job_wish_is_met(). Clients
 *   repeat a POST after a 5xx without saying so (google-cloud-sdk does, five times).
 * - States and phases are those of Google's Database Migration API v1 (MigrationJob.State, .Phase), by the same names.
 *   MAINTENANCE, DRAFT and UPDATING are never entered: they are known by name only.
 */
#pragma once

#include "common/error.h"

/* X(name) */
#define JOB_STATES(X)                                                                                                  \
    X(MAINTENANCE)                                                                                                     \
    X(DRAFT)                                                                                                           \
    X(CREATING)                                                                                                        \
    X(NOT_STARTED)                                                                                                     \
    X(STARTING)                                                                                                        \
    X(RUNNING)                                                                                                         \
    X(STOPPING)                                                                                                        \
    X(STOPPED)                                                                                                         \
    X(RESUMING)                                                                                                        \
    X(RESTARTING)                                                                                                      \
    X(FAILED)                                                                                                          \
    X(COMPLETED)                                                                                                       \
    X(UPDATING)                                                                                                        \
    X(DELETING)                                                                                                        \
    X(DELETED)

/* X(name): how far a job has come; it stays when the job stops or fails. NONE is left out of answers. */
#define JOB_PHASES(X)                                                                                                  \
    X(NONE)                                                                                                            \
    X(FULL_DUMP)                                                                                                       \
    X(CDC)                                                                                                             \
    X(READY_FOR_PROMOTE)                                                                                               \
    X(PROMOTE_IN_PROGRESS)

/* X(name, verb of the API or NULL for facts, meaning) */
#define JOB_EVENTS(X)                                                                                                  \
    X(USER_START, "start", "asked to begin")                                                                           \
    X(USER_STOP, "stop", "asked to stop, keeping what is done")                                                        \
    X(USER_RESUME, "resume", "asked to go on from what is done")                                                       \
    X(USER_RESTART, "restart", "asked to empty the destination and begin anew")                                        \
    X(USER_PROMOTE, "promote", "asked to make the destination the primary")                                            \
    X(USER_DELETE, "delete", "asked to end it and to remove what it made")                                             \
    X(PREPARED, NULL, "the destination is there")                                                                      \
    X(VERIFY_REFUSED, NULL, "the checks before the start found errors")                                                \
    X(WORKER_READY, NULL, "a worker has taken the job's databases over")                                               \
    X(DUMP_DONE, NULL, "every database's copy is whole")                                                               \
    X(CAUGHT_UP, NULL, "every database's lag is under the threshold")                                                  \
    X(FELL_BEHIND, NULL, "a database's lag is over the threshold")                                                     \
    X(PROMOTE_DONE, NULL, "every database is open on the destination")                                                 \
    X(PROMOTE_UNDONE, NULL, "the promote was taken back, the source is followed as before")                            \
    X(WORKER_STOPPED, NULL, "the worker has ended as it was asked to")                                                 \
    X(WORKER_LOST, NULL, "the worker has ended by itself")                                                             \
    X(DEST_LOST, NULL, "the server that was made went down while it was filled: what was in it is worth nothing")      \
    X(FATAL, NULL, "an error that the worker could not go on from")                                                    \
    X(RETRY_DUE, NULL, "the pause after an error is over")                                                             \
    X(PURGED, NULL, "everything the job made is removed")

/* X(name, meaning). Carried out after the change of state is committed, perhaps more than once: all are idempotent. */
#define JOB_ACTIONS(X)                                                                                                 \
    X(NOTHING, "nothing")                                                                                              \
    X(PREPARE, "make the destination ready")                                                                           \
    X(SPAWN_WORKER, "start a worker, which goes on from what is committed")                                            \
    X(SPAWN_ANEW, "start a worker that empties the destination first")                                                 \
    X(SPAWN_FAILED, "start workers of the databases that have failed, beside the others")                              \
    X(ASK_STOP, "ask the worker to stop")                                                                              \
    X(ASK_PROMOTE, "ask the worker to promote")                                                                        \
    X(TIDY_SOURCE, "see that nothing of the job is left on the source")                                                \
    X(PURGE, "end the worker, remove what the job made, forget its secrets")

typedef enum JobState {
#define X(name) JOB_##name,
    JOB_STATES(X)
#undef X
        JOB_STATE_MAX_,
} JobState;

typedef enum JobPhase {
#define X(name) JOB_PHASE_##name,
    JOB_PHASES(X)
#undef X
        JOB_PHASE_MAX_,
} JobPhase;

typedef enum JobEvent {
#define X(name, verb, meaning) EVENT_##name,
    JOB_EVENTS(X)
#undef X
        EVENT_MAX_,
} JobEvent;

typedef enum JobAction {
#define X(name, meaning) ACTION_##name,
    JOB_ACTIONS(X)
#undef X
        ACTION_MAX_,
} JobAction;

/* All of a job that its next state depends on. */
typedef struct JobView {
    JobState state;
    JobPhase phase;
    bool is_continuous;
    bool is_prepared;    /* PREPARED was there once */
    bool may_retry;      /* fewer attempts than allowed since anything went forward */
    bool is_recoverable; /* the last error may pass without anybody's doing */
    bool has_failed;     /* some of its databases have, and nobody has asked for them again */
} JobView;

typedef bool (*JobGuard)(const JobView *job);

typedef struct JobTransition {
    JobState from;
    JobPhase from_phase;
    JobEvent event;
    JobGuard guard; /* NULL = always */
    JobState to;
    JobPhase to_phase;
    JobAction action;
    const char *comment; /* what the job's log says */
} JobTransition;

/* What a guard asks, for people. */
typedef struct JobGuardInfo {
    JobGuard guard;
    const char *name, *meaning;
} JobGuardInfo;

extern const JobGuardInfo job_guards[];
extern const size_t job_guards_count;

/* The first row that fits is taken: one with a guard stands above the one without. */
extern const JobTransition job_transitions[];
extern const size_t job_transitions_count;

/* NULL: refused, *err says what is allowed instead (JOB_STATE). */
const JobTransition *job_transition_find(const JobView *job, JobEvent event, Error *err);
/* Is what the event wishes under way already, or done? Always false for facts. */
bool job_wish_is_met(const JobView *job, JobEvent event);
/* Would job_transition_find() find a row? */
bool job_event_is_allowed(const JobView *job, JobEvent event);
/* Is a worker at work, or about to be, in this state? */
bool job_state_has_worker(JobState state);

const char *job_state_name(JobState state);
const char *job_phase_name(JobPhase phase);
const char *job_event_name(JobEvent event);
const char *job_event_verb(JobEvent event); /* NULL for facts */
const char *job_event_meaning(JobEvent event);
const char *job_action_name(JobAction action);
const char *job_action_meaning(JobAction action);
const char *job_guard_name(JobGuard guard); /* "" for NULL */
/* The MAX_ when there is none of that name. */
JobState job_state_from_name(const char *name);
JobPhase job_phase_from_name(const char *name);
