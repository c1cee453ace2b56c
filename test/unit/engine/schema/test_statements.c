/* SQL and passes of archive entries: archives with every kind of object, and texts by hand. */
#include "engine/schema/statements.h"

#include "unit/engine/schema/archive.h"

static const RestoreOptions all = {0};

static void assert_has(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        fail_msg("not in the text: %s\n--- text:\n%s", part, text);
}

/* --- passes --- */

static void each_kind_has_its_pass(void **state) {
    (void)state;
    static const struct {
        const char *desc;
        const char *tag;
        RestorePass pass;
    } cases[] = {
        {"ENCODING", "ENCODING", RESTORE_SKIP},
        {"STDSTRINGS", "STDSTRINGS", RESTORE_SKIP},
        {"SEARCHPATH", "SEARCHPATH", RESTORE_SKIP},
        {"DATABASE", "kinds", RESTORE_SKIP},
        {"SCHEMA", "s", RESTORE_PRE_DATA},
        {"SCHEMA", "public", RESTORE_PRE_DATA},
        {"EXTENSION", "citext", RESTORE_PRE_DATA},
        {"PROCEDURAL LANGUAGE", "lang2", RESTORE_PRE_DATA},
        {"ACCESS METHOD", "am2", RESTORE_PRE_DATA},
        {"COLLATION", "coll", RESTORE_PRE_DATA},
        {"CONVERSION", "conv", RESTORE_PRE_DATA},
        {"SHELL TYPE", "label", RESTORE_PRE_DATA},
        {"TYPE", "label", RESTORE_PRE_DATA},
        {"DOMAIN", "positive", RESTORE_PRE_DATA},
        {"FUNCTION", "f(integer)", RESTORE_PRE_DATA},
        {"PROCEDURE", "P; 1(integer)", RESTORE_PRE_DATA},
        {"AGGREGATE", "total(integer)", RESTORE_PRE_DATA},
        {"OPERATOR", "==%", RESTORE_PRE_DATA},
        {"OPERATOR FAMILY", "family", RESTORE_PRE_DATA},
        {"OPERATOR CLASS", "class", RESTORE_PRE_DATA},
        {"CAST", "CAST (s.pair AS text)", RESTORE_PRE_DATA},
        {"TRANSFORM", "TRANSFORM FOR integer LANGUAGE sql", RESTORE_PRE_DATA},
        {"TEXT SEARCH PARSER", "parser", RESTORE_PRE_DATA},
        {"TEXT SEARCH TEMPLATE", "template", RESTORE_PRE_DATA},
        {"TEXT SEARCH DICTIONARY", "dictionary", RESTORE_PRE_DATA},
        {"TEXT SEARCH CONFIGURATION", "config", RESTORE_PRE_DATA},
        {"FOREIGN DATA WRAPPER", "fdw", RESTORE_PRE_DATA},
        {"SERVER", "srv", RESTORE_PRE_DATA},
        {"USER MAPPING", "USER MAPPING public SERVER srv", RESTORE_PRE_DATA},
        {"FOREIGN TABLE", "far", RESTORE_PRE_DATA},
        {"TABLE", "plain", RESTORE_PRE_DATA},
        {"TABLE ATTACH", "parted_1", RESTORE_PRE_DATA},
        {"SEQUENCE", "plain_id_seq", RESTORE_PRE_DATA},
        {"SEQUENCE OWNED BY", "plain_id_seq", RESTORE_PRE_DATA},
        {"DEFAULT", "plain id", RESTORE_PRE_DATA},
        {"VIEW", "v", RESTORE_PRE_DATA},
        {"MATERIALIZED VIEW", "mat", RESTORE_PRE_DATA},
        {"MATERIALIZED VIEW", "late_mat", RESTORE_POST_DATA}, /* needs the primary key: GROUP BY */
        {"RULE", "late_view _RETURN", RESTORE_POST_DATA},
        {"CONSTRAINT", "plain plain_pkey", RESTORE_PARALLEL},
        {"CONSTRAINT", "ident ident_during_excl", RESTORE_PARALLEL},
        {"INDEX", "clustered_expr", RESTORE_PARALLEL},
        {"INDEX ATTACH", "parted_1_v_idx", RESTORE_POST_DATA},
        {"CHECK CONSTRAINT", "clustered not_checked", RESTORE_POST_DATA},
        {"CHECK CONSTRAINT", "lax lax_check", RESTORE_POST_DATA},
        {"FK CONSTRAINT", "ident ident_plain_id_fkey", RESTORE_FOREIGN_KEY},
        {"FK CONSTRAINT", "clustered not_checked_fk", RESTORE_FOREIGN_KEY},
        {"STATISTICS", "stats", RESTORE_POST_DATA},
        {"RULE", "v rule", RESTORE_POST_DATA},
        {"TRIGGER", "plain trigger; x", RESTORE_POST_DATA},
        {"ROW SECURITY", "plain", RESTORE_POST_DATA},
        {"POLICY", "plain policy; x", RESTORE_POST_DATA},
        {"ACL", "TABLE plain", RESTORE_ACL},
        {"ACL", "COLUMN plain.m", RESTORE_ACL},
        {"DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES", RESTORE_ACL},
        {"EVENT TRIGGER", "et", RESTORE_LAST},
        {"PUBLICATION", "pub", RESTORE_LAST},
        {"PUBLICATION TABLE", "pub plain", RESTORE_LAST},
        {"PUBLICATION TABLES IN SCHEMA", "pub_schema s", RESTORE_LAST},
        {"SUBSCRIPTION", "sub", RESTORE_LAST},
        {"MATERIALIZED VIEW DATA", "mat", RESTORE_LAST},
        {"COMMENT", "TABLE plain", RESTORE_PRE_DATA},
        {"COMMENT", "COLUMN plain.m", RESTORE_PRE_DATA},
        {"COMMENT", "CONSTRAINT plain_v_check ON plain", RESTORE_PRE_DATA},
        {"COMMENT", "CONSTRAINT positive_check ON DOMAIN positive", RESTORE_PRE_DATA},
        {"COMMENT", "INDEX clustered_expr", RESTORE_POST_DATA},
        {"COMMENT", "CONSTRAINT ident_pkey ON ident", RESTORE_POST_DATA},
        {"COMMENT", "TRIGGER \"trigger; x\" ON plain", RESTORE_POST_DATA},
        {"COMMENT", "POLICY \"policy; x\" ON plain", RESTORE_POST_DATA},
        {"COMMENT", "MATERIALIZED VIEW late_mat", RESTORE_POST_DATA},
        {"COMMENT", "CONSTRAINT ident_plain_id_fkey ON ident", RESTORE_LAST},
        {"COMMENT", "EVENT TRIGGER et", RESTORE_LAST},
        {"COMMENT", "PUBLICATION pub", RESTORE_LAST},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    bool *seen = arena_array(arena, bool, toc.count);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const TocEntry *entry = archive_find(&toc, cases[i].desc, cases[i].tag);
        RestorePass pass = restore_pass(&toc, entry, &all);
        if (pass != cases[i].pass)
            fail_msg("%s %s is in pass %d, not %d", cases[i].desc, cases[i].tag, (int)pass, (int)cases[i].pass);
        for (size_t k = 0; k < toc.count; k++)
            seen[k] = seen[k] || strcmp(toc.entries[k].desc, cases[i].desc) == 0;
    }
    for (size_t k = 0; k < toc.count; k++)
        if (!seen[k])
            fail_msg("kind %s is in the archive but not in this test", toc.entries[k].desc);
}

