/* Orders of a look: sessions are begun, asked, and ended where they do not hear. */
#include "common/clock.h"
#include "common/log.h"
#include "supervise/destination.h"

#include <string.h>

static const int64_t hearing_us = 20 * USEC_PER_SEC, stopping_us = 90 * USEC_PER_SEC;

/* ---- Beginning ---- */

typedef struct Beginning {
    Look *look;
    size_t at;
    int64_t run;
    bool is_first;
    json_t *start; /* the caller's */
} Beginning;

/* What the removal before could not do is for the next one to do, which asks another side; what one that was lost would
 * have done is not known: it is done once more. */
static bool is_once_more(const SeatPicture *picture, const Record *object) {
    return picture->has_error && picture->error.reason == REASON_WORKER_LOST &&
           json_get_int(object->run, seat_run_LOSSES, 0) < SEAT_LOSSES_MAX;
}

/* By force: what the removal of a side could not do is kept, to be told at the end. That of both counts for nothing
 * once each side is tried by itself: that tells what is left. */
static void note_removal(const Beginning *beginning, Record *object) {
    const SeatPicture *picture = &beginning->look->pictures[beginning->at];
    json_t *left = json_object_get(object->run, seat_run_LEFT);
    int64_t begun = json_get_int(object->run, seat_run_FORCED, 0);

    if (!look_is_forced(beginning->look))
        return;
    if (begun > 0 && is_once_more(picture, object))
        return;
    (void)json_object_set_new(object->run, seat_run_FORCED, json_integer(begun + 1));
    if (left == NULL)
        (void)json_object_set_new(object->run, seat_run_LEFT, left = json_array());
    if (begun > 1 && picture->has_error)
        (void)json_array_append_new(left, json_string_lossy(picture->error.message));
}

static void note_beginning(const Beginning *beginning, Record *object) {
    const Look *look = beginning->look;
    SeatOrder order = look->orders[beginning->at];
    bool by_itself = look->pictures[beginning->at].seat.due == DUE_NOTHING;
    int64_t losses = json_get_int(object->run, seat_run_LOSSES, 0);

    if (!beginning->is_first && strcmp(json_get_string(object->run, seat_run_HOME, ""), look->this->home) != 0)
        (void)json_object_set_new(object->run, seat_run_MOVED, json_true());
    (void)json_object_set_new(object->run, seat_run_RUN, json_integer(beginning->run));
    (void)json_object_set_new(object->run, seat_run_HOME, json_string(look->this->home));
    (void)json_object_set_new(object->run, seat_run_REMOVING, json_boolean(order == ORDER_REMOVE));
    (void)json_object_set_new(object->run, seat_run_LAUNCH,
                              json_integer(json_get_int(look->job.run, job_run_LAUNCH, 0)));
    (void)json_object_del(object->run, seat_run_RETRY_AT_US);
    (void)json_object_del(object->run, seat_run_ENDED);
    (void)json_object_del(object->run, seat_run_BESIDE);
    if (order == ORDER_START_ANEW)
        (void)json_object_del(object->run, object_run_followed);
    if (order == ORDER_REMOVE)
        note_removal(beginning, object);
    if (by_itself)
        (void)json_object_set_new(object->run, seat_run_LOSSES, json_integer(losses + 1));
    else
        (void)json_object_del(object->run, seat_run_LOSSES);
}

/* What an earlier session of this seat may have left at work, on another node or as a worker without its session, is
 * not to go on. Where neither can be, whoever has the lock is not ours: another job moves the same database to the same
 * place, and each would end the other for ever. */
static bool may_seize(const Beginning *beginning, const Record *object) {
    const SeatPicture *picture = &beginning->look->pictures[beginning->at];

    return !beginning->is_first && (json_get_bool(object->run, seat_run_MOVED, false) || !seat_said_its_end(picture));
}

/* By the number of removals begun, this one among them. Of a server whose content is lost there is nothing to remove.
 */
