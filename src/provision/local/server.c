/*
 * Starting, stopping and ending the process of a data folder.
 *
 * NOTES
 * pg_ctl starts a server in a session of its own, which neither we nor the daemon take with us. Whether one runs is
 * seen without asking it: postmaster.pid names a process, which lives and has the data folder as its working directory,
 * as every server has from its start on. A number that was given to another process since is told apart by that.
 *
 * A server that was killed leaves shared memory (System V's, and files in /dev/shm) that the next start on the same
 * data folder finds by postmaster.pid and gives back. So one that is to be removed is started once more for a moment,
 * without an address, where it did not end by itself.
 */
#include "common/clock.h"
#include "common/fd.h"
#include "provision/local/internal.h"
#include "provision/local/port.h"
#include "provision/local/settings.h"
#include "provision/local/tree.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PID_FILE_MAX = 4096,
    CONTROL_MAX = 64 * 1024,
    START_TAIL = 2000,
    START_SHOWN = 400,
    LOG_TAIL = 4000,
    END_TRIES = 100,
    MB = 1024 * 1024
};

/* Of what is copied, and beside that. */
enum { ROOM_SHARE = 10, ROOM_LEAST_MB = 64 };

#define WAIT_SECONDS "600"

static const int64_t end_pause_us = 100 * USEC_PER_MSEC;

/* ---- Does it run? ---- */

/* The first line of postmaster.pid; 0 = there is no such file. */
static pid_t read_pid(const Server *server) {
    CLEANUP(fd_close) int fd = tree_open_in(server->data, "postmaster.pid");
    char text[PID_FILE_MAX] = "";

    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

static bool works_in(const char *pid, const char *folder) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char target[PATH_MAX];
    ssize_t len = readlink(arena_printf(arena, "/proc/%s/cwd", pid), target, sizeof(target) - 1);

    if (len < 0)
        return false;
    target[len] = '\0';
    return strcmp(target, folder) == 0;
}

/* As the kernel names it. */
static const char *real_folder(Arena *arena, const char *folder) {
    char path[PATH_MAX];

    return realpath(folder, path) != NULL ? arena_strdup(arena, path) : folder;
}

/* A single-user or bootstrap process has a negative number there: no server. */
bool server_is_running(const Local *local, const Server *server, pid_t *ret_pid) {
    pid_t pid = read_pid(server);
    bool runs =
        pid > 0 && works_in(arena_printf(local->arena, "%d", (int)pid), real_folder(local->arena, server->data));

    if (runs && ret_pid != NULL)
        *ret_pid = pid;
    return runs;
}

static bool is_zombie(Arena *arena, pid_t pid) {
    CLEANUP(buf_fini) Buf text;
    Error gone;

    buf_init(&text, PID_FILE_MAX);
    if (!fd_read_file(arena_printf(arena, "/proc/%d/stat", (int)pid), &text, &gone))
        return false;
    const char *name_end = strrchr(text.data, ')');
    return name_end != NULL && strncmp(name_end, ") Z", 3) == 0;
}

/* A server that has ended and was not waited for yet (by process 1, in a container perhaps never) keeps the next one
 * from starting: for PostgreSQL its number lives. */
static void await_end_of_last(const Local *local, const Server *server) {
    pid_t pid = read_pid(server);

    for (int tries = 0; pid > 0 && tries < END_TRIES && is_zombie(local->arena, pid); tries++)
        clock_sleep_us(end_pause_us);
}

/* Text behind "NAME:" of pg_controldata. */
static const char *control_value(Arena *arena, const char *text, const char *name) {
    const char *at = strstr(text, name);

    if (at == NULL)
        return "";
    at += strlen(name);
    at += strspn(at, ": ");
    return arena_strndup(arena, at, strcspn(at, "\n"));
}

