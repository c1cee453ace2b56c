/*
 * What is to be found out for a resource: checks of a job, its source's databases, whether a server can be reached.
 *
 * NOTES
 * An errand's entry stays in the outbox until it is over, and is given out every second meanwhile. What was begun
 * stands in a folder that is named after its operation, as for any session; so a daemon that begins anew goes on
 * looking there, and another node, which has no such folder, begins once more: nothing that an errand does changes a
 * server.
 * VERIFY is in verify.c, which is also where something may be changed: what it was asked to mend.
 */
#include "supervise/errands.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"
#include "common/log.h"
#include "jobs/errand.h"
#include "model/status.h"
#include "supervise/endpoint.h"
#include "supervise/findings.h"
#include "supervise/promotes.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* ---- Sessions of an errand ---- */

bool errand_look_in(const Errands *errands, const char *folder, const char *name, SeatPicture *ret_picture,
                    Error *err) {
    CLEANUP(json_freep)
    json_t *run =
        json_pack("{s:i, s:s, s:i}", "run", ERRAND_NUMBER, "home", errands->this->home, "launch", ERRAND_NUMBER);
    const Process process = {.name = name, .run = run, .folder = folder, .launch = ERRAND_NUMBER};

    return process_look(errands->this, errands->arena, &process, ret_picture, err);
}

static const char *folder_in(const Errands *errands, const char *database) {
    return arena_printf(errands->arena, "%s/%016" PRIx64, errands->folder, hash_text64(database));
}

bool errand_look_at(const Errands *errands, const char *database, SeatPicture *ret_picture, Error *err) {
    return errand_look_in(errands, folder_in(errands, database), database, ret_picture, err);
}

static bool make_start(StoreTx *tx, void *context, Error *err) {
    Errands *errands = context;
    const StartOrder order = {.job = &errands->job,
                              .object = errands->object,
                              .run = ERRAND_NUMBER,
                              .lanes = 2,
                              .dry_run = true,
                              .is_check = errands->is_check,
                              .apart = errands->apart,
                              .mends = errands->mends};

    json_freep(&errands->start);
    return start_message(errands->this, tx, errands->arena, &order, &errands->start, err);
}

bool errand_launch(Errands *errands, const char *database, Error *err) {
    bool ok = launch_session(errands->this->children, folder_in(errands, database), ERRAND_NUMBER, errands->start, err);

    json_freep(&errands->start);
    return ok;
}

bool errand_start(Errands *errands, const Record *object, const char *database, Error *err) {
    errands->object = object;
    return store_read(errands->this->config.store, errands->arena, make_start, errands, err) &&
           errand_launch(errands, database, err);
}

bool errand_is_begun(const SeatPicture *picture) {
    return picture->seat.due == DUE_NOTHING;
}

bool errand_is_over(const SeatPicture *picture) {
    return errand_is_begun(picture) && !seat_is_alive(picture->seat.state) && picture->seat.state != SEAT_IDLE;
}

/* ---- How it ends ---- */

void errand_refuse(const Error *why, ErrandEnd *end) {
    *end = (ErrandEnd){.over = true, .refused = true, .status = status_to_json(why, NULL)};
}

/* One that ended otherwise than by findings is an error of its own kind, such as a server that is away. */
bool errand_conclude(const Errands *errands, const SeatPicture *picture, ErrandEnd *end, Error *err) {
    CLEANUP(json_freep) json_t *details = json_array();
    size_t errors = 0;
    Error why;

    if (!findings_add_details(errands->arena, "", picture->said, details, &errors, err))
        return false;
    *end = (ErrandEnd){.over = true, .type = "MigrationJob"};
    if (picture->seat.state != SEAT_DONE && !picture->seat.refused) {
        errand_refuse(&picture->error, end);
    } else if (errors > 0) {
        error_set(&why, REASON_PREFLIGHT_FAILED, "the checks found %zu error%s", errors, errors == 1 ? "" : "s");
        errand_refuse(&why, end);
    }
    if (end->refused)
        (void)json_array_extend(json_object_get(end->status, "details"), details);
    return true;
}

