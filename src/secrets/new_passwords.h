/*
 * New passwords of many roles from one seed: whoever has the seed and the name of a role can say its password again, so
 * that none of them is to be kept, or sent back from where it was set.
 *
 * BLAKE2b keyed with 256 random bits; a password is 192 bits of it, as 32 letters of the URL-safe base64.
 */
#pragma once

#include "secrets/secret.h"

enum { NEW_PASSWORD_SIZE = 33, NEW_PASSWORD_SEED_LEN = 64 };

/* As hexadecimal digits. */
void new_passwords_seed(Secret *ret_seed);
/* BAD_DATA when the seed is none. */
NODISCARD bool new_password_of(const char *seed, const char *role, char ret_password[NEW_PASSWORD_SIZE], Error *err);
