/*
 * Runs steps of following one after the other, for the integration tests:
 *
 *     follow_probe SOURCE DEST JOB STEP...
 *
 * Before start:  position=LSN  tables (all of the source, as copied under a snapshot now; without it everything is
 *                unknown)  picture=TEXT,LSN (for all tables)  unknown=yes|no (the hook's answer)  hooks=no
 *                rows=N  bytes=N (of a batch)
 * start, stop; wait=LSN, wait-now (the source's end of WAL), settled (nothing pending or in flight), check,
 * wait-failure, status, tables, wait-stdin (reads a line), memory (largest resident size so far).
 * Prints one JSON object a line, as it goes; the exit code is 0 when all steps succeeded.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/follow/follow.h"
#include "support/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATIENCE_US (60 * USEC_PER_SEC)

struct Probe {
    Arena *arena;
    DbTarget source_target, dest_target;
    DbConn *source, *dest;
    Ledger ledger;
    SeamNames names;
    Stop stop;
    const char *publications[3];
    FollowTable *tables;
    size_t tables_count;
    SeamPicture picture;
    FollowParams params;
    bool unknown_answer;
    Follow *follow;
};

/* --- Hooks -------------------------------------------------------------------------------------------------------- */

static bool unknown_table(void *context, DbConn *dest, const PgoRelation *relation, bool *ret_apply, Error *err) {
    const Probe *probe = context;

    (void)dest;
    (void)err;
    say(json_pack("{s:s}", "unknown", relation->name));
    *ret_apply = probe->unknown_answer;
    return true;
}

/* A message "pgcrane.sql" is run on the destination. */
static bool run_message(void *context, DbConn *dest, const PgoLogical *message, Error *err) {
    (void)context;
    say(json_pack("{s:s, s:s%}", "message", message->prefix, "content", message->content, (size_t)message->len));
    return strcmp(message->prefix, "pgcrane.sql") != 0 || db_exec(dest, message->content, err);
}

/* --- Before ------------------------------------------------------------------------------------------------------- */

static bool set_picture(Probe *probe, const char *text, Error *err) {
    const char *comma = strrchr(text, ',');
    Lsn w = 0;

    if (comma == NULL || !lsn_parse(comma + 1, &w))
        return error_set(err, REASON_USAGE, "no picture: %s", text);
    return seam_picture_parse(probe->arena, arena_strndup(probe->arena, text, (size_t)(comma - text)), w,
                              &probe->picture, err);
}

static bool read_tables(Probe *probe, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(probe->source,
                  "SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'r'"
                  " AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')",
                  0, NULL, &rows, err))
        return false;
    probe->tables_count = (size_t)db_rows(rows);
    probe->tables = arena_array(probe->arena, FollowTable, probe->tables_count);
    for (int i = 0; i < db_rows(rows); i++)
        probe->tables[i] = (FollowTable){.oid = (uint32_t)db_int64(rows, i, 0), .picture = probe->picture};
    return true;
}

static bool set_position(Probe *probe, const char *text, Error *err) {
    Lsn lsn = 0;

    return (lsn_parse(text, &lsn) || error_set(err, REASON_USAGE, "no position: %s", text)) &&
           position_init(probe->dest, &probe->ledger, 0, lsn, err);
}

static bool set_option(Probe *probe, const char *name, const char *value, Error *err) {
    if (strcmp(name, "position") == 0)
        return set_position(probe, value, err);
    if (strcmp(name, "picture") == 0)
        return set_picture(probe, value, err);
    if (strcmp(name, "unknown") == 0)
        probe->unknown_answer = strcmp(value, "yes") == 0;
    else if (strcmp(name, "hooks") == 0)
        probe->params.hooks = (FollowHooks){0};
    else if (strcmp(name, "rows") == 0)
        probe->params.batch_rows = strtoul(value, NULL, 10);
    else if (strcmp(name, "bytes") == 0)
        probe->params.batch_bytes = strtoul(value, NULL, 10);
    else
        return error_set(err, REASON_USAGE, "unknown option %s", name);
    return true;
}

/* --- Meanwhile ---------------------------------------------------------------------------------------------------- */

static bool start(Probe *probe, Error *err) {
    FollowParams params = probe->params;

    params.tables = probe->tables;
    params.tables_count = probe->tables_count;
    return follow_start(&params, &probe->follow, err);
}

static bool stop(Probe *probe, Error *err) {
    (void)err;
    follow_stopp(&probe->follow);
    return true;
}

static bool wait_for(Probe *probe, Lsn lsn, Error *err) {
    switch (follow_wait(probe->follow, lsn, clock_now_us() + PATIENCE_US, &probe->stop, err)) {
    case FOLLOW_REACHED:
        return true;
    case FOLLOW_FAILED:
        return false;
    case FOLLOW_TIMEOUT:
        return error_set(err, REASON_TIMED_OUT, "%s was not reached", lsn_format(probe->arena, lsn));
    case FOLLOW_STOPPED:
        break;
    }
    return error_set(err, REASON_CANCELLED, "stopped");
}

