/*
 * Settings, comment and grants of the database itself: pg_dump keeps them in the entry that would create the database,
 * which we do not run.
 *
 * The source writes the statements (format() quotes), with the destination's name in them.
 */
#include "engine/finish/finish.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "model/tablespace_map.h"
#include "pg/quote.h"
#include "pg/role_setting.h"

#include <string.h>

/* A database that is itself guarded as a destination (engine/demote) has settings that are the guard's, and not its
 * own. `s`: its row of pg_db_role_setting, c: a setting. */
#define NOT_OF_A_GUARD                                                                                                 \
    " AND pg_catalog.strpos(c, 'pgcrane.guard=') <> 1 AND NOT (s.setrole = 0"                                          \
    "  AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1 AND EXISTS (SELECT"                              \
    "   FROM pg_catalog.unnest(s.setconfig) AS g WHERE pg_catalog.strpos(g, 'pgcrane.guard=') = 1))"

/* %1$s: the destination database, quoted as a literal. What stands before the value, the setting's name, its text. */
#define SETTINGS_SQL                                                                                                   \
    "SELECT pg_catalog.format('ALTER %%s SET %%I TO ',"                                                                \
    " CASE WHEN s.setrole = 0 THEN pg_catalog.format('DATABASE %%I', %1$s)"                                            \
    "  ELSE pg_catalog.format('ROLE %%I IN DATABASE %%I', pg_catalog.pg_get_userbyid(s.setrole), %1$s) END,"           \
    " " SQL_SETTING_NAME "), " SQL_SETTING_NAME ", " SQL_SETTING_TEXT                                                  \
    " FROM pg_catalog.pg_db_role_setting s, LATERAL unnest(s.setconfig) AS c"                                          \
    " WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"    \
    " AND (NOT %2$s OR s.setrole <> 0 OR pg_catalog.strpos(c, 'default_transaction_read_only=') <> 1)" NOT_OF_A_GUARD

#define READ_ONLY_SQL                                                                                                  \
    "SELECT " SQL_SETTING_TEXT " FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) AS c"    \
    " WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"    \
    " AND s.setrole = 0 AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1" NOT_OF_A_GUARD

#define COMMENT_SQL                                                                                                    \
    "SELECT pg_catalog.format('COMMENT ON DATABASE %%I IS %%L', %1$s, pg_catalog.shobj_description(oid, "              \
    "'pg_database'))"                                                                                                  \
    " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"                                       \
    " AND pg_catalog.shobj_description(oid, 'pg_database') IS NOT NULL"

/* A changed list of grants is written whole: first what PUBLIC has by default goes. %2$s: what is not brought. */
#define GRANTS_SQL                                                                                                     \
    "WITH d AS (SELECT datdba, datacl FROM pg_catalog.pg_database"                                                     \
    "  WHERE datname = pg_catalog.current_database() AND datacl IS NOT NULL),"                                         \
    " g AS (SELECT a.grantee, pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges,"  \
    "  a.is_grantable FROM d, LATERAL pg_catalog.aclexplode(d.datacl) a WHERE a.grantee <> d.datdba"                   \
    "  AND a.privilege_type <> '%2$s' GROUP BY 1, 3)"                                                                  \
    " SELECT sql FROM (SELECT 0 AS step, pg_catalog.format('REVOKE ALL ON DATABASE %%I FROM PUBLIC', %1$s) AS sql "    \
    "FROM d"                                                                                                           \
    " UNION ALL SELECT 1, pg_catalog.format('GRANT %%s ON DATABASE %%I TO %%s%%s', g.privileges, %1$s,"                \
    "  CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END,"  \
    "  CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM g) AS s ORDER BY step"

/* What an owner has taken from itself, of what PostgreSQL gives to owners; CONNECT is a statement of its own, the last.
 */
#define OWNER_SQL                                                                                                      \
    "SELECT pg_catalog.format('REVOKE %%s ON DATABASE %%I FROM %%I', pg_catalog.string_agg(o.privilege_type, ', '"     \
    "  ORDER BY o.privilege_type), %1$s, pg_catalog.pg_get_userbyid(d.datdba)), o.privilege_type = 'CONNECT'"          \
    " FROM pg_catalog.pg_database d, LATERAL pg_catalog.aclexplode(pg_catalog.acldefault('d', d.datdba)) o"            \
    " WHERE d.datname = pg_catalog.current_database() AND d.datacl IS NOT NULL AND o.grantee = d.datdba"               \
    " AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(d.datacl) a WHERE a.grantee = d.datdba"                        \
    "  AND a.privilege_type = o.privilege_type) GROUP BY d.datdba, 2 ORDER BY 2"

