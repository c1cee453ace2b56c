/*
 * Servers that the service makes ("instances"), as they are stored: STORE_INSTANCE,
 * projects/P/locations/L/instances/ID.
 *
 * An instance comes with a connection profile of kind cloudsql or alloydb, and outlives it: what was promoted is the
 * application's, whatever becomes of the profile and the job. What it shall be stands in `run` as the spec of
 * provision/provider.h (without its password, which is a secret of the resource); whoever changes that raises `wanted`.
 * The supervisor of the node that is its home has it brought about, and writes what came of it.
 *
 * Contract
 * - As record.h says for memory and transactions.
 * - An instance belongs to one node for ever (`home`): it is a process of that machine.
 */
#pragma once

#include "jobs/record.h"

/* X(name, meaning) */
#define INSTANCE_STATES(X)                                                                                             \
    X(CREATING, "it is being made")                                                                                    \
    X(RUNNABLE, "it takes connections, and is as it shall be")                                                         \
    X(MAINTENANCE, "it is being changed")                                                                              \
    X(STOPPED, "it does not run, and is about to be started")                                                          \
    X(DAMAGED, "it went down in load mode: it is made anew, and the load begins anew")                                 \
    X(FAILED, "it could not be made, or not be changed")                                                               \
    X(DELETING, "it is being removed")

typedef enum InstanceState {
#define X(name, meaning) INSTANCE_##name,
    INSTANCE_STATES(X)
#undef X
        INSTANCE_STATE_MAX_,
} InstanceState;

const char *instance_state_name(InstanceState state);
bool instance_is(const Record *instance, InstanceState state);

/* What stands in `run` of an instance: X(NAME, key) */
#define INSTANCE_RUN_KEYS(X)                                                                                           \
    X(SPEC, "spec")         /* what it shall be */                                                                     \
    X(HOME, "home")         /* the node it is on; absent = whichever takes it */                                       \
    X(WANTED, "wanted")     /* grows whenever `spec` or `remove` changes */                                            \
    X(DONE, "done")         /* the number that was brought about last; 0 = none yet */                                 \
    X(LIKE, "like")         /* the profile of a source whose encoding and locale it is to have: before it is made */   \
    X(REMOVE, "remove")     /* it shall be gone */                                                                     \
    X(RUN, "run")           /* number of the last process that was to bring something about */                         \
    X(ORDER, "order")       /* what that process was asked for: {"operation", "wanted"} */                             \
    X(TAKEN, "taken")       /* the process whose result is in here */                                                  \
    X(STATUS, "status")     /* what the provider said of it last */                                                    \
    X(USED, "used")         /* a job began to fill it: it is not to be thrown away for speed */                        \
    X(PROMOTED, "promoted") /* a promote of a database in it was asked for: it may be the application's since */       \
    X(TOLD, "told")         /* the job and launch that were told of its failure */                                     \
    X(LOADER, "loader")     /* the job that fills it in load mode; absent = it is not in that */                       \
    X(FAILURES, "failures") /* in a row */                                                                             \
    X(RETRY_AT_US, "retryAtUs") /* by the wall clock; 0 = nothing is tried again */                                    \
    X(TEND_AT_US, "tendAtUs")   /* by the wall clock: when it is looked after next */

#define X(name, key) extern const char instance_run_##name[];
INSTANCE_RUN_KEYS(X)
#undef X

/* The secret of its administrator's password. */
#define INSTANCE_PASSWORD "password"

/* The name of the instance that a profile stands for or refers to; NULL = none. Borrowed or in the arena. */
const char *profile_instance(Arena *arena, const Record *profile);
/* Was the instance made for it, and goes with it? One that only refers to an instance has a field postgresql. */
bool profile_makes_instance(const Record *profile);

NODISCARD bool instance_load(StoreTx *tx, const char *name, Record *ret_instance, Error *err);
/* Is everything as it was asked for last? */
bool instance_is_settled(const Record *instance);
/* The mode that it shall have, and the one that is in force ("" = none yet), by the names of PROVISION_MODES. */
const char *instance_wanted_mode(const Record *instance);
const char *instance_mode(const Record *instance);
/* These change the loaded record only. No change: nothing. */
void instance_want_mode(Record *instance, const char *mode);
/* One that failed is tried once more. */
void instance_want_again(Record *instance);
/* Of a damaged one: empty, as it was when it was made. */
void instance_want_anew(Record *instance);
void instance_want_removal(Record *instance);
/* What is answered. New reference. */
json_t *instance_render(const Record *instance, Arena *arena);
