/*
 * Replication slots, and the connections that make and use them.
 *
 * What is wrong is told by facts, not by the server's words, which are in its own language: after a refusal wal_level,
 * or the slot itself, is looked at.
 *
 * Killed in the middle. A slot that is being made is dropped by the server when its session ends. One that was made
 * while its maker died before it read the answer stays: its name is known (the journal is written first), and its L0 is
 * its confirmed_flush_lsn, as long as nobody has read from it.
 */
#include "common/lsn.h"
#include "pg/namesakes.h"
#include "pg/quote.h"
#include "pg/repl_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DROP_TIMEOUT_US (30 * USEC_PER_SEC)
#define PAUSE_US (50 * USEC_PER_MSEC)

#define SQLSTATE_NO_SUCH_OBJECT "42704"
#define SQLSTATE_EXISTS "42710"
#define SQLSTATE_NOT_READY "55000"
#define SQLSTATE_LIMIT "53400"
#define SQLSTATE_TOO_MANY "53300"
#define SQLSTATE_NO_PRIVILEGE "42501"

enum { CONNINFO_MAX = 64 << 10, SQL_MAX = 1 << 20 };

/* --- Connections -------------------------------------------------------------------------------------------------- */

static void append_option(Buf *conninfo, const char *keyword, const char *value) {
    buf_printf(conninfo, "%s='", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            buf_append_char(conninfo, '\\');
        buf_append_char(conninfo, *value);
    }
    buf_append_str(conninfo, "' ");
}

static bool explain_connect(const PQconninfoOption *options, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *user = conninfo_get(options, "user");
    const char *role = sql_ident(arena, user != NULL ? user : "");

    if (strcmp(err->sqlstate, SQLSTATE_NO_PRIVILEGE) == 0)
        error_remedy(err,
                     "give the role the right to replicate: ALTER ROLE %s REPLICATION (on RDS and Aurora: GRANT "
                     "rds_replication TO %s)",
                     role, role);
    /* The name of a setting is the same in all languages. */
    if (strcmp(err->sqlstate, SQLSTATE_TOO_MANY) == 0 && strstr(err->message, "max_wal_senders") != NULL)
        error_remedy(err, "end an unused walsender of the source (see pg_stat_replication), or raise max_wal_senders "
                          "and restart it");
    return false;
}

bool repl_connect(const DbTarget *source, const char *purpose, const Stop *stop, DbConn **ret_conn, Error *err) {
    PQconninfoOption *options CLEANUP(conninfo_freep) = NULL;
    Buf conninfo CLEANUP(buf_fini);
    DbTarget target = *source;

    buf_init(&conninfo, CONNINFO_MAX);
    if (!conninfo_resolve(source->conninfo, &options, err))
        return error_wrap(err, "%s", db_side_name(source->side));
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (o->val != NULL && o->val[0] != '\0' && strcmp(o->keyword, "replication") != 0)
            append_option(&conninfo, o->keyword, o->val);
    append_option(&conninfo, "replication", "database");
    if (!buf_ok(&conninfo, "the connection string", err))
        return false;
    target.conninfo = conninfo.data;
    return db_open(&target, purpose, stop, ret_conn, err) || explain_connect(options, err);
}

/* A quarter of shared_buffers, and no more than 512 MB: what a server of this size has to spare. */
bool repl_tune(DbConn *conn, Error *err) {
    static const char *const sql =
        "SELECT pg_catalog.set_config('logical_decoding_work_mem', pg_catalog.concat(GREATEST(w.setting::bigint,"
        " LEAST(524288, s.setting::bigint * pg_catalog.current_setting('block_size')::bigint / 4096)), 'kB'), false)"
        " FROM pg_catalog.pg_settings w, pg_catalog.pg_settings s"
        " WHERE w.name = 'logical_decoding_work_mem' AND s.name = 'shared_buffers'";
    DbResult *result CLEANUP(db_result_freep) = NULL;

    return db_version(conn) < 130000 || db_query_last(conn, sql, &result, err) ||
           error_wrap(err, "setting logical_decoding_work_mem");
}

