/* The settings of one migration: options.def read from text, environment and JSON. */
#include "model/options.h"

#include "common/clock.h"
#include "model/tablespace_map.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LANES_MAX = 1024, LEASE_MIN = 10, WEEK = 7 * 24 * 3600 };

const OptionInfo option_infos[] = {
#define X(field, kind, flag, short_flag, arg, absent, group, help)                                                     \
    {#field, OPTION_##kind, flag, short_flag, arg, absent, group, help, offsetof(MigrateOptions, field)},
#include "model/options.def"
#undef X
};
const size_t option_infos_count = COUNT_OF(option_infos);

/* The options that decide what arrives are those of one group: a new filter is in the fingerprint by being declared. */
static const char what_to_move[] = "What to move";

/* Settings of the service and of its clients: a migration takes none of them, nor keeps them in its files, as --store
 * may hold a password. */
static const char *const groups_of_service[] = {"Service", "Tokens", "Client", "Lists",        "Waiting",
                                                "Profile", "Job",    "Apply",  "Jobs at work", "Instance"};

static bool is_of_migration(const OptionInfo *info) {
    for (size_t i = 0; i < COUNT_OF(groups_of_service); i++)
        if (strcmp(info->group, groups_of_service[i]) == 0)
            return false;
    return true;
}

static void *field_of(MigrateOptions *options, const OptionInfo *info) {
    return (char *)options + info->offset;
}

static const void *const_field_of(const MigrateOptions *options, const OptionInfo *info) {
    return (const char *)options + info->offset;
}

/* --- from text --- */

static bool read_flag(const char *text, bool *ret_flag) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"}; /* odd ones are true */
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strcmp(words[i], text) == 0) {
            *ret_flag = i % 2 == 1;
            return true;
        }
    }
    return false;
}

static bool read_int(const char *text, int64_t *ret_number) {
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *ret_number = number;
    return true;
}

static void append_text(Arena *arena, StringVec *list, const char *text) {
    vec_push(arena, list, arena_strdup(arena, text));
}

static bool bad_value(const OptionInfo *info, const char *text, const char *wanted, Error *err) {
    return error_set(err, REASON_USAGE, "--%s: \"%s\" is not %s", info->flag, text, wanted);
}

bool options_set(Arena *arena, MigrateOptions *options, const OptionInfo *info, const char *text, Error *err) {
    void *field = field_of(options, info);
    switch (info->kind) {
    case OPTION_FLAG:
        return read_flag(text, field) || bad_value(info, text, "true or false", err);
    case OPTION_INT:
        return read_int(text, field) || bad_value(info, text, "a whole number", err);
    case OPTION_BYTES:
        return parse_bytes(text, field) || bad_value(info, text, "a size such as 64MB", err);
    case OPTION_TEXT:
    case OPTION_LIST:
        break;
    }
    if (*text == '\0')
        return error_set(err, REASON_USAGE, "--%s needs a value", info->flag);
    if (info->kind == OPTION_TEXT)
        *(const char **)field = arena_strdup(arena, text);
    else
        append_text(arena, field, text);
    return true;
}

void options_init(MigrateOptions *options) {
    *options = (MigrateOptions){0};
    for (size_t i = 0; i < option_infos_count; i++) {
        const OptionInfo *info = &option_infos[i];
        Error err;
        /* Nothing here needs an arena: a text's default is in the table, and lists have none. */
        if (info->kind == OPTION_TEXT)
            *(const char **)field_of(options, info) = info->absent;
        else if (info->absent != NULL && !options_set(NULL, options, info, info->absent, &err))
            abort(); /* uncovered: a bad default in options.def, which the unit test would see */
    }
}

/* --- from the environment --- */

/* PGCRANE_INDEX_JOBS for "index-jobs". Unset and empty are the same. */
static const char *from_environment(Arena *arena, const char *flag) {
    char *name = arena_printf(arena, "PGCRANE_%s", flag);
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    const char *value = getenv(name);
    return value == NULL || *value == '\0' ? NULL : value;
}

static bool set_list(Arena *arena, MigrateOptions *options, const OptionInfo *info, const char *text, Error *err) {
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        if (len > 0 && !options_set(arena, options, info, arena_strndup(arena, text, len), err))
            return false; /* uncovered: an item that is not empty is always taken */
        text += len + (text[len] == ',');
    }
    return true;
}

