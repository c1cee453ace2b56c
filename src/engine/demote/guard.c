/*
 * A database is closed to others.
 *
 * NOTES
 * pg_database and pg_db_role_setting are shared catalogues, and ALTER DATABASE is transactional: what is changed of a
 * database is changed in one transaction with the lines of the journal that say what it was. So whoever finds the
 * journal after a crash finds lines exactly where something was changed, and there is no change without its line.
 * Where a process or a server can die:
 *
 *   before COMMIT of a guard       nothing was changed, nothing is written down: guarded as if for the first time
 *   behind it                      guarded; sessions that were there before may live on. Whoever guards again finds the
 *                                  lines, changes nothing, and ends the sessions
 *   a lost reply to COMMIT         is either of the two
 *
 * A database that is yet to be made is made with CONNECTION LIMIT 0 by the statement that makes it, which is in no
 * transaction. So what it is to have later is written down before (demote_intend), without an oid:
 *
 *   behind the line                the database is not there: a release forgets the line, a guard leaves it
 *   behind CREATE DATABASE         it is there, with limit 0: it is what the line is about. Another limit: somebody
 *                                  else made it, with what he wanted: guarded as any other that is there
 *   behind the guard               lines with its oid, the first with the limit of the earlier line
 *
 * Lines with another oid are about a database that was dropped since: what it was like is nobody's concern, and what
 * has its name now is guarded as it is. Or about one that was renamed: then nothing is guarded before it has its name
 * back, since these lines are all that can hand it back.
 *
 * Between our look at a database and our change of it somebody may change it as well: that is lost with the guard. It
 * is a moment of the same transaction, and the server has no lock that would close it to everybody who may.
 */
#include "common/failpoint.h"
#include "engine/demote/demote_internal.h"
#include "pg/quote.h"

#include <string.h>

bool demote_is_begun(DbConn *conn, const DemoteJob *job, bool *ret_begun, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    bool exists = false;

    if (!journal_exists(conn, &exists, err))
        return false;
    if (exists && !db_query(conn, "SELECT 1 FROM " DEMOTE_SCHEMA ".job WHERE id = $1", 1,
                            (const char *const[]){job->id}, &row, err)) {
        if (!journal_is_gone(err))
            return error_wrap(err, "reading the journal of guards");
        exists = false;
    }
    *ret_begun = exists && db_rows(row) > 0;
    return true;
}

bool demote_begin(DbConn *conn, const DemoteJob *job, bool *ret_new, Error *err) {
    CLEANUP(db_result_freep) DbResult *added = NULL;
    bool exists = false;

    if (!demote_transaction(conn, true, &exists, err))
        return false;
    if (db_query(conn, "INSERT INTO " DEMOTE_SCHEMA ".job (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", 2,
                 (const char *const[]){job->id, job->name}, &added, err) &&
        failpoint("demote.begin_commit", err) && db_exec(conn, "COMMIT", err) && failpoint("demote.begun", err)) {
        *ret_new = db_affected(added) > 0;
        return true;
    }
    db_rollback(conn);
    return error_wrap(err, "beginning to guard the destination");
}

/* Whoever guards has begun: the job is gone from the journal when it was released since. To begin once more would guard
 * what nobody hands back. */
static bool begin_guarding(DbConn *conn, const DemoteJob *job, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    bool exists = false;

    if (!demote_transaction(conn, false, &exists, err))
        return false;
    if (exists && !db_query(conn, "SELECT 1 FROM " DEMOTE_SCHEMA ".job WHERE id = $1", 1,
                            (const char *const[]){job->id}, &row, err)) {
        db_rollback(conn);
        return error_wrap(err, "reading the journal of guards");
    }
    if (exists && db_rows(row) > 0)
        return true;
    if (exists)
        db_rollback(conn);
    error_set(err, REASON_CONFLICT, "the journal of guards has no such job: the destination was handed back meanwhile");
    err->retryable = false;
    return false;
}