static bool wait_now(Probe *probe, Error *err) {
    char *text = NULL;
    Lsn lsn = 0;

    /* The flushed end: records that nobody flushes are not sent. */
    return db_query_value(probe->source, probe->arena, "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0, NULL, &text,
                          err) &&
           (lsn_parse(text, &lsn) || error_set(err, REASON_INTERNAL, "%s", text)) && wait_for(probe, lsn, err);
}

static bool check(Probe *probe, Error *err) {
    return follow_check(probe->follow, err);
}

static bool wait_failure(Probe *probe, Error *err) {
    return wait_for(probe, UINT64_MAX, err);
}

static bool settled(Probe *probe, Error *err) {
    FollowStatus status;

    for (int64_t deadline = clock_now_us() + PATIENCE_US; clock_now_us() < deadline; clock_sleep_us(5000)) {
        follow_status(probe->follow, &status);
        if (!follow_check(probe->follow, err))
            return false;
        if (status.pending_time_us == 0 && status.last_change != 0)
            return true;
    }
    return error_set(err, REASON_TIMED_OUT, "changes are still pending");
}

static bool say_status(Probe *probe, Error *err) {
    FollowStatus s;

    (void)err;
    follow_status(probe->follow, &s);
    say(json_pack(
        "{s:{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}}", "status", "received",
        lsn_format(probe->arena, s.received), "applied", lsn_format(probe->arena, s.applied), "source_end",
        lsn_format(probe->arena, s.source_end), "last_change", lsn_format(probe->arena, s.last_change), "last_marker",
        lsn_format(probe->arena, s.last_marker), "transactions", (json_int_t)s.transactions, "skipped",
        (json_int_t)s.skipped, "ignored", (json_int_t)s.ignored, "inserts", (json_int_t)s.counts.inserts, "updates",
        (json_int_t)s.counts.updates, "deletes", (json_int_t)s.counts.deletes, "truncates",
        (json_int_t)s.counts.truncates, "applied_time", (json_int_t)s.applied_time_us, "pending_time",
        (json_int_t)s.pending_time_us, "server_time", (json_int_t)s.server_time_us, "replica", s.replica_role));
    return true;
}

static bool say_tables(Probe *probe, Error *err) {
    FollowTableCount *counts = NULL;
    size_t count = 0;
    json_t *all = json_array();

    (void)err;
    follow_tables(probe->follow, probe->arena, &counts, &count);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(all, json_pack("[s, I, I, I, I]", counts[i].display, (json_int_t)counts[i].inserts,
                                             (json_int_t)counts[i].updates, (json_int_t)counts[i].deletes,
                                             (json_int_t)counts[i].truncates));
    say(json_pack("{s:o}", "tables", all));
    return true;
}

static bool say_memory(Probe *probe, Error *err) {
    struct rusage usage;

    (void)probe;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return error_errno(err, REASON_SYSTEM, "getrusage");
    say(json_pack("{s:I}", "memory", (json_int_t)usage.ru_maxrss * 1024));
    return true;
}

static bool wait_stdin(Probe *probe, Error *err) {
    char byte = 0;

    (void)probe;
    (void)err;
    while (byte != '\n' && read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return true;
}

static const struct {
    const char *name;
    bool (*run)(Probe *probe, Error *err);
} steps[] = {
    {"tables", read_tables},
    {"start", start},
    {"stop", stop},
    {"wait-now", wait_now},
    {"wait-failure", wait_failure},
    {"settled", settled},
    {"check", check},
    {"status", say_status},
    {"counts", say_tables},
    {"memory", say_memory},
    {"wait-stdin", wait_stdin},
};

static bool run_step(Probe *probe, const char *step, Error *err) {
    const char *equals = strchr(step, '=');
    Lsn lsn = 0;

    if (strncmp(step, "wait=", 5) == 0)
        return lsn_parse(step + 5, &lsn) && wait_for(probe, lsn, err);
    if (equals != NULL)
        return set_option(probe, arena_strndup(probe->arena, step, (size_t)(equals - step)), equals + 1, err);
    for (size_t i = 0; i < COUNT_OF(steps); i++)
        if (strcmp(step, steps[i].name) == 0)
            return steps[i].run(probe, err);
    return error_set(err, REASON_USAGE, "unknown step %s", step);
}

/* --- All ---------------------------------------------------------------------------------------------------------- */

static bool open_both(Probe *probe, const char *job_id, Error *err) {
    const LedgerIdentity identity = {
        .job_id = job_id, .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};

    probe->names = seam_names(probe->arena, job_id);
    probe->publications[0] = probe->names.publication_all;
    probe->publications[1] = probe->names.publication_keys;
    probe->params = (FollowParams){.source_target = &probe->source_target,
                                   .dest_target = &probe->dest_target,
                                   .ledger = &probe->ledger,
                                   .slot = probe->names.slot,
                                   .publications = probe->publications,
                                   .stop = &probe->stop,
                                   .hooks = {.context = probe, .unknown_table = unknown_table, .message = run_message}};
    return stop_init(&probe->stop, err) && db_open(&probe->source_target, "probe", &probe->stop, &probe->source, err) &&
           db_open(&probe->dest_target, "probe", &probe->stop, &probe->dest, err) &&
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
    follow_stopp(&probe.follow);
    db_close(probe.source);
    db_close(probe.dest);
    stop_fini(&probe.stop);
    arena_free(probe.arena);
    return good ? 0 : 1;
}
