/* Where a service keeps what it has: which store, which keys. */
#include "serve/files.h"

#include "secrets/secret_file.h"
#include "vault/vault.h"

#include <stdlib.h>
#include <string.h>

enum { STORE_TEXT_MAX = 4096 };

static bool is_conninfo(const char *text) {
    return strncmp(text, "postgresql://", strlen("postgresql://")) == 0 ||
           strncmp(text, "postgres://", strlen("postgres://")) == 0 || strchr(text, '=') != NULL;
}

static bool read_where(Arena *arena, const MigrateOptions *options, const char *where, StoreConfig *config,
                       Error *err) {
    static const char prefix[] = "sqlite:";

    *config = (StoreConfig){.backend = STORE_SQLITE};
    if (where == NULL || strcmp(where, "sqlite") == 0) {
        config->where = arena_printf(arena, "%s/store.db", options->state_dir);
        return true;
    }
    if (strncmp(where, prefix, strlen(prefix)) == 0 && where[strlen(prefix)] != '\0') {
        config->where = arena_strdup(arena, where + strlen(prefix));
        return true;
    }
    if (is_conninfo(where)) {
        *config = (StoreConfig){.backend = STORE_POSTGRESQL, .where = arena_strdup(arena, where)};
        return true;
    }
    error_set(err, REASON_USAGE, "--store: there is no such store");
    return error_remedy(err, "give sqlite, sqlite:FILE or a URI such as postgresql://user@host/database");
}

/* The parser of options has looked at PGCRANE_STORE already; here it is for "both are set". */
bool service_store_config(Arena *arena, const MigrateOptions *options, StoreConfig *ret_config, Error *err) {
    CLEANUP(secret_wipe) Secret text = {0};
    bool given = false;

    if (!secret_from_environment("PGCRANE_STORE", STORE_TEXT_MAX, &text, &given, err))
        return false;
    const char *where = options->store != NULL && options->store[0] != '\0' ? options->store
                        : given                                             ? text.bytes
                                                                            : NULL;
    return read_where(arena, options, where, ret_config, err);
}

const char *service_key_file(Arena *arena, const MigrateOptions *options) {
    return options->key_file != NULL && options->key_file[0] != '\0'
               ? options->key_file
               : arena_printf(arena, "%s/keys", options->state_dir);
}

/* Overwritten where it stands: /proc/PID/environ shows that memory. */
static bool parse_variable(char *text, Secrets **ret_secrets, Error *err) {
    bool good = secrets_parse(text, strlen(text), ret_secrets, err);

    explicit_bzero(text, strlen(text));
    unsetenv("PGCRANE_KEY");
    return good || error_wrap(err, "PGCRANE_KEY");
}

bool service_open_secrets(Arena *arena, Store *store, const MigrateOptions *options, Secrets **ret_secrets,
                          Error *err) {
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    char *text = getenv("PGCRANE_KEY");

    if (text == NULL || text[0] == '\0')
        return vault_open(store, service_key_file(arena, options), ret_secrets, err);
    if (options->key_file != NULL && options->key_file[0] != '\0')
        return error_set(err, REASON_USAGE, "both PGCRANE_KEY and --key-file are given");
    if (!parse_variable(text, &secrets, err) || !vault_check(store, secrets, err))
        return false;
    *ret_secrets = secrets;
    secrets = NULL;
    return true;
}
