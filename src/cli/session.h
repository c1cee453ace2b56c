/*
 * One run of a worker, as the command line sees it: started, listened to, stopped, reaped.
 *
 * Not thread-safe; one per process, because it takes over the signals (SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT).
 */
#pragma once

#include "model/options.h"

typedef struct SessionInput {
    const MigrateOptions *options;
    const char *resume_command; /* what to type to go on, without secrets */
} SessionInput;

/* Returns the exit code. Everything there is to say has been said. */
int session_run(const SessionInput *input);
