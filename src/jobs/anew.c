/* Databases that no resume mends. */
#include "jobs/anew.h"

#include "common/shell.h"

#include <string.h>

/* Many a thing can be the matter with a ledger, and another server may have the address of the source. Where something
 * else mends it, the error has a remedy of its own. */
static const struct {
    ErrorReason reason;
    bool or_own_remedy;
} mended[] = {
    {REASON_SLOT_LOST, false},      {REASON_SLOT_UNDECODABLE, false}, {REASON_PUBLICATION_LOST, false},
    {REASON_TABLE_CHANGED, false},  {REASON_SOURCE_WENT_BACK, true},  {REASON_DEST_WENT_BACK, false},
    {REASON_RETAINED_LIMIT, false}, {REASON_LEDGER_MISMATCH, true},   {REASON_DATABASE_REPLACED, false},
};

static bool has_own_remedy(const Error *error) {
    Error plain;

    error_set(&plain, error->reason, "%s", "");
    return strcmp(plain.remedy, error->remedy) != 0;
}

bool anew_mends(const Error *error) {
    for (size_t at = 0; at < COUNT_OF(mended); at++)
        if (mended[at].reason == error->reason)
            return !mended[at].or_own_remedy || !has_own_remedy(error);
    return false;
}

const char *anew_remedy(Arena *arena, const Error *error, const char *command) {
    static const struct {
        const char *text, *instead;
    } options[] = {{"start over with --restart", "begin it anew: "}, {"the same command with --restart", ""}};

    for (size_t at = 0; at < COUNT_OF(options); at++) {
        const char *found = strstr(error->remedy, options[at].text);

        if (found != NULL)
            return arena_printf(arena, "%.*s%s%s", (int)(found - error->remedy), error->remedy, options[at].instead,
                                command);
    }
    return arena_printf(arena, "%s%s%s", error->remedy, error->remedy[0] != '\0' ? ": " : "", command);
}

const char *anew_job_id(const char *job) {
    const char *slash = strrchr(job, '/');

    return slash != NULL ? slash + 1 : job;
}

const char *anew_command(Arena *arena, const char *job, const char *database) {
    return arena_printf(arena, "pgcrane jobs restart %s --database %s", anew_job_id(job), shell_quote(arena, database));
}
