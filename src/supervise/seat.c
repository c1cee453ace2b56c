/*
 * The place of one database of a job.
 *
 * NOTES
 * A session ends in one of four ways: it says so in its file (COMPLETED, STOPPED, FAILED) and gives the lock back; it
 * is killed, and the lock is free while its file says that it runs; it ends before it has the lock, and there is no
 * file of its number; or its node is gone. Whatever the file does not say, the lock and the child do:
 *
 *   file of this number | lock  | child  | seat
 *   any                 | held  | any    | alive, as the file says
 *   any                 | free  | lives  | BEGINNING (it has no lock yet, or has just given it back)
 *   an end              | free  | no     | that end
 *   under way           | free  | no     | LOST
 *   none                | free  | ended  | LOST: it could not even say why (its log does)
 *   none                | free  | no     | due: the daemon died between the number and the process
 *
 * In the last row a process may have been started that has not taken the lock yet. Then two are: the second to ask for
 * the lock ends at once, and the first is the one with the number.
 */
#include "supervise/seat.h"

#include "jobs/anew.h"
#include "wire/wire.h"

#include <string.h>

#define X(name, key) const char seat_run_##name[] = key;
SEAT_RUN_KEYS(X)
#undef X

const char *seat_database(const Record *object) {
    return json_get_string(json_object_get(object->api, "sourceObject"), "database", "");
}

/* A session that was begun for an earlier launch is not what the job asks for now. */
static SeatDue due_of(const SeatInput *input) {
    bool due = json_get_int(input->object->run, seat_run_LAUNCH, 0) < input->launch;

    return !due ? DUE_NOTHING : input->is_deleting ? DUE_REMOVE : DUE_START;
}

/* ---- A session that lives ---- */

static SeatState state_of_following(const CdcProgress *cdc) {
    static const SeatState states[CDC_STATE_MAX_] = {
        [CDC_NONE] = SEAT_FOLLOWING,     [CDC_CATCHING_UP] = SEAT_FOLLOWING,   [CDC_FOLLOWING] = SEAT_READY,
        [CDC_RETRYING] = SEAT_FOLLOWING, [CDC_COPYING_AGAIN] = SEAT_FOLLOWING, [CDC_PROMOTING] = SEAT_PROMOTING,
        [CDC_PROMOTED] = SEAT_PROMOTING,
    };

    return states[cdc->state];
}

/* Whatever the state says: one that stops may have been at its checks. */
static bool is_past_checks(const Progress *progress) {
    for (Phase phase = PHASE_PREFLIGHT + 1; phase < PHASE_MAX_; phase++)
        if (progress->phases[phase].state == PHASE_RUNNING || progress->phases[phase].state == PHASE_DONE)
            return true;
    return progress->cdc.state != CDC_NONE;
}

static SeatState state_of_progress(const JobStatus *status) {
    const Progress *progress = &status->progress;
    bool follows = progress->cdc.state != CDC_NONE || progress->phases[PHASE_CDC].state == PHASE_RUNNING;

    if (!status->has_progress || !is_past_checks(progress))
        return SEAT_CHECKING;
    return follows ? state_of_following(&progress->cdc) : SEAT_COPYING;
}

/* What has become of the promote that the job wishes, if it has heard of it. */
static void look_at_wish(SeatPicture *picture, const char *wish) {
    const json_t *heard = json_get_object(picture->said, "wish");
    const json_t *result = json_get_object(heard, "result");
    Seat *seat = &picture->seat;

    if (wish == NULL || heard == NULL || strcmp(json_get_string(heard, "wish", ""), wish) != 0)
        return;
    seat->wish_heard = true;
    bool undone = result != NULL && !json_get_bool(result, "ok", false);
    seat->state = undone ? SEAT_UNDONE : SEAT_PROMOTING;
    picture->has_error = undone;
    if (undone)
        wire_error_from_json(json_get_object(result, "error"), &picture->error);
}

static void look_at_living(SeatPicture *picture, const char *wish) {
    Seat *seat = &picture->seat;

    seat->stopping = picture->status.state == JOB_STOPPING;
    seat->state = state_of_progress(&picture->status);
    picture->is_loaded = json_get_bool(json_get_object(picture->said, "loaded"), "waits", false);
    if ((seat->state == SEAT_FOLLOWING || seat->state == SEAT_READY || seat->state == SEAT_PROMOTING) &&
        !seat->stopping)
        look_at_wish(picture, wish);
}

/* ---- One that has ended ---- */

