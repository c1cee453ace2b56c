/*
 * The files of a session that only we may read: certificates, keys, passwords of bastion hosts.
 *
 * libpq, pg_dump and ssh read them from files. They are written into a folder of memory (RUNTIME_DIRECTORY, else
 * /dev/shm) that is named after the session's own folder, so that the next session there finds and removes what one
 * that was killed has left. Several sessions may use the folder at the same time, and each has files of its own.
 *
 * Contract
 * - A PrivateFiles belongs to one thread and one process. What it made is removed by private_files_freep(), or, when
 *   the process was killed, by the next private_files_new() for the same folder.
 * - Errors: FILE_EXPOSED (somebody else made the folder, or may look into it), SYSTEM.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

typedef struct PrivateFiles PrivateFiles;

/* Makes nothing yet; removes what sessions that are gone have left. */
PrivateFiles *private_files_new(const char *session_folder);
/* `name` is of letters and dashes. *ret_path is in the arena, and good until private_files_freep(). */
NODISCARD bool private_files_write(PrivateFiles *files, Arena *arena, const char *name, const char *text,
                                   const char **ret_path, Error *err);
void private_files_freep(PrivateFiles **files);
