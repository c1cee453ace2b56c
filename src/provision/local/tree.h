/*
 * Folders of files that may be somebody else's: removed and measured without ever following a link.
 *
 * Every folder is opened below the descriptor of the one above (O_NOFOLLOW), so that who owns one of them cannot lead
 * us elsewhere by exchanging it for a link meanwhile. What vanishes meanwhile is no error.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

/* The folder, too. Absent is fine; a link at `path` itself is removed, not what it leads to. */
NODISCARD bool tree_remove(const char *path, Error *err);
/* Bytes on the disk. */
NODISCARD bool tree_size(const char *path, int64_t *ret_bytes, Error *err);

typedef struct TreeFile {
    const char *name;
    int64_t size, mtime_us;
} TreeFile;
/* Plain files (folders = true: folders) directly in it, the oldest first; none when there is no such folder. */
NODISCARD bool tree_list(Arena *arena, const char *path, bool folders, TreeFile **ret_files, size_t *ret_count,
                         Error *err);
/* Of a file or folder directly in `folder`. */
NODISCARD bool tree_remove_in(const char *folder, const char *name, Error *err);
/* A plain file directly in `folder`, for reading: not through a link, and never waiting. -1 with errno. */
int tree_open_in(const char *folder, const char *name);
NODISCARD bool tree_rename_in(const char *folder, const char *from, const char *to, Error *err);
