/* Reading what clients send: each field by its row, all that is wrong at once. */
#include "model/message.h"

#include "model/message_path.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool field_camel(const char *name, size_t len, char camel[FIELD_NAME_MAX]) {
    size_t at = 0;
    bool upper = false;

    if (len >= FIELD_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '_' && i > 0) {
            upper = true;
            continue;
        }
        camel[at++] = upper ? (char)toupper((unsigned char)name[i]) : name[i];
        upper = false;
    }
    camel[at] = '\0';
    return true;
}

const char *field_path(Arena *arena, const char *base, const char *name) {
    return base[0] == '\0' ? arena_strdup(arena, name) : arena_printf(arena, "%s.%s", base, name);
}

void violation_add(Arena *arena, ViolationVec *violations, const char *field, const char *format, ...) {
    va_list args;

    va_start(args, format);
    const Violation violation = {.field = field, .description = arena_vprintf(arena, format, args)};
    va_end(args);
    vec_push(arena, violations, violation);
}

const Field *message_field(const Message *message, const char *name) {
    char camel[FIELD_NAME_MAX];

    if (!field_camel(name, strlen(name), camel))
        return NULL;
    for (size_t i = 0; i < message->count; i++)
        if (strcmp(message->fields[i].name, camel) == 0)
            return &message->fields[i];
    return NULL;
}

typedef struct Reading {
    Arena *arena;
    ViolationVec *violations;
    bool is_create;
    int depth;
} Reading;

static json_t *read_message(Reading *reading, const Message *message, const json_t *sent, const char *path);

/* ---- One value. NULL = wrong, and told. ---- */

static json_t *read_string(Reading *reading, const Field *field, const json_t *value, const char *path) {
    size_t max = field->max > 0 ? (size_t)field->max : MESSAGE_TEXT_MAX;

    if (!json_is_string(value)) {
        violation_add(reading->arena, reading->violations, path, "must be a string");
        return NULL;
    }
    if (json_string_length(value) > max) {
        violation_add(reading->arena, reading->violations, path, "must be at most %zu bytes long", max);
        return NULL;
    }
    if (strlen(json_string_value(value)) != json_string_length(value)) {
        violation_add(reading->arena, reading->violations, path, "must not hold NUL");
        return NULL;
    }
    return json_deep_copy(value);
}

static bool whole_number(const json_t *value, int64_t *ret_number) {
    char *end = NULL;

    if (json_is_integer(value)) {
        *ret_number = json_integer_value(value);
        return true;
    }
    if (json_is_real(value)) {
        double real = json_real_value(value);
        *ret_number = real > -9e15 && real < 9e15 ? (int64_t)real : 0;
        return real > -9e15 && real < 9e15 && (double)*ret_number == real;
    }
    if (!json_is_string(value) || json_string_length(value) == 0 || json_string_length(value) > 20)
        return false;
    const char *text = json_string_value(value);
    errno = 0;
    *ret_number = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' && (isdigit((unsigned char)text[0]) || text[0] == '-');
}

static json_t *read_number(Reading *reading, const Field *field, const json_t *value, const char *path) {
    bool small = field->kind == FIELD_INT32;
    bool bounded = field->min != 0 || field->max != 0;
    int64_t min = bounded ? field->min : small ? INT32_MIN : INT64_MIN;
    int64_t max = bounded ? field->max : small ? INT32_MAX : INT64_MAX;
    int64_t number = 0;
    char text[24];

    if (!whole_number(value, &number) || number < min || number > max) {
        violation_add(reading->arena, reading->violations, path, "must be a whole number from %lld to %lld",
                      (long long)min, (long long)max);
        return NULL;
    }
    (void)snprintf(text, sizeof(text), "%lld", (long long)number);
    return small ? json_integer(number) : json_string(text);
}

static json_t *read_enum(Reading *reading, const Field *field, const json_t *value, const char *path) {
    char allowed[600] = "";
    size_t used = 0;

    for (const char *const *name = field->values; *name != NULL; name++) {
        if (json_is_string(value) && strcmp(json_string_value(value), *name) == 0)
            return json_string(*name);
        if (used < sizeof(allowed))
            used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s%s", used > 0 ? ", " : "", *name);
    }
    violation_add(reading->arena, reading->violations, path, "must be one of %s", allowed);
    return NULL;
}

