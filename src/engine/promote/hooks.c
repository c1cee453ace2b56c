/*
 * The user's own commands around the fence, such as a pooler's PAUSE and RESUME: run by the shell, output into the log.
 *
 * Those that are still to run are in the ledger (pgcrane.hook) from before the first one: a process that is killed
 * leaves to the next one what an application waits for.
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

static bool run_hook(const char *job_id, const char *command, const char *step, const Stop *stop, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int output = memfd_create("hook", MFD_CLOEXEC);
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    const char *const env[] = {arena_printf(arena, "PGCRANE_JOB=%s", job_id),
                               arena_printf(arena, "PGCRANE_STEP=%s", step), NULL};
    const ProcSpec spec = {
        .argv = argv, .extra_env = env, .stdout_fd = output, .stderr_fd = output, .new_session = true};
    char text[OUTPUT_KEPT + 1];
    pid_t pid = 0;
    int status = 0;

    if (output < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a file for the output of a hook");
    if (!proc_spawn(&spec, &pid, err))
        return false;
    if (!proc_wait(pid, stop, clock_now_us() + HOOK_TIMEOUT_US, &status, err))
        return error_wrap(err, "hook \"%s\"", command);
    read_output(output, text);
    return judge(step, command, status, text, err);
}

bool promote_hook(const Promote *promote, const char *command, const char *step, const Stop *stop, Error *err) {
    promote_event(promote, "info", "hook %s: %s", step, command);
    return run_hook(promote->params->job_id, command, step, stop, err);
}

/* ---- In the ledger ---- */

static bool write_hook(DbConn *dest, const char *step, const char *command, Error *err) {
    return command == NULL || db_query(dest, "INSERT INTO pgcrane.hook (step, command) VALUES ($1, $2)", 2,
                                       (const char *const[]){step, command}, NULL, err);
}

/* In the place of those of an earlier promote. */
static bool write_hooks(DbConn *dest, const Ledger *ledger, const char *after, const char *undo, Error *err) {
    if (ledger_begin(dest, ledger, err) && db_exec(dest, "DELETE FROM pgcrane.hook", err) &&
        write_hook(dest, "after", after, err) && write_hook(dest, "undo", undo, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "writing the hooks into the ledger");
}

bool promote_remember_hooks(const Promote *promote, Error *err) {
    const MigrateOptions *options = promote->params->options;

    return write_hooks(promote->params->dest, promote->params->load->ledger, options->hook_after,
                       options->hook_before == NULL ? NULL : options->hook_undo, err);
}

void promote_forget_hooks(DbConn *dest, const Ledger *ledger) {
    Error err = {0};

    if (!db_is_broken(dest) && !write_hooks(dest, ledger, NULL, NULL, &err))
        log_error_value(LOG_WARNING, &err);
}

static bool read_hook(DbConn *dest, Arena *arena, const char *step, const char **ret_command, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT command FROM pgcrane.hook WHERE step = $1", 1, &step, &row, err))
        return error_wrap(err, "reading the hooks from the ledger");
    *ret_command = db_rows(row) == 0 ? NULL : arena_strdup(arena, db_text(row, 0, 0));
    return true;
}

bool promote_run_left_hook(DbConn *dest, const Ledger *ledger, bool opened,
                           void (*event)(void *context, const char *level, const char *text), void *context,
                           Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *step = opened ? "after" : "undo";
    const char *command = NULL;
    Error trouble = {0};

    if (!read_hook(dest, arena, step, &command, err))
        return false;
    if (command == NULL)
        return true;
    event(context, "info", arena_printf(arena, "hook %s, of the promote that was interrupted: %s", step, command));
    if (!run_hook(ledger->job_id, command, step, NULL, &trouble))
        event(context, "error",
              arena_printf(arena, "the hook %s failed, run it by hand: %s (%s)", step, command, trouble.message));
    return write_hooks(dest, ledger, NULL, NULL, err);
}
