/* The file that keys are in: made once, and replaced as a whole. */
#include "secrets/key_file.h"

#include "common/failpoint.h"
#include "common/fd.h"
#include "secrets/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

bool key_file_read(const char *path, Keyring *ret_keyring, struct stat *ret_stat, Error *err) {
    CLEANUP(secret_wipe) Secret text = {0};

    if (!secret_file_read(path, KEY_FILE_MAX, &text, ret_stat, err)) {
        if (err->reason == REASON_NO_RESOURCE)
            return error_set(err, REASON_KEY_MISSING, "there is no key file %s", path);
        return error_wrap(err, "key file");
    }
    return keyring_parse(text.bytes, text.len, path, ret_keyring, err);
}

/* --- a new file beside it, which then gets its name --- */

typedef struct Draft {
    char *path; /* NULL = it is gone, or has its name */
    int fd, folder_fd;
} Draft;

static void draft_drop(Draft *draft) {
    if (draft->path != NULL)
        unlink(draft->path);
    fd_close(&draft->fd);
    fd_close(&draft->folder_fd);
}

static bool lock_folder(Arena *arena, const char *path, Draft *draft, Error *err) {
    const char *folder = dirname(arena_strdup(arena, path));

    draft->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (draft->folder_fd < 0)
        return error_errno(err, REASON_SYSTEM, "the folder of the key file, %s", folder);
    while (flock(draft->folder_fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return error_errno(err, REASON_SYSTEM, "cannot lock folder %s", folder); /* uncovered: it is open */
    return true;
}

/* One that is there was left by somebody who died: nobody else is here, with the folder's lock in our hand. */
static bool write_draft(Arena *arena, const char *path, const Keyring *keyring, Draft *draft, Error *err) {
    CLEANUP(secret_wipe) Secret text = {0};
    char *name = arena_printf(arena, "%s.new", path);

    unlink(name);
    draft->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (draft->fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a key file %s", path);
    draft->path = name;
    keyring_print(keyring, &text);
    if (!fd_write_all(draft->fd, text.bytes, text.len, err))
        return error_wrap(err, "key file %s", path);
    if (fsync(draft->fd) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot sync %s", path); /* uncovered: a disk that fails */
    return true;
}

/* The new name is durable only once its folder is. */
static bool sync_folder(const Draft *draft, const char *path, Error *err) {
    return fsync(draft->folder_fd) == 0 ||
           error_errno(err, REASON_SYSTEM, "cannot sync the folder of %s", path); /* uncovered: a disk that fails */
}

/* link(2) and not rename(2): it refuses a name that is there. */
bool key_file_create(const char *path, const Keyring *keyring, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(draft_drop) Draft draft = {.fd = -1, .folder_fd = -1};

    if (!lock_folder(arena, path, &draft, err) || !write_draft(arena, path, keyring, &draft, err))
        return false;
    if (link(draft.path, path) < 0)
        return error_errno(err, errno == EEXIST ? REASON_NAME_TAKEN : REASON_SYSTEM, "cannot make the key file %s",
                           path);
    return sync_folder(&draft, path, err);
}

/* Root may rotate the keys of a service that runs as somebody else, which is to read them afterwards. */
static bool keep_owner(const Draft *draft, const char *path, const struct stat *st, Error *err) {
    if (fchown(draft->fd, st->st_uid, st->st_gid) < 0 || fchmod(draft->fd, st->st_mode & 0640) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot give the new key file %s its owner", path);
    return true;
}

static bool replace(Arena *arena, const char *path, const Keyring *keyring, const struct stat *st, Draft *draft,
                    Error *err) {
    if (!write_draft(arena, path, keyring, draft, err) || !keep_owner(draft, path, st, err) ||
        !failpoint("keys.replace", err))
        return false;
    if (rename(draft->path, path) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot replace the key file %s", path); /* uncovered: a race */
    draft->path = NULL;
    return sync_folder(draft, path, err);
}

bool key_file_change(const char *path, KeyFileChange change, void *context, Keyring *ret_keyring, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(draft_drop) Draft draft = {.fd = -1, .folder_fd = -1};
    CLEANUP(keyring_freep) Keyring *keyring = keyring_new();
    char real[PATH_MAX]; /* a link stays one: what it points to is replaced */
    struct stat st;
    bool unchanged = false;

    if (realpath(path, real) == NULL)
        return error_errno(err, errno == ENOENT ? REASON_KEY_MISSING : REASON_SYSTEM, "key file %s", path);
    if (!lock_folder(arena, real, &draft, err) || !key_file_read(real, keyring, &st, err) ||
        !change(keyring, context, &unchanged, err) || (!unchanged && !replace(arena, real, keyring, &st, &draft, err)))
        return false;
    memcpy(ret_keyring, keyring, sizeof(*keyring));
    return true;
}