/* 2026-11-28T12:00:00Z, with any fraction, or an offset. */
static bool is_timestamp(const char *text) {
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd";
    size_t at = 0;

    for (; pattern[at] != '\0'; at++)
        if (pattern[at] == 'd' ? !isdigit((unsigned char)text[at]) : text[at] != pattern[at])
            return false;
    if (text[at] == '.') {
        size_t digits = strspn(text + at + 1, "0123456789");
        if (digits == 0 || digits > 9)
            return false;
        at += 1 + digits;
    }
    if (strcmp(text + at, "Z") == 0)
        return true;
    const char *zone = text + at;
    return strlen(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && isdigit((unsigned char)zone[1]) &&
           isdigit((unsigned char)zone[2]) && zone[3] == ':' && isdigit((unsigned char)zone[4]) &&
           isdigit((unsigned char)zone[5]);
}

/* "3.5s" */
static bool is_duration(const char *text) {
    const char *at = text + (text[0] == '-');
    size_t whole = strspn(at, "0123456789");

    if (whole == 0 || whole > 12)
        return false;
    at += whole;
    if (*at == '.') {
        size_t digits = strspn(at + 1, "0123456789");
        if (digits == 0 || digits > 9)
            return false;
        at += 1 + digits;
    }
    return strcmp(at, "s") == 0;
}

static json_t *read_time(Reading *reading, const Field *field, const json_t *value, const char *path) {
    bool stamp = field->kind == FIELD_TIMESTAMP;

    if (json_is_string(value) && (stamp ? is_timestamp : is_duration)(json_string_value(value)))
        return json_deep_copy(value);
    violation_add(reading->arena, reading->violations, path,
                  stamp ? "must be a time such as \"2026-01-31T12:00:00Z\"" : "must be a duration such as \"3.5s\"");
    return NULL;
}

static json_t *read_map(Reading *reading, const Field *field, const json_t *value, const char *path) {
    static const Field text = {.kind = FIELD_STRING};
    json_t *map = json_object();
    const char *key = NULL;
    json_t *item = NULL;
    bool good = json_is_object(value) && json_object_size(value) <= MESSAGE_ITEMS_MAX;

    (void)field;
    if (!good)
        violation_add(reading->arena, reading->violations, path, "must be an object of at most %d strings",
                      MESSAGE_ITEMS_MAX);
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        json_t *copy = good ? read_string(reading, &text, item, field_path(reading->arena, path, key)) : NULL;
        good = copy != NULL && json_object_set_new(map, key, copy) == 0 && good;
    }
    if (!good)
        json_freep(&map);
    return good ? map : NULL;
}

static json_t *read_value(Reading *reading, const Field *field, const json_t *value, const char *path) {
    switch (field->kind) {
    case FIELD_STRING:
        return read_string(reading, field, value, path);
    case FIELD_INT32:
    case FIELD_INT64:
        return read_number(reading, field, value, path);
    case FIELD_ENUM:
        return read_enum(reading, field, value, path);
    case FIELD_TIMESTAMP:
    case FIELD_DURATION:
        return read_time(reading, field, value, path);
    case FIELD_MESSAGE:
        return read_message(reading, field->message, value, path);
    case FIELD_MAP:
        return read_map(reading, field, value, path);
    case FIELD_BOOL:
        if (json_is_boolean(value))
            return json_boolean(json_is_true(value));
        violation_add(reading->arena, reading->violations, path, "must be true or false");
        return NULL;
    case FIELD_STRUCT:
        if (json_is_object(value))
            return json_deep_copy(value);
        violation_add(reading->arena, reading->violations, path, "must be an object");
        return NULL;
    }
    UNREACHABLE();
}

static json_t *read_list(Reading *reading, const Field *field, const json_t *value, const char *path) {
    json_t *list = json_array();
    size_t index = 0;
    json_t *item = NULL;
    bool good = json_is_array(value) && json_array_size(value) <= MESSAGE_ITEMS_MAX;

    if (!good)
        violation_add(reading->arena, reading->violations, path, "must be a list of at most %d items",
                      MESSAGE_ITEMS_MAX);
    json_array_foreach((json_t *)(uintptr_t)value, index, item) {
        const char *at = arena_printf(reading->arena, "%s[%zu]", path, index);
        json_t *copy = good ? read_value(reading, field, item, at) : NULL;
        good = copy != NULL && json_array_append_new(list, copy) == 0 && good;
    }
    if (!good)
        json_freep(&list);
    return good ? list : NULL;
}

