/*
 * Secrets at rest: sealed with a key that is in a file beside the store, never in it.
 *
 * Contract
 * - The key file holds one key or more, a line each; the last one is the newest. Sealing takes the newest, opening the
 *   one that the sealed bytes name. A key is known by an id that is computed from it, so that a wrong key and damaged
 *   bytes are told apart.
 * - Sealed bytes (XChaCha20-Poly1305) belong to one field of one resource, by their full name: elsewhere they do not
 *   open. Whoever can write to the store can put an older secret of the same field back, but not move one.
 * - Another process may change the file meanwhile (a rotation): seal looks before each use, open when it meets a key
 *   that it does not know.
 * - The keys are in guarded memory (secrets/secret.h), and in no message. The file is checked as secrets/secret_file.h
 *   says; errors there are FILE_EXPOSED.
 * - A Secrets may be used by any number of threads.
 * - Errors: KEY_MISSING (no key file), KEY_DAMAGED (it is none), KEY_WRONG (sealed with a key that is not in the file),
 *   SECRET_DAMAGED (changed, cut, of another resource or field).
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "secrets/secret.h"

typedef struct Secrets Secrets;

enum {
    SECRETS_KEY_ID_SIZE = 17, /* 16 hexadecimal digits and NUL */
    SECRETS_KEYS_MAX = 16,
    SECRETS_PLAIN_MAX = 64 * 1024,
    SECRETS_NAME_MAX = 1024,            /* of a resource, and of a field */
    SECRETS_OVERHEAD = 1 + 8 + 24 + 16, /* version, key, nonce, tag */
};

/* Makes a key file with one key (mode 0600). NAME_TAKEN when there is a file: it is never written over. */
NODISCARD bool secrets_create_file(const char *path, Error *err);
NODISCARD bool secrets_load(const char *path, Secrets **ret_secrets, Error *err);
/* From the text of a key file, which is not kept: such keys cannot be rotated here. */
NODISCARD bool secrets_parse(const char *text, size_t len, Secrets **ret_secrets, Error *err);
void secrets_free(Secrets *secrets); /* NULL is fine */
void secrets_freep(Secrets **secrets);

/* *ret_sealed: in the arena, len + SECRETS_OVERHEAD bytes. */
NODISCARD bool secrets_seal(Secrets *secrets, Arena *arena, const char *resource, const char *field, const void *plain,
                            size_t len, const void **ret_sealed, size_t *ret_sealed_len, Error *err);
NODISCARD bool secrets_open(Secrets *secrets, const char *resource, const char *field, const void *sealed,
                            size_t sealed_len, Secret *ret_plain, Error *err);
/* Which key the bytes say they were sealed with; false when they are no sealed bytes. Needs no key. */
NODISCARD bool secrets_key_of(const void *sealed, size_t sealed_len, char ret_id[SECRETS_KEY_ID_SIZE]);

typedef struct SecretsKeyIds {
    char ids[SECRETS_KEYS_MAX][SECRETS_KEY_ID_SIZE]; /* the newest last */
    size_t count;                                    /* at least 1 */
} SecretsKeyIds;

void secrets_key_ids(Secrets *secrets, SecretsKeyIds *ret_ids);

/* Puts a new key behind those in the file, durably before it is used. KEY_LIMIT when there are SECRETS_KEYS_MAX. */
NODISCARD bool secrets_add_key(Secrets *secrets, Error *err);
/* Takes all keys out of the file but the newest and those of `kept`. What was sealed with another is lost: the caller
 * has made sure that there is nothing. */
NODISCARD bool secrets_drop_keys(Secrets *secrets, const SecretsKeyIds *kept, size_t *ret_dropped, Error *err);
