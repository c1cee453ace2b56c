/* Commands of the source that were not repeated (engine/ddl/unrepeated.h), for the status. */
#include "engine/ddl/unrepeated.h"
#include "worker/following.h"

bool following_look_at_unrepeated(Following *following, Error *err) {
    Run *run = following->run;
    StringVec left = {0};

    if (!run->options.ddl)
        return true;
    Arena *arena = arena_new();
    if (!unrepeated_left(run->source, run->dest, arena, &left, err)) {
        arena_free(arena);
        return false;
    }
    arena_free(following->unrepeated_arena);
    following->unrepeated_arena = arena;
    following->unrepeated = left;
    return true;
}
