/* Finds the secrets inside a connection string, and strikes them out where they stand. */
#pragma once

#include "common/arena.h"

/*
 * Overwrites with '*' the value of every password in a URI (userinfo and query) or a key=value string; the length stays
 * the same. For argv, so that `ps` does not show it. True when there was one.
 */
bool secret_mask(char *conninfo);
