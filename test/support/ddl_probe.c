/*
 * Runs the parts of the DDL capture one after the other, for the integration tests:
 *
 *     ddl_probe SOURCE DEST JOB STEP...
 *
 * drift (with indexes and foreign keys). Prints one JSON object a line; the exit code is 0 when all steps succeeded.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ddl/drift.h"
#include "engine/ddl/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Probe {
    Arena *arena;
    DbTarget source_target, dest_target;
    DbConn *source, *dest;
    Ledger ledger;
    SeamNames names;
} Probe;

static void say(json_t *message) {
    char *text = json_dumps(message, JSON_COMPACT);

    puts(text);
    (void)fflush(stdout);
    free(text);
    json_decref(message);
}

/* Tables named skip_... stand for those that are not migrated. */
static bool is_wanted(void *context, const char *schema, const char *name) {
    (void)context;
    (void)schema;
    return strncmp(name, "skip_", 5) != 0;
}

static bool run_drift(Probe *probe, Error *err) {
    const DriftParams params = {.wanted = is_wanted, .indexes = true, .foreign_keys = true};
    DriftVec drifts = {0};
    int64_t started = clock_now_us();

    if (!drift_compare(probe->source, probe->dest, probe->arena, &params, &drifts, err))
        return false;
    for (size_t i = 0; i < drifts.len; i++)
        say(json_pack("{s:{s:I, s:s, s:s, s:s}}", "drift", "table", (json_int_t)drifts.items[i].table, "object",
                      drifts.items[i].object, "message", drifts.items[i].message, "fix", drifts.items[i].fix));
    say(json_pack("{s:I}", "drift_us", (json_int_t)(clock_now_us() - started)));
    return true;
}

static bool run_step(Probe *probe, const char *step, Error *err) {
    if (strcmp(step, "drift") == 0)
        return run_drift(probe, err);
    return error_set(err, REASON_USAGE, "unknown step %s", step);
}

static bool open_both(Probe *probe, Error *err) {
    return db_open(&probe->source_target, "probe", NULL, &probe->source, err) &&
           db_open(&probe->dest_target, "probe", NULL, &probe->dest, err);
}

static bool run_all(Probe *probe, char **argv, Error *err) {
    if (!open_both(probe, err))
        return false;
    for (char **step = argv + 4; *step != NULL; step++) {
        if (!run_step(probe, *step, err))
            return false;
        say(json_pack("{s:s}", "done", *step));
    }
    return true;
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
        say(json_pack("{s:s, s:s, s:s}", "error", err.message, "reason", error_reason_name(err.reason), "remedy",
                      err.remedy));
    db_close(probe.source);
    db_close(probe.dest);
    arena_free(probe.arena);
    return good ? 0 : 1;
}
