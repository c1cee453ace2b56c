/*
 * What users ask of a job, each in one store transaction: the new state, its line in the event log, the action in the
 * outbox and the operation that tells how it went, or none of them.
 *
 * Contract
 * - For bodies of store_write(): nothing is kept between calls, and a body that runs again does the same again.
 * - model/job_state.h decides. A wish that it has no row for fails with JOB_STATE and names what is allowed, unless it
 *   is met or under way: then the answer is the operation that says so, and nothing is changed.
 * - A wish that takes the place of another one (stop while starting) ends that one's operation with ABORTED.
 */
#pragma once

#include "jobs/job.h"
#include "jobs/operation.h"

typedef struct Wish {
    JobEvent event;
    OperationOrder order; /* name and version; target and verb are set here */
    const json_t *args;   /* body of the verb; NULL = none. The action's body has it, too */
    const char *who;
} Wish;

/* *ret_operation: the order's, or the one that is there. */
NODISCARD bool job_wish(StoreTx *tx, Arena *arena, const char *job, const Wish *wish, const char **ret_operation,
                        Error *err);

/* A new job, CREATING with the action PREPARE; or, when nothing is to be prepared, NOT_STARTED, with its operation
 * over. job: api, and in the resource name and parent. NAME_TAKEN. */
NODISCARD bool job_create(StoreTx *tx, Arena *arena, Record *job, bool is_prepared, const Wish *wish, Error *err);
