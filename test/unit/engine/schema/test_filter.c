/* Name patterns, and what filters choose out of an archive with every kind of object. */
#include "engine/schema/filter.h"

#include "common/clock.h"
#include "unit/engine/schema/archive.h"

/* --- patterns --- */

static bool matches(const char *text, bool is_schema, const char *schema, const char *name) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    NamePattern pattern;
    Error err;
    if (!name_pattern_parse(arena, text, is_schema, &pattern, &err))
        fail_msg("%s", err.message);
    return name_pattern_matches(&pattern, schema, name);
}

static void patterns_match_as_in_psql(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *schema, *name;
        bool matches;
    } cases[] = {
        {"orders", "public", "orders", true},
        {"orders", "other", "orders", true},
        {"orders", "public", "orders2", false},
        {"ORDERS", "public", "orders", true},
        {"orders", "public", "ORDERS", false},
        {"\"Orders\"", "public", "Orders", true},
        {"\"Orders\"", "public", "orders", false},
        {"ord*", "public", "orders", true},
        {"ord*", "public", "ord", true},
        {"*rd*s", "public", "orders", true},
        {"*rd*x", "public", "orders", false},
        {"order?", "public", "orders", true},
        {"order?", "public", "order", false},
        {"?", "public", "ä", true},
        {"??", "public", "ä", false},
        {"public.orders", "public", "orders", true},
        {"public.orders", "other", "orders", false},
        {"p*.o*", "public", "orders", true},
        {"\"a.b\".c", "a.b", "c", true},
        {"\"a.b\"", "x", "a.b", true},
        {"\"o*\"", "public", "orders", false},
        {"\"o*\"", "public", "o*", true},
        {"\"a\"\"b\"", "public", "a\"b", true},
        {"a\\b", "public", "a\\b", true},
        {"pre\"Mid\"post*", "public", "preMidpost1", true},
        {"a*a*a*a*a*a*a*a*a*a*b", "public", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (matches(cases[i].pattern, false, cases[i].schema, cases[i].name) != cases[i].matches)
            fail_msg("%s and %s.%s", cases[i].pattern, cases[i].schema, cases[i].name);
    assert_true(matches("p*", true, "public", "anything"));
    assert_false(matches("p*", true, "s", "p"));
    assert_true(matches("\"A.b\"", true, "A.b", ""));
}

static void malformed_patterns_are_refused(void **state) {
    (void)state;
    static const char *const tables[] = {"", "\"open", "a.b.c", ".a", "a.", "\"\"", "\"a\".\"\""};
    static const char *const schemas[] = {"", "a.b", "\"open"};
    CLEANUP(arena_freep) Arena *arena = arena_new();
    NamePattern pattern = {.name = "untouched"};
    Error err;
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        assert_false(name_pattern_parse(arena, tables[i], false, &pattern, &err));
        assert_int_equal(err.reason, REASON_USAGE);
    }
    for (size_t i = 0; i < COUNT_OF(schemas); i++)
        assert_false(name_pattern_parse(arena, schemas[i], true, &pattern, &err));
    assert_string_equal(pattern.name, "untouched");
}

/* --- choosing --- */

typedef struct Fixture {
    Arena *arena;
    Toc toc;
    MigrateOptions options;
    Selection selection;
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    f->arena = arena_new();
    f->toc = archive_load_toc(f->arena, "toc_kinds_15.dump");
    options_init(&f->options);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    arena_free(f->arena);
    free(f);
    return 0;
}

static void run(Fixture *f) {
    Error err;
    if (!schema_select(f->arena, &f->toc, &f->options, &f->selection, &err))
        fail_msg("%s", err.message);
}

static bool chosen(const Fixture *f, const char *desc, const char *tag) {
    return f->selection.chosen[archive_find(&f->toc, desc, tag) - f->toc.entries];
}

static void assert_chosen(const Fixture *f, const char *desc, const char *tag) {
    if (!chosen(f, desc, tag))
        fail_msg("%s %s should move", desc, tag);
}

