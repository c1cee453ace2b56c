/* JSON through jansson: limits on what is parsed, and getters with defaults. */
#include "common/json.h"

#include "common/utf8.h"

#include <string.h>

#define TEXT_MAX ((size_t)64 * 1024 * 1024)

void json_freep(json_t **json) {
    json_decref(*json);
    *json = NULL;
}

bool json_parse(const char *text, size_t len, json_t **ret_json, Error *err) {
    if (len > TEXT_MAX)
        return error_set(err, REASON_BAD_DATA, "JSON of %zu bytes is too long", len);
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (json == NULL)
        return error_set(err, REASON_BAD_DATA, "bad JSON at line %d, column %d: %s", why.line, why.column, why.text);
    *ret_json = json;
    return true;
}

static int append_to_buf(const char *bytes, size_t len, void *data) {
    buf_append(data, bytes, len);
    return 0;
}

void json_print(const json_t *json, int indent, Buf *buf) {
    size_t flags = JSON_ENCODE_ANY | (indent > 0 ? JSON_INDENT((size_t)indent) : (size_t)JSON_COMPACT);
    json_dump_callback(json, append_to_buf, buf, flags);
}

json_t *json_string_lossy(const char *text) {
    if (text == NULL)
        return json_null();
    json_t *string = json_string(text);
    if (string != NULL)
        return string;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    size_t left = strlen(text);
    char *clean = arena_strndup(arena, text, left);
    for (char *at = clean; left > 0;) {
        size_t whole = utf8_char_len(at, left);
        if (whole == 0)
            *at = '?';
        at += MAX(whole, 1);
        left -= MAX(whole, 1);
    }
    return json_string(clean);
}

const char *json_get_string(const json_t *object, const char *key, const char *absent) {
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : absent;
}

int64_t json_get_int(const json_t *object, const char *key, int64_t absent) {
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (int64_t)json_integer_value(value) : absent;
}

double json_get_real(const json_t *object, const char *key, double absent) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : absent;
}

bool json_get_bool(const json_t *object, const char *key, bool absent) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

const json_t *json_get_array(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_array(value) ? value : NULL;
}

const json_t *json_get_object(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_object(value) ? value : NULL;
}