/* As GRANTS_SQL, of CONNECT alone, as HeldBack has it. */
#define CONNECT_SQL                                                                                                    \
    "SELECT coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(CASE WHEN a.grantee <> 0"                 \
    "  THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.is_grantable))"                                               \
    "  FROM pg_catalog.aclexplode(d.datacl) AS a WHERE a.privilege_type = 'CONNECT' AND a.grantee <> d.datdba)::text," \
    " '[]') FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND d.datacl IS NOT NULL"

static void add_not_moved(Arena *arena, NotMovedVec *not_moved, const char *sql, const char *reason) {
    NotMoved item = {.kind = "database setting", .object = arena_strdup(arena, sql), .reason = reason};

    item.sql = arena_printf(arena, "%s;", sql);
    vec_push(arena, not_moved, item);
}

/* One statement in a savepoint. What the server refuses is listed: a privilege or a role is wanting, a setting does not
 * exist in its version, or its value (a locale, a tablespace) does not exist there. */
static bool run_statement(DbConn *dest, const char *sql, NotMovedVec *not_moved, Arena *arena, Error *err) {
    if (!db_exec(dest, "SAVEPOINT setting", err))
        return false;
    if (db_exec(dest, sql, err))
        return db_exec(dest, "RELEASE setting", err);
    if (err->sqlstate[0] == '\0' || err->retryable || db_is_broken(dest) || err->reason == REASON_CANCELLED)
        return error_wrap(err, "bringing what belongs to the database"); /* without values: they may be secrets */
    add_not_moved(arena, not_moved, sql, arena_strdup(arena, err->message));
    return db_exec(dest, "ROLLBACK TO setting; RELEASE setting", err);
}

