/* google.rpc.Status and its details. */
#include "model/status.h"

#define TYPE_URL "type.googleapis.com/google.rpc."

static const int http_codes[] = {
    [ERR_OK] = 200,
    [ERR_CANCELLED] = 499,
    [ERR_UNKNOWN] = 500,
    [ERR_INVALID_ARGUMENT] = 400,
    [ERR_DEADLINE_EXCEEDED] = 504,
    [ERR_NOT_FOUND] = 404,
    [ERR_ALREADY_EXISTS] = 409,
    [ERR_PERMISSION_DENIED] = 403,
    [ERR_RESOURCE_EXHAUSTED] = 429,
    [ERR_FAILED_PRECONDITION] = 400,
    [ERR_ABORTED] = 409,
    [ERR_OUT_OF_RANGE] = 400,
    [ERR_UNIMPLEMENTED] = 501,
    [ERR_INTERNAL] = 500,
    [ERR_UNAVAILABLE] = 503,
    [ERR_DATA_LOSS] = 500,
    [ERR_UNAUTHENTICATED] = 401,
};

int status_http_code(ErrorCode code) {
    return (size_t)code < COUNT_OF(http_codes) ? http_codes[code] : 500;
}

static json_t *error_info(const Error *error) {
    json_t *metadata = json_object();

    if (error->remedy[0] != '\0')
        (void)json_object_set_new(metadata, "remedy", json_string_lossy(error->remedy));
    if (error->sqlstate[0] != '\0')
        (void)json_object_set_new(metadata, "sqlstate", json_string_lossy(error->sqlstate));
    return json_pack("{s:s, s:s, s:s, s:o}", "@type", TYPE_URL "ErrorInfo", "reason", error_reason_name(error->reason),
                     "domain", STATUS_DOMAIN, "metadata", metadata);
}

static json_t *bad_request(const ViolationVec *violations) {
    json_t *list = json_array();

    for (size_t i = 0; i < violations->len; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:o, s:o}", "field", json_string_lossy(violations->items[i].field),
                                              "description", json_string_lossy(violations->items[i].description)));
    return json_pack("{s:s, s:o}", "@type", TYPE_URL "BadRequest", "fieldViolations", list);
}

static json_t *details(const Error *error, const ViolationVec *violations) {
    json_t *list = json_array();

    (void)json_array_append_new(list, error_info(error));
    if (violations != NULL && violations->len > 0)
        (void)json_array_append_new(list, bad_request(violations));
    return list;
}

json_t *status_to_json(const Error *error, const ViolationVec *violations) {
    return json_pack("{s:i, s:o, s:o}", "code", (int)error_reason_code(error->reason), "message",
                     json_string_lossy(error->message), "details", details(error, violations));
}

json_t *status_to_answer(const Error *error, const ViolationVec *violations) {
    ErrorCode code = error_reason_code(error->reason);
    json_t *status =
        json_pack("{s:i, s:o, s:s, s:o}", "code", status_http_code(code), "message", json_string_lossy(error->message),
                  "status", error_code_name(code), "details", details(error, violations));

    return json_pack("{s:o}", "error", status);
}
