/*
 * What workers, and time, report of a job: the seam between this folder and whoever supervises workers (the
 * controller).
 *
 * How a controller works
 * - It takes actions with store_outbox_take(). `owner` is the job's (or another resource's) full name, `action` one of
 *   JOB_ACTIONS or of ERRANDS (jobs/errand.h) by name, or OPERATION_CANCEL; `body` is {"operation": name, "args":
 *   object of the verb}. The next action of an owner is given out when this one is done. What an action of JOB_ACTIONS
 *   asks for stands in the job as well (its state, and job_run_LAUNCH), so it is done at once; an errand stands nowhere
 *   else, and is put off (store_outbox_postpone()) until it is over.
 * - An action may come again after a crash, and may have been overtaken: the job's state now (job_load()) says whether
 *   it is still wanted. All actions are idempotent.
 * - It tells what comes of it by job_fact(), in a store_write() whose body first asks store_lease_check() of the job's
 *   lease, so that a node that has lost it changes nothing.
 * - At job_retry_at_us() it tells RETRY_DUE.
 * - Operations are ended here: by the fact that settles the wish, never by the controller. Those of errands are ended
 *   by errand_end().
 */
#pragma once

#include "jobs/job.h"

typedef struct Fact {
    JobEvent event;
    const Error *error;   /* of FATAL, VERIFY_REFUSED, WORKER_LOST, DEST_LOST, PROMOTE_UNDONE; NULL = none known */
    const json_t *detail; /* for the event log; NULL = none */
    /* More details of the error, each with its @type; NULL = none. */
    const json_t *details;
} Fact;

/* *ret_taken false: the fact has no row, being of a time that is over; nothing was changed. PURGED removes the job with
 * all that belongs to it. NO_RESOURCE. */
NODISCARD bool job_fact(StoreTx *tx, Arena *arena, const char *job, const Fact *fact, bool *ret_taken, Error *err);

/* Where the fact would lead: the row that job_fact() takes. Borrowed from job_transitions; NULL = it has none. */
const JobTransition *job_fact_row(const Record *job, JobEvent event);
