/*
 * The internal command `session`.
 *
 * NOTES
 * The service starts it and may be gone at any moment after: everything that is needed comes in one message at the
 * beginning, and everything there is to know stands in the folder (session/control.h). So a service that begins anew
 * only has to look there.
 *
 * libpq and pg_dump read certificates and keys from files. They are written into a folder of memory (tmpfs) that only
 * we can look into, named after the session's own folder, so that the next session there finds and removes what one
 * that was killed has left. Each process has files of its own: the one before may be about to remove its.
 */
#include "cli/session_main.h"

#include "cli/exit_codes.h"
#include "cli/output.h"
#include "cli/session.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"
#include "common/log.h"
#include "wire/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START_FD = 3, CONNINFO_MAX = 32 * 1024 };
static const int64_t start_us = 60 * USEC_PER_SEC;

static const struct {
    const char *key, *option;
} tls_files[] = {{"ca", "sslrootcert"}, {"cert", "sslcert"}, {"key", "sslkey"}};

/* ---- Certificates ---- */

static const char *memory_folder(Arena *arena, const char *folder) {
    const char *base = getenv("RUNTIME_DIRECTORY");

    if (base == NULL || base[0] != '/' || strchr(base, ':') != NULL)
        base = "/dev/shm";
    return arena_printf(arena, "%s/pgcrane-tls-%lld-%016" PRIx64, base, (long long)getuid(), hash_text64(folder));
}

/* Others may write to /dev/shm, and make a folder of that name before us. */
static bool make_private(const char *path, Error *err) {
    struct stat there;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_errno(err, REASON_SYSTEM, "cannot make %s", path);
    if (lstat(path, &there) != 0)
        return error_errno(err, REASON_SYSTEM, "%s", path);
    if (!S_ISDIR(there.st_mode) || there.st_uid != getuid() || (there.st_mode & 077) != 0)
        return error_set(err, REASON_FILE_EXPOSED, "%s is not a folder of ours alone", path);
    return true;
}

static const char *tls_path(Arena *arena, const char *memory, const char *side, const char *key) {
    return arena_printf(arena, "%s/%s-%s-%lld.pem", memory, side, key, (long long)getpid());
}

static bool write_tls(Arena *arena, const char *memory, const char *side, const json_t *endpoint, Buf *conninfo,
                      Error *err) {
    for (size_t at = 0; at < COUNT_OF(tls_files); at++) {
        const char *text = json_get_string(endpoint, tls_files[at].key, NULL);
        const char *path = tls_path(arena, memory, side, tls_files[at].key);

        if (text == NULL)
            continue;
        if (!make_private(memory, err) || !fd_write_file(path, text, strlen(text), 0600, err))
            return false;
        buf_printf(conninfo, " %s='%s'", tls_files[at].option, path); /* our own path: nothing in it to escape */
    }
    return true;
}

static bool is_gone(const char *name) {
    const char *dash = strrchr(name, '-');
    long pid = dash != NULL ? strtol(dash + 1, NULL, 10) : 0;

    return pid > 0 && (pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH));
}

/* Ours, and those of processes that are gone. */
static void remove_tls(const char *folder) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *memory = memory_folder(arena, folder);
    struct stat there;
    /* A link that somebody else made there would lead to files that are not of this. */
    int fd = open(memory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = fd >= 0 && fstat(fd, &there) == 0 && there.st_uid == getuid() ? fdopendir(fd) : NULL;

    if (list == NULL) {
        fd_close(&fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (is_gone(entry->d_name))
            (void)unlinkat(fd, entry->d_name, 0);
    closedir(list); /* and fd */
    (void)rmdir(memory);
}

/* ---- What is asked for ---- */

static bool receive_start(json_t **ret_start, Error *err) {
    CLEANUP(wire_freep) Wire *wire = wire_new(START_FD);
    WireType type = WIRE_MAX_;

    switch (wire_receive(wire, NULL, clock_now_us() + start_us, &type, ret_start, err)) {
    case WIRE_MESSAGE:
        return type == WIRE_START || error_set(err, REASON_WIRE_BAD, "%s instead of START", wire_type_name(type));
    case WIRE_BROKEN:
        return false;
    case WIRE_CLOSED:
    case WIRE_NOTHING:
    default:
        return error_set(err, REASON_WIRE_BAD, "nobody said what to do: this command is for pgcrane serve");
    }
}

static bool read_endpoint(Arena *arena, const char *folder, const char *side, const json_t *start,
                          const char **conninfo, Error *err) {
    const json_t *endpoint = json_get_object(start, side);

    if (endpoint == NULL)
        return true;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, CONNINFO_MAX);
    buf_append_str(&text, json_get_string(endpoint, "conninfo", ""));
    bool ok = write_tls(arena, memory_folder(arena, folder), side, endpoint, &text, err) &&
              buf_ok(&text, "a connection string", err);
    *conninfo = ok ? arena_strdup(arena, text.data) : NULL;
    explicit_bzero(text.data, text.len);
    return ok;
}

static bool read_options(Arena *arena, const char *folder, const json_t *start, MigrateOptions *options, Error *err) {
    options_init(options);
    if (json_get_object(start, "options") != NULL &&
        !options_from_json(arena, json_get_object(start, "options"), options, err))
        return false;
    options->state_dir = folder;
    options->yes = true;
    options->no_color = true;
    return read_endpoint(arena, folder, "source", start, &options->source, err) &&
           read_endpoint(arena, folder, "dest", start, &options->dest, err) && options_check(options, err);
}

int session_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *start = NULL;
    MigrateOptions options;
    Error err;

    if (argc != 2) {
        error_set(&err, REASON_USAGE, "pgcrane session is started by pgcrane serve");
        return output_error(&err);
    }
    log_init(STDERR_FILENO, LOG_INFO);
    remove_tls(argv[1]);
    if (!receive_start(&start, &err) || !read_options(arena, argv[1], start, &options, &err))
        return output_error(&err);
    int exit_code = session_run(&(SessionInput){
        .options = &options,
        .action = json_get_string(start, "action", NULL),
        .job_id = json_get_string(start, "migration", NULL),
        .folder = argv[1],
        .name = json_get_string(start, "name", ""),
        .run = json_get_int(start, "run", 0),
        .more = json_get_object(start, "more"),
    });
    remove_tls(argv[1]);
    return exit_code;
}
