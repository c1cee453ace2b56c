/*
 * Splits SQL text into tokens and statements.
 *
 * The lexical rules are those of PostgreSQL's documentation, 4.1 "Lexical Structure", and of CREATE FUNCTION for
 * BEGIN ATOMIC. All input is NUL-terminated; no function reads behind the NUL.
 */
#include "engine/schema/sqlscan.h"

#include <string.h>
#include <strings.h>

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Bytes of multi-byte characters are letters, as for the server. */
static bool is_word_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_word_part(char c) {
    return is_word_start(c) || is_digit(c) || c == '$';
}

static const char *skip_line_comment(const char *p) {
    return p + strcspn(p, "\r\n");
}

static const char *skip_block_comment(const char *p) {
    size_t depth = 0;
    do {
        if (p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (p[0] == '*' && p[1] == '/') {
            depth--;
            p += 2;
        } else {
            p++;
        }
    } while (depth > 0 && *p != '\0');
    return p;
}

static const char *skip_blank(const char *p) {
    for (;;) {
        if (is_space(*p))
            p++;
        else if (p[0] == '-' && p[1] == '-')
            p = skip_line_comment(p);
        else if (p[0] == '/' && p[1] == '*')
            p = skip_block_comment(p);
        else
            return p;
    }
}

/* From the opening quote to behind the closing one. A doubled quote is part of the text. */
static const char *skip_quoted(const char *p, bool backslashes) {
    char quote = *p++;
    while (*p != '\0') {
        if (backslashes && p[0] == '\\' && p[1] != '\0') {
            p += 2;
        } else if (*p != quote) {
            p++;
        } else if (p[1] == quote) {
            p += 2;
        } else {
            return p + 1;
        }
    }
    return p;
}

/* Length of "$tag$" at p, 0 when there is none. */
static size_t dollar_tag_len(const char *p) {
    const char *q = p + 1;
    if (is_word_start(*q))
        while (is_word_part(*q) && *q != '$')
            q++;
    return *q == '$' ? (size_t)(q - p) + 1 : 0;
}

static const char *skip_dollar_quoted(const char *p, size_t tag_len) {
    for (const char *q = strchr(p + tag_len, '$'); q != NULL; q = strchr(q + 1, '$'))
        if (strncmp(q, p, tag_len) == 0)
            return q + tag_len;
    return p + strlen(p);
}

static const char *skip_word(const char *p) {
    while (is_word_part(*p))
        p++;
    return p;
}

static const char *skip_number(const char *p) {
    while (is_word_part(*p) || *p == '.')
        p++;
    return p;
}

/* A letter before a quote makes another kind of string of it: E'\n', B'01', X'ff', N'x', U&'x', U&"x". */
static const char *skip_prefixed_string(const char *p, SqlTokenKind *ret_kind) {
    char prefix = (char)(*p | 0x20);
    if (p[1] == '\'' && strchr("ebxn", prefix) != NULL) {
        *ret_kind = SQL_TOKEN_STRING;
        return skip_quoted(p + 1, prefix == 'e');
    }
    if (prefix == 'u' && p[1] == '&' && (p[2] == '\'' || p[2] == '"')) {
        *ret_kind = p[2] == '"' ? SQL_TOKEN_IDENT : SQL_TOKEN_STRING;
        return skip_quoted(p + 2, false);
    }
    return NULL;
}

static const char *skip_token(const char *p, SqlTokenKind *ret_kind) {
    if (is_word_start(*p)) {
        const char *end = skip_prefixed_string(p, ret_kind);
        if (end != NULL)
            return end;
        *ret_kind = SQL_TOKEN_WORD;
        return skip_word(p);
    }
    if (*p == '"' || *p == '\'') {
        *ret_kind = *p == '"' ? SQL_TOKEN_IDENT : SQL_TOKEN_STRING;
        return skip_quoted(p, false);
    }
    size_t tag_len = *p == '$' ? dollar_tag_len(p) : 0;
    if (tag_len > 0) {
        *ret_kind = SQL_TOKEN_STRING;
        return skip_dollar_quoted(p, tag_len);
    }
    if (is_digit(*p) || (*p == '.' && is_digit(p[1]))) {
        *ret_kind = SQL_TOKEN_NUMBER;
        return skip_number(p);
    }
    *ret_kind = SQL_TOKEN_SYMBOL;
    return p + 1;
}

SqlToken sql_next_token(SqlScanner *scanner) {
    const char *start = skip_blank(scanner->pos);
    if (*start == '\0') {
        scanner->pos = start;
        return (SqlToken){.kind = SQL_TOKEN_END, .text = start};
    }
    SqlTokenKind kind;
    scanner->pos = skip_token(start, &kind);
    return (SqlToken){.kind = kind, .text = start, .len = (size_t)(scanner->pos - start)};
}

SqlToken sql_peek_token(const SqlScanner *scanner) {
    SqlScanner copy = *scanner;
    return sql_next_token(&copy);
}

bool sql_token_is_word(const SqlToken *token, const char *word) {
    return token->kind == SQL_TOKEN_WORD && strlen(word) == token->len &&
           strncasecmp(token->text, word, token->len) == 0;
}

bool sql_token_is_symbol(const SqlToken *token, char symbol) {
    return token->kind == SQL_TOKEN_SYMBOL && *token->text == symbol;
}

bool sql_accept_word(SqlScanner *scanner, const char *word) {
    SqlScanner ahead = *scanner;
    SqlToken token = sql_next_token(&ahead);
    if (!sql_token_is_word(&token, word))
        return false;
    *scanner = ahead;
    return true;
}

bool sql_accept_symbol(SqlScanner *scanner, char symbol) {
    SqlScanner ahead = *scanner;
    SqlToken token = sql_next_token(&ahead);
    if (!sql_token_is_symbol(&token, symbol))
        return false;
    *scanner = ahead;
    return true;
}

bool sql_accept_words(SqlScanner *scanner, const char *words) {
    SqlScanner ahead = *scanner;
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        SqlToken token = sql_next_token(&ahead);
        if (token.kind != SQL_TOKEN_WORD || token.len != len || strncasecmp(token.text, words, len) != 0)
            return false;
        words += len;
        words += strspn(words, " ");
    }
    *scanner = ahead;
    return true;
}