static void assert_left(const Fixture *f, const char *desc, const char *tag) {
    if (chosen(f, desc, tag))
        fail_msg("%s %s should not move", desc, tag);
}

static const NotMoved *dropped(const Fixture *f, const char *kind, const char *object) {
    for (size_t i = 0; i < f->selection.dropped.len; i++) {
        const NotMoved *line = &f->selection.dropped.items[i];
        if (strcmp(line->kind, kind) == 0 && strcmp(line->object, object) == 0)
            return line;
    }
    return NULL;
}

static void assert_dropped(const Fixture *f, const char *kind, const char *object, const char *reason) {
    const NotMoved *line = dropped(f, kind, object);
    if (line == NULL)
        fail_msg("%s %s is not in the list", kind, object);
    assert_string_equal(line->reason, reason);
}

/* What pg_dump's own -t gets wrong: nothing that is chosen may need something that is not. */
static void assert_closed(const Fixture *f) {
    for (size_t i = 0; i < f->toc.count; i++) {
        const TocEntry *entry = &f->toc.entries[i];
        for (size_t d = 0; f->selection.chosen[i] && d < entry->deps_count; d++) {
            const TocEntry *on = toc_find(&f->toc, entry->deps[d]);
            if (on == NULL || strcmp(on->desc, "INDEX ATTACH") == 0)
                continue;
            if (!f->selection.chosen[on - f->toc.entries])
                fail_msg("%s %s moves without %s %s", entry->desc, entry->tag, on->desc, on->tag);
        }
    }
}

static void no_filter_is_everything(void **state) {
    Fixture *f = *state;
    run(f);
    for (size_t i = 0; i < f->toc.count; i++)
        assert_true(f->selection.chosen[i]);
    assert_int_equal(f->selection.dropped.len, 0);
}

static void a_table_brings_what_it_needs_and_its_parts(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "s.plain");
    run(f);
    assert_closed(f);
    static const char *const moves[][2] = {
        {"TABLE", "plain"},
        {"SCHEMA", "s"},
        {"EXTENSION", "citext"},
        {"COMMENT", "EXTENSION citext"},
        {"TYPE", "mood"},
        {"TYPE", "pair"},
        {"DOMAIN", "positive"},
        {"SEQUENCE", "plain_id_seq"},
        {"SEQUENCE OWNED BY", "plain_id_seq"},
        {"DEFAULT", "plain id"},
        {"CONSTRAINT", "plain plain_pkey"},
        {"INDEX", "of_row_index"},
        {"FUNCTION", "of_row(s.plain)"},
        {"TRIGGER", "plain trigger; x"},
        {"FUNCTION", "stamp()"},
        {"POLICY", "plain policy; x"},
        {"ROW SECURITY", "plain"},
        {"COMMENT", "TABLE plain"},
        {"COMMENT", "COLUMN plain.m"},
        {"ACL", "TABLE plain"},
        {"ACL", "COLUMN plain.m"},
        {"COMMENT", "TRIGGER \"trigger; x\" ON plain"},
        {"ACL", "SCHEMA s"},
    };
    static const char *const stays[][2] = {
        {"TABLE", "ident"},      {"FK CONSTRAINT", "ident ident_plain_id_fkey"},
        {"VIEW", "v"},           {"MATERIALIZED VIEW", "mat"},
        {"SEQUENCE", "seq"},     {"FUNCTION", "f(integer)"},
        {"PUBLICATION", "pub"},  {"PUBLICATION TABLE", "pub plain"},
        {"EVENT TRIGGER", "et"}, {"SCHEMA", "S; \"2\"\nDROP"},
        {"RULE", "v rule"},      {"SERVER", "srv"},
    };
    for (size_t i = 0; i < COUNT_OF(moves); i++)
        assert_chosen(f, moves[i][0], moves[i][1]);
    for (size_t i = 0; i < COUNT_OF(stays); i++)
        assert_left(f, stays[i][0], stays[i][1]);
    assert_int_equal(f->selection.dropped.len, 0);
}

