/* What workers, and time, report of a job. */
#include "jobs/fact.h"

#include "common/clock.h"
#include "jobs/turn.h"
#include "model/status.h"

/* The pause before an error is tried again: it doubles from one failure to the next. */
static const int64_t pause_first_us = 5 * USEC_PER_SEC, pause_most_us = 300 * USEC_PER_SEC;

static void set_int(Record *job, const char *key, int64_t value) {
    (void)json_object_set_new(job->run, key, json_integer(value));
}

static int64_t pause_us(int64_t failures) {
    int64_t pause = pause_first_us;

    for (int64_t at = 1; at < failures && pause < pause_most_us; at++)
        pause *= 2;
    return MIN(pause, pause_most_us);
}

/* With this one. */
static int64_t losses_of(const Record *job, JobEvent event) {
    bool is_loss = event == EVENT_WORKER_LOST || event == EVENT_DEST_LOST;

    return json_get_int(job->run, job_run_ATTEMPTS, 0) + is_loss;
}

static void went_forward(Record *job) {
    set_int(job, job_run_ATTEMPTS, 0);
    set_int(job, job_run_FAILURES, 0);
}

static void note_error(Record *job, const Fact *fact, const JobView *before) {
    int64_t failures = json_get_int(job->run, job_run_FAILURES, 0) + 1;
    bool stops = before->state == JOB_STOPPING; /* whoever asked for that does not want it to go on by itself */
    bool again = before->state == JOB_DELETING || (!stops && fact->error != NULL && fact->error->retryable);

    set_int(job, job_run_FAILURES, failures);
    (void)json_object_set_new(job->run, job_run_RECOVERABLE, json_boolean(again));
    set_int(job, job_run_RETRY_AT_US, again && fact->event == EVENT_FATAL ? clock_wall_us() + pause_us(failures) : 0);
}

static void no_retry(Record *job) {
    (void)json_object_del(job->run, job_run_RETRY_AT_US);
}

static void set_error(Record *job, const Fact *fact) {
    json_t *status = status_to_json(fact->error, NULL);

    if (fact->details != NULL)
        (void)json_array_extend(json_object_get(status, "details"), (json_t *)(uintptr_t)fact->details);
    (void)json_object_set_new(job->api, "error", status);
}

/* What is known of the job before its next state is looked for: guards ask it. */
static void note(Record *job, const Fact *fact, const JobView *before) {
    if (fact->error != NULL)
        set_error(job, fact);
    if (fact->event == EVENT_PREPARED)
        (void)json_object_set_new(job->run, job_run_PREPARED, json_true());
    else if (fact->event == EVENT_WORKER_LOST || fact->event == EVENT_DEST_LOST)
        set_int(job, job_run_ATTEMPTS, losses_of(job, fact->event));
    else if (fact->event == EVENT_FATAL || fact->event == EVENT_VERIFY_REFUSED)
        note_error(job, fact, before);
    else if (fact->event == EVENT_DUMP_DONE || fact->event == EVENT_CAUGHT_UP || fact->event == EVENT_PROMOTE_DONE)
        went_forward(job);
    else if (fact->event == EVENT_WORKER_READY)
        (void)json_object_del(job->api, "error");
    if (fact->event == EVENT_WORKER_READY || fact->event == EVENT_RETRY_DUE)
        no_retry(job);
}

/* A job that failed always says why. */
static void explain(Record *job, const JobTransition *row) {
    Error why;

    if (row->to != JOB_FAILED || json_object_get(job->api, "error") != NULL)
        return;
    error_set(&why, REASON_WORKER_LOST, "%s", row->comment);
    error_remedy(&why, "resume it when the cause is gone: the log of the worker says more");
    (void)json_object_set_new(job->api, "error", status_to_json(&why, NULL));
}

bool job_fact(StoreTx *tx, Arena *arena, const char *name, const Fact *fact, bool *ret_taken, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    Error dropped;

    if (!job_load(tx, name, &job, err))
        return false;
    const JobView before = job_view(&job);
    note(&job, fact, &before);
    const JobView view = job_view(&job);
    const JobTransition *row = job_transition_find(&view, fact->event, &dropped);
    *ret_taken = row != NULL;
    if (row == NULL)
        return true;
    explain(&job, row);
    const Turn turn = {.tx = tx, .arena = arena, .job = &job, .row = row, .detail = fact->detail};
    return turn_take(&turn, err);
}

/* As note() leaves it: whatever else that changes, no row of the same event asks for it. */
const JobTransition *job_fact_row(const Record *job, JobEvent event) {
    JobView view = job_view(job);
    Error none;

    view.may_retry = losses_of(job, event) < JOB_ATTEMPTS_MAX;
    return job_transition_find(&view, event, &none);
}
