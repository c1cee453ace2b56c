/* Documentation generated from the tables: Markdown pages, bash completion, and the command `docs`. */
#include "cli/docs.h"

#include "cli/commands.h"
#include "cli/doc_text.h"
#include "cli/exit_codes.h"
#include "cli/output.h"
#include "model/progress.h"

#include <string.h>

enum { DOCS_MAX = 4 * 1024 * 1024 };

static void markdown_option(Arena *arena, Buf *out, const OptionInfo *info) {
    const char *value_open = info->arg != NULL ? "=" : "";
    const char *value = info->arg != NULL ? info->arg : "";
    buf_append_str(out, "| ");
    if (info->short_flag != 0)
        buf_printf(out, "`-%c`, ", info->short_flag);
    buf_printf(out, "`--%s%s%s` | `%s` | %s | ", info->flag, value_open, value, option_variable(arena, info),
               info->absent != NULL ? info->absent : "");
    markdown_escape(out, info->help);
    buf_append_str(out, " | ");
    const char *comma = "";
    for (size_t at = 0; at < commands_count; at++) {
        if (commands[at].hidden || !command_takes(&commands[at], info))
            continue;
        buf_printf(out, "%s%s", comma, commands[at].name);
        comma = ", ";
    }
    buf_append_str(out, " |\n");
}

/* Of a command that help tells of. */
static bool is_shown(const OptionInfo *info) {
    for (size_t at = 0; at < commands_count; at++)
        if (!commands[at].hidden && command_takes(&commands[at], info))
            return true;
    return false;
}

static void docs_options(Buf *out) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    markdown_title(
        out, "Options",
        "Flags win over the environment, the environment over the file of --config (of serve, tokens and keys), "
        "that over the defaults. A list may be repeated as a "
        "flag, and is split at commas in its variable. A switch that the environment turned on is turned "
        "off by --NAME=false. SOURCE and DEST may come from `PGCRANE_SOURCE` and `PGCRANE_DEST`. To pgcrane "
        "promote, an option that is not given is as the migration was begun.");
    const char *group = "";
    for (size_t at = 0; at < option_infos_count; at++) {
        if (!is_shown(&option_infos[at]))
            continue;
        if (strcmp(group, option_infos[at].group) != 0) {
            group = option_infos[at].group;
            buf_printf(
                out,
                "\n## %s\n\n| Option | Variable | Default | Meaning | Commands |\n| --- | --- | --- | --- | --- |\n",
                group);
        }
        markdown_option(arena, out, &option_infos[at]);
    }
}

static void docs_errors(Buf *out) {
    markdown_title(out, "Errors",
                   "Every error has one of these reasons. It is printed behind `reason:`, and is `body.reason` of the "
                   "FAILED line of `--json`. What may pass by itself is tried again, with growing pauses, before it "
                   "is told. The exit codes are explained in [exit-codes.md](exit-codes.md).");
    buf_append_str(out,
                   "\n| Reason | Code | Exit code | Tried again | What to do |\n| --- | --- | --- | --- | --- |\n");
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++) {
        Error error;
        error_set(&error, reason, "-");
        buf_printf(out, "| `%s` | %s | %d | %s | ", error_reason_name(reason),
                   error_code_name(error_reason_code(reason)), error_reason_exit_code(reason),
                   error.retryable ? "yes" : "no");
        markdown_escape(out, error.remedy[0] != '\0' ? error.remedy : "as the message says");
        buf_append_str(out, " |\n");
    }
}

static void docs_exit_codes(Buf *out) {
    markdown_title(out, "Exit codes",
                   "Which error ends with which code is in [errors.md](errors.md). A process that was killed by a "
                   "signal has none of these.");
    buf_append_str(out, "\n| Exit code | Meaning |\n| --- | --- |\n");
    for (size_t at = 0; at < exit_code_infos_count; at++)
        buf_printf(out, "| %d | %s |\n", exit_code_infos[at].code, exit_code_infos[at].help);
}

static void docs_phases(Buf *out) {
    markdown_title(out, "Phases of a migration",
                   "In the order they begin. Copy and Index overlap: an index is built as soon as its table is "
                   "complete.");
    buf_append_str(out, "\n| Phase | Name in JSON | Of | What happens |\n| --- | --- | --- | --- |\n");
    for (Phase phase = 0; phase < PHASE_MAX_; phase++)
        buf_printf(out, "| %s | `%s` | %s | %s |\n", phase_title(phase), phase_name(phase),
                   phase_is_of_follow(phase) ? "`--follow` only" : "every migration", phase_help(phase));
}

/* Which commands have a manual page, a name a line: for packaging/generate.sh. */
static void docs_man_pages(Buf *out) {
    for (size_t at = 0; at < commands_count; at++)
        if (!commands[at].hidden && commands[at].takes != NULL)
            buf_printf(out, "%s\n", commands[at].name);
}

/* --- bash completion --- */

