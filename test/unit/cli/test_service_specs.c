/* Profiles and jobs from connection strings and options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/service/job_spec.h"
#include "cli/service/profile_spec.h"
#include "common/fd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Fixture {
    Arena *arena;
    MigrateOptions options;
    const char *folder;
} Fixture;

static int setup(void **state) {
    char pattern[] = "/tmp/pgcrane-specs-XXXXXX";
    Fixture *fixture = calloc(1, sizeof(*fixture));

    fixture->arena = arena_new();
    fixture->folder = arena_strdup(fixture->arena, mkdtemp(pattern));
    options_init(&fixture->options);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    Fixture *fixture = *state;
    Error err;
    bool gone = fd_remove_tree(fixture->folder, &err);

    arena_free(fixture->arena);
    free(fixture);
    return gone ? 0 : 1;
}

static const char *make_file(const Fixture *fixture, const char *name, const char *text, unsigned mode) {
    const char *path = arena_printf(fixture->arena, "%s/%s", fixture->folder, name);
    Error err;

    assert_true(fd_write_file(path, text, strlen(text), mode, &err));
    return path;
}

static void check_json(const json_t *json, const char *expected) {
    CLEANUP(json_freep) json_t *wanted = json_loads(expected, 0, NULL);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 64 * 1024);
    assert_non_null(wanted);
    if (json_equal(json, wanted) == 1)
        return;
    json_print(json, 0, &text);
    fail_msg("%s instead of %s", text.data, expected);
}

/* --- connection strings --- */

static void check_uri(const Fixture *fixture, const char *uri, const char *expected) {
    CLEANUP(json_freep) json_t *profile = json_object();
    Error err;

    if (!spec_take_uri(fixture->arena, uri, profile, &err))
        fail_msg("%s: %s", uri, err.message);
    check_json(profile, expected);
}

static void test_uri(void **state) {
    check_uri(
        *state, "postgresql://app@old.example:5433/shop",
        "{\"postgresql\": {\"host\": \"old.example\", \"port\": 5433, \"username\": \"app\", \"database\": \"shop\"}}");
    check_uri(*state, "postgres://app:s%40cret@h",
              "{\"postgresql\": {\"host\": \"h\", \"username\": \"app\", \"password\": \"s@cret\"}}");
    check_uri(*state, "host=h user=app dbname='my shop'",
              "{\"postgresql\": {\"host\": \"h\", \"username\": \"app\", \"database\": \"my shop\"}}");
    check_uri(*state, "host=h hostaddr=10.0.0.5", "{\"postgresql\": {\"host\": \"h\"}}");
    check_uri(*state, "hostaddr=10.0.0.5", "{\"postgresql\": {\"host\": \"10.0.0.5\"}}");
    check_uri(*state, "postgresql://[2001:db8::1]/", "{\"postgresql\": {\"host\": \"2001:db8::1\"}}");
}

static void test_uri_tls(void **state) {
    const Fixture *fixture = *state;
    const char *ca = make_file(fixture, "ca", "CA", 0644), *cert = make_file(fixture, "cert", "CERT", 0644);
    const char *key = make_file(fixture, "key", "KEY", 0600);

    check_uri(*state, "postgresql://h/d?sslmode=require",
              "{\"postgresql\": {\"host\": \"h\", \"database\": \"d\", \"ssl\": {\"type\": \"REQUIRED\", "
              "\"sslFlags\": {\"sslmode\": \"require\"}}}}");
    check_uri(*state, arena_printf(fixture->arena, "host=h sslmode=verify-full sslrootcert=%s", ca),
              "{\"postgresql\": {\"host\": \"h\", \"ssl\": {\"type\": \"SERVER_ONLY\", \"caCertificate\": \"CA\", "
              "\"sslFlags\": {\"sslmode\": \"verify-full\"}}}}");
    check_uri(
        *state,
        arena_printf(fixture->arena, "host=h sslmode=verify-ca sslrootcert=%s sslcert=%s sslkey=%s", ca, cert, key),
        "{\"postgresql\": {\"host\": \"h\", \"ssl\": {\"type\": \"SERVER_CLIENT\", \"caCertificate\": \"CA\", "
        "\"clientCertificate\": \"CERT\", \"clientKey\": \"KEY\", \"sslFlags\": {\"sslmode\": \"verify-ca\"}}}}");
}

