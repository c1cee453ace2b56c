/* The command line of a command with options: flags over PGCRANE_* environment over --config over defaults. */
#include "cli/arguments.h"

#include "cli/commands.h"
#include "cli/config_file.h"
#include "cli/doc_text.h"
#include "cli/secret.h"
#include "common/shell.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long returns for the option in row N: LONG_BASE + N; letters stay below. */
enum { LONG_BASE = 1000, HELP = 999 };

typedef struct Parsed {
    const Command *command;
    bool help;
    SettingVec settings;
} Parsed;

/* A flag may be switched off again where the environment switched it on: --vacuum=false. */
static struct option *build_long_options(Arena *arena, const Command *command) {
    struct option *longs = arena_array(arena, struct option, option_infos_count + 2);
    size_t count = 0;
    for (size_t at = 0; at < option_infos_count; at++)
        if (command_takes(command, &option_infos[at]))
            longs[count++] = (struct option){
                .name = option_infos[at].flag,
                .has_arg = option_infos[at].kind == OPTION_FLAG ? optional_argument : required_argument,
                .val = LONG_BASE + (int)at,
            };
    longs[count] = (struct option){.name = "help", .has_arg = no_argument, .val = HELP};
    return longs;
}

/* The leading ':' makes getopt tell a missing argument from an unknown option. */
static char *build_short_options(Arena *arena, const Command *command) {
    char *shorts = arena_alloc(arena, option_infos_count * 2 + 3);
    char *to = shorts;
    *to++ = ':';
    *to++ = 'h';
    for (size_t at = 0; at < option_infos_count; at++) {
        if (option_infos[at].short_flag == 0 || !command_takes(command, &option_infos[at]))
            continue;
        *to++ = option_infos[at].short_flag;
        if (option_infos[at].kind != OPTION_FLAG)
            *to++ = ':';
    }
    return shorts;
}

/* A letter may mean one thing to this command and another to that. */
static const OptionInfo *info_of(const Command *command, int value) {
    if (value >= LONG_BASE)
        return &option_infos[value - LONG_BASE];
    for (size_t at = 0; at < option_infos_count; at++)
        if (option_infos[at].short_flag == value && command_takes(command, &option_infos[at]))
            return &option_infos[at];
    return NULL;
}

static bool bad_option(const Command *command, int value, char *const *argv, Error *err) {
    const char *word = argv[optind - 1];
    int shown = (int)strcspn(word, "="); /* what stands behind it may be a secret */
    if (value == ':')
        error_set(err, REASON_USAGE, "option %.*s needs an argument", shown, word);
    else if (optopt > 0 && optopt < HELP)
        error_set(err, REASON_USAGE, "unknown option -%c", optopt);
    else
        error_set(err, REASON_USAGE, "unknown or ambiguous option %.*s", shown, word);
    return error_remedy(err, "see pgcrane %s --help", command->name);
}

static bool scan_flags(Arena *arena, int argc, char **argv, Parsed *parsed, Error *err) {
    const struct option *longs = build_long_options(arena, parsed->command);
    const char *shorts = build_short_options(arena, parsed->command);
    optind = 0; /* glibc: begin anew, its own state included */
    opterr = 0;
    int value;
    while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (value == 'h' || value == HELP) {
            parsed->help = true;
            return true;
        }
        const OptionInfo *info = value == '?' || value == ':' ? NULL : info_of(parsed->command, value);
        if (info == NULL)
            return bad_option(parsed->command, value, argv, err);
        Setting setting = {
            .info = info, .text = arena_strdup(arena, optarg != NULL ? optarg : "true"), .by_flag = true};
        vec_push(arena, &parsed->settings, setting);
    }
    return true;
}

/* Flags replace what the environment said, lists too; only then do repeated flags add up. */
static void empty_lists(const SettingVec *settings, MigrateOptions *options) {
    for (size_t at = 0; at < settings->len; at++)
        if (settings->items[at].info->kind == OPTION_LIST)
            *(StringVec *)(void *)((char *)options + settings->items[at].info->offset) = (StringVec){0};
}

