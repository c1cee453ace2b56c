/* The response while a handler fills it in, and its bytes. */
#pragma once

#include "common/buf.h"
#include "common/loop.h"
#include "common/vec.h"
#include "http/stream.h"

struct HttpResponse {
    Arena *arena;
    Loop *loop; /* of a stream */
    int status;
    VEC(HttpField) headers;
    const char *type; /* NULL: none */
    const void *body;
    size_t body_len;
    HttpStream *stream;  /* instead of a body; one reference */
    size_t stream_bytes; /* its limit */
    bool broken;         /* the handler said what cannot be said */
};

void response_init(HttpResponse *response, Arena *arena, Loop *loop, size_t stream_bytes);

typedef enum ResponseConnection { RESPONSE_KEEP, RESPONSE_KEEP_1_0, RESPONSE_CLOSE } ResponseConnection;

/* Status line and headers, with the empty line; date: an HTTP date. A stream has no length and is not kept. */
void response_print_head(const HttpResponse *response, ResponseConnection connection, const char *date, Buf *out);
/* May this status have a body? */
bool response_has_body(const HttpResponse *response);
/* "Sun, 06 Nov 1994 08:49:37 GMT"; size: at least 30. */
void response_date(int64_t wall_us, char *ret_text, size_t size);
