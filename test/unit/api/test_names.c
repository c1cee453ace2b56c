/* Names of resources, and errors as the API answers with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/names.h"
#include "model/status.h"

static void test_names_there_and_back(void **state UNUSED) {
    static const struct {
        const char *text;
        NameKind kind;
        const char *project, *job, *id, *parent;
    } cases[] = {
        {"projects/p/locations/l", NAME_LOCATION, "p", "", "", "projects/p/locations/l"},
        {"projects/example.com:shop/locations/us-east1/connectionProfiles/src", NAME_CONNECTION_PROFILE,
         "example.com:shop", "", "src", "projects/example.com:shop/locations/us-east1"},
        {"projects/p/locations/-/migrationJobs/j1", NAME_MIGRATION_JOB, "p", "", "j1", "projects/p/locations/-"},
        {"projects/p/locations/l/migrationJobs/j1/objects/o_1.x", NAME_OBJECT, "p", "j1", "o_1.x",
         "projects/p/locations/l/migrationJobs/j1"},
        {"projects/p/locations/l/operations/operation-1724830999734-620b983096922-b2c351ac-6becb172", NAME_OPERATION,
         "p", "", "operation-1724830999734-620b983096922-b2c351ac-6becb172", "projects/p/locations/l"},
        {"projects/p/locations/l/privateConnections/c", NAME_PRIVATE_CONNECTION, "p", "", "c",
         "projects/p/locations/l"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        ResourceName name = {0};
        Error err;

        if (!name_parse(arena, cases[i].text, &name, &err))
            fail_msg("%s", err.message);
        assert_int_equal(name.kind, cases[i].kind);
        assert_string_equal(name.project, cases[i].project);
        assert_string_equal(name.job, cases[i].job);
        assert_string_equal(name.id, cases[i].id);
        assert_string_equal(name_parent(arena, &name), cases[i].parent);
        assert_string_equal(name_format(arena, &name), cases[i].text);
    }
    assert_string_equal(name_collection(NAME_OBJECT), "objects");
}

static void test_names_are_refused(void **state UNUSED) {
    static const char *const bad[] = {
        "",
        "projects",
        "projects/p",
        "projects/p/",
        "projects/p/locations",
        "projects/p/locations/",
        "projects/p/locations/l/",
        "projects//locations/l",
        "/projects/p/locations/l",
        "projects/p/locations/a:b",
        "projects/p/locations/l/connectionProfiles",
        "projects/p/locations/l/connectionProfiles/",
        "projects/p/locations/l/connectionProfiles/..",
        "projects/p/locations/l/connectionProfiles/a/b",
        "projects/p/locations/l/connectionProfiles/a/objects/b",
        "projects/p/locations/l/objects/b",
        "projects/p/locations/l/migrationJobs/j/objects",
        "projects/p/locations/l/migrationJobs/j/objects/o/x",
        "projects/p/locations/l/mappingRules/a",
        "projects/p/locations/l/connectionProfiles/a b",
        "projects/p/locations/l/connectionProfiles/a\xc3\xa9",
        "projects/p%2f/locations/l",
        "locations/l/projects/p",
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ResourceName name = {.id = "untouched"};
    Error err;

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (name_parse(arena, bad[i], &name, &err))
            fail_msg("taken: %s", bad[i]);
    char *text = arena_alloc(arena, 1000);
    memset(text, 'a', 999);
    memcpy(text, "projects/", 9);
    assert_false(name_parse(arena, text, &name, &err));
    assert_int_equal(error_reason_code(err.reason), ERR_INVALID_ARGUMENT);
    assert_string_equal(name.id, "untouched");
}

static void test_status(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};
    Error err = {0};

    error_set(&err, REASON_JOB_STATE, "a job that is COMPLETED cannot take start");
    error_remedy(&err, "delete it");
    CLEANUP(json_freep) json_t *answer = status_to_answer(&err, &violations);
    CLEANUP(json_freep)
    json_t *wanted =
        json_pack("{s:{s:i, s:s, s:s, s:[{s:s, s:s, s:s, s:{s:s}}]}}", "error", "code", 400, "message", err.message,
                  "status", "FAILED_PRECONDITION", "details", "@type", "type.googleapis.com/google.rpc.ErrorInfo",
                  "reason", "JOB_STATE", "domain", "pgcrane", "metadata", "remedy", "delete it");
    assert_true(json_equal(answer, wanted));
    vec_push(arena, &violations, ((Violation){"postgresql.port", "must be a whole number"}));
    CLEANUP(json_freep) json_t *status = status_to_json(&err, &violations);
    assert_int_equal(json_get_int(status, "code", 0), ERR_FAILED_PRECONDITION);
    const json_t *bad = json_array_get(json_get_array(status, "details"), 1);
    assert_string_equal(json_get_string(bad, "@type", ""), "type.googleapis.com/google.rpc.BadRequest");
    assert_string_equal(json_get_string(json_array_get(json_get_array(bad, "fieldViolations"), 0), "field", ""),
                        "postgresql.port");
}

static void test_http_codes(void **state UNUSED) {
    assert_int_equal(status_http_code(ERR_NOT_FOUND), 404);
    assert_int_equal(status_http_code(ERR_ALREADY_EXISTS), 409);
    assert_int_equal(status_http_code(ERR_UNAVAILABLE), 503);
    assert_int_equal(status_http_code((ErrorCode)99), 500);
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++)
        assert_in_range(status_http_code(error_reason_code(reason)), 400, 599);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names_there_and_back),
                                       cmocka_unit_test(test_names_are_refused), cmocka_unit_test(test_status),
                                       cmocka_unit_test(test_http_codes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
