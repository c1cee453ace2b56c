/*
 * Messages over a socketpair: 4 bytes of length (big endian), then JSON.
 *
 * What has come of a message is kept in the Wire between calls, so that a deadline may fall into the middle of one. A
 * stream that broke stays broken: what made it so is left at the front of the buffer, and each further call fails
 * alike.
 *
 * What goes out passes through a queue of whole messages, of which the first may be partly sent; each send takes from
 * its front what the socket accepts, so that messages stay whole and in order whoever sends. Nobody waits for the peer
 * under the lock: wire_post() does not wait at all, since the threads of a worker may hold locks on the source, and the
 * peer may be a terminal that nobody reads.
 */
#include "wire/wire.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/fd.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

enum { HEADER_LEN = 4, READ_STEP = 64 * 1024, COMPACT_MIN = 1024 * 1024 };
#define MESSAGE_MAX ((size_t)64 * 1024 * 1024)
#define QUEUE_MAX (4 * (HEADER_LEN + MESSAGE_MAX))

static const char *const type_names[] = {
#define X(name, direction, help) #name,
#include "wire/messages.def"
#undef X
};

struct Wire {
    Arena *arena; /* holds this struct */
    int fd;
    Buf received; /* not yet handed out */
    pthread_mutex_t send_lock;
    /* Under the lock: */
    Buf queue;
    size_t done;           /* bytes at the front of the queue that are sent */
    uint64_t posted, sent; /* bytes, since the beginning */
};

const char *wire_type_name(WireType type) {
    return (unsigned)type < WIRE_MAX_ ? type_names[type] : "UNKNOWN";
}

static WireType type_from_name(const char *name) {
    unsigned type = 0;
    while (type < WIRE_MAX_ && strcmp(type_names[type], name) != 0)
        type++;
    return (WireType)type;
}

Wire *wire_new(int fd) {
    Arena *arena = arena_new();
    Wire *wire = arena_new_of(arena, Wire);
    wire->arena = arena;
    wire->fd = fd;
    pthread_mutex_init(&wire->send_lock, NULL);
    buf_init(&wire->received, HEADER_LEN + MESSAGE_MAX);
    buf_init(&wire->queue, QUEUE_MAX);
    return wire;
}

void wire_freep(Wire **wire) {
    if (*wire == NULL)
        return;
    fd_close(&(*wire)->fd);
    pthread_mutex_destroy(&(*wire)->send_lock);
    buf_fini(&(*wire)->received);
    buf_fini(&(*wire)->queue);
    arena_free((*wire)->arena);
    *wire = NULL;
}

int wire_fd(const Wire *wire) {
    return wire->fd;
}

/* --- send --- */

static void put_length(char *header, size_t len) {
    for (int i = 0; i < HEADER_LEN; i++)
        header[i] = (char)(unsigned char)(len >> (8 * (HEADER_LEN - 1 - i)));
}

bool wire_encode(WireType type, json_t *body, Buf *out, Error *err) {
    CLEANUP(json_freep) json_t *message = json_object();
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, HEADER_LEN + MESSAGE_MAX);
    if (body == NULL)
        body = json_object();
    json_object_set_new(message, "type", json_string(wire_type_name(type)));
    json_object_set_new(message, "body", body);
    if (!json_is_object(body))
        return error_set(err, REASON_WIRE_BAD, "the body of message %s is no object", wire_type_name(type));
    buf_append(&text, "\0\0\0\0", HEADER_LEN);
    json_print(message, 0, &text);
    if (!buf_ok(&text, "message", err))
        return false;
    put_length(text.data, text.len - HEADER_LEN);
    buf_append(out, text.data, text.len);
    return buf_ok(out, "messages waiting to be sent", err);
}

/* Now and then, so that not every send moves what is left. */
static void drop_sent(Wire *wire) {
    if (wire->done == wire->queue.len)
        buf_clear(&wire->queue);
    else if (wire->done >= COMPACT_MIN && wire->done >= wire->queue.len / 2)
        buf_consume(&wire->queue, wire->done);
    else
        return;
    wire->done = 0;
}

