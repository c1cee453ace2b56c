/* Who asks the API, and whether that is allowed. */
#include "secrets/auth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CHALLENGE "Bearer realm=\"pgcrane\""

/* --- addresses --- */

static bool is_word(const char *text, size_t len, const char *word) {
    return strlen(word) == len && strncasecmp(text, word, len) == 0;
}

/* 127.0.0.0/8, spelled in four plain numbers. */
static bool is_loopback_v4(const char *text, size_t len) {
    size_t dots = 0;

    if (len < 9 || len > 15 || strncmp(text, "127.", 4) != 0)
        return false;
    for (size_t at = 0; at < len; at++) {
        bool is_dot = text[at] == '.';
        if (!is_dot && (text[at] < '0' || text[at] > '9'))
            return false;
        dots += is_dot;
    }
    return dots == 3;
}

bool auth_is_loopback(const char *address) {
    const char *host = NULL;
    size_t len = auth_host_length(address, &host);

    return is_word(host, len, "localhost") || is_word(host, len, "::1") || is_loopback_v4(host, len);
}

static bool is_socket(const char *peer) {
    return strcmp(peer, "unix") == 0;
}

/* "http://HOST" or "https://HOST" of a loopback host, as in the request. "null" and others are somebody else's. */
static bool is_own_origin(const char *origin, const char *host) {
    const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    return rest != NULL && strcasecmp(rest, host) == 0;
}

/* --- answers --- */

static bool answer(AuthAnswer *ret, int status, const char *challenge, const char *message) {
    *ret = (AuthAnswer){
        .status = status,
        .who = "anonymous",
        .name = "",
        .token_id = "",
        .message = message,
        .www_authenticate = challenge,
    };
    return true;
}

static bool allow(AuthAnswer *ret, TokenRole role, const char *who, const char *name, const char *id) {
    *ret = (AuthAnswer){.status = 200, .role = role, .who = who, .name = name, .token_id = id, .message = ""};
    return true;
}

static bool too_often(AuthAnswer *ret, int seconds) {
    answer(ret, 429, NULL, "too many requests with bad tokens came from this address");
    ret->retry_after_s = seconds;
    return true;
}

static bool bad_token(AuthGuard *guard, const AuthRequest *request, int64_t now_us, const char *message,
                      AuthAnswer *ret) {
    auth_guard_failed(guard, request->peer, now_us);
    return answer(ret, 401, CHALLENGE ", error=\"invalid_token\"", message);
}

/* --- the header --- */

/* The text behind "Bearer ", without blanks around it; false when it is another scheme. */
static bool bearer(const char *header, const char **ret_text, size_t *ret_len) {
    static const char scheme[] = "Bearer";
    const char *at = header + strspn(header, " \t");

    if (strncasecmp(at, scheme, sizeof(scheme) - 1) != 0)
        return false;
    at += sizeof(scheme) - 1;
    if (*at != ' ' && *at != '\t')
        return false;
    at += strspn(at, " \t");
    *ret_text = at;
    *ret_len = strcspn(at, " \t");
    return at[*ret_len + strspn(at + *ret_len, " \t")] == '\0';
}

/* --- without a token --- */

static bool is_local(const AuthRequest *request) {
    const char *host = request->host != NULL ? request->host : "";

    if (!request->loopback_only || request->forwarded)
        return false;
    if (!is_socket(request->peer) && (!auth_is_loopback(request->peer) || !auth_is_loopback(host)))
        return false;
    return request->origin == NULL || is_own_origin(request->origin, host);
}

static bool check_nobody(const AuthRequest *request, const AuthTokens *tokens, AuthAnswer *ret, Error *err) {
    bool any = true;

    if (is_local(request) && !tokens->any(tokens->context, &any, err))
        return false;
    if (!any)
        return allow(ret, TOKEN_ADMIN, "local", "", "");
    return answer(ret, 401, CHALLENGE, "a token is needed: Authorization: Bearer pgc_...");
}

/* --- with one --- */

static const TokenRole role_for[] = {
    [AUTH_READ] = TOKEN_VIEWER, [AUTH_CHANGE] = TOKEN_OPERATOR, [AUTH_ADMINISTER] = TOKEN_ADMIN};

static bool check_role(Arena *arena, const AuthRequest *request, const AuthToken *token, const char *id,
                       AuthAnswer *ret) {
    TokenRole needed = role_for[request->need];
    const char *who = arena_printf(arena, "token:%s", id);

    allow(ret, token->role, who, token->name, id);
    if (token->role >= needed)
        return true;
    ret->status = 403;
    ret->message = arena_printf(arena, "this needs the role %s; the token's is %s", token_role_name(needed),
                                token_role_name(token->role));
    ret->www_authenticate =
        arena_printf(arena, CHALLENGE ", error=\"insufficient_scope\", scope=\"%s\"", token_role_name(needed));
    return true;
}

static const char *why_not(const AuthToken *token, bool found, const TokenMark *mark, int64_t wall_us) {
    if (!found || !token_is_hash(mark, token->hash))
        return "this token is not known here";
    if (token->revoke_us != 0)
        return "this token was revoked";
    return token->expire_us != 0 && token->expire_us <= wall_us ? "this token has expired" : NULL;
}

static bool check_token(AuthGuard *guard, Arena *arena, const AuthRequest *request, const AuthTokens *tokens,
                        const TokenMark *mark, int64_t now_us, int64_t wall_us, AuthAnswer *ret, Error *err) {
    int wait_s = auth_guard_wait(guard, request->peer, now_us);
    AuthToken token = {.hash = "", .name = ""};
    bool found = false;

    if (wait_s > 0 && !auth_guard_was_good(guard, mark->hash, now_us))
        return too_often(ret, wait_s);
    if (!tokens->find(tokens->context, arena, mark->id, &token, &found, err))
        return false;
    const char *why = why_not(&token, found, mark, wall_us);
    if (why != NULL)
        return bad_token(guard, request, now_us, why, ret);
    auth_guard_good(guard, mark->hash, now_us);
    return check_role(arena, request, &token, arena_strdup(arena, mark->id), ret);
}

bool auth_check(AuthGuard *guard, Arena *arena, const AuthRequest *request, const AuthTokens *tokens, int64_t now_us,
                int64_t wall_us, AuthAnswer *ret_answer, Error *err) {
    const char *text = NULL;
    TokenMark mark;
    size_t len = 0;

    if (request->authorization == NULL && !request->authorization_twice)
        return check_nobody(request, tokens, ret_answer, err);
    if (!request->tls && !is_socket(request->peer) && !auth_is_loopback(request->peer))
        return answer(ret_answer, 403, NULL,
                      "tokens are taken over TLS only; others may have read this one: revoke it");
    int wait_s = auth_guard_wait(guard, request->peer, now_us);
    if (request->authorization_twice || !bearer(request->authorization, &text, &len) || !token_read(text, len, &mark))
        return wait_s > 0 ? too_often(ret_answer, wait_s)
                          : bad_token(guard, request, now_us, "the Authorization header is no token of this service",
                                      ret_answer);
    return check_token(guard, arena, request, tokens, &mark, now_us, wall_us, ret_answer, err);
}
