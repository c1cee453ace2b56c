/* Wishes, facts, errands and operations over a store in a file: what one transaction leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "jobs/errand.h"
#include "jobs/fact.h"
#include "jobs/wish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCATION "projects/p/locations/l"
#define JOB LOCATION "/migrationJobs/j"

typedef struct Fixture {
    char folder[64], path[96];
    Store *store;
    Arena *arena;
    json_t *seen; /* of the last look: to be given back */
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-jobs-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    const StoreConfig config = {.backend = STORE_SQLITE, .where = f->path};
    if (!store_open(&config, &f->store, &err))
        fail_msg("%s", err.message);
    f->arena = arena_new();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    json_freep(&f->seen);
    store_close(f->store);
    arena_free(f->arena);
    assert_true(fd_remove_tree(f->folder, &err));
    free(f);
    return 0;
}

/* ---- One transaction each ---- */

typedef struct Call {
    Fixture *f;
    const Wish *wish;
    const Fact *fact;
    const JobTransition *row; /* that it was said to take */
    Errand errand;
    const json_t *args;
    bool is_prepared, taken;
    const char *operation; /* in: one to end; out: the answer */
    const json_t *error;
} Call;

static void write_or_fail(Call *call, StoreBody body) {
    Error err;

    if (!store_write(call->f->store, call->f->arena, body, call, &err))
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
}

static bool create_body(StoreTx *tx, void *context, Error *err) {
    Call *call = context;
    CLEANUP(record_fini)
    Record job = {.resource = {.name = JOB, .parent = LOCATION},
                  .api = json_pack("{s:s}", "type", "CONTINUOUS"),
                  .run = json_object()};
    return job_create(tx, call->f->arena, &job, call->is_prepared, call->wish, err);
}

static const char *create(Fixture *f, bool is_prepared) {
    const Wish wish = {.order = {.name = operation_new_name(f->arena, LOCATION), .version = "v1"}, .who = "me"};
    Call call = {.f = f, .wish = &wish, .is_prepared = is_prepared};

    write_or_fail(&call, create_body);
    return wish.order.name;
}

static bool wish_body(StoreTx *tx, void *context, Error *err) {
    Call *call = context;

    return job_wish(tx, call->f->arena, JOB, call->wish, &call->operation, err);
}

/* The operation that answers; NULL with *err when it is refused. */
static const char *try_wish(Fixture *f, JobEvent event, Error *err) {
    const Wish wish = {
        .event = event, .order = {.name = operation_new_name(f->arena, LOCATION), .version = "v1"}, .who = "me"};
    Call call = {.f = f, .wish = &wish};

    return store_write(f->store, f->arena, wish_body, &call, err) ? call.operation : NULL;
}

static const char *do_wish(Fixture *f, JobEvent event) {
    Error err;
    const char *operation = try_wish(f, event, &err);

    if (operation == NULL)
        fail_msg("%s: %s", job_event_name(event), err.message);
    return operation;
}

static bool fact_body(StoreTx *tx, void *context, Error *err) {
    Call *call = context;
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, JOB, &job, err))
        return false;
    call->row = job_fact_row(&job, call->fact->event);
    return job_fact(tx, call->f->arena, JOB, call->fact, &call->taken, err);
}

static void assert_state(Fixture *f, const char *state);

static bool tell_error(Fixture *f, JobEvent event, const Error *error) {
    const Fact fact = {.event = event, .error = error};
    Call call = {.f = f, .fact = &fact};

    write_or_fail(&call, fact_body);
    assert_int_equal(call.taken, call.row != NULL);
    if (call.taken && call.row->to != JOB_DELETED)
        assert_state(f, job_state_name(call.row->to));
    return call.taken;
}

static bool tell(Fixture *f, JobEvent event) {
    return tell_error(f, event, NULL);
}

static bool errand_body(StoreTx *tx, void *context, Error *err) {
    Call *call = context;
    CLEANUP(record_fini) Record job = {0};
    const OperationOrder order = {.name = operation_new_name(call->f->arena, LOCATION), .version = "v1"};

    return job_load(tx, JOB, &job, err) &&
           errand_ask(tx, call->f->arena, &job, call->errand, &order, call->args, &call->operation, err);
}

