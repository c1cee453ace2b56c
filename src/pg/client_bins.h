/*
 * Finds pg_dump: PostgreSQL's own programs must be at least as new as the server they read.
 *
 * Looked in: the given folder (only there, when given), else PATH, /usr/lib/postgresql/MAJOR/bin and the folders of
 * PGCRANE_PG_BINDIRS (colon-separated).
 * Chosen: the largest major that is >= the source's and <= the destination's; where there is none, the smallest above
 * the destination's, which may write what that does not read (18 and later write NOT NULL as constraints): the caller
 * says so. None that is >= the source's = CLIENT_MISSING with what was found and the command that installs one.
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
