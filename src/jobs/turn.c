/*
 * One row of job_transitions taken.
 *
 * NOTES
 * A wish is settled by the first state that is no way to somewhere else: by its goal, it went well; by any other, it
 * failed, with the error that the job shows. A promote that is taken back ends in RUNNING without a goal reached.
 */
#include "jobs/turn.h"

#include "common/clock.h"
#include "model/status.h"

#include <string.h>

typedef enum Settled { UNDER_WAY, WENT_WELL, FAILED } Settled;

/* Where each verb leads to. */
static const struct {
    const char *verb;
    JobState goal;
} goals[] = {
    {"create", JOB_NOT_STARTED}, {"start", JOB_RUNNING},     {"resume", JOB_RUNNING}, {"restart", JOB_RUNNING},
    {"stop", JOB_STOPPED},       {"promote", JOB_COMPLETED}, {"delete", JOB_DELETED},
};

static const bool is_way[JOB_STATE_MAX_] = {
    [JOB_CREATING] = true, [JOB_STARTING] = true,   [JOB_STOPPING] = true,
    [JOB_RESUMING] = true, [JOB_RESTARTING] = true, [JOB_DELETING] = true,
};

static Settled settle(const char *verb, JobState state, JobPhase phase) {
    for (size_t at = 0; at < COUNT_OF(goals); at++)
        if (strcmp(goals[at].verb, verb) == 0 && goals[at].goal == state)
            return WENT_WELL;
    bool promoting = state == JOB_RUNNING && phase == JOB_PHASE_PROMOTE_IN_PROGRESS;
    return is_way[state] || promoting ? UNDER_WAY : FAILED;
}

static bool is_open(const json_t *operation) {
    return operation != NULL && !json_get_bool(operation, "over", false);
}

/* The wish before gives way. */
static bool supersede(const Turn *turn, Error *err) {
    const json_t *before = job_operation(turn->job);
    Error why;

    if (!is_open(before))
        return true;
    error_set(&why, REASON_CONFLICT, "%s came before it was done", turn->order->verb);
    CLEANUP(json_freep) json_t *status = status_to_json(&why, NULL);
    return operation_fail(turn->tx, turn->arena, json_get_string(before, "name", ""), status, err);
}

static bool begin_operation(const Turn *turn, Error *err) {
    if (!supersede(turn, err) || !operation_create(turn->tx, turn->arena, turn->order, err))
        return false;
    (void)json_object_set_new(turn->job->run, job_run_OPERATION,
                              json_pack("{s:s, s:s}", "name", turn->order->name, "verb", turn->order->verb));
    return true;
}

static bool fail_operation(const Turn *turn, const char *name, Error *err) {
    const json_t *error = json_object_get(turn->job->api, "error");
    Error why;

    if (error != NULL)
        return operation_fail(turn->tx, turn->arena, name, error, err);
    error_set(&why, REASON_CONFLICT, "%s", turn->row->comment);
    CLEANUP(json_freep) json_t *status = status_to_json(&why, NULL);
    return operation_fail(turn->tx, turn->arena, name, status, err);
}

static bool end_operation(const Turn *turn, const char *name, Settled settled, Error *err) {
    if (settled == FAILED)
        return fail_operation(turn, name, err);
    if (turn->row->to == JOB_DELETED)
        return operation_finish(turn->tx, turn->arena, name, NULL, NULL, err);
    CLEANUP(json_freep) json_t *answer = job_render(turn->job, turn->arena);
    return operation_finish(turn->tx, turn->arena, name, "MigrationJob", answer, err);
}

/* Whoever carries actions out sees from the job itself which sessions are due, whether it has the outbox's entry yet or
 * not: the two are one transaction. */
