/*
 * The target of a request: path and query, decoded so that nobody after us can read them differently.
 *
 * Pure functions. On failure *ret_why is a text for the client and nothing else was touched.
 */
#pragma once

#include "http/message.h"

/* The path up to '?', as it came. */
NODISCARD bool target_path(Arena *arena, const char *raw_path, HttpPath *ret_path, const char **ret_why);
/* What follows '?': names and values as forms send them. NULL or "" is none. */
NODISCARD bool target_query(Arena *arena, const char *raw_query, size_t params_max, HttpFields *ret_query,
                            const char **ret_why);
/* What stands in Host or behind "http://": host and perhaps port. */
bool target_authority_valid(const char *authority, size_t len);
