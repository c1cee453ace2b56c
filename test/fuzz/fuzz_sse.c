/*
 * Any bytes as a stream of events: in one piece and byte by byte, the same events come out.
 */
#include "client/sse.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEEN_MAX = 16 * 1024 * 1024 };

static bool take(void *context, const SseEvent *event, Error *err) {
    Buf *seen = context;

    buf_printf(seen, "%s\n%s\n%s\n;", event->id, event->type, event->data);
    return buf_ok(seen, "what was seen", err);
}

static bool feed(const uint8_t *data, size_t size, size_t step, Buf *seen) {
    CLEANUP(sse_fini) SseParser parser = {0};
    bool good = true;
    Error err;

    sse_init(&parser, take, seen);
    for (size_t at = 0; good && at < size; at += step)
        good = sse_feed(&parser, (const char *)data + at, MIN(step, size - at), &err);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(buf_fini) Buf whole;
    CLEANUP(buf_fini) Buf pieces;

    buf_init(&whole, SEEN_MAX);
    buf_init(&pieces, SEEN_MAX);
    bool good = feed(data, size, size > 0 ? size : 1, &whole);
    if (feed(data, size, 1, &pieces) != good || (good && strcmp(whole.data, pieces.data) != 0))
        __builtin_trap();
    return 0;
}
