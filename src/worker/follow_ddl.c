/* Commands of the source that were not repeated (engine/ddl/unrepeated.h), for the status. */
#include "common/log.h"
#include "engine/ddl/unrepeated.h"
#include "worker/following.h"

/* An object that goes away while it is looked at is an error of some versions; the next look is right. */
bool following_look_at_unrepeated(Following *following, Error *err) {
    Run *run = following->run;
    StringVec left = {0};

    if (!run->options.ddl)
        return true;
    Arena *arena = arena_new();
    if (!unrepeated_left(run->source, run->dest, arena, &left, err)) {
        arena_free(arena);
        if (db_is_broken(run->source) || db_is_broken(run->dest) || !drift_error_passes(err))
            return false;
        log_info("looking for what was not repeated: %s", err->message);
        return true;
    }
    arena_free(following->unrepeated_arena);
    following->unrepeated_arena = arena;
    following->unrepeated = left;
    return true;
}
