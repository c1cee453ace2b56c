/*
 * What a job needs once, and not per database: the list of databases, and on the destination roles and empty databases.
 *
 * NOTES
 * A session of its own does it (the worker's action "instance"), which may die anywhere and be repeated. It is wanted
 * - as long as the job has an object that is not marked as made ready, or none at all. Its result marks them, and makes
 *   those that it found. So a database that is added to a job at work is made ready as well, while the others go on;
 * - by a job of all databases, for each launch: those that were made on the source since are taken in. What the job has
 *   goes on meanwhile, and whatever comes of it;
 * - before a promote of the whole job reaches the first session. Roles that the destination lacks are made, and what
 *   differs is told. A job of all databases looks for those that it does not have: then the promote is refused, and
 *   they are taken in.
 * It is wanted by nobody when the promote that it was for is over, or the job: then it is stopped. A fact behind which
 * the job works no more (COMPLETED, FAILED, STOPPED, ...) is not told before it has ended: what it made afterwards
 * would be in no job. And a job of all databases is not COMPLETED before the list that is due is taken, or given up:
 * when all that it has was promoted by name, that is waited for.
 *
 * A database that has come to its end (seat_is_over()) is the application's, which may have renamed or dropped it on
 * the destination since. A session is told of those ("over"), and names none of them to be made: it would make an empty
 * one in its place. What it knows is of its beginning: a database that is promoted while it works was there when it
 * listed what the destination has, right behind its START, and is not made again by that session either.
 *
 * `run` of the job has "instance": the keys of a seat (seat.h), "taken", the number whose result is in the store, or of
 * which nothing but names of roles is taken ("settled"), "listed", the last launch for which all databases were, "for",
 * the promote that the last session was begun for, and "promote", the last one that was let through.
 *
 * What is committed of a promote that waits, and what the next look sees:
 *
 *   the session's number, "for"    its seat, as of any other session
 *   its result, nothing new        "promote", in the same transaction: the wish goes to the databases' sessions
 *   its result, a new database     nothing but the fact that the promote is refused; until then the same result refuses
 *                                  it again. Behind it the result, which was not taken yet, is, and makes the objects
 *
 * The promote that was let through once is not asked about again: some of its databases may be open already. Of one
 * that was called off nothing is taken: its session was STOPPED. Was it lost instead, which looks as if its result
 * were, the databases are listed once more, which does no harm.
 *
 * New passwords are not given out while "taken" is another number than the session's (job_is_preparing()): it may make
 * roles that nobody has told of yet. So a session that has ended is settled when nobody waits for what it was to do,
 * and no other session is begun behind it by itself: one that was STOPPED, also since its promote was called off, and
 * one of any end whose database is no part of the job any more. Its names go to the store in the same transaction, and
 * while it stops as they are told. Killed before that, the next look settles it. One that failed, of a job that has
 * FAILED with it or is STOPPED, is not: the next one tells the rest, with the same seed.
 *
 * What is committed at the end of a job, and what the next look sees (it decides the fact anew):
 *
 *   nothing, a session lives       the fact is held back; the session is asked to stop, or its list is waited for
 *   nothing, it has ended          the fact is told: nothing of the job is at work
 *   the list's result              objects that are new, with which the job goes on; none: the fact is told
 *   "listed" without a result      with it the line of the log that says so, and a promote that waits is let through:
 *                                  the fact is told
 *
 * One failure is told before that: when a database's session cannot be begun, which is found as orders are carried out
 * (carry_out.c). The job stays this node's until the instance's session has ended, which is asked to stop at each look;
 * and a daemon that begins anew, which is not concerned with jobs that have FAILED, takes up one whose session lives
 * (scan.c).
 *
 * A session whose node has lost the job is not known to live, and not waited for. It ends by itself: whatever it waits
 * for has limits (locks, connections).
 */
#include "supervise/guard.h"

#include "common/clock.h"
#include "common/log.h"
#include "jobs/fact.h"
#include "jobs/instance.h"
#include "model/finding.h"
#include "supervise/findings.h"
#include "supervise/new_passwords.h"
#include "supervise/report.h"

#include <string.h>

