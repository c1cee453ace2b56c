/* The file of apply: its short forms, and everything that can be wrong with it, at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/service/manifest.h"

#include <string.h>

#define PARENT "projects/p/locations/l"

static void check_wanted(const ManifestItem *item, const char *name, const char *expected) {
    CLEANUP(json_freep) json_t *wanted = json_loads(expected, 0, NULL);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 64 * 1024);
    assert_string_equal(item->name, name);
    assert_non_null(wanted);
    if (json_equal(item->wanted, wanted) == 1)
        return;
    json_print(item->wanted, 0, &text);
    fail_msg("%s instead of %s", text.data, expected);
}

static const char file[] = "profiles:\n"
                           "  old:\n"
                           "    uri: postgresql://app:secret@old.example:5433/shop\n"
                           "    role: SOURCE\n"
                           "    labels: {team: shop}\n"
                           "  new:\n"
                           "    uri: postgresql://app@new.example/shop\n"
                           "    postgresql: {port: 6000, ssl: {type: REQUIRED}}\n"
                           "jobs:\n"
                           "  shop:\n"
                           "    source: old\n"
                           "    destination: projects/q/locations/m/connectionProfiles/new\n"
                           "    databases: [shop, stats]\n"
                           "  all: {source: old, destination: new, databases: all, type: ONE_TIME}\n";

static void test_yaml(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Manifest manifest = {0};
    Error err;

    if (!manifest_parse(arena, PARENT, file, strlen(file), &manifest, &err))
        fail_msg("%s", err.message);
    assert_int_equal(manifest.len, 4);
    check_wanted(&manifest.items[0], PARENT "/connectionProfiles/old",
                 "{\"postgresql\": {\"host\": \"old.example\", \"port\": 5433, \"username\": \"app\", \"password\": "
                 "\"secret\", \"database\": \"shop\"}, \"role\": \"SOURCE\", \"labels\": {\"team\": \"shop\"}}");
    check_wanted(&manifest.items[1], PARENT "/connectionProfiles/new",
                 "{\"postgresql\": {\"host\": \"new.example\", \"port\": 6000, \"username\": \"app\", \"database\": "
                 "\"shop\", \"ssl\": {\"type\": \"REQUIRED\"}}}");
    check_wanted(&manifest.items[2], PARENT "/migrationJobs/shop",
                 "{\"source\": \"" PARENT "/connectionProfiles/old\", \"destination\": "
                 "\"projects/q/locations/m/connectionProfiles/new\", \"type\": \"CONTINUOUS\", \"objectsConfig\": "
                 "{\"sourceObjectsConfig\": {\"objectsSelectionType\": \"SPECIFIED_OBJECTS\", \"objectConfigs\": "
                 "[{\"objectIdentifier\": {\"type\": \"DATABASE\", \"database\": \"shop\"}}, {\"objectIdentifier\": "
                 "{\"type\": \"DATABASE\", \"database\": \"stats\"}}]}}}");
    check_wanted(&manifest.items[3], PARENT "/migrationJobs/all",
                 "{\"source\": \"" PARENT "/connectionProfiles/old\", \"destination\": \"" PARENT
                 "/connectionProfiles/new\", \"type\": \"ONE_TIME\", \"objectsConfig\": {\"sourceObjectsConfig\": "
                 "{\"objectsSelectionType\": \"ALL_OBJECTS\"}}}");
    manifest_fini(&manifest);
}

/* What describe -o json gives is taken back: what only the service writes is left out. */
static void test_json(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Manifest manifest = {0};
    Error err;
    static const char text[] =
        "{\"profiles\": {\"a\": {\"name\": \"x\", \"state\": \"READY\", \"postgresql\": {\"host\": "
        "\"h\", \"passwordSet\": true}}}}";

    assert_true(manifest_parse(arena, PARENT, text, strlen(text), &manifest, &err));
    check_wanted(&manifest.items[0], PARENT "/connectionProfiles/a", "{\"postgresql\": {\"host\": \"h\"}}");
    manifest_fini(&manifest);
}

static void test_nothing(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Manifest manifest = {0};
    Error err;

    assert_true(manifest_parse(arena, PARENT, "{}", 2, &manifest, &err));
    assert_int_equal(manifest.len, 0);
    assert_true(manifest_parse(arena, PARENT, "jobs: {}\n", 9, &manifest, &err));
    assert_int_equal(manifest.len, 0);
    manifest_fini(&manifest);
}

static void test_everything_wrong_is_told_at_once(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Manifest manifest = {0};
    Error err;
    static const char text[] = "profils: {}\n"
                               "profiles:\n"
                               "  Bad: {uri: 'host=h'}\n"
                               "  a: 5\n"
                               "  b: {uri: 'postgresql://u:secret@h1,h2/d', postgresql: {prot: 1}}\n"
                               "  c: {uri: [x], passwordFile: '-'}\n"
                               "  d: {postgresql: {port: many}}\n"
                               "jobs:\n"
                               "  j: {source: a, databases: [5], type: SOMETIMES}\n";
    static const char *const parts[] = {
        "\n    profils: is not known",
        "\n    profiles.Bad: an id begins",
        "\n    profiles.a: has to hold",
        "\n    profiles.b.uri: ",
        "\n    profiles.b.postgresql.prot: ",
        "\n    profiles.c.uri: has to be text",
        "\n    profiles.c.passwordFile: ",
        "\n    profiles.d.postgresql.port: ",
        "\n    jobs.j.databases: has to be",
        "\n    jobs.j.destination: ",
        "\n    jobs.j.type: ",
    };

    assert_false(manifest_parse(arena, PARENT, text, strlen(text), &manifest, &err));
    assert_int_equal(err.reason, REASON_BAD_REQUEST);
    for (size_t at = 0; at < COUNT_OF(parts); at++)
        if (strstr(err.message, parts[at]) == NULL)
            fail_msg("\"%s\" is not in %s", parts[at], err.message);
    assert_null(strstr(err.message, "secret"));
    manifest_fini(&manifest);
}

static void test_no_file_of_ours(void **state UNUSED) {
    static const char *const texts[] = {"", "[]", "5", "profiles: 5\n", "jobs: [a]\n", "{\"profiles\":", "a: b: c\n"};
    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Manifest manifest = {0};
        Error err;

        if (manifest_parse(arena, PARENT, texts[at], strlen(texts[at]), &manifest, &err))
            fail_msg("%s is taken", texts[at]);
        manifest_fini(&manifest);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_everything_wrong_is_told_at_once),
        cmocka_unit_test(test_no_file_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