static bool refuse_other_job(const DemoteLine *line, Error *err) {
    error_set(err, REASON_CONFLICT, "database %s is guarded for another job, %s", line->database, line->job_name);
    err->retryable = false;
    return error_remedy(err, "promote or delete that job first, or take the database out of this one");
}

/* What the lines say that it was like before is all that can give it back. */
static bool refuse_renamed(DbConn *conn, Arena *arena, const DemoteLineVec *lines, Error *err) {
    for (size_t i = 0; i < lines->len; i++) {
        const DemoteLine *line = &lines->items[i];
        const char *name = NULL;

        if (line->oid == NULL || line->undone)
            continue;
        if (!journal_new_name(conn, arena, line->oid, &name, err))
            return false;
        if (name == NULL)
            continue;
        error_set(err, REASON_CONFLICT, "database %s, which is guarded, is called %s now", line->database, name);
        err->retryable = false;
        return error_remedy(err, "ALTER DATABASE %s RENAME TO %s; -- on the destination; or take it out of the job",
                            sql_ident(arena, name), sql_ident(arena, line->database));
    }
    return true;
}

/* ---- One that is yet to be made ---- */

/* Lines of a database that is not there: of an earlier run that did not come to make it, or of one that was dropped. */
static bool forget_stale(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, Error *err) {
    DemoteLineVec lines = {0};

    if (!journal_read(conn, arena, NULL, database, &lines, err))
        return false;
    if (lines.len > 0 && strcmp(lines.items[0].job, job->id) != 0)
        return refuse_other_job(&lines.items[0], err);
    return refuse_renamed(conn, arena, &lines, err) &&
           (lines.len == 0 || journal_forget_database(conn, job->id, database, err));
}

static bool add_intent(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, int64_t limit,
                       Error *err) {
    DemoteState state;

    if (!demote_state_read(conn, arena, NULL, database, &state, err))
        return false;
    if (state.exists)
        return true;
    const DemoteLine line = {.job = job->id,
                             .database = database,
                             .change = CHANGE_LIMIT,
                             .before = arena_printf(arena, "%lld", (long long)limit),
                             .after = demote_guarded_value(CHANGE_LIMIT, job)};
    return forget_stale(conn, arena, job, database, err) && journal_add(conn, &line, err);
}

bool demote_intend(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, int64_t limit, Error *err) {
    if (!begin_guarding(conn, job, err))
        return false;
    if (add_intent(conn, arena, job, database, limit, err) && db_exec(conn, "COMMIT", err) &&
        failpoint("demote.intended", err))
        return true;
    db_rollback(conn);
    return error_wrap(err, "guarding database %s before it is made", database);
}

/* ---- One that is there ---- */

typedef struct Guarding {
    DbConn *conn;
    Arena *arena;
    const DemoteJob *job;
    StringVec *left;
    DemoteState state;
    const char *intended; /* the limit that it was to be made with; NULL = it was not */
    bool is_guarded;      /* already */
    bool superuser;       /* it is closed as a superuser does: pgcrane's role is one, or was when it was guarded */
} Guarding;

/* Guarded once more, it would be handed back as the first guard has made it. */
static bool refuse_other_name(const Guarding *guarding, Error *err) {
    const DemoteState *state = &guarding->state;
    const char *job = NULL;

    if (!journal_other_name(guarding->conn, guarding->arena, state->oid, state->name, &job, err))
        return false;
    if (job == NULL)
        return true;
    error_set(err, REASON_CONFLICT, "database %s is guarded for job %s already, under the name that it had before",
              state->name, job);
    err->retryable = false;
    return error_remedy(err, "promote or delete that job first, or give the database its earlier name back");
}

