/*
 * Name patterns as psql understands them: `*`, `?`, a dot between schema and name, "..." for literal text.
 *
 * A parsed pattern is a glob: `*` and `?` are wild, a backslash makes the next character literal (quoted text and
 * backslashes come out of the parser escaped). Folding is ASCII only, as the server folds unquoted names in UTF-8.
 */
#include "engine/schema/filter.h"

#include <string.h>

/* --- parsing --- */

typedef struct GlobWriter {
    char *text; /* has room for two bytes for each byte of the pattern */
    size_t len;
} GlobWriter;

static void glob_literal(GlobWriter *writer, char c) {
    if (c == '*' || c == '?' || c == '\\')
        writer->text[writer->len++] = '\\';
    writer->text[writer->len++] = c;
}

static void glob_unquoted(GlobWriter *writer, char c) {
    if (c == '*' || c == '?')
        writer->text[writer->len++] = c;
    else
        glob_literal(writer, c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
}

/* From the opening quote to behind the closing one; NULL when there is none. */
static const char *glob_quoted(GlobWriter *writer, const char *p) {
    for (p++; *p != '\0'; p++) {
        if (*p == '"' && p[1] != '"')
            return p + 1;
        if (*p == '"')
            p++;
        glob_literal(writer, *p);
    }
    return NULL;
}

static bool pattern_bad(const char *text, const char *why, Error *err) {
    error_set(err, REASON_USAGE, "pattern %s: %s", text, why);
    return error_remedy(err, "give SCHEMA.TABLE, TABLE or SCHEMA, in single quotes for the shell: --table 'sales.o*'");
}

bool name_pattern_parse(Arena *arena, const char *text, bool is_schema, NamePattern *ret_pattern, Error *err) {
    GlobWriter writer = {.text = arena_alloc(arena, 2 * strlen(text) + 1)};
    const char *schema = NULL;
    const char *p = text;
    while (*p != '\0') {
        if (*p == '"') {
            p = glob_quoted(&writer, p);
            if (p == NULL)
                return pattern_bad(text, "the closing double quote is missing", err);
        } else if (*p != '.') {
            glob_unquoted(&writer, *p++);
        } else if (is_schema || schema != NULL) {
            return pattern_bad(text, is_schema ? "a schema has no dot" : "more than one dot", err);
        } else if (writer.len == 0) {
            return pattern_bad(text, "nothing before the dot", err);
        } else {
            schema = arena_strndup(arena, writer.text, writer.len);
            writer.len = 0;
            p++;
        }
    }
    if (writer.len == 0)
        return pattern_bad(text, schema == NULL ? "it is empty" : "nothing behind the dot", err);
    const char *name = arena_strndup(arena, writer.text, writer.len);
    *ret_pattern = is_schema ? (NamePattern){.schema = name} : (NamePattern){.schema = schema, .name = name};
    return true;
}

/* --- matching --- */

/* A `?` stands for one character, not for one of its bytes. */
static const char *next_character(const char *p) {
    p++;
    while (((unsigned char)*p & 0xc0) == 0x80)
        p++;
    return p;
}

/* Goes back to the last star only: time is at most len(glob) * len(text), whatever the pattern. */
static bool glob_matches(const char *glob, const char *text) {
    const char *star = NULL;
    const char *star_text = NULL;
    while (*text != '\0') {
        const char *literal = *glob == '\\' ? glob + 1 : glob;
        if (*glob == '*') {
            star = ++glob;
            star_text = text;
        } else if (*glob == '?') {
            glob++;
            text = next_character(text);
        } else if (*glob != '\0' && *literal == *text) {
            glob = literal + 1;
            text++;
        } else if (star != NULL) {
            glob = star;
            text = star_text = next_character(star_text);
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}

bool name_pattern_matches(const NamePattern *pattern, const char *schema, const char *name) {
    return (pattern->schema == NULL || glob_matches(pattern->schema, schema)) &&
           (pattern->name == NULL || glob_matches(pattern->name, name));
}

static bool any_matches(Arena *arena, const StringVec *texts, bool is_schema, const char *schema, const char *name,
                        bool *matches, Error *err) {
    for (size_t i = 0; i < texts->len; i++) {
        NamePattern pattern;
        if (!name_pattern_parse(arena, texts->items[i], is_schema, &pattern, err))
            return false;
        *matches = *matches || name_pattern_matches(&pattern, schema, name);
    }
    return true;
}

bool filter_table_by_name(Arena *arena, const MigrateOptions *options, const char *schema, const char *name,
                          bool *ret_passes, Error *err) {
    bool included = options->tables.len == 0 && options->schemas.len == 0;
    bool excluded = false;
    if (!any_matches(arena, &options->tables, false, schema, name, &included, err) ||
        !any_matches(arena, &options->schemas, true, schema, name, &included, err) ||
        !any_matches(arena, &options->exclude_tables, false, schema, name, &excluded, err) ||
        !any_matches(arena, &options->exclude_schemas, true, schema, name, &excluded, err))
        return false;
    *ret_passes = included && !excluded;
    return true;
}
