/*
 * Servers that the service makes.
 *
 * What a profile of Google's asks for, in fields of its cloud, becomes a ProvisionSpec. Fields of the cloud alone
 * (zone, edition, network, kind of disk) are kept and answered, and mean nothing here.
 */
#include "api/instances.h"

#include "api/kinds.h"
#include "api/patch.h"
#include "jobs/errand.h"
#include "jobs/instance.h"
#include "model/resources.h"
#include "provision/provider.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOYDB_MB_A_CPU = 8 * 1024, PREFIX_LEN = 28, SUFFIX_LEN = 8 };

static const json_t *cloudsql_of(const Record *profile) {
    return json_get_object(json_object_get(profile->api, "cloudsql"), "settings");
}

static const json_t *alloydb_of(const Record *profile) {
    return json_get_object(json_object_get(profile->api, "alloydb"), "settings");
}

/* ---- Its size ---- */

/* X(how the name begins, MB a processor) of tiers whose name ends with the number of processors */
static const struct {
    const char *prefix;
    int64_t mb_a_cpu;
} families[] = {
    {"db-n1-standard-", 3840}, {"db-n1-highmem-", 6656},       {"db-standard-", 3840},
    {"db-highmem-", 6656},     {"db-perf-optimized-N-", 8192},
};

static const struct {
    const char *name;
    int64_t cpus, mb;
} small_tiers[] = {{"db-f1-micro", 1, 614}, {"db-g1-small", 1, 1740}};

static bool read_number(const char **at, int64_t *ret_number) {
    char *end;

    errno = 0;
    *ret_number = strtoll(*at, &end, 10);
    bool ok = end != *at && errno == 0 && isdigit((unsigned char)**at) && *ret_number > 0 && *ret_number <= 1 << 24;
    *at = end;
    return ok;
}

static bool read_custom(const char *at, int64_t *ret_cpus, int64_t *ret_mb) {
    return read_number(&at, ret_cpus) && *at++ == '-' && read_number(&at, ret_mb) && *at == '\0';
}

static bool read_tier(const char *tier, int64_t *ret_cpus, int64_t *ret_mb) {
    static const char custom[] = "db-custom-";

    for (size_t at = 0; at < COUNT_OF(small_tiers); at++)
        if (strcmp(tier, small_tiers[at].name) == 0) {
            *ret_cpus = small_tiers[at].cpus;
            *ret_mb = small_tiers[at].mb;
            return true;
        }
    if (strncmp(tier, custom, strlen(custom)) == 0)
        return read_custom(tier + strlen(custom), ret_cpus, ret_mb);
    for (size_t at = 0; at < COUNT_OF(families); at++) {
        const char *rest = tier + strlen(families[at].prefix);

        if (strncmp(tier, families[at].prefix, strlen(families[at].prefix)) == 0 && read_number(&rest, ret_cpus) &&
            *rest == '\0') {
            *ret_mb = *ret_cpus * families[at].mb_a_cpu;
            return true;
        }
    }
    return false;
}

/* ---- The spec ---- */

/* "POSTGRES_15"; 9.6 and its like are none that can be made. */
static bool read_version(const char *text, int *ret_major) {
    static const char prefix[] = "POSTGRES_";
    const char *at = text + strlen(prefix);
    int64_t major = 0;

    if (strncmp(text, prefix, strlen(prefix)) != 0 || !read_number(&at, &major) || *at != '\0' || major < 10 ||
        major > 99)
        return false;
    *ret_major = (int)major;
    return true;
}

static void add_flags(const ApiCall *call, const json_t *flags, ProvisionSpec *spec) {
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)flags, name, value) {
        const ProvisionFlag flag = {arena_strdup(call->arena, name),
                                    arena_strdup(call->arena, json_string_value(value))};
        vec_push(call->arena, &spec->flags, flag);
    }
}

static void add_networks(const ApiCall *call, const json_t *list, const char *key, ProvisionSpec *spec) {
    for (size_t at = 0; at < json_array_size(list); at++)
        vec_push(call->arena, &spec->networks,
                 arena_strdup(call->arena, json_get_string(json_array_get(list, at), key, "")));
}