#define INSTANCE "instance"
static const int64_t pause_us = 30 * USEC_PER_SEC;
static const char made_key[] = "made", taken_key[] = "taken", listed_key[] = "listed", for_key[] = "for",
                  promote_key[] = "promote";
enum { NAMES_MAX = 1024, LOGGED_MAX = 2000 };

typedef enum Purpose { FOR_NOTHING, FOR_BEGINNING, FOR_PROMOTE, FOR_LIST } Purpose;

bool is_prepared_database(const Record *object) {
    return json_get_bool(object->run, made_key, json_get_int(object->run, seat_run_RUN, 0) > 0);
}

void instance_session_forget(Record *object) {
    (void)json_object_set_new(object->run, made_key, json_false());
}

void instance_session_again(Record *job) {
    json_t *seat = json_object_get(job->run, INSTANCE);

    (void)json_object_set_new(seat, seat_run_LAUNCH, json_integer(-1));
}

static const json_t *seat_seen(const Look *look) {
    return json_object_get(look->job.run, INSTANCE);
}

static bool is_whole(const Look *look) {
    return databases_named(&look->job) == NULL;
}

bool instance_let_promote_through(const Look *look) {
    const char *passed = json_get_string(seat_seen(look), promote_key, NULL);

    return look->view.phase == JOB_PHASE_PROMOTE_IN_PROGRESS && passed != NULL &&
           strcmp(passed, json_get_string(job_operation(&look->job), "name", "")) == 0;
}

/* The promote that waits for this; NULL = none does. One that is called off has nothing to wait for. */
static const char *promote_waiting(const Look *look) {
    if (look->view.state != JOB_RUNNING || look->view.phase != JOB_PHASE_PROMOTE_IN_PROGRESS ||
        job_is_cancelled(&look->job) || instance_let_promote_through(look))
        return NULL;
    return json_get_string(job_operation(&look->job), "name", "");
}

bool instance_keeps_promote(const Look *look) {
    return promote_waiting(look) != NULL;
}

/* Those that have come to their end are the application's, which may have renamed or dropped them on the destination:
 * nothing is made, guarded or asked of them any more. */
static bool is_over(const Look *look, size_t at) {
    return seat_is_over(&look->pictures[at]);
}

static bool lacks_any(const Look *look) {
    bool lacks = is_whole(look) && look->count == 0;

    for (size_t at = 0; at < look->count; at++)
        lacks = lacks || (is_selected(look, at) && !is_over(look, at) && !is_prepared_database(&look->objects[at]));
    return lacks;
}

/* Not in a promote, which asks itself. What was found for one that was refused is still to be taken, or to be found
 * once more where it was lost; one that was called off has found nothing. */
static bool is_list_due(const Look *look, const SeatPicture *picture) {
    const json_t *seat = seat_seen(look);
    bool has_found = !seat_is_alive(picture->seat.state) && picture->seat.state != SEAT_STOPPED;
    bool is_left =
        has_found && json_get_string(seat, for_key, NULL) != NULL && picture->run != json_get_int(seat, taken_key, 0);
    bool is_new = json_get_int(seat, listed_key, 0) < json_get_int(look->job.run, job_run_LAUNCH, 0);

    return look->view.phase != JOB_PHASE_PROMOTE_IN_PROGRESS && (is_left || (is_whole(look) && is_new));
}

/* A promote does not wait for a database that was added and cannot be made ready. */
static Purpose purpose_of(const Look *look, const SeatPicture *picture) {
    JobState state = look->view.state;

    if (!job_state_has_worker(state) || state == JOB_STOPPING)
        return FOR_NOTHING;
    if (promote_waiting(look) != NULL)
        return FOR_PROMOTE;
    if (lacks_any(look))
        return FOR_BEGINNING;
    return is_list_due(look, picture) ? FOR_LIST : FOR_NOTHING;
}

static const char *folder_in(const Supervisor *this, Arena *arena, const Record *job) {
    return arena_printf(arena, "%s/sessions/%s/instance", this->config.state_dir, job->resource.uid);
}

static const char *folder_of(const Look *look) {
    return folder_in(look->this, look->arena, &look->job);
}

