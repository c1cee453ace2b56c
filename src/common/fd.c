/* File descriptors and whole files. Everything is opened O_CLOEXEC. */
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024 };

void fd_close(int *fd) {
    if (*fd < 0)
        return;
    int saved = errno; /* runs while an error is on its way out */
    close(*fd);
    *fd = -1;
    errno = saved;
}

bool fd_write_all(int fd, const void *bytes, size_t len, Error *err) {
    const char *next = bytes;
    while (len > 0) {
        ssize_t written = write(fd, next, len);
        if (written >= 0) {
            next += written;
            len -= (size_t)written;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return error_errno(err, REASON_SYSTEM, "cannot write %zu bytes", len);
        }
    }
    return true;
}

bool fd_set_nonblocking(int fd, Error *err) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a descriptor non-blocking");
    return true;
}

bool fd_read_file(const char *path, Buf *buf, Error *err) {
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", path);
    char step[READ_STEP];
    for (;;) {
        ssize_t got = read(fd, step, sizeof(step));
        if (got == 0)
            return true;
        if (got < 0 && errno == EINTR)
            continue; /* uncovered: regular files are not interrupted */
        if (got < 0)
            return error_errno(err, REASON_SYSTEM, "cannot read %s", path);
        buf_append(buf, step, (size_t)got);
        if (!buf_ok(buf, path, err))
            return false;
    }
}

static bool write_and_sync(const char *path, const void *bytes, size_t len, unsigned mode, Error *err) {
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot create %s", path);
    /* A left-over of an earlier run may have another mode, and the umask may have taken bits away. */
    if (fchmod(fd, mode) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot set the mode of %s", path); /* uncovered: the file is ours */
    if (!fd_write_all(fd, bytes, len, err))
        return error_wrap(err, "file %s", path);
    if (fsync(fd) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot sync %s", path); /* uncovered: a disk that fails */
    return true;
}

/* The new name is durable only once its folder is. */
static bool sync_folder_of(Arena *arena, const char *path, Error *err) {
    const char *folder = dirname(arena_strdup(arena, path));
    CLEANUP(fd_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot sync folder %s", folder); /* uncovered: a disk that fails */
    return true;
}

bool fd_write_file(const char *path, const void *bytes, size_t len, unsigned mode, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *temporary = arena_printf(arena, "%s.tmp", path);
    if (!write_and_sync(temporary, bytes, len, mode, err)) {
        unlink(temporary);
        return false;
    }
    if (rename(temporary, path) < 0) {
        error_errno(err, REASON_SYSTEM, "cannot rename %s to %s", temporary, path);
        unlink(temporary);
        return false;
    }
    return sync_folder_of(arena, path, err);
}

static bool make_dir(const char *path, Error *err) {
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return true;
    int why = errno;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    errno = why;
    return error_errno(err, REASON_SYSTEM, "cannot make folder %s", path);
}

bool fd_make_dirs(const char *path, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *part = arena_strdup(arena, path);
    for (char *slash = part; (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
        *slash = '\0';
        if (!make_dir(part, err))
            return false;
    }
    return make_dir(part, err);
}

static void close_fts(FTS **tree) {
    if (*tree != NULL)
        fts_close(*tree);
}

/* Removes what fts came to. Folders are met twice: removed the second time, when they are empty. */
static bool remove_entry(const FTSENT *entry, Error *err) {
    if (entry->fts_info == FTS_D)
        return true;
    if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR)
        errno = entry->fts_errno;
    else if (remove(entry->fts_accpath) == 0)
        return true;
    if (errno == ENOENT)
        return true;
    return error_errno(err, REASON_SYSTEM, "cannot remove %s", entry->fts_path);
}

bool fd_remove_tree(const char *path, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *const roots[] = {arena_strdup(arena, path), NULL};
    CLEANUP(close_fts) FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot walk %s", path);
    const FTSENT *entry;
    while ((entry = fts_read(tree)) != NULL) {
        if (!remove_entry(entry, err))
            return false;
    }
    return true;
}