static void test_uri_refused(void **state) {
    const Fixture *fixture = *state;
    const char *open = make_file(fixture, "open", "KEY", 0644);
    const struct {
        const char *uri, *part;
    } cases[] = {
        {"shop", "no connection string"},
        {"postgresql://u:secret@h/d?nonsense=1", "not valid"},
        {"postgresql://u:secret@h1,h2/d", "several"},
        {"host=/var/run/postgresql", "socket"},
        {"postgresql://u:secret@h:0/d", "port"},
        {"host=h port=70000", "port"},
        {"host=h port=12x", "port"},
        {"host=h options=-csearch_path=x", "\"options\""},
        {"host=h application_name=x", "\"application_name\""},
        {"host=h sslmode=sometimes", "\"sometimes\""},
        {"host=h sslrootcert=/nowhere/ca", "/nowhere/ca"},
        {arena_printf(fixture->arena, "host=h sslkey=%s", open), "open"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        CLEANUP(json_freep) json_t *profile = json_object();
        Error err;

        if (spec_take_uri(fixture->arena, cases[at].uri, profile, &err))
            fail_msg("%s is taken", cases[at].uri);
        if (strstr(err.message, cases[at].part) == NULL || strstr(err.message, "secret") != NULL)
            fail_msg("%s: %s", cases[at].uri, err.message);
    }
}

/* --- options --- */

static void set(Fixture *fixture, const char *flag, const char *text) {
    Error err;

    assert_true(options_set(fixture->arena, &fixture->options, option_find(flag), text, &err));
}

static void test_options_win_over_the_uri(void **state) {
    Fixture *fixture = *state;
    CLEANUP(json_freep) json_t *profile = json_object();
    Error err;

    set(fixture, "port", "6000");
    set(fixture, "user", "mig");
    set(fixture, "database", "other");
    set(fixture, "password-file", make_file(fixture, "password", "from a file\n", 0600));
    set(fixture, "side", "source");
    set(fixture, "provider", "azure-database");
    set(fixture, "display-name", "The shop");
    set(fixture, "label", "team=shop");
    set(fixture, "label", "empty=");
    set(fixture, "ssl-mode", "require");
    assert_true(spec_take_options(fixture->arena, &fixture->options, "postgresql://app:uri@h/d", profile, &err));
    check_json(profile,
               "{\"postgresql\": {\"host\": \"h\", \"port\": 6000, \"username\": \"mig\", \"database\": \"other\", "
               "\"password\": \"from a file\", \"ssl\": {\"type\": \"REQUIRED\", "
               "\"sslFlags\": {\"sslmode\": \"require\"}}}, \"role\": \"SOURCE\", \"provider\": "
               "\"AZURE_DATABASE\", \"displayName\": \"The shop\", \"labels\": {\"team\": \"shop\", \"empty\": "
               "\"\"}}");
}

static void test_no_options(void **state) {
    Fixture *fixture = *state;
    CLEANUP(json_freep) json_t *profile = json_object();
    Error err;

    assert_true(spec_take_options(fixture->arena, &fixture->options, NULL, profile, &err));
    check_json(profile, "{}");
}

static void test_options_refused(void **state) {
    Fixture *fixture = *state;
    static const struct {
        const char *flag, *first, *second, *part;
    } cases[] = {
        {"label", "team", NULL, "KEY=VALUE"},     {"label", "=x", NULL, "KEY=VALUE"},
        {"database", "a", "b", "one --database"}, {"password-file", "/nowhere/password", NULL, "/nowhere/password"},
        {"ssl-mode", "x", NULL, "mode of TLS"},   {"host", "a,b", NULL, "several"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        CLEANUP(json_freep) json_t *profile = json_object();
        Error err;

        options_init(&fixture->options);
        set(fixture, cases[at].flag, cases[at].first);
        if (cases[at].second != NULL)
            set(fixture, cases[at].flag, cases[at].second);
        assert_false(spec_take_options(fixture->arena, &fixture->options, NULL, profile, &err));
        if (strstr(err.message, cases[at].part) == NULL)
            fail_msg("%s: %s", cases[at].flag, err.message);
    }
}

static void test_mask(void **state) {
    const Fixture *fixture = *state;
    CLEANUP(json_freep)
    json_t *profile =
        json_loads("{\"displayName\": \"x\", \"labels\": {\"a\": \"b\"}, \"postgresql\": {\"host\": \"h\", "
                   "\"ssl\": {\"type\": \"NONE\", \"sslFlags\": {\"sslmode\": \"disable\"}}}}",
                   0, NULL);

    assert_string_equal(spec_mask(fixture->arena, profile),
                        "displayName,labels,postgresql.host,postgresql.ssl.type,postgresql.ssl.sslFlags");
}

static void test_wipe(void **state UNUSED) {
    CLEANUP(json_freep) json_t *profile = json_loads("{\"a\": {\"password\": \"secret\"}, \"b\": [\"x\", 5]}", 0, NULL);
    const char *text = json_string_value(json_object_get(json_object_get(profile, "a"), "password"));

    spec_wipe(profile);
    assert_memory_equal(text, "\0\0\0\0\0\0", 6);
    assert_string_equal(json_string_value(json_array_get(json_object_get(profile, "b"), 0)), "");
}

/* --- jobs --- */

static void test_job(void **state) {
    Fixture *fixture = *state;
    CLEANUP(json_freep) json_t *job = json_object();
    Error err;

    set(fixture, "type", "one-time");
    set(fixture, "parallel", "MAX");
    set(fixture, "database", "app");
    set(fixture, "database", "sales");
    set(fixture, "display-name", "x");
    set(fixture, "label", "a=b");
    assert_true(job_spec_take_options(fixture->arena, &fixture->options, job, &err));
    check_json(job,
               "{\"type\": \"ONE_TIME\", \"performanceConfig\": {\"dumpParallelLevel\": \"MAX\"}, \"displayName\": "
               "\"x\", \"labels\": {\"a\": \"b\"}, \"objectsConfig\": {\"sourceObjectsConfig\": "
               "{\"objectsSelectionType\": \"SPECIFIED_OBJECTS\", \"objectConfigs\": [{\"objectIdentifier\": "
               "{\"type\": \"DATABASE\", \"database\": \"app\"}}, {\"objectIdentifier\": {\"type\": \"DATABASE\", "
               "\"database\": \"sales\"}}]}}}");
}

static void test_job_of_all_databases(void **state) {
    Fixture *fixture = *state;
    CLEANUP(json_freep) json_t *job = json_object();
    Error err;

    set(fixture, "all-databases", "true");
    assert_true(job_spec_take_options(fixture->arena, &fixture->options, job, &err));
    check_json(job, "{\"objectsConfig\": {\"sourceObjectsConfig\": {\"objectsSelectionType\": \"ALL_OBJECTS\"}}}");
    set(fixture, "database", "app");
    assert_false(job_spec_take_options(fixture->arena, &fixture->options, job, &err));
    assert_non_null(strstr(err.message, "exclude each other"));
}

static void test_job_words(void **state) {
    Fixture *fixture = *state;
    CLEANUP(json_freep) json_t *job = json_object();
    Error err;

    set(fixture, "type", "sometimes");
    assert_false(job_spec_take_options(fixture->arena, &fixture->options, job, &err));
    assert_string_equal(err.remedy, "--type is continuous or one-time");
    options_init(&fixture->options);
    set(fixture, "parallel", "much");
    assert_false(job_spec_take_options(fixture->arena, &fixture->options, job, &err));
    assert_string_equal(err.remedy, "--parallel is min, optimal or max");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_uri),         TEST(test_uri_tls),
        TEST(test_uri_refused), TEST(test_options_win_over_the_uri),
        TEST(test_no_options),  TEST(test_options_refused),
        TEST(test_mask),        TEST(test_wipe),
        TEST(test_job),         TEST(test_job_of_all_databases),
        TEST(test_job_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