bool instance_session_lives(const Supervisor *this, Arena *arena, const Record *job) {
    const json_t *seat = json_object_get(job->run, INSTANCE);
    const Job files = {.folder = folder_in(this, arena, job)};

    return strcmp(json_get_string(seat, seat_run_HOME, ""), this->home) == 0 && job_is_locked(&files);
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

    if (!process_look(look->this, look->arena, &process, ret_picture, err))
        return false;
    if (!ret_picture->has_status) /* the file is that of an earlier one: of another seed, maybe, and taken already */
        seat_picture_fini(ret_picture);
    return true;
}

/* ---- Beginning ---- */

typedef bool Which(const Look *look, size_t at);

static bool is_made_ready(const Look *look, size_t at) {
    return is_over(look, at) || is_prepared_database(&look->objects[at]);
}

static bool is_to_be_made(const Look *look, size_t at) {
    return !is_made_ready(look, at);
}

/* Names of the job's databases that are so. New reference. */
static json_t *databases_that(const Look *look, Which *which) {
    json_t *list = json_array();

    for (size_t at = 0; at < look->count; at++)
        if (is_selected(look, at) && which(look, at))
            (void)json_array_append_new(list, json_string_lossy(seat_database(&look->objects[at])));
    return list;
}

/* A promote is not kept by what was added and is not made ready. */
static bool is_asked_for(const Look *look, const char *database, Purpose purpose) {
    for (size_t at = 0; at < look->count; at++)
        if (strcmp(seat_database(&look->objects[at]), database) == 0)
            return !is_over(look, at) && (purpose != FOR_PROMOTE || is_prepared_database(&look->objects[at]));
    return purpose != FOR_PROMOTE;
}

/* Of a job that names its databases; NULL = all that the source has. New reference. */
static json_t *databases_to_ask_for(const Look *look, Purpose purpose) {
    const json_t *named = databases_named(&look->job);
    json_t *list = named == NULL ? NULL : json_array();

    for (size_t at = 0; at < json_array_size(named); at++)
        if (is_asked_for(look, database_at(named, at), purpose))
            (void)json_array_append_new(list, json_string_lossy(database_at(named, at)));
    return list;
}

typedef struct Beginning {
    Look *look;
    Purpose purpose;
    bool again;         /* by itself, behind one that was lost */
    const json_t *said; /* by the one before */
    int64_t run;
    json_t *start; /* the caller's */
} Beginning;

static void note_beginning(Beginning *beginning, Record *job) {
    const Look *look = beginning->look;
    json_t *seat = seat_of(job);
    int64_t losses = beginning->again ? json_get_int(seat, seat_run_LOSSES, 0) + 1 : 0;

    beginning->run = json_get_int(seat, seat_run_RUN, 0) + 1;
    (void)json_object_set_new(seat, seat_run_RUN, json_integer(beginning->run));
    (void)json_object_set_new(seat, seat_run_HOME, json_string(look->this->home));
    (void)json_object_set_new(seat, seat_run_LOSSES, json_integer(losses));
    (void)json_object_set_new(seat, seat_run_LAUNCH, json_integer(json_get_int(job->run, job_run_LAUNCH, 0)));
    (void)json_object_del(seat, for_key);
    if (beginning->purpose == FOR_PROMOTE)
        (void)json_object_set_new(seat, for_key, json_string(promote_waiting(look)));
}

/* One that is made ready is not guarded anew: only those that are to be are, and what a job of all databases finds. */
static bool begin(StoreTx *tx, void *context, Error *err) {
    Beginning *beginning = context;
    const Look *look = beginning->look;
    CLEANUP(json_freep) json_t *to_guard = databases_that(look, is_to_be_made);
    CLEANUP(json_freep) json_t *known = is_whole(look) ? databases_that(look, is_made_ready) : NULL;
    CLEANUP(json_freep) json_t *over = is_whole(look) ? databases_that(look, is_over) : NULL;
    CLEANUP(json_freep) json_t *names = databases_to_ask_for(look, beginning->purpose);
    CLEANUP(record_fini) Record job = {0};

    json_freep(&beginning->start);
    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    new_passwords_note(&job, beginning->said);
    if (!new_passwords_prepare(tx, look->this->config.secrets, &job, err))
        return false;
    note_beginning(beginning, &job);
    guard_note_again(&job, to_guard);
    const StartOrder order = {.job = &job,
                              .run = beginning->run,
                              .order = ORDER_START,
                              .lanes = 2,
                              .names = names,
                              .over = over,
                              .databases = to_guard,
                              .known = known};
    return start_message(look->this, tx, look->arena, &order, &beginning->start, err) &&
           job_save(tx, look->arena, &job, err);
}

