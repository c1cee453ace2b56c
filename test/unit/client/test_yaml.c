/* YAML to JSON and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/yaml.h"

#include <string.h>

static json_t *must_read(const char *text) {
    json_t *json = NULL;
    Error err;

    if (!yaml_parse(text, strlen(text), &json, &err))
        fail_msg("%s: %s", text, err.message);
    return json;
}

static void check(const char *text, const char *expected) {
    CLEANUP(json_freep) json_t *json = must_read(text);
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, 64 * 1024);
    json_print(json, 0, &out);
    assert_string_equal(out.data, expected);
}

static void test_structure(void **state UNUSED) {
    check("a: 1\nb:\n  - x\n  - {c: d}\n  - []\n", "{\"a\":1,\"b\":[\"x\",{\"c\":\"d\"},[]]}");
    check("{\"a\": [1, \"two\", null]}", "{\"a\":[1,\"two\",null]}");
    check("--- # a comment\na: b # another\n...\n", "{\"a\":\"b\"}");
    check("- |\n  one\n  two\n- >\n  a\n  b\n", "[\"one\\ntwo\\n\",\"a b\\n\"]");
    check("a:\n", "{\"a\":null}");
    check("", "null");
    check("# nothing\n", "null");
}

/* The core schema of YAML 1.2, and nothing of the older ones. */
static void test_scalars(void **state UNUSED) {
    check("[true, True, FALSE, null, ~, Null]", "[true,true,false,null,null,null]");
    check("[yes, no, on, off, y, N]", "[\"yes\",\"no\",\"on\",\"off\",\"y\",\"N\"]");
    check("[5432, -1, +7, 0, 007]", "[5432,-1,7,0,7]");
    check("[1.5, -.5, 1., 1e3, 2E-1]", "[1.5,-0.5,1.0,1000.0,0.20000000000000001]");
    check("[10.0.0.5, 2026-11-29, 1_000, 0x1F, 12:30, 1e, ., -, +, e5, 1.2.3]",
          "[\"10.0.0.5\",\"2026-11-29\",\"1_000\",\"0x1F\",\"12:30\",\"1e\",\".\",\"-\",\"+\",\"e5\",\"1.2.3\"]");
    check("[\"true\", 'null', \"5\", !!str 5]", "[\"true\",\"null\",\"5\",\"5\"]");
    check("[99999999999999999999, 1e999, .inf, .nan]", "[\"99999999999999999999\",\"1e999\",\".inf\",\".nan\"]");
    check("5: a\ntrue: b\n", "{\"5\":\"a\",\"true\":\"b\"}");
}

static void test_refused(void **state UNUSED) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"a: 1\na: 2\n", "line 2, column 1: this key was there before"},
        {"a: &x 1\nb: *x\n", "line 2, column 4: aliases are not taken"},
        {"a: !!int 5\n", "tag"},
        {"a: !mine 5\n", "tag"},
        {"a: !!map {}\n", "tag"},
        {"[a]: b\n", "a key has to be text"},
        {"a\n---\nb\n", "only one document"},
        {"a: [1\n", "line 2"},
        {"a: b: c\n", "line 1"},
        {"\ta: b\n", "line 1"},
        {"a: \"b\\0\"\n", "NUL"},
        {"a: \xff\n", "byte"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        json_t *json = NULL;
        Error err;

        if (yaml_parse(cases[at].text, strlen(cases[at].text), &json, &err))
            fail_msg("%s is taken", cases[at].text);
        assert_int_equal(err.reason, REASON_BAD_DATA);
        if (strstr(err.message, cases[at].part) == NULL)
            fail_msg("%s: %s", cases[at].text, err.message);
    }
}

static void test_depth(void **state UNUSED) {
    char text[400];
    json_t *json = NULL;
    Error err;

    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    text[200] = '\0';
    assert_false(yaml_parse(text, 200, &json, &err));
    assert_non_null(strstr(err.message, "too deep"));
    CLEANUP(json_freep) json_t *good = NULL;
    assert_true(yaml_parse(text + 40, 120, &good, &err)); /* 60 of each */
}

static void test_length(void **state UNUSED) {
    json_t *json = NULL;
    Error err;

    assert_false(yaml_parse("", (size_t)YAML_TEXT_MAX + 1, &json, &err));
}

/* What is written is read as the same. */
static void test_there_and_back(void **state UNUSED) {
    static const char *const texts[] = {
        "{\"a\":1,\"b\":[true,null,1.5,\"x\"],\"c\":{},\"d\":[]}",
        "[\"true\",\"null\",\"~\",\"\",\"5\",\"-1.5\",\"1e3\",\"yes\",\"No\",\"0x1F\",\"12:30\",\"007\"]",
        "[\"a: b\",\"- x\",\"# c\",\" lead\",\"trail "
        "\",\"it's\",\"\\\"q\\\"\",\"{\",\"*a\",\"&a\",\"!t\",\"%p\",\"@h\"]",
        "[\"one\\ntwo\",\"one\\ntwo\\n\",\"\\n\",\"tab\\there\",\"\\u0001\",\"Gr\xc3\xb6\xc3\x9f"
        "e\",\"\xf0\x9f\x90\x98\"]",
        "{\"5\":\"a\",\"true\":\"b\",\"\":\"c\",\"a b\":\"d\",\"- \":\"e\"}",
        "\"alone\"",
        "[]",
    };
    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        CLEANUP(json_freep) json_t *before = NULL;
        CLEANUP(json_freep) json_t *after = NULL;
        CLEANUP(buf_fini) Buf out;
        Error err;

        buf_init(&out, 64 * 1024);
        before = json_loads(texts[at], JSON_DECODE_ANY, NULL);
        assert_non_null(before);
        yaml_print(before, &out);
        assert_false(out.overflowed);
        if (!yaml_parse(out.data, out.len, &after, &err))
            fail_msg("%s: %s", out.data, err.message);
        if (json_equal(before, after) != 1)
            fail_msg("%s became\n%s", texts[at], out.data);
    }
}

static void test_how_it_looks(void **state UNUSED) {
    CLEANUP(json_freep)
    json_t *json = must_read("{name: shop, port: 5432, port_text: \"5432\", tags: [a, b], labels: {}}");
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, 64 * 1024);
    yaml_print(json, &out);
    assert_string_equal(out.data, "name: shop\nport: 5432\nport_text: '5432'\ntags:\n- a\n- b\nlabels: {}\n");
}

static void test_no_room(void **state UNUSED) {
    CLEANUP(json_freep) json_t *json = must_read("[a, b, c, d, e, f]");
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, 10);
    yaml_print(json, &out);
    assert_true(out.overflowed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),    cmocka_unit_test(test_scalars), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),        cmocka_unit_test(test_length),  cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_how_it_looks), cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
