/*
 * The user's own commands around the fence, such as a pooler's PAUSE and RESUME: run by the shell, output into the log.
 *
 * NOTES: what is where, and who may make us run what
 *
 * A process that is killed leaves to the next one what an application waits for. Two things have to be known then: that
 * a hook is due, which has to be true exactly when the promote says so and therefore is the ledger's (pgcrane.hook),
 * and its command. The command never comes from a database: whoever may write to the ledger (the owner of the
 * destination, or who restores it from a backup) is not for that a user of this machine. It stands in HOOKS_FILE in the
 * job's folder here, 0600, and comes from the options of the run that asked for the promote. The ledger has the step, a
 * random id, which is new for each promote, and a digest of id and command. Only a due hook whose id and digest are
 * those of the file is run. So who writes to the ledger can keep a hook from being run, or choose which of the two is,
 * as long as the file is there: never what. (The digest is against mistakes, such as a file that somebody edited; the
 * id alone keeps old lines from meaning anything.)
 *
 * In order, and what a crash behind each finds:
 *   lines of an earlier promote go      no line: nothing is due. A file is not looked at
 *   the file is written, and synced     no line: as before. The next promote replaces the file
 *   the lines are committed             due: "undo", as long as the destination is not open, though the first hook may
 *                                       not have begun: as a promote that failed there would run it
 *   the hook before runs ... OPEN       due: "undo", once the source is writable
 *   OPEN's COMMIT ... the hook after    due: "after"
 *   the one that was due has run        due still: it runs once more. At least once, not exactly
 *   the lines are gone                  no line
 *   the file is gone
 * A file that cannot be written calls the promote off before anything was stopped.
 *
 * Without the file (another machine or --state-dir, a folder that is gone, a line that we never wrote) nothing is run.
 * It is told, with step and time, and has to be done by hand; for us it is over, so that the migration goes on, but it
 * is not done: the line stays until the next promote, or the end of the ledger. So each start says so, and the machine
 * that has the file runs it when it is the one to start.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/log.h"
#include "common/proc.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_TIMEOUT_US (120 * USEC_PER_SEC)
#define HOOKS_FILE "hooks.json"
enum { OUTPUT_KEPT = 4096, FILE_MAX = 16 * 1024 * 1024 };

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

/* ---- On this machine ---- */

typedef struct Hooks {
    const char *id;
    const char *after, *undo; /* NULL = none */
} Hooks;

static bool new_id(Arena *arena, const char **ret_id, Error *err) {
    uint64_t bits[2];

    if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
        return error_errno(err, REASON_SYSTEM, "no random numbers"); /* uncovered: the kernel always has some */
    *ret_id = arena_printf(arena, "%016llx%016llx", (unsigned long long)bits[0], (unsigned long long)bits[1]);
    return true;
}

static const char *digest_of(Arena *arena, const char *id, const char *command) {
    return arena_printf(arena, "%016llx", (unsigned long long)hash_text64_more(hash_text64(id), command));
}

static const char *file_path(Arena *arena, const char *folder) {
    return arena_printf(arena, "%s/" HOOKS_FILE, folder);
}

static bool write_file(const char *folder, const Hooks *hooks, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    CLEANUP(json_freep) json_t *json = json_object();
    const char *path = file_path(arena, folder);

    buf_init(&text, FILE_MAX);
    json_object_set_new(json, "id", json_string_lossy(hooks->id));
    json_object_set_new(json, "after", json_string_lossy(hooks->after));
    json_object_set_new(json, "undo", json_string_lossy(hooks->undo));
    json_print(json, 2, &text);
    buf_append_char(&text, '\n');
    if (buf_ok(&text, path, err) && fd_write_file(path, text.data, text.len, 0600, err))
        return true;
    error_wrap(err, "writing down the hooks");
    return error_remedy(err, "the promote did not begin; make room for %s, or let it be written, and promote again",
                        path);
}

/* Without a file, or with one that cannot be read, there are none: *hooks stays empty. */
static void read_file(Arena *arena, const char *folder, Hooks *hooks) {
    CLEANUP(buf_fini) Buf text;
    CLEANUP(json_freep) json_t *json = NULL;
    const char *path = file_path(arena, folder);
    Error err = {0};

    buf_init(&text, FILE_MAX);
    if (access(path, F_OK) != 0)
        return;
    if (!fd_read_file(path, &text, &err) || !json_parse(text.data, text.len, &json, &err)) {
        log_error_value(LOG_WARNING, &err);
        return;
    }
    const char *after = json_get_string(json, "after", NULL), *undo = json_get_string(json, "undo", NULL);
    hooks->id = arena_strdup(arena, json_get_string(json, "id", ""));
    hooks->after = after == NULL ? NULL : arena_strdup(arena, after);
    hooks->undo = undo == NULL ? NULL : arena_strdup(arena, undo);
}

