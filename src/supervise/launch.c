/* Sessions as processes of their own. */
#include "supervise/launch.h"

#include "common/fd.h"
#include "common/heap.h"
#include "common/log.h"
#include "common/proc.h"
#include "session/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGV_MAX = 16 * 1024 };

typedef struct Child {
    char *folder; /* on the heap: places are used again */
    int64_t run;
    pid_t pid; /* 0 = it has ended */
} Child;

struct Children {
    Child items[LAUNCH_CHILDREN_MAX];
    size_t count;
};

Children *children_new(void) {
    return heap_new_of(Children);
}

void children_freep(Children **children) {
    for (size_t at = 0; *children != NULL && at < (*children)->count; at++)
        heap_free((*children)->items[at].folder);
    heap_free(*children);
    *children = NULL;
}

void children_reap(Children *children) {
    for (size_t at = 0; at < children->count; at++) {
        Child *child = &children->items[at];
        int status = 0;

        if (child->pid > 0 && waitpid(child->pid, &status, WNOHANG) == child->pid)
            child->pid = 0;
    }
}

static Child *find(const Children *children, const char *folder) {
    for (size_t at = 0; at < children->count; at++)
        if (strcmp(children->items[at].folder, folder) == 0)
            return (Child *)(uintptr_t)&children->items[at];
    return NULL;
}

bool children_lives(const Children *children, const char *folder, int64_t run) {
    const Child *child = find(children, folder);

    return child != NULL && child->run == run && child->pid > 0;
}

bool children_has_ended(const Children *children, const char *folder, int64_t run) {
    const Child *child = find(children, folder);

    return child != NULL && child->run == run && child->pid == 0;
}

static Child *first_ended(Children *children) {
    for (size_t at = 0; at < children->count; at++)
        if (children->items[at].pid == 0)
            return &children->items[at];
    return NULL;
}

static void name_place(Child *child, const char *folder) {
    size_t size = strlen(folder) + 1;

    heap_free(child->folder);
    child->folder = heap_alloc(size);
    memcpy(child->folder, folder, size);
    child->run = 0;
}

/* One per folder, whose last number counts. When all are taken, one whose process has ended makes room. */
static Child *place_for(Children *children, const char *folder, Error *err) {
    Child *child = find(children, folder);

    if (child != NULL)
        return child;
    child = children->count < LAUNCH_CHILDREN_MAX ? &children->items[children->count++] : first_ended(children);
    if (child == NULL)
        error_set(err, REASON_INTERNAL, "%d sessions are under way on this node", LAUNCH_CHILDREN_MAX);
    else
        name_place(child, folder);
    return child;
}

/* ---- Starting ---- */

static bool open_log(const char *folder, int *ret_fd, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = arena_printf(arena, "%s/session.log", folder);
    struct stat there;

    if (stat(path, &there) == 0 && there.st_size > LAUNCH_LOG_MAX)
        (void)rename(path, arena_printf(arena, "%s/session.log.1", folder));
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return *ret_fd >= 0 || error_errno(err, REASON_SYSTEM, "cannot open %s", path);
}

static const char session_command[] = "session", provision_command[] = "provision";

/* Ourselves; tests have sessions played by a program of theirs. */
static bool program_of(Arena *arena, const char *command, const char **ret_path, Error *err) {
#ifdef PGCRANE_FAILPOINTS
    *ret_path = strcmp(command, session_command) == 0 ? getenv("PGCRANE_SESSION_PROGRAM") : NULL;
    if (*ret_path != NULL)
        return true;
#else
    (void)command;
#endif
    return proc_self_path(arena, ret_path, err);
}

static bool spawn(const char *command, const char *folder, int fd, pid_t *ret_pid, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int log = -1;
    const char *program;

    if (!program_of(arena, command, &program, err) || !open_log(folder, &log, err))
        return false;
    const char *const argv[] = {program, command, folder, NULL};
    return proc_spawn(&(ProcSpec){.argv = argv, .stderr_fd = log, .fd3 = fd, .new_session = true}, ret_pid, err);
}

static bool launch(Children *children, const char *command, const char *folder, int64_t run, const json_t *start,
                   Error *err) {
    CLEANUP(wire_freep) Wire *wire = NULL;
    int pair[2];
    pid_t pid;
    Child *child = place_for(children, folder, err);

    if (child == NULL || !fd_make_dirs(folder, err))
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, REASON_SYSTEM, "socketpair");
    wire = wire_new(pair[0]);
    CLEANUP(fd_close) int theirs = pair[1];
    if (!spawn(command, folder, theirs, &pid, err))
        return error_wrap(err, "starting a %s in %s", command, folder);
    child->run = run;
    child->pid = pid;
    fd_close(&theirs);
    /* One that ends before it has read everything: children_reap() and its folder tell. */
    Error lost;
    if (!wire_send(wire, WIRE_START, json_deep_copy(start), &lost))
        log_warning("%s in %s: %s", command, folder, lost.message);
    return true;
}

bool launch_session(Children *children, const char *folder, int64_t run, const json_t *start, Error *err) {
    return launch(children, session_command, folder, run, start, err);
}

bool launch_provision(Children *children, const char *folder, int64_t run, const json_t *start, Error *err) {
    return launch(children, provision_command, folder, run, start, err);
}

/* ---- Asking ---- */

bool launch_ask(const char *folder, WireType type, const json_t *body, bool *ret_sent, Error *err) {
    CLEANUP(wire_freep) Wire *wire = NULL;

    *ret_sent = false;
    if (access(folder, F_OK) != 0)
        return true;
    if (!control_connect(folder, &wire, err))
        return false;
    if (wire == NULL)
        return true;
    json_t *copy = body != NULL ? json_deep_copy(body) : json_object();
    *ret_sent = wire_send(wire, type, copy, err);
    return *ret_sent;
}

/* ---- Ending ---- */

/* Numbers of processes are used again: what it was started with says whether it is ours. */
static bool is_process_of(const char *wanted, const char *folder, int64_t pid) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf argv;
    Error gone;

    buf_init(&argv, ARGV_MAX);
    if (pid <= 1 || !fd_read_file(arena_printf(arena, "/proc/%lld/cmdline", (long long)pid), &argv, &gone))
        return false;
    const char *name = argv.data, *end = argv.data + argv.len;
    const char *command = name + strlen(name) + 1;
    if (command >= end || strcmp(command, wanted) != 0)
        return false;
    const char *where = command + strlen(command) + 1;
    return where < end && strcmp(where, folder) == 0;
}

bool launch_kill(const char *folder, int64_t pid) {
    return is_process_of(session_command, folder, pid) && kill((pid_t)-pid, SIGKILL) == 0;
}

bool launch_stop_provision(const char *folder, int64_t pid) {
    return is_process_of(provision_command, folder, pid) && kill((pid_t)pid, SIGTERM) == 0;
}
