/* Expressions of two catalogues: which texts mean the same, and the SQL that ends a difference. */
#include "engine/ddl/drift_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void only_what_a_restore_moves_does_not_count(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"", "", true},
        {"now()", "now()", true},
        {"a >  0", "a > 0", true},
        /* A cast of an array goes to its elements. */
        {"((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
         "((kind)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))", true},
        {"CHECK (((s)::text <> ALL ((ARRAY['a'::character varying(10), c])::text[])))",
         "CHECK (((s)::text <> ALL (ARRAY[('a'::character varying(10))::text, (c)::text])))", true},
        {"(n = ANY ((ARRAY[1, a, t.b, f(x, y), CASE WHEN p THEN 1 ELSE 2 END, (a + b), m[1]])::numeric[]))",
         "(n = ANY (ARRAY[(1)::numeric, (a)::numeric, (t.b)::numeric, (f(x, y))::numeric,"
         " (CASE WHEN p THEN 1 ELSE 2 END)::numeric, ((a + b))::numeric, (m[1])::numeric]))",
         true},
        {"(x = (ARRAY[ARRAY[a, 1], ARRAY[b, 2]])::bigint[])",
         "(x = ARRAY[ARRAY[(a)::bigint, (1)::bigint], ARRAY[(b)::bigint, (2)::bigint]])", true},
        {"(((ARRAY[a])::character varying[])::text[] = x)", "(ARRAY[((a)::character varying)::text] = x)", true},
        {"(((ARRAY[a])::text[])::character varying[] = x)", "(ARRAY[((a)::character varying)::text] = x)", false},
        {"((ARRAY[a, b])::text[] = x)", "(ARRAY[(a)::text, b] = x)", false},
        {"((ARRAY[a])::text[] = x)", "(ARRAY[a] = x)", false},
        {"((ARRAY[a])::text[] = x)", "(ARRAY[(a)::date] = x)", false},
        {"(x = ARRAY[]::text[])", "(x = ARRAY[]::date[])", false},
        {"((ARRAY['a'::text, 'b'::text])[n])::date", "(ARRAY['a'::text, 'b'::text])[n]", false},
        /* Parentheses around one operand. */
        {"(n > 1::numeric(10,2))", "(n > (1)::numeric(10,2))", true},
        {"'a'::shop.\"odd :: name\" = x", "('a'::shop.\"odd :: name\") = x", true},
        {"((created)::date)", "(created::date)", true},
        {"(c).x", "c.x", false},
        {"(c)[1]", "c[1]", false},
        {"f((a))", "f(a)", true},
        {"f (a)", "f a", false},
        {"x = ANY (a)", "x = ANY a", false},
        {"(NOT (a > 0)) = b", "NOT (a > 0) = b", false},
        /* An operation in an operation of its kind. */
        {"CHECK ((((a >= 1) AND (a <= 2)) AND (b > 0)))", "CHECK (((a >= 1) AND (a <= 2) AND (b > 0)))", true},
        {"((((a < 1) OR b) OR (c > 0)) OR d)", "((a < 1) OR b OR (c > 0) OR d)", true},
        {"((NOT (a AND b)) AND c)", "(NOT (a AND b) AND c)", false},
        {"(NOT (a AND b) AND c)", "(NOT a AND b AND c)", false},
        {"((a AND b) = c)", "(a AND b = c)", false},
        {"CHECK ((a AND (b OR c)))", "CHECK (((a AND b) OR c))", false},
        {"((a AND (b OR c)) AND d)", "(((a AND b) OR c) AND d)", false},
        /* Constants that versions write differently. */
        {"'0.100000000000000006'::double precision", "'0.1'::double precision", true},
        {"CHECK ((x < '0.699999999999999956'::double precision))", "CHECK ((x < '0.7'::double precision))", true},
        {"'{0.100000000000000006,-0.699999999999999956}'::double precision[]", "'{0.1,-0.7}'::double precision[]",
         true},
        {"'(0.100000000000000006,0.699999999999999956)'::point", "'(0.1,0.7)'::point", true},
        {"'9.99999999999999955e-08'::double precision", "'1e-07'::double precision", true},
        {"'0.100000001'::real", "'0.1'::real", true},
        {"'0.100000001'::double precision", "'0.1'::double precision", false},
        {"'0.10000000000000002'::double precision", "'0.1'::double precision", false},
        {"'-0'::double precision", "'0'::double precision", false},
        {"'0.100000000000000006'::text", "'0.1'::text", false},
        {"'0.100000000000000006'", "'0.1'", false},
        {"'0.100000000000000006'::point.x", "'0.1'::point.x", false},
        {"'0.100000000000000006'::numeric", "'0.1'::numeric", false},
        {"'{0.1}'::double precision[]", "'{0.1,0.1}'::double precision[]", false},
        {"FOR VALUES FROM ('0.100000000000000006') TO ('0.699999999999999956')", "FOR VALUES FROM ('0.1') TO ('0.7')",
         true},
        {"FOR VALUES IN ('1.0')", "FOR VALUES IN ('1.00')", false},
        {"FOR VALUES FROM ('0.100000000000000006') TO (MAXVALUE)", "FOR VALUES FROM ('0.2') TO (MAXVALUE)", false},
        {"B'101'::\"bit\"", "'101'::\"bit\"", true},
        {"B'101'::bit varying", "'101'::bit varying", true},
        {"B'101'::\"bit\"", "'111'::\"bit\"", false},
        {"B'101'", "'101'", false},
        {"XMLSERIALIZE(CONTENT '<a/>'::xml AS text)", "XMLSERIALIZE(CONTENT '<a/>'::xml AS text NO INDENT)", true},
        {"XMLSERIALIZE(CONTENT x AS text)", "XMLSERIALIZE(CONTENT x AS text INDENT)", false},
        {"f(NO INDENT)", "f()", false},
        /* All else does. */
        {"((a * b) + c)", "(a * (b + c))", false},
        {"(a - (b - c))", "((a - b) - c)", false},
        {"(now())::date", "now()", false},
        {"CREATE INDEX i ON s.t USING btree (((created)::date))", "CREATE INDEX i ON s.t USING btree (created)", false},
        {"'x'::character varying(10)", "'x'::character varying(5)", false},
        {"('s'::text)::regclass", "'s'::regclass", false},
        {"a > 0", "a > 1", false},
        {"a > 0", "a >= 0", false},
        {"a > 0", "a > 0 AND b", false},
        {"'(x)::text'", "'x'", false},
        {"x[1]", "x[2]", false},
        {"room WITH =", "room =", false},
        {"'A'", "'a'", false},
        /* No expressions, but nothing to fall over. */
        {"x::", "x", false},
        {"((a)", "(a)", false},
        {"(a])", "a", false},
        {"ARRAY[a, ARRAY[", "ARRAY[", false},
        {"(CASE END END)", "(CASE (a", false},
        {"(a.)", "a.", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (drift_same_text(cases[i].a, cases[i].b) != cases[i].same ||
            drift_same_text(cases[i].b, cases[i].a) != cases[i].same)
            fail_msg("%s\n%s", cases[i].a, cases[i].b);
    }
}

