/*
 * What a job needs once, and not per database: the list of databases, and on the destination roles and empty databases.
 *
 * NOTES
 * A session of its own does it (the worker's action "instance"), which may die anywhere and be repeated. It is wanted
 * as long as the job has an object that is not marked as made ready, or none at all; its result marks them, and makes
 * those that it found. So a database that is added to a job at work is made ready as well, while the others go on.
 *
 * `run` of the job has "instance": the keys of a seat (seat.h), and "taken", the number whose result is in the store.
 */
#include "supervise/guard.h"

#include "common/clock.h"
#include "common/log.h"
#include "supervise/findings.h"
#include "supervise/new_passwords.h"
#include "supervise/report.h"

#include <string.h>

#define INSTANCE "instance"
static const int64_t pause_us = 30 * USEC_PER_SEC;
static const char made_key[] = "made", taken_key[] = "taken";

bool is_prepared_database(const Record *object) {
    return json_get_bool(object->run, made_key, json_get_int(object->run, seat_run_RUN, 0) > 0);
}

void instance_session_forget(Record *object) {
    (void)json_object_set_new(object->run, made_key, json_false());
}

static bool is_wanted(const Look *look) {
    JobState state = look->view.state;
    bool wanted = databases_named(&look->job) == NULL && look->count == 0;

    for (size_t at = 0; at < look->count; at++)
        wanted = wanted || (is_selected(look, at) && !is_prepared_database(&look->objects[at]));
    return wanted && job_state_has_worker(state) && state != JOB_STOPPING;
}

static const char *folder_of(const Look *look) {
    return arena_printf(look->arena, "%s/sessions/%s/instance", look->this->config.state_dir, look->job.resource.uid);
}

static json_t *seat_of(const Record *job) {
    json_t *seat = json_object_get(job->run, INSTANCE);

    if (seat == NULL) {
        seat = json_object();
        (void)json_object_set_new(job->run, INSTANCE, seat);
    }
    return seat;
}

/* ---- Looking ---- */

static bool look_at_it(const Look *look, SeatPicture *ret_picture, Error *err) {
    const Process process = {.name = INSTANCE,
                             .run = seat_of(&look->job),
                             .folder = folder_of(look),
                             .launch = json_get_int(look->job.run, job_run_LAUNCH, 0)};

    return process_look(look->this, look->arena, &process, ret_picture, err);
}

/* ---- Beginning ---- */

/* Those that are to be made ready, and no others: one that was promoted is guarded no more. NULL = all there are. New
 * reference. */
static json_t *databases_to_guard(const Look *look) {
    json_t *list = look->count > 0 ? json_array() : NULL;

    for (size_t at = 0; at < look->count; at++)
        if (is_selected(look, at) && !is_prepared_database(&look->objects[at]))
            (void)json_array_append_new(list, json_string_lossy(seat_database(&look->objects[at])));
    return list;
}

typedef struct Beginning {
    Look *look;
    bool again;         /* by itself, behind one that was lost */
    const json_t *said; /* by the one before */
    int64_t run;
    json_t *start; /* the caller's */
} Beginning;

static bool begin(StoreTx *tx, void *context, Error *err) {
    Beginning *beginning = context;
    const Look *look = beginning->look;
    CLEANUP(json_freep) json_t *to_guard = databases_to_guard(look);
    CLEANUP(record_fini) Record job = {0};

    json_freep(&beginning->start);
    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    new_passwords_note(&job, beginning->said);
    if (!new_passwords_prepare(tx, look->this->config.secrets, &job, err))
        return false;
    json_t *seat = seat_of(&job);
    int64_t losses = beginning->again ? json_get_int(seat, seat_run_LOSSES, 0) + 1 : 0;
    beginning->run = json_get_int(seat, seat_run_RUN, 0) + 1;
    (void)json_object_set_new(seat, seat_run_RUN, json_integer(beginning->run));
    (void)json_object_set_new(seat, seat_run_HOME, json_string(look->this->home));
    (void)json_object_set_new(seat, seat_run_LOSSES, json_integer(losses));
    (void)json_object_set_new(seat, seat_run_LAUNCH, json_integer(json_get_int(job.run, job_run_LAUNCH, 0)));
    guard_note_again(&job, to_guard);
    const StartOrder order = {
        .job = &job, .run = beginning->run, .order = ORDER_START, .lanes = 2, .databases = to_guard};
    return start_message(look->this, tx, look->arena, &order, &beginning->start, err) &&
           job_save(tx, look->arena, &job, err);
}

