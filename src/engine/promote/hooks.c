/* The user's own commands around the fence, such as a pooler's PAUSE and RESUME: run by the shell, output into the log.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/proc.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_TIMEOUT_US (120 * USEC_PER_SEC)
enum { OUTPUT_KEPT = 4096 };

/* The end of what it said. A memory file, not a pipe: a child that daemonizes would keep a pipe open for ever. */
static void read_output(int fd, char text[OUTPUT_KEPT + 1]) {
    off_t size = lseek(fd, 0, SEEK_END);
    ssize_t len = size < 0 ? -1 : pread(fd, text, OUTPUT_KEPT, MAX(size - OUTPUT_KEPT, 0));

    text[len < 0 ? 0 : len] = '\0';
    for (size_t i = strlen(text); i > 0 && strchr(" \r\n", text[i - 1]) != NULL; i--)
        text[i - 1] = '\0';
}

static bool judge(const char *step, const char *command, int status, const char *output, Error *err) {
    log_info("hook %s status=%d command=\"%s\" output: %s", step, status, command, output);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    const char *colon = output[0] == '\0' ? "" : ": ";

    if (WIFSIGNALED(status))
        return error_set(err, REASON_CLIENT_FAILED, "hook \"%s\" was killed by signal %d%s%.600s", command,
                         WTERMSIG(status), colon, output);
    return error_set(err, REASON_CLIENT_FAILED, "hook \"%s\" failed with status %d%s%.600s", command,
                     WEXITSTATUS(status), colon, output);
}

bool promote_hook(const Promote *promote, const char *command, const char *step, const Stop *stop, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int output = memfd_create("hook", MFD_CLOEXEC);
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    const char *const env[] = {arena_printf(arena, "PGCRANE_JOB=%s", promote->params->job_id),
                               arena_printf(arena, "PGCRANE_STEP=%s", step), NULL};
    const ProcSpec spec = {
        .argv = argv, .extra_env = env, .stdout_fd = output, .stderr_fd = output, .new_session = true};
    char text[OUTPUT_KEPT + 1];
    pid_t pid = 0;
    int status = 0;

    if (output < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a file for the output of a hook");
    promote_event(promote, "info", "hook %s: %s", step, command);
    if (!proc_spawn(&spec, &pid, err))
        return false;
    if (!proc_wait(pid, stop, clock_now_us() + HOOK_TIMEOUT_US, &status, err))
        return error_wrap(err, "hook \"%s\"", command);
    read_output(output, text);
    return judge(step, command, status, text, err);
}
