/*
 * A stop flag that wakes every wait: an atomic plus an eventfd.
 *
 * stop_request() is async-signal-safe and may be called from any thread, often. Each blocking wait of the program polls
 * stop_fd() beside its own descriptor.
 */
#pragma once

#include "common/compiler.h"
#include "common/error.h"

#include <stdatomic.h>

typedef struct Stop {
    atomic_bool requested;
    int event_fd; /* readable once requested, and stays so */
} Stop;

NODISCARD bool stop_init(Stop *stop, Error *err);
void stop_fini(Stop *stop);
void stop_request(Stop *stop);
bool stop_requested(const Stop *stop);

typedef enum WaitResult { WAIT_READY, WAIT_TIMEOUT, WAIT_STOPPED } WaitResult;
/* Waits until fd has one of `events` (poll(2)), the deadline passes (clock_now_us() scale, 0 = none) or stop.
 * fd may be -1: a sleep that stop ends. stop may be NULL. */
WaitResult stop_wait_fd(const Stop *stop, int fd, short events, int64_t deadline_us);
