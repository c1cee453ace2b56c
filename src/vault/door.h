/*
 * Tokens of the API as the store keeps them: making one, and asking who comes with one (secrets/auth.h).
 */
#pragma once

#include "secrets/auth.h"
#include "store/store.h"

enum { DOOR_TOKEN_NAME_MAX = 100, DOOR_ID_MIN = 4 };

/* For the audit log; request_id may be NULL. */
typedef struct DoorCaller {
    const char *who, *from, *request_id;
} DoorCaller;

/* The text is for whoever asked for the token, and nowhere else. token->name: UTF-8 without control characters, at most
 * DOOR_TOKEN_NAME_MAX bytes (BAD_DATA). span_us: until it expires, 0 = never. */
NODISCARD bool door_make_token(Store *store, Arena *arena, const DoorCaller *caller, TokenRole role, const char *name,
                               int64_t span_us, Secret *ret_text, StoreToken *ret_token, Error *err);
/* By its id, or at least DOOR_ID_MIN first digits of it that no other has. One that was revoked before stays as it is.
 * NO_RESOURCE, USAGE. */
NODISCARD bool door_revoke_token(Store *store, Arena *arena, const DoorCaller *caller, const char *id,
                                 StoreToken *ret_token, Error *err);

/* Who asks, and whether that is allowed. Notes at most once an hour that a token was used; where that fails, it
 * is logged, and the answer is the same. Fails when the store does. On any thread, outside of transactions. */
NODISCARD bool door_admit(Store *store, AuthGuard *guard, Arena *arena, const AuthRequest *request,
                          AuthAnswer *ret_answer, Error *err);

typedef enum DoorState { DOOR_GOOD, DOOR_REVOKED, DOOR_EXPIRED } DoorState;

DoorState door_token_state(const StoreToken *token, int64_t wall_us);
