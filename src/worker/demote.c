/*
 * A destination is guarded (action "demote"), or handed back (action "release"); and what other runs of a job that is
 * guarded do for it: databases are guarded when they are made, and handed back when they are promoted.
 *
 * The engine's journal knows what is done (engine/demote), so each step may be run again, and a run that was killed is
 * begun anew with the same START. Two runs of one job do no harm to each other: their transactions wait for one
 * another, and the later one finds what the first has done.
 *
 * A promote hands its database back right behind OPEN, since until then no application gets in: that is part of the
 * outage. When it cannot, the promote is none the less done: the service tries again until it could
 * (supervise/guard.c).
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/hash.h"
#include "common/log.h"
#include "worker/run.h"

#define PATIENCE_US (3 * USEC_PER_SEC)
#define RELEASE_DEADLINE_US (30 * USEC_PER_SEC)

static void read_names(Run *run, const json_t *list, StringVec *names) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name != NULL)
            vec_push(run->arena, names, arena_strdup(run->arena, name));
    }
}

void run_guard_from_json(Run *run, const json_t *body) {
    const json_t *names = json_get_array(body, "to_guard"), *known = json_get_array(body, "known");

    run->guarded = json_get_bool(body, "guarded", false);
    run->demote.allow_non_empty = json_get_bool(body, "allow_non_empty", false);
    run->demote.some = names != NULL;
    run->demote.has_known = known != NULL;
    read_names(run, names, &run->demote.names);
    read_names(run, known, &run->demote.known);
}

/* One that was promoted is not closed again because another one is added; one that was made is closed already. */
static bool is_to_be_guarded(const Run *run, const InstanceDatabase *database) {
    const DemoteRun *demote = &run->demote;

    return !demote->some || database->made || string_vec_has(&demote->names, database->name) ||
           (demote->has_known && !string_vec_has(&demote->known, database->name));
}

static DemoteJob job_of(const Run *run) {
    return (DemoteJob){.id = run->owner, .name = run->owner_name};
}

static void tell_all(Run *run, const char *level, const StringVec *texts) {
    for (size_t i = 0; i < texts->len; i++)
        run_event(run, level, "%s", texts->items[i]);
}

/* ---- Guarding ---- */

static bool step_demote_connect(Run *run, Error *err) {
    if (run->options.dest == NULL || run->owner[0] == '\0')
        return error_set(err, REASON_WIRE_BAD, "a destination and a job are needed");
    run->demote.database = DEMOTE_DATABASE;
    return step_instance_connect(run, err);
}

static bool look_at_all(Run *run, FindingVec *findings, Error *err) {
    const DemoteJob job = job_of(run);
    const DemoteInput demote = {.conn = run->dest,
                                .source = &run->source_target,
                                .dest = &run->dest_target,
                                .job = &job,
                                .list = &run->instance.list,
                                .allow_non_empty = run->demote.allow_non_empty};

    return demote_check(run->arena, &demote, findings, err);
}

/* Only where nothing is guarded for the job it is PREFLIGHT_FAILED, behind which the service forgets about it. */
static bool refuse(Run *run, bool begun, Error *err) {
    if (run_instance_refuse(run, begun ? "what is guarded stays so" : "nothing was changed", err))
        return true;
    if (!begun || err->reason != REASON_PREFLIGHT_FAILED)
        return false;
    error_set(err, REASON_CONFLICT,
              "the checks found errors, while databases are guarded for this job already: those"
              " stay guarded");
    err->retryable = false;
    return error_remedy(err,
                        "mend what was found and ask again, or hand the destination back: pgcrane jobs release JOB");
}

/* What both have to tell comes at once. */
static bool step_demote_check(Run *run, Error *err) {
    InstanceRun *instance = &run->instance;
    const InstanceInput input = run_instance_input(run);
    const DemoteJob job = job_of(run);
    bool begun = false;

    instance->findings.len = 0;
    return instance_list(run->arena, &input, &instance->list, &instance->findings, err) &&
           look_at_all(run, &instance->findings, err) && demote_is_begun(run->dest, &job, &begun, err) &&
           refuse(run, begun, err);
}

static bool guard_all(Run *run, DbConn *conn, Error *err) {
    const InstanceList *list = &run->instance.list;
    const DemoteJob job = job_of(run);
    StringVec left = {0};

    for (size_t i = 0; i < list->databases.len; i++) {
        const InstanceDatabase *database = &list->databases.items[i];

        if (is_to_be_guarded(run, database) && !demote_guard(conn, run->arena, &job, database->name, &left, err))
            return false;
    }
    tell_all(run, "warning", &left);
    return true;
}

static bool hand_all_back(Run *run, Error *err) {
    const DemoteJob job = job_of(run);
    StringVec notes = {0};
    size_t count = 0;

    if (!demote_release(run->dest, run->arena, &job, NULL, &notes, &count, err))
        return false;
    tell_all(run, "warning", &notes);
    return true;
}

/* Until the databases were closed others could write: a transaction that was open at the first look, and committed
 * before its session was ended, was seen by nobody. Killed before that, asked again, the first look sees it. */
static bool look_again(Run *run, Error *err) {
    FindingVec again = {0};

    if (!failpoint("demote.look_again", err) || !look_at_all(run, &again, err))
        return false;
    if (findings_count(&again, SEVERITY_ERROR) == 0)
        return true;
    run->instance.findings = again;
    return (!run->demote.is_new || hand_all_back(run, err)) && refuse(run, !run->demote.is_new, err);
}

