/*
 * Child processes: always exec'd (posix_spawn), never a bare fork; all descriptors but the named ones closed.
 *
 * What the child gets as 0 to 3 is duplicated above all of them first, in the parent: else giving one descriptor could
 * overwrite another that is still to be given. Those duplicates are O_CLOEXEC; closefrom takes care of descriptors that
 * a library opened without it.
 *
 * What is tied goes through our own program once more, since posix_spawn cannot set a parent-death signal and exec
 * keeps one: the child of the spawn sets it, sees that the parent is still the one it was started by (that one may have
 * died before the signal was set), and becomes the program. It is reached by /proc/self/exe, in the child, so that a
 * package that was upgraded meanwhile is no hindrance.
 *
 * So does what runs as another user: posix_spawn cannot change that either. The change comes before the signal, which
 * it would clear.
 */
#include "common/proc.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_FDS = 4,
    SAFE_FD = 16, /* duplicates lie at or above this */
    STDERR_KEPT = 8 * 1024,
    STDERR_HEAD = 450,          /* of it in an error: so much of the beginning ... */
    STDERR_TAIL = 350,          /* ... and so much of the end */
    READ_STEP = 8 * 1024,       /* at most STDERR_KEPT, which keeps the end of several steps */
    PIPE_LARGEST = 1024 * 1024, /* what a child can have left in a pipe when it ends */
};

#define KILL_AFTER_US (3 * USEC_PER_SEC)

/* --- spawn --- */

typedef struct SpawnPlan {
    Arena *arena;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int given[CHILD_FDS]; /* duplicates, -1 = none */
} SpawnPlan;

static void plan_fini(SpawnPlan *plan) {
    posix_spawn_file_actions_destroy(&plan->actions);
    posix_spawnattr_destroy(&plan->attr);
    for (int i = 0; i < CHILD_FDS; i++)
        fd_close(&plan->given[i]);
    arena_free(plan->arena);
}

static void plan_init(SpawnPlan *plan) {
    *plan = (SpawnPlan){.arena = arena_new(), .given = {-1, -1, -1, -1}};
    posix_spawn_file_actions_init(&plan->actions);
    posix_spawnattr_init(&plan->attr);
}

static bool plan_fds(SpawnPlan *plan, const ProcSpec *spec, Error *err) {
    const int wanted[CHILD_FDS] = {spec->stdin_fd, spec->stdout_fd, spec->stderr_fd, spec->fd3};
    for (int i = 0; i < CHILD_FDS; i++) {
        if (wanted[i] <= 0)
            continue;
        plan->given[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, SAFE_FD);
        if (plan->given[i] < 0)
            return error_errno(err, REASON_SYSTEM, "cannot give descriptor %d to %s", wanted[i], spec->argv[0]);
    }
    for (int i = 0; i < CHILD_FDS; i++) {
        if (plan->given[i] >= 0)
            posix_spawn_file_actions_adddup2(&plan->actions, plan->given[i], i);
        else if (i <= 1)
            posix_spawn_file_actions_addopen(&plan->actions, i, "/dev/null", i == 0 ? O_RDONLY : O_WRONLY, 0);
    }
    posix_spawn_file_actions_addclosefrom_np(&plan->actions, plan->given[3] >= 0 ? 4 : 3);
    return true;
}

/* The child starts with every signal unblocked and at its default: we block and ignore some, which exec would keep. */
static void plan_signals(SpawnPlan *plan, bool new_session) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&plan->attr, &none);
    posix_spawnattr_setsigdefault(&plan->attr, &all);
    int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (new_session ? POSIX_SPAWN_SETSID : 0);
    posix_spawnattr_setflags(&plan->attr, (short)flags);
}

static bool same_variable(const char *a, const char *b) {
    size_t len = strcspn(a, "=");
    return strncmp(a, b, len) == 0 && b[len] == '=';
}

static bool is_replaced(const char *variable, const char *const *extra) {
    for (; *extra != NULL; extra++) {
        if (same_variable(*extra, variable))
            return true;
    }
    return false;
}

static char **plan_environment(Arena *arena, const char *const *extra) {
    static const char *const none[] = {NULL};
    if (extra == NULL)
        extra = none;
    size_t count = 1;
    for (char **variable = environ; *variable != NULL; variable++)
        count++;
    for (const char *const *variable = extra; *variable != NULL; variable++)
        count++;
    char **result = arena_array(arena, char *, count);
    size_t used = 0;
    for (char **variable = environ; *variable != NULL; variable++) {
        if (!is_replaced(*variable, extra))
            result[used++] = *variable;
    }
    for (const char *const *variable = extra; *variable != NULL; variable++)
        result[used++] = arena_strdup(arena, *variable);
    return result;
}

enum { TIED_WORDS = 4 };

