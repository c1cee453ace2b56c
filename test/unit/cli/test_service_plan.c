/* What differs between a resource as it is and as it is wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/service/plan.h"
#include "model/resources.h"

#include <string.h>

/* "path: before -> after; ..." with ! before what cannot be changed. */
static const char *describe(Arena *arena, const DifferenceVec *found) {
    const char *text = "";

    for (size_t at = 0; at < found->len; at++) {
        const Difference *one = &found->items[at];
        text = arena_printf(arena, "%s%s%s%s: %s -> %s", text, at > 0 ? "; " : "", one->is_fixed ? "!" : "", one->path,
                            one->before != NULL ? one->before : "(none)", one->after != NULL ? one->after : "(none)");
    }
    return text;
}

typedef struct Case {
    const Message *message;
    const char *current, *wanted;
    const char *differences, *sent;
    bool with_secrets;
} Case;

static void check(const Case *given) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *current = json_loads(given->current, 0, NULL);
    CLEANUP(json_freep) json_t *wanted = json_loads(given->wanted, 0, NULL);
    CLEANUP(json_freep) json_t *expected = json_loads(given->sent, 0, NULL);
    DifferenceVec found = {0};

    assert_non_null(current);
    assert_non_null(wanted);
    CLEANUP(json_freep)
    json_t *sent = plan_compare(given->message, current, wanted, given->with_secrets, arena, &found);
    assert_string_equal(describe(arena, &found), given->differences);
    assert_int_equal(json_equal(sent, expected), 1);
}

#define PROFILE &message_connection_profile
#define JOB &message_migration_job

