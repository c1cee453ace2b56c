/* Names of resources to their parts and back. */
#include "api/names.h"

#include <string.h>

static const struct {
    const char *collection;
    NameKind parent;
} kinds[] = {
#define X(name, collection, parent) {collection, NAME_##parent},
    NAME_KINDS(X)
#undef X
};

const char *name_collection(NameKind kind) {
    return kinds[kind].collection;
}

static bool refuse(const char *text, Error *err) {
    error_set(err, REASON_USAGE, "\"%.200s\" is no name of a resource", text);
    error_remedy(err, "such as: projects/P/locations/L/connectionProfiles/ID");
    return false;
}

/* Of all parts: what a URL and a file can hold without quoting. */
static bool is_good_part(const char *part, size_t len, const char *allowed) {
    return len > 0 && len <= 100 && strspn(part, allowed) >= len && part[0] != '.';
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

/* "collection/part", and a slash behind it if there is more. NULL when it is not so. */
static const char *take(Arena *arena, const char *text, const char *collection, const char *allowed,
                        const char **ret_part) {
    size_t len = strlen(collection);

    if (strncmp(text, collection, len) != 0 || text[len] != '/')
        return NULL;
    text += len + 1;
    len = strcspn(text, "/");
    if (!is_good_part(text, len, allowed))
        return NULL;
    *ret_part = arena_strndup(arena, text, len);
    text += len;
    if (*text == '\0')
        return text;
    return text[1] == '\0' ? NULL : text + 1;
}

/* In the location, or in a job. */
static const char *take_kind(Arena *arena, const char *text, NameKind parent, ResourceName *name) {
    for (NameKind kind = NAME_LOCATION + 1; kind < NAME_KIND_MAX_; kind++) {
        const char *rest =
            kinds[kind].parent == parent ? take(arena, text, kinds[kind].collection, LETTERS "_.", &name->id) : NULL;

        if (rest == NULL)
            continue;
        name->kind = kind;
        return rest;
    }
    return NULL;
}

bool name_parse(Arena *arena, const char *text, ResourceName *ret_name, Error *err) {
    ResourceName name = {.kind = NAME_LOCATION, .job = "", .id = ""};
    const char *at = strlen(text) > RESOURCE_NAME_MAX ? NULL : text;

    if (at != NULL)
        at = take(arena, at, "projects", LETTERS "_.:", &name.project);
    if (at != NULL)
        at = take(arena, at, "locations", LETTERS, &name.location);
    if (at != NULL && *at != '\0')
        at = take_kind(arena, at, NAME_LOCATION, &name);
    if (at != NULL && *at != '\0' && name.kind == NAME_MIGRATION_JOB) {
        name.job = name.id;
        at = take_kind(arena, at, NAME_MIGRATION_JOB, &name);
    }
    if (at == NULL || *at != '\0')
        return refuse(text, err);
    *ret_name = name;
    return true;
}

static const char *format_location(Arena *arena, const ResourceName *name) {
    return arena_printf(arena, "projects/%s/locations/%s", name->project, name->location);
}

const char *name_parent(Arena *arena, const ResourceName *name) {
    const char *location = format_location(arena, name);

    return kinds[name->kind].parent == NAME_MIGRATION_JOB
               ? arena_printf(arena, "%s/migrationJobs/%s", location, name->job)
               : location;
}

const char *name_format(Arena *arena, const ResourceName *name) {
    if (name->kind == NAME_LOCATION)
        return format_location(arena, name);
    return arena_printf(arena, "%s/%s/%s", name_parent(arena, name), kinds[name->kind].collection, name->id);
}
