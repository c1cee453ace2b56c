/* Where an instance is, whose it is, and how programs are run for it. */
#include "provision/local/internal.h"

#include "common/failpoint.h"
#include "common/fd.h"
#include "common/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pwd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool find_owner(Arena *arena, const ProvisionConfig *config, Owner *ret_owner, Error *err) {
    const char *name = config->user != NULL ? config->user : "postgres";
    const struct passwd *entry = geteuid() == 0 ? getpwnam(name) : getpwuid(geteuid());

    if (entry == NULL && geteuid() == 0) {
        error_set(err, REASON_PROVISION_REFUSED, "there is no user \"%s\" that a server could run as", name);
        return error_remedy(
            err, "useradd --system %s, or name another user; or run the service as one that is not root", name);
    }
    if (entry == NULL)
        return error_set(err, REASON_PROVISION_REFUSED, "our own user %lld has no name on this machine",
                         (long long)geteuid());
    if (entry->pw_uid == 0) {
        error_set(err, REASON_PROVISION_REFUSED, "PostgreSQL does not run as root");
        return error_remedy(err, "name an unprivileged user for servers");
    }
    *ret_owner = (Owner){.name = arena_strdup(arena, entry->pw_name),
                         .uid = entry->pw_uid,
                         .gid = entry->pw_gid,
                         .is_other = geteuid() == 0};
    return true;
}

static Server make_server(Arena *arena, const char *folder, const char *prefix, Server base,
                          const ProvisionJournal *journal) {
    base.data = arena_printf(arena, "%s/%sdata", folder, prefix);
    base.log = arena_printf(arena, "%s/%slog", folder, prefix);
    base.run = arena_printf(arena, "%s/%srun", folder, prefix);
    base.port = (int)json_get_int(provision_journal_get(journal, base.step), "port", 0);
    return base;
}

bool local_open(ProvisionCall *call, const char *id, const ProvisionSpec *spec, Local *ret_local, Error *err) {
    Arena *arena = call->arena;
    const char *folder = provision_journal_folder(call->journal);
    const Server primary = {.name = "the server", .step = "server"};
    const Server standby = {.name = "the standby", .step = "standby"};
    Local local = {
        .call = call,
        .arena = arena,
        .journal = call->journal,
        .id = id,
        .spec = spec,
        .folder = folder,
        .conf = arena_printf(arena, "%s/conf", folder),
        .tls = arena_printf(arena, "%s/tls", folder),
        .backups = arena_printf(arena, "%s/backups", folder),
        .marker = arena_printf(arena, "%s/load", folder),
        .primary = make_server(arena, folder, "", primary, call->journal),
        .standby = make_server(arena, folder, "standby-", standby, call->journal),
    };

    if (!find_owner(arena, call->config, &local.owner, err))
        return false;
    *ret_local = local;
    return true;
}

void local_tell(const Local *local, const char *format, ...) {
    va_list args;

    va_start(args, format);
    local->call->tell(local->call->context, arena_vprintf(local->arena, format, args));
    va_end(args);
}

bool local_steps(Local *local, const char *operation, const LocalStep *steps, size_t count, Error *err) {
    for (size_t at = 0; at < count; at++) {
        if (stop_requested(local->call->stop))
            return error_set(err, REASON_CANCELLED, "stopped while instance %s was changed", local->id);
        if (!steps[at].run(local, err) ||
            !failpoint(arena_printf(local->arena, "provision.%s.%s", operation, steps[at].name), err))
            return false;
    }
    return true;
}

/* ---- Programs ---- */

static const char *const environment[] = {"LC_ALL=C", "LANGUAGE=C", NULL};

static const char *const *full_argv(const Local *local, const char *const *argv) {
    size_t count = 0;

    while (argv[count] != NULL)
        count++;
    const char **full = arena_array(local->arena, const char *, count + 1);
    memcpy(full, argv, count * sizeof(*argv));
    if (argv[0][0] != '/')
        full[0] = programs_path(local, argv[0]);
    return full;
}

static ProcSpec spec_of(const Local *local, const char *const *argv) {
    return (ProcSpec){.argv = full_argv(local, argv),
                      .extra_env = environment,
                      .user = local->owner.is_other ? local->owner.name : NULL};
}