bool server_control(Local *local, const Server *server, const char **ret_state, const char **ret_identifier,
                    Error *err) {
    const char *const argv[] = {"pg_controldata", "-D", server->data, NULL};
    CLEANUP(buf_fini) Buf out;

    buf_init(&out, CONTROL_MAX);
    if (local->bindir == NULL && !programs_known(local, err))
        return false;
    if (!local_capture(local, argv, &out, err))
        return false;
    *ret_state = control_value(local->arena, out.data, "Database cluster state");
    if (ret_identifier != NULL)
        *ret_identifier = control_value(local->arena, out.data, "Database system identifier");
    return true;
}

/* ---- Start and stop ---- */

/* The last words of the file that a start writes to. */
static const char *last_words(const Local *local, const Server *server, const char *name, size_t max) {
    CLEANUP(fd_close) int fd = tree_open_in(server->log, name);
    char text[LOG_TAIL + 1] = "";
    off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;

    if (fd < 0 || end <= 0 || lseek(fd, MAX(end - (off_t)max, 0), SEEK_SET) < 0 || read(fd, text, max) <= 0)
        return "";
    return arena_strdup(local->arena, text);
}

/* Of several lines the last one that says why a server went down; "" = none does. What else a log has may be data of
 * users, and an error is shown to everybody who may look at the instance. */
static const char *last_fatal(Arena *arena, const char *text) {
    const char *found = "";

    for (const char *line = text, *next; *line != '\0'; line = next) {
        size_t len = strcspn(line, "\n");
        const char *one = arena_strndup(arena, line, len);
        if (strstr(one, " FATAL: ") != NULL || strstr(one, " PANIC: ") != NULL)
            found = one;
        next = line + len + (line[len] == '\n');
    }
    return found;
}

static const char *newest_words(const Local *local, const Server *server) {
    TreeFile *files = NULL;
    size_t count = 0;
    Error ignored;

    if (!tree_list(local->arena, server->log, false, &files, &count, &ignored) || count == 0)
        return "";
    return last_fatal(local->arena, last_words(local, server, files[count - 1].name, LOG_TAIL));
}

/* Of all majors, in the C locale: what a start lacks at the moment. */
static const char *const passing[] = {
    "ould not create any TCP/IP sockets",
    "ould not create any Unix-domain sockets",
    "ddress already in use",
    "shared memory",
    "semaphores",
    "out of memory",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "lock file",
};

bool server_start_may_pass(const char *said) {
    for (size_t at = 0; at < COUNT_OF(passing); at++)
        if (strstr(said, passing[at]) != NULL)
            return true;
    return false;
}

/* Once it was up, what its settings ask for was there. */
static bool was_ever_up(const Local *local) {
    return provision_journal_get(local->journal, "applied") != NULL ||
           provision_journal_get(local->journal, "told") != NULL;
}

/* "postgres: superuser_reserved_connections (200) ...": the very first checks have no level; and where log_line_prefix
 * is empty nothing is before it. */
static const char *first_complaint(Arena *arena, const char *text) {
    static const char *const marks[] = {"postgres: ", "FATAL:  "};

    for (size_t at = 0; at < COUNT_OF(marks); at++) {
        const char *found = strstr(text, marks[at]);
        if (found != NULL && (found == text || found[-1] == '\n'))
            return arena_strndup(arena, found, strcspn(found, "\n"));
    }
    return "";
}

/* Of its log's line what it says. */
static const char *without_level(const char *line) {
    static const char *const levels[] = {"FATAL:  ", "PANIC:  ", "postgres: "};

    for (size_t at = 0; at < COUNT_OF(levels); at++) {
        const char *found = strstr(line, levels[at]);
        if (found != NULL)
            return found + strlen(levels[at]);
    }
    return line;
}

