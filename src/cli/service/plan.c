/* Comparing resources field by field, by the table of their message. */
#include "cli/service/plan.h"

#include <string.h>

enum { SHOWN_MAX = 200 };

typedef struct Comparing {
    Arena *arena;
    bool with_secrets;
    DifferenceVec *found;
} Comparing;

/* "[app, sales]" of a list of objects, which are databases; NULL when it is none. */
static const char *shown_objects(Arena *arena, const json_t *value) {
    const char *text = "";

    for (size_t at = 0; at < json_array_size(value); at++) {
        const json_t *identifier = json_get_object(json_array_get(value, at), "objectIdentifier");
        const char *database = json_get_string(identifier, "database", NULL);
        if (database == NULL)
            return NULL;
        text = arena_printf(arena, "%s%s%s", text, at > 0 ? ", " : "", database);
    }
    return json_array_size(value) > 0 ? arena_printf(arena, "[%s]", text) : NULL;
}

/* As it is read; NULL = not there. */
static const char *shown(Arena *arena, const json_t *value) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, SHOWN_MAX);
    if (value == NULL || json_is_null(value))
        return NULL;
    if (json_is_string(value))
        return arena_strdup(arena, json_string_value(value));
    const char *objects = shown_objects(arena, value);
    if (objects != NULL)
        return objects;
    json_print(value, 0, &text);
    return text.overflowed ? arena_printf(arena, "%s...", text.data) : arena_strdup(arena, text.data);
}

/* As proto3 has it, a field that is not there has its default. */
static bool is_default(const json_t *value) {
    static const char suffix[] = "_UNSPECIFIED";
    const char *text = json_is_string(value) ? json_string_value(value) : NULL;

    if (text != NULL)
        return text[0] == '\0' ||
               (strlen(text) > strlen(suffix) && strcmp(text + strlen(text) - strlen(suffix), suffix) == 0);
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && !(json_number_value(value) < 0) && !(json_number_value(value) > 0)) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bool is_same(const json_t *current, const json_t *wanted) {
    return json_equal(current, wanted) == 1 || (is_default(current) && is_default(wanted));
}

/* --- secrets --- */

/* Certificates have no flag; which ones are there, the type tells. */
static bool type_says(const json_t *object, const char *name) {
    const char *type = json_get_string(object, "type", "");

    return strcmp(type, "SERVER_CLIENT") == 0 ||
           (strcmp(type, "SERVER_ONLY") == 0 && strcmp(name, "caCertificate") == 0);
}

/* Beside a secret stands NAMESet; where there is neither that nor a type, an object that is there has it. */
static bool has_secret(Arena *arena, const Message *message, const json_t *object, const char *name) {
    const char *flag = arena_printf(arena, "%sSet", name);

    if (message_field(message, flag) != NULL)
        return json_get_bool(object, flag, false);
    if (message_field(message, "type") != NULL)
        return type_says(object, name);
    return json_object_size(object) > 0;
}

/* --- fields --- */

static void note(const Comparing *comparing, const Field *field, const char *path, const json_t *current,
                 const json_t *wanted) {
    bool is_secret = (field->flags & FIELD_SECRET) != 0;
    const Difference difference = {
        .path = path,
        .before = is_secret ? NULL : shown(comparing->arena, current),
        .after = is_secret ? "(secret)" : shown(comparing->arena, wanted),
        .is_fixed = (field->flags & FIELD_IMMUTABLE) != 0,
    };

    vec_push(comparing->arena, comparing->found, difference);
}

static bool differs(const Comparing *comparing, const Message *message, const Field *field, const json_t *current,
                    const json_t *wanted) {
    if ((field->flags & FIELD_SECRET) != 0)
        return comparing->with_secrets || !has_secret(comparing->arena, message, current, field->name);
    const json_t *before = json_object_get(current, field->name);
    if (field->kind == FIELD_MESSAGE && field->message->count == 0) /* that it is there is all it says */
        return before == NULL;
    return !is_same(before, json_object_get(wanted, field->name));
}

static json_t *compare(const Comparing *comparing, const Message *message, const char *prefix, const json_t *current,
                       const json_t *wanted);

/* What of the field is to be sent; NULL = nothing. */
static json_t *compare_field(const Comparing *comparing, const Message *message, const Field *field, const char *prefix,
                             const json_t *current, const json_t *wanted) {
    const char *path = arena_printf(comparing->arena, "%s%s", prefix, field->name);
    json_t *value = json_object_get(wanted, field->name);
    bool is_inner = field->kind == FIELD_MESSAGE && (field->flags & (FIELD_REPEATED | FIELD_IMMUTABLE)) == 0 &&
                    json_object_size(value) > 0;

    if (value == NULL)
        return NULL;
    if (is_inner)
        return compare(comparing, field->message, arena_printf(comparing->arena, "%s.", path),
                       json_object_get(current, field->name), value);
    if (!differs(comparing, message, field, current, wanted))
        return NULL;
    note(comparing, field, path, json_object_get(current, field->name), value);
    return json_incref(value);
}

static json_t *compare(const Comparing *comparing, const Message *message, const char *prefix, const json_t *current,
                       const json_t *wanted) {
    json_t *sent = json_object();

    for (size_t at = 0; at < message->count; at++) {
        const Field *field = &message->fields[at];
        json_t *value = compare_field(comparing, message, field, prefix, current, wanted);

        if (value != NULL)
            (void)json_object_set_new(sent, field->name, value);
    }
    if (json_object_size(sent) > 0)
        return sent;
    json_decref(sent);
    return NULL;
}

json_t *plan_compare(const Message *message, const json_t *current, const json_t *wanted, bool with_secrets,
                     Arena *arena, DifferenceVec *differences) {
    const Comparing comparing = {.arena = arena, .with_secrets = with_secrets, .found = differences};
    json_t *sent = compare(&comparing, message, "", current, wanted);

    return sent != NULL ? sent : json_object();
}

const char *plan_mask(Arena *arena, const DifferenceVec *differences) {
    const char *mask = "";

    for (size_t at = 0; at < differences->len; at++)
        mask = arena_printf(arena, "%s%s%s", mask, at > 0 ? "," : "", differences->items[at].path);
    return mask;
}
