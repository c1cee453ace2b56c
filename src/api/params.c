/* Query parameters of the API. */
#include "api/params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const ParamInfo param_infos[] = {
#define X(name, text, kind) {text, PARAM_##kind},
    API_PARAMS(X)
#undef X
};

/* Of every method of Google's. None has a meaning here but prettyPrint; `alt` has to be json, but where there is a
 * page. */
static const char *const common[] = {
    "alt",       "$alt",    "prettyPrint",  "$prettyPrint",    "fields",
    "$fields",   "key",     "access_token", "callback",        "oauth_token",
    "quotaUser", "$.xgafv", "uploadType",   "upload_protocol", "userProject",
};

static bool is_common(const char *name) {
    for (size_t at = 0; at < COUNT_OF(common); at++)
        if (strcmp(common[at], name) == 0)
            return true;
    return false;
}

/* "validate_only" is validateOnly, too. */
static ApiParam find_param(const char *name) {
    char camel[FIELD_NAME_MAX];
    ApiParam param = 0;

    if (!field_camel(name, strlen(name), camel))
        return PARAM_MAX_;
    while (param < PARAM_MAX_ && strcmp(param_infos[param].name, camel) != 0)
        param++;
    return param;
}

/* Google's own clients write True and False. */
static bool read_boolean(const char *text, bool *ret_value) {
    *ret_value = strcasecmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *ret_value || text[0] == '\0' || strcasecmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

static bool read_integer(const char *text, int64_t *ret_value) {
    char *end = NULL;

    errno = 0;
    *ret_value = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *ret_value >= INT32_MIN && *ret_value <= INT32_MAX;
}

static void check_value(ApiCall *call, const ParamInfo *info, const char *text) {
    bool flag = false;
    int64_t number = 0;

    if (info->kind == PARAM_BOOLEAN && !read_boolean(text, &flag))
        call_refuse(call, info->name, "must be true or false");
    else if (info->kind == PARAM_INTEGER && !read_integer(text, &number))
        call_refuse(call, info->name, "must be a whole number");
    else if (info->kind == PARAM_INTEGER && number < 0)
        call_refuse(call, info->name, "must not be negative");
}

static void read_param(ApiCall *call, const HttpField *field) {
    ApiParam param = find_param(field->name);

    if (param == PARAM_MAX_ || (call->method->params & 1U << param) == 0) {
        call_refuse(call, field->name, "there is no such query parameter of %s", call->method->name);
        return;
    }
    if (call->params[param] != NULL)
        call_refuse(call, field->name, "is given twice");
    call->params[param] = field->value;
    check_value(call, &param_infos[param], field->value);
}

static void check_request_id(ApiCall *call) {
    const char *id = call_text(call, PARAM_REQUEST_ID);
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

    if (strlen(id) > 40 || id[strspn(id, allowed)] != '\0')
        call_refuse(call, "requestId", "must be at most 40 letters, digits, hyphens and underscores");
}

static bool is_format(const ApiCall *call, const char *value) {
    return strcmp(value, "json") == 0 || (call->method->has_page && strcmp(value, "html") == 0);
}

void params_read(ApiCall *call) {
    HttpFields query = call->request->query;

    for (size_t at = 0; at < query.count; at++) {
        const HttpField *field = &query.items[at];

        if (!is_common(field->name))
            read_param(call, field);
        else if (strcmp(field->name + (field->name[0] == '$'), "alt") == 0 && !is_format(call, field->value))
            call_refuse(call, field->name, call->method->has_page ? "must be json or html" : "answers are JSON only");
    }
    check_request_id(call);
}

bool call_flag(const ApiCall *call, ApiParam param) {
    bool value = false;

    return call->params[param] != NULL && read_boolean(call->params[param], &value) && value;
}

const char *call_text(const ApiCall *call, ApiParam param) {
    return call->params[param] != NULL ? call->params[param] : "";
}

int64_t call_number(const ApiCall *call, ApiParam param) {
    int64_t value = 0;

    return call->params[param] != NULL && read_integer(call->params[param], &value) ? value : 0;
}