/* Whatever an entry depends on runs in an earlier pass or stands before it: else running pass by pass fails. */
static void passes_respect_dependencies(void **state) {
    (void)state;
    static const char *const names[] = {"toc_kinds_13.dump", "toc_kinds_15.dump", "toc_kinds_17.dump",
                                        "toc_kinds_18.dump"};
    /* Attached indexes run before foreign keys, and what is parallel waits for its own dependencies. */
    static const int order[] = {
        [RESTORE_SKIP] = 0,        [RESTORE_PRE_DATA] = 1, [RESTORE_PARALLEL] = 2, [RESTORE_POST_DATA] = 3,
        [RESTORE_FOREIGN_KEY] = 4, [RESTORE_ACL] = 5,      [RESTORE_LAST] = 6};
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Toc toc = archive_load_toc(arena, names[n]);
        for (size_t i = 0; i < toc.count; i++) {
            const TocEntry *entry = &toc.entries[i];
            for (size_t d = 0; d < entry->deps_count; d++) {
                const TocEntry *on = toc_find(&toc, entry->deps[d]);
                if (on == NULL || on == entry)
                    continue;
                int mine = order[restore_pass(&toc, entry, &all)];
                int its = order[restore_pass(&toc, on, &all)];
                if (its > mine || (its == mine && on > entry))
                    fail_msg("%s: %s %s runs before %s %s", names[n], entry->desc, entry->tag, on->desc, on->tag);
            }
        }
    }
}

