/* Signals as readable events. */
#include "cli/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static bool open_set(const int *taken, size_t count, int *ret_fd, Error *err) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t at = 0; at < count; at++)
        sigaddset(&set, taken[at]);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "signalfd");
    sigaddset(&set, SIGPIPE);
    sigprocmask(SIG_BLOCK, &set, NULL);
    *ret_fd = fd;
    return true;
}

bool signals_open(int *ret_fd, Error *err) {
    static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
    return open_set(taken, COUNT_OF(taken), ret_fd, err);
}

bool signals_open_stops(int *ret_fd, Error *err) {
    static const int taken[] = {SIGINT, SIGTERM, SIGHUP};
    return open_set(taken, COUNT_OF(taken), ret_fd, err);
}

int signals_next(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}

bool signal_is_stop(int number) {
    return number == SIGINT || number == SIGTERM || number == SIGHUP;
}
