/* Routes of the API, and what is beside it: health, version, the OpenAPI document. */
#include "api/api.h"

#include "api/cache.h"
#include "api/call.h"
#include "api/watch.h"
#include "config.h"
#include "model/status.h"

#include <string.h>

struct Api {
    Arena *arena;
    ApiConfig config;
    Watch *watch;
    Cache *cache;
    HttpRouter router;
    const char *openapi; /* its text */
};

Store *api_store(const Api *api) {
    return api->config.store;
}

const ApiConfig *api_config(const Api *api) {
    return &api->config;
}

Watch *api_watch(const Api *api) {
    return api->watch;
}

Cache *api_cache(const Api *api) {
    return api->cache;
}

static void send_text(HttpResponse *response, int status, const char *type, const char *text) {
    http_response_status(response, status);
    http_response_header(response, "Cache-Control", "no-store");
    http_response_body(response, type, text, strlen(text));
}

/* ---- Beside the API ---- */

/* The process is there: asks nobody, so that a store that is away does not have it restarted. */
static void healthz(void *context UNUSED, HttpRequest *request UNUSED, HttpResponse *response) {
    send_text(response, 200, "text/plain", "ok\n");
}

static bool look(StoreTx *tx, void *context UNUSED, Error *err) {
    const StoreQuery query = {.kind = STORE_OPERATION, .parent = ""};
    int64_t count = 0;

    return store_count(tx, &query, &count, err);
}

/* Can it do its work? */
static void readyz(void *context, HttpRequest *request, HttpResponse *response) {
    const Api *api = context;
    Error err;

    if (store_read(api->config.store, request->arena, look, NULL, &err))
        send_text(response, 200, "text/plain", "ok\n");
    else
        send_text(response, 503, "text/plain", arena_printf(request->arena, "%s\n", err.message));
}

static void version(void *context UNUSED, HttpRequest *request UNUSED, HttpResponse *response) {
    send_text(response, 200, "application/json",
              "{\"version\":\"" PGCRANE_VERSION "\",\"api\":[\"v1\",\"v1beta1\",\"v1alpha2\"]}\n");
}

static void openapi(void *context, HttpRequest *request UNUSED, HttpResponse *response) {
    const Api *api = context;

    send_text(response, 200, "application/json", api->openapi);
}

static const HttpRoute beside[] = {
    {HTTP_METHOD_GET, "/healthz", healthz},
    {HTTP_METHOD_GET, "/readyz", readyz},
    {HTTP_METHOD_GET, "/version", version},
    {HTTP_METHOD_GET, "/openapi.json", openapi},
};

/* ---- Known and not served ---- */

static void not_served(void *context, HttpRequest *request, HttpResponse *response) {
    const ApiMethod *method = request->route_data;
    ApiCall call = {.api = context, .request = request, .response = response, .arena = request->arena};
    Error err;

    error_set(&err, REASON_NOT_SERVED, "%s is not served here", method->name);
    error_remedy(&err,
                 "it belongs to migrations from other engines, or to Google's network; here PostgreSQL is migrated "
                 "to PostgreSQL");
    call_send_error(&call, &err);
}

/* ---- The routes ---- */

static void add_routes(Api *api) {
    HttpRoute *routes = arena_array(api->arena, HttpRoute, api_methods_count + COUNT_OF(beside));
    size_t count = 0;

    for (size_t at = 0; at < COUNT_OF(beside); at++)
        routes[count++] = beside[at];
    for (size_t at = 0; at < api_methods_count; at++) {
        const ApiMethod *method = &api_methods[at];

        routes[count++] = (HttpRoute){.method = method->http,
                                      .pattern = arena_printf(api->arena, "/{version}%s", method->path),
                                      .handler = method->run != NULL ? call_handle : not_served,
                                      .data = method};
    }
    api->router = (HttpRouter){routes, count};
}

void api_handle(void *context, HttpRequest *request, HttpResponse *response) {
    const Api *api = context;

    http_route(api->router, context, request, response);
}

static const char *openapi_text(Arena *arena) {
    CLEANUP(json_freep) json_t *document = api_openapi();
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, STORE_BODY_MAX);
    json_print(document, 0, &text);
    return arena_strndup(arena, text.data, text.len);
}

bool api_new(const ApiConfig *config, Api **ret_api, Error *err) {
    Arena *arena = arena_new();
    Api *api = arena_new_of(arena, Api);

    api->arena = arena;
    api->config = *config;
    api->cache = cache_new();
    if (!watch_new(config->store, API_WAITING_MAX, &api->watch, err)) {
        cache_freep(&api->cache);
        arena_free(arena);
        return false;
    }
    add_routes(api);
    api->openapi = openapi_text(arena);
    *ret_api = api;
    return true;
}

void api_stop(Api *api) {
    watch_stop(api->watch);
}

void api_freep(Api **api) {
    if (*api == NULL)
        return;
    watch_freep(&(*api)->watch);
    cache_freep(&(*api)->cache);
    arena_free((*api)->arena);
    *api = NULL;
}
