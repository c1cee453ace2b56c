/*
 * JSON through jansson: typed getters that name the field they miss.
 *
 * json_t references follow jansson's rules; CLEANUP(json_freep) for owned ones. Parsing is limited: 64 MB of text,
 * jansson's own depth limit, duplicate keys refused.
 */
#pragma once

#include "common/arena.h"
#include "common/buf.h"
#include "common/error.h"

#include <jansson.h>

void json_freep(json_t **json);
NODISCARD bool json_parse(const char *text, size_t len, json_t **ret_json, Error *err);
/* Compact (indent 0) or indented text, appended to buf. */
void json_print(const json_t *json, int indent, Buf *buf);

/* A string that cannot fail to be made: bytes that are no UTF-8 (a server may speak another encoding) become '?'.
 * NULL gives null, which the getters below treat as absent. New reference. */
json_t *json_string_lossy(const char *text);

/* Optional fields: the given default when absent. */
const char *json_get_string(const json_t *object, const char *key, const char *absent);
int64_t json_get_int(const json_t *object, const char *key, int64_t absent);
double json_get_real(const json_t *object, const char *key, double absent);
bool json_get_bool(const json_t *object, const char *key, bool absent);
/* NULL when absent or not an array. Borrowed. */
const json_t *json_get_array(const json_t *object, const char *key);
const json_t *json_get_object(const json_t *object, const char *key);
