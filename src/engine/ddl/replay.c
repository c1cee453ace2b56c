/*
 * A captured command, run in the applier's transaction.
 *
 * Whoever may run commands on the source decides what is run here, so what he gets here is what he has there: only
 * messages of our own capture are read, and each command runs as the role that ran it. (test_ddl.py has the other need:
 * an owner or grantee that is not here does no harm. That is of the command's text, not of who runs it: OWNER TO and
 * GRANT of a role that is missing are left out, as the restore leaves them out.)
 *
 * In a savepoint: the settings that the command was run with, its role, the command, then the settings as they were. A
 * failure takes all of it back, and the session is as before; the command is then suspect, with the server's reason.
 * Only what may be better next time (a deadlock, a lost connection, a full disk) fails the whole batch.
 *
 * What acts by itself (a trigger that fires always, row level security; without the replica role any trigger, rule or
 * foreign key) must not act while the stream is applied: it is taken back right behind the command that made it. The
 * promote makes all of that as the source has it then (promote/waiting.c), so it does no harm either when such a
 * command cannot be run.
 *
 * One that was run but may have given other values is suspect, too: its tables have the new shape, so that what follows
 * in the stream fits them, and are to be copied again.
 */
#include "engine/ddl/replay.h"

#include "common/log.h"
#include "engine/ddl/replay_internal.h"
#include "engine/seam/seam.h"
#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

/* As they are in a message; the role last, since nothing else may be set by anybody then. */
static const char *const settings[] = {
    "search_path",           "TimeZone",    "DateStyle", "IntervalStyle",
    "transform_null_equals", "array_nulls", "xmloption", "default_text_search_config",
};
enum { SETTINGS = COUNT_OF(settings) };
enum { SET_ROLE_VERSION = 160000 };

typedef struct Replay {
    DbConn *dest;
    Arena *arena;
    const DdlMessage *message;
    DdlResult *result;
    const char *before[SETTINGS];
    const char *role_before, *log_before;
    bool replica_role;
    const char *tablespace_map; /* NULL = none */
} Replay;

static bool suspect(Replay *replay, const char *reason) {
    replay->result->outcome = DDL_SUSPECT;
    replay->result->reason = arena_strdup(replay->arena, reason);
    return true;
}

/* --- Settings ----------------------------------------------------------------------------------------------------- */

static bool read_before(Replay *replay, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = "SELECT pg_catalog.current_setting('role'),"
                      " pg_catalog.current_setting('session_replication_role') = 'replica',"
                      " pg_catalog.current_setting('log_min_error_statement')";

    for (size_t i = 0; i < SETTINGS; i++)
        sql = arena_printf(replay->arena, "%s, pg_catalog.current_setting('%s')", sql, settings[i]);
    if (!db_query(replay->dest, sql, 0, NULL, &row, err))
        return false;
    replay->role_before = arena_strdup(replay->arena, db_text(row, 0, 0));
    replay->replica_role = db_bool(row, 0, 1);
    replay->log_before = arena_strdup(replay->arena, db_text(row, 0, 2));
    for (size_t i = 0; i < SETTINGS; i++)
        replay->before[i] = arena_strdup(replay->arena, db_text(row, 0, 3 + (int)i));
    return true;
}

/* "$user" is who ran it. */
static const char *search_path_of(Replay *replay) {
    const char *path = json_get_string(replay->message->settings, "search_path", "");
    const char *user = strstr(path, "\"$user\"");

    if (user == NULL)
        return path;
    return arena_printf(replay->arena, "%.*s%s%s", (int)(user - path), path,
                        sql_ident(replay->arena, replay->message->role), user + strlen("\"$user\""));
}

static bool set_all(Replay *replay, const char *const *values, const char *role, Error *err) {
    const char *sql = "SELECT ";

    for (size_t i = 0; i < SETTINGS; i++)
        sql = arena_printf(replay->arena, "%s%spg_catalog.set_config('%s', %s, true)", sql, i > 0 ? ", " : "",
                           settings[i], sql_literal(replay->arena, values[i]));
    return db_exec(replay->dest, sql, err) &&
           (role == NULL || db_execf(replay->dest, err, "SELECT pg_catalog.set_config('role', %s, true)",
                                     sql_literal(replay->arena, role)));
}

static bool set_theirs(Replay *replay, const char *role, Error *err) {
    const char *values[SETTINGS];

    for (size_t i = 0; i < SETTINGS; i++)
        values[i] = replay->message->settings == NULL
                        ? replay->before[i]
                        : json_get_string(replay->message->settings, settings[i], replay->before[i]);
    if (replay->message->settings != NULL)
        values[0] = search_path_of(replay);
    return set_all(replay, values, role, err);
}

