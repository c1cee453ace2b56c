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
#include "jobs/promotable.h"
#include "supervise/destination.h"
#include "supervise/guard.h"
#include "supervise/promotes.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { LOOKS_MAX = 10, COPIES_A_CORE = 4 };

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
    json_freep(&look->details);
    for (size_t at = 0; look->pictures != NULL && at < look->count; at++)
        seat_picture_fini(&look->pictures[at]);
    records_fini(look->objects, look->count);
    record_fini(&look->job);
    record_fini(&look->instance);
    look->job = look->instance = (Record){0};
    look->objects = NULL;
    look->pictures = NULL;
    look->count = 0;
}

static bool load(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    look_clear(look);
    return job_load(tx, look->held->name, &look->job, err) && destination_load(tx, look, err) &&
           objects_load(tx, look->arena, look->held->name, &look->objects, &look->count, err);
}

/* ---- Databases that the job names ---- */

static bool has_object(const Look *look, const char *database) {
    for (size_t at = 0; at < look->count; at++)
        if (strcmp(seat_database(&look->objects[at]), database) == 0)
            return true;
    return false;
}

bool is_selected(const Look *look, size_t at) {
    return job_names(&look->job, seat_database(&look->objects[at]));
}

bool is_deselected(const Look *look, size_t at) {
    return look->out[at];
}

static bool is_out(const Look *look, size_t at) {
    bool removing = json_get_bool(look->objects[at].run, seat_run_REMOVING, false);

    return look->view.state != JOB_DELETING && (removing || !is_selected(look, at));
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

/* One database's own comes first: its answer is waited for. */
const char *wish_at(const Look *look, size_t at) {
    bool promotes = look->view.state == JOB_RUNNING && look->view.phase == JOB_PHASE_PROMOTE_IN_PROGRESS;
    const char *own = promotes_wish(&look->objects[at]);

    promotes = promotes && !instance_keeps_promote(look);
    return own != NULL ? own : promotes ? json_get_string(job_operation(&look->job), "name", "") : NULL;
}

static bool is_cancelled(const Look *look, size_t at) {
    return promotes_wish(&look->objects[at]) != NULL ? promotes_is_cancelled(&look->objects[at])
                                                     : job_is_cancelled(&look->job);
}

bool look_is_forced(const Look *look) {
    const json_t *args = json_object_get(look->job.run, job_run_WISH);

    return look->view.state == JOB_DELETING && json_get_bool(args, "force", false);
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
        .job = look->held->name,
        .folder = folder,
        .wish = wish_at(look, at),
        .wish_is_own = promotes_wish(object) != NULL,
        .cancelling = is_cancelled(look, at),
        .is_deleting = look->view.state == JOB_DELETING || is_deselected(look, at),
        .is_apart = is_deselected(look, at),
        .is_forced = look_is_forced(look),
        .is_continuous = look->view.is_continuous,
        .launch = launch_of(look, at),
        .anew = json_get_int(look->job.run, job_run_ANEW, 0),
        .has_child = children_lives(look->this->children, folder, run),
        .child_ended = children_has_ended(look->this->children, folder, run),
        .now_wall_us = clock_wall_us(),
    };

    return seat_look(look->arena, &input, &look->pictures[at], err);
}

bool process_look(const Supervisor *this, Arena *arena, const Process *process, SeatPicture *ret_picture, Error *err) {
    CLEANUP(json_freep)
    json_t *api = json_pack("{s:{s:o}}", "sourceObject", "database", json_string_lossy(process->name));
    const Record object = {.api = api, .run = process->run};
    int64_t number = json_get_int(process->run, seat_run_RUN, 0);
    const SeatInput input = {
        .object = &object,
        .node = this->home,
        .folder = process->folder,
        .launch = process->launch,
        .has_child = children_lives(this->children, process->folder, number),
        .child_ended = children_has_ended(this->children, process->folder, number),
    };

    return seat_look(arena, &input, ret_picture, err);
}

/* ---- Lanes: databases that copy at the same time share them ---- */

int64_t lanes_of_machine(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return MAX(2, (int64_t)cores);
}

int64_t places_of_job(const Look *look) {
    int64_t most = MAX(1, lanes_of_machine() / 2);

    return MAX(1, MIN(most, (int64_t)look->count));
}

static bool takes_place(const SeatPicture *picture) {
    SeatState state = picture->seat.state;

    return state == SEAT_BEGINNING || state == SEAT_CHECKING || (state == SEAT_COPYING && !picture->is_loaded);
}

/* One that goes on with following must not wait behind copies: its source keeps WAL meanwhile. */
static bool is_copying_job(const Look *look) {
    return look->view.phase == JOB_PHASE_NONE || look->view.phase == JOB_PHASE_FULL_DUMP;
}

/* Some for each core, whatever jobs they are of: fifty at once would only be in each other's way, but a few that take
 * days must not keep the others waiting. */
static int64_t places_of_node(const Look *look) {
    int64_t left = lanes_of_machine() * COPIES_A_CORE;

    for (size_t at = 0; at < look->this->held_count; at++)
        if (look->this->held[at] != look->held)
            left -= look->this->held[at]->copying;
    return left;
}

static int64_t copies_of(const Look *look) {
    int64_t count = 0;

    for (size_t at = 0; at < look->count; at++)
        count += takes_place(&look->pictures[at]);
    return count;
}

