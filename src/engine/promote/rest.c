/* What the stream does not carry, made right under the fence: sequences, large objects, tables, materialized views. */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#include <string.h>

enum { OBJECT_ROUNDS = 3 };

static int64_t count_sequences(const LoadParams *load) {
    int64_t count = 0;

    for (size_t i = 0; i < load->toc->count; i++)
        count += load->chosen[i] && strcmp(load->toc->entries[i].desc, "SEQUENCE") == 0;
    return count;
}

static bool copy_sequences(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    StringVec missing = {0};

    /* Read before they are set: what goes on in between is set again. */
    promote->sequences.len = 0;
    if (!finish_sequences_moved(params->load, params->source, params->dest, promote->arena, &promote->sequences, err) ||
        !finish_sequences(params->load, params->source, params->dest, promote->arena, &missing, err))
        return error_wrap(err, "copying sequences");
    for (size_t i = 0; i < missing.len; i++)
        promote_note(promote, "sequence %s is not on the destination: its value was not set", missing.items[i]);
    promote->result.sequences = count_sequences(params->load);
    return true;
}

bool promote_copy_sequences_again(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;

    return finish_sequences_moved(params->load, params->source, params->dest, promote->arena, &promote->sequences,
                                  err) ||
           error_wrap(err, "copying sequences once more");
}

/* Reading a large object takes a lock on the catalogue that the fence has locked: the fence's own session may. */
bool promote_copy_objects(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    DbConn *source = promote->objects_locked && promote->fence != NULL ? promote->fence : params->source;
    int64_t changed = 0, begun = clock_now_us();

    if (!params->load->large_objects)
        return true;
    if (!finish_large_objects(params->load, source, params->dest, promote->step == PROMOTE_PREPARE, promote->arena,
                              &changed, err))
        return error_wrap(err, "comparing large objects");
    promote->result.large_objects += changed;
    promote->objects_changed = changed;
    promote->objects_us = clock_now_us() - begun;
    return true;
}

static bool note_unlocked_objects(Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (promote->mode == FENCE_NONE)
        return true;
    if (!db_query(promote->params->source, "SELECT 1 FROM pg_catalog.pg_largeobject_metadata LIMIT 1", 0, NULL, &row,
                  err))
        return error_wrap(err, "looking for large objects");
    if (db_rows(row) > 0)
        promote_note(promote,
                     "large objects could not be locked (%s is no superuser of the source): they were compared until"
                     " just before the destination was opened; what was written to them after that is on the source"
                     " only",
                     db_user(promote->params->source));
    return true;
}

/* Only a superuser may lock them. Everybody else compares them a second time, as late as can be: a comparison that
 * finds nothing shows that nothing was written since the one before began. What it finds is copied; who goes on writing
 * all the time is told so. */
bool promote_copy_objects_again(Promote *promote, Error *err) {
    if (!promote->params->load->large_objects || promote->objects_locked)
        return true;
    for (int round = 0; round < OBJECT_ROUNDS; round++) {
        if (!promote_copy_objects(promote, err))
            return false;
        if (promote->objects_changed == 0)
            return note_unlocked_objects(promote, err);
    }
    error_set(err, REASON_BAD_DATA,
              "large objects of the source are written to under the fence, and %s may not lock them",
              db_user(promote->params->source));
    return error_remedy(err, "stop what writes to them, or promote as a superuser of the source");
}

bool promote_copy_rest(Promote *promote, Error *err) {
    if (!copy_sequences(promote, err) || !promote_copy_objects(promote, err) || !promote_rest_settle(promote, err) ||
        !promote_unique_settle(promote, err) || (promote->views_again && !promote_refresh_views(promote, err)))
        return false;
    return failpoint("promote.after_rest", err);
}