static void foreign_keys_need_both_tables(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "ident");
    run(f);
    assert_closed(f);
    assert_chosen(f, "TABLE", "ident");
    assert_chosen(f, "SEQUENCE", "ident_id_seq");
    assert_chosen(f, "CONSTRAINT", "ident ident_during_excl");
    assert_left(f, "TABLE", "plain");
    assert_left(f, "FK CONSTRAINT", "ident ident_plain_id_fkey");
    assert_left(f, "COMMENT", "CONSTRAINT ident_plain_id_fkey ON ident");
    assert_int_equal(f->selection.dropped.len, 1);
    assert_dropped(f, "foreign key", "ident_plain_id_fkey on s.ident", "needs table s.plain, which is not chosen");
}

static void with_both_tables_the_key_moves(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "ident");
    vec_push(f->arena, &f->options.tables, "p?ain");
    run(f);
    assert_chosen(f, "FK CONSTRAINT", "ident ident_plain_id_fkey");
    assert_chosen(f, "COMMENT", "CONSTRAINT ident_plain_id_fkey ON ident");
    assert_int_equal(f->selection.dropped.len, 0);
}

static void views_bring_their_tables(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "late_view"); /* its query is a RULE, for the circle through a key */
    vec_push(f->arena, &f->options.tables, "mat_of_mat");
    run(f);
    assert_closed(f);
    assert_chosen(f, "RULE", "late_view _RETURN");
    assert_chosen(f, "TABLE", "plain");
    assert_chosen(f, "CONSTRAINT", "plain plain_pkey");
    assert_chosen(f, "MATERIALIZED VIEW", "mat");
    assert_chosen(f, "MATERIALIZED VIEW DATA", "mat");
    assert_chosen(f, "INDEX", "mat_id");
    assert_left(f, "VIEW", "v");
}

static void partitions_and_children(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "s.parted"); /* brings its partitions, and theirs */
    run(f);
    assert_chosen(f, "TABLE", "parted_2_11");
    assert_chosen(f, "TABLE ATTACH", "parted_2_11");
    assert_chosen(f, "INDEX ATTACH", "parted_2_11_v_idx");
    assert_left(f, "TABLE", "to_parted");
    assert_dropped(f, "foreign key", "parted_plain_id_fkey on s.parted", "needs table s.plain, which is not chosen");
}

static void a_partition_brings_its_parents_only(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.tables, "parted_2_11");
    vec_push(f->arena, &f->options.tables, "child");
    run(f);
    assert_closed(f);
    assert_chosen(f, "TABLE", "parted_2");
    assert_chosen(f, "TABLE", "parted");
    assert_chosen(f, "TABLE ATTACH", "parted_2");
    assert_chosen(f, "INDEX ATTACH", "parted_2_11_pkey");
    assert_chosen(f, "TABLE", "parent");
    assert_chosen(f, "DEFAULT", "child a");
    assert_left(f, "TABLE", "parted_1");
    assert_left(f, "TABLE ATTACH", "parted_1");
    assert_left(f, "INDEX ATTACH", "parted_1_pkey");
}

static void a_schema_brings_all_in_it(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.schemas, "s*");
    run(f);
    assert_closed(f);
    assert_chosen(f, "SCHEMA", "s");
    assert_chosen(f, "FUNCTION", "f(integer)");
    assert_chosen(f, "DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES");
    assert_chosen(f, "FK CONSTRAINT", "ident ident_plain_id_fkey");
    assert_chosen(f, "RULE", "v rule");
    assert_chosen(f, "SERVER", "srv"); /* of the foreign table */
    assert_left(f, "SCHEMA", "S; \"2\"\nDROP");
    assert_left(f, "EVENT TRIGGER", "et");
    assert_left(f, "PUBLICATION TABLE", "pub plain");
}

