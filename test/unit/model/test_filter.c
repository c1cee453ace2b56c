/* Filters and orders of list calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/filter.h"

static const char job[] =
    "{\"name\":\"projects/p/locations/l/migrationJobs/orders-1\",\"state\":\"RUNNING\",\"displayName\":\"Orders one\","
    "\"createTime\":\"2026-11-28T12:00:00.5Z\",\"labels\":{\"team\":\"db\",\"big_one\":\"x\"},"
    "\"postgresql\":{\"host\":\"10.0.0.5\",\"port\":5432,\"passwordSet\":true},\"size\":\"20\",\"error\":null,"
    "\"tags\":[\"a\",\"b\"],\"reverseSshConnectivity\":{\"vmIp\":\"1.2.3.4\"}}";

static bool matches(const char *text) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *resource = NULL;
    const Filter *filter = NULL;
    Error err;

    if (!json_parse(job, strlen(job), &resource, &err) || !filter_parse(arena, text, &filter, &err))
        fail_msg("%s: %s", text, err.message);
    return filter_matches(filter, resource);
}

static void test_matches(void **state UNUSED) {
    static const char *const yes[] = {
        "",
        "  ",
        "state=RUNNING",
        "state = \"RUNNING\"",
        "state != FAILED",
        "NOT state = FAILED",
        "-state=FAILED",
        "displayName = \"Ord*\"",
        "displayName=\"*one\"",
        "displayName = \"*der*\"",
        "display_name = 'Orders one'",
        "displayName:orders",
        "labels.team = db",
        "labels.team:*",
        "labels:team",
        "labels.big_one = x",
        "NOT labels:other",
        "labels.other != db",
        "postgresql.port > 5431",
        "postgresql.port <= 5432.0",
        "postgresql.port = \"5432\"",
        "postgresql.password_set = true",
        "postgresql.passwordSet=TRUE",
        "size > 3",
        "size < 100",
        "tags:a",
        "reverseSshConnectivity.vmIp = \"1.2.3.4\"",
        "reverse_ssh_connectivity.vm_ip=1.2.3.4",
        "createTime > \"2026-11-28T12:00:00Z\"",
        "createTime < 2026-11-28T12:00:00.51Z",
        "create_time >= \"2026-11-28T12:00:00.5Z\"",
        "state=RUNNING AND size=20",
        "state=RUNNING size=20",
        "state=FAILED OR state=RUNNING",
        "size=20 AND state=FAILED OR state=RUNNING", /* OR binds closer */
        "(state=FAILED AND size=1) OR size=20",
        "NOT (state=FAILED OR size=1)",
        "error != x",
        "nothing.here != 1",
        "((((size=20))))",
    };
    static const char *const no[] = {
        "state=FAILED",
        "state = running",
        "displayName = \"Ord\"",
        "displayName=\"*two\"",
        "labels.team = web",
        "labels:other",
        "labels.other = db",
        "labels.other:*",
        "error:*",
        "postgresql.port > 5432",
        "postgresql.port < x",
        "postgresql.passwordSet = false",
        "postgresql.passwordSet > false",
        "tags:c",
        "tags = a",
        "postgresql = x",
        "createTime < \"2026-11-28T12:00:00Z\"",
        "state=RUNNING AND size=21",
        "state=FAILED size=20",
        "state=FAILED AND size=20 OR state=RUNNING",
        "NOT size=20",
        "nothing.here = 1",
        "labels.team.deep = x",
    };

    for (size_t i = 0; i < COUNT_OF(yes); i++)
        if (!matches(yes[i]))
            fail_msg("does not match: %s", yes[i]);
    for (size_t i = 0; i < COUNT_OF(no); i++)
        if (matches(no[i]))
            fail_msg("matches: %s", no[i]);
}

static void test_refuses(void **state UNUSED) {
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"state", "an operator expected at character 6"},
        {"= RUNNING", "a field's name expected at character 1"},
        {"state =", "a value expected"},
        {"state = \"RUN", "a closing quote expected"},
        {"(state=RUNNING", "a closing parenthesis expected"},
        {"state=RUNNING)", "the end expected at character 14"},
        {"state=RUNNING AND", "a field's name expected"},
        {"state=RUNNING OR", "a field's name expected"},
        {"state=a=b", "a field's name expected at character 8, before \"=b\""},
        {"5 = 5", "a field's name"},
        {"((((((((((((((((((((((((((((((((((a=b))))))))))))))))))))))))))))))))))", "an end of parentheses"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Filter *filter = NULL;
    Error err;

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (filter_parse(arena, cases[i].text, &filter, &err))
            fail_msg("taken: %s", cases[i].text);
        if (strstr(err.message, cases[i].said) == NULL)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_int_equal(error_reason_code(err.reason), ERR_INVALID_ARGUMENT);
    }
    char *text = arena_alloc(arena, FILTER_TEXT_MAX + 2);
    memset(text, ' ', FILTER_TEXT_MAX + 1);
    assert_false(filter_parse(arena, text, &filter, &err));
}

static int order(const char *text, const char *a, const char *b) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *one = NULL;
    CLEANUP(json_freep) json_t *other = NULL;
    OrderBy by[ORDER_MAX];
    Error err;

    if (!json_parse(a, strlen(a), &one, &err) || !json_parse(b, strlen(b), &other, &err))
        fail_msg("%s", err.message);
    int count = order_by_parse(arena, text, by, &err);
    assert_true(count >= 0);
    int result = order_by_compare(by, count, one, other);
    assert_int_equal(result > 0, order_by_compare(by, count, other, one) < 0);
    return result;
}

static void test_orders(void **state UNUSED) {
    assert_true(order("", "{\"a\":1}", "{\"a\":2}") == 0);
    assert_true(order("a", "{\"a\":1}", "{\"a\":2}") < 0);
    assert_true(order("a desc", "{\"a\":1}", "{\"a\":2}") > 0);
    assert_true(order("a asc, b desc", "{\"a\":1,\"b\":\"x\"}", "{\"a\":1,\"b\":\"y\"}") > 0);
    assert_true(order("display_name", "{\"displayName\":\"a\"}", "{\"displayName\":\"b\"}") < 0);
    assert_true(order("a", "{}", "{\"a\":2}") < 0);
    assert_true(order("t", "{\"t\":\"2026-11-28T12:00:00Z\"}", "{\"t\":\"2026-11-28T12:00:00.5Z\"}") < 0);
    assert_true(order("t", "{\"t\":\"2026-11-28T12:00:00.5Z\"}", "{\"t\":\"2026-11-28T12:00:00.51Z\"}") < 0);
    assert_true(order("a", "{\"a\":false}", "{\"a\":true}") < 0);
}

static void test_orders_are_refused(void **state UNUSED) {
    static const char *const bad[] = {"a b", ",", "a,,b", "a desc asc", "a;b", "a,b,c,d,e,f,g,h,i", "1"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    OrderBy by[ORDER_MAX];
    Error err;

    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (order_by_parse(arena, bad[i], by, &err) != -1)
            fail_msg("taken: %s", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matches), cmocka_unit_test(test_refuses),
                                       cmocka_unit_test(test_orders), cmocka_unit_test(test_orders_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
