/*
 * Cancel requests with a deadline.
 *
 * libpq 15 has only PQcancel, which blocks in connect and read until TCP gives up: minutes on a network that is cut. So
 * it runs in a thread of its own. When that takes too long it is left behind: it holds nothing but its own request, and
 * ends when TCP does, or with the process.
 */
#include "common/clock.h"
#include "pg/conn_internal.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CANCEL_PATIENCE_US (3 * USEC_PER_SEC)

typedef enum CancelState { CANCEL_RUNNING, CANCEL_DONE, CANCEL_ABANDONED } CancelState;

typedef struct CancelJob {
    PGcancel *cancel;
    int done_fd;
    bool sent;
    atomic_int state; /* CancelState; whoever finds the other gone frees the job */
} CancelJob;

static void job_free(CancelJob *job) {
    PQfreeCancel(job->cancel);
    (void)close(job->done_fd);
    free(job);
}

static void *cancel_thread(void *argument) {
    CancelJob *job = argument;
    char message[256];

    job->sent = PQcancel(job->cancel, message, sizeof(message)) != 0;
    (void)eventfd_write(job->done_fd, 1);
    if (atomic_exchange(&job->state, CANCEL_DONE) == CANCEL_ABANDONED)
        job_free(job);
    return NULL;
}

bool cancel_send(PGcancel *cancel) {
    CancelJob *job = cancel == NULL ? NULL : malloc(sizeof(*job));
    pthread_t thread;

    if (job == NULL) {
        PQfreeCancel(cancel);
        return false;
    }
    *job = (CancelJob){.cancel = cancel, .done_fd = eventfd(0, EFD_CLOEXEC)};
    atomic_init(&job->state, CANCEL_RUNNING);
    if (job->done_fd < 0 || pthread_create(&thread, NULL, cancel_thread, job) != 0) {
        job_free(job);
        return false;
    }
    if (stop_wait_fd(NULL, job->done_fd, POLLIN, clock_now_us() + CANCEL_PATIENCE_US) != WAIT_READY &&
        atomic_exchange(&job->state, CANCEL_ABANDONED) == CANCEL_RUNNING) {
        (void)pthread_detach(thread);
        return false;
    }
    (void)pthread_join(thread, NULL);
    bool sent = job->sent;
    job_free(job);
    return sent;
}
