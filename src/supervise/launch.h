/*
 * Sessions as processes of their own: started, spoken to, reaped.
 *
 * Contract
 * - A session outlives the daemon that started it: it has its own process session, no terminal, its log in its folder
 *   (session.log, at most LAUNCH_LOG_MAX bytes and one older file). Whoever finds its folder can speak to it.
 * - Connection strings go over a socket that the session reads once, never over argv or the environment.
 * - Not thread-safe; one Children per supervisor.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/json.h"
#include "wire/wire.h"

#include <sys/types.h>

enum { LAUNCH_LOG_MAX = 4 * 1024 * 1024, LAUNCH_CHILDREN_MAX = 4096 };

typedef struct Children Children;

RETURNS_NONNULL Children *children_new(void);
void children_freep(Children **children); /* the processes live on */
/* Reaps those that have ended. */
void children_reap(Children *children);
/* By folder and number of the session. */
bool children_lives(const Children *children, const char *folder, int64_t run);
bool children_has_ended(const Children *children, const char *folder, int64_t run);

/* start: what cli/session_main.c reads. */
NODISCARD bool launch_session(Children *children, const char *folder, int64_t run, const json_t *start, Error *err);
/* The same for the process that makes or changes a server. start: what cli/provision_main.c reads. */
NODISCARD bool launch_provision(Children *children, const char *folder, int64_t run, const json_t *start, Error *err);
/* Sends PROMOTE or STOP (type) to the process that runs there. *ret_sent false: nobody listens (yet, or any more).
 * `body` is borrowed; NULL = {}. Never waits for the process. */
NODISCARD bool launch_ask(const char *folder, WireType type, const json_t *body, bool *ret_sent, Error *err);
/* SIGKILL for the session of that folder and all that it has started. False: the process is none of it (any more). */
bool launch_kill(const char *folder, int64_t pid);
/* Asks the process that makes or changes a server to end. False: the process is none of that folder (any more). */
bool launch_stop_provision(const char *folder, int64_t pid);
