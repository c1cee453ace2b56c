/*
 * Databases that no resume mends: what their copy goes on from is gone, on one of the servers.
 *
 * Contract
 * - Pure. Results live in the arena.
 */
#pragma once

#include "common/arena.h"
#include "common/error.h"

/* Would it fail with the same error again until its copy is begun anew? */
bool anew_mends(const Error *error);
/* The error's remedy, with the command in place of the option that begins a migration anew at a terminal. */
const char *anew_remedy(Arena *arena, const Error *error, const char *command);
/* "pgcrane jobs restart JOB --database NAME", for a job that is RUNNING; `job` is the full name. */
const char *anew_command(Arena *arena, const char *job, const char *database);
/* The part of the job's full name that commands take. */
const char *anew_job_id(const char *job);
