/* The verbs of migration jobs. */
#include "api/kinds.h"
#include "api/migration_jobs.h"
#include "api/patch.h"
#include "jobs/errand.h"
#include "jobs/wish.h"
#include "model/resources.h"

#include <string.h>

/* ---- Wishes ---- */

static bool wish(ApiCall *call, JobEvent event, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    const Wish wish = {.event = event, .order = call_order(call), .args = call->body, .who = call->grant.who};

    return kind_load(call, &job, err) && job_wish(call->tx, call->arena, call->resource, &wish, &call->operation, err);
}

bool migration_start(ApiCall *call, Error *err) {
    return wish(call, EVENT_USER_START, err);
}

bool migration_stop(ApiCall *call, Error *err) {
    return wish(call, EVENT_USER_STOP, err);
}

bool migration_resume(ApiCall *call, Error *err) {
    return wish(call, EVENT_USER_RESUME, err);
}

/* ---- Errands ---- */

static bool ask(ApiCall *call, Record *job, Errand errand, const json_t *args, Error *err) {
    const OperationOrder order = call_order(call);
    const JobView view = job_view(job);

    return errand_is_allowed(errand, &view, err) &&
           errand_ask(call->tx, call->arena, job, errand, &order, args, &call->operation, err);
}

/* Who asked for which SQL, before it is carried out: what came of it is in the job's log. */
static bool audit_fixes(const ApiCall *call, const json_t *fixes, Error *err) {
    for (size_t at = 0; at < json_array_size(fixes); at++) {
        const json_t *fix = json_array_get(fixes, at);
        const char *database = json_get_string(fix, "database", "");
        StoreAudit line = {
            .who = call->grant.who,
            .action = "migrationJobs.verify.fix",
            .resource = call->resource,
            .from = call->request->peer,
            .request_id = call_text(call, PARAM_REQUEST_ID),
            .outcome = arena_printf(call->arena, "ASKED: %s%s%son the %s: %s", database[0] != '\0' ? "database " : "",
                                    database, database[0] != '\0' ? ", " : "", json_get_string(fix, "side", ""),
                                    json_get_string(fix, "statement", "")),
        };

        if (!store_audit_append(call->tx, &line, err))
            return false;
    }
    return true;
}

/* The job as it would be with the changes of the request, which are not kept. */
bool migration_verify(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    CLEANUP(json_freep) json_t *args = json_object();
    const json_t *changes = json_object_get(call->body, "migrationJob");
    json_t *fixes = json_object_get(call->body, "fixes");
    const char *mask = json_get_string(call->body, "updateMask", "");

    if (!kind_load(call, &job, err))
        return false;
    if (changes != NULL && fixes != NULL)
        return call_refuse(call, "fixes", "cannot be given together with changes of the job that are not kept");
    if (changes != NULL) {
        json_t *candidate =
            message_patch(&message_migration_job, job.api, changes, mask, NULL, call->arena, &call->violations);
        if (candidate == NULL)
            return false;
        (void)json_object_set_new(args, "migrationJob", candidate);
    }
    if (fixes != NULL)
        (void)json_object_set(args, "fixes", fixes);
    return audit_fixes(call, fixes, err) &&
           ask(call, &job, ERRAND_VERIFY, json_object_size(args) > 0 ? args : NULL, err);
}

static bool ask_plainly(ApiCall *call, Errand errand, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    return kind_load(call, &job, err) && ask(call, &job, errand, NULL, err);
}

/* Google's request is empty; what it may say here is ours (message_demote). */
bool migration_demote(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    bool release = json_get_bool(call->body, "release", false);

    if (release && json_get_bool(call->body, "allowNonEmpty", false))
        return call_refuse(call, "allowNonEmpty", "cannot be given together with release");
    return kind_load(call, &job, err) && ask(call, &job, release ? ERRAND_RELEASE : ERRAND_DEMOTE, call->body, err);
}

bool migration_fetch(ApiCall *call, Error *err) {
    return ask_plainly(call, ERRAND_FETCH_OBJECTS, err);
}