static void note_launch(const Turn *turn) {
    JobAction action = turn->row->action;
    json_t *run = turn->job->run;

    if (action != ACTION_SPAWN_WORKER && action != ACTION_SPAWN_ANEW && action != ACTION_PURGE)
        return;
    int64_t launch = json_get_int(run, job_run_LAUNCH, 0) + 1;
    (void)json_object_set_new(run, job_run_LAUNCH, json_integer(launch));
    if (action == ACTION_SPAWN_ANEW)
        (void)json_object_set_new(run, job_run_ANEW, json_integer(launch));
}

static bool add_action(const Turn *turn, Error *err) {
    if (turn->row->action == ACTION_NOTHING)
        return true;
    const json_t *operation = job_operation(turn->job);
    CLEANUP(json_freep)
    json_t *body = json_pack("{s:s, s:O*}", "operation", json_get_string(operation, "name", ""), "args",
                             json_object_get(turn->job->run, job_run_WISH));
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, STORE_BODY_MAX);
    json_print(body, 0, &text);
    StoreAction action = {
        .owner = turn->job->resource.name, .action = job_action_name(turn->row->action), .body = text.data};
    return buf_ok(&text, "an action", err) && store_outbox_add(turn->tx, &action, err);
}

static void note_times(const Turn *turn) {
    JobState to = turn->row->to;
    json_t *run = turn->job->run;

    if (turn->row->event == EVENT_USER_START || turn->row->event == EVENT_USER_RESTART)
        (void)json_object_set_new(run, job_run_BEGAN_AT_US, json_integer(clock_wall_us()));
    if (to == JOB_COMPLETED || to == JOB_FAILED)
        (void)json_object_set_new(run, job_run_ENDED_AT_US, json_integer(clock_wall_us()));
    else
        (void)json_object_del(run, job_run_ENDED_AT_US);
}

static const char *place(Arena *arena, JobState state, JobPhase phase) {
    return phase == JOB_PHASE_NONE ? job_state_name(state)
                                   : arena_printf(arena, "%s/%s", job_state_name(state), job_phase_name(phase));
}

static bool log_turn(const Turn *turn, Error *err) {
    const JobTransition *row = turn->row;
    CLEANUP(json_freep) json_t *detail = turn->detail != NULL ? json_deep_copy(turn->detail) : json_object();

    (void)json_object_set_new(detail, "from", json_string(place(turn->arena, row->from, row->from_phase)));
    (void)json_object_set_new(detail, "to", json_string(place(turn->arena, row->to, row->to_phase)));
    if (turn->who != NULL)
        (void)json_object_set_new(detail, "by", json_string_lossy(turn->who));
    return job_log(turn->tx, turn->job->resource.name, job_event_name(row->event), row->comment, detail, err);
}

static bool remove_job(const Turn *turn, Error *err) {
    const StoreResource *resource = &turn->job->resource;

    return object_delete_all(turn->tx, resource->name, err) &&
           store_delete(turn->tx, resource->name, resource->version, err);
}

bool turn_take(const Turn *turn, Error *err) {
    const JobTransition *row = turn->row;

    job_set_state(turn->job, row->to, row->to_phase);
    note_times(turn);
    note_launch(turn);
    if (turn->order != NULL) {
        (void)json_object_set_new(turn->job->run, job_run_WISH,
                                  turn->args != NULL ? json_deep_copy(turn->args) : json_object());
        if (!begin_operation(turn, err))
            return false;
    }
    json_t *operation = job_operation(turn->job);
    Settled settled = UNDER_WAY;
    if (is_open(operation)) {
        settled = settle(json_get_string(operation, "verb", ""), row->to, row->to_phase);
        (void)json_object_set_new(operation, "over", json_boolean(settled != UNDER_WAY));
    }
    if (!add_action(turn, err) || !log_turn(turn, err) || !job_save(turn->tx, turn->arena, turn->job, err) ||
        (settled != UNDER_WAY && !end_operation(turn, json_get_string(operation, "name", ""), settled, err)))
        return false;
    return row->to != JOB_DELETED || remove_job(turn, err);
}
