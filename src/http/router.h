/*
 * Routes as a const table: method, pattern, handler.
 *
 *     static const HttpRoute routes[] = {
 *         {HTTP_METHOD_GET, "/v1/projects/{project}/jobs", list_jobs},
 *         {HTTP_METHOD_POST, "/v1/projects/{project}/jobs/{job}:start", start_job},
 *         {HTTP_METHOD_POST, "/v1/projects/{project}/jobs/{job}:{verb}", no_such_verb},
 *     };
 *
 * A pattern's segment is a word or one {name}; behind the last one may stand ":word" or ":{name}" for the verb, and a
 * slash for paths that end with one. {name} takes a whole decoded segment, never an empty one. The first route that
 * matches is taken. A path without verb matches no pattern with one, and the other way round.
 *
 * HEAD is answered by GET's route when it has none of its own. OPTIONS, where no route takes it, tells the methods.
 */
#pragma once

#include "http/message.h"

typedef struct HttpRoute {
    HttpMethod method;
    const char *pattern;
    void (*handler)(void *context, HttpRequest *request, HttpResponse *response);
    const void *data; /* the handler finds it as request->route_data */
} HttpRoute;

typedef struct HttpRouter {
    const HttpRoute *routes;
    size_t count;
} HttpRouter;

enum { HTTP_ROUTE_PARAMS_MAX = 8 };

/* Calls the route's handler with request->params set, or answers with 404, 405 (and Allow) or OPTIONS. */
void http_route(HttpRouter router, void *context, HttpRequest *request, HttpResponse *response);

/* The route for a method and a path; NULL when there is none. params: at least HTTP_ROUTE_PARAMS_MAX. *ret_allowed:
 * a bit (1 << method) for each method that the path has, HEAD and OPTIONS included; 0 = no such path. */
const HttpRoute *http_route_find(HttpRouter router, Arena *arena, HttpMethod method, const HttpPath *path,
                                 HttpFields *ret_params, unsigned *ret_allowed);
