/*
 * The keys of one key file, and its text: comments, and lines "key ID HEX".
 *
 * The id is a hash of the key. It stands in the file so that a digit that was damaged is found out when the file is
 * read, and not when a password does not open.
 */
#include "secrets/keyring.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file_head[] = "# Keys of pgcrane's secrets; the last one is the newest. Passwords in the store "
                                "cannot be read without this file:\n"
                                "# keep a copy of it in a safe place, apart from copies of the store.\n";
static const char word[] = "key ";
static const unsigned char id_domain[crypto_generichash_blake2b_PERSONALBYTES] = "pgcrane key id 1";
static const unsigned char no_salt[crypto_generichash_blake2b_SALTBYTES];

enum { ID_BYTES = (SECRETS_KEY_ID_SIZE - 1) / 2, ID_AT = sizeof(word) - 1, HEX_AT = ID_AT + SECRETS_KEY_ID_SIZE };
enum { LINE_LEN = HEX_AT + 2 * KEY_SIZE };

Keyring *keyring_new(void) {
    Keyring *keyring = sodium_init() < 0 ? NULL : sodium_allocarray(1, sizeof(Keyring));
    if (keyring == NULL) {
        fprintf(stderr, "pgcrane: no memory for keys\n"); /* uncovered: needs a full machine */
        abort();
    }
    memset(keyring, 0, sizeof(*keyring));
    return keyring;
}

void keyring_freep(Keyring **keyring) {
    sodium_free(*keyring);
    *keyring = NULL;
}

static void name_key(Key *key) {
    unsigned char id[ID_BYTES];

    crypto_generichash_blake2b_salt_personal(id, sizeof(id), key->bytes, sizeof(key->bytes), NULL, 0, no_salt,
                                             id_domain);
    sodium_bin2hex(key->id, sizeof(key->id), id, sizeof(id));
}

const Key *keyring_find(const Keyring *keyring, const char *id) {
    for (size_t at = 0; at < keyring->count; at++)
        if (strcmp(keyring->keys[at].id, id) == 0)
            return &keyring->keys[at];
    return NULL;
}

bool keyring_add_new(Keyring *keyring, Error *err) {
    if (keyring->count == SECRETS_KEYS_MAX)
        return error_set(err, REASON_KEY_LIMIT, "the key file holds %d keys already", SECRETS_KEYS_MAX);
    Key *key = &keyring->keys[keyring->count];
    randombytes_buf(key->bytes, sizeof(key->bytes));
    name_key(key);
    keyring->count++;
    return true;
}

/* --- the text --- */

static bool parse_key(const char *line, size_t len, Keyring *keyring) {
    Key *key = &keyring->keys[keyring->count];
    const char *end = NULL;
    size_t got = 0;

    if (len != LINE_LEN || memcmp(line, word, ID_AT) != 0 || line[HEX_AT - 1] != ' ' ||
        sodium_hex2bin(key->bytes, sizeof(key->bytes), line + HEX_AT, 2 * KEY_SIZE, NULL, &got, &end) != 0 ||
        got != KEY_SIZE)
        return false;
    name_key(key);
    if (memcmp(key->id, line + ID_AT, SECRETS_KEY_ID_SIZE - 1) != 0 || keyring_find(keyring, key->id) != NULL)
        return false;
    keyring->count++;
    return true;
}

static size_t line_length(const char *text, size_t len, size_t *ret_step) {
    const char *end = memchr(text, '\n', len);
    size_t line = end != NULL ? (size_t)(end - text) : len;

    *ret_step = line + (end != NULL ? 1 : 0);
    return line > 0 && text[line - 1] == '\r' ? line - 1 : line;
}

static bool parse_lines(const char *text, size_t len, const char *what, Keyring *keyring, Error *err) {
    size_t number = 0;

    for (size_t step = 0; len > 0; text += step, len -= step) {
        size_t line = line_length(text, len, &step);
        number++;
        if (line == 0 || text[0] == '#')
            continue;
        if (keyring->count == SECRETS_KEYS_MAX)
            return error_set(err, REASON_KEY_DAMAGED, "%s holds more than %d keys", what, SECRETS_KEYS_MAX);
        if (!parse_key(text, line, keyring))
            return error_set(err, REASON_KEY_DAMAGED, "line %zu of %s is no key, or a damaged one", number, what);
    }
    return keyring->count > 0 || error_set(err, REASON_KEY_DAMAGED, "there is no key in %s", what);
}

bool keyring_parse(const char *text, size_t len, const char *what, Keyring *ret_keyring, Error *err) {
    CLEANUP(keyring_freep) Keyring *keyring = keyring_new();

    if (len > KEY_FILE_MAX)
        return error_set(err, REASON_KEY_DAMAGED, "%s is longer than %d bytes", what, KEY_FILE_MAX);
    if (!parse_lines(text, len, what, keyring, err))
        return false;
    memcpy(ret_keyring, keyring, sizeof(*keyring));
    return true;
}

void keyring_print(const Keyring *keyring, Secret *ret_text) {
    size_t at = sizeof(file_head) - 1;

    secret_make(ret_text, at + keyring->count * (LINE_LEN + 1));
    memcpy(ret_text->bytes, file_head, at);
    for (size_t i = 0; i < keyring->count; i++, at += LINE_LEN + 1) {
        char *line = ret_text->bytes + at;
        memcpy(line, word, ID_AT);
        memcpy(line + ID_AT, keyring->keys[i].id, SECRETS_KEY_ID_SIZE - 1);
        line[HEX_AT - 1] = ' ';
        sodium_bin2hex(line + HEX_AT, 2 * KEY_SIZE + 1, keyring->keys[i].bytes, KEY_SIZE);
        line[LINE_LEN] = '\n';
    }
}
