/* One request of the API, from its route to its answer. */
#include "api/call.h"

#include "api/params.h"
#include "api/watch.h"
#include "common/hash.h"
#include "common/log.h"
#include "model/resources.h"
#include "model/status.h"

#include <inttypes.h>
#include <string.h>

bool call_refuse(ApiCall *call, const char *field, const char *format, ...) {
    va_list args;

    va_start(args, format);
    const Violation violation = {.field = field, .description = arena_vprintf(call->arena, format, args)};
    va_end(args);
    vec_push(call->arena, &call->violations, violation);
    return false;
}

OperationOrder call_order(const ApiCall *call) {
    return (OperationOrder){.name = call->new_operation, .version = call->version};
}

bool call_answer_done(ApiCall *call, const char *target, const char *verb, const char *type, const json_t *answer,
                      Error *err) {
    OperationOrder order = call_order(call);

    order.target = target;
    order.verb = verb;
    call->operation = order.name;
    return operation_create(call->tx, call->arena, &order, err) &&
           operation_finish(call->tx, call->arena, order.name, type, answer, err);
}

/* An ETag may come in quotes, and "*" is any version. */
static bool is_version(const char *said, const char *etag) {
    bool quoted = said[0] == '"';
    size_t len = strlen(etag);

    return strcmp(said, "*") == 0 ||
           (strncmp(said + quoted, etag, len) == 0 && strcmp(said + quoted + len, quoted ? "\"" : "") == 0);
}

bool call_check_etag(const ApiCall *call, const StoreResource *resource, Error *err) {
    const char *header = http_fields_get(call->request->headers, "if-match");
    const char *etag = record_etag(call->arena, resource);
    const char *param = call_text(call, PARAM_ETAG);

    if ((header == NULL || is_version(header, etag)) && (param[0] == '\0' || is_version(param, etag)))
        return true;
    return error_set(err, REASON_STALE_VERSION, "%s has version %s by now", resource->name, etag);
}

/* ---- Answers ---- */

bool call_wants_pretty(const ApiCall *call) {
    const char *text = http_fields_get(call->request->query, "prettyPrint");

    return text != NULL && strcasecmp(text, "true") == 0;
}

static void send_text(ApiCall *call, int status, const char *text, size_t len) {
    http_response_status(call->response, status);
    if (call->etag != NULL)
        http_response_header(call->response, "ETag", arena_printf(call->arena, "\"%s\"", call->etag));
    http_response_header(call->response, "Cache-Control", "no-store");
    http_response_body(call->response, "application/json; charset=UTF-8", text, len);
}

/* What stands in it was named by others: nothing in it may run, or load anything. */
static void send_page(ApiCall *call) {
    http_response_header(call->response, "Cache-Control", "no-store");
    http_response_header(call->response, "X-Content-Type-Options", "nosniff");
    http_response_header(call->response, "Content-Security-Policy",
                         "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'");
    http_response_body(call->response, "text/html; charset=UTF-8", call->answer_text, strlen(call->answer_text));
}

void call_send_json(ApiCall *call, int status, const json_t *answer) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, ANSWER_MAX);
    json_print(answer, call_wants_pretty(call) ? 2 : 0, &text);
    if (text.overflowed) {
        http_response_error(call->response, 500, "the answer is larger than %d bytes: ask for smaller pages",
                            ANSWER_MAX);
        return;
    }
    send_text(call, status, arena_strndup(call->arena, text.data, text.len), text.len);
}

void call_send_error(ApiCall *call, const Error *err) {
    int status = status_http_code(error_reason_code(err->reason));

    if (status >= 500 && status != 501)
        log_error_value(LOG_WARNING, err);
    CLEANUP(json_freep) json_t *answer = status_to_answer(err, &call->violations);
    call->etag = NULL;
    call_send_json(call, status, answer);
}

/* ---- Reading the request ---- */

static bool bad_request(const ApiCall *call, Error *err) {
    const Violation *first = &call->violations.items[0];
    size_t more = call->violations.len - 1;

    if (more == 0)
        return error_set(err, REASON_BAD_REQUEST, "%s: %s", first->field, first->description);
    return error_set(err, REASON_BAD_REQUEST, "%s: %s; and %zu more", first->field, first->description, more);
}

/* Lower layers speak to people at a command line: as an answer it is the request that is wrong. */
static bool said_of_request(Error *err) {
    if (err->reason == REASON_USAGE || err->reason == REASON_BAD_CURSOR)
        err->reason = REASON_BAD_REQUEST;
    return false;
}

static const char *path_part(const ApiCall *call, const char *name) {
    const char *value = http_fields_get(call->request->params, name);

    return value != NULL ? value : "";
}

