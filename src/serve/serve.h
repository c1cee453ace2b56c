/*
 * The daemon: store, API and HTTP server on one event loop, until a signal ends it.
 *
 * Contract
 * - serve_run() blocks SIGTERM, SIGINT and SIGHUP for the process and ignores SIGPIPE and SIGXFSZ; it is called once,
 *   from the only thread. It returns when the first of those signals has come and what was under way is done, 10 s
 *   later at most; a second signal ends it at once.
 * - systemd is told READY=1 and STOPPING=1 (NOTIFY_SOCKET).
 * - An address that is not loopback is refused: there is nothing yet that asks who comes from elsewhere.
 */
#pragma once

#include "common/error.h"

typedef struct ServeConfig {
    const char *listen; /* HOST:PORT, [IPV6]:PORT, or the path of a unix socket. Port 0: a free one */
    const char *store; /* "sqlite" or NULL: store.db in state_dir; "sqlite:FILE"; or the URI of a PostgreSQL database */
    const char *state_dir; /* is there, and absolute */
} ServeConfig;

NODISCARD bool serve_run(const ServeConfig *config, Error *err);