static void set_version(ApiCall *call, const char *field, const char *version, ProvisionSpec *spec) {
    if (version == NULL)
        call_refuse(call, field, "is required, as POSTGRES_17 is");
    else if (!read_version(version, &spec->major))
        call_refuse(call, field, "must be POSTGRES_ and a major version of 10 or more, not \"%s\"", version);
}

/* Without a limit of growth there is none at all. */
static int64_t disk_of(const json_t *settings) {
    bool grows = json_get_bool(settings, "autoStorageIncrease", true);
    const char *gb = json_get_string(settings, grows ? "storageAutoResizeLimit" : "dataDiskSizeGb", "0");

    return strtoll(gb, NULL, 10) * 1024;
}

static void from_cloudsql(ApiCall *call, const json_t *settings, ProvisionSpec *spec) {
    const json_t *network = json_object_get(settings, "ipConfig");
    const char *tier = json_get_string(settings, "tier", NULL);
    const char *version =
        json_get_string(settings, "databaseVersionName", json_get_string(settings, "databaseVersion", NULL));

    set_version(call, "cloudsql.settings.databaseVersionName", version, spec);
    if (tier != NULL && !read_tier(tier, &spec->cpus, &spec->memory_mb))
        call_refuse(call, "cloudsql.settings.tier", "must be db-custom-CPUS-MB or one of Google's names, not \"%s\"",
                    tier);
    spec->collate = spec->ctype = json_get_string(settings, "collation", NULL);
    spec->disk_mb = disk_of(settings);
    spec->require_tls = json_get_bool(network, "requireSsl", false);
    spec->regional = strcmp(json_get_string(settings, "availabilityType", ""), "REGIONAL") == 0;
    add_flags(call, json_object_get(settings, "databaseFlags"), spec);
    add_networks(call, json_object_get(network, "authorizedNetworks"), "value", spec);
}

static void from_alloydb(ApiCall *call, const json_t *settings, ProvisionSpec *spec) {
    const json_t *primary = json_object_get(settings, "primaryInstanceSettings");
    const json_t *network = json_object_get(primary, "instanceNetworkConfig");
    const char *user = json_get_string(json_object_get(settings, "initialUser"), "user", "postgres");

    set_version(call, "alloydb.settings.databaseVersion", json_get_string(settings, "databaseVersion", "POSTGRES_15"),
                spec);
    if (strcmp(user, "postgres") != 0)
        call_refuse(call, "alloydb.settings.initialUser.user", "must be postgres: others come from the source");
    spec->cpus = json_get_int(json_object_get(primary, "machineConfig"), "cpuCount", 0);
    spec->memory_mb = spec->cpus * ALLOYDB_MB_A_CPU;
    add_flags(call, json_object_get(primary, "databaseFlags"), spec);
    add_networks(call, json_object_get(network, "authorizedExternalNetworks"), "cidrRange", spec);
}

static void read_spec(ApiCall *call, const Record *profile, ProvisionSpec *spec) {
    *spec = (ProvisionSpec){.id = "", .mode = PROVISION_MIGRATING};
    if (cloudsql_of(profile) != NULL)
        from_cloudsql(call, cloudsql_of(profile), spec);
    else if (alloydb_of(profile) != NULL)
        from_alloydb(call, alloydb_of(profile), spec);
    else
        call_refuse(call, json_object_get(profile->api, "cloudsql") != NULL ? "cloudsql.settings" : "alloydb.settings",
                    "is required: it says what server is to be made");
}

/* Whose id is known only when the profile is stored is given one by it. */
static const char *id_of(const ApiCall *call, const Record *profile) {
    const char *cluster = json_get_string(json_object_get(profile->api, "alloydb"), "clusterId", NULL);

    return arena_strdup(call->arena, cluster != NULL ? cluster : strrchr(call->resource, '/') + 1);
}

void instance_check(ApiCall *call, const Record *profile) {
    ProvisionSpec spec;

    read_spec(call, profile, &spec);
    if (json_object_get(profile->api, "alloydb") != NULL && !resource_id_is_valid(id_of(call, profile)))
        call_refuse(call, "alloydb.clusterId", "must be of small letters, digits and hyphens, at most 60");
}

