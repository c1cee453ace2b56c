/* Options from text, environment and JSON, what they exclude, and the fingerprint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/options.h"

#include <stdlib.h>
#include <string.h>

static const OptionInfo *info_of(const char *flag) {
    for (size_t i = 0; i < option_infos_count; i++) {
        if (strcmp(option_infos[i].flag, flag) == 0)
            return &option_infos[i];
    }
    fail_msg("no option %s", flag);
    abort();
}

static bool set(Arena *arena, MigrateOptions *options, const char *flag, const char *text, Error *err) {
    return options_set(arena, options, info_of(flag), text, err);
}

static void must_set(Arena *arena, MigrateOptions *options, const char *flag, const char *text) {
    Error err = {0};
    if (!set(arena, options, flag, text, &err))
        fail_msg("%s", err.message);
}

static void test_defaults(void **state UNUSED) {
    MigrateOptions options;
    memset(&options, 0x55, sizeof(options));
    options_init(&options);
    assert_null(options.source);
    assert_int_equal(options.jobs, 0);
    assert_int_equal(options.snapshot_lease, 600);
    assert_false(options.dry_run);
    assert_null(options.state_dir);
    assert_int_equal(options.schemas.len, 0);
    assert_string_equal(options.promote, "manual");
    assert_string_equal(options.fence, "full");
    assert_int_equal(options.recopy_limit, 64 << 20);
    Error err;
    assert_true(options_check(&options, &err));
}

static void test_set(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options;
    options_init(&options);
    must_set(arena, &options, "jobs", "12");
    must_set(arena, &options, "split-size", "64MB");
    must_set(arena, &options, "vacuum", "true");
    must_set(arena, &options, "no-acl", "on");
    must_set(arena, &options, "no-acl", "0");
    must_set(arena, &options, "state-dir", "/x");
    must_set(arena, &options, "schema", "a");
    must_set(arena, &options, "schema", "b,c");
    assert_int_equal(options.jobs, 12);
    assert_int_equal(options.split_size, 64 << 20);
    assert_true(options.vacuum);
    assert_false(options.no_acl);
    assert_string_equal(options.state_dir, "/x");
    assert_int_equal(options.schemas.len, 2);
    assert_string_equal(options.schemas.items[1], "b,c");
}

static void test_set_refuses(void **state UNUSED) {
    static const struct {
        const char *flag, *text, *message;
    } cases[] = {
        {"jobs", "", "--jobs: \"\" is not a whole number"},
        {"jobs", "-1", "--jobs: \"-1\" is not a whole number"},
        {"jobs", "4x", "--jobs: \"4x\" is not a whole number"},
        {"jobs", "99999999999999999999", "--jobs: \"99999999999999999999\" is not a whole number"},
        {"split-size", "big", "--split-size: \"big\" is not a size such as 64MB"},
        {"vacuum", "maybe", "--vacuum: \"maybe\" is not true or false"},
        {"state-dir", "", "--state-dir needs a value"},
        {"table", "", "--table needs a value"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options, before;
    options_init(&options);
    before = options;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Error err;
        assert_false(set(arena, &options, cases[i].flag, cases[i].text, &err));
        assert_int_equal(err.reason, REASON_USAGE);
        assert_string_equal(err.message, cases[i].message);
    }
    assert_memory_equal(&options, &before, sizeof(options));
}

static void test_environment(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options;
    Error err;
    options_init(&options);
    setenv("PGCRANE_SOURCE", "postgresql://a", 1);
    setenv("PGCRANE_DEST", "postgresql://b", 1);
    setenv("PGCRANE_INDEX_JOBS", "3", 1);
    setenv("PGCRANE_EXCLUDE_TABLE", "a.b,,c.*,", 1);
    setenv("PGCRANE_QUIET", "yes", 1);
    setenv("PGCRANE_STATE_DIR", "", 1);
    assert_true(options_from_environment(arena, &options, &err));
    assert_string_equal(options.source, "postgresql://a");
    assert_string_equal(options.dest, "postgresql://b");
    assert_int_equal(options.index_jobs, 3);
    assert_int_equal(options.exclude_tables.len, 2);
    assert_string_equal(options.exclude_tables.items[1], "c.*");
    assert_true(options.quiet);
    assert_null(options.state_dir);

    setenv("PGCRANE_INDEX_JOBS", "many", 1);
    assert_false(options_from_environment(arena, &options, &err));
    assert_string_equal(err.message, "environment: --index-jobs: \"many\" is not a whole number");
    static const char *const names[] = {"SOURCE", "DEST", "INDEX_JOBS", "EXCLUDE_TABLE", "QUIET", "STATE_DIR"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unsetenv(arena_printf(arena, "PGCRANE_%s", names[i]));
    MigrateOptions none;
    options_init(&none);
    assert_true(options_from_environment(arena, &none, &err));
    assert_null(none.source);
    assert_null(none.dest);
}

static void test_check(void **state UNUSED) {
    static const struct {
        const char *flags[4]; /* flag, value, flag, value */
    } cases[] = {
        {{"schema-only", "true", "data-only", "true"}},
        {{"schema-only", "true", "vacuum", "true"}},
        {{"jobs", "1025"}},
        {{"index-jobs", "100000"}},
        {{"snapshot-lease", "9"}},
        {{"snapshot-lease", "604801"}},
        {{"retry-for", "604801", "follow", "true"}},
        {{"fence-timeout", "0", "follow", "true"}},
        {{"fence-timeout", "3601", "follow", "true"}},
        {{"lag-limit", "604801", "follow", "true"}},
        {{"lag-timeout", "604801", "follow", "true"}},
        {{"promote", "soon", "follow", "true"}},
        {{"fence", "half", "follow", "true"}},
        {{"follow", "true", "schema-only", "true"}},
        {{"follow", "true", "data-only", "true"}},
        {{"ddl", "true"}},
        {{"identity-full", "true"}},
        {{"promote", "auto"}},
        {{"max-retained", "1GB"}},
        {{"fence", "none"}},
        {{"lag-limit", "3"}},
        {{"hook-before", "true"}},
        {{"keep-slot", "true"}},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        MigrateOptions options;
        Error err;
        options_init(&options);
        for (size_t j = 0; j < 4 && cases[i].flags[j] != NULL; j += 2)
            must_set(arena, &options, cases[i].flags[j], cases[i].flags[j + 1]);
        assert_false(options_check(&options, &err));
        assert_int_equal(err.reason, REASON_USAGE);
        if (strstr(err.message, cases[i].flags[0]) == NULL)
            fail_msg("--%s is not in: %s", cases[i].flags[0], err.message);
    }
}

