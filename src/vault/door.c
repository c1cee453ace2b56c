/* Tokens of the API as the store keeps them. */
#include "vault/door.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/utf8.h"

#include <stdio.h>
#include <string.h>

#define USED_SPAN_US (INT64_C(3600) * USEC_PER_SEC)

/* --- making one --- */

static bool check_name(const char *name, Error *err) {
    size_t len = strnlen(name, DOOR_TOKEN_NAME_MAX + 1);

    if (len > DOOR_TOKEN_NAME_MAX)
        return error_set(err, REASON_BAD_DATA, "the name of a token is longer than %d bytes", DOOR_TOKEN_NAME_MAX);
    for (size_t at = 0; at < len;) {
        size_t whole = utf8_char_len(name + at, len - at);
        if (whole == 0 || (unsigned char)name[at] < ' ' || name[at] == 0x7f)
            return error_set(err, REASON_BAD_DATA, "the name of a token is no UTF-8, or has control characters");
        at += whole;
    }
    return true;
}

typedef struct Making {
    StoreToken token;
    int64_t span_us;
    const DoorCaller *caller;
} Making;

/* The line of the audit log is of the same transaction: there is no token that nobody has made. */
static bool audit(StoreTx *tx, const DoorCaller *caller, const char *action, const char *id, Error *err) {
    char resource[sizeof("tokens/") + TOKEN_ID_SIZE];

    (void)snprintf(resource, sizeof(resource), "tokens/%s", id);
    StoreAudit line = {.who = caller->who,
                       .action = action,
                       .resource = resource,
                       .from = caller->from,
                       .request_id = caller->request_id,
                       .outcome = "OK"};
    return store_audit_append(tx, &line, err);
}

static bool make_body(StoreTx *tx, void *context, Error *err) {
    Making *making = context;

    return store_token_create(tx, &making->token, making->span_us, err) &&
           audit(tx, making->caller, "tokens.create", making->token.id, err);
}

bool door_make_token(Store *store, Arena *arena, const DoorCaller *caller, TokenRole role, const char *name,
                     int64_t span_us, Secret *ret_text, StoreToken *ret_token, Error *err) {
    CLEANUP(secret_wipe) Secret text = {0};
    TokenMark mark;

    if (!check_name(name, err) || !token_make(role, &text, &mark, err))
        return false;
    Making making = {.span_us = span_us, .caller = caller};
    making.token = (StoreToken){.id = arena_strdup(arena, mark.id),
                                .hash = arena_strdup(arena, mark.hash),
                                .role = token_role_name(role),
                                .name = arena_strdup(arena, name)};
    if (!store_write(store, arena, make_body, &making, err))
        return false;
    secret_wipe(ret_text);
    *ret_text = text;
    text = (Secret){0};
    *ret_token = making.token;
    return true;
}

typedef struct Revoking {
    const char *beginning;
    const DoorCaller *caller;
    StoreToken token;
} Revoking;

static bool find_one(StoreTx *tx, const char *beginning, StoreToken *ret_token, Error *err) {
    StoreToken *tokens = NULL;
    size_t count = 0, found = 0, len = strlen(beginning);

    if (!store_token_list(tx, &tokens, &count, err))
        return false;
    for (size_t at = 0; at < count; at++) {
        if (strncmp(tokens[at].id, beginning, len) != 0)
            continue;
        *ret_token = tokens[at];
        found++;
    }
    if (found > 1)
        return error_set(err, REASON_USAGE, "%zu tokens have an id that begins with %s", found, beginning);
    return found == 1 || error_set(err, REASON_NO_RESOURCE, "there is no token %s", beginning);
}

static bool revoke_body(StoreTx *tx, void *context, Error *err) {
    Revoking *revoking = context;

    if (!find_one(tx, revoking->beginning, &revoking->token, err))
        return false;
    if (revoking->token.revoke_us != 0)
        return true; /* the line of the first time says who it was */
    const char *id = revoking->token.id;
    return store_token_revoke(tx, id, err) && store_token_get(tx, id, &revoking->token, err) &&
           audit(tx, revoking->caller, "tokens.revoke", id, err);
}

bool door_revoke_token(Store *store, Arena *arena, const DoorCaller *caller, const char *id, StoreToken *ret_token,
                       Error *err) {
    Revoking revoking = {.beginning = id, .caller = caller};

    if (strnlen(id, DOOR_ID_MIN) < DOOR_ID_MIN || strnlen(id, TOKEN_ID_SIZE) == TOKEN_ID_SIZE)
        return error_set(err, REASON_USAGE, "\"%.40s\" is no id of a token, nor %d digits of one", id, DOOR_ID_MIN);
    if (!store_write(store, arena, revoke_body, &revoking, err))
        return false;
    *ret_token = revoking.token;
    return true;
}

DoorState door_token_state(const StoreToken *token, int64_t wall_us) {
    if (token->revoke_us != 0)
        return DOOR_REVOKED;
    return token->expire_us != 0 && token->expire_us <= wall_us ? DOOR_EXPIRED : DOOR_GOOD;
}

/* --- who asks --- */

typedef struct Asking {
    Store *store;
    const char *id;
    StoreToken token; /* as it was found */
    bool found, any;
} Asking;

static bool find_body(StoreTx *tx, void *context, Error *err) {
    Asking *asking = context;

    asking->found = store_token_get(tx, asking->id, &asking->token, err);
    return asking->found || err->reason == REASON_NO_RESOURCE;
}

static bool find(void *context, Arena *arena, const char *id, AuthToken *ret_token, bool *ret_found, Error *err) {
    Asking *asking = context;

    asking->id = id;
    if (!store_read(asking->store, arena, find_body, asking, err))
        return false;
    *ret_found = asking->found;
    if (asking->found)
        *ret_token = (AuthToken){.role = token_role_from_name(asking->token.role),
                                 .name = asking->token.name,
                                 .hash = asking->token.hash,
                                 .expire_us = asking->token.expire_us,
                                 .revoke_us = asking->token.revoke_us};
    return true;
}

static bool any_body(StoreTx *tx, void *context, Error *err) {
    Asking *asking = context;

    return store_token_any(tx, &asking->any, err);
}

static bool any(void *context, bool *ret_any, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Asking *asking = context;

    if (!store_read(asking->store, arena, any_body, asking, err))
        return false;
    *ret_any = asking->any;
    return true;
}

static bool used_body(StoreTx *tx, void *context, Error *err) {
    const Asking *asking = context;

    return store_token_used(tx, asking->token.id, USED_SPAN_US, err);
}

/* The clocks of the store's database and of this machine may differ a little: it is the store that decides. */
static void note_use(Asking *asking, Arena *arena, int64_t wall_us) {
    Error err;

    if (asking->token.used_us <= wall_us - USED_SPAN_US && !store_write(asking->store, arena, used_body, asking, &err))
        log_warning("that token %s was used could not be noted: %s", asking->token.id, err.message);
}

bool door_admit(Store *store, AuthGuard *guard, Arena *arena, const AuthRequest *request, AuthAnswer *ret_answer,
                Error *err) {
    Asking asking = {.store = store};
    const AuthTokens tokens = {find, any, &asking};
    int64_t wall_us = clock_wall_us();
    AuthAnswer answer;

    if (!auth_check(guard, arena, request, &tokens, clock_now_us(), wall_us, &answer, err))
        return false;
    if (answer.status == 200 && answer.token_id[0] != '\0')
        note_use(&asking, arena, wall_us);
    *ret_answer = answer;
    return true;
}