static const char *ask(Fixture *f, Errand errand, const json_t *args) {
    Call call = {.f = f, .errand = errand, .args = args};

    write_or_fail(&call, errand_body);
    return call.operation;
}

static bool end_errand_body(StoreTx *tx, void *context, Error *err) {
    Call *call = context;

    return errand_end(tx, call->f->arena, STORE_MIGRATION_JOB, JOB, call->errand, call->operation, call->error, NULL,
                      NULL, err);
}

/* ---- Looking ---- */

typedef struct Look {
    Fixture *f;
    const char *name;
    json_t *seen;
    StoreAction *actions;
    StoreEvent *events;
    size_t count;
} Look;

static bool job_look_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, JOB, &job, err))
        return false;
    look->seen = job_render(&job, look->f->arena);
    return true;
}

static bool operation_look_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    CLEANUP(record_fini) Record operation = {0};

    if (!record_load(tx, STORE_OPERATION, look->name, &operation, err))
        return false;
    look->seen = operation_render(&operation);
    return true;
}

static const json_t *look_at(Fixture *f, const char *name, StoreBody body) {
    Look look = {.f = f, .name = name};
    Error err;

    if (!store_read(f->store, f->arena, body, &look, &err))
        fail_msg("%s", err.message);
    json_freep(&f->seen);
    f->seen = look.seen;
    return f->seen;
}

static const json_t *job_now(Fixture *f) {
    return look_at(f, JOB, job_look_body);
}

static const json_t *operation_now(Fixture *f, const char *name) {
    return look_at(f, name, operation_look_body);
}

static void assert_state(Fixture *f, const char *state) {
    assert_string_equal(json_get_string(job_now(f), "state", ""), state);
}

static void assert_job(Fixture *f, const char *state, const char *phase) {
    const json_t *job = job_now(f);

    assert_string_equal(json_get_string(job, "state", ""), state);
    assert_string_equal(json_get_string(job, "phase", ""), phase);
}

static void assert_running(Fixture *f, const char *operation) {
    assert_false(json_get_bool(operation_now(f, operation), "done", true));
}

static void assert_went_well(Fixture *f, const char *operation) {
    const json_t *now = operation_now(f, operation);

    assert_true(json_get_bool(now, "done", false));
    assert_non_null(json_object_get(now, "response"));
    assert_null(json_object_get(now, "error"));
}

static const json_t *error_of(Fixture *f, const char *operation) {
    const json_t *now = operation_now(f, operation);

    assert_true(json_get_bool(now, "done", false));
    assert_null(json_object_get(now, "response"));
    return json_object_get(now, "error");
}

static bool take_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    return store_outbox_take(tx, "node", JOB, 3600 * USEC_PER_SEC, 10, &look->actions, &look->count, err) &&
           (look->count == 0 || store_outbox_done(tx, look->actions[0].id, look->actions[0].attempt, err));
}

/* Takes the next action out of the outbox; "" = there is none. */
static StoreAction next_action(Fixture *f) {
    Look look = {.f = f};
    Error err;

    if (!store_write(f->store, f->arena, take_body, &look, &err))
        fail_msg("%s", err.message);
    return look.count > 0 ? look.actions[0] : (StoreAction){.action = "", .body = ""};
}

static void assert_next_action(Fixture *f, const char *action) {
    assert_string_equal(next_action(f).action, action);
}

/* ---- Tests ---- */

static void test_a_job_that_needs_nothing_is_there_at_once(void **state) {
    Fixture *f = *state;

    assert_went_well(f, create(f, true));
    assert_job(f, "NOT_STARTED", "");
    assert_next_action(f, "");
    const json_t *allowed = json_object_get(job_now(f), "allowedActions");
    assert_int_equal(json_array_size(allowed), 2);
    assert_string_equal(json_string_value(json_array_get(allowed, 0)), "start");
}

static void test_a_destination_is_prepared_first(void **state) {
    Fixture *f = *state;
    const char *operation = create(f, false);

    assert_running(f, operation);
    assert_job(f, "CREATING", "");
    assert_next_action(f, "PREPARE");
    assert_true(tell(f, EVENT_PREPARED));
    assert_went_well(f, operation);
    assert_job(f, "NOT_STARTED", "");
}

