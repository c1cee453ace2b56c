/* The file of `pgcrane apply` to resources of the API. */
#include "cli/service/manifest.h"

#include "cli/service/job_spec.h"
#include "cli/service/profile_spec.h"
#include "client/yaml.h"
#include "model/resources.h"

#include <string.h>

enum { ITEMS_MAX = 10000, PROBLEMS_MAX = 64 * 1024 };

typedef struct Reading {
    Arena *arena;
    const char *parent;
    Manifest *manifest;
    const char *where; /* "profiles.shop-old" */
    ViolationVec problems;
} Reading;

static void refuse(Reading *reading, const char *field, const char *why) {
    const Violation problem = {
        .field = arena_printf(reading->arena, "%s%s%s", reading->where, field[0] != '\0' ? "." : "", field),
        .description = why};

    vec_push(reading->arena, &reading->problems, problem);
}

static void refuse_error(Reading *reading, const char *field, const Error *err) {
    refuse(reading, field, arena_strdup(reading->arena, err->message));
}

/* Takes a short form out of `spec`. NULL when it is not there, or no text. */
static const char *take_text(Reading *reading, json_t *spec, const char *key) {
    const json_t *value = json_object_get(spec, key);

    if (value == NULL)
        return NULL;
    const char *text = arena_strdup(reading->arena, json_string_value(value));
    if (text == NULL)
        refuse(reading, key, "has to be text");
    (void)json_object_del(spec, key);
    return text;
}

/* What the file says field by field wins over its short forms. */
static void merge(json_t *into, json_t *from) {
    const char *key;
    json_t *value;

    json_object_foreach(from, key, value) {
        json_t *there = json_object_get(into, key);

        if (json_is_object(there) && json_is_object(value))
            merge(there, value);
        else
            (void)json_object_set(into, key, value);
    }
}

static void add(Reading *reading, ShowKind kind, const Message *message, const char *collection, const char *id,
                const json_t *body) {
    ViolationVec violations = {0};
    json_t *wanted = message_read(message, body, true, reading->arena, &violations);

    for (size_t at = 0; at < violations.len; at++)
        refuse(reading, violations.items[at].field, violations.items[at].description);
    const ManifestItem item = {
        .kind = kind,
        .id = arena_strdup(reading->arena, id),
        .name = arena_printf(reading->arena, "%s/%s/%s", reading->parent, collection, id),
        .message = message,
        .wanted = wanted,
    };
    vec_push(reading->arena, reading->manifest, item);
}

/* --- profiles --- */

static void read_profile(Reading *reading, const char *id, json_t *spec) {
    CLEANUP(json_freep) json_t *profile = json_object();
    const char *uri = take_text(reading, spec, "uri"), *file = take_text(reading, spec, "passwordFile");
    Error err;

    if (uri != NULL && !spec_take_uri(reading->arena, uri, profile, &err))
        refuse_error(reading, "uri", &err);
    if (file != NULL && strcmp(file, "-") == 0)
        refuse(reading, "passwordFile", "has to be the path of a file");
    else if (file != NULL && !spec_take_password(file, profile, &err))
        refuse_error(reading, "passwordFile", &err);
    merge(profile, spec);
    add(reading, SHOW_PROFILE, &message_connection_profile, PROFILE_COLLECTION, id, profile);
    spec_wipe(profile);
}

/* --- jobs --- */

/* An id means a profile of the same location. */
static void lengthen(Reading *reading, json_t *job, const char *key) {
    const char *text = json_get_string(job, key, NULL);

    if (text != NULL && strchr(text, '/') == NULL)
        (void)json_object_set_new(
            job, key, json_string(arena_printf(reading->arena, "%s/" PROFILE_COLLECTION "/%s", reading->parent, text)));
}

