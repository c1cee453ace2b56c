/*
 * One look at a job: load it, look at its seats, decide, carry out. Again while facts come of it.
 *
 * NOTES
 * What is committed where, and what the next look (of this daemon, of one that begins anew, or of another node) sees:
 *
 *   the fact is decided, not committed     the same picture again, the same fact again
 *   the fact is committed                  the job's new state; the seats as they are
 *   a number is committed, no process yet  a seat without a word and without a child: due again (seat.c)
 *   the process runs                       its file; it is adopted without anything to be done
 *   a request was sent, or was not         the session's file does not show that it heard: it is sent again
 *
 * A session is started behind the commit that has its number, never before: two that both believe to be the one would
 * have different numbers, and the store only knows the later.
 */
#include "supervise/look.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"
#include "common/log.h"
#include "jobs/fact.h"
#include "supervise/progress.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { LOOKS_MAX = 10 };
static const int64_t progress_us = 2 * USEC_PER_SEC, pause_first_us = 5 * USEC_PER_SEC,
                     pause_most_us = 300 * USEC_PER_SEC;

/* ---- Loading ---- */

void records_fini(Record *records, size_t count) {
    for (size_t at = 0; records != NULL && at < count; at++)
        record_fini(&records[at]);
}

bool objects_load(StoreTx *tx, Arena *arena, const char *job, Record **ret_objects, size_t *ret_count, Error *err) {
    const StoreQuery query = {.kind = STORE_MIGRATION_JOB_OBJECT, .parent = job, .page_size = JOB_OBJECTS_MAX};
    StorePage page = {0};

    *ret_objects = NULL;
    *ret_count = 0;
    if (!store_list(tx, &query, &page, err))
        return false;
    Record *objects = arena_array(arena, Record, page.count + 1);
    for (size_t at = 0; at < page.count; at++)
        if (!record_open(&page.items[at], &objects[at], err)) {
            records_fini(objects, at);
            return false;
        }
    *ret_objects = objects;
    *ret_count = page.count;
    return true;
}

static void look_clear(Look *look) {
    for (size_t at = 0; look->pictures != NULL && at < look->count; at++)
        seat_picture_fini(&look->pictures[at]);
    records_fini(look->objects, look->count);
    record_fini(&look->job);
    look->job = (Record){0};
    look->objects = NULL;
    look->pictures = NULL;
    look->count = 0;
}

static bool load(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    look_clear(look);
    return job_load(tx, look->held->name, &look->job, err) &&
           objects_load(tx, look->arena, look->held->name, &look->objects, &look->count, err);
}

/* ---- Databases that the job names ---- */

const json_t *databases_named(const Record *job) {
    const json_t *config = json_object_get(json_object_get(job->api, "objectsConfig"), "sourceObjectsConfig");
    bool some = strcmp(json_get_string(config, "objectsSelectionType", ""), "SPECIFIED_OBJECTS") == 0;

    return some ? json_get_array(config, "objectConfigs") : NULL;
}

const char *database_at(const json_t *list, size_t at) {
    return json_get_string(json_object_get(json_array_get(list, at), "objectIdentifier"), "database", "");
}

static bool has_object(const Look *look, const char *database) {
    for (size_t at = 0; at < look->count; at++)
        if (strcmp(seat_database(&look->objects[at]), database) == 0)
            return true;
    return false;
}

bool is_selected(const Look *look, size_t at) {
    const json_t *list = databases_named(&look->job);
    bool found = list == NULL;

    for (size_t of = 0; !found && of < json_array_size(list); of++)
        found = strcmp(database_at(list, of), seat_database(&look->objects[at])) == 0;
    return found;
}

/* Known, and no part of the job (any more): what was made for it is removed, as if it were a job to be deleted. */
static bool is_deselected(const Look *look, size_t at) {
    return look->view.state != JOB_DELETING && !is_selected(look, at);
}

static bool lacks_objects(const Look *look) {
    const json_t *list = databases_named(&look->job);

    for (size_t at = 0; at < json_array_size(list); at++)
        if (!has_object(look, database_at(list, at)))
            return true;
    return false;
}

static bool make_objects(StoreTx *tx, void *context, Error *err) {
    const Look *look = context;
    const json_t *list = databases_named(&look->job);

    if (!lease_check(look->this, tx, look->held, err))
        return false;
    for (size_t at = 0; at < json_array_size(list); at++) {
        const ObjectNews news = {.database = database_at(list, at)};

        if (!has_object(look, news.database) && !object_put(tx, look->arena, look->held->name, &news, err))
            return false;
    }
    return true;
}

