/* Where logs and reports go. */
#pragma once

#include "common/arena.h"
#include "common/error.h"

/* `given`, or $XDG_STATE_HOME/pgcrane, or ~/.local/state/pgcrane: made when missing (mode 0700), absolute. */
NODISCARD bool state_dir_resolve(Arena *arena, const char *given, const char **ret_path, Error *err);