static void remove_file(const char *folder) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = file_path(arena, folder);
    Error err = {0};

    if (unlink(path) == 0 || errno == ENOENT)
        return;
    error_errno(&err, REASON_SYSTEM, "cannot remove %s", path);
    log_error_value(LOG_WARNING, &err);
}

/* ---- In the ledger ---- */

static bool write_hook(DbConn *dest, const char *id, const char *step, const char *command, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    return command == NULL || db_query(dest, "INSERT INTO pgcrane.hook (step, id, digest) VALUES ($1, $2, $3)", 3,
                                       (const char *const[]){step, id, digest_of(arena, id, command)}, NULL, err);
}

/* In the place of those of an earlier promote. */
static bool write_hooks(DbConn *dest, const Ledger *ledger, const Hooks *hooks, Error *err) {
    if (ledger_begin(dest, ledger, err) && db_exec(dest, "DELETE FROM pgcrane.hook", err) &&
        write_hook(dest, hooks->id, "after", hooks->after, err) &&
        write_hook(dest, hooks->id, "undo", hooks->undo, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "writing the hooks into the ledger");
}

bool promote_remember_hooks(const Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const PromoteParams *params = promote->params;
    const MigrateOptions *options = params->options;
    const Hooks none = {0};
    Hooks hooks = {.after = options->hook_after, .undo = options->hook_before == NULL ? NULL : options->hook_undo};

    if (!write_hooks(params->dest, params->load->ledger, &none, err))
        return false;
    if (hooks.after == NULL && hooks.undo == NULL)
        return true;
    return new_id(arena, &hooks.id, err) && write_file(params->folder, &hooks, err) &&
           failpoint("promote.after_hooks_file", err) && write_hooks(params->dest, params->load->ledger, &hooks, err);
}

static bool forget_hooks(DbConn *dest, const Ledger *ledger, const char *folder, Error *err) {
    const Hooks none = {0};

    if (!write_hooks(dest, ledger, &none, err))
        return false;
    remove_file(folder);
    return true;
}

void promote_forget_hooks(const Promote *promote) {
    const PromoteParams *params = promote->params;
    Error err = {0};

    if (!db_is_broken(params->dest) && !forget_hooks(params->dest, params->load->ledger, params->folder, &err))
        log_error_value(LOG_WARNING, &err);
}

/* ---- What was left ---- */

typedef struct DueHook {
    const char *step; /* NULL = none is due */
    const char *id, *digest, *since;
} DueHook;

static bool read_due(DbConn *dest, Arena *arena, const char *step, DueHook *ret_due, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT id, digest, pg_catalog.to_char(due_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
                  " FROM pgcrane.hook WHERE step = $1",
                  1, &step, &row, err))
        return error_wrap(err, "reading the hooks from the ledger");
    *ret_due = (DueHook){0};
    if (db_rows(row) > 0)
        *ret_due = (DueHook){.step = step,
                             .id = arena_strdup(arena, db_text(row, 0, 0)),
                             .digest = arena_strdup(arena, db_text(row, 0, 1)),
                             .since = arena_strdup(arena, db_text(row, 0, 2))};
    return true;
}

/* The command as this machine has it; NULL when it does not know this hook. */
static const char *own_command(Arena *arena, const char *folder, bool opened, const DueHook *due) {
    Hooks hooks = {.id = ""};

    read_file(arena, folder, &hooks);
    const char *command = opened ? hooks.after : hooks.undo;
    bool same = command != NULL && hooks.id[0] != '\0' && strcmp(hooks.id, due->id) == 0 &&
                strcmp(digest_of(arena, hooks.id, command), due->digest) == 0;
    return same ? command : NULL;
}

/* Once a run: following begins more often than that. */
static void say_not_ours(const LeftHooks *left, Arena *arena, const DueHook *due) {
    if (*left->told)
        return;
    *left->told = true;
    left->event(left->context, "error",
                arena_printf(arena,
                             "the hook %s of a promote that was interrupted is due since %.40s UTC and was not run: its"
                             " command is not in %s. Commands are run only where they were given: run it by hand, or"
                             " go on where the promote was begun",
                             due->step, due->since, file_path(arena, left->folder)));
}

bool promote_run_left_hook(DbConn *dest, const Ledger *ledger, bool opened, const LeftHooks *left, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DueHook due = {0};
    Error trouble = {0};

    if (!read_due(dest, arena, opened ? "after" : "undo", &due, err))
        return false;
    if (due.step == NULL)
        return true;
    const char *command = own_command(arena, left->folder, opened, &due);
    if (command == NULL) {
        say_not_ours(left, arena, &due);
        return true;
    }
    left->event(left->context, "info",
                arena_printf(arena, "hook %s, of the promote that was interrupted: %s", due.step, command));
    if (!run_hook(ledger->job_id, command, due.step, NULL, &trouble))
        left->event(
            left->context, "error",
            arena_printf(arena, "the hook %s failed, run it by hand: %s (%s)", due.step, command, trouble.message));
    return forget_hooks(dest, ledger, left->folder, err);
}
