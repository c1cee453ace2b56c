/* A stop flag that wakes every wait: an atomic plus an eventfd. */
#include "common/stop.h"

#include "common/clock.h"
#include "common/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool stop_init(Stop *stop, Error *err) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make an eventfd");
    atomic_init(&stop->requested, false);
    stop->event_fd = fd;
    return true;
}

void stop_fini(Stop *stop) {
    fd_close(&stop->event_fd);
}

/* Only write(2) and an atomic: signal handlers call this. Nobody reads the eventfd, so it stays readable; a counter at
 * its maximum (EAGAIN) is readable too. */
void stop_request(Stop *stop) {
    int saved = errno;
    atomic_store(&stop->requested, true);
    uint64_t one = 1;
    ssize_t written = write(stop->event_fd, &one, sizeof(one));
    (void)written;
    errno = saved;
}

bool stop_requested(const Stop *stop) {
    return atomic_load(&stop->requested);
}

WaitResult stop_wait_fd(const Stop *stop, int fd, short events, int64_t deadline_us) {
    struct pollfd fds[2] = {
        {.fd = fd, .events = events},
        {.fd = stop == NULL ? -1 : stop->event_fd, .events = POLLIN}, /* poll(2) leaves out negative ones */
    };
    for (;;) {
        if (stop != NULL && stop_requested(stop))
            return WAIT_STOPPED;
        int timeout = clock_poll_timeout(deadline_us);
        int ready = poll(fds, 2, timeout);
        if (ready > 0 && fds[1].revents != 0)
            return WAIT_STOPPED;
        if (ready > 0) /* errors and hang-ups too: the caller's own call on fd tells which */
            return WAIT_READY;
        if (ready == 0 && timeout == 0)
            return WAIT_TIMEOUT;
        /* Interrupted, or the timeout was a little early: the clock decides. */
    }
}
