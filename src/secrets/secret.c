/* A secret in memory, over libsodium's guarded heap, which also does the locking and MADV_DONTDUMP. */
#include "secrets/secret.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

void secret_make(Secret *secret, size_t len) {
    secret_wipe(secret);
    char *bytes = sodium_init() < 0 ? NULL : sodium_malloc(len + 1);
    if (bytes == NULL) {
        fprintf(stderr, "pgcrane: no memory for a secret (%zu bytes)\n", len); /* uncovered: needs a full machine */
        abort();
    }
    sodium_memzero(bytes, len + 1); /* it comes filled with a pattern */
    *secret = (Secret){bytes, len};
}

void secret_wipe(Secret *secret) {
    sodium_free(secret->bytes); /* overwrites; NULL is fine */
    *secret = (Secret){0};
}

void secret_cut(Secret *secret, size_t len) {
    if (len >= secret->len)
        return;
    sodium_memzero(secret->bytes + len, secret->len - len);
    secret->len = len;
}