static SeatForce force_of(const Look *look, const Record *object) {
    int64_t begun = json_get_int(object->run, seat_run_FORCED, 0);

    if (look->has_instance && (instance_is(&look->instance, INSTANCE_DAMAGED) || !is_prepared_database(object)))
        return FORCE_SOURCE_ONLY;

    return look_is_forced(look) && begun > 0 && begun <= FORCE_MAX_ ? (SeatForce)(begun - 1) : FORCE_BOTH;
}

static bool begin(StoreTx *tx, void *context, Error *err) {
    Beginning *beginning = context;
    Look *look = beginning->look;
    CLEANUP(record_fini) Record object = {0};
    const char *name = look->objects[beginning->at].resource.name;

    json_freep(&beginning->start);
    if (!lease_check(look->this, tx, look->held, err) ||
        !record_load(tx, STORE_MIGRATION_JOB_OBJECT, name, &object, err))
        return false;
    beginning->run = json_get_int(object.run, seat_run_RUN, 0);
    beginning->is_first = beginning->run == 0;
    beginning->run = MAX(beginning->run, json_get_int(object.run, seat_run_LAST, 0)) + 1;
    note_beginning(beginning, &object);
    const StartOrder order = {.job = &look->job,
                              .object = &object,
                              .run = beginning->run,
                              .order = look->orders[beginning->at],
                              .seize = may_seize(beginning, &object),
                              .force = force_of(look, &object),
                              .lanes = MAX(1, lanes_of_machine() / places_of_job(look))};
    return start_message(look->this, tx, look->arena, &order, &beginning->start, err) &&
           record_save(tx, look->arena, &object, err);
}

/* What stands in the way of a start, such as a profile without a host, is the job's error, not the daemon's. */
static bool fail_start(Look *look, const Error *why, Error *err) {
    look_decides(look, EVENT_FATAL, why);
    return look_tell(look, err);
}

bool is_of_the_store(const Error *err) {
    static const ErrorReason reasons[] = {REASON_STORE_UNAVAILABLE, REASON_STORE_LOCKED,        REASON_STORE_FULL,
                                          REASON_STORE_READ_ONLY,   REASON_LEASE_LOST,          REASON_STALE_VERSION,
                                          REASON_CANCELLED,         REASON_STORE_COMMIT_UNKNOWN};

    for (size_t at = 0; at < COUNT_OF(reasons); at++)
        if (err->reason == reasons[at])
            return true;
    return false;
}

typedef struct GivingUp {
    const Look *look;
    size_t at;
    const Error *why; /* NULL = nothing was made, so nothing is left */
} GivingUp;

static bool give_up(StoreTx *tx, void *context, Error *err) {
    const GivingUp *giving = context;
    const Look *look = giving->look;
    CLEANUP(record_fini) Record object = {0};

    if (!lease_check(look->this, tx, look->held, err) ||
        !record_load(tx, STORE_MIGRATION_JOB_OBJECT, look->objects[giving->at].resource.name, &object, err))
        return false;
    json_t *left = json_object_get(object.run, seat_run_LEFT);
    if (left == NULL && giving->why != NULL)
        (void)json_object_set_new(object.run, seat_run_LEFT, left = json_array());
    if (giving->why != NULL)
        (void)json_array_append_new(left, json_string_lossy(giving->why->message));
    (void)json_object_set_new(object.run, seat_run_REMOVED, json_true());
    return record_save(tx, look->arena, &object, err);
}

/* By force a removal that cannot even be begun, since a key or a profile is gone, does not keep the job. */
static bool fail_removal(Look *look, size_t at, const Error *why, Error *err) {
    GivingUp giving = {.look = look, .at = at, .why = why};

    return store_write(look->this->config.store, look->arena, give_up, &giving, err);
}

/* The destination is one that was lost, or lacks the database, and no session came so far that it could have made
 * anything on the source. */
static bool has_made_nothing(const Look *look, size_t at) {
    const Record *object = &look->objects[at];

    return look->orders[at] == ORDER_REMOVE && force_of(look, object) == FORCE_SOURCE_ONLY && !look_is_forced(look) &&
           json_get_string(object->run, seat_run_MIGRATION, NULL) == NULL &&
           json_array_size(json_object_get(object->run, seat_run_ORPHANS)) == 0;
}