/* Before the first session, and when one was added since. */
static bool complete_objects(Look *look, Error *err) {
    JobState state = job_view(&look->job).state;

    if (!job_state_has_worker(state) || state == JOB_STOPPING || !lacks_objects(look))
        return true;
    return store_write(look->this->config.store, look->arena, make_objects, look, err) &&
           store_read(look->this->config.store, look->arena, load, look, err);
}

const char *seat_folder(const Supervisor *this, Arena *arena, const Record *job, const Record *object) {
    return arena_printf(arena, "%s/sessions/%s/%016" PRIx64, this->config.state_dir, job->resource.uid,
                        hash_text64(seat_database(object)));
}

/* ---- Looking ---- */

static const char *wish_of(const Look *look) {
    bool promotes = look->view.phase == JOB_PHASE_PROMOTE_IN_PROGRESS;

    return promotes ? json_get_string(json_object_get(look->job.run, job_run_OPERATION), "name", "") : NULL;
}

/* Of a database that is no part of the job the removal is due, until it was begun once. */
static int64_t launch_of(const Look *look, size_t at) {
    const json_t *run = look->objects[at].run;
    int64_t begun = json_get_int(run, seat_run_LAUNCH, 0);

    if (!is_deselected(look, at))
        return json_get_int(look->job.run, job_run_LAUNCH, 0);
    return json_get_bool(run, seat_run_REMOVING, false) ? begun : begun + 1;
}

static bool look_at_seat(const Look *look, size_t at, Error *err) {
    const Record *object = &look->objects[at];
    const char *folder = seat_folder(look->this, look->arena, &look->job, object);
    int64_t run = json_get_int(object->run, seat_run_RUN, 0);
    const SeatInput input = {
        .object = object,
        .node = look->this->home,
        .folder = folder,
        .wish = wish_of(look),
        .is_deleting = look->view.state == JOB_DELETING || is_deselected(look, at),
        .launch = launch_of(look, at),
        .anew = json_get_int(look->job.run, job_run_ANEW, 0),
        .has_child = children_lives(look->this->children, folder, run),
        .child_ended = children_has_ended(look->this->children, folder, run),
        .now_wall_us = clock_wall_us(),
    };

    return seat_look(look->arena, &input, &look->pictures[at], err);
}

/* ---- Lanes: databases that copy at the same time share them ---- */

static int64_t lanes_of_machine(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return MAX(2, (int64_t)cores);
}

static int64_t places_of_job(const Look *look) {
    int64_t most = MAX(1, lanes_of_machine() / 2);

    return MAX(1, MIN(most, (int64_t)look->count));
}

static bool takes_place(SeatState state) {
    return state == SEAT_BEGINNING || state == SEAT_CHECKING || state == SEAT_COPYING;
}

static void give_places(Look *look) {
    int64_t left = places_of_job(look);

    for (size_t at = 0; at < look->count; at++)
        left -= takes_place(look->pictures[at].seat.state);
    for (size_t at = 0; at < look->count; at++) {
        Seat *seat = &look->pictures[at].seat;
        seat->may_start = seat->may_start && is_prepared_database(&look->objects[at]);
        if (is_deselected(look, at))
            continue;
        bool wants = !seat_is_alive(seat->state) && seat->state != SEAT_DONE && seat->state != SEAT_REMOVED;

        if (!wants || !seat->may_start)
            continue;
        seat->may_start = left > 0;
        left -= seat->due == DUE_START || seat->may_try_again;
    }
}

/* ---- What is decided ---- */

/* A job that has no databases yet has nothing to look at. */
static void decide_without_seats(Look *look) {
    Decision *decision = &look->decision;

    decision->about = 0;
    decision->has_fact = look->view.state == JOB_DELETING || look->view.state == JOB_STOPPING;
    decision->fact = look->view.state == JOB_DELETING ? EVENT_PURGED : EVENT_WORKER_STOPPED;
}

void look_tells(Look *look, JobEvent fact, const Error *why) {
    look->why = *why;
    look->has_why = true;
    look->decision = (Decision){.has_fact = true, .fact = fact, .about = look->count};
}

static bool is_retry_due(const Look *look) {
    int64_t at_us = job_retry_at_us(&look->job);

    return at_us > 0 && at_us <= clock_wall_us() &&
           (look->view.state == JOB_FAILED || look->view.state == JOB_DELETING);
}

/* Those that are part of the job are decided about together; each of the others for itself, as of a job that is
 * deleted. */
