/*
 * The configuration file of the service: the options of `serve`, one a line.
 *
 *     # a comment
 *     listen = 127.0.0.1:8432
 *
 * A key is the name of the option without its dashes; its value is the rest of the line, without the blanks around it:
 * nothing in it is quoted or means anything else. Lines that begin with # and empty ones are left out.
 */
#pragma once

#include "cli/arguments.h"

/* Appends what the file says and `settings` does not hold yet. Everybody reads one file: a key that is an option of
 * `serve` and not of this command is left out, any other is refused. USAGE, with file and line. */
NODISCARD bool config_file_read(Arena *arena, const char *path, const Command *command, SettingVec *settings,
                                Error *err);
/* The same from its text. */
NODISCARD bool config_file_parse(Arena *arena, const char *path, const char *text, size_t len, const Command *command,
                                 SettingVec *settings, Error *err);
