/* What the files of this folder share. */
#pragma once

#include "engine/demote/demote.h"

/* Value of a setting of the database for all roles; NULL = it has none. */
#define DEMOTE_SETTING_SQL(name)                                                                                       \
    "(SELECT pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"                                                      \
    " FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) AS c"                               \
    " WHERE s.setdatabase = d.oid AND s.setrole = 0 AND pg_catalog.strpos(c, '" name "=') = 1)"

/* Who may connect, by oid, "*" behind those who may grant it; NULL = nobody. In the order of the list of grants. */
#define DEMOTE_CONNECT_SQL                                                                                             \
    "(SELECT pg_catalog.string_agg(a.grantee::text || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ',' ORDER BY"     \
    " a.ordinality) FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba)))"              \
    " WITH ORDINALITY AS a (grantor, grantee, privilege_type, is_grantable, ordinality)"                               \
    " WHERE a.privilege_type = 'CONNECT')"

typedef enum DemoteChange {
#define X(name, text, sql) CHANGE_##name,
#include "engine/demote/changes.def"
#undef X
    CHANGE_MAX_,
} DemoteChange;

/* --- changes.c: pure but for demote_state_read() --- */

const char *demote_change_name(DemoteChange change);
const char *demote_change_text(DemoteChange change);
/* CHANGE_MAX_ when there is none of that name. */
DemoteChange demote_change_from_name(const char *name);
/* How a guard closes a database depends on what pgcrane's role is there. */
bool demote_is_change_of(DemoteChange change, bool superuser);
/* What the guard makes of it; NULL for CONNECT, which is found out. */
const char *demote_guarded_value(DemoteChange change, const DemoteJob *job);
/* Of all but CONNECT. value NULL = it has none. NULL: the value is none that this can have. */
char *demote_change_sql(Arena *arena, DemoteChange change, const char *database, const char *value);

/* A value that is now `now`, and was `before` when the guard made it `after`. */
typedef enum DemoteVerdict { VERDICT_SET_BACK, VERDICT_AS_BEFORE, VERDICT_FOREIGN } DemoteVerdict;
DemoteVerdict demote_verdict(const char *before, const char *after, const char *now);

typedef struct DemoteState {
    bool exists;
    const char *oid, *name;
    const char *values[CHANGE_MAX_]; /* NULL = none */
} DemoteState;

/* By oid, or without one by name. */
NODISCARD bool demote_state_read(DbConn *conn, Arena *arena, const char *oid, const char *name, DemoteState *ret_state,
                                 Error *err);

/* --- journal.c --- */

/* Begins a transaction that nobody else's is beside: of guards, releases, and what makes and drops the journal.
 * *ret_exists: there is a journal; with `makes` it is made. Without one nothing is guarded, and there is no
 * transaction, as behind a failure. */
NODISCARD bool demote_transaction(DbConn *conn, bool makes, bool *ret_exists, Error *err);
/* Logged in as a superuser, and acting as one: whom a limit of connections lets in, and who may set it. */
NODISCARD bool demote_is_superuser(DbConn *conn, bool *ret_superuser, Error *err);
/* CONFLICT: it is somebody else's. */
NODISCARD bool journal_exists(DbConn *conn, bool *ret_exists, Error *err);
/* A statement about it has failed since it was dropped meanwhile, which is so only outside of a demote_transaction().
 */
bool journal_is_gone(const Error *err);

typedef struct DemoteLine {
    const char *job, *job_name;
    const char *database, *oid; /* oid NULL: it was to be made */
    DemoteChange change;
    const char *before, *after; /* NULL = none */
    bool undone;                /* set back; sessions that had read it are yet to be ended */
} DemoteLine;

typedef VEC(DemoteLine) DemoteLineVec;

/* Of a database, or of a job, or of both; NULL = any. In the order of databases and changes. */
NODISCARD bool journal_read(DbConn *conn, Arena *arena, const char *job, const char *database, DemoteLineVec *ret_lines,
                            Error *err);
NODISCARD bool journal_add(DbConn *conn, const DemoteLine *line, Error *err);
NODISCARD bool journal_mark_undone(DbConn *conn, const char *job, const char *database, Error *err);
NODISCARD bool journal_forget_database(DbConn *conn, const char *job, const char *database, Error *err);
/* What the database with that oid is called now. *ret_name: NULL = it was dropped. */
NODISCARD bool journal_new_name(DbConn *conn, Arena *arena, const char *oid, const char **ret_name, Error *err);
/* Is a database guarded, for whatever job, that had another name then? *ret_job: its name, NULL = none. */
NODISCARD bool journal_other_name(DbConn *conn, Arena *arena, const char *oid, const char *name, const char **ret_job,
                                  Error *err);
/* The job; and the journal, should that be the last one. *ret_note: why it could not go, or NULL. */
NODISCARD bool journal_forget_job(DbConn *conn, Arena *arena, const char *job, const char **ret_note, Error *err);

/* --- connect.c: inside a transaction --- */

/* Takes CONNECT from all but pgcrane's login. */
NODISCARD bool demote_connect_close(DbConn *conn, Arena *arena, const DemoteState *state, Error *err);
/* Who gets in none the less: logins that have the rights of ours (CONFLICT); and others, which when it was closed just
 * now (fresh) we had no right to do (NOT_PERMITTED), and later somebody has let in: those are told in `left`. */
NODISCARD bool demote_connect_check(DbConn *conn, Arena *arena, const DemoteState *state, bool fresh, StringVec *left,
                                    Error *err);
/* Gives it back to those of `before` who are there and lack it. *ret_foreign: the grants are not as the guard made
 * them; what was added stays. NOT_PERMITTED: the owner is another one by now. */
NODISCARD bool demote_connect_open(DbConn *conn, Arena *arena, const DemoteState *state, const DemoteLine *line,
                                   bool *ret_foreign, Error *err);

/* --- sessions.c --- */

/* Ends the sessions in the database of `oid` that are not pgcrane's; with `until` (the server's clock) those that began
 * up to then. Who did not end within some seconds is named in `left`. */
NODISCARD bool demote_end_sessions(DbConn *conn, Arena *arena, const char *oid, const char *until, StringVec *left,
                                   Error *err);
