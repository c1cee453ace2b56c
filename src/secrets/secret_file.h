/*
 * Secrets that are given by a file rather than as text: NAME_FILE beside NAME, as container images and systemd's
 * credentials do it.
 *
 * A file is taken when nobody else may read it: it belongs to this user and has no right for group or others, or
 * it belongs to root and group may at most read it (the rule that libpq has for private keys). Otherwise FILE_EXPOSED,
 * with the command that mends it. Only regular files; what a link points to is looked at, not the link.
 */
#pragma once

#include "common/compiler.h"
#include "secrets/secret.h"

#include <sys/stat.h>

/* The whole file. At most max bytes, else BAD_DATA. ret_stat may be NULL; ENOENT is NO_RESOURCE, other trouble SYSTEM.
 */
NODISCARD bool secret_file_read(const char *path, size_t max, Secret *ret_secret, struct stat *ret_stat, Error *err);
/* As text of one line: a line end behind it is cut off. BAD_DATA when it is empty or has a NUL or another line. */
NODISCARD bool secret_file_read_line(const char *path, size_t max, Secret *ret_secret, Error *err);

/*
 * The secret of a setting: the value of the variable `name`, or the line in the file that the variable NAME_FILE names.
 * *ret_secret stays as it was when neither is set (empty is as unset); *ret_given says. Both: USAGE. A value is taken
 * out of the environment, so that no child inherits it.
 */
NODISCARD bool secret_from_environment(const char *name, size_t max, Secret *ret_secret, bool *ret_given, Error *err);
