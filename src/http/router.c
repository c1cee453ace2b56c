/* Routes as a const table. */
#include "http/router.h"

#include "common/buf.h"

#include <assert.h>
#include <string.h>

typedef struct Match {
    Arena *arena;
    HttpField params[HTTP_ROUTE_PARAMS_MAX];
    size_t count;
} Match;

/* One part of a pattern, {name} or a word, against decoded text. */
static bool match_part(Match *match, const char *part, size_t len, const char *text) {
    if (len < 2 || part[0] != '{' || part[len - 1] != '}')
        return strlen(text) == len && memcmp(part, text, len) == 0;
    assert(match->count < HTTP_ROUTE_PARAMS_MAX); /* the table is wrong */
    if (*text == '\0')
        return false;
    match->params[match->count++] = (HttpField){arena_strndup(match->arena, part + 1, len - 2), text};
    return true;
}

static bool match_last(Match *match, const char *part, size_t len, const HttpPath *path) {
    const char *colon = memchr(part, ':', len);
    size_t before = colon == NULL ? len : (size_t)(colon - part);

    if ((colon == NULL) != (path->verb == NULL) || !match_part(match, part, before, path->segments[path->count - 1]))
        return false;
    return colon == NULL || match_part(match, colon + 1, len - before - 1, path->verb);
}

static bool match_pattern(Match *match, const char *pattern, const HttpPath *path) {
    const char *next = pattern + 1;

    for (size_t i = 0; i < path->count; i++) {
        size_t len = strcspn(next, "/");
        bool last = i + 1 == path->count;
        bool fits = last ? match_last(match, next, len, path) : match_part(match, next, len, path->segments[i]);
        if (len == 0 || !fits)
            return false;
        next += len;
        if (!last && *next++ != '/')
            return false;
    }
    return strcmp(next, path->trailing_slash ? "/" : "") == 0;
}

static unsigned bit(HttpMethod method) {
    return 1U << method;
}

static unsigned with_implied(unsigned allowed) {
    if (allowed == 0)
        return 0;
    return allowed | bit(HTTP_METHOD_OPTIONS) | ((allowed & bit(HTTP_METHOD_GET)) ? bit(HTTP_METHOD_HEAD) : 0);
}

const HttpRoute *http_route_find(HttpRouter router, Arena *arena, HttpMethod method, const HttpPath *path,
                                 HttpFields *ret_params, unsigned *ret_allowed) {
    const HttpRoute *found = NULL;
    Match best = {0};
    unsigned allowed = 0;

    for (size_t i = 0; i < router.count; i++) {
        const HttpRoute *route = &router.routes[i];
        Match match = {.arena = arena};
        if (!match_pattern(&match, route->pattern, path))
            continue;
        allowed |= bit(route->method);
        bool implied = method == HTTP_METHOD_HEAD && route->method == HTTP_METHOD_GET;
        if (route->method == method ? found == NULL || found->method != method : implied && found == NULL) {
            found = route;
            best = match;
        }
    }
    HttpField *params = arena_array(arena, HttpField, HTTP_ROUTE_PARAMS_MAX);
    memcpy(params, best.params, sizeof(best.params));
    *ret_params = (HttpFields){params, best.count};
    *ret_allowed = with_implied(allowed);
    return found;
}

/* "GET, HEAD, OPTIONS" */
static const char *allow_text(Arena *arena, unsigned allowed) {
    const char *text = "";
    for (HttpMethod method = HTTP_METHOD_NONE + 1; method < HTTP_METHOD_MAX_; method++) {
        if (allowed & bit(method))
            text = arena_printf(arena, "%s%s%s", text, *text == '\0' ? "" : ", ", http_method_name(method));
    }
    return text;
}

void http_route(HttpRouter router, void *context, HttpRequest *request, HttpResponse *response) {
    unsigned allowed = bit(HTTP_METHOD_MAX_) - 2; /* of the server as a whole: OPTIONS * */
    const HttpRoute *route = NULL;

    if (strcmp(request->target, "*") != 0)
        route = http_route_find(router, request->arena, request->method, &request->path, &request->params, &allowed);
    if (route != NULL) {
        request->route_data = route->data;
        route->handler(context, request, response);
        return;
    }
    const char *allow = allow_text(request->arena, allowed);
    if (allowed == 0) {
        http_response_error(response, 404, "the requested URL %s was not found on this server", request->raw_path);
    } else if (request->method == HTTP_METHOD_OPTIONS) {
        http_response_status(response, 204);
        http_response_header(response, "Allow", allow);
    } else {
        http_response_error(response, 405, "%s is not allowed here, but %s", http_method_name(request->method), allow);
        http_response_header(response, "Allow", allow);
    }
}
