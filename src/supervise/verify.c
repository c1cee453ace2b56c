/*
 * VERIFY: every check of a job, and the mending of what somebody has agreed to (mending.c).
 *
 * NOTES
 * The instance is looked at first, then each database by a dry run, some at a time. One that the destination does not
 * have yet is looked at from its maintenance database. Databases that are promoted are the application's: they are left
 * alone.
 */
#include "supervise/verify.h"

#include "jobs/errand.h"
#include "model/finding.h"
#include "supervise/endpoint.h"
#include "supervise/findings.h"

#include <string.h>

const json_t *verify_fixes(const Errands *errands) {
    const json_t *fixes = json_get_array(errands->args, "fixes");

    return json_array_size(fixes) > 0 ? fixes : NULL;
}

static void note_failure(Verify *verify, const Error *why) {
    if (verify->failed)
        return;
    verify->failed = true;
    verify->why = *why;
}

void verify_fail(Verify *verify, const Error *why) {
    verify->no_more = true;
    note_failure(verify, why);
}

/* ---- What is found ---- */

bool verify_has_failed(const SeatPicture *picture) {
    return picture->seat.state != SEAT_DONE && !picture->seat.refused;
}

/* One that ended otherwise than by findings is an error of its own kind, such as a server that is away. */
bool verify_collect(Verify *verify, const char *database, const SeatPicture *picture, Error *err) {
    Arena *arena = verify->errands->arena;
    Estimate estimate;
    size_t errors = 0;

    if (!findings_add_details(arena, database, picture->said, verify->details, &errors, err) ||
        !findings_add_shown(arena, database, picture->said, verify->shown, &verify->left_out, err))
        return false;
    verify->errors += errors;
    estimate_from_json(json_get_object(json_get_object(picture->said, "findings"), "estimate"), &estimate);
    estimate_add(&verify->estimate, &estimate);
    if (verify_has_failed(picture))
        note_failure(verify, &picture->error); /* the others are looked at all the same */
    return true;
}

/* ---- Sessions ---- */

static const char *folder_of(const Verify *verify, VerifyStage stage) {
    static const char *const folders[] = {[VERIFY_MEND_SERVER] = "s", [VERIFY_MEND] = "m", [VERIFY_AGAIN] = "a"};
    const Errands *errands = verify->errands;

    return stage == VERIFY_LOOK ? errands->folder
                                : arena_printf(errands->arena, "%s/%s", errands->folder, folders[stage]);
}

static bool start(Verify *verify, const char *database, const json_t *mends, Error *err) {
    CLEANUP(json_freep) json_t *api = json_pack("{s:{s:o}}", "sourceObject", "database", json_string_lossy(database));
    const Record object = {.api = api};
    Errands *errands = verify->errands;

    errands->mends = mends;
    bool ok = errand_start(errands, database[0] != '\0' ? &object : NULL, database, err);
    errands->mends = NULL;
    verify->busy += ok;
    verify->all_over = verify->all_over && !ok; /* one that cannot be started is not waited for */
    return ok;
}

static bool look_or_start(Verify *verify, const char *database, const json_t *mends, SeatPicture *picture, Error *err) {
    if (!errand_look_at(verify->errands, database, picture, err))
        return false;
    if (errand_is_over(picture))
        return true;
    if (errand_is_begun(picture)) {
        verify->busy++;
        verify->all_over = false;
        return true;
    }
    if (verify->no_more)
        return true;
    if (verify->busy < verify->at_once)
        return start(verify, database, mends, err);
    verify->all_over = false;
    return true;
}

bool verify_visit(Verify *verify, VerifyStage stage, const char *database, const json_t *mends,
                  SeatPicture *ret_picture, Error *err) {
    Errands *errands = verify->errands;
    const char *folder = errands->folder;

    errands->folder = folder_of(verify, stage);
    bool ok = look_or_start(verify, database, mends, ret_picture, err);
    errands->folder = folder;
    return ok;
}

bool verify_peek(const Verify *verify, VerifyStage stage, const char *database, SeatPicture *ret_picture, Error *err) {
    Errands errands = *verify->errands;

    errands.folder = folder_of(verify, stage);
    return errand_look_at(&errands, database, ret_picture, err);
}

/* ---- All databases ---- */

static bool load_promoted(StoreTx *tx, Verify *verify, Error *err) {
    Record *objects = NULL;
    size_t count = 0;

    (void)json_array_clear(verify->promoted);
    if (!objects_load(tx, verify->errands->arena, verify->errands->action->owner, &objects, &count, err))
        return false;
    for (size_t at = 0; at < count; at++)
        if (strcmp(objects[at].resource.state, object_state_name(OBJECT_COMPLETED)) == 0)
            (void)json_array_append_new(verify->promoted, json_string_lossy(seat_database(&objects[at])));
    records_fini(objects, count);
    return true;
}

static bool load(StoreTx *tx, void *context, Error *err) {
    return load_promoted(tx, context, err) && mending_load(tx, context, err);
}

static bool is_promoted(const Verify *verify, const char *database) {
    for (size_t at = 0; at < json_array_size(verify->promoted); at++)
        if (strcmp(json_string_value(json_array_get(verify->promoted, at)), database) == 0)
            return true;
    return false;
}

