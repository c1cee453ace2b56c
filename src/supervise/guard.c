/*
 * Databases of a guarded destination are handed back.
 *
 * NOTES
 * A session of its own does it (the worker's action "release"), which may die anywhere and be repeated: what is done
 * stands in the destination (engine/demote). What is due follows from the job as it is, at each look:
 *
 *   a database is promoted                                that one; the others stay guarded. Its own session has done
 *                                                         that already, as a rule
 *   it was taken out of the job, and is removed           that one
 *   the job is COMPLETED                                  all, and the job is forgotten there
 *   the job is being deleted, and all else is removed     all; the job goes when that is done
 *
 * "asked" is committed with the session's number, before it is begun, so that its end is known to be about that. A
 * session that failed is begun again, with pauses that double, for as long as it takes. A job that is being deleted has
 * failed then, and is tried again as every removal is; one that is deleted by force goes after one attempt, and its
 * operation says what was left.
 */
#include "supervise/guard.h"

#include "common/clock.h"
#include "common/log.h"
#include "jobs/errand.h"
#include "jobs/operation.h"

#include <string.h>

static const char asked_key[] = "asked";
static const int64_t pause_first_us = 2 * USEC_PER_SEC, pause_most_us = 300 * USEC_PER_SEC;

const char guard_run_STATE[] = "state", guard_run_RELEASED[] = "released", guard_run_ERROR[] = "error";

static json_t *guard_of(const Record *job) {
    return json_object_get(job->run, job_run_GUARD);
}

bool guard_is_up(const Record *job) {
    return guard_of(job) != NULL;
}

/* ---- What is due ---- */

static bool is_released(const Record *job, const char *database) {
    const json_t *list = json_object_get(guard_of(job), guard_run_RELEASED);

    for (size_t at = 0; at < json_array_size(list); at++)
        if (strcmp(json_string_value(json_array_get(list, at)), database) == 0)
            return true;
    return false;
}

void guard_note_again(Record *job, const json_t *databases) {
    json_t *released = json_object_get(guard_of(job), guard_run_RELEASED);

    for (size_t at = json_array_size(released); at-- > 0;)
        for (size_t of = 0; of < json_array_size(databases); of++)
            if (json_equal(json_array_get(released, at), json_array_get(databases, of))) {
                (void)json_array_remove(released, at);
                break;
            }
}

static bool is_removed(const Look *look) {
    return look->view.state == JOB_DELETING && look->decision.has_fact && look->decision.fact == EVENT_PURGED;
}

static bool is_all_due(const Look *look) {
    return look->view.state == JOB_COMPLETED || is_removed(look);
}

static bool is_database_due(const Look *look, size_t at) {
    const SeatPicture *picture = &look->pictures[at];
    bool over = is_deselected(look, at) ? picture->seat.state == SEAT_REMOVED : seat_is_promoted(picture);

    return look->view.state != JOB_DELETING && over && !is_released(&look->job, picture->database);
}

/* Databases; JSON null = all of the job; NULL = nothing is due. New reference. */
static json_t *what_is_due(const Look *look) {
    if (!guard_is_up(&look->job))
        return NULL;
    if (is_all_due(look))
        return json_null();
    CLEANUP(json_freep) json_t *list = json_array();
    for (size_t at = 0; at < look->count; at++)
        if (is_database_due(look, at))
            (void)json_array_append_new(list, json_string_lossy(look->pictures[at].database));
    return json_array_size(list) > 0 ? json_incref(list) : NULL;
}

bool guard_is_due(const Look *look) {
    CLEANUP(json_freep) json_t *due = what_is_due(look);

    return due != NULL;
}

/* ---- Looking ---- */

static const char *folder_of(const Look *look) {
    return arena_printf(look->arena, "%s/sessions/%s/guard", look->this->config.state_dir, look->job.resource.uid);
}

static bool look_at_it(const Look *look, SeatPicture *ret_picture, Error *err) {
    const Process process = {.name = "guard", .run = guard_of(&look->job), .folder = folder_of(look)};

    return process_look(look->this, look->arena, &process, ret_picture, err);
}

/* ---- Beginning ---- */

typedef struct Beginning {
    Look *look;
    const json_t *due;
    int64_t run;
    json_t *start; /* the caller's */
} Beginning;

