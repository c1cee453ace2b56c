/* The command `serve`: the daemon, from the command line. */
#include "serve/serve.h"

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_command.h"
#include "cli/output.h"
#include "cli/secret.h"
#include "common/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The password of the store's database: neither `ps` nor children of ours shall see it. */
static void hide_secrets(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        char *value = strncmp(argv[at], "--", 2) == 0 ? strchr(argv[at], '=') : NULL;

        (void)secret_mask(value != NULL ? value + 1 : argv[at]);
    }
    unsetenv("PGCRANE_STORE");
}

int serve_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arguments arguments;
    int exit_code;
    Error err;

    if (!job_command_begin(arena, argc, argv, &arguments, &exit_code))
        return exit_code;
    hide_secrets(argc, argv);
    log_init(STDERR_FILENO, arguments.options.verbose ? LOG_DEBUG : LOG_INFO);
    return serve_run(&arguments.options, &err) ? EXIT_CODE_OK : output_error(&err);
}
