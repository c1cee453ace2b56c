/*
 * YAML to JSON and back, over libyaml.
 *
 * Contract
 * - Values are those of JSON, found by the rules of YAML 1.2's core schema: true and false, null and ~, numbers in
 *   decimals. Everything else is text: also yes, no, on, off, dates and 0x1F, which older rules made something of.
 * - Refused, with line and column: keys that come twice or are no text, aliases (a few lines of them are gigabytes),
 *   tags other than !!str, more than one document, depth beyond 64. Text has a ceiling of 4 MB.
 * - What yaml_print() writes, yaml_parse() reads as the same.
 */
#pragma once

#include "common/json.h"

enum { YAML_TEXT_MAX = 4 * 1024 * 1024 };

/* New reference; an empty document is null. BAD_DATA. */
NODISCARD bool yaml_parse(const char *text, size_t len, json_t **ret_json, Error *err);
/* Appends a document. */
void yaml_print(const json_t *json, Buf *out);