static void test_check_follow(void **state UNUSED) {
    static const char *const settings[][2] = {{"ddl", "true"},         {"promote", "auto"}, {"promote", "manual"},
                                              {"fence", "locks"},      {"fence", "none"},   {"keep-slot", "on"},
                                              {"fence-timeout", "60"}, {"lag-limit", "0"},  {"hook-after", "true"}};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options;
    options_init(&options);
    must_set(arena, &options, "follow", "true");
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        Error err = {0};
        must_set(arena, &options, settings[i][0], settings[i][1]);
        if (!options_check(&options, &err))
            fail_msg("%s", err.message);
    }
    /* What is as it would be anyway may be said without --follow. */
    options_init(&options);
    Error err;
    must_set(arena, &options, "fence", "full");
    must_set(arena, &options, "lag-limit", "2");
    assert_true(options_check(&options, &err));
}

static void test_find(void **state UNUSED) {
    assert_string_equal(option_find("index-jobs")->field, "index_jobs");
    assert_null(option_find("index_jobs"));
}

static void test_json(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options, back;
    Error err;
    options_init(&options);
    options.source = "postgresql://u:secret@h/d";
    must_set(arena, &options, "jobs", "5");
    must_set(arena, &options, "split-size", "1GB");
    must_set(arena, &options, "yes", "true");
    must_set(arena, &options, "pg-bindir", "/b");
    must_set(arena, &options, "table", "s.t");
    must_set(arena, &options, "table", "s.u");
    CLEANUP(json_freep) json_t *json = options_to_json(&options);
    memset(&back, 0x55, sizeof(back));
    assert_true(options_from_json(arena, json, &back, &err));
    assert_string_equal(back.source, options.source);
    assert_null(back.dest);
    assert_int_equal(back.jobs, 5);
    assert_int_equal(back.split_size, 1 << 30);
    assert_true(back.yes);
    assert_false(back.json);
    assert_string_equal(back.pg_bindir, "/b");
    assert_null(back.state_dir);
    assert_int_equal(back.snapshot_lease, 600);
    assert_int_equal(back.tables.len, 2);
    assert_string_equal(back.tables.items[1], "s.u");
    CLEANUP(json_freep) json_t *again = options_to_json(&back);
    assert_true(json_equal(json, again));
}

