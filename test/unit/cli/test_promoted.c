/* How a promote ended: from the wire, and as it is read by people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/promoted.h"

#include <string.h>

static bool from_text(Arena *arena, const char *text, Promoted *promoted, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    if (!json_parse(text, strlen(text), &json, err))
        fail_msg("%s", err->message);
    return promoted_from_json(arena, json, promoted, err);
}

static void test_promoted(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    Promoted promoted;
    Error err;
    buf_init(&out, 64 * 1024);
    assert_true(from_text(arena,
                          "{\"ok\":true,\"dry_run\":false,\"opened\":true,\"proven\":true,\"outage_us\":412001,"
                          "\"error\":null,\"steps\":[{\"name\":\"stop\\u001bwrites\",\"us\":70},"
                          "{\"name\":\"copy\",\"us\":12000000}],\"notes\":[\"look here\"]}",
                          &promoted, &err));
    promoted_render(&out, &promoted);
    assert_string_equal(out.data, "Promoted: the destination is the database now. Writes were away for 413 ms\n"
                                  "proven: nothing changed on the source after the last change applied\n"
                                  "\n"
                                  "        1 ms  stop?writes\n"
                                  "       12.0s  copy\n"
                                  "\n"
                                  "Notes:\n"
                                  "  - look here\n");
    promoted.proven = false;
    buf_clear(&out);
    promoted_render(&out, &promoted);
    assert_non_null(strstr(out.data, "\nnot proven: writes of the last moment may be missing"));
}

static void test_called_off(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Promoted promoted;
    Error err;
    assert_true(from_text(arena,
                          "{\"ok\":false,\"error\":{\"reason\":\"PROMOTE_UNDONE\",\"message\":\"a writer stayed\"}}",
                          &promoted, &err));
    assert_false(promoted.ok);
    assert_int_equal(promoted.error.reason, REASON_PROMOTE_UNDONE);
    assert_string_equal(promoted.error.message, "a writer stayed");
    assert_true(from_text(arena, "{}", &promoted, &err)); /* says nothing: it did not go well */
    assert_false(promoted.ok);
    assert_int_equal(promoted.error.reason, REASON_INTERNAL);
}

static void test_refused(void **state UNUSED) {
    static const char *const bad[] = {"{\"ok\":true,\"steps\":[{\"us\":1}]}", "{\"ok\":true,\"notes\":[1]}"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t at = 0; at < COUNT_OF(bad); at++) {
        Promoted promoted = {.outage_us = 77};
        Error err;
        assert_false(from_text(arena, bad[at], &promoted, &err));
        assert_int_equal(err.reason, REASON_WIRE_BAD);
        assert_int_equal(promoted.outage_us, 77);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promoted),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
