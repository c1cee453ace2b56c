/*
 * The file of `pgcrane apply`: connection profiles and migration jobs as they are wanted, in YAML or JSON.
 *
 *     profiles:
 *       shop-old:
 *         uri: postgresql://app@old.example:5432/shop
 *         passwordFile: /run/secrets/shop-old
 *     jobs:
 *       shop:
 *         source: shop-old
 *         destination: shop-new
 *         databases: [shop]
 *
 * Each is what the API takes, with a few short forms: uri and passwordFile of a profile; of a job source and
 * destination by their ids, databases (names, or "all"), and a type that may be left out (CONTINUOUS). Everything that
 * is wrong is told at once, by its place in the file.
 */
#pragma once

#include "cli/service/show.h"
#include "model/message.h"

typedef struct ManifestItem {
    ShowKind kind;
    const char *id, *name; /* short, full */
    const Message *message;
    json_t *wanted; /* of message_read(); may hold secrets */
} ManifestItem;

/* In the order in which they are made: profiles first. */
typedef VEC(ManifestItem) Manifest;

/* manifest_fini() in each case. parent: "projects/P/locations/L". */
NODISCARD bool manifest_parse(Arena *arena, const char *parent, const char *text, size_t len, Manifest *ret_manifest,
                              Error *err);
/* Overwrites what may be secret. */
void manifest_fini(Manifest *manifest);
