/* What the files of the command `jobs` share. */
#pragma once

#include "cli/service/service.h"
#include "model/job_state.h"

/* The full name of the job that the command is about. */
NODISCARD bool jobs_name(const Service *service, const char **ret_name, Error *err);

/* Each verb's own function. */
bool jobs_wait(Service *service, Error *err);
bool jobs_verify(Service *service, Error *err);
bool jobs_logs(Service *service, Error *err);
bool jobs_report(Service *service, Error *err);
bool jobs_passwords(Service *service, Error *err);

/* --- waiting: pure --- */

enum { JOB_WANTS_MAX = 16 };

/* What --for names: states, and phases that are to be reached. */
typedef struct JobWants {
    bool state[JOB_STATE_MAX_];
    bool phase[JOB_PHASE_MAX_];
    bool any_phase;
} JobWants;

typedef enum JobOutlook {
    JOB_REACHED,
    JOB_COMING, /* somebody works on it, or will by himself */
    JOB_STUCK,  /* it stays as it is until a person does something */
} JobOutlook;

/* "READY_FOR_PROMOTE,completed". USAGE, with the names there are. */
NODISCARD bool job_wants_read(const char *text, JobWants *ret_wants, Error *err);
/* Of a job as the API shows it; NULL = it is gone, which is DELETED. A phase counts when a later one is there. */
JobOutlook job_outlook(const JobWants *wants, const json_t *job);
