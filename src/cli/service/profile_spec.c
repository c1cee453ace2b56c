/* Connection profiles from connection strings and options. */
#include "cli/service/profile_spec.h"

#include "common/fd.h"
#include "pg/parts.h"
#include "secrets/secret_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 64 * 1024, PASSWORD_MAX = 4096 };

/* The object at `name`, made if it is not there. Borrowed. */
static json_t *inner(json_t *object, const char *name) {
    json_t *value = json_object_get(object, name);

    if (!json_is_object(value)) {
        value = json_object();
        (void)json_object_set_new(object, name, value);
    }
    return value;
}

static json_t *server_of(json_t *profile) {
    return inner(profile, "postgresql");
}

static json_t *ssl_of(json_t *profile) {
    return inner(server_of(profile), "ssl");
}

static bool set_text(json_t *object, const char *key, const char *value, Error *err) {
    if (json_object_set_new(object, key, json_string(value)) == 0)
        return true;
    return error_set(err, REASON_USAGE, "%s is no UTF-8", key);
}

/* --- files --- */

/* A certificate: anybody may read it. */
static bool take_file(json_t *object, const char *key, const char *path, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, FILE_MAX);
    return fd_read_file(path, &text, err) && set_text(object, key, text.data, err);
}

/* A private key: nobody else may. */
static bool take_secret_file(json_t *object, const char *key, const char *path, Error *err) {
    CLEANUP(secret_wipe) Secret secret = {0};

    return secret_file_read(path, FILE_MAX, &secret, NULL, err) && set_text(object, key, secret.bytes, err);
}

static bool read_stdin(Secret *secret, Error *err) {
    secret_make(secret, PASSWORD_MAX);
    size_t len = 0;
    ssize_t got = 0;

    while (len < PASSWORD_MAX && (got = read(STDIN_FILENO, secret->bytes + len, PASSWORD_MAX - len)) > 0)
        len += (size_t)got;
    if (got < 0)
        return error_errno(err, REASON_SYSTEM, "standard input");
    secret_cut(secret, strcspn(secret->bytes, "\r\n"));
    return secret->len > 0 || error_set(err, REASON_USAGE, "standard input holds no password");
}

bool spec_take_password(const char *path, json_t *profile, Error *err) {
    CLEANUP(secret_wipe) Secret secret = {0};
    bool good =
        strcmp(path, "-") == 0 ? read_stdin(&secret, err) : secret_file_read_line(path, PASSWORD_MAX, &secret, err);

    return good && set_text(server_of(profile), "password", secret.bytes, err);
}

/* --- connection strings --- */

static bool take_port(json_t *server, const char *value, Error *err) {
    enum { HIGHEST = 65535 };
    size_t digits = strspn(value, "0123456789");
    long port = digits > 0 && digits < 6 && value[digits] == '\0' ? strtol(value, NULL, 10) : 0;

    if (port < 1 || port > HIGHEST)
        return error_set(err, REASON_BAD_CONNINFO, "the port in the connection string is not a number up to %d",
                         HIGHEST);
    (void)json_object_set_new(server, "port", json_integer(port));
    return true;
}

static bool take_host(json_t *server, const char *value, Error *err) {
    if (value[0] == '/') {
        error_set(err, REASON_BAD_CONNINFO, "a socket on this machine is not where the service could reach a server");
        return error_remedy(err, "give the host's name or address, as the service sees it");
    }
    if (strchr(value, ',') != NULL)
        return error_set(err, REASON_BAD_CONNINFO, "a profile has one host, and the connection string names several");
    return set_text(server, "host", value, err);
}

/* How libpq's modes are called in the API; the mode itself stands beside it, since the API has fewer. */
static const struct {
    const char *mode, *type;
} ssl_modes[] = {
    {"disable", "NONE"},     {"allow", "SSL_TYPE_UNSPECIFIED"}, {"prefer", "SSL_TYPE_UNSPECIFIED"},
    {"require", "REQUIRED"}, {"verify-ca", "SERVER_ONLY"},      {"verify-full", "SERVER_ONLY"},
};