static Fact column_of(const char *type, const char *value) {
    Fact fact = {.kind = FACT_COLUMN, .schema = "s", .name = "t", .part = "c"};

    for (int i = 0; i < FACT_ATTRS; i++)
        fact.attrs[i] = "";
    fact.attrs[COLUMN_TYPE] = type;
    fact.attrs[COLUMN_DEFAULT] = value;
    return fact;
}

static void fixes_of_columns(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Fact source = column_of("integer", "(a + 1)"), dest = column_of("bigint", "0");

    assert_string_equal(drift_fix_changed(arena, &source, &dest, COLUMN_TYPE),
                        "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"c\" TYPE integer USING \"c\"::integer");
    assert_string_equal(drift_fix_changed(arena, &source, &dest, COLUMN_DEFAULT),
                        "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"c\" SET DEFAULT (a + 1)");
    source.attrs[COLUMN_GENERATED] = "STORED";
    assert_string_equal(drift_fix_changed(arena, &source, &dest, COLUMN_DEFAULT), "");
    assert_string_equal(drift_fix_missing(arena, &source),
                        "ALTER TABLE \"s\".\"t\" ADD COLUMN \"c\" integer GENERATED ALWAYS AS ((a + 1)) STORED");
    source.attrs[COLUMN_GENERATED] = "";
    source.attrs[COLUMN_DEFAULT] = "";
    source.attrs[COLUMN_IDENTITY] = "ALWAYS";
    source.attrs[COLUMN_NOT_NULL] = "NOT NULL";
    assert_string_equal(drift_fix_missing(arena, &source),
                        "ALTER TABLE \"s\".\"t\" ADD COLUMN \"c\" integer GENERATED ALWAYS AS IDENTITY NOT NULL");
    assert_string_equal(drift_fix_changed(arena, &source, &dest, COLUMN_DEFAULT),
                        "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"c\" DROP DEFAULT");
    assert_string_equal(drift_fix_changed(arena, &source, &dest, COLUMN_IDENTITY),
                        "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"c\" ADD GENERATED ALWAYS AS IDENTITY");
    assert_string_equal(drift_fix_changed(arena, &dest, &source, COLUMN_IDENTITY),
                        "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"c\" DROP IDENTITY");
    assert_string_equal(drift_fix_extra(arena, &dest), "ALTER TABLE \"s\".\"t\" DROP COLUMN \"c\"");
}

static void labels_are_added_at_the_end_only(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Fact source = {.kind = FACT_TYPE, .schema = "s", .name = "e", .part = "", .of_type = true};
    Fact dest = source;

    source.attrs[TYPE_LABELS] = "'a', 'b', 'c, ''d'''";
    dest.attrs[TYPE_LABELS] = "'a'";
    assert_string_equal(drift_fix_changed(arena, &source, &dest, TYPE_LABELS),
                        "ALTER TYPE \"s\".\"e\" ADD VALUE 'b'; ALTER TYPE \"s\".\"e\" ADD VALUE 'c, ''d'''");
    dest.attrs[TYPE_LABELS] = "'b'";
    assert_string_equal(drift_fix_changed(arena, &source, &dest, TYPE_LABELS), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_a_restore_moves_does_not_count),
        cmocka_unit_test(fixes_of_columns),
        cmocka_unit_test(labels_are_added_at_the_end_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