/* What the socket takes at once. MSG_NOSIGNAL: a peer that died is an error of this call, not the end of our process.
 */
static bool send_some(Wire *wire, Error *err) {
    bool ok = true, full = false;

    while (ok && !full && wire->done < wire->queue.len) {
        ssize_t sent =
            send(wire->fd, wire->queue.data + wire->done, wire->queue.len - wire->done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            wire->done += (size_t)sent;
            wire->sent += (uint64_t)sent;
        } else if (errno == EAGAIN) {
            full = true;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            ok = error_set(err, REASON_WORKER_LOST, "the process at the other end of the wire has ended");
        } else if (errno != EINTR) {
            ok = error_errno(err, REASON_SYSTEM, "cannot send a message");
        }
    }
    drop_sent(wire);
    return ok;
}

static bool append(Wire *wire, const Buf *message, Error *err) {
    if (wire->queue.max - wire->queue.len < message->len)
        return error_set(err, REASON_SYSTEM, "messages that nobody reads are larger than %zu bytes", wire->queue.max);
    buf_append(&wire->queue, message->data, message->len);
    wire->posted += message->len;
    return true;
}

/* *ret_end: how many bytes are sent when this message is; 0 = it was left out. */
static bool post(Wire *wire, WireType type, json_t *body, size_t most, uint64_t *ret_end, Error *err) {
    CLEANUP(buf_fini) Buf message;

    *ret_end = 0;
    buf_init(&message, HEADER_LEN + MESSAGE_MAX);
    if (!wire_encode(type, body, &message, err))
        return false;
    pthread_mutex_lock(&wire->send_lock);
    bool ok = send_some(wire, err);
    if (ok && wire->posted - wire->sent <= most) {
        ok = append(wire, &message, err);
        *ret_end = wire->posted;
        ok = ok && send_some(wire, err);
    }
    pthread_mutex_unlock(&wire->send_lock);
    return ok;
}

bool wire_post(Wire *wire, WireType type, json_t *body, size_t most, bool *ret_posted, Error *err) {
    uint64_t end = 0;
    bool ok = post(wire, type, body, most, &end, err);

    if (ret_posted != NULL)
        *ret_posted = ok && end > 0;
    return ok;
}

static bool flush(Wire *wire, uint64_t *ret_sent, bool *ret_pending, Error *err) {
    pthread_mutex_lock(&wire->send_lock);
    bool ok = send_some(wire, err);
    *ret_sent = wire->sent;
    *ret_pending = wire->posted > wire->sent;
    pthread_mutex_unlock(&wire->send_lock);
    return ok;
}

bool wire_flush(Wire *wire, bool *ret_pending, Error *err) {
    uint64_t sent = 0;

    return flush(wire, &sent, ret_pending, err);
}

bool wire_send(Wire *wire, WireType type, json_t *body, Error *err) {
    uint64_t end = 0, sent = 0;
    bool pending = false;
    bool ok = post(wire, type, body, SIZE_MAX, &end, err) && flush(wire, &sent, &pending, err);

    while (ok && sent < end) {
        (void)poll(&(struct pollfd){.fd = wire->fd, .events = POLLOUT}, 1, -1);
        ok = flush(wire, &sent, &pending, err);
    }
    return ok;
}

/* --- receive --- */

static size_t get_length(const char *header) {
    size_t len = 0;
    for (int i = 0; i < HEADER_LEN; i++)
        len = len << 8 | (unsigned char)header[i];
    return len;
}

static bool decode(const char *text, size_t len, WireType *ret_type, json_t **ret_body, Error *err) {
    CLEANUP(json_freep) json_t *message = NULL;
    if (!json_parse(text, len, &message, err)) {
        err->reason = REASON_WIRE_BAD;
        return error_wrap(err, "message on the wire");
    }
    const char *name = json_get_string(message, "type", "");
    WireType type = type_from_name(name);
    if (type == WIRE_MAX_)
        return error_set(err, REASON_WIRE_BAD, "message of unknown type \"%.40s\" on the wire", name);
    json_t *body = json_object_get(message, "body");
    if (!json_is_object(body))
        return error_set(err, REASON_WIRE_BAD, "message %s on the wire has no body", name);
    *ret_type = type;
    *ret_body = json_incref(body);
    return true;
}

