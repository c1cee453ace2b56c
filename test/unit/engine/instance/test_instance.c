/* Unit test of what is pure in preparing an instance: statements, comparisons, findings, JSON. */
#include "engine/instance/prepare.h"
#include "engine/instance/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state) {
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

/* ---- Roles ---- */

static InstanceRole plain_role(const char *name) {
    InstanceRole role = {.name = name, .limit = -1};

    role.flags[ROLE_INHERIT] = true;
    return role;
}

static void test_create_role(void **state) {
    InstanceRole role = plain_role("a\"b");

    assert_string_equal(role_create_sql(*state, &role, true), "CREATE ROLE \"a\"\"b\"");
    role.flags[ROLE_INHERIT] = false;
    role.flags[ROLE_LOGIN] = role.flags[ROLE_SUPERUSER] = role.flags[ROLE_BYPASSRLS] = true;
    role.limit = 0;
    role.valid_until = "2030-01-01 00:00:00+00";
    assert_string_equal(role_create_sql(*state, &role, true),
                        "CREATE ROLE \"a\"\"b\" SUPERUSER BYPASSRLS NOINHERIT LOGIN CONNECTION LIMIT 0"
                        " VALID UNTIL '2030-01-01 00:00:00+00'");
    assert_string_equal(role_create_sql(*state, &role, false),
                        "CREATE ROLE \"a\"\"b\" NOINHERIT LOGIN CONNECTION LIMIT 0"
                        " VALID UNTIL '2030-01-01 00:00:00+00'");
}

static void test_difference(void **state) {
    InstanceRole here = plain_role("app"), there = plain_role("app");
    const char *fix = NULL;

    there.comment = "not compared";
    assert_null(role_difference(*state, &here, &there, &fix));
    assert_null(fix);
    here.flags[ROLE_REPLICATION] = there.flags[ROLE_CREATEDB] = true;
    there.limit = 5;
    there.valid_until = "infinity";
    assert_string_equal(role_difference(*state, &here, &there, &fix),
                        "\"app\" is NOCREATEDB REPLICATION CONNECTION LIMIT -1 VALID UNTIL 'infinity' on the source");
    assert_string_equal(fix, "ALTER ROLE \"app\" NOCREATEDB REPLICATION CONNECTION LIMIT -1 VALID UNTIL 'infinity';");
}

static void test_find_role(void **state) {
    InstanceRoleVec roles = {0};

    assert_null(role_find(&roles, "a"));
    vec_push(*state, &roles, plain_role("a"));
    vec_push(*state, &roles, plain_role("c"));
    assert_ptr_equal(role_find(&roles, "c"), &roles.items[1]);
    assert_null(role_find(&roles, "b"));
}

/* ---- Memberships ---- */

static void test_membership(void **state) {
    Membership grant = {.role = "r", .member = "m \"x\"", .grantor = "g", .admin = 0, .inherit = -1, .set = -1};

    assert_string_equal(membership_sql(*state, &grant, false, false), "GRANT \"r\" TO \"m \"\"x\"\"\"");
    assert_string_equal(membership_sql(*state, &grant, false, true), "GRANT \"r\" TO \"m \"\"x\"\"\" GRANTED BY \"g\"");
    assert_string_equal(membership_sql(*state, &grant, true, false), "GRANT \"r\" TO \"m \"\"x\"\"\" WITH ADMIN FALSE");
    grant.admin = 1;
    grant.inherit = 0;
    assert_string_equal(membership_sql(*state, &grant, false, false),
                        "GRANT \"r\" TO \"m \"\"x\"\"\" WITH ADMIN OPTION");
    grant.set = 1;
    grant.admin = -1;
    assert_string_equal(membership_sql(*state, &grant, true, true),
                        "GRANT \"r\" TO \"m \"\"x\"\"\" WITH INHERIT FALSE, SET TRUE GRANTED BY \"g\"");
    grant.grantor = NULL;
    grant.set = grant.inherit = -1;
    assert_string_equal(membership_sql(*state, &grant, true, true), "GRANT \"r\" TO \"m \"\"x\"\"\"");
}

/* ---- Databases ---- */

static void test_create_database(void **state) {
    InstanceDatabase database = {.name = "my \"shop\"",
                                 .owner = "o'",
                                 .encoding = "UTF8",
                                 .provider = "libc",
                                 .collate = "C",
                                 .ctype = "C.UTF-8",
                                 .limit = -1};

    assert_string_equal(database_create_sql(*state, &database, 14, true),
                        "CREATE DATABASE \"my \"\"shop\"\"\" OWNER \"o'\" TEMPLATE template0 ENCODING 'UTF8'"
                        " LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'");
    database.limit = 7;
    assert_string_equal(database_create_sql(*state, &database, 15, false),
                        "CREATE DATABASE \"my \"\"shop\"\"\" TEMPLATE template0 ENCODING 'UTF8'"
                        " LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER libc CONNECTION LIMIT 7");
}

