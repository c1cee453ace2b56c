/*
 * A terminal beside a migration: speaks to the process that runs it (control.h is the other end).
 */
#pragma once

#include "cli/promoted.h"
#include "wire/wire.h"

typedef struct ClientInput {
    Wire *wire;
    WireType request;   /* PROMOTE or STOP */
    const json_t *body; /* of it; borrowed */
    bool json, quiet;   /* what is shown meanwhile */
} ClientInput;

typedef struct ClientResult {
    bool has_promoted;
    Promoted promoted;
    bool done;       /* the run came to its end */
    bool has_failed; /* the run failed, or the request was refused */
    Error error;
    bool is_promoted, unproven; /* says the report */
} ClientResult;

/*
 * Sends the request and listens: for PROMOTE until it is refused, undone, a dry run is over or the run has ended; for
 * STOP until the run has ended. A first Ctrl-C calls a promote off, a second one leaves it to itself (CANCELLED), as
 * the first one does with STOP.
 */
NODISCARD bool client_run(Arena *arena, const ClientInput *input, ClientResult *ret_result, Error *err);
