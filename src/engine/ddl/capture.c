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

enum { SECRET_LEN = 64 };
#define LOCK_PATIENCE_US (60 * USEC_PER_SEC)
#define PAUSE_US (200 * USEC_PER_MSEC)
/* As the seam's own (seam_internal.h): no waiting for standbys, no queue of the application behind our lock. */
#define BEGIN_SQL                                                                                                      \
    "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '3s';"                           \
    " SET LOCAL client_min_messages = error;"

const char *ddl_capture_schema(Arena *arena, const SeamNames *names) {
    return arena_printf(arena, "%s_ddl", names->slot);
}

typedef struct Work {
    DbConn *source;
    Arena *arena;
    const SeamNames *names;
    const char *sql;
    char *print; /* when it is wanted: of the same transaction, so that nobody has changed anything in between */
    bool wants_print;
} Work;

/* The application's event triggers do not see it. What we set for that is set back before the capture is looked at: the
 * setting is a part of what is noted (capture_watch.c). */
static bool work_silently(Work *work, Error *err) {
    const char *set = NULL;

    return event_triggers_silence(work->source, &set, err) && db_exec(work->source, work->sql, err) &&
           (set == NULL || db_execf(work->source, err, "SET LOCAL %s = DEFAULT", set));
}

static bool run_once(Work *work, Error *err) {
    DbConn *source = work->source;

    if (db_exec(source, BEGIN_SQL, err) && work_silently(work, err) &&
        (!work->wants_print || capture_print(source, work->arena, work->names, &work->print, err)) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return false;
}

/* All or nothing, again while others hold a lock. */
static bool run_patiently(Work *work, Error *err) {
    DbConn *source = work->source;
    int64_t deadline = clock_now_us() + LOCK_PATIENCE_US;

    while (!run_once(work, err)) {
        bool again = !db_is_broken(source) && (err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT);

        if (!again || clock_now_us() > deadline)
            return false;
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while working on the source");
    }
    return true;
}

bool ddl_capture_install(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *schema = ddl_capture_schema(arena, names);
    const char *sql = arena_printf(arena, "%s\n%s", capture_drop_sql(arena, names),
                                   capture_create_sql(arena, names, db_version(source)));

    if (!journal_intend(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err) || !failpoint("ddl.capture_intended", err))
        return false;
    Work work = {.source = source, .arena = arena, .names = names, .sql = sql, .wants_print = true};

    if (!run_patiently(&work, err)) {
        (void)event_triggers_blame(source, "CREATE SCHEMA", err);
        return error_wrap(err, "creating the event triggers of schema %s on the source", schema);
    }
    log_info("capturing DDL: schema %s made", schema);
    return failpoint("ddl.capture_made", err) && capture_note(dest, ledger, work.print, err) &&
           journal_made(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err);
}

bool ddl_capture_secret(DbConn *source, Arena *arena, const SeamNames *names, const char **ret_secret, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *table = sql_qualified(arena, ddl_capture_schema(arena, names), "secret");

    *ret_secret = NULL;
    if (!db_query(source,
                  "SELECT c.relispopulated AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"
                  " FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'm'",
                  1, (const char *const[]){table}, &row, err))
        return error_wrap(err, "looking for the secret of the capture of definitions");
    if (db_rows(row) != 1 || !db_bool(row, 0, 0))
        return true;
    db_result_freep(&row);
    row = NULL;
    if (!db_query(source, arena_printf(arena, "SELECT secret FROM %s", table), 0, NULL, &row, err))
        return error_wrap(err, "reading the secret of the capture of definitions");
    if (db_rows(row) == 1 && strlen(db_text(row, 0, 0)) == SECRET_LEN)
        *ret_secret = arena_strdup(arena, db_text(row, 0, 0));
    return true;
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
    Work work = {.source = source, .arena = arena, .names = names, .sql = capture_drop_sql(arena, names)};

    if (strcmp(found, "0") != 0 && !run_patiently(&work, err)) {
        error_remedy(err, "on the source, as who may: %s", capture_drop_sql(arena, names));
        return error_wrap(err, "removing the event triggers of schema %s from the source", schema);
    }
    return failpoint("ddl.capture_removed", err) &&
           (dest == NULL || journal_forget(dest, ledger, JOURNAL_DDL_CAPTURE, schema, err));
}