static bool copy_statements(DbConn *source, DbConn *dest, const char *query, NotMovedVec *not_moved, Arena *arena,
                            Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = query;

    if (!db_query(source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the database's settings");
    for (int i = 0; i < db_rows(rows); i++)
        if (!run_statement(dest, db_text(rows, i, 0), not_moved, arena, err))
            return false;
    return true;
}

static bool copy_setting(const LoadParams *params, DbConn *dest, const DbResult *rows, int row, NotMovedVec *not_moved,
                         Arena *arena, Error *err) {
    RoleSetting setting = role_setting_parse(arena, db_text(rows, row, 1), db_text(rows, row, 2));
    const char *why = NULL;
    TablespaceMap map;

    if (!tablespace_map_parse(arena, params->tablespace_map, &map, err))
        return false;
    if (setting.is_tablespace)
        tablespace_map_names(&map, &setting.items);
    const char *sql = arena_printf(arena, "%s%s", db_text(rows, row, 0), role_setting_sql(arena, &setting));
    if (!role_setting_obstacle(dest, arena, &setting, &why, err))
        return false;
    if (why == NULL)
        return run_statement(dest, sql, not_moved, arena, err);
    add_not_moved(arena, not_moved, sql, why);
    return true;
}

/* calm: without default_transaction_read_only of the database. */
static bool copy_settings(const LoadParams *params, DbConn *source, DbConn *dest, bool calm, NotMovedVec *not_moved,
                          Arena *arena, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = arena_printf(arena, SETTINGS_SQL, sql_literal(arena, db_name(dest)), calm ? "true" : "false");

    if (!db_query(source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the database's settings");
    for (int i = 0; i < db_rows(rows); i++)
        if (!copy_setting(params, dest, rows, i, not_moved, arena, err))
            return false;
    return true;
}

static bool ask_superuser(DbConn *dest, bool *ret_superuser, Error *err) {
    CLEANUP(db_result_freep) DbResult *us = NULL;

    /* Login and role: the next connection is let in for what the login may. */
    if (!db_query(dest,
                  "SELECT pg_catalog.bool_and(r.rolsuper) FROM pg_catalog.pg_roles r"
                  " WHERE r.rolname IN (session_user, current_user)",
                  0, NULL, &us, err))
        return error_wrap(err, "asking the destination who we are");
    *ret_superuser = db_rows(us) == 1 && db_bool(us, 0, 0);
    return true;
}

/* Our own role, which may be the owner, needs them to the end: CONNECT to come in again, CREATE for what the stream
 * brings and for the checks of the next run. */
static bool revoke_from_owner(DbConn *source, DbConn *dest, NotMovedVec *not_moved, Arena *arena, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    bool superuser = false;

    if (!ask_superuser(dest, &superuser, err))
        return false;
    if (!db_query(source, arena_printf(arena, OWNER_SQL, sql_literal(arena, db_name(dest))), 0, NULL, &rows, err))
        return error_wrap(err, "reading what the database's owner may do");
    for (int i = 0; i < db_rows(rows); i++)
        if (!superuser)
            add_not_moved(arena, not_moved, db_text(rows, i, 0),
                          "pgcrane's own role may need it: to be run when the migration is done");
        else if (!run_statement(dest, db_text(rows, i, 0), not_moved, arena, err))
            return false;
    return true;
}

/* The first column of the only row, or NULL. */
static bool read_text(DbConn *source, const char *sql, Arena *arena, const char **ret_text, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the database's settings");
    *ret_text = db_rows(rows) == 0 ? NULL : arena_strdup(arena, db_text(rows, 0, 0));
    return true;
}

static void note_missing(const HeldBack *held, DbConn *dest, NotMovedVec *not_moved, Arena *arena) {
    for (size_t i = 0; i < held->missing.len; i++) {
        const char *role = held->missing.items[i];
        const char *sql = arena_printf(arena, "GRANT CONNECT ON DATABASE %s TO %s", sql_ident(arena, db_name(dest)),
                                       sql_ident(arena, role));

        add_not_moved(arena, not_moved, sql, arena_printf(arena, "role %s does not exist", sql_ident(arena, role)));
    }
}

/* What would open a database that is guarded (engine/demote) is written by whoever lifts the guard. */
static bool hold_back(const LoadParams *params, DbConn *source, DbConn *dest, bool again, NotMovedVec *not_moved,
                      Arena *arena, HeldBack *ret_held, Error *err) {
    HeldBack held = {0};

    if (params->hold_back != NULL) {
        if ((!again && !read_text(source, READ_ONLY_SQL, arena, &held.read_only, err)) ||
            (!params->restore.no_acl && !read_text(source, CONNECT_SQL, arena, &held.connect, err)) ||
            !params->hold_back(params->hold_back_context, &held, err))
            return false;
        note_missing(&held, dest, not_moved, arena);
    }
    *ret_held = held;
    return true;
}

bool finish_database(const LoadParams *params, DbConn *source, DbConn *dest, bool again, NotMovedVec *not_moved,
                     Arena *arena, Error *err) {
    const char *name = sql_literal(arena, db_name(dest));
    HeldBack held;

    if (!failpoint("database.before", err) || !hold_back(params, source, dest, again, not_moved, arena, &held, err) ||
        !ledger_begin(dest, params->ledger, err))
        return false;
    bool calm = again || held.holds_read_only;
    const char *grants = arena_printf(arena, GRANTS_SQL, name, held.holds_connect ? "CONNECT" : "");
    bool ok = copy_settings(params, source, dest, calm, not_moved, arena, err) &&
              copy_statements(source, dest, arena_printf(arena, COMMENT_SQL, name), not_moved, arena, err) &&
              (params->restore.no_acl ||
               (copy_statements(source, dest, grants, not_moved, arena, err) &&
                (params->restore.no_owner || revoke_from_owner(source, dest, not_moved, arena, err))));

    if (ok && failpoint("database.before_commit", err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return false;
}

bool finish_read_only_note(DbConn *dest, Arena *arena, const char **ret_note, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT 1 FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = 0 AND s.setdatabase ="
                  " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
                  " AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS c"
                  "  WHERE pg_catalog.strpos(c, 'default_transaction_read_only=') = 1"
                  "  AND pg_catalog.split_part(c, '=', 2)::boolean)"
                  /* a guard's own (engine/demote), which goes with the guard */
                  " AND NOT EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS c"
                  "  WHERE pg_catalog.strpos(c, 'pgcrane.guard=') = 1)",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the destination database's settings");
    *ret_note = db_rows(row) == 0
                    ? NULL
                    : arena_printf(arena,
                                   "the destination database is read-only by default (default_transaction_read_only),"
                                   " and so is each session that logs in; before anybody writes to it: BEGIN READ"
                                   " WRITE; ALTER DATABASE %s RESET default_transaction_read_only; COMMIT",
                                   sql_ident(arena, db_name(dest)));
    return true;
}

bool finish_event_triggers_note(DbConn *dest, Arena *arena, const char **ret_note, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(t.evtname), ', ' ORDER BY t.evtname)"
                  " FROM pg_catalog.pg_event_trigger t WHERE t.evtenabled = 'D'",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the destination's event triggers");
    *ret_note = db_is_null(row, 0, 0)
                    ? NULL
                    : arena_printf(arena,
                                   "disabled on the destination: event trigger %s; one that was disabled for the"
                                   " migration's sake, there or on the source before it moved, does not act until ALTER"
                                   " EVENT TRIGGER ... ENABLE (or ENABLE ALWAYS, ENABLE REPLICA, as it was)",
                                   db_text(row, 0, 0));
    return true;
}
