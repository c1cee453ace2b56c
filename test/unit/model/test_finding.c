/* Findings to JSON and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/finding.h"

static void test_there_and_back(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FindingVec findings = {0}, back = {0};
    Error err;
    vec_push(arena, &findings,
             ((Finding){"A_B", SEVERITY_ERROR, "PERMISSION_X", "source", "table public.a", "no right: caf\xe9",
                        "GRANT ...", true}));
    vec_push(arena, &findings, ((Finding){"C", SEVERITY_INFO, NULL, "destination", "", "fine", NULL}));
    vec_push(arena, &findings, ((Finding){"D", SEVERITY_WARNING, "", "destination", "", "hm", ""}));
    CLEANUP(json_freep) json_t *json = findings_to_json(&findings);
    assert_true(findings_from_json(arena, json, &back, &err));
    assert_int_equal(back.len, 3);
    assert_string_equal(back.items[0].id, "A_B");
    assert_int_equal(back.items[0].severity, SEVERITY_ERROR);
    assert_string_equal(back.items[0].code, "PERMISSION_X");
    assert_string_equal(back.items[1].code, "");
    assert_string_equal(back.items[0].side, "source");
    assert_string_equal(back.items[0].object, "table public.a");
    assert_string_equal(back.items[0].message, "no right: caf?");
    assert_string_equal(back.items[0].fix, "GRANT ...");
    assert_true(back.items[0].mendable && !back.items[1].mendable);
    assert_int_equal(back.items[1].severity, SEVERITY_INFO);
    assert_string_equal(back.items[1].fix, ""); /* never NULL for those who print */
    assert_int_equal(findings_count(&back, SEVERITY_ERROR), 1);
    assert_int_equal(findings_count(&back, SEVERITY_WARNING), 1);
    assert_string_equal(severity_name(SEVERITY_WARNING), "warning");
}

static void test_refuses(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FindingVec back = {.len = 7};
    Error err;
    CLEANUP(json_freep) json_t *object = json_object();
    CLEANUP(json_freep) json_t *unknown = json_pack("[{s:s, s:s}]", "id", "A", "severity", "bad");
    assert_false(findings_from_json(arena, object, &back, &err));
    assert_false(findings_from_json(arena, unknown, &back, &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    assert_int_equal(back.len, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
