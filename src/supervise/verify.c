/*
 * VERIFY: every check of a job, and the mending of what somebody has agreed to.
 *
 * NOTES
 * The instance is looked at first, then each database by a dry run, some at a time. One that the destination does not
 * have yet is looked at from its maintenance database. Databases that are promoted are the application's: they are left
 * alone.
 *
 * "fixes" of the request are statements that an earlier VERIFY has shown. They are carried out only when all of them
 * are what this one finds, too; then a second session of each database looks for itself, carries out its own in one
 * transaction per side, and looks again (worker/dry_run.c). Where that may die:
 * - Before the second sessions, or in them before they commit: nothing was changed.
 * - Behind it, with the same node: the sessions' folders say what came of them, and the errand goes on from there.
 * - Behind it, with another node: it begins anew, finds that there is nothing more to mend, and says FINDINGS_CHANGED.
 */
#include "jobs/errand.h"
#include "model/estimate.h"
#include "model/finding.h"
#include "supervise/endpoint.h"
#include "supervise/errands.h"
#include "supervise/findings.h"

#include <string.h>

enum { DRY_RUNS_AT_ONCE = 4 };

typedef struct Verify {
    Errands *errands;
    const json_t *fixes; /* [{database, side, statement}]; NULL = none */
    json_t *promoted;    /* names */
    int busy;
    bool all_over;
    /* what was found */
    json_t *details, *shown, *mended;
    size_t errors;
    int64_t left_out;
    Estimate estimate;
    bool failed; /* a session ended otherwise than by findings */
    Error why;
} Verify;

const json_t *verify_fixes(const Errands *errands) {
    const json_t *fixes = json_get_array(errands->args, "fixes");

    return json_array_size(fixes) > 0 ? fixes : NULL;
}

/* ---- What is found ---- */

static bool has_failed(const SeatPicture *picture) {
    return picture->seat.state != SEAT_DONE && !picture->seat.refused;
}

/* One that ended otherwise than by findings is an error of its own kind, such as a server that is away. */
static bool collect(Verify *verify, const char *database, const SeatPicture *picture, Error *err) {
    Arena *arena = verify->errands->arena;
    Estimate estimate;
    size_t errors = 0;

    if (!findings_add_details(arena, database, picture->said, verify->details, &errors, err) ||
        !findings_add_shown(arena, database, picture->said, verify->shown, &verify->left_out, err))
        return false;
    verify->errors += errors;
    estimate_from_json(json_get_object(json_get_object(picture->said, "findings"), "estimate"), &estimate);
    estimate_add(&verify->estimate, &estimate);
    if (has_failed(picture) && !verify->failed) {
        verify->failed = true;
        verify->why = picture->error;
    }
    return true;
}

static bool is_same_fix(const json_t *fix, const json_t *shown) {
    return json_get_bool(shown, "mendable", false) &&
           strcmp(json_get_string(fix, "database", ""), json_get_string(shown, "database", "?")) == 0 &&
           strcmp(json_get_string(fix, "side", ""), json_get_string(shown, "side", "?")) == 0 &&
           strcmp(json_get_string(fix, "statement", ""), json_get_string(shown, "fix", "?")) == 0;
}

static bool is_shown(const Verify *verify, const json_t *fix) {
    for (size_t at = 0; at < json_array_size(verify->shown); at++)
        if (is_same_fix(fix, json_array_get(verify->shown, at)))
            return true;
    return false;
}

/* All of what is asked for, or nothing. */
static bool check_fixes(Verify *verify) {
    for (size_t at = 0; at < json_array_size(verify->fixes); at++) {
        const json_t *fix = json_array_get(verify->fixes, at);

        if (is_shown(verify, fix))
            continue;
        verify->failed = true;
        return error_set(&verify->why, REASON_FINDINGS_CHANGED,
                         "nothing was changed: in database %s nothing on the %s asks for this any more: %s",
                         json_get_string(fix, "database", ""), json_get_string(fix, "side", ""),
                         json_get_string(fix, "statement", ""));
    }
    return true;
}

/* Those of one database, as the worker takes them; NULL = none. New reference. */
static json_t *fixes_of(const Verify *verify, const char *database) {
    json_t *list = NULL;

    for (size_t at = 0; at < json_array_size(verify->fixes); at++) {
        const json_t *fix = json_array_get(verify->fixes, at);

        if (strcmp(json_get_string(fix, "database", ""), database) != 0)
            continue;
        if (list == NULL)
            list = json_array();
        (void)json_array_append_new(list, json_deep_copy(fix));
    }
    return list;
}

/* ---- One database ---- */

static bool look_or_start(Verify *verify, const char *database, const char *session, const json_t *mends,
                          SeatPicture *picture, Error *err) {
    CLEANUP(json_freep) json_t *api = json_pack("{s:{s:o}}", "sourceObject", "database", json_string_lossy(database));
    const Record object = {.api = api};
    Errands *errands = verify->errands;

    if (!errand_look_at(errands, session, picture, err))
        return false;
    if (errand_is_over(picture))
        return true;
    verify->all_over = false;
    if (errand_is_begun(picture)) {
        verify->busy++;
        return true;
    }
    if (verify->busy >= DRY_RUNS_AT_ONCE)
        return true;
    verify->busy++;
    errands->mends = mends;
    bool ok = errand_start(errands, &object, session, err);
    errands->mends = NULL;
    return ok;
}

