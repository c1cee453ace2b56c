/*
 * Runs the parts of the DDL capture one after the other, for the integration tests:
 *
 *     ddl_probe SOURCE DEST JOB STEP...
 *
 * drift (with indexes and foreign keys), publish (FOR ALL TABLES), publish-lists, install, remove; replay
 * reads captured messages from stdin, one a line, and runs each in a transaction of its own. Prints one JSON object a
 * line; the exit code is 0 when all steps succeeded.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ddl/drift.h"
#include "engine/ddl/replay.h"
#include "support/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Probe {
    Arena *arena;
    DbTarget source_target, dest_target;
    DbConn *source, *dest;
    Ledger ledger;
    SeamNames names;
};

/* Tables named skip_... stand for those that are not migrated. */
static bool is_wanted(void *context, const char *schema, const char *name) {
    (void)context;
    (void)schema;
    return strncmp(name, "skip_", 5) != 0;
}

static bool run_drift(Probe *probe, Error *err) {
    const DriftParams params = {.wanted = is_wanted,
                                .indexes = true,
                                .foreign_keys = true,
                                .objects = true,
                                .ignore_schema = ddl_capture_schema(probe->arena, &probe->names)};
    DriftVec drifts = {0};
    int64_t started = clock_now_us();

    if (!drift_compare(probe->source, probe->dest, probe->arena, &params, &drifts, err))
        return false;
    for (size_t i = 0; i < drifts.len; i++)
        say(json_pack("{s:{s:b, s:I, s:s, s:s, s:s}}", "drift", "note", drifts.items[i].note, "table",
                      (json_int_t)drifts.items[i].table, "object", drifts.items[i].object, "message",
                      drifts.items[i].message, "fix", drifts.items[i].fix));
    say(json_pack("{s:I}", "drift_us", (json_int_t)(clock_now_us() - started)));
    return true;
}

static bool run_publish(Probe *probe, bool all_tables, Error *err) {
    SeamTable *tables = NULL;
    size_t count = 0;

    return seam_read_identities(probe->source, probe->arena, &tables, &count, err) &&
           seam_publish(probe->source, probe->dest, &probe->ledger, &probe->names, tables, count, all_tables, err);
}

/* --- Replay ------------------------------------------------------------------------------------------------------- */

/* All that a command could leave behind in the session. */
#define SESSION_SQL                                                                                                    \
    "SELECT pg_catalog.concat_ws('|', current_user, pg_catalog.current_setting('role'),"                               \
    " pg_catalog.current_setting('search_path'), pg_catalog.current_setting('timezone'),"                              \
    " pg_catalog.current_setting('datestyle'), pg_catalog.current_setting('intervalstyle'))"

static const char *outcome_name(DdlOutcome outcome) {
    static const char *const names[] = {
        [DDL_APPLIED] = "applied", [DDL_IGNORED] = "ignored", [DDL_SUSPECT] = "suspect", [DDL_FORGED] = "forged"};

    return names[outcome];
}

static void say_result(const DdlResult *result) {
    json_t *tables = json_array(), *rows = json_array();

    for (size_t i = 0; i < result->tables_count; i++)
        json_array_append_new(tables, json_integer(result->tables[i]));
    for (size_t i = 0; i < result->rows_count; i++)
        json_array_append_new(rows, json_string(result->rows[i].name));
    say(json_pack("{s:{s:s, s:s, s:s, s:s, s:o, s:o}}", "replayed", "outcome", outcome_name(result->outcome), "what",
                  result->what, "reason", result->reason, "query", result->query == NULL ? "" : result->query, "tables",
                  tables, "rows", rows));
}

static bool replay_one(Probe *probe, DdlStream *stream, const char *content, size_t len, Error *err) {
    DdlResult result = {0};
    char *before = NULL, *after = NULL;

    if (!db_exec(probe->dest, "BEGIN", err) ||
        !db_query_value(probe->dest, probe->arena, SESSION_SQL, 0, NULL, &before, err) ||
        !ddl_replay(stream, probe->dest, probe->arena, content, len, &result, err) ||
        !db_query_value(probe->dest, probe->arena, SESSION_SQL, 0, NULL, &after, err) ||
        !db_exec(probe->dest, "COMMIT", err))
        return false;
    if (strcmp(before, after) != 0)
        return error_set(err, REASON_INTERNAL, "the session was %s and is %s", before, after);
    say_result(&result);
    return true;
}

static bool run_replay(Probe *probe, Error *err) {
    char *line = NULL;
    size_t size = 0;
    DdlStream stream = {.slot = probe->names.slot, .wanted = is_wanted};
    bool good = ddl_capture_secret(probe->source, probe->arena, &probe->names, &stream.secret, err) &&
                db_exec(probe->dest, "SET session_replication_role = replica", err);

    for (ssize_t len = 0; good && (len = getline(&line, &size, stdin)) > 0;)
        good = replay_one(probe, &stream, line, (size_t)len, err);
    free(line);
    return good;
}

static bool run_step(Probe *probe, const char *step, Error *err) {
    if (strcmp(step, "drift") == 0)
        return run_drift(probe, err);
    if (strcmp(step, "publish") == 0)
        return run_publish(probe, true, err);
    if (strcmp(step, "publish-lists") == 0)
        return run_publish(probe, false, err);
    if (strcmp(step, "install") == 0)
        return ddl_capture_install(probe->source, probe->dest, &probe->ledger, &probe->names, err);
    if (strcmp(step, "remove") == 0)
        return ddl_capture_remove(probe->source, probe->dest, &probe->ledger, &probe->names, err);
    if (strcmp(step, "seam-remove") == 0)
        return seam_remove(probe->source, probe->dest, &probe->ledger, &probe->names, err);
    if (strcmp(step, "replay") == 0)
        return run_replay(probe, err);
    return error_set(err, REASON_USAGE, "unknown step %s", step);
}

static bool open_both(Probe *probe, const char *job_id, Error *err) {
    const LedgerIdentity identity = {
        .job_id = job_id, .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};

    probe->names = seam_names(probe->arena, job_id);
    say(json_pack("{s:s}", "schema", ddl_capture_schema(probe->arena, &probe->names)));
    return db_open(&probe->source_target, "probe", NULL, &probe->source, err) &&
           db_open(&probe->dest_target, "probe", NULL, &probe->dest, err) &&
           ledger_take(probe->dest, probe->arena, &identity, &probe->ledger, err);
}

static bool run_all(Probe *probe, char **argv, Error *err) {
    return open_both(probe, argv[3], err) && probe_run_steps(probe, argv + 4, run_step, err);
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 64;
    Error err = {0};
    Probe probe = {
        .arena = arena_new(),
        .source_target = {.side = DB_SOURCE, .conninfo = argv[1], .job_id = argv[3]},
        .dest_target = {.side = DB_DEST, .conninfo = argv[2], .job_id = argv[3]},
    };

    log_init(STDERR_FILENO, LOG_DEBUG);
    bool good = run_all(&probe, argv, &err);
    if (!good)
        say_error(&err);
    db_close(probe.source);
    db_close(probe.dest);
    arena_free(probe.arena);
    return good ? 0 : 1;
}
