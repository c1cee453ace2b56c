/*
 * What arrives of a guarded database, and waits for the end of the guard.
 *
 * NOTES
 * A load brings settings and grants of the source's database. Two of them are the guard's own means:
 * default_transaction_read_only, and CONNECT where a role without a superuser's rights guards. Written while the guard
 * stands they would open the database, and a release would take them for somebody's own change, or undo them. So they
 * go into the journal instead, in the place of what was there before the guard (`before`): the release sets back what
 * the load would have written, had there been no guard. That holds for a release without a promote, too, as all else
 * that the load brings stays as well. Grants are merged as their statements would have: PUBLIC has what it has on the
 * source, others keep what they had and get what they have there. A list that the source never changed, or with no-acl,
 * leaves what was there before.
 *
 * It is a transaction of its own, in another database than the load's, and comes before it:
 *
 *   before its COMMIT      nothing is written: the load has not gone on, and does it again
 *   behind it              the journal has it; the load's own transaction may be missing, and is repeated with
 *                          this one. Merged once more with what it says already nothing changes
 *   the guard is lifted    what has been written down is in force. Whoever loads then finds no line to write to,
 *                          and brings all of it himself
 *
 * Between an answer and the load's COMMIT nobody releases: the run that loads a database is the one that promotes it,
 * and a job's guard is lifted when none of its runs is at work.
 */
#include "common/failpoint.h"
#include "engine/demote/demote_internal.h"

/* $1 job, $2 database: lines about what has its name now. */
#define LINE_SQL                                                                                                       \
    " WHERE c.job = $1 AND c.database = $2 AND NOT c.undone AND c.oid ="                                               \
    " (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = $2)"

#define HOLDS_SQL                                                                                                      \
    "SELECT coalesce(pg_catalog.bool_or(c.what = 'READ_ONLY'), false),"                                                \
    " coalesce(pg_catalog.bool_or(c.what = 'CONNECT'), false) FROM " DEMOTE_SCHEMA ".change c" LINE_SQL

#define READ_ONLY_SQL "UPDATE " DEMOTE_SCHEMA ".change AS c SET before = $3" LINE_SQL " AND c.what = 'READ_ONLY'"

/* $3: HeldBack.connect. Who has it already stays where he stands. */
#define CONNECT_SQL                                                                                                    \
    "UPDATE " DEMOTE_SCHEMA ".change AS c SET before ="                                                                \
    " (SELECT pg_catalog.string_agg(m.who || CASE WHEN m.grants THEN '*' ELSE '' END, ',' ORDER BY m.n) FROM"          \
    "  (SELECT a.who, pg_catalog.bool_or(a.grants) AS grants, pg_catalog.min(a.n) AS n FROM"                           \
    "   (SELECT pg_catalog.rtrim(t.item, '*') AS who, t.item LIKE '%*' AS grants, t.n"                                 \
    "     FROM pg_catalog.unnest(pg_catalog.string_to_array(c.before, ',')) WITH ORDINALITY AS t (item, n)"            \
    "     WHERE pg_catalog.rtrim(t.item, '*') <> '0'"                                                                  \
    "    UNION ALL SELECT coalesce(r.oid, 0)::text, (s.item ->> 1)::boolean, 1000000 + s.n"                            \
    "     FROM pg_catalog.json_array_elements($3::json) WITH ORDINALITY AS s (item, n)"                                \
    "     LEFT JOIN pg_catalog.pg_roles r ON r.rolname = s.item ->> 0"                                                 \
    "     WHERE s.item ->> 0 IS NULL OR r.oid IS NOT NULL) AS a GROUP BY a.who) AS m)" LINE_SQL                        \
    " AND c.what = 'CONNECT'"

#define MISSING_SQL                                                                                                    \
    "SELECT s.item ->> 0 FROM pg_catalog.json_array_elements($1::json) WITH ORDINALITY AS s (item, n)"                 \
    " WHERE s.item ->> 0 IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r"                                \
    "  WHERE r.rolname = s.item ->> 0) ORDER BY s.n"

static bool read_holds(DbConn *conn, const DemoteJob *job, const char *database, HeldBack *held, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, HOLDS_SQL, 2, (const char *const[]){job->id, database}, &row, err))
        return error_wrap(err, "reading the journal of guards");
    held->holds_read_only = db_bool(row, 0, 0);
    held->holds_connect = db_bool(row, 0, 1);
    return true;
}

static bool read_missing(DbConn *conn, Arena *arena, HeldBack *held, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(conn, MISSING_SQL, 1, &held->connect, &rows, err))
        return error_wrap(err, "looking for roles that may connect");
    for (int row = 0; row < db_rows(rows); row++)
        vec_push(arena, &held->missing, arena_strdup(arena, db_text(rows, row, 0)));
    return true;
}

static bool write_down(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, HeldBack *held,
                       Error *err) {
    const char *const read_only[] = {job->id, database, held->read_only};
    const char *const connect[] = {job->id, database, held->connect};

    if (!read_holds(conn, job, database, held, err))
        return false;
    if (held->holds_read_only && held->read_only != NULL && !db_exec_rows(conn, READ_ONLY_SQL, 3, read_only, 1, err))
        return false;
    return !held->holds_connect || held->connect == NULL ||
           (db_exec_rows(conn, CONNECT_SQL, 3, connect, 1, err) && read_missing(conn, arena, held, err));
}

bool demote_hold(DbConn *conn, Arena *arena, const DemoteJob *job, const char *database, HeldBack *held, Error *err) {
    bool exists = false;

    if (!demote_transaction(conn, false, &exists, err))
        return false;
    if (!exists)
        return true;
    if (write_down(conn, arena, job, database, held, err) && failpoint("demote.hold_commit", err) &&
        db_exec(conn, "COMMIT", err) && failpoint("demote.held", err))
        return true;
    db_rollback(conn);
    return error_wrap(err, "writing down what database %s is to be like behind its guard", database);
}
