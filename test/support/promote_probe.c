/*
 * Follows one database into another and promotes it, for the integration tests:
 *
 *     promote_probe SOURCE DEST JOB [OPTION=VALUE...]
 *
 * The destination has the source's tables and rows already; nobody writes while the slot is made. OPTION is one of
 * migrate's (fence, fence-timeout, hook-before, dry-run, ...), or large-objects=yes, lists=yes (no publication of all
 * tables), undo-only=yes (what a run does first after a crash). Prints {"ready": true} when it follows, promotes at the
 * next line of stdin, again at each further one as long as the promote was called off, and ends with stdin. One JSON
 * object a line.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/ledger/position.h"
#include "engine/promote/promote.h"
#include "pg/quote.h"
#include "support/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Probe {
    Arena *arena;
    DbTarget source_target, dest_target;
    DbConn *source, *dest;
    Ledger ledger;
    SeamNames names;
    const char *publications[3];
    Stop stop;
    MigrateOptions options;
    bool large_objects, undo_only, lists;
    Plan plan;
    FollowTable *tables;
    LoadParams load;
    Follow *follow;
    NotMovedVec not_moved;
};

static void on_event(void *context, const char *level, const char *text) {
    (void)context;
    say(json_pack("{s:s, s:s}", "event", text, "level", level));
}

static void on_opened(void *context) {
    Probe *probe = context;

    follow_stopp(&probe->follow);
}

static bool set_option(Probe *probe, const char *text, Error *err) {
    const char *equals = strchr(text, '=');
    size_t len = equals == NULL ? strlen(text) : (size_t)(equals - text);
    const char *value = equals == NULL ? "true" : equals + 1;

    if (strncmp(text, "large-objects=", 14) == 0)
        return probe->large_objects = true;
    if (strncmp(text, "undo-only=", 10) == 0)
        return probe->undo_only = true;
    if (strncmp(text, "lists=", 6) == 0)
        return probe->lists = true;
    for (size_t i = 0; i < option_infos_count; i++)
        if (strlen(option_infos[i].flag) == len && strncmp(option_infos[i].flag, text, len) == 0)
            return options_set(probe->arena, &probe->options, &option_infos[i], value, err);
    return error_set(err, REASON_USAGE, "unknown option %s", text);
}

/* All tables of the source, as if they had been copied at L0. */
static bool read_tables(Probe *probe, Lsn l0, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(probe->source,
                  "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c"
                  " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                  " WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'",
                  0, NULL, &rows, err))
        return false;
    probe->plan.count = (size_t)db_rows(rows);
    probe->plan.tables = arena_array(probe->arena, PlanTable, probe->plan.count + 1);
    probe->tables = arena_array(probe->arena, FollowTable, probe->plan.count + 1);
    for (int i = 0; i < db_rows(rows); i++) {
        probe->plan.tables[i] = (PlanTable){
            .oid = (uint32_t)db_int64(rows, i, 0),
            .schema = arena_strdup(probe->arena, db_text(rows, i, 1)),
            .name = arena_strdup(probe->arena, db_text(rows, i, 2)),
        };
        probe->tables[i] = (FollowTable){.oid = probe->plan.tables[i].oid, .picture = {.xmin = 3, .xmax = 3, .w = l0}};
    }
    return true;
}

static bool start(Probe *probe, Error *err) {
    FollowParams params = {
        .source_target = &probe->source_target,
        .dest_target = &probe->dest_target,
        .ledger = &probe->ledger,
        .slot = probe->names.slot,
        .publications = probe->publications,
    };
    SeamTable *identities = NULL;
    size_t count = 0;
    Lsn l0 = 0;

    probe->publications[0] = probe->names.publication_all;
    probe->publications[1] = probe->names.publication_keys;
    if (!seam_read_identities(probe->source, probe->arena, &identities, &count, err) ||
        !seam_publish(probe->source, probe->dest, &probe->ledger, &probe->names, identities, count, !probe->lists,
                      err) ||
        !seam_slot(&probe->source_target, probe->source, probe->dest, &probe->ledger, &probe->names, &probe->stop, NULL,
                   NULL, &l0, err) ||
        !position_init(probe->dest, &probe->ledger, 0, l0, err) || !read_tables(probe, l0, err))
        return false;
    params.tables = probe->tables;
    params.tables_count = probe->plan.count;
    return follow_start(&params, &probe->follow, err);
}

