/*
 * How secrets get into the store: sealed. What carries it out is given to the API from outside.
 *
 * Contract
 * - Sealed bytes belong to one field of one resource, by their full name: elsewhere they do not open.
 * - For any number of threads. Results are in the arena.
 */
#pragma once

#include "store/store.h"

typedef struct Vault {
    /* Keeps a secret of a resource that is in the store, in its transaction. */
    bool (*set)(void *context, StoreTx *tx, const char *resource, const char *field, const void *plain, size_t len,
                Error *err);
    /* Only seals it. */
    bool (*seal)(void *context, Arena *arena, const char *resource, const char *field, const void *plain, size_t len,
                 const void **ret_sealed, size_t *ret_sealed_len, Error *err);
    /* The new password of a role that the job has made (supervise/new_passwords.h); in the arena. */
    bool (*new_password)(void *context, StoreTx *tx, Arena *arena, const char *job, const char *role,
                         const char **ret_password, Error *err);
    void *context;
} Vault;
