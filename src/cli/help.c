/* Help texts, generated from the tables; and the commands `help` and `version`. */
#include "cli/help.h"

#include "cli/doc_text.h"
#include "cli/exit_codes.h"
#include "cli/output.h"
#include "config.h"
#include "model/options.h"

#include <string.h>

enum { HELP_WIDTH = 80, OPTION_COLUMN = 30, VERB_COLUMN = 12, HELP_MAX = 1024 * 1024 };

void help_overview(Buf *out) {
    buf_append_str(out, "pgcrane moves PostgreSQL databases to other servers.\n\nUsage: pgcrane COMMAND ...\n\n");
    buf_append_str(out, "Commands:\n");
    for (size_t at = 0; at < commands_count; at++)
        if (!commands[at].hidden)
            buf_printf(out, "  %-10s %s\n", commands[at].name, commands[at].help);
    buf_append_str(out, "\nMore: pgcrane help COMMAND, pgcrane help exit-codes, pgcrane help errors,\n"
                        "pgcrane help environment\n");
}

static void help_option(Arena *arena, Buf *out, const OptionInfo *info) {
    const char *label = option_label(arena, info);
    const char *text = info->help;
    if (option_default(info) != NULL)
        text = arena_printf(arena, "%s (default: %s)", text, option_default(info));
    int label_end = 2 + (int)strlen(label);
    buf_printf(out, "  %s", label);
    if (label_end + 1 > OPTION_COLUMN)
        buf_printf(out, "\n%*s", OPTION_COLUMN, "");
    else
        buf_printf(out, "%*s", OPTION_COLUMN - label_end, "");
    text_wrap(out, text, OPTION_COLUMN, OPTION_COLUMN, HELP_WIDTH);
}

static const char *about_environment(const Command *command) {
    if (command_takes(command, option_find("server")))
        return "Each option may also come from the environment: --server is PGCRANE_SERVER. Flags win. PGCRANE_TOKEN "
               "holds "
               "a token.";
    if (command_takes(command, option_find("store")))
        return "Each option may also come from the environment: --state-dir is PGCRANE_STATE_DIR; or from the "
               "file of --config. Flags win, then the environment.";
    return "Each option may also come from the environment: --state-dir is PGCRANE_STATE_DIR, lists are split at "
           "commas. "
           "SOURCE and DEST: PGCRANE_SOURCE and PGCRANE_DEST. Flags win.";
}

static void help_options(Arena *arena, Buf *out, const Command *command) {
    const char *group = "";
    for (size_t at = 0; at < option_infos_count; at++) {
        if (!command_takes(command, &option_infos[at]))
            continue;
        if (strcmp(group, option_infos[at].group) != 0) {
            group = option_infos[at].group;
            buf_printf(out, "\n%s:\n", group);
        }
        help_option(arena, out, &option_infos[at]);
    }
    buf_append_str(out, "\n  -h, --help                  this text\n\n");
    text_wrap(out, about_environment(command), 0, 0, HELP_WIDTH);
}

static const char *verb_words(Arena *arena, const Verb *verb) {
    return arena_printf(arena, "%s%s%s", verb->name, verb->args[0] != '\0' ? " " : "", verb->args);
}

static void help_verbs(Buf *out, const Command *command) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    int width = VERB_COLUMN;
    buf_append_str(out, "\nVerbs:\n");
    for (const Verb *verb = command->verbs; verb->name != NULL; verb++)
        width = MAX(width, (int)strlen(verb_words(arena, verb)));
    for (const Verb *verb = command->verbs; verb->name != NULL; verb++) {
        buf_printf(out, "  %-*s ", width, verb_words(arena, verb));
        text_wrap(out, verb->help, width + 3, width + 3, HELP_WIDTH);
    }
}

