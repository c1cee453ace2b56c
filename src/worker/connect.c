/* Connections, identity, checks and the dry run: everything before the first change. */
#include "worker/run.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"
#include "common/log.h"
#include "pg/quote.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECONNECT_PATIENCE_US (60 * USEC_PER_SEC)

/* Ranges are read by TID range scans, whatever the planner's costs say; a wrong plan would read the whole table for
 * each range. */
#define SOURCE_LANE_SETUP                                                                                              \
    "SET enable_seqscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_tidscan = on;"      \
    "SET max_parallel_workers_per_gather = 0"
/* A range and its line in the ledger are lost together or not at all, so they need not wait for the disk each. */
#define DEST_LANE_SETUP "SET synchronous_commit = off"

/* --data-only meets tables that have their keys and triggers: rows come in any order, and are final as they are. Where
 * the role may not set it, pre-flight has said so. */
#define DATA_ONLY_LANE_SETUP "SET synchronous_commit = off; SET session_replication_role = replica"

bool run_server_identity(DbConn *conn, Arena *arena, const char **ret_system, const char **ret_database, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),"
                  " (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
                  0, NULL, &row, err)) {
        if (err->reason == REASON_NOT_PERMITTED)
            (void)error_remedy(err, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO %s;",
                               sql_ident(arena, db_user(conn)));
        return error_wrap(err, "asking the %s who it is", db_side_name(db_conn_side(conn)));
    }
    *ret_system = arena_strdup(arena, db_text(row, 0, 0));
    *ret_database = arena_strdup(arena, db_text(row, 0, 1));
    return true;
}

const char *run_make_job_id(Arena *arena, const char *source_system, const char *source_database,
                            const char *dest_system, const char *dest_database) {
    const char *text = arena_printf(arena, "%s/%s>%s/%s", source_system, source_database, dest_system, dest_database);

    return arena_printf(arena, "%016llx", (unsigned long long)hash_text64(text));
}

