/* What a look tells the store: news of objects, progress, and the fact that was decided. */
#include "common/clock.h"
#include "common/log.h"
#include "jobs/fact.h"
#include "jobs/operation.h"
#include "supervise/destination.h"
#include "supervise/findings.h"
#include "supervise/look.h"
#include "supervise/progress.h"
#include "supervise/promotes.h"
#include "supervise/report.h"

#include <string.h>

enum { LEFT_MAX = 8 * 1024 };
static const int64_t progress_us = 2 * USEC_PER_SEC, pause_first_us = 5 * USEC_PER_SEC,
                     pause_most_us = 300 * USEC_PER_SEC;

/* ---- News of objects ---- */

static int64_t pause_us(int64_t losses) {
    int64_t pause = pause_first_us;

    for (int64_t at = 1; at < losses && pause < pause_most_us; at++)
        pause *= 2;
    return MIN(pause, pause_most_us);
}

static bool set_run(Record *object, const char *key, json_t *value) {
    (void)json_object_set_new(object->run, key, value);
    return true;
}

/* The destination of this launch's session was emptied, or is being filled. Or a promote has opened it: then there is
 * nothing to be emptied, and the next session closes what is left of that. */
static bool note_settled(Record *object, const SeatPicture *picture) {
    const Seat *seat = &picture->seat;
    static const bool is_past_emptying[SEAT_STATE_MAX_] = {
        [SEAT_COPYING] = true,   [SEAT_FOLLOWING] = true, [SEAT_READY] = true,
        [SEAT_PROMOTING] = true, [SEAT_UNDONE] = true,    [SEAT_DONE] = true,
    };

    bool open = seat->state == SEAT_FAILED && picture->error.reason == REASON_ALREADY_DONE;

    if (seat->due == DUE_NOTHING && is_past_emptying[seat->state])
        (void)json_object_del(object->run, seat_run_ORPHANS); /* the first that its session does; with the next save */

    return seat->anew && seat->due == DUE_NOTHING && (is_past_emptying[seat->state] || open) &&
           set_run(object, seat_run_SETTLED, json_integer(json_get_int(object->run, seat_run_LAUNCH, 0)));
}

/* As good as lost: somebody else than the job has stopped it. */
static bool is_lost(const Seat *seat) {
    return seat->state == SEAT_LOST || seat->state == SEAT_STOPPED;
}

/* Who is begun again by itself: beside others that work, and removals that nobody else begins again. */
static bool wants_retry(const Look *look, size_t at) {
    const Seat *seat = &look->pictures[at].seat;
    bool ended = seat->state == SEAT_FAILED || is_lost(seat);

    if (!ended || seat->due != DUE_NOTHING)
        return false;
    if (seat->removing)
        return seat->state == SEAT_LOST || is_deselected(look, at);
    return look->view.state == JOB_RUNNING && seat->may_try_again;
}

/* The first one that is lost is no reason to wait. */
static bool note_retry(const Look *look, size_t at, Record *object) {
    const Seat *seat = &look->pictures[at].seat;
    int64_t losses = json_get_int(object->run, seat_run_LOSSES, 0);
    int64_t pause = is_lost(seat) && losses == 0 ? 0 : pause_us(losses);

    return wants_retry(look, at) && json_get_int(object->run, seat_run_RETRY_AT_US, 0) == 0 &&
           set_run(object, seat_run_RETRY_AT_US, json_integer(clock_wall_us() + pause));
}

static bool note_migration(Record *object, const SeatPicture *picture) {
    const char *id = json_get_string(json_get_object(picture->said, "migration"), "job_id", "");

    return id[0] != '\0' && strcmp(id, json_get_string(object->run, seat_run_MIGRATION, "")) != 0 &&
           set_run(object, seat_run_MIGRATION, json_string_lossy(id));
}

static bool is_noted(const Record *object, const SeatPicture *picture) {
    return strcmp(picture->ended, json_get_string(object->run, seat_run_ENDED, "")) == 0;
}

/* Sessions that were lost in a promote are begun again while the job is RESUMING, when nothing is wished of any: one
 * that finds its database open ends then, and it was the promote that had reached it before. */
static const char *promote_of(const Look *look, size_t at) {
    const char *wish = wish_at(look, at);

    if (wish != NULL || !instance_let_promote_through(look))
        return wish;
    return json_get_string(job_operation(&look->job), "name", NULL);
}

/* The wish that stands in the look that first sees it promoted is the one that did it. That of the database alone keeps
 * its own books (promotes.h). */
