/* Documentation generated from the tables: what `pgcrane docs PAGE` prints. Pure. */
#pragma once

#include "cli/commands.h"
#include "common/buf.h"

/* man, man-COMMAND of each command with options, options, errors, exit-codes, phases, job-states, bash-completion;
 * false when there is no such page. */
NODISCARD bool docs_render(Buf *out, const char *page);

/* man(7) pages, in docs_man.c. */
void docs_man_pgcrane(Buf *out);
void docs_man_command(Buf *out, const Command *command);

/* The life of a job of the service, in docs_jobs.c. */
void docs_job_states(Buf *out);
