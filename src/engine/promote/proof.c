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

bool promote_compare_into(Promote *promote, StringVec *problems, Error *err) {
    const PromoteParams *params = promote->params;
    DriftVec drifts = {0};
    int64_t begun = clock_now_us();

    if (!drift_compare(params->source, params->dest, promote->arena, &params->drift, &drifts, err))
        return error_wrap(err, "comparing both catalogues");
    promote->compare_us = clock_now_us() - begun;
    for (size_t i = 0; i < drifts.len; i++) {
        const Drift *drift = &drifts.items[i];
        const char *fix = drift->fix == NULL || drift->fix[0] == '\0'
                              ? ""
                              : arena_printf(promote->arena, " (on the destination: %s)", drift->fix);

        vec_push(promote->arena, problems,
                 arena_printf(promote->arena, "%s: %s%s", drift->object, drift->message, fix));
    }
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
