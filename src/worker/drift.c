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
