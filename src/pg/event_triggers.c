#include "pg/event_triggers.h"

#include "pg/query.h"

enum { EVENT_TRIGGERS_VERSION = 170000 };

static const struct {
    const char *name, *value;
    int version;
} silencers[] = {{"event_triggers", "off", EVENT_TRIGGERS_VERSION}, {"session_replication_role", "replica", 0}};

bool event_triggers_silence(DbConn *conn, const char **ret_set, Error *err) {
    *ret_set = NULL;
    if (!db_exec(conn, "SAVEPOINT " EVENT_TRIGGERS_SAVEPOINT, err))
        return false;
    for (size_t i = 0; i < COUNT_OF(silencers); i++) {
        if (db_version(conn) < silencers[i].version)
            continue;
        if (db_execf(conn, err, "SET LOCAL %s = %s", silencers[i].name, silencers[i].value)) {
            *ret_set = silencers[i].name;
            return true;
        }
        if (err->retryable || db_is_broken(conn) ||
            !db_exec(conn, "ROLLBACK TO SAVEPOINT " EVENT_TRIGGERS_SAVEPOINT, err))
            return false;
    }
    return true;
}

bool event_triggers_blame(DbConn *conn, const char *command, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool raised = err->reason == REASON_SQL_FAILED && !db_is_broken(conn);
    const char *triggers = raised ? event_triggers_on(conn, arena, command) : "";

    if (triggers[0] != '\0')
        error_remedy(
            err,
            "event triggers of the %s may have refused %s (%.300s): ALTER EVENT TRIGGER ... DISABLE there, run"
            " the same command again, then ENABLE (ALWAYS or REPLICA, as it was), also where it arrived disabled",
            db_side_name(db_conn_side(conn)), command, triggers);
    return false;
}

const char *event_triggers_on(DbConn *conn, Arena *arena, const char *command) {
    Error ignored;
    char *names = NULL;

    if (!db_query_value(conn, arena,
                        "SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(evtname), ', ' ORDER BY evtname),"
                        " '') FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND evtname !~ '^pgcrane_'"
                        " AND evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop')"
                        " AND $1 = ANY (coalesce(evttags, ARRAY[$1]))",
                        1, (const char *const[]){command}, &names, &ignored))
        return "";
    return names;
}
