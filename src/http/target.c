/*
 * The target of a request: path and query.
 *
 * The path is cut at '/' first and each segment decoded then, once. What some server would read as another path is
 * refused and never repaired: empty segments, dot segments in any spelling, control characters, bytes that are no UTF-8
 * (so no overlong forms), characters that a URI cannot have.
 */
#include "http/target.h"

#include "common/utf8.h"
#include "common/vec.h"

#include <string.h>

typedef VEC(HttpField) FieldVec;

static bool is_alnum(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* RFC 3986 pchar, without percent. */
static bool is_pchar(char c) {
    return c != '\0' && (is_alnum(c) || strchr("-._~!$&'()*+,;=:@", c) != NULL);
}

static bool refuse(const char **ret_why, const char *why) {
    *ret_why = why;
    return false;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_utf8(const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        size_t step = utf8_char_len(text + at, len - at);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

/* NULL when an escape is broken, or what comes out holds NUL or is no UTF-8. */
static char *decode(Arena *arena, const char *raw, size_t len, bool plus_is_space) {
    char *text = arena_alloc(arena, len + 1);
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        char c = raw[i];
        if (c == '%') {
            int high = i + 1 < len ? hex_value(raw[i + 1]) : -1, low = i + 2 < len ? hex_value(raw[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return NULL;
            c = (char)(unsigned char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        text[out++] = c;
    }
    return is_utf8(text, out) ? text : NULL;
}

/* --- path --- */

static bool has_control(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    }
    return false;
}

static bool path_part(Arena *arena, const char *raw, size_t len, const char **ret_text, const char **ret_why) {
    for (size_t i = 0; i < len; i++) {
        if (!is_pchar(raw[i]) && raw[i] != '%')
            return refuse(ret_why, "the path has a character that must be percent-encoded");
    }
    const char *text = decode(arena, raw, len, false);
    if (text == NULL || has_control(text))
        return refuse(ret_why, "the path is not percent-encoded UTF-8 text");
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return refuse(ret_why, "the path has a dot segment");
    *ret_text = text;
    return true;
}

/* The verb of a custom method stands behind the last colon that is not percent-encoded. */
static bool last_segment(Arena *arena, const char *raw, size_t len, StringVec *segments, const char **ret_verb,
                         const char **ret_why) {
    const char *colon = memrchr(raw, ':', len), *segment, *verb = NULL;
    size_t before = colon == NULL ? len : (size_t)(colon - raw);

    if (colon != NULL && !path_part(arena, colon + 1, len - before - 1, &verb, ret_why))
        return false;
    if (!path_part(arena, raw, before, &segment, ret_why))
        return false;
    vec_push(arena, segments, segment);
    *ret_verb = verb;
    return true;
}

bool target_path(Arena *arena, const char *raw_path, HttpPath *ret_path, const char **ret_why) {
    StringVec segments = {0};
    const char *verb = NULL, *next = raw_path + 1, *segment;
    bool trailing_slash = false;

    if (raw_path[0] != '/')
        return refuse(ret_why, "the path does not begin with a slash");
    while (*next != '\0') {
        size_t len = strcspn(next, "/");
        bool last = next[len] == '\0' || next[len + 1] == '\0';
        trailing_slash = last && next[len] == '/';
        if (len == 0)
            return refuse(ret_why, "the path has an empty segment");
        if (last && !last_segment(arena, next, len, &segments, &verb, ret_why))
            return false;
        if (last)
            break;
        if (!path_part(arena, next, len, &segment, ret_why))
            return false;
        vec_push(arena, &segments, segment);
        next += len + 1;
    }
    *ret_path = (HttpPath){segments.items, segments.len, verb, trailing_slash};
    return true;
}

/* --- query --- */

static bool query_param(Arena *arena, const char *raw, size_t len, FieldVec *fields, const char **ret_why) {
    const char *equals = memchr(raw, '=', len);
    size_t name_len = equals == NULL ? len : (size_t)(equals - raw);
    size_t value_len = equals == NULL ? 0 : len - name_len - 1;
    HttpField field = {decode(arena, raw, name_len, true), decode(arena, raw + len - value_len, value_len, true)};

    if (field.name == NULL || field.value == NULL)
        return refuse(ret_why, "the query is not percent-encoded UTF-8 text");
    vec_push(arena, fields, field);
    return true;
}

bool target_query(Arena *arena, const char *raw_query, size_t params_max, HttpFields *ret_query, const char **ret_why) {
    FieldVec fields = {0};

    for (const char *next = raw_query == NULL ? "" : raw_query; *next != '\0';) {
        size_t len = strcspn(next, "&");
        if (fields.len == params_max)
            return refuse(ret_why, "the query has too many parameters");
        if (len > 0 && !query_param(arena, next, len, &fields, ret_why))
            return false;
        next += len + (next[len] == '&' ? 1 : 0);
    }
    *ret_query = (HttpFields){fields.items, fields.len};
    return true;
}

/* --- authority --- */

/* Syntax only: a name or address, perhaps in brackets, perhaps a port; no user information. */
bool target_authority_valid(const char *authority, size_t len) {
    const char *end = authority + len, *at = authority;

    if (at < end && *at == '[') {
        for (at++; at < end && (hex_value(*at) >= 0 || *at == ':' || *at == '.'); at++)
            continue;
        if (at == end || *at != ']' || at == authority + 1)
            return false;
        at++;
    } else {
        while (at < end && (is_alnum(*at) || strchr("-._~", *at) != NULL) && *at != '\0')
            at++;
        if (at == authority)
            return false;
    }
    if (at < end && *at++ != ':')
        return false;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at == end;
}
