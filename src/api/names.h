/*
 * Names of resources: projects/P/locations/L, and what is below it.
 *
 * Contract
 * - Pure; text is of the arena.
 * - A project may have dots and a colon ("example.com:shop"), so a verb is never cut off at the first colon.
 * - The location "-" stands for all of them, in lists only.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

/* X(kind, collection, parent's kind) */
#define NAME_KINDS(X)                                                                                                  \
    X(LOCATION, "locations", LOCATION)                                                                                 \
    X(CONNECTION_PROFILE, "connectionProfiles", LOCATION)                                                              \
    X(MIGRATION_JOB, "migrationJobs", LOCATION)                                                                        \
    X(PRIVATE_CONNECTION, "privateConnections", LOCATION)                                                              \
    X(INSTANCE, "instances", LOCATION)                                                                                 \
    X(OPERATION, "operations", LOCATION)                                                                               \
    X(OBJECT, "objects", MIGRATION_JOB)

typedef enum NameKind {
#define X(name, collection, parent) NAME_##name,
    NAME_KINDS(X)
#undef X
        NAME_KIND_MAX_,
} NameKind;

enum { RESOURCE_NAME_MAX = 512 };

typedef struct ResourceName {
    NameKind kind;
    const char *project, *location;
    const char *job; /* of an object */
    const char *id;  /* "" of a location */
} ResourceName;

/* A full name, as source and destination of a job are given. Fails with USAGE. */
NODISCARD bool name_parse(Arena *arena, const char *text, ResourceName *ret_name, Error *err);
const char *name_format(Arena *arena, const ResourceName *name);
/* What it is below of: the location's name, or the job's. */
const char *name_parent(Arena *arena, const ResourceName *name);
const char *name_collection(NameKind kind);