static bool note_ended(const Look *look, size_t at, Record *object) {
    const SeatPicture *picture = &look->pictures[at];
    const char *wish = promote_of(look, at);

    if (is_noted(object, picture))
        return false;
    if (seat_is_promoted(picture) && wish != NULL && !picture->seat.wish_is_own)
        (void)json_object_set_new(object->run, seat_run_BY, json_string(wish));
    return set_run(object, seat_run_ENDED, json_string(picture->ended));
}

/* Whose is what has the migration's id? */
static bool note_owner(Record *object, const SeatPicture *picture) {
    bool is_kept = picture->has_error && !picture->past_checks &&
                   (picture->error.reason == REASON_LEDGER_MISMATCH || picture->error.reason == REASON_FENCED);
    const char *key = picture->past_checks ? seat_run_WORKED : is_kept ? seat_run_FOREIGN : NULL;

    return key != NULL && !picture->seat.removing && !json_get_bool(object->run, key, false) &&
           set_run(object, key, json_true());
}

static bool note_followed(Record *object, const SeatPicture *picture) {
    SeatState state = picture->seat.state;
    bool follows = state == SEAT_FOLLOWING || state == SEAT_READY || state == SEAT_PROMOTING || state == SEAT_UNDONE;

    return follows && !picture->seat.anew && !json_get_bool(object->run, object_run_followed, false) &&
           set_run(object, object_run_followed, json_true());
}

static bool note_beside(const Look *look, const SeatPicture *picture, Record *object) {
    return look->view.state == JOB_RUNNING && picture->seat.state == SEAT_FAILED && seat_has_failed(picture) &&
           !json_get_bool(object->run, seat_run_BESIDE, false) && set_run(object, seat_run_BESIDE, json_true());
}

static bool note_anew(const SeatPicture *picture, Record *object) {
    return json_get_bool(object->run, object_run_needs_anew, false) != picture->needs_anew &&
           set_run(object, object_run_needs_anew, json_boolean(picture->needs_anew));
}

/* What stands in `run` beside the news: only what a later look cannot find out from the files. */
static bool note_run(const Look *look, size_t at, Record *object) {
    const SeatPicture *picture = &look->pictures[at];
    const Seat *seat = &picture->seat;
    bool changed = note_settled(object, picture);

    if (seat->state == SEAT_READY)
        changed = json_object_del(object->run, seat_run_LOSSES) == 0 || changed;
    if (seat->state == SEAT_REMOVED && !json_get_bool(object->run, seat_run_REMOVED, false))
        changed = set_run(object, seat_run_REMOVED, json_true());
    changed = note_ended(look, at, object) || changed;
    changed = note_owner(object, picture) || changed;
    changed = note_beside(look, picture, object) || changed;
    changed = note_anew(picture, object) || changed;
    changed = note_followed(object, picture) || changed;
    changed = note_migration(object, picture) || changed;
    changed = note_retry(look, at, object) || changed;
    return promotes_note(object, picture) || changed;
}

static bool is_news(const Record *object, const ObjectNews *news) {
    bool has_error = json_object_get(object->api, "error") != NULL;

    return strcmp(object->resource.state, object_state_name(news->state)) != 0 ||
           strcmp(object->resource.phase, object_phase_name(news->phase)) != 0 || has_error != (news->error != NULL);
}

/* When it is selected once more, it begins as if it never had: with a destination that is emptied first. How a promote
 * of it ended is still to be told. */
static bool forget_run(Record *object) {
    CLEANUP(json_freep) json_t *promote = json_incref(json_object_get(object->run, seat_run_PROMOTE));
    int64_t last = json_get_int(object->run, seat_run_RUN, 0);

    if (last == 0)
        return false;
    (void)json_object_clear(object->run);
    (void)json_object_set_new(object->run, seat_run_LAST, json_integer(last));
    (void)json_object_set_new(object->run, seat_run_SETTLED, json_integer(-1));
    if (promote != NULL)
        (void)json_object_set(object->run, seat_run_PROMOTE, promote);
    return true;
}

/* One that is promoted stays what it is, should it be selected once more. */
static bool note_removed(const Look *look, size_t at, Record *object, ObjectNews *news) {
    news->phase = OBJECT_PHASE_NONE;
    news->error = NULL;
    return seat_is_promoted(&look->pictures[at]) ? note_ended(look, at, object) : forget_run(object);
}

