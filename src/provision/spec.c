/* Specs and statuses of instances as JSON. */
#include "provision/provider.h"

#include <string.h>

static const char *const mode_names[PROVISION_MODE_MAX_] = {
#define X(name, help) [PROVISION_##name] = #name,
    PROVISION_MODES(X)
#undef X
};

static const char *const state_names[PROVISION_STATE_MAX_] = {
#define X(name, help) [PROVISION_STATE_##name] = #name,
    PROVISION_STATES(X)
#undef X
};

/* The fields that are plain text, number or truth; the rest is code. */
#define SPEC_TEXTS(X)                                                                                                  \
    X(id)                                                                                                              \
    X(encoding) X(provider) X(collate) X(ctype) X(locale) X(password)
#define SPEC_NUMBERS(X) X(cpus) X(memory_mb) X(disk_mb)
#define SPEC_TRUTHS(X) X(require_tls) X(regional)

const char *provision_mode_name(ProvisionMode mode) {
    return mode_names[mode];
}

const char *provision_state_name(ProvisionState state) {
    return state_names[state];
}

/* count when there is none of that name. */
static size_t find_name(const char *const *names, size_t count, const char *name) {
    size_t at = 0;

    while (at < count && strcmp(names[at], name) != 0)
        at++;
    return at;
}

ProvisionMode provision_mode_from_name(const char *name) {
    return (ProvisionMode)find_name(mode_names, PROVISION_MODE_MAX_, name);
}

static void put(json_t *json, const char *key, json_t *value) {
    (void)json_object_set_new(json, key, value);
}

static void put_text(json_t *json, const char *key, const char *text) {
    if (text != NULL)
        put(json, key, json_string_lossy(text));
}

/* ---- What an instance shall be ---- */

static json_t *flags_to_json(const ProvisionSpec *spec) {
    json_t *flags = json_array();

    for (size_t at = 0; at < spec->flags.len; at++) {
        json_t *flag = json_object();
        put_text(flag, "name", spec->flags.items[at].name);
        put_text(flag, "value", spec->flags.items[at].value);
        (void)json_array_append_new(flags, flag);
    }
    return flags;
}

json_t *provision_spec_to_json(const ProvisionSpec *spec) {
    json_t *json = json_object();
    json_t *networks = json_array();

#define X(field) put_text(json, #field, spec->field);
    SPEC_TEXTS(X)
#undef X
#define X(field) put(json, #field, json_integer(spec->field));
    SPEC_NUMBERS(X)
#undef X
#define X(field) put(json, #field, json_boolean(spec->field));
    SPEC_TRUTHS(X)
#undef X
    put(json, "major", json_integer(spec->major));
    put_text(json, "mode", mode_names[spec->mode]);
    put(json, "flags", flags_to_json(spec));
    for (size_t at = 0; at < spec->networks.len; at++)
        (void)json_array_append_new(networks, json_string_lossy(spec->networks.items[at]));
    put(json, "networks", networks);
    return json;
}

static bool read_flags(Arena *arena, const json_t *json, ProvisionSpec *spec, Error *err) {
    const json_t *flag;
    size_t at;

    json_array_foreach(json_get_array(json, "flags"), at, flag) {
        ProvisionFlag read = {.name = arena_strdup(arena, json_get_string(flag, "name", NULL)),
                              .value = arena_strdup(arena, json_get_string(flag, "value", NULL))};
        if (read.name == NULL || read.value == NULL)
            return error_set(err, REASON_WIRE_BAD, "flag %zu of an instance has no name or no value", at);
        vec_push(arena, &spec->flags, read);
    }
    return true;
}

static bool read_networks(Arena *arena, const json_t *json, ProvisionSpec *spec, Error *err) {
    const json_t *network;
    size_t at;

    json_array_foreach(json_get_array(json, "networks"), at, network) {
        if (!json_is_string(network))
            return error_set(err, REASON_WIRE_BAD, "network %zu of an instance is no text", at);
        vec_push(arena, &spec->networks, arena_strdup(arena, json_string_value(network)));
    }
    return true;
}

bool provision_spec_from_json(Arena *arena, const json_t *json, ProvisionSpec *ret_spec, Error *err) {
    ProvisionSpec spec = {.major = (int)json_get_int(json, "major", 0)};
    size_t mode = find_name(mode_names, PROVISION_MODE_MAX_, json_get_string(json, "mode", ""));

#define X(field) spec.field = arena_strdup(arena, json_get_string(json, #field, NULL));
    SPEC_TEXTS(X)
#undef X
#define X(field) spec.field = json_get_int(json, #field, 0);
    SPEC_NUMBERS(X)
#undef X
#define X(field) spec.field = json_get_bool(json, #field, false);
    SPEC_TRUTHS(X)
#undef X
    if (spec.id == NULL || mode == PROVISION_MODE_MAX_)
        return error_set(err, REASON_WIRE_BAD, "what an instance shall be has no id, or no mode that is known");
    spec.mode = (ProvisionMode)mode;
    if (!read_flags(arena, json, &spec, err) || !read_networks(arena, json, &spec, err))
        return false;
    *ret_spec = spec;
    return true;
}

/* ---- How one is ---- */

static json_t *endpoint_to_json(const ProvisionEndpoint *endpoint) {
    json_t *json = json_object();

    put_text(json, "host", endpoint->host);
    put(json, "port", json_integer(endpoint->port));
    put_text(json, "user", endpoint->user);
    put_text(json, "password", endpoint->password);
    put_text(json, "ca", endpoint->ca);
    return json;
}

json_t *provision_status_to_json(const ProvisionStatus *status) {
    json_t *json = json_object();

    put_text(json, "state", state_names[status->state]);
    put_text(json, "mode", mode_names[status->mode]);
    put_text(json, "system_identifier", status->system_identifier);
    if (status->endpoint.host != NULL)
        put(json, "endpoint", endpoint_to_json(&status->endpoint));
    put(json, "disk_used_mb", json_integer(status->disk_used_mb));
    put_text(json, "trouble", status->trouble);
    return json;
}

bool provision_status_from_json(Arena *arena, const json_t *json, ProvisionStatus *ret_status, Error *err) {
    size_t state = find_name(state_names, PROVISION_STATE_MAX_, json_get_string(json, "state", ""));
    size_t mode = find_name(mode_names, PROVISION_MODE_MAX_, json_get_string(json, "mode", ""));
    const json_t *endpoint = json_get_object(json, "endpoint");

    if (state == PROVISION_STATE_MAX_ || mode == PROVISION_MODE_MAX_)
        return error_set(err, REASON_WIRE_BAD, "how an instance is has no state or no mode that is known");
    *ret_status = (ProvisionStatus){
        .state = (ProvisionState)state,
        .mode = (ProvisionMode)mode,
        .system_identifier = arena_strdup(arena, json_get_string(json, "system_identifier", NULL)),
        .endpoint = {.host = arena_strdup(arena, json_get_string(endpoint, "host", NULL)),
                     .port = json_get_int(endpoint, "port", 0),
                     .user = arena_strdup(arena, json_get_string(endpoint, "user", NULL)),
                     .password = arena_strdup(arena, json_get_string(endpoint, "password", NULL)),
                     .ca = arena_strdup(arena, json_get_string(endpoint, "ca", NULL))},
        .disk_used_mb = json_get_int(json, "disk_used_mb", -1),
        .trouble = arena_strdup(arena, json_get_string(json, "trouble", NULL)),
    };
    return true;
}
