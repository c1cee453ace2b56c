/* Reading, patching and describing the API's resources by their tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/resources.h"

static json_t *parse(const char *text) {
    json_t *json = NULL;
    Error err;

    if (!json_parse(text, strlen(text), &json, &err))
        fail_msg("%s", err.message);
    return json;
}

static json_t *read_new(Arena *arena, const Message *message, const char *text, ViolationVec *violations) {
    CLEANUP(json_freep) json_t *sent = parse(text);

    return message_read(message, sent, true, arena, violations);
}

static void assert_reads(const Message *message, const char *text, const char *expected) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};
    CLEANUP(json_freep) json_t *body = read_new(arena, message, text, &violations);
    CLEANUP(json_freep) json_t *wanted = parse(expected);

    if (violations.len > 0)
        fail_msg("%s: %s", violations.items[0].field, violations.items[0].description);
    assert_non_null(body);
    assert_true(json_equal(body, wanted));
}

static void assert_refuses(const Message *message, const char *text, const char *field, const char *description) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};
    CLEANUP(json_freep) json_t *body = read_new(arena, message, text, &violations);

    assert_null(body);
    assert_int_equal(violations.len, 1);
    assert_string_equal(violations.items[0].field, field);
    if (strstr(violations.items[0].description, description) == NULL)
        fail_msg("%s", violations.items[0].description);
}

#define PROFILE &message_connection_profile

/* What google-cloud-sdk sends to create a profile. */
static void test_reads_what_clients_send(void **state UNUSED) {
    assert_reads(
        PROFILE,
        "{\"displayName\":\"src\",\"labels\":{\"a\":\"b\"},\"postgresql\":{\"host\":\"10.0.0.5\",\"port\":5432,"
        "\"ssl\":{},\"username\":\"mig\"},\"role\":\"SOURCE\",\"state\":\"CREATING\",\"error\":null}",
        "{\"displayName\":\"src\",\"labels\":{\"a\":\"b\"},\"postgresql\":{\"host\":\"10.0.0.5\",\"port\":5432,"
        "\"ssl\":{},\"username\":\"mig\"},\"role\":\"SOURCE\"}");
    assert_reads(PROFILE, "{\"postgresql\":{\"cloudSqlId\":\"i1\",\"ssl\":{}},\"role\":\"DESTINATION\"}",
                 "{\"postgresql\":{\"cloudSqlId\":\"i1\",\"ssl\":{}},\"role\":\"DESTINATION\"}");
    assert_reads(
        PROFILE,
        "{\"display_name\":\"x\",\"cloudsql\":{\"settings\":{\"dataDiskSizeGb\":20,\"autoStorageIncrease\":true,"
        "\"dataDiskType\":\"SQL_DATA_DISK_TYPE_UNSPECIFIED\",\"ipConfig\":{\"authorizedNetworks\":[{\"value\":"
        "\"10.0.0.0/8\",\"expireTime\":\"2026-12-01T00:00:00.5Z\"}]}}}}",
        "{\"displayName\":\"x\",\"cloudsql\":{\"settings\":{\"dataDiskSizeGb\":\"20\",\"autoStorageIncrease\":true,"
        "\"dataDiskType\":\"SQL_DATA_DISK_TYPE_UNSPECIFIED\",\"ipConfig\":{\"authorizedNetworks\":[{\"value\":"
        "\"10.0.0.0/8\",\"expireTime\":\"2026-12-01T00:00:00.5Z\"}]}}}}");
    assert_reads(&message_migration_job,
                 "{\"type\":\"CONTINUOUS\",\"source\":\"s\",\"destination\":\"d\",\"staticIpConnectivity\":{},"
                 "\"objectsConfig\":{\"sourceObjectsConfig\":{\"objectsSelectionType\":\"SPECIFIED_OBJECTS\","
                 "\"objectConfigs\":[{\"objectIdentifier\":{\"database\":\"app\",\"type\":\"DATABASE\"}}]}}}",
                 "{\"type\":\"CONTINUOUS\",\"source\":\"s\",\"destination\":\"d\",\"staticIpConnectivity\":{},"
                 "\"objectsConfig\":{\"sourceObjectsConfig\":{\"objectsSelectionType\":\"SPECIFIED_OBJECTS\","
                 "\"objectConfigs\":[{\"objectIdentifier\":{\"database\":\"app\",\"type\":\"DATABASE\"}}]}}}");
    assert_reads(PROFILE, "{\"postgresql\":{\"port\":\"5433\"}}", "{\"postgresql\":{\"port\":5433}}");
}