static bool note_object(const Look *look, size_t at, Record *object, ObjectNews *ret_news) {
    const SeatPicture *picture = &look->pictures[at];
    bool out = is_deselected(look, at);

    *ret_news = seat_news(picture, &look->view);
    if (!out)
        return note_run(look, at, object);
    bool changed = promotes_leave(object, picture);
    bool removed = picture->seat.state == SEAT_REMOVED;
    ret_news->state = removed ? OBJECT_NOT_SELECTED : OBJECT_REMOVING;
    return (removed ? note_removed(look, at, object, ret_news) : note_run(look, at, object)) || changed;
}

/* ---- What sessions say, for the job's log ---- */

static const json_t *events_of(const SeatPicture *picture) {
    return picture->has_status ? json_get_array(picture->said, "events") : NULL;
}

/* Number of the last event that is in the job's log already. */
static int64_t heard_of(const Record *object, const SeatPicture *picture) {
    const json_t *heard = json_object_get(object->run, seat_run_HEARD);

    return json_get_int(heard, "run", 0) == picture->run ? json_get_int(heard, "no", 0) : 0;
}

static int64_t last_event(const SeatPicture *picture) {
    const json_t *events = events_of(picture);

    return json_get_int(json_array_get(events, json_array_size(events) - 1), "no", 0);
}

static bool has_events(const Record *object, const SeatPicture *picture) {
    return json_array_size(events_of(picture)) > 0 && last_event(picture) > heard_of(object, picture);
}

static bool log_event(const Look *look, StoreTx *tx, const SeatPicture *picture, const json_t *event, Error *err) {
    const char *level = json_get_string(event, "level", "info");
    CLEANUP(json_freep)
    json_t *detail = json_pack("{s:o, s:I, s:s}", "database", json_string_lossy(picture->database), "run",
                               (json_int_t)picture->run, "level", level);
    const char *text =
        arena_printf(look->arena, "database %s: %s", picture->database, json_get_string(event, "text", ""));

    return job_log(tx, look->held->name, "WORKER", text, detail, err);
}

static bool log_events(const Look *look, StoreTx *tx, Record *object, const SeatPicture *picture, Error *err) {
    const json_t *events = events_of(picture);
    int64_t heard = heard_of(object, picture);

    for (size_t at = 0; at < json_array_size(events); at++) {
        const json_t *event = json_array_get(events, at);

        if (json_get_int(event, "no", 0) > heard && !log_event(look, tx, picture, event, err))
            return false;
    }
    return set_run(object, seat_run_HEARD,
                   json_pack("{s:I, s:I}", "run", (json_int_t)picture->run, "no", (json_int_t)last_event(picture)));
}

/* Beside others that work: when the job fails with it, that line says so. */
static bool fails_alone(const Look *look, const Record *object, const ObjectNews *news) {
    bool whole =
        look->decision.has_fact && (look->decision.fact == EVENT_FATAL || look->decision.fact == EVENT_WORKER_LOST ||
                                    look->decision.fact == EVENT_VERIFY_REFUSED);

    return news->state == OBJECT_FAILED && job_state_has_worker(look->view.state) && !whole &&
           strcmp(object->resource.state, object_state_name(OBJECT_FAILED)) != 0;
}

static bool log_failure(const Look *look, StoreTx *tx, const SeatPicture *picture, const char *text, Error *err) {
    CLEANUP(json_freep)
    json_t *detail = json_pack("{s:o, s:I, s:s, s:s}", "database", json_string_lossy(picture->database), "run",
                               (json_int_t)picture->run, "level", "error", "remedy", picture->error.remedy);

    return job_log(tx, look->held->name, "DATABASE_FAILED", text, detail, err);
}

/* Its job may be over, and would say nothing of it otherwise. Once for each error: it is tried again for as long as it
 * takes. */
static bool log_removal(const Look *look, size_t at, StoreTx *tx, Record *object, bool *ret_said, Error *err) {
    const SeatPicture *picture = &look->pictures[at];
    const char *told = json_get_string(object->run, seat_run_TOLD, "");

    *ret_said = is_deselected(look, at) && seat_removal_has_failed(picture) &&
                strcmp(told, picture->error.message) != 0 &&
                set_run(object, seat_run_TOLD, json_string_lossy(picture->error.message));
    return !*ret_said || log_failure(look, tx, picture, progress_waiting_for(look->arena, picture, 1), err);
}

