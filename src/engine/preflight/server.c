/* The source as a server: version, session, snapshot, locks. */
#include "engine/preflight/check.h"

enum { MAJOR_FIRST = 10, MAJOR_LAST = 19 };

static const char SESSION_MARK[] = "kept";

void check_version_of(Preflight *p, CheckId check, DbSide side) {
    int major = db_major(preflight_conn(p, side));
    if (major >= MAJOR_FIRST && major <= MAJOR_LAST)
        return;
    const char *message = arena_printf(p->scratch, "the %s is PostgreSQL %d, known are %d to %d", db_side_name(side),
                                       major, (int)MAJOR_FIRST, (int)MAJOR_LAST);
    finding_add(p, check, "", message, "");
}

bool check_source_version(Preflight *p, Error *err) {
    (void)err;
    check_version_of(p, CHECK_SOURCE_VERSION, DB_SOURCE);
    return true;
}

/* What a pg_dump writes is for servers of its own major and later ones. Of a source that is newer than the destination
 * no pg_dump could be less. */
bool check_client(Preflight *p, Error *err) {
    const ClientBin *bin = p->input->pg_dump;
    int source = db_major(p->input->source), dest = db_major(p->input->dest);

    (void)err;
    if (bin == NULL || bin->path == NULL || bin->major <= dest || source > dest)
        return true;
    finding_add(p, CHECK_CLIENT_NEWER, "pg_dump",
                arena_printf(p->scratch,
                             "%s (%s) is newer than the destination, PostgreSQL %d, which may not read what it writes"
                             " (from 18 on, NOT NULL as constraints of their own)",
                             bin->path, bin->version, dest),
                arena_printf(p->scratch,
                             "apt-get install postgresql-client-%d, or name the folder of such a pg_dump%s"
                             " with --pg-bindir",
                             dest, source < dest ? arena_printf(p->scratch, " (%d to %d)", source, dest) : ""));
    return true;
}

/*
 * A pooler in transaction mode gives each statement whatever server session is free: the snapshot, the settings and the
 * locks of ours would be lost without any error. Seen by a setting that is gone or another server process. With one
 * idle server session such a pooler looks just right; but poolers make up the process number that they tell at login.
 */
bool check_source_session(Preflight *p, Error *err) {
    DbConn *conn = p->input->source;
    CLEANUP(db_result_freep) DbResult *before = NULL;
    CLEANUP(db_result_freep) DbResult *after = NULL;
    const char *const params[] = {SESSION_MARK};
    if (!db_query(conn, "SELECT pg_catalog.set_config('pgcrane.session', $1, false), pg_catalog.pg_backend_pid()", 1,
                  params, &before, err) ||
        !preflight_query(p, DB_SOURCE,
                         "SELECT pg_catalog.current_setting('pgcrane.session', true), pg_catalog.pg_backend_pid()",
                         &after, err))
        return false;
    if (strcmp(db_text(after, 0, 0), SESSION_MARK) != 0 || db_int64(before, 0, 1) != db_int64(after, 0, 1))
        finding_add(
            p, CHECK_SOURCE_POOLED, "",
            "a pooler between pgcrane and the source changes the session between two statements, so no snapshot "
            "can be held",
            "connect to the server itself, or use a pool with pool_mode = session");
    else if (db_int64(after, 0, 1) != db_backend_pid(conn))
        finding_add(p, CHECK_SOURCE_POOLER, "",
                    "a pooler stands between pgcrane and the source: it must be in session mode, and a statement that "
                    "is cancelled may go on",
                    "connect to the server itself");
    return true;
}

bool check_source_standby(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_STANDBY,
        .side = DB_SOURCE,
        .columns = 2,
        .sql = "SELECT pg_catalog.current_setting('hot_standby_feedback'),"
               " pg_catalog.current_setting('max_standby_streaming_delay') WHERE pg_catalog.pg_is_in_recovery()",
        .object = "",
        .message =
            "the source is a standby, which cancels reads that stand in the way of replay (hot_standby_feedback ="
            " {1}, max_standby_streaming_delay = {2})",
        .fix = "ALTER SYSTEM SET hot_standby_feedback = on; ALTER SYSTEM SET max_standby_streaming_delay = -1;"
               " SELECT pg_reload_conf(); -- on the standby, for the time of the load",
    };
    /* With --follow there is a sharper row for it. */
    return p->input->options->follow || check_by_sql(p, &check, err);
}

/* The setting was removed in PostgreSQL 17. */
bool check_source_snapshot_threshold(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_OLD_SNAPSHOT_THRESHOLD,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT pg_catalog.current_setting('old_snapshot_threshold') FROM pg_catalog.pg_settings s"
               " WHERE s.name = 'old_snapshot_threshold' AND s.setting <> '-1'",
        .object = "",
        .message = "old_snapshot_threshold = {1} ends the load's snapshot in mid-copy (\"snapshot too old\")",
        .fix = "ALTER SYSTEM SET old_snapshot_threshold = -1; -- then restart the server",
    };
    return check_by_sql(p, &check, err);
}

/* The lock table is one piece of shared memory: when pg_dump fills it, the application's statements fail too. */
bool check_source_locks(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_LOCKS,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT t.count, s.slots * s.per_slot, t.count / s.slots + 1 + s.per_slot"
               " FROM (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c"
               "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               "  WHERE c.relkind IN ('r', 'p') AND " SQL_USER_SCHEMA ") t,"
               " (SELECT pg_catalog.current_setting('max_connections')::bigint"
               "   + pg_catalog.current_setting('max_prepared_transactions')::bigint AS slots,"
               "   pg_catalog.current_setting('max_locks_per_transaction')::bigint AS per_slot) s"
               " WHERE t.count > s.slots * s.per_slot",
        .object = "",
        .message = "the source has {1} tables, each of which pg_dump locks, and a lock table for {2}",
        .fix = "ALTER SYSTEM SET max_locks_per_transaction = {3}; -- then restart the server",
    };
    return check_by_sql(p, &check, err);
}

bool check_source_prepared(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_SOURCE_PREPARED_TRANSACTION,
        .side = DB_SOURCE,
        .columns = 4,
        .sql = "SELECT x.gid, pg_catalog.date_trunc('second', x.prepared), x.owner, pg_catalog.quote_literal(x.gid)"
               " FROM pg_catalog.pg_prepared_xacts x WHERE x.database = pg_catalog.current_database()"
               " ORDER BY x.prepared",
        .object = "prepared transaction {1}",
        .message =
            "it was prepared by {3} at {2} and never ended: its rows do not move, and its locks may block the load",
        .fix = "COMMIT PREPARED {4}; -- or ROLLBACK PREPARED",
    };
    /* With --follow there is a sharper row for it. */
    return p->input->options->follow || check_by_sql(p, &check, err);
}
