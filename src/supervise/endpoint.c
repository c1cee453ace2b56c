/* Connection strings for workers. */
#include "supervise/endpoint.h"

#include "jobs/instance.h"
#include "vault/vault.h"

#include <string.h>

enum { CONNINFO_MAX = 16 * 1024 };

/* What the types mean to libpq. verify-ca and not verify-full: the API knows a certificate to trust, and no names. */
static const struct {
    const char *type, *sslmode;
} ssl_modes[] = {
    {"NONE", "disable"},
    {"REQUIRED", "require"},
    {"SERVER_ONLY", "verify-ca"},
    {"SERVER_CLIENT", "verify-ca"},
};

/* As libpq reads it: key='value', with \ before ' and \. */
static void put(Buf *conninfo, const char *key, const char *value) {
    buf_printf(conninfo, "%s%s='", conninfo->len > 0 ? " " : "", key);
    for (const char *at = value; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\')
            buf_append_char(conninfo, '\\');
        buf_append_char(conninfo, *at);
    }
    buf_append_char(conninfo, '\'');
}

/* pgcrane's own client keeps libpq's word beside the type, which has fewer (doc/design/service_commands.md). */
static const char *flag_of(const json_t *postgresql) {
    static const char *const words[] = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"};
    const json_t *flags = json_object_get(json_object_get(postgresql, "ssl"), "sslFlags");
    const char *word = json_get_string(flags, "sslmode", "");

    for (size_t at = 0; at < COUNT_OF(words); at++)
        if (strcmp(words[at], word) == 0)
            return words[at];
    return NULL;
}

static const char *sslmode_of(const json_t *postgresql) {
    if (flag_of(postgresql) != NULL)
        return flag_of(postgresql);
    const char *type = json_get_string(json_object_get(postgresql, "ssl"), "type", "");

    for (size_t at = 0; at < COUNT_OF(ssl_modes); at++)
        if (strcmp(ssl_modes[at].type, type) == 0)
            return ssl_modes[at].sslmode;
    return "prefer";
}

/* Where the secrets of a profile are. */
typedef struct Source {
    StoreTx *tx;
    Secrets *secrets;
    Arena *arena;
    const char *name;
    const json_t *given;  /* sealed, beside the store; NULL = none */
    const json_t *stored; /* an array of paths */
} Source;

static bool is_stored(const Source *source, const char *field) {
    for (size_t at = 0; at < json_array_size(source->stored); at++)
        if (strcmp(json_string_value(json_array_get(source->stored, at)), field) == 0)
            return true;
    return false;
}

