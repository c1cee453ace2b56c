/* What a session is told at its beginning. */
#include "jobs/instance.h"
#include "model/options.h"
#include "supervise/endpoint.h"
#include "supervise/guard.h"
#include "supervise/look.h"
#include "supervise/new_passwords.h"

#include <string.h>

/* Groups of options that a job may set by its dumpFlags: names as on the command line, without dashes. */
static const char *const groups_of_flags[] = {"Speed", "What to move", "Following", "Promote"};
/* Those that the job itself decides. */
static const char *const not_flags[] = {"follow", "promote"};

static bool is_flag(const OptionInfo *info) {
    bool found = false;

    for (size_t at = 0; at < COUNT_OF(groups_of_flags); at++)
        found = found || strcmp(groups_of_flags[at], info->group) == 0;
    for (size_t at = 0; at < COUNT_OF(not_flags); at++)
        found = found && strcmp(not_flags[at], info->flag) != 0;
    return found;
}

/* Whoever may change a job would run commands as the service's user. */
static bool check_hook(const Supervisor *this, const OptionInfo *info, Error *err) {
    if (this->config.allow_hooks || strncmp(info->flag, "hook-", strlen("hook-")) != 0)
        return true;
    error_set(err, REASON_NOT_PERMITTED, "dumpFlags: jobs of this service have no commands of their own (%s)",
              info->flag);
    return error_remedy(err, "take the flag out, or have the service started with --allow-hooks");
}

static bool set_flags(const Supervisor *this, Arena *arena, const json_t *api, MigrateOptions *options, Error *err) {
    const json_t *flags = json_get_array(json_object_get(api, "dumpFlags"), "dumpFlags");

    for (size_t at = 0; at < json_array_size(flags); at++) {
        const json_t *flag = json_array_get(flags, at);
        const char *name = json_get_string(flag, "name", "");
        const OptionInfo *info = option_find(name[0] == '-' ? name + strspn(name, "-") : name);

        if (new_passwords_is_flag(name)) /* of the instance, not of a migration */
            continue;
        if (info == NULL || !is_flag(info))
            return error_set(err, REASON_USAGE, "dumpFlags: there is no flag \"%s\"", name);
        if (!check_hook(this, info, err) ||
            !options_set(arena, options, info, json_get_string(flag, "value", "true"), err))
            return false;
    }
    return true;
}

static void set_levels(const json_t *api, int64_t lanes, MigrateOptions *options) {
    const json_t *performance = json_object_get(api, "performanceConfig");
    const char *level = json_get_string(performance, "dumpParallelLevel", "");

    options->jobs = strcmp(level, "MIN") == 0 ? 1 : strcmp(level, "MAX") == 0 ? lanes * 2 : lanes;
}

static bool make_options(const Supervisor *this, Arena *arena, const StartOrder *order, MigrateOptions *ret_options,
                         Error *err) {
    const json_t *api = order->job->api;

    options_init(ret_options);
    ret_options->follow = strcmp(json_get_string(api, "type", ""), "CONTINUOUS") == 0;
    ret_options->restart = order->order == ORDER_START_ANEW;
    ret_options->dry_run = order->dry_run;
    ret_options->source_only = order->force == FORCE_SOURCE_ONLY;
    ret_options->dest_only = order->force == FORCE_DEST_ONLY;
    set_levels(api, order->lanes, ret_options);
    /* Removing needs none of the flags, and must be possible when they are wrong. */
    return (order->order == ORDER_REMOVE || set_flags(this, arena, api, ret_options, err)) &&
           options_check(ret_options, err);
}

/* *ret_made: the service made the server. */
static bool profile_endpoint(const Supervisor *this, StoreTx *tx, const StartOrder *order, const char *side,
                             json_t **ret_endpoint, bool *ret_made, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(record_fini) Record profile = {0};
    const char *name = json_get_string(order->job->api, side, "");

    if (!record_load(tx, STORE_CONNECTION_PROFILE, name, &profile, err))
        return false;
    *ret_made = profile_instance(arena, &profile) != NULL;
    return endpoint_of(tx, this->config.secrets, &profile, order->object != NULL ? seat_database(order->object) : NULL,
                       ret_endpoint, err);
}