static bool fail_first_start(const Local *local, const Server *server, const char *line, Error *err) {
    const char *words = without_level(line), *flag = flags_named(local, words);

    error_set(err, REASON_PROVISION_FAILED, "%s of instance %s cannot start: %s%s%s%s", server->name, local->id, words,
              flag != NULL ? " (flag " : "", flag != NULL ? flag : "", flag != NULL ? ")" : "");
    err->retryable = false;
    if (flag == NULL)
        return error_remedy(err, "see its log, %s; then remove it and make another one", server->log);
    return error_remedy(err, "remove it, and make another one without the flag %s, or with another value of it", flag);
}

static bool fail_start(const Local *local, const Server *server, Error *err) {
    const Error why = *err;
    const char *first = last_words(local, server, "start.log", START_TAIL);

    if (why.reason == REASON_CANCELLED)
        return false;
    if (!port_is_free(server->port) && !server_is_running(local, server, NULL)) {
        error_set(err, REASON_PROVISION_FAILED, "%s of instance %s does not start: port %d is taken by %s",
                  server->name, local->id, server->port, port_holder(local->arena, server->port));
        return error_remedy(err, "end it (ss -ltnp 'sport = :%d' shows it); the start is tried again all the time",
                            server->port);
    }
    const char *line = last_fatal(local->arena, first);
    if (line[0] == '\0')
        line = first_complaint(local->arena, first);
    if (line[0] == '\0')
        line = newest_words(local, server);
    if (line[0] != '\0' && !was_ever_up(local) && !server_start_may_pass(line))
        return fail_first_start(local, server, line, err);
    const char *words = strstr(first, "FATAL") != NULL ? first : newest_words(local, server);
    if (strlen(words) > START_SHOWN)
        words += strlen(words) - START_SHOWN;
    error_set(err, REASON_PROVISION_FAILED, "%s of instance %s does not start: %s", server->name, local->id,
              words[0] != '\0' ? words : why.message);
    return error_remedy(err, "its log has more: %s", server->log);
}

bool server_start(const Local *local, const Server *server, Error *err) {
    const char *const argv[] = {
        "pg_ctl", "start", "-D", server->data, "-l", arena_printf(local->arena, "%s/start.log", server->log),
        "-w",     "-s",    "-t", WAIT_SECONDS, NULL};

    if (server_is_running(local, server, NULL))
        return true;
    await_end_of_last(local, server);
    if (!tree_remove_in(server->log, "start.log", err))
        return false;
    return local_run(local, argv, err) || fail_start(local, server, err);
}

bool server_stop(const Local *local, const Server *server, const char *how, Error *err) {
    const char *const argv[] = {"pg_ctl", "stop", "-D", server->data, "-m", how, "-w", "-s", "-t", WAIT_SECONDS, NULL};

    if (!server_is_running(local, server, NULL) || local_run(local, argv, err))
        return true;
    if (!server_is_running(local, server, NULL))
        return true; /* it went down by itself meanwhile */
    return err->reason != REASON_CLIENT_FAILED ? false : error_wrap(err, "%s of instance %s", server->name, local->id);
}

bool server_restart(const Local *local, const Server *server, Error *err) {
    return server_stop(local, server, "fast", err) && server_start(local, server, err);
}

bool server_reload(const Local *local, const Server *server, Error *err) {
    const char *const argv[] = {"pg_ctl", "reload", "-D", server->data, "-s", NULL};

    if (!server_is_running(local, server, NULL) || local_run(local, argv, err))
        return true;
    if (!server_is_running(local, server, NULL))
        return true;
    return err->reason != REASON_CLIENT_FAILED ? false : error_wrap(err, "%s of instance %s", server->name, local->id);
}

/* A disk that is full takes the server down: what is copied leaves some room for it. */
bool server_check_room(const Local *local, Error *err) {
    int64_t room_mb = settings_machine(local->folder).disk_mb, bytes = 0;

    if (!tree_size(local->primary.data, &bytes, err))
        return false;
    int64_t needed_mb = bytes / MB + bytes / MB / ROOM_SHARE + ROOM_LEAST_MB;
    if (needed_mb <= room_mb)
        return true;
    error_set(err, REASON_PROVISION_FAILED,
              "a copy of instance %s needs %" PRId64 " MB free on the disk, and there are %" PRId64, local->id,
              needed_mb, room_mb);
    return error_remedy(err, "make room: df -h %s", local->folder);
}