static void options_leave_out_grants_and_owners(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    const RestoreOptions none = {.no_owner = true, .no_acl = true};
    for (size_t i = 0; i < toc.count; i++) {
        const char *sql = restore_sql(arena, &toc.entries[i], &none);
        assert_null(strstr(sql, "OWNER TO"));
        assert_null(strstr(sql, "GRANT "));
        assert_int_not_equal(restore_pass(&toc, &toc.entries[i], &none), RESTORE_ACL);
    }
    assert_has(restore_sql(arena, archive_find(&toc, "ACL", "TABLE plain"), &all), "TO \"Kinds \"\"Reader\"\"; --\"");
}

static void unknown_kinds_run_by_section(void **state) {
    (void)state;
    Toc toc = {0};
    TocEntry entry = {.desc = "NEW THING", .tag = "x", .section = TOC_SECTION_PRE_DATA, .schema = ""};
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_PRE_DATA);
    entry.section = TOC_SECTION_POST_DATA;
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_POST_DATA);
    entry.section = TOC_SECTION_DATA;
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_SKIP);
    entry = (TocEntry){.desc = "COMMENT", .tag = "DATABASE x", .section = TOC_SECTION_NONE};
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_SKIP);
    entry = (TocEntry){.desc = "ACL", .tag = "DATABASE x", .section = TOC_SECTION_NONE};
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_SKIP);
    entry = (TocEntry){.desc = "STATISTICS DATA", .tag = "x", .section = TOC_SECTION_POST_DATA};
    assert_int_equal(restore_pass(&toc, &entry, &all), RESTORE_SKIP);
}

/* --- texts --- */

