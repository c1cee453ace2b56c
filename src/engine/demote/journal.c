/*
 * The journal of guards: which job has which database, and what that was before.
 *
 * NOTES
 * Whoever guards or hands back locks the table of jobs to the end of his transaction, so that nobody else does at the
 * same time. It is a lock that takes rights: an advisory one could be held by any login for as long as it likes, and
 * nothing would be guarded, nor handed back, meanwhile. The schema is closed to all but its owner, whatever the default
 * privileges of the database give away, and a table that cannot be named cannot be locked. EXCLUSIVE leaves those alone
 * who read (pg_dump), and they it. Left are superusers, and members of pg_write_all_data and pg_maintain.
 *
 * The first one finds no table, and makes it. Two at once, or one that makes while another one drops:
 *
 *   both make it                  CREATE SCHEMA, or the first CREATE TABLE, of the second waits for the unique index of
 *                                 the catalogue. When the first commits, it is refused (23505; 42P06 or 42P07 when it
 *                                 came a moment later): the second begins anew, and finds a table to lock. When the
 *                                 first dies, the second goes on
 *   it goes while we wait for     the last release has dropped it with its own transaction: LOCK finds the name gone
 *   its lock                      (42P01, 3F000), begins anew, and makes it, or has nothing to hand back
 *   its schema goes while we      CREATE TABLE locks the schema, waits, and finds it gone (3F000): anew
 *   make tables in it
 *
 * Each time we begin anew somebody has got something done; ATTEMPTS is for what we did not think of. Whoever makes it
 * has it alone: nobody sees its tables before COMMIT.
 */
#include "common/failpoint.h"
#include "engine/demote/demote_internal.h"

#include <string.h>

enum { ATTEMPTS = 10 };

/* What is said to be guarded, or handed back, must be so behind a crash of the server, too, whatever the role's setting
 * is; no standby is waited for. */
#define BEGIN "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '10s'"
#define LOCK "LOCK TABLE " DEMOTE_SCHEMA ".job IN EXCLUSIVE MODE"

#define MAKE                                                                                                           \
    "CREATE SCHEMA IF NOT EXISTS " DEMOTE_SCHEMA ";"                                                                   \
    "CREATE TABLE " DEMOTE_SCHEMA ".job (id text PRIMARY KEY, name text NOT NULL,"                                     \
    " since timestamptz NOT NULL DEFAULT pg_catalog.now());"                                                           \
    "CREATE TABLE " DEMOTE_SCHEMA ".change (job text NOT NULL REFERENCES " DEMOTE_SCHEMA ".job,"                       \
    " database text NOT NULL, oid oid, what text NOT NULL, before text, after text, undone boolean NOT NULL DEFAULT"   \
    " false, PRIMARY KEY (database, what));"                                                                           \
    "COMMENT ON SCHEMA " DEMOTE_SCHEMA " IS 'pgcrane''s record of databases that it keeps others from writing to, and" \
    " of what they were like before; removed when all are handed back'"
/* Default privileges may give any role something of it. */
#define SHUT                                                                                                           \
    "SELECT DISTINCT pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', n.nspname,"                                  \
    " CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::text END)"                             \
    " FROM pg_catalog.pg_namespace n, LATERAL pg_catalog.aclexplode(n.nspacl) AS a"                                    \
    " WHERE n.nspname = '" DEMOTE_SCHEMA "' AND a.grantee <> n.nspowner"
#define DROP "DROP TABLE " DEMOTE_SCHEMA ".change, " DEMOTE_SCHEMA ".job; DROP SCHEMA " DEMOTE_SCHEMA

bool demote_is_superuser(DbConn *conn, bool *ret_superuser, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    /* As whom we log in says whether a limit of connections lets us in; what we may change is said by SET ROLE. */
    if (!db_query(conn,
                  "SELECT pg_catalog.bool_and(r.rolsuper) FROM pg_catalog.pg_roles r"
                  " WHERE r.rolname IN (session_user, current_user)",
                  0, NULL, &row, err))
        return error_wrap(err, "asking the destination who we are");
    *ret_superuser = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

/* Whoever may create in that database could make one under our name, with triggers that run as us; and one of a role
 * whose rights we do not have is of no use to us. By the catalogue: names could not be looked up without rights. */
#define EXISTS_SQL                                                                                                     \
    "SELECT (SELECT pg_catalog.count(*) = 2 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"                 \
    "  ON n.oid = c.relnamespace WHERE n.nspname = '" DEMOTE_SCHEMA "' AND c.relname IN ('job', 'change')"             \
    "  AND c.relkind = 'r'),"                                                                                          \
    " (SELECT pg_catalog.min(r.rolname::text) FROM (SELECT n.nspowner AS owner FROM pg_catalog.pg_namespace n"         \
    "   WHERE n.nspname = '" DEMOTE_SCHEMA "' UNION ALL SELECT c.relowner FROM pg_catalog.pg_class c"                  \
    "   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '" DEMOTE_SCHEMA "') o"             \
    "  JOIN pg_catalog.pg_roles r ON r.oid = o.owner WHERE (r.rolname <> current_user AND NOT r.rolsuper)"             \
    "  OR NOT pg_catalog.pg_has_role(r.oid, 'USAGE'))"

bool journal_exists(DbConn *conn, bool *ret_exists, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, EXISTS_SQL, 0, NULL, &row, err))
        return error_wrap(err, "looking for the journal of guards");
    *ret_exists = db_bool(row, 0, 0);
    if (db_is_null(row, 0, 1))
        return true;
    error_set(err, REASON_CONFLICT,
              "schema " DEMOTE_SCHEMA " in database " DEMOTE_DATABASE " is not ours: role %s owns it, or a part of it",
              db_text(row, 0, 1));
    err->retryable = false;
    return error_remedy(err, "guard with that role, or see what it is for: \\dt+ " DEMOTE_SCHEMA ".*");
}

