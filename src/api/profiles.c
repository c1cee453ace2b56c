/*
 * Connection profiles.
 *
 * A postgresql profile is only kept: nobody connects when it is made, as in Google's API; validateOnly has the
 * connection tested. One of a server that is yet to be made (cloudsql, alloydb) is CREATING until somebody has made it.
 */
#include "api/profiles.h"

#include "api/instances.h"
#include "api/kinds.h"
#include "api/patch.h"
#include "jobs/errand.h"
#include "jobs/instance.h"
#include "model/resources.h"

#include <string.h>

#define READY "READY"

/* ---- Answers ---- */

static json_t *inner(json_t *object, const char *name) {
    json_t *value = json_object_get(object, name);

    if (!json_is_object(value)) {
        value = json_object();
        (void)json_object_set_new(object, name, value);
    }
    return value;
}

/* The flag that tells of a secret stands beside it. */
static const struct {
    const char *secret, *objects[3], *flag;
} flags[] = {
    {"postgresql.password", {"postgresql"}, "passwordSet"},
    {"cloudsql.settings.rootPassword", {"cloudsql", "settings"}, "rootPasswordSet"},
    {"alloydb.settings.initialUser.password", {"alloydb", "settings", "initialUser"}, "passwordSet"},
};

static void render_flag(const Record *profile, json_t *answer, size_t flag) {
    json_t *object = answer;

    if (!record_has_secret(profile, flags[flag].secret))
        return;
    for (size_t at = 0; at < COUNT_OF(flags[flag].objects) && flags[flag].objects[at] != NULL; at++)
        object = inner(object, flags[flag].objects[at]);
    (void)json_object_set_new(object, flags[flag].flag, json_true());
}

json_t *profile_render(const Record *profile, Arena *arena) {
    CLEANUP(json_freep) json_t *shared = record_render(profile, arena);
    json_t *answer = json_deep_copy(shared);

    if (json_object_get(answer, "postgresql") != NULL)
        (void)inner(inner(answer, "postgresql"), "ssl");
    for (size_t at = 0; at < COUNT_OF(flags); at++)
        render_flag(profile, answer, at);
    return answer;
}

/* ---- What has to fit together ---- */

static const char *const ssl_secrets[] = {"postgresql.ssl.caCertificate", "postgresql.ssl.clientCertificate",
                                          "postgresql.ssl.clientKey"};

static void check_ssl(ApiCall *call, const Record *profile, json_t *postgresql) {
    json_t *ssl = inner(postgresql, "ssl");
    const char *type = json_get_string(ssl, "type", "SSL_TYPE_UNSPECIFIED");
    bool has[COUNT_OF(ssl_secrets)];

    for (size_t at = 0; at < COUNT_OF(ssl_secrets); at++)
        has[at] = record_has_secret(profile, ssl_secrets[at]);
    if (has[1] != has[2])
        call_refuse(call, ssl_secrets[has[1] ? 2 : 1], "a client certificate and its key belong together");
    if (strcmp(type, "SSL_TYPE_UNSPECIFIED") == 0 && has[0])
        (void)json_object_set_new(ssl, "type", json_string(has[1] && has[2] ? "SERVER_CLIENT" : "SERVER_ONLY"));
    if ((strcmp(type, "SERVER_ONLY") == 0 || strcmp(type, "SERVER_CLIENT") == 0) && !has[0])
        call_refuse(call, ssl_secrets[0], "is required by %s", type);
    if (strcmp(type, "SERVER_CLIENT") == 0 && !has[1] && !has[2])
        call_refuse(call, ssl_secrets[1], "is required by %s", type);
}

/* In a connection string and on a command line of ssh alike. */
static bool is_host(const char *host) {
    return host[0] != '-' && host[0] != '\0' &&
           host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")] == '\0';
}

static void check_host(ApiCall *call, const json_t *postgresql) {
    const char *host = json_get_string(postgresql, "host", NULL);
    bool by_id =
        json_object_get(postgresql, "cloudSqlId") != NULL || json_object_get(postgresql, "alloydbClusterId") != NULL;

    if (host == NULL && !by_id)
        call_refuse(call, "postgresql.host",
                    "is required, or cloudSqlId or alloydbClusterId of a server that is known");
    if (host != NULL && !is_host(host))
        call_refuse(call, "postgresql.host", "must be the name or the address of a host");
}