bool local_run(const Local *local, const char *const *argv, Error *err) {
    const ProcSpec spec = spec_of(local, argv);

    return proc_run(&spec, local->call->stop, err);
}

bool local_capture(const Local *local, const char *const *argv, Buf *out, Error *err) {
    const ProcSpec spec = spec_of(local, argv);

    return proc_capture(&spec, local->call->stop, out, err);
}

bool local_run_tied(const Local *local, const char *const *argv, int fd3, Error *err) {
    ProcSpec spec = spec_of(local, argv);

    spec.tied = true;
    spec.fd3 = fd3;
    return proc_run(&spec, local->call->stop, err);
}

bool local_append(const Local *local, const char *path, const char *line, Error *err) {
    CLEANUP(fd_close) int text = memfd_create("line", MFD_CLOEXEC);
    const char *const argv[] = {"/usr/bin/tee", "-a", path, NULL};
    ProcSpec spec = spec_of(local, argv);

    if (text < 0)
        return error_errno(err, REASON_SYSTEM, "cannot have a file in memory");
    if (!fd_write_all(text, line, strlen(line), err))
        return false;
    if (lseek(text, 0, SEEK_SET) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot read a file in memory");
    spec.stdin_fd = text;
    return proc_run(&spec, local->call->stop, err);
}

/* ---- Folders ---- */

bool place_exists(const char *path) {
    struct stat there;

    return lstat(path, &there) == 0;
}

static bool make_folder(const char *path, unsigned mode, Error *err) {
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_errno(err, REASON_SYSTEM, "cannot make folder %s", path);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot set the mode of %s", path);
    return true;
}

/* Only the permission to pass, for those who know a name in there. */
static bool let_pass(const char *path, Error *err) {
    struct stat there;

    if (stat(path, &there) != 0)
        return error_errno(err, REASON_SYSTEM, "%s", path);
    if (there.st_uid != geteuid() || (there.st_mode & S_IXOTH) != 0)
        return true;
    return chmod(path, (there.st_mode & 07777) | S_IXGRP | S_IXOTH) == 0 ||
           error_errno(err, REASON_SYSTEM, "cannot set the mode of %s", path);
}

bool place_check_reach(const Local *local, Error *err) {
    const char *const argv[] = {"/usr/bin/test", "-x", local->folder, NULL};
    Error why;

    if (!local->owner.is_other || local_run(local, argv, &why))
        return true;
    error_set(err, REASON_PROVISION_REFUSED, "user \"%s\", whom the server runs as, does not get to %s",
              local->owner.name, local->folder);
    return error_remedy(err, "namei -l %s shows what is in the way; or use a --state-dir such as /var/lib/pgcrane",
                        local->folder);
}

bool place_make(Local *local, Error *err) {
    unsigned mode = local->owner.is_other ? 0711 : 0700;
    const char *instances = dirname(arena_strdup(local->arena, local->folder));

    if (local->owner.is_other && (!let_pass(local->call->config->state_dir, err) || !let_pass(instances, err)))
        return false;
    return make_folder(local->folder, mode, err) && place_check_reach(local, err) &&
           make_folder(local->conf, mode, err) && place_make_owned(local, local->primary.log, err) &&
           place_make_owned(local, local->primary.run, err);
}

bool place_make_owned(const Local *local, const char *path, Error *err) {
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_errno(err, REASON_SYSTEM, "cannot make folder %s", path);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (local->owner.is_other && fchown(fd, local->owner.uid, local->owner.gid) != 0))
        return error_errno(err, REASON_SYSTEM, "cannot give folder %s to %s", path, local->owner.name);
    return true;
}

bool place_write(const Local *local, const char *path, const char *text, Error *err) {
    if (!fd_write_file(path, text, strlen(text), local->owner.is_other ? 0640 : 0600, err))
        return false;
    return !local->owner.is_other || lchown(path, 0, local->owner.gid) == 0 ||
           error_errno(err, REASON_SYSTEM, "cannot give %s to %s", path, local->owner.name);
}

bool place_remove_file(const char *path, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *folder = dirname(arena_strdup(arena, path));

    if (unlink(path) != 0)
        return errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot remove %s", path);
    CLEANUP(fd_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && fsync(fd) == 0) || error_errno(err, REASON_SYSTEM, "cannot sync %s", folder);
}