/* ---- FETCH_OBJECTS ---- */

typedef struct Fetched {
    const char *job;
    json_t *databases;
} Fetched;

static bool keep_objects(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Fetched *fetched = context;

    for (size_t at = 0; at < json_array_size(fetched->databases); at++) {
        const char *database = json_get_string(json_array_get(fetched->databases, at), "name", "");
        const ObjectNews news = {.database = database, .state = OBJECT_NOT_SELECTED};
        StoreResource there = {0};

        if (!store_get(tx, object_name(arena, fetched->job, database), &there, err) &&
            (err->reason != REASON_NO_RESOURCE || !object_put(tx, arena, fetched->job, &news, err)))
            return false;
    }
    return true;
}

static bool fetch(Errands *errands, ErrandEnd *end, Error *err) {
    SeatPicture picture = {0};
    bool ok = errand_look_at(errands, "", &picture, err);

    if (ok && !errand_is_begun(&picture)) {
        (void)json_object_del(errands->job.api, "objectsConfig"); /* all of them */
        ok = errand_start(errands, NULL, "", err);
    } else if (ok && errand_is_over(&picture) && picture.seat.state != SEAT_DONE) {
        errand_refuse(&picture.error, end);
    } else if (ok && errand_is_over(&picture)) {
        Fetched *fetched = arena_new_of(errands->arena, Fetched);
        *fetched = (Fetched){.job = errands->action->owner,
                             .databases = json_object_get(json_object_get(picture.said, "databases"), "databases")};
        (void)json_incref(fetched->databases);
        *end = (ErrandEnd){.over = true, .extra = keep_objects, .context = fetched};
    }
    seat_picture_fini(&picture);
    return ok;
}

/* ---- TEST_CONNECTION ---- */

static bool make_test(StoreTx *tx, void *context, Error *err) {
    Errands *errands = context;
    CLEANUP(json_freep) json_t *endpoint = NULL;

    json_freep(&errands->start);
    if (!endpoint_of_candidate(tx, errands->arena, errands->this->config.secrets, errands->action->owner, errands->args,
                               &endpoint, err))
        return false;
    errands->start = json_pack("{s:s, s:i, s:s, s:O, s:o, s:{s:b}}", "name", "test", "run", ERRAND_NUMBER, "action",
                               "instance", "source", endpoint, "state_dir",
                               json_string_lossy(errands->this->config.state_dir), "more", "prepare", 0);
    return true;
}

/* It may be stored nowhere. */
static json_t *render_candidate(const Errands *errands) {
    json_t *answer = json_deep_copy(json_object_get(errands->args, "profile"));

    (void)json_object_set_new(answer, "name", json_string(errands->action->owner));
    return answer;
}

/* A server that answers, and lets us in. */
static bool test_connection(Errands *errands, ErrandEnd *end, Error *err) {
    SeatPicture picture = {0};
    bool ok = errand_look_at(errands, "", &picture, err);

    if (ok && !errand_is_begun(&picture))
        ok = store_read(errands->this->config.store, errands->arena, make_test, errands, err) &&
             errand_launch(errands, "", err);
    else if (ok && errand_is_over(&picture) && picture.seat.state != SEAT_DONE)
        errand_refuse(&picture.error, end);
    else if (ok && errand_is_over(&picture))
        *end = (ErrandEnd){.over = true, .type = "ConnectionProfile", .answer = render_candidate(errands)};
    seat_picture_fini(&picture);
    return ok;
}

/* ---- Those that are over at once ---- */

/* Databases that were added are seen by the next look at the job; the rest counts from the next session on. */
static bool reconfigure(Errands *errands UNUSED, ErrandEnd *end, Error *err UNUSED) {
    *end = (ErrandEnd){.over = true, .type = "MigrationJob"};
    return true;
}

/* ---- RESTART_OBJECTS ---- */

bool is_named_in(const json_t *list, const char *database) {
    for (size_t at = 0; at < json_array_size(list); at++)
        if (strcmp(database_at(list, at), database) == 0)
            return true;
    return false;
}

