/* Estimates of several databases, there and back; findings that the service may mend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/estimate.h"
#include "model/finding.h"

static const Estimate small = {true, 100, {1, 4}, {10, 80}, {70, 125}, {0.5, 3}};
static const Estimate large = {true, 1000, {8, 32}, {100, 800}, {700, 1250}, {0.25, 5}};

static void test_there_and_back(void **state UNUSED) {
    CLEANUP(json_freep) json_t *json = estimate_to_json(&small);
    Estimate back, none;

    estimate_from_json(json, &back);
    assert_true(back.is_known);
    assert_int_equal(back.bytes, 100);
    assert_true(back.load.low == 1 && back.load.high == 4 && back.wal.high == 80 && back.outage.low == 0.5);
    estimate_from_json(NULL, &none);
    assert_false(none.is_known);
    assert_true(none.load.high == 0);
}

static void test_sum(void **state UNUSED) {
    const Estimate unknown = {.bytes = 7};
    Estimate sum = {0};

    estimate_add(&sum, &unknown);
    assert_false(sum.is_known);
    estimate_add(&sum, &small);
    estimate_add(&sum, &large);
    assert_true(sum.is_known);
    assert_int_equal(sum.bytes, 1100);
    assert_true(sum.load.low == 8 && sum.load.high == 36); /* side by side, one behind another */
    assert_true(sum.disk.low == 770 && sum.disk.high == 1375);
    assert_true(sum.outage.low == 0.5 && sum.outage.high == 8);
}

static void test_mends(void **state UNUSED) {
    const Finding good = {.id = "FOLLOW_REPLICATION", .fix = "ALTER ROLE m REPLICATION; -- as a superuser"};
    const Finding managed = {.id = "FOLLOW_REPLICATION", .fix = "ask your provider"};
    const Finding drops = {.id = "DESTINATION_CLASH", .fix = "GRANT x TO y;"};

    assert_true(finding_has_safe_mend(&good));
    assert_false(finding_has_safe_mend(&managed));
    assert_false(finding_has_safe_mend(&drops));
}

static void test_mends_of_the_server(void **state UNUSED) {
    const Finding server = {.id = "ROLE_MISSING"}, database = {.id = "SOURCE_TABLE_PRIVILEGE"}, other = {.id = "x"};

    assert_true(finding_mends_server(&server));
    assert_false(finding_mends_server(&database));
    assert_false(finding_mends_server(&other));
    assert_true(mend_is_same("CREATE ROLE a LOGIN; -- or --no-acl", "CREATE ROLE a LOGIN;"));
    assert_false(mend_is_same("CREATE ROLE a LOGIN;", "CREATE ROLE a;"));
    assert_false(mend_is_same("CREATE ROLE \"a;b\";", "CREATE ROLE \"a;c\";"));
    assert_true(mend_is_same("CREATE ROLE \"a;\"\"b\"; -- x", "CREATE ROLE \"a;\"\"b\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_sum),
                                       cmocka_unit_test(test_mends), cmocka_unit_test(test_mends_of_the_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