void help_command(Buf *out, const Command *command) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    buf_printf(out, "Usage: pgcrane %s%s%s\n", command->name, command->args[0] != '\0' ? " " : "", command->args);
    if (command->about == NULL)
        buf_printf(out, "\n%s\n", command->help);
    for (const char *const *paragraph = command->about; paragraph != NULL && *paragraph != NULL; paragraph++) {
        buf_append_char(out, '\n');
        text_wrap(out, *paragraph, 0, 0, HELP_WIDTH);
    }
    if (command->verbs != NULL)
        help_verbs(out, command);
    if (command->takes != NULL)
        help_options(arena, out, command);
    if (command->examples != NULL)
        buf_append_str(out, "\nExamples:\n");
    for (const Example *example = command->examples; example != NULL && example->what != NULL; example++)
        buf_printf(out, "  %s\n      %s\n", example->what, example->command);
}

static void help_exit_codes(Buf *out) {
    buf_append_str(out, "Exit codes:\n");
    for (size_t at = 0; at < exit_code_infos_count; at++) {
        buf_printf(out, "  %3d  ", exit_code_infos[at].code);
        text_wrap(out, exit_code_infos[at].help, 7, 7, HELP_WIDTH);
    }
}

/* An Error that was just set carries the remedy and the retry rule of its reason. */
static void help_errors(Buf *out) {
    buf_append_str(out, "Reasons of errors, with their exit codes; * is tried again before it is told.\n\n");
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++) {
        Error error;
        error_set(&error, reason, "-");
        buf_printf(out, "  %-18s %2d %s ", error_reason_name(reason), error_reason_exit_code(reason),
                   error.retryable ? "*" : " ");
        text_wrap(out, error.remedy[0] != '\0' ? error.remedy : "as the message says", 26, 26, HELP_WIDTH);
    }
}

static void help_environment(Buf *out) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    buf_append_str(out, "Environment:\n");
    buf_printf(out, "  %-26s %s\n", "PGCRANE_SOURCE", "SOURCE, when it is not on the command line");
    buf_printf(out, "  %-26s %s\n", "PGCRANE_DEST", "DEST, when it is not on the command line");
    for (size_t at = 0; at < option_infos_count; at++)
        buf_printf(out, "  %-26s as --%s\n", option_variable(arena, &option_infos[at]), option_infos[at].flag);
    buf_printf(out, "  %-26s %s\n", "PGCRANE_STORE_FILE", "a file that holds what --store is to be");
    buf_printf(out, "  %-26s %s\n", "PGCRANE_TOKEN", "a token of the service, for its clients");
    buf_printf(out, "  %-26s %s\n", "PGCRANE_KEY", "the text of a key file, instead of --key-file");
    buf_printf(out, "  %-26s %s\n", "NO_COLOR", "no colours, when not empty");
    buf_printf(out, "  %-26s %s\n", "XDG_STATE_HOME", "where the default of --state-dir stands");
    buf_append_str(out, "\nlibpq's own (PGPASSFILE, PGSERVICE, PGSSLMODE, ...) apply to both sides.\n");
}

bool help_topic(Buf *out, const char *topic) {
    static const struct {
        const char *name;
        void (*print)(Buf *out);
    } topics[] = {{"exit-codes", help_exit_codes}, {"errors", help_errors}, {"environment", help_environment}};
    for (size_t at = 0; at < COUNT_OF(topics); at++) {
        if (strcmp(topics[at].name, topic) == 0) {
            topics[at].print(out);
            return true;
        }
    }
    return false;
}

int help_print(const char *name) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, HELP_MAX);
    help_command(&text, command_find(name));
    return output_finish(&text);
}

int help_main(int argc, char **argv) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, HELP_MAX);
    const Command *command = argc > 1 ? command_find(argv[1]) : NULL;
    if (argc < 2) {
        help_overview(&text);
    } else if (command != NULL) {
        help_command(&text, command);
    } else if (!help_topic(&text, argv[1])) {
        Error err;
        error_set(&err, REASON_USAGE, "there is no command and no help topic \"%s\"", argv[1]);
        return output_error(&err);
    }
    return output_finish(&text);
}

int version_main(int argc UNUSED, char **argv UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, HELP_MAX);
    buf_append_str(&text, "pgcrane " PGCRANE_VERSION "\n");
    return output_finish(&text);
}
