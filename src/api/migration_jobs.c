/* Migration jobs: create, patch, delete. */
#include "api/migration_jobs.h"

#include "api/kinds.h"
#include "api/patch.h"
#include "jobs/errand.h"
#include "jobs/wish.h"
#include "model/resources.h"

#include <string.h>

/* ---- Its two profiles ---- */

/* *ret_profile: empty, with a violation, when the field names none. */
static bool load_profile(ApiCall *call, const json_t *api, const char *field, Record *ret_profile, Error *err) {
    const char *text = json_get_string(api, field, "");
    ResourceName name = {0};
    Error why;

    if (!name_parse(call->arena, text, &name, &why) || name.kind != NAME_CONNECTION_PROFILE) {
        call_refuse(call, field, "must be projects/P/locations/L/connectionProfiles/ID");
        return true;
    }
    if (record_load(call->tx, STORE_CONNECTION_PROFILE, text, ret_profile, err))
        return true;
    if (err->reason != REASON_NO_RESOURCE)
        return false;
    call_refuse(call, field, "there is no connection profile %s", text);
    return true;
}

static void check_role(ApiCall *call, const Record *profile, const char *field, const char *other) {
    if (profile->api != NULL && strcmp(json_get_string(profile->api, "role", ""), other) == 0)
        call_refuse(call, field, "%s has the role %s", profile->resource.name, other);
}

/* What kind of database each side is, unless the client has said so. */
static void note_database(json_t *api, const char *field, const Record *profile) {
    const char *provider = json_get_string(profile->api, "provider", NULL);

    if (json_object_get(api, field) == NULL)
        (void)json_object_set_new(api, field, json_pack("{s:s, s:s*}", "engine", "POSTGRESQL", "provider", provider));
}

/* *ret_prepared: the destination is there. */
static bool check_profiles(ApiCall *call, json_t *api, bool *ret_prepared, Error *err) {
    CLEANUP(record_fini) Record source = {0}, destination = {0};
    bool same = strcmp(json_get_string(api, "source", ""), json_get_string(api, "destination", "")) == 0;

    if (!load_profile(call, api, "source", &source, err) || !load_profile(call, api, "destination", &destination, err))
        return false;
    if (same)
        call_refuse(call, "destination", "must be another connection profile than the source");
    check_role(call, &source, "source", "DESTINATION");
    check_role(call, &destination, "destination", "SOURCE");
    if (source.api != NULL && json_object_get(source.api, "postgresql") == NULL)
        call_refuse(call, "source", "must be a postgresql profile");
    if (call->violations.len > 0)
        return false;
    note_database(api, "sourceDatabase", &source);
    note_database(api, "destinationDatabase", &destination);
    *ret_prepared = strcmp(destination.resource.state, "READY") == 0;
    return true;
}

/* ---- Which databases ---- */

static void check_objects(ApiCall *call, const json_t *config, const char *field) {
    const json_t *objects = json_object_get(config, "sourceObjectsConfig");
    const json_t *list = json_object_get(objects, "objectConfigs");
    bool some = strcmp(json_get_string(objects, "objectsSelectionType", ""), "SPECIFIED_OBJECTS") == 0;

    if (some && json_array_size(list) == 0)
        call_refuse(call, field, "SPECIFIED_OBJECTS needs objectConfigs");
    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *object = json_object_get(json_array_get(list, at), "objectIdentifier");

        if (json_get_string(object, "database", "")[0] == '\0' ||
            strcmp(json_get_string(object, "type", "DATABASE"), "DATABASE") != 0)
            call_refuse(call, arena_printf(call->arena, "%s.sourceObjectsConfig.objectConfigs[%zu]", field, at),
                        "must name a database: whole databases are migrated");
    }
}

static void check_job(ApiCall *call, const json_t *api) {
    if (strcmp(json_get_string(api, "type", ""), "TYPE_UNSPECIFIED") == 0)
        call_refuse(call, "type", "must be ONE_TIME or CONTINUOUS");
    check_objects(call, json_object_get(api, "objectsConfig"), "objectsConfig");
}

/* ---- Methods ---- */

bool migration_create(ApiCall *call, Error *err) {
    CLEANUP(record_fini)
    Record job = {.resource = {.name = call->resource, .parent = call->parent},
                  .api = json_deep_copy(call->body),
                  .run = json_object()};
    const Wish wish = {.order = call_order(call), .who = call->grant.who};
    bool prepared = false;

    check_job(call, job.api);
    if (!check_profiles(call, job.api, &prepared, err))
        return false;
    call->operation = call->new_operation;
    if (job_create(call->tx, call->arena, &job, prepared, &wish, err))
        return true;
    if (err->reason == REASON_NAME_TAKEN)
        error_set(err, REASON_NAME_TAKEN, "Resource '%s' already exists", call->resource);
    return false;
}

bool migration_delete(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    CLEANUP(json_freep) json_t *args = json_pack("{s:b}", "force", call_flag(call, PARAM_FORCE));
    const Wish wish = {.event = EVENT_USER_DELETE, .order = call_order(call), .args = args, .who = call->grant.who};

    return kind_load(call, &job, err) && job_wish(call->tx, call->arena, call->resource, &wish, &call->operation, err);
}

/* What a job may be told while it is at work, or after. */
static bool may_change(ApiCall *call, JobState state, const json_t *before, const json_t *after, Error *err) {
    static const char *const always[] = {"displayName", "labels"};
    CLEANUP(json_freep) json_t *left = json_deep_copy(before);
    bool fixed = state == JOB_COMPLETED || state == JOB_DELETING || state == JOB_CREATING;

    for (size_t at = 0; at < COUNT_OF(always); at++) {
        (void)json_object_del(left, always[at]);
        if (json_object_get(after, always[at]) != NULL)
            (void)json_object_set(left, always[at], json_object_get(after, always[at]));
    }
    if (!fixed || json_equal(left, after) == 1)
        return true;
    return error_set(err, REASON_JOB_STATE, "%s is %s: only displayName and labels can be changed", call->resource,
                     job_state_name(state));
}

bool migration_patch(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    if (!kind_load(call, &job, err))
        return false;
    CLEANUP(json_freep) json_t *before = json_deep_copy(job.api);
    JobState state = job_view(&job).state;
    if (!patch_apply(call, &message_migration_job, &job, NULL) || !may_change(call, state, before, job.api, err))
        return false;
    check_job(call, job.api);
    if (call->violations.len > 0)
        return false;
    bool tell = job_state_has_worker(state) && json_equal(before, job.api) != 1;
    if (tell) {
        const OperationOrder order = call_order(call);
        return errand_ask(call->tx, call->arena, &job, ERRAND_RECONFIGURE, &order, job.api, &call->operation, err);
    }
    if (!job_save(call->tx, call->arena, &job, err))
        return false;
    CLEANUP(json_freep) json_t *answer = job_render(&job, call->arena);
    return call_answer_done(call, call->resource, "update", "MigrationJob", answer, err);
}
