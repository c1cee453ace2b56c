/* Where a service is, as people write it. */
#pragma once

#include "common/arena.h"
#include "common/error.h"

typedef struct Address {
    const char *url;    /* "http://127.0.0.1:8432": scheme, host, port, perhaps a path; no slash at the end */
    const char *socket; /* path of a unix socket, NULL = TCP */
    bool is_tls;
    bool is_local; /* a socket, or a loopback address: nobody between us and it can read along */
} Address;

/*
 * http://HOST:PORT, https://HOST:PORT, each with a path if a proxy has put it below one; unix:/PATH or /PATH; HOST:PORT
 * alone, which is https unless it is of the loopback interface. USAGE. What is wrong is not shown when it may hold a
 * password.
 */
NODISCARD bool address_parse(Arena *arena, const char *text, Address *ret_address, Error *err);