/* ---- Of the whole job, or of some of its databases ---- */

/* Each of the filter's databases has to be an object of the job. */
static bool check_known(ApiCall *call, const json_t *filter, Error *err) {
    const json_t *list = json_object_get(json_object_get(filter, "sourceObjectsConfig"), "objectConfigs");

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *identifier = json_object_get(json_array_get(list, at), "objectIdentifier");
        const char *database = json_get_string(identifier, "database", "");
        StoreResource object = {0};

        if (store_get(call->tx, object_name(call->arena, call->resource, database), &object, err))
            continue;
        if (err->reason != REASON_NO_RESOURCE)
            return false;
        call_refuse(call, arena_printf(call->arena, "objectsFilter.sourceObjectsConfig.objectConfigs[%zu]", at),
                    "the job has no database %s", database);
    }
    return call->violations.len == 0;
}

/* A filter that names all, or nothing, is none. */
static bool is_partial(const json_t *filter) {
    const json_t *objects = json_object_get(filter, "sourceObjectsConfig");

    return json_array_size(json_object_get(objects, "objectConfigs")) > 0 &&
           strcmp(json_get_string(objects, "objectsSelectionType", ""), "ALL_OBJECTS") != 0;
}

/* A list that came out empty does not mean all of them. */
static bool check_filter(ApiCall *call) {
    const json_t *objects = json_object_get(json_object_get(call->body, "objectsFilter"), "sourceObjectsConfig");
    bool some = strcmp(json_get_string(objects, "objectsSelectionType", ""), "SPECIFIED_OBJECTS") == 0;

    return !some || json_array_size(json_object_get(objects, "objectConfigs")) > 0 ||
           call_refuse(call, "objectsFilter.sourceObjectsConfig.objectConfigs",
                       "SPECIFIED_OBJECTS needs databases; without objectsFilter all of them are meant");
}

static bool ask_of_some(ApiCall *call, Errand errand, Error *err) {
    CLEANUP(record_fini) Record job = {0};

    return kind_load(call, &job, err) && check_known(call, json_object_get(call->body, "objectsFilter"), err) &&
           ask(call, &job, errand, call->body, err);
}

bool migration_restart(ApiCall *call, Error *err) {
    bool failed = json_get_bool(call->body, "restartFailedObjects", false);
    bool some = is_partial(json_object_get(call->body, "objectsFilter"));

    if (some && failed)
        return call_refuse(call, "restartFailedObjects", "cannot be given together with objectsFilter");
    if (!check_filter(call))
        return false;
    return some || failed ? ask_of_some(call, ERRAND_RESTART_OBJECTS, err) : wish(call, EVENT_USER_RESTART, err);
}

bool migration_promote(ApiCall *call, Error *err) {
    if (json_get_bool(call->body, "failback", false))
        return error_set(err, REASON_NOT_SERVED, "promote with failback is not served here");
    if (!check_filter(call))
        return false;
    return is_partial(json_object_get(call->body, "objectsFilter")) ? ask_of_some(call, ERRAND_PROMOTE_OBJECTS, err)
                                                                    : wish(call, EVENT_USER_PROMOTE, err);
}

/* ---- Objects ---- */

bool migration_lookup(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0}, object = {0};
    const json_t *identifier = json_object_get(call->body, "sourceObjectIdentifier");
    const char *database = json_get_string(identifier, "database", "");
    const char *type = json_get_string(identifier, "type", "DATABASE");

    if (database[0] == '\0')
        return call_refuse(call, "sourceObjectIdentifier.database", "is required");
    if (!kind_load(call, &job, err))
        return false;
    if (strcmp(type, "DATABASE") != 0)
        return error_set(err, REASON_NO_RESOURCE, "the objects of %s are databases: there is no %s", call->resource,
                         type);
    if (!record_load(call->tx, STORE_MIGRATION_JOB_OBJECT, object_name(call->arena, call->resource, database), &object,
                     err))
        return error_wrap(err, "database %s of %s", database, call->resource);
    call->answer = object_render(&object, call->arena);
    return true;
}
