/* One row of job_transitions taken, with all that follows from it. For wish.c and fact.c. */
#pragma once

#include "jobs/job.h"
#include "jobs/operation.h"

typedef struct Turn {
    StoreTx *tx;
    Arena *arena;
    Record *job; /* run and api are as they shall be; the state is set here */
    const JobTransition *row;
    const OperationOrder *order; /* of a wish: its operation; NULL = a fact */
    const json_t *args;
    const char *who;
    const json_t *detail;
} Turn;

NODISCARD bool turn_take(const Turn *turn, Error *err);
