/* YAML over libyaml's events: a stack of what is open, each with the key that waits for its value. */
#include "client/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 64, NUMBER_MAX = 64 };

/* --- scalars --- */

static const struct {
    const char *text;
    json_type type;
} words[] = {
    {"true", JSON_TRUE},   {"True", JSON_TRUE},   {"TRUE", JSON_TRUE}, {"false", JSON_FALSE},
    {"False", JSON_FALSE}, {"FALSE", JSON_FALSE}, {"null", JSON_NULL}, {"Null", JSON_NULL},
    {"NULL", JSON_NULL},   {"~", JSON_NULL},      {"", JSON_NULL},
};

/* "-12": digits only, so that strtoll() reads no more into it than JSON would. */
static bool is_integer(const char *text) {
    size_t sign = text[0] == '-' || text[0] == '+' ? 1 : 0;
    size_t digits = strspn(text + sign, "0123456789");

    return digits > 0 && text[sign + digits] == '\0';
}

static bool is_real(const char *text) {
    size_t at = text[0] == '-' || text[0] == '+' ? 1 : 0;
    size_t whole = strspn(text + at, "0123456789");

    at += whole;
    size_t part = text[at] == '.' ? strspn(text + at + 1, "0123456789") : 0;
    at += text[at] == '.' ? part + 1 : 0;
    if (whole + part == 0)
        return false;
    if (text[at] == 'e' || text[at] == 'E') {
        at += text[at + 1] == '-' || text[at + 1] == '+' ? 2 : 1;
        size_t exponent = strspn(text + at, "0123456789");
        if (exponent == 0)
            return false;
        at += exponent;
    }
    return text[at] == '\0';
}

/* What a scalar without quotes means. NULL: it is text, also a number that no JSON of ours could hold. */
static json_t *plain_value(const char *text) {
    for (size_t at = 0; at < COUNT_OF(words); at++)
        if (strcmp(words[at].text, text) == 0)
            return words[at].type == JSON_NULL ? json_null() : json_boolean(words[at].type == JSON_TRUE);
    if (strlen(text) >= NUMBER_MAX)
        return NULL;
    if (is_integer(text)) {
        errno = 0;
        long long number = strtoll(text, NULL, 10);
        return errno == 0 ? json_integer(number) : NULL;
    }
    double real = is_real(text) ? strtod(text, NULL) : HUGE_VAL;
    return isfinite(real) ? json_real(real) : NULL;
}

/* --- reading --- */

typedef struct Open {
    json_t *container; /* borrowed: it stands in the one below, or is the root */
    char *key;         /* of an object: waits for its value. NULL: a key comes next */
} Open;

typedef struct Reading {
    Arena *arena;
    Open open[DEPTH_MAX];
    size_t depth;
    json_t *root;
    int documents;
    Error *err;
} Reading;

static bool refuse(const Reading *reading, yaml_mark_t at, const char *why) {
    return error_set(reading->err, REASON_BAD_DATA, "bad YAML at line %zu, column %zu: %s", at.line + 1, at.column + 1,
                     why);
}

/* Takes over `value`. */
static bool put(Reading *reading, json_t *value, yaml_mark_t at) {
    Open *top = reading->depth > 0 ? &reading->open[reading->depth - 1] : NULL;

    if (top == NULL) {
        reading->root = value;
        return true;
    }
    if (json_is_array(top->container))
        return json_array_append_new(top->container, value) == 0 || refuse(reading, at, "the text is no UTF-8");
    bool good = json_object_set_new(top->container, top->key, value) == 0;
    top->key = NULL;
    return good || refuse(reading, at, "the key is no UTF-8");
}

static bool is_key_next(const Reading *reading) {
    const Open *top = reading->depth > 0 ? &reading->open[reading->depth - 1] : NULL;

    return top != NULL && json_is_object(top->container) && top->key == NULL;
}

static bool take_key(Reading *reading, const char *key, yaml_mark_t at) {
    Open *top = &reading->open[reading->depth - 1];

    if (json_object_get(top->container, key) != NULL)
        return refuse(reading, at, "this key was there before");
    top->key = arena_strdup(reading->arena, key);
    return true;
}

