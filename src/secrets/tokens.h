/*
 * Tokens of the API: what one is made of, and how it is known again. Pure: where they are kept is the store's.
 *
 * Contract
 * - A token is "pgc_ROLE_" and 43 random characters (256 bits). Its text is shown once, to whoever makes it. What is
 *   kept is a hash of it. Since nobody can go through 2^256 texts, a fast hash without salt does; the same text always
 *   gives the same hash.
 * - A token is found by an id that is computed from its text as well, and then known by its hash, which is compared in
 *   constant time. The id is no secret: lists and logs show it.
 * - The role in the text is for people, and for programs that look for lost secrets. What a token may do, says the
 *   record of the store.
 */
#pragma once

#include "common/error.h"
#include "secrets/secret.h"

/* X(name, word, what it may do); each may also do what those before it may. */
#define TOKEN_ROLES(X)                                                                                                 \
    X(VIEWER, "viewer", "look at everything but secrets")                                                              \
    X(OPERATOR, "operator", "also make, change, start, stop, promote and delete")                                      \
    X(ADMIN, "admin", "also what concerns the service itself: audit log, settings, tokens")

typedef enum TokenRole {
    TOKEN_NOBODY,
#define X(name, word, help) TOKEN_##name,
    TOKEN_ROLES(X)
#undef X
        TOKEN_ROLE_MAX_,
} TokenRole;

const char *token_role_name(TokenRole role); /* "viewer"; "nobody" */
const char *token_role_help(TokenRole role);
TokenRole token_role_from_name(const char *name); /* TOKEN_NOBODY when there is none */

enum { TOKEN_RANDOM_LEN = 43, TOKEN_TEXT_MAX = 64, TOKEN_ID_SIZE = 17, TOKEN_HASH_SIZE = 65 };

/* What is known of a token's text. */
typedef struct TokenMark {
    char id[TOKEN_ID_SIZE];     /* 16 hexadecimal digits and NUL */
    char hash[TOKEN_HASH_SIZE]; /* 64 */
} TokenMark;

NODISCARD bool token_make(TokenRole role, Secret *ret_text, TokenMark *ret_mark, Error *err);
/* False when the text is none of a token; it need not end with NUL. */
NODISCARD bool token_read(const char *text, size_t len, TokenMark *ret_mark);
/* In constant time. False too when `hash` is none. */
NODISCARD bool token_is_hash(const TokenMark *mark, const char *hash);

/* "90d", "12h", "30m", "2w", "1y" (365 days), "never" (0). USAGE. At most 10 years. */
NODISCARD bool token_parse_expiry(const char *text, int64_t *ret_us, Error *err);