static bool take_ssl_mode(json_t *profile, const char *value, Error *err) {
    json_t *ssl = ssl_of(profile);

    for (size_t at = 0; at < COUNT_OF(ssl_modes); at++)
        if (strcmp(ssl_modes[at].mode, value) == 0)
            return set_text(ssl, "type", ssl_modes[at].type, err) &&
                   set_text(inner(ssl, "sslFlags"), "sslmode", value, err);
    error_set(err, REASON_USAGE, "\"%.40s\" is no mode of TLS", value);
    return error_remedy(err, "disable, allow, prefer, require, verify-ca or verify-full, as libpq has them");
}

typedef enum PartKind { PART_HOST, PART_ADDRESS, PART_PORT, PART_TEXT, PART_MODE, PART_FILE, PART_KEY } PartKind;

/* libpq's keywords, and where they go. */
static const struct {
    const char *keyword;
    PartKind kind;
    const char *field;
} parts[] = {
    {"host", PART_HOST, NULL},
    {"hostaddr", PART_ADDRESS, NULL},
    {"port", PART_PORT, NULL},
    {"user", PART_TEXT, "username"},
    {"password", PART_TEXT, "password"},
    {"dbname", PART_TEXT, "database"},
    {"sslmode", PART_MODE, NULL},
    {"sslrootcert", PART_FILE, "caCertificate"},
    {"sslcert", PART_FILE, "clientCertificate"},
    {"sslkey", PART_KEY, "clientKey"},
};

static bool take_kind(json_t *profile, size_t part, const char *value, Error *err) {
    json_t *server = server_of(profile);

    switch (parts[part].kind) {
    case PART_HOST:
        return take_host(server, value, err);
    case PART_ADDRESS: /* what a host stands for, too: the name is what certificates are for */
        return json_object_get(server, "host") != NULL || take_host(server, value, err);
    case PART_PORT:
        return take_port(server, value, err);
    case PART_TEXT:
        return set_text(server, parts[part].field, value, err);
    case PART_MODE:
        return take_ssl_mode(profile, value, err);
    case PART_FILE:
        return take_file(ssl_of(profile), parts[part].field, value, err);
    case PART_KEY:
        return take_secret_file(ssl_of(profile), parts[part].field, value, err);
    }
    UNREACHABLE(); /* uncovered: every kind returns above */
}

static bool take_part(void *context, const char *keyword, const char *value, bool is_secret UNUSED, Error *err) {
    for (size_t at = 0; at < COUNT_OF(parts); at++)
        if (strcmp(parts[at].keyword, keyword) == 0)
            return take_kind(context, at, value, err);
    error_set(err, REASON_BAD_CONNINFO, "a connection profile has no place for \"%s\"", keyword);
    return error_remedy(err, "leave it out of the connection string: the service chooses it itself");
}

/* With a certificate of ours the type is another. */
static void note_client_certificate(json_t *profile) {
    json_t *ssl = json_object_get(json_object_get(profile, "postgresql"), "ssl");
    bool checks = strcmp(json_get_string(ssl, "type", ""), "SERVER_ONLY") == 0;

    if (checks && json_object_get(ssl, "clientCertificate") != NULL)
        (void)json_object_set_new(ssl, "type", json_string("SERVER_CLIENT"));
}

bool spec_take_uri(Arena *arena UNUSED, const char *uri, json_t *profile, Error *err) {
    static const char *const schemes[] = {"postgresql://", "postgres://"};
    bool is_uri = strchr(uri, '=') != NULL;

    for (size_t at = 0; at < COUNT_OF(schemes); at++)
        is_uri = is_uri || strncmp(uri, schemes[at], strlen(schemes[at])) == 0;
    if (!is_uri) /* libpq would take it for the name of a database */
        return error_set(err, REASON_BAD_CONNINFO, "this is no connection string");
    if (!db_each_part(uri, take_part, profile, err))
        return false;
    note_client_certificate(profile);
    return true;
}

/* --- options --- */