bool server_copy(const Local *local, const char *path, const char *slot, Error *err) {
    const char *port = arena_printf(local->arena, "%d", local->primary.port);
    const char *const argv[] = {"pg_basebackup",
                                "-D",
                                path,
                                "-h",
                                local->primary.run,
                                "-p",
                                port,
                                "-U",
                                "postgres",
                                "-X",
                                "stream",
                                "-c",
                                "fast",
                                "--no-password",
                                "-l",
                                "pgcrane",
                                slot != NULL ? "-R" : NULL,
                                "-S",
                                slot,
                                NULL};

    return server_check_room(local, err) && local_run_tied(local, argv, 0, err);
}

/* ---- Its end, whatever state it is in ---- */

/* Somebody may just look around in there. */
static bool is_postgres(Arena *arena, const char *pid) {
    CLEANUP(buf_fini) Buf text;
    Error gone;

    buf_init(&text, PID_FILE_MAX);
    return fd_read_file(arena_printf(arena, "/proc/%s/comm", pid), &text, &gone) &&
           strcmp(text.data, "postgres\n") == 0;
}

/* Every process of PostgreSQL that works in the data folder: also what a killed server or initdb has left. *ret_count:
 * how many. */
static void signal_all(const Local *local, const Server *server, int number, size_t *ret_count) {
    const char *folder = real_folder(local->arena, server->data);
    DIR *list = opendir("/proc");

    *ret_count = 0;
    if (list == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || !works_in(entry->d_name, folder) || !is_postgres(local->arena, entry->d_name))
            continue;
        *ret_count += 1;
        (void)kill((pid_t)pid, number);
    }
    closedir(list);
}

static bool end_processes(const Local *local, const Server *server, Error *err) {
    size_t count = 1;

    for (int tries = 0; tries < END_TRIES; tries++) {
        signal_all(local, server, tries == 0 ? SIGQUIT : tries < END_TRIES / 2 ? 0 : SIGKILL, &count);
        if (count == 0)
            return true;
        clock_sleep_us(end_pause_us);
    }
    error_set(err, REASON_PROVISION_FAILED, "%zu processes of %s of instance %s do not end", count, server->name,
              local->id);
    return error_remedy(err, "fuser -v %s shows them", server->data);
}

/* The start removes what there is left, the end what it made itself. That it comes no further is no matter. */
static void release_memory(const Local *local, const Server *server) {
    const char *options = arena_printf(local->arena, "-c listen_addresses= -c unix_socket_directories=%s", server->run);
    const char *const start[] = {"pg_ctl", "start", "-D", server->data, "-l",    "/dev/null", "-w",
                                 "-s",     "-t",    "5",  "-o",         options, NULL};
    const char *const stop[] = {"pg_ctl", "stop", "-D", server->data, "-m", "immediate", "-w", "-s", "-t", "30", NULL};
    Error why;

    await_end_of_last(local, server);
    if (!local_run(local, start, &why))
        local_tell(local, "instance %s: %s is given up: %s", local->id, server->name, why.message);
    if (server_is_running(local, server, NULL) && !local_run(local, stop, &why))
        local_tell(local, "instance %s: %s: %s", local->id, server->name, why.message);
}

bool server_end(const Local *local, const Server *server, Error *err) {
    Error why;

    if (!place_exists(server->data))
        return true;
    if (local->bindir != NULL && !server_stop(local, server, "immediate", &why))
        local_tell(local, "instance %s: %s", local->id, why.message);
    if (!end_processes(local, server, err))
        return false;
    if (local->bindir == NULL || read_pid(server) <= 0)
        return true;
    release_memory(local, server);
    return end_processes(local, server, err);
}