static void test_the_whole_life(void **state) {
    Fixture *f = *state;

    create(f, true);
    const char *start = do_wish(f, EVENT_USER_START);
    assert_job(f, "STARTING", "");
    assert_running(f, start);
    StoreAction action = next_action(f);
    assert_string_equal(action.action, "SPAWN_WORKER");
    assert_non_null(strstr(action.body, start));
    assert_true(tell(f, EVENT_WORKER_READY));
    assert_went_well(f, start);
    assert_true(tell(f, EVENT_DUMP_DONE));
    assert_true(tell(f, EVENT_CAUGHT_UP));
    assert_job(f, "RUNNING", "READY_FOR_PROMOTE");
    const char *promote = do_wish(f, EVENT_USER_PROMOTE);
    assert_next_action(f, "ASK_PROMOTE");
    assert_running(f, promote);
    assert_true(tell(f, EVENT_PROMOTE_DONE));
    assert_went_well(f, promote);
    assert_job(f, "COMPLETED", "");
    assert_non_null(json_object_get(job_now(f), "endTime"));
    assert_non_null(json_object_get(job_now(f), "duration"));
    assert_next_action(f, "TIDY_SOURCE");
    const char *delete = do_wish(f, EVENT_USER_DELETE);
    assert_next_action(f, "PURGE");
    assert_running(f, delete);
    assert_true(tell(f, EVENT_PURGED));
    assert_went_well(f, delete);
    Look gone = {.f = f};
    Error err;
    assert_false(store_read(f->store, f->arena, job_look_body, &gone, &err));
    assert_int_equal(err.reason, REASON_NO_RESOURCE);
}

static void test_a_wish_asked_again_gets_the_operation_under_way(void **state) {
    Fixture *f = *state;

    create(f, true);
    const char *start = do_wish(f, EVENT_USER_START);
    assert_string_equal(do_wish(f, EVENT_USER_START), start);
    assert_next_action(f, "SPAWN_WORKER");
    assert_next_action(f, ""); /* once */
    tell(f, EVENT_WORKER_READY);
    const char *again = do_wish(f, EVENT_USER_START); /* met: there is nothing left to do */
    assert_string_not_equal(again, start);
    assert_went_well(f, again);
    assert_next_action(f, "");
}

static void test_what_cannot_be_is_refused_with_what_can(void **state) {
    Fixture *f = *state;
    Error err;

    create(f, true);
    assert_null(try_wish(f, EVENT_USER_PROMOTE, &err));
    assert_int_equal(error_reason_code(err.reason), ERR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "start, delete"));
    assert_job(f, "NOT_STARTED", "");
    assert_next_action(f, "");
}

static void test_a_wish_takes_the_place_of_another(void **state) {
    Fixture *f = *state;

    create(f, true);
    const char *start = do_wish(f, EVENT_USER_START);
    const char *stop = do_wish(f, EVENT_USER_STOP);
    assert_int_equal(json_get_int(error_of(f, start), "code", 0), ERR_ABORTED);
    assert_running(f, stop);
    tell(f, EVENT_WORKER_STOPPED);
    assert_went_well(f, stop);
}

static void test_a_promote_that_is_taken_back_fails(void **state) {
    Fixture *f = *state;
    Error why;

    create(f, true);
    do_wish(f, EVENT_USER_START);
    tell(f, EVENT_WORKER_READY);
    tell(f, EVENT_DUMP_DONE);
    const char *promote = do_wish(f, EVENT_USER_PROMOTE);
    error_set(&why, REASON_PROMOTE_UNDONE, "writes could not be stopped");
    assert_true(tell_error(f, EVENT_PROMOTE_UNDONE, &why));
    assert_string_equal(json_get_string(error_of(f, promote), "message", ""), "writes could not be stopped");
    assert_job(f, "RUNNING", "CDC");
}

static void test_a_fact_of_another_time_is_dropped(void **state) {
    Fixture *f = *state;

    create(f, true);
    assert_false(tell(f, EVENT_DUMP_DONE));
    assert_false(tell(f, EVENT_WORKER_LOST));
    assert_job(f, "NOT_STARTED", "");
}