static void test_refuses(void **state UNUSED) {
    assert_refuses(PROFILE, "{\"colour\":1}", "colour", "no such field in ConnectionProfile");
    assert_refuses(PROFILE, "{\"mysql\":{}}", "mysql", "no such field");
    assert_refuses(PROFILE, "{\"displayName\":5}", "displayName", "must be a string");
    assert_refuses(PROFILE, "{\"displayName\":\"a\",\"display_name\":\"b\"}", "display_name", "given twice");
    assert_refuses(PROFILE, "{\"postgresql\":[]}", "postgresql", "must be an object");
    assert_refuses(PROFILE, "{\"postgresql\":{\"port\":0}}", "postgresql.port", "from 1 to 65535");
    assert_refuses(PROFILE, "{\"postgresql\":{\"port\":5432.5}}", "postgresql.port", "whole number");
    assert_refuses(PROFILE, "{\"postgresql\":{\"port\":\"5432x\"}}", "postgresql.port", "whole number");
    assert_refuses(PROFILE, "{\"postgresql\":{\"port\":1e300}}", "postgresql.port", "whole number");
    assert_refuses(PROFILE, "{\"postgresql\":{\"enableIamAuthentication\":\"yes\"}}",
                   "postgresql.enableIamAuthentication", "true or false");
    assert_refuses(PROFILE, "{\"role\":\"source\"}", "role", "must be one of ROLE_UNSPECIFIED, SOURCE, DESTINATION");
    assert_refuses(PROFILE, "{\"role\":1}", "role", "must be one of");
    assert_refuses(PROFILE, "{\"labels\":{\"a\":1}}", "labels.a", "must be a string");
    assert_refuses(PROFILE, "{\"labels\":[\"a\"]}", "labels", "must be an object");
    assert_refuses(PROFILE, "{\"postgresql\":{},\"cloudsql\":{}}", "cloudsql", "together with postgresql");
    assert_refuses(PROFILE, "{\"cloudsql\":{\"settings\":{\"ipConfig\":{\"authorizedNetworks\":{}}}}}",
                   "cloudsql.settings.ipConfig.authorizedNetworks", "must be a list");
    assert_refuses(PROFILE,
                   "{\"cloudsql\":{\"settings\":{\"ipConfig\":{\"authorizedNetworks\":[{},{\"ttl\":\"5\"}]}}}}",
                   "cloudsql.settings.ipConfig.authorizedNetworks[1].ttl", "must be a duration");
    assert_refuses(PROFILE, "{\"cloudsql\":{\"settings\":{\"dataDiskSizeGb\":\"99999999999999999999\"}}}",
                   "cloudsql.settings.dataDiskSizeGb", "whole number");
    assert_refuses(&message_migration_job, "{\"type\":\"ONE_TIME\",\"source\":\"s\"}", "destination", "is required");
    assert_refuses(&message_empty, "{\"force\":true}", "force", "no such field in Empty");
}

static void test_text_has_a_limit(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};
    char *name = arena_alloc(arena, MESSAGE_TEXT_MAX + 2);
    memset(name, 'x', MESSAGE_TEXT_MAX + 1);
    CLEANUP(json_freep)
    json_t *sent = json_pack("{s:{s:s}, s:s}", "postgresql", "cloudSqlId", name, "displayName", "y");

    assert_null(message_read(PROFILE, sent, true, arena, &violations));
    assert_string_equal(violations.items[0].field, "postgresql.cloudSqlId");
    assert_string_equal(violations.items[0].description, "must be at most 4096 bytes long");
}

static void test_all_that_is_wrong_at_once(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};

    assert_null(read_new(arena, PROFILE,
                         "{\"a\":1,\"role\":\"x\",\"postgresql\":{\"port\":-1,\"host\":7,\"ssl\":{\"type\":\"y\"}}}",
                         &violations));
    assert_int_equal(violations.len, 5);
}

static void test_times(void **state UNUSED) {
    static const char *const good[] = {"2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789Z",
                                       "2026-01-31T12:00:00+02:00"};
    static const char *const bad[] = {"2026-01-31",
                                      "2026-01-31 12:00:00Z",
                                      "2026-01-31T12:00:00",
                                      "2026-01-31T12:00:00.Z",
                                      "2026-01-31T12:00:00+2",
                                      ""};
    char text[200];

    for (size_t i = 0; i < COUNT_OF(good) + COUNT_OF(bad); i++) {
        const char *time = i < COUNT_OF(good) ? good[i] : bad[i - COUNT_OF(good)];
        (void)snprintf(
            text, sizeof(text),
            "{\"cloudsql\":{\"settings\":{\"ipConfig\":{\"authorizedNetworks\":[{\"expireTime\":\"%s\"}]}}}}", time);
        CLEANUP(arena_freep) Arena *arena = arena_new();
        ViolationVec violations = {0};
        CLEANUP(json_freep) json_t *body = read_new(arena, PROFILE, text, &violations);
        assert_int_equal(body != NULL, i < COUNT_OF(good));
    }
}