static bool is_text_tag(const yaml_char_t *tag) {
    return tag != NULL && strcmp((const char *)tag, YAML_STR_TAG) == 0;
}

static bool take_scalar(Reading *reading, const yaml_event_t *event) {
    const char *text = (const char *)event->data.scalar.value;
    const yaml_char_t *tag = event->data.scalar.tag;
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && tag == NULL;

    if (tag != NULL && !is_text_tag(tag))
        return refuse(reading, event->start_mark, "this tag is not taken");
    if (strlen(text) != event->data.scalar.length)
        return refuse(reading, event->start_mark, "the text has a NUL");
    if (is_key_next(reading))
        return take_key(reading, text, event->start_mark);
    json_t *value = is_plain ? plain_value(text) : NULL;
    if (value == NULL)
        value = json_string(text);
    return value != NULL ? put(reading, value, event->start_mark)
                         : refuse(reading, event->start_mark, "the text is no UTF-8");
}

static bool begin(Reading *reading, json_t *container, const yaml_char_t *tag, yaml_mark_t at) {
    const char *why = tag != NULL                   ? "this tag is not taken"
                      : is_key_next(reading)        ? "a key has to be text"
                      : reading->depth >= DEPTH_MAX ? "it is nested too deep"
                                                    : NULL;

    if (why != NULL) {
        json_decref(container);
        return refuse(reading, at, why);
    }
    if (!put(reading, container, at))
        return false;
    reading->open[reading->depth++] = (Open){.container = container};
    return true;
}

static bool take_event(Reading *reading, const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(reading, event);
    case YAML_SEQUENCE_START_EVENT:
        return begin(reading, json_array(), event->data.sequence_start.tag, event->start_mark);
    case YAML_MAPPING_START_EVENT:
        return begin(reading, json_object(), event->data.mapping_start.tag, event->start_mark);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        reading->depth--;
        return true;
    case YAML_ALIAS_EVENT:
        return refuse(reading, event->start_mark, "aliases are not taken: write it out");
    case YAML_DOCUMENT_START_EVENT:
        return reading->documents++ == 0 || refuse(reading, event->start_mark, "only one document is taken");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return true;
    }
    UNREACHABLE(); /* uncovered: every type returns above */
}

static bool refuse_syntax(const Reading *reading, const yaml_parser_t *parser) {
    yaml_mark_t at = parser->problem_mark;

    if (parser->error == YAML_READER_ERROR)
        return error_set(reading->err, REASON_BAD_DATA, "bad YAML at byte %zu: %s", parser->problem_offset,
                         parser->problem != NULL ? parser->problem : "it cannot be read");
    return refuse(reading, at, parser->problem != NULL ? parser->problem : "it cannot be read");
}

static bool read_events(Reading *reading, yaml_parser_t *parser) {
    bool over = false, good = true;

    while (good && !over) {
        yaml_event_t event;

        if (!yaml_parser_parse(parser, &event))
            return refuse_syntax(reading, parser);
        over = event.type == YAML_STREAM_END_EVENT;
        good = take_event(reading, &event);
        yaml_event_delete(&event);
    }
    return good;
}

bool yaml_parse(const char *text, size_t len, json_t **ret_json, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Reading reading = {.arena = arena, .err = err};
    yaml_parser_t parser;

    if (len > YAML_TEXT_MAX)
        return error_set(err, REASON_BAD_DATA, "YAML of %zu bytes is too long", len);
    if (!yaml_parser_initialize(&parser))
        return error_set(err, REASON_SYSTEM, "out of memory");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    bool good = read_events(&reading, &parser);
    yaml_parser_delete(&parser);
    if (!good) {
        json_decref(reading.root);
        return false;
    }
    *ret_json = reading.root != NULL ? reading.root : json_null();
    return true;
}

/* --- writing --- */

static int write_to_buf(void *context, unsigned char *bytes, size_t len) {
    buf_append(context, bytes, len);
    return 1;
}

