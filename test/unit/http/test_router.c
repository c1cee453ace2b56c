/* Routes: which one is taken, what it captures, and what is said when there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/response.h"
#include "http/router.h"
#include "http/target.h"

#include <string.h>

static Arena *arena;

static int setup(void **state UNUSED) {
    arena = arena_new();
    return 0;
}

static int teardown(void **state UNUSED) {
    arena_freep(&arena);
    return 0;
}

static void handler(void *context, HttpRequest *request, HttpResponse *response) {
    *(const char **)context = request->route_data;
    http_response_status(response, 202);
}

static const HttpRoute routes[] = {
    {HTTP_METHOD_GET, "/", handler, "root"},
    {HTTP_METHOD_GET, "/v1/{parent}/jobs", handler, "list"},
    {HTTP_METHOD_POST, "/v1/{parent}/jobs", handler, "create"},
    {HTTP_METHOD_GET, "/v1/{parent}/jobs/{id}", handler, "get"},
    {HTTP_METHOD_DELETE, "/v1/{parent}/jobs/{id}", handler, "delete"},
    {HTTP_METHOD_POST, "/v1/{parent}/jobs/{id}:start", handler, "start"},
    {HTTP_METHOD_POST, "/v1/{parent}/jobs/{id}:{verb}", handler, "any verb"},
    {HTTP_METHOD_POST, "/v1/{parent}/jobs:import", handler, "import"},
    {HTTP_METHOD_GET, "/files/", handler, "folder"},
    {HTTP_METHOD_HEAD, "/own", handler, "own head"},
    {HTTP_METHOD_GET, "/own", handler, "own get"},
    {HTTP_METHOD_OPTIONS, "/own", handler, "own options"},
};

typedef struct Routed {
    const char *route; /* its data; NULL: none was called */
    HttpRequest request;
    HttpResponse response;
} Routed;

static Routed route(HttpMethod method, const char *target) {
    Routed routed = {.request = {.arena = arena, .method = method, .target = target, .raw_path = target}};
    const char *why;

    response_init(&routed.response, arena, NULL, 0);
    if (strcmp(target, "*") != 0)
        assert_true(target_path(arena, target, &routed.request.path, &why));
    http_route((HttpRouter){routes, COUNT_OF(routes)}, &routed.route, &routed.request, &routed.response);
    return routed;
}

static void assert_route(HttpMethod method, const char *target, const char *wanted) {
    Routed routed = route(method, target);
    if (routed.route == NULL || strcmp(routed.route, wanted) != 0)
        fail_msg("%s went to %s, not to %s", target, routed.route, wanted);
    assert_int_equal(routed.response.status, 202);
}

static const char *allow_of(const Routed *routed) {
    return http_fields_get((HttpFields){routed->response.headers.items, routed->response.headers.len}, "Allow");
}

static void test_taken(void **state UNUSED) {
    assert_route(HTTP_METHOD_GET, "/", "root");
    assert_route(HTTP_METHOD_GET, "/v1/p/jobs", "list");
    assert_route(HTTP_METHOD_POST, "/v1/p/jobs", "create");
    assert_route(HTTP_METHOD_GET, "/v1/p/jobs/a", "get");
    assert_route(HTTP_METHOD_DELETE, "/v1/p/jobs/a%2Fb", "delete");
    assert_route(HTTP_METHOD_POST, "/v1/p/jobs/a:start", "start");
    assert_route(HTTP_METHOD_POST, "/v1/p/jobs/a:stop", "any verb");
    assert_route(HTTP_METHOD_POST, "/v1/p/jobs:import", "import");
    assert_route(HTTP_METHOD_GET, "/files/", "folder");
}

static void test_head_and_options(void **state UNUSED) {
    assert_route(HTTP_METHOD_HEAD, "/v1/p/jobs", "list");
    assert_route(HTTP_METHOD_HEAD, "/own", "own head");
    assert_route(HTTP_METHOD_GET, "/own", "own get");
    assert_route(HTTP_METHOD_OPTIONS, "/own", "own options");
    Routed routed = route(HTTP_METHOD_OPTIONS, "/v1/p/jobs/a");
    assert_null(routed.route);
    assert_int_equal(routed.response.status, 204);
    assert_string_equal(allow_of(&routed), "GET, HEAD, DELETE, OPTIONS");
    routed = route(HTTP_METHOD_OPTIONS, "*");
    assert_int_equal(routed.response.status, 204);
    assert_string_equal(allow_of(&routed), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}

static void test_params(void **state UNUSED) {
    Routed routed = route(HTTP_METHOD_POST, "/v1/p%20q/jobs/a%3Ab:c");

    assert_string_equal(routed.route, "any verb");
    assert_int_equal(routed.request.params.count, 3);
    assert_string_equal(http_fields_get(routed.request.params, "parent"), "p q");
    assert_string_equal(http_fields_get(routed.request.params, "id"), "a:b");
    assert_string_equal(http_fields_get(routed.request.params, "verb"), "c");
    assert_null(http_fields_get(routed.request.params, "other"));
    assert_int_equal(route(HTTP_METHOD_GET, "/").request.params.count, 0);
}

static void test_none(void **state UNUSED) {
    static const char *const unknown[] = {
        "/v1", "/v1/p",         "/v1/p/jobs/", "/v1/p/jobs/a/b", "/v1/p/Jobs",       "/v1%2Fp/jobs", "/files",
        "/x",  "/v1/p/jobs/a/", "/files/a",    "/own:start",     "/v1/p/jobs:other", "/v1/p/job",    "/v1/p/jobss",
    };

    for (size_t i = 0; i < COUNT_OF(unknown); i++) {
        Routed routed = route(HTTP_METHOD_GET, unknown[i]);
        if (routed.response.status != 404)
            fail_msg("%s was found", unknown[i]);
        assert_null(routed.route);
        assert_null(allow_of(&routed));
    }
    assert_int_equal(route(HTTP_METHOD_OPTIONS, "/x").response.status, 404);
    /* "{id}" takes no empty text */
    assert_int_equal(route(HTTP_METHOD_POST, "/v1/p/jobs/a:").response.status, 404);
    assert_int_equal(route(HTTP_METHOD_POST, "/v1/p/jobs/:start").response.status, 404);
}

static void test_not_allowed(void **state UNUSED) {
    Routed routed = route(HTTP_METHOD_PUT, "/v1/p/jobs/a");

    assert_null(routed.route);
    assert_int_equal(routed.response.status, 405);
    assert_string_equal(allow_of(&routed), "GET, HEAD, DELETE, OPTIONS");
    routed = route(HTTP_METHOD_GET, "/v1/p/jobs/a:start");
    assert_int_equal(routed.response.status, 405);
    assert_string_equal(allow_of(&routed), "POST, OPTIONS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_head_and_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_params, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_allowed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