static bool check_version(ApiCall *call, Error *err) {
    static const char *const versions[] = {"v1", "v1alpha2", "v1beta1"};

    call->version = path_part(call, "version");
    for (size_t at = 0; at < COUNT_OF(versions); at++)
        if (strcmp(versions[at], call->version) == 0)
            return true;
    error_set(err, REASON_NO_RESOURCE, "there is no version %.100s of this API", call->version);
    return error_remedy(err, "v1");
}

static bool read_name(ApiCall *call, Error *err) {
    const ResourceName asked = {.kind = call->method->kind,
                                .project = path_part(call, "project"),
                                .location = path_part(call, "location"),
                                .job = path_part(call, "job"),
                                .id = path_part(call, "id")};
    /* The list of locations has none in its path. */
    ResourceName whole = asked;
    if (asked.location[0] == '\0')
        whole.location = "-";
    if (!name_parse(call->arena, name_format(call->arena, &whole), &call->name, err))
        return said_of_request(err);
    if (call->name.kind != asked.kind) /* a slash that came as %2F */
        return error_set(err, REASON_BAD_REQUEST, "a part of the path holds a slash");
    call->resource = name_format(call->arena, &call->name);
    call->parent = call->method->kind == NAME_LOCATION ? call->resource : name_parent(call->arena, &call->name);
    return true;
}

/* Of a create: what it makes. */
static void read_new_name(ApiCall *call) {
    const ApiMethod *method = call->method;
    const char *id = call_text(call, method->id_param);

    if (method->makes == NAME_LOCATION || method->http != HTTP_METHOD_POST)
        return;
    if (id[0] == '\0')
        call_refuse(call, param_infos[method->id_param].name, "is required");
    else if (!resource_id_is_valid(id))
        call_refuse(call, param_infos[method->id_param].name,
                    "must begin with a lower-case letter and have at most 60 lower-case letters, digits and hyphens, "
                    "the last one no hyphen");
    if (strcmp(call->name.location, "-") == 0)
        call_refuse(call, "parent", "a resource is made in one location, not in \"-\"");
    call->name.kind = method->makes;
    call->name.id = id;
    call->resource = name_format(call->arena, &call->name);
}

static bool parse_body(ApiCall *call, json_t **ret_sent, Error *err) {
    const HttpRequest *request = call->request;

    if (request->body_len == 0) {
        *ret_sent = json_object();
        return true;
    }
    if (!json_parse(request->body, request->body_len, ret_sent, err)) {
        err->reason = REASON_BAD_REQUEST;
        return error_wrap(err, "the body of the request");
    }
    return true;
}

static bool read_body(ApiCall *call, Error *err) {
    const ApiMethod *method = call->method;
    /* What is to be verified may be a part of a job. */
    bool is_create = method->http == HTTP_METHOD_POST && method->body != &message_verify;
    CLEANUP(json_freep) json_t *sent = NULL;

    if (method->body == NULL)
        return true;
    if (!parse_body(call, &sent, err))
        return false;
    if (method->before != NULL && !method->before(call, sent, err))
        return false;
    call->body = message_read(method->body, sent, is_create, call->arena, &call->violations);
    return true;
}

/* ---- Secrets ---- */

/* Certificates and keys are text in PEM. */
static bool is_pem(const char *path, const char *value) {
    size_t len = strlen(path);
    bool wants_pem =
        (len > 11 && strcmp(path + len - 11, "Certificate") == 0) || (len > 3 && strcmp(path + len - 3, "Key") == 0);

    return !wants_pem || value[0] == '\0' || strncmp(value, "-----BEGIN ", strlen("-----BEGIN ")) == 0;
}

static void take_secret(void *context, const char *path, const char *value) {
    ApiCall *call = context;
    const GivenSecret secret = {arena_strdup(call->arena, path), arena_strdup(call->arena, value)};

    if (!is_pem(path, value))
        call_refuse(call, secret.path, "must be text in PEM, which begins with -----BEGIN");
    vec_push(call->arena, &call->secrets, secret);
}

static void take_secrets(ApiCall *call) {
    if (call->body != NULL)
        message_take_secrets(call->method->body, call->body, take_secret, call);
}

static void wipe_secrets(const ApiCall *call) {
    for (size_t at = 0; at < call->secrets.len; at++)
        explicit_bzero(call->secrets.items[at].value, strlen(call->secrets.items[at].value));
}

/* ---- The transaction ---- */

