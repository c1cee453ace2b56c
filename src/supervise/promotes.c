/*
 * A promote of one database alone.
 *
 * NOTES
 * The errand writes the wish into each object that it names, all in one transaction, and then waits for the looks at
 * the job to write how each ended. A daemon that begins anew finds both in the store. The wish goes to the session as
 * that of the whole job does; a session that is lost on the way is begun again by itself and asked again.
 *
 * What ends the wait otherwise: the job is stopped, has failed, or is deleted. Whatever a session does of the promote
 * then is seen by the next one: it goes on with what is committed in the destination (engine/promote).
 */
#include "supervise/promotes.h"

#include "jobs/operation.h"
#include "model/status.h"
#include "supervise/errands.h"

#include <string.h>

enum { SAID_MAX = 8 * 1024 };

static json_t *promote_of(const Record *object) {
    return json_object_get(object->run, seat_run_PROMOTE);
}

static bool is_open(const json_t *promote) {
    return promote != NULL && !json_get_bool(promote, "over", false);
}

const char *promotes_wish(const Record *object) {
    const json_t *promote = promote_of(object);

    return is_open(promote) ? json_get_string(promote, "operation", NULL) : NULL;
}

bool promotes_is_cancelled(const Record *object) {
    return is_open(promote_of(object)) && json_get_bool(promote_of(object), "cancel", false);
}

static void end_it(json_t *promote, const Error *why) {
    (void)json_object_set_new(promote, "over", json_true());
    if (why != NULL)
        (void)json_object_set_new(promote, "error", status_to_json(why, NULL));
}

/* No session comes to it any more. */
static bool is_given_up(const Seat *seat) {
    bool ended = seat->state == SEAT_FAILED || seat->state == SEAT_LOST || seat->state == SEAT_STOPPED;

    return ended && seat->due == DUE_NOTHING && !seat->may_try_again;
}

bool promotes_note(Record *object, const SeatPicture *picture) {
    const Seat *seat = &picture->seat;
    json_t *promote = promote_of(object);
    bool failed = is_given_up(seat);

    if (!is_open(promote) || (seat->state != SEAT_DONE && seat->state != SEAT_UNDONE && !failed))
        return false;
    end_it(promote, seat->state != SEAT_DONE && picture->has_error ? &picture->error : NULL);
    return true;
}

/* One that is just being stopped may have come to its end. */
bool promotes_leave(Record *object, const SeatPicture *picture) {
    json_t *promote = promote_of(object);
    Error why;

    if (!is_open(promote) || (seat_is_alive(picture->seat.state) && !picture->seat.removing))
        return false;
    error_set(&why, REASON_CANCELLED, "database %s was taken out of the job before its promote was over",
              picture->database);
    error_remedy(&why, "nothing goes on with it: whether its destination was opened, that tells");
    end_it(promote, seat_is_promoted(picture) ? NULL : &why);
    return true;
}

bool promotes_say(StoreTx *tx, Arena *arena, const char *operation, const StringVec *promoted, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, SAID_MAX);
    if (promoted->len == 0)
        return true;
    buf_append_str(&text, "promoted all the same:");
    for (size_t at = 0; at < promoted->len; at++)
        buf_printf(&text, "%s %s", at > 0 ? "," : "", promoted->items[at]);
    return operation_say(tx, arena, operation, text.overflowed ? "many are promoted all the same" : text.data, err);
}

/* ---- The errand ---- */

typedef struct Asking {
    Errands *errands;
    const json_t *list;
    size_t waiting; /* databases that are not promoted yet */
    json_t *error;  /* the first one; ours */
    bool refused;
    Error why;
} Asking;

static void refuse(Asking *asking, const char *database, const char *why) {
    if (!asking->refused)
        error_set(&asking->why, REASON_JOB_STATE, "database %s %s: nothing was promoted", database, why);
    asking->refused = true;
}

static void refuse_all(Asking *asking) {
    if (!asking->refused)
        error_set(&asking->why, REASON_CANCELLED, "the promote was called off before it began");
    asking->refused = true;
}

/* Those that are promoted already are what is asked for. */
static void check(Asking *asking, const Record *object) {
    const char *database = seat_database(object), *phase = object->resource.phase;
    const char *wish = promotes_wish(object);
    bool follows = strcmp(phase, object_phase_name(OBJECT_PHASE_CDC)) == 0 ||
                   strcmp(phase, object_phase_name(OBJECT_PHASE_READY_FOR_PROMOTE)) == 0;

    if (strcmp(object->resource.state, object_state_name(OBJECT_COMPLETED)) == 0)
        return;
    if (wish != NULL && strcmp(wish, asking->errands->operation) != 0)
        refuse(asking, database, "is being promoted already");
    else if (!follows || strcmp(object->resource.state, object_state_name(OBJECT_RUNNING)) != 0)
        refuse(asking, database, "is not at work following its source");
}

static bool is_asked(const Asking *asking, const Record *object) {
    return strcmp(json_get_string(promote_of(object), "operation", ""), asking->errands->operation) == 0;
}

