/*
 * What stands between a resource as it is and as it is wanted. Pure.
 *
 * Only what is wanted is looked at: a field that the file does not name stays as it is. A secret cannot be compared,
 * since nobody is shown one: it counts as it should be when there is one, unless secrets are to be set again.
 */
#pragma once

#include "common/vec.h"
#include "model/message.h"

typedef struct Difference {
    const char *path;           /* of the field, as in an update mask */
    const char *before, *after; /* for people; secrets are not shown */
    bool is_fixed;              /* cannot be changed once it was made */
} Difference;
typedef VEC(Difference) DifferenceVec;

/* `wanted` as message_read() gives it. Returns what a PATCH would send: of `wanted` what differs. New reference, with
 * whatever secrets are in it. */
json_t *plan_compare(const Message *message, const json_t *current, const json_t *wanted, bool with_secrets,
                     Arena *arena, DifferenceVec *differences);
/* "displayName,postgresql.port" */
const char *plan_mask(Arena *arena, const DifferenceVec *differences);
