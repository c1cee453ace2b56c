/*
 * Server-sent events (text/event-stream), read from bytes as they come.
 *
 * Contract
 * - sse_init, then sse_fini once (or CLEANUP). A line, and the data of an event, have a ceiling: beyond it SYSTEM.
 * - An event is handed out at its empty line; its texts are valid during the call only. Comments and events without
 *   data are not handed out.
 * - last_id is that of the newest event that had one, "" at first: what a client that comes again has seen.
 */
#pragma once

#include "common/buf.h"
#include "common/error.h"

typedef struct SseEvent {
    const char *id, *type, *data; /* type "" = "message" */
} SseEvent;

/* False ends the reading, with its error. */
typedef bool (*SseTaker)(void *context, const SseEvent *event, Error *err);

typedef struct SseParser {
    Buf line, type, data, last_id;
    bool has_data;
    bool after_cr;   /* a line end "\r\n" may come in two pieces */
    bool first_line; /* may begin with a byte order mark */
    SseTaker taker;
    void *context;
} SseParser;

void sse_init(SseParser *parser, SseTaker taker, void *context);
void sse_fini(SseParser *parser);
/* A stream that begins anew: what was not whole is dropped, last_id stays. */
void sse_restart(SseParser *parser);
NODISCARD bool sse_feed(SseParser *parser, const char *bytes, size_t len, Error *err);