bool run_open_log(Run *run, Error *err) {
    run->state_dir = arena_printf(run->arena, "%s/%s", run->options.state_dir, run->identity.job_id);
    if (!fd_make_dirs(run->state_dir, err))
        return false;
    const char *path = arena_printf(run->arena, "%s/worker.log", run->state_dir);
    run->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (run->log_fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", path);
    log_init(run->log_fd, run->options.verbose ? LOG_DEBUG : LOG_INFO);
    log_info("pgcrane worker pid=%d job=%s source=%s destination=%s", (int)getpid(), run->identity.job_id,
             run->source_display, run->dest_display);
    return true;
}

static bool identify(Run *run, Error *err) {
    const char *source_system, *source_database, *dest_system, *dest_database;

    if (!run_server_identity(run->source, run->arena, &source_system, &source_database, err) ||
        !run_server_identity(run->dest, run->arena, &dest_system, &dest_database, err))
        return false;
    run->identity = (LedgerIdentity){
        .job_id = run_make_job_id(run->arena, source_system, source_database, dest_system, dest_database),
        .source_system = source_system,
        .source_database = arena_strdup(run->arena, db_name(run->source)),
        .fingerprint = options_fingerprint(run->arena, &run->options),
        .owner = run->owner,
    };
    return true;
}

static int64_t default_lanes(void) {
    return MAX(2, (int64_t)sysconf(_SC_NPROCESSORS_ONLN));
}

void run_set_targets(Run *run) {
    const MigrateOptions *options = &run->options;
    const char *job_id = run->identity.job_id;

    run->source_target = (DbTarget){.side = DB_SOURCE, .conninfo = options->source, .job_id = job_id};
    run->dest_target = (DbTarget){.side = DB_DEST,
                                  .conninfo = options->dest,
                                  .job_id = job_id,
                                  .database = run->dest_absent ? DRY_RUN_MAINTENANCE : NULL};
    run->lane_source_target = run->source_target;
    run->lane_source_target.extra_setup = SOURCE_LANE_SETUP;
    run->lane_dest_target = run->dest_target;
}

static bool tell_job(Run *run, Error *err) {
    return run_send(run, WIRE_JOB,
                    json_pack("{s:s, s:o, s:o}", "job_id", run->identity.job_id, "source",
                              json_string_lossy(run->source_display), "dest", json_string_lossy(run->dest_display)),
                    err);
}

static bool choose_lane_setup(Run *run, Error *err) {
    bool may = db_exec(run->dest, "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK", err);

    db_rollback(run->dest);
    run->replica_role = may;
    if (!may && err->reason != REASON_NOT_PERMITTED)
        return false;
    if (!finish_write_settings(run->source, run->dest, run->arena, &run->write_settings, err))
        return false;
    const char *setup = may && run->options.data_only ? DATA_ONLY_LANE_SETUP : DEST_LANE_SETUP;
    run->lane_dest_target.extra_setup = arena_printf(run->arena, "%s; %s", setup, run->write_settings.session);
    run->apply_target = run->dest_target;
    run->apply_target.extra_setup = run->write_settings.session;
    return true;
}

bool run_is_source_only(const Run *run) {
    return run->is_abort && run->options.source_only;
}

bool run_is_dest_only(const Run *run) {
    return run->is_abort && run->options.dest_only;
}

/* The job's id comes from both servers; that of a job one of whose servers is gone is told. */
static bool connect_one(Run *run, Error *err) {
    const MigrateOptions *options = &run->options;
    bool source = run_is_source_only(run);

    if (run->given_job_id[0] == '\0')
        return error_set(err, REASON_INTERNAL, "an abort of one side alone without the migration's id");
    run->identity.job_id = run->given_job_id;
    run_set_targets(run);
    return db_display(run->arena, options->source, &run->source_display, err) &&
           db_display(run->arena, options->dest, &run->dest_display, err) &&
           (source ? run_open_source_alone(run, err)
                   : db_open(&run->dest_target, "control", &run->stop, &run->dest, err)) &&
           (source || guard_check_dest(run->dest, err)) && tell_job(run, err) && run_open_log(run, err);
}

static bool open_source(Run *run, Error *err) {
    if (db_open(&run->source_target, "control", &run->stop, &run->source, err))
        return true;
    if (run->is_abort && err->reason == REASON_NO_DATABASE) /* whoever aborts has left it out already */
        return error_remedy(err, "one that was renamed or dropped is found from the databases postgres or template1 of"
                                 " its server: let us into one of them; when the source is gone for good: pgcrane abort"
                                 " --dest-only");
    return run->is_abort && err->reason == REASON_UNREACHABLE &&
           error_remedy(err, "when it is back, run the same command again; when it is gone for good: pgcrane abort"
                             " --dest-only");
}

static bool open_dest(Run *run, Error *err) {
    if (db_open(&run->dest_target, "control", &run->stop, &run->dest, err) &&
        (!run->is_abort || guard_check_dest(run->dest, err)))
        return true;
    if (run->instance_follows && err->reason == REASON_NO_DATABASE)
        return dry_run_open_absent(run, err);
    return run->is_abort && err->reason != REASON_CANCELLED &&
           error_remedy(err, "when it is back, run the same command again; when it is gone for good: pgcrane abort"
                             " --source-only");
}

static bool open_both(Run *run, Error *err) {
    Error why = {0};
    bool there = open_source(run, &why), is_lost = !there && run->is_abort && why.reason == REASON_NO_DATABASE;

    if (!there && !is_lost) {
        *err = why;
        return false;
    }
    if (!open_dest(run, err) || (there && !identify(run, err)))
        return false;
    if (there)
        run_set_targets(run); /* with the job's id */
    return !run->is_abort || run_open_lost_source(run, there ? NULL : &why, err);
}

bool step_connect(Run *run, Error *err) {
    MigrateOptions *options = &run->options;

    if (run_is_source_only(run) || run_is_dest_only(run))
        return connect_one(run, err);

    options->jobs = options->jobs > 0 ? options->jobs : default_lanes();
    options->index_jobs = options->index_jobs > 0 ? options->index_jobs : options->jobs;
    run->lanes = MAX(options->jobs, options->index_jobs);
    run->identity.job_id = "new";
    run_set_targets(run);
    tracker_phase_begin(run->tracker, PHASE_PREFLIGHT);
    if (!options_check(options, err) || !db_display(run->arena, options->source, &run->source_display, err) ||
        !db_display(run->arena, options->dest, &run->dest_display, err) || !open_both(run, err))
        return false;
    if (run->finished)
        return true;
    if (!tell_job(run, err) || !choose_lane_setup(run, err))
        return false;
    /* The sessions were named before the job's id was known. */
    return db_rename(run->source, run->identity.job_id, "control", err) &&
           db_rename(run->dest, run->identity.job_id, "control", err) && run_open_log(run, err) &&
           snapshot_attach(run->source, run->identity.job_id, err);
}

/* A connection that was opened anew must lead to the same server. */
static bool check_same_server(Run *run, DbConn *source, Error *err) {
    const char *system, *database;

    if (!run_server_identity(source, run->arena, &system, &database, err))
        return false;
    if (strcmp(system, run->identity.source_system) == 0)
        return true;
    error_set(err, REASON_LEDGER_MISMATCH, "the source's address leads to another server now (system %s, was %s)",
              system, run->identity.source_system);
    return error_remedy(err, "let it lead to the server that was followed, and go on; or start over with --restart");
}

/* What we remember as done may be lost with the session: a COMMIT of a lane that a crashed server never wrote. Or be
 * done without our knowing: a COMMIT whose reply was lost. Only the ledger knows. */
static bool go_back_to_ledger(Run *run, Error *err) {
    return !run->has_ledger || (run_lock_again(run, err) && run_note_done(run, err));
}

bool run_reconnect_within(Run *run, int64_t patience_us, Error *err) {
    if (run->source != NULL)
        db_rollback(run->source);
    if (run->dest != NULL)
        db_rollback(run->dest);
    if (!run_is_dest_only(run) && (run->source == NULL || db_is_broken(run->source))) {
        db_closep(&run->source);
        if (!db_open_patient(&run->source_target, "control", &run->stop, patience_us, &run->source, err) ||
            (!run_is_source_only(run) && !check_same_server(run, run->source, err)) ||
            !snapshot_attach(run->source, run->identity.job_id, err) || !run_lock_source_again(run, err)) {
            db_closep(&run->source); /* who has one, has all of that */
            return false;
        }
    }
    if (!run_is_source_only(run) && (run->dest == NULL || db_is_broken(run->dest))) {
        db_closep(&run->dest);
        if (!db_open_patient(&run->dest_target, "control", &run->stop, patience_us, &run->dest, err))
            return false;
        if (!guard_check_dest(run->dest, err)) {
            db_closep(&run->dest); /* the address may lead to another soon */
            return false;
        }
        return go_back_to_ledger(run, err);
    }
    return true;
}

bool run_reconnect(Run *run, Error *err) {
    return run_reconnect_within(run, RECONNECT_PATIENCE_US, err);
}

/* That there is none is a finding like the others, so that it stands in the same list. */
static bool find_client(Run *run, FindingVec *ret_missing, Error *err) {
    if (run->options.data_only || client_find_pg_dump(run->arena, run->options.pg_bindir, db_major(run->source),
                                                      db_major(run->dest), &run->stop, &run->pg_dump, err))
        return true;
    if (err->reason != REASON_CLIENT_MISSING)
        return false;
    Finding finding = {
        .id = "CLIENT_MISSING",
        .severity = SEVERITY_ERROR,
        .side = "source",
        .object = "pg_dump",
        .message = arena_strdup(run->arena, err->message),
        .fix = arena_strdup(run->arena, err->remedy),
    };

    vec_push(run->arena, ret_missing, finding);
    return true;
}

static bool dest_is_empty(Run *run, bool *ret_empty, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->dest,
                  "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
                  "c.relnamespace"
                  " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')",
                  0, NULL, &row, err))
        return error_wrap(err, "looking whether the destination is empty");
    *ret_empty = db_bool(row, 0, 0);
    return true;
}

