/*
 * Runs steps of the seam one after the other, for the integration tests:
 *
 *     seam_probe SOURCE DEST JOB STEP...
 *
 * identities, publish (FOR ALL TABLES), publish-lists, slot, barrier, marker=TEXT, remove; wait-stdin reads stdin to
 * its end before it goes on; stop-at-eof requests a stop when stdin ends. Prints one JSON object a line, as it goes;
 * the exit code is 0 when all steps succeeded.
 *
 *     seam_probe decide
 *
 * needs no servers: reads lines "PICTURE W COMMIT_LSN XID" and answers each with 1 (the copy has it: skip) or 0.
 */
#include "common/json.h"
#include "common/log.h"
#include "engine/seam/seam.h"
#include "support/probe.h"

#include <pthread.h>
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

static void blocked(void *context, const char *who) {
    (void)context;
    say(json_pack("{s:s}", "blocked", who));
}

static void say_lsn(Probe *probe, const char *key, Lsn lsn) {
    say(json_pack("{s:s}", key, lsn_format(probe->arena, lsn)));
}

static void drain_stdin(void) {
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

static void *stop_at_eof(void *context) {
    drain_stdin();
    stop_request(context);
    return NULL;
}

static bool run_identities(Probe *probe, Error *err) {
    SeamTable *tables = NULL;
    size_t count = 0;
    json_t *found = json_object();

    if (!seam_read_identities(probe->source, probe->arena, &tables, &count, err)) {
        json_decref(found);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        json_object_set_new(found, tables[i].quoted, json_boolean(tables[i].has_identity));
    say(json_pack("{s:o}", "identities", found));
    return true;
}

static bool run_publish(Probe *probe, bool all_tables, Error *err) {
    SeamTable *tables = NULL;
    size_t count = 0;

    return seam_read_identities(probe->source, probe->arena, &tables, &count, err) &&
           seam_publish(probe->source, probe->dest, &probe->ledger, &probe->names, tables, count, all_tables, err);
}

static bool run_slot(Probe *probe, Error *err) {
    Lsn l0 = 0;

    if (!seam_slot(&probe->source_target, probe->source, probe->dest, &probe->ledger, &probe->names, &probe->stop,
                   blocked, NULL, &l0, err))
        return false;
    say_lsn(probe, "l0", l0);
    return true;
}

static bool run_marker(Probe *probe, const char *content, Error *err) {
    Lsn end = 0;

    if (!seam_marker(probe->source, content, &end, err))
        return false;
    say_lsn(probe, "end", end);
    return true;
}

static bool run_step(Probe *probe, const char *step, Error *err) {
    pthread_t thread;

    if (strcmp(step, "identities") == 0)
        return run_identities(probe, err);
    if (strcmp(step, "publish") == 0)
        return run_publish(probe, true, err);
    if (strcmp(step, "publish-lists") == 0)
        return run_publish(probe, false, err);
    if (strcmp(step, "slot") == 0)
        return run_slot(probe, err);
    if (strcmp(step, "barrier") == 0)
        return seam_barrier(probe->source, &probe->stop, blocked, NULL, err);
    if (strncmp(step, "marker=", 7) == 0)
        return run_marker(probe, step + 7, err);
    if (strcmp(step, "remove") == 0)
        return seam_remove(probe->source, probe->dest, &probe->ledger, &probe->names, err);
    if (strcmp(step, "wait-stdin") == 0) {
        drain_stdin();
        return true;
    }
    if (strcmp(step, "stop-at-eof") == 0)
        return pthread_create(&thread, NULL, stop_at_eof, &probe->stop) == 0 && pthread_detach(thread) == 0;
    return error_set(err, REASON_USAGE, "unknown step %s", step);
}

static bool open_both(Probe *probe, const char *job_id, Error *err) {
    const LedgerIdentity identity = {
        .job_id = job_id, .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};

    probe->names = seam_names(probe->arena, job_id);
    say(json_pack("{s:s, s:s, s:s}", "slot", probe->names.slot, "all", probe->names.publication_all, "keys",
                  probe->names.publication_keys));
    return stop_init(&probe->stop, err) && db_open(&probe->source_target, "probe", &probe->stop, &probe->source, err) &&
           db_open(&probe->dest_target, "probe", &probe->stop, &probe->dest, err) &&
           ledger_take(probe->dest, probe->arena, &identity, &probe->ledger, err);
}

static bool run_all(Probe *probe, char **argv, Error *err) {
    return open_both(probe, argv[3], err) && probe_run_steps(probe, argv + 4, run_step, err);
}

enum { SEAM_LINE_MAX = 65536 }; /* a picture lists thousands of xids at most */

/* seam_in_copy() of one line. */
static bool decide_line(const char *line, bool *ret_in_copy, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    SeamPicture picture = {0};
    Lsn w = 0, commit = 0;
    char text[SEAM_LINE_MAX], w_text[32], commit_text[32];
    unsigned xid = 0;

    if (sscanf(line, "%65535s %31s %31s %u", text, w_text, commit_text, &xid) != 4 || !lsn_parse(w_text, &w) ||
        !lsn_parse(commit_text, &commit))
        return error_set(err, REASON_USAGE, "not a question");
    if (!seam_picture_parse(arena, text, w, &picture, err))
        return false;
    *ret_in_copy = seam_in_copy(&picture, commit, xid);
    return true;
}

static int decide_all(void) {
    char line[SEAM_LINE_MAX];
    Error err = {0};

    while (fgets(line, sizeof(line), stdin) != NULL) {
        bool in_copy = false;

        if (!decide_line(line, &in_copy, &err)) {
            (void)fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        (void)puts(in_copy ? "1" : "0");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "decide") == 0)
        return decide_all();
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