/* By this very errand, whose entry has come again. */
static bool is_begun_anew(const Errands *errands, const Record *object) {
    return strcmp(json_get_string(object->run, seat_run_RESTARTED, ""), errands->operation) == 0;
}

/* Those that the filter names, or those that have failed. One that is promoted is the application's. */
static bool is_to_begin_anew(const Errands *errands, const Record *object) {
    const json_t *filter = json_object_get(json_object_get(errands->args, "objectsFilter"), "sourceObjectsConfig");
    const json_t *list = json_get_array(filter, "objectConfigs");
    const char *state = object->resource.state;

    if (strcmp(state, object_state_name(OBJECT_COMPLETED)) == 0 || is_begun_anew(errands, object))
        return false;
    return json_array_size(list) > 0 ? is_named_in(list, seat_database(object))
                                     : strcmp(state, object_state_name(OBJECT_FAILED)) == 0;
}

/* As if nothing had been begun for it yet, and as if the job had been asked to begin anew. */
static bool begin_objects_anew(StoreTx *tx, void *context, Error *err) {
    const Errands *errands = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Record *objects = NULL;
    size_t count = 0;
    bool ok = objects_load(tx, arena, errands->action->owner, &objects, &count, err);

    for (size_t at = 0; ok && at < count; at++) {
        json_t *run = objects[at].run;

        if (!is_to_begin_anew(errands, &objects[at]))
            continue;
        if (promotes_wish(&objects[at]) != NULL) {
            ok = error_set(err, REASON_JOB_STATE, "database %s is being promoted: call that off first",
                           seat_database(&objects[at]));
            break;
        }
        (void)json_object_set_new(run, seat_run_RESTARTED, json_string(errands->operation));
        (void)json_object_set_new(run, seat_run_LAUNCH, json_integer(-1));
        (void)json_object_set_new(run, seat_run_SETTLED, json_integer(-1));
        (void)json_object_del(run, seat_run_LOSSES);
        (void)json_object_del(run, seat_run_RETRY_AT_US);
        ok = record_save(tx, arena, &objects[at], err);
    }
    records_fini(objects, count);
    return ok;
}

static bool has_stopped(const Record *object) {
    const char *state = object->resource.state;

    return strcmp(state, object_state_name(OBJECT_FAILED)) == 0 ||
           strcmp(state, object_state_name(OBJECT_STOPPED)) == 0;
}

/* Due as at the beginning of a launch, while the others are not. */
static bool begin_again(StoreTx *tx, Arena *arena, Record *object, Error *err) {
    (void)json_object_set_new(object->run, seat_run_LAUNCH, json_integer(-1));
    (void)json_object_del(object->run, seat_run_LOSSES);
    (void)json_object_del(object->run, seat_run_RETRY_AT_US);
    return record_save(tx, arena, object, err);
}

bool objects_begin_failed(StoreTx *tx, const char *name, bool *ret_later UNUSED, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(record_fini) Record job = {0};
    Record *objects = NULL;
    size_t count = 0;
    bool unprepared = false;
    bool ok = job_load(tx, name, &job, err) && objects_load(tx, arena, name, &objects, &count, err);

    for (size_t at = 0; ok && at < count; at++) {
        if (!has_stopped(&objects[at]) || !job_names(&job, seat_database(&objects[at])))
            continue;
        unprepared = unprepared || !is_prepared_database(&objects[at]);
        ok = begin_again(tx, arena, &objects[at], err);
    }
    records_fini(objects, count);
    return ok && (!unprepared || (instance_session_again(&job), job_save(tx, arena, &job, err)));
}

/* Over as soon as the store says that they are due. */
static bool restart_objects(Errands *errands, ErrandEnd *end, Error *err) {
    if (!store_write(errands->this->config.store, errands->arena, begin_objects_anew, errands, err))
        return false;
    *end = (ErrandEnd){.over = true, .type = "MigrationJob"};
    return true;
}

typedef struct ErrandRow {
    bool (*look)(Errands *errands, ErrandEnd *end, Error *err);
    bool needs_job;
    bool only_looks; /* and can be left at any moment */
} ErrandRow;

