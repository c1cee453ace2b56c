/*
 * A stream of server-sent events (text/event-stream).
 *
 * Contract
 * - A handler begins a stream instead of a body, keeps the handle beyond its return, and releases it once.
 * - Sending is for any thread, one event a call, in the order of the calls. It never waits: what the peer has not taken
 *   is kept up to the limit stream_bytes. Beyond it the stream is closed; the client comes again with the id of the
 * last event it saw (request->last_event_id).
 * - on_closed is called once, on the loop's thread, whatever ended the stream; no lock of the stream is held. It must
 *   not wait. It may come before the handler has returned.
 * - Between events the server sends comments, so that proxies and peers that are gone are noticed.
 */
#pragma once

#include "http/message.h"

typedef enum HttpStreamEnd {
    HTTP_STREAM_GONE,    /* the client went away, or took nothing for too long */
    HTTP_STREAM_SLOW,    /* more was sent than the client took */
    HTTP_STREAM_ENDED,   /* http_stream_end(), or the request was a HEAD */
    HTTP_STREAM_STOPPED, /* the server stops, or has too many streams already */
} HttpStreamEnd;

typedef void (*HttpStreamClosed)(void *context, HttpStreamEnd why);

/* Makes the response a stream, with its own type and without a body. */
RETURNS_NONNULL HttpStream *http_response_stream(HttpResponse *response, HttpStreamClosed on_closed, void *context);
/* id and event may be NULL and are cut at a line break; data may have several lines. False when the stream is closed.
 */
bool http_stream_send(HttpStream *stream, const char *id, const char *event, const char *data);
/* The response ends behind what was sent. */
void http_stream_end(HttpStream *stream);
bool http_stream_closed(HttpStream *stream);
/* Gives the handle back; ends the stream if it has not ended. on_closed may still come. */
void http_stream_releasep(HttpStream **stream);