static bool make(DbConn *conn, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_exec(conn, MAKE, err) || !db_query(conn, SHUT, 0, NULL, &rows, err))
        return error_wrap(err, "making the journal of guards in database " DEMOTE_DATABASE);
    for (int row = 0; row < db_rows(rows); row++)
        if (!db_exec(conn, db_text(rows, row, 0), err))
            return error_wrap(err, "%s", db_text(rows, row, 0));
    return failpoint("demote.journal_made", err);
}

bool journal_is_gone(const Error *err) {
    return strcmp(err->sqlstate, "42P01") == 0 || strcmp(err->sqlstate, "3F000") == 0;
}

/* Somebody else has made it, or dropped it, since we looked. */
static bool is_overtaken(const Error *err) {
    static const char *const made[] = {"23505", "42P06", "42P07"};

    for (size_t i = 0; i < COUNT_OF(made); i++)
        if (strcmp(err->sqlstate, made[i]) == 0)
            return true;
    return journal_is_gone(err);
}

static bool begin(DbConn *conn, bool makes, bool *ret_exists, Error *err) {
    bool exists = false;

    if (!db_exec(conn, BEGIN, err) || !journal_exists(conn, &exists, err) || (exists && !db_exec(conn, LOCK, err)) ||
        (!exists && makes && !make(conn, err)))
        return error_wrap(err, "waiting for another session that guards, or hands back");
    *ret_exists = exists || makes;
    if (!*ret_exists)
        db_rollback(conn);
    return true;
}

bool demote_transaction(DbConn *conn, bool makes, bool *ret_exists, Error *err) {
    for (int attempt = 1;; attempt++) {
        if (begin(conn, makes, ret_exists, err))
            return true;
        db_rollback(conn);
        if (attempt == ATTEMPTS || !is_overtaken(err))
            return false;
    }
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
        return journal_is_gone(err) || error_wrap(err, "reading the journal of guards");
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

bool journal_new_name(DbConn *conn, Arena *arena, const char *oid, const char **ret_name, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT datname FROM pg_catalog.pg_database WHERE oid = $1::oid", 1, &oid, &row, err))
        return error_wrap(err, "looking for a database that was guarded");
    *ret_name = db_rows(row) == 0 ? NULL : arena_strdup(arena, db_text(row, 0, 0));
    return true;
}

bool journal_other_name(DbConn *conn, Arena *arena, const char *oid, const char *name, const char **ret_job,
                        Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT j.name FROM " DEMOTE_SCHEMA ".change c JOIN " DEMOTE_SCHEMA ".job j ON j.id = c.job"
                  " WHERE c.oid = $1::oid AND c.database <> $2 AND NOT c.undone LIMIT 1",
                  2, (const char *const[]){oid, name}, &row, err))
        return error_wrap(err, "reading the journal of guards");
    *ret_job = db_rows(row) == 0 ? NULL : arena_strdup(arena, db_text(row, 0, 0));
    return true;
}

static bool has_jobs(DbConn *conn, bool *ret_has, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT EXISTS (SELECT FROM " DEMOTE_SCHEMA ".job)", 0, NULL, &row, err))
        return error_wrap(err, "reading the journal of guards");
    *ret_has = db_bool(row, 0, 0);
    return true;
}

/* Of what keeps it: something that somebody has put there, or a transaction that has read it (a pg_dump that takes its
 * time). Nobody is to wait for that. */
static bool may_stay(const DbConn *conn, const Error *err) {
    return err->sqlstate[0] != '\0' && (!err->retryable || err->reason == REASON_LOCK_BUSY) && !db_is_broken(conn) &&
           err->reason != REASON_CANCELLED;
}

static bool drop(DbConn *conn, Arena *arena, const char **ret_note, Error *err) {
    if (!db_exec(conn, "SAVEPOINT journal; SET LOCAL lock_timeout = '2s'", err))
        return false;
    if (db_exec(conn, DROP, err))
        return true;
    if (!may_stay(conn, err))
        return error_wrap(err, "removing the journal of guards");
    *ret_note =
        arena_printf(arena, "schema " DEMOTE_SCHEMA " of database " DEMOTE_DATABASE " is left: %s", err->message);
    return db_exec(conn, "ROLLBACK TO journal", err);
}

bool journal_forget_job(DbConn *conn, Arena *arena, const char *job, const char **ret_note, Error *err) {
    bool has = false;

    *ret_note = NULL;
    if (!db_query(conn, "DELETE FROM " DEMOTE_SCHEMA ".job WHERE id = $1", 1, &job, NULL, err))
        return error_wrap(err, "forgetting a guard");
    return has_jobs(conn, &has, err) && (has || drop(conn, arena, ret_note, err));
}
