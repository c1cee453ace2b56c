/* Any text as SQL: tokens and statements lie in order inside it, and nothing but blanks lies between them. */
#include "common/arena.h"
#include "engine/schema/sqlscan.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void require(bool condition) {
    if (!condition)
        __builtin_trap();
}

static void check_tokens(const char *text) {
    SqlScanner scanner = {.pos = text};
    const char *end = text + strlen(text);
    for (;;) {
        const char *before = scanner.pos;
        SqlToken token = sql_next_token(&scanner);
        require(token.text >= before && scanner.pos == token.text + token.len && scanner.pos <= end);
        if (token.kind == SQL_TOKEN_END)
            break;
        require(token.len > 0);
    }
    require(scanner.pos == end);
}

static void check_statements(const char *text) {
    SqlScanner scanner = {.pos = text};
    SqlStatement statement;
    const char *done = text;
    while (sql_next_statement(&scanner, &statement)) {
        require(statement.start >= done && statement.start < statement.semicolon);
        require(statement.semicolon <= statement.end && *statement.start != ';');
        done = statement.end;
    }
    require(sql_peek_token(&scanner).kind == SQL_TOKEN_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *text = arena_alloc(arena, len + 1);
    if (len > 0)
        memcpy(text, bytes, len);
    check_tokens(text);
    check_statements(text);
    const char *name;
    size_t name_len;
    SqlScanner scanner = {.pos = text};
    if (sql_accept_name(&scanner, &name, &name_len))
        require(name_len > 0 && name + name_len == scanner.pos);
    return 0;
}
