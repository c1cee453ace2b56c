/*
 * Any bytes as sealed secret, text of a key file, token, or Authorization header. The first byte says which.
 *
 * Nothing that was not made with the key opens, and nothing but the one token that there is lets anybody in.
 */
#include "secrets/auth.h"
#include "secrets/secrets.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEY_TEXT "key e8177564b7e792cc 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define TOKEN "pgc_operator_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"

/* What opens was sealed with the key: sealed again and opened again, it is the same. */
static void as_sealed(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    CLEANUP(secret_wipe) Secret plain = {0}, again = {0};
    char id[SECRETS_KEY_ID_SIZE];
    const void *sealed = NULL;
    size_t len = 0;
    Error err;

    if (!secrets_parse(KEY_TEXT, strlen(KEY_TEXT), &secrets, &err))
        abort();
    if (!secrets_open(secrets, "r", "f", data, size, &plain, &err))
        return;
    if (plain.len != size - SECRETS_OVERHEAD || !secrets_key_of(data, size, id) ||
        !secrets_seal(secrets, arena, "r", "f", plain.bytes, plain.len, &sealed, &len, &err) || len != size ||
        !secrets_open(secrets, "r", "f", sealed, len, &again, &err) || again.len != plain.len ||
        memcmp(again.bytes, plain.bytes, plain.len) != 0)
        abort();
}

/* A text that is taken has keys that work. */
static void as_keys(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(secrets_freep) Secrets *secrets = NULL;
    CLEANUP(secret_wipe) Secret plain = {0};
    const void *sealed = NULL;
    size_t len = 0;
    SecretsKeyIds ids;
    Error err;

    if (!secrets_parse((const char *)data, size, &secrets, &err))
        return;
    secrets_key_ids(secrets, &ids);
    if (ids.count == 0 || ids.count > SECRETS_KEYS_MAX ||
        !secrets_seal(secrets, arena, "r", "f", "x", 1, &sealed, &len, &err) ||
        !secrets_open(secrets, "r", "f", sealed, len, &plain, &err))
        abort();
}

static void as_token(const uint8_t *data, size_t size) {
    TokenMark mark, known;

    if (!token_read(TOKEN, strlen(TOKEN), &known) || !token_read((const char *)data, size, &mark))
        return;
    bool is_known = size == strlen(TOKEN) && memcmp(data, TOKEN, size) == 0;
    if (size > TOKEN_TEXT_MAX || strlen(mark.hash) != TOKEN_HASH_SIZE - 1 ||
        token_is_hash(&mark, known.hash) != is_known)
        abort();
}

static bool find(void *context, Arena *arena, const char *id, AuthToken *ret_token, bool *ret_found, Error *err) {
    const TokenMark *known = context;

    (void)arena;
    (void)err;
    *ret_found = strcmp(id, known->id) == 0;
    *ret_token = (AuthToken){.role = TOKEN_OPERATOR, .name = "", .hash = known->hash};
    return true;
}

static bool any(void *context, bool *ret_any, Error *err) {
    (void)context;
    (void)err;
    *ret_any = false;
    return true;
}

/* The header, and in the same bytes peer, Host and Origin, cut at line ends. */
static void as_request(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    AuthGuard *guard = auth_guard_new();
    TokenMark known;
    const AuthTokens tokens = {find, any, &known};
    AuthAnswer answer;
    Error err;
    char *parts[4] = {arena_strndup(arena, (const char *)data, size), NULL, NULL, NULL};

    for (size_t at = 1; at < 4 && (parts[at] = strchr(parts[at - 1], '\n')) != NULL; at++)
        *parts[at]++ = '\0';
    const AuthRequest request = {
        .need = AUTH_CHANGE,
        .authorization = parts[0][0] != '\0' ? parts[0] : NULL,
        .peer = parts[1] != NULL ? parts[1] : "127.0.0.1:1",
        .host = parts[2],
        .origin = parts[3],
        .tls = size % 2 == 0,
        .loopback_only = true,
    };
    if (!token_read(TOKEN, strlen(TOKEN), &known) ||
        !auth_check(guard, arena, &request, &tokens, 1000, 1000, &answer, &err))
        abort();
    bool shown = request.authorization != NULL && strstr(request.authorization, TOKEN) != NULL;
    if (answer.status == 200 && !shown && (request.authorization != NULL || answer.token_id[0] != '\0'))
        abort();
    if (answer.status != 200 && answer.message[0] == '\0')
        abort();
    auth_guard_freep(&guard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    switch (data[0]) {
    case 's':
        as_sealed(data + 1, size - 1);
        break;
    case 'k':
        as_keys(data + 1, size - 1);
        break;
    case 't':
        as_token(data + 1, size - 1);
        break;
    case 'r':
        as_request(data + 1, size - 1);
        break;
    default:
        return -1; /* not for the corpus */
    }
    return 0;
}
