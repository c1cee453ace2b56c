/*
 * The destination of a job, when it is a server that the service made (jobs/instance.h).
 *
 * NOTES
 * The instance's record says what is wished and what is in force, the job's seats say how far the copy is; each look
 * compares them and writes at most one wish into the instance's record, which the node that has it carries out
 * (provision.c). Sessions are begun only when the instance is ready for them.
 *
 *   what is seen                        what is done
 *   the job starts, nothing was begun   LOAD is wished, with the job's name as the loader, when nobody else uses the
 *                                       server, or ever did (`used`: what a deleted job left there is somebody's)
 *   LOAD is in force                    sessions begin; other jobs of the same instance wait
 *   every copy is whole                 MIGRATING is wished. Sessions wait, and go on when the server itself says that
 *                                       it is durable (worker/durable.c)
 *   MIGRATING is in force               the loader is struck out
 *   a promote is wished                 `promoted` is set, and only then a session is asked: behind its OPEN
 *                                       applications write there, whatever becomes of the session
 *   a database is promoted              PRIMARY is wished
 *   the job is completed                PRIMARY is wished, in the transaction that completes it (tell.c)
 *
 * PRIMARY is for the first database that is promoted, not for the last job that ends: an application has written there
 * since, and another job may follow for weeks, or fail for good. It asks nothing of those jobs: settings are those of
 * MIGRATING, nothing is restarted, base backup and standby take what is committed and the WAL behind it, and what
 * somebody else is loading meanwhile is as good in them as in the server. The price is disk and time: a backup reads
 * all of the server while others fill it. It is not wished before the promote is done: a backup would make its outage
 * longer. While PRIMARY is brought about, which may copy a whole standby, sessions are begun as ever.
 *
 * A server that goes down in load mode is DAMAGED: its files are worth nothing, and the ledgers of all sessions were in
 * them. First the sessions are ended; then one transaction tells the job DEST_LOST, so that it begins anew (launch and
 * anew grow), and wishes the instance anew. Dying before it: the same picture again. Dying behind it: the instance is
 * made, the job waits for it, and its sessions begin by removing what the earlier ones made on the source.
 */
#include "supervise/destination.h"

#include "common/log.h"
#include "jobs/fact.h"
#include "provision/provider.h"

#include <string.h>

#define MODE_LOAD "LOAD"
#define MODE_MIGRATING "MIGRATING"
#define MODE_PRIMARY "PRIMARY"

/* ---- Loading ---- */