static void owners_follow_their_objects(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"TABLE", "plain", "\nALTER TABLE s.plain OWNER TO \"kinds_owner\";\n"},
        {"VIEW", "v", "\nALTER VIEW s.v OWNER TO \"Kinds \"\"Reader\"\"; --\";\n"},
        {"MATERIALIZED VIEW", "mat", "\nALTER MATERIALIZED VIEW s.mat OWNER TO \"kinds_owner\";\n"},
        {"SEQUENCE", "seq", "\nALTER SEQUENCE s.seq OWNER TO \"kinds_owner\";\n"},
        {"FUNCTION", "f(integer)", "\nALTER FUNCTION s.f(a integer) OWNER TO \"kinds_owner\";\n"},
        {"PROCEDURE", "P; 1(integer)", "\nALTER PROCEDURE s.\"P; 1\"(IN a integer) OWNER TO \"postgres\";\n"},
        {"AGGREGATE", "total(integer)", "\nALTER AGGREGATE s.total(integer) OWNER TO \"kinds_owner\";\n"},
        {"OPERATOR", "==%", "\nALTER OPERATOR s.==% (integer, integer) OWNER TO \"kinds_owner\";\n"},
        {"OPERATOR CLASS", "class", "\nALTER OPERATOR CLASS s.class USING btree OWNER TO \"kinds_owner\";\n"},
        {"OPERATOR FAMILY", "family", "\nALTER OPERATOR FAMILY s.family USING btree OWNER TO \"postgres\";\n"},
        {"TYPE", "mood", "\nALTER TYPE s.mood OWNER TO \"kinds_owner\";\n"},
        {"TYPE", "label", "\nALTER TYPE s.label OWNER TO \"postgres\";\n"}, /* its DROP has CASCADE */
        {"DOMAIN", "positive", "\nALTER DOMAIN s.positive OWNER TO \"postgres\";\n"},
        {"SCHEMA", "s", "\nALTER SCHEMA \"s\" OWNER TO \"kinds_owner\";\n"},
        {"SCHEMA", "public", "\nALTER SCHEMA \"public\" OWNER TO \"kinds_owner\";\n"},
        {"PROCEDURAL LANGUAGE", "lang2", "\nALTER PROCEDURAL LANGUAGE lang2 OWNER TO \"kinds_owner\";\n"},
        {"FOREIGN DATA WRAPPER", "fdw", "\nALTER FOREIGN DATA WRAPPER fdw OWNER TO \"postgres\";\n"},
        {"SERVER", "srv", "\nALTER SERVER srv OWNER TO \"kinds_owner\";\n"},
        {"STATISTICS", "stats", "\nALTER STATISTICS s.stats OWNER TO \"kinds_owner\";\n"},
        {"PUBLICATION", "pub", "\nALTER PUBLICATION pub OWNER TO \"kinds_owner\";\n"},
        {"EVENT TRIGGER", "et", "\nALTER EVENT TRIGGER et OWNER TO \"postgres\";\n"},
        {"TABLE", "T; 'x'\n$$ -- /* \"y\"",
         "\nALTER TABLE \"S; \"\"2\"\"\nDROP\".\"T; 'x'\n$$ -- /* \"\"y\"\"\" OWNER TO \"postgres\";\n"},
    };
    static const char *const none[][2] = {
        {"EXTENSION", "citext"},
        {"CAST", "CAST (s.pair AS text)"},
        {"SHELL TYPE", "label"},
        {"INDEX", "clustered_expr"},
        {"TRIGGER", "plain trigger; x"},
        {"COMMENT", "TABLE plain"},
        {"DEFAULT", "plain id"},
        {"TABLE ATTACH", "parted_1"},
        {"USER MAPPING", "USER MAPPING public SERVER srv"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_has(restore_sql(arena, archive_find(&toc, cases[i][0], cases[i][1]), &all), cases[i][2]);
    for (size_t i = 0; i < COUNT_OF(none); i++)
        assert_null(strstr(restore_sql(arena, archive_find(&toc, none[i][0], none[i][1]), &all), "OWNER TO"));
}

static void storage_is_set_where_it_matters(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    TocEntry entry = {.desc = "TABLE",
                      .tag = "t",
                      .schema = "s",
                      .defn = "CREATE TABLE s.t ();\n",
                      .drop_stmt = "",
                      .tablespace = "fast \"disk\"",
                      .table_am = "am2",
                      .owner = ""};
    assert_string_equal(restore_sql(arena, &entry, &all),
                        "SET default_tablespace = \"fast \"\"disk\"\"\";\nSET default_table_access_method = "
                        "\"am2\";\nCREATE TABLE s.t ();\n");
    entry.relkind = 'p';
    entry.tablespace = "";
    assert_string_equal(restore_sql(arena, &entry, &all),
                        "SET default_tablespace = '';\nCREATE TABLE s.t ();\nALTER TABLE \"s\".\"t\" SET ACCESS METHOD "
                        "\"am2\";\n");
    entry.table_am = "";
    assert_string_equal(restore_sql(arena, &entry, &all), "SET default_tablespace = '';\nCREATE TABLE s.t ();\n");
    entry.desc = "VIEW";
    assert_string_equal(restore_sql(arena, &entry, &all), "CREATE TABLE s.t ();\n");
    entry.defn = "";
    assert_string_equal(restore_sql(arena, &entry, &all), "");
}

static void subscriptions_run_as_before(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    RestoreOptions old = all;
    TocEntry entry = {.desc = "SUBSCRIPTION",
                      .tag = "Sub",
                      .defn = "CREATE SUBSCRIPTION \"Sub\" CONNECTION '' PUBLICATION p WITH (connect = false);\n",
                      .drop_stmt = "DROP SUBSCRIPTION \"Sub\";\n",
                      .owner = "o"};

    assert_null(strstr(restore_sql(arena, &entry, &old), "run_as_owner"));
    old.subscriptions_run_as_owner = true;
    assert_has(restore_sql(arena, &entry, &old), "(connect = false);\nALTER SUBSCRIPTION \"Sub\" SET (run_as_owner = "
                                                 "true);\nALTER SUBSCRIPTION \"Sub\" OWNER TO \"o\";\n");
    assert_true(restore_owner_runs_subscriptions("15.6 (Debian 15.6-0+deb12u1)", 160004));
    assert_false(restore_owner_runs_subscriptions("15.6 (Debian 15.6-0+deb12u1)", 150006));
    assert_false(restore_owner_runs_subscriptions("16.2", 170000));
    assert_false(restore_owner_runs_subscriptions(NULL, 170000));
}

static void public_may_be_there(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    TocEntry entry = {.desc = "SCHEMA", .tag = "public", .drop_stmt = "DROP SCHEMA public;\n", .owner = "o"};
    entry.defn = "CREATE SCHEMA public;\n";
    assert_string_equal(restore_sql(arena, &entry, &all),
                        "CREATE SCHEMA IF NOT EXISTS public;\nALTER SCHEMA \"public\" OWNER TO \"o\";\n");
    assert_string_equal(restore_drop_sql(arena, &entry), "");
    entry.defn = "-- *not* creating schema, since initdb creates it\n";
    entry.drop_stmt = "-- *not* dropping schema, since initdb creates it\n";
    assert_has(restore_sql(arena, &entry, &all), "\nALTER SCHEMA \"public\" OWNER TO \"o\";\n");
    entry.tag = "other";
    entry.defn = "CREATE SCHEMA other;\n";
    assert_has(restore_sql(arena, &entry, &all), "CREATE SCHEMA other;\n");
}

static void attver_is_taken_out(void **state) {
    (void)state;
#define SET_OPTIONS(list) "ALTER TABLE ONLY s.t ALTER COLUMN c SET (" list ");\n"
    static const char *const cases[][2] = {
        {"CREATE TABLE s.t (c int);\n" SET_OPTIONS("pg_attver=1") "SELECT 1;\n",
         "CREATE TABLE s.t (c int);\nSELECT 1;\n"},
        {SET_OPTIONS("n_distinct=3, pg_attver=1"), SET_OPTIONS("n_distinct=3")},
        {SET_OPTIONS("pg_attver='1', n_distinct=3"), SET_OPTIONS("n_distinct=3")},
        {SET_OPTIONS("a='x,y)',pg_attver=1,b=(2,3)"), SET_OPTIONS("a='x,y)', b=(2,3)")},
        {SET_OPTIONS("\"pg_attver\"=1"), ""},
        {SET_OPTIONS("n_distinct=3"), SET_OPTIONS("n_distinct=3")},
        {"ALTER FOREIGN TABLE ONLY \"a;\"\"b\".\"pg_attver\" ALTER COLUMN \"(\" SET (pg_attver=1);\nSELECT 2;\n",
         "SELECT 2;\n"},
        {"ALTER MATERIALIZED VIEW s.m ALTER COLUMN c SET (pg_attver=1);\n\n", ""},
        {"COMMENT ON TABLE s.t IS 'ALTER TABLE x ALTER COLUMN c SET (pg_attver=1);';\n",
         "COMMENT ON TABLE s.t IS 'ALTER TABLE x ALTER COLUMN c SET (pg_attver=1);';\n"},
        {"CREATE FUNCTION f() AS $$ " SET_OPTIONS("pg_attver=1") "$$;\n",
         "CREATE FUNCTION f() AS $$ " SET_OPTIONS("pg_attver=1") "$$;\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        TocEntry entry = {.desc = "RULE", .tag = "", .schema = "", .defn = cases[i][0], .drop_stmt = "", .owner = ""};
        assert_string_equal(restore_sql(arena, &entry, &all), cases[i][1]);
    }
}

static void foreign_keys_become_not_valid(void **state) {
    (void)state;
#define FK "ALTER TABLE ONLY s.a\n    ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES s.b(id)"
    static const char *const cases[][2] = {
        {FK ";\n", FK " NOT VALID;\n"},
        {FK " ON DELETE SET NULL DEFERRABLE;\n", FK " ON DELETE SET NULL DEFERRABLE NOT VALID;\n"},
        {FK " NOT VALID;\n", FK " NOT VALID;\n"},
        {FK " NOT ENFORCED;\n", FK " NOT ENFORCED;\n"},
        {FK ";\nCOMMENT ON x IS 'NOT VALID';\n", FK " NOT VALID;\nCOMMENT ON x IS 'NOT VALID';\n"},
        {"ALTER TABLE \"a;\" ADD CONSTRAINT \"NOT VALID\" FOREIGN KEY (\"not\", valid) REFERENCES b;\n",
         "ALTER TABLE \"a;\" ADD CONSTRAINT \"NOT VALID\" FOREIGN KEY (\"not\", valid) REFERENCES b NOT VALID;\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        TocEntry entry = {
            .desc = "FK CONSTRAINT", .tag = "", .schema = "", .defn = cases[i][0], .drop_stmt = "", .owner = ""};
        assert_string_equal(restore_foreign_key_not_valid_sql(arena, &entry, &all), cases[i][1]);
    }
}

static void what_follows_the_first_statement(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    assert_string_equal(restore_after_first_statement(arena, archive_find(&toc, "INDEX", "clustered_id")),
                        "ALTER TABLE s.clustered CLUSTER ON clustered_id;\n\n"
                        "ALTER TABLE ONLY s.clustered REPLICA IDENTITY USING INDEX clustered_id;\n");
    assert_string_equal(restore_after_first_statement(arena, archive_find(&toc, "INDEX", "clustered_expr")),
                        "ALTER INDEX s.clustered_expr ALTER COLUMN 1 SET STATISTICS 77;\n");
    assert_string_equal(restore_after_first_statement(arena, archive_find(&toc, "INDEX", "i; \"x\"")), "");
    assert_string_equal(restore_after_first_statement(arena, archive_find(&toc, "FUNCTION", "atomic(integer)")), "");
    assert_string_equal(restore_after_first_statement(arena, archive_find(&toc, "RULE", "v rule")), "");
}

static void drops_only_what_is_there(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"TABLE", "plain", "DROP TABLE IF EXISTS s.plain;\n"},
        {"SCHEMA", "s", "DROP SCHEMA IF EXISTS s;\n"},
        {"SCHEMA", "public", ""},
        {"OPERATOR CLASS", "class", "DROP OPERATOR CLASS IF EXISTS s.class USING btree;\n"},
        {"OPERATOR", "==%", "DROP OPERATOR IF EXISTS s.==% (integer, integer);\n"},
        {"CAST", "CAST (s.pair AS text)", "DROP CAST IF EXISTS (s.pair AS text);\n"},
        {"TRANSFORM", "TRANSFORM FOR integer LANGUAGE sql", "DROP TRANSFORM IF EXISTS FOR integer LANGUAGE sql;\n"},
        {"USER MAPPING", "USER MAPPING public SERVER srv", "DROP USER MAPPING IF EXISTS FOR public SERVER srv;\n"},
        {"TEXT SEARCH CONFIGURATION", "config", "DROP TEXT SEARCH CONFIGURATION IF EXISTS s.config;\n"},
        {"FOREIGN TABLE", "far", "DROP FOREIGN TABLE IF EXISTS s.far;\n"},
        {"FOREIGN DATA WRAPPER", "fdw", "DROP FOREIGN DATA WRAPPER IF EXISTS fdw;\n"},
        {"MATERIALIZED VIEW", "late_mat", "DROP MATERIALIZED VIEW IF EXISTS s.late_mat;\n"},
        {"FUNCTION", "f(integer)", "DROP FUNCTION IF EXISTS s.f(a integer);\n"},
        {"EVENT TRIGGER", "et", "DROP EVENT TRIGGER IF EXISTS et;\n"},
        {"PUBLICATION", "pub", "DROP PUBLICATION IF EXISTS pub;\n"},
        {"SUBSCRIPTION", "sub", "DROP SUBSCRIPTION IF EXISTS sub;\n"},
        {"RULE", "v rule", "DROP RULE IF EXISTS rule ON s.v;\n"},
        {"RULE", "late_view _RETURN", "DROP VIEW IF EXISTS s.late_view CASCADE;\n"},
        {"TRIGGER", "plain trigger; x", "DROP TRIGGER IF EXISTS \"trigger; x\" ON s.plain;\n"},
        {"INDEX", "of_row_index", "DROP INDEX IF EXISTS s.of_row_index;\n"},
        {"INDEX", "parted_1_v_idx", ""}, /* goes with its parent */
        {"DEFAULT", "plain id", "ALTER TABLE IF EXISTS s.plain ALTER COLUMN id DROP DEFAULT;\n"},
        {"CHECK CONSTRAINT", "clustered not_checked",
         "ALTER TABLE IF EXISTS s.clustered DROP CONSTRAINT IF EXISTS not_checked;\n"},
        {"CHECK CONSTRAINT", "lax lax_check", ""}, /* ALTER DOMAIN has no IF EXISTS */
        {"FK CONSTRAINT", "ident ident_plain_id_fkey",
         "ALTER TABLE IF EXISTS ONLY s.ident DROP CONSTRAINT IF EXISTS ident_plain_id_fkey;\n"},
        {"CONSTRAINT", "plain plain_pkey", ""},
        {"TABLE ATTACH", "parted_1", ""},
        {"SEQUENCE OWNED BY", "plain_id_seq", ""},
        {"COMMENT", "TABLE plain", ""},
        {"ACL", "TABLE plain", ""},
        {"TABLE", "T; 'x'\n$$ -- /* \"y\"",
         "DROP TABLE IF EXISTS \"S; \"\"2\"\"\nDROP\".\"T; 'x'\n$$ -- /* \"\"y\"\"\";\n"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc = archive_load_toc(arena, "toc_kinds_15.dump");
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(restore_drop_sql(arena, archive_find(&toc, cases[i][0], cases[i][1])), cases[i][2]);
}

static void schemas_grant_ahead(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const RestoreOptions none = {.no_acl = true};
    TocEntry acl = {.desc = "ACL",
                    .tag = "SCHEMA app",
                    .defn = "REVOKE ALL ON SCHEMA app FROM keeper;\nGRANT USAGE ON SCHEMA app TO \"a;b\";\n"
                            "GRANT CREATE ON SCHEMA app TO worker WITH GRANT OPTION;\n"
                            "SET SESSION AUTHORIZATION worker;\nGRANT CREATE ON SCHEMA app TO other;\n"
                            "RESET SESSION AUTHORIZATION;\n"};
    StringVec grants = {0}, others = {0};

    restore_schema_grants(arena, &acl, &all, &grants);
    assert_int_equal(grants.len, 2);
    assert_string_equal(grants.items[0], "GRANT USAGE ON SCHEMA app TO \"a;b\"");
    assert_string_equal(grants.items[1], "GRANT CREATE ON SCHEMA app TO worker WITH GRANT OPTION");
    restore_schema_grants(arena, &acl, &none, &others);
    acl.tag = "TABLE app";
    restore_schema_grants(arena, &acl, &all, &others);
    assert_int_equal(others.len, 0);
}

static void knows_the_parts_of_a_table(void **state) {
    (void)state;
    static const char *const parts[] = {"INDEX",   "CONSTRAINT",   "FK CONSTRAINT", "CHECK CONSTRAINT",
                                        "TRIGGER", "RULE",         "POLICY",        "ROW SECURITY",
                                        "DEFAULT", "TABLE ATTACH", "TABLE DATA"};
    static const char *const others[] = {"TABLE", "VIEW", "FUNCTION", "SEQUENCE", "COMMENT", "ACL", "NEW THING", ""};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        assert_true(toc_kind_is_part_of_table(parts[i]));
    for (size_t i = 0; i < COUNT_OF(others); i++)
        assert_false(toc_kind_is_part_of_table(others[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_has_its_pass),
        cmocka_unit_test(passes_respect_dependencies),
        cmocka_unit_test(options_leave_out_grants_and_owners),
        cmocka_unit_test(unknown_kinds_run_by_section),
        cmocka_unit_test(owners_follow_their_objects),
        cmocka_unit_test(storage_is_set_where_it_matters),
        cmocka_unit_test(subscriptions_run_as_before),
        cmocka_unit_test(public_may_be_there),
        cmocka_unit_test(attver_is_taken_out),
        cmocka_unit_test(foreign_keys_become_not_valid),
        cmocka_unit_test(what_follows_the_first_statement),
        cmocka_unit_test(drops_only_what_is_there),
        cmocka_unit_test(schemas_grant_ahead),
        cmocka_unit_test(knows_the_parts_of_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