/* What goes on without it, for people. One that names its databases lists none: behind a promote that was refused it
 * would have told of roles. */
static const char *what_is_missed(const Look *look) {
    return is_whole(look) ? "databases that the source may have got since were not taken in"
                          : "roles of both servers were not compared";
}

typedef struct GivingUp {
    const Look *look;
    const SeatPicture *picture;
    const char *why;
} GivingUp;

static bool give_up(StoreTx *tx, void *context, Error *err) {
    const GivingUp *giving = context;
    const Look *look = giving->look;
    CLEANUP(record_fini) Record job = {0};
    CLEANUP(json_freep) json_t *detail = json_pack("{s:s}", "level", "warning");
    const char *text = arena_printf(look->arena, "%s: %s", what_is_missed(look), giving->why);

    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    json_t *seat = seat_of(&job);
    int64_t run = json_get_int(seat, seat_run_RUN, 0); /* also of one that has its number, and could not be begun */
    (void)json_object_set_new(seat, taken_key, json_integer(run));
    (void)json_object_set_new(seat, listed_key, json_integer(json_get_int(look->job.run, job_run_LAUNCH, 0)));
    if (promote_waiting(look) != NULL) /* which nobody is to hear of: all that it would promote is promoted */
        (void)json_object_set_new(seat, promote_key, json_string(promote_waiting(look)));
    if (run == giving->picture->run) /* else begin() did, before the seed of the next one was made */
        new_passwords_note(&job, giving->picture->said);
    bool has_told = json_get_object(giving->picture->said, "findings") != NULL;
    return (!has_told || report_keep_instance(tx, look->held->name, giving->picture->said, err)) &&
           job_log(tx, look->held->name, "WORKER", text, detail, err) && job_save(tx, look->arena, &job, err);
}

static bool give_list_up(const Look *look, const SeatPicture *picture, const char *why, Error *err) {
    GivingUp giving = {.look = look, .picture = picture, .why = why};

    log_warning("%s: %s: %s", look->held->name, what_is_missed(look), why);
    return store_write(look->this->config.store, look->arena, give_up, &giving, err);
}

/* Nothing of a promote has begun; and what the job has goes on without a list. */
static bool fail_start(Look *look, Purpose purpose, const SeatPicture *picture, const Error *why, Error *err) {
    if (purpose == FOR_LIST)
        return give_list_up(look, picture, why->message, err);
    look_decides(look, purpose == FOR_PROMOTE ? EVENT_PROMOTE_UNDONE : EVENT_FATAL, why);
    return true;
}

static bool start(Look *look, Purpose purpose, bool again, const SeatPicture *picture, Error *err) {
    Beginning beginning = {.look = look, .purpose = purpose, .again = again, .said = picture->said};
    Error why;

    if (!store_write(look->this->config.store, look->arena, begin, &beginning, &why)) {
        json_freep(&beginning.start);
        *err = why;
        if (is_of_the_store(&why))
            return false;
        return fail_start(look, purpose, picture, &why, err);
    }
    log_info("%s: the instance, session %lld", look->held->name, (long long)beginning.run);
    bool ok = launch_session(look->this->children, folder_of(look), beginning.run, beginning.start, &why);
    json_freep(&beginning.start);
    why.retryable = true; /* as in look.c */
    return ok || fail_start(look, purpose, picture, &why, err);
}

/* ---- Its result ---- */

