/* Which machine this is. */
#pragma once

#include "common/arena.h"

/* "NAME (FIRST OF ITS ID)": a container's host name may be that of others. In the arena. */
const char *machine_name(Arena *arena);
