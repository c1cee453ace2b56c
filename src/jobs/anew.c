/* Databases that no resume mends. */
#include "jobs/anew.h"

#include <string.h>

/* A ledger that is not the database's own says nothing of one that never came to follow: somebody else is at work. */
static const struct {
    ErrorReason reason;
    bool has_followed;
} mended[] = {
    {REASON_SLOT_LOST, false},        {REASON_SLOT_UNDECODABLE, false}, {REASON_TABLE_CHANGED, false},
    {REASON_SOURCE_WENT_BACK, false}, {REASON_DEST_WENT_BACK, false},   {REASON_RETAINED_LIMIT, false},
    {REASON_LEDGER_MISMATCH, true},
};

bool anew_mends(ErrorReason reason, bool has_followed) {
    for (size_t at = 0; at < COUNT_OF(mended); at++)
        if (mended[at].reason == reason)
            return has_followed || !mended[at].has_followed;
    return false;
}

const char *anew_job_id(const char *job) {
    const char *slash = strrchr(job, '/');

    return slash != NULL ? slash + 1 : job;
}

const char *anew_command(Arena *arena, const char *job, const char *database) {
    return arena_printf(arena, "pgcrane jobs restart %s --database %s", anew_job_id(job), database);
}
