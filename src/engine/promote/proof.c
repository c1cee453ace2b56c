/*
 * Do both sides say the same, and did nothing change after the marker?
 *
 * The proof: a second marker is written when everything is copied, and waited for. Then the stream has been read past
 * everything that was committed between the two, and the last change of a migrated table must lie before the first. Of
 * large objects the stream says nothing: where they could not be locked they are compared once more.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

/* Definitions may change while they are read, of things that the fence does not lock. */
static bool compare(const Promote *promote, DriftVec *drifts, Error *err) {
    enum { ATTEMPTS = 5, PAUSE_MS = 100 };
    const PromoteParams *params = promote->params;

    for (int i = 1;; i++) {
        if (drift_compare(params->source, params->dest, promote->arena, &params->drift, drifts, err))
            return true;
        if (i == ATTEMPTS || err->reason == REASON_LOCK_BUSY || !drift_error_passes(err))
            return error_wrap(err, "comparing both catalogues");
        log_info("promote compares again: %s", err->message);
        clock_sleep_us(PAUSE_MS * USEC_PER_MSEC);
    }
}

/* What is no reason against a promote: a few of them by name, once. */
static void note_drifts(Promote *promote, const DriftVec *drifts) {
    enum { SHOWN = 5 };
    size_t count = 0;

    if (promote->step != PROMOTE_COMPARE && !promote->params->options->dry_run)
        return;
    for (size_t i = 0; i < drifts->len; i++)
        if (drifts->items[i].note && ++count <= SHOWN)
            promote_note(promote, "%s: %s", drifts->items[i].object, drifts->items[i].message);
    if (count > SHOWN)
        promote_note(promote, "and %zu more comments, grants, owners and the like that differ", count - SHOWN);
}

bool promote_compare_into(Promote *promote, StringVec *problems, Error *err) {
    DriftVec drifts = {0};
    int64_t begun = clock_now_us();

    if (!compare(promote, &drifts, err))
        return false;
    promote->compare_us = clock_now_us() - begun;
    for (size_t i = 0; i < drifts.len; i++) {
        const Drift *drift = &drifts.items[i];
        if (drift->note)
            continue;
        const char *fix = drift->fix == NULL || drift->fix[0] == '\0'
                              ? ""
                              : arena_printf(promote->arena, " (on the destination: %s)", drift->fix);

        vec_push(promote->arena, problems,
                 arena_printf(promote->arena, "%s: %s%s", drift->object, drift->message, fix));
    }
    note_drifts(promote, &drifts);
    return true;
}

bool promote_compare(Promote *promote, Error *err) {
    StringVec problems = {0};

    return promote_compare_into(promote, &problems, err) &&
           promote_refuse(promote, "source and destination differ", &problems, err) &&
           failpoint("promote.after_compare", err);
}

bool promote_prove(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    FollowStatus status;
    Lsn end = 0;

    if (!seam_marker(params->source, "proof", &end, err) ||
        !promote_wait_applied(promote, end, clock_now_us() + params->options->fence_timeout * USEC_PER_SEC, err) ||
        !follow_check(params->follow, err) || !promote_copy_objects_again(promote, err))
        return false;
    follow_status(params->follow, &status);
    bool held = status.last_change <= promote->result.marker;

    log_info("promote proof marker=%s last_change=%s end=%s", lsn_format(scratch, promote->result.marker),
             lsn_format(scratch, status.last_change), lsn_format(scratch, end));
    if (!held && promote->mode != FENCE_NONE)
        return error_set(err, REASON_BAD_DATA,
                         "a migrated table was changed on the source at %s, after the marker at %s: the fence does not"
                         " hold",
                         lsn_format(scratch, status.last_change), lsn_format(scratch, promote->result.marker));
    if (!held)
        promote_note(promote, "the source was written to after the marker: those changes may be missing");
    promote->result.proven = held && promote->mode != FENCE_NONE;
    return failpoint("promote.after_proof", err);
}
