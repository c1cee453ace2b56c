/* What the checks of a session found, as the API's error details show it. */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"

enum { FINDINGS_DETAILS_MAX = 200 };

/* Appends a MigrationJobVerificationError for each finding of `said` (status.json) that is an error, as long as there
 * are fewer than FINDINGS_DETAILS_MAX. database "" = of the instance. *ret_errors counts all of them. */
NODISCARD bool findings_add_details(Arena *arena, const char *database, const json_t *said, json_t *details,
                                    size_t *ret_errors, Error *err);
