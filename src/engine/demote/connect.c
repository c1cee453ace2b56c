/*
 * Who may connect to a database: how a role that owns it, and is no superuser, keeps others out.
 *
 * NOTES
 * The server asks for CONNECT at login, before SET ROLE or `options` count: it is the login (session_user) that keeps
 * it, whoever it acts as. A role has what the roles have whose member it is, if it inherits: members of ours would come
 * in, and no list of grants can tell them from us. So such logins are refused before anything is guarded, and once more
 * in the transaction that guards.
 *
 * The limit of connections would keep such a role out as well. So CONNECT is taken from all but it, owners among them,
 * and given back entry by entry: the list may have got others meanwhile, which stay. Two things cannot be had back, as
 * SQL has no statement for them: a list that was never changed (NULL) is written out afterwards and says the same, and
 * entries that went stand at its end.
 *
 * Whoever may not grant is not refused: the server warns, and nothing is done. So it is looked at what came of it, and
 * a database that is not closed, or not open again, since its owner is another one by now, is an error.
 *
 * What was granted by somebody else than the owner, to whom it was granted to be granted on, only he could give back:
 * the checks refuse that, and REVOKE without CASCADE does.
 */
#include "engine/demote/demote_internal.h"
#include "pg/quote.h"

#define REVOKE_SQL                                                                                                     \
    "SELECT pg_catalog.format('REVOKE CONNECT ON DATABASE %I FROM %s', d.datname, pg_catalog.string_agg(DISTINCT"      \
    " CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END, ', '))"                        \
    " FROM pg_catalog.pg_database d,"                                                                                  \
    " LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS a"                    \
    " LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee"                                                            \
    " WHERE d.oid = $1::oid AND a.privilege_type = 'CONNECT' AND (a.grantee = 0 OR r.rolname <> session_user)"         \
    " GROUP BY d.datname"

static bool run_all(DbConn *conn, const DbResult *rows, Error *err) {
    for (int row = 0; row < db_rows(rows); row++)
        if (!db_exec(conn, db_text(rows, row, 0), err))
            return error_wrap(err, "%s", db_text(rows, row, 0));
    return true;
}

bool demote_connect_close(DbConn *conn, Arena *arena, const DemoteState *state, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(conn, REVOKE_SQL, 1, &state->oid, &rows, err))
        return error_wrap(err, "looking who may connect to database %s", state->name);
    return db_execf(conn, err, "GRANT CONNECT ON DATABASE %s TO SESSION_USER", sql_ident(arena, state->name)) &&
           run_all(conn, rows, err);
}

#define PASS_SQL                                                                                                       \
    "SELECT pg_catalog.quote_ident(r.rolname), pg_catalog.pg_has_role(r.oid, session_user, 'USAGE'),"                  \
    " pg_catalog.quote_ident(session_user) FROM pg_catalog.pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper"          \
    " AND r.rolname <> session_user AND pg_catalog.has_database_privilege(r.oid, $1::oid, 'CONNECT') ORDER BY 1"

/* The owner is another one than when it was looked at, or granted. */
static bool refuse_owner(DbConn *conn, const DemoteState *state, const char *what, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT pg_catalog.quote_ident(r.rolname), pg_catalog.quote_ident(current_user)"
                  " FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba WHERE d.oid = $1::oid",
                  1, &state->oid, &row, err))
        return error_wrap(err, "looking who owns database %s", state->name);
    const char *owner = db_rows(row) == 1 ? db_text(row, 0, 0) : "?",
               *ours = db_rows(row) == 1 ? db_text(row, 0, 1) : "?";
    error_set(err, REASON_NOT_PERMITTED, "%s database %s: role %s, who owns it, would have to, and %s may not", what,
              state->name, owner, ours);
    return error_remedy(err, "GRANT %s TO %s; -- on the destination", owner, ours);
}