static void decide_seats(Look *look) {
    static const JobView gone = {.state = JOB_DELETING};
    Seat *seats = arena_array(look->arena, Seat, look->count + 1);
    SeatOrder *orders = arena_array(look->arena, SeatOrder, look->count + 1);
    size_t *places = arena_array(look->arena, size_t, look->count + 1);
    size_t count = 0;

    for (size_t at = 0; at < look->count; at++) {
        if (is_deselected(look, at)) {
            (void)decide(&gone, &look->pictures[at].seat, 1, &look->orders[at]);
            continue;
        }
        places[count] = at;
        seats[count++] = look->pictures[at].seat;
    }
    if (count == 0) {
        decide_without_seats(look);
        return;
    }
    look->decision = decide(&look->view, seats, count, orders);
    for (size_t at = 0; at < count; at++)
        look->orders[places[at]] = orders[at];
    look->decision.about = look->decision.about < count ? places[look->decision.about] : look->count;
}

/* A job in its pause has told its error already, and begins nothing. */
static void pause_removal(Look *look) {
    if (look->decision.has_fact && look->decision.fact == EVENT_FATAL)
        look->decision.has_fact = false;
    for (size_t at = 0; at < look->count; at++)
        if (look->orders[at] == ORDER_REMOVE)
            look->orders[at] = ORDER_NOTHING;
}

void look_decide(Look *look) {
    look->orders = arena_array(look->arena, SeatOrder, look->count + 1);
    look->has_why = false;
    if (is_retry_due(look)) {
        look->decision = (Decision){.has_fact = true, .fact = EVENT_RETRY_DUE, .about = look->count};
        return;
    }
    decide_seats(look);
    if (look->view.state == JOB_DELETING && job_retry_at_us(&look->job) > 0)
        pause_removal(look);
}

static bool see(Look *look, Error *err) {
    look->view = job_view(&look->job);
    look->pictures = arena_array(look->arena, SeatPicture, look->count + 1);
    for (size_t at = 0; at < look->count; at++)
        if (!look_at_seat(look, at, err))
            return false;
    give_places(look);
    look_decide(look);
    return true;
}

/* ---- News of objects ---- */

static int64_t pause_us(int64_t losses) {
    int64_t pause = pause_first_us;

    for (int64_t at = 1; at < losses && pause < pause_most_us; at++)
        pause *= 2;
    return MIN(pause, pause_most_us);
}

/* What stands in `run` beside the news: only what a later look cannot find out from the files. */
static bool note_run(const Look *look, Record *object, const SeatPicture *picture) {
    bool changed = false;
    SeatState state = picture->seat.state;
    bool waits = json_get_int(object->run, seat_run_RETRY_AT_US, 0) > 0;

    if (picture->seat.anew && picture->seat.due == DUE_NOTHING &&
        (state == SEAT_COPYING || state == SEAT_FOLLOWING || state == SEAT_READY)) {
        (void)json_object_set_new(object->run, seat_run_SETTLED,
                                  json_integer(json_get_int(object->run, seat_run_LAUNCH, 0)));
        changed = true;
    }
    if (state == SEAT_READY)
        changed = json_object_del(object->run, seat_run_LOSSES) == 0 || changed;
    if (state == SEAT_REMOVED && !json_get_bool(object->run, seat_run_REMOVED, false)) {
        (void)json_object_set_new(object->run, seat_run_REMOVED, json_true());
        changed = true;
    }
    if (look->view.state == JOB_RUNNING && (state == SEAT_FAILED || state == SEAT_LOST) &&
        picture->seat.may_try_again && picture->seat.due == DUE_NOTHING && !waits) {
        int64_t losses = json_get_int(object->run, seat_run_LOSSES, 0);
        (void)json_object_set_new(
            object->run, seat_run_RETRY_AT_US,
            json_integer(clock_wall_us() + (state == SEAT_LOST && losses == 0 ? 0 : pause_us(losses))));
        changed = true;
    }
    return changed;
}

static bool is_news(const Record *object, const ObjectNews *news) {
    bool has_error = json_object_get(object->api, "error") != NULL;

    return strcmp(object->resource.state, object_state_name(news->state)) != 0 ||
           strcmp(object->resource.phase, object_phase_name(news->phase)) != 0 || has_error != (news->error != NULL);
}

/* When it is selected once more, it begins as if it never had: with a destination that is emptied first. */
static bool forget_run(Record *object) {
    if (json_get_int(object->run, seat_run_RUN, 0) == 0)
        return false;
    (void)json_object_clear(object->run);
    (void)json_object_set_new(object->run, seat_run_SETTLED, json_integer(-1));
    return true;
}

