/*
 * The errands DEMOTE and RELEASE: a session guards the destination of a job, or hands it back.
 *
 * NOTES
 * Whoever deletes the job must know that something may be guarded for it. So that stands in the job before the session
 * is begun (guard.h), and is taken away when the checks have refused, or when all is handed back. In between:
 *
 *   the mark is committed, no session yet    the errand's entry is still there: the next look begins it
 *   the session ends otherwise than well     the mark stays: some databases may be guarded. Asked again it guards the
 *                                            rest; a release, or the end of the job, hands back what there is
 *   the session is done, not the errand      the next look reads the same end in its folder; another node, which has no
 *                                            such folder, begins it once more, and it finds everything done
 */
#include "jobs/errand.h"
#include "model/finding.h"
#include "supervise/errands.h"
#include "supervise/guard.h"

#include <string.h>

/* In the job's "guard": the one that may be at work. */
static const char operation_key[] = "operation";
static const char first_key[] = "first"; /* the operation that has marked it */
static const char demoting[] = "DEMOTING", guarded[] = "GUARDED";

/* ---- What the job remembers ---- */

/* JOB_STATE: it has begun, or is being deleted, since it was asked for. */
static bool is_still_asked(const Record *job, Errand errand, Error *err) {
    const JobView view = job_view(job);

    return errand_is_allowed(errand, &view, err);
}

typedef struct Marking {
    const Errands *errands;
    bool waits; /* another one is under way, asked in other words */
} Marking;

static bool mark(StoreTx *tx, void *context, Error *err) {
    Marking *marking = context;
    const Errands *errands = marking->errands;
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, errands->action->owner, &job, err) || !is_still_asked(&job, ERRAND_DEMOTE, err))
        return false;
    json_t *guard = json_object_get(job.run, job_run_GUARD);
    const char *other = json_get_string(guard, operation_key, errands->operation);
    if (strcmp(other, errands->operation) != 0 && !operation_is_running(tx, other, &marking->waits, err))
        return false;
    if (marking->waits)
        return true;
    if (guard == NULL)
        (void)json_object_set_new(
            job.run, job_run_GUARD,
            guard = json_pack("{s:s, s:s}", guard_run_STATE, demoting, first_key, errands->operation));
    (void)json_object_set_new(guard, operation_key, json_string(errands->operation));
    return job_save(tx, errands->arena, &job, err);
}

/* How it ended, as the job's log has it. The context of an ErrandEnd lives with the errand's arena. */
typedef struct Ending {
    const char *job;
    bool is_up;       /* the guard is; else not, or not any more */
    StringVec events; /* for people */
} Ending;

static bool log_ending(StoreTx *tx, const Ending *ending, Error *err) {
    for (size_t at = 0; at < ending->events.len; at++)
        if (!job_log(tx, ending->job, "GUARD", ending->events.items[at], NULL, err))
            return false;
    return true;
}

static bool note_ending(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Ending *ending = context;
    CLEANUP(record_fini) Record job = {0};

    if (!job_load(tx, ending->job, &job, err))
        return err->reason == REASON_NO_RESOURCE;
    json_t *guard = json_object_get(job.run, job_run_GUARD);
    if (ending->is_up && guard != NULL)
        (void)json_object_set_new(guard, guard_run_STATE, json_string(guarded));
    else if (!ending->is_up)
        (void)json_object_del(job.run, job_run_GUARD);
    return log_ending(tx, ending, err) && job_save(tx, arena, &job, err);
}

static void add_events(Arena *arena, const json_t *said, StringVec *events) {
    const json_t *list = json_get_array(said, "events");

    for (size_t at = 0; at < json_array_size(list); at++)
        vec_push(arena, events, arena_strdup(arena, json_get_string(json_array_get(list, at), "text", "")));
}

/* Warnings of the checks do not keep it: whoever asked finds them in the log. */
static bool add_findings(Arena *arena, const json_t *said, StringVec *events, Error *err) {
    const json_t *list = json_get_array(json_get_object(said, "findings"), "findings");
    FindingVec findings = {0};

    if (list != NULL && !findings_from_json(arena, list, &findings, err))
        return false;
    for (size_t at = 0; at < findings.len; at++) {
        const Finding *finding = &findings.items[at];

        if (finding->severity != SEVERITY_ERROR)
            vec_push(arena, events,
                     arena_printf(arena, "%s (%s)%s%s", finding->message, finding->id,
                                  finding->fix[0] != '\0' ? "; " : "", finding->fix));
    }
    return true;
}