/* A migration that came to its end leaves its report, and no ledger. */
static bool check_not_finished(Run *run, Error *err) {
    const char *path = arena_printf(run->arena, "%s/report.json", run->state_dir);
    bool empty = false;

    if (run->ledger_exists || run->options.restart || run->options.dry_run || access(path, F_OK) != 0)
        return true;
    /* Somebody may have emptied the destination since, to have it filled again. */
    if (!dest_is_empty(run, &empty, err))
        return false;
    return empty || error_set(err, REASON_ALREADY_DONE, "this migration is done already (its report: %s)", path);
}

/* Before anything can be found that stands in the way: a killed promote may have left the source read-only. */
static bool settle_first(Run *run, Error *err) {
    const MigrateOptions *options = &run->options;

    return !run->ledger_exists || !options->follow || options->dry_run || options->restart ||
           (guard_check_dest(run->dest, err) && step_ledger(run, err) && step_recover(run, err));
}

bool run_is_owned(const Run *run, const LedgerIdentity *found) {
    return run->owner[0] == '\0' || strcmp(found->owner, run->owner) == 0;
}

/* Two jobs of the service must not go on with each other's work: whoever deletes one would end the other. */
static bool check_owner(const Run *run, const LedgerIdentity *found, Error *err) {
    if (!run->ledger_exists || run_is_owned(run, found))
        return true;
    error_set(err, REASON_LEDGER_MISMATCH, "%s holds an unfinished migration of the same database that %s began",
              run->dest_display, found->owner[0] != '\0' ? "another job" : "somebody at a terminal");
    return error_remedy(err, "finish that one, or give it up: %s",
                        found->owner[0] != '\0' ? "delete the other job" : "pgcrane abort");
}

static PreflightInput preflight_input(const Run *run) {
    return (PreflightInput){
        .source = run->source,
        .dest = run->dest,
        .options = &run->options,
        .state_dir = run->state_dir,
        .dest_absent = run->dest_absent,
        .instance_follows = run->instance_follows,
        .pg_dump = &run->pg_dump,
        .source_target = &run->source_target,
        .stop = &run->stop,
    };
}