/* --- State of a slot ---------------------------------------------------------------------------------------------- */

/* How a lost slot is recognised and explained, by version of the server. */
static const struct {
    int min_version;
    const char *lost;
    const char *cause;
} lost_columns[] = {
    {170000, "wal_status = 'lost'", "invalidation_reason"},
    {130000, "wal_status = 'lost'", "'wal_removed'"}, /* a primary knew no other cause then */
    {0, "false", "''"},
};

static void build_read(Arena *arena, const char *name, int version, Buf *sql) {
    size_t i = 0;

    while (version < lost_columns[i].min_version)
        i++;
    buf_printf(sql,
               "SELECT COALESCE(plugin = 'pgoutput' AND database = pg_catalog.current_database(), false), %s,"
               " COALESCE(%s, ''), COALESCE(active_pid, 0), COALESCE(confirmed_flush_lsn, '0/0'),"
               " COALESCE(restart_lsn, '0/0'),"
               " CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
               " ELSE pg_catalog.pg_current_wal_insert_lsn() END"
               " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
               lost_columns[i].lost, lost_columns[i].cause, sql_literal(arena, name));
}

bool repl_slot_read(DbConn *conn, const char *name, ReplSlot *ret_slot, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DbResult *result CLEANUP(db_result_freep) = NULL;
    Buf sql CLEANUP(buf_fini);
    ReplSlot slot = {.name = name, .server_version = db_version(conn)};

    buf_init(&sql, SQL_MAX);
    build_read(arena, name, db_version(conn), &sql);
    if (!buf_ok(&sql, "a statement", err) || !db_query_last(conn, sql.data, &result, err))
        return error_wrap(err, "reading the state of slot \"%s\"", name);
    if (db_rows(result) > 0) {
        slot.exists = true;
        slot.is_ours = db_bool(result, 0, 0);
        slot.is_lost = db_bool(result, 0, 1);
        snprintf(slot.cause, sizeof(slot.cause), "%s", db_text(result, 0, 2));
        slot.active_pid = (int)db_int64(result, 0, 3);
        if (!lsn_parse(db_text(result, 0, 4), &slot.confirmed_lsn) ||
            !lsn_parse(db_text(result, 0, 5), &slot.restart_lsn) || !lsn_parse(db_text(result, 0, 6), &slot.server_lsn))
            return error_set(err, REASON_INTERNAL, "slot \"%s\" has positions that are none: %s, %s, %s", name,
                             db_text(result, 0, 4), db_text(result, 0, 5), db_text(result, 0, 6));
    }
    *ret_slot = slot;
    return true;
}

/* What the causes of 17 and later mean for a person. */
static const struct {
    const char *cause;
    const char *meaning;
} causes[] = {
    {"wal_removed", "it held back more WAL than max_slot_wal_keep_size allows"},
    {"rows_removed", "catalog rows that it needs were removed"},
    {"wal_level_insufficient", "the source's primary was run without wal_level = logical"},
    {"idle_timeout", "it was unused for longer than idle_replication_slot_timeout"},
};

static bool fail_lost(const ReplSlot *slot, Error *err) {
    const char *meaning = slot->cause;

    for (size_t i = 0; i < COUNT_OF(causes); i++)
        if (strcmp(causes[i].cause, slot->cause) == 0)
            meaning = causes[i].meaning;
    return error_set(err, REASON_SLOT_LOST, "the source has invalidated replication slot \"%s\": %s", slot->name,
                     meaning[0] != '\0' ? meaning : "it does not say why");
}

static bool fail_position(const ReplSlot *slot, const ReplStart *start, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *wanted = lsn_format(arena, start->lsn);

    if (slot->confirmed_lsn > start->lsn)
        return error_set(
            err, REASON_DEST_WENT_BACK,
            "replication slot \"%s\" was confirmed up to %s, but the destination has changes up to %s only: those "
            "between are gone",
            slot->name, lsn_format(arena, slot->confirmed_lsn), wanted);
    return error_set(err, REASON_SOURCE_WENT_BACK,
                     "the destination has changes up to %s, but the source's WAL ends at %s: the source went back",
                     wanted, lsn_format(arena, slot->server_lsn));
}