static bool note_object(const Look *look, size_t at, Record *object, ObjectNews *ret_news) {
    const SeatPicture *picture = &look->pictures[at];
    bool out = is_deselected(look, at);

    *ret_news = seat_news(picture, &look->view);
    if (out)
        ret_news->state = picture->seat.state == SEAT_REMOVED ? OBJECT_NOT_SELECTED : OBJECT_REMOVING;
    if (out && picture->seat.state == SEAT_REMOVED) {
        ret_news->phase = OBJECT_PHASE_NONE;
        ret_news->error = NULL;
        return forget_run(object);
    }
    return note_run(look, object, picture);
}

static bool save_objects(Look *look, StoreTx *tx, Error *err) {
    for (size_t at = 0; at < look->count; at++) {
        ObjectNews news;
        CLEANUP(record_fini) Record object = {0};

        if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, look->objects[at].resource.name, &object, err))
            return false;
        bool changed = note_object(look, at, &object, &news);
        if (!changed && !is_news(&object, &news))
            continue;
        object_note(&object, &news);
        if (!record_save(tx, look->arena, &object, err))
            return false;
    }
    return true;
}

static bool any_news(Look *look) {
    bool any = false;

    for (size_t at = 0; at < look->count; at++) {
        ObjectNews news;

        any = note_object(look, at, &look->objects[at], &news) || is_news(&look->objects[at], &news) || any;
    }
    return any;
}

/* ---- Progress ---- */

static void note_progress(const Look *look) {
    json_t *progress = progress_of_job(look->arena, look->pictures, look->count);

    json_freep(&look->held->progress);
    look->held->progress = progress;
    look->held->next_progress_us = clock_now_us() + progress_us;
}

static bool write_progress(const Look *look, StoreTx *tx, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, look->held->name, &job, err))
        return false;
    (void)json_object_set(job.api, "progress", look->held->progress);
    return job_save(tx, look->arena, &job, err);
}

static bool save_progress(StoreTx *tx, void *context, Error *err) {
    const Look *look = context;

    return lease_check(look->this, tx, look->held, err) && write_progress(look, tx, err);
}

static bool shows_progress(const Look *look) {
    return job_state_has_worker(look->view.state) && look->count > 0;
}

static bool tell_progress(Look *look, Error *err) {
    CLEANUP(json_freep) json_t *before = json_incref(look->held->progress);

    if (clock_now_us() < look->held->next_progress_us || !shows_progress(look))
        return true;
    note_progress(look);
    return (before != NULL && json_equal(before, look->held->progress)) ||
           store_write(look->this->config.store, look->arena, save_progress, look, err);
}

/* ---- Telling ---- */

static const Error *error_of(const Look *look) {
    const Decision *decision = &look->decision;

    if (look->has_why)
        return &look->why;
    bool known = decision->about < look->count && look->pictures[decision->about].has_error;
    return known ? &look->pictures[decision->about].error : NULL;
}

static bool tell(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    const Fact fact = {.event = look->decision.fact, .error = error_of(look)};
    bool taken = false;

    if (!lease_check(look->this, tx, look->held, err) || !save_objects(look, tx, err))
        return false;
    if (!look->decision.has_fact)
        return true;
    /* Whoever sees the new state sees the numbers that belong to it. */
    return (!shows_progress(look) || write_progress(look, tx, err)) &&
           job_fact(tx, look->arena, look->held->name, &fact, &taken, err);
}

static bool tell_once(Look *look, Error *err) {
    if (!look->decision.has_fact && !any_news(look))
        return true;
    if (look->decision.has_fact && shows_progress(look))
        note_progress(look);
    return store_write(look->this->config.store, look->arena, tell, look, err);
}

/* ---- Carrying out ---- */

typedef struct Beginning {
    Look *look;
    size_t at;
    int64_t run;
    json_t *start; /* the caller's */
} Beginning;