static SeatState state_of_error(const Error *error) {
    switch ((int)error->reason) {
    case REASON_CANCELLED:
        return SEAT_STOPPED;
    case REASON_WORKER_LOST:
    case REASON_FENCED: /* by another one of ours: this node has the lease, so it is the one that goes on */
        return SEAT_LOST;
    default:
        return SEAT_FAILED;
    }
}

static bool has_reason(const SeatPicture *picture, ErrorReason reason) {
    return picture->has_error && picture->error.reason == reason;
}

bool seat_said_its_end(const SeatPicture *picture) {
    return picture->has_status && !has_reason(picture, REASON_WORKER_LOST);
}

static void look_at_end(SeatPicture *picture) {
    const JobStatus *status = &picture->status;
    Seat *seat = &picture->seat;

    if (status->state == JOB_COMPLETED) {
        seat->state = SEAT_DONE;
        return;
    }
    picture->has_error = status->has_error;
    picture->error = status->error;
    seat->state = status->has_error ? state_of_error(&status->error) : SEAT_LOST;
    /* What may be ours was left, or is another run's at work: somebody has to look. */
    if (seat->removing && (seat->state == SEAT_STOPPED || has_reason(picture, REASON_FENCED)))
        seat->state = SEAT_FAILED;
    seat->refused = status->has_error && status->error.reason == REASON_PREFLIGHT_FAILED;
}

static void lose(SeatPicture *picture, const char *why) {
    picture->seat.state = SEAT_LOST;
    picture->has_error = true;
    error_set(&picture->error, REASON_WORKER_LOST, "database %s: %s", picture->database, why);
}

/* ---- All of it ---- */

static void look_without_word(const SeatInput *input, SeatPicture *picture) {
    if (input->has_child)
        picture->seat.state = SEAT_BEGINNING;
    else if (input->child_ended)
        lose(picture, "its process ended before it could say anything; session.log in its folder has more");
    else if (picture->seat.due == DUE_NOTHING)
        picture->seat.due = picture->seat.removing ? DUE_REMOVE : DUE_START;
}

/* A file that cannot be read says nothing. One whose session lives is written again within a second; one without is
 * replaced by the next session. */
static bool look_at_damage(const Job *job, const SeatInput *input, SeatPicture *picture, Error *err) {
    Error why = *err;

    picture->status = (JobStatus){.running = job_is_locked(job)};
    if (picture->status.running || input->has_child) {
        picture->seat.state = SEAT_BEGINNING;
    } else {
        picture->seat.state = SEAT_LOST;
        picture->has_error = true;
        error_set(&picture->error, REASON_WORKER_LOST, "database %s: %s", picture->database, why.message);
    }
    return true;
}

static bool look_here(Arena *arena, const SeatInput *input, SeatPicture *picture, Error *err) {
    const Job job = {.id = picture->database, .folder = input->folder, .source = "", .dest = ""};

    if (!job_status_peek(arena, &job, &picture->status, &picture->said, err))
        return look_at_damage(&job, input, picture, err);
    picture->has_status = picture->status.run == picture->run;
    picture->past_checks =
        picture->has_status && picture->status.has_progress && is_past_checks(&picture->status.progress);
    if (picture->status.running && picture->has_status)
        look_at_living(picture, input->wish);
    else if (picture->status.running || (input->has_child && picture->has_status))
        picture->seat.state = SEAT_BEGINNING;
    else if (picture->has_status)
        look_at_end(picture);
    else
        look_without_word(input, picture);
    return true;
}

/* By force: its removal could not be begun. */
static bool is_given_up(const SeatInput *input) {
    const json_t *run = input->object->run;

    return input->is_forced && json_get_bool(run, seat_run_REMOVED, false) &&
           json_array_size(json_object_get(run, seat_run_LEFT)) > 0;
}

/* One that is done has removed everything itself; so has one that never was. */
static void note_removed(const SeatInput *input, SeatPicture *picture) {
    Seat *seat = &picture->seat;
    bool removed = json_get_bool(input->object->run, seat_run_REMOVED, false) || picture->run == 0 ||
                   seat->state == SEAT_DONE || picture->given_up;

    if (!input->is_deleting || seat_is_alive(seat->state) || !removed)
        return;
    seat->state = SEAT_REMOVED;
    seat->due = DUE_NOTHING;
}

/* On the source alone names are all there is to go by, and another job of the same database has the same. */
bool seat_may_have_made(const json_t *run) {
    bool is_foreign = json_get_bool(run, seat_run_FOREIGN, false) && !json_get_bool(run, seat_run_WORKED, false);

    return json_get_string(run, seat_run_MIGRATION, NULL) != NULL && !is_foreign;
}

