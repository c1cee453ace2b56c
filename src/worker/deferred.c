/*
 * What of the archive waits for the promote's OPEN, since it would disturb the applier before.
 *
 * In replica role ordinary triggers, rules and foreign keys do not fire; those that are ENABLE ALWAYS or ENABLE REPLICA
 * do, and a BEFORE trigger may swallow a row. Without the replica role all of them wait. Row level security could hide
 * rows from the applier's role. Comments wait with what they are about. What is then made is found out anew from the
 * source (engine/promote/waiting.c).
 */
#include "worker/run.h"

#include <string.h>

static bool fires_in_replica_role(const TocEntry *entry) {
    return strstr(entry->defn, "ENABLE ALWAYS") != NULL || strstr(entry->defn, "ENABLE REPLICA") != NULL;
}

static bool is_view_rule(const TocEntry *entry) {
    return strcmp(entry->desc, "RULE") == 0 && strstr(entry->tag, "_RETURN") != NULL;
}

/* The state of a partition's trigger, which is its root's: that one may wait. */
static bool is_state(const TocEntry *entry) {
    return strcmp(entry->desc, "TRIGGER") == 0 && strstr(entry->defn, "CREATE ") == NULL;
}

static bool disturbs(const LoadParams *load, const TocEntry *entry) {
    bool acts = strcmp(entry->desc, "TRIGGER") == 0 || (strcmp(entry->desc, "RULE") == 0 && !is_view_rule(entry));

    if (strcmp(entry->desc, "POLICY") == 0 || strcmp(entry->desc, "ROW SECURITY") == 0)
        return true;
    return (acts && (!load->replica_role || fires_in_replica_role(entry) || is_state(entry))) ||
           (!load->replica_role && strcmp(entry->desc, "FK CONSTRAINT") == 0);
}

static bool is_note(const TocEntry *entry) {
    return strcmp(entry->desc, "COMMENT") == 0 || strcmp(entry->desc, "SECURITY LABEL") == 0;
}

bool run_is_deferred(const LoadParams *load, size_t entry) {
    const TocEntry *self = &load->toc->entries[entry];

    if (!is_note(self))
        return disturbs(load, self);
    for (size_t i = 0; i < self->deps_count; i++) {
        const TocEntry *about = toc_find(load->toc, self->deps[i]);

        if (about != NULL && disturbs(load, about))
            return true;
    }
    return false;
}