static void test_fields(void **state UNUSED) {
    static const Case cases[] = {
        {PROFILE, "{\"displayName\": \"a\", \"postgresql\": {\"host\": \"h\", \"port\": 5432}}",
         "{\"displayName\": \"a\", \"postgresql\": {\"host\": \"h\"}}", "", "{}"},
        {PROFILE, "{\"displayName\": \"a\", \"postgresql\": {\"host\": \"h\", \"port\": 5432}}",
         "{\"displayName\": \"b\", \"postgresql\": {\"host\": \"h\", \"port\": 5433}}",
         "displayName: a -> b; postgresql.port: 5432 -> 5433",
         "{\"displayName\": \"b\", \"postgresql\": {\"port\": 5433}}"},
        {PROFILE, "{\"postgresql\": {\"host\": \"h\"}}", "{\"postgresql\": {\"database\": \"d\"}}",
         "postgresql.database: (none) -> d", "{\"postgresql\": {\"database\": \"d\"}}"},
        {PROFILE, "{}", "{\"labels\": {\"a\": \"b\"}}", "labels: (none) -> {\"a\":\"b\"}",
         "{\"labels\": {\"a\": \"b\"}}"},
        {PROFILE, "{\"labels\": {\"a\": \"b\", \"c\": \"d\"}}", "{\"labels\": {\"c\": \"d\", \"a\": \"b\"}}", "", "{}"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++)
        check(&cases[at]);
}

/* What is not there has its default. */
static void test_defaults(void **state UNUSED) {
    static const Case cases[] = {
        {PROFILE, "{\"postgresql\": {\"ssl\": {}}}",
         "{\"postgresql\": {\"ssl\": {\"type\": \"SSL_TYPE_UNSPECIFIED\"}}}", "", "{}"},
        {PROFILE, "{}", "{\"displayName\": \"\", \"labels\": {}}", "", "{}"},
        {PROFILE, "{\"postgresql\": {}}", "{\"postgresql\": {\"enableIamAuthentication\": false}}", "", "{}"},
        {PROFILE, "{\"displayName\": \"a\"}", "{\"displayName\": \"\"}", "displayName: a -> ",
         "{\"displayName\": \"\"}"},
        {JOB, "{}", "{\"staticIpConnectivity\": {}}", "staticIpConnectivity: (none) -> {}",
         "{\"staticIpConnectivity\": {}}"},
        {JOB, "{\"staticIpConnectivity\": {}}", "{\"staticIpConnectivity\": {}}", "", "{}"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++)
        check(&cases[at]);
}

#define WITH_PASSWORD "{\"postgresql\": {\"host\": \"h\", \"password\": \"new\"}}"
#define SENDS_PASSWORD "{\"postgresql\": {\"password\": \"new\"}}"
#define TELLS_PASSWORD "postgresql.password: (none) -> (secret)"

static void test_secrets(void **state UNUSED) {
    static const Case cases[] = {
        {PROFILE, "{\"postgresql\": {\"host\": \"h\"}}", WITH_PASSWORD, TELLS_PASSWORD, SENDS_PASSWORD},
        {PROFILE, "{\"postgresql\": {\"host\": \"h\", \"passwordSet\": true}}", WITH_PASSWORD, "", "{}"},
        {PROFILE, "{\"postgresql\": {\"host\": \"h\", \"passwordSet\": true}}", WITH_PASSWORD, TELLS_PASSWORD,
         SENDS_PASSWORD, .with_secrets = true},
        /* which certificates there are, the type tells */
        {PROFILE, "{\"postgresql\": {\"ssl\": {}}}", "{\"postgresql\": {\"ssl\": {\"caCertificate\": \"x\"}}}",
         "postgresql.ssl.caCertificate: (none) -> (secret)", "{\"postgresql\": {\"ssl\": {\"caCertificate\": \"x\"}}}"},
        {PROFILE, "{\"postgresql\": {\"ssl\": {\"type\": \"SERVER_ONLY\"}}}",
         "{\"postgresql\": {\"ssl\": {\"caCertificate\": \"x\"}}}", "", "{}"},
        {PROFILE, "{\"postgresql\": {\"ssl\": {\"type\": \"SERVER_ONLY\"}}}",
         "{\"postgresql\": {\"ssl\": {\"clientKey\": \"x\"}}}", "postgresql.ssl.clientKey: (none) -> (secret)",
         "{\"postgresql\": {\"ssl\": {\"clientKey\": \"x\"}}}"},
        {PROFILE, "{\"postgresql\": {\"forwardSshConnectivity\": {\"hostname\": \"b\"}}}",
         "{\"postgresql\": {\"forwardSshConnectivity\": {\"hostname\": \"b\", \"privateKey\": \"k\"}}}", "", "{}"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++)
        check(&cases[at]);
}

static void test_what_cannot_be_changed(void **state UNUSED) {
    static const Case cases[] = {
        {JOB, "{\"type\": \"CONTINUOUS\", \"source\": \"a\"}", "{\"type\": \"ONE_TIME\", \"source\": \"a\"}",
         "!type: CONTINUOUS -> ONE_TIME", "{\"type\": \"ONE_TIME\"}"},
        {PROFILE, "{\"cloudsql\": {\"settings\": {\"tier\": \"a\"}}}",
         "{\"cloudsql\": {\"settings\": {\"tier\": \"b\"}}}",
         "!cloudsql.settings: {\"tier\":\"a\"} -> {\"tier\":\"b\"}",
         "{\"cloudsql\": {\"settings\": {\"tier\": \"b\"}}}"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++)
        check(&cases[at]);
}

static void test_lists(void **state UNUSED) {
    static const Case cases[] = {
        {JOB,
         "{\"objectsConfig\": {\"sourceObjectsConfig\": {\"objectConfigs\": [{\"objectIdentifier\": {\"database\": "
         "\"a\"}}]}}}",
         "{\"objectsConfig\": {\"sourceObjectsConfig\": {\"objectConfigs\": []}}}",
         "objectsConfig.sourceObjectsConfig.objectConfigs: [a] -> []",
         "{\"objectsConfig\": {\"sourceObjectsConfig\": {\"objectConfigs\": []}}}"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++)
        check(&cases[at]);
}

static void test_mask(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Difference given[] = {{.path = "displayName"}, {.path = "postgresql.port"}};
    DifferenceVec found = {0};

    assert_string_equal(plan_mask(arena, &found), "");
    vec_push(arena, &found, given[0]);
    vec_push(arena, &found, given[1]);
    assert_string_equal(plan_mask(arena, &found), "displayName,postgresql.port");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),  cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_secrets), cmocka_unit_test(test_what_cannot_be_changed),
        cmocka_unit_test(test_lists),   cmocka_unit_test(test_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