/* Of a database that is chosen no more nothing is to be told, unless it was promoted. */
static bool keep_report(StoreTx *tx, Record *object, const SeatPicture *picture, const ObjectNews *news, Error *err) {
    if (news->state == OBJECT_NOT_SELECTED && !seat_is_promoted(picture))
        return store_report_remove(tx, object->resource.name, err);
    return report_keep(tx, object, picture, err);
}

static bool save_object(Look *look, size_t at, StoreTx *tx, Error *err) {
    const SeatPicture *picture = &look->pictures[at];
    ObjectNews news;
    CLEANUP(record_fini) Record object = {0};

    if (!record_load(tx, STORE_MIGRATION_JOB_OBJECT, look->objects[at].resource.name, &object, err))
        return false;
    bool says = has_events(&object, picture), is_due = report_is_due(&object, picture), said = false;
    if (says && !log_events(look, tx, &object, picture, err))
        return false;
    bool changed = note_object(look, at, &object, &news);
    is_due = is_due || is_news(&object, &news);
    if ((fails_alone(look, &object, &news) &&
         !log_failure(look, tx, picture, seat_failure_text(look->arena, picture), err)) ||
        !log_removal(look, at, tx, &object, &said, err))
        return false;
    if (!changed && !says && !said && !is_due)
        return true;
    if (is_due && !keep_report(tx, &object, picture, &news, err))
        return false;
    CLEANUP(json_freep) json_t *details = json_array();
    size_t errors = 0;
    if (picture->seat.refused && news.error != NULL &&
        !findings_add_details(look->arena, picture->database, picture->said, details, &errors, err))
        return false;
    news.details = details;
    object_note(&object, &news);
    return record_save(tx, look->arena, &object, err);
}

static bool save_objects(Look *look, StoreTx *tx, Error *err) {
    for (size_t at = 0; at < look->count; at++)
        if (!save_object(look, at, tx, err))
            return false;
    return true;
}

/* How many have, for the job's own answers: a resume is for them (model/job_state.h). */
static int64_t some_failed(const Look *look) {
    int64_t failed = 0;

    for (size_t at = 0; at < look->count; at++)
        failed += !is_deselected(look, at) && seat_has_failed(&look->pictures[at]);
    return failed;
}

static bool save_some_failed(const Look *look, StoreTx *tx, Error *err) {
    int64_t failed = some_failed(look);
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, look->held->name, &job, err))
        return false;
    if (json_get_int(job.run, job_run_SOME_FAILED, 0) == failed)
        return true;
    (void)json_object_set_new(job.run, job_run_SOME_FAILED, json_integer(failed));
    return job_save(tx, look->arena, &job, err);
}

static bool any_news(Look *look) {
    bool any = json_get_int(look->job.run, job_run_SOME_FAILED, 0) != some_failed(look);

    for (size_t at = 0; at < look->count; at++) {
        ObjectNews news;

        any = has_events(&look->objects[at], &look->pictures[at]) || any;
        any = report_is_due(&look->objects[at], &look->pictures[at]) || any;
        any = note_object(look, at, &look->objects[at], &news) || is_news(&look->objects[at], &news) || any;
    }
    return any;
}

/* ---- Progress ---- */