static bool begin(StoreTx *tx, void *context, Error *err) {
    Beginning *beginning = context;
    const Look *look = beginning->look;
    CLEANUP(record_fini) Record job = {0};

    json_freep(&beginning->start);
    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    json_t *guard = guard_of(&job);
    if (guard == NULL)
        return error_set(err, REASON_STALE_VERSION, "the destination of %s was handed back meanwhile",
                         look->held->name);
    beginning->run = json_get_int(guard, seat_run_RUN, 0) + 1;
    (void)json_object_set_new(guard, seat_run_RUN, json_integer(beginning->run));
    (void)json_object_set_new(guard, seat_run_HOME, json_string(look->this->home));
    (void)json_object_set_new(guard, seat_run_LAUNCH, json_integer(json_get_int(job.run, job_run_LAUNCH, 0)));
    (void)json_object_set_new(guard, asked_key, json_deep_copy(beginning->due));
    const StartOrder order = {.job = &job,
                              .run = beginning->run,
                              .order = ORDER_REMOVE,
                              .lanes = 2,
                              .action = "release",
                              .databases = json_is_array(beginning->due) ? beginning->due : NULL};
    return start_message(look->this, tx, look->arena, &order, &beginning->start, err) &&
           job_save(tx, look->arena, &job, err);
}

/* ---- What came of it ---- */

typedef struct Noting {
    const Look *look;
    const Error *failure; /* NULL = it went well */
    const json_t *said;
    bool gives_up;
} Noting;

/* What it said of databases that are not as they were. */
static bool log_events(StoreTx *tx, const Noting *noting, Error *err) {
    const json_t *events = json_get_array(noting->said, "events");
    const char *job = noting->look->held->name;

    for (size_t at = 0; at < json_array_size(events); at++)
        if (!job_log(tx, job, "GUARD", json_get_string(json_array_get(events, at), "text", ""), NULL, err))
            return false;
    return true;
}

static void note_released(Record *job) {
    json_t *guard = guard_of(job), *released = json_object_get(guard, guard_run_RELEASED);
    const json_t *asked = json_object_get(guard, asked_key);

    if (!json_is_array(asked)) {
        (void)json_object_del(job->run, job_run_GUARD);
        return;
    }
    if (released == NULL)
        (void)json_object_set_new(guard, guard_run_RELEASED, released = json_array());
    (void)json_array_extend(released, (json_t *)(uintptr_t)asked); /* is only read */
    (void)json_object_del(guard, asked_key);
    (void)json_object_del(guard, guard_run_ERROR);
    (void)json_object_del(guard, seat_run_LOSSES);
}

/* Told once for as long as it is the same. */
static bool note_failure(StoreTx *tx, const Noting *noting, Record *job, Error *err) {
    json_t *guard = guard_of(job);
    const char *message = noting->failure->message;
    bool is_news = strcmp(json_get_string(guard, guard_run_ERROR, ""), message) != 0;

    (void)json_object_del(guard, asked_key);
    (void)json_object_set_new(guard, guard_run_ERROR, json_string_lossy(message));
    (void)json_object_set_new(guard, seat_run_LOSSES, json_integer(json_get_int(guard, seat_run_LOSSES, 0) + 1));
    return !is_news ||
           job_log(tx, job->resource.name, "GUARD",
                   arena_printf(noting->look->arena, "the destination is not handed back: %s", message), NULL, err);
}

/* Nobody hands it back any more: all that a release would have done (engine/demote), for whoever does it by hand.
 * `what` is a name of engine/demote/changes.def. %1$s: why, %2$s: the job's id. */
#define BY_HAND                                                                                                        \
    "the destination is still guarded: %1$s. To hand it back by hand, in database postgres of the destination: SELECT" \
    " database, what, before FROM pgcrane_guard.change WHERE job = '%2$s' AND NOT undone; and for each line, by what:" \
    " LIMIT: ALTER DATABASE name CONNECTION LIMIT before;"                                                             \
    " READ_ONLY: ALTER DATABASE name RESET default_transaction_read_only, or SET it TO before, where there is one;"    \
    " MARK: ALTER DATABASE name RESET pgcrane.guard;"                                                                  \
    " CONNECT: GRANT CONNECT ON DATABASE name TO role, for each role of before (roles by oid, that is oid::regrole;"   \
    " 0 is PUBLIC; with * behind it WITH GRANT OPTION), and if the role that pgcrane connected as is not among"        \
    " them: REVOKE CONNECT ON DATABASE name FROM that role. Then, so that another job may guard them: DELETE FROM"     \
    " pgcrane_guard.change WHERE job = '%2$s'; DELETE FROM pgcrane_guard.job WHERE id = '%2$s'; and when that was the" \
    " last one: DROP SCHEMA pgcrane_guard CASCADE"

static bool give_up(StoreTx *tx, const Noting *noting, Record *job, Error *err) {
    const char *text =
        arena_printf(noting->look->arena, BY_HAND, noting->failure->message, noting->look->job.resource.uid);

    log_warning("%s: %s", job->resource.name, text);
    (void)json_object_del(job->run, job_run_GUARD);
    return operation_say(tx, noting->look->arena, json_get_string(job_operation(job), "name", ""), text, err);
}

