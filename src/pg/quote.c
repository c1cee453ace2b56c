/* The one place where SQL text is quoted. */
#include "pg/quote.h"

#include <ctype.h>
#include <string.h>

/* `text` between two `quote` characters with each one inside (and each backslash, when asked) doubled. */
static char *quoted(Arena *arena, const char *prefix, const char *text, char quote, bool double_backslash) {
    size_t prefix_len = strlen(prefix);
    char *out = arena_alloc_array(arena, 2, strlen(text) + prefix_len + 2);
    char *p = out;

    memcpy(p, prefix, prefix_len);
    p += prefix_len;
    *p++ = quote;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == quote || (double_backslash && *c == '\\'))
            *p++ = *c;
        *p++ = *c;
    }
    *p++ = quote;
    *p = '\0';
    return out;
}

char *sql_ident(Arena *arena, const char *name) {
    return quoted(arena, "", name, '"', false);
}

char *sql_qualified(Arena *arena, const char *schema, const char *name) {
    return arena_printf(arena, "%s.%s", sql_ident(arena, schema), sql_ident(arena, name));
}

char *sql_literal(Arena *arena, const char *text) {
    if (text == NULL)
        return arena_strdup(arena, "NULL");
    /* E'' has the same meaning whatever standard_conforming_strings says. The blank keeps a keyword or operator in
     * front of it apart from the E. */
    if (strchr(text, '\\') != NULL)
        return quoted(arena, " E", text, '\'', true);
    return quoted(arena, "", text, '\'', false);
}

/* May stand without quotes when read by a person: reserved words are not looked at, people know what is meant. */
static bool is_plain(const char *name) {
    if (!(islower((unsigned char)name[0]) || name[0] == '_'))
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (!(islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_' || *c == '$'))
            return false;
    return true;
}

char *sql_display(Arena *arena, const char *schema, const char *name) {
    const char *shown_schema = is_plain(schema) ? schema : sql_ident(arena, schema);
    const char *shown_name = is_plain(name) ? name : sql_ident(arena, name);

    return arena_printf(arena, "%s.%s", shown_schema, shown_name);
}