static bool look_at_database(Verify *verify, const char *database, Error *err) {
    SeatPicture picture = {0};
    bool ok = look_or_start(verify, database, database, NULL, &picture, err);

    ok = ok && (!errand_is_over(&picture) || collect(verify, database, &picture, err));
    seat_picture_fini(&picture);
    return ok;
}

static bool mend_database(Verify *verify, const char *database, Error *err) {
    CLEANUP(json_freep) json_t *mends = fixes_of(verify, database);
    const char *session = arena_printf(verify->errands->arena, "mend %s", database);
    SeatPicture picture = {0};

    if (mends == NULL)
        return true;
    bool ok = look_or_start(verify, database, session, mends, &picture, err);
    if (ok && errand_is_over(&picture) && !has_failed(&picture))
        (void)json_array_extend(verify->mended, mends);
    if (ok && errand_is_over(&picture) && has_failed(&picture) && !verify->failed) {
        verify->failed = true;
        verify->why = picture.error;
    }
    seat_picture_fini(&picture);
    return ok;
}

/* ---- All of them ---- */

static bool load_promoted(StoreTx *tx, void *context, Error *err) {
    const Verify *verify = context;
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

static bool is_promoted(const Verify *verify, const char *database) {
    for (size_t at = 0; at < json_array_size(verify->promoted); at++)
        if (strcmp(json_string_value(json_array_get(verify->promoted, at)), database) == 0)
            return true;
    return false;
}

typedef bool (*DatabaseVisit)(Verify *verify, const char *database, Error *err);

static bool each_database(Verify *verify, const SeatPicture *instance, DatabaseVisit visit, Error *err) {
    const json_t *list = json_get_array(json_get_object(instance->said, "databases"), "databases");

    for (size_t at = 0; instance->seat.state == SEAT_DONE && at < json_array_size(list); at++) {
        const char *database = json_get_string(json_array_get(list, at), "name", "");

        if (!is_promoted(verify, database) && !visit(verify, database, err))
            return false;
    }
    return true;
}

/* The second look of those that were mended in place of the first. */
static bool collect_mended(Verify *verify, const char *database, Error *err) {
    CLEANUP(json_freep) json_t *mends = fixes_of(verify, database);
    const char *session = arena_printf(verify->errands->arena, "%s%s", mends != NULL ? "mend " : "", database);
    SeatPicture picture = {0};
    bool ok = errand_look_at(verify->errands, session, &picture, err);

    ok = ok && collect(verify, database, &picture, err);
    seat_picture_fini(&picture);
    return ok;
}

static bool collect_anew(Verify *verify, const SeatPicture *instance, Error *err) {
    (void)json_array_clear(verify->details);
    (void)json_array_clear(verify->shown);
    verify->errors = 0;
    verify->left_out = 0;
    verify->estimate = (Estimate){0};
    return collect(verify, "", instance, err) && each_database(verify, instance, collect_mended, err);
}

static bool look_at_all(Verify *verify, const SeatPicture *instance, Error *err) {
    verify->all_over = true;
    if (!collect(verify, "", instance, err) || !each_database(verify, instance, look_at_database, err))
        return false;
    if (!verify->all_over || verify->fixes == NULL || verify->failed || !check_fixes(verify))
        return true;
    if (!each_database(verify, instance, mend_database, err))
        return false;
    return !verify->all_over || verify->failed || collect_anew(verify, instance, err);
}

/* ---- The end ---- */

static bool log_mended(StoreTx *tx, void *context, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const ErrandEnd *end = context;
    const json_t *mended = json_get_array(end->metadata, "mended");

    for (size_t at = 0; at < json_array_size(mended); at++) {
        const json_t *fix = json_array_get(mended, at);
        const char *text = arena_printf(arena, "database %s, on the %s: %s", json_get_string(fix, "database", ""),
                                        json_get_string(fix, "side", ""), json_get_string(fix, "statement", ""));

        if (!job_log(tx, end->owner, "MENDED", text, NULL, err))
            return err->reason == REASON_NO_RESOURCE;
    }
    return true;
}

/* What was found stands in the operation, whether it is an error or not. */
static void tell(const Verify *verify, ErrandEnd *end) {
    end->metadata = json_pack("{s:O}", "findings", verify->shown);
    if (verify->left_out > 0)
        (void)json_object_set_new(end->metadata, "findingsLeftOut", json_integer(verify->left_out));
    if (verify->estimate.is_known)
        (void)json_object_set_new(end->metadata, "estimate", estimate_to_json(&verify->estimate));
    if (json_array_size(verify->mended) > 0)
        (void)json_object_set(end->metadata, "mended", verify->mended);
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
    json_freep(&verify->mended);
}

static bool look(Verify *verify, const SeatPicture *instance, ErrandEnd *end, Error *err) {
    Errands *errands = verify->errands;

    if (!store_read(errands->this->config.store, errands->arena, load_promoted, verify, err))
        return false;
    errands->apart = verify->promoted;
    if (!errand_is_begun(instance))
        return errand_start(errands, NULL, "", err);
    if (!errand_is_over(instance))
        return true;
    if (!look_at_all(verify, instance, err))
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
        .mended = json_array(),
    };
    SeatPicture picture = {0};

    end->soon = true;
    errands->is_check = true;
    bool ok = errand_look_at(errands, "", &picture, err) && look(&verify, &picture, end, err);
    errands->apart = NULL;
    seat_picture_fini(&picture);
    return ok;
}
