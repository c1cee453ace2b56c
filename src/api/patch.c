/*
 * PATCH.
 *
 * NOTES
 * google-cloud-sdk sends the whole resource that it was given, changed, with a mask of what it means, which lacks
 * labels and the kinds of connectivity. So an empty mask means all that was sent, and of fields that exclude each other
 * the new one is kept.
 *
 * A secret is in no answer, so a client that sends back what it was given lacks it: only a mask that names the secret
 * itself takes it away.
 */
#include "api/patch.h"

#include "api/kinds.h"
#include "model/resources.h"

#include <string.h>

/* ---- Fields that exclude each other ---- */

static bool is_rival(const Field *one, const Field *other) {
    return one != other && one->oneof != NULL && other->oneof != NULL && strcmp(one->oneof, other->oneof) == 0;
}

static void drop_rivals(const Message *message, const Field *field, json_t *body, const json_t *current) {
    for (size_t at = 0; at < message->count; at++) {
        const Field *rival = &message->fields[at];

        if (is_rival(field, rival) && json_object_get(current, rival->name) != NULL)
            (void)json_object_del(body, rival->name);
    }
}

static void prefer_new(const Message *message, json_t *body, const json_t *current, int depth) {
    for (size_t at = 0; at < message->count && depth < MESSAGE_DEPTH_MAX; at++) {
        const Field *field = &message->fields[at];
        json_t *value = json_object_get(body, field->name);
        const json_t *old = json_object_get(current, field->name);

        if (value == NULL)
            continue;
        if (field->oneof != NULL && old == NULL)
            drop_rivals(message, field, body, current);
        if (field->kind == FIELD_MESSAGE && (field->flags & FIELD_REPEATED) == 0 && json_is_object(value))
            prefer_new(field->message, value, old, depth + 1);
    }
}

typedef struct Current {
    ApiCall *call;
    json_t *api;
} Current;

static bool read_current(StoreTx *tx, void *context, Error *err) {
    Current *current = context;
    CLEANUP(record_fini) Record record = {0};

    if (!record_load(tx, kind_of(current->call->name.kind)->store, current->call->resource, &record, err))
        return false;
    json_freep(&current->api);
    current->api = json_incref(record.api);
    return true;
}

bool patch_before(ApiCall *call, json_t *sent, Error *err) {
    Current current = {.call = call};

    if (!store_read(api_store(call->api), call->arena, read_current, &current, err))
        return false;
    if (json_is_object(sent))
        prefer_new(call->method->body, sent, current.api, 0);
    json_freep(&current.api);
    return true;
}

/* ---- Fields ---- */

bool patch_apply(ApiCall *call, const Message *message, Record *record, const char *const *aliases) {
    const char *mask = call_text(call, PARAM_UPDATE_MASK);
    json_t *changed = message_patch(message, record->api, call->body, mask, aliases, call->arena, &call->violations);

    if (changed == NULL)
        return false;
    prefer_new(message, changed, record->api, 0);
    CLEANUP(json_freep) json_t *checked = message_read(message, changed, true, call->arena, &call->violations);
    json_freep(&record->api);
    record->api = changed;
    return checked != NULL;
}

/* ---- Secrets ---- */

/* Is `path` in the mask by itself (*ret_exact), or with all that is above it? No mask means what was sent. */
static bool mask_has(const ApiCall *call, const char *path, bool *ret_exact) {
    const char *mask = call_text(call, PARAM_UPDATE_MASK);
    bool found = mask[strspn(mask, ", ")] == '\0' || strcmp(mask, "*") == 0;

    *ret_exact = false;
    while (*mask != '\0') {
        size_t len = strcspn(mask, ",");
        char camel[FIELD_NAME_MAX];
        bool good = field_camel(mask, len, camel);
        size_t used = good ? strlen(camel) : 0;

        if (used > 0 && strcmp(camel, path) == 0)
            *ret_exact = found = true;
        else if (used > 0 && strncmp(camel, path, used) == 0 && path[used] == '.')
            found = true;
        mask += len + (mask[len] == ',');
    }
    return found;
}

static const GivenSecret *find_given(const ApiCall *call, const char *path) {
    for (size_t at = 0; at < call->secrets.len; at++)
        if (strcmp(call->secrets.items[at].path, path) == 0)
            return &call->secrets.items[at];
    return NULL;
}

const GivenSecret *patch_given(const ApiCall *call, const char *path) {
    const GivenSecret *given = find_given(call, path);
    bool exact = false;

    return given != NULL && mask_has(call, path, &exact) ? given : NULL;
}

void patch_note_secrets(ApiCall *call, Record *record) {
    const json_t *list = record_secrets(record);
    bool exact = false;

    for (size_t at = json_array_size(list); at > 0; at--) {
        const char *path = arena_strdup(call->arena, json_string_value(json_array_get(list, at - 1)));

        if (find_given(call, path) == NULL && mask_has(call, path, &exact) && exact)
            record_note_secret(record, path, false);
    }
    for (size_t at = 0; at < call->secrets.len; at++)
        if (mask_has(call, call->secrets.items[at].path, &exact))
            record_note_secret(record, call->secrets.items[at].path, call->secrets.items[at].value[0] != '\0');
}

/* Takes away what a mask names, whether it was there or not: then what is noted decides. */
static bool drop_named(ApiCall *call, const Record *record, Error *err) {
    const char *mask = call_text(call, PARAM_UPDATE_MASK);

    while (*mask != '\0') {
        size_t len = strcspn(mask, ",");
        char camel[FIELD_NAME_MAX];

        if (field_camel(mask, len, camel) && !record_has_secret(record, camel) &&
            !store_secret_remove(call->tx, record->resource.name, camel, err))
            return false;
        mask += len + (mask[len] == ',');
    }
    return true;
}

bool patch_store_secrets(ApiCall *call, const Record *record, Error *err) {
    const Vault *vault = api_config(call->api)->vault;
    const char *name = record->resource.name;
    bool exact = false;

    for (size_t at = 0; at < call->secrets.len; at++) {
        const GivenSecret *secret = &call->secrets.items[at];
        size_t len = strlen(secret->value);

        if (!mask_has(call, secret->path, &exact))
            continue;
        if (len > 0 ? !vault->set(vault->context, call->tx, name, secret->path, secret->value, len, err)
                    : !store_secret_remove(call->tx, name, secret->path, err))
            return false;
    }
    return drop_named(call, record, err);
}
