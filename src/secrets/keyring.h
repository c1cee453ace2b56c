/* The keys of one key file, in guarded memory, and the text of that file. Only for secrets/. */
#pragma once

#include "secrets/secrets.h"

enum { KEY_SIZE = 32, KEY_FILE_MAX = 16 * 1024 };

typedef struct Key {
    unsigned char bytes[KEY_SIZE];
    char id[SECRETS_KEY_ID_SIZE];
} Key;

typedef struct Keyring {
    Key keys[SECRETS_KEYS_MAX]; /* the newest last */
    size_t count;
} Keyring;

RETURNS_NONNULL Keyring *keyring_new(void); /* empty */
void keyring_freep(Keyring **keyring);

/* KEY_DAMAGED names the line. `what` is where the text comes from. */
NODISCARD bool keyring_parse(const char *text, size_t len, const char *what, Keyring *ret_keyring, Error *err);
void keyring_print(const Keyring *keyring, Secret *ret_text);
NODISCARD bool keyring_add_new(Keyring *keyring, Error *err);    /* KEY_LIMIT */
const Key *keyring_find(const Keyring *keyring, const char *id); /* NULL when there is none */
