/* Text for a POSIX shell: commands that a person is told to run. */
#pragma once

#include "common/arena.h"

/* `text` as one word. */
char *shell_quote(Arena *arena, const char *text);