/* The first message of the buffer, if all of it is there. */
static WireResult take_message(Wire *wire, WireType *ret_type, json_t **ret_body, Error *err) {
    Buf *received = &wire->received;
    if (received->len < HEADER_LEN)
        return WIRE_NOTHING;
    size_t len = get_length(received->data);
    if (len == 0 || len > MESSAGE_MAX) {
        error_set(err, REASON_WIRE_BAD, "message of %zu bytes on the wire", len);
        return WIRE_BROKEN;
    }
    if (received->len < HEADER_LEN + len)
        return WIRE_NOTHING;
    if (!decode(received->data + HEADER_LEN, len, ret_type, ret_body, err))
        return WIRE_BROKEN;
    buf_consume(received, HEADER_LEN + len);
    return WIRE_MESSAGE;
}

/* WIRE_NOTHING: go on. */
static WireResult read_some(Wire *wire, Error *err) {
    char step[READ_STEP];
    /* At most one whole message is held: take_message() ran before, so that there is room. */
    size_t room = MIN(sizeof(step), wire->received.max - wire->received.len);
    ssize_t got = recv(wire->fd, step, room, MSG_DONTWAIT);
    if (got > 0) {
        buf_append(&wire->received, step, (size_t)got);
        return WIRE_NOTHING;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return WIRE_NOTHING; /* uncovered: poll(2) said readable and it was not */
    /* A peer that ended with messages of ours unread is a reset here. */
    if (got < 0 && errno != ECONNRESET) {
        error_errno(err, REASON_SYSTEM, "cannot read from the wire");
        return WIRE_BROKEN;
    }
    if (wire->received.len == 0)
        return WIRE_CLOSED;
    error_set(err, REASON_WIRE_BAD, "the wire ended inside a message");
    return WIRE_BROKEN;
}

WireResult wire_receive(Wire *wire, const Stop *stop, int64_t deadline_us, WireType *ret_type, json_t **ret_body,
                        Error *err) {
    for (;;) {
        WireResult result = take_message(wire, ret_type, ret_body, err);
        if (result != WIRE_NOTHING)
            return result;
        if (stop_wait_fd(stop, wire->fd, POLLIN, deadline_us) != WAIT_READY)
            return WIRE_NOTHING;
        result = read_some(wire, err);
        if (result != WIRE_NOTHING)
            return result;
    }
}

/* --- errors on the wire --- */

json_t *wire_error_to_json(const Error *err) {
    json_t *body = json_object();
    json_object_set_new(body, "reason", json_string(error_reason_name(err->reason)));
    json_object_set_new(body, "message", json_string_lossy(err->message));
    json_object_set_new(body, "remedy", json_string_lossy(err->remedy));
    json_object_set_new(body, "sqlstate", json_string_lossy(err->sqlstate));
    json_object_set_new(body, "retryable", json_boolean(err->retryable));
    return body;
}

void wire_error_from_json(const json_t *json, Error *ret_err) {
    ErrorReason reason = error_reason_from_name(json_get_string(json, "reason", ""));
    error_set(ret_err, reason == REASON_MAX_ ? REASON_INTERNAL : reason, "%s",
              json_get_string(json, "message", "the worker failed without saying why"));
    error_remedy(ret_err, "%s", json_get_string(json, "remedy", ret_err->remedy));
    const char *sqlstate = json_get_string(json, "sqlstate", "");
    if (strlen(sqlstate) == sizeof(ret_err->sqlstate) - 1)
        memcpy(ret_err->sqlstate, sqlstate, sizeof(ret_err->sqlstate));
    ret_err->retryable = json_get_bool(json, "retryable", ret_err->retryable);
}