static int digit(char c) {
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static bool open_given(const Source *source, const char *field, const char *hex, Secret *ret_secret, Error *err) {
    size_t len = strlen(hex) / 2;
    unsigned char *bytes = arena_alloc(source->arena, len + 1);

    if (hex[strspn(hex, "0123456789abcdef")] != '\0')
        return error_set(err, REASON_STORE_DAMAGED, "%s of %s is not sealed", field, source->name);
    for (size_t at = 0; at < len; at++)
        bytes[at] = (unsigned char)(digit(hex[2 * at]) << 4 | digit(hex[2 * at + 1]));
    return secrets_open(source->secrets, source->name, field, bytes, len, ret_secret, err);
}

static bool find_secret(const Source *source, const char *field, Secret *ret_secret, bool *ret_found, Error *err) {
    const char *hex = json_get_string(source->given, field, NULL);
    bool ok = true;

    *ret_found = hex != NULL || is_stored(source, field);
    if (hex != NULL)
        ok = open_given(source, field, hex, ret_secret, err);
    else if (*ret_found)
        ok = vault_get(source->tx, source->secrets, source->name, field, ret_secret, err);
    return ok || error_wrap(err, "%s of %s", field, source->name);
}

static bool put_password(const Source *source, Buf *conninfo, Error *err) {
    CLEANUP(secret_wipe) Secret password = {0};
    bool found = false;

    if (!find_secret(source, "postgresql.password", &password, &found, err))
        return false;
    if (found)
        put(conninfo, "password", password.bytes);
    return true;
}

/* Where a secret goes in an object for the session. */
typedef struct SecretField {
    const char *field, *key;
} SecretField;

static const SecretField files[] = {
    {"postgresql.ssl.caCertificate", "ca"},
    {"postgresql.ssl.clientCertificate", "cert"},
    {"postgresql.ssl.clientKey", "key"},
};

/* Of a bastion host: the key counts where there are both. */
static const SecretField bastion_secrets[] = {
    {"postgresql.forwardSshConnectivity.privateKey", "private_key"},
    {"postgresql.forwardSshConnectivity.password", "password"},
};

static bool add_secret(const Source *source, const SecretField *secret, json_t *object, Error *err) {
    CLEANUP(secret_wipe) Secret text = {0};
    bool found = false;

    if (!find_secret(source, secret->field, &text, &found, err))
        return false;
    if (found)
        (void)json_object_set_new(object, secret->key, json_string_lossy(text.bytes));
    return true;
}

static bool add_files(const Source *source, json_t *endpoint, Error *err) {
    for (size_t at = 0; at < COUNT_OF(files); at++)
        if (!add_secret(source, &files[at], endpoint, err))
            return false;
    return true;
}

static const json_t *tunnel_of(const json_t *postgresql) {
    return json_get_object(postgresql, "forwardSshConnectivity");
}

static bool add_tunnel(const Source *source, const json_t *postgresql, json_t *endpoint, Error *err) {
    const json_t *asked = tunnel_of(postgresql);

    if (asked == NULL)
        return true;
    CLEANUP(json_freep)
    json_t *tunnel =
        json_pack("{s:s, s:I, s:s, s:s, s:I}", "bastion", json_get_string(asked, "hostname", ""), "bastion_port",
                  (json_int_t)json_get_int(asked, "port", 22), "user", json_get_string(asked, "username", ""), "host",
                  json_get_string(postgresql, "host", ""), "port", (json_int_t)json_get_int(postgresql, "port", 5432));
    for (size_t at = 0; at < COUNT_OF(bastion_secrets) && json_object_get(tunnel, "private_key") == NULL; at++)
        if (!add_secret(source, &bastion_secrets[at], tunnel, err))
            return false;
    (void)json_object_set(endpoint, "tunnel", tunnel);
    return true;
}

static const char *database_of(const json_t *postgresql, const char *database) {
    const char *own = json_get_string(postgresql, "database", "");

    return database != NULL ? database : own[0] != '\0' ? own : "postgres";
}

static void put_address(const json_t *postgresql, const char *database, Buf *conninfo) {
    char port[16];
    const char *user = json_get_string(postgresql, "username", "");

    (void)snprintf(port, sizeof(port), "%lld", (long long)json_get_int(postgresql, "port", 5432));
    put(conninfo, "host", json_get_string(postgresql, "host", ""));
    if (tunnel_of(postgresql) == NULL)
        put(conninfo, "port", port);
    put(conninfo, "dbname", database_of(postgresql, database));
    if (user[0] != '\0')
        put(conninfo, "user", user);
    put(conninfo, "sslmode", sslmode_of(postgresql));
}

static bool make_endpoint(const Source *source, const json_t *postgresql, const char *database, json_t **ret_endpoint,
                          Error *err) {
    CLEANUP(json_freep) json_t *endpoint = json_object();

    if (json_get_string(postgresql, "host", NULL) == NULL) {
        error_set(err, REASON_NOT_SERVED, "%s has no host", source->name);
        return error_remedy(err, "give the profile postgresql.host and port of a server that is there");
    }
    CLEANUP(buf_fini) Buf conninfo;
    buf_init(&conninfo, CONNINFO_MAX);
    put_address(postgresql, database, &conninfo);
    bool ok = put_password(source, &conninfo, err) && add_files(source, endpoint, err) &&
              add_tunnel(source, postgresql, endpoint, err) && buf_ok(&conninfo, "a connection string", err);
    if (ok) {
        (void)json_object_set_new(endpoint, "conninfo", json_string_lossy(conninfo.data));
        *ret_endpoint = json_incref(endpoint);
    }
    explicit_bzero(conninfo.data, conninfo.len);
    return ok;
}

/* ---- A server that the service made ---- */

static void put_instance(const json_t *endpoint, const char *database, Buf *conninfo) {
    char port[16];

    (void)snprintf(port, sizeof(port), "%lld", (long long)json_get_int(endpoint, "port", 0));
    put(conninfo, "host", json_get_string(endpoint, "host", ""));
    put(conninfo, "port", port);
    put(conninfo, "dbname", database != NULL ? database : "postgres");
    put(conninfo, "user", json_get_string(endpoint, "user", ""));
    put(conninfo, "sslmode", json_get_string(endpoint, "ca", NULL) != NULL ? "verify-ca" : "prefer");
}

static bool has_endpoint(const Record *instance, const json_t **ret_endpoint, Error *err) {
    *ret_endpoint = json_object_get(json_object_get(instance->run, instance_run_STATUS), "endpoint");
    if (json_get_string(*ret_endpoint, "host", NULL) != NULL)
        return true;
    error_set(err, REASON_PROVISION_FAILED, "%s is %s: it is not there to be connected to", instance->resource.name,
              instance->resource.state);
    return error_remedy(err, "see what became of it: pgcrane instances describe %s",
                        strrchr(instance->resource.name, '/') + 1);
}

static bool endpoint_of_instance(StoreTx *tx, Secrets *secrets, const char *name, const char *database,
                                 json_t **ret_endpoint, Error *err) {
    CLEANUP(record_fini) Record instance = {0};
    CLEANUP(secret_wipe) Secret password = {0};
    const json_t *there = NULL;

    if (!instance_load(tx, name, &instance, err) || !has_endpoint(&instance, &there, err) ||
        !vault_get(tx, secrets, name, INSTANCE_PASSWORD, &password, err))
        return false;
    CLEANUP(buf_fini) Buf conninfo;
    buf_init(&conninfo, CONNINFO_MAX);
    put_instance(there, database, &conninfo);
    put(&conninfo, "password", password.bytes);
    bool ok = buf_ok(&conninfo, "a connection string", err);
    if (ok)
        *ret_endpoint =
            json_pack("{s:o, s:O*}", "conninfo", json_string_lossy(conninfo.data), "ca", json_object_get(there, "ca"));
    explicit_bzero(conninfo.data, conninfo.len);
    return ok;
}

bool endpoint_of(StoreTx *tx, Secrets *secrets, const Record *profile, const char *database, json_t **ret_endpoint,
                 Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *instance = profile_instance(arena, profile);

    if (instance != NULL)
        return endpoint_of_instance(tx, secrets, instance, database, ret_endpoint, err);
    const Source source = {
        .tx = tx, .secrets = secrets, .name = profile->resource.name, .stored = record_secrets(profile)};

    return make_endpoint(&source, json_object_get(profile->api, "postgresql"), database, ret_endpoint, err);
}

bool endpoint_of_candidate(StoreTx *tx, Arena *arena, Secrets *secrets, const char *name, const json_t *args,
                           json_t **ret_endpoint, Error *err) {
    const Source source = {.tx = tx,
                           .secrets = secrets,
                           .arena = arena,
                           .name = name,
                           .given = json_get_object(args, "secrets"),
                           .stored = json_object_get(args, "stored")};

    return make_endpoint(&source, json_object_get(json_object_get(args, "profile"), "postgresql"), NULL, ret_endpoint,
                         err);
}