/* ---- Making ---- */

static const char *const password_paths[] = {"cloudsql.settings.rootPassword", "alloydb.settings.initialUser.password"};

/* NULL = none is given. */
static const char *given_password(const ApiCall *call) {
    for (size_t at = 0; at < COUNT_OF(password_paths); at++) {
        const GivenSecret *given = patch_given(call, password_paths[at]);
        if (given != NULL && given->value[0] != '\0')
            return given->value;
    }
    return NULL;
}

static bool set_password(ApiCall *call, const Record *instance, const char *password, Error *err) {
    const Vault *vault = api_config(call->api)->vault;

    return vault->set(vault->context, call->tx, instance->resource.name, INSTANCE_PASSWORD, password, strlen(password),
                      err);
}

/* One that was not given is made up: everything needs one. */
static bool keep_password(ApiCall *call, const Record *instance, Error *err) {
    const char *password = given_password(call);

    return set_password(call, instance, password != NULL ? password : record_random_id(call->arena), err);
}

static json_t *api_of(const Record *profile, const ProvisionSpec *spec) {
    char version[32];

    (void)snprintf(version, sizeof(version), "POSTGRES_%d", spec->major);
    return json_pack("{s:s, s:s, s:s}", "provider", "local", "databaseVersion", version, "connectionProfile",
                     profile->resource.name);
}

static void note_id(Record *profile, const char *id) {
    if (json_object_get(profile->api, "cloudsql") != NULL)
        (void)json_object_set_new(json_object_get(profile->api, "cloudsql"), "cloudSqlId", json_string(id));
    else
        (void)json_object_set_new(json_object_get(profile->api, "alloydb"), "clusterId", json_string(id));
}

bool instance_create(ApiCall *call, Record *profile, Error *err) {
    const char *id = id_of(call, profile);
    CLEANUP(record_fini)
    Record instance = {.resource = {.kind = STORE_INSTANCE,
                                    .name = arena_printf(call->arena, "%s/instances/%s", call->parent, id),
                                    .parent = call->parent,
                                    .state = instance_state_name(INSTANCE_CREATING)},
                       .run = json_object()};
    ProvisionSpec spec;

    read_spec(call, profile, &spec);
    spec.id = arena_printf(call->arena, "%.*s-%.*s", PREFIX_LEN, id, SUFFIX_LEN, record_random_id(call->arena));
    instance.api = api_of(profile, &spec);
    (void)json_object_set_new(instance.run, instance_run_SPEC, provision_spec_to_json(&spec));
    const char *like = json_get_string(cloudsql_of(profile), "sourceId", NULL);
    if (like != NULL && spec.collate == NULL)
        (void)json_object_set_new(instance.run, instance_run_LIKE, json_string(like));
    (void)json_object_set_new(instance.run, instance_run_WANTED, json_integer(1));
    note_id(profile, id);
    if (record_create(call->tx, call->arena, &instance, err))
        return keep_password(call, &instance, err);
    if (err->reason == REASON_NAME_TAKEN) {
        error_set(err, REASON_NAME_TAKEN, "there is an instance %s already", instance.resource.name);
        error_remedy(err, "choose another id, or remove that one: pgcrane instances delete %s --force", id);
    }
    return false;
}

/* ---- Another password ---- */

bool instance_has_password(const Record *profile) {
    for (size_t at = 0; at < COUNT_OF(password_paths); at++)
        if (record_has_secret(profile, password_paths[at]))
            return true;
    return false;
}

void instance_check_password(ApiCall *call, const Record *profile, bool had) {
    for (size_t at = 0; at < COUNT_OF(password_paths); at++) {
        const GivenSecret *given = patch_given(call, password_paths[at]);
        bool taken = had && given == NULL && !instance_has_password(profile);
        if (taken || (given != NULL && given->value[0] == '\0'))
            call_refuse(call, password_paths[at], "a server has one always: give another");
        if (taken)
            return;
    }
}

