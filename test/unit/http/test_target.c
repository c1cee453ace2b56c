/* The target of a request: what is read from paths and queries, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/target.h"

#include <string.h>

static Arena *arena;

static int setup(void **state UNUSED) {
    arena = arena_new();
    return 0;
}

static int teardown(void **state UNUSED) {
    arena_freep(&arena);
    return 0;
}

static void assert_path(const char *raw, const char *joined, const char *verb, bool trailing) {
    HttpPath path;
    const char *why = NULL;

    if (!target_path(arena, raw, &path, &why))
        fail_msg("%s: %s", raw, why);
    const char *text = "";
    for (size_t i = 0; i < path.count; i++)
        text = arena_printf(arena, "%s[%s]", text, path.segments[i]);
    assert_string_equal(text, joined);
    if (verb == NULL)
        assert_null(path.verb);
    else
        assert_string_equal(path.verb, verb);
    assert_int_equal(path.trailing_slash, trailing);
}

static void test_path(void **state UNUSED) {
    assert_path("/", "", NULL, false);
    assert_path("/a", "[a]", NULL, false);
    assert_path("/a/", "[a]", NULL, true);
    assert_path("/a/b/c", "[a][b][c]", NULL, false);
    assert_path("/a%2Fb/c", "[a/b][c]", NULL, false);
    assert_path("/a%2fb", "[a/b]", NULL, false);
    assert_path("/%C3%A9%e2%82%ac", "[\xc3\xa9\xe2\x82\xac]", NULL, false);
    assert_path("/-._~!$&'()*+,;=@", "[-._~!$&'()*+,;=@]", NULL, false);
    assert_path("/a%25b", "[a%b]", NULL, false);
    assert_path("/a%252Fb", "[a%2Fb]", NULL, false); /* decoded once */
    assert_path("/...", "[...]", NULL, false);
    assert_path("/.a/b.", "[.a][b.]", NULL, false);
}

static void test_verb(void **state UNUSED) {
    assert_path("/a:start", "[a]", "start", false);
    assert_path("/x/a:b:start", "[x][a:b]", "start", false);
    assert_path("/a%3Astart", "[a:start]", NULL, false);
    assert_path("/a:b/c", "[a:b][c]", NULL, false); /* only of the last segment */
    assert_path("/a:start/", "[a]", "start", true);
    assert_path("/a:", "[a]", "", false);
    assert_path("/:a", "[]", "a", false);
    assert_path("/a:st%61rt", "[a]", "start", false);
}

static void test_bad_paths(void **state UNUSED) {
    static const char *const bad[] = {
        "",        "a",       "*",       "//",         "/a//b",      "//a",           "/a//",   "/.",        "/..",
        "/a/../b", "/a/./b",  "/%2e",    "/%2E%2e",    "/.%2e/a",    "/a/..",         "/..:x",  "/a:..",     "/%",
        "/%2",     "/%zz",    "/%00",    "/a%00b",     "/a%0Ab",     "/a%7f",         "/a%1fb", "/a b",      "/a\\b",
        "/a\"b",   "/a<b",    "/{a}",    "/a|b",       "/a^b",       "/a`b",          "/a[b",   "/a?b",      "/a#b",
        "/%ff",    "/%C0%AF", "/%c1%81", "/%E0%80%AF", "/%ED%A0%80", "/%F4%90%80%80", "/%C3",   "/\xc3\xa9", "/a\tb",
    };

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        HttpPath path = {.count = 77};
        const char *why = NULL;
        if (target_path(arena, bad[i], &path, &why))
            fail_msg("%s was taken", bad[i]);
        assert_non_null(why);
        assert_int_equal(path.count, 77);
    }
}

static void test_query(void **state UNUSED) {
    HttpFields query;
    const char *why;

    assert_true(target_query(arena, NULL, 3, &query, &why));
    assert_int_equal(query.count, 0);
    assert_true(target_query(arena, "", 3, &query, &why));
    assert_int_equal(query.count, 0);
    assert_true(target_query(arena, "a=1&b=x+y%2B%26&a=2&&c&=d&e==f", 10, &query, &why));
    assert_int_equal(query.count, 6);
    assert_string_equal(http_fields_get(query, "a"), "1");
    assert_string_equal(query.items[1].value, "x y+&");
    assert_string_equal(query.items[2].value, "2");
    assert_string_equal(http_fields_get(query, "c"), "");
    assert_string_equal(http_fields_get(query, ""), "d");
    assert_string_equal(http_fields_get(query, "e"), "=f");
    assert_null(http_fields_get(query, "A"));
    assert_true(target_query(arena, "a=%0A%C3%A9&%61=x", 10, &query, &why));
    assert_string_equal(query.items[0].value, "\n\xc3\xa9");
    assert_string_equal(query.items[1].name, "a");
}

static void test_bad_queries(void **state UNUSED) {
    static const char *const bad[] = {"a=%", "a=%1", "%zz=1", "a=%00", "%00", "a=%ff", "a=%C0%80", "a=\xff"};
    HttpFields query = {.count = 77};
    const char *why = NULL;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(target_query(arena, bad[i], 10, &query, &why));
        assert_int_equal(query.count, 77);
    }
    assert_true(target_query(arena, "a&b&c", 3, &query, &why));
    assert_false(target_query(arena, "a&b&c&d", 3, &query, &why));
    assert_string_equal(why, "the query has too many parameters");
}

static void test_authority(void **state UNUSED) {
    static const char *const good[] = {"a",     "a.example", "a:80",    "127.0.0.1:8080",
                                       "[::1]", "[::1]:80",  "a_b-c~d", "a:"};
    static const char *const bad[] = {"",    ":80",    "a b",     "a/b", "u@a", "a,b",      "[]",  "[::1",
                                      "a:b", "[::1]x", "a:80:80", "[x]", "a\t", "\xc3\xa9", "::1", "[]:80"};

    for (size_t i = 0; i < COUNT_OF(good); i++)
        assert_true(target_authority_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (target_authority_valid(bad[i], strlen(bad[i])))
            fail_msg("%s was taken", bad[i]);
    }
    assert_false(target_authority_valid("a\0b", 3));
    assert_true(target_authority_valid("abc/", 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verb, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_query, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_queries, setup, teardown),
        cmocka_unit_test(test_authority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
