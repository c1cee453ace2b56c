/*
 * Runs the guard and the replica identities for the integration tests:
 *
 *     guard_probe SOURCE DEST JOB STEP...
 *
 * read, timeline=SYSTEM,TIMELINE,LSN, record=TIMELINE, identity-full, identity-undo. Prints one JSON object
 * a line; the exit code is 0 when all steps succeeded.
 */
#include "common/json.h"
#include "common/log.h"
#include "engine/guard/guard.h"
#include "engine/seam/identity_full.h"
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
    Stop stop;
};

static bool run_read(Probe *probe, const char *argument, Error *err) {
    GuardReading reading;

    (void)argument;
    if (!guard_read(probe->source, probe->arena, probe->names.slot, &reading, err))
        return false;
    say(json_pack("{s:{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:b}}", "reading", "current",
                  lsn_format(probe->arena, reading.current), "restart", lsn_format(probe->arena, reading.restart),
                  "confirmed", lsn_format(probe->arena, reading.confirmed), "retained",
                  (json_int_t)reading.retained_bytes, "limit", (json_int_t)reading.limit_bytes, "left",
                  (json_int_t)reading.left_bytes, "status", reading.wal_status, "age",
                  (json_int_t)reading.catalog_xmin_age, "active", (int)reading.active));
    return true;
}

static bool run_timeline(Probe *probe, const char *argument, Error *err) {
    char system[64], lsn[64];
    JournalStream stream = {.slot = probe->names.slot, .system_identifier = system};
    Lsn behind = 0;
    int timeline = 0;

    if (sscanf(argument, "%63[^,],%d,%63s", system, &timeline, lsn) != 3 || !lsn_parse(lsn, &behind))
        return error_set(err, REASON_USAGE, "timeline=SYSTEM,TIMELINE,LSN");
    stream.timeline = timeline;
    if (!guard_check_timeline(&probe->source_target, &probe->stop, &stream, behind, err))
        return false;
    say(json_pack("{s:i}", "timeline", (int)stream.timeline));
    return true;
}

static bool run_record(Probe *probe, const char *argument, Error *err) {
    const JournalStream stream = {.slot = probe->names.slot, .l0 = 1, .system_identifier = "1", .timeline = 1};

    return journal_set_stream(probe->dest, &probe->ledger, &stream, err) &&
           guard_record_timeline(probe->dest, &probe->ledger, (int32_t)strtol(argument, NULL, 10), err);
}

static bool run_identity_full(Probe *probe, const char *argument, Error *err) {
    SeamTable *tables = NULL;
    SeamLeft *left = NULL;
    size_t count = 0, left_count = 0;
    json_t *said = json_object();

    (void)argument;
    bool good = seam_read_identities(probe->source, probe->arena, &tables, &count, err) &&
                seam_identity_full_set(probe->source, probe->dest, &probe->ledger, tables, count, probe->arena, &left,
                                       &left_count, err);
    for (size_t i = 0; i < left_count; i++)
        json_object_set_new(said, left[i].quoted, json_string(left[i].why));
    say(json_pack("{s:o}", "left", said));
    return good;
}

static bool run_identity_undo(Probe *probe, const char *argument, Error *err) {
    (void)argument;
    return seam_identity_full_undo(probe->source, probe->dest, &probe->ledger, err);
}

static const struct {
    const char *name; /* with '=': what follows is the argument */
    bool (*run)(Probe *probe, const char *argument, Error *err);
} steps[] = {
    {"read", run_read},
    {"timeline=", run_timeline},
    {"record=", run_record},
    {"identity-full", run_identity_full},
    {"identity-undo", run_identity_undo},
};

static bool run_step(Probe *probe, const char *step, Error *err) {
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        size_t len = strlen(steps[i].name);

        if (strncmp(step, steps[i].name, len) == 0 && (steps[i].name[len - 1] == '=' || step[len] == '\0'))
            return steps[i].run(probe, step + len, err);
    }
    return error_set(err, REASON_USAGE, "unknown step %s", step);
}

static bool run_all(Probe *probe, char **argv, Error *err) {
    const LedgerIdentity identity = {
        .job_id = argv[3], .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};

    probe->names = seam_names(probe->arena, argv[3]);
    if (!stop_init(&probe->stop, err) || !db_open(&probe->source_target, "probe", &probe->stop, &probe->source, err) ||
        !db_open(&probe->dest_target, "probe", &probe->stop, &probe->dest, err) ||
        !ledger_take(probe->dest, probe->arena, &identity, &probe->ledger, err))
        return false;
    return probe_run_steps(probe, argv + 4, run_step, err);
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
    stop_fini(&probe.stop);
    arena_free(probe.arena);
    return good ? 0 : 1;
}