static void test_create_database_of_provider(void **state) {
    InstanceDatabase database = {.name = "x",
                                 .owner = "o",
                                 .encoding = "UTF8",
                                 .provider = "icu",
                                 .collate = "C",
                                 .ctype = "C",
                                 .locale = "de-u-co-phonebk",
                                 .rules = "&a < 'b'",
                                 .limit = -1};

    assert_string_equal(database_create_sql(*state, &database, 15, false),
                        "CREATE DATABASE \"x\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                        " LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'");
    assert_string_equal(database_create_sql(*state, &database, 16, false),
                        "CREATE DATABASE \"x\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                        " LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' ICU_RULES '&a < ''b'''");
    database.provider = "builtin";
    database.locale = "C.UTF-8";
    database.rules = NULL;
    assert_string_equal(database_create_sql(*state, &database, 17, false),
                        "CREATE DATABASE \"x\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                        " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'");
}

/* ---- What is told ---- */

static void test_notes(void **state) {
    Notes notes = {.arena = *state};
    FindingVec findings = {0};

    notes_to_findings(&notes, &findings);
    assert_int_equal(findings.len, 0);
    note_refused(&notes, NOTE_ROLE_MISSING, "\"a\"", "\"not\nallowed\"\r", "CREATE ROLE a;");
    note_add(&notes, NOTE_DATABASE_UNKNOWN, "\"x\"", "");
    note_add(&notes, NOTE_DATABASE_UNKNOWN, "\"y\"", "");
    notes_to_findings(&notes, &findings);
    assert_int_equal(findings.len, 2);
    assert_string_equal(findings.items[0].id, "INSTANCE_DATABASE_UNKNOWN");
    assert_int_equal(findings.items[0].severity, SEVERITY_ERROR);
    assert_string_equal(findings.items[0].message, "asked for, but not on the source: \"x\"; \"y\"");
    assert_string_equal(findings.items[0].fix, "");
    assert_string_equal(findings.items[1].message, "roles that could not be made: \"a\" (\"not allowed\" )");
    assert_string_equal(findings.items[1].fix, "CREATE ROLE a;");
}

static void test_many_notes(void **state) {
    Notes notes = {.arena = *state};
    FindingVec findings = {0};

    for (int i = 0; i < NOTES_MAX + 3; i++)
        note_add(&notes, NOTE_ROLE_MISSING, "x", "y");
    notes_to_findings(&notes, &findings);
    assert_int_equal(findings.len, 1);
    assert_non_null(strstr(findings.items[0].message, "x; x; and 3 more"));
    assert_non_null(strstr(findings.items[0].fix, "y\n-- and so on"));
}

static void test_long_notes(void **state) {
    Notes notes = {.arena = *state};
    FindingVec findings = {0};
    char *name = arena_alloc(*state, 1001);

    memset(name, 'n', 1000);
    for (int i = 0; i < 100; i++)
        note_add(&notes, NOTE_ROLE_MISSING, name, "");
    notes_to_findings(&notes, &findings);
    assert_true(strlen(findings.items[0].message) < (64 << 10) + 200);
    assert_non_null(strstr(findings.items[0].message, " more"));
}

static void test_json(void **state) {
    InstanceList list = {0};
    InstanceDatabase database = {.name = "a", .bytes = -1, .made = true};
    InstanceNotMoved left = {"t", "it is a template"};

    vec_push(*state, &list.databases, database);
    vec_push(*state, &list.not_moved, left);
    CLEANUP(json_freep) json_t *whole = instance_list_to_json(&list, true);
    CLEANUP(json_freep) json_t *alone = instance_list_to_json(&list, false);
    const json_t *item = json_array_get(json_get_array(whole, "databases"), 0);

    assert_string_equal(json_get_string(item, "name", ""), "a");
    assert_true(json_is_null(json_object_get(item, "bytes")));
    assert_true(json_is_false(json_object_get(item, "exists")));
    assert_true(json_is_true(json_object_get(item, "made")));
    assert_true(json_is_null(json_object_get(json_array_get(json_get_array(alone, "databases"), 0), "exists")));
    item = json_array_get(json_get_array(whole, "not_moved"), 0);
    assert_string_equal(json_get_string(item, "name", ""), "t");
    assert_string_equal(json_get_string(item, "reason", ""), "it is a template");
}

/* A name counts only where the service's own role is. */
static void test_provider(void **state) {
    const char *sql = provider_database_sql(*state, "d.datname");

    assert_non_null(strstr(sql, "(d.datname ~ '^rdsadmin$' AND EXISTS (SELECT FROM pg_catalog.pg_roles marker"
                                " WHERE marker.rolname ~ '^rdsadmin$'))"));
    assert_null(strchr(sql, '%'));
    assert_non_null(strstr(provider_role_sql(*state, "r.rolname"), "r.rolname ~ '^cloudsql'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
        TEST(create_role), TEST(difference),      TEST(find_role),
        TEST(membership),  TEST(create_database), TEST(create_database_of_provider),
        TEST(notes),       TEST(many_notes),      TEST(long_notes),
        TEST(json),        TEST(provider),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
