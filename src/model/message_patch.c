/*
 * What an update mask leads to.
 *
 * NOTES
 * A path goes through messages only: what stands below a list, a map or an any-object is replaced as a whole, by the
 * path of that. A path below something that the resource does not have yet makes it. A message that is replaced keeps
 * what is not the client's, and is refused when it would change what nobody may change.
 */
#include "model/message.h"
#include "model/message_path.h"

#include <string.h>

typedef struct Patching {
    Arena *arena;
    ViolationVec *violations;
    json_t *result;
    const json_t *sent;
} Patching;

static const char *meant(const char *path, const char *const *aliases) {
    for (; aliases != NULL && aliases[0] != NULL; aliases += 2)
        if (strcmp(aliases[0], path) == 0)
            return aliases[1];
    return path;
}

/* Are both the same to a client? A secret is in neither. */
static bool is_same(const json_t *a, const json_t *b) {
    return a == b || (a != NULL && b != NULL && json_equal(a, b) == 1);
}

static void violate(Patching *patching, const char *path) {
    violation_add(patching->arena, patching->violations, path,
                  "cannot be changed: delete the resource and create it anew");
}

static bool is_one_message(const Field *field) {
    return field->kind == FIELD_MESSAGE && (field->flags & FIELD_REPEATED) == 0;
}

/* Of a message that takes the place of another. */
static void keep_fixed(Patching *patching, const Message *message, const json_t *old, json_t *new, const char *base,
                       int depth) {
    for (size_t i = 0; i < message->count && depth < MESSAGE_DEPTH_MAX; i++) {
        const Field *field = &message->fields[i];
        json_t *was = json_object_get(old, field->name), *is = json_object_get(new, field->name);
        const char *path = field_path(patching->arena, base, field->name);

        if ((field->flags & FIELD_OUTPUT) != 0 && was != NULL)
            (void)json_object_set(new, field->name, was);
        else if ((field->flags & FIELD_IMMUTABLE) != 0 && !is_same(was, is))
            violate(patching, path);
        else if (is_one_message(field) && json_is_object(was) && json_is_object(is))
            keep_fixed(patching, field->message, was, is, path, depth + 1);
    }
}

/* Sets or removes the last field of a path, inside of the objects that hold it now (`into`) and in what was sent. */
static void patch_field(Patching *patching, const Field *field, json_t *into, const json_t *from, const char *path) {
    const json_t *old = json_object_get(into, field->name);
    json_t *new = from == NULL ? NULL : json_object_get(from, field->name);

    if ((field->flags & FIELD_OUTPUT) != 0)
        return;
    if ((field->flags & FIELD_IMMUTABLE) != 0 && !is_same(old, new)) {
        violate(patching, path);
        return;
    }
    if (new == NULL) {
        (void)json_object_del(into, field->name);
        return;
    }
    json_t *copy = json_deep_copy(new);
    if (is_one_message(field) && json_is_object(old) && json_is_object(copy))
        keep_fixed(patching, field->message, old, copy, path, 0);
    (void)json_object_set_new(into, field->name, copy);
}

static json_t *inside(json_t *object, const char *name) {
    json_t *inner = json_object_get(object, name);

    if (inner == NULL) {
        inner = json_object();
        (void)json_object_set_new(object, name, inner);
    }
    return inner;
}

/* From `at` on, below `message`. Nothing is made before the whole path is known to be good. */
static const Field *walk(const Message *message, const char *path, StringVec *names, Arena *arena) {
    const Field *field = NULL;

    while (*path != '\0') {
        size_t len = strcspn(path, ".");
        char camel[FIELD_NAME_MAX];

        if (len == 0 || message == NULL || names->len >= MESSAGE_DEPTH_MAX || !field_camel(path, len, camel))
            return NULL;
        field = message_field(message, camel);
        if (field == NULL)
            return NULL;
        vec_push(arena, names, field->name);
        message = is_one_message(field) ? field->message : NULL;
        path += len;
        if (*path == '.' && *++path == '\0')
            return NULL;
    }
    return field;
}

/* An output-only or immutable message above protects what is below. */
static unsigned flags_above(const Message *message, const StringVec *names) {
    unsigned flags = 0;

    for (size_t i = 0; i + 1 < names->len; i++) {
        const Field *field = message_field(message, names->items[i]);

        flags |= field->flags & (FIELD_OUTPUT | FIELD_IMMUTABLE);
        message = field->message;
    }
    return flags;
}

static void patch_path(Patching *patching, const Message *message, const char *path) {
    StringVec names = {0};
    const Field *field = walk(message, path, &names, patching->arena);

    if (field == NULL) {
        violation_add(patching->arena, patching->violations, "updateMask", "%s has no field %s", message->name, path);
        return;
    }
    Field last = *field;
    json_t *into = patching->result;
    const json_t *from = patching->sent;

    last.flags |= flags_above(message, &names);
    if ((last.flags & FIELD_OUTPUT) != 0)
        return;
    for (size_t i = 0; i + 1 < names.len; i++) {
        into = inside(into, names.items[i]);
        from = from == NULL ? NULL : json_object_get(from, names.items[i]);
    }
    patch_field(patching, &last, into, from, path);
}

/* Field by field, into the messages: what was not sent stays. */
static void patch_sent(Patching *patching, const Message *message, json_t *into, const json_t *from, const char *base) {
    for (size_t i = 0; i < message->count; i++) {
        const Field *field = &message->fields[i];
        const json_t *new = json_object_get(from, field->name);
        const char *path = field_path(patching->arena, base, field->name);

        if (new == NULL)
            continue;
        bool deeper = is_one_message(field) && (field->flags & FIELD_IMMUTABLE) == 0;
        if (deeper)
            patch_sent(patching, field->message, inside(into, field->name), new, path);
        else
            patch_field(patching, field, into, from, path);
    }
}

static void patch_mask(Patching *patching, const Message *message, const char *mask, const char *const *aliases) {
    while (*mask != '\0') {
        size_t len = strcspn(mask, ",");
        const char *start = mask + strspn(mask, " ");
        size_t used = len - (size_t)MIN((size_t)(start - mask), len);

        while (used > 0 && start[used - 1] == ' ')
            used--;
        if (used > 0)
            patch_path(patching, message, meant(arena_strndup(patching->arena, start, used), aliases));
        mask += len + (mask[len] == ',');
    }
}

json_t *message_patch(const Message *message, const json_t *current, const json_t *sent, const char *mask,
                      const char *const *aliases, Arena *arena, ViolationVec *violations) {
    Patching patching = {.arena = arena, .violations = violations, .result = json_deep_copy(current), .sent = sent};
    size_t before = violations->len;

    if (mask[strspn(mask, ", ")] == '\0' || strcmp(mask, "*") == 0)
        patch_sent(&patching, message, patching.result, sent, "");
    else
        patch_mask(&patching, message, mask, aliases);
    if (violations->len > before)
        json_freep(&patching.result);
    return violations->len > before ? NULL : patching.result;
}
