/* Secrets that are given by a file. */
#include "secrets/secret_file.h"

#include "common/arena.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- may it be trusted? --- */

static bool check_owner(const char *path, const struct stat *st, Error *err) {
    if (st->st_uid == geteuid() || st->st_uid == 0)
        return true;
    error_set(err, REASON_FILE_EXPOSED, "%s belongs to user %u, not to the one that runs this (%u)", path,
              (unsigned)st->st_uid, (unsigned)geteuid());
    return error_remedy(err, "chown %u '%s' && chmod 600 '%s'", (unsigned)geteuid(), path, path);
}

static bool check_mode(const char *path, const struct stat *st, Error *err) {
    mode_t allowed = st->st_uid == 0 ? 0640 : 0600;

    if ((st->st_mode & 07777 & ~allowed) == 0)
        return true;
    error_set(err, REASON_FILE_EXPOSED, "others than its owner may use %s (mode %04o)", path,
              (unsigned)(st->st_mode & 07777));
    return error_remedy(err, "chmod 600 '%s'; who has read it meanwhile, has the secret: think about a new one", path);
}

static bool check_file(const char *path, const struct stat *st, size_t max, Error *err) {
    if (!S_ISREG(st->st_mode))
        return error_set(err, REASON_BAD_DATA, "%s is no regular file", path);
    if (!check_owner(path, st, err) || !check_mode(path, st, err))
        return false;
    return (uintmax_t)st->st_size <= max ||
           error_set(err, REASON_BAD_DATA, "%s has %ju bytes, more than the %zu that are taken", path,
                     (uintmax_t)st->st_size, max);
}

/* --- reading --- */

static bool fill(int fd, const char *path, Secret *secret, Error *err) {
    size_t got = 0;

    while (got < secret->len) {
        ssize_t more = read(fd, secret->bytes + got, secret->len - got);
        if (more < 0 && errno == EINTR)
            continue; /* uncovered: regular files are not interrupted */
        if (more < 0)
            return error_errno(err, REASON_SYSTEM, "cannot read %s", path); /* uncovered: a disk that fails */
        if (more == 0)
            break;
        got += (size_t)more;
    }
    secret_cut(secret, got);
    return true;
}

/* O_NONBLOCK: a FIFO must not hold us up before it is found to be one. */
bool secret_file_read(const char *path, size_t max, Secret *ret_secret, struct stat *ret_stat, Error *err) {
    CLEANUP(secret_wipe) Secret secret = {0};
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0)
        return error_errno(err, errno == ENOENT ? REASON_NO_RESOURCE : REASON_SYSTEM, "cannot open %s", path);
    if (fstat(fd, &st) < 0)
        return error_errno(err, REASON_SYSTEM, "%s", path); /* uncovered: it is open */
    if (!check_file(path, &st, max, err))
        return false;
    secret_make(&secret, (size_t)st.st_size);
    if (!fill(fd, path, &secret, err))
        return false;
    secret_wipe(ret_secret);
    *ret_secret = secret;
    secret = (Secret){0};
    if (ret_stat != NULL)
        *ret_stat = st;
    return true;
}

bool secret_file_read_line(const char *path, size_t max, Secret *ret_secret, Error *err) {
    CLEANUP(secret_wipe) Secret secret = {0};

    if (!secret_file_read(path, max + 2, &secret, NULL, err)) /* and its line end */
        return false;
    size_t len = secret.len;
    if (len > 0 && secret.bytes[len - 1] == '\n')
        len--;
    if (len > 0 && len < secret.len && secret.bytes[len - 1] == '\r')
        len--;
    secret_cut(&secret, len);
    if (len == 0)
        return error_set(err, REASON_BAD_DATA, "%s is empty", path);
    if (len > max)
        return error_set(err, REASON_BAD_DATA, "the line in %s is longer than %zu bytes", path, max);
    if (strcspn(secret.bytes, "\r\n") != len)
        return error_set(err, REASON_BAD_DATA, "%s has more than one line, or a NUL", path);
    secret_wipe(ret_secret);
    *ret_secret = secret;
    secret = (Secret){0};
    return true;
}

/* --- settings --- */

static char *variable(const char *name) {
    char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Overwritten where it stands, too: /proc/PID/environ shows that memory. */
static bool take_variable(const char *name, char *value, size_t max, Secret *ret_secret, Error *err) {
    size_t len = strlen(value);

    if (len > max)
        return error_set(err, REASON_USAGE, "the value of %s is longer than %zu bytes", name, max);
    secret_make(ret_secret, len);
    memcpy(ret_secret->bytes, value, len);
    explicit_bzero(value, len);
    unsetenv(name);
    return true;
}

bool secret_from_environment(const char *name, size_t max, Secret *ret_secret, bool *ret_given, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *file_name = arena_printf(arena, "%s_FILE", name);
    const char *file = variable(file_name);
    char *value = variable(name);

    if (value != NULL && file != NULL) {
        error_set(err, REASON_USAGE, "both %s and %s are set", name, file_name);
        return error_remedy(err, "unset one of them: %s is the better one to keep", file_name);
    }
    if (file != NULL && !secret_file_read_line(file, max, ret_secret, err))
        return error_wrap(err, "%s", file_name);
    if (value != NULL && !take_variable(name, value, max, ret_secret, err))
        return false;
    *ret_given = file != NULL || value != NULL;
    return true;
}