bool options_from_environment(Arena *arena, MigrateOptions *options, Error *err) {
    for (size_t i = 0; i < option_infos_count; i++) {
        const OptionInfo *info = &option_infos[i];
        const char *value = is_of_migration(info) ? from_environment(arena, info->flag) : NULL;
        if (value == NULL)
            continue;
        bool ok = info->kind == OPTION_LIST ? set_list(arena, options, info, value, err)
                                            : options_set(arena, options, info, value, err);
        if (!ok)
            return error_wrap(err, "environment");
    }
    const char *source = from_environment(arena, "source");
    const char *dest = from_environment(arena, "dest");
    if (source != NULL)
        options->source = arena_strdup(arena, source);
    if (dest != NULL)
        options->dest = arena_strdup(arena, dest);
    return true;
}

/* --- JSON --- */

static json_t *list_to_json(const StringVec *list) {
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_string_lossy(list->items[i]));
    return array;
}

static json_t *field_to_json(const MigrateOptions *options, const OptionInfo *info) {
    const void *field = const_field_of(options, info);
    switch (info->kind) {
    case OPTION_FLAG:
        return json_boolean(*(const bool *)field);
    case OPTION_INT:
    case OPTION_BYTES:
        return json_integer(*(const int64_t *)field);
    case OPTION_TEXT:
        return json_string_lossy(*(const char *const *)field);
    case OPTION_LIST:
        return list_to_json(field);
    }
    UNREACHABLE(); /* uncovered: every kind returns above */
}

json_t *options_to_json(const MigrateOptions *options) {
    json_t *object = json_object();
    json_object_set_new(object, "source", json_string_lossy(options->source));
    json_object_set_new(object, "dest", json_string_lossy(options->dest));
    for (size_t i = 0; i < option_infos_count; i++)
        if (is_of_migration(&option_infos[i]))
            json_object_set_new(object, option_infos[i].field, field_to_json(options, &option_infos[i]));
    return object;
}

static bool list_from_json(Arena *arena, const json_t *array, StringVec *list) {
    if (!json_is_array(array))
        return false;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL)
            return false;
        append_text(arena, list, text);
    }
    return true;
}

/* False: a value of another type than the option's. */
static bool field_from_json(Arena *arena, const json_t *value, MigrateOptions *options, const OptionInfo *info) {
    void *field = field_of(options, info);
    switch (info->kind) {
    case OPTION_FLAG:
        *(bool *)field = json_is_true(value);
        return json_is_boolean(value);
    case OPTION_INT:
    case OPTION_BYTES:
        *(int64_t *)field = json_integer_value(value);
        return json_is_integer(value);
    case OPTION_TEXT:
        *(const char **)field = arena_strdup(arena, json_string_value(value));
        return json_is_string(value) || json_is_null(value);
    case OPTION_LIST:
        return list_from_json(arena, value, field);
    }
    UNREACHABLE(); /* uncovered: every kind returns above */
}

bool options_from_json(Arena *arena, const json_t *json, MigrateOptions *ret_options, Error *err) {
    if (!json_is_object(json))
        return error_set(err, REASON_WIRE_BAD, "options: not an object");
    MigrateOptions options;
    options_init(&options);
    options.source = arena_strdup(arena, json_get_string(json, "source", NULL));
    options.dest = arena_strdup(arena, json_get_string(json, "dest", NULL));
    for (size_t i = 0; i < option_infos_count; i++) {
        const json_t *value = json_object_get(json, option_infos[i].field);
        if (value != NULL && !field_from_json(arena, value, &options, &option_infos[i]))
            return error_set(err, REASON_WIRE_BAD, "options: %s has the wrong type", option_infos[i].field);
    }
    *ret_options = options;
    return true;
}

/* --- check --- */

/* Options that take one of a few words. */
static const struct {
    const char *flag;
    const char *words[4];
    const char *shown;
} choices[] = {
    {"promote", {"auto", "manual"}, "auto or manual"},
    {"fence", {"full", "locks", "none"}, "full, locks or none"},
};

static const struct {
    const char *flag;
    int64_t min, max;
} ranges[] = {
    {"jobs", 0, LANES_MAX},
    {"index-jobs", 0, LANES_MAX},
    {"retry-for", 0, WEEK},
    {"fence-timeout", 1, 3600},
    {"lag-limit", 0, WEEK},
    {"lag-timeout", 0, WEEK},
    {"snapshot-lease", LEASE_MIN, WEEK},
};

/* The options of these groups mean nothing without --follow. */
static const char *const groups_of_follow[] = {"Following", "Promote"};

const OptionInfo *option_find(const char *flag) {
    for (size_t i = 0; i < option_infos_count; i++)
        if (strcmp(option_infos[i].flag, flag) == 0)
            return &option_infos[i];
    return NULL;
}

