/*
 * Private connections: what Google's cloud needs to reach into a network. A service inside of that network has nothing
 * to set up: they are kept, so that clients find what they made, and profiles may name them.
 */
#include "api/kinds.h"
#include "api/others.h"

#include <string.h>

bool private_create(ApiCall *call, Error *err) {
    CLEANUP(record_fini)
    Record connection = {
        .resource = {.kind = STORE_PRIVATE_CONNECTION,
                     .name = call->resource,
                     .parent = call->parent,
                     .state = "CREATED",
                     .uid = ""},
        .api = json_deep_copy(call->body),
        .run = json_object(),
    };

    if (!call_flag(call, PARAM_VALIDATE_ONLY) && !record_create(call->tx, call->arena, &connection, err)) {
        if (err->reason == REASON_NAME_TAKEN)
            error_set(err, REASON_NAME_TAKEN, "Resource '%s' already exists", call->resource);
        return false;
    }
    CLEANUP(json_freep) json_t *answer = record_render(&connection, call->arena);
    return call_answer_done(call, call->resource, "create", "PrivateConnection", answer, err);
}

static bool is_unused(void *context, const Record *profile, Error *err) {
    const ApiCall *call = context;
    const json_t *connectivity = json_object_get(json_object_get(profile->api, "postgresql"), "privateConnectivity");

    if (strcmp(json_get_string(connectivity, "privateConnection", ""), call->resource) != 0)
        return true;
    return error_set(err, REASON_RESOURCE_IN_USE, "%s is used by %s", call->resource, profile->resource.name);
}

bool private_delete(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record connection = {0};

    return kind_load(call, &connection, err) &&
           kind_each(call->tx, STORE_CONNECTION_PROFILE, NULL, is_unused, call, err) &&
           store_delete(call->tx, call->resource, connection.resource.version, err) &&
           call_answer_done(call, call->resource, "delete", NULL, NULL, err);
}
