/*
 * What has to be done for a resource and does not change a job's state: checks, connection tests, lists of databases.
 *
 * Contract
 * - As for wishes: one transaction with the operation and the outbox entry. The entry's action is the errand's name,
 *   its body {"operation": name, "args": object}.
 * - The same errand with the same arguments, asked again while it is under way, is answered by the operation under way.
 * - Whoever carries it out ends it with errand_end().
 */
#pragma once

#include "jobs/job.h"
#include "jobs/operation.h"

/* X(name, verb of the operation, meaning) */
#define ERRANDS(X)                                                                                                     \
    X(VERIFY, "verify", "run every check of the job; error details are MigrationJobVerificationError")                 \
    X(FETCH_OBJECTS, "fetchSourceObjects", "list the source's databases as objects of the job")                        \
    X(DEMOTE, "demoteDestination", "see that the destination is empty, and keep others from writing to it")            \
    X(RELEASE, "demoteDestination", "hand the destination back as it was before it was guarded")                       \
    X(RECONFIGURE, "update", "tell the worker what has changed of the job")                                            \
    X(PROMOTE_OBJECTS, "promote", "promote the databases in args.objectsFilter only")                                  \
    X(RESTART_OBJECTS, "restart", "begin anew with the databases in args.objectsFilter, or with those that failed")    \
    X(TEST_CONNECTION, "update", "connect to the profile in args, which is not stored")                                \
    X(PROVISION, "create", "make the server that the profile describes")                                               \
    X(DEPROVISION, "delete", "remove the server that was made, if that is asked for, then the profile")                \
    X(READ_LOG, "readLog", "the last lines of the log of a server that was made")

typedef enum Errand {
#define X(name, verb, meaning) ERRAND_##name,
    ERRANDS(X)
#undef X
        ERRAND_MAX_,
} Errand;

const char *errand_name(Errand errand);
const char *errand_verb(Errand errand);

/* Of a job, in a state that the errand is for; else JOB_STATE, which names those states. */
NODISCARD bool errand_is_allowed(Errand errand, const JobView *view, Error *err);

/* record is saved with it. order: name and version; target and verb are set here. args may be NULL. */
NODISCARD bool errand_ask(StoreTx *tx, Arena *arena, Record *record, Errand errand, const OperationOrder *order,
                          const json_t *args, const char **ret_operation, Error *err);

/* As errand_ask(), for a resource as it is not stored: nothing is remembered, each is carried out. A verb
 * in the order counts. */
NODISCARD bool errand_ask_apart(StoreTx *tx, Arena *arena, const char *owner, Errand errand,
                                const OperationOrder *order, const json_t *args, Error *err);

/* The resource may be gone meanwhile. error NULL: it went well, `type` and `response` as for operation_finish(). */
NODISCARD bool errand_end(StoreTx *tx, Arena *arena, StoreKind kind, const char *name, Errand errand,
                          const char *operation, const json_t *error, const char *type, const json_t *response,
                          Error *err);