bool destination_load(StoreTx *tx, Look *look, Error *err) {
    CLEANUP(record_fini) Record profile = {0};
    const char *name = json_get_string(look->job.api, "destination", "");

    record_fini(&look->instance);
    look->instance = (Record){0};
    look->has_instance = false;
    if (!record_load(tx, STORE_CONNECTION_PROFILE, name, &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    const char *instance = profile_instance(look->arena, &profile);
    if (instance == NULL)
        return true;
    look->has_instance = instance_load(tx, instance, &look->instance, err);
    return look->has_instance || err->reason == REASON_NO_RESOURCE;
}

static const char *loader_of(const Look *look) {
    return json_get_string(look->instance.run, instance_run_LOADER, "");
}

/* May a database in it be an application's? */
static bool is_promoted(const Record *instance) {
    return json_get_bool(instance->run, instance_run_PROMOTED, false);
}

static bool is_loader(const Look *look) {
    return strcmp(loader_of(look), look->held->name) == 0;
}

/* ---- Changing the instance's record ---- */

typedef struct Change {
    Look *look;
    void (*make)(const Look *look, Record *instance);
} Change;

/* It is the one that was looked at, or the next look decides anew. */
static bool change(StoreTx *tx, void *context, Error *err) {
    const Change *change = context;
    Look *look = change->look;
    CLEANUP(record_fini) Record instance = {0};

    if (!lease_check(look->this, tx, look->held, err) ||
        !instance_load(tx, look->instance.resource.name, &instance, err))
        return false;
    if (instance.resource.version != look->instance.resource.version)
        return true;
    change->make(look, &instance);
    return record_save(tx, look->arena, &instance, err);
}

static bool make_change(Look *look, void (*make)(const Look *, Record *), Error *err) {
    Change order = {.look = look, .make = make};

    return store_write(look->this->config.store, look->arena, change, &order, err);
}

/* From then on there is something in it. */
static void note_used(const Look *look UNUSED, Record *instance) {
    (void)json_object_set_new(instance->run, instance_run_USED, json_true());
}

static void want_load(const Look *look, Record *instance) {
    note_used(look, instance);
    (void)json_object_set_new(instance->run, instance_run_LOADER, json_string(look->held->name));
    instance_want_mode(instance, MODE_LOAD);
}

static void want_migrating(const Look *look UNUSED, Record *instance) {
    instance_want_mode(instance, MODE_MIGRATING);
}

static void note_promoted(const Look *look UNUSED, Record *instance) {
    (void)json_object_set_new(instance->run, instance_run_PROMOTED, json_true());
}

static void want_primary(const Look *look, Record *instance) {
    note_promoted(look, instance);
    instance_want_mode(instance, MODE_PRIMARY);
}

static void no_loader(const Look *look UNUSED, Record *instance) {
    (void)json_object_del(instance->run, instance_run_LOADER);
}

/* ---- Load mode ---- */

/* Nothing is begun by this look. */
static void hold(Look *look) {
    look->holds = true;
    for (size_t at = 0; at < look->count; at++)
        if (look->orders[at] == ORDER_START || look->orders[at] == ORDER_START_ANEW)
            look->orders[at] = ORDER_NOTHING;
}

/* Nothing of the job is in the instance yet. */
static bool is_untouched(const Look *look) {
    bool untouched = json_object_get(look->job.run, "instance") == NULL;

    for (size_t at = 0; at < look->count; at++)
        untouched = untouched && json_get_int(look->objects[at].run, seat_run_RUN, 0) == 0;
    return untouched;
}

typedef struct Users {
    const Look *look;
    bool alone;
} Users;

static bool uses(StoreTx *tx, const Look *look, const Record *job, bool *ret_uses, Error *err) {
    CLEANUP(record_fini) Record profile = {0};

    *ret_uses = false;
    if (!record_load(tx, STORE_CONNECTION_PROFILE, json_get_string(job->api, "destination", ""), &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    const char *instance = profile_instance(look->arena, &profile);
    *ret_uses = instance != NULL && strcmp(instance, look->instance.resource.name) == 0;
    return true;
}

static bool is_other_user(StoreTx *tx, const Look *look, const StoreResource *resource, bool *ret_is, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    *ret_is = false;
    if (strcmp(resource->name, look->held->name) == 0)
        return true;
    return record_open(resource, &job, err) && uses(tx, look, &job, ret_is, err);
}

static bool any_other_user(StoreTx *tx, const Look *look, bool *ret_any, Error *err) {
    StoreQuery query = {.kind = STORE_MIGRATION_JOB, .page_size = STORE_PAGE_MAX, .cursor = ""};
    StorePage page = {0};

    *ret_any = false;
    do {
        if (!store_list(tx, &query, &page, err))
            return false;
        for (size_t at = 0; at < page.count && !*ret_any; at++)
            if (!is_other_user(tx, look, &page.items[at], ret_any, err))
                return false;
        query.cursor = page.next_cursor;
    } while (!*ret_any && page.next_cursor[0] != '\0');
    return true;
}

static bool look_for_users(StoreTx *tx, void *context, Error *err) {
    Users *users = context;
    bool any = false;

    if (!any_other_user(tx, users->look, &any, err))
        return false;
    users->alone = !any;
    return true;
}

/* By this job or another one, which may be gone: what it left is there. */
static bool is_used(const Look *look) {
    return json_get_bool(look->instance.run, instance_run_USED, false) || is_promoted(&look->instance);
}

/* Once for each server, by the first job that it is for; a copy that was begun otherwise goes on otherwise. */
static bool begin_loading(Look *look, Error *err) {
    Users users = {.look = look};

    if (is_used(look) || look->view.state != JOB_STARTING)
        return true;
    if (!store_read(look->this->config.store, look->arena, look_for_users, &users, err))
        return false;
    hold(look); /* nothing is begun in a server that nobody has marked as used */
    bool may_load = users.alone && is_untouched(look) && loader_of(look)[0] == '\0' &&
                    strcmp(instance_wanted_mode(&look->instance), MODE_MIGRATING) == 0;
    return make_change(look, may_load ? want_load : note_used, err);
}

static bool is_whole(const Look *look, size_t at) {
    const SeatPicture *picture = &look->pictures[at];
    const Seat *seat = &picture->seat;

    if (seat_is_alive(seat->state))
        return picture->is_loaded;
    if (strcmp(look->objects[at].resource.state, object_state_name(OBJECT_FAILED)) == 0 &&
        !is_prepared_database(&look->objects[at]))
        return true; /* it could not be made */
    bool over = seat->state == SEAT_FAILED || seat->state == SEAT_LOST || seat->state == SEAT_STOPPED;
    return seat->state == SEAT_DONE || (over && seat->due == DUE_NOTHING && !seat->may_try_again);
}

/* One that has failed for good does not keep the others. */
static bool is_loaded(const Look *look) {
    bool any = false;

    for (size_t at = 0; at < look->count; at++) {
        if (is_deselected(look, at))
            continue;
        if (!is_whole(look, at))
            return false;
        any = any || look->pictures[at].is_loaded;
    }
    return any;
}

static bool end_loading(Look *look, Error *err) {
    bool settled = instance_is_settled(&look->instance);
    bool loads = strcmp(instance_wanted_mode(&look->instance), MODE_LOAD) == 0;

    if (!is_loader(look))
        return true;
    if (loads && settled && is_loaded(look))
        return make_change(look, want_migrating, err);
    return loads || !settled || make_change(look, no_loader, err);
}

/* ---- What went wrong with it ---- */

static void to_error(const Look *look, Error *ret_error) {
    const json_t *status = json_object_get(look->instance.api, "error");

    error_set(ret_error, REASON_PROVISION_FAILED, "%s: %s", look->instance.resource.name,
              json_get_string(status, "message", "it could not be made, or not be changed"));
    error_remedy(ret_error, "mend the cause, then resume the job: pgcrane instances describe %s",
                 strrchr(look->instance.resource.name, '/') + 1);
    ret_error->retryable = false;
}

/* Load mode is for instances with nothing of their own, and only a matter of speed. */
static bool refuse_load(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    CLEANUP(record_fini) Record instance = {0};

    if (!lease_check(look->this, tx, look->held, err) ||
        !instance_load(tx, look->instance.resource.name, &instance, err))
        return false;
    const char *why = json_get_string(json_object_get(instance.api, "error"), "message", "");
    const char *text = arena_printf(look->arena, "the copy is made without load mode: %s", why);
    want_migrating(look, &instance);
    no_loader(look, &instance);
    return job_log(tx, look->held->name, "DESTINATION", text, NULL, err) &&
           record_save(tx, look->arena, &instance, err);
}

/* Each time the job is asked for something, or begins again by itself. */
static const char *this_launch(const Look *look) {
    return arena_printf(look->arena, "%s#%lld", look->held->name,
                        (long long)json_get_int(look->job.run, job_run_LAUNCH, 0));
}

static void try_once_more(const Look *look, Record *instance) {
    (void)json_object_set_new(instance->run, instance_run_TOLD, json_string(this_launch(look)));
    instance_want_again(instance);
}

/* Whoever resumes the job has mended something, maybe: the instance is tried once more before the job fails again. */
static bool meet_failure(Look *look, Error *err) {
    Error why;

    if (is_loader(look) && strcmp(instance_wanted_mode(&look->instance), MODE_LOAD) == 0 &&
        strcmp(instance_mode(&look->instance), MODE_MIGRATING) == 0)
        return store_write(look->this->config.store, look->arena, refuse_load, look, err);
    if (look->decision.has_fact)
        return true;
    if (strcmp(json_get_string(look->instance.run, instance_run_TOLD, ""), this_launch(look)) != 0)
        return make_change(look, try_once_more, err);
    to_error(look, &why);
    look_decides(look, EVENT_FATAL, &why);
    return true;
}

static void to_damage(const Look *look, Error *ret_error) {
    error_set(ret_error, REASON_PROVISION_DAMAGED, "%s went down while it was filled, and is not recovered",
              look->instance.resource.name);
}

/* The next session removes from the source what the one that is lost made there: its id is that of the lost server. */
static void note_orphan(Record *object, const char *id) {
    json_t *orphans = json_object_get(object->run, seat_run_ORPHANS);

    if (id[0] == '\0')
        return;
    if (orphans == NULL)
        (void)json_object_set_new(object->run, seat_run_ORPHANS, orphans = json_array());
    for (size_t at = 0; at < json_array_size(orphans); at++)
        if (strcmp(json_string_value(json_array_get(orphans, at)), id) == 0)
            return;
    (void)json_array_append_new(orphans, json_string_lossy(id));
}

/* Databases and roles are to be made once more. */
static bool forget_made(StoreTx *tx, const Look *look, Error *err) {
    for (size_t at = 0; at < look->count; at++) {
        CLEANUP(record_fini) Record object = {0};

        if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, look->objects[at].resource.name, &object, err))
            return false;
        instance_session_forget(&object);
        note_orphan(&object, json_get_string(object.run, seat_run_MIGRATION, ""));
        note_orphan(&object, json_get_string(json_get_object(look->pictures[at].said, "migration"), "job_id", ""));
        (void)json_object_del(object.run, seat_run_MIGRATION);
        if (!record_save(tx, look->arena, &object, err))
            return false;
    }
    return true;
}

/* A job that gives up leaves it as it is: who resumes it comes here again. */
static bool begin_anew(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    CLEANUP(record_fini) Record instance = {0}, job = {0};
    bool taken = false;
    Error why;

    to_damage(look, &why);
    const Fact fact = {.event = EVENT_DEST_LOST, .error = &why};
    if (!lease_check(look->this, tx, look->held, err) ||
        !instance_load(tx, look->instance.resource.name, &instance, err))
        return false;
    if (!instance_is(&instance, INSTANCE_DAMAGED))
        return true;
    if (!job_fact(tx, look->arena, look->held->name, &fact, &taken, err) ||
        !job_load(tx, look->held->name, &job, err)) /* as the fact left it */
        return false;
    if (job_view(&job).state != JOB_RESTARTING || is_promoted(&instance))
        return true;
    instance_want_anew(&instance);
    return forget_made(tx, look, err) && record_save(tx, look->arena, &instance, err);
}

/* Sessions first: what they still do, they do to a server that is not there. */
static bool meet_damage(Look *look, Error *err) {
    bool alive = false;
    Error why;

    if (loader_of(look)[0] != '\0' && !is_loader(look)) {
        hold(look); /* it is the other one's, whose ledgers were in it: that one hears of it when it is resumed */
        return true;
    }
    if (!job_event_is_allowed(&look->view, EVENT_DEST_LOST)) { /* nobody may find an empty server in its place */
        to_damage(look, &why);
        look_decides(look, EVENT_FATAL, &why);
        return true;
    }
    look->decision.has_fact = false;
    for (size_t at = 0; at < look->count; at++) {
        bool lives = seat_is_alive(look->pictures[at].seat.state);

        alive = alive || lives;
        look->orders[at] = lives ? ORDER_STOP : ORDER_NOTHING;
    }
    look->holds = true;
    return alive || store_write(look->this->config.store, look->arena, begin_anew, look, err);
}

/* ---- The end of a job ---- */

/* As in Google's API the profile goes with its job; by force the server does, too, unless it is the application's. */
static bool remove_profile(StoreTx *tx, const Look *look, Record *instance, Error *err) {
    CLEANUP(record_fini) Record profile = {0};
    bool others = false;

    if (!record_load(tx, STORE_CONNECTION_PROFILE, json_get_string(look->job.api, "destination", ""), &profile, err))
        return err->reason == REASON_NO_RESOURCE;
    if (!profile_makes_instance(&profile))
        return true;
    if (!any_other_user(tx, look, &others, err))
        return false;
    if (others)
        return true;
    if (look_is_forced(look) && !is_promoted(instance) && strcmp(instance_wanted_mode(instance), MODE_PRIMARY) != 0)
        instance_want_removal(instance);
    return store_delete(tx, profile.resource.name, profile.resource.version, err);
}

/* Also behind a promote that was taken back: that only keeps it. */
static void become_primary(Record *instance) {
    if (is_promoted(instance))
        instance_want_mode(instance, MODE_PRIMARY);
}

static bool leave(StoreTx *tx, const Look *look, Error *err) {
    CLEANUP(record_fini) Record instance = {0};

    if (!instance_load(tx, look->instance.resource.name, &instance, err))
        return err->reason == REASON_NO_RESOURCE;
    if (instance_is(&instance, INSTANCE_DAMAGED) && (is_loader(look) || loader_of(look)[0] == '\0') &&
        !is_promoted(&instance))
        instance_want_anew(&instance);
    if (is_loader(look)) {
        want_migrating(look, &instance);
        no_loader(look, &instance);
    }
    become_primary(&instance);
    return remove_profile(tx, look, &instance, err) && record_save(tx, look->arena, &instance, err);
}

static bool hand_over(StoreTx *tx, const Look *look, Error *err) {
    CLEANUP(record_fini) Record instance = {0}, job = {0};

    if (!job_load(tx, look->held->name, &job, err))
        return false;
    if (job_view(&job).state != JOB_COMPLETED)
        return true;
    if (!instance_load(tx, look->instance.resource.name, &instance, err))
        return false;
    want_primary(look, &instance);
    if (is_loader(look))
        no_loader(look, &instance);
    return record_save(tx, look->arena, &instance, err);
}

bool destination_before_fact(StoreTx *tx, const Look *look, JobEvent fact, Error *err) {
    return !look->has_instance || fact != EVENT_PURGED || leave(tx, look, err);
}

bool destination_after_fact(StoreTx *tx, const Look *look, JobEvent fact, Error *err) {
    bool ends = fact == EVENT_PROMOTE_DONE || fact == EVENT_DUMP_DONE;

    return !look->has_instance || !ends || hand_over(tx, look, err);
}

/* ---- One look ---- */

static bool is_primary(const Look *look) {
    return strcmp(instance_wanted_mode(&look->instance), MODE_PRIMARY) == 0;
}

/* Before a promote is asked of any session, also of one database of several: whatever becomes of the session behind its
 * OPEN, the server is the application's. What is taken back leaves the mark: it only keeps. */
static bool mind_promoted(Look *look, Error *err) {
    bool wished = false, done = false;

    for (size_t at = 0; at < look->count; at++) {
        wished = wished || wish_at(look, at) != NULL;
        done = done || seat_is_promoted(&look->pictures[at]);
    }
    if (done && !is_primary(look))
        return make_change(look, want_primary, err);
    if (!wished || is_promoted(&look->instance))
        return true;
    for (size_t at = 0; at < look->count; at++)
        if (look->orders[at] == ORDER_PROMOTE)
            look->orders[at] = ORDER_NOTHING; /* the next look asks */
    return make_change(look, note_promoted, err);
}

/* It takes connections, and no restart is to come. What makes it the primary is that already: the first standby may
 * take hours, and a session that was lost must not wait for it while its source keeps WAL. */
static bool is_ready(const Look *look) {
    const Record *instance = &look->instance;
    bool runs = instance_is(instance, INSTANCE_RUNNABLE) || instance_is(instance, INSTANCE_MAINTENANCE);

    return instance_is_settled(instance) ||
           (runs && is_primary(look) && strcmp(instance_mode(instance), MODE_LOAD) != 0);
}

bool destination_look(Look *look, Error *err) {
    bool works = job_state_has_worker(look->view.state) && look->view.state != JOB_STOPPING;

    look->holds = false;
    if (look->has_instance && !mind_promoted(look, err))
        return false;
    if (!look->has_instance || !works)
        return true;
    if (instance_is(&look->instance, INSTANCE_DAMAGED))
        return meet_damage(look, err);
    if (instance_is(&look->instance, INSTANCE_FAILED)) {
        hold(look);
        return meet_failure(look, err);
    }
    if (!is_ready(look) || (loader_of(look)[0] != '\0' && !is_loader(look)))
        hold(look);
    return begin_loading(look, err) && end_loading(look, err);
}