/* What the lines that are there are about. */
static bool look_at_lines(Guarding *guarding, Error *err) {
    const char *database = guarding->state.name;
    DemoteLineVec lines = {0};

    if (!journal_read(guarding->conn, guarding->arena, NULL, database, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++) {
        const DemoteLine *line = &lines.items[i];

        if (strcmp(line->job, guarding->job->id) != 0)
            return refuse_other_job(line, err);
        if (line->oid != NULL && strcmp(line->oid, guarding->state.oid) == 0 && !line->undone) {
            guarding->is_guarded = true;
            guarding->superuser = demote_is_change_of(line->change, true);
        }
        const char *limit = guarding->state.values[CHANGE_LIMIT];
        if (line->oid == NULL && limit != NULL && line->after != NULL && strcmp(limit, line->after) == 0)
            guarding->intended = line->before;
    }
    if (guarding->is_guarded)
        return true;
    return refuse_other_name(guarding, err) && refuse_renamed(guarding->conn, guarding->arena, &lines, err) &&
           (lines.len == 0 || journal_forget_database(guarding->conn, guarding->job->id, database, err));
}

static bool make_change(const Guarding *guarding, DemoteChange change, Error *err) {
    bool is_made_by_us = change == CHANGE_LIMIT && guarding->intended != NULL;
    const DemoteLine line = {.job = guarding->job->id,
                             .database = guarding->state.name,
                             .oid = guarding->state.oid,
                             .change = change,
                             .before = is_made_by_us ? guarding->intended : guarding->state.values[change],
                             .after = demote_guarded_value(change, guarding->job)};
    const char *sql = demote_change_sql(guarding->arena, change, guarding->state.name, line.after);

    return journal_add(guarding->conn, &line, err) && (db_exec(guarding->conn, sql, err) || error_wrap(err, "%s", sql));
}

/* For a role that is no superuser: it has to get in itself, as soon as all others do not. */
static bool make_grants(const Guarding *guarding, Error *err) {
    const DemoteState *state = &guarding->state;
    DemoteState closed;

    if (!demote_connect_close(guarding->conn, guarding->arena, state, err) ||
        !demote_state_read(guarding->conn, guarding->arena, state->oid, state->name, &closed, err))
        return false;
    const DemoteLine line = {.job = guarding->job->id,
                             .database = state->name,
                             .oid = state->oid,
                             .change = CHANGE_CONNECT,
                             .before = state->values[CHANGE_CONNECT],
                             .after = closed.values[CHANGE_CONNECT]};
    const char *limit = guarding->intended == NULL
                            ? NULL
                            : demote_change_sql(guarding->arena, CHANGE_LIMIT, state->name, guarding->intended);
    return journal_add(guarding->conn, &line, err) &&
           (limit == NULL || db_exec(guarding->conn, limit, err) || error_wrap(err, "%s", limit));
}

static bool make_changes(const Guarding *guarding, Error *err) {
    if (!guarding->superuser)
        return make_grants(guarding, err);
    for (DemoteChange change = 0; change < CHANGE_MAX_; change++)
        if (demote_is_change_of(change, true) && !make_change(guarding, change, err))
            return false;
    return true;
}

static bool close_database(Guarding *guarding, const char *database, Error *err) {
    if (!demote_is_superuser(guarding->conn, &guarding->superuser, err) ||
        !demote_state_read(guarding->conn, guarding->arena, NULL, database, &guarding->state, err))
        return false;
    if (!guarding->state.exists)
        return true;
    if (!look_at_lines(guarding, err) || (!guarding->is_guarded && !make_changes(guarding, err)) ||
        (!guarding->superuser && !demote_connect_check(guarding->conn, guarding->arena, &guarding->state,
                                                       !guarding->is_guarded, guarding->left, err)))
        return false;
    return failpoint("demote.before_commit", err);
}

bool demote_guard(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, StringVec *left, Error *err) {
    Guarding guarding = {.conn = conn, .arena = arena, .job = job, .left = left};

    if (!begin_guarding(conn, job, err))
        return false;
    if (!close_database(&guarding, database, err) || !db_exec(conn, "COMMIT", err) ||
        !failpoint("demote.committed", err)) {
        db_rollback(conn);
        return error_wrap(err, "guarding database %s", database);
    }
    return !guarding.state.exists || demote_end_sessions(conn, arena, guarding.state.oid, NULL, left, err);
}