static void add_guard(const StartOrder *order, json_t *more) {
    if (!guard_is_up(order->job) && order->action == NULL)
        return;
    (void)json_object_set_new(more, "owner", json_string(order->job->resource.uid));
    (void)json_object_set_new(more, "owner_name", json_string_lossy(order->job->resource.name));
    (void)json_object_set_new(more, "guarded", json_boolean(order->action == NULL));
    if (order->action == NULL && order->databases != NULL)
        (void)json_object_set_new(more, "to_guard", json_deep_copy(order->databases));
    if (order->action == NULL && order->known != NULL)
        (void)json_object_set_new(more, "known", json_deep_copy(order->known));
    (void)json_object_set_new(more, "allow_non_empty", json_boolean(order->allow_non_empty));
}

/* {"databases"?} */
static json_t *what_of_release(const StartOrder *order) {
    json_t *more = json_object();

    if (order->databases != NULL)
        (void)json_object_set_new(more, "databases", json_deep_copy(order->databases));
    return more;
}

/* {"databases"?, "prepare", "check", "apart"?, "over"?} */
static json_t *what_of_instance(const StartOrder *order) {
    const json_t *named = order->names != NULL ? NULL : databases_named(order->job);
    json_t *names = named != NULL ? json_array() : json_deep_copy(order->names);

    for (size_t at = 0; at < json_array_size(named); at++)
        (void)json_array_append_new(names, json_string_lossy(database_at(named, at)));
    return json_pack("{s:b, s:b, s:o*, s:O*, s:O*}", "prepare", order->dry_run ? 0 : 1, "check", order->is_check,
                     "databases", names, "apart", order->apart, "over", order->over);
}

/* The id by which its removal finds it on the source. Of one whose server is lost it is among those that are left. */
static const char *migration_of(const StartOrder *order) {
    if (order->object == NULL)
        return NULL;
    const json_t *run = order->object->run, *orphans = json_object_get(run, seat_run_ORPHANS);
    const char *last = json_string_value(json_array_get(orphans, json_array_size(orphans) - 1));
    return json_get_string(run, seat_run_MIGRATION, order->order == ORDER_REMOVE ? last : NULL);
}

static json_t *more_of(const StartOrder *order, bool is_made) {
    bool releases = order->action != NULL && strcmp(order->action, "release") == 0;
    json_t *more =
        releases ? what_of_release(order)
        : order->object == NULL
            ? what_of_instance(order)
            : json_pack("{s:b, s:s, s:b, s:b, s:O*, s:O*}", "seize", order->seize, "owner", order->job->resource.uid,
                        "made", is_made, "instance_follows", order->dry_run, "mends", order->mends, "orphans",
                        json_object_get(order->object->run, seat_run_ORPHANS));
    bool made = order->object != NULL && order->order == ORDER_REMOVE && seat_may_have_made(order->object->run);

    if (made)
        (void)json_object_set_new(more, "known_id", json_string(migration_of(order)));
    add_guard(order, more);
    return more;
}

static const char *action_of(const StartOrder *order) {
    if (order->action != NULL)
        return order->action;
    return order->object == NULL ? "instance" : order->order == ORDER_REMOVE ? "abort" : "migrate";
}

bool start_message(const Supervisor *this, StoreTx *tx, Arena *arena, const StartOrder *order, json_t **ret_start,
                   Error *err) {
    CLEANUP(json_freep) json_t *source = NULL;
    CLEANUP(json_freep) json_t *dest = NULL;
    MigrateOptions options;
    bool is_made = false;

    if (!make_options(this, arena, order, &options, err) ||
        !profile_endpoint(this, tx, order, "source", &source, &is_made, err) ||
        !profile_endpoint(this, tx, order, "destination", &dest, &is_made, err))
        return false;
    bool whole = order->object == NULL;
    const char *migration = migration_of(order);
    json_t *more = more_of(order, is_made), *seed = NULL;
    if (whole && !order->dry_run && !new_passwords_seed_of(tx, this->config.secrets, order->job, &seed, err)) {
        json_decref(more);
        return false;
    }
    if (seed != NULL)
        (void)json_object_set_new(more, "new_passwords", seed);
    *ret_start = json_pack("{s:o, s:I, s:s, s:o, s:O, s:O, s:o, s:o*, s:s*}", "name",
                           json_string_lossy(whole ? "instance" : seat_database(order->object)), "run",
                           (json_int_t)order->run, "action", action_of(order), "options", options_to_json(&options),
                           "source", source, "dest", dest, "state_dir", json_string_lossy(this->config.state_dir),
                           "more", more, "migration", order->force == FORCE_BOTH ? NULL : migration);
    return true;
}
