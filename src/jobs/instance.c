/* Servers that the service makes, as they are stored. */
#include "jobs/instance.h"

#include <string.h>

#define X(name, key) const char instance_run_##name[] = key;
INSTANCE_RUN_KEYS(X)
#undef X

static const char *const state_names[] = {
#define X(name, meaning) #name,
    INSTANCE_STATES(X)
#undef X
};

const char *instance_state_name(InstanceState state) {
    return state_names[state];
}

bool instance_is(const Record *instance, InstanceState state) {
    return strcmp(instance->resource.state, instance_state_name(state)) == 0;
}

/* A profile of a server that is there may name an instance by its id, too, instead of a host. */
const char *profile_instance(Arena *arena, const Record *profile) {
    const json_t *api = profile->api, *postgresql = json_object_get(api, "postgresql");
    const char *id = json_get_string(json_object_get(api, "cloudsql"), "cloudSqlId", NULL);

    if (id == NULL)
        id = json_get_string(json_object_get(api, "alloydb"), "clusterId", NULL);
    if (id == NULL && json_get_string(postgresql, "host", NULL) == NULL)
        id = json_get_string(postgresql, "cloudSqlId", json_get_string(postgresql, "alloydbClusterId", NULL));
    if (id == NULL)
        return NULL;
    const char *slash = strrchr(id, '/'), *colon = strrchr(slash != NULL ? slash : id, ':');
    const char *last = colon != NULL ? colon + 1 : slash != NULL ? slash + 1 : id;
    return arena_printf(arena, "%s/instances/%s", record_location(arena, profile->resource.name), last);
}

bool profile_makes_instance(const Record *profile) {
    return json_object_get(profile->api, "postgresql") == NULL;
}

bool instance_load(StoreTx *tx, const char *name, Record *ret_instance, Error *err) {
    return record_load(tx, STORE_INSTANCE, name, ret_instance, err);
}

static int64_t wanted_of(const Record *instance) {
    return json_get_int(instance->run, instance_run_WANTED, 0);
}

bool instance_is_settled(const Record *instance) {
    return wanted_of(instance) == json_get_int(instance->run, instance_run_DONE, 0) &&
           instance_is(instance, INSTANCE_RUNNABLE);
}

const char *instance_wanted_mode(const Record *instance) {
    return json_get_string(json_object_get(instance->run, instance_run_SPEC), "mode", "");
}

const char *instance_mode(const Record *instance) {
    return json_get_string(json_object_get(instance->run, instance_run_STATUS), "mode", "");
}

static void raise_wanted(Record *instance) {
    (void)json_object_set_new(instance->run, instance_run_WANTED, json_integer(wanted_of(instance) + 1));
    (void)json_object_del(instance->run, instance_run_RETRY_AT_US);
    (void)json_object_del(instance->run, instance_run_FAILURES);
}

void instance_want_mode(Record *instance, const char *mode) {
    json_t *spec = json_object_get(instance->run, instance_run_SPEC);

    if (strcmp(instance_wanted_mode(instance), mode) == 0)
        return;
    (void)json_object_set_new(spec, "mode", json_string(mode));
    if (instance_is(instance, INSTANCE_FAILED)) /* at another wish: that is tried */
        instance->resource.state = instance_state_name(INSTANCE_MAINTENANCE);
    raise_wanted(instance);
}

void instance_want_again(Record *instance) {
    instance->resource.state = instance_state_name(INSTANCE_MAINTENANCE);
    raise_wanted(instance);
}

void instance_want_anew(Record *instance) {
    instance->resource.state = instance_state_name(INSTANCE_CREATING);
    raise_wanted(instance);
}

void instance_want_removal(Record *instance) {
    if (json_get_bool(instance->run, instance_run_REMOVE, false) && !instance_is(instance, INSTANCE_FAILED))
        return;
    (void)json_object_set_new(instance->run, instance_run_REMOVE, json_true());
    instance->resource.state = instance_state_name(INSTANCE_DELETING);
    raise_wanted(instance);
}

/* ---- Answers ---- */

static void copy(json_t *answer, const char *to, const json_t *from, const char *key) {
    json_t *value = json_object_get(from, key);

    if (value != NULL && !json_is_null(value))
        (void)json_object_set(answer, to, value);
}

json_t *instance_render(const Record *instance, Arena *arena) {
    json_t *answer = record_render(instance, arena);
    const json_t *status = json_object_get(instance->run, instance_run_STATUS);
    const json_t *endpoint = json_object_get(status, "endpoint");
    static const struct {
        const char *to, *key;
    } of_endpoint[] = {{"host", "host"}, {"username", "user"}, {"caCertificate", "ca"}};

    for (size_t at = 0; at < COUNT_OF(of_endpoint); at++)
        copy(answer, of_endpoint[at].to, endpoint, of_endpoint[at].key);
    copy(answer, "port", endpoint, "port");
    copy(answer, "mode", status, "mode");
    copy(answer, "systemIdentifier", status, "system_identifier");
    copy(answer, "trouble", status, "trouble");
    copy(answer, "node", instance->run, instance_run_HOME);
    if (json_get_int(status, "disk_used_mb", -1) >= 0)
        (void)json_object_set_new(
            answer, "diskUsedMb",
            json_string(arena_printf(arena, "%lld", (long long)json_get_int(status, "disk_used_mb", 0))));
    return answer;
}