/* "aws" is nobody's name for it; these are the API's. */
static bool take_word(json_t *object, const char *key, const char *text, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *word = arena_strdup(arena, text);

    for (char *at = word; *at != '\0'; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
    return set_text(object, key, word, err);
}

static bool one_database(const StringVec *databases, Error *err) {
    return databases->len <= 1 ||
           error_set(err, REASON_USAGE, "a profile has one --database, and %zu are given", databases->len);
}

static bool take_server(const MigrateOptions *options, json_t *profile, Error *err) {
    json_t *server = server_of(profile);

    if (options->host != NULL && !take_host(server, options->host, err))
        return false;
    if (options->port != 0)
        (void)json_object_set_new(server, "port", json_integer(options->port));
    if (options->user != NULL && !set_text(server, "username", options->user, err))
        return false;
    if (options->databases.len > 0 && !set_text(server, "database", options->databases.items[0], err))
        return false;
    return options->password_file == NULL || spec_take_password(options->password_file, profile, err);
}

static bool take_tls(const MigrateOptions *options, json_t *profile, Error *err) {
    if (options->ssl_mode != NULL && !take_ssl_mode(profile, options->ssl_mode, err))
        return false;
    if (options->ssl_ca != NULL && !take_file(ssl_of(profile), "caCertificate", options->ssl_ca, err))
        return false;
    if (options->ssl_cert != NULL && !take_file(ssl_of(profile), "clientCertificate", options->ssl_cert, err))
        return false;
    if (options->ssl_key != NULL && !take_secret_file(ssl_of(profile), "clientKey", options->ssl_key, err))
        return false;
    note_client_certificate(profile);
    return true;
}

static bool has_server(const MigrateOptions *options) {
    return options->host != NULL || options->port != 0 || options->user != NULL || options->databases.len > 0 ||
           options->password_file != NULL;
}

bool spec_take_options(Arena *arena, const MigrateOptions *options, const char *uri, json_t *profile, Error *err) {
    if (uri != NULL && !spec_take_uri(arena, uri, profile, err))
        return false;
    if (!one_database(&options->databases, err))
        return false;
    if (has_server(options) && !take_server(options, profile, err))
        return false;
    if (!take_tls(options, profile, err) || !spec_take_labels(arena, &options->labels, profile, err))
        return false;
    if (options->display_name != NULL && !set_text(profile, "displayName", options->display_name, err))
        return false;
    if (options->side != NULL && !take_word(profile, "role", options->side, err))
        return false;
    return options->provider == NULL || take_word(profile, "provider", options->provider, err);
}

bool spec_take_labels(Arena *arena, const StringVec *labels, json_t *resource, Error *err) {
    for (size_t at = 0; at < labels->len; at++) {
        const char *equals = strchr(labels->items[at], '=');

        if (equals == NULL || equals == labels->items[at])
            return error_set(err, REASON_USAGE, "--label: \"%.100s\" is not KEY=VALUE", labels->items[at]);
        const char *key = arena_strndup(arena, labels->items[at], (size_t)(equals - labels->items[at]));
        if (!set_text(inner(resource, "labels"), key, equals + 1, err))
            return false;
    }
    return true;
}

/* --- masks --- */

static const char *mask_of(Arena *arena, const char *mask, const char *prefix, json_t *object) {
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value) {
        const char *path = arena_printf(arena, "%s%s", prefix, key);
        bool is_map = strcmp(key, "labels") == 0 || strcmp(key, "sslFlags") == 0;

        if (json_object_size(value) > 0 && !is_map)
            mask = mask_of(arena, mask, arena_printf(arena, "%s.", path), value);
        else
            mask = arena_printf(arena, "%s%s%s", mask, mask[0] != '\0' ? "," : "", path);
    }
    return mask;
}

const char *spec_mask(Arena *arena, const json_t *resource) {
    CLEANUP(json_freep) json_t *copy = json_copy((json_t *)(uintptr_t)resource); /* jansson's loop wants it so */

    return mask_of(arena, "", "", copy);
}

void spec_wipe(json_t *resource) {
    const char *key;
    json_t *value;
    size_t index;

    json_object_foreach(resource, key, value) spec_wipe(value);
    json_array_foreach(resource, index, value) spec_wipe(value);
    /* The text is the string's own, and of that length. */
    if (json_is_string(resource))
        explicit_bzero((char *)(uintptr_t)json_string_value(resource), json_string_length(resource));
}