static void test_json_refuses(void **state UNUSED) {
    static const char *const bad[] = {"[]",
                                      "{\"jobs\":\"5\"}",
                                      "{\"yes\":1}",
                                      "{\"split_size\":1.5}",
                                      "{\"tables\":{}}",
                                      "{\"tables\":[1]}",
                                      "{\"state_dir\":1}"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions options = {.jobs = 77};
    Error err;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CLEANUP(json_freep) json_t *json = NULL;
        assert_true(json_parse(bad[i], strlen(bad[i]), &json, &err));
        assert_false(options_from_json(arena, json, &options, &err));
        assert_int_equal(err.reason, REASON_WIRE_BAD);
        assert_int_equal(options.jobs, 77);
    }
    CLEANUP(json_freep) json_t *empty = json_object(); /* all at their defaults */
    assert_true(options_from_json(arena, empty, &options, &err));
    assert_int_equal(options.snapshot_lease, 600);
}

static void test_fingerprint(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    MigrateOptions one, two;
    options_init(&one);
    options_init(&two);
    assert_string_equal(options_fingerprint(arena, &one),
                        "{\"schemas\":[],\"exclude_schemas\":[],\"tables\":[],\"exclude_tables\":[],"
                        "\"schema_only\":false,\"data_only\":false,\"no_owner\":false,\"no_acl\":false,"
                        "\"follow\":false}");
    /* Order, repetition, and how it is done: no difference. */
    must_set(arena, &one, "table", "b");
    must_set(arena, &one, "table", "a");
    must_set(arena, &two, "table", "a");
    must_set(arena, &two, "table", "b");
    must_set(arena, &two, "table", "a");
    must_set(arena, &two, "jobs", "9");
    must_set(arena, &two, "verbose", "true");
    two.source = "other";
    two.dest = "other";
    assert_string_equal(options_fingerprint(arena, &one), options_fingerprint(arena, &two));
    assert_string_equal(two.tables.items[2], "a"); /* the options themselves are as they were */
    /* What arrives: a difference, also between lists, and between one pattern with a comma and two. */
    static const char *const differing[][2] = {{"schema", "a"},         {"exclude-table", "a"},   {"table", "a,b"},
                                               {"exclude-schema", "z"}, {"data-only", "true"},    {"no-owner", "true"},
                                               {"follow", "true"},      {"tablespace-map", "a=b"}};
    for (size_t i = 0; i < COUNT_OF(differing); i++) {
        MigrateOptions three;
        options_init(&three);
        must_set(arena, &three, "table", "a");
        must_set(arena, &three, "table", "b");
        must_set(arena, &three, differing[i][0], differing[i][1]);
        assert_string_not_equal(options_fingerprint(arena, &one), options_fingerprint(arena, &three));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_set),   cmocka_unit_test(test_set_refuses),
        cmocka_unit_test(test_environment),  cmocka_unit_test(test_check), cmocka_unit_test(test_json),
        cmocka_unit_test(test_check_follow), cmocka_unit_test(test_find),  cmocka_unit_test(test_json_refuses),
        cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
