/*
 * Splits SQL text into tokens and statements, as PostgreSQL's own lexer would. Pure; fuzzed.
 *
 * Knows quoted identifiers, '' strings, E'' strings with backslashes, U&, B, X, N prefixes, dollar quotes, -- and
 * nested block comments, and the BEGIN ATOMIC bodies of functions, whose semicolons end no statement. Takes
 * standard_conforming_strings = on for granted: the archive is made with it. Text that ends inside a quote is one last
 * token, never an error: what cannot be split is left whole.
 */
#pragma once

#include "common/compiler.h"

typedef enum SqlTokenKind {
    SQL_TOKEN_END,
    SQL_TOKEN_WORD,   /* identifier or key word without quotes */
    SQL_TOKEN_IDENT,  /* "..." */
    SQL_TOKEN_STRING, /* '...', E'...', $$...$$ */
    SQL_TOKEN_NUMBER,
    SQL_TOKEN_SYMBOL, /* one character of anything else: ; ( ) , . = ... */
} SqlTokenKind;

typedef struct SqlToken {
    SqlTokenKind kind;
    const char *text; /* in the scanned text; "" at the end */
    size_t len;
} SqlToken;

typedef struct SqlScanner {
    const char *pos;
} SqlScanner;

/* Skips white space and comments, gives the next token; SQL_TOKEN_END for ever after the last. */
SqlToken sql_next_token(SqlScanner *scanner);
/* Next token without taking it. */
SqlToken sql_peek_token(const SqlScanner *scanner);
/* Is it this word (not quoted, any case)? `word` in upper case. */
bool sql_token_is_word(const SqlToken *token, const char *word);
bool sql_token_is_symbol(const SqlToken *token, char symbol);
/* Takes the next token when it is that word or symbol. */
bool sql_accept_word(SqlScanner *scanner, const char *word);
bool sql_accept_symbol(SqlScanner *scanner, char symbol);
/* Takes all words of "OPERATOR CLASS" or none. */
bool sql_accept_words(SqlScanner *scanner, const char *words);
/* Takes a name with its dots: a, "A b", s.a, d.s.a. */
bool sql_accept_name(SqlScanner *scanner, const char **ret_text, size_t *ret_len);

/* One statement of a text: from its first token to its end. */
typedef struct SqlStatement {
    const char *start;     /* at the first token */
    const char *semicolon; /* the one that ends it, or the end of its last token when there is none */
    const char *end;       /* behind the semicolon */
} SqlStatement;
/* Takes the next statement; false when only white space and comments are left. Stray semicolons are skipped. */
NODISCARD bool sql_next_statement(SqlScanner *scanner, SqlStatement *ret_statement);
