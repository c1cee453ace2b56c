/* What the kinds of resources have of their own, and the methods that are the same for all of them. */
#pragma once

#include "api/call.h"

typedef struct Kind {
    StoreKind store;
    const char *list; /* "connectionProfiles": the key of a list, too */
    const char *type; /* "ConnectionProfile" */
    const Message *message;
    json_t *(*render)(const Record *record, Arena *arena); /* new reference */
} Kind;

const Kind *kind_of(NameKind name);

/* call->resource, with its etag checked. */
NODISCARD bool kind_load(const ApiCall *call, Record *ret_record, Error *err);

/* Any record of a store kind, over all pages. each() returns false with *err filled to end it. */
typedef bool (*RecordVisit)(void *context, const Record *record, Error *err);
NODISCARD bool kind_each(StoreTx *tx, StoreKind store, const char *parent, RecordVisit each, void *context, Error *err);

bool kind_get(ApiCall *call, Error *err);
bool kind_list(ApiCall *call, Error *err);
bool job_objects_list(ApiCall *call, Error *err);