static void say_result(const PromoteResult *result) {
    json_t *steps = json_object(), *notes = json_array();

    for (int i = 0; i < PROMOTE_STEP_MAX_; i++)
        json_object_set_new(steps, promote_step_name((PromoteStep)i), json_integer(result->step_us[i]));
    for (size_t i = 0; i < result->notes.len; i++)
        json_array_append_new(notes, json_string(result->notes.items[i]));
    say(json_pack("{s:b, s:b, s:I, s:I, s:I, s:o, s:o}", "opened", result->opened, "proven", result->proven,
                  "outage_us", (json_int_t)result->outage_us, "tables_copied", (json_int_t)result->tables_copied,
                  "large_objects", (json_int_t)result->large_objects, "steps", steps, "notes", notes));
}

static bool promote(Probe *probe, Error *err) {
    const PromoteParams params = {
        .options = &probe->options,
        .load = &probe->load,
        .source = probe->source,
        .dest = probe->dest,
        .source_target = &probe->source_target,
        .dest_target = &probe->dest_target,
        .job_id = probe->ledger.job_id,
        .folder = getenv("HOME"), /* the harness makes one for each program */
        .names = probe->names,
        .follow = probe->follow,
        .tables = probe->tables,
        .tables_count = probe->plan.count,
        .not_moved = &probe->not_moved,
        .drift = {.indexes = true, .foreign_keys = true, .objects = true},
        .stop = &probe->stop,
        .event = on_event,
        .opened = on_opened,
        .context = probe,
    };
    PromoteResult result = {0};

    if (!promote_run(&params, probe->arena, &result, err))
        return false;
    say_result(&result);
    return true;
}

static bool undo(Probe *probe, Error *err) {
    StringVec left = {0};
    bool undone = false;

    if (!promote_undo(probe->source, probe->dest, &probe->ledger, probe->arena, &undone, &left, err))
        return false;
    say(json_pack("{s:b}", "undone", undone));
    return true;
}

static bool serve(Probe *probe, Error *err) {
    char line[100];

    if (probe->undo_only)
        return undo(probe, err);
    if (!start(probe, err))
        return false;
    say(json_pack("{s:b}", "ready", true));
    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (strcmp(line, "stop\n") == 0)
            stop_request(&probe->stop);
        if (promote(probe, err))
            continue;
        say_error(err);
    }
    follow_stopp(&probe->follow);
    return true;
}

static bool open_all(Probe *probe, char **argv, Error *err) {
    const LedgerIdentity identity = {
        .job_id = argv[3], .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};
    static const Toc no_toc;
    static const LedgerSnapshot no_snapshot = {.id = 1};

    options_init(&probe->options);
    for (char **option = argv + 4; *option != NULL; option++)
        if (!set_option(probe, *option, err))
            return false;
    probe->names = seam_names(probe->arena, argv[3]);
    if (!stop_init(&probe->stop, err) || !db_open(&probe->source_target, "probe", &probe->stop, &probe->source, err) ||
        !db_open(&probe->dest_target, "probe", &probe->stop, &probe->dest, err) ||
        !ledger_take(probe->dest, probe->arena, &identity, &probe->ledger, err))
        return false;
    probe->load = (LoadParams){
        .ledger = &probe->ledger,
        .snapshot = &no_snapshot,
        .plan = &probe->plan,
        .toc = &no_toc,
        .data_only = true,
        .large_objects = probe->large_objects,
        .tracker = tracker_new(),
        .stop = &probe->stop,
    };
    return true;
}

int main(int argc, char **argv) {
    Error err = {0};

    if (argc < 4)
        return 64;
    log_init(2, LOG_DEBUG);
    Probe probe = {
        .arena = arena_new(),
        .source_target = {.side = DB_SOURCE, .conninfo = argv[1], .job_id = argv[3]},
        .dest_target = {.side = DB_DEST, .conninfo = argv[2], .job_id = argv[3]},
    };
    bool ok = open_all(&probe, argv, &err) && serve(&probe, &err);

    if (!ok)
        say_error(&err);
    db_closep(&probe.source);
    db_closep(&probe.dest);
    tracker_freep(&probe.load.tracker);
    stop_fini(&probe.stop);
    arena_free(probe.arena);
    return ok ? 0 : 1;
}