static char **plan_argv(Arena *arena, const ProcSpec *spec) {
    size_t count = 0, used = 0;
    while (spec->argv[count] != NULL)
        count++;
    char **result = arena_array(arena, char *, TIED_WORDS + count + 1);
    if (spec->tied || spec->user != NULL) {
        result[used++] = arena_strdup(arena, "/proc/self/exe");
        result[used++] = arena_strdup(arena, "tied");
        result[used++] = arena_printf(arena, "%d", spec->tied ? (int)getpid() : 0);
        result[used++] = arena_strdup(arena, spec->user != NULL ? spec->user : "-");
    }
    for (size_t i = 0; i < count; i++)
        result[used++] = arena_strdup(arena, spec->argv[i]);
    return result;
}

bool proc_spawn(const ProcSpec *spec, pid_t *ret_pid, Error *err) {
    CLEANUP(plan_fini) SpawnPlan plan;
    plan_init(&plan);
    if (!plan_fds(&plan, spec, err))
        return false;
    plan_signals(&plan, spec->new_session);
    pid_t pid;
    char **argv = plan_argv(plan.arena, spec);
    int why =
        posix_spawn(&pid, argv[0], &plan.actions, &plan.attr, argv, plan_environment(plan.arena, spec->extra_env));
    if (why != 0) {
        errno = why;
        return error_errno(err, REASON_SYSTEM, "cannot start %s", spec->argv[0]);
    }
    *ret_pid = pid;
    return true;
}

enum { NOT_STARTED = 127 }; /* as a shell has it */

static bool become(const char *user) {
    const struct passwd *entry = getpwnam(user);

    if (entry == NULL || initgroups(user, entry->pw_gid) != 0 || setgid(entry->pw_gid) != 0 ||
        setuid(entry->pw_uid) != 0)
        return false;
    umask(077);
    return true;
}

static bool tie(long parent) {
    return parent == 0 || (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && (long)getppid() == parent);
}

int proc_tied_main(int argc, char **argv) {
    if (argc < TIED_WORDS)
        return NOT_STARTED;
    if (strcmp(argv[2], "-") != 0 && !become(argv[2])) {
        (void)dprintf(STDERR_FILENO, "cannot become user %s: %s\n", argv[2], strerror(errno));
        return NOT_STARTED;
    }
    if (!tie(strtol(argv[1], NULL, 10)))
        return NOT_STARTED;
    execv(argv[3], argv + 3);
    (void)dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[3], strerror(errno));
    return NOT_STARTED;
}

/* --- wait --- */

static int open_pidfd(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0); /* is O_CLOEXEC by itself */
}

static bool reap(pid_t pid, int *ret_status, Error *err) {
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return error_errno(err, REASON_SYSTEM, "cannot wait for process %d", (int)pid);
    }
    *ret_status = status;
    return true;
}

/* Politely, then not; with its own children when it leads a session. The child is reaped in any case. */
static void end_child(pid_t pid, int pidfd) {
    Error ignored;
    int status;
    pid_t whom = getpgid(pid) == pid ? -pid : pid;
    kill(whom, SIGTERM);
    if (stop_wait_fd(NULL, pidfd, POLLIN, clock_now_us() + KILL_AFTER_US) != WAIT_READY)
        kill(whom, SIGKILL);
    (void)!reap(pid, &status, &ignored);
}

bool proc_wait(pid_t pid, const Stop *stop, int64_t deadline_us, int *ret_status, Error *err) {
    CLEANUP(fd_close) int pidfd = open_pidfd(pid);
    if (pidfd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot watch process %d", (int)pid);
    WaitResult result = stop_wait_fd(stop, pidfd, POLLIN, deadline_us);
    if (result == WAIT_READY)
        return reap(pid, ret_status, err);
    end_child(pid, pidfd);
    if (result == WAIT_STOPPED)
        return error_set(err, REASON_CANCELLED, "stopped while a program was running");
    return error_set(err, REASON_TIMED_OUT, "a program did not end in time");
}

/* --- run and capture --- */

/* One stream of the child, through a pipe. */
typedef struct Capture {
    int ours;   /* -1 = not captured, or at its end */
    int theirs; /* closed once the child has it, or no end of file would ever come */
    Buf *into;
    bool keeps_end; /* of what is too long, else the beginning */
} Capture;

static void capture_fini(Capture *capture) {
    fd_close(&capture->ours);
    fd_close(&capture->theirs);
}

static bool capture_open(Capture *capture, Error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a pipe");
    capture->ours = ends[0];
    capture->theirs = ends[1];
    return fd_set_nonblocking(capture->ours, err);
}

static void capture_keep(Capture *capture, const char *bytes, size_t len) {
    Buf *into = capture->into;
    size_t room = into->max - into->len;
    if (capture->keeps_end && len > room)
        buf_consume(into, len - room);
    buf_append(into, bytes, len); /* past the ceiling the Buf notes it; the rest is still read, and dropped */
}

/* Takes what is there now, but no more than `limit`: whoever writes without end must not keep us from seeing a stop. */
static void capture_read(Capture *capture, size_t limit) {
    char step[READ_STEP];
    for (size_t total = 0; capture->ours >= 0 && total < limit;) {
        ssize_t got = read(capture->ours, step, sizeof(step));
        if (got > 0) {
            capture_keep(capture, step, (size_t)got);
            total += (size_t)got;
        } else if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        } else {
            fd_close(&capture->ours);
        }
    }
}

