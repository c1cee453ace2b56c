/*
 * Expressions of the catalogue, compared without what a dump and restore may change in their text.
 *
 * The server writes `status IN ('a', 'b')` of a varchar column as `... ANY ((ARRAY['a'::character varying,
 * ...])::text[])`; that text restored is written with a cast on each element. Parentheses and casts carry nothing that
 * another drift would not show as well (a column's type), so they go. What is left must be equal word by word.
 */
#include "engine/ddl/drift_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>

/* Words that go on with a type's name after its first word. */
static bool continues_type(const SqlToken *token, const SqlScanner *after) {
    SqlToken next = sql_peek_token(after);

    if (sql_token_is_word(token, "VARYING") || sql_token_is_word(token, "PRECISION"))
        return true;
    if (sql_token_is_word(token, "WITH") || sql_token_is_word(token, "WITHOUT"))
        return sql_token_is_word(&next, "TIME");
    return sql_token_is_word(token, "TIME") || sql_token_is_word(token, "ZONE");
}

/* After "::": the name, then its modifiers. */
static void skip_type(SqlScanner *scanner) {
    const char *text;
    size_t len;

    if (!sql_accept_name(scanner, &text, &len))
        return;
    for (;;) {
        SqlScanner ahead = *scanner;
        SqlToken token = sql_next_token(&ahead);

        if (sql_token_is_symbol(&token, '(') && sql_peek_token(&ahead).kind == SQL_TOKEN_NUMBER) {
            while (token.kind != SQL_TOKEN_END && !sql_token_is_symbol(&token, ')'))
                token = sql_next_token(&ahead);
        } else if (sql_token_is_symbol(&token, '[')) {
            if (!sql_accept_symbol(&ahead, ']'))
                return;
        } else if (token.kind != SQL_TOKEN_WORD || !continues_type(&token, &ahead)) {
            return;
        }
        *scanner = ahead;
    }
}

/* The next token that counts. */
static SqlToken next_plain(SqlScanner *scanner) {
    for (;;) {
        SqlToken token = sql_next_token(scanner);

        if (sql_token_is_symbol(&token, '(') || sql_token_is_symbol(&token, ')'))
            continue;
        if (!sql_token_is_symbol(&token, ':') || *scanner->pos != ':')
            return token;
        (void)sql_next_token(scanner);
        skip_type(scanner);
    }
}

bool drift_same_text(const char *a, const char *b) {
    SqlScanner left = {.pos = a}, right = {.pos = b};

    if (strcmp(a, b) == 0)
        return true;
    for (;;) {
        SqlToken x = next_plain(&left), y = next_plain(&right);

        if (x.kind != y.kind || x.len != y.len || memcmp(x.text, y.text, x.len) != 0)
            return false;
        if (x.kind == SQL_TOKEN_END)
            return true;
    }
}