static bool keep_ending(const Errands *errands, const SeatPicture *picture, bool is_up, ErrandEnd *end, Error *err) {
    Ending *ending = arena_new_of(errands->arena, Ending);

    *ending = (Ending){.job = errands->action->owner, .is_up = is_up};
    add_events(errands->arena, picture->said, &ending->events);
    end->extra = note_ending;
    end->context = ending;
    return add_findings(errands->arena, picture->said, &ending->events, err);
}

/* ---- Their sessions ---- */

static bool make_start(StoreTx *tx, void *context, Error *err) {
    Errands *errands = context;
    bool releases = strcmp(errands->action->action, errand_name(ERRAND_RELEASE)) == 0;
    const StartOrder order = {
        .job = &errands->job,
        .run = 1,
        .order = releases ? ORDER_REMOVE : ORDER_START,
        .lanes = 2,
        .action = releases ? "release" : "demote",
        .allow_non_empty = json_get_bool(errands->args, "allowNonEmpty", false),
    };

    json_freep(&errands->start);
    return start_message(errands->this, tx, errands->arena, &order, &errands->start, err);
}

static bool begin(Errands *errands, Error *err) {
    return store_read(errands->this->config.store, errands->arena, make_start, errands, err) &&
           errand_launch(errands, "", err);
}

/* ---- DEMOTE ---- */

/* By the first that was asked for, of a job that has not begun: earlier ones, or sessions of the job, may have guarded
 * some databases, and the mark is what has them handed back. */
static bool is_first(const Errands *errands) {
    const json_t *guard = json_object_get(errands->job.run, job_run_GUARD);

    return strcmp(json_get_string(guard, first_key, ""), errands->operation) == 0 &&
           job_view(&errands->job).state == JOB_NOT_STARTED;
}

/* Refused: nothing was changed, by this one. */
static bool end_demote(const Errands *errands, const SeatPicture *picture, ErrandEnd *end, Error *err) {
    bool done = picture->seat.state == SEAT_DONE;

    if (!errand_conclude(errands, picture, end, err))
        return false;
    if (done || (picture->seat.refused && is_first(errands)))
        return keep_ending(errands, picture, done, end, err);
    return true;
}

bool demote_destination(Errands *errands, ErrandEnd *end, Error *err) {
    SeatPicture picture = {0};
    bool ok = errand_look_at(errands, "", &picture, err);

    Marking marking = {.errands = errands};
    if (ok && !errand_is_begun(&picture))
        ok = store_write(errands->this->config.store, errands->arena, mark, &marking, err) &&
             (marking.waits || begin(errands, err));
    else if (ok && errand_is_over(&picture))
        ok = end_demote(errands, &picture, end, err);
    seat_picture_fini(&picture);
    return ok;
}

/* ---- RELEASE ---- */

static bool end_release(const Errands *errands, const SeatPicture *picture, ErrandEnd *end, Error *err) {
    return errand_conclude(errands, picture, end, err) &&
           (picture->seat.state != SEAT_DONE || keep_ending(errands, picture, false, end, err));
}

static bool is_being_demoted(const Errands *errands) {
    const json_t *under_way = json_object_get(errands->job.run, job_run_ERRANDS);

    return json_object_get(under_way, errand_name(ERRAND_DEMOTE)) != NULL;
}

/* Behind one that guards. */
bool release_destination(Errands *errands, ErrandEnd *end, Error *err) {
    SeatPicture picture = {0};

    if (is_being_demoted(errands))
        return true;
    bool ok = errand_look_at(errands, "", &picture, err);
    if (ok && !errand_is_begun(&picture))
        ok = is_still_asked(&errands->job, ERRAND_RELEASE, err) && begin(errands, err);
    else if (ok && errand_is_over(&picture))
        ok = end_release(errands, &picture, end, err);
    seat_picture_fini(&picture);
    return ok;
}