/* What was found before it was mended is not told: whoever asked for that looks again, in sessions that see it. */
static bool check_both(Run *run, const PreflightInput *input, FindingVec *findings, Estimate *estimate, Error *err) {
    if (!preflight_run(run->arena, input, findings, estimate, err) ||
        (run->instance_follows && !preflight_try_mends(input, findings, err)))
        return error_wrap(err, "checking");
    if (run->mends.len == 0)
        return true;
    if (!dry_run_mend(run, input, findings, err))
        return false;
    findings->len = 0;
    return true;
}

static bool find_all(Run *run, const PreflightInput *input, FindingVec *findings, Error *err) {
    Estimate estimate = {0};
    FindingVec missing = {0};

    if (!find_client(run, &missing, err) || !check_both(run, input, findings, &estimate, err))
        return false;
    for (size_t i = 0; i < missing.len; i++)
        vec_push(run->arena, findings, missing.items[i]);
    json_t *body = json_pack("{s:o, s:o*}", "findings", findings_to_json(findings), "estimate",
                             estimate.is_known ? estimate_to_json(&estimate) : NULL);
    return run_send(run, WIRE_FINDINGS, body, err);
}

bool step_preflight(Run *run, Error *err) {
    FindingVec findings = {0};
    LedgerIdentity found;
    PreflightInput input = preflight_input(run);

    /* First: another run that is just ending would leave a ledger to this look, and none to the work after it. */
    if (!run->options.dry_run && !run_lock(run, err))
        return false;
    if (!run->dest_absent && (!ledger_peek(run->dest, run->arena, &run->ledger_exists, &found, err) ||
                              !check_owner(run, &found, err) || !check_not_finished(run, err)))
        return false;
    if (!settle_first(run, err))
        return false;
    if (run->opened) {
        tracker_phase_end(run->tracker, PHASE_PREFLIGHT);
        return true;
    }
    input.resuming = run->ledger_exists;
    if (!find_all(run, &input, &findings, err))
        return false;
    size_t errors = findings_count(&findings, SEVERITY_ERROR);
    if (errors > 0)
        return error_set(err, REASON_PREFLIGHT_FAILED, "%zu finding%s must be mended first; nothing was changed",
                         errors, errors == 1 ? "" : "s");
    tracker_phase_end(run->tracker, PHASE_PREFLIGHT);
    return true;
}

static bool filter_by_name(const PlanTable *table, void *context, bool *ret_wanted, Error *err) {
    const Run *run = context;

    return filter_table_by_name(run->arena, &run->options, table->schema, table->name, ret_wanted, err);
}

/* Sixty megabytes a second and lane, and half as long again for what follows: of the right order on common machines. */
static double estimate_seconds(const Run *run, int64_t bytes) {
    return (double)bytes / (60e6 * (double)run->options.jobs) * 1.5;
}

static json_t *plan_to_json(const Run *run, const Plan *plan, const StringVec *to_drop) {
    json_t *tables = json_array();
    json_t *drops = json_array();
    int64_t bytes = 0;

    for (size_t i = 0; i < plan->count; i++) {
        const PlanTable *table = &plan->tables[i];

        bytes += table->bytes;
        (void)json_array_append_new(tables,
                                    json_pack("{s:o, s:I, s:I}", "table", json_string_lossy(table->display), "bytes",
                                              (json_int_t)table->bytes, "chunks", (json_int_t)table->chunks_count));
    }
    for (size_t i = 0; i < to_drop->len; i++)
        (void)json_array_append_new(drops, json_string_lossy(to_drop->items[i]));
    return json_pack("{s:o, s:I, s:f, s:o}", "tables", tables, "bytes", (json_int_t)bytes, "seconds",
                     estimate_seconds(run, bytes), "to_drop", drops);
}

bool step_dry_run(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Plan plan = {0};
    StringVec to_drop = {0};

    if (!run->options.dry_run)
        return true;
    /* The service shows no plan, which reading waits for locks of tables. */
    if (run->instance_follows) {
        run->finished = true;
        return true;
    }
    if (run->options.restart && !run_describe_start_over(run, arena, &to_drop, err))
        return false;
    if (!run->options.schema_only) {
        if (!db_exec(run->source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '30s'",
                     err) ||
            !plan_read(run->source, arena, filter_by_name, run, &plan, err))
            return false;
        db_rollback(run->source);
        if (!run_split_plan(run, arena, &plan, err))
            return false;
    }
    run->finished = true;
    return run_send(run, WIRE_PLAN, plan_to_json(run, &plan, &to_drop), err);
}
