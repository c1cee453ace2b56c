/* What a guard changes of a database: statements, what becomes of a value at the release, findings. */
#include "engine/demote/demote_internal.h"

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

static void test_names(void **state) {
    (void)state;
    assert_string_equal(demote_change_name(CHANGE_READ_ONLY), "READ_ONLY");
    assert_string_equal(demote_change_text(CHANGE_LIMIT), "connection limit");
    for (DemoteChange change = 0; change < CHANGE_MAX_; change++)
        assert_int_equal(demote_change_from_name(demote_change_name(change)), change);
    assert_int_equal(demote_change_from_name("limit"), CHANGE_MAX_);
}

static void test_statements(void **state) {
    assert_string_equal(demote_change_sql(*state, CHANGE_LIMIT, "a\"b", "0"),
                        "ALTER DATABASE \"a\"\"b\" CONNECTION LIMIT 0");
    assert_string_equal(demote_change_sql(*state, CHANGE_LIMIT, "a", "-1"), "ALTER DATABASE \"a\" CONNECTION LIMIT -1");
    assert_string_equal(demote_change_sql(*state, CHANGE_READ_ONLY, "a", "on"),
                        "ALTER DATABASE \"a\" SET default_transaction_read_only TO 'on'");
    assert_string_equal(demote_change_sql(*state, CHANGE_READ_ONLY, "a", NULL),
                        "ALTER DATABASE \"a\" RESET default_transaction_read_only");
    assert_string_equal(demote_change_sql(*state, CHANGE_MARK, "a", "it's"),
                        "ALTER DATABASE \"a\" SET pgcrane.guard TO 'it''s'");
}

/* The journal is a table, to which somebody may have written. */
static void test_limits_that_are_none(void **state) {
    static const char *const bad[] = {"", "1; DROP DATABASE a", "0x1", "-2", "262144", "99999999999999999999", " "};

    assert_null(demote_change_sql(*state, CHANGE_LIMIT, "a", NULL));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_null(demote_change_sql(*state, CHANGE_LIMIT, "a", bad[i]));
    assert_non_null(demote_change_sql(*state, CHANGE_LIMIT, "a", "262143"));
}

static void test_guarded_values(void **state) {
    const DemoteJob job = {.id = "1", .name = "the job"};

    (void)state;
    assert_string_equal(demote_guarded_value(CHANGE_LIMIT, &job), "0");
    assert_string_equal(demote_guarded_value(CHANGE_READ_ONLY, &job), "on");
    assert_string_equal(demote_guarded_value(CHANGE_MARK, &job), "the job");
    assert_null(demote_guarded_value(CHANGE_CONNECT, &job));
    assert_true(demote_is_change_of(CHANGE_LIMIT, true) && !demote_is_change_of(CHANGE_LIMIT, false));
    assert_true(demote_is_change_of(CHANGE_CONNECT, false) && !demote_is_change_of(CHANGE_CONNECT, true));
}

static void test_verdicts(void **state) {
    (void)state;
    assert_int_equal(demote_verdict("-1", "0", "0"), VERDICT_SET_BACK);
    assert_int_equal(demote_verdict(NULL, "on", "on"), VERDICT_SET_BACK);
    assert_int_equal(demote_verdict("off", "on", "on"), VERDICT_SET_BACK);
    assert_int_equal(demote_verdict("-1", "0", "-1"), VERDICT_AS_BEFORE);
    assert_int_equal(demote_verdict(NULL, "on", NULL), VERDICT_AS_BEFORE);
    assert_int_equal(demote_verdict("0", "0", "0"), VERDICT_AS_BEFORE);
    assert_int_equal(demote_verdict("-1", "0", "5"), VERDICT_FOREIGN);
    assert_int_equal(demote_verdict(NULL, "on", "off"), VERDICT_FOREIGN);
    assert_int_equal(demote_verdict("off", "on", NULL), VERDICT_FOREIGN);
}

static void test_findings(void **state) {
    size_t errors = 0;

    (void)state;
    for (size_t i = 0; i < demote_findings_count; i++) {
        assert_memory_equal(demote_findings[i].id, "DEMOTE_", strlen("DEMOTE_"));
        assert_string_equal(demote_findings[i].side, "destination");
        assert_true(demote_findings[i].google[0] != '\0' && demote_findings[i].help[0] != '\0');
        errors += demote_findings[i].severity == SEVERITY_ERROR;
    }
    assert_int_equal(errors, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_statements, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_guarded_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_verdicts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_findings, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