/* Its sides are removed one after the other, until each was tried; a whole removal that went well needs no more. */
static void look_at_forced(const SeatInput *input, SeatPicture *picture) {
    int64_t begun = json_get_int(input->object->run, seat_run_FORCED, 0);
    bool made = seat_may_have_made(input->object->run);
    Seat *seat = &picture->seat;
    bool failed = seat->state == SEAT_FAILED || (seat->state == SEAT_LOST && !seat->may_try_again);

    if (!failed && (seat->state != SEAT_DONE || begun <= 1))
        return;
    picture->given_up = begun >= (made ? (int64_t)FORCE_MAX_ : 1);
    if (picture->given_up)
        return;
    seat->state = SEAT_LOST; /* begun again by itself, at once */
    seat->may_start = true;
}

/* Its hour is set by the look that sees the end (look.c); until then there is none. */
static bool is_retry_due(const SeatInput *input) {
    int64_t at_us = json_get_int(input->object->run, seat_run_RETRY_AT_US, 0);

    return at_us > 0 && at_us <= input->now_wall_us;
}

static const char promoted[] = "promoted", copied[] = "copied";

bool seat_is_promoted(const SeatPicture *picture) {
    return strcmp(picture->ended, promoted) == 0;
}

bool seat_is_over(const SeatPicture *picture) {
    return seat_is_promoted(picture) || (picture->seat.state == SEAT_DONE && picture->seat.due == DUE_NOTHING);
}

bool seat_has_failed(const SeatPicture *picture) {
    const Seat *seat = &picture->seat;
    bool ended = seat->state == SEAT_LOST || seat->state == SEAT_STOPPED;

    return seat->due == DUE_NOTHING && !seat->removing &&
           (seat->state == SEAT_FAILED || (ended && !seat->may_try_again));
}

const char *seat_failure_text(Arena *arena, const SeatPicture *picture) {
    const char *again = picture->seat.may_try_again ? ", and is tried again by itself" : "";

    return arena_printf(arena, "database %s has FAILED%s: %s%s%s", picture->database, again,
                        picture->has_error ? picture->error.message : "its session was lost again and again",
                        picture->needs_anew ? "; " : "", picture->needs_anew ? picture->error.remedy : "");
}

bool seat_removal_has_failed(const SeatPicture *picture) {
    const Seat *seat = &picture->seat;

    return seat->removing && picture->has_error && (seat->state == SEAT_FAILED || seat->state == SEAT_LOST);
}

/* What has come to its end is begun again when the destination is to be emptied; but never what is promoted: it is the
 * application's. Its files may be on a node that is gone. */
static void note_ended(Arena *arena, const SeatInput *input, SeatPicture *picture) {
    Seat *seat = &picture->seat;

    picture->ended = arena_strdup(arena, json_get_string(input->object->run, seat_run_ENDED, ""));
    if (seat->state == SEAT_DONE && !seat->removing)
        picture->ended = input->is_continuous ? promoted : copied;
    if (picture->ended[0] == '\0' || seat->removing || seat_is_alive(seat->state))
        return;
    if (seat->due == DUE_START && seat->anew && !seat_is_promoted(picture))
        return;
    seat->state = SEAT_DONE;
    seat->due = seat->due == DUE_START ? DUE_NOTHING : seat->due;
    picture->has_error = false;
}

/* The worker's words are for a terminal, where a migration is begun anew by an option of its command. */
static void note_anew(Arena *arena, const SeatInput *input, SeatPicture *picture) {
    const Seat *seat = &picture->seat;

    picture->has_followed = json_get_bool(input->object->run, object_run_followed, false);
    picture->needs_anew = input->job != NULL && seat->state == SEAT_FAILED && !seat->removing && picture->has_error &&
                          anew_mends(&picture->error);
    if (!picture->needs_anew)
        return;
    const char *command = anew_command(arena, input->job, picture->database);
    (void)error_remedy(&picture->error, "%s; when it is the whole job that has FAILED: pgcrane jobs restart %s",
                       anew_remedy(arena, &picture->error, command), anew_job_id(input->job));
}

/* It was to be emptied, and is left alone by the next session, which was told nothing of that. */
static bool is_open_already(const SeatPicture *picture) {
    return has_reason(picture, REASON_ALREADY_DONE) && !picture->seat.removing;
}

