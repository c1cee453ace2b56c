/* The configuration file of the service. */
#include "cli/config_file.h"

#include "common/fd.h"

#include <string.h>

enum { FILE_MAX = 64 * 1024 };
static const char blanks[] = " \t\r", self[] = "config";

typedef struct Reading {
    Arena *arena;
    const char *path;
    int line;
    const Command *command;
    StringVec seen; /* keys */
    SettingVec *settings;
} Reading;

static bool refuse(const Reading *reading, const char *what, const char *why, Error *err) {
    error_set(err, REASON_USAGE, "%s, line %d: %.60s%s", reading->path, reading->line, what, why);
    return error_remedy(err, "a line is as listen = 127.0.0.1:8432; pgcrane serve --help has the names");
}

static char *trimmed(Arena *arena, const char *text, size_t len) {
    size_t skip = strspn(text, blanks);

    text += MIN(skip, len);
    len -= MIN(skip, len);
    while (len > 0 && strchr(blanks, text[len - 1]) != NULL)
        len--;
    return arena_strndup(arena, text, len);
}

static bool is_seen(const Reading *reading, const char *key) {
    for (size_t at = 0; at < reading->seen.len; at++)
        if (strcmp(reading->seen.items[at], key) == 0)
            return true;
    return false;
}

/* Here, and not when all settings are applied, so that the line is told. */
static bool check_value(const Reading *reading, const OptionInfo *info, const char *value, Error *err) {
    MigrateOptions unused;

    options_init(&unused);
    return options_set(reading->arena, &unused, info, value, err) ||
           error_wrap(err, "%s, line %d", reading->path, reading->line);
}

/* What is none is not told again: a connection string has equals signs, too. */
static bool looks_like_name(const char *key) {
    return strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(key);
}

static bool take(Reading *reading, const char *key, const char *value, Error *err) {
    const OptionInfo *info = option_find(key);

    if (!looks_like_name(key))
        return refuse(reading, "what stands before the equals sign is no name", "", err);
    if (info == NULL || !command_takes(command_find("serve"), info) || strcmp(key, self) == 0)
        return refuse(reading, key, " is no setting", err);
    if (is_seen(reading, key))
        return refuse(reading, key, " was set before", err);
    vec_push(reading->arena, &reading->seen, key);
    if (!check_value(reading, info, value, err))
        return false;
    if (command_takes(reading->command, info) && !setting_is_given(reading->settings, info))
        vec_push(reading->arena, reading->settings, ((Setting){.info = info, .text = value}));
    return true;
}

static bool read_line(Reading *reading, const char *text, size_t len, Error *err) {
    const char *line = trimmed(reading->arena, text, len), *equals = strchr(line, '=');

    if (line[0] == '\0' || line[0] == '#')
        return true;
    if (equals == NULL || equals == line)
        return refuse(reading, "this is no name = value", "", err); /* what it is may be a secret */
    const char *key = trimmed(reading->arena, line, (size_t)(equals - line));
    return take(reading, key, trimmed(reading->arena, equals + 1, strlen(equals + 1)), err);
}

bool config_file_parse(Arena *arena, const char *path, const char *text, size_t len, const Command *command,
                       SettingVec *settings, Error *err) {
    Reading reading = {.arena = arena, .path = path, .command = command, .settings = settings};

    if (memchr(text, '\0', len) != NULL)
        return error_set(err, REASON_USAGE, "%s is no text", path);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");

        reading.line++;
        if (!read_line(&reading, text, length, err))
            return false;
        text += length + (text[length] == '\n');
    }
    return true;
}

bool config_file_read(Arena *arena, const char *path, const Command *command, SettingVec *settings, Error *err) {
    CLEANUP(buf_fini) Buf text;
    Error why;

    buf_init(&text, FILE_MAX);
    /* As for whatever else it may say that is wrong: a unit need not try it again. */
    if (!fd_read_file(path, &text, &why))
        return error_set(err, REASON_USAGE, "--config: %s", why.message);
    return config_file_parse(arena, path, text.data, text.len, command, settings, err);
}