static void give_places(Look *look) {
    int64_t most = places_of_job(look), copies = copies_of(look);

    if (is_copying_job(look))
        most = MIN(most, places_of_node(look));
    for (size_t at = 0; at < look->count; at++) {
        Seat *seat = &look->pictures[at].seat;
        seat->may_start = seat->may_start && is_prepared_database(&look->objects[at]);
        if (is_deselected(look, at))
            continue;
        bool wants = !seat_is_alive(seat->state) && seat->state != SEAT_DONE && seat->state != SEAT_REMOVED;

        if (!wants || !seat->may_start)
            continue;
        seat->may_start = copies < most;
        copies += seat->may_start && (seat->due == DUE_START || seat->may_try_again);
    }
    look->held->copying = is_copying_job(look) ? copies : 0;
}

/* ---- What is decided ---- */

/* A job that has no databases yet has nothing to look at. */
static void decide_without_seats(Look *look) {
    Decision *decision = &look->decision;

    decision->about = 0;
    decision->has_fact = look->view.state == JOB_DELETING || look->view.state == JOB_STOPPING;
    decision->fact = look->view.state == JOB_DELETING ? EVENT_PURGED : EVENT_WORKER_STOPPED;
}

void look_decides(Look *look, JobEvent fact, const Error *why) {
    look->why = *why;
    look->has_why = true;
    look->decision = (Decision){.has_fact = true, .fact = fact, .about = look->count};
}

static bool is_retry_due(const Look *look) {
    int64_t at_us = job_retry_at_us(&look->job);

    return at_us > 0 && at_us <= clock_wall_us() &&
           (look->view.state == JOB_FAILED || look->view.state == JOB_DELETING);
}

/* It ends before it began: what the look sees of the databases says why. */
static void refuse_promote(Look *look) {
    PromotableList list = {.arena = look->arena, .job = look->held->name};

    for (size_t at = 0; at < look->count; at++) {
        const SeatPicture *picture = &look->pictures[at];
        const ObjectNews news = seat_news(picture, &look->view);
        const Promotable one = {.database = picture->database,
                                .state = object_state_name(news.state),
                                .phase = object_phase_name(news.phase),
                                .error = news.error != NULL ? news.error->message : "",
                                .needs_anew = picture->needs_anew,
                                .has_followed = json_get_bool(look->objects[at].run, object_run_followed, false)};

        if (!is_deselected(look, at))
            promotable_add(&list, &one);
    }
    look->has_why = !promotable_end(&list, &look->why);
}

/* Those that are part of the job are decided about together; each of the others for itself. One that is to be part of
 * it again is as one that waits for its turn. */
static void decide_seats(Look *look) {
    Seat *seats = arena_array(look->arena, Seat, look->count + 1);
    SeatOrder *orders = arena_array(look->arena, SeatOrder, look->count + 1);
    size_t *places = arena_array(look->arena, size_t, look->count + 1);
    size_t count = 0;

    for (size_t at = 0; at < look->count; at++) {
        bool out = is_deselected(look, at);

        if (out)
            look->orders[at] = decide_apart(&look->pictures[at].seat);
        if (out && !is_selected(look, at))
            continue;
        places[count] = at;
        seats[count++] = out ? (Seat){.state = SEAT_IDLE} : look->pictures[at].seat;
    }
    if (count == 0) {
        decide_without_seats(look);
        return;
    }
    look->decision = decide(&look->view, seats, count, orders);
    for (size_t at = 0; at < count; at++)
        if (!is_deselected(look, places[at]))
            look->orders[places[at]] = orders[at];
    look->decision.about = look->decision.about < count ? places[look->decision.about] : look->count;
    if (look->decision.has_fact && look->decision.fact == EVENT_PROMOTE_UNDONE &&
        look->pictures[look->decision.about].seat.state != SEAT_UNDONE)
        refuse_promote(look);
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
    look->out = arena_array(look->arena, bool, look->count + 1);
    for (size_t at = 0; at < look->count; at++)
        look->out[at] = is_out(look, at);
    for (size_t at = 0; at < look->count; at++)
        if (!look_at_seat(look, at, err))
            return false;
    give_places(look);
    look_decide(look);
    return true;
}

/* ---- All of it ---- */

/* Of a database that was taken out something is still to be removed. */
static bool is_removing(const Look *look, size_t at) {
    return is_deselected(look, at) && look->pictures[at].seat.state != SEAT_REMOVED;
}

/* Nobody needs this node for the job any more: no process, nothing due. */
static bool is_at_rest(const Look *look) {
    if (job_state_has_worker(look->view.state) || look->view.state == JOB_DELETING || job_retry_at_us(&look->job) > 0 ||
        guard_is_due(look) || look->instance_lives)
        return false;
    for (size_t at = 0; at < look->count; at++)
        if (seat_is_alive(look->pictures[at].seat.state) || is_removing(look, at))
            return false;
    return true;
}

static bool act(Look *look, Error *err) {
    if (!look_tell_progress(look, err))
        return false;
    for (size_t at = 0; at < look->count; at++)
        if (!look_carry_out(look, at, err))
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
            !see(look, err) || !destination_look(look, err) || !instance_look(look, err) || !guard_look(look, err) ||
            !look_tell(look, err))
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
