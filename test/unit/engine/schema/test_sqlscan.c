/* Tokens and statements of SQL text with every kind of quote. */
#include "engine/schema/sqlscan.h"

#include "common/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* All tokens as text, with a bar between them. */
static const char *tokens_of(Arena *arena, const char *sql) {
    const char *result = "";
    SqlScanner scanner = {.pos = sql};
    for (SqlToken t = sql_next_token(&scanner); t.kind != SQL_TOKEN_END; t = sql_next_token(&scanner))
        result = arena_printf(arena, "%s%s%.*s", result, *result == '\0' ? "" : "|", (int)t.len, t.text);
    return result;
}

static const char *statements_of(Arena *arena, const char *sql) {
    const char *result = "";
    SqlScanner scanner = {.pos = sql};
    SqlStatement s;
    while (sql_next_statement(&scanner, &s))
        result =
            arena_printf(arena, "%s%s%.*s", result, *result == '\0' ? "" : "|", (int)(s.semicolon - s.start), s.start);
    return result;
}

static void splits_tokens(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"  \t\n-- only a comment\n/* and /* a nested */ one */ ", ""},
        {"a.b,\"A \"\"b\"\"; c\"", "a|.|b|,|\"A \"\"b\"\"; c\""},
        {"'it''s; ' 'back\\' x", "'it''s; '|'back\\'|x"},
        {"E'it\\'s' e'\\\\' x", "E'it\\'s'|e'\\\\'|x"},
        {"U&'\\0041' u&\"x;\" B'01' x'ff' N'n' bx", "U&'\\0041'|u&\"x;\"|B'01'|x'ff'|N'n'|bx"},
        {"$$ a ; ' $$ $x$ $$ $y$ $x$ z", "$$ a ; ' $$|$x$ $$ $y$ $x$|z"},
        {"$1 a$b$c $a", "$|1|a$b$c|$|a"},
        {"1.5e3 .5 10", "1.5e3|.5|10"},
        {"a--b\nc/*d*/e", "a|c|e"},
        {"a-b/c", "a|-|b|/|c"},
        {"'open ; ", "'open ; "},
        {"\"open ; ", "\"open ; "},
        {"$a$ open $b$ ;", "$a$ open $b$ ;"},
        {"x /* open /* */ ;", "x"},
        {"E'open\\", "E'open\\"},
        {"\xc3\xa4\xc3\xb6 x", "\xc3\xa4\xc3\xb6|x"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        assert_string_equal(tokens_of(arena, cases[i][0]), cases[i][1]);
    }
}

static void splits_statements(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {" ;; -- nothing ;\n", ""},
        {"SELECT 1", "SELECT 1"},
        {"SELECT ';'; -- a;b\nSELECT \";\" ;", "SELECT ';'|SELECT \";\" "},
        {"CREATE RULE r AS ON INSERT TO v DO (SELECT 1; SELECT 2); SELECT 3;",
         "CREATE RULE r AS ON INSERT TO v DO (SELECT 1; SELECT 2)|SELECT 3"},
        {"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b.end ELSE 2 END; END; SELECT "
         "3;",
         "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b.end ELSE 2 END; END|SELECT "
         "3"},
        {"SELECT atomic; BEGIN; END;", "SELECT atomic|BEGIN|END"},
        {"CREATE FUNCTION f() AS $$ BEGIN ATOMIC; ( $$; x", "CREATE FUNCTION f() AS $$ BEGIN ATOMIC; ( $$|x"},
        {"SELECT 1); SELECT 2;", "SELECT 1)|SELECT 2"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        assert_string_equal(statements_of(arena, cases[i][0]), cases[i][1]);
    }
}

static void statement_knows_its_ends(void **state) {
    (void)state;
    const char *sql = " SELECT 1 -- no; end\n ; x";
    SqlScanner scanner = {.pos = sql};
    SqlStatement s;
    assert_true(sql_next_statement(&scanner, &s));
    assert_ptr_equal(s.start, strchr(sql, 'S'));
    assert_string_equal(s.semicolon, "; x");
    assert_string_equal(s.end, " x");
    assert_true(sql_next_statement(&scanner, &s));
    assert_string_equal(s.semicolon, ""); /* there is none */
    assert_string_equal(s.end, "");
    assert_false(sql_next_statement(&scanner, &s));
}

static void accepts_words_and_names(void **state) {
    (void)state;
    SqlScanner scanner = {.pos = "drop Operator /* c */ CLASS s.\"a.b\" . c ("};
    const char *name;
    size_t len;
    assert_false(sql_accept_word(&scanner, "DROPS"));
    assert_false(sql_accept_word(&scanner, "DRO"));
    assert_true(sql_accept_word(&scanner, "DROP"));
    assert_false(sql_accept_words(&scanner, "OPERATOR FAMILY"));
    assert_true(sql_accept_words(&scanner, "OPERATOR CLASS"));
    assert_true(sql_accept_name(&scanner, &name, &len));
    assert_int_equal(len, strlen("s.\"a.b\" . c"));
    assert_false(sql_accept_name(&scanner, &name, &len));
    assert_true(sql_accept_symbol(&scanner, '('));
    assert_false(sql_accept_symbol(&scanner, '('));
    scanner.pos = "\"SELECT\"";
    assert_false(sql_accept_word(&scanner, "SELECT")); /* quoted: a name */
    scanner.pos = "a.;";
    assert_false(sql_accept_name(&scanner, &name, &len));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_tokens),
        cmocka_unit_test(splits_statements),
        cmocka_unit_test(statement_knows_its_ends),
        cmocka_unit_test(accepts_words_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
