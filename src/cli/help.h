/* Help texts, generated from the tables. Pure. */
#pragma once

#include "cli/commands.h"
#include "common/buf.h"

void help_overview(Buf *out);
void help_command(Buf *out, const Command *command);
/* "exit-codes", "errors", "environment"; false when there is no such topic. */
NODISCARD bool help_topic(Buf *out, const char *topic);
/* How a command is used, to standard output; returns the exit code of the process. */
int help_print(const char *name);