static bool start(Look *look, bool again, const SeatPicture *picture, Error *err) {
    Beginning beginning = {.look = look, .again = again, .said = picture->said};
    Error why;

    if (!store_write(look->this->config.store, look->arena, begin, &beginning, &why)) {
        json_freep(&beginning.start);
        *err = why;
        if (is_of_the_store(&why))
            return false;
        look_decides(look, EVENT_FATAL, &why);
        return true;
    }
    log_info("%s: the instance, session %lld", look->held->name, (long long)beginning.run);
    bool ok = launch_session(look->this->children, folder_of(look), beginning.run, beginning.start, &why);
    json_freep(&beginning.start);
    if (!ok) {
        why.retryable = true; /* as in look.c */
        look_decides(look, EVENT_FATAL, &why);
    }
    return true;
}

/* ---- Its result ---- */

typedef struct Taking {
    const Look *look;
    const json_t *databases, *said;
    int64_t run;
} Taking;

static bool mark_made(StoreTx *tx, const Look *look, const char *database, Error *err) {
    CLEANUP(record_fini) Record object = {0};
    const char *name = object_name(look->arena, look->held->name, database);
    const ObjectNews news = {.database = database};
    StoreResource there = {0};

    if (!store_get(tx, name, &there, err) &&
        (err->reason != REASON_NO_RESOURCE || !object_put(tx, look->arena, look->held->name, &news, err)))
        return false;
    if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, name, &object, err))
        return false;
    (void)json_object_set_new(object.run, made_key, json_true());
    return record_save(tx, look->arena, &object, err);
}

static bool take(StoreTx *tx, void *context, Error *err) {
    const Taking *taking = context;
    const Look *look = taking->look;
    CLEANUP(record_fini) Record job = {0};

    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    for (size_t at = 0; at < json_array_size(taking->databases); at++)
        if (!mark_made(tx, look, json_get_string(json_array_get(taking->databases, at), "name", ""), err))
            return false;
    (void)json_object_set_new(seat_of(&job), taken_key, json_integer(taking->run));
    new_passwords_note(&job, taking->said);
    return report_keep_instance(tx, look->held->name, taking->said, err) && job_save(tx, look->arena, &job, err);
}

static bool take_result(Look *look, const SeatPicture *picture, Error *err) {
    Taking taking = {.look = look,
                     .databases = json_get_array(json_get_object(picture->said, "databases"), "databases"),
                     .said = picture->said,
                     .run = picture->run};
    Error why;

    if (json_array_size(taking.databases) > 0)
        return store_write(look->this->config.store, look->arena, take, &taking, err);
    error_set(&why, REASON_PREFLIGHT_FAILED, "the source has no databases to move");
    error_remedy(&why, "name them: objectsConfig.sourceObjectsConfig with SPECIFIED_OBJECTS");
    look_decides(look, EVENT_VERIFY_REFUSED, &why);
    return true;
}

/* Names of roles that were given a password, while the session goes on to make databases: should its node be lost, they
 * would be lost with its files. */
static bool take_names(StoreTx *tx, void *context, Error *err) {
    const Taking *taking = context;
    const Look *look = taking->look;
    CLEANUP(record_fini) Record job = {0};

    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    new_passwords_note(&job, taking->said);
    return job_save(tx, look->arena, &job, err);
}

