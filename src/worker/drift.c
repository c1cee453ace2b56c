/* What a comparison of both catalogues has to know of a run: what is moved, and what the destination lacks on purpose.
 */
#include "engine/ddl/capture.h"
#include "worker/run.h"

#include <string.h>

static bool is_listed(const Run *run, const TocEntry *entry) {
    for (size_t i = 0; i < run->not_moved.len; i++)
        if (strcmp(run->not_moved.items[i].kind, entry->desc) == 0 &&
            strcmp(run->not_moved.items[i].object, entry->tag) == 0)
            return true;
    return false;
}

/* A DriftAbsent. What was refused when it was restored has no line of the ledger, but is in the list of this run. */
static bool is_absent(void *context, const char *desc, const char *schema, const char *tag) {
    const Run *run = context;

    for (size_t i = 0; i < run->toc.count; i++) {
        const TocEntry *entry = &run->toc.entries[i];

        if (strcmp(entry->desc, desc) == 0 && strcmp(entry->tag, tag) == 0 && strcmp(entry->schema, schema) == 0)
            return !run->chosen[i] || is_listed(run, entry);
    }
    return false;
}

DriftParams run_drift_params(Run *run, Arena *arena) {
    const MigrateOptions *options = &run->options;

    return (DriftParams){
        .wanted = run_wanted,
        .absent = is_absent,
        .context = run,
        .indexes = true,
        .foreign_keys = run->replica_role,
        .objects = !options->data_only, /* there the definitions are not ours */
        .filtered = run->load.filtered,
        .no_owner = options->no_owner,
        .no_acl = options->no_acl,
        .no_identity = options->identity_full,
        .ignore_schema = ddl_capture_schema(arena, &run->names),
    };
}

/* Expressions are printed under a lock: an ALTER of the application may be in the way, and we must not be in its. On
 * the destination a TRUNCATE of the stream may be, for as long as its transaction lasts. */
bool run_compare_briefly(Run *run, DbConn *source, Arena *arena, DriftVec *ret_drifts, Error *err) {
    DbConn *const sides[] = {source, run->dest};
    const DriftParams params = run_drift_params(run, arena);

    bool ok = db_exec(source, "SET lock_timeout = '2s'", err) && db_exec(run->dest, "SET lock_timeout = '2s'", err) &&
              drift_compare(source, run->dest, arena, &params, ret_drifts, err);
    Error why = *err;
    for (size_t i = 0; i < COUNT_OF(sides); i++)
        if (!db_is_broken(sides[i]) && !db_exec(sides[i], "SET lock_timeout = 0", err)) {
            if (ok)
                why = *err; /* that side went away just now */
            ok = false;
        }
    *err = why;
    return ok;
}
