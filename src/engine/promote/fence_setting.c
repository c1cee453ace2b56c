/*
 * default_transaction_read_only of the source database: on for the fence, and back.
 *
 * The journal's line says what was set before ("reset": nothing), and is written first. It is set back even when nobody
 * knows whether it was changed: that changes nothing then. A line that is there already, of a run that was killed, is
 * kept: what it says was before us, what the source says now may be our own.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ledger/journal.h"
#include "pg/quote.h"

#include <string.h>

#define LINE_RESET "reset"
#define LINE_SET "set "

#define OLD_FENCE_PATIENCE_US (15 * USEC_PER_SEC)

/* Without waiting for the source's standbys, and not for long for anybody else who alters the database. */
#define BEGIN_SQL "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '3s'; "

const char *promote_setting_line(Arena *arena, const char *previous) {
    return previous == NULL ? LINE_RESET : arena_printf(arena, LINE_SET "%s", previous);
}

const char *promote_setting_back_sql(Arena *arena, const char *database, const char *line) {
    const char *name = sql_ident(arena, database);

    if (strcmp(line, LINE_RESET) == 0)
        return arena_printf(arena, "ALTER DATABASE %s RESET default_transaction_read_only", name);
    if (strncmp(line, LINE_SET, strlen(LINE_SET)) != 0)
        return NULL;
    return arena_printf(arena, "ALTER DATABASE %s SET default_transaction_read_only = %s", name,
                        sql_literal(arena, line + strlen(LINE_SET)));
}

static bool read_previous(DbConn *source, Arena *arena, const char **ret_previous, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = "SELECT pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"
                      " FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) AS c"
                      " WHERE s.setrole = 0 AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database"
                      "  WHERE datname = pg_catalog.current_database())"
                      " AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1";

    if (!db_query(source, sql, 0, NULL, &row, err))
        return error_wrap(err, "reading the source database's settings");
    *ret_previous = db_rows(row) == 0 ? NULL : arena_strdup(arena, db_text(row, 0, 0));
    return true;
}

/* NULL = none. */
static bool read_line(DbConn *dest, Arena *arena, const char **ret_line, Error *err) {
    JournalObject *objects = NULL;
    size_t count = 0;

    if (!journal_list(dest, arena, &objects, &count, err))
        return false;
    *ret_line = NULL;
    for (size_t i = 0; i < count; i++)
        if (strcmp(objects[i].kind, JOURNAL_FENCE) == 0)
            *ret_line = objects[i].name;
    return true;
}

static bool journal_previous(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *line = NULL, *previous = NULL;

    if (!read_line(params->dest, promote->arena, &line, err) ||
        !read_previous(params->source, promote->arena, &previous, err))
        return false;
    promote->setting_touched = true;
    return line != NULL || journal_intend(params->dest, params->load->ledger, JOURNAL_FENCE,
                                          promote_setting_line(promote->arena, previous), err);
}

/* The job's row is shared meanwhile: no other run takes the migration over, and sets the setting back, between our look
 * at the epoch and the setting. */
bool promote_setting_on(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *name = sql_ident(promote->arena, db_name(params->source));

    if (!journal_previous(promote, err) || !failpoint("promote.after_fence_journal", err) ||
        !ledger_begin(params->dest, params->load->ledger, err))
        return false;
    promote->outage_from_us = clock_now_us();
    bool ok = db_execf(params->source, err,
                       BEGIN_SQL "ALTER DATABASE %s SET default_transaction_read_only = on; COMMIT", name);

    if (!ok)
        db_rollback(params->source);
    db_rollback(params->dest);
    return ok ? failpoint("promote.after_fence_setting", err) : error_wrap(err, "making the source database read-only");
}

/* A role's setting goes before a database's, and one of a role in a database before both. What is set there by somebody
 * who may set it is none of ours to change. */
bool promote_setting_exceptions(Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql =
        "SELECT pg_catalog.format('ALTER ROLE %I%s RESET default_transaction_read_only', r.rolname,"
        " CASE WHEN s.setdatabase <> 0 THEN pg_catalog.format(' IN DATABASE %I', pg_catalog.current_database()) END)"
        " FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,"
        " LATERAL pg_catalog.unnest(s.setconfig) AS c"
        " WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database"
        "  WHERE datname = pg_catalog.current_database()))"
        " AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1"
        " AND NOT pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)::boolean ORDER BY 1";

    if (!db_query(promote->params->source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the settings of the source's roles");
    for (int i = 0; i < db_rows(rows); i++)
        promote_note(promote,
                     "a role has a setting of its own that goes before the database's, and can write to the source"
                     " after the promote, too, which goes nowhere: on the source, %s",
                     db_text(rows, i, 0));
    return true;
}

/* ---- Back ---- */

/* A fence whose worker is gone, but whose connection the server still takes for alive, holds its locks on. */
static bool end_old_fences(DbConn *source, const char *job_id, Error *err) {
    int64_t deadline = clock_now_us() + OLD_FENCE_PATIENCE_US;

    for (;;) {
        CLEANUP(db_result_freep) DbResult *left = NULL;

        if (!db_query(source,
                      "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                      " WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()"
                      " AND application_name = pg_catalog.left('pgcrane ' || $1 || ' fence', 63)",
                      1, (const char *const[]){job_id}, &left, err))
            return error_wrap(err, "ending the fence's session");
        if (db_rows(left) == 0)
            return true;
        if (clock_now_us() > deadline)
            return error_set(err, REASON_LOCK_BUSY, "the fence's session (source, pid %s) does not end",
                             db_text(left, 0, 0));
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + 10 * USEC_PER_MSEC) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}

static bool set_back(DbConn *source, DbConn *dest, const char *line, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql = promote_setting_back_sql(arena, db_name(source), line);

    if (sql == NULL)
        return error_set(err, REASON_LEDGER_MISMATCH, "the journal has a fence that this version does not know: %s",
                         line);
    if (!db_execf(source, err, BEGIN_SQL "%s; COMMIT", sql)) {
        db_rollback(source);
        return error_wrap(err, "making the source database writable again");
    }
    log_info("undone on the source: %s", sql);
    return failpoint("promote.after_undo_setting", err) &&
           db_query(dest, "DELETE FROM pgcrane.source_object WHERE kind = $1", 1, (const char *const[]){JOURNAL_FENCE},
                    NULL, err);
}

static bool undo_in_transaction(DbConn *source, DbConn *dest, const Ledger *ledger, bool *ret_undone, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *line = NULL;
    bool opened = false;

    if (!end_old_fences(source, ledger->job_id, err) || !ledger_step_done(dest, PROMOTE_STEP_OPENED, &opened, err) ||
        !read_line(dest, arena, &line, err))
        return false;
    *ret_undone = !opened && line != NULL;
    return !*ret_undone || set_back(source, dest, line, err);
}

/* In one transaction that shares the job's row: a run that was taken over takes nothing back, it might be the other's
 * fence by now. */
bool promote_undo(DbConn *source, DbConn *dest, const Ledger *ledger, bool *ret_undone, Error *err) {
    bool undone = false;

    if (!ledger_begin(dest, ledger, err))
        return false;
    /* Not waiting for the destination's standbys, whose absence may be why we are here: one that has the line still
     * sets back what is set back already. */
    if (!db_exec(dest, "SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '5s'", err) ||
        !undo_in_transaction(source, dest, ledger, &undone, err) || !ledger_commit(dest, err)) {
        db_rollback(dest);
        return false;
    }
    *ret_undone = undone;
    return true;
}