static bool step_demote_guard(Run *run, Error *err) {
    const DemoteJob job = job_of(run);
    bool is_new = false;

    if (!demote_begin(run->dest, &job, &is_new, err))
        return false;
    run->demote.is_new = run->demote.is_new || is_new;
    return guard_all(run, run->dest, err) && look_again(run, err);
}

/* X(function, may be tried again?) */
#define DEMOTE_STEPS(X)                                                                                                \
    X(demote_connect, false)                                                                                           \
    X(demote_check, true)                                                                                              \
    X(demote_guard, true)                                                                                              \
    X(instance_tell, false)

/* ---- Handing back ---- */

static bool open_journal(Run *run, int64_t patience_us, DbConn **ret_conn, Error *err) {
    DbTarget target = {.side = DB_DEST, .conninfo = run->options.dest, .job_id = "instance"};

    target.database = DEMOTE_DATABASE;
    return db_open_patient(&target, "guard", &run->stop, patience_us, ret_conn, err);
}

/* The source is not asked for anything, and may be gone. */
static bool step_release_connect(Run *run, Error *err) {
    const char *dest, *database;

    if (run->options.dest == NULL || run->owner[0] == '\0')
        return error_set(err, REASON_WIRE_BAD, "a destination and a job are needed");
    run->source_display = "none";
    run->demote.database = DEMOTE_DATABASE;
    run->dest_target = (DbTarget){.side = DB_DEST, .conninfo = run->options.dest, .job_id = "instance"};
    run->dest_target.database = DEMOTE_DATABASE;
    if (!db_display(run->arena, run->options.dest, &run->dest_display, err) ||
        !open_journal(run, PATIENCE_US, &run->dest, err) ||
        !run_server_identity(run->dest, run->arena, &dest, &database, err))
        return false;
    run->identity.job_id = arena_printf(run->arena, "instance-%016llx", (unsigned long long)hash_text64(dest));
    return run_open_log(run, err);
}

static void say_released(Run *run, size_t count, const StringVec *notes) {
    if (count > 0)
        run_event(run, "info", "handed back: %zu database%s of the destination", count, count == 1 ? "" : "s");
    tell_all(run, "warning", notes);
}

static bool step_release(Run *run, Error *err) {
    const StringVec *names = &run->instance.names;
    const DemoteJob job = job_of(run);
    StringVec notes = {0};
    size_t count = 0, released = 0;

    if (run->instance.all && !demote_release(run->dest, run->arena, &job, NULL, &notes, &released, err))
        return false;
    for (size_t i = 0; i < names->len; i++) {
        if (!demote_release(run->dest, run->arena, &job, names->items[i], &notes, &count, err))
            return false;
        released += count;
    }
    say_released(run, released, &notes);
    return true;
}

/* X(function, may be tried again?) */
#define RELEASE_STEPS(X)                                                                                               \
    X(release_connect, false)                                                                                          \
    X(release, true)

/* ---- Of other runs ---- */

static bool guard_missing(Run *run, DbConn *conn, Error *err) {
    const InstanceList *list = &run->instance.list;
    const DemoteJob job = job_of(run);
    bool is_new = false;

    if (!demote_begin(conn, &job, &is_new, err))
        return false;
    for (size_t i = 0; i < list->databases.len; i++)
        if (!demote_intend(conn, run->arena, &job, list->databases.items[i].name, list->databases.items[i].limit, err))
            return false;
    return true;
}

/* Each of them is made closed. */
bool run_guard_missing(Run *run, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;

    return !run->guarded || (open_journal(run, PATIENCE_US, &conn, err) && guard_missing(run, conn, err));
}

bool run_guard_databases(Run *run, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;

    return !run->guarded || (open_journal(run, PATIENCE_US, &conn, err) && guard_all(run, conn, err));
}

bool run_hold_back(void *context, HeldBack *held, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    Run *run = context;
    const DemoteJob job = job_of(run);

    return open_journal(run, PATIENCE_US, &conn, err) &&
           demote_hold(conn, run->arena, &job, db_name(run->dest), held, err);
}

static bool release_now(Run *run, StringVec *notes, size_t *ret_count, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    const DemoteJob job = job_of(run);

    if (!open_journal(run, 0, &conn, err))
        return false;
    db_set_deadline(conn, clock_now_us() + RELEASE_DEADLINE_US);
    return demote_release(conn, run->arena, &job, db_name(run->dest), notes, ret_count, err);
}

void run_release_guard(Run *run) {
    StringVec notes = {0};
    size_t count = 0;
    Error err = {0};

    if (!run->guarded)
        return;
    if (release_now(run, &notes, &count, &err)) {
        run->guarded = false;
        say_released(run, count, &notes);
        return;
    }
    log_error_value(LOG_WARNING, &err);
    run_event(run, "warning", "the destination's database is not handed back yet: %s; that is tried again",
              err.message);
}

const RunStep demote_steps[] = {
#define X(name, retry) {#name, step_##name, retry, 0},
    DEMOTE_STEPS(X)};
const size_t demote_steps_count = COUNT_OF(demote_steps);

const RunStep release_steps[] = {RELEASE_STEPS(X)};
#undef X
const size_t release_steps_count = COUNT_OF(release_steps);
