/* google.rpc.Status, ErrorInfo and BadRequest to Error. */
#include "client/refusal.h"

#include <string.h>

/* What a code comes down to when the service has not said its reason (ErrorInfo). */
static const ErrorReason reasons[] = {
    [ERR_OK] = REASON_BAD_DATA,
    [ERR_CANCELLED] = REASON_CANCELLED,
    [ERR_UNKNOWN] = REASON_SYSTEM,
    [ERR_INVALID_ARGUMENT] = REASON_BAD_REQUEST,
    [ERR_DEADLINE_EXCEEDED] = REASON_TIMED_OUT,
    [ERR_NOT_FOUND] = REASON_NO_RESOURCE,
    [ERR_ALREADY_EXISTS] = REASON_NAME_TAKEN,
    [ERR_PERMISSION_DENIED] = REASON_NOT_PERMITTED,
    [ERR_RESOURCE_EXHAUSTED] = REASON_STORE_FULL,
    [ERR_FAILED_PRECONDITION] = REASON_JOB_STATE,
    [ERR_ABORTED] = REASON_CONFLICT,
    [ERR_OUT_OF_RANGE] = REASON_BAD_REQUEST,
    [ERR_UNIMPLEMENTED] = REASON_NOT_SERVED,
    [ERR_INTERNAL] = REASON_SYSTEM,
    [ERR_UNAVAILABLE] = REASON_STORE_UNAVAILABLE,
    [ERR_DATA_LOSS] = REASON_BAD_DATA,
    [ERR_UNAUTHENTICATED] = REASON_TOKEN_NEEDED,
};

/* `status` names the code in an answer; in an operation there is the number alone. */
static ErrorReason reason_of_code(const json_t *status) {
    const char *name = json_get_string(status, "status", "");
    int64_t number = json_get_int(status, "code", ERR_UNKNOWN);

    for (size_t code = 0; code < COUNT_OF(reasons); code++)
        if (strcmp(error_code_name((ErrorCode)code), name) == 0)
            return reasons[code];
    return number >= 0 && (size_t)number < COUNT_OF(reasons) ? reasons[number] : REASON_SYSTEM;
}

static bool is_type(const json_t *detail, const char *name) {
    const char *type = json_get_string(detail, "@type", "");
    const char *dot = strrchr(type, '.');

    return dot != NULL && strcmp(dot + 1, name) == 0;
}

static const json_t *find_detail(const json_t *status, const char *name) {
    const json_t *details = json_get_array(status, "details");

    for (size_t at = 0; at < json_array_size(details); at++)
        if (is_type(json_array_get(details, at), name))
            return json_array_get(details, at);
    return NULL;
}

static void put_violations(const json_t *bad_request, Buf *text) {
    const json_t *list = json_get_array(bad_request, "fieldViolations");

    if (json_array_size(list) < 2) /* the message says one itself */
        return;
    buf_clear(text);
    buf_append_str(text, "the service refuses the request:");
    for (size_t at = 0; at < json_array_size(list); at++)
        buf_printf(text, "\n    %s: %s", json_get_string(json_array_get(list, at), "field", "?"),
                   json_get_string(json_array_get(list, at), "description", ""));
}

static void put_findings(const json_t *status, Buf *text) {
    const json_t *details = json_get_array(status, "details");

    for (size_t at = 0; at < json_array_size(details); at++) {
        const json_t *detail = json_array_get(details, at);
        const char *more = json_get_string(detail, "errorDetailMessage", "");

        if (!is_type(detail, "MigrationJobVerificationError"))
            continue;
        buf_printf(text, "\n    %s: %s", json_get_string(detail, "errorCode", "?"),
                   json_get_string(detail, "errorMessage", ""));
        if (more[0] != '\0')
            buf_printf(text, " (%s)", more);
    }
}

static const char *message_of(const json_t *status, Buf *text) {
    buf_append_str(text, json_get_string(status, "message", "the service gives no reason"));
    put_violations(find_detail(status, "BadRequest"), text);
    put_findings(status, text);
    return text->data;
}

bool refusal_from_status(const json_t *status, Error *err) {
    enum { TEXT_MAX = 1024 * 1024 };
    const json_t *info = find_detail(status, "ErrorInfo");
    const json_t *metadata = json_get_object(info, "metadata");
    const char *remedy = json_get_string(metadata, "remedy", NULL);
    const char *sqlstate = json_get_string(metadata, "sqlstate", "");
    ErrorReason reason = error_reason_from_name(json_get_string(info, "reason", ""));
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, TEXT_MAX);
    error_set(err, reason != REASON_MAX_ ? reason : reason_of_code(status), "%s", message_of(status, &text));
    if (remedy != NULL)
        error_remedy(err, "%s", remedy);
    if (strlen(sqlstate) < sizeof(err->sqlstate))
        memcpy(err->sqlstate, sqlstate, strlen(sqlstate) + 1);
    return false;
}

bool refusal_from_http(long http_status, Error *err) {
    ErrorReason reason = http_status == 401   ? REASON_TOKEN_NEEDED
                         : http_status == 403 ? REASON_NOT_PERMITTED
                         : http_status == 404 ? REASON_NO_RESOURCE
                         : http_status >= 500 ? REASON_STORE_UNAVAILABLE
                                              : REASON_BAD_DATA;

    error_set(err, reason, "the answer has the status %ld, and is none of the service's", http_status);
    return error_remedy(err, "see that --server is a pgcrane service, and what a proxy before it says");
}
