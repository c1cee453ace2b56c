/*
 * A migration job and its objects (databases) as they are stored.
 *
 * Contract
 * - Only jobs/wish.h and jobs/fact.h change a job's state. Whoever has other news of it (counters, lag) changes `run`
 *   or `api` of the loaded record and calls job_save().
 * - As record.h says for memory and transactions.
 */
#pragma once

#include "jobs/record.h"
#include "model/job_state.h"

enum { JOB_ATTEMPTS_MAX = 5, JOB_EVENTS_KEPT = 5000, JOB_OBJECTS_MAX = STORE_PAGE_MAX };

/* What stands in `run` of a job: X(name, key). */
#define JOB_RUN_KEYS(X)                                                                                                \
    X(PREPARED, "prepared")          /* the destination was made ready once */                                         \
    X(ATTEMPTS, "attempts")          /* workers lost since anything went forward */                                    \
    X(FAILURES, "failures")          /* errors since anything went forward: the pause grows with them */               \
    X(RECOVERABLE, "recoverable")    /* the last error may pass by itself */                                           \
    X(SOME_FAILED, "someFailed")     /* databases that have, beside others: how many; 0 or none = no one waits */      \
    X(RETRY_AT_US, "retryAtUs")      /* wall clock: when RETRY_DUE is due; 0 = never */                                \
    X(BEGAN_AT_US, "beganAtUs")      /* the last start or restart */                                                   \
    X(ENDED_AT_US, "endedAtUs")      /* it is completed or failed since; 0 = it is not */                              \
    X(OPERATION, "operation")        /* under way: {"name", "verb"} */                                                 \
    X(CANCEL, "cancel")              /* name of the operation that is to be taken back */                              \
    X(LAUNCH, "launch")              /* grows with each action that begins sessions: those begun for less are due */   \
    X(ANEW, "anew")                  /* the launch at which the destination was to be emptied last */                  \
    X(WISH, "wish")                  /* body of the verb that was carried out last */                                  \
    X(ERRANDS, "errands")            /* under way: {verb: name of its operation} */                                    \
    X(GUARD, "guard")                /* its destination is guarded: supervise/guard.h */                               \
    X(NEW_PASSWORDS, "newPasswords") /* roles that have one which was not given out */

#define X(name, key) extern const char job_run_##name[];
JOB_RUN_KEYS(X)
#undef X

/* The secret of a job that new passwords of its roles are made of. */
extern const char job_new_passwords_field[];

NODISCARD bool job_load(StoreTx *tx, const char *name, Record *ret_job, Error *err);
NODISCARD bool job_save(StoreTx *tx, Arena *arena, Record *job, Error *err);

JobView job_view(const Record *job);
/* Roles and databases are being made, or that failed: its last session (supervise/instance.c) is not in the store. */
bool job_is_preparing(const Record *job);
/* {"name", "verb", "over"?} of the last verb; borrowed, NULL = none. */
json_t *job_operation(const Record *job);
/* Is it under way, and to be taken back? */
bool job_is_cancelled(const Record *job);
/* Sets the columns. */
void job_set_state(Record *job, JobState state, JobPhase phase);
/* What is answered, with phase, allowedActions and what `run` shows of retries. New reference. */
json_t *job_render(const Record *job, Arena *arena);

/* Databases that it names; NULL = all of the source. Borrowed. */
const json_t *databases_named(const Record *job);
const char *database_at(const json_t *list, size_t at);
/* Is the database part of it? */
bool job_names(const Record *job, const char *database);

/* When RETRY_DUE is to be told, by the wall clock; 0 = not. */
int64_t job_retry_at_us(const Record *job);

/* Appends to the job's event log and keeps that bounded. detail: object, not stolen; NULL = none. */
NODISCARD bool job_log(StoreTx *tx, const char *job, const char *kind, const char *message, const json_t *detail,
                       Error *err);

/* --- Objects ------------------------------------------------------------------------------------------------------ */

#define OBJECT_STATES(X)                                                                                               \
    X(NOT_STARTED) X(RUNNING) X(STOPPING) X(STOPPED) X(RESTARTING) X(FAILED) X(REMOVING) X(NOT_SELECTED) X(COMPLETED)
#define OBJECT_PHASES(X) X(NONE) X(FULL_DUMP) X(CDC) X(READY_FOR_PROMOTE) X(PROMOTE_IN_PROGRESS) X(PROMOTED)

typedef enum ObjectState {
#define X(name) OBJECT_##name,
    OBJECT_STATES(X)
#undef X
} ObjectState;

typedef enum ObjectPhase {
#define X(name) OBJECT_PHASE_##name,
    OBJECT_PHASES(X)
#undef X
} ObjectPhase;

typedef struct ObjectNews {
    const char *database;
    ObjectState state;
    ObjectPhase phase;
    const Error *error;    /* NULL = none */
    const json_t *details; /* more of the error's details, each with its @type; NULL = none */
} ObjectNews;

/* In `run` of an object: it has followed its source since it was begun anew last. */
extern const char object_run_followed[];
/* ... what it has failed with is not mended by a resume (anew.h). */
extern const char object_run_needs_anew[];

/* Sets state, phase and error of a loaded object. */
void object_note(Record *object, const ObjectNews *news);
/* Makes the object of a database, or brings it up to date. *ret_name may be NULL. */
NODISCARD bool object_put(StoreTx *tx, Arena *arena, const char *job, const ObjectNews *news, Error *err);
/* Name of the resource for a database of a job. */
const char *object_name(Arena *arena, const char *job, const char *database);
json_t *object_render(const Record *object, Arena *arena);
/* Of the API's names; false when there is none. */
const char *object_state_name(ObjectState state);
const char *object_phase_name(ObjectPhase phase); /* "" for none */
/* With the job. */
NODISCARD bool object_delete_all(StoreTx *tx, const char *job, Error *err);
