/* A key or index in two steps (key_split.h): by tokens of the entry's own text. */
#include "engine/load/key_split.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <string.h>

typedef struct Span {
    const char *text;
    size_t len;
} Span;

/* A balanced "( ... )" at the scanner; false and nothing taken that matters when there is none, or it says WITHOUT
 * OVERLAPS. */
static bool take_parens(SqlScanner *scanner, Span *ret_span) {
    SqlToken open = sql_peek_token(scanner);
    int depth = 0;

    if (!sql_token_is_symbol(&open, '('))
        return false;
    for (;;) {
        SqlToken token = sql_next_token(scanner);

        if (token.kind == SQL_TOKEN_END || sql_token_is_word(&token, "WITHOUT"))
            return false;
        if (sql_token_is_symbol(&token, '('))
            depth++;
        if (sql_token_is_symbol(&token, ')') && --depth == 0) {
            *ret_span = (Span){.text = open.text, .len = (size_t)(token.text + token.len - open.text)};
            return true;
        }
    }
}

typedef struct KeyText {
    Span table, name, columns, include, with;
    bool primary, nulls_not_distinct, deferrable, initially_deferred;
} KeyText;

/* ALTER TABLE ONLY t ADD CONSTRAINT k PRIMARY KEY|UNIQUE [NULLS NOT DISTINCT] (...) [INCLUDE (...)] [WITH (...)]
 * [DEFERRABLE [INITIALLY DEFERRED]]; */
static bool parse_key(const char *text, KeyText *ret_key) {
    SqlScanner scanner = {.pos = text};
    KeyText key = {0};

    if (!sql_accept_words(&scanner, "ALTER TABLE ONLY") ||
        !sql_accept_name(&scanner, &key.table.text, &key.table.len) || !sql_accept_words(&scanner, "ADD CONSTRAINT") ||
        !sql_accept_name(&scanner, &key.name.text, &key.name.len))
        return false;
    key.primary = sql_accept_words(&scanner, "PRIMARY KEY");
    if (!key.primary && !sql_accept_word(&scanner, "UNIQUE"))
        return false;
    key.nulls_not_distinct = sql_accept_words(&scanner, "NULLS NOT DISTINCT");
    if (!take_parens(&scanner, &key.columns) ||
        (sql_accept_word(&scanner, "INCLUDE") && !take_parens(&scanner, &key.include)) ||
        (sql_accept_word(&scanner, "WITH") && !take_parens(&scanner, &key.with)))
        return false;
    key.deferrable = sql_accept_word(&scanner, "DEFERRABLE");
    key.initially_deferred = sql_accept_words(&scanner, "INITIALLY DEFERRED");
    *ret_key = key;
    return sql_accept_symbol(&scanner, ';');
}

static const char *clause(Arena *arena, const char *word, Span span) {
    return span.len == 0 ? "" : arena_printf(arena, " %s %.*s", word, (int)span.len, span.text);
}

/* Written even where it is empty: the lane's session may have another one from an entry that ran whole. */
static const char *tablespace_sql(Arena *arena, const TocEntry *entry) {
    return arena_printf(arena, "SET LOCAL default_tablespace = %s;",
                        entry->tablespace[0] == '\0' ? "''" : sql_ident(arena, entry->tablespace));
}

/* Before 11 there is no ONLY for an index, and no key of a partitioned table that would want it. */
static const char *only(const RestoreOptions *options) {
    return options->server_version != 0 && options->server_version < 110000 ? "" : "ONLY ";
}

static KeySplit split_constraint(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    KeyText key;

    if (!parse_key(entry->defn, &key))
        return (KeySplit){0};
    const char *name = arena_strndup(arena, key.name.text, key.name.len);
    const char *table = arena_strndup(arena, key.table.text, key.table.len);
    const char *build = arena_printf(
        arena, "%sCREATE UNIQUE INDEX %s ON %s%s USING btree %.*s%s%s%s;", tablespace_sql(arena, entry), name,
        only(options), table, (int)key.columns.len, key.columns.text, clause(arena, "INCLUDE", key.include),
        key.nulls_not_distinct ? " NULLS NOT DISTINCT" : "", clause(arena, "WITH", key.with));
    const char *complete =
        arena_printf(arena, "ALTER TABLE ONLY %s ADD CONSTRAINT %s %s USING INDEX %s%s%s;\n%s", table, name,
                     key.primary ? "PRIMARY KEY" : "UNIQUE", name, key.deferrable ? " DEFERRABLE" : "",
                     key.initially_deferred ? " INITIALLY DEFERRED" : "", restore_after_first_statement(arena, entry));

    return (KeySplit){
        .build = build,
        .complete = complete,
        .index = arena_printf(arena, "%s.%s", sql_ident(arena, entry->schema), name),
    };
}

static KeySplit split_index(Arena *arena, const TocEntry *entry) {
    const char *tail = restore_after_first_statement(arena, entry);
    SqlScanner scanner = {.pos = entry->defn};
    SqlStatement first;

    if (tail[0] == '\0' || !sql_next_statement(&scanner, &first))
        return (KeySplit){0};
    return (KeySplit){
        .build =
            arena_printf(arena, "%s%.*s", tablespace_sql(arena, entry), (int)(first.end - first.start), first.start),
        .complete = tail,
        .index = sql_qualified(arena, entry->schema, entry->tag),
    };
}

KeySplit key_split(Arena *arena, const TocEntry *entry, const RestoreOptions *options) {
    if (strcmp(entry->desc, "CONSTRAINT") == 0)
        return split_constraint(arena, entry, options);
    if (strcmp(entry->desc, "INDEX") == 0)
        return split_index(arena, entry);
    return (KeySplit){0};
}
