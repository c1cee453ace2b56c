/*
 * Roles of an instance, in one transaction of the destination.
 *
 * Where a process or a server can die:
 * - Before COMMIT, at any moment: the destination is as it was. The next run finds what this one found.
 * - After COMMIT: all roles are there with everything they could be given. The next run makes none of them again, finds
 *   memberships and settings in place, and tells the same: what it tells of roles that are there comes from a
 * comparison of both servers, not from what it did.
 * - A lost reply to COMMIT is either of the two.
 * So nothing needs to be remembered, here or anywhere else. Databases follow outside of a transaction (create.c).
 */
#include "engine/instance/prepare.h"

#include "common/failpoint.h"
#include "common/log.h"

#include <string.h>

bool prepare_is_refusal(const DbConn *conn, const Error *err) {
    return err->sqlstate[0] != '\0' && !err->retryable && !db_is_broken(conn) && err->reason != REASON_CANCELLED;
}

/* For logs and errors: up to the first value, as values may be secrets of the application. */
static const char *without_values(Arena *arena, const char *sql) {
    return arena_printf(arena, "%.*s", (int)strcspn(sql, "'"), sql);
}

/* The savepoint goes first and alone: a server that cannot parse the statement runs nothing of what came with it. */
bool prepare_try(Prepare *p, const char *sql, bool *ret_done, const char **ret_why, Error *err) {
    if (!db_exec(p->dest, "SAVEPOINT attempt", err))
        return false;
    *ret_done = db_exec(p->dest, arena_printf(p->arena, "%s; RELEASE attempt", sql), err);
    if (*ret_done)
        return true;
    if (!prepare_is_refusal(p->dest, err))
        return error_wrap(err, "%s", without_values(p->arena, sql));
    log_info("refused: %s: %s", without_values(p->arena, sql), err->message);
    if (ret_why != NULL)
        *ret_why = arena_strdup(p->arena, err->message);
    return db_exec(p->dest, "ROLLBACK TO attempt; RELEASE attempt", err);
}

/* ---- Locks ---- */

/* Columns: the session's number, who it is. Shared catalogs alone: they are in no database. */
static const char holders_sql[] =
    "SELECT l.pid, pg_catalog.format('session %s of %s%s, %s since %s', l.pid, coalesce(a.usename, '?'),"
    "  CASE WHEN a.application_name <> '' THEN ' (' || a.application_name || ')' ELSE '' END,"
    "  coalesce(a.state, 'connected'),"
    "  pg_catalog.date_trunc('second', coalesce(a.state_change, a.backend_start)))"
    " FROM (SELECT DISTINCT m.pid FROM pg_catalog.pg_locks m WHERE m.locktype = 'relation' AND m.granted"
    "  AND m.database = 0 AND m.mode NOT IN ('AccessShareLock', 'RowShareLock')"
    "  AND m.pid <> pg_catalog.pg_backend_pid()) l"
    " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid ORDER BY a.xact_start NULLS LAST, l.pid LIMIT 3";

/* Not all of LOCK_BUSY: a template of CREATE DATABASE that is in use is no lock that anybody holds. */
#define LOCK_NOT_AVAILABLE "55P03"

static void name_them(Arena *arena, const DbResult *rows, Error *err) {
    const Error cause = *err;
    const char *who = "", *end = "";

    for (int i = 0; i < db_rows(rows); i++) {
        who = arena_printf(arena, "%s%s%s", who, i > 0 ? "; " : "", db_text(rows, i, 1));
        end = arena_printf(arena, "%s%spg_terminate_backend(%s)", end, i > 0 ? ", " : "", db_text(rows, i, 0));
    }
    error_set(err, REASON_LOCK_BUSY,
              "roles or databases of the destination are changed by a transaction that does not end: %s (%s)", who,
              cause.message);
    error_remedy(err, "end that transaction, or on the destination: SELECT %s;", end);
}

bool prepare_name_holders(Arena *arena, DbConn *dest, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    Error trouble = {0};

    if (strcmp(err->sqlstate, LOCK_NOT_AVAILABLE) != 0)
        return false;
    if (!db_query(dest, holders_sql, 0, NULL, &rows, &trouble))
        log_error_value(LOG_WARNING, &trouble);
    if (rows != NULL && db_rows(rows) > 0)
        name_them(arena, rows, err);
    else
        error_remedy(err,
                     "see pg_stat_activity, pg_locks and pg_prepared_xacts on the destination: a transaction is open");
    return false;
}

/* ---- All of it ---- */

static bool read_user(Prepare *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(p->dest, "SELECT r.rolname, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user", 0,
                  NULL, &row, err))
        return error_wrap(err, "asking the destination who we are");
    if (db_rows(row) != 1)
        return error_set(err, REASON_SQL_FAILED, "the destination's role is not in pg_roles");
    p->user = arena_strdup(p->arena, db_text(row, 0, 0));
    p->superuser = db_bool(row, 0, 1);
    return true;
}

/* A default of the role's would make it a member of all that it creates, which the source does not have so. */
static bool begin(Prepare *p, Error *err) {
    return db_exec(p->dest, "BEGIN; SET LOCAL lock_timeout = '" PREPARE_LOCK_TIMEOUT "'", err) &&
           (db_major(p->dest) < 16 || db_exec(p->dest, "SET LOCAL createrole_self_grant = ''", err));
}

static bool work(Prepare *p, Error *err) {
    if (!roles_make(p, err) || !passwords_move(p, err))
        return false;
    roles_compare(p);
    return members_move(p, err) && members_join_owners(p, err) && role_settings_move(p, err) &&
           parameter_grants_move(p, err) && note_labels(p, err) && failpoint("instance.before_commit", err) &&
           db_exec(p->dest, "COMMIT", err) && failpoint("instance.after_commit", err);
}

bool instance_make_roles(Arena *arena, const InstanceInput *input, const InstanceList *list, InstanceMade *made,
                         FindingVec *findings, Error *err) {
    InstanceMade count = *made;
    Prepare p = {
        .arena = arena,
        .source = input->source,
        .dest = input->dest,
        .input = input,
        .list = list,
        .made = &count,
        .notes = {.arena = arena},
    };

    if (!roles_read(arena, p.source, &p.source_roles, err) || !read_user(&p, err) || !begin(&p, err) ||
        !roles_read(arena, p.dest, &p.dest_roles, err) || !work(&p, err)) {
        db_rollback(p.dest);
        return prepare_name_holders(arena, p.dest, err) || error_wrap(err, "preparing the roles of the destination");
    }
    notes_to_findings(&p.notes, findings);
    *made = count;
    return true;
}
