/* File descriptors and whole files. Everything is opened O_CLOEXEC. */
#pragma once

#include "common/arena.h"
#include "common/buf.h"
#include "common/error.h"

void fd_close(int *fd); /* for CLEANUP: closes unless -1, sets -1 */
NODISCARD bool fd_write_all(int fd, const void *bytes, size_t len, Error *err);
NODISCARD bool fd_set_nonblocking(int fd, Error *err);
/* A file that is larger than buf's ceiling is an error. */
NODISCARD bool fd_read_file(const char *path, Buf *buf, Error *err);
/* Writes NAME.tmp with `mode`, fsyncs, renames. */
NODISCARD bool fd_write_file(const char *path, const void *bytes, size_t len, unsigned mode, Error *err);
/* mkdir -p with mode 0700 for what it makes. */
NODISCARD bool fd_make_dirs(const char *path, Error *err);
/* Removes a folder with all in it; what is already gone is no error. */
NODISCARD bool fd_remove_tree(const char *path, Error *err);