bool repl_slot_check(const ReplSlot *slot, const ReplStart *start, Error *err) {
    if (!slot->exists)
        return error_set(err, REASON_SLOT_LOST, "replication slot \"%s\" does not exist on the source", slot->name);
    if (!slot->is_ours)
        return error_set(err, REASON_LEDGER_MISMATCH, "replication slot \"%s\" is not one of pgoutput in this database",
                         slot->name);
    if (slot->is_lost)
        return fail_lost(slot, err);
    if (slot->confirmed_lsn == 0 && slot->active_pid == 0)
        return error_set(err, REASON_SLOT_LOST, "replication slot \"%s\" was never completed", slot->name);
    if (slot->confirmed_lsn > start->lsn || start->lsn > slot->server_lsn)
        return fail_position(slot, start, err);
    return true;
}

bool repl_slot_fail_active(const char *name, int pid, Error *err) {
    error_set(err, REASON_SERVER_BUSY, "replication slot \"%s\" is in use by process %d of the source", name, pid);
    return error_remedy(err, "when that is no running pgcrane, end it: SELECT pg_terminate_backend(%d)", pid);
}

bool repl_slot_end_namesake(DbConn *conn, int pid, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool has_name = false;

    if (!db_has_own_name(conn, &has_name, err))
        return false;
    const char *sql = arena_printf(arena,
                                   "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a"
                                   " WHERE a.pid = %d AND a.usename = session_user AND a.application_name = %s",
                                   pid, sql_literal(arena, db_application_name(conn)));
    return !has_name || db_exec(conn, sql, err) || error_wrap(err, "ending an earlier stream of ours");
}

bool repl_slot_pause(DbConn *conn, Error *err) {
    return stop_wait_fd(db_stop(conn), -1, 0, clock_now_us() + PAUSE_US) != WAIT_STOPPED || query_stopped(conn, err);
}

bool repl_check_publications(DbConn *conn, const char *const *names, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DbResult *result CLEANUP(db_result_freep) = NULL;
    Buf sql CLEANUP(buf_fini);

    buf_init(&sql, SQL_MAX);
    buf_append_str(&sql, "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n), ', ') FROM (VALUES (NULL)");
    for (; *names != NULL; names++)
        buf_printf(&sql, ", (%s)", sql_literal(arena, *names));
    buf_append_str(&sql, ") v (n) WHERE n NOT IN (SELECT pubname FROM pg_catalog.pg_publication)");
    if (!buf_ok(&sql, "a statement", err) || !db_query_last(conn, sql.data, &result, err))
        return error_wrap(err, "looking for the publications");
    if (db_rows(result) == 0 || db_is_null(result, 0, 0))
        return true;
    /* Some versions then fail with the first change, others leave changes out without a word. */
    return error_set(err, REASON_PUBLICATION_LOST, "the source has no longer publication %s: changes are missing",
                     db_text(result, 0, 0));
}

/* --- Making ------------------------------------------------------------------------------------------------------- */

static bool explain_wal_level(DbConn *conn, Error *err) {
    DbResult *result CLEANUP(db_result_freep) = NULL;
    Error ignored;

    if (!db_query_last(conn, "SHOW wal_level", &result, &ignored) || db_rows(result) != 1 ||
        strcmp(db_text(result, 0, 0), "logical") == 0)
        return false;
    return error_remedy(err,
                        "wal_level is %s: ALTER SYSTEM SET wal_level = 'logical' and restart the source (RDS and "
                        "Aurora: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on; Azure: "
                        "wal_level = logical)",
                        db_text(result, 0, 0));
}

