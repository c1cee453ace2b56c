/*
 * A secret in memory: a password, a private key, the text of a token.
 *
 * Contract
 * - The bytes stand on pages of their own between two that may not be touched, are left out of core dumps, locked into
 *   memory where the system allows it (RLIMIT_MEMLOCK), and overwritten when they are given back.
 * - A Secret is owned by one place: CLEANUP(secret_wipe) Secret secret = {0}. It costs some pages, so these are for
 *   what is in use now, not for keeping thousands.
 * - bytes[len] is always NUL. Out of memory ends the process, so that sizes are capped before.
 */
#pragma once

#include "common/error.h"

typedef struct Secret {
    char *bytes; /* NULL = none */
    size_t len;
} Secret;

/* Zeroed. What *secret had before is wiped. */
void secret_make(Secret *secret, size_t len);
void secret_wipe(Secret *secret);
/* Shortens it; what is cut off is overwritten. */
void secret_cut(Secret *secret, size_t len);