static void note_beginning(const Beginning *beginning, Record *object) {
    const Look *look = beginning->look;
    SeatOrder order = look->orders[beginning->at];
    bool by_itself = look->pictures[beginning->at].seat.due == DUE_NOTHING;
    int64_t losses = json_get_int(object->run, seat_run_LOSSES, 0);

    if (beginning->run > 1 && strcmp(json_get_string(object->run, seat_run_HOME, ""), look->this->home) != 0)
        (void)json_object_set_new(object->run, seat_run_MOVED, json_true());
    (void)json_object_set_new(object->run, seat_run_RUN, json_integer(beginning->run));
    (void)json_object_set_new(object->run, seat_run_HOME, json_string(look->this->home));
    (void)json_object_set_new(object->run, seat_run_REMOVING, json_boolean(order == ORDER_REMOVE));
    (void)json_object_set_new(object->run, seat_run_LAUNCH,
                              json_integer(json_get_int(look->job.run, job_run_LAUNCH, 0)));
    (void)json_object_del(object->run, seat_run_RETRY_AT_US);
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

    return beginning->run > 1 && (json_get_bool(object->run, seat_run_MOVED, false) || !seat_said_its_end(picture));
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
    beginning->run = json_get_int(object.run, seat_run_RUN, 0) + 1;
    note_beginning(beginning, &object);
    const StartOrder order = {.job = &look->job,
                              .object = &object,
                              .run = beginning->run,
                              .order = look->orders[beginning->at],
                              .seize = may_seize(beginning, &object),
                              .lanes = MAX(1, lanes_of_machine() / places_of_job(look))};
    return start_message(look->this, tx, look->arena, &order, &beginning->start, err) &&
           record_save(tx, look->arena, &object, err);
}

/* What stands in the way of a start, such as a profile without a host, is the job's error, not the daemon's. */
static bool fail_start(Look *look, const Error *why, Error *err) {
    look_tells(look, EVENT_FATAL, why);
    return store_write(look->this->config.store, look->arena, tell, look, err);
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

static bool start_seat(Look *look, size_t at, Error *err) {
    Beginning beginning = {.look = look, .at = at};
    const char *folder = seat_folder(look->this, look->arena, &look->job, &look->objects[at]);
    Error why;

    if (!store_write(look->this->config.store, look->arena, begin, &beginning, &why)) {
        json_freep(&beginning.start);
        *err = why;
        return !is_of_the_store(&why) && fail_start(look, &why, err);
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

static bool ask_seat(Look *look, size_t at, Error *err) {
    const char *folder = seat_folder(look->this, look->arena, &look->job, &look->objects[at]);
    bool promote = look->orders[at] == ORDER_PROMOTE;
    CLEANUP(json_freep) json_t *body = promote ? json_pack("{s:s}", "wish", wish_of(look)) : json_object();
    bool sent = false;

    return launch_ask(folder, promote, body, &sent, err);
}

static bool carry_out(Look *look, size_t at, Error *err) {
    switch (look->orders[at]) {
    case ORDER_START:
    case ORDER_START_ANEW:
    case ORDER_REMOVE:
        return start_seat(look, at, err);
    case ORDER_STOP:
    case ORDER_PROMOTE:
        return ask_seat(look, at, err);
    case ORDER_NOTHING:
    case ORDER_MAX_:
    default:
        return true;
    }
}

/* Nobody needs this node for the job any more: no process, nothing due. */
static bool is_at_rest(const Look *look) {
    if (job_state_has_worker(look->view.state) || look->view.state == JOB_DELETING || job_retry_at_us(&look->job) > 0)
        return false;
    for (size_t at = 0; at < look->count; at++)
        if (seat_is_alive(look->pictures[at].seat.state))
            return false;
    return true;
}

static bool act(Look *look, Error *err) {
    if (!tell_progress(look, err))
        return false;
    for (size_t at = 0; at < look->count; at++)
        if (!carry_out(look, at, err))
            return false;
    look->held->at_rest = is_at_rest(look);
    return true;
}

/* Behind the commit: whoever dies here leaves files, and nothing else. */
static void remove_folders(const Look *look) {
    const char *folder =
        arena_printf(look->arena, "%s/sessions/%s", look->this->config.state_dir, look->job.resource.uid);
    Error why;

    if (access(folder, F_OK) == 0 && !fd_remove_tree(folder, &why))
        log_warning("%s is removed, its files are not: %s", look->held->name, why.message);
}

static bool look_until_quiet(Look *look, Error *err) {
    for (int turn = 0; turn < LOOKS_MAX; turn++) {
        if (!store_read(look->this->config.store, look->arena, load, look, err) || !complete_objects(look, err) ||
            !see(look, err) || !instance_look(look, err) || !tell_once(look, err))
            return false;
        if (!look->decision.has_fact)
            return act(look, err);
        log_info("%s: %s", look->held->name, job_event_name(look->decision.fact));
        if (look->decision.fact == EVENT_PURGED) {
            remove_folders(look);
            return error_set(err, REASON_NO_RESOURCE, "%s is removed", look->held->name);
        }
    }
    return true; /* the next look goes on */
}

bool job_look(Supervisor *this, Held *held, Error *err) {
    Look look = {.this = this, .held = held, .arena = arena_new()};
    bool ok = look_until_quiet(&look, err);

    look_clear(&look);
    arena_free(look.arena);
    return ok;
}
