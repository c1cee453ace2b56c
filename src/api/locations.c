/*
 * Locations and IAM.
 *
 * A location is a word in the names of resources: each that is well-formed is there. Listed are those that have
 * resources, and LOCAL.
 */
#include "api/kinds.h"
#include "api/others.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#define LOCAL "local"

static json_t *location_json(Arena *arena, const char *project, const char *location) {
    return json_pack("{s:s, s:s, s:s}", "name", arena_printf(arena, "projects/%s/locations/%s", project, location),
                     "locationId", location, "displayName", location);
}

bool locations_get(ApiCall *call, Error *err UNUSED) {
    call->answer = location_json(call->arena, call->name.project, call->name.location);
    return true;
}

typedef struct Found {
    const ApiCall *call;
    json_t *list;
} Found;

static void add_location(const Found *found, const char *location) {
    for (size_t at = 0; at < json_array_size(found->list); at++)
        if (strcmp(json_get_string(json_array_get(found->list, at), "locationId", ""), location) == 0)
            return;
    (void)json_array_append_new(found->list, location_json(found->call->arena, found->call->name.project, location));
}

static bool note_location(void *context, const Record *record, Error *err) {
    const Found *found = context;
    ResourceName name = {0};

    if (!name_parse(found->call->arena, record->resource.name, &name, err))
        return false;
    if (strcmp(name.project, found->call->name.project) == 0)
        add_location(found, name.location);
    return true;
}

bool locations_list(ApiCall *call, Error *err) {
    Found found = {.call = call, .list = json_array()};

    add_location(&found, LOCAL);
    call->answer = json_pack("{s:o}", "locations", found.list);
    return kind_each(call->tx, STORE_CONNECTION_PROFILE, NULL, note_location, &found, err) &&
           kind_each(call->tx, STORE_MIGRATION_JOB, NULL, note_location, &found, err);
}

/* ---- Addresses ---- */

static void add_address(Arena *arena, json_t *list, const struct sockaddr *address) {
    char *text = arena_alloc(arena, INET6_ADDRSTRLEN);
    const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
    bool is_six = address->sa_family == AF_INET6;

    if (is_six && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
        return;
    if (inet_ntop(address->sa_family, is_six ? (const void *)&six->sin6_addr : (const void *)&four->sin_addr, text,
                  INET6_ADDRSTRLEN) != NULL)
        (void)json_array_append_new(list, json_string(text));
}

/* Those of this machine: what a source has to let in. */
bool locations_static_ips(ApiCall *call, Error *err) {
    struct ifaddrs *all = NULL;
    json_t *list = json_array();

    call->answer = json_pack("{s:o}", "staticIps", list);
    if (getifaddrs(&all) != 0)
        return error_errno(err, REASON_SYSTEM, "the addresses of this machine");
    for (const struct ifaddrs *at = all; at != NULL; at = at->ifa_next)
        if (at->ifa_addr != NULL && (at->ifa_flags & IFF_LOOPBACK) == 0 && (at->ifa_flags & IFF_UP) != 0 &&
            (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6))
            add_address(call->arena, list, at->ifa_addr);
    freeifaddrs(all);
    return true;
}

/* ---- IAM: rights come from tokens, which belong to the whole service ---- */

static const Field test_permissions_fields[] = {
    {.name = "permissions", .kind = FIELD_STRING, .flags = FIELD_REPEATED, .max = 200},
};
const Message message_test_permissions = {"TestIamPermissionsRequest", test_permissions_fields,
                                          COUNT_OF(test_permissions_fields)};

bool iam_get(ApiCall *call, Error *err) {
    StoreResource resource = {0};

    if (!store_get(call->tx, call->resource, &resource, err))
        return false;
    call->answer = json_pack("{s:i, s:[], s:s}", "version", 1, "bindings", "etag", "ACAB");
    return true;
}

bool iam_set(ApiCall *call UNUSED, Error *err) {
    error_set(err, REASON_NOT_SERVED, "policies of single resources are not served here");
    return error_remedy(err, "rights come from the roles of tokens: viewer, operator, admin");
}

static bool is_reading(const char *permission) {
    const char *verb = strrchr(permission, '.');

    return verb != NULL &&
           (strcmp(verb, ".get") == 0 || strcmp(verb, ".list") == 0 || strcmp(verb, ".getIamPolicy") == 0);
}

/* Each that the caller's token allows. */
bool iam_test(ApiCall *call, Error *err) {
    const json_t *asked = json_object_get(call->body, "permissions");
    json_t *granted = json_array();
    StoreResource resource = {0};

    call->answer = json_pack("{s:o}", "permissions", granted);
    for (size_t at = 0; at < json_array_size(asked); at++) {
        json_t *permission = json_array_get(asked, at);
        AccessNeed need = is_reading(json_string_value(permission)) ? ACCESS_READ : ACCESS_CHANGE;

        if (strncmp(json_string_value(permission), "datamigration.", strlen("datamigration.")) == 0 &&
            need <= call->grant.most)
            (void)json_array_append(granted, permission);
    }
    return store_get(call->tx, call->resource, &resource, err);
}
