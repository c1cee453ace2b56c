/* `pgcrane jobs wait`. */
#include "cli/service/jobs.h"

#include "cli/service/show.h"
#include "cli/verbs.h"
#include "common/clock.h"

#include <ctype.h>
#include <string.h>

static const int64_t look_us = USEC_PER_SEC;

/* --- what is wanted --- */

static bool no_such(const char *word, Error *err) {
    error_set(err, REASON_USAGE, "--for: there is no state and no phase \"%.40s\"", word);
    return error_remedy(err, "states: NOT_STARTED, STARTING, RUNNING, STOPPED, FAILED, COMPLETED, DELETED and others; "
                             "phases: FULL_DUMP, CDC, READY_FOR_PROMOTE, PROMOTE_IN_PROGRESS; several with commas "
                             "between");
}

static bool take_want(JobWants *wants, const char *word, Error *err) {
    JobState state = job_state_from_name(word);
    JobPhase phase = job_phase_from_name(word);

    if (state != JOB_STATE_MAX_) {
        wants->state[state] = true;
    } else if (phase != JOB_PHASE_MAX_ && phase != JOB_PHASE_NONE) {
        wants->phase[phase] = true;
        wants->any_phase = true;
    } else {
        return no_such(word, err);
    }
    return true;
}

bool job_wants_read(const char *text, JobWants *ret_wants, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    JobWants wants = {0};

    do {
        size_t len = strcspn(text, ",");
        char *word = arena_strndup(arena, text, len);
        for (char *at = word; *at != '\0'; at++)
            *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
        if (!take_want(&wants, word, err))
            return false;
        text += len + (text[len] == ',');
    } while (*text != '\0');
    *ret_wants = wants;
    return true;
}

/* --- how it stands --- */

/* What goes on by itself. FAILED does when a time for the next attempt is set. */
static bool is_moving(JobState state, const json_t *job) {
    switch (state) {
    case JOB_MAINTENANCE:
    case JOB_CREATING:
    case JOB_STARTING:
    case JOB_RUNNING:
    case JOB_STOPPING:
    case JOB_RESUMING:
    case JOB_RESTARTING:
    case JOB_UPDATING:
    case JOB_DELETING:
        return true;
    case JOB_FAILED:
        return json_object_get(job, "nextRetryTime") != NULL;
    case JOB_DRAFT:
    case JOB_NOT_STARTED:
    case JOB_STOPPED:
    case JOB_COMPLETED:
    case JOB_DELETED:
    case JOB_STATE_MAX_: /* of a service that is newer than this program */
        return state == JOB_STATE_MAX_;
    }
    UNREACHABLE(); /* uncovered: every state returns above */
}

/* Only a job at work is in a phase: one that failed in CDC does not follow. A finished one has them all behind it. */
static bool has_phase(const JobWants *wants, JobState state, JobPhase phase) {
    if (!wants->any_phase || (state != JOB_RUNNING && state != JOB_COMPLETED))
        return false;
    for (JobPhase wanted = 0; wanted < JOB_PHASE_MAX_; wanted++)
        if (wants->phase[wanted] && (state == JOB_COMPLETED || phase >= wanted))
            return true;
    return false;
}

JobOutlook job_outlook(const JobWants *wants, const json_t *job) {
    JobState state = job != NULL ? job_state_from_name(json_get_string(job, "state", "")) : JOB_DELETED;
    JobPhase phase = job_phase_from_name(json_get_string(job, "phase", "NONE"));

    if (state != JOB_STATE_MAX_ && wants->state[state])
        return JOB_REACHED;
    if (phase != JOB_PHASE_MAX_ && has_phase(wants, state, phase))
        return JOB_REACHED;
    return is_moving(state, job) ? JOB_COMING : JOB_STUCK;
}

/* --- waiting --- */

/* NULL: it is gone. */
static bool look(Service *service, const char *name, bool was_there, json_t **job, Error *err) {
    json_freep(job);
    if (service_get(service, name, NULL, job, err))
        return true;
    return was_there && err->reason == REASON_NO_RESOURCE;
}

static bool stuck(const Service *service, const char *id, const json_t *job, Error *err) {
    const char *state = json_get_string(job, "state", NULL), *phase = json_get_string(job, "phase", "");
    const char *why = show_status(service, json_object_get(job, "error"));

    if (state == NULL)
        return error_set(err, REASON_NO_RESOURCE, "job %s is deleted: it will not be %s", id,
                         service->options->wait_for);
    error_set(err, REASON_JOB_STATE, "job %s is %s%s%s: it will not be %s unless somebody does something%s%s", id,
              state, phase[0] != '\0' ? ", " : "", phase, service->options->wait_for, why != NULL ? "\n    " : "",
              why != NULL ? why : "");
    return error_remedy(err, "pgcrane jobs describe %s shows what it takes now", service_typed(service, id));
}

static bool out_of_time(const Service *service, const char *id, const json_t *job, Error *err) {
    const char *phase = json_get_string(job, "phase", "");

    error_set(err, REASON_TIMED_OUT, "job %s is %s%s%s after %lld s, and not %s", id,
              json_get_string(job, "state", "?"), phase[0] != '\0' ? ", " : "", phase,
              (long long)service->options->timeout, service->options->wait_for);
    return error_remedy(err, "pgcrane jobs wait %s with a longer --timeout", service_typed(service, id));
}

static void tell(const Service *service, const char *id, const json_t *job) {
    const char *phase = json_get_string(job, "phase", "");

    if (service->format != OUTPUT_TABLE)
        show_data(service->format, job != NULL ? job : json_object(), service->out);
    else
        buf_printf(service->out, "Job %s is %s%s%s.\n", id, json_get_string(job, "state", "DELETED"),
                   phase[0] != '\0' ? ", " : "", phase);
}

static bool wait_for(Service *service, const JobWants *wants, const char *name, json_t **job, Error *err) {
    int64_t limit_us = service->options->timeout * USEC_PER_SEC, until_us = clock_now_us() + limit_us;
    const char *id = service_id(service, name);
    JobOutlook outlook = JOB_COMING;
    bool was_there = false;

    while (outlook == JOB_COMING) {
        if (!look(service, name, was_there, job, err))
            return false;
        was_there = true;
        outlook = job_outlook(wants, *job);
        if (outlook == JOB_STUCK)
            return stuck(service, id, *job, err);
        if (outlook == JOB_COMING && limit_us > 0 && clock_now_us() >= until_us)
            return out_of_time(service, id, *job, err);
        if (outlook == JOB_COMING && !client_pause(service->client, look_us, err))
            return error_remedy(err, "the job goes on; to wait again: pgcrane jobs wait %s --for %s",
                                service_typed(service, name), service->options->wait_for);
    }
    return true;
}

bool jobs_wait(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *job = NULL;
    const char *name = NULL;
    JobWants wants;

    if (!job_wants_read(service->options->wait_for, &wants, err) || !jobs_name(service, &name, err) ||
        !wait_for(service, &wants, name, &job, err))
        return false;
    tell(service, service_id(service, name), job);
    return true;
}
