/* Tables: aligned, cut where the terminal ends, without what nobody has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/service/table.h"

#include <locale.h>
#include <string.h>

static const TableColumn columns[] = {{"Job", false}, {"Lag", true}, {"Nothing", false}, {"Where", false}};
enum { COLUMNS = 4 };

static void check(int width, const TableCell *cells, size_t rows, const char *expected) {
    const TableStyle style = {.width = width, .utf8 = false};
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, 64 * 1024);
    table_render(&out, &style, columns, COLUMNS, cells, rows);
    assert_string_equal(out.data, expected);
}

static const TableCell cells[] = {
    {.text = "a"},    {.text = "1 B"},     {.text = NULL}, {.text = "app@one.example/shop"},
    {.text = "long"}, {.text = "1.25 MB"}, {.text = ""},   {.text = "app@two.example/shop"},
    {.text = "c"},    {.text = NULL},      {.text = NULL}, {.text = NULL},
};

static void test_aligned(void **state UNUSED) {
    check(0, cells, 3,
          "Job       Lag  Where\n"
          "a         1 B  app@one.example/shop\n"
          "long  1.25 MB  app@two.example/shop\n"
          "c\n");
}

/* The widest gives way. */
static void test_cut(void **state UNUSED) {
    check(25, cells, 2,
          "Job       Lag  Where\n"
          "a         1 B  app@one.e~\n"
          "long  1.25 MB  app@two.e~\n");
    check(12, cells, 1, "Job  Lag  W~\na    1 B  a~\n");
}

static void test_only_titles_of_what_is_there(void **state UNUSED) {
    check(0, &cells[8], 1, "Job\nc\n");
}

static void test_control_characters(void **state UNUSED) {
    static const TableCell hostile[] = {{.text = "a\033[2Jb"}, {.text = NULL}, {.text = NULL}, {.text = "x\ny\tz"}};

    check(0, hostile, 1, "Job     Where\na?[2Jb  x?y?z\n");
}

static void test_colours(void **state UNUSED) {
    static const TableCell coloured[] = {
        {.text = "a", .ink = INK_GREEN}, {.text = NULL}, {.text = NULL}, {.text = "b", .ink = INK_RED}};
    const TableStyle style = {.color = true};
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, 64 * 1024);
    table_render(&out, &style, columns, COLUMNS, coloured, 1);
    assert_string_equal(out.data, "\033[1mJob\033[0m  \033[1mWhere\033[0m\n\033[32ma\033[0m    \033[31mb\033[0m\n");
}

static void test_wide_characters(void **state UNUSED) {
    static const TableCell wide[] = {{.text = "Gr\xc3\xb6\xc3\x9f"
                                              "e"},
                                     {.text = NULL},
                                     {.text = NULL},
                                     {.text = "x"},
                                     {.text = "abc"},
                                     {.text = NULL},
                                     {.text = NULL},
                                     {.text = "y"}};
    const TableStyle style = {.utf8 = true};
    CLEANUP(buf_fini) Buf out;

    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        skip();
    buf_init(&out, 64 * 1024);
    table_render(&out, &style, columns, COLUMNS, wide, 2);
    assert_string_equal(out.data, "Job    Where\nGr\xc3\xb6\xc3\x9f"
                                  "e  x\nabc    y\n");
}

static void test_facts(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    const TableStyle style = {0};
    const Fact given[] = {{.label = "Job", .text = "shop"},
                          {.label = "Error", .text = "it broke\ndo: mend it"},
                          {.label = "Left out", .text = NULL},
                          {.label = "Hostile", .text = "a\033b"}};
    FactVec facts = {0};

    buf_init(&out, 64 * 1024);
    for (size_t at = 0; at < COUNT_OF(given); at++)
        vec_push(arena, &facts, given[at]);
    facts_render(&out, &style, &facts);
    assert_string_equal(out.data, "Job       shop\nError     it broke\n          do: mend it\nHostile   a?b\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_only_titles_of_what_is_there),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_colours),
        cmocka_unit_test(test_wide_characters),
        cmocka_unit_test(test_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