static bool apply_settings(Arena *arena, const SettingVec *settings, MigrateOptions *options, Error *err) {
    empty_lists(settings, options);
    for (size_t at = 0; at < settings->len; at++)
        if (!options_set(arena, options, settings->items[at].info, settings->items[at].text, err))
            return false;
    return true;
}

static bool take_positionals(Arena *arena, int argc, char *const *argv, MigrateOptions *options, Error *err) {
    int count = argc - optind;
    if (count > 2) {
        /* The word itself is not shown: it may be a connection string with a password. */
        error_set(err, REASON_USAGE, "%d arguments too many: only SOURCE and DEST are expected", count - 2);
        return error_remedy(err, "see pgcrane migrate --help; put connection strings with blanks into quotes");
    }
    if (count >= 1)
        options->source = arena_strdup(arena, argv[optind]);
    if (count >= 2)
        options->dest = arena_strdup(arena, argv[optind + 1]);
    return true;
}

static bool require_connection(const char *value, const char *name, Error *err) {
    if (value != NULL && value[0] != '\0')
        return true;
    error_set(err, REASON_USAGE, "%s is missing", name);
    return error_remedy(err, "pgcrane migrate SOURCE DEST, or set PGCRANE_%s; see pgcrane migrate --help", name);
}

/* --- of migrate --- */

static bool fill_migrate(Arena *arena, const Parsed *parsed, int argc, char **argv, Arguments *arguments, Error *err) {
    MigrateOptions *options = &arguments->options;
    return options_from_environment(arena, options, err) && apply_settings(arena, &parsed->settings, options, err) &&
           take_positionals(arena, argc, argv, options, err) && require_connection(options->source, "SOURCE", err) &&
           require_connection(options->dest, "DEST", err) && options_check(options, err);
}

/* --- of commands on a JOB --- */

bool setting_is_given(const SettingVec *settings, const OptionInfo *info) {
    for (size_t at = 0; at < settings->len; at++)
        if (settings->items[at].info == info)
            return true;
    return false;
}

/* Lists are split at commas. */
static void push_value(Arena *arena, SettingVec *settings, const OptionInfo *info, const char *value) {
    bool is_list = info->kind == OPTION_LIST;
    while (*value != '\0') {
        size_t len = is_list ? strcspn(value, ",") : strlen(value);
        if (len > 0)
            vec_push(arena, settings, ((Setting){.info = info, .text = arena_strndup(arena, value, len)}));
        value += len + (value[len] == ',' ? 1 : 0);
    }
}

/* What no flag says. Empty and unset are the same. */
static void from_environment(Arena *arena, const Parsed *parsed, SettingVec *settings) {
    for (size_t at = 0; at < option_infos_count; at++) {
        const OptionInfo *info = &option_infos[at];
        const char *value = getenv(option_variable(arena, info));
        if (value != NULL && command_takes(parsed->command, info) && !setting_is_given(&parsed->settings, info))
            push_value(arena, settings, info, value);
    }
}

/* --config may itself come from the environment; of several the last counts, as of any option. */
static bool from_config(Arena *arena, const Command *command, SettingVec *settings, Error *err) {
    const char *path = NULL;
    for (size_t at = 0; at < settings->len; at++)
        if (strcmp(settings->items[at].info->flag, "config") == 0)
            path = settings->items[at].text;
    return path == NULL || config_file_read(arena, path, command, settings, err);
}

static bool take_job(Arena *arena, const Command *command, int argc, char *const *argv, const char **ret_job,
                     Error *err) {
    if (command->takes_none && optind < argc) {
        error_set(err, REASON_USAGE, "%s takes options only", command->name);
        return error_remedy(err, "see pgcrane %s --help", command->name);
    }
    if (argc - optind > 1) {
        error_set(err, REASON_USAGE, "%d arguments too many: only JOB is expected", argc - optind - 1);
        return error_remedy(err, "see pgcrane %s --help", command->name);
    }
    if (optind < argc)
        *ret_job = arena_strdup(arena, argv[optind]);
    return true;
}