static bool ask(const Asking *asking, Record *object, StoreTx *tx, Arena *arena, Error *err) {
    if (strcmp(object->resource.state, object_state_name(OBJECT_COMPLETED)) == 0)
        return true;
    (void)json_object_set_new(object->run, seat_run_PROMOTE,
                              json_pack("{s:s}", "operation", asking->errands->operation));
    return record_save(tx, arena, object, err);
}

/* What is left of it when the job does not work any more. */
static bool give_up(Record *object, StoreTx *tx, Arena *arena, Error *err) {
    Error why;

    if (!is_open(promote_of(object)))
        return true;
    error_set(&why, REASON_CANCELLED, "database %s: the job stopped before the promote was over",
              seat_database(object));
    error_remedy(&why, "resume the job: its phase, and that of the database, then say how far the promote came");
    end_it(promote_of(object), &why);
    return record_save(tx, arena, object, err);
}

static bool cancel(Record *object, StoreTx *tx, Arena *arena, Error *err) {
    if (!is_open(promote_of(object)) || promotes_is_cancelled(object))
        return true;
    (void)json_object_set_new(promote_of(object), "cancel", json_true());
    return record_save(tx, arena, object, err);
}

static void collect(Asking *asking, const Record *object) {
    const json_t *promote = promote_of(object);

    asking->waiting += is_open(promote);
    if (asking->error == NULL && json_object_get(promote, "error") != NULL)
        asking->error = json_deep_copy(json_object_get(promote, "error"));
}

static bool go_on(Asking *asking, Record *object, bool works, StoreTx *tx, Arena *arena, Error *err) {
    bool ok =
        works ? !asking->errands->is_cancelled || cancel(object, tx, arena, err) : give_up(object, tx, arena, err);

    if (ok)
        collect(asking, object);
    return ok;
}

static bool any_asked(const Asking *asking, const Record *objects, size_t count) {
    for (size_t at = 0; at < count; at++)
        if (is_named_in(asking->list, seat_database(&objects[at])) && is_asked(asking, &objects[at]))
            return true;
    return false;
}

static bool go_through(Asking *asking, Record *objects, size_t count, StoreTx *tx, Arena *arena, Error *err) {
    JobState state = job_view(&asking->errands->job).state;
    bool works = job_state_has_worker(state) && state != JOB_STOPPING, asked = any_asked(asking, objects, count);

    for (size_t at = 0; !asked && at < count; at++)
        if (is_named_in(asking->list, seat_database(&objects[at])))
            check(asking, &objects[at]);
    if (!asked && asking->errands->is_cancelled)
        refuse_all(asking);
    for (size_t at = 0; !asking->refused && at < count; at++) {
        if (!is_named_in(asking->list, seat_database(&objects[at])))
            continue;
        if (!asked && !ask(asking, &objects[at], tx, arena, err))
            return false;
        if (is_asked(asking, &objects[at]) && !go_on(asking, &objects[at], works, tx, arena, err))
            return false;
    }
    return true;
}

static bool say_how_it_ends(const Asking *asking, const Record *objects, size_t count, StoreTx *tx, Arena *arena,
                            Error *err) {
    StringVec promoted = {0};

    for (size_t at = 0; at < count; at++)
        if (is_named_in(asking->list, seat_database(&objects[at])) && is_asked(asking, &objects[at]) &&
            json_object_get(promote_of(&objects[at]), "error") == NULL)
            vec_push(arena, &promoted, seat_database(&objects[at]));
    return asking->error == NULL || asking->waiting > 0 ||
           promotes_say(tx, arena, asking->errands->operation, &promoted, err);
}

static bool look_at_objects(StoreTx *tx, void *context, Error *err) {
    Asking *asking = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Record *objects = NULL;
    size_t count = 0;

    json_freep(&asking->error);
    *asking = (Asking){.errands = asking->errands, .list = asking->list};
    bool ok = objects_load(tx, arena, asking->errands->action->owner, &objects, &count, err) &&
              go_through(asking, objects, count, tx, arena, err) &&
              say_how_it_ends(asking, objects, count, tx, arena, err);
    records_fini(objects, count);
    return ok;
}

bool promote_objects(Errands *errands, ErrandEnd *end, Error *err) {
    const json_t *filter = json_object_get(json_object_get(errands->args, "objectsFilter"), "sourceObjectsConfig");
    Asking asking = {.errands = errands, .list = json_get_array(filter, "objectConfigs")};

    if (!store_write(errands->this->config.store, errands->arena, look_at_objects, &asking, err)) {
        json_freep(&asking.error);
        return false;
    }
    if (asking.refused)
        errand_refuse(&asking.why, end);
    else if (asking.waiting == 0 && asking.error != NULL)
        *end = (ErrandEnd){.over = true, .refused = true, .status = json_incref(asking.error)};
    else if (asking.waiting == 0)
        *end = (ErrandEnd){.over = true, .type = "MigrationJob"};
    json_freep(&asking.error);
    return true;
}
