/*
 * A whole instance: which databases it has, and on request the roles and empty databases that a migration of each needs
 * on the destination.
 *
 * No ledger: a migration's ledger is in its database, and here there is none yet. Nothing has to be remembered, either.
 * What is there is looked up anew, what is there is not made again, and what is told comes from what both servers have.
 * Where this may die, and what the same START does then:
 * - before roles are committed (one transaction, engine/instance/prepare.c): all of it again;
 * - behind that, or between two databases (engine/instance/create.c): roles are found as they are, databases that were
 *   made count as existing, the rest is made;
 * - before DONE was read: everything is found, and told once more.
 * Two of these at once on one destination do no harm: the later one waits for the names of the first, or is refused
 * them.
 */
#include "worker/run.h"

#include "common/clock.h"
#include "common/hash.h"
#include "secrets/new_passwords.h"

#include <string.h>

#define RECONNECT_PATIENCE_US (60 * USEC_PER_SEC)

/* ---- What is asked for ---- */

static bool read_names(Run *run, const json_t *list, StringVec *names, Error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name == NULL || name[0] == '\0')
            return error_set(err, REASON_WIRE_BAD, "databases: item %zu is no name", i);
        vec_push(run->arena, names, arena_strdup(run->arena, name));
    }
    return true;
}

bool instance_from_json(Run *run, const json_t *body, Error *err) {
    const json_t *names = json_object_get(body, "databases");

    run->instance.prepare = json_get_bool(body, "prepare", false);
    run->instance.check = !run->instance.prepare && json_get_bool(body, "check", false);
    run->instance.all = names == NULL || json_is_null(names);
    if (!run->instance.all && !json_is_array(names))
        return error_set(err, REASON_WIRE_BAD, "databases: not a list");
    if (!read_names(run, names, &run->instance.names, err) ||
        !read_names(run, json_object_get(body, "apart"), &run->instance.apart, err) ||
        !read_names(run, json_object_get(body, "over"), &run->instance.over, err))
        return false;
    run->instance.seed = arena_strdup(run->arena, json_get_string(body, "new_passwords", NULL));
    if (run->options.source == NULL)
        return error_set(err, REASON_WIRE_BAD, "options: no source");
    return !run->instance.prepare || run->options.dest != NULL ||
           error_set(err, REASON_WIRE_BAD, "an instance is to be prepared, and there is no destination");
}

/* ---- Connections ---- */

/* The database that a profile names may be one that is yet to be made. */
static bool open_dest(Run *run, int64_t patience_us, Error *err) {
    Error why;

    if (db_open_patient(&run->dest_target, "instance", &run->stop, patience_us, &run->dest, err))
        return true;
    if (err->reason != REASON_NO_DATABASE)
        return false;
    DbTarget other = run->dest_target;
    other.conninfo = arena_printf(run->arena, "%s dbname='postgres'", run->options.dest);
    if (!db_open_patient(&other, "instance", &run->stop, patience_us, &run->dest, &why))
        return false;
    run->dest_target = other;
    return true;
}

static bool open_both(Run *run, int64_t patience_us, Error *err) {
    if (run->source == NULL && run->source_target.conninfo != NULL && /* not when something is handed back */
        !db_open_patient(&run->source_target, "instance", &run->stop, patience_us, &run->source, err))
        return false;
    return run->dest != NULL || run->options.dest == NULL || open_dest(run, patience_us, err);
}

bool run_instance_reconnect(Run *run, Error *err) {
    DbConn **sides[] = {&run->source, &run->dest};

    for (size_t i = 0; i < COUNT_OF(sides); i++) {
        if (*sides[i] == NULL)
            continue;
        db_rollback(*sides[i]);
        if (db_is_broken(*sides[i]))
            db_closep(sides[i]);
    }
    return open_both(run, RECONNECT_PATIENCE_US, err);
}

/* For the name of the log's folder: the same for the same two servers. */
static bool name_run(Run *run, Error *err) {
    const char *source, *dest = "", *database;

    if (!run_server_identity(run->source, run->arena, &source, &database, err) ||
        (run->dest != NULL && !run_server_identity(run->dest, run->arena, &dest, &database, err)))
        return false;
    run->identity.job_id =
        arena_printf(run->arena, "instance-%016llx",
                     (unsigned long long)hash_text64(arena_printf(run->arena, "%s>%s", source, dest)));
    return true;
}

bool step_instance_connect(Run *run, Error *err) {
    const MigrateOptions *options = &run->options;

    run->dest_display = "none";
    run->source_target = (DbTarget){.side = DB_SOURCE, .conninfo = options->source, .job_id = "instance"};
    run->dest_target = (DbTarget){.side = DB_DEST, .conninfo = options->dest, .job_id = "instance"};
    run->dest_target.database = run->demote.database;
    return db_display(run->arena, options->source, &run->source_display, err) &&
           (options->dest == NULL || db_display(run->arena, options->dest, &run->dest_display, err)) &&
           open_both(run, 0, err) && name_run(run, err) && run_open_log(run, err);
}

/* ---- Work ---- */

static bool new_password(void *context, Arena *arena, const char *role, char **ret_password, Error *err) {
    const Run *run = context;
    char *password = arena_alloc(arena, NEW_PASSWORD_SIZE);

    *ret_password = password;
    return new_password_of(run->instance.seed, role, password, err);
}

