/* What the commands with verbs have in common. */
#include "cli/verbs.h"

#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/secret.h"
#include "cli/state_dir.h"
#include "common/fd.h"
#include "serve/files.h"

#include <pwd.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUT_MAX = 4 * 1024 * 1024, NOTE_MAX = 4096 };

void verb_note(const char *format, ...) {
    CLEANUP(buf_fini) Buf line;
    va_list args;
    Error lost;

    buf_init(&line, NOTE_MAX);
    va_start(args, format);
    buf_vprintf(&line, format, args);
    va_end(args);
    buf_append_char(&line, '\n');
    bool written UNUSED = fd_write_all(STDERR_FILENO, line.data, line.len, &lost); /* no place is left to say so */
}

bool verb_open_store(Arena *arena, const Arguments *arguments, Store **ret_store, Error *err) {
    StoreConfig config;

    return service_store_config(arena, &arguments->options, &config, err) && store_open(&config, ret_store, err);
}

DoorCaller verb_caller(Arena *arena) {
    const struct passwd *entry = getpwuid(getuid());
    const char *who = entry != NULL ? arena_printf(arena, "cli:%s", entry->pw_name)
                                    : arena_printf(arena, "cli:%u", (unsigned)getuid());

    return (DoorCaller){.who = who, .from = "local"};
}

void verb_json(Buf *out, json_t *line) {
    json_print(line, 0, out);
    buf_append_char(out, '\n');
    json_decref(line);
}

/* --- which verb --- */

/* --store may hold a password, which `ps` is to show no longer than it has to. */
static void mask(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        char *equals = strncmp(argv[at], "--", 2) == 0 ? strchr(argv[at], '=') : NULL;
        secret_mask(equals != NULL ? equals + 1 : argv[at]);
    }
}

static bool no_verb(const Command *command, const char *problem, Error *err) {
    error_set(err, REASON_USAGE, "%s", problem);
    return error_remedy(err, "see pgcrane %s --help", command->name);
}

static bool check_words(Arena *arena, const Command *command, const Verb *verb, size_t given, Error *err) {
    if (given >= verb->n_args && given <= verb->n_args + verb->n_more)
        return true;
    return no_verb(command,
                   arena_printf(arena, "%s %s takes %s, and %zu word%s given", command->name, verb->name,
                                verb->args[0] != '\0' ? verb->args : "no word", given, given == 1 ? " is" : "s are"),
                   err);
}

/* What the environment says may be meant for other verbs. */
static bool check_options(Arena *arena, const Command *command, const Verb *verb, const Arguments *arguments,
                          Error *err) {
    for (size_t at = 0; at < arguments->settings.len; at++) {
        const Setting *setting = &arguments->settings.items[at];

        if (setting->by_flag && !verb_takes(verb, setting->info))
            return no_verb(
                command,
                arena_printf(arena, "%s %s does not take --%s", command->name, verb->name, setting->info->flag), err);
    }
    return true;
}

bool verb_find(Arena *arena, const Command *command, const Arguments *arguments, const Verb **ret_verb, Error *err) {
    const StringVec *words = &arguments->words;

    if (words->len == 0)
        return no_verb(command, "the verb is missing", err);
    const Verb *verb = command_verb(command, words->items[0]);
    if (verb == NULL)
        return no_verb(command, arena_printf(arena, "%s has no verb \"%.40s\"", command->name, words->items[0]), err);
    if (!check_words(arena, command, verb, words->len - 1, err) || !check_options(arena, command, verb, arguments, err))
        return false;
    *ret_verb = verb;
    return true;
}

static bool run(Arena *arena, const Command *command, Arguments *arguments, Buf *out, Error *err) {
    const Verb *verb = NULL;

    return verb_find(arena, command, arguments, &verb, err) &&
           state_dir_resolve(arena, arguments->options.state_dir, &arguments->options.state_dir, err) &&
           verb->run(arena, arguments, out, err);
}

int verb_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    const Command *command = command_find(argv[0]);
    Arguments arguments = {0};
    Error err;

    buf_init(&out, OUTPUT_MAX);
    bool good = arguments_parse(arena, argc, argv, &arguments, &err);
    mask(argc, argv);
    if (good && arguments.help)
        return help_print(command->name);
    good = good && run(arena, command, &arguments, &out, &err);
    int code = good ? output_finish(&out) : output_error(&err);
    explicit_bzero(out.data, out.len);
    return code;
}