static bool set_back(Replay *replay, const char *role, Error *err) {
    if (role != NULL && !db_execf(replay->dest, err, "SELECT pg_catalog.set_config('role', %s, true)",
                                  sql_literal(replay->arena, replay->role_before)))
        return false;
    return set_all(replay, replay->before, NULL, err);
}

/* *ret_role NULL = as we are; that is for who has that name, and for who could do there what we can do here. Anybody
 * else's command would gain rights by it: *ret_why says why it is not run. */
static bool find_role(Replay *replay, const char **ret_role, const char **ret_why, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const DdlMessage *message = replay->message;
    const char *right = db_version(replay->dest) >= SET_ROLE_VERSION ? "SET" : "MEMBER";

    *ret_role = NULL;
    *ret_why = NULL;
    if (!db_query(replay->dest,
                  "SELECT rolname = current_user, pg_catalog.pg_has_role(current_user, oid, $2)"
                  " FROM pg_catalog.pg_roles WHERE rolname = $1",
                  2, (const char *const[]){message->role, right}, &row, err))
        return false;
    bool is_here = db_rows(row) == 1;
    if (is_here && db_bool(row, 0, 0))
        return true;
    if (is_here && db_bool(row, 0, 1))
        *ret_role = message->role;
    else if (!message->trusted)
        *ret_why = arena_printf(replay->arena,
                                is_here ? "it was run by role %s, which pgcrane may not become on the destination"
                                        : "it was run by role %s, which the destination does not have",
                                *message->role == '\0' ? "?" : message->role);
    return true;
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

static bool calm(Replay *replay, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = ddl_calm_sql(replay->arena, replay->message, db_version(replay->dest), replay->replica_role);

    if (sql == NULL)
        return true;
    return db_query(replay->dest, sql, 0, NULL, &row, err) &&
           (db_is_null(row, 0, 0) || db_exec(replay->dest, db_text(row, 0, 0), err));
}

/* The server would write what it refuses into its log. Only who may set that can keep it from it. */
static bool hide_statement(const Replay *replay, const char *level, Error *err) {
    if (!ddl_may_hold_password(replay->message))
        return true;
    return db_execf(replay->dest, err,
                    "SELECT pg_catalog.set_config('log_min_error_statement', %s, true) FROM pg_catalog.pg_roles"
                    " WHERE rolname = current_user AND rolsuper",
                    sql_literal(replay->arena, level));
}

/* False = it was refused, and is as if it had never been sent; *ret_usable false = the transaction is lost, too. */
static bool run_in_savepoint(Replay *replay, const char *sql, const char *role, bool *ret_usable, Error *err) {
    Error undo;

    *ret_usable = false;
    if (!db_exec(replay->dest, "SAVEPOINT pgcrane_ddl", err) || !hide_statement(replay, "panic", err))
        return false;
    if (set_theirs(replay, role, err) && db_exec(replay->dest, sql, err) && set_back(replay, role, err) &&
        hide_statement(replay, replay->log_before, err) && calm(replay, err) &&
        db_exec(replay->dest, "RELEASE SAVEPOINT pgcrane_ddl", err))
        return true;
    *ret_usable = !err->retryable && err->reason != REASON_CANCELLED && !db_is_broken(replay->dest) &&
                  db_exec(replay->dest, "ROLLBACK TO SAVEPOINT pgcrane_ddl; RELEASE SAVEPOINT pgcrane_ddl", &undo);
    return false;
}

static bool is_sqlstate(const Error *err, const char *const *states) {
    for (; *states != NULL; states++)
        if (strcmp(err->sqlstate, *states) == 0)
            return true;
    return false;
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* It could not be run, and nothing is missing for it: a role that is not here, or something dropped that is not here.
 */
static bool is_harmless(const DdlMessage *message, const char *sql, const Error *err) {
    static const char *const missing[] = {"42704", "42P01", "42883", "3F000", NULL};
    static const char *const no_role[] = {"42704", NULL};

    if (starts_with(message->tag, "DROP "))
        return is_sqlstate(err, missing);
    return is_sqlstate(err, no_role) && strstr(err->message, "role") != NULL &&
           (starts_with(message->tag, "GRANT") || starts_with(message->tag, "REVOKE") ||
            starts_with(message->tag, "ALTER DEFAULT") || strcasestr(sql, "owner to") != NULL);
}

static bool wait_for_open(Replay *replay, const char *why) {
    log_info("%s waits for the promote: %s", replay->result->what, why);
    replay->result->outcome = DDL_IGNORED;
    return true;
}

static bool run(Replay *replay, const char *sql, Error *err) {
    const char *role = NULL, *why_not = NULL;
    bool usable = false;

    if (!find_role(replay, &role, &why_not, err))
        return false;
    if (why_not != NULL)
        return ddl_waits_for_open(replay->message, sql, replay->replica_role) ? wait_for_open(replay, why_not)
                                                                              : suspect(replay, why_not);
    bool done = run_in_savepoint(replay, sql, role, &usable, err);
    /* A superuser there need not be one here. */
    if (!done && usable && role != NULL && replay->message->trusted && strcmp(err->sqlstate, "42501") == 0)
        done = run_in_savepoint(replay, sql, NULL, &usable, err);
    if (done)
        return true;
    if (!usable)
        return error_wrap(err, "repeating %s", replay->result->what);
    if (ddl_waits_for_open(replay->message, sql, replay->replica_role))
        return wait_for_open(replay, err->message);
    if (!is_harmless(replay->message, sql, err))
        return suspect(replay, arena_printf(replay->arena, "the destination refused it: %s", err->message));
    log_info("%s is not repeated: %s", replay->result->what, err->message);
    replay->result->outcome = DDL_IGNORED;
    return true;
}

/* The statement's text; NULL with *ret_reason when there is none to run. */
static const char *find_statement(Replay *replay, const char **ret_reason) {
    const DdlMessage *message = replay->message;

    if (message->suspect != NULL || message->failed != NULL) {
        *ret_reason = message->suspect != NULL
                          ? message->suspect
                          : arena_printf(replay->arena, "it could not be captured: %s", message->failed);
        return NULL;
    }
    if (message->nested || message->query == NULL) {
        *ret_reason = message->nested ? "it was run inside a function" : "the query that ran it is too long";
        return NULL;
    }
    return ddl_find_statement(replay->arena, message, ret_reason);
}

/* As it can be run here. */
static bool adapt(Replay *replay, const char *sql, const char **ret_sql, Error *err) {
    TablespaceMap map;
    char *standard = NULL;

    *ret_sql = ddl_adapt(replay->arena, sql, replay->message->tag);
    if (replay->tablespace_map == NULL)
        return true;
    if (!tablespace_map_parse(replay->arena, replay->tablespace_map, &map, err) ||
        !db_query_value(replay->dest, replay->arena,
                        "SELECT t.spcname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t"
                        " ON t.oid = d.dattablespace WHERE d.datname = pg_catalog.current_database()",
                        0, NULL, &standard, err))
        return false;
    *ret_sql = ddl_place(replay->arena, *ret_sql, &map, standard);
    return true;
}

static bool run_and_judge(Replay *replay, const char *sql, Error *err) {
    const DdlMessage *message = replay->message;
    const char *dropping = ddl_drop_sql(replay->arena, message, sql), *adapted = dropping;
    DdlColumnVec before, after;

    if (!ddl_read_columns(replay->dest, replay->arena, message, &before, err) ||
        (dropping == NULL && !adapt(replay, sql, &adapted, err)) || !run(replay, adapted, err))
        return false;
    if (replay->result->outcome != DDL_APPLIED)
        return true;
    replay->result->was_run = true;
    if (!ddl_read_columns(replay->dest, replay->arena, message, &after, err))
        return false;
    const char *reason = ddl_why_values_differ(message, sql, &before, &after);
    return reason == NULL || suspect(replay, reason);
}

static bool replay_statement(Replay *replay, Error *err) {
    const DdlMessage *message = replay->message;
    const char *reason = NULL;
    const char *sql = find_statement(replay, &reason);

    if (sql == NULL)
        return ddl_waits_for_open(message, "", replay->replica_role) ? wait_for_open(replay, reason)
                                                                     : suspect(replay, reason);
    if (!read_before(replay, err))
        return error_wrap(err, "repeating %s", replay->result->what);
    reason = ddl_why_not(message, sql, db_version(replay->dest));
    return reason != NULL ? suspect(replay, reason) : run_and_judge(replay, sql, err);
}

/* --- Counting ----------------------------------------------------------------------------------------------------- */

static DdlCount *find_count(DdlStream *stream, const char *tag) {
    for (size_t i = 0; i < stream->counts_len; i++)
        if (strcmp(stream->counts[i].tag, tag) == 0)
            return &stream->counts[i];
    if (stream->counts_len == COUNT_OF(stream->counts))
        return NULL;
    DdlCount *count = &stream->counts[stream->counts_len++];
    (void)snprintf(count->tag, sizeof(count->tag), "%s", tag);
    count->ordinal = 0;
    return count;
}

/* In one query string each number of a tag comes once and they grow, unless the setting that counts was cleared. */
static bool is_recounted(DdlStream *stream, const DdlMessage *message) {
    if (message->string[0] == '\0' || message->nested)
        return false;
    if (strncmp(stream->string, message->string, sizeof(stream->string) - 1) != 0) {
        (void)snprintf(stream->string, sizeof(stream->string), "%s", message->string);
        stream->counts_len = 0;
    }
    DdlCount *count = find_count(stream, message->tag);
    if (count == NULL || message->ordinal <= count->ordinal)
        return true;
    count->ordinal = message->ordinal;
    return false;
}

/* --- What it is about --------------------------------------------------------------------------------------------- */

static bool is_wanted(Arena *arena, const DdlMessage *message, DdlWanted wanted, void *context) {
    bool named = false;

    if (wanted == NULL)
        return true;
    for (size_t i = 0; i < message->tables.len; i++)
        if (wanted(context, message->tables.items[i].schema, message->tables.items[i].name))
            return true;
    if (message->tables.len > 0)
        return false;
    for (size_t i = 0; i < message->objects.len; i++) {
        const DdlObject *object = &message->objects.items[i];
        if (object->schema == NULL || *object->identity == '\0')
            continue;
        named = true;
        if (wanted(context, object->schema, ddl_bare_name(arena, object)))
            return true;
    }
    return !named;
}

static DdlResultTable result_table(const DdlObject *table) {
    return (DdlResultTable){.oid = table->oid, .schema = table->schema, .name = table->name, .shape = table->shape};
}

static void add_shapes(DdlResult *result, const DdlObjectVec *tables) {
    for (size_t i = 0; i < tables->len; i++)
        if (tables->items[i].shape != NULL)
            result->shapes[result->shapes_count++] = result_table(&tables->items[i]);
}

static DdlResult describe(Arena *arena, const DdlMessage *message) {
    const char *about = message->objects.len > 0 ? message->objects.items[0].identity : "";
    DdlResult result = {
        .outcome = DDL_APPLIED,
        .what = *about != '\0' ? arena_printf(arena, "%s %s", message->tag, about) : message->tag,
        .reason = "",
        .tag = message->tag,
        .query = ddl_may_hold_password(message) ? NULL : message->query,
        .objects = arena_array(arena, DdlResultObject, MAX(message->objects.len, 1)),
        .objects_count = message->objects.len,
        .tables = arena_array(arena, uint32_t, message->tables.len),
        .tables_count = message->tables.len,
        .rows = arena_array(arena, DdlResultTable, MAX(message->rows.len, 1)),
        .rows_count = message->rows.len,
        .shapes = arena_array(arena, DdlResultTable, MAX(message->tables.len + message->rows.len, 1)),
    };

    for (size_t i = 0; i < message->tables.len; i++)
        result.tables[i] = message->tables.items[i].oid;
    for (size_t i = 0; i < message->rows.len; i++)
        result.rows[i] = result_table(&message->rows.items[i]);
    add_shapes(&result, &message->tables);
    add_shapes(&result, &message->rows);
    for (size_t i = 0; i < message->objects.len; i++)
        result.objects[i] =
            (DdlResultObject){.kind = message->objects.items[i].kind, .identity = message->objects.items[i].identity};
    return result;
}

static bool is_ignored(const DdlMessage *message) {
    static const char *const tags[] = {"REFRESH MATERIALIZED VIEW", "REINDEX"};

    for (size_t i = 0; i < COUNT_OF(tags); i++)
        if (strcmp(message->tag, tags[i]) == 0)
            return true;
    /* What another migration makes on the source for itself. */
    return message->tables.len == 0 && message->query != NULL && seam_names_a_job(message->query);
}

bool ddl_replay(DdlStream *stream, DbConn *dest, Arena *arena, const char *content, size_t len, DdlResult *ret_result,
                Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    DdlMessage message;
    const char *body = NULL;
    size_t body_len = 0;

    *ret_result = (DdlResult){.outcome = DDL_IGNORED, .what = "", .reason = ""};
    switch (ddl_message_sender(stream, content, len, &body, &body_len)) {
    case DDL_SENDER_OTHER:
        return true;
    case DDL_SENDER_FORGED:
        ret_result->outcome = DDL_FORGED;
        return true;
    case DDL_SENDER_OURS:
        break;
    }
    if (!ddl_message_parse(arena, body, body_len, &json, &message, err))
        return false;
    message.recounted = is_recounted(stream, &message);
    DdlResult result = describe(arena, &message);
    Replay replay = {
        .dest = dest, .arena = arena, .message = &message, .result = &result, .tablespace_map = stream->tablespace_map};

    if (is_ignored(&message) ||
        (message.failed == NULL && !is_wanted(arena, &message, stream->wanted, stream->context)))
        result.outcome = DDL_IGNORED;
    else if (!replay_statement(&replay, err))
        return false;
    *ret_result = result;
    return true;
}