static json_t *names_to_json(const StringVec *names) {
    json_t *list = json_array();

    for (size_t i = 0; i < names->len; i++)
        (void)json_array_append_new(list, json_string_lossy(names->items[i]));
    return list;
}

static bool has_name(const StringVec *names, const char *name) {
    for (size_t i = 0; i < names->len; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

/* For the service, which gives them out: names alone. An attempt that is made again may not know that it was the one
 * before that has made a role: names add up. */
static bool tell_new_passwords(void *context, const StringVec *roles, Error *err) {
    Run *run = context;
    StringVec *told = &run->instance.new_passwords;

    for (size_t i = 0; i < roles->len; i++)
        if (!has_name(told, roles->items[i]))
            vec_push(run->arena, told, roles->items[i]);
    return run_send(run, WIRE_DATABASES, json_pack("{s:o}", "new_passwords", names_to_json(told)), err);
}

InstanceInput run_instance_input(Run *run) {
    return (InstanceInput){
        .closed = run->guarded,
        .new_password = run->instance.seed == NULL ? NULL : new_password,
        .new_passwords_told = tell_new_passwords,
        .context = run,
        .source = run->source,
        .dest = run->dest,
        .source_target = &run->source_target,
        .all = run->instance.all,
        .check = run->instance.check,
        .prepare = run->instance.prepare,
        .names = run->instance.names,
        .tablespace_map = run->options.tablespace_map,
        .apart = run->instance.apart,
        .over = run->instance.over,
    };
}

static bool tell(Run *run, Error *err) {
    const InstanceRun *instance = &run->instance;

    json_t *databases = instance_list_to_json(&instance->list, run->dest != NULL);

    if (instance->new_passwords.len > 0)
        (void)json_object_set_new(databases, "new_passwords", names_to_json(&instance->new_passwords));
    return run_send(run, WIRE_FINDINGS, json_pack("{s:o}", "findings", findings_to_json(&instance->findings)), err) &&
           run_send(run, WIRE_DATABASES, databases, err);
}

/* All there is to tell comes before the run fails. */
bool run_instance_refuse(Run *run, const char *changed, Error *err) {
    size_t errors = findings_count(&run->instance.findings, SEVERITY_ERROR);

    if (errors == 0 || run->instance.check)
        return true;
    return tell(run, err) && error_set(err, REASON_PREFLIGHT_FAILED, "%zu finding%s must be mended first; %s", errors,
                                       errors == 1 ? "" : "s", changed);
}

/* What is told before a migration begins. The list is empty, too, when it cannot work with one of the servers. */
static bool look_ahead(Run *run, const InstanceInput *input, Error *err) {
    InstanceRun *instance = &run->instance;
    bool has_roles = run->dest != NULL && instance->list.databases.len > 0 && (instance->check || instance->prepare);

    return (!instance->check ||
            instance_check_room(run->arena, input, &instance->list, run->options.follow, &instance->findings, err)) &&
           (!has_roles || instance_check_passwords(run->arena, input, &instance->findings, err));
}

static bool step_instance_list(Run *run, Error *err) {
    const InstanceInput input = run_instance_input(run);

    run->instance.findings.len = 0;
    return instance_list(run->arena, &input, &run->instance.list, &run->instance.findings, err) &&
           look_ahead(run, &input, err) && run_instance_refuse(run, "nothing was changed", err);
}

static bool step_instance_roles(Run *run, Error *err) {
    const InstanceInput input = run_instance_input(run);
    InstanceMade *made = &run->instance.made;

    if (!run->instance.prepare)
        return true;
    if (!instance_make_roles(run->arena, &input, &run->instance.list, made, &run->instance.findings, err))
        return false;
    if (made->roles + made->memberships + made->settings > 0)
        run_event(run, "info", "made on the destination: %lld roles, %lld memberships, %lld settings of roles",
                  (long long)made->roles, (long long)made->memberships, (long long)made->settings);
    return true;
}

static bool step_instance_databases(Run *run, Error *err) {
    const InstanceInput input = run_instance_input(run);
    InstanceRun *instance = &run->instance;

    if (!instance->prepare)
        return true;
    if (!run_guard_missing(run, err) ||
        !instance_make_databases(run->arena, &input, &instance->list, &instance->made, &instance->findings, err))
        return false;
    if (instance->made.databases > 0)
        run_event(run, "info", "made on the destination: %lld databases", (long long)instance->made.databases);
    return run_guard_databases(run, err);
}

bool step_instance_tell(Run *run, Error *err) {
    return run_instance_refuse(run, "what could be made was made", err) && tell(run, err);
}

/* X(function, may be tried again?) */
#define INSTANCE_STEPS(X)                                                                                              \
    X(instance_connect, false)                                                                                         \
    X(instance_list, true)                                                                                             \
    X(instance_roles, true)                                                                                            \
    X(instance_databases, true)                                                                                        \
    X(instance_tell, false)

const RunStep instance_steps[] = {
#define X(name, retry) {#name, step_##name, retry, 0},
    INSTANCE_STEPS(X)
#undef X
};
const size_t instance_steps_count = COUNT_OF(instance_steps);
