/*
 * The daemon: store, API and HTTP server on one event loop, until a signal ends it.
 *
 * Contract
 * - serve_run() blocks SIGTERM, SIGINT and SIGHUP for the process and ignores SIGPIPE and SIGXFSZ; it is called once,
 *   from the only thread. It returns when the first of those signals has come and what was under way is done, 10 s
 *   later at most; a second signal ends it at once.
 * - systemd is told READY=1 and STOPPING=1 (NOTIFY_SOCKET), and WATCHDOG=1 by the loop's thread (WATCHDOG_USEC).
 * - An address that is not loopback takes a certificate and its key, and whoever asks there needs a token.
 */
#pragma once

#include "common/error.h"
#include "model/options.h"

/* The group Service of the options counts, and state_dir, which is there and absolute. */
NODISCARD bool serve_run(const MigrateOptions *options, Error *err);
