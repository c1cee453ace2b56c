/*
 * Flags of a spec, before anything is made: the server program of that very major version is asked about each.
 *
 * `postgres -C NAME -c NAME=VALUE` reads an empty configuration and then the value, by the same code that reads it at
 * the start: an unknown name, a value that is no number or out of its range, and a setting that cannot be set are
 * refused with PostgreSQL's own words. It needs no data folder. What only a start can find out (memory that is not
 * there, a library that is not installed) is an error of the start, with the server's words and the flag they are
 * about.
 */
#include "provision/local/internal.h"
#include "provision/local/settings.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_MAX = 64 * 1024, NAME_MAX_LEN = 127, FLAGS_MAX = 200 };

/* PostgreSQL's: letters, digits, _, $; with a dot those of extensions. It must not look like an option. */
static bool is_name(const char *name) {
    size_t len = strlen(name);

    if (len == 0 || len > NAME_MAX_LEN || !(isalpha((unsigned char)name[0]) || name[0] == '_'))
        return false;
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr("_$.", *at) == NULL)
            return false;
    return true;
}

static bool is_twice(const Local *local, size_t which) {
    for (size_t at = 0; at < which; at++)
        if (strcasecmp(local->spec->flags.items[at].name, local->spec->flags.items[which].name) == 0)
            return true;
    return false;
}

/* What is wrong without asking; NULL = nothing. */
static const char *problem_of(const Local *local, size_t which) {
    const ProvisionFlag *flag = &local->spec->flags.items[which];
    const char *refusal = settings_refusal(flag->name);

    if (!is_name(flag->name))
        return "that is no name of a setting";
    if (is_twice(local, which))
        return "it is given twice";
    if (strpbrk(flag->value, "\r\n") != NULL)
        return "its value has several lines";
    if (strcasecmp(flag->name, "wal_level") == 0 && strcasecmp(flag->value, "replica") != 0 &&
        strcasecmp(flag->value, "logical") != 0)
        return "it is to be replica or logical";
    return refusal;
}

/* The last FATAL of what the program said, without time and process. */
static const char *words_of(Arena *arena, const Error *err) {
    static const char mark[] = "FATAL:  ";
    const char *found = strstr(err->message, mark);

    if (found == NULL)
        return arena_strdup(arena, err->message);
    found += sizeof(mark) - 1;
    return arena_strndup(arena, found, strcspn(found, "\n"));
}

static bool ask(const Local *local, const ProvisionFlag *flag, const char **ret_problem, Error *err) {
    const char *setting = arena_printf(local->arena, "%s=%s", flag->name, flag->value);
    const char *const argv[] = {"postgres", "-D",    "/", "-C", flag->name, "-c", "config_file=/dev/null",
                                "-c",       setting, NULL};
    CLEANUP(buf_fini) Buf out;
    Error why;

    buf_init(&out, ANSWER_MAX);
    if (local_capture(local, argv, &out, &why))
        return true;
    if (why.reason != REASON_CLIENT_FAILED) {
        *err = why;
        return false;
    }
    *ret_problem = words_of(local->arena, &why);
    return true;
}

bool flags_check(const Local *local, StringVec *problems, Error *err) {
    const ProvisionSpec *spec = local->spec;

    if (spec->flags.len > FLAGS_MAX) {
        vec_push(local->arena, problems, arena_printf(local->arena, "there are more than %d flags", FLAGS_MAX));
        return true;
    }
    for (size_t at = 0; at < spec->flags.len; at++) {
        const char *problem = problem_of(local, at);
        if (problem == NULL && !ask(local, &spec->flags.items[at], &problem, err))
            return false;
        if (problem != NULL)
            vec_push(local->arena, problems,
                     arena_printf(local->arena, "flag %.127s: %s", spec->flags.items[at].name, problem));
    }
    return true;
}

/* ---- Whose fault a start is ---- */

static bool is_of_name(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '.';
}

static bool has_name(const char *words, const char *name) {
    size_t len = strlen(name);

    for (const char *at = words; (at = strcasestr(at, name)) != NULL; at++)
        if ((at == words || !is_of_name(at[-1])) && !is_of_name(at[len]))
            return true;
    return false;
}

/* could not access file "pg_cron": what stands in quotes is a part of the value that asked for it. */
static bool quotes_value(Arena *arena, const char *words, const char *value) {
    const char *from = strchr(words, '"');
    const char *to = from != NULL ? strchr(from + 1, '"') : NULL;

    return to != NULL && to > from + 1 &&
           strstr(value, arena_strndup(arena, from + 1, (size_t)(to - from - 1))) != NULL;
}

const char *flags_named(const Local *local, const char *words) {
    const ProvisionFlag *found = NULL;

    for (size_t at = 0; local->spec != NULL && at < local->spec->flags.len && found == NULL; at++)
        if (has_name(words, local->spec->flags.items[at].name))
            found = &local->spec->flags.items[at];
    for (size_t at = 0; local->spec != NULL && at < local->spec->flags.len && found == NULL; at++)
        if (quotes_value(local->arena, words, local->spec->flags.items[at].value))
            found = &local->spec->flags.items[at];
    return found != NULL ? found->name : NULL;
}
