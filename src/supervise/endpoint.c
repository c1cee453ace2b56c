/* Connection strings for workers. */
#include "supervise/endpoint.h"

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

static const struct {
    const char *field, *key;
} files[] = {
    {"postgresql.ssl.caCertificate", "ca"},
    {"postgresql.ssl.clientCertificate", "cert"},
    {"postgresql.ssl.clientKey", "key"},
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

static bool put_password(StoreTx *tx, Secrets *secrets, const Record *profile, Buf *conninfo, Error *err) {
    static const char field[] = "postgresql.password";
    CLEANUP(secret_wipe) Secret password = {0};

    if (!record_has_secret(profile, field))
        return true;
    if (!vault_get(tx, secrets, profile->resource.name, field, &password, err))
        return error_wrap(err, "the password of %s", profile->resource.name);
    put(conninfo, "password", password.bytes);
    return true;
}

static bool add_files(StoreTx *tx, Secrets *secrets, const Record *profile, json_t *endpoint, Error *err) {
    for (size_t at = 0; at < COUNT_OF(files); at++) {
        CLEANUP(secret_wipe) Secret text = {0};

        if (!record_has_secret(profile, files[at].field))
            continue;
        if (!vault_get(tx, secrets, profile->resource.name, files[at].field, &text, err))
            return error_wrap(err, "%s of %s", files[at].field, profile->resource.name);
        (void)json_object_set_new(endpoint, files[at].key, json_string_lossy(text.bytes));
    }
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
    put(conninfo, "port", port);
    put(conninfo, "dbname", database_of(postgresql, database));
    if (user[0] != '\0')
        put(conninfo, "user", user);
    put(conninfo, "sslmode", sslmode_of(postgresql));
}

bool endpoint_of(StoreTx *tx, Secrets *secrets, const Record *profile, const char *database, json_t **ret_endpoint,
                 Error *err) {
    const json_t *postgresql = json_object_get(profile->api, "postgresql");
    CLEANUP(json_freep) json_t *endpoint = json_object();

    if (json_get_string(postgresql, "host", NULL) == NULL) {
        error_set(err, REASON_NOT_SERVED, "%s has no host", profile->resource.name);
        return error_remedy(err, "give the profile postgresql.host and port of a server that is there");
    }
    CLEANUP(buf_fini) Buf conninfo;
    buf_init(&conninfo, CONNINFO_MAX);
    put_address(postgresql, database, &conninfo);
    bool ok = put_password(tx, secrets, profile, &conninfo, err) && add_files(tx, secrets, profile, endpoint, err) &&
              buf_ok(&conninfo, "a connection string", err);
    if (ok) {
        (void)json_object_set_new(endpoint, "conninfo", json_string_lossy(conninfo.data));
        *ret_endpoint = json_incref(endpoint);
    }
    if (conninfo.data != NULL)
        explicit_bzero(conninfo.data, conninfo.len);
    return ok;
}
