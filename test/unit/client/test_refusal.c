/* google.rpc.Status as errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/refusal.h"
#include "model/status.h"

#include <string.h>

static void check_status(const char *text, ErrorReason reason, const char *message) {
    CLEANUP(json_freep) json_t *status = NULL;
    Error err;

    assert_true(json_parse(text, strlen(text), &status, &err));
    assert_false(refusal_from_status(status, &err));
    assert_int_equal(err.reason, reason);
    assert_string_equal(err.message, message);
}

/* What the service makes of an error comes back as the same. */
static void test_there_and_back(void **state UNUSED) {
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++) {
        Error before, after;

        error_set(&before, reason, "this and that");
        error_remedy(&before, "do so");
        memcpy(before.sqlstate, "28P01", 6);
        CLEANUP(json_freep) json_t *answer = status_to_answer(&before, NULL);
        CLEANUP(json_freep) json_t *status = status_to_json(&before, NULL);
        assert_false(refusal_from_status(json_object_get(answer, "error"), &after));
        assert_int_equal(after.reason, reason);
        assert_string_equal(after.message, "this and that");
        assert_string_equal(after.remedy, "do so");
        assert_string_equal(after.sqlstate, "28P01");
        assert_false(refusal_from_status(status, &after));
        assert_int_equal(after.reason, reason);
    }
}

static void test_without_a_reason(void **state UNUSED) {
    check_status("{\"code\": 404, \"status\": \"NOT_FOUND\", \"message\": \"m\"}", REASON_NO_RESOURCE, "m");
    check_status("{\"code\": 9, \"message\": \"m\"}", REASON_JOB_STATE, "m");
    check_status("{\"code\": 503, \"status\": \"UNAVAILABLE\"}", REASON_STORE_UNAVAILABLE,
                 "the service gives no reason");
    check_status("{\"code\": 99, \"message\": \"m\"}", REASON_SYSTEM, "m");
    check_status("{\"code\": -1, \"message\": \"m\"}", REASON_SYSTEM, "m");
    check_status("{}", REASON_SYSTEM, "the service gives no reason");
    /* of a newer service */
    check_status(
        "{\"code\": 3, \"message\": \"m\", \"details\": [{\"@type\": \"type.googleapis.com/google.rpc.ErrorInfo\", "
        "\"reason\": \"NEW_ONE\"}]}",
        REASON_BAD_REQUEST, "m");
    check_status("{\"code\": 3, \"message\": \"m\", \"details\": [5, {\"@type\": 5}, {\"@type\": \"x\"}]}",
                 REASON_BAD_REQUEST, "m");
}

#define VIOLATIONS "\"details\": [{\"@type\": \"type.googleapis.com/google.rpc.BadRequest\", \"fieldViolations\": "

static void test_violations(void **state UNUSED) {
    check_status("{\"code\": 3, \"message\": \"a.b: is wrong\", " VIOLATIONS
                 "[{\"field\": \"a.b\", \"description\": \"is wrong\"}]}]}",
                 REASON_BAD_REQUEST, "a.b: is wrong");
    check_status(
        "{\"code\": 3, \"message\": \"a.b: is wrong; and 1 more\", " VIOLATIONS
        "[{\"field\": \"a.b\", \"description\": \"is wrong\"}, {\"field\": \"c\", \"description\": \"too\"}]}]}",
        REASON_BAD_REQUEST, "the service refuses the request:\n    a.b: is wrong\n    c: too");
}

#define FINDING "{\"@type\": \"type.googleapis.com/google.cloud.clouddms.v1.MigrationJobVerificationError\", "

static void test_findings(void **state UNUSED) {
    check_status("{\"code\": 9, \"message\": \"2 errors\", \"details\": [" FINDING
                 "\"errorCode\": \"INVALID_WAL_LEVEL\", \"errorMessage\": \"wal_level is replica\", "
                 "\"errorDetailMessage\": \"ALTER SYSTEM\"}, " FINDING
                 "\"errorCode\": \"EXISTING_DATA\", \"errorMessage\": \"not empty\"}]}",
                 REASON_JOB_STATE,
                 "2 errors\n    INVALID_WAL_LEVEL: wal_level is replica (ALTER SYSTEM)\n    EXISTING_DATA: not empty");
}

static void test_answers_of_others(void **state UNUSED) {
    static const struct {
        long status;
        ErrorReason reason;
    } cases[] = {{401, REASON_TOKEN_NEEDED}, {403, REASON_NOT_PERMITTED},     {404, REASON_NO_RESOURCE},
                 {302, REASON_BAD_DATA},     {502, REASON_STORE_UNAVAILABLE}, {200, REASON_BAD_DATA}};
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        Error err;

        assert_false(refusal_from_http(cases[at].status, &err));
        assert_int_equal(err.reason, cases[at].reason);
        assert_true(err.remedy[0] != '\0');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),    cmocka_unit_test(test_without_a_reason),
        cmocka_unit_test(test_violations),        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_answers_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
