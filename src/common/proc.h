/*
 * Child processes: always exec'd (posix_spawn), never a bare fork; all descriptors but the named ones closed.
 *
 * No secret ever goes into argv. A ProcSpec's strings stay the caller's. Not thread-bound.
 */
#pragma once

#include "common/arena.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/stop.h"

#include <sys/types.h>

typedef struct ProcSpec {
    const char *const *argv;      /* NULL-terminated, argv[0] is the path of the program */
    const char *const *extra_env; /* NULL or NULL-terminated "NAME=value", added to (or replacing in) our environment */
    int stdin_fd;                 /* 0 or less = /dev/null */
    int stdout_fd;                /* 0 or less = /dev/null */
    int stderr_fd;                /* 0 or less = inherit */
    int fd3;                      /* 0 or less = none; else what the child sees as descriptor 3 */
    bool new_session; /* setsid: survives the death of our process group; proc_wait() ends its children, too */
    bool tied;        /* killed by the system as soon as the thread that spawns it is gone, however that ended */
    const char *user; /* NULL = ourselves; else it runs as that one, with its groups and umask 077: for root only */
} ProcSpec;

NODISCARD bool proc_spawn(const ProcSpec *spec, pid_t *ret_pid, Error *err);
/* Waits for the child's end; on stop or deadline (0 = none) it is sent SIGTERM, SIGKILL 3 s later, and the call fails
 * with CANCELLED or TIMED_OUT. *ret_status is as from waitpid(2). */
NODISCARD bool proc_wait(pid_t pid, const Stop *stop, int64_t deadline_us, int *ret_status, Error *err);
/* Spawns (stdout_fd as given; stderr captured, last 8 kB kept), waits; a status other than 0 is CLIENT_FAILED with what
 * the program said on stderr. */
NODISCARD bool proc_run(const ProcSpec *spec, const Stop *stop, Error *err);
/* As proc_run, with standard output captured into `out` (its ceiling applies). */
NODISCARD bool proc_capture(const ProcSpec *spec, const Stop *stop, Buf *out, Error *err);
/* Path of this executable, for people who look at the list of processes; /proc/self/exe itself, for proc_spawn(), when
 * there is none any more. */
NODISCARD bool proc_self_path(Arena *arena, const char **ret_path, Error *err);

/* The internal command that starts what is tied or runs as somebody else: pgcrane tied PARENT|0 USER|- PROGRAM
 * ARGUMENT... Only main() calls it. */
int proc_tied_main(int argc, char **argv);
