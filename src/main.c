/* Where the program begins: one word chooses the command. */
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/provision_main.h"
#include "cli/session_main.h"
#include "cli/tunnel_main.h"
#include "common/proc.h"
#include "engine/snapshot/keeper.h"
#include "worker/worker.h"

#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Commands that pgcrane starts itself, as processes of their own. They are not for people: no help tells of them. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} internal_commands[] = {
    {"worker", worker_main}, {"keeper", keeper_main},  {"session", session_main},
    {"tunnel", tunnel_main}, {"tied", proc_tied_main}, {"provision", provision_main},
};

/* A descriptor of ours that became number 0, 1 or 2 would get what is meant for the terminal. */
static void open_standard_descriptors(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = fcntl(fd, F_DUPFD, 0);
    if (fd > STDERR_FILENO)
        close(fd);
}

static bool is_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run_command(const Command *command, int argc, char **argv) {
    if (command->takes != NULL || argc < 2 || !is_help(argv[1]))
        return command->run(argc, argv);
    char *help_argv[] = {argv[0], argv[0], NULL};
    return help_main(2, help_argv);
}

static int unknown_command(const char *word) {
    Error err;
    error_set(&err, REASON_USAGE, "there is no command \"%s\"", word);
    return output_error(&err);
}

int main(int argc, char **argv) {
    open_standard_descriptors();
    (void)prctl(PR_SET_NAME,
                "pgcrane"); /* processes know one another by it, also one that was started as /proc/self/exe */
    if (askpass_is_asked(argc))
        return askpass_main();
    setlocale(LC_CTYPE, ""); /* for the width of characters; numbers and messages stay as in C */
    if (argc < 2 || is_help(argv[1]))
        return help_main(1, argv);
    if (strcmp(argv[1], "--version") == 0)
        return version_main(argc - 1, argv + 1);
    for (size_t at = 0; at < COUNT_OF(internal_commands); at++)
        if (strcmp(internal_commands[at].name, argv[1]) == 0)
            return internal_commands[at].run(argc - 1, argv + 1);
    const Command *command = command_find(argv[1]);
    if (command == NULL)
        return unknown_command(argv[1]);
    return run_command(command, argc - 1, argv + 1);
}
