/* Long-running operations. */
#include "jobs/operation.h"

#include "common/clock.h"

#include <inttypes.h>
#include <string.h>

#define TYPE_URL "type.googleapis.com/"
#define RUNNING "RUNNING"

static const char apart_key[] = "apart"; /* in `run`: what only some are shown */

const char *operation_new_name(Arena *arena, const char *location) {
    int64_t now_us = clock_wall_us();
    const char *random = record_random_id(arena);

    return arena_printf(arena, "%s/operations/operation-%" PRId64 "-%" PRIx64 "-%.8s-%.8s", location,
                        now_us / USEC_PER_MSEC, now_us, random, random + 8);
}

bool operation_create(StoreTx *tx, Arena *arena, const OperationOrder *order, Error *err) {
    CLEANUP(record_fini)
    Record operation = {
        .resource = {.kind = STORE_OPERATION,
                     .name = order->name,
                     .parent = record_location(arena, order->name),
                     .state = RUNNING},
        .api = json_pack("{s:{s:s, s:o, s:s, s:s, s:b, s:s}, s:b}", "metadata", "@type",
                         TYPE_URL "google.cloud.clouddms.v1.OperationMetadata", "createTime",
                         record_time(arena, clock_wall_us()), "target", order->target, "verb", order->verb,
                         "requestedCancellation", 0, "apiVersion", order->version, "done", 0),
        .run = json_object(),
    };

    return record_create(tx, arena, &operation, err);
}

static bool is_over(const Record *operation) {
    return strcmp(operation->resource.state, STORE_DONE) == 0;
}

/* *ret_open false also when it was deleted: its client is no longer interested. */
static bool load_open(StoreTx *tx, const char *name, Record *operation, bool *ret_open, Error *err) {
    if (record_load(tx, STORE_OPERATION, name, operation, err)) {
        *ret_open = !is_over(operation);
        return true;
    }
    *ret_open = false;
    return err->reason == REASON_NO_RESOURCE;
}

static bool end(StoreTx *tx, Arena *arena, const char *name, const char *key, json_t *value, Error *err) {
    CLEANUP(record_fini) Record operation = {0};
    CLEANUP(json_freep) json_t *outcome = value;
    bool open = false;

    if (!load_open(tx, name, &operation, &open, err))
        return false;
    if (!open)
        return true;
    (void)json_object_set_new(json_object_get(operation.api, "metadata"), "endTime",
                              record_time(arena, clock_wall_us()));
    (void)json_object_set_new(operation.api, "done", json_true());
    (void)json_object_set(operation.api, key, outcome);
    operation.resource.state = STORE_DONE;
    return record_save(tx, arena, &operation, err);
}

bool operation_finish(StoreTx *tx, Arena *arena, const char *name, const char *type, const json_t *resource,
                      Error *err) {
    json_t *response = resource != NULL ? json_deep_copy(resource) : json_object();
    const char *url = type != NULL ? arena_printf(arena, TYPE_URL "google.cloud.clouddms.v1.%s", type)
                                   : TYPE_URL "google.protobuf.Empty";

    (void)json_object_set_new(response, "@type", json_string(url));
    return end(tx, arena, name, "response", response, err);
}

bool operation_fail(StoreTx *tx, Arena *arena, const char *name, const json_t *status, Error *err) {
    return end(tx, arena, name, "error", json_deep_copy(status), err);
}

static bool ask_cancel(StoreTx *tx, Arena *arena, const Record *operation, Error *err) {
    const char *target = json_get_string(json_object_get(operation->api, "metadata"), "target", "");
    StoreAction action = {
        .owner = target,
        .action = OPERATION_CANCEL,
        .body = arena_printf(arena, "{\"operation\":\"%s\"}", operation->resource.name), /* names have no quotes */
    };

    return store_outbox_add(tx, &action, err);
}

bool operation_cancel(StoreTx *tx, Arena *arena, const char *name, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    if (!record_load(tx, STORE_OPERATION, name, &operation, err))
        return false;
    json_t *metadata = json_object_get(operation.api, "metadata");
    if (is_over(&operation) || json_get_bool(metadata, "requestedCancellation", false))
        return true;
    (void)json_object_set_new(metadata, "requestedCancellation", json_true());
    return ask_cancel(tx, arena, &operation, err) && record_save(tx, arena, &operation, err);
}

bool operation_delete(StoreTx *tx, const char *name, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    if (!record_load(tx, STORE_OPERATION, name, &operation, err))
        return false;
    if (!is_over(&operation))
        return error_set(err, REASON_OPERATION_RUNNING, "%s is not over yet", name);
    return store_delete(tx, name, operation.resource.version, err);
}

static json_t *metadata_of(const Record *operation) {
    return json_object_get(operation->api, "metadata");
}

static json_t *run_of(const Record *operation) {
    return operation->run;
}

/* Of one that is not over; value NULL: takes it away. */
static bool set_member(StoreTx *tx, Arena *arena, const char *name, json_t *(*where)(const Record *), const char *key,
                       json_t *value, Error *err) {
    CLEANUP(record_fini) Record operation = {0};
    bool open = false;

    if (!load_open(tx, name, &operation, &open, err))
        return false;
    if (!open)
        return true;
    const json_t *there = json_object_get(where(&operation), key);
    if (value == NULL ? there == NULL : json_equal(there, value))
        return true;
    if (value == NULL)
        (void)json_object_del(where(&operation), key);
    else
        (void)json_object_set(where(&operation), key, value);
    return record_save(tx, arena, &operation, err);
}

bool operation_note(StoreTx *tx, Arena *arena, const char *name, const char *key, json_t *value, Error *err) {
    return set_member(tx, arena, name, metadata_of, key, value, err);
}

bool operation_keep_apart(StoreTx *tx, Arena *arena, const char *name, json_t *members, Error *err) {
    return set_member(tx, arena, name, run_of, apart_key, members, err);
}

bool operation_say(StoreTx *tx, Arena *arena, const char *name, const char *text, Error *err) {
    CLEANUP(json_freep) json_t *value = text[0] != '\0' ? json_string_lossy(text) : NULL;

    return operation_note(tx, arena, name, "statusMessage", value, err);
}

bool operation_is_cancelled(StoreTx *tx, const char *name, bool *ret_cancelled, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    *ret_cancelled = false;
    if (name[0] == '\0' || !record_load(tx, STORE_OPERATION, name, &operation, err))
        return name[0] == '\0' || err->reason == REASON_NO_RESOURCE;
    *ret_cancelled = json_get_bool(json_object_get(operation.api, "metadata"), "requestedCancellation", false);
    return true;
}

bool operation_is_running(StoreTx *tx, const char *name, bool *ret_running, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    return load_open(tx, name, &operation, ret_running, err);
}

json_t *operation_render(const Record *operation) {
    json_t *answer = json_pack("{s:s}", "name", operation->resource.name);

    (void)json_object_update(answer, operation->api);
    return answer;
}

/* The stored response stays as it is: it is another's, too. */
json_t *operation_render_whole(const Record *operation) {
    json_t *answer = operation_render(operation), *apart = json_object_get(operation->run, apart_key);

    if (apart == NULL || json_object_get(answer, "response") == NULL)
        return answer;
    json_t *response = json_copy(json_object_get(answer, "response"));
    (void)json_object_update(response, apart);
    (void)json_object_set_new(answer, "response", response);
    return answer;
}