/* Would be read as something else, or not at all, without quotes: what libyaml does not look at itself. */
static bool needs_quotes(const char *text) {
    json_t *value = plain_value(text);
    bool is_other = value != NULL;

    json_decref(value);
    /* What readers with the older rules take for a boolean. */
    static const char *const older[] = {"yes", "no", "on", "off", "y", "n"};
    for (size_t at = 0; at < COUNT_OF(older); at++)
        is_other = is_other || strcasecmp(older[at], text) == 0;
    bool is_number = text[strspn(text, "+-.")] >= '0' && text[strspn(text, "+-.")] <= '9';
    return is_other || (is_number && strspn(text, "+-.0123456789_:xoabcdefABCDEF") == strlen(text));
}

static void emit_text(yaml_emitter_t *emitter, const char *text, bool may_quote) {
    yaml_event_t event;
    yaml_scalar_style_t style = may_quote && needs_quotes(text)           ? YAML_SINGLE_QUOTED_SCALAR_STYLE
                                : may_quote && strchr(text, '\n') != NULL ? YAML_LITERAL_SCALAR_STYLE
                                                                          : YAML_PLAIN_SCALAR_STYLE;

    if (yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1, style))
        (void)yaml_emitter_emit(emitter, &event);
}

static void emit(yaml_emitter_t *emitter, const json_t *json);

static void emit_object(yaml_emitter_t *emitter, const json_t *object) {
    yaml_event_t event;
    const char *key;
    json_t *value;

    if (yaml_mapping_start_event_initialize(
            &event, NULL, NULL, 1, json_object_size(object) > 0 ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE))
        (void)yaml_emitter_emit(emitter, &event);
    json_t *walked = json_incref((json_t *)(uintptr_t)object); /* jansson's loop wants it so */
    json_object_foreach(walked, key, value) {
        emit_text(emitter, key, true);
        emit(emitter, value);
    }
    json_decref(walked);
    if (yaml_mapping_end_event_initialize(&event))
        (void)yaml_emitter_emit(emitter, &event);
}

static void emit_array(yaml_emitter_t *emitter, const json_t *array) {
    yaml_event_t event;

    if (yaml_sequence_start_event_initialize(
            &event, NULL, NULL, 1, json_array_size(array) > 0 ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE))
        (void)yaml_emitter_emit(emitter, &event);
    for (size_t at = 0; at < json_array_size(array); at++)
        emit(emitter, json_array_get(array, at));
    if (yaml_sequence_end_event_initialize(&event))
        (void)yaml_emitter_emit(emitter, &event);
}

static void emit(yaml_emitter_t *emitter, const json_t *json) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, NUMBER_MAX * 8);
    if (json_is_object(json)) {
        emit_object(emitter, json);
    } else if (json_is_array(json)) {
        emit_array(emitter, json);
    } else if (json_is_string(json)) {
        emit_text(emitter, json_string_value(json), true);
    } else {
        json_print(json, 0, &text);
        emit_text(emitter, text.data, false);
    }
}

static void emit_document(yaml_emitter_t *emitter, const json_t *json) {
    yaml_event_t event;

    if (yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING))
        (void)yaml_emitter_emit(emitter, &event);
    if (yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1))
        (void)yaml_emitter_emit(emitter, &event);
    emit(emitter, json);
    if (yaml_document_end_event_initialize(&event, 1))
        (void)yaml_emitter_emit(emitter, &event);
    if (yaml_stream_end_event_initialize(&event))
        (void)yaml_emitter_emit(emitter, &event);
}

void yaml_print(const json_t *json, Buf *out) {
    yaml_emitter_t emitter;

    if (!yaml_emitter_initialize(&emitter)) {
        out->overflowed = true;
        return;
    }
    yaml_emitter_set_output(&emitter, write_to_buf, out);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    emit_document(&emitter, json);
    out->overflowed = out->overflowed || emitter.error != YAML_NO_ERROR;
    yaml_emitter_delete(&emitter);
}
