/* The OpenAPI 3 document, from the tables of methods, query parameters and messages. */
#include "api/call.h"

#include "config.h"
#include "model/resources.h"

#include <ctype.h>
#include <string.h>

static const char *http_word(HttpMethod method, char word[16]) {
    const char *name = http_method_name(method);
    size_t at = 0;

    for (; name[at] != '\0' && at < 15; at++)
        word[at] = (char)tolower((unsigned char)name[at]);
    word[at] = '\0';
    return word;
}

static json_t *reference(const char *message) {
    return json_pack("{s:s+}", "$ref", "#/components/schemas/", message);
}

static json_t *content(json_t *schema) {
    return json_pack("{s:{s:{s:o}}}", "content", "application/json", "schema", schema);
}

/* ---- Parameters ---- */

static void add_path_params(json_t *list, const char *path) {
    const char *open = strchr(path, '{');

    for (; open != NULL; open = strchr(open + 1, '{')) {
        json_t *name = json_stringn(open + 1, strcspn(open + 1, "}"));
        (void)json_array_append_new(list, json_pack("{s:o, s:s, s:b, s:{s:s}}", "name", name, "in", "path", "required",
                                                    1, "schema", "type", "string"));
    }
}

static const char *param_type(ParamKind kind) {
    return kind == PARAM_INTEGER ? "integer" : kind == PARAM_BOOLEAN ? "boolean" : "string";
}

static void add_query_params(json_t *list, const ApiMethod *method) {
    for (ApiParam param = 0; param < PARAM_MAX_; param++) {
        bool required = method->makes != NAME_LOCATION && method->http == HTTP_METHOD_POST && method->id_param == param;

        if ((method->params & 1U << param) != 0)
            (void)json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:{s:s}}", "name", param_infos[param].name,
                                                        "in", "query", "required", required, "schema", "type",
                                                        param_type(param_infos[param].kind)));
    }
}

static json_t *parameters(const ApiMethod *method, const char *path) {
    json_t *list = json_array();

    add_path_params(list, path);
    add_query_params(list, method);
    return list;
}

/* ---- Methods ---- */

static json_t *responses(const ApiMethod *method) {
    json_t *schema = method->answer != NULL ? reference(method->answer) : json_pack("{s:s}", "type", "object");
    json_t *good = content(schema);
    json_t *bad = content(json_pack("{s:s, s:{s:o}}", "type", "object", "properties", "error", reference("Status")));

    (void)json_object_set_new(good, "description", json_string("done, or begun"));
    (void)json_object_set_new(bad, "description", json_string("refused or failed, with the reason in ErrorInfo"));
    return json_pack("{s:o, s:o}", method->run != NULL ? "200" : "501", good, "default", bad);
}

static json_t *operation(const ApiMethod *method, const char *path) {
    json_t *all = json_pack("{s:s, s:o, s:o}", "operationId", method->name, "parameters", parameters(method, path),
                            "responses", responses(method));

    if (method->body != NULL)
        (void)json_object_set_new(all, "requestBody", content(reference(method->body->name)));
    return all;
}

static json_t *paths(void) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    json_t *all = json_object();

    for (size_t at = 0; at < api_methods_count; at++) {
        const ApiMethod *method = &api_methods[at];
        const char *path = arena_printf(arena, "/v1%s", method->path);
        json_t *item = json_object_get(all, path);
        char word[16];

        if (item == NULL) {
            item = json_object();
            (void)json_object_set_new(all, path, item);
        }
        (void)json_object_set_new(item, http_word(method->http, word), operation(method, path));
    }
    return all;
}

/* Messages of the model, and those that only methods have. */
static json_t *schemas(void) {
    json_t *all = json_object();

    for (const Message *const *message = messages_all; *message != NULL; message++)
        (void)json_object_set_new(all, (*message)->name, message_schema(*message));
    for (size_t at = 0; at < api_methods_count; at++) {
        const Message *body = api_methods[at].body;

        if (body != NULL && json_object_get(all, body->name) == NULL)
            (void)json_object_set_new(all, body->name, message_schema(body));
    }
    return all;
}

json_t *api_openapi(void) {
    return json_pack(
        "{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.0.3", "info", "title",
        "pgcrane: Database Migration API", "version", PGCRANE_VERSION, "description",
        "Google's Database Migration API v1, as far as migrations from PostgreSQL to PostgreSQL go. The same "
        "is served below /v1beta1 and /v1alpha2.",
        "paths", paths(), "components", "schemas", schemas());
}