static void completion_words(Buf *out, const char *variable, void (*words)(Buf *out)) {
    buf_printf(out, "    local %s=\"", variable);
    words(out);
    buf_append_str(out, "\"\n");
}

static void command_words(Buf *out) {
    const char *blank = "";
    for (size_t at = 0; at < commands_count; at++) {
        if (commands[at].hidden)
            continue;
        buf_printf(out, "%s%s", blank, commands[at].name);
        blank = " ";
    }
}

static void option_words(Buf *out, const Command *command) {
    for (const Verb *verb = command->verbs; verb != NULL && verb->name != NULL; verb++)
        buf_printf(out, "%s ", verb->name);
    for (size_t at = 0; at < option_infos_count; at++)
        if (command_takes(command, &option_infos[at]))
            buf_printf(out, "--%s%s ", option_infos[at].flag, option_infos[at].arg != NULL ? "=" : "");
    buf_append_str(out, "--help");
}

/* "*:--state-dir | *:--pg-bindir": options whose argument is a folder. */
static void folder_options(Buf *out) {
    const char *bar = "";
    for (size_t at = 0; at < option_infos_count; at++) {
        const OptionInfo *info = &option_infos[at];
        if (info->arg == NULL || strcmp(info->arg, "DIR") != 0)
            continue;
        buf_printf(out, "%s*:--%s", bar, info->flag);
        bar = " | ";
    }
}

/* One branch for each command with options. */
static void completion_commands(Buf *out) {
    for (size_t at = 0; at < commands_count; at++) {
        if (commands[at].takes == NULL || commands[at].hidden)
            continue;
        buf_printf(out, "    %s:*)\n        mapfile -t COMPREPLY < <(compgen -W \"", commands[at].name);
        option_words(out, &commands[at]);
        buf_append_str(out, "\" -- \"$word\")\n"
                            "        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace\n"
                            "        ;;\n");
    }
}

/* readline gives "--state-dir=/va" as three words, as '=' breaks words: the option stands one or two before. */
static void docs_bash_completion(Buf *out) {
    buf_append_str(out, "# bash completion for pgcrane. Generated by packaging/generate.sh: do not edit.\n"
                        "# shellcheck shell=bash\n\n"
                        "_pgcrane() {\n"
                        "    local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD - 1]}\"\n");
    completion_words(out, "commands", command_words);
    buf_append_str(out, "    COMPREPLY=()\n"
                        "    if ((COMP_CWORD == 1)); then\n"
                        "        mapfile -t COMPREPLY < <(compgen -W \"$commands --help --version\" -- \"$word\")\n"
                        "        return\n"
                        "    fi\n"
                        "    if [[ $word == \"=\" ]]; then\n"
                        "        word=\"\"\n"
                        "    elif [[ $before == \"=\" ]]; then\n"
                        "        before=\"${COMP_WORDS[COMP_CWORD - 2]}\"\n"
                        "    fi\n"
                        "    case \"${COMP_WORDS[1]}:$before\" in\n"
                        "    ");
    folder_options(out);
    buf_append_str(out, ")\n"
                        "        compopt -o filenames\n"
                        "        mapfile -t COMPREPLY < <(compgen -d -- \"$word\")\n"
                        "        ;;\n");
    completion_commands(out);
    buf_append_str(out, "    help:help)\n"
                        "        mapfile -t COMPREPLY < <(compgen -W \"$commands exit-codes errors environment\" -- "
                        "\"$word\")\n"
                        "        ;;\n"
                        "    esac\n"
                        "} &&\n"
                        "    complete -F _pgcrane pgcrane\n");
}

static bool render_man(Buf *out, const char *page) {
    static const char prefix[] = "man-";
    if (strncmp(page, prefix, strlen(prefix)) != 0)
        return false;
    const Command *command = command_find(page + strlen(prefix));
    if (command == NULL || command->takes == NULL)
        return false;
    docs_man_command(out, command);
    return true;
}

bool docs_render(Buf *out, const char *page) {
    static const struct {
        const char *name;
        void (*render)(Buf *out);
    } pages[] = {
        {"man", docs_man_pgcrane},       {"options", docs_options},       {"errors", docs_errors},
        {"exit-codes", docs_exit_codes}, {"phases", docs_phases},         {"bash-completion", docs_bash_completion},
        {"man-pages", docs_man_pages},   {"job-states", docs_job_states},
    };
    for (size_t at = 0; at < COUNT_OF(pages); at++) {
        if (strcmp(pages[at].name, page) == 0) {
            pages[at].render(out);
            return true;
        }
    }
    return render_man(out, page);
}

int docs_main(int argc, char **argv) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, DOCS_MAX);
    if (argc != 2 || !docs_render(&text, argv[1])) {
        Error err;
        error_set(&err, REASON_USAGE, "docs needs the name of one page");
        error_remedy(&err, "see pgcrane docs --help");
        return output_error(&err);
    }
    return output_finish(&text);
}
