/* The commands `objects` and `operations`. */
#include "cli/service/change.h"
#include "cli/service/jobs.h"
#include "cli/service/main.h"

/* --- objects: the databases of a job --- */

/* The service asks the source which databases it has. */
static bool refresh(Service *service, const char *job, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    const char *what = arena_printf(service->arena, "the list of databases of job %s", service_id(service, job));

    return service_get(service, arena_printf(service->arena, "%s:fetchSourceObjects", job), NULL, &operation, err) &&
           change_follow(service, what, &operation, err);
}

static bool list_objects(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *items = NULL;
    const char *job = NULL;

    if (!jobs_name(service, &job, err) || (service->options->refresh && !refresh(service, job, err)))
        return false;
    const char *path = arena_printf(service->arena, "%s/objects", job);
    if (!service_list(service, path, "migrationJobObjects", NULL, NULL, &items, err))
        return false;
    show_list(service, SHOW_OBJECT, items, service->out);
    return true;
}

static bool describe_object(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *object = NULL;
    CLEANUP(json_freep)
    json_t *body = json_pack("{s:{s:s, s:o}}", "sourceObjectIdentifier", "type", "DATABASE", "database",
                             json_string_lossy(service_word(service, 2)));
    const char *job = NULL;

    if (!jobs_name(service, &job, err))
        return false;
    const ClientRequest request = {.method = CLIENT_POST,
                                   .path = arena_printf(service->arena, "%s/objects:lookup", job),
                                   .body = body,
                                   .may_repeat = true};
    if (!client_send(service->client, &request, &object, err))
        return false;
    show_one(service, SHOW_OBJECT, object, service->out);
    return true;
}

static const char *const refresh_takes[] = {"refresh", "timeout", NULL};
static const char *const none[] = {NULL};

const char *const objects_takes[] = {"Client", "refresh", "timeout", "no-color", NULL};

const Verb objects_verbs[] = {
    {.name = "list",
     .args = "JOB",
     .n_args = 1,
     .takes = refresh_takes,
     .ask = list_objects,
     .help = "show the databases of a job"},
    {.name = "describe",
     .args = "JOB DATABASE",
     .n_args = 2,
     .takes = none,
     .ask = describe_object,
     .help = "show one of them"},
    {0},
};

/* --- operations --- */

static bool operation_name(const Service *service, const char **ret_name, Error *err) {
    return service_name(service, OPERATION_COLLECTION, service_word(service, 1), ret_name, err);
}

static bool list_operations(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *items = NULL;
    const char *path = arena_printf(service->arena, "%s/" OPERATION_COLLECTION, service->parent);
    const char *order = service->options->sort_by != NULL ? service->options->sort_by : "createTime desc";

    if (!service_list(service, path, OPERATION_COLLECTION, service->options->filter, order, &items, err))
        return false;
    show_list(service, SHOW_OPERATION, items, service->out);
    return true;
}

static bool describe_operation(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    const char *name = NULL;

    if (!operation_name(service, &name, err) || !service_get(service, name, NULL, &operation, err))
        return false;
    show_one(service, SHOW_OPERATION, operation, service->out);
    return true;
}

static bool wait_operation(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *operation = NULL;
    const char *name = NULL;

    if (!operation_name(service, &name, err) || !service_get(service, name, NULL, &operation, err))
        return false;
    const json_t *metadata = json_get_object(operation, "metadata");
    const char *what = arena_printf(service->arena, "the %s of %s", json_get_string(metadata, "verb", "operation"),
                                    service_id(service, json_get_string(metadata, "target", "?")));
    if (!change_follow(service, what, &operation, err))
        return false;
    show_one(service, SHOW_OPERATION, operation, service->out);
    return true;
}

/* Both answer with nothing. */
static bool act(Service *service, ClientMethod method, const char *verb, const char *done, Error *err) {
    CLEANUP(json_freep) json_t *answer = NULL;
    const char *name = NULL;

    if (!operation_name(service, &name, err))
        return false;
    const ClientRequest request = {.method = method, .path = arena_printf(service->arena, "%s%s", name, verb)};
    if (!client_send(service->client, &request, &answer, err))
        return false;
    if (service->format != OUTPUT_TABLE)
        show_data(service->format, answer, service->out);
    else
        buf_printf(service->out, "Operation %s %s.\n", service_id(service, name), done);
    return true;
}

static bool cancel_operation(Service *service, Error *err) {
    return act(service, CLIENT_POST, ":cancel", "is asked to stop; it may still end well", err);
}

static bool delete_operation(Service *service, Error *err) {
    return act(service, CLIENT_DELETE, "", "is forgotten", err);
}

static const char *const list_takes[] = {"Lists", NULL};
static const char *const wait_takes[] = {"timeout", NULL};

const char *const operations_takes[] = {"Client", "Lists", "timeout", "no-color", NULL};

const Verb operations_verbs[] = {
    {.name = "list",
     .args = "",
     .takes = list_takes,
     .ask = list_operations,
     .help = "show all of the last days, the newest first"},
    {.name = "describe", .args = "ID", .n_args = 1, .takes = none, .ask = describe_operation, .help = "show one"},
    {.name = "wait",
     .args = "ID",
     .n_args = 1,
     .takes = wait_takes,
     .ask = wait_operation,
     .help = "wait until it is over, and fail as it failed"},
    {.name = "cancel",
     .args = "ID",
     .n_args = 1,
     .takes = none,
     .ask = cancel_operation,
     .help = "ask for its end; it may still end well"},
    {.name = "delete",
     .args = "ID",
     .n_args = 1,
     .takes = none,
     .ask = delete_operation,
     .help = "forget one that is over"},
    {0},
};
