/*
 * The `filter` and `orderBy` of list calls (google.aip.dev/160 and /132), over resources as JSON.
 *
 * Contract
 * - Pure. A parsed filter is of the arena it was given, and may be read by several threads.
 * - Grammar: restrictions such as `state = RUNNING`, `labels.team:db`, `createTime > "2026-11-01T00:00:00Z"`,
 *   `displayName = "ord*"`, joined by AND, OR (OR binds closer, as AIP-160 has it), a blank for AND, NOT or `-` in
 * front, parentheses. Operators: = != < <= > >= and `:` (has: a field is there, a list or text contains it, a map has
 * the key).
 * - Numbers compare as numbers, times as times, everything else as text; a missing field is equal to nothing, and
 *   `NOT a = b` and `a != b` are true of it.
 * - Bounded: FILTER_TEXT_MAX bytes, FILTER_DEPTH_MAX levels, so that no client's text costs more than a list does.
 */
#pragma once

#include "common/json.h"

enum { FILTER_TEXT_MAX = 4096, FILTER_DEPTH_MAX = 32 };

typedef struct Filter Filter;

/* "" gives NULL, which everything matches. Fails with USAGE, and says where. */
NODISCARD bool filter_parse(Arena *arena, const char *text, const Filter **ret_filter, Error *err);
bool filter_matches(const Filter *filter, const json_t *resource);

typedef struct OrderBy {
    const char *field; /* a path in lowerCamelCase */
    bool descending;
} OrderBy;

enum { ORDER_MAX = 8 };

/* "createTime desc, name"; "" gives none. Returns how many, or -1 (USAGE). */
NODISCARD int order_by_parse(Arena *arena, const char *text, OrderBy ret_order[ORDER_MAX], Error *err);
/* < 0, 0, > 0, by the first field that differs. */
int order_by_compare(const OrderBy *order, int count, const json_t *a, const json_t *b);