static void take_databases(Reading *reading, json_t *job) {
    CLEANUP(json_freep) json_t *list = json_incref(json_object_get(job, "databases"));
    StringVec names = {0};

    if (list == NULL)
        return;
    (void)json_object_del(job, "databases");
    bool all = json_is_string(list) && strcmp(json_string_value(list), "all") == 0;
    for (size_t at = 0; at < json_array_size(list); at++)
        if (json_is_string(json_array_get(list, at)))
            vec_push(reading->arena, &names, json_string_value(json_array_get(list, at)));
    if (!all && (names.len == 0 || names.len != json_array_size(list))) {
        refuse(reading, "databases", "has to be a list of names, or all");
        return;
    }
    (void)json_object_set_new(job, "objectsConfig", job_spec_objects(all ? NULL : &names));
}

static void read_job(Reading *reading, const char *id, json_t *spec) {
    lengthen(reading, spec, "source");
    lengthen(reading, spec, "destination");
    take_databases(reading, spec);
    if (json_object_get(spec, "type") == NULL)
        (void)json_object_set_new(spec, "type", json_string("CONTINUOUS"));
    add(reading, SHOW_JOB, &message_migration_job, JOB_COLLECTION, id, spec);
}

/* --- the file --- */

typedef void (*ItemReader)(Reading *reading, const char *id, json_t *spec);

static void read_items(Reading *reading, const char *section, json_t *items, ItemReader reader) {
    const char *id;
    json_t *spec;

    reading->where = section;
    if (items != NULL && !json_is_object(items)) {
        refuse(reading, "", "has to hold ids, and under each what is wanted");
        return;
    }
    if (json_object_size(items) > ITEMS_MAX) {
        refuse(reading, "", "has too many");
        return;
    }
    json_object_foreach(items, id, spec) {
        reading->where = arena_printf(reading->arena, "%s.%s", section, id);
        if (!resource_id_is_valid(id))
            refuse(reading, "",
                   "an id begins with a lower-case letter and has at most 60 lower-case letters, digits and hyphens");
        else if (!json_is_object(spec))
            refuse(reading, "", "has to hold what is wanted of it");
        else
            reader(reading, id, spec);
    }
}

static void read_file(Reading *reading, json_t *file) {
    const char *key;
    json_t *value;

    reading->where = "the file";
    if (!json_is_object(file)) {
        refuse(reading, "", "has to hold profiles: and jobs:");
        return;
    }
    json_object_foreach(file, key, value) {
        reading->where = key;
        if (strcmp(key, "profiles") != 0 && strcmp(key, "jobs") != 0)
            refuse(reading, "", "is not known: a file holds profiles and jobs");
    }
    read_items(reading, "profiles", json_object_get(file, "profiles"), read_profile);
    read_items(reading, "jobs", json_object_get(file, "jobs"), read_job);
}

static bool tell_problems(const Reading *reading, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, PROBLEMS_MAX);
    if (reading->problems.len == 0)
        return true;
    for (size_t at = 0; at < reading->problems.len; at++)
        buf_printf(&text, "\n    %s: %s", reading->problems.items[at].field, reading->problems.items[at].description);
    error_set(err, REASON_BAD_REQUEST, "the file is not as it has to be:%s", text.data);
    return error_remedy(err, "pgcrane apply --help says what a file holds");
}

static bool parse(const char *text, size_t len, json_t **ret_file, Error *err) {
    size_t begin = strspn(text, " \t\r\n");

    if (text[begin] == '{')
        return json_parse(text, len, ret_file, err);
    return yaml_parse(text, len, ret_file, err);
}

bool manifest_parse(Arena *arena, const char *parent, const char *text, size_t len, Manifest *ret_manifest,
                    Error *err) {
    CLEANUP(json_freep) json_t *file = NULL;
    Reading reading = {.arena = arena, .parent = parent, .manifest = ret_manifest};

    *ret_manifest = (Manifest){0};
    if (!parse(text, len, &file, err))
        return false;
    read_file(&reading, file);
    spec_wipe(file);
    return tell_problems(&reading, err);
}

void manifest_fini(Manifest *manifest) {
    for (size_t at = 0; at < manifest->len; at++) {
        spec_wipe(manifest->items[at].wanted);
        json_freep(&manifest->items[at].wanted);
    }
    manifest->len = 0;
}