static void exclusion_takes_what_depends_on_it(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.exclude_tables, "s.plain");
    run(f);
    assert_closed(f);
    static const char *const gone[][2] = {
        {"TABLE", "plain"},
        {"CONSTRAINT", "plain plain_pkey"},
        {"TRIGGER", "plain trigger; x"},
        {"VIEW", "v"},
        {"RULE", "v rule"},
        {"SEQUENCE", "plain_id_seq"},
        {"COMMENT", "TABLE plain"},
        {"ACL", "TABLE plain"},
        {"FK CONSTRAINT", "ident ident_plain_id_fkey"},
        {"MATERIALIZED VIEW", "mat_of_mat"},
        {"MATERIALIZED VIEW DATA", "mat"},
        {"FUNCTION", "of_row(s.plain)"},
    };
    for (size_t i = 0; i < COUNT_OF(gone); i++)
        assert_left(f, gone[i][0], gone[i][1]);
    assert_chosen(f, "TABLE", "ident");
    assert_chosen(f, "TYPE", "mood");
    assert_chosen(f, "FUNCTION", "stamp()");
    assert_dropped(f, "foreign key", "ident_plain_id_fkey on s.ident", "needs table s.plain, which is excluded");
    assert_dropped(f, "view", "s.v", "needs table s.plain, which is excluded");
    assert_dropped(f, "materialized view", "s.mat", "needs table s.plain, which is excluded");
    assert_dropped(f, "materialized view", "s.mat_of_mat", "needs materialized view s.mat, which is not moved");
    assert_dropped(f, "function", "s.of_row(s.plain)", "needs table s.plain, which is excluded");
    assert_null(dropped(f, "table", "s.plain")); /* named by the user */
    assert_null(dropped(f, "trigger", "trigger; x on s.plain"));
    assert_null(dropped(f, "sequence", "s.plain_id_seq"));
    for (size_t i = 0; i < f->selection.dropped.len; i++)
        assert_string_not_equal(f->selection.dropped.items[i].kind, "comment");
}

static void excluding_a_partition_keeps_the_rest(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.exclude_tables, "parted_1");
    run(f);
    assert_left(f, "TABLE ATTACH", "parted_1");
    assert_left(f, "INDEX ATTACH", "parted_1_pkey");
    assert_chosen(f, "TABLE", "parted");
    assert_chosen(f, "INDEX ATTACH", "parted_2_pkey");
    assert_chosen(f, "FK CONSTRAINT", "to_parted to_parted_p_fkey"); /* depends on the attached index */
    assert_int_equal(f->selection.dropped.len, 0);
}

static void inclusion_and_exclusion_together(void **state) {
    Fixture *f = *state;
    vec_push(f->arena, &f->options.schemas, "s");
    vec_push(f->arena, &f->options.exclude_tables, "mat");
    vec_push(f->arena, &f->options.exclude_schemas, "\"S; \"\"2\"\"\nDROP\"");
    run(f);
    assert_closed(f);
    assert_left(f, "MATERIALIZED VIEW", "mat");
    assert_left(f, "TABLE", "T; 'x'\n$$ -- /* \"y\"");
    assert_int_equal(f->selection.dropped.len, 1);
    assert_dropped(f, "materialized view", "s.mat_of_mat", "needs materialized view s.mat, which is excluded");
}

static void patterns_that_name_nothing(void **state) {
    Fixture *f = *state;
    Error err;
    vec_push(f->arena, &f->options.tables, "s.plain");
    vec_push(f->arena, &f->options.tables, "nowhere.*");
    f->selection.chosen = NULL;
    assert_false(schema_select(f->arena, &f->toc, &f->options, &f->selection, &err));
    assert_int_equal(err.reason, REASON_USAGE);
    assert_non_null(strstr(err.message, "nowhere.*"));
    assert_null(f->selection.chosen);
    f->options.tables.len = 0;
    vec_push(f->arena, &f->options.schemas, "nowhere");
    assert_false(schema_select(f->arena, &f->toc, &f->options, &f->selection, &err));
    f->options.schemas.len = 0;
    vec_push(f->arena, &f->options.exclude_tables, "nowhere"); /* to exclude what is not there is fine */
    assert_true(schema_select(f->arena, &f->toc, &f->options, &f->selection, &err));
    vec_push(f->arena, &f->options.exclude_tables, "\"open");
    assert_false(schema_select(f->arena, &f->toc, &f->options, &f->selection, &err));
}