static bool explain_create(DbConn *conn, const char *slot, Error *err) {
    if (strcmp(err->sqlstate, SQLSTATE_NOT_READY) == 0 && !db_is_broken(conn))
        explain_wal_level(conn, err);
    else if (strcmp(err->sqlstate, SQLSTATE_LIMIT) == 0)
        error_remedy(err, "drop a slot that nobody needs (SELECT slot_name, active, restart_lsn FROM "
                          "pg_replication_slots), or raise max_replication_slots and restart the source");
    else if (strcmp(err->sqlstate, SQLSTATE_EXISTS) == 0)
        error_remedy(err, "when nobody needs it, drop it: SELECT pg_drop_replication_slot('%s')", slot);
    return error_wrap(err, "creating replication slot \"%s\"", slot);
}

static const char *create_options(int version, bool failover) {
    if (version < 150000)
        return "NOEXPORT_SNAPSHOT";
    return failover && version >= 170000 ? "(SNAPSHOT 'nothing', FAILOVER)" : "(SNAPSHOT 'nothing')";
}

bool repl_slot_create(const DbTarget *source, const char *slot, bool failover, const Stop *stop, uint64_t *ret_lsn,
                      Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_closep) DbConn *conn = NULL;
    DbResult *result CLEANUP(db_result_freep) = NULL;
    uint64_t lsn = 0;

    if (!repl_connect(source, "slot", stop, &conn, err))
        return false;
    const char *sql = arena_printf(arena, "CREATE_REPLICATION_SLOT %s LOGICAL pgoutput %s", sql_ident(arena, slot),
                                   create_options(db_version(conn), failover));
    if (!db_query_last(conn, sql, &result, err))
        return explain_create(conn, slot, err);
    if (db_rows(result) != 1 || !lsn_parse(db_text(result, 0, 1), &lsn))
        return error_set(err, REASON_INTERNAL, "creating replication slot \"%s\": no position came back", slot);
    *ret_lsn = lsn;
    return true;
}

/* --- Dropping ----------------------------------------------------------------------------------------------------- */

/* Ends who holds it, and drops it. *ret_held = somebody still holds it. */
static bool try_drop(DbConn *source, const char *slot, bool *ret_held, Error *err) {
    static const char *const end_sql =
        "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM"
        " pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL";
    static const char *const drop_sql = "SELECT pg_catalog.pg_drop_replication_slot($1)";

    if (!db_query(source, end_sql, 1, &slot, NULL, err))
        return error_wrap(err, "ending the process that holds replication slot \"%s\"", slot);
    *ret_held = false;
    if (db_query(source, drop_sql, 1, &slot, NULL, err) || strcmp(err->sqlstate, SQLSTATE_NO_SUCH_OBJECT) == 0)
        return true;
    if (strcmp(err->sqlstate, SQLSTATE_NO_PRIVILEGE) == 0)
        error_remedy(err,
                     "on the source, as a role with REPLICATION: SELECT pg_drop_replication_slot('%s'), or give ours"
                     " that; then run the same command again",
                     slot);
    *ret_held = strcmp(err->sqlstate, SQLSTATE_IN_USE) == 0;
    return *ret_held || error_wrap(err, "dropping replication slot \"%s\"", slot);
}

/* It was told to end again and again: a process that is stopped, or waits for a disk, does not hear that. */
static bool explain_held(DbConn *source, const char *slot, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Error ignored; /* the server said its number, too */

    if (db_query(
            source,
            "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL", 1,
            &slot, &row, &ignored) &&
        db_rows(row) > 0)
        error_remedy(err,
                     "process %s of the source, which holds it, does not end although it was told to: run the same"
                     " command again; when it still holds it, see on the source's machine what that process waits for,"
                     " or whether it is stopped, and end it there",
                     db_text(row, 0, 0));
    return error_wrap(err, "dropping replication slot \"%s\"", slot);
}

bool repl_slot_drop(DbConn *source, const char *slot, Error *err) {
    int64_t deadline = clock_now_us() + DROP_TIMEOUT_US;

    for (;;) {
        Error why;
        bool held = false;
        if (!try_drop(source, slot, &held, &why)) {
            *err = why;
            return false;
        }
        if (!held)
            return true;
        if (clock_now_us() >= deadline) {
            *err = why;
            return explain_held(source, slot, err);
        }
        if (!repl_slot_pause(source, err))
            return false;
    }
}
