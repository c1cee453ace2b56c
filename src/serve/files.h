/* Where a service keeps what it has: which store, which keys. From the options --state-dir, --store and --key-file. */
#pragma once

#include "model/options.h"
#include "secrets/secrets.h"
#include "store/store.h"

/*
 * options->state_dir is resolved already. The store: "sqlite" (or nothing) is store.db in it, "sqlite:FILE", a URI or
 * key=value string of PostgreSQL; or what is in the file that PGCRANE_STORE_FILE names. USAGE.
 */
NODISCARD bool service_store_config(Arena *arena, const MigrateOptions *options, StoreConfig *ret_config, Error *err);
/* --key-file, or "keys" in the state folder. */
const char *service_key_file(Arena *arena, const MigrateOptions *options);
/* The keys: from PGCRANE_KEY, the text of a key file, which is taken out of the environment; or from the file, which is
 * made when there is none and the store was never used with any. */
NODISCARD bool service_open_secrets(Arena *arena, Store *store, const MigrateOptions *options, Secrets **ret_secrets,
                                    Error *err);
