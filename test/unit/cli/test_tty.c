/* Width of text, cutting with an ellipsis, and text that would steer the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/tty.h"

#include <locale.h>
#include <string.h>

static int need_utf8(void **state UNUSED) {
    return setlocale(LC_CTYPE, "C.UTF-8") == NULL ? -1 : 0;
}

static void test_width(void **state UNUSED) {
    assert_int_equal(text_width("orders", true), 6);
    assert_int_equal(text_width("日本", true), 4);
    assert_int_equal(text_width("日本", false), 2); /* one '?' each */
    assert_int_equal(text_width("e\xCC\x81", true), 1);
    assert_int_equal(text_width("a\nb\x1b", true), 4);
    assert_int_equal(text_width("\xFF\xC3", true), 2); /* not UTF-8 */
    assert_int_equal(text_width("", true), 0);
}

typedef struct CellCase {
    const char *text;
    int width;
    bool utf8;
    const char *expected;
} CellCase;

static void test_cells(void **state UNUSED) {
    static const CellCase cases[] = {
        {"ab", 4, true, "ab  "},
        {"abcd", 4, true, "abcd"},
        {"abcde", 4, true, "abc…"},
        {"abcde", 4, false, "abc~"},
        {"日本語", 5, true, "日本…"},
        {"日本語", 4, true, "日… "},
        {"日本語", 6, true, "日本語"},
        {"日本", 4, false, "??  "},
        {"a\x1b[2Jb", 8, true, "a?[2Jb  "},
        {"x", 1, true, "x"},
        {"xy", 1, true, "…"},
        {"a\nb", 3, false, "a?b"},
        {"\xC2\x9B"
         "m",
         4, true, "?m  "},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        CLEANUP(buf_fini) Buf out;
        buf_init(&out, 1000);
        Line line = {.out = &out, .width = 80, .utf8 = cases[at].utf8};
        line_cell(&line, INK_PLAIN, cases[at].text, cases[at].width);
        assert_string_equal(out.data, cases[at].expected);
        assert_int_equal(line.used, cases[at].width);
    }
}

static void test_line_never_passes_its_width(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    Line line = {.out = &out, .width = 10, .utf8 = true};
    line_put(&line, INK_PLAIN, "12345678");
    line_put(&line, INK_PLAIN, "abc");
    line_put(&line, INK_PLAIN, "more");
    line_bar(&line, INK_PLAIN, 0.5, 10);
    line_cell_right(&line, INK_PLAIN, "x", 5);
    assert_string_equal(out.data, "12345678a…");
    assert_int_equal(line.used, 10);
}

static void test_right_and_bar(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    Line line = {.out = &out, .width = 40, .utf8 = false};
    line_cell_right(&line, INK_PLAIN, "42", 5);
    line_bar(&line, INK_PLAIN, 0.5, 4);
    line_bar(&line, INK_PLAIN, 7, 3);
    line_bar(&line, INK_PLAIN, -1, 2);
    line_end(&line);
    assert_string_equal(out.data, "   42##..###..\n");
    assert_int_equal(line.used, 0);
}

static void test_colours_take_no_width(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    Line line = {.out = &out, .width = 5, .utf8 = true, .color = true};
    line_put(&line, INK_RED, "abc");
    line_put(&line, INK_PLAIN, "de");
    assert_string_equal(out.data, "\033[31mabc\033[0mde");
    assert_int_equal(line.used, 5);
}

static void test_clean(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_string_equal(text_clean(arena, "a\n\tb"), "a\n\tb");
    assert_string_equal(text_clean(arena, "a\x1b[31m\r\x7f"), "a?[31m??");
    assert_string_equal(text_clean(arena, "\xC2\x9B"
                                          "1m日"),
                        "??1m日");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_width),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_line_never_passes_its_width),
        cmocka_unit_test(test_right_and_bar),
        cmocka_unit_test(test_colours_take_no_width),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, need_utf8, NULL);
}
