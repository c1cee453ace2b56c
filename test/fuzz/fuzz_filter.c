/*
 * Any text as a filter, and as an order: parsed or refused with a place, and whatever was parsed can be asked.
 *
 * Where NOT is put before it all, the answer is the other one.
 */
#include "model/filter.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_order(Arena *arena, const char *text, const json_t *resource) {
    OrderBy order[ORDER_MAX];
    Error err;
    int count = order_by_parse(arena, text, order, &err);

    if (count > ORDER_MAX || (count >= 0 && order_by_compare(order, count, resource, resource) != 0))
        __builtin_trap();
}

static void check_filter(Arena *arena, const char *text, const json_t *resource) {
    const Filter *filter = NULL, *negated = NULL;
    Error err;

    if (!filter_parse(arena, text, &filter, &err)) {
        if (err.reason != REASON_USAGE || err.message[0] == '\0')
            __builtin_trap();
        return;
    }
    bool is_match = filter_matches(filter, resource);
    const char *not_text = arena_printf(arena, "NOT (%s)", text);
    if (filter != NULL && filter_parse(arena, not_text, &negated, &err) &&
        filter_matches(negated, resource) == is_match)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep)
    json_t *resource =
        json_pack("{s:s, s:{s:s}, s:[s,i], s:b, s:i, s:n, s:s}", "state", "RUNNING", "labels", "a", "b", "tags", "x", 5,
                  "done", 1, "port", 5432, "error", "createTime", "2026-11-28T12:00:00.5Z");
    const char *text = arena_strndup(arena, (const char *)data, strnlen((const char *)data, size));

    check_filter(arena, text, resource);
    check_order(arena, text, resource);
    return 0;
}