static const ErrandRow rows[ERRAND_MAX_] = {
    [ERRAND_VERIFY] = {verify_job, true, true},
    [ERRAND_FETCH_OBJECTS] = {fetch, true, true},
    [ERRAND_DEMOTE] = {demote_destination, true},
    [ERRAND_RELEASE] = {release_destination, true},
    [ERRAND_RECONFIGURE] = {reconfigure, false},
    [ERRAND_PROMOTE_OBJECTS] = {promote_objects, true},
    [ERRAND_RESTART_OBJECTS] = {restart_objects, false},
    [ERRAND_TEST_CONNECTION] = {test_connection, false, true},
    [ERRAND_PROVISION] = {provision, false},
    [ERRAND_DEPROVISION] = {deprovision, false},
    [ERRAND_READ_LOG] = {read_log, false, true},
};

/* ---- One look ---- */

static bool load_job(StoreTx *tx, Errands *errands, Error *err) {
    json_t *candidate = json_object_get(errands->args, "migrationJob");

    record_fini(&errands->job);
    errands->job = (Record){0};
    if (!job_load(tx, errands->action->owner, &errands->job, err))
        return false;
    if (candidate != NULL) {
        json_freep(&errands->job.api);
        errands->job.api = json_deep_copy(candidate);
    }
    return true;
}

static bool load_what_is_asked(StoreTx *tx, void *context, Error *err) {
    Errands *errands = context;

    return operation_is_cancelled(tx, errands->operation, &errands->is_cancelled, err) &&
           (!errands->needs_job || load_job(tx, errands, err));
}

static bool find(const char *name, Errand *ret_errand) {
    for (Errand errand = 0; errand < ERRAND_MAX_; errand++)
        if (strcmp(errand_name(errand), name) == 0) {
            *ret_errand = errand;
            return true;
        }
    return false;
}

static const char *folder_of(const Supervisor *this, Arena *arena, const json_t *body) {
    return arena_printf(arena, "%s/sessions/errands/%016" PRIx64, this->config.state_dir,
                        hash_text64(json_get_string(body, "operation", "")));
}

void errand_tidy(const Supervisor *this, const StoreAction *action) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *body = NULL;
    Error why;

    if (!json_parse(action->body, strlen(action->body), &body, &why))
        return;
    const char *folder = folder_of(this, arena, body);
    if (access(folder, F_OK) == 0 && !fd_remove_tree(folder, &why))
        log_warning("%s of %s is over, its files are left: %s", action->action, action->owner, why.message);
}

bool errand_look(Supervisor *this, Arena *arena, const StoreAction *action, ErrandEnd *ret_end, Error *err) {
    CLEANUP(json_freep) json_t *body = NULL;
    Errands errands = {.this = this, .arena = arena, .action = action};
    Errand errand = ERRAND_MAX_;
    Error why;

    *ret_end = (ErrandEnd){0};
    if (!find(action->action, &errand) || !json_parse(action->body, strlen(action->body), &body, err))
        return error_set(err, REASON_STORE_DAMAGED, "%s of %s is no errand", action->action, action->owner);
    errands.args = json_object_get(body, "args");
    errands.folder = folder_of(this, arena, body);
    errands.operation = json_get_string(body, "operation", "");
    errands.needs_job = rows[errand].needs_job;
    bool ok = store_read(this->config.store, arena, load_what_is_asked, &errands, &why);
    if (ok && errands.is_cancelled && rows[errand].only_looks && verify_fixes(&errands) == NULL) {
        error_set(&why, REASON_CANCELLED, "%s was called off", errand_verb(errand));
        errand_refuse(&why, ret_end);
    } else {
        ok = ok && rows[errand].look(&errands, ret_end, &why);
    }
    record_fini(&errands.job);
    json_freep(&errands.start);
    if (!ok && is_of_the_store(&why)) {
        *err = why;
        return false;
    }
    if (!ok)
        errand_refuse(&why, ret_end);
    return true;
}
