/* The command `instances`: servers that the service makes. */
#include "cli/service/change.h"
#include "cli/service/main.h"
#include "cli/service/profile_spec.h"

#include <string.h>

static bool name_of(const Service *service, const char **ret_name, Error *err) {
    return service_name(service, INSTANCE_COLLECTION, service_word(service, 1), ret_name, err);
}

/* --- create: with its profile, which is how the API has it --- */

static bool take_flags(const MigrateOptions *options, json_t *settings, Error *err) {
    CLEANUP(json_freep) json_t *flags = json_object();

    for (size_t at = 0; at < options->server_flags.len; at++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        const char *flag = options->server_flags.items[at], *equals = strchr(flag, '=');

        if (equals == NULL || equals == flag)
            return error_set(err, REASON_USAGE, "--flag: \"%.100s\" is not NAME=VALUE", flag);
        (void)json_object_set_new(flags, arena_strndup(arena, flag, (size_t)(equals - flag)),
                                  json_string_lossy(equals + 1));
    }
    if (json_object_size(flags) > 0)
        (void)json_object_set(settings, "databaseFlags", flags);
    return true;
}

static void take_network(const MigrateOptions *options, json_t *settings) {
    CLEANUP(json_freep) json_t *config = json_object();
    json_t *networks = json_array();

    (void)json_object_set_new(config, "authorizedNetworks", networks);
    for (size_t at = 0; at < options->networks.len; at++)
        (void)json_array_append_new(networks, json_pack("{s:s}", "value", options->networks.items[at]));
    if (options->require_tls)
        (void)json_object_set_new(config, "requireSsl", json_true());
    if (options->require_tls || options->networks.len > 0)
        (void)json_object_set(settings, "ipConfig", config);
}

/* A password goes where the other kind of profile has it, and from there to its own place. */
static bool take_password(const MigrateOptions *options, json_t *settings, Error *err) {
    CLEANUP(json_freep) json_t *scratch = json_object();

    if (options->password_file == NULL)
        return true;
    bool ok = spec_take_password(options->password_file, scratch, err);
    if (ok)
        (void)json_object_set_new(
            settings, "rootPassword",
            json_string_lossy(json_get_string(json_object_get(scratch, "postgresql"), "password", "")));
    spec_wipe(scratch);
    return ok;
}

static bool make_settings(const Service *service, json_t *settings, Error *err) {
    const MigrateOptions *options = service->options;
    Arena *arena = service->arena;

    if (options->pg_version == 0) {
        error_set(err, REASON_USAGE, "which version of PostgreSQL it shall be is missing");
        return error_remedy(err, "such as --pg-version 17: it has to be installed where the service runs");
    }
    (void)json_object_set_new(settings, "databaseVersionName",
                              json_string(arena_printf(arena, "POSTGRES_%lld", (long long)options->pg_version)));
    if (options->tier != NULL)
        (void)json_object_set_new(settings, "tier", json_string_lossy(options->tier));
    if (options->disk_gb > 0) {
        (void)json_object_set_new(settings, "autoStorageIncrease", json_false());
        (void)json_object_set_new(settings, "dataDiskSizeGb",
                                  json_string(arena_printf(arena, "%lld", (long long)options->disk_gb)));
    }
    if (options->regional)
        (void)json_object_set_new(settings, "availabilityType", json_string("REGIONAL"));
    take_network(options, settings);
    return take_flags(options, settings, err) && take_password(options, settings, err);
}

static void wipe(json_t **profile) {
    spec_wipe(*profile);
    json_freep(profile);
}

static bool create(Service *service, Error *err) {
    json_t *settings = json_object();
    CLEANUP(wipe) json_t *profile = json_pack("{s:{s:o}}", "cloudsql", "settings", settings);
    const char *id = service_word(service, 1);

    if (!make_settings(service, settings, err) ||
        !spec_take_labels(service->arena, &service->options->labels, profile, err))
        return false;
    const ClientParam params[] = {{"connectionProfileId", id}, {0}};
    const Change change = {
        .method = CLIENT_POST,
        .path = arena_printf(service->arena, "%s/" PROFILE_COLLECTION, service->parent),
        .params = params,
        .body = profile,
        .what = arena_printf(service->arena, "making instance %s", id),
        .done = arena_printf(service->arena, "Instance %s runs, and profile %s leads to it", id, id),
        .kind = SHOW_PROFILE,
    };
    return change_make(service, &change, err);
}

/* --- list, describe, log --- */

static bool list(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *items = NULL;
    const char *path = arena_printf(service->arena, "%s/" INSTANCE_COLLECTION, service->parent);

    if (!service_list(service, path, INSTANCE_COLLECTION, service->options->filter, service->options->sort_by, &items,
                      err))
        return false;
    show_list(service, SHOW_INSTANCE, items, service->out);
    return true;
}

static bool describe(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *instance = NULL;
    const char *name = NULL;

    if (!name_of(service, &name, err) || !service_get(service, name, NULL, &instance, err))
        return false;
    show_one(service, SHOW_INSTANCE, instance, service->out);
    return true;
}

static bool logs(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    const char *name = NULL;

    if (!name_of(service, &name, err))
        return false;
    const char *what = arena_printf(service->arena, "reading the log of instance %s", service_id(service, name));
    const Change change = {.method = CLIENT_POST,
                           .path = arena_printf(service->arena, "%s:readLog", name),
                           .what = what,
                           .kind = SHOW_OPERATION};
    if (!change_ask(service, &change, &operation, err) || !change_follow(service, what, &operation, err))
        return false;
    const json_t *response = json_object_get(operation, "response");
    if (service->format != OUTPUT_TABLE)
        show_data(service->format, response, service->out);
    else
        buf_append_str(service->out, text_clean(service->arena, json_get_string(response, "log", "")));
    return true;
}

/* --- delete --- */

static bool remove_instance(Service *service, Error *err) {
    const char *name = NULL;

    if (!name_of(service, &name, err))
        return false;
    const ChangeKind instances = {.noun = "instance", .kind_deleted = SHOW_INSTANCE};
    const char *question =
        arena_printf(service->arena, "Delete instance %s, with all databases in it? Nothing brings them back.",
                     service_id(service, name));
    return change_delete(service, &instances, name, question, err);
}

/* --- what each takes --- */

static const char *const create_takes[] = {"Instance", "password-file", "label", "Waiting", NULL};
static const char *const list_takes[] = {"Lists", NULL};
static const char *const none[] = {NULL};
static const char *const logs_takes[] = {"timeout", NULL};
static const char *const delete_takes[] = {"yes", "force", "Waiting", NULL};

const char *const instances_takes[] = {"Client",  "Instance", "password-file", "label",    "Lists",
                                       "Waiting", "yes",      "force",         "no-color", NULL};

const Verb instances_verbs[] = {
    {.name = "create",
     .args = "ID",
     .n_args = 1,
     .takes = create_takes,
     .ask = create,
     .help = "have the service make a server, and a profile of the same id that leads to it"},
    {.name = "list", .args = "", .takes = list_takes, .ask = list, .help = "show all"},
    {.name = "describe", .args = "ID", .n_args = 1, .takes = none, .ask = describe, .help = "show one, with all of it"},
    {.name = "logs",
     .args = "ID",
     .n_args = 1,
     .takes = logs_takes,
     .ask = logs,
     .help = "show the end of the server's log"},
    {.name = "delete",
     .args = "ID",
     .n_args = 1,
     .takes = delete_takes,
     .ask = remove_instance,
     .help = "remove one that no profile leads to, with --force"},
    {0},
};
