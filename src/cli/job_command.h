/* What promote, status and abort have in common: which job, and a run of its own worker. */
#pragma once

#include "cli/arguments.h"
#include "cli/session.h"
#include "session/job_files.h"

/* Reads the command line; false when the command is over already (--help, or an error that was told): *ret_exit_code.
 */
NODISCARD bool job_command_begin(Arena *arena, int argc, char **argv, Arguments *ret_arguments, int *ret_exit_code);
/* A worker for the job: its own options, what was given over them, passwords from PGCRANE_SOURCE and PGCRANE_DEST.
 * `action` and `promote` as in SessionInput. Returns the exit code. */
int job_command_run(Arena *arena, const Job *job, const Arguments *arguments, const char *action, const char *command,
                    const json_t *promote);
