/* Any bytes from a peer: the wire gives messages or says what is wrong, and never more than what was sent. */
#include "common/fd.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a message of a worker goes through next. */
static void use(WireType type, const json_t *body) {
    if (type == WIRE_FAILED) {
        Error told;
        wire_error_from_json(body, &told);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { SOCKET_HOLDS = 64 * 1024 }; /* one thread: all of it has to fit before it is read */
    int ends[2];
    if (size > SOCKET_HOLDS || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 0;
    Wire *wire = wire_new(ends[0]);
    size_t sent = 0, messages = 0;
    Error err;
    /* In two parts, so that a message is met cut in half. */
    for (size_t part = 0; part < 2; part++) {
        size_t len = part == 0 ? size / 2 : size - sent;
        if (!fd_write_all(ends[1], data + sent, len, &err))
            abort();
        sent += len;
        if (part == 1)
            fd_close(&ends[1]);
        WireType type;
        json_t *body = NULL;
        while (wire_receive(wire, NULL, 1, &type, &body, &err) == WIRE_MESSAGE) {
            use(type, body);
            json_freep(&body);
            messages++;
        }
    }
    if (messages > size / 5)
        abort();
    wire_freep(&wire);
    return 0;
}
