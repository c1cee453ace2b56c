/*
 * Databases are handed back as they were before they were guarded.
 *
 * NOTES
 * A value is set back when it is what the guard has made of it. When it is as it was before the guard somebody did that
 * already; when it is neither somebody wanted it so, and it stays. A database is found by its oid: it may have another
 * name by now, and what has its name may be another one.
 *
 * Superusers who came in meanwhile read default_transaction_read_only once, at login, and would keep it for as long as
 * they stay. So they are ended when it is set back. Where a process or a server can die:
 *
 *   before the first COMMIT      nothing is set back
 *   behind it                    values are as before, the lines are marked as undone. Whoever goes on changes nothing
 *                                more, ends the sessions that began up to now, and forgets the lines. What somebody
 *                                changed in between is not looked at any more
 *   before the second COMMIT     as behind the first
 *   behind it                    the journal does not know the database: nothing is left to be done
 *
 * The job's own line goes last, in one transaction with the journal itself when it was the last job.
 */
#include "common/failpoint.h"
#include "engine/demote/demote_internal.h"
#include "pg/quote.h"

#include <string.h>

typedef struct Release {
    DbConn *conn;
    Arena *arena;
    const DemoteJob *job;
    StringVec *notes;
    size_t count;
} Release;

/* ---- Setting back ---- */

static const char *shown(Arena *arena, const char *value) {
    return value == NULL ? "not set" : sql_literal(arena, value);
}

static void note_foreign(const Release *release, const DemoteState *state, const DemoteLine *line) {
    Arena *arena = release->arena;

    vec_push(arena, release->notes,
             arena_printf(arena, "%s of database %s was changed meanwhile, and stays %s; before the guard it was %s",
                          demote_change_text(line->change), state->name, shown(arena, state->values[line->change]),
                          shown(arena, line->before)));
}

static bool give_back_grants(const Release *release, const DemoteState *state, const DemoteLine *line, Error *err) {
    bool foreign = false;

    if (!demote_connect_open(release->conn, release->arena, state, line, &foreign, err))
        return false;
    if (foreign)
        vec_push(release->arena, release->notes,
                 arena_printf(release->arena,
                              "grants to connect to database %s were changed meanwhile: those stay, beside what was"
                              " given back",
                              state->name));
    return true;
}

/* As it was, or as the source has it: whoever logs in should know. */
static bool note_read_only(const Release *release, const DemoteState *state, const DemoteLine *line, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (line->change != CHANGE_READ_ONLY || line->before == NULL)
        return true;
    /* The catalogue has it as it was typed: on, true, 1. */
    if (!db_query(release->conn, "SELECT $1::boolean", 1, &line->before, &row, err))
        return error_wrap(err, "looking whether database %s is read-only", state->name);
    if (!db_bool(row, 0, 0))
        return true;
    vec_push(release->arena, release->notes,
             arena_printf(release->arena,
                          "database %s is read-only by default behind its guard, as it was before or as the source"
                          " is; before anybody writes to it: BEGIN READ WRITE; ALTER DATABASE %s RESET"
                          " default_transaction_read_only; COMMIT",
                          state->name, sql_ident(release->arena, state->name)));
    return true;
}

static bool set_back(const Release *release, const DemoteState *state, const DemoteLine *line, Error *err) {
    const char *now = state->values[line->change];

    if (line->change == CHANGE_CONNECT)
        return give_back_grants(release, state, line, err);
    switch (demote_verdict(line->before, line->after, now)) {
    case VERDICT_AS_BEFORE:
        return note_read_only(release, state, line, err);
    case VERDICT_FOREIGN:
        note_foreign(release, state, line);
        return true;
    case VERDICT_SET_BACK:
    default:
        break;
    }
    const char *sql = demote_change_sql(release->arena, line->change, state->name, line->before);
    if (sql == NULL)
        return error_set(err, REASON_BAD_DATA, "the journal of guards says that the %s of database %s was %s",
                         demote_change_text(line->change), state->name, shown(release->arena, line->before));
    if (!db_exec(release->conn, sql, err))
        return error_wrap(err, "%s", sql);
    return note_read_only(release, state, line, err);
}