static bool keep_names(Look *look, const SeatPicture *picture, Error *err) {
    Taking taking = {.look = look, .said = picture->said};
    const json_t *told = json_get_array(json_get_object(picture->said, "databases"), "new_passwords");
    const json_t *known = json_get_array(look->job.run, job_run_NEW_PASSWORDS);

    return json_array_size(told) <= json_array_size(known) || !record_has_secret(&look->job, job_new_passwords_field) ||
           store_write(look->this->config.store, look->arena, take_names, &taking, err);
}

/* ---- All of it ---- */

/* Those that are not made ready have failed: it is said of each, and no promote waits for them. */
static void fail_added(Look *look, const SeatPicture *picture) {
    for (size_t at = 0; at < look->count; at++) {
        SeatPicture *added = &look->pictures[at];

        if (!is_selected(look, at) || is_prepared_database(&look->objects[at]))
            continue;
        added->seat = (Seat){.state = SEAT_FAILED};
        added->has_error = true;
        added->error = picture->error;
    }
    look_decide(look);
}

/* A job that is at work goes on without what was added to it; one that begins cannot. */
static bool fail(Look *look, const SeatPicture *picture, Error *err) {
    JobState state = look->view.state;
    size_t errors = 0;
    bool refuses = picture->seat.refused && (state == JOB_STARTING || state == JOB_RESTARTING || state == JOB_RESUMING);

    if (state == JOB_RUNNING) {
        fail_added(look, picture);
        return true;
    }
    json_freep(&look->details);
    look->details = json_array();
    look_decides(look, refuses ? EVENT_VERIFY_REFUSED : EVENT_FATAL, &picture->error);
    return findings_add_details(look->arena, "", picture->said, look->details, &errors, err);
}

/* Beside databases that work, what may pass by itself is tried again now and then. */
static bool is_pause_over(Look *look, const SeatPicture *picture) {
    Held *held = look->held;

    if (look->view.state != JOB_RUNNING || !picture->error.retryable)
        return false;
    if (held->instance_us == 0)
        held->instance_us = clock_now_us() + pause_us;
    if (clock_now_us() < held->instance_us)
        return false;
    held->instance_us = 0;
    return true;
}

static bool follow_up(Look *look, const SeatPicture *picture, Error *err) {
    const Seat *seat = &picture->seat;

    if (seat_is_alive(seat->state))
        return keep_names(look, picture, err);
    if (seat->due != DUE_NOTHING || seat->state == SEAT_IDLE)
        return start(look, false, picture, err);
    if (seat->state == SEAT_DONE && json_get_int(seat_of(&look->job), taken_key, 0) != picture->run)
        return take_result(look, picture, err);
    if (seat->state == SEAT_DONE)
        return start(look, false, picture, err);
    if (seat->may_try_again && (seat->state != SEAT_FAILED || is_pause_over(look, picture)))
        return start(look, true, picture, err);
    return fail(look, picture, err);
}

/* Nobody waits for it any more; a job is not stopped, and not removed, as long as it is at work. */
static bool end_it(Look *look, Error *err) {
    SeatPicture picture = {0};

    if ((look->view.state != JOB_STOPPING && look->view.state != JOB_DELETING) ||
        json_get_int(seat_of(&look->job), seat_run_RUN, 0) == 0)
        return true;
    if (!look_at_it(look, &picture, err))
        return false;
    bool ok = true;
    if (seat_is_alive(picture.seat.state)) {
        ok = picture.seat.stopping || look_stop(look, folder_of(look), &picture, err);
        look->decision.has_fact = false;
    }
    seat_picture_fini(&picture);
    return ok;
}

bool instance_look(Look *look, Error *err) {
    SeatPicture picture = {0};

    if (!is_wanted(look))
        return end_it(look, err);
    if (look->decision.has_fact || look->holds)
        return true;
    if (!look_at_it(look, &picture, err))
        return false;
    bool ok = follow_up(look, &picture, err);
    seat_picture_fini(&picture);
    return ok;
}
