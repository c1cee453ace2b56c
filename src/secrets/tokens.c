/* Tokens of the API: their text, id and hash. */
#include "secrets/tokens.h"

#include "common/clock.h"

#include <ctype.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "pgc_";
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

enum { PREFIX_LEN = sizeof(prefix) - 1, BASE = sizeof(digits) - 1 };

static const struct {
    const char *name, *help;
} roles[] = {{"nobody", ""},
#define X(name, word, help) {word, help},
             TOKEN_ROLES(X)
#undef X
};

const char *token_role_name(TokenRole role) {
    return roles[(unsigned)role < TOKEN_ROLE_MAX_ ? role : TOKEN_NOBODY].name;
}

const char *token_role_help(TokenRole role) {
    return roles[(unsigned)role < TOKEN_ROLE_MAX_ ? role : TOKEN_NOBODY].help;
}

TokenRole token_role_from_name(const char *name) {
    for (unsigned role = TOKEN_NOBODY + 1; role < TOKEN_ROLE_MAX_; role++)
        if (strcmp(roles[role].name, name) == 0)
            return (TokenRole)role;
    return TOKEN_NOBODY;
}

/* --- id and hash --- */

/* Two hashes that have nothing to do with each other: the id is shown, the hash is compared. */
static const unsigned char id_domain[crypto_generichash_blake2b_PERSONALBYTES] = "pgcranetoken id1";
static const unsigned char hash_domain[crypto_generichash_blake2b_PERSONALBYTES] = "pgcranetokenhash";

static void hash_text(const char *text, size_t len, const unsigned char *domain, char *hex, size_t hex_size) {
    static const unsigned char no_salt[crypto_generichash_blake2b_SALTBYTES];
    unsigned char hash[(TOKEN_HASH_SIZE - 1) / 2];
    size_t size = (hex_size - 1) / 2;

    crypto_generichash_blake2b_salt_personal(hash, size, (const unsigned char *)text, len, NULL, 0, no_salt, domain);
    sodium_bin2hex(hex, hex_size, hash, size);
}

static void mark_text(const char *text, size_t len, TokenMark *mark) {
    hash_text(text, len, id_domain, mark->id, sizeof(mark->id));
    hash_text(text, len, hash_domain, mark->hash, sizeof(mark->hash));
}

bool token_make(TokenRole role, Secret *ret_text, TokenMark *ret_mark, Error *err) {
    const char *name = token_role_name(role);
    size_t at = PREFIX_LEN + strlen(name);

    if (role == TOKEN_NOBODY || (unsigned)role >= TOKEN_ROLE_MAX_)
        return error_set(err, REASON_INTERNAL, "%d is no role", (int)role);
    secret_make(ret_text, at + 1 + TOKEN_RANDOM_LEN); /* and makes the library ready */
    memcpy(ret_text->bytes, prefix, PREFIX_LEN);
    memcpy(ret_text->bytes + PREFIX_LEN, name, strlen(name));
    ret_text->bytes[at++] = '_';
    while (at < ret_text->len)
        ret_text->bytes[at++] = digits[randombytes_uniform(BASE)];
    mark_text(ret_text->bytes, ret_text->len, ret_mark);
    return true;
}

/* The word of a role and '_'; its length, 0 when there is none. */
static size_t role_length(const char *text, size_t len) {
    for (unsigned role = TOKEN_NOBODY + 1; role < TOKEN_ROLE_MAX_; role++) {
        size_t word = strlen(roles[role].name);
        if (len > word && memcmp(text, roles[role].name, word) == 0 && text[word] == '_')
            return word + 1;
    }
    return 0;
}

bool token_read(const char *text, size_t len, TokenMark *ret_mark) {
    if (len > TOKEN_TEXT_MAX || len < PREFIX_LEN || memcmp(text, prefix, PREFIX_LEN) != 0)
        return false;
    size_t role = role_length(text + PREFIX_LEN, len - PREFIX_LEN);
    size_t at = PREFIX_LEN + role;
    if (role == 0 || len - at != TOKEN_RANDOM_LEN)
        return false;
    for (; at < len; at++)
        if (!isalnum((unsigned char)text[at]) || (unsigned char)text[at] > 127)
            return false;
    mark_text(text, len, ret_mark);
    return true;
}

bool token_is_hash(const TokenMark *mark, const char *hash) {
    return strlen(hash) == TOKEN_HASH_SIZE - 1 && sodium_memcmp(mark->hash, hash, TOKEN_HASH_SIZE - 1) == 0;
}

/* --- how long --- */

static int64_t unit_us(const char *unit) {
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}, {'y', 365 * 86400}};

    for (size_t at = 0; at < COUNT_OF(units); at++)
        if (unit[0] == units[at].unit && unit[1] == '\0')
            return units[at].seconds * USEC_PER_SEC;
    return 0;
}

bool token_parse_expiry(const char *text, int64_t *ret_us, Error *err) {
    const int64_t most_us = 10 * INT64_C(365) * 86400 * USEC_PER_SEC;
    char *unit = NULL;

    if (strcmp(text, "never") == 0) {
        *ret_us = 0;
        return true;
    }
    long count = isdigit((unsigned char)text[0]) ? strtol(text, &unit, 10) : 0;
    int64_t one_us = unit != NULL ? unit_us(unit) : 0;
    if (count <= 0 || one_us == 0 || count > most_us / one_us) {
        error_set(err, REASON_USAGE, "\"%.40s\" is no time after which a token expires", text);
        return error_remedy(err, "give a number and m, h, d, w or y, such as 90d, at most 10y; or never");
    }
    *ret_us = count * one_us;
    return true;
}
