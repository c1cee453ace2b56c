/*
 * The secrets of the store, sealed with the keys of a key file (secrets/secrets.h).
 *
 * Contract
 * - The store remembers which keys it is used with (a sealed word), so that a node that was started with another key
 *   file is told at once, and not when the first password does not open; and so that a key file which was lost is not
 *   replaced by a new one.
 * - vault_set() seals inside the transaction that keeps the secret. With that, who takes old keys out of the file, in a
 *   transaction too, cannot meet a secret that is sealed already and not yet there.
 * - Rotation is: a new key, then vault_reseal(), which may be killed at any moment and begun again; meanwhile and
 *   afterwards everything opens. Old keys stay in the file until vault_prune(), for copies of the store that are
 *   older than the rotation.
 */
#pragma once

#include "secrets/secrets.h"
#include "store/store.h"

/* Reads the key file; makes it when there is none and the store was never used with any. KEY_MISSING, KEY_WRONG. */
NODISCARD bool vault_open(Store *store, const char *key_file, Secrets **ret_secrets, Error *err);
/* The same for keys that came otherwise. */
NODISCARD bool vault_check(Store *store, Secrets *secrets, Error *err);

NODISCARD bool vault_set(StoreTx *tx, Secrets *secrets, const char *owner, const char *field, const void *bytes,
                         size_t len, Error *err);
NODISCARD bool vault_get(StoreTx *tx, Secrets *secrets, const char *owner, const char *field, Secret *ret_secret,
                         Error *err);

typedef struct VaultReseal {
    int64_t resealed, current; /* these were sealed with the newest key already */
    int64_t failed;            /* these do not open, and are as they were */
    Error first;               /* why the first of those does not */
} VaultReseal;

/* Seals everything with the newest key, some secrets in a transaction. What does not open is counted and left. */
NODISCARD bool vault_reseal(Store *store, Secrets *secrets, VaultReseal *ret_result, Error *err);

typedef struct VaultUsage {
    SecretsKeyIds keys;               /* of the file */
    int64_t counts[SECRETS_KEYS_MAX]; /* secrets that each has sealed */
    int64_t strange;                  /* sealed with keys that are not in the file, or not sealed at all */
} VaultUsage;

NODISCARD bool vault_usage(Store *store, Secrets *secrets, VaultUsage *ret_usage, Error *err);
/* Takes the keys out of the file that have sealed nothing of this store and are not the newest. */
NODISCARD bool vault_prune(Store *store, Secrets *secrets, size_t *ret_dropped, Error *err);