bool sql_accept_name(SqlScanner *scanner, const char **ret_text, size_t *ret_len) {
    SqlScanner ahead = *scanner;
    SqlToken token = sql_next_token(&ahead);
    const char *start = token.text;
    for (;;) {
        if (token.kind != SQL_TOKEN_WORD && token.kind != SQL_TOKEN_IDENT)
            return false;
        const char *end = ahead.pos;
        if (!sql_accept_symbol(&ahead, '.')) {
            *ret_text = start;
            *ret_len = (size_t)(end - start);
            scanner->pos = end;
            return true;
        }
        token = sql_next_token(&ahead);
    }
}

/* Depth of BEGIN ATOMIC ... END (with CASE ... END inside) after this token; 0 = outside. */
static size_t atomic_depth_after(size_t depth, const SqlToken *previous, const SqlToken *token) {
    if (depth == 0)
        return sql_token_is_word(previous, "BEGIN") && sql_token_is_word(token, "ATOMIC") ? 1 : 0;
    if (sql_token_is_word(token, "CASE"))
        return depth + 1;
    return sql_token_is_word(token, "END") ? depth - 1 : depth;
}

/* A name that follows a dot, or AS, is no key word: s.end, "AS case" as a column's label. */
static bool may_be_key_word(const SqlToken *previous) {
    return !sql_token_is_symbol(previous, '.') && !sql_token_is_word(previous, "AS");
}

bool sql_next_statement(SqlScanner *scanner, SqlStatement *ret_statement) {
    SqlToken token = sql_next_token(scanner);
    while (sql_token_is_symbol(&token, ';'))
        token = sql_next_token(scanner);
    if (token.kind == SQL_TOKEN_END)
        return false;
    SqlStatement statement = {.start = token.text};
    SqlToken previous = {.kind = SQL_TOKEN_END, .text = ""};
    size_t parens = 0;
    size_t atomic = 0;
    while (token.kind != SQL_TOKEN_END) {
        if (sql_token_is_symbol(&token, ';') && parens == 0 && atomic == 0)
            break;
        statement.semicolon = token.text + token.len;
        if (sql_token_is_symbol(&token, '('))
            parens++;
        else if (sql_token_is_symbol(&token, ')') && parens > 0)
            parens--;
        else if (may_be_key_word(&previous))
            atomic = atomic_depth_after(atomic, &previous, &token);
        previous = token;
        token = sql_next_token(scanner);
    }
    if (token.kind != SQL_TOKEN_END)
        statement.semicolon = token.text;
    statement.end = scanner->pos;
    *ret_statement = statement;
    return true;
}