static bool is_at_work(const Record *job) {
    static const JobState states[] = {JOB_STARTING, JOB_RUNNING,    JOB_STOPPING,
                                      JOB_RESUMING, JOB_RESTARTING, JOB_DELETING};

    for (size_t at = 0; at < COUNT_OF(states); at++)
        if (strcmp(job->resource.state, job_state_name(states[at])) == 0)
            return true;
    return false;
}

typedef struct Use {
    ApiCall *call;
    const char *instance;
} Use;

/* Its sessions have the password that was the server's when they were begun. */
static bool is_no_use(void *context, const Record *job, Error *err) {
    const Use *use = context;
    CLEANUP(record_fini) Record profile = {0};

    if (!is_at_work(job))
        return true;
    if (!record_load(use->call->tx, STORE_CONNECTION_PROFILE, json_get_string(job->api, "destination", ""), &profile,
                     err))
        return err->reason == REASON_NO_RESOURCE;
    const char *name = profile_instance(use->call->arena, &profile);
    if (name == NULL || strcmp(name, use->instance) != 0)
        return true;
    error_set(err, REASON_RESOURCE_IN_USE, "%s works with the password of %s", job->resource.name, use->instance);
    return error_remedy(err, "stop it, and resume it with the other password: pgcrane jobs stop %s",
                        strrchr(job->resource.name, '/') + 1);
}

static bool may_change_password(ApiCall *call, const Record *instance, Error *err) {
    Use use = {.call = call, .instance = instance->resource.name};

    if (!instance_is(instance, INSTANCE_RUNNABLE) && !instance_is(instance, INSTANCE_MAINTENANCE) &&
        !instance_is(instance, INSTANCE_STOPPED)) {
        error_set(err, REASON_JOB_STATE, "%s is %s: its password can be changed when the server is there",
                  instance->resource.name, instance->resource.state);
        return error_remedy(err, "pgcrane instances describe %s", strrchr(instance->resource.name, '/') + 1);
    }
    return kind_each(call->tx, STORE_MIGRATION_JOB, NULL, is_no_use, &use, err);
}

bool instance_take_password(ApiCall *call, Record *profile, bool *ret_asked, Error *err) {
    const char *name = profile_instance(call->arena, profile), *password = given_password(call);
    CLEANUP(record_fini) Record instance = {0};
    OperationOrder order = call_order(call);

    *ret_asked = name != NULL && password != NULL;
    if (!*ret_asked)
        return true;
    if (!instance_load(call->tx, name, &instance, err) || !may_change_password(call, &instance, err) ||
        !set_password(call, &instance, password, err))
        return false;
    instance_want_again(&instance);
    order.verb = "update";
    return record_save(call->tx, call->arena, &instance, err) &&
           errand_ask(call->tx, call->arena, profile, ERRAND_PROVISION, &order, NULL, &call->operation, err);
}

/* ---- Methods ---- */

static bool is_unused(void *context, const Record *profile, Error *err) {
    const ApiCall *call = context;
    const char *name = profile_instance(call->arena, profile);

    if (name == NULL || strcmp(name, call->resource) != 0)
        return true;
    return error_set(err, REASON_RESOURCE_IN_USE, "%s is used by %s", call->resource, profile->resource.name);
}

bool instance_delete(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record instance = {0};
    const OperationOrder order = call_order(call);

    if (!kind_load(call, &instance, err) || !kind_each(call->tx, STORE_CONNECTION_PROFILE, NULL, is_unused, call, err))
        return false;
    if (!call_flag(call, PARAM_FORCE)) {
        error_set(err, REASON_JOB_STATE, "%s would be removed with all databases in it", call->resource);
        return error_remedy(err, "say so: force=true (pgcrane instances delete ID --force)");
    }
    instance_want_removal(&instance);
    return errand_ask(call->tx, call->arena, &instance, ERRAND_DEPROVISION, &order, NULL, &call->operation, err);
}

bool instance_read_log(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record instance = {0};
    const OperationOrder order = call_order(call);

    return kind_load(call, &instance, err) &&
           errand_ask(call->tx, call->arena, &instance, ERRAND_READ_LOG, &order, NULL, &call->operation, err);
}