static void test_lost_workers_are_replaced_for_a_while(void **state) {
    Fixture *f = *state;

    create(f, true);
    const char *start = do_wish(f, EVENT_USER_START);
    for (int lost = 1; lost < JOB_ATTEMPTS_MAX; lost++) {
        assert_true(tell(f, EVENT_WORKER_LOST));
        assert_job(f, "STARTING", "");
        assert_int_equal(json_get_int(job_now(f), "attempts", 0), lost);
    }
    assert_running(f, start);
    assert_true(tell(f, EVENT_WORKER_LOST));
    assert_job(f, "FAILED", "");
    assert_non_null(json_object_get(job_now(f), "error"));
    assert_non_null(error_of(f, start));
    do_wish(f, EVENT_USER_RESUME); /* a person has decided anew */
    assert_true(tell(f, EVENT_WORKER_LOST));
    assert_job(f, "STARTING", "");
}

static void test_what_may_pass_is_tried_again_later(void **state) {
    Fixture *f = *state;
    Error why;

    create(f, true);
    do_wish(f, EVENT_USER_START);
    tell(f, EVENT_WORKER_READY);
    error_set(&why, REASON_UNREACHABLE, "no answer");
    tell_error(f, EVENT_FATAL, &why);
    assert_job(f, "FAILED", "FULL_DUMP");
    assert_string_equal(json_get_string(json_object_get(job_now(f), "error"), "message", ""), "no answer");
    assert_non_null(json_object_get(job_now(f), "nextRetryTime"));
    assert_true(tell(f, EVENT_RETRY_DUE));
    assert_job(f, "RESUMING", "FULL_DUMP");
    assert_null(json_object_get(job_now(f), "nextRetryTime"));
    tell(f, EVENT_WORKER_READY);
    assert_null(json_object_get(job_now(f), "error"));
    error_set(&why, REASON_NOT_PERMITTED, "no rights");
    tell_error(f, EVENT_FATAL, &why);
    assert_null(json_object_get(job_now(f), "nextRetryTime"));
    assert_false(tell(f, EVENT_RETRY_DUE));
}

static void test_an_errand_asked_twice_is_done_once(void **state) {
    Fixture *f = *state;
    CLEANUP(json_freep) json_t *args = json_pack("{s:s}", "only", "this");

    create(f, true);
    const char *verify = ask(f, ERRAND_VERIFY, NULL);
    assert_string_equal(ask(f, ERRAND_VERIFY, NULL), verify);
    assert_string_not_equal(ask(f, ERRAND_VERIFY, args), verify);
    assert_next_action(f, "VERIFY");
    assert_next_action(f, "VERIFY");
    assert_next_action(f, "");
    CLEANUP(json_freep) json_t *status = json_pack("{s:i, s:s}", "code", 9, "message", "wal_level");
    Call call = {.f = f, .errand = ERRAND_VERIFY, .operation = verify, .error = status};
    write_or_fail(&call, end_errand_body);
    write_or_fail(&call, end_errand_body); /* a second time is no error */
    assert_int_equal(json_get_int(error_of(f, verify), "code", 0), 9);
    assert_string_not_equal(ask(f, ERRAND_VERIFY, NULL), verify);
    assert_job(f, "NOT_STARTED", "");
}

static bool cancel_body(StoreTx *tx, void *context, Error *err) {
    const Call *call = context;

    return operation_cancel(tx, call->f->arena, call->operation, err);
}

static bool say_body(StoreTx *tx, void *context, Error *err) {
    const Call *call = context;

    return operation_say(tx, call->f->arena, call->operation, "it is being tried again", err);
}

static bool say_nothing_body(StoreTx *tx, void *context, Error *err) {
    const Call *call = context;

    return operation_say(tx, call->f->arena, call->operation, "", err);
}

static bool delete_operation_body(StoreTx *tx, void *context, Error *err) {
    const Call *call = context;

    return operation_delete(tx, call->operation, err);
}

