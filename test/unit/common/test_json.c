/* JSON: what is refused, getters, printing, and texts that are no UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"

#include <string.h>

static void test_parse(void **state UNUSED) {
    CLEANUP(json_freep) json_t *json = NULL;
    Error err;
    const char *text = "{\"a\": [1, {\"b\": null}]}";
    assert_true(json_parse(text, strlen(text), &json, &err));
    assert_int_equal(json_array_size(json_get_array(json, "a")), 2);
}

static void test_parse_refuses(void **state UNUSED) {
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "\"x\"", "[1] x", "[\"\\u0000\"]", "[\"\xff\"]"};
    json_t *json = NULL;
    Error err;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(json_parse(bad[i], strlen(bad[i]), &json, &err));
        assert_int_equal(err.reason, REASON_BAD_DATA);
        assert_null(json);
    }
    assert_false(json_parse("{\n  x", 5, &json, &err));
    assert_non_null(strstr(err.message, "line 2"));
    assert_false(json_parse("[]", (size_t)64 * 1024 * 1024 + 1, &json, &err)); /* refused before it is read */
    assert_non_null(strstr(err.message, "too long"));

    CLEANUP(buf_fini) Buf deep;
    buf_init(&deep, 100000);
    for (int i = 0; i < 50000; i++)
        buf_append_char(&deep, '[');
    assert_false(json_parse(deep.data, deep.len, &json, &err));
}

static void test_getters(void **state UNUSED) {
    CLEANUP(json_freep) json_t *json = NULL;
    Error err;
    const char *text = "{\"s\":\"x\",\"i\":-5,\"r\":2.5,\"b\":true,\"l\":[],\"o\":{},\"n\":null}";
    assert_true(json_parse(text, strlen(text), &json, &err));
    assert_string_equal(json_get_string(json, "s", "-"), "x");
    assert_string_equal(json_get_string(json, "i", "-"), "-");
    assert_string_equal(json_get_string(json, "none", "-"), "-");
    assert_int_equal(json_get_int(json, "i", 1), -5);
    assert_int_equal(json_get_int(json, "r", 1), 1);
    assert_true(json_get_real(json, "r", 1) == 2.5);
    assert_true(json_get_real(json, "i", 1) == -5);
    assert_true(json_get_real(json, "s", 1) == 1);
    assert_true(json_get_bool(json, "b", false));
    assert_true(json_get_bool(json, "n", true));
    assert_non_null(json_get_array(json, "l"));
    assert_null(json_get_array(json, "o"));
    assert_non_null(json_get_object(json, "o"));
    assert_null(json_get_object(json, "l"));
    assert_null(json_get_object(NULL, "l"));
    assert_int_equal(json_get_int(NULL, "l", 3), 3);
}

static void test_print(void **state UNUSED) {
    CLEANUP(json_freep) json_t *json = json_pack("{s:i, s:[b]}", "z", 1, "a", 1);
    CLEANUP(json_freep) json_t *text = json_string("x");
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, 1000);
    buf_append_str(&buf, ">");
    json_print(json, 0, &buf);
    assert_string_equal(buf.data, ">{\"z\":1,\"a\":[true]}");
    buf_clear(&buf);
    json_print(json, 2, &buf);
    assert_string_equal(buf.data, "{\n  \"z\": 1,\n  \"a\": [\n    true\n  ]\n}");
    buf_clear(&buf);
    json_print(text, 0, &buf);
    assert_string_equal(buf.data, "\"x\"");
}

static void test_lossy(void **state UNUSED) {
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"plain \xc3\xa9", "plain \xc3\xa9"},
        {"caf\xe9", "caf?"},
        {"\xff\xfe", "??"},
        {"\xc3\xa9\xc3", "\xc3\xa9?"},
        {"\xed\xa0\x80x\xf0\x9f\x90\x98", "???x\xf0\x9f\x90\x98"},
        {"", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(json_freep) json_t *json = json_string_lossy(cases[i].text);
        assert_string_equal(json_string_value(json), cases[i].expected);
    }
    CLEANUP(json_freep) json_t *nothing = json_string_lossy(NULL);
    assert_true(json_is_null(nothing));
}

/* Each single byte and each pair: what we take for UTF-8 is what jansson takes. */
static void test_lossy_never_fails(void **state UNUSED) {
    for (unsigned first = 1; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            const char text[] = {(char)first, (char)second, (char)0x80, '\0'};
            CLEANUP(json_freep) json_t *json = json_string_lossy(text);
            assert_true(json_is_string(json));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_getters),
        cmocka_unit_test(test_print), cmocka_unit_test(test_lossy),         cmocka_unit_test(test_lossy_never_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
