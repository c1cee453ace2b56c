/* What the kinds of resources have of their own. */
#include "api/kinds.h"

#include "api/profiles.h"
#include "jobs/instance.h"
#include "jobs/job.h"
#include "model/resources.h"

static json_t *render_operation(const Record *record, Arena *arena UNUSED) {
    return operation_render(record);
}

static const Kind kinds[] = {
    [NAME_CONNECTION_PROFILE] = {STORE_CONNECTION_PROFILE, "connectionProfiles", "ConnectionProfile",
                                 &message_connection_profile, profile_render},
    [NAME_MIGRATION_JOB] = {STORE_MIGRATION_JOB, "migrationJobs", "MigrationJob", &message_migration_job, job_render},
    [NAME_PRIVATE_CONNECTION] = {STORE_PRIVATE_CONNECTION, "privateConnections", "PrivateConnection",
                                 &message_private_connection, record_render},
    [NAME_INSTANCE] = {STORE_INSTANCE, "instances", "Instance", &message_instance, instance_render},
    [NAME_OPERATION] = {STORE_OPERATION, "operations", "Operation", &message_operation, render_operation},
    [NAME_OBJECT] = {STORE_MIGRATION_JOB_OBJECT, "migrationJobObjects", "MigrationJobObject",
                     &message_migration_job_object, object_render},
};

const Kind *kind_of(NameKind name) {
    return &kinds[name];
}

bool kind_load(const ApiCall *call, Record *ret_record, Error *err) {
    CLEANUP(record_fini) Record record = {0};

    if (!record_load(call->tx, kind_of(call->name.kind)->store, call->resource, &record, err)) {
        if (err->reason == REASON_NO_RESOURCE)
            error_set(err, REASON_NO_RESOURCE, "Resource '%s' was not found", call->resource);
        return false;
    }
    if (!call_check_etag(call, &record.resource, err))
        return false;
    *ret_record = record;
    record = (Record){0};
    return true;
}

bool kind_each(StoreTx *tx, StoreKind store, const char *parent, RecordVisit each, void *context, Error *err) {
    StoreQuery query = {.kind = store, .parent = parent, .page_size = STORE_PAGE_MAX, .cursor = ""};
    StorePage page = {0};

    do {
        if (!store_list(tx, &query, &page, err))
            return false;
        for (size_t at = 0; at < page.count; at++) {
            CLEANUP(record_fini) Record record = {0};

            if (!record_open(&page.items[at], &record, err) || !each(context, &record, err))
                return false;
        }
        query.cursor = page.next_cursor;
    } while (page.next_cursor[0] != '\0');
    return true;
}

bool kind_get(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record record = {0};

    if (!kind_load(call, &record, err))
        return false;
    call->answer = kind_of(call->name.kind)->render(&record, call->arena);
    call->etag = record_etag(call->arena, &record.resource);
    return true;
}
