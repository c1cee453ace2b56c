/* The journal of guards: which job has which database, and what that was before. */
#include "engine/demote/demote_internal.h"

/* One lock for all of it: what is made here is little, and seldom. */
#define LOCK "SELECT pg_catalog.pg_advisory_xact_lock(1885823846, 1735746916)"

#define MAKE                                                                                                           \
    "CREATE SCHEMA " DEMOTE_SCHEMA ";"                                                                                 \
    "COMMENT ON SCHEMA " DEMOTE_SCHEMA " IS 'pgcrane''s record of databases that it keeps others from writing to, and" \
    " of what they were like before; removed when all are handed back';"                                               \
    "CREATE TABLE " DEMOTE_SCHEMA ".job (id text PRIMARY KEY, name text NOT NULL,"                                     \
    " since timestamptz NOT NULL DEFAULT pg_catalog.now());"                                                           \
    "CREATE TABLE " DEMOTE_SCHEMA ".change (job text NOT NULL REFERENCES " DEMOTE_SCHEMA ".job,"                       \
    " database text NOT NULL, oid oid, what text NOT NULL, before text, after text, undone boolean NOT NULL DEFAULT"   \
    " false, PRIMARY KEY (database, what))"
#define DROP "DROP TABLE " DEMOTE_SCHEMA ".change, " DEMOTE_SCHEMA ".job; DROP SCHEMA " DEMOTE_SCHEMA

bool demote_transaction(DbConn *conn, Error *err) {
    if (db_exec(conn, "BEGIN READ WRITE; SET LOCAL lock_timeout = '10s'; " LOCK, err))
        return true;
    db_rollback(conn);
    return error_wrap(err, "waiting for another session that guards, or hands back");
}

bool demote_is_superuser(DbConn *conn, bool *ret_superuser, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user", 0, NULL, &row,
                  err))
        return error_wrap(err, "asking the destination who we are");
    *ret_superuser = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

/* Whoever may create in that database could make one under our name, with triggers that run as us. */
static bool refuse_strangers(DbConn *conn, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT r.rolname FROM (SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n"
                  " WHERE n.nspname = '" DEMOTE_SCHEMA "' UNION ALL SELECT c.relowner FROM pg_catalog.pg_class c"
                  " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '" DEMOTE_SCHEMA "') o"
                  " JOIN pg_catalog.pg_roles r ON r.oid = o.owner"
                  " WHERE r.rolname <> current_user AND NOT r.rolsuper LIMIT 1",
                  0, NULL, &row, err))
        return error_wrap(err, "asking whose the journal of guards is");
    if (db_rows(row) == 0)
        return true;
    error_set(err, REASON_CONFLICT,
              "schema " DEMOTE_SCHEMA " in database " DEMOTE_DATABASE " is not ours: role %s owns it, or a part of it",
              db_text(row, 0, 0));
    return error_remedy(err, "guard with that role, or see what it is for: \\dt+ " DEMOTE_SCHEMA ".*");
}

bool journal_exists(DbConn *conn, bool *ret_exists, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT pg_catalog.to_regclass('" DEMOTE_SCHEMA ".change') IS NOT NULL", 0, NULL, &row, err))
        return error_wrap(err, "looking for the journal of guards");
    *ret_exists = db_bool(row, 0, 0);
    return !*ret_exists || refuse_strangers(conn, err);
}

bool journal_make(DbConn *conn, Error *err) {
    bool exists = false;

    return journal_exists(conn, &exists, err) &&
           (exists || db_exec(conn, MAKE, err) ||
            error_wrap(err, "making the journal of guards in database " DEMOTE_DATABASE));
}

static const char *text_or_null(Arena *arena, const DbResult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? NULL : arena_strdup(arena, db_text(rows, row, column));
}

static DemoteLine line_of(Arena *arena, const DbResult *rows, int row) {
    return (DemoteLine){
        .job = arena_strdup(arena, db_text(rows, row, 0)),
        .job_name = arena_strdup(arena, db_text(rows, row, 1)),
        .database = arena_strdup(arena, db_text(rows, row, 2)),
        .oid = text_or_null(arena, rows, row, 3),
        .change = demote_change_from_name(db_text(rows, row, 4)),
        .before = text_or_null(arena, rows, row, 5),
        .after = text_or_null(arena, rows, row, 6),
        .undone = db_bool(rows, row, 7),
    };
}