/* Lines of one database, as the journal has them now. */
static bool set_back_lines(Release *release, const DemoteLineVec *lines, DemoteState *ret_state, Error *err) {
    for (size_t i = 0; i < lines->len; i++) {
        const DemoteLine *line = &lines->items[i];

        if (!demote_state_read(release->conn, release->arena, line->oid, line->database, ret_state, err))
            return false;
        if (ret_state->exists && !line->undone && !set_back(release, ret_state, line, err))
            return false;
    }
    return true;
}

static bool undo(Release *release, const char *database, DemoteState *ret_state, bool *ret_known, Error *err) {
    DemoteLineVec lines = {0};
    bool exists = false;

    if (!demote_transaction(release->conn, false, &exists, err))
        return false;
    if (!exists)
        return true;
    if (journal_read(release->conn, release->arena, release->job->id, database, &lines, err) &&
        set_back_lines(release, &lines, ret_state, err) &&
        (lines.len == 0 || journal_mark_undone(release->conn, release->job->id, database, err)) &&
        failpoint("release.before_commit", err) && db_exec(release->conn, "COMMIT", err) &&
        failpoint("release.committed", err)) {
        *ret_known = lines.len > 0;
        return true;
    }
    db_rollback(release->conn);
    return false;
}

/* ---- Sessions, and the end ---- */

static bool end_sessions(const Release *release, const DemoteState *state, Error *err) {
    StringVec left = {0};
    char *now = NULL;

    if (!db_query_value(release->conn, release->arena, "SELECT pg_catalog.clock_timestamp()::text", 0, NULL, &now,
                        err) ||
        !demote_end_sessions(release->conn, release->arena, state->oid, now, &left, err))
        return false;
    for (size_t i = 0; i < left.len; i++)
        vec_push(release->arena, release->notes,
                 arena_printf(release->arena, "%s, and stays read-only until then: database %s", left.items[i],
                              state->name));
    return true;
}

static bool forget(const Release *release, const char *database, Error *err) {
    bool exists = false;

    if (!demote_transaction(release->conn, false, &exists, err))
        return false;
    if (!exists)
        return true;
    if (journal_forget_database(release->conn, release->job->id, database, err) &&
        failpoint("release.before_forget", err) && db_exec(release->conn, "COMMIT", err) &&
        failpoint("release.forgotten", err))
        return true;
    db_rollback(release->conn);
    return false;
}

static bool hand_back(Release *release, const char *database, Error *err) {
    DemoteState state = {0};
    bool known = false;

    if (!undo(release, database, &state, &known, err) || (state.exists && !end_sessions(release, &state, err)) ||
        (known && !forget(release, database, err)))
        return error_wrap(err, "handing database %s back", database);
    release->count += known && state.exists;
    return true;
}

static bool forget_job(const Release *release, Error *err) {
    const char *note = NULL;
    bool exists = false;

    if (!demote_transaction(release->conn, false, &exists, err))
        return false;
    if (!exists)
        return true;
    if (journal_forget_job(release->conn, release->arena, release->job->id, &note, err) &&
        failpoint("release.before_drop", err) && db_exec(release->conn, "COMMIT", err) &&
        failpoint("release.dropped", err)) {
        if (note != NULL)
            vec_push(release->arena, release->notes, note);
        return true;
    }
    db_rollback(release->conn);
    return error_wrap(err, "handing the destination back");
}

static bool hand_back_all(Release *release, Error *err) {
    DemoteLineVec lines = {0};

    if (!journal_read(release->conn, release->arena, release->job->id, NULL, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++)
        if ((i == 0 || strcmp(lines.items[i].database, lines.items[i - 1].database) != 0) &&
            !hand_back(release, lines.items[i].database, err))
            return false;
    return forget_job(release, err);
}

bool demote_release(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, StringVec *notes,
                    size_t *ret_count, Error *err) {
    Release release = {.conn = conn, .arena = arena, .job = job, .notes = notes};

    if (database != NULL ? !hand_back(&release, database, err) : !hand_back_all(&release, err))
        return false;
    *ret_count = release.count;
    return true;
}