bool seat_look(Arena *arena, const SeatInput *input, SeatPicture *ret_picture, Error *err) {
    const json_t *run = input->object->run;
    SeatPicture picture = {.database = arena_strdup(arena, seat_database(input->object)),
                           .run = json_get_int(run, seat_run_RUN, 0)};
    bool is_ours = strcmp(json_get_string(run, seat_run_HOME, ""), input->node) == 0;

    picture.seat.due = due_of(input);
    picture.seat.anew = json_get_int(run, seat_run_SETTLED, 0) < input->anew;
    picture.seat.removing = json_get_bool(run, seat_run_REMOVING, false);
    picture.seat.may_try_again = input->is_apart || json_get_int(run, seat_run_LOSSES, 0) < SEAT_LOSSES_MAX;
    picture.seat.told = json_get_bool(run, seat_run_BESIDE, false);
    picture.seat.wishes = input->wish != NULL;
    picture.seat.wish_is_own = input->wish_is_own;
    picture.seat.cancelling = input->cancelling;
    if (picture.run > 0 && !is_ours)
        lose(&picture, "the node that had it is gone, or has lost it");
    else if (picture.run > 0 && !look_here(arena, input, &picture, err))
        return false;
    note_ended(arena, input, &picture);
    if (picture.seat.state == SEAT_FAILED && picture.has_error && !input->is_apart)
        picture.seat.may_try_again =
            picture.seat.may_try_again && (picture.error.retryable || is_open_already(&picture));
    picture.seat.may_start = picture.seat.due != DUE_NOTHING || is_retry_due(input);
    if (input->is_forced && picture.seat.removing)
        look_at_forced(input, &picture);
    picture.given_up = picture.given_up || is_given_up(input);
    note_removed(input, &picture);
    note_anew(arena, input, &picture);
    *ret_picture = picture;
    return true;
}

void seat_picture_fini(SeatPicture *picture) {
    json_freep(&picture->said);
}

/* ---- As the API shows it ---- */

static ObjectPhase phase_of(const SeatPicture *picture) {
    static const ObjectPhase phases[SEAT_STATE_MAX_] = {
        [SEAT_COPYING] = OBJECT_PHASE_FULL_DUMP,
        [SEAT_FOLLOWING] = OBJECT_PHASE_CDC,
        [SEAT_READY] = OBJECT_PHASE_READY_FOR_PROMOTE,
        [SEAT_PROMOTING] = OBJECT_PHASE_PROMOTE_IN_PROGRESS,
        [SEAT_UNDONE] = OBJECT_PHASE_CDC,
    };
    const char *said = picture->has_status ? picture->status.phase : "";

    if (picture->seat.state == SEAT_DONE)
        return seat_is_promoted(picture) ? OBJECT_PHASE_PROMOTED : OBJECT_PHASE_NONE;
    if (phases[picture->seat.state] != OBJECT_PHASE_NONE)
        return phases[picture->seat.state];
    return strcmp(said, "FULL_DUMP") == 0                                         ? OBJECT_PHASE_FULL_DUMP
           : strcmp(said, "CDC") == 0 || strcmp(said, "PROMOTE_IN_PROGRESS") == 0 ? OBJECT_PHASE_CDC
                                                                                  : OBJECT_PHASE_NONE;
}

static ObjectState state_of(const SeatPicture *picture, const JobView *job) {
    static const ObjectState states[SEAT_STATE_MAX_] = {
        [SEAT_IDLE] = OBJECT_NOT_STARTED,  [SEAT_BEGINNING] = OBJECT_RUNNING, [SEAT_CHECKING] = OBJECT_RUNNING,
        [SEAT_COPYING] = OBJECT_RUNNING,   [SEAT_FOLLOWING] = OBJECT_RUNNING, [SEAT_READY] = OBJECT_RUNNING,
        [SEAT_PROMOTING] = OBJECT_RUNNING, [SEAT_UNDONE] = OBJECT_RUNNING,    [SEAT_DONE] = OBJECT_COMPLETED,
        [SEAT_STOPPED] = OBJECT_STOPPED,   [SEAT_FAILED] = OBJECT_FAILED,     [SEAT_LOST] = OBJECT_STOPPED,
        [SEAT_REMOVED] = OBJECT_REMOVING,
    };
    const Seat *seat = &picture->seat;

    if (job->state == JOB_DELETING)
        return OBJECT_REMOVING;
    if (seat_is_alive(seat->state) && seat->stopping)
        return OBJECT_STOPPING;
    if (job->state == JOB_RUNNING && seat_has_failed(picture)) /* a job that is no more at work says it itself */
        return OBJECT_FAILED;
    return seat_is_alive(seat->state) && seat->anew ? OBJECT_RESTARTING : states[seat->state];
}

ObjectNews seat_news(const SeatPicture *picture, const JobView *job) {
    bool shows_error = picture->has_error && picture->seat.state != SEAT_STOPPED;

    return (ObjectNews){
        .database = picture->database,
        .state = state_of(picture, job),
        .phase = phase_of(picture),
        .error = shows_error ? &picture->error : NULL,
    };
}
