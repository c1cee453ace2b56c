/*
 * What may be repeated as text, and whether the rows come out the same. Pure.
 *
 * Values. ALTER TABLE computes values for the rows that are there: a column's default, the USING of a new type.
 * Repeated later, elsewhere, over rows in another order, now(), random() and nextval() give others. What is certain to
 * give the same is little, and enough for most: literals, casts, operators and column names. Everything with a call or
 * a CURRENT_... word in it is uncertain; so is a rewrite for a default, unless it is a stored generated column, which
 * the server lets be immutable only.
 */
#include "engine/ddl/replay_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>
#include <strings.h>

typedef struct TagRule {
    const char *tag;
    const char *why_not;
} TagRule;

static const TagRule refused[] = {
    {"CREATE TABLE AS", "its rows are the result of a query, which came before the table in the stream"},
    {"SELECT INTO", "its rows are the result of a query, which came before the table in the stream"},
    {"IMPORT FOREIGN SCHEMA", "what it makes depends on another server"},
};

static bool is_one_of(const SqlToken *token, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (sql_token_is_word(token, words[i]))
            return true;
    return false;
}

#define IS_ONE_OF(token, words) is_one_of((token), (words), COUNT_OF(words))

/* Takes the words, one after the other, anywhere in the statement. */
static bool has_words(const char *sql, const char *words) {
    SqlScanner scanner = {.pos = sql};

    while (sql_peek_token(&scanner).kind != SQL_TOKEN_END) {
        if (sql_accept_words(&scanner, words))
            return true;
        (void)sql_next_token(&scanner);
    }
    return false;
}

static const char *setting(const DdlMessage *message, const char *name) {
    return message->settings != NULL ? json_get_string(message->settings, name, "") : "";
}

const char *ddl_why_not(const DdlMessage *message, const char *sql, int dest_version) {
    for (size_t i = 0; i < COUNT_OF(refused); i++)
        if (strcmp(message->tag, refused[i].tag) == 0)
            return refused[i].why_not;
    if (strcmp(setting(message, "standard_conforming_strings"), "off") == 0 && strchr(message->query, '\\') != NULL)
        return "it was run with standard_conforming_strings = off";
    if (strcmp(message->tag, "ALTER TYPE") == 0 && has_words(sql, "ADD VALUE") && dest_version < 120000)
        return "before PostgreSQL 12 a label cannot be added inside a transaction";
    return NULL;
}

/* --- Values ------------------------------------------------------------------------------------------------------- */

/* A date or time that the literal computes when it is read. */
static bool is_moving_literal(const SqlToken *token) {
    static const char *const words[] = {"'now'", "'today'", "'tomorrow'", "'yesterday'"};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (token->len == strlen(words[i]) && strncasecmp(token->text, words[i], token->len) == 0)
            return true;
    return false;
}

/* From here to the comma or the clause that ends the expression: is there anything that may give another value? */
static bool is_uncertain(SqlScanner scanner) {
    static const char *const ends[] = {"CONSTRAINT", "CHECK", "PRIMARY", "UNIQUE", "REFERENCES", "GENERATED", "NOT"};
    static const char *const moving[] = {"CURRENT_DATE", "CURRENT_TIME",    "CURRENT_TIMESTAMP", "CURRENT_USER",
                                         "CURRENT_ROLE", "CURRENT_CATALOG", "CURRENT_SCHEMA",    "LOCALTIME",
                                         "USER",         "LOCALTIMESTAMP",  "SESSION_USER",      "SYSTEM_USER"};
    int depth = 0;
    bool in_type = false;

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        SqlToken next = sql_peek_token(&scanner);
        bool is_name = token.kind == SQL_TOKEN_WORD || token.kind == SQL_TOKEN_IDENT;

        if (depth == 0 && (sql_token_is_symbol(&token, ',') || IS_ONE_OF(&token, ends)))
            return false;
        depth += sql_token_is_symbol(&token, '(') ? 1 : 0;
        depth -= sql_token_is_symbol(&token, ')') ? 1 : 0;
        if (IS_ONE_OF(&token, moving) || (token.kind == SQL_TOKEN_STRING && is_moving_literal(&token)))
            return true;
        if (is_name && !in_type && sql_token_is_symbol(&next, '('))
            return true;
        /* A type's name may have a length in parentheses: "::varchar(10)", "::character varying(10)". */
        in_type = sql_token_is_symbol(&token, ':') || (in_type && (is_name || sql_token_is_symbol(&token, '.')));
    }
    return false;
}

static bool has_serial(const char *sql) {
    static const char *const serials[] = {"SERIAL",  "BIGSERIAL", "SMALLSERIAL", "SERIAL2",
                                          "SERIAL4", "SERIAL8",   "IDENTITY"};
    SqlScanner scanner = {.pos = sql};

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner))
        if (IS_ONE_OF(&token, serials))
            return true;
    return false;
}

/* DEFAULT of a new column, not SET DEFAULT: that one is for rows to come. */
static bool has_uncertain(const char *sql, const char *word, const char *not_after) {
    SqlScanner scanner = {.pos = sql};
    bool excused = false;

    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner)) {
        if (!excused && sql_token_is_word(&token, word) && is_uncertain(scanner))
            return true;
        excused = sql_token_is_word(&token, not_after);
    }
    return false;
}

const char *ddl_why_values_differ(const DdlMessage *message, const char *sql) {
    if (strcmp(message->tag, "ALTER TABLE") != 0)
        return NULL;
    if (has_uncertain(sql, "DEFAULT", "SET") ||
        ((message->rewrite & REWRITE_DEFAULT) != 0 && (has_serial(sql) || !has_words(sql, "STORED"))))
        return "the new column's default may have other values in the rows that are there";
    if ((message->rewrite & REWRITE_TYPE) != 0 && has_uncertain(sql, "USING", "EXCLUDE"))
        return "the USING expression may give other values";
    return NULL;
}
