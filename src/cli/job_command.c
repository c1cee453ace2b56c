/* What promote, status and abort have in common. */
#include "cli/job_command.h"

#include "cli/help.h"
#include "cli/output.h"
#include "cli/state_dir.h"

#include <stdlib.h>

bool job_command_begin(Arena *arena, int argc, char **argv, Arguments *ret_arguments, int *ret_exit_code) {
    Arguments arguments = {0};
    Error err;
    if (!arguments_parse(arena, argc, argv, &arguments, &err) ||
        (!arguments.help &&
         !state_dir_resolve(arena, arguments.options.state_dir, &arguments.options.state_dir, &err))) {
        *ret_exit_code = output_error(&err);
        return false;
    }
    if (arguments.help) {
        *ret_exit_code = help_print(argv[0]);
        return false;
    }
    unsetenv("PGCRANE_SOURCE"); /* children would inherit them */
    unsetenv("PGCRANE_DEST");
    *ret_arguments = arguments;
    return true;
}

/* Says exactly what to set, when a password that was there at first is not there now. */
static const char *login_remedy(Arena *arena, const Job *job, const Arguments *arguments) {
    const char *remedy = NULL;
    if (job->source_struck && arguments->options.source == NULL && !arguments->options.dest_only)
        remedy = arena_printf(arena,
                              "the source's password is not kept: set PGCRANE_SOURCE=\"%s password=...\", or add "
                              "it to ~/.pgpass",
                              job->options.source);
    if (job->dest_struck && arguments->options.dest == NULL && !arguments->options.source_only)
        remedy = arena_printf(arena,
                              "%s%sthe destination's password is not kept: set PGCRANE_DEST=\"%s password=...\", "
                              "or add it to ~/.pgpass",
                              remedy != NULL ? remedy : "", remedy != NULL ? "; " : "", job->options.dest);
    return remedy;
}

int job_command_run(Arena *arena, const Job *job, const Arguments *arguments, const char *action, const char *command,
                    const json_t *promote) {
    MigrateOptions options = job->options;
    Error err;
    if (!arguments_apply(arena, arguments, &options, &err))
        return output_error(&err);
    options.state_dir = arguments->options.state_dir;
    options.dry_run = false; /* of the promote, not of the migration */
    options.promote = "manual";
    if (arguments->options.source != NULL)
        options.source = arguments->options.source;
    if (arguments->options.dest != NULL)
        options.dest = arguments->options.dest;
    if (!options_check(&options, &err))
        return output_error(&err);
    return session_run(&(SessionInput){
        .options = &options,
        .action = action,
        .job_id = job->id,
        .resume_command = arena_printf(arena, "pgcrane %s %s", command, job->id),
        .promote = promote,
        .login_remedy = login_remedy(arena, job, arguments),
    });
}