bool demote_connect_check(DbConn *conn, Arena *arena, const DemoteState *state, bool fresh, StringVec *left,
                          Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(conn, PASS_SQL, 1, &state->oid, &rows, err))
        return error_wrap(err, "looking who may still connect to database %s", state->name);
    for (int row = 0; row < db_rows(rows); row++) {
        const char *role = db_text(rows, row, 0), *ours = db_text(rows, row, 2);

        if (db_bool(rows, row, 1)) {
            error_set(err, REASON_CONFLICT,
                      "role %s has the rights of %s, as whom pgcrane connects: no grant keeps it"
                      " out of database %s",
                      role, ours, state->name);
            err->retryable = false;
            return error_remedy(err, "REVOKE %s FROM %s; -- on the destination, or through whatever role it has them",
                                ours, role);
        }
        if (fresh)
            return refuse_owner(conn, state, "taking CONNECT from others on", err);
        vec_push(arena, left,
                 arena_printf(arena,
                              "role %s may connect to database %s: somebody has granted that since"
                              " it is guarded",
                              role, state->name));
    }
    return true;
}

/* $1 oid, $2 before, $3 now, $4 as the guard made it. Roles that were dropped since need nothing any more. Last who had
 * it for the guard alone, our login as it was then: it is the owner's member, and comes in as whatever else may. */
#define OPEN_SQL                                                                                                       \
    "WITH i AS (SELECT t.item, t.n, pg_catalog.rtrim(t.item, '*')::oid AS who"                                         \
    "  FROM pg_catalog.unnest(pg_catalog.string_to_array($2, ',')) WITH ORDINALITY AS t (item, n)),"                   \
    " h AS (SELECT pg_catalog.unnest(pg_catalog.string_to_array($3, ',')) AS item)"                                    \
    " SELECT sql, n < 1000000 FROM (SELECT i.n, pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %s%s', d.datname,"  \
    "   CASE WHEN i.who = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END,"                                 \
    "   CASE WHEN i.item LIKE '%*' THEN ' WITH GRANT OPTION' ELSE '' END) AS sql"                                      \
    "  FROM i JOIN pg_catalog.pg_database d ON d.oid = $1::oid LEFT JOIN pg_catalog.pg_roles r ON r.oid = i.who"       \
    "  WHERE (i.who = 0 OR r.oid IS NOT NULL) AND i.item NOT IN (SELECT item FROM h)"                                  \
    "  AND i.item || '*' NOT IN (SELECT item FROM h)"                                                                  \
    " UNION ALL SELECT 1000000, pg_catalog.format('REVOKE CONNECT ON DATABASE %I FROM %I', d.datname, r.rolname)"      \
    "  FROM pg_catalog.pg_database d, pg_catalog.pg_roles r WHERE d.oid = $1::oid"                                     \
    "  AND r.oid::text = ANY (pg_catalog.string_to_array($4, ',')) AND r.oid NOT IN (SELECT who FROM i)"               \
    "  AND r.oid::text IN (SELECT item FROM h)) AS s ORDER BY n"

static bool read_open(DbConn *conn, const DemoteState *state, const DemoteLine *line, DbResult **ret_rows, Error *err) {
    const char *const params[] = {state->oid, line->before, state->values[CHANGE_CONNECT], line->after};

    return db_query(conn, OPEN_SQL, 4, params, ret_rows, err) ||
           error_wrap(err, "looking who might connect to database %s", state->name);
}

/* That our own login keeps it, since somebody else has granted it too, is nothing to fail for. */
static bool check_open(DbConn *conn, Arena *arena, const DemoteState *before, const DemoteLine *line, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    DemoteState state;

    if (!demote_state_read(conn, arena, before->oid, before->name, &state, err) ||
        !read_open(conn, &state, line, &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++)
        if (db_bool(rows, row, 1))
            return refuse_owner(conn, &state, "giving CONNECT back on", err);
    return true;
}

bool demote_connect_open(DbConn *conn, Arena *arena, const DemoteState *state, const DemoteLine *line,
                         bool *ret_foreign, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    *ret_foreign = demote_verdict(line->before, line->after, state->values[CHANGE_CONNECT]) == VERDICT_FOREIGN;
    return read_open(conn, state, line, &rows, err) && run_all(conn, rows, err) &&
           check_open(conn, arena, state, line, err);
}