static void note_progress(const Look *look) {
    json_t *progress = progress_of_job(look->arena, look->pictures, look->count);

    if (look->waits != NULL && json_get_string(progress, "waitingFor", "")[0] == '\0')
        (void)json_object_set_new(progress, "waitingFor", json_string_lossy(look->waits));
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

bool look_tell_progress(Look *look, Error *err) {
    CLEANUP(json_freep) json_t *before = json_incref(look->held->progress);

    if (clock_now_us() < look->held->next_progress_us || !shows_progress(look))
        return true;
    note_progress(look);
    return (before != NULL && json_equal(before, look->held->progress)) ||
           store_write(look->this->config.store, look->arena, save_progress, look, err);
}

static bool any_deselected(const Look *look) {
    for (size_t at = 0; at < look->count; at++)
        if (is_deselected(look, at))
            return true;
    return false;
}

/* Of a job that is not at work, when a database was taken out that is still to be removed: what is in the way of that.
 */
static bool write_waiting(const Look *look, StoreTx *tx, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    const char *waits = progress_waiting_for(look->arena, look->pictures, look->count);

    if (shows_progress(look) || !any_deselected(look))
        return true;
    if (!job_load(tx, look->held->name, &job, err))
        return false;
    json_t *progress = json_object_get(job.api, "progress");
    if (progress == NULL || strcmp(json_get_string(progress, "waitingFor", ""), waits) == 0)
        return true;
    (void)json_object_set_new(progress, "waitingFor", json_string_lossy(waits));
    return job_save(tx, look->arena, &job, err);
}

/* ---- Telling ---- */

static const Error *error_of(const Look *look) {
    const Decision *decision = &look->decision;

    if (look->has_why)
        return &look->why;
    bool known = decision->about < look->count && look->pictures[decision->about].has_error;
    return known ? &look->pictures[decision->about].error : NULL;
}

/* Findings are told as VERIFY tells them. */
static bool add_details(Look *look, Error *err) {
    size_t about = look->decision.about, errors = 0;
    const json_t *said = look->has_why || about >= look->count ? NULL : look->pictures[about].said;

    if (said == NULL || !look->pictures[about].seat.refused)
        return true;
    json_freep(&look->details);
    look->details = json_array();
    return findings_add_details(look->arena, look->pictures[about].database, said, look->details, &errors, err);
}

/* For whoever deleted it by force: what was left where. */
static bool say_what_is_left(const Look *look, StoreTx *tx, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, LEFT_MAX);
    for (size_t at = 0; at < look->count; at++) {
        const json_t *left = json_object_get(look->objects[at].run, seat_run_LEFT);
        const SeatPicture *picture = &look->pictures[at];

        if (!picture->given_up || (json_array_size(left) == 0 && !picture->has_error))
            continue;
        buf_printf(&text, "%sdatabase %s: not everything could be removed", text.len > 0 ? "; " : "",
                   picture->database);
        for (size_t of = 0; of < json_array_size(left); of++)
            buf_printf(&text, ", %s", json_string_value(json_array_get(left, of)));
        if (picture->has_error)
            buf_printf(&text, ", %s", picture->error.message);
    }
    if (text.len == 0)
        return true;
    buf_append_str(&text, ". Should a server come back: pgcrane abort --source-only, or --dest-only");
    log_warning("%s: %s", look->held->name, text.overflowed ? "much is left" : text.data);
    return operation_say(tx, look->arena, json_get_string(job_operation(&look->job), "name", ""),
                         text.overflowed ? "much is left on the servers" : text.data, err);
}

/* Not by another operation, before this one. */
static bool is_promoted_by(const Look *look, size_t at, const char *operation) {
    const Record *object = &look->objects[at];
    const char *wish =
        is_noted(object, &look->pictures[at]) ? json_get_string(object->run, seat_run_BY, "") : promote_of(look, at);

    return seat_is_promoted(&look->pictures[at]) && !is_deselected(look, at) && wish != NULL &&
           strcmp(wish, operation) == 0;
}

static bool say_what_is_promoted(const Look *look, StoreTx *tx, Error *err) {
    const char *operation = json_get_string(job_operation(&look->job), "name", "");
    StringVec promoted = {0};

    for (size_t at = 0; at < look->count; at++)
        if (is_promoted_by(look, at, operation))
            vec_push(look->arena, &promoted, look->pictures[at].database);
    return promotes_say(tx, look->arena, operation, &promoted, err);
}

static bool tell(StoreTx *tx, void *context, Error *err) {
    Look *look = context;
    const Fact fact = {.event = look->decision.fact, .error = error_of(look), .details = look->details};
    bool taken = false;

    if (!lease_check(look->this, tx, look->held, err) || !save_objects(look, tx, err) ||
        !save_some_failed(look, tx, err) || !write_waiting(look, tx, err))
        return false;
    if (!look->decision.has_fact)
        return true;
    if ((fact.event == EVENT_PURGED && !say_what_is_left(look, tx, err)) ||
        (fact.event == EVENT_PROMOTE_UNDONE && !say_what_is_promoted(look, tx, err)))
        return false;
    /* Whoever sees the new state sees the numbers that belong to it. */
    return (!shows_progress(look) || write_progress(look, tx, err)) &&
           destination_before_fact(tx, look, fact.event, err) &&
           job_fact(tx, look->arena, look->held->name, &fact, &taken, err) &&
           destination_after_fact(tx, look, fact.event, err);
}

bool look_tell(Look *look, Error *err) {
    if (!look->decision.has_fact && !any_news(look))
        return true;
    if (look->decision.has_fact && shows_progress(look))
        note_progress(look);
    if (look->decision.has_fact && !add_details(look, err))
        return false;
    return store_write(look->this->config.store, look->arena, tell, look, err);
}
