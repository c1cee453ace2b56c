/*
 * Messages over a socketpair: 4 bytes of length (big endian), then {"type": NAME, "body": {...}} as JSON, at most 64
 * MB.
 *
 * wire_send() and wire_post() may be called from any thread (one lock per Wire). A message that was begun is always
 * sent to its end before another. wire_receive() belongs to one thread. The peer's end of file is a WIRE_CLOSED result,
 * not an error. Anything malformed is WIRE_BAD.
 */
#pragma once

#include "common/error.h"
#include "common/json.h"
#include "common/stop.h"

typedef enum WireType {
#define X(name, direction, help) WIRE_##name,
#include "wire/messages.def"
#undef X
    WIRE_MAX_,
} WireType;

const char *wire_type_name(WireType type);

typedef struct Wire Wire;

Wire *wire_new(int fd); /* owns fd from now on */
void wire_freep(Wire **wire);
int wire_fd(const Wire *wire); /* to poll for reading, beside others */

/* One message as it stands on the wire, appended to out (for peers that must not block us). Takes over `body` as
 * wire_send() does; a failure leaves out as it was. */
NODISCARD bool wire_encode(WireType type, json_t *body, Buf *out, Error *err);
/* Waits, for as long as it takes, until the socket has all of it. Takes over the reference `body` (NULL = {}), also on
 * failure. */
NODISCARD bool wire_send(Wire *wire, WireType type, json_t *body, Error *err);
/* Never waits for the peer: what the socket does not take at once is kept for the next call, or for wire_flush(). A
 * message that would wait behind more than `most` bytes is left out, which is no failure: *ret_posted (may be NULL).
 * SIZE_MAX: it is kept in any case. Takes over `body` as wire_send() does. */
NODISCARD bool wire_post(Wire *wire, WireType type, json_t *body, size_t most, bool *ret_posted, Error *err);
/* Sends what waits, as far as the socket takes it at once. *ret_pending: there is more, when the socket is writable. */
NODISCARD bool wire_flush(Wire *wire, bool *ret_pending, Error *err);

typedef enum WireResult { WIRE_MESSAGE, WIRE_CLOSED, WIRE_NOTHING, WIRE_BROKEN } WireResult;
/* One message; waits until deadline_us (0 = none; 1 = do not wait). *ret_body is a new reference. WIRE_BROKEN fills
 * err. WIRE_NOTHING: deadline or stop. */
WireResult wire_receive(Wire *wire, const Stop *stop, int64_t deadline_us, WireType *ret_type, json_t **ret_body,
                        Error *err);

/* FAILED's body from an Error (new reference), and back. */
json_t *wire_error_to_json(const Error *err);
void wire_error_from_json(const json_t *json, Error *ret_err);
