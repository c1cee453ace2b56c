/* New passwords of many roles from one seed. */
#include "secrets/new_passwords.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { SEED_BYTES = NEW_PASSWORD_SEED_LEN / 2, PASSWORD_BYTES = 24 };

static const unsigned char domain[crypto_generichash_blake2b_PERSONALBYTES] = "pgcrane-password";

void new_passwords_seed(Secret *ret_seed) {
    unsigned char bytes[SEED_BYTES];

    if (sodium_init() < 0)
        abort(); /* uncovered: needs a system without randomness */
    randombytes_buf(bytes, sizeof(bytes));
    secret_make(ret_seed, NEW_PASSWORD_SEED_LEN);
    sodium_bin2hex(ret_seed->bytes, NEW_PASSWORD_SEED_LEN + 1, bytes, sizeof(bytes));
    sodium_memzero(bytes, sizeof(bytes));
}

bool new_password_of(const char *seed, const char *role, char ret_password[NEW_PASSWORD_SIZE], Error *err) {
    static const unsigned char no_salt[crypto_generichash_blake2b_SALTBYTES];
    unsigned char key[SEED_BYTES], hash[PASSWORD_BYTES];
    size_t len = 0;

    if (sodium_init() < 0 || strlen(seed) != NEW_PASSWORD_SEED_LEN ||
        sodium_hex2bin(key, sizeof(key), seed, NEW_PASSWORD_SEED_LEN, NULL, &len, NULL) != 0 || len != sizeof(key))
        return error_set(err, REASON_BAD_DATA, "the seed of new passwords is none");
    crypto_generichash_blake2b_salt_personal(hash, sizeof(hash), (const unsigned char *)role, strlen(role), key,
                                             sizeof(key), no_salt, domain);
    sodium_bin2base64(ret_password, NEW_PASSWORD_SIZE, hash, sizeof(hash), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(hash, sizeof(hash));
    return true;
}
