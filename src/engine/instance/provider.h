/*
 * What a managed service keeps on its servers for itself (provider.def), as conditions of SQL.
 *
 * Each is a boolean expression about the name in `column`, false on servers that no such service runs. In `arena`.
 */
#pragma once

#include "common/arena.h"

char *provider_role_sql(Arena *arena, const char *column);
char *provider_database_sql(Arena *arena, const char *column);
