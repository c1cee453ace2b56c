/*
 * The event loop of the service: timers, descriptors, and calls from other threads, over libevent, which only this file
 * and src/http see.
 *
 * Contract
 * - A loop belongs to the thread that runs it. Only loop_post() and loop_quit() may be called from others, and only
 *   loop_quit() from a signal handler.
 * - Callbacks run on that thread, one at a time, and never wait: what takes long goes to a pool (common/taskpool.h).
 * - Timers and watches are freed before the loop. A callback may free its own timer or watch.
 */
#pragma once

#include "common/compiler.h"
#include "common/error.h"

struct event_base;

typedef struct Loop Loop;
typedef struct LoopTimer LoopTimer;
typedef struct LoopWatch LoopWatch;

typedef void (*LoopCallback)(void *context);
/* events: those of POLLIN and POLLOUT that are there; errors and hang-ups count as POLLIN. */
typedef void (*LoopFdCallback)(void *context, int fd, short events);

NODISCARD bool loop_new(Loop **ret_loop, Error *err);
void loop_freep(Loop **loop);

/* Until loop_quit(); one that came before counts. */
NODISCARD bool loop_run(Loop *loop, Error *err);
/* Handles what is ready, without waiting. */
void loop_step(Loop *loop);
void loop_quit(Loop *loop);

/* Has callback(context) run on the loop's thread, in the order of the calls. Not after loop_freep() began. */
void loop_post(Loop *loop, LoopCallback callback, void *context);
/* Runs now what was posted so far: for whoever frees what posted calls point to. On the loop's thread. */
void loop_run_posted(Loop *loop);

/* Every `us`, the first time after `us`. */
RETURNS_NONNULL LoopTimer *loop_every(Loop *loop, int64_t us, LoopCallback callback, void *context);
/* Once; the timer is freed by its owner all the same. */
RETURNS_NONNULL LoopTimer *loop_after(Loop *loop, int64_t us, LoopCallback callback, void *context);
void loop_timer_freep(LoopTimer **timer);

/* As long as fd has one of `events` (POLLIN, POLLOUT) the callback is called. fd stays the caller's and is closed after
 * the watch is freed. */
RETURNS_NONNULL LoopWatch *loop_watch(Loop *loop, int fd, short events, LoopFdCallback callback, void *context);
void loop_watch_freep(LoopWatch **watch);

/* For src/http alone, which has libevent do its sockets. */
struct event_base *loop_base(Loop *loop);
