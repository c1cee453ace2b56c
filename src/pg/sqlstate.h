/* From SQLSTATE to reason and whether trying again may help: one table, exact codes before classes. */
#pragma once

#include "common/error.h"

typedef struct SqlstateInfo {
    ErrorReason reason;
    bool retryable;
} SqlstateInfo;

/* "" or unknown gives SQL_FAILED, not retryable. */
SqlstateInfo sqlstate_info(const char *sqlstate);
/* Bytes that are no text in the server's encoding, or a character that it does not have. */
bool sqlstate_is_encoding(const char *sqlstate);
/* Did the server not find what a function names without its schema? (All names in our own statements have one.) */
bool sqlstate_is_unqualified(const char *sqlstate, const char *message);
#define SQLSTATE_UNQUALIFIED_REMEDY                                                                                    \
    "a function that a CHECK, a generated column, an index or a domain of the table calls names something without its" \
    " schema, and pgcrane works with an empty search_path: ALTER FUNCTION ... SET search_path = ... (the schemas it"   \
    " needs) on both sides, then run the same command again"
