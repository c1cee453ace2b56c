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

#include <stdlib.h>
#include <string.h>

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

static int compare_notes(const void *a, const void *b) {
    const Drift *left = *(const Drift *const *)a;
    const Drift *right = *(const Drift *const *)b;

    if (left->access != right->access)
        return left->access ? -1 : 1;
    int order = strcmp(left->message, right->message);
    return order != 0 ? order : strcmp(left->object, right->object);
}

/* The notes among the drifts, sorted: who may do what, then the rest; each with those that say the same. */
static const Drift **sort_notes(Arena *arena, const DriftVec *drifts, size_t *ret_count) {
    const Drift **notes = arena_array(arena, const Drift *, drifts->len + 1);

    *ret_count = 0;
    for (size_t i = 0; i < drifts->len; i++)
        if (drifts->items[i].note)
            notes[(*ret_count)++] = &drifts->items[i];
    qsort(notes, *ret_count, sizeof(*notes), compare_notes);
    return notes;
}

/* Objects of which the same is to be said, as one note: "a: it differs", or "it differs, of 7 objects: a, b, ...". */
static void note_group(Promote *promote, const Drift *const *notes, size_t count) {
    enum { NAMED = 5 };
    const char *names = notes[0]->object;

    if (count == 1) {
        promote_note(promote, "%s: %s", names, notes[0]->message);
        return;
    }
    for (size_t i = 1; i < MIN(count, NAMED); i++)
        names = arena_printf(promote->arena, "%s, %s", names, notes[i]->object);
    promote_note(promote, "%s, of %zu objects: %s%s", notes[0]->message, count, names, count > NAMED ? ", ..." : "");
}

/* What is no reason against a promote, once. A grant that only the destination has is a way in, and is not cut off
 * behind storage parameters: of the rest there are a few by name. */
static void note_drifts(Promote *promote, const DriftVec *drifts) {
    enum { SHOWN = 5, ACCESS_SHOWN = 100 };
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    size_t count = 0, shown = 0, left = 0, access_shown = 0, access_left = 0;

    if (promote->step != PROMOTE_COMPARE && !promote->params->options->dry_run)
        return;
    const Drift **notes = sort_notes(scratch, drifts, &count);
    for (size_t i = 0, end; i < count; i = end) {
        bool access = notes[i]->access;

        for (end = i + 1;
             end < count && notes[end]->access == access && strcmp(notes[end]->message, notes[i]->message) == 0;)
            end++;
        if (access ? access_shown++ < ACCESS_SHOWN : shown++ < SHOWN)
            note_group(promote, notes + i, end - i);
        else
            *(access ? &access_left : &left) += end - i;
    }
    if (access_left > 0)
        promote_note(promote, "and %zu more grants, owners and default privileges that differ", access_left);
    if (left > 0)
        promote_note(promote, "and %zu more comments, storage parameters and the like that differ", left);
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
