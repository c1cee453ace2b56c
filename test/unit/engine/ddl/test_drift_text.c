/* Expressions of two catalogues: which texts mean the same, and the SQL that ends a difference. */
#include "engine/ddl/drift_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void casts_and_parentheses_do_not_count(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"", "", true},
        {"now()", "now()", true},
        {"(a > 0)", "a > 0", true},
        {"((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
         "((kind)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))", true},
        {"'x'::character varying(10)", "'x'", true},
        {"'1'::numeric(10,2)", "'1'::double precision", true},
        {"x::timestamp(3) without time zone < y", "x < y", true},
        {"x::bit varying(3)[] = y", "x = y", true},
        {"'a'::shop.\"odd :: name\"", "'a'", true},
        {"a > 0", "a > 1", false},
        {"a > 0", "a >= 0", false},
        {"a > 0", "a > 0 AND b", false},
        {"'(x)::text'", "'x'", false},
        {"x[1]", "x[2]", false},
        {"(x)::text[1]", "(x)::text", false},
        {"room WITH =", "room =", false},
        {"a::text WITH =", "a WITH =", true},
        {"'A'", "'a'", false},
        {"x::", "x", true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(drift_same_text(cases[i].a, cases[i].b), cases[i].same);
        assert_int_equal(drift_same_text(cases[i].b, cases[i].a), cases[i].same);
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
        cmocka_unit_test(casts_and_parentheses_do_not_count),
        cmocka_unit_test(fixes_of_columns),
        cmocka_unit_test(labels_are_added_at_the_end_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
