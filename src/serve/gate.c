/* Tokens and keys, as the API asks for them. */
#include "serve/gate.h"

#include "jobs/job.h"
#include "secrets/new_passwords.h"
#include "vault/door.h"
#include "vault/vault.h"

#include <string.h>

static bool set(void *context, StoreTx *tx, const char *resource, const char *field, const void *plain, size_t len,
                Error *err) {
    const Gate *gate = context;

    return vault_set(tx, gate->secrets, resource, field, plain, len, err);
}

static bool seal(void *context, Arena *arena, const char *resource, const char *field, const void *plain, size_t len,
                 const void **ret_sealed, size_t *ret_sealed_len, Error *err) {
    const Gate *gate = context;

    return secrets_seal(gate->secrets, arena, resource, field, plain, len, ret_sealed, ret_sealed_len, err);
}

static bool new_password(void *context, StoreTx *tx, Arena *arena, const char *job, const char *role,
                         const char **ret_password, Error *err) {
    const Gate *gate = context;
    CLEANUP(secret_wipe) Secret seed = {0};
    char password[NEW_PASSWORD_SIZE];

    if (!vault_get(tx, gate->secrets, job, job_new_passwords_field, &seed, err) ||
        !new_password_of(seed.bytes, role, password, err))
        return false;
    *ret_password = arena_strdup(arena, password);
    explicit_bzero(password, sizeof(password));
    return true;
}

Vault gate_vault(Gate *gate) {
    return (Vault){.set = set, .seal = seal, .new_password = new_password, .context = gate};
}

/* ---- Who may ask ---- */

static size_t count_fields(HttpFields fields, const char *name) {
    size_t count = 0;

    for (size_t at = 0; at < fields.count; at++)
        count += strcmp(fields.items[at].name, name) == 0;
    return count;
}

/* A proxy on this machine asks for whoever asked it. */
static bool is_forwarded(HttpFields headers) {
    static const char *const names[] = {"forwarded", "x-forwarded-for", "x-real-ip", "via"};

    for (size_t at = 0; at < COUNT_OF(names); at++)
        if (http_fields_get(headers, names[at]) != NULL)
            return true;
    return false;
}

static AuthNeed need_of(AccessNeed need) {
    return need == ACCESS_READ ? AUTH_READ : need == ACCESS_CHANGE ? AUTH_CHANGE : AUTH_ADMINISTER;
}

static AccessNeed most_of(TokenRole role) {
    return role == TOKEN_ADMIN ? ACCESS_ADMINISTER : role == TOKEN_OPERATOR ? ACCESS_CHANGE : ACCESS_READ;
}

static bool refuse(const HttpRequest *request, HttpResponse *response, const AuthAnswer *answer, Error *err) {
    ErrorReason reason = answer->status == 401   ? REASON_TOKEN_NEEDED
                         : answer->status == 429 ? REASON_TOO_MANY_FAILURES
                                                 : REASON_NOT_PERMITTED;

    if (answer->www_authenticate != NULL)
        http_response_header(response, "WWW-Authenticate", answer->www_authenticate);
    if (answer->retry_after_s > 0)
        http_response_header(response, "Retry-After", arena_printf(request->arena, "%d", answer->retry_after_s));
    return error_set(err, reason, "%s", answer->message);
}

static bool admit(void *context, const HttpRequest *request, HttpResponse *response, AccessNeed need,
                  AccessGrant *ret_grant, Error *err) {
    const Gate *gate = context;
    const AuthRequest asked = {
        .need = need_of(need),
        .authorization = http_fields_get(request->headers, "authorization"),
        .authorization_twice = count_fields(request->headers, "authorization") > 1,
        .host = request->host,
        .origin = http_fields_get(request->headers, "origin"),
        .peer = request->peer,
        .tls = request->tls,
        .forwarded = is_forwarded(request->headers),
        .loopback_only = gate->loopback_only,
    };
    AuthAnswer answer;

    if (!door_admit(gate->store, gate->guard, request->arena, &asked, &answer, err))
        return false;
    *ret_grant = (AccessGrant){.who = answer.who, .most = most_of(answer.role)};
    return answer.status == 200 || refuse(request, response, &answer, err);
}

Access gate_access(Gate *gate) {
    return (Access){.admit = admit, .context = gate};
}
