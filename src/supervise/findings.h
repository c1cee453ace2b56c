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

/* Appends each finding of `said` as metadata of the operation shows it, at most FINDINGS_SHOWN_MAX in all: as
 * findings_to_json(), with "database" ("" = the instance), "mendable", and "serverWide" (the fix is). *left_out is
 * added what had no room. */
enum { FINDINGS_SHOWN_MAX = 400, FINDINGS_TEXT_MAX = 8000 };
NODISCARD bool findings_add_shown(Arena *arena, const char *database, const json_t *said, json_t *shown,
                                  int64_t *left_out, Error *err);