/* What makes two requests the same: all that was asked but the secrets, whose hash would help to guess them. */
static const char *hash_request(const ApiCall *call) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, ANSWER_MAX);
    buf_printf(&text, "%s %s ", call->resource, call_text(call, PARAM_UPDATE_MASK));
    if (call->body != NULL)
        json_print(call->body, 0, &text);
    for (size_t at = 0; at < call->secrets.len; at++)
        buf_printf(&text, " %s", call->secrets.items[at].path);
    return arena_printf(call->arena, "%016" PRIx64, hash_text64(text.data));
}

/* *ret_again: the same request was carried out before; its operation is the answer. */
static bool claim(ApiCall *call, bool *ret_again, Error *err) {
    const char *id = call_text(call, PARAM_REQUEST_ID);
    bool is_new = true;

    *ret_again = false;
    if (id[0] == '\0')
        return true;
    const char *scope = arena_printf(call->arena, "%s %s", call->method->name, call->parent);
    if (!store_request_claim(call->tx, scope, id, hash_request(call), call->new_operation, &call->operation, &is_new,
                             err))
        return false;
    *ret_again = !is_new;
    return true;
}

static bool write_audit(const ApiCall *call, Error *err) {
    StoreAudit audit = {.who = call->grant.who,
                        .action = call->method->name,
                        .resource = call->resource,
                        .from = call->request->peer,
                        .request_id = call_text(call, PARAM_REQUEST_ID),
                        .outcome = call_flag(call, PARAM_VALIDATE_ONLY) ? "VALIDATED" : "OK"};

    return store_audit_append(call->tx, &audit, err);
}

json_t *call_render_operation(const ApiCall *call, const Record *operation) {
    return call->grant.most >= ACCESS_CHANGE ? operation_render_whole(operation) : operation_render(operation);
}

static bool answer_operation(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    if (!record_load(call->tx, STORE_OPERATION, call->operation, &operation, err))
        return false;
    call->answer = call_render_operation(call, &operation);
    return true;
}

static bool run_in_transaction(StoreTx *tx, void *context, Error *err) {
    ApiCall *call = context;
    bool writes = call->method->access == METHOD_WRITES, again = false;

    json_freep(&call->answer); /* of a run before */
    call->violations.len = 0;
    call->tx = tx;
    call->operation = NULL;
    if (writes && !claim(call, &again, err))
        return false;
    if (!again) {
        call->operation = NULL;
        bool done = call->method->run(call, err);
        if (call->violations.len > 0)
            return bad_request(call, err);
        if (!done)
            return said_of_request(err);
        if (writes && !write_audit(call, err))
            return false;
    }
    return call->operation == NULL || answer_operation(call, err);
}

static bool carry_out(ApiCall *call, Error *err) {
    Store *store = api_store(call->api);

    switch (call->method->access) {
    case METHOD_ALONE:
        return call->method->run(call, err) || said_of_request(err);
    case METHOD_READS:
        return store_read(store, call->arena, run_in_transaction, call, err);
    case METHOD_WRITES:
        call->new_operation = operation_new_name(call->arena, record_location(call->arena, call->resource));
        return store_write(store, call->arena, run_in_transaction, call, err);
    }
    UNREACHABLE();
}

static AccessNeed need_of(const ApiMethod *method) {
    if (method->for_admins)
        return ACCESS_ADMINISTER;
    return method->access == METHOD_WRITES ? ACCESS_CHANGE : ACCESS_READ;
}

static bool handle(ApiCall *call, Error *err) {
    const Access *access = &api_config(call->api)->access;

    if (!check_version(call, err) ||
        !access->admit(access->context, call->request, call->response, need_of(call->method), &call->grant, err) ||
        !read_name(call, err))
        return false;
    params_read(call);
    read_new_name(call);
    if (!read_body(call, err))
        return false;
    if (call->violations.len > 0)
        return bad_request(call, err);
    take_secrets(call);
    if (call->violations.len > 0)
        return bad_request(call, err);
    return carry_out(call, err);
}

void call_handle(void *context, HttpRequest *request, HttpResponse *response) {
    ApiCall call = {.api = context,
                    .request = request,
                    .response = response,
                    .arena = request->arena,
                    .method = request->route_data,
                    .version = "",
                    .grant = {.who = ""},
                    .resource = "",
                    .parent = ""};
    Error err;

    if (!handle(&call, &err))
        call_send_error(&call, &err);
    else if (call.wants_stream)
        watch_stream(api_watch(call.api), response, call.resource, call.stream_after);
    else if (call.is_page)
        send_page(&call);
    else if (call.answer_text != NULL)
        send_text(&call, 200, call.answer_text, strlen(call.answer_text));
    else if (call.answer != NULL)
        call_send_json(&call, 200, call.answer);
    wipe_secrets(&call);
    json_freep(&call.answer);
    json_freep(&call.body);
}
