/* Tablespaces that a command names, as --tablespace-map sends them. */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <string.h>

/* TABLESPACE is no reserved word: behind these it is the name of a column. */
static bool is_name(const SqlToken *before) {
    static const char *const words[] = {"ADD", "COLUMN", "EXISTS", "ALTER", "RENAME", "TO", "ON", "BY"};

    if (before->kind == SQL_TOKEN_END || sql_token_is_symbol(before, '(') || sql_token_is_symbol(before, ',') ||
        sql_token_is_symbol(before, '.'))
        return true;
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (sql_token_is_word(before, words[i]))
            return true;
    return false;
}

/* As the server reads it: without quotes, or in lower case. */
static const char *name_of(Arena *arena, const SqlToken *token) {
    char *name = arena_strndup(arena, token->text, token->len), *to = name;

    if (token->kind == SQL_TOKEN_WORD) {
        for (char *c = name; *c != '\0'; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        return name;
    }
    for (const char *from = name + 1; from[0] != '\0' && from[1] != '\0'; from++) {
        from += from[0] == '"' && from[1] == '"' && from[2] != '\0';
        *to++ = *from;
    }
    *to = '\0';
    return name;
}

const char *ddl_place(Arena *arena, const char *sql, const TablespaceMap *map, const char *standard) {
    SqlScanner scanner = {.pos = sql};
    SqlToken before = {.kind = SQL_TOKEN_END, .text = ""}, token;
    const char *done = sql, *placed = "";

    while ((token = sql_next_token(&scanner)).kind != SQL_TOKEN_END) {
        SqlToken name = sql_peek_token(&scanner);
        bool names = sql_token_is_word(&token, "TABLESPACE") && !is_name(&before) &&
                     (name.kind == SQL_TOKEN_WORD || name.kind == SQL_TOKEN_IDENT);
        const char *to = names ? tablespace_map_find(map, name_of(arena, &name)) : NULL;

        before = token;
        if (to == NULL)
            continue;
        placed = arena_printf(arena, "%s%.*s%s", placed, (int)(name.text - done), done,
                              sql_ident(arena, to[0] == '\0' ? standard : to));
        done = name.text + name.len;
    }
    return done == sql ? sql : arena_printf(arena, "%s%s", placed, done);
}