typedef struct Taken {
    char text[400];
} Taken;

static void take(void *context, const char *path, const char *value) {
    Taken *taken = context;
    size_t used = strlen(taken->text);

    (void)snprintf(taken->text + used, sizeof(taken->text) - used, "%s=%s;", path, value);
}

static void test_secrets_leave_the_body(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ViolationVec violations = {0};
    CLEANUP(json_freep)
    json_t *body = read_new(
        arena, PROFILE,
        "{\"postgresql\":{\"host\":\"h\",\"password\":\"p\",\"ssl\":{\"type\":\"SERVER_CLIENT\",\"clientKey\":\"k\"},"
        "\"forwardSshConnectivity\":{\"hostname\":\"b\",\"username\":\"u\",\"privateKey\":\"pk\"}}}",
        &violations);
    CLEANUP(json_freep)
    json_t *left = parse("{\"postgresql\":{\"host\":\"h\",\"ssl\":{\"type\":\"SERVER_CLIENT\"},"
                         "\"forwardSshConnectivity\":{\"hostname\":\"b\",\"username\":\"u\"}}}");
    Taken taken = {0};

    assert_non_null(body);
    message_take_secrets(PROFILE, body, take, &taken);
    assert_string_equal(taken.text, "postgresql.password=p;postgresql.ssl.clientKey=k;"
                                    "postgresql.forwardSshConnectivity.privateKey=pk;");
    assert_true(json_equal(body, left));
}

/* No table has a secret where message_take_secrets() does not come: below a list. */
static void find_secrets_in_lists(const Message *message, bool in_list, int depth) {
    for (size_t i = 0; depth < 12 && i < message->count; i++) {
        const Field *field = &message->fields[i];

        assert_false(in_list && (field->flags & FIELD_SECRET) != 0);
        if (field->kind == FIELD_MESSAGE)
            find_secrets_in_lists(field->message, in_list || (field->flags & FIELD_REPEATED) != 0, depth + 1);
    }
}

static void test_the_tables_are_whole(void **state UNUSED) {
    for (size_t at = 0; messages_all[at] != NULL; at++) {
        const Message *message = messages_all[at];

        find_secrets_in_lists(message, false, 0);
        for (size_t i = 0; i < message->count; i++) {
            const Field *field = &message->fields[i];

            assert_ptr_equal(message_field(message, field->name), field); /* no name twice */
            assert_int_equal(field->kind == FIELD_MESSAGE, field->message != NULL);
            assert_int_equal(field->kind == FIELD_ENUM, field->values != NULL);
            assert_true((field->flags & FIELD_SECRET) == 0 || field->kind == FIELD_STRING);
        }
    }
}

static json_t *patch(Arena *arena, const char *current, const char *sent, const char *mask, ViolationVec *violations) {
    CLEANUP(json_freep) json_t *old = parse(current);
    CLEANUP(json_freep) json_t *given = parse(sent);
    CLEANUP(json_freep) json_t *body = message_read(PROFILE, given, false, arena, violations);

    return body == NULL ? NULL : message_patch(PROFILE, old, body, mask, profile_mask_aliases, arena, violations);
}