static bool start_seat(Look *look, size_t at, Error *err) {
    GivingUp nothing = {.look = look, .at = at};

    if (has_made_nothing(look, at))
        return store_write(look->this->config.store, look->arena, give_up, &nothing, err);
    Beginning beginning = {.look = look, .at = at};
    const char *folder = seat_folder(look->this, look->arena, &look->job, &look->objects[at]);
    Error why;

    if (!store_write(look->this->config.store, look->arena, begin, &beginning, &why)) {
        json_freep(&beginning.start);
        *err = why;
        if (is_of_the_store(&why))
            return false;
        return look_is_forced(look) && look->orders[at] == ORDER_REMOVE ? fail_removal(look, at, &why, err)
                                                                        : fail_start(look, &why, err);
    }
    log_info("%s, database %s: session %lld, %s", look->held->name, look->pictures[at].database,
             (long long)beginning.run, seat_order_name(look->orders[at]));
    bool ok = launch_session(look->this->children, folder, beginning.run, beginning.start, &why);
    json_freep(&beginning.start);
    if (ok)
        return true;
    why.retryable = true; /* a disk that is full, a folder that nobody may write to */
    return fail_start(look, &why, err);
}

/* ---- Asking ---- */

/* One that is stopped by a signal, say, does not even take a request. */
static void end_by_force(const Look *look, const char *folder, const SeatPicture *picture, const char *why) {
    if (launch_kill(folder, picture->status.pid))
        log_warning("%s, database %s: process %lld %s, and was ended", look->held->name, picture->database,
                    (long long)picture->status.pid, why);
}

/* Is it so for longer than that, as far as this daemon has seen? */
static bool is_overdue(const Look *look, const char *what, int64_t limit_us) {
    json_t *since = look->held->asked;

    if (json_object_get(since, what) == NULL)
        (void)json_object_set_new(since, what, json_integer(clock_now_us()));
    return clock_now_us() - json_get_int(since, what, 0) > limit_us;
}

bool look_stop(Look *look, const char *folder, const SeatPicture *picture, Error *err) {
    bool sent = false;

    if (!is_overdue(look, folder, hearing_us))
        return launch_ask(folder, WIRE_STOP, NULL, &sent, err);
    end_by_force(look, folder, picture, "does not hear that it shall stop");
    return true;
}

/* It has heard, and its worker does not come to an end. */
void look_mind_stopping(const Look *look, const char *folder, const SeatPicture *picture) {
    const char *what = arena_printf(look->arena, "%s stops", folder);

    if (!seat_is_alive(picture->seat.state) || !picture->seat.stopping)
        (void)json_object_del(look->held->asked, what);
    else if (is_overdue(look, what, stopping_us))
        end_by_force(look, folder, picture, "does not come to a stop");
}

/* The name says which promote is to be taken back, for one that has not heard of it yet. */
static bool ask_promote(const Look *look, size_t at, const char *folder, Error *err) {
    bool cancel = look->orders[at] == ORDER_CANCEL, sent = false;
    CLEANUP(json_freep) json_t *body = json_pack("{s:s, s:b}", "wish", wish_at(look, at), "cancel", cancel);

    return launch_ask(folder, WIRE_PROMOTE, body, &sent, err);
}

bool look_carry_out(Look *look, size_t at, Error *err) {
    const char *folder = seat_folder(look->this, look->arena, &look->job, &look->objects[at]);

    if (look->orders[at] != ORDER_STOP)
        (void)json_object_del(look->held->asked, folder);
    look_mind_stopping(look, folder, &look->pictures[at]);
    switch (look->orders[at]) {
    case ORDER_START:
    case ORDER_START_ANEW:
    case ORDER_REMOVE:
        return start_seat(look, at, err);
    case ORDER_STOP:
        return look_stop(look, folder, &look->pictures[at], err);
    case ORDER_PROMOTE:
    case ORDER_CANCEL:
        return ask_promote(look, at, folder, err);
    case ORDER_NOTHING:
    case ORDER_MAX_:
    default:
        return true;
    }
}
