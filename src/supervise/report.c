/*
 * What is kept of a job's sessions for its report.
 *
 * NOTES
 * `run` of the object has how much was kept: the session's number, and whether its promote's result and its report were
 * there. It is saved in the same transaction as the report, so a crash between the two cannot be: either both are
 * there, or the next look finds the report due. What a session says after that, and before it dies, is lost with its
 * file only.
 */
#include "supervise/report.h"

#include "common/log.h"
#include "model/job_report.h"

#include <string.h>

enum { STAGES = 4, PROMOTED = 1, ENDED = 2 };

static int64_t stage_of(const SeatPicture *picture) {
    const json_t *promoted = json_get_object(picture->said, "promoted");
    int stage = (json_get_bool(promoted, "opened", false) ? PROMOTED : 0) +
                (json_get_object(picture->said, "report") != NULL ? ENDED : 0);

    return picture->run * STAGES + stage;
}

/* Sessions that remove tell nothing of a migration. */
static bool says_something(const SeatPicture *picture) {
    return picture->has_status && !picture->seat.removing && json_get_object(picture->said, "progress") != NULL;
}

bool report_is_due(const Record *object, const SeatPicture *picture) {
    return says_something(picture) && stage_of(picture) % STAGES != 0 &&
           stage_of(picture) != json_get_int(object->run, seat_run_REPORTED, 0);
}

/* Its lists have at most some hundred items; one that is too large all the same must not keep the job from going on. */
static bool save(StoreTx *tx, const char *owner, json_t *report, Error *err) {
    CLEANUP(buf_fini) Buf text, shorter;

    buf_init(&text, STORE_BODY_MAX);
    buf_init(&shorter, STORE_BODY_MAX);
    json_print(report, 0, &text);
    if (!text.overflowed)
        return store_report_set(tx, owner, text.data, err);
    report_shorten(report);
    json_print(report, 0, &shorter);
    return buf_ok(&shorter, owner, err) && store_report_set(tx, owner, shorter.data, err);
}

/* *ret_report NULL: there is none, or none that can be read; then it begins anew. */
static bool load_before(StoreTx *tx, const char *owner, json_t **ret_report, Error *err) {
    const char *body = NULL;
    Error why;

    if (!store_report_get(tx, owner, &body, err))
        return false;
    if (body != NULL && !json_parse(body, strlen(body), ret_report, &why)) {
        log_warning("what was kept for the report of %s cannot be read: %s", owner, why.message);
        *ret_report = NULL;
    }
    return true;
}

bool report_keep(StoreTx *tx, Record *object, const SeatPicture *picture, Error *err) {
    CLEANUP(json_freep) json_t *before = NULL;
    CLEANUP(json_freep) json_t *report = NULL;
    const char *owner = object->resource.name;

    if (!says_something(picture))
        return true;
    if (!load_before(tx, owner, &before, err))
        return false;
    report = database_report_merge(before, picture->said, picture->run, picture->seat.anew);
    (void)json_object_set_new(object->run, seat_run_REPORTED, json_integer(stage_of(picture)));
    return save(tx, owner, report, err);
}

bool report_keep_instance(StoreTx *tx, const char *job, const json_t *said, Error *err) {
    CLEANUP(json_freep) json_t *report = instance_report_of(said);

    return save(tx, job, report, err);
}