/* ---- A message ---- */

static void check_groups(Reading *reading, const Message *message, const json_t *body, const char *path) {
    for (size_t i = 0; i < message->count; i++)
        for (size_t j = i + 1; j < message->count; j++) {
            const Field *one = &message->fields[i], *other = &message->fields[j];

            if (one->oneof != NULL && other->oneof != NULL && strcmp(one->oneof, other->oneof) == 0 &&
                json_object_get(body, one->name) != NULL && json_object_get(body, other->name) != NULL)
                violation_add(reading->arena, reading->violations, field_path(reading->arena, path, other->name),
                              "cannot be given together with %s", one->name);
        }
}

static void check_required(Reading *reading, const Message *message, const json_t *body, const char *path) {
    for (size_t i = 0; i < message->count; i++)
        if ((message->fields[i].flags & FIELD_REQUIRED) != 0 && json_object_get(body, message->fields[i].name) == NULL)
            violation_add(reading->arena, reading->violations,
                          field_path(reading->arena, path, message->fields[i].name), "is required");
}

static void read_field(Reading *reading, const Message *message, const char *key, const json_t *value, const char *path,
                       json_t *body) {
    const char *at = field_path(reading->arena, path, key);
    const Field *field = message_field(message, key);

    if (field == NULL) {
        violation_add(reading->arena, reading->violations, at, "there is no such field in %s", message->name);
        return;
    }
    if (json_is_null(value) || (field->flags & FIELD_OUTPUT) != 0)
        return;
    if (json_object_get(body, field->name) != NULL) {
        violation_add(reading->arena, reading->violations, at, "is given twice, as %s and in snake_case", field->name);
        return;
    }
    bool list = (field->flags & FIELD_REPEATED) != 0;
    json_t *copy = list ? read_list(reading, field, value, at) : read_value(reading, field, value, at);
    if (copy != NULL)
        (void)json_object_set_new(body, field->name, copy);
}

static json_t *read_message(Reading *reading, const Message *message, const json_t *sent, const char *path) {
    const char *key = NULL;
    json_t *value = NULL;
    size_t before = reading->violations->len;

    if (!json_is_object(sent) || reading->depth >= MESSAGE_DEPTH_MAX) {
        violation_add(reading->arena, reading->violations, path, "must be an object");
        return NULL;
    }
    json_t *body = json_object();
    reading->depth++;
    json_object_foreach((json_t *)(uintptr_t)sent, key, value) read_field(reading, message, key, value, path, body);
    reading->depth--;
    check_groups(reading, message, body, path);
    if (reading->is_create)
        check_required(reading, message, body, path);
    if (reading->violations->len > before)
        json_freep(&body);
    return reading->violations->len > before ? NULL : body;
}

json_t *message_read(const Message *message, const json_t *sent, bool is_create, Arena *arena,
                     ViolationVec *violations) {
    Reading reading = {.arena = arena, .violations = violations, .is_create = is_create};

    return read_message(&reading, message, sent, "");
}

/* ---- Secrets ---- */

static void take_secrets(const Message *message, json_t *body, const char *path, Arena *arena, SecretTaker taker,
                         void *context) {
    for (size_t i = 0; i < message->count; i++) {
        const Field *field = &message->fields[i];
        json_t *value = json_object_get(body, field->name);
        const char *at = field_path(arena, path, field->name);

        if (value == NULL)
            continue;
        if ((field->flags & FIELD_SECRET) != 0) {
            taker(context, at, json_string_value(value));
            (void)json_object_del(body, field->name);
        } else if (field->kind == FIELD_MESSAGE && (field->flags & FIELD_REPEATED) == 0) {
            take_secrets(field->message, value, at, arena, taker, context);
        }
    }
}

void message_take_secrets(const Message *message, json_t *body, SecretTaker taker, void *context) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    take_secrets(message, body, "", arena, taker, context);
}
