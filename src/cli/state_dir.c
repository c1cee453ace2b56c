/* Where logs and reports go. */
#include "cli/state_dir.h"

#include "common/fd.h"

#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

static const char *home_folder(void) {
    const char *home = getenv("HOME");
    if (home != NULL && home[0] == '/')
        return home;
    const struct passwd *entry = getpwuid(getuid());
    return entry != NULL && entry->pw_dir != NULL && entry->pw_dir[0] == '/' ? entry->pw_dir : NULL;
}

/* A relative XDG_STATE_HOME is to be ignored, says the XDG base directory specification. */
static const char *default_path(Arena *arena) {
    const char *xdg = getenv("XDG_STATE_HOME");
    if (xdg != NULL && xdg[0] == '/')
        return arena_printf(arena, "%s/pgcrane", xdg);
    const char *home = home_folder();
    return home != NULL ? arena_printf(arena, "%s/.local/state/pgcrane", home) : NULL;
}

bool state_dir_resolve(Arena *arena, const char *given, const char **ret_path, Error *err) {
    const char *path = given != NULL && given[0] != '\0' ? given : default_path(arena);
    if (path == NULL) {
        error_set(err, REASON_USAGE, "no folder for logs: this user has no home");
        return error_remedy(err, "name one with --state-dir");
    }
    if (!fd_make_dirs(path, err)) {
        error_wrap(err, "folder for logs and reports");
        return error_remedy(err, "name a folder that may be written with --state-dir");
    }
    char absolute[PATH_MAX];
    if (realpath(path, absolute) == NULL)
        return error_errno(err, REASON_SYSTEM, "%s", path);
    *ret_path = arena_strdup(arena, absolute);
    return true;
}
