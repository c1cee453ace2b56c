/* Connection strings without what is secret in them, to be kept in a file. */
#pragma once

#include "common/arena.h"
#include "common/error.h"

/* The same connection as key=value pairs, without passwords; *ret_struck: there was one. What environment, service
 * file and .pgpass say is not looked at. Fails with BAD_CONNINFO. */
NODISCARD bool db_strip_secrets(Arena *arena, const char *conninfo, const char **ret_conninfo, bool *ret_struck,
                                Error *err);
