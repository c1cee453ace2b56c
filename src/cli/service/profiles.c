/* The command `profiles`. */
#include "cli/service/change.h"
#include "cli/service/main.h"
#include "cli/service/profile_spec.h"

#include <string.h>

static void wipe_spec(json_t **spec) {
    spec_wipe(*spec);
    json_freep(spec);
}

static const char *profiles_path(const Service *service) {
    return arena_printf(service->arena, "%s/" PROFILE_COLLECTION, service->parent);
}

static bool name_of(const Service *service, const char **ret_name, Error *err) {
    return service_name(service, PROFILE_COLLECTION, service_word(service, 1), ret_name, err);
}

static const ChangeKind profiles = {.noun = "profile", .kind = SHOW_PROFILE, .kind_deleted = SHOW_PROFILE};

/* --- create, update --- */

static bool create(Service *service, Error *err) {
    CLEANUP(wipe_spec) json_t *profile = json_object();
    const char *id = service_word(service, 1);

    if (!spec_take_options(service->arena, service->options, service_word(service, 2), profile, err))
        return false;
    if (json_object_get(profile, "postgresql") == NULL) {
        error_set(err, REASON_USAGE, "where the server is, is missing");
        return error_remedy(err,
                            "pgcrane profiles create %s postgresql://USER@HOST:5432/DATABASE, or --host and --user",
                            service_typed(service, id));
    }
    return change_create(service, &profiles, profiles_path(service), (ClientParam){"connectionProfileId", id}, profile,
                         err);
}

static bool update(Service *service, Error *err) {
    CLEANUP(wipe_spec) json_t *profile = json_object();
    const char *name = NULL;

    return name_of(service, &name, err) &&
           spec_take_options(service->arena, service->options, service_word(service, 2), profile, err) &&
           change_update(service, &profiles, name, profile, err);
}

/* --- test: as a change that is not kept, which is how the API has it --- */

static bool test(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *profile = NULL;
    const ClientParam params[] = {{"updateMask", "displayName"}, {"validateOnly", "true"}, {0}};
    const char *name = NULL;

    if (!name_of(service, &name, err) || !service_get(service, name, NULL, &profile, err))
        return false;
    const Change change = {
        .method = CLIENT_PATCH,
        .path = name,
        .params = params,
        .body = profile,
        .what = arena_printf(service->arena, "testing profile %s", service_id(service, name)),
        .done = arena_printf(service->arena, "Profile %s: the service can log in there", service_id(service, name)),
        .kind = SHOW_PROFILE,
    };
    return change_make(service, &change, err);
}

/* --- list, describe, delete --- */

static bool list(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *items = NULL;

    if (!service_list(service, profiles_path(service), PROFILE_COLLECTION, service->options->filter,
                      service->options->sort_by, &items, err))
        return false;
    show_list(service, SHOW_PROFILE, items, service->out);
    return true;
}

static bool describe(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *profile = NULL;
    const char *name = NULL;

    if (!name_of(service, &name, err) || !service_get(service, name, NULL, &profile, err))
        return false;
    show_one(service, SHOW_PROFILE, profile, service->out);
    return true;
}

static bool remove_profile(Service *service, Error *err) {
    const char *name = NULL;

    if (!name_of(service, &name, err))
        return false;
    const char *question =
        arena_printf(service->arena, "Delete profile %s, with its password?", service_id(service, name));
    return change_delete(service, &profiles, name, question, err);
}

/* --- what each takes --- */

static const char *const spec_takes[] = {"Profile", "Waiting", NULL};
static const char *const list_takes[] = {"Lists", NULL};
static const char *const none[] = {NULL};
static const char *const test_takes[] = {"Waiting", NULL};
static const char *const delete_takes[] = {"yes", "force", "Waiting", NULL};

const char *const profiles_takes[] = {"Client", "Profile", "Lists", "Waiting", "yes", "force", "no-color", NULL};

const Verb profiles_verbs[] = {
    {.name = "create",
     .args = "ID [URI]",
     .n_args = 1,
     .n_more = 1,
     .takes = spec_takes,
     .ask = create,
     .help = "make one, of a connection string or of options"},
    {.name = "list", .args = "", .takes = list_takes, .ask = list, .help = "show all"},
    {.name = "describe", .args = "ID", .n_args = 1, .takes = none, .ask = describe, .help = "show one, with all of it"},
    {.name = "update",
     .args = "ID [URI]",
     .n_args = 1,
     .n_more = 1,
     .takes = spec_takes,
     .ask = update,
     .help = "change what is given"},
    {.name = "test",
     .args = "ID",
     .n_args = 1,
     .takes = test_takes,
     .ask = test,
     .help = "have the service log in there"},
    {.name = "delete",
     .args = "ID",
     .n_args = 1,
     .takes = delete_takes,
     .ask = remove_profile,
     .help = "remove one that no job uses"},
    {0},
};
