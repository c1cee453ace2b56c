/* What the stream does not carry, made right under the fence: sequences, large objects, tables, materialized views. */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"

#include <string.h>

static int64_t count_sequences(const LoadParams *load) {
    int64_t count = 0;

    for (size_t i = 0; i < load->toc->count; i++)
        count += load->chosen[i] && strcmp(load->toc->entries[i].desc, "SEQUENCE") == 0;
    return count;
}

static bool copy_sequences(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    StringVec missing = {0};

    if (!finish_sequences(params->load, params->source, params->dest, promote->arena, &missing, err))
        return error_wrap(err, "copying sequences");
    for (size_t i = 0; i < missing.len; i++)
        promote_note(promote, "sequence %s is not on the destination: its value was not set", missing.items[i]);
    promote->result.sequences = count_sequences(params->load);
    return true;
}

/* Reading a large object takes a lock on the catalogue that the fence has locked: the fence's own session may. */
bool promote_copy_objects(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    DbConn *source = promote->objects_locked && promote->fence != NULL ? promote->fence : params->source;
    int64_t changed = 0, begun = clock_now_us();

    if (!params->load->large_objects)
        return true;
    if (!finish_large_objects(params->load, source, params->dest, promote->arena, &changed, err))
        return error_wrap(err, "comparing large objects");
    promote->result.large_objects = changed;
    promote->objects_us = clock_now_us() - begun;
    return true;
}

bool promote_copy_rest(Promote *promote, Error *err) {
    if (!copy_sequences(promote, err) || !promote_copy_objects(promote, err) || !promote_rest_settle(promote, err) ||
        !promote_unique_settle(promote, err) || (promote->views_again && !promote_refresh_views(promote, err)))
        return false;
    return failpoint("promote.after_rest", err);
}
