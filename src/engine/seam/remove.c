/*
 * Removing what was made on the source: everything the journal names, and what our names say, should the journal's
 * lines have been lost in a fail-over of the destination.
 *
 * One that cannot be removed does not keep the others: all are tried, and all failures are said. A line leaves the
 * journal only after its object is known to be gone, so that a crash in between costs a second look.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ledger/journal.h"
#include "engine/seam/identity_full.h"
#include "engine/seam/seam_internal.h"
#include "pg/event_triggers.h"
#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

#define LOCK_PATIENCE_US (30 * USEC_PER_SEC)

typedef struct Removal {
    DbConn *source, *dest;
    const Ledger *ledger;
    const SeamNames *names;
    int failures;
    Error first;
    char all[ERROR_MESSAGE_MAX];
} Removal;

static bool drop_publication_once(DbConn *source, const char *name, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    if (seam_begin(source, err) && db_execf(source, err, "DROP PUBLICATION IF EXISTS %s", sql_ident(arena, name)) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return false;
}

static bool blame_event_triggers(DbConn *source, const char *name, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *triggers = db_is_broken(source) ? "" : event_triggers_on(source, arena, "DROP PUBLICATION");

    if (triggers[0] != '\0')
        error_remedy(err,
                     "event triggers of the source may have refused it (%.300s): ALTER EVENT TRIGGER ... DISABLE there,"
                     " DROP PUBLICATION %s, then ENABLE",
                     triggers, sql_ident(arena, name));
    return false;
}

/* Looked for first: a source that is a standby takes no DROP, and has none to drop. */
static bool has_publication(DbConn *source, const char *name, bool *ret_has, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(source, "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1", 1, &name, &row, err))
        return error_wrap(err, "looking for publication %s", name);
    *ret_has = db_rows(row) > 0;
    return true;
}

static bool drop_publication(DbConn *source, const char *name, Error *err) {
    int64_t deadline = clock_now_us() + LOCK_PATIENCE_US;
    bool has = false;

    if (!has_publication(source, name, &has, err))
        return false;
    if (!has)
        return true;
    while (!drop_publication_once(source, name, err)) {
        bool again = !db_is_broken(source) && (err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT);

        if (!again)
            return blame_event_triggers(source, name, err);
        if (clock_now_us() > deadline)
            return false;
        if (!seam_pause(source, err))
            return false;
    }
    return true;
}

/* The slot first: it is what fills the source's disk. */
static const struct {
    const char *kind;
    bool (*drop)(DbConn *source, const char *name, Error *err);
} kinds[] = {
    {JOURNAL_SLOT, seam_drop_slot},
    {JOURNAL_PUBLICATION, drop_publication},
    {JOURNAL_IDENTITY_FULL, seam_identity_full_restore}, /* no publication needs it any more */
};

static void note_failure(Removal *removal, const char *kind, const char *name, const Error *err) {
    size_t len = strlen(removal->all);

    if (removal->failures++ == 0)
        removal->first = *err;
    (void)snprintf(removal->all + len, sizeof(removal->all) - len, "%s%s %s: %.300s", len > 0 ? "; " : "", kind, name,
                   err->message);
    log_error_value(LOG_WARNING, err);
}

static void remove_object(Removal *removal, size_t kind, const char *name) {
    Error err = {0};
    bool gone = kinds[kind].drop(removal->source, name, &err) && failpoint("seam.removed", &err);

    /* The slot's line and the stream's go together. */
    if (gone && removal->dest != NULL && kinds[kind].drop == seam_drop_slot)
        gone = journal_forget_stream(removal->dest, removal->ledger, name, &err);
    else if (gone && removal->dest != NULL)
        gone = journal_forget(removal->dest, removal->ledger, kinds[kind].kind, name, &err);
    if (gone)
        log_info("removed from the source: %s %s", kinds[kind].kind, name);
    else
        note_failure(removal, kinds[kind].kind, name, &err);
}

static bool is_ours_by_name(const Removal *removal, const char *name) {
    return strcmp(name, removal->names->slot) == 0 || strcmp(name, removal->names->publication_all) == 0 ||
           strcmp(name, removal->names->publication_keys) == 0;
}

static void remove_unknown(Removal *removal, const JournalObject *object) {
    Error err = {0};

    (void)error_set(&err, REASON_INTERNAL, "this version does not know how to remove it");
    note_failure(removal, object->kind, object->name, &err);
}

static void remove_journalled(Removal *removal, const JournalObject *objects, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t kind = 0;

        if (strcmp(objects[i].kind, JOURNAL_DDL_CAPTURE) == 0)
            continue; /* engine/ddl's own to remove */
        while (kind < COUNT_OF(kinds) && strcmp(kinds[kind].kind, objects[i].kind) != 0)
            kind++;
        if (kind == COUNT_OF(kinds))
            remove_unknown(removal, &objects[i]);
        else if (!is_ours_by_name(removal, objects[i].name))
            remove_object(removal, kind, objects[i].name);
    }
}

bool seam_remove(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Removal removal = {.source = source, .dest = dest, .ledger = ledger, .names = names};
    JournalObject *objects = NULL;
    size_t count = 0;

    if (dest != NULL && !journal_list(dest, arena, &objects, &count, err))
        return false;
    remove_object(&removal, 0, names->slot);
    remove_object(&removal, 1, names->publication_all);
    remove_object(&removal, 1, names->publication_keys);
    remove_journalled(&removal, objects, count);
    if (removal.failures == 0)
        return true;
    *err = removal.first;
    (void)snprintf(err->message, sizeof(err->message), "not removed from the source: %.900s", removal.all);
    return false;
}
