/* The command `migrate`: options, the state folder, and one session with a worker. */
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/state_dir.h"

int migrate_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arguments arguments;
    Error err;
    /* As typed: getopt changes the order. */
    char **typed = arena_array(arena, char *, (size_t)argc + 1);
    for (int at = 0; at < argc; at++)
        typed[at] = argv[at];
    if (!arguments_parse(arena, argc, argv, &arguments, &err))
        return output_error(&err);
    if (arguments.help)
        return help_print(argv[0]);
    const char *command = arguments_resume_command(arena, argc, typed);
    if (!state_dir_resolve(arena, arguments.options.state_dir, &arguments.options.state_dir, &err))
        return output_error(&err);
    return session_run(&(SessionInput){.options = &arguments.options, .resume_command = command});
}
