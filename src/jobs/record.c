/* A resource with its body opened. */
#include "jobs/record.h"

#include "common/clock.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#define SECRETS "secrets"

void record_fini(Record *record) {
    json_freep(&record->api);
    json_freep(&record->run);
}

static bool damaged(const char *name, Error *err) {
    return error_set(err, REASON_STORE_DAMAGED, "the body of %s in the store cannot be read", name);
}

bool record_open(const StoreResource *resource, Record *ret_record, Error *err) {
    CLEANUP(json_freep) json_t *body = NULL;

    if (!json_parse(resource->body, strlen(resource->body), &body, err))
        return damaged(resource->name, err);
    json_t *api = json_object_get(body, "api"), *run = json_object_get(body, "run");
    if (!json_is_object(api) || !json_is_object(run))
        return damaged(resource->name, err);
    *ret_record = (Record){.resource = *resource, .api = json_incref(api), .run = json_incref(run)};
    return true;
}

bool record_load(StoreTx *tx, StoreKind kind, const char *name, Record *ret_record, Error *err) {
    StoreResource resource = {0};

    if (!store_get(tx, name, &resource, err))
        return false;
    if (resource.kind != kind)
        return error_set(err, REASON_NO_RESOURCE, "there is no %s", name);
    return record_open(&resource, ret_record, err);
}

/* The text that goes to the store, and the columns that are also in it. */
static bool close_body(Arena *arena, Record *record, Error *err) {
    CLEANUP(json_freep) json_t *body = json_pack("{s:O, s:O}", "api", record->api, "run", record->run);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, STORE_BODY_MAX);
    json_print(body, 0, &text);
    if (text.overflowed)
        return error_set(err, REASON_RESOURCE_TOO_LARGE, "%s would be larger than %d bytes", record->resource.name,
                         STORE_BODY_MAX);
    record->resource.body = arena_strndup(arena, text.data, text.len);
    record->resource.display_name = arena_strdup(arena, json_get_string(record->api, "displayName", ""));
    return true;
}

bool record_create(StoreTx *tx, Arena *arena, Record *record, Error *err) {
    record->resource.uid = record_random_id(arena);
    return close_body(arena, record, err) && store_create(tx, &record->resource, err);
}

bool record_save(StoreTx *tx, Arena *arena, Record *record, Error *err) {
    return close_body(arena, record, err) && store_update(tx, &record->resource, err);
}

json_t *record_time(Arena *arena, int64_t wall_us) {
    return wall_us > 0 ? json_string(clock_rfc3339(arena, wall_us)) : NULL;
}

const char *record_etag(Arena *arena, const StoreResource *resource) {
    return arena_printf(arena, "%" PRId64, resource->version);
}

json_t *record_render(const Record *record, Arena *arena) {
    const StoreResource *resource = &record->resource;
    json_t *answer =
        json_pack("{s:s, s:o*, s:o*}", "name", resource->name, "createTime", record_time(arena, resource->create_us),
                  "updateTime", record_time(arena, resource->update_us));

    (void)json_object_update(answer, record->api);
    (void)json_object_set_new(answer, "state", json_string(resource->state));
    (void)json_object_set_new(answer, "uid", json_string(resource->uid));
    if (resource->version > 0)
        (void)json_object_set_new(answer, "etag", json_string(record_etag(arena, resource)));
    return answer;
}

const char *record_location(Arena *arena, const char *name) {
    const char *at = strstr(name, "/locations/");

    if (at == NULL)
        return arena_strdup(arena, name);
    at += strlen("/locations/");
    return arena_strndup(arena, name, (size_t)(at - name) + strcspn(at, "/"));
}

const char *record_random_id(Arena *arena) {
    uint64_t random[2] = {0};

    /* Short reads do not occur below 256 bytes. */
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        random[0] = (uint64_t)clock_wall_us(); /* uncovered: a kernel without randomness; NAME_TAKEN tells */
    return arena_printf(arena, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

json_t *record_secrets(const Record *record) {
    json_t *list = json_object_get(record->run, SECRETS);

    if (!json_is_array(list)) {
        list = json_array();
        (void)json_object_set_new(record->run, SECRETS, list);
    }
    return list;
}

static size_t find_secret(const Record *record, const char *path) {
    const json_t *list = record_secrets(record);
    size_t at = 0;

    while (at < json_array_size(list) && strcmp(json_string_value(json_array_get(list, at)), path) != 0)
        at++;
    return at;
}

bool record_has_secret(const Record *record, const char *path) {
    return find_secret(record, path) < json_array_size(record_secrets(record));
}

void record_note_secret(Record *record, const char *path, bool has) {
    json_t *list = record_secrets(record);
    size_t at = find_secret(record, path);

    if (has && at == json_array_size(list))
        (void)json_array_append_new(list, json_string(path));
    if (!has && at < json_array_size(list))
        (void)json_array_remove(list, at);
}
