/* Folders of files that may be somebody else's. */
#include "provision/local/tree.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/vec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 64 };

/* What is done with each name of a folder whose descriptor is `at`. */
typedef bool (*Visit)(int at, const char *name, int depth, void *context, Error *err);

static void close_list(DIR **list) {
    if (*list != NULL)
        closedir(*list);
    *list = NULL;
}

static int open_folder(int at, const char *name) {
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Takes `fd` over. */
static bool walk(int fd, int depth, Visit visit, void *context, Error *err) {
    CLEANUP(close_list) DIR *list = fdopendir(fd);

    if (list == NULL) {
        fd_close(&fd);
        return error_errno(err, REASON_SYSTEM, "cannot read a folder");
    }
    if (depth > DEPTH_MAX)
        return error_set(err, REASON_SYSTEM, "folders are nested more than %d deep", DEPTH_MAX);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!visit(dirfd(list), entry->d_name, depth, context, err))
            return error_wrap(err, "%s", entry->d_name);
    }
    return true;
}

static bool remove_one(int at, const char *name, int depth, void *context, Error *err) {
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return error_errno(err, REASON_SYSTEM, "cannot remove it");
    int fd = open_folder(at, name);
    if (fd < 0)
        return errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot open it");
    if (!walk(fd, depth + 1, remove_one, context, err))
        return false;
    return unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT ||
           error_errno(err, REASON_SYSTEM, "cannot remove it");
}

bool tree_remove(const char *path, Error *err) {
    return remove_one(AT_FDCWD, path, 0, NULL, err) || error_wrap(err, "%s", path);
}

static bool add_size(int at, const char *name, int depth, void *context, Error *err) {
    int64_t *bytes = context;
    struct stat there;

    if (fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot look at it");
    *bytes += (int64_t)there.st_blocks * 512;
    if (!S_ISDIR(there.st_mode))
        return true;
    int fd = open_folder(at, name);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || error_errno(err, REASON_SYSTEM, "cannot open it");
    return walk(fd, depth + 1, add_size, context, err);
}

bool tree_size(const char *path, int64_t *ret_bytes, Error *err) {
    int64_t bytes = 0;

    if (!add_size(AT_FDCWD, path, 0, &bytes, err))
        return error_wrap(err, "%s", path);
    *ret_bytes = bytes;
    return true;
}

/* ---- One folder ---- */

typedef struct Listing {
    Arena *arena;
    bool folders;
    VEC(TreeFile) files;
} Listing;

static bool list_one(int at, const char *name, int depth UNUSED, void *context, Error *err UNUSED) {
    Listing *listing = context;
    struct stat there;

    if (fstatat(at, name, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return true; /* it has just gone */
    if (listing->folders ? !S_ISDIR(there.st_mode) : !S_ISREG(there.st_mode))
        return true;
    TreeFile file = {.name = arena_strdup(listing->arena, name),
                     .size = there.st_size,
                     .mtime_us = there.st_mtim.tv_sec * USEC_PER_SEC + there.st_mtim.tv_nsec / 1000};
    vec_push(listing->arena, &listing->files, file);
    return true;
}

static int by_age(const void *a, const void *b) {
    const TreeFile *one = a, *other = b;

    if (one->mtime_us != other->mtime_us)
        return one->mtime_us < other->mtime_us ? -1 : 1;
    return strcmp(one->name, other->name);
}

bool tree_list(Arena *arena, const char *path, bool folders, TreeFile **ret_files, size_t *ret_count, Error *err) {
    Listing listing = {.arena = arena, .folders = folders};
    int fd = open_folder(AT_FDCWD, path);

    if (fd < 0 && errno != ENOENT)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", path);
    if (fd >= 0 && !walk(fd, 0, list_one, &listing, err))
        return error_wrap(err, "%s", path);
    if (listing.files.len > 0)
        qsort(listing.files.items, listing.files.len, sizeof(TreeFile), by_age);
    *ret_files = listing.files.items;
    *ret_count = listing.files.len;
    return true;
}

bool tree_remove_in(const char *folder, const char *name, Error *err) {
    CLEANUP(fd_close) int fd = open_folder(AT_FDCWD, folder);

    if (fd < 0)
        return errno == ENOENT || error_errno(err, REASON_SYSTEM, "cannot open %s", folder);
    return remove_one(fd, name, 0, NULL, err) || error_wrap(err, "%s/%s", folder, name);
}

int tree_open_in(const char *folder, const char *name) {
    CLEANUP(fd_close) int at = open_folder(AT_FDCWD, folder);
    CLEANUP(fd_close) int fd = at >= 0 ? openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    struct stat there;

    if (fd < 0)
        return -1;
    if (fstat(fd, &there) != 0 || !S_ISREG(there.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    int found = fd;
    fd = -1;
    return found;
}

bool tree_rename_in(const char *folder, const char *from, const char *to, Error *err) {
    CLEANUP(fd_close) int fd = open_folder(AT_FDCWD, folder);

    if (fd < 0 || renameat(fd, from, fd, to) != 0 || fsync(fd) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot rename %s/%s to %s", folder, from, to);
    return true;
}
