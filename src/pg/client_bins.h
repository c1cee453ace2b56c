/*
 * Finds pg_dump: PostgreSQL's own programs must be at least as new as the server they read.
 *
 * Looked in: the given folder (only there, when given), else PATH, /usr/lib/postgresql/MAJOR/bin and the folders of
 * PGCRANE_PG_BINDIRS (colon-separated).
 * Chosen: the smallest major >= max(source, destination), else the largest >= source: the version PostgreSQL's own
 * documentation recommends for moving to that destination. None = CLIENT_MISSING with what was found and the command
 * that installs one.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"
#include "common/stop.h"

typedef struct ClientBin {
    const char *path;    /* /usr/lib/postgresql/15/bin/pg_dump */
    const char *version; /* "15.20" */
    int major;
} ClientBin;

NODISCARD bool client_find_pg_dump(Arena *arena, const char *bindir, int source_major, int dest_major, const Stop *stop,
                                   ClientBin *ret_bin, Error *err);