static bool is_user(const char *user) {
    for (const char *at = user; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return false;
    return user[0] != '-' && user[0] != '\0';
}

static void check_tunnel(ApiCall *call, const json_t *postgresql) {
    const json_t *tunnel = json_object_get(postgresql, "forwardSshConnectivity");

    if (tunnel == NULL)
        return;
    if (!is_host(json_get_string(tunnel, "hostname", "")))
        call_refuse(call, "postgresql.forwardSshConnectivity.hostname", "must be the name or the address of a host");
    if (!is_user(json_get_string(tunnel, "username", "")))
        call_refuse(call, "postgresql.forwardSshConnectivity.username",
                    "must be the name of a user, without blanks and not beginning with a dash");
}

static bool check_private_connection(ApiCall *call, const json_t *postgresql, Error *err) {
    const json_t *connectivity = json_object_get(postgresql, "privateConnectivity");
    const char *name = json_get_string(connectivity, "privateConnection", "");
    StoreResource found = {0};

    if (connectivity == NULL)
        return true;
    if (store_get(call->tx, name, &found, err) && found.kind == STORE_PRIVATE_CONNECTION)
        return true;
    if (found.name == NULL && err->reason != REASON_NO_RESOURCE)
        return false;
    return call_refuse(call, "postgresql.privateConnectivity.privateConnection", "there is no %s", name);
}

static bool check(ApiCall *call, const Record *profile, Error *err) {
    json_t *postgresql = json_object_get(profile->api, "postgresql");
    bool others = json_object_get(profile->api, "cloudsql") != NULL || json_object_get(profile->api, "alloydb") != NULL;

    if (postgresql == NULL && !others)
        call_refuse(call, "postgresql", "one of postgresql, cloudsql and alloydb is required");
    if (postgresql == NULL && others)
        instance_check(call, profile);
    if (postgresql == NULL)
        return call->violations.len == 0;
    check_host(call, postgresql);
    check_tunnel(call, postgresql);
    check_ssl(call, profile, postgresql);
    return check_private_connection(call, postgresql, err) && call->violations.len == 0;
}

/* ---- Secrets that exclude each other ---- */

static const char *const tunnel_secrets[] = {"postgresql.forwardSshConnectivity.password",
                                             "postgresql.forwardSshConnectivity.privateKey"};

static bool is_given(const ApiCall *call, const char *path) {
    for (size_t at = 0; at < call->secrets.len; at++)
        if (strcmp(call->secrets.items[at].path, path) == 0)
            return call->secrets.items[at].value[0] != '\0';
    return false;
}

/* The one that was given last is meant. NULL = none has to go. */
static const char *rival_secret(const ApiCall *call, const Record *profile) {
    for (size_t at = 0; at < COUNT_OF(tunnel_secrets); at++)
        if (is_given(call, tunnel_secrets[at]) && record_has_secret(profile, tunnel_secrets[at]) &&
            record_has_secret(profile, tunnel_secrets[1 - at]))
            return tunnel_secrets[1 - at];
    return NULL;
}

/* ---- Testing a connection without keeping anything ---- */

static const char *to_hex(Arena *arena, const unsigned char *bytes, size_t len) {
    char *text = arena_alloc(arena, 2 * len + 1);

    for (size_t at = 0; at < len; at++) {
        text[2 * at] = "0123456789abcdef"[bytes[at] >> 4];
        text[2 * at + 1] = "0123456789abcdef"[bytes[at] & 15];
    }
    return text;
}

static bool seal_all(const ApiCall *call, json_t *sealed, Error *err) {
    const Vault *vault = api_config(call->api)->vault;

    for (size_t at = 0; at < call->secrets.len; at++) {
        const GivenSecret *secret = &call->secrets.items[at];
        const void *bytes = NULL;
        size_t len = 0;

        if (secret->value[0] == '\0')
            continue;
        if (!vault->seal(vault->context, call->arena, call->resource, secret->path, secret->value,
                         strlen(secret->value), &bytes, &len, err))
            return false;
        (void)json_object_set_new(sealed, secret->path, json_string(to_hex(call->arena, bytes, len)));
    }
    return true;
}

/* Paths of secrets in the store that still count. */
static json_t *stored_secrets(const Record *profile, const json_t *sealed) {
    json_t *stored = json_array();
    size_t index = 0;
    json_t *path = NULL;

    json_array_foreach(record_secrets(profile), index, path) {
        if (json_object_get(sealed, json_string_value(path)) == NULL)
            (void)json_array_append(stored, path);
    }
    return stored;
}

/* args: {"profile", "secrets": {path: sealed, as hex}, "stored": paths of secrets in the store that count}. */
static bool ask_test(ApiCall *call, const Record *profile, const OperationOrder *order, Error *err) {
    json_t *sealed = json_object();
    CLEANUP(json_freep)
    json_t *args = json_pack("{s:O, s:o, s:o}", "profile", profile->api, "secrets", sealed, "stored", json_null());

    if (!seal_all(call, sealed, err))
        return false;
    (void)json_object_set_new(args, "stored", stored_secrets(profile, sealed));
    return errand_ask_apart(call->tx, call->arena, call->resource, ERRAND_TEST_CONNECTION, order, args, err);
}

static bool validate_only(ApiCall *call, const Record *profile, const char *verb, Error *err) {
    OperationOrder order = call_order(call);

    order.verb = verb;
    call->operation = order.name;
    if (json_object_get(profile->api, "postgresql") == NULL || call_flag(call, PARAM_SKIP_VALIDATION)) {
        CLEANUP(json_freep) json_t *answer = profile_render(profile, call->arena);
        return call_answer_done(call, call->resource, verb, "ConnectionProfile", answer, err);
    }
    return ask_test(call, profile, &order, err);
}

/* ---- Methods ---- */

static bool keep(ApiCall *call, Record *profile, Error *err) {
    profile->resource.state = profile_makes_instance(profile) ? "CREATING" : READY;
    if (profile_makes_instance(profile) && !instance_create(call, profile, err))
        return false;
    if (!record_create(call->tx, call->arena, profile, err) || !patch_store_secrets(call, profile, err))
        return false;
    if (profile_makes_instance(profile)) {
        const OperationOrder order = call_order(call);
        return errand_ask(call->tx, call->arena, profile, ERRAND_PROVISION, &order, NULL, &call->operation, err);
    }
    CLEANUP(json_freep) json_t *answer = profile_render(profile, call->arena);
    return call_answer_done(call, call->resource, "create", "ConnectionProfile", answer, err);
}

bool profile_create(ApiCall *call, Error *err) {
    CLEANUP(record_fini)
    Record profile = {
        .resource = {.kind = STORE_CONNECTION_PROFILE, .name = call->resource, .parent = call->parent, .state = READY},
        .api = json_deep_copy(call->body),
        .run = json_object(),
    };
    StoreResource there = {0};

    patch_note_secrets(call, &profile);
    if (!check(call, &profile, err))
        return false;
    if (store_get(call->tx, call->resource, &there, err))
        return error_set(err, REASON_NAME_TAKEN, "Resource '%s' already exists", call->resource);
    if (err->reason != REASON_NO_RESOURCE)
        return false;
    profile.resource.uid = "";
    return call_flag(call, PARAM_VALIDATE_ONLY) ? validate_only(call, &profile, "create", err)
                                                : keep(call, &profile, err);
}

bool profile_patch(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record profile = {0};

    if (!kind_load(call, &profile, err))
        return false;
    bool makes = profile_makes_instance(&profile), had = instance_has_password(&profile), asked = false;
    if (!patch_apply(call, &message_connection_profile, &profile, profile_mask_aliases))
        return false;
    if (makes != profile_makes_instance(&profile)) /* whose instance would be nobody's */
        return call_refuse(call, makes ? "postgresql" : "cloudsql", "a profile stays what it was made as");
    patch_note_secrets(call, &profile);
    const char *rival = rival_secret(call, &profile);
    if (rival != NULL)
        record_note_secret(&profile, rival, false);
    if (makes)
        instance_check_password(call, &profile, had);
    if (!check(call, &profile, err))
        return false;
    if (call_flag(call, PARAM_VALIDATE_ONLY))
        return validate_only(call, &profile, "update", err);
    if ((rival != NULL && !store_secret_remove(call->tx, call->resource, rival, err)) ||
        !patch_store_secrets(call, &profile, err) || (makes && !instance_take_password(call, &profile, &asked, err)))
        return false;
    if (asked)
        return true;
    if (!record_save(call->tx, call->arena, &profile, err))
        return false;
    CLEANUP(json_freep) json_t *answer = profile_render(&profile, call->arena);
    return call_answer_done(call, call->resource, "update", "ConnectionProfile", answer, err);
}

/* ---- Deleting ---- */

static bool is_unused(void *context, const Record *job, Error *err) {
    const ApiCall *call = context;

    if (strcmp(json_get_string(job->api, "source", ""), call->resource) != 0 &&
        strcmp(json_get_string(job->api, "destination", ""), call->resource) != 0)
        return true;
    return error_set(err, REASON_RESOURCE_IN_USE, "%s is used by %s", call->resource, job->resource.name);
}

/* By force the server goes, too: no other profile may lead to it. */
static bool is_another(void *context, const Record *other, Error *err) {
    const ApiCall *call = context;
    CLEANUP(record_fini) Record profile = {0};

    if (strcmp(other->resource.name, call->resource) == 0)
        return true;
    if (!kind_load(call, &profile, err))
        return false;
    const char *own = profile_instance(call->arena, &profile), *theirs = profile_instance(call->arena, other);
    if (own == NULL || theirs == NULL || strcmp(own, theirs) != 0)
        return true;
    return error_set(err, REASON_RESOURCE_IN_USE, "the server of %s is used by %s, too", call->resource,
                     other->resource.name);
}

bool profile_delete(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record profile = {0};
    bool forced = call_flag(call, PARAM_FORCE);

    if (!kind_load(call, &profile, err) || !kind_each(call->tx, STORE_MIGRATION_JOB, NULL, is_unused, call, err) ||
        (forced && !kind_each(call->tx, STORE_CONNECTION_PROFILE, NULL, is_another, call, err)))
        return false;
    if (profile_makes_instance(&profile)) {
        const OperationOrder order = call_order(call);
        CLEANUP(json_freep) json_t *args = json_pack("{s:b}", "force", forced);
        profile.resource.state = "DELETING";
        return errand_ask(call->tx, call->arena, &profile, ERRAND_DEPROVISION, &order, args, &call->operation, err);
    }
    return store_delete(call->tx, call->resource, profile.resource.version, err) &&
           call_answer_done(call, call->resource, "delete", NULL, NULL, err);
}