typedef struct Taking {
    const Look *look;
    const json_t *databases, *said;
    int64_t run;
    const char *promote; /* that is let through; NULL = none waits */
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

/* What is found before a promote: some of it has come about since the job began, and nobody may look at the report. */
static bool log_warnings(const Look *look, StoreTx *tx, const json_t *said, Error *err) {
    const json_t *list = json_get_array(json_get_object(said, "findings"), "findings");

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *finding = json_array_get(list, at);
        const char *id = json_get_string(finding, "id", ""), *message = json_get_string(finding, "message", "");
        CLEANUP(json_freep)
        json_t *detail = json_pack("{s:s, s:o}", "level", "warning", "finding", json_string_lossy(id));

        if (strcmp(json_get_string(finding, "severity", ""), severity_name(SEVERITY_WARNING)) == 0 &&
            !job_log(tx, look->held->name, "WORKER",
                     arena_printf(look->arena, "before the promote, %s: %.*s", id, LOGGED_MAX, message), detail, err))
            return false;
    }
    return true;
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
    json_t *seat = seat_of(&job);
    (void)json_object_set_new(seat, taken_key, json_integer(taking->run));
    (void)json_object_set_new(seat, listed_key, json_integer(json_get_int(seat, seat_run_LAUNCH, 0)));
    if (taking->promote != NULL)
        (void)json_object_set_new(seat, promote_key, json_string(taking->promote));
    new_passwords_note(&job, taking->said);
    return report_keep_instance(tx, look->held->name, taking->said, err) &&
           (taking->promote == NULL || log_warnings(look, tx, taking->said, err)) &&
           job_save(tx, look->arena, &job, err);
}

static bool is_known(const Look *look, const char *database) {
    for (size_t at = 0; at < look->count; at++)
        if (strcmp(seat_database(&look->objects[at]), database) == 0)
            return true;
    return false;
}

/* Databases of the source that the job does not have, for people; NULL = it has them all. */
static const char *new_ones(const Look *look, const SeatPicture *picture) {
    const json_t *found = json_get_array(json_get_object(picture->said, "databases"), "databases");
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, NAMES_MAX);
    for (size_t at = 0; at < json_array_size(found); at++) {
        const char *name = json_get_string(json_array_get(found, at), "name", "");

        if (!is_known(look, name))
            buf_printf(&text, "%s%s", text.len > 0 ? ", " : "", name);
    }
    if (text.overflowed)
        return "many";
    return text.len > 0 ? arena_strdup(look->arena, text.data) : NULL;
}

static void refuse_promote(Look *look, const char *names, bool made) {
    Error why;

    error_set(&why, REASON_JOB_STATE,
              "the source has databases that the job of all its databases does not have yet: %s; nothing was promoted",
              names);
    error_remedy(&why, made ? "they are being taken into the job: promote again when they follow, or choose databases "
                              "by name (pgcrane jobs update JOB --database NAME ...)"
                            : "mend what the checks of the instance found, then stop and resume the job, which takes "
                              "them in; or choose databases by name (pgcrane jobs update JOB --database NAME ...)");
    look_decides(look, EVENT_PROMOTE_UNDONE, &why);
}

static bool any_over(const Look *look) {
    for (size_t at = 0; at < look->count; at++)
        if (is_selected(look, at) && is_over(look, at))
            return true;
    return false;
}

static bool take_result(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    const char *new = purpose == FOR_PROMOTE &&is_whole(look) ? new_ones(look, picture) : NULL;
    Taking taking = {.look = look,
                     .databases = json_get_array(json_get_object(picture->said, "databases"), "databases"),
                     .said = picture->said,
                     .run = picture->run,
                     .promote = purpose == FOR_PROMOTE ? promote_waiting(look) : NULL};
    Error why;

    if (new != NULL) {
        refuse_promote(look, new, true);
        return true;
    }
    if (json_array_size(taking.databases) > 0 || purpose != FOR_BEGINNING || any_over(look))
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

    return !new_passwords_are_news(&look->job, picture->said) ||
           store_write(look->this->config.store, look->arena, take_names, &taking, err);
}

/* ---- All of it ---- */

/* Those that are not made ready have failed: it is said of each, and no promote waits for them to begin. */
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

static bool add_details(Look *look, const SeatPicture *picture, Error *err) {
    size_t errors = 0;

    json_freep(&look->details);
    look->details = json_array();
    return findings_add_details(look->arena, "", picture->said, look->details, &errors, err);
}

/* Nothing of it has begun. */
static bool fail_promote(Look *look, const SeatPicture *picture, Error *err) {
    const char *new = is_whole(look) ? new_ones(look, picture) : NULL;

    if (new != NULL)
        refuse_promote(look, new, false);
    else
        look_decides(look, EVENT_PROMOTE_UNDONE, &picture->error);
    return add_details(look, picture, err);
}