static void test_operations_are_cancelled_and_deleted(void **state) {
    Fixture *f = *state;
    Error err;
    const char *made = create(f, true);
    Call call = {.f = f, .operation = do_wish(f, EVENT_USER_START)};

    assert_next_action(f, "SPAWN_WORKER");
    assert_false(store_write(f->store, f->arena, delete_operation_body, &call, &err));
    assert_int_equal(err.reason, REASON_OPERATION_RUNNING);
    write_or_fail(&call, say_nothing_body);
    assert_null(json_object_get(json_object_get(operation_now(f, call.operation), "metadata"), "statusMessage"));
    write_or_fail(&call, say_body);
    write_or_fail(&call, say_body);
    assert_string_equal(
        json_get_string(json_object_get(operation_now(f, call.operation), "metadata"), "statusMessage", ""),
        "it is being tried again");
    write_or_fail(&call, say_nothing_body);
    assert_null(json_object_get(json_object_get(operation_now(f, call.operation), "metadata"), "statusMessage"));
    write_or_fail(&call, cancel_body);
    write_or_fail(&call, cancel_body);
    assert_next_action(f, OPERATION_CANCEL);
    assert_next_action(f, "");
    const json_t *metadata = json_object_get(operation_now(f, call.operation), "metadata");
    assert_true(json_get_bool(metadata, "requestedCancellation", false));
    call.operation = made;
    write_or_fail(&call, cancel_body); /* over: nothing to cancel */
    write_or_fail(&call, delete_operation_body);
    assert_false(store_write(f->store, f->arena, cancel_body, &call, &err));
    assert_int_equal(err.reason, REASON_NO_RESOURCE);
}

static bool objects_body(StoreTx *tx, void *context, Error *err) {
    const Call *call = context;
    Arena *arena = call->f->arena;
    Error why;
    error_set(&why, REASON_BAD_DATA, "a row");
    const ObjectNews news[] = {
        {"shop", OBJECT_RUNNING, OBJECT_PHASE_CDC, NULL},
        {"a \"b\"/c", OBJECT_FAILED, OBJECT_PHASE_FULL_DUMP, &why},
        {"shop", OBJECT_COMPLETED, OBJECT_PHASE_PROMOTED, NULL},
    };
    CLEANUP(record_fini) Record object = {0};

    for (size_t at = 0; at < COUNT_OF(news); at++)
        if (!object_put(tx, arena, JOB, &news[at], err))
            return false;
    if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, object_name(arena, JOB, "shop"), &object, err))
        return false;
    CLEANUP(json_freep) json_t *shop = object_render(&object, arena);
    assert_string_equal(json_get_string(shop, "state", ""), "COMPLETED");
    assert_string_equal(json_get_string(shop, "phase", ""), "PROMOTED");
    int64_t count = 0;
    const StoreQuery query = {.kind = STORE_MIGRATION_JOB_OBJECT, .parent = JOB};
    if (!store_count(tx, &query, &count, err))
        return false;
    assert_int_equal(count, 2);
    return object_delete_all(tx, JOB, err) && store_count(tx, &query, &count, err) && count == 0;
}

static void test_objects_have_states_of_their_own(void **state) {
    Fixture *f = *state;
    Call call = {.f = f};

    create(f, true);
    write_or_fail(&call, objects_body);
}

static bool events_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    return store_event_list(tx, JOB, 0, 100, &look->events, &look->count, err);
}

static void test_the_log_tells_each_step(void **state) {
    Fixture *f = *state;
    Look look = {.f = f};
    Error err;

    create(f, true);
    do_wish(f, EVENT_USER_START);
    assert_true(store_read(f->store, f->arena, events_body, &look, &err));
    assert_int_equal(look.count, 3);
    assert_string_equal(look.events[0].kind, "CREATE");
    assert_string_equal(look.events[1].kind, "PREPARED");
    assert_string_equal(look.events[2].kind, "USER_START");
    assert_non_null(strstr(look.events[2].detail, "\"by\":\"me\""));
    assert_non_null(strstr(look.events[2].detail, "\"to\":\"STARTING\""));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_job_that_needs_nothing_is_there_at_once),
        TEST(test_a_destination_is_prepared_first),
        TEST(test_the_whole_life),
        TEST(test_a_wish_asked_again_gets_the_operation_under_way),
        TEST(test_what_cannot_be_is_refused_with_what_can),
        TEST(test_a_wish_takes_the_place_of_another),
        TEST(test_a_promote_that_is_taken_back_fails),
        TEST(test_a_fact_of_another_time_is_dropped),
        TEST(test_lost_workers_are_replaced_for_a_while),
        TEST(test_what_may_pass_is_tried_again_later),
        TEST(test_an_errand_asked_twice_is_done_once),
        TEST(test_operations_are_cancelled_and_deleted),
        TEST(test_objects_have_states_of_their_own),
        TEST(test_the_log_tells_each_step),
    };

    return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