static bool check_choices(const MigrateOptions *options, Error *err) {
    for (size_t i = 0; i < COUNT_OF(choices); i++) {
        const OptionInfo *info = option_find(choices[i].flag);
        const char *text = *(const char *const *)const_field_of(options, info);
        bool known = false;
        for (size_t word = 0; text != NULL && choices[i].words[word] != NULL; word++)
            known = known || strcmp(text, choices[i].words[word]) == 0;
        if (!known)
            return bad_value(info, text == NULL ? "" : text, choices[i].shown, err);
    }
    return true;
}

static bool check_ranges(const MigrateOptions *options, Error *err) {
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        const OptionInfo *info = option_find(ranges[i].flag);
        int64_t number = *(const int64_t *)const_field_of(options, info);
        if (number < ranges[i].min || number > ranges[i].max)
            return error_set(err, REASON_USAGE, "--%s is from %lld to %lld%s", info->flag, (long long)ranges[i].min,
                             (long long)ranges[i].max, strcmp(info->arg, "SECONDS") == 0 ? " seconds" : "");
    }
    return true;
}

static bool is_default(const MigrateOptions *options, const OptionInfo *info) {
    MigrateOptions fresh;
    options_init(&fresh);
    CLEANUP(json_freep) json_t *is = field_to_json(options, info);
    CLEANUP(json_freep) json_t *was = field_to_json(&fresh, info);
    return json_equal(is, was) == 1;
}

static bool check_needs_follow(const MigrateOptions *options, Error *err) {
    for (size_t i = 0; i < option_infos_count; i++) {
        const OptionInfo *info = &option_infos[i];
        for (size_t group = 0; group < COUNT_OF(groups_of_follow); group++)
            if (strcmp(info->group, groups_of_follow[group]) == 0 && !is_default(options, info))
                return error_set(err, REASON_USAGE, "--%s goes with --follow only", info->flag);
    }
    return true;
}

static bool check_follow(const MigrateOptions *options, Error *err) {
    if (!options->follow)
        return check_needs_follow(options, err);
    if (options->schema_only)
        return error_set(err, REASON_USAGE, "--follow needs data: it does not go with --schema-only");
    if (options->data_only) /* a table that was there could hold rows, and rows that are no copy cannot follow */
        return error_set(err, REASON_USAGE, "--follow makes the tables itself: it does not go with --data-only");
    return true;
}

static bool check_tablespace_map(const MigrateOptions *options, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    TablespaceMap map;

    if (options->tablespace_map != NULL && options->data_only)
        return error_set(err, REASON_USAGE, "--tablespace-map needs definitions: it does not go with --data-only");
    return tablespace_map_parse(arena, options->tablespace_map, &map, err);
}

bool options_check(const MigrateOptions *options, Error *err) {
    if (options->schema_only && options->data_only)
        return error_set(err, REASON_USAGE, "--schema-only and --data-only exclude each other");
    if (options->schema_only && options->vacuum)
        return error_set(err, REASON_USAGE, "--vacuum needs data: it does not go with --schema-only");
    return check_ranges(options, err) && check_choices(options, err) && check_tablespace_map(options, err) &&
           check_follow(options, err);
}

/* --- fingerprint --- */

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The order and number of times in which patterns are given means nothing. */
static StringVec sorted_set(Arena *arena, const StringVec *list) {
    StringVec result = {0};
    if (list->len == 0)
        return result;
    const char **sorted = arena_array(arena, const char *, list->len);
    memcpy(sorted, list->items, list->len * sizeof(*sorted));
    qsort(sorted, list->len, sizeof(*sorted), compare_texts);
    for (size_t i = 0; i < list->len; i++) {
        if (i == 0 || strcmp(sorted[i - 1], sorted[i]) != 0)
            vec_push(arena, &result, sorted[i]);
    }
    return result;
}

char *options_fingerprint(Arena *arena, const MigrateOptions *options) {
    CLEANUP(json_freep) json_t *object = json_object();
    for (size_t i = 0; i < option_infos_count; i++) {
        const OptionInfo *info = &option_infos[i];
        if (strcmp(info->group, what_to_move) != 0)
            continue;
        /* One that came later: a migration that began without it goes on. */
        if (info->kind == OPTION_TEXT && *(const char *const *)const_field_of(options, info) == NULL)
            continue;
        if (info->kind == OPTION_LIST) {
            StringVec sorted = sorted_set(arena, const_field_of(options, info));
            json_object_set_new(object, info->field, list_to_json(&sorted));
        } else {
            json_object_set_new(object, info->field, field_to_json(options, info));
        }
    }
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, SIZE_MAX);
    json_print(object, 0, &text);
    return arena_strndup(arena, text.data, text.len);
}