/* What the job has goes on; a promote of the whole job asks once more. */
static bool fail_list(Look *look, const SeatPicture *picture, Error *err) {
    return (picture->error.retryable && picture->seat.may_try_again) ||
           give_list_up(look, picture, picture->error.message, err);
}

/* A job that is at work goes on without what was added to it; one that begins cannot. */
static bool fail(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    JobState state = look->view.state;
    bool refuses = picture->seat.refused && (state == JOB_STARTING || state == JOB_RESTARTING || state == JOB_RESUMING);

    if (purpose == FOR_PROMOTE)
        return fail_promote(look, picture, err);
    if (purpose == FOR_LIST)
        return fail_list(look, picture, err);
    if (state == JOB_RUNNING) {
        fail_added(look, picture);
        return true;
    }
    look_decides(look, refuses ? EVENT_VERIFY_REFUSED : EVENT_FATAL, &picture->error);
    return add_details(look, picture, err);
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

/* Was the last session begun for this? What it found for a promote that is over counts for the list. */
static bool is_for(const Look *look, Purpose purpose) {
    const char *promote = json_get_string(seat_seen(look), for_key, NULL);

    if (purpose == FOR_PROMOTE)
        return promote != NULL && strcmp(promote, promote_waiting(look)) == 0;
    return purpose == FOR_LIST || promote == NULL;
}

/* ---- One that nobody waits for any more ---- */

static bool stop_it(Look *look, const SeatPicture *picture, Error *err) {
    const char *folder = folder_of(look);
    const Seat *seat = &picture->seat;
    bool is_asked = seat_is_alive(seat->state) && !seat->stopping;

    if (!is_asked)
        (void)json_object_del(look->held->asked, folder);
    look_mind_stopping(look, folder, picture);
    return (!seat_is_alive(seat->state) || keep_names(look, picture, err)) &&
           (!is_asked || look_stop(look, folder, picture, err));
}

/* Begun for a promote that is over, and another one, or a database, waits for a session of its own. */
static bool is_called_off(const Look *look, Purpose purpose) {
    return json_get_string(seat_seen(look), for_key, NULL) != NULL && !is_for(look, purpose);
}

static bool follow_up(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    const Seat *seat = &picture->seat;

    if (seat_is_alive(seat->state) && is_called_off(look, purpose))
        return stop_it(look, picture, err);
    if (seat_is_alive(seat->state))
        return keep_names(look, picture, err);
    if (seat->due != DUE_NOTHING || seat->state == SEAT_IDLE || !is_for(look, purpose))
        return start(look, purpose, false, picture, err);
    if (seat->state == SEAT_DONE && json_get_int(seat_of(&look->job), taken_key, 0) != picture->run)
        return take_result(look, purpose, picture, err);
    if (seat->state == SEAT_DONE)
        return start(look, purpose, false, picture, err);
    if (seat->may_try_again && (seat->state != SEAT_FAILED || is_pause_over(look, picture)))
        return start(look, purpose, true, picture, err);
    if (seat->may_try_again && purpose == FOR_PROMOTE && picture->error.retryable)
        return true; /* its pause */
    return fail(look, purpose, picture, err);
}

/* ---- The end of the job ---- */

/* NULL = there is no fact, or it changes nothing. */
static const JobTransition *transition_of(const Look *look) {
    return look->decision.has_fact ? job_fact_row(&look->job, look->decision.fact) : NULL;
}

/* Is the fact one behind which no session of the job is at work any more? */
static bool ends_job(const Look *look) {
    const JobTransition *row = transition_of(look);

    return row != NULL && !job_state_has_worker(row->to) && row->to != JOB_DELETING;
}

/* A job of all databases is not complete before it is known whether there are more. */
static bool completes_unlisted(const Look *look, const SeatPicture *picture) {
    const JobTransition *row = transition_of(look);

    return row != NULL && row->to == JOB_COMPLETED && (promote_waiting(look) != NULL || is_list_due(look, picture));
}

/* Nothing is taken of it but the names of roles that it may have made: whoever asks for their passwords waits for that.
 */
static bool settle(StoreTx *tx, void *context, Error *err) {
    const Taking *taking = context;
    const Look *look = taking->look;
    CLEANUP(record_fini) Record job = {0};

    if (!lease_check(look->this, tx, look->held, err) || !job_load(tx, look->held->name, &job, err))
        return false;
    (void)json_object_set_new(seat_of(&job), taken_key, json_integer(taking->run));
    new_passwords_note(&job, taking->said);
    return job_save(tx, look->arena, &job, err);
}

/* What was found for a promote is still to be taken, or to be found once more (is_list_due()). */
static bool is_to_be_settled(const Look *look, Purpose purpose, const SeatPicture *picture) {
    const json_t *seat = seat_seen(look);
    const JobTransition *row = transition_of(look);
    bool stopped = picture->seat.state == SEAT_STOPPED, completes = row != NULL && row->to == JOB_COMPLETED;
    bool goes_on = (look->view.state == JOB_RUNNING && purpose == FOR_NOTHING) || completes;

    if (seat_is_alive(picture->seat.state) || picture->run == json_get_int(seat, taken_key, 0))
        return false;
    return stopped || (goes_on && json_get_string(seat, for_key, NULL) == NULL);
}

/* A job is not stopped, not removed, and has not come to its end, as long as it is at work. */
static bool end_it(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    bool waits = look->view.state == JOB_STOPPING || look->view.state == JOB_DELETING || ends_job(look);

    if (waits && seat_is_alive(picture->seat.state))
        look->decision.has_fact = false;
    Taking taking = {.look = look, .said = picture->said, .run = picture->run};
    if (is_to_be_settled(look, purpose, picture) &&
        !store_write(look->this->config.store, look->arena, settle, &taking, err))
        return false;
    return stop_it(look, picture, err);
}

/* For people: what is waited for, and the last that went wrong of it. */
static const char *waiting_for(const Look *look, const char *what, const SeatPicture *picture) {
    const json_t *events = json_get_array(picture->said, "events");
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    const char *why =
        strcmp(json_get_string(last, "level", ""), "warning") == 0 ? json_get_string(last, "text", "") : "";

    if (!seat_is_alive(picture->seat.state))
        why = picture->has_error ? picture->error.message : "";
    return arena_printf(look->arena, "%s%s%s", what, why[0] != '\0' ? ": " : "", why);
}

/* A server that the service made, and cannot mend (destination.c): no session is begun any more. One that is not ready
 * yet, or is another job's to load, is waited for. */
static bool is_held_for_good(const Look *look) {
    return look->holds && look->has_instance && instance_is(&look->instance, INSTANCE_FAILED);
}

static const char *what_comes_before_end(const Look *look, bool is_held) {
    return arena_printf(look->arena, "%s once more before the job is complete%s",
                        is_whole(look) ? "the source's databases are listed" : "roles of both servers are compared",
                        is_held ? ", when its destination is ready" : "");
}

/* What has been decided waits for the list, or nobody can make one. */
static bool list_before_end(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    bool lives = seat_is_alive(picture->seat.state), is_held = look->holds && !lives, is_lost = is_held_for_good(look);

    look->decision.has_fact = false;
    look->waits = waiting_for(look, what_comes_before_end(look, is_held), picture);
    if (purpose != FOR_NOTHING && !is_lost)
        return is_held || follow_up(look, purpose, picture, err);
    if (lives)
        return stop_it(look, picture, err);
    return give_list_up(look, picture, is_lost ? "its destination has failed" : "the job came to its end before", err);
}

static bool carry_on(Look *look, Purpose purpose, const SeatPicture *picture, Error *err) {
    if (purpose == FOR_PROMOTE)
        look->waits = waiting_for(look, "roles and databases of both servers are compared before the promote", picture);
    if (completes_unlisted(look, picture))
        return list_before_end(look, purpose, picture, err);
    if (purpose == FOR_NOTHING || ends_job(look))
        return end_it(look, purpose, picture, err);
    return look->decision.has_fact || look->holds || follow_up(look, purpose, picture, err);
}

bool instance_look(Look *look, Error *err) {
    SeatPicture picture = {0};

    look->waits = NULL;
    if (!look_at_it(look, &picture, err))
        return false;
    look->instance_lives = seat_is_alive(picture.seat.state);
    bool ok = carry_on(look, purpose_of(look, &picture), &picture, err);
    seat_picture_fini(&picture);
    return ok;
}