static void the_plan_knows_tables_by_name(void **state) {
    Fixture *f = *state;
    Error err;
    bool passes = false;
    assert_true(filter_table_by_name(f->arena, &f->options, "s", "plain", &passes, &err));
    assert_true(passes);
    vec_push(f->arena, &f->options.tables, "p*");
    assert_true(filter_table_by_name(f->arena, &f->options, "s", "other", &passes, &err));
    assert_false(passes);
    vec_push(f->arena, &f->options.schemas, "s");
    assert_true(filter_table_by_name(f->arena, &f->options, "s", "other", &passes, &err));
    assert_true(passes);
    vec_push(f->arena, &f->options.exclude_tables, "s.other");
    assert_true(filter_table_by_name(f->arena, &f->options, "s", "other", &passes, &err));
    assert_false(passes);
    vec_push(f->arena, &f->options.exclude_schemas, "a.b");
    assert_false(filter_table_by_name(f->arena, &f->options, "s", "plain", &passes, &err));
}

/* A chain and a star of 100,000: each edge is visited once, or this takes minutes. */
static void large_archives_are_linear(void **state) {
    Fixture *f = *state;
    enum { ENTRIES = 100000 };
    CLEANUP(buf_fini) Buf buf;
    buf_init(&buf, ARCHIVE_MAX);
    archive_begin(&buf, 16, ENTRIES);
    for (int i = 1; i <= ENTRIES; i++) {
        char tag[32];
        snprintf(tag, sizeof(tag), "v%d", i);
        TocEntry entry = {
            .dump_id = i, .tag = tag, .desc = "VIEW", .section = TOC_SECTION_PRE_DATA, .schema = "s", .defn = "x"};
        archive_entry(&buf, 16, &entry, (const int[]){i == 1 ? 0 : 1, i == 1 ? 0 : i - 1, 0});
    }
    f->toc = archive_toc(f->arena, &buf);
    int64_t begun = clock_now_us();
    vec_push(f->arena, &f->options.tables, "v100000");
    run(f);
    assert_chosen(f, "VIEW", "v1");
    f->options.tables.len = 0;
    vec_push(f->arena, &f->options.exclude_tables, "v1");
    run(f);
    assert_left(f, "VIEW", "v100000");
    assert_int_equal(f->selection.dropped.len, ENTRIES - 1);
    assert_true(clock_now_us() - begun < 20 * USEC_PER_SEC);
}

int main(void) {
#define FILTER_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_as_in_psql),
        cmocka_unit_test(malformed_patterns_are_refused),
        FILTER_TEST(no_filter_is_everything),
        FILTER_TEST(a_table_brings_what_it_needs_and_its_parts),
        FILTER_TEST(foreign_keys_need_both_tables),
        FILTER_TEST(with_both_tables_the_key_moves),
        FILTER_TEST(views_bring_their_tables),
        FILTER_TEST(partitions_and_children),
        FILTER_TEST(a_partition_brings_its_parents_only),
        FILTER_TEST(a_schema_brings_all_in_it),
        FILTER_TEST(exclusion_takes_what_depends_on_it),
        FILTER_TEST(excluding_a_partition_keeps_the_rest),
        FILTER_TEST(inclusion_and_exclusion_together),
        FILTER_TEST(patterns_that_name_nothing),
        FILTER_TEST(the_plan_knows_tables_by_name),
        FILTER_TEST(large_archives_are_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
