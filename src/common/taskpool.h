/*
 * A fixed number of threads that work off one bounded queue: for calls that may take long or wait.
 *
 * taskpool_submit() may be called from any thread. What was submitted runs once, in the order of the calls as far as
 * threads are free. The threads take no signals.
 */
#pragma once

#include "common/compiler.h"
#include "common/error.h"

typedef struct TaskPool TaskPool;
typedef void (*TaskCallback)(void *context);

/* `name` is that of the threads in the log, with a number behind. At most queue_max calls wait. */
NODISCARD bool taskpool_new(const char *name, size_t threads, size_t queue_max, TaskPool **ret_pool, Error *err);
/* Runs what waits, then ends the threads and waits for them. */
void taskpool_freep(TaskPool **pool);
/* False when the queue is full: nothing will run. */
NODISCARD bool taskpool_submit(TaskPool *pool, TaskCallback callback, void *context);
size_t taskpool_waiting(TaskPool *pool); /* calls that no thread has taken yet */