bool journal_read(DbConn *conn, Arena *arena, const char *job, const char *database, DemoteLineVec *ret_lines,
                  Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    bool exists = false;

    ret_lines->len = 0;
    if (!journal_exists(conn, &exists, err))
        return false;
    if (!exists)
        return true;
    if (!db_query(conn,
                  "SELECT c.job, j.name, c.database, c.oid::text, c.what, c.before, c.after, c.undone"
                  " FROM " DEMOTE_SCHEMA ".change c JOIN " DEMOTE_SCHEMA ".job j ON j.id = c.job"
                  " WHERE ($1::text IS NULL OR c.job = $1) AND ($2::text IS NULL OR c.database = $2) ORDER BY 3, 5",
                  2, (const char *const[]){job, database}, &rows, err))
        return error_wrap(err, "reading the journal of guards");
    for (int row = 0; row < db_rows(rows); row++) {
        const DemoteLine line = line_of(arena, rows, row);

        if (line.change == CHANGE_MAX_)
            return error_set(err, REASON_UNSUPPORTED, "the journal of guards has a change that is not known here: %s",
                             db_text(rows, row, 4));
        vec_push(arena, ret_lines, line);
    }
    return true;
}

bool journal_add(DbConn *conn, const DemoteLine *line, Error *err) {
    const char *const params[] = {line->job,    line->database, line->oid, demote_change_name(line->change),
                                  line->before, line->after};

    return db_exec_rows(conn,
                        "INSERT INTO " DEMOTE_SCHEMA ".change (job, database, oid, what, before, after)"
                        " VALUES ($1, $2, $3::oid, $4, $5, $6)",
                        COUNT_OF(params), params, 1, err) ||
           error_wrap(err, "writing down what database %s was like", line->database);
}

bool journal_mark_undone(DbConn *conn, const char *job, const char *database, Error *err) {
    return db_query(conn, "UPDATE " DEMOTE_SCHEMA ".change SET undone = true WHERE job = $1 AND database = $2", 2,
                    (const char *const[]){job, database}, NULL, err) ||
           error_wrap(err, "writing down that database %s is handed back", database);
}

bool journal_forget_database(DbConn *conn, const char *job, const char *database, Error *err) {
    return db_query(conn, "DELETE FROM " DEMOTE_SCHEMA ".change WHERE job = $1 AND database = $2", 2,
                    (const char *const[]){job, database}, NULL, err) ||
           error_wrap(err, "forgetting that database %s was guarded", database);
}

static bool has_jobs(DbConn *conn, bool *ret_has, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT EXISTS (SELECT FROM " DEMOTE_SCHEMA ".job)", 0, NULL, &row, err))
        return error_wrap(err, "reading the journal of guards");
    *ret_has = db_bool(row, 0, 0);
    return true;
}

/* Somebody may have put something of his own there: that stays. */
static bool drop(DbConn *conn, Arena *arena, const char **ret_note, Error *err) {
    if (!db_exec(conn, "SAVEPOINT journal", err))
        return false;
    if (db_exec(conn, DROP, err))
        return true;
    if (err->sqlstate[0] == '\0' || err->retryable || db_is_broken(conn) || err->reason == REASON_CANCELLED)
        return error_wrap(err, "removing the journal of guards");
    *ret_note =
        arena_printf(arena, "schema " DEMOTE_SCHEMA " of database " DEMOTE_DATABASE " is left: %s", err->message);
    return db_exec(conn, "ROLLBACK TO journal", err);
}

bool journal_forget_job(DbConn *conn, Arena *arena, const char *job, const char **ret_note, Error *err) {
    bool exists = false, has = false;

    *ret_note = NULL;
    if (!journal_exists(conn, &exists, err))
        return false;
    if (!exists)
        return true;
    if (!db_query(conn, "DELETE FROM " DEMOTE_SCHEMA ".job WHERE id = $1", 1, &job, NULL, err))
        return error_wrap(err, "forgetting a guard");
    return has_jobs(conn, &has, err) && (has || drop(conn, arena, ret_note, err));
}
