/*
 * The command line of a command with options: flags over PGCRANE_* environment over the file of --config over defaults,
 * all by the table options.def. Which options a command takes, says commands.c.
 *
 * Strings that come out live in the arena, not in argv: argv may be masked afterwards. Not thread-safe (getopt).
 */
#pragma once

#include "cli/commands.h"
#include "model/options.h"

/* An option that was given: by flag, or, to a command that moves nothing itself, by its variable or a file. */
typedef struct Setting {
    const OptionInfo *info;
    const char *text;
    bool by_flag;
} Setting;
typedef VEC(Setting) SettingVec;

bool setting_is_given(const SettingVec *settings, const OptionInfo *info);

struct Arguments {
    bool help;       /* --help: nothing else was looked at */
    const char *job; /* of the commands that take one; NULL = not said */
    StringVec words; /* of the commands with verbs: the verb, and what stands behind it */
    SettingVec settings;
    MigrateOptions options;
};

/* argv[0] is the command's name. argv's order may change (getopt moves SOURCE and DEST behind the flags). */
NODISCARD bool arguments_parse(Arena *arena, int argc, char **argv, Arguments *ret_arguments, Error *err);

/* What was given, onto options from elsewhere (a job's); the rest stays. */
NODISCARD bool arguments_apply(Arena *arena, const Arguments *arguments, MigrateOptions *options, Error *err);
/* Those of one group that were given, and dry_run, as JSON. New reference. */
json_t *arguments_given(const Arguments *arguments, const char *group);

/*
 * What to type to go on with this migration: "pgcrane migrate ..." as typed, quoted for a shell, without --restart
 * (which would drop again what was done). First strikes passwords out of argv, so that `ps` shows them no more, and
 * takes PGCRANE_SOURCE and PGCRANE_DEST out of the environment, which children would inherit.
 */
char *arguments_resume_command(Arena *arena, int argc, char **argv);
