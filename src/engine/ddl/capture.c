/*
 * Putting the capture on the source and taking it away.
 *
 * The schema and all in it come and go in one transaction, so there is never a part of it. A crash after the journal's
 * intention and before the commit leaves a line and no schema, one after the commit a line that says "maybe": both are
 * put right by doing it again, which replaces what is there.
 *
 * The event triggers go before the functions they call: dropping the schema would fire them.
 */
#include "engine/ddl/capture.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture_internal.h"
#include "pg/event_triggers.h"
#include "pg/quote.h"

#include <string.h>

enum { MESSAGES_VERSION = 140000 };
#define LOCK_PATIENCE_US (60 * USEC_PER_SEC)
#define PAUSE_US (200 * USEC_PER_MSEC)
/* As the seam's own (seam_internal.h): no waiting for standbys, no queue of the application behind our lock. */
#define BEGIN_SQL                                                                                                      \
    "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '3s';"                           \
    " SET LOCAL client_min_messages = error;"

const char *ddl_capture_schema(Arena *arena, const SeamNames *names) {
    return arena_printf(arena, "%s_ddl", names->slot);
}

/* silent: the user's event triggers do not see it. */
static bool run_once(DbConn *source, bool silent, const char *sql, Error *err) {
    const char *set;

    if (db_exec(source, BEGIN_SQL, err) && (!silent || event_triggers_silence(source, &set, err)) &&
        db_exec(source, sql, err) && db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return false;
}

/* All or nothing, again while others hold a lock. */
static bool run_patiently(DbConn *source, bool silent, const char *sql, Error *err) {
    int64_t deadline = clock_now_us() + LOCK_PATIENCE_US;

    while (!run_once(source, silent, sql, err)) {
        bool again = !db_is_broken(source) && (err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT);

        if (!again || clock_now_us() > deadline)
            return false;
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while working on the source");
    }
    return true;
}

bool ddl_capture_allowed(DbConn *source, bool *ret_allowed, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const SeamNames names = {.slot = "pgcrane_may_i", .publication_all = "", .publication_keys = ""};
    const char *sql = capture_create_sql(arena, &names, db_version(source));

    /* Before, the stream leaves logical messages out. */
    if (db_version(source) < MESSAGES_VERSION) {
        *ret_allowed = false;
        return true;
    }
    /* Services allow it to roles that are no superusers, each in its own way: only trying tells. Nothing is committed.
     */
    if (!db_exec(source, BEGIN_SQL, err)) {
        db_rollback(source);
        return false;
    }
    bool made = db_exec(source, sql, err);

    db_rollback(source);
    if (!made && err->reason != REASON_NOT_PERMITTED)
        return error_wrap(err, "trying whether event triggers may be made");
    *ret_allowed = made;
    return true;
}

bool ddl_capture_install(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *schema = ddl_capture_schema(arena, names);
    const char *sql = arena_printf(arena, "%s\n%s", capture_drop_sql(arena, names),
                                   capture_create_sql(arena, names, db_version(source)));

    if (!journal_intend(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err) || !failpoint("ddl.capture_intended", err))
        return false;
    if (!run_patiently(source, false, sql, err))
        return error_wrap(err, "creating the event triggers of schema %s on the source", schema);
    log_info("capturing DDL: schema %s made", schema);
    return failpoint("ddl.capture_made", err) && journal_made(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err);
}

bool ddl_capture_remove(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *schema = ddl_capture_schema(arena, names);
    char *found = NULL;

    /* Without a right on event triggers even DROP IF EXISTS may be refused: look first. */
    if (!db_query_value(source, arena,
                        "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1"
                        " UNION ALL SELECT 1 FROM pg_catalog.pg_event_trigger"
                        " WHERE evtname IN ($2 || '_end', $2 || '_drop', $2 || '_rw')) AS ours",
                        2, (const char *const[]){schema, names->slot}, &found, err))
        return error_wrap(err, "looking for the event triggers on the source");
    if (strcmp(found, "0") != 0 && !run_patiently(source, true, capture_drop_sql(arena, names), err)) {
        error_remedy(err, "on the source, as who may: %s", capture_drop_sql(arena, names));
        return error_wrap(err, "removing the event triggers of schema %s from the source", schema);
    }
    return failpoint("ddl.capture_removed", err) &&
           (dest == NULL || journal_forget(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err));
}