/* Reads until the child has ended, not until the pipes have: a grandchild may hold them open for ever. False: stop was
 * asked for. */
static bool pump(int pidfd, const Stop *stop, Capture *out, Capture *said) {
    for (;;) {
        struct pollfd fds[] = {
            {.fd = pidfd, .events = POLLIN},
            {.fd = stop == NULL ? -1 : stop->event_fd, .events = POLLIN},
            {.fd = out->ours, .events = POLLIN},
            {.fd = said->ours, .events = POLLIN},
        };
        if (poll(fds, COUNT_OF(fds), -1) < 0)
            continue; /* interrupted by a signal */
        if (fds[1].revents != 0)
            return false;
        bool ended = fds[0].revents != 0;
        capture_read(out, ended ? PIPE_LARGEST : READ_STEP);
        capture_read(said, ended ? PIPE_LARGEST : READ_STEP);
        if (ended)
            return true;
    }
}

/* The beginning of what was said names the failure, the end says how it ended: a long text loses its middle. */
static const char *shorten(Arena *arena, const Buf *said) {
    size_t len = said->len;
    while (len > 0 && strchr(" \r\n", said->data[len - 1]) != NULL)
        len--;
    if (len <= STDERR_HEAD + STDERR_TAIL)
        return arena_strndup(arena, said->data, len);
    const char *head = arena_strndup(arena, said->data, utf8_cut(said->data, len, STDERR_HEAD));
    size_t tail = len - STDERR_TAIL;
    while (tail < len && ((unsigned char)said->data[tail] & 0xc0) == 0x80)
        tail++;
    return arena_printf(arena, "%s ... %s", head, arena_strndup(arena, said->data + tail, len - tail));
}

static bool check_status(const char *program, int status, const Buf *said, Error *err) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *text = shorten(arena, said);
    const char *colon = *text == '\0' ? "" : ": ";
    if (WIFSIGNALED(status))
        return error_set(err, REASON_CLIENT_FAILED, "%s was killed by signal %d%s%s", program, WTERMSIG(status), colon,
                         text);
    return error_set(err, REASON_CLIENT_FAILED, "%s failed with status %d%s%s", program, WEXITSTATUS(status), colon,
                     text);
}

static bool run_and_wait(const ProcSpec *spec, const Stop *stop, Capture *out, Capture *said, int *ret_status,
                         Error *err) {
    pid_t pid;
    if (!proc_spawn(spec, &pid, err))
        return false;
    fd_close(&out->theirs);
    fd_close(&said->theirs);
    CLEANUP(fd_close) int pidfd = open_pidfd(pid);
    if (pidfd >= 0 && !pump(pidfd, stop, out, said)) {
        /* The child may be blocked in a write to us: let it see that nobody listens. */
        fd_close(&out->ours);
        fd_close(&said->ours);
    }
    return proc_wait(pid, stop, 0, ret_status, err);
}

static bool run(const ProcSpec *spec, const Stop *stop, Buf *into, Error *err) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, STDERR_KEPT);
    CLEANUP(capture_fini) Capture out = {.ours = -1, .theirs = -1, .into = into};
    CLEANUP(capture_fini) Capture said = {.ours = -1, .theirs = -1, .into = &text, .keeps_end = true};
    if (!capture_open(&said, err) || (into != NULL && !capture_open(&out, err)))
        return false;
    ProcSpec copy = *spec;
    copy.stderr_fd = said.theirs;
    if (into != NULL)
        copy.stdout_fd = out.theirs;
    int status;
    if (!run_and_wait(&copy, stop, &out, &said, &status, err))
        return false;
    return check_status(spec->argv[0], status, &text, err);
}

bool proc_run(const ProcSpec *spec, const Stop *stop, Error *err) {
    return run(spec, stop, NULL, err);
}

bool proc_capture(const ProcSpec *spec, const Stop *stop, Buf *out, Error *err) {
    return run(spec, stop, out, err) && buf_ok(out, "what a program printed", err);
}

/* An upgrade may have put another program in its place, or taken the path away. Ours is then still there under its
 * link, also in a child that is about to exec, and is the one that speaks as we do. */
bool proc_self_path(Arena *arena, const char **ret_path, Error *err) {
    static const char self[] = "/proc/self/exe";
    char path[PATH_MAX];
    ssize_t len = readlink(self, path, sizeof(path));
    if (len < 0 || len == (ssize_t)sizeof(path))
        return error_errno(err, REASON_SYSTEM, "cannot find our own program"); /* uncovered: needs a missing /proc */
    *ret_path = arena_strndup(arena, path, (size_t)len);
    if (access(*ret_path, X_OK) != 0)
        *ret_path = self;
    return true;
}
