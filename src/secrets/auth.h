/*
 * Who asks the API, and whether that is allowed. Knows nothing of HTTP's objects nor of the store: it is given what
 * stands in a request, and a function that finds tokens.
 *
 * Rules
 * - "Authorization: Bearer TOKEN". 401 without a good one, 403 when its role may not do it.
 * - As long as there is no token at all, who asks over the loopback interface (or a unix socket) at a listener that is
 *   nowhere else, is the administrator: there nobody else can ask but who is logged in on this machine, and a first
 * token has to be made by somebody. The first token that is made ends that. So that a web page in a browser on this
 *   machine is not such a somebody, the request must name a loopback host (else a name of the page's own could point
 *   here) and have no Origin but that host; and no proxy may say that it asks for somebody else.
 * - A token that comes without TLS from another machine is refused (403): it has been read on its way.
 * - Who fails too often gets 429 for a while, by address (IPv6: by /64), without a look into the store. A token that
 *   was good a short while ago still works then: whoever shares an address with an attacker is not shut out.
 *
 * Contract
 * - An AuthGuard (secrets/auth_guard.h) has a fixed size, whoever asks however often. For any number of threads.
 * - Answers are the caller's to send: status, WWW-Authenticate, Retry-After, message. Texts are in the arena, or
 *   static.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "secrets/auth_guard.h"
#include "secrets/tokens.h"

/* What a route needs. */
typedef enum AuthNeed { AUTH_READ, AUTH_CHANGE, AUTH_ADMINISTER } AuthNeed;

typedef struct AuthRequest {
    AuthNeed need;
    const char *authorization; /* the header's value; NULL = none */
    bool authorization_twice;  /* there is more than one such header */
    const char *host;          /* the Host header; "" or NULL = none */
    const char *origin;        /* NULL = none */
    const char *peer;          /* "192.0.2.1:4711", "[2001:db8::1]:4711", "unix" */
    bool tls;
    bool forwarded;     /* a proxy says that it hands it on: Forwarded, X-Forwarded-For, X-Real-IP or Via */
    bool loopback_only; /* every listener of this server is loopback or a unix socket */
} AuthRequest;

/* A token as it is kept. Times are wall clock, microseconds; 0 = never. */
typedef struct AuthToken {
    TokenRole role;
    const char *name; /* what people call it; "" */
    const char *hash;
    int64_t expire_us, revoke_us;
} AuthToken;

typedef struct AuthTokens {
    /* *ret_found false: there is none of that id. Fails when that cannot be found out. */
    bool (*find)(void *context, Arena *arena, const char *id, AuthToken *ret_token, bool *ret_found, Error *err);
    /* Was there ever a token? Those that are revoked or expired count, so that a last one that expires opens no
     * door. */
    bool (*any)(void *context, bool *ret_any, Error *err);
    void *context;
} AuthTokens;

typedef struct AuthAnswer {
    int status;                   /* 200 = allowed; 401, 403, 429 */
    TokenRole role;               /* TOKEN_NOBODY when nobody is known */
    const char *who;              /* "token:3f0c...", "local", "anonymous": for logs */
    const char *name;             /* the token's; "" */
    const char *token_id;         /* "" = by no token. To be noted as used, when it is allowed. */
    const char *message;          /* why not */
    const char *www_authenticate; /* NULL = none */
    int retry_after_s;            /* 0 = none */
} AuthAnswer;

/* now_us: clock_now_us(), for rates; wall_us: clock_wall_us(), for expiry. Fails only as `tokens` does. */
NODISCARD bool auth_check(AuthGuard *guard, Arena *arena, const AuthRequest *request, const AuthTokens *tokens,
                          int64_t now_us, int64_t wall_us, AuthAnswer *ret_answer, Error *err);

/* "127.0.0.1", "::1", "localhost", with or without port and brackets. */
bool auth_is_loopback(const char *address);
