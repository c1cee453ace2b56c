/*
 * The command line of `pgcrane migrate`: flags over PGCRANE_* environment over defaults, all by the table options.def.
 *
 * Strings that come out live in the arena, not in argv: argv may be masked afterwards. Not thread-safe (getopt).
 */
#pragma once

#include "model/options.h"

typedef struct Arguments {
    bool help; /* --help: nothing else was looked at */
    MigrateOptions options;
} Arguments;

/* argv[0] is the command's name. argv's order may change (getopt moves SOURCE and DEST behind the flags). */
NODISCARD bool arguments_parse(Arena *arena, int argc, char **argv, Arguments *ret_arguments, Error *err);

/*
 * What to type to go on with this migration: "pgcrane migrate ..." as typed, quoted for a shell, without --restart
 * (which would drop again what was done). First strikes passwords out of argv, so that `ps` shows them no more, and
 * takes PGCRANE_SOURCE and PGCRANE_DEST out of the environment, which children would inherit.
 */
char *arguments_resume_command(Arena *arena, int argc, char **argv);