static void test_patches(void **state UNUSED) {
    static const struct {
        const char *sent, *mask, *result;
    } cases[] = {
        {"{\"displayName\":\"new\",\"postgresql\":{\"host\":\"other\"}}", "displayName",
         "{\"displayName\":\"new\",\"postgresql\":{\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":\"NONE\"}},\"state\":"
         "\"READY\"}"},
        {"{\"postgresql\":{\"host\":\"other\"}}", "postgresql.host, display_name",
         "{\"postgresql\":{\"host\":\"other\",\"port\":1,\"ssl\":{\"type\":\"NONE\"}},\"state\":\"READY\"}"},
        {"{\"postgresql\":{\"ssl\":{\"type\":\"REQUIRED\"}}}", "postgresql.ssl.type,postgresql.ssl.caCertificate",
         "{\"displayName\":\"d\",\"postgresql\":{\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":\"REQUIRED\"}},\"state\":"
         "\"READY\"}"},
        {"{\"labels\":{\"a\":\"b\"}}", "",
         "{\"displayName\":\"d\",\"labels\":{\"a\":\"b\"},\"postgresql\":{\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":"
         "\"NONE\"}},"
         "\"state\":\"READY\"}"},
        {"{\"postgresql\":{\"port\":2}}", "*",
         "{\"displayName\":\"d\",\"postgresql\":{\"host\":\"h\",\"port\":2,\"ssl\":{\"type\":\"NONE\"}},\"state\":"
         "\"READY\"}"},
        {"{\"postgresql\":{\"port\":2}}", "postgresql",
         "{\"displayName\":\"d\",\"postgresql\":{\"port\":2},\"state\":\"READY\"}"},
        {"{\"postgresql\":{\"cloudSqlId\":\"i2\"}}", "postgresql.instance",
         "{\"displayName\":\"d\",\"postgresql\":{\"cloudSqlId\":\"i2\",\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":"
         "\"NONE\"}},"
         "\"state\":\"READY\"}"},
        {"{\"state\":\"FAILED\"}", "state",
         "{\"displayName\":\"d\",\"postgresql\":{\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":\"NONE\"}},\"state\":"
         "\"READY\"}"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        ViolationVec violations = {0};
        CLEANUP(json_freep)
        json_t *result = patch(arena,
                               "{\"displayName\":\"d\",\"postgresql\":{\"host\":\"h\",\"port\":1,\"ssl\":{\"type\":"
                               "\"NONE\"}},\"state\":\"READY\"}",
                               cases[i].sent, cases[i].mask, &violations);
        CLEANUP(json_freep) json_t *wanted = parse(cases[i].result);

        if (violations.len > 0)
            fail_msg("%s: %s", violations.items[0].field, violations.items[0].description);
        if (!json_equal(result, wanted))
            fail_msg("case %zu gives %s", i, json_dumps(result, JSON_SORT_KEYS));
    }
}

static void test_patches_are_refused(void **state UNUSED) {
    static const char *const masks[] = {"colour",   "postgresql.",       ".postgresql", "postgresql..host",
                                        "labels.a", "postgresql.host.x", "a_very.long"};
    static const char old[] = "{\"cloudsql\":{\"settings\":{\"tier\":\"a\"}}}";

    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        ViolationVec violations = {0};

        assert_null(patch(arena, old, "{}", masks[i], &violations));
        assert_int_equal(violations.len, 1);
        assert_string_equal(violations.items[0].field, "updateMask");
    }
    static const char *const immutable[] = {"cloudsql.settings", "cloudsql.settings.tier", "*"};
    for (size_t i = 0; i < COUNT_OF(immutable); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        ViolationVec violations = {0};

        assert_null(patch(arena, old, "{\"cloudsql\":{\"settings\":{\"tier\":\"b\"}}}", immutable[i], &violations));
        assert_int_equal(violations.len, 1);
        CLEANUP(json_freep)
        json_t *same = patch(arena, old, "{\"cloudsql\":{\"settings\":{\"tier\":\"a\"}}}", immutable[i], &violations);
        assert_non_null(same); /* as it was is no change */
    }
}

static void test_schema(void **state UNUSED) {
    CLEANUP(json_freep) json_t *schema = message_schema(&message_migration_job);
    const json_t *properties = json_get_object(schema, "properties");

    assert_int_equal(json_array_size(json_get_array(schema, "required")), 3);
    assert_true(json_get_bool(json_get_object(properties, "state"), "readOnly", false));
    const json_t *object = json_get_object(properties, "objectsConfig");
    assert_string_equal(json_get_string(json_array_get(json_get_array(object, "allOf"), 0), "$ref", ""),
                        "#/components/schemas/MigrationJobObjectsConfig");
    for (size_t i = 0; messages_all[i] != NULL; i++) {
        CLEANUP(json_freep) json_t *each = message_schema(messages_all[i]);
        assert_int_equal(json_object_size(json_get_object(each, "properties")), messages_all[i]->count);
    }
}

static void test_ids_and_names(void **state UNUSED) {
    static const char *const good[] = {"a", "src-1", "a23456789012345678901234567890123456789012345678901234567890"};
    static const char *const bad[] = {
        "", "1a", "A", "a-", "a_b", "-a", "a.b", "é", "a234567890123456789012345678901234567890123456789012345678901"};

    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(resource_id_is_valid(good[i]));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(resource_id_is_valid(bad[i]));
    assert_true(display_name_is_valid("My job-2") && display_name_is_valid(""));
    assert_false(display_name_is_valid("2 jobs") || display_name_is_valid("a/b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_clients_send),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_text_has_a_limit),
        cmocka_unit_test(test_all_that_is_wrong_at_once),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_secrets_leave_the_body),
        cmocka_unit_test(test_the_tables_are_whole),
        cmocka_unit_test(test_patches),
        cmocka_unit_test(test_patches_are_refused),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_ids_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
