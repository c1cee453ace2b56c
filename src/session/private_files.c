/*
 * The files of a session that only we may read.
 *
 * NOTES
 * Files are NAME-PID.pem, and as long as their process lives it holds a lock (of the open file description) on
 * lock-PID. Whoever tidies up removes only files whose lock it holds meanwhile. The number of a process proves nothing:
 * another program may have it by now, and a process that was killed keeps it until its parent has waited for it, which
 * the first process of a container may never do. Without a lock file it is all there is to go by.
 *
 * Who is where when:
 * - Killed between any two steps: the lock is free, its file is there, the next one removes both.
 * - A lock file that was made and is not locked yet is taken for one of a process that is gone, and removed: whoever
 *   made it sees that what it has locked is no longer in the folder, and begins again.
 * - The folder is removed by somebody else before the lock file is in it: begun again as well. Behind that it is not
 *   empty until we leave.
 */
#include "session/private_files.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCK_TRIES = 500, LOCK_PAUSE_US = 2000 };

struct PrivateFiles {
    Arena *arena;
    const char *folder;
    int lock_fd; /* -1: nothing was written yet */
};

static const char lock_prefix[] = "lock-";

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

static bool set_lock(int fd, short type) {
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole) == 0;
}

/* ---- Of processes that are gone ---- */

static long process_of(const char *name) {
    const char *dash = strrchr(name, '-');
    return dash != NULL ? strtol(dash + 1, NULL, 10) : 0;
}

static bool is_lock(const char *name) {
    return strncmp(name, lock_prefix, sizeof lock_prefix - 1) == 0;
}

/* *ret_fd holds the lock, or is -1 when there is none. */
static bool is_gone(int folder_fd, long pid, int *ret_fd) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    if (pid <= 0)
        return false;
    *ret_fd = openat(folder_fd, arena_printf(arena, "%s%ld", lock_prefix, pid), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd >= 0)
        return set_lock(*ret_fd, F_WRLCK);
    return errno == ENOENT && (pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH));
}

static void remove_of_gone(DIR *list, bool locks) {
    rewinddir(list);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        CLEANUP(fd_close) int lock_fd = -1;
        if (is_lock(entry->d_name) == locks && is_gone(dirfd(list), process_of(entry->d_name), &lock_fd))
            (void)unlinkat(dirfd(list), entry->d_name, 0);
    }
}

/* Locks last: they tell of the files. */
static void tidy(const char *folder) {
    struct stat there;
    /* A link that somebody else made there would lead to files that are not of this. */
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = fd >= 0 && fstat(fd, &there) == 0 && there.st_uid == getuid() ? fdopendir(fd) : NULL;

    if (list == NULL) {
        fd_close(&fd);
        return;
    }
    remove_of_gone(list, false);
    remove_of_gone(list, true);
    closedir(list); /* and fd */
    (void)rmdir(folder);
}

/* ---- Of this one ---- */

static bool is_at(const char *path, int fd) {
    struct stat held, there;
    return fstat(fd, &held) == 0 && lstat(path, &there) == 0 && held.st_dev == there.st_dev &&
           held.st_ino == there.st_ino;
}

static bool take_lock(PrivateFiles *files, Error *err) {
    const char *path = arena_printf(files->arena, "%s/%s%lld", files->folder, lock_prefix, (long long)getpid());

    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        if (!make_private(files->folder, err))
            return false;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 && errno != ENOENT)
            return error_errno(err, REASON_SYSTEM, "cannot make %s", path);
        if (fd >= 0 && set_lock(fd, F_WRLCK) && is_at(path, fd)) {
            files->lock_fd = fd;
            return true;
        }
        fd_close(&fd);
        clock_sleep_us(LOCK_PAUSE_US); /* who tidies up holds it for no longer than that */
    }
    return error_set(err, REASON_SYSTEM, "cannot lock %s: somebody else holds it", path);
}

PrivateFiles *private_files_new(const char *session_folder) {
    const char *base = getenv("RUNTIME_DIRECTORY");
    Arena *arena = arena_new();
    PrivateFiles *files = arena_new_of(arena, PrivateFiles);

    if (base == NULL || base[0] != '/' || strchr(base, ':') != NULL)
        base = "/dev/shm";
    *files = (PrivateFiles){
        .arena = arena,
        .folder = arena_printf(arena, "%s/pgcrane-tls-%lld-%016" PRIx64, base, (long long)getuid(),
                               hash_text64(session_folder)),
        .lock_fd = -1,
    };
    tidy(files->folder);
    return files;
}

bool private_files_write(PrivateFiles *files, Arena *arena, const char *name, const char *text, const char **ret_path,
                         Error *err) {
    if (files->lock_fd < 0 && !take_lock(files, err))
        return false;
    *ret_path = arena_printf(arena, "%s/%s-%lld.pem", files->folder, name, (long long)getpid());
    return fd_write_file(*ret_path, text, strlen(text), 0600, err);
}

void private_files_freep(PrivateFiles **files) {
    if (*files == NULL)
        return;
    Arena *arena = (*files)->arena; /* it holds *files, too */
    /* Ours are of a process that is gone from now on. A child that has not come to its exec() yet has the lock, too, as
     * long as it is not let go. */
    if ((*files)->lock_fd >= 0)
        (void)set_lock((*files)->lock_fd, F_UNLCK);
    fd_close(&(*files)->lock_fd);
    tidy((*files)->folder);
    arena_freep(&arena);
    *files = NULL;
}