bool verify_each(Verify *verify, const SeatPicture *instance, VerifyCall call, Error *err) {
    const json_t *list = json_get_array(json_get_object(instance->said, "databases"), "databases");

    for (size_t at = 0; instance->seat.state == SEAT_DONE && at < json_array_size(list); at++) {
        const char *database = json_get_string(json_array_get(list, at), "name", "");

        if (!is_promoted(verify, database) && !call(verify, database, err))
            return false;
    }
    return true;
}

static bool look_at_database(Verify *verify, const char *database, Error *err) {
    SeatPicture picture = {0};
    bool ok = verify_visit(verify, VERIFY_LOOK, database, NULL, &picture, err);

    ok = ok && (!errand_is_over(&picture) || verify_collect(verify, database, &picture, err));
    seat_picture_fini(&picture);
    return ok;
}

static bool look_at_all(Verify *verify, const SeatPicture *instance, Error *err) {
    verify->all_over = true;
    if (!verify_collect(verify, "", instance, err) || !verify_each(verify, instance, look_at_database, err))
        return false;
    return !verify->all_over || verify->fixes == NULL || verify->failed || mending_go_on(verify, instance, err);
}

/* ---- The end ---- */

static bool log_mended(StoreTx *tx, void *context, Error *err) {
    const ErrandEnd *end = context;

    return mending_log(tx, end->owner, json_get_array(end->metadata, "mended"), err);
}

/* What was found stands in the operation, whether it is an error or not. */
static void tell(const Verify *verify, ErrandEnd *end) {
    json_t *mended = mending_told(verify);

    end->metadata = json_pack("{s:O}", "findings", verify->shown);
    if (verify->left_out > 0)
        (void)json_object_set_new(end->metadata, "findingsLeftOut", json_integer(verify->left_out));
    if (verify->estimate.is_known)
        (void)json_object_set_new(end->metadata, "estimate", estimate_to_json(&verify->estimate));
    if (mended != NULL)
        (void)json_object_set_new(end->metadata, "mended", mended);
    end->owner = verify->errands->action->owner;
    end->extra = log_mended;
    end->context = end;
}

static void conclude(const Verify *verify, ErrandEnd *end) {
    Error why;

    *end = (ErrandEnd){.over = true, .type = "MigrationJob"};
    if (verify->failed) {
        errand_refuse(&verify->why, end);
    } else if (verify->errors > 0) {
        error_set(&why, REASON_PREFLIGHT_FAILED, "the checks found %zu error%s", verify->errors,
                  verify->errors == 1 ? "" : "s");
        errand_refuse(&why, end);
    }
    if (end->refused)
        (void)json_array_extend(json_object_get(end->status, "details"), verify->details);
    tell(verify, end);
}

static void verify_fini(Verify *verify) {
    json_freep(&verify->promoted);
    json_freep(&verify->details);
    json_freep(&verify->shown);
    json_freep(&verify->noted);
    json_freep(&verify->plan);
}

/* Does a session live that changes something? */
static bool note_living(Verify *verify, const char *database, Error *err) {
    static const VerifyStage stages[] = {VERIFY_MEND_SERVER, VERIFY_MEND};

    for (size_t at = 0; at < COUNT_OF(stages); at++) {
        SeatPicture picture = {0};
        bool ok = verify_peek(verify, stages[at], database, &picture, err);

        verify->lives = verify->lives || (ok && errand_is_begun(&picture) && !errand_is_over(&picture));
        seat_picture_fini(&picture);
        if (!ok)
            return false;
    }
    return true;
}

/* Whatever goes wrong behind the beginning of a mending: what was changed until then is told, when all have ended. */
static bool look_at_begun(Verify *verify, const SeatPicture *instance, Error *err) {
    if (look_at_all(verify, instance, err))
        return true;
    if (is_of_the_store(err) || (verify->noted == NULL && verify->plan == NULL))
        return false;
    Error why = *err;
    verify_fail(verify, &why);
    verify->lives = false;
    if (!verify_each(verify, instance, note_living, &why))
        verify->lives = false; /* nobody can tell: what came of them is not known */
    verify->all_over = !verify->lives;
    return true;
}

static bool look(Verify *verify, const SeatPicture *instance, ErrandEnd *end, Error *err) {
    Errands *errands = verify->errands;

    if (!store_read(errands->this->config.store, errands->arena, load, verify, err))
        return false;
    errands->apart = verify->promoted;
    if (!errand_is_begun(instance))
        return errand_start(errands, NULL, "", err);
    if (!errand_is_over(instance))
        return true;
    if (!look_at_begun(verify, instance, err))
        return false;
    if (verify->all_over)
        conclude(verify, end);
    return true;
}

bool verify_job(Errands *errands, ErrandEnd *end, Error *err) {
    CLEANUP(verify_fini)
    Verify verify = {
        .errands = errands,
        .fixes = verify_fixes(errands),
        .promoted = json_array(),
        .details = json_array(),
        .shown = json_array(),
        .at_once = VERIFY_AT_ONCE,
    };
    SeatPicture picture = {0};

    end->soon = true;
    errands->is_check = true;
    bool ok = errand_look_at(errands, "", &picture, err) && look(&verify, &picture, end, err);
    errands->apart = NULL;
    seat_picture_fini(&picture);
    return ok;
}