static bool note(StoreTx *tx, void *context, Error *err) {
    const Noting *noting = context;
    const Look *look = noting->look;
    CLEANUP(record_fini) Record job = {0};

    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    if (!guard_is_up(&job))
        return true;
    if (noting->gives_up) {
        if (!give_up(tx, noting, &job, err))
            return false;
    } else if (noting->failure != NULL) {
        if (!note_failure(tx, noting, &job, err))
            return false;
    } else if (log_events(tx, noting, err)) {
        note_released(&job);
    } else {
        return false;
    }
    return job_save(tx, look->arena, &job, err);
}

static bool note_end(const Look *look, const SeatPicture *picture, const Error *failure, bool gives_up, Error *err) {
    Noting noting = {.look = look, .failure = failure, .said = picture->said, .gives_up = gives_up};

    return store_write(look->this->config.store, look->arena, note, &noting, err);
}

/* ---- All of it ---- */

/* The first of them is no reason to wait for long. */
static bool is_pause_over(const Look *look) {
    int64_t losses = json_get_int(guard_of(&look->job), seat_run_LOSSES, 0);
    int64_t pause = pause_first_us;
    Held *held = look->held;

    for (int64_t at = 1; at < losses && pause < pause_most_us; at++)
        pause *= 2;
    if (held->guard_us == 0)
        held->guard_us = clock_now_us() + MIN(pause, pause_most_us);
    if (clock_now_us() < held->guard_us)
        return false;
    held->guard_us = 0;
    return true;
}

static bool fail(Look *look, const SeatPicture *picture, const Error *why, Error *err) {
    if (look_is_forced(look))
        return note_end(look, picture, why, true, err);
    if (!note_end(look, picture, why, false, err))
        return false;
    if (look->view.state == JOB_DELETING)
        look_decides(look, EVENT_FATAL, why);
    return true;
}

static bool start(Look *look, const SeatPicture *picture, const json_t *due, Error *err) {
    Beginning beginning = {.look = look, .due = due};
    Error why;

    if (!store_write(look->this->config.store, look->arena, begin, &beginning, &why)) {
        json_freep(&beginning.start);
        *err = why;
        return is_of_the_store(&why) ? false : fail(look, picture, &why, err);
    }
    log_info("%s: the destination is handed back, session %lld", look->held->name, (long long)beginning.run);
    bool ok = launch_session(look->this->children, folder_of(look), beginning.run, beginning.start, &why);
    json_freep(&beginning.start);
    return ok || fail(look, picture, &why, err);
}

/* A session whose end is not in the store yet. */
static bool is_asked(const Look *look) {
    return json_object_get(guard_of(&look->job), asked_key) != NULL;
}

/* Of a removal the pause is the job's: the next one has a launch of its own. By force there is none. */
static bool may_begin(const Look *look) {
    const json_t *guard = guard_of(&look->job);

    if (look->view.state == JOB_DELETING)
        return look_is_forced(look) ||
               json_get_int(guard, seat_run_LAUNCH, 0) < json_get_int(look->job.run, job_run_LAUNCH, 0);
    return json_get_int(guard, seat_run_LOSSES, 0) == 0 || is_pause_over(look);
}

static bool follow_up_end(Look *look, const SeatPicture *picture, Error *err) {
    Error why = picture->error;

    if (picture->seat.state == SEAT_DONE)
        return note_end(look, picture, NULL, false, err);
    if (!picture->has_error)
        error_set(&why, REASON_WORKER_LOST, "the session that hands the destination back ended without a word");
    return fail(look, picture, &why, err);
}

static bool follow_up(Look *look, const SeatPicture *picture, const json_t *due, Error *err) {
    const Seat *seat = &picture->seat;

    if (seat_is_alive(seat->state))
        return true;
    if (is_asked(look) && seat->due == DUE_NOTHING && seat->state != SEAT_IDLE)
        return follow_up_end(look, picture, err);
    return due == NULL || !(is_asked(look) || may_begin(look)) || start(look, picture, due, err);
}

/* It may be about to guard what is to be handed back. */
static bool is_being_demoted(const Look *look) {
    return json_object_get(json_object_get(look->job.run, job_run_ERRANDS), errand_name(ERRAND_DEMOTE)) != NULL;
}

bool guard_look(Look *look, Error *err) {
    CLEANUP(json_freep) json_t *due = what_is_due(look);
    SeatPicture picture = {0};

    if (!guard_is_up(&look->job) || (due == NULL && !is_asked(look)))
        return true;
    if (is_removed(look))
        look->decision.has_fact = false;
    else if (look->decision.has_fact || look->view.state == JOB_DELETING)
        return true;
    if (is_being_demoted(look))
        return true;
    if (!look_at_it(look, &picture, err))
        return false;
    bool ok = follow_up(look, &picture, due, err);
    seat_picture_fini(&picture);
    return ok;
}