static bool fill_job(Arena *arena, const Parsed *parsed, int argc, char **argv, Arguments *arguments, Error *err) {
    from_environment(arena, parsed, &arguments->settings);
    for (size_t at = 0; at < parsed->settings.len; at++) /* flags win: they are applied later */
        vec_push(arena, &arguments->settings, parsed->settings.items[at]);
    arguments->options.source = arena_strdup(arena, getenv("PGCRANE_SOURCE"));
    arguments->options.dest = arena_strdup(arena, getenv("PGCRANE_DEST"));
    return take_job(arena, parsed->command, argc, argv, &arguments->job, err) &&
           from_config(arena, parsed->command, &arguments->settings, err) &&
           apply_settings(arena, &arguments->settings, &arguments->options, err);
}

/* --- of commands with verbs --- */

/* How many there are to be, says the verb. */
static bool fill_words(Arena *arena, const Parsed *parsed, int argc, char **argv, Arguments *arguments, Error *err) {
    from_environment(arena, parsed, &arguments->settings);
    for (size_t at = 0; at < parsed->settings.len; at++)
        vec_push(arena, &arguments->settings, parsed->settings.items[at]);
    for (int at = optind; at < argc; at++)
        vec_push(arena, &arguments->words, arena_strdup(arena, argv[at]));
    return from_config(arena, parsed->command, &arguments->settings, err) &&
           apply_settings(arena, &arguments->settings, &arguments->options, err);
}

bool arguments_apply(Arena *arena, const Arguments *arguments, MigrateOptions *options, Error *err) {
    return apply_settings(arena, &arguments->settings, options, err);
}

json_t *arguments_given(const Arguments *arguments, const char *group) {
    CLEANUP(json_freep) json_t *all = options_to_json(&arguments->options);
    json_t *given = json_object();
    for (size_t at = 0; at < arguments->settings.len; at++) {
        const OptionInfo *info = arguments->settings.items[at].info;
        if (strcmp(info->group, group) == 0 || strcmp(info->field, "dry_run") == 0)
            json_object_set(given, info->field, json_object_get(all, info->field));
    }
    return given;
}

bool arguments_parse(Arena *arena, int argc, char **argv, Arguments *ret_arguments, Error *err) {
    Parsed parsed = {.command = command_find(argv[0])};
    if (!scan_flags(arena, argc, argv, &parsed, err))
        return false;
    if (parsed.help) {
        *ret_arguments = (Arguments){.help = true};
        return true;
    }
    Arguments arguments = {0};
    options_init(&arguments.options);
    bool on_job = parsed.command->takes_job || parsed.command->takes_none;
    bool filled = on_job                          ? fill_job(arena, &parsed, argc, argv, &arguments, err)
                  : parsed.command->verbs != NULL ? fill_words(arena, &parsed, argc, argv, &arguments, err)
                                                  : fill_migrate(arena, &parsed, argc, argv, &arguments, err);
    if (filled)
        *ret_arguments = arguments;
    return filled;
}

/* --restart or a beginning of it, as getopt takes it. "--" alone is none. */
static bool is_restart(const char *word) {
    size_t len = strcspn(word, "=");
    return len > 2 && strncmp(word, "--restart", len) == 0;
}

char *arguments_resume_command(Arena *arena, int argc, char **argv) {
    const char *restart = getenv("PGCRANE_RESTART");
    char *command = arena_strdup(arena, "pgcrane migrate");
    for (int at = 1; at < argc; at++) {
        secret_mask(argv[at]);
        if (!is_restart(argv[at]))
            command = arena_printf(arena, "%s %s", command, shell_quote(arena, argv[at]));
    }
    unsetenv("PGCRANE_SOURCE");
    unsetenv("PGCRANE_DEST");
    if (restart != NULL && restart[0] != '\0')
        command = arena_printf(arena, "%s --restart=false", command);
    return command;
}
