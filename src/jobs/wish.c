/* What users ask of a job. */
#include "jobs/wish.h"

#include "common/clock.h"
#include "jobs/anew.h"
#include "jobs/errand.h"
#include "jobs/promotable.h"
#include "jobs/turn.h"

/* What an attempt before has left behind is over: a person has decided anew. */
static void forget_trouble(Record *job) {
    static const char *const left[] = {job_run_ATTEMPTS, job_run_FAILURES, job_run_RECOVERABLE, job_run_RETRY_AT_US,
                                       job_run_SOME_FAILED};

    for (size_t at = 0; at < COUNT_OF(left); at++)
        (void)json_object_del(job->run, left[at]);
}

static OperationOrder order_of(const Record *job, const Wish *wish, const char *verb) {
    OperationOrder order = wish->order;

    order.target = job->resource.name;
    order.verb = verb;
    return order;
}

static bool take(StoreTx *tx, Arena *arena, Record *job, const JobTransition *row, const Wish *wish, Error *err) {
    const OperationOrder order = order_of(job, wish, job_event_verb(wish->event));
    const Turn turn = {
        .tx = tx, .arena = arena, .job = job, .row = row, .order = &order, .args = wish->args, .who = wish->who};

    forget_trouble(job);
    if (row->to != JOB_DELETING && row->to != JOB_STOPPING) /* those show what was wrong until the end */
        (void)json_object_del(job->api, "error");
    return turn_take(&turn, err);
}

/* An operation that was over before it began: nothing was left to do. */
static bool answer_at_once(StoreTx *tx, Arena *arena, const Record *job, const Wish *wish, const char **ret_operation,
                           Error *err) {
    const OperationOrder order = order_of(job, wish, job_event_verb(wish->event));
    CLEANUP(json_freep) json_t *answer = job_render(job, arena);

    *ret_operation = order.name;
    return operation_create(tx, arena, &order, err) &&
           operation_finish(tx, arena, order.name, "MigrationJob", answer, err);
}

/* What a session begins beside one that guards the destination, or hands it back, would be guarded by half. */
static bool refuse_beside_guard(const Record *job, JobEvent event, Error *err) {
    static const Errand guards[] = {ERRAND_DEMOTE, ERRAND_RELEASE};
    const json_t *under_way = json_object_get(job->run, job_run_ERRANDS);
    bool begins = event == EVENT_USER_START || event == EVENT_USER_RESUME || event == EVENT_USER_RESTART;

    for (size_t at = 0; begins && at < COUNT_OF(guards); at++)
        if (json_object_get(under_way, errand_name(guards[at])) != NULL)
            return error_set(err, REASON_OPERATION_RUNNING, "%s of %s is under way", errand_verb(guards[at]),
                             job->resource.name);
    return true;
}

/* One that is stopped or has failed begins its sessions first: what becomes of those is seen before the promote. */
static bool check_promote(StoreTx *tx, Arena *arena, const Record *job, JobEvent event, Error *err) {
    return event != EVENT_USER_PROMOTE || job_view(job).state != JOB_RUNNING || promotable_check(tx, arena, job, err);
}

/* A delete that is under way, asked for once more, with force. */
static bool is_force_new(const Record *job, const Wish *wish) {
    return wish->event == EVENT_USER_DELETE && json_get_bool(wish->args, "force", false) &&
           !json_get_bool(json_object_get(job->run, job_run_WISH), "force", false);
}

/* Tried again now, whatever pause there is. */
static bool add_force(StoreTx *tx, Arena *arena, Record *job, Error *err) {
    (void)json_object_set_new(job->run, job_run_WISH, json_pack("{s:b}", "force", 1));
    (void)json_object_set_new(job->run, job_run_RETRY_AT_US, json_integer(clock_wall_us()));
    return job_log(tx, job->resource.name, "DELETE", "asked for again, with force", NULL, err) &&
           job_save(tx, arena, job, err);
}

static bool answer_met(StoreTx *tx, Arena *arena, Record *job, const Wish *wish, const char **ret_operation,
                       Error *err) {
    const json_t *last = job_operation(job);
    const char *name = json_get_string(last, "name", "");
    bool running = false;

    if (!operation_is_running(tx, name, &running, err))
        return false;
    if (!running)
        return answer_at_once(tx, arena, job, wish, ret_operation, err);
    *ret_operation = arena_strdup(arena, name);
    return !is_force_new(job, wish) || add_force(tx, arena, job, err);
}

static bool explain_refusal(const JobView *view, JobEvent event, const char *name, Error *err) {
    if (event == EVENT_USER_RESTART && view->has_failed && view->state == JOB_RUNNING)
        return error_remedy(err,
                            "the databases that have failed are begun anew without the others: pgcrane jobs restart"
                            " %s --database NAME, or --failed for all of them",
                            anew_job_id(name));
    return error_remedy(err, "GET %s: allowedActions says what is allowed", name);
}

bool job_wish(StoreTx *tx, Arena *arena, const char *name, const Wish *wish, const char **ret_operation, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, name, &job, err))
        return false;
    const JobView view = job_view(&job);
    if (!job_event_is_allowed(&view, wish->event) && job_wish_is_met(&view, wish->event))
        return answer_met(tx, arena, &job, wish, ret_operation, err);
    const JobTransition *row = job_transition_find(&view, wish->event, err);
    if (row == NULL)
        return explain_refusal(&view, wish->event, name, err);
    *ret_operation = wish->order.name;
    return refuse_beside_guard(&job, wish->event, err) && check_promote(tx, arena, &job, wish->event, err) &&
           take(tx, arena, &job, row, wish, err);
}

/* ---- Creation: no row of the table leads to a job's first state ---- */

static bool begin(StoreTx *tx, Arena *arena, Record *job, const OperationOrder *order, const Wish *wish, Error *err) {
    CLEANUP(json_freep) json_t *detail = json_pack("{s:s, s:s}", "to", job->resource.state, "by", wish->who);

    (void)json_object_set_new(job->run, job_run_OPERATION,
                              json_pack("{s:s, s:s}", "name", order->name, "verb", order->verb));
    return record_create(tx, arena, job, err) && operation_create(tx, arena, order, err) &&
           job_log(tx, job->resource.name, "CREATE", "created", detail, err);
}

static bool ask_prepare(StoreTx *tx, Arena *arena, const Record *job, const OperationOrder *order, Error *err) {
    StoreAction action = {.owner = job->resource.name,
                          .action = job_action_name(ACTION_PREPARE),
                          .body = arena_printf(arena, "{\"operation\":\"%s\"}", order->name)};

    return store_outbox_add(tx, &action, err);
}

bool job_create(StoreTx *tx, Arena *arena, Record *job, bool is_prepared, const Wish *wish, Error *err) {
    const OperationOrder order = order_of(job, wish, "create");

    job->resource.kind = STORE_MIGRATION_JOB;
    job_set_state(job, JOB_CREATING, JOB_PHASE_NONE);
    (void)json_object_clear(job->run);
    if (!begin(tx, arena, job, &order, wish, err))
        return false;
    if (!is_prepared)
        return ask_prepare(tx, arena, job, &order, err);
    const JobView view = job_view(job);
    const JobTransition *row = job_transition_find(&view, EVENT_PREPARED, err);
    const Turn turn = {.tx = tx, .arena = arena, .job = job, .row = row};
    (void)json_object_set_new(job->run, job_run_PREPARED, json_true());
    return row != NULL && turn_take(&turn, err);
}
