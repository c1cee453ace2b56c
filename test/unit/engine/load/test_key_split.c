/* Unit test of key_split.c: every form of a key's or index's text that pg_dump writes. */
#include "engine/load/key_split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NO_TABLESPACE "SET LOCAL default_tablespace = '';"

static Arena *arena;

static int set_up(void **state) {
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_freep(&arena);
    return 0;
}

static KeySplit split(const char *desc, const char *defn, const char *tablespace) {
    TocEntry entry = {.desc = desc,
                      .tag = "i",
                      .schema = "S \"x\"",
                      .defn = defn,
                      .drop_stmt = "",
                      .copy_stmt = "",
                      .tablespace = tablespace,
                      .table_am = "",
                      .owner = ""};

    return key_split(arena, &entry, &(RestoreOptions){0});
}

static void assert_key(const char *defn, const char *build, const char *complete) {
    KeySplit got = split("CONSTRAINT", defn, "");

    assert_non_null(got.build);
    assert_string_equal(got.build, arena_printf(arena, NO_TABLESPACE "%s", build));
    assert_string_equal(got.complete, complete);
}

static void assert_whole(const char *desc, const char *defn) {
    KeySplit got = split(desc, defn, "");

    if (got.build != NULL)
        print_error("split: %s\n", defn);
    assert_null(got.build);
    assert_null(got.complete);
    assert_null(got.index);
}

static void test_primary_key(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n",
               "CREATE UNIQUE INDEX t_pkey ON ONLY public.t USING btree (id);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, b, \"C\");\n",
               "CREATE UNIQUE INDEX t_pkey ON ONLY public.t USING btree (a, b, \"C\");",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;\n");
}

static void test_unique(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_a_key UNIQUE (a);\n",
               "CREATE UNIQUE INDEX t_a_key ON ONLY public.t USING btree (a);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT t_a_key UNIQUE USING INDEX t_a_key;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (a, b);\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a, b) NULLS NOT DISTINCT;",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE USING INDEX k;\n");
}

static void test_include_and_storage(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (a) INCLUDE (b, c);\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a) INCLUDE (b, c);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY USING INDEX k;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a) WITH (fillfactor='70');\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a) WITH (fillfactor='70');",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE USING INDEX k;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (a) INCLUDE (b)"
               " WITH (fillfactor='70', deduplicate_items='off') DEFERRABLE INITIALLY DEFERRED;\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a) INCLUDE (b) NULLS NOT DISTINCT"
               " WITH (fillfactor='70', deduplicate_items='off');",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE USING INDEX k DEFERRABLE INITIALLY DEFERRED;\n");
}

static void test_deferrable(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a) DEFERRABLE;\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE USING INDEX k DEFERRABLE;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (a) DEFERRABLE INITIALLY DEFERRED;\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY USING INDEX k DEFERRABLE INITIALLY DEFERRED;\n");
}

static void test_odd_names(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY \"a;b\".\"t (\"\"x\"\") --\"\n    ADD CONSTRAINT \"k) INCLUDE (\" PRIMARY KEY"
               " (\"c,)\", \"d\"\";\");\n",
               "CREATE UNIQUE INDEX \"k) INCLUDE (\" ON ONLY \"a;b\".\"t (\"\"x\"\") --\" USING btree"
               " (\"c,)\", \"d\"\";\");",
               "ALTER TABLE ONLY \"a;b\".\"t (\"\"x\"\") --\" ADD CONSTRAINT \"k) INCLUDE (\" PRIMARY KEY USING INDEX"
               " \"k) INCLUDE (\";\n");
    assert_key("ALTER TABLE ONLY \"PRIMARY KEY\"\n    ADD CONSTRAINT \"größe\" UNIQUE (\"WITHOUT OVERLAPS\");\n",
               "CREATE UNIQUE INDEX \"größe\" ON ONLY \"PRIMARY KEY\" USING btree (\"WITHOUT OVERLAPS\");",
               "ALTER TABLE ONLY \"PRIMARY KEY\" ADD CONSTRAINT \"größe\" UNIQUE USING INDEX \"größe\";\n");
}

static void test_name_to_look_for(void **state) {
    (void)state;
    KeySplit key = split("CONSTRAINT", "ALTER TABLE ONLY x.t\n    ADD CONSTRAINT \"K k\" UNIQUE (a);\n", "");
    assert_string_equal(key.index, "\"S \"\"x\"\"\".\"K k\"");
    KeySplit index = split("INDEX", "CREATE INDEX i ON x.t USING btree (a);\n\nALTER TABLE x.t CLUSTER ON i;\n", "");
    assert_non_null(index.index);
    assert_string_equal(strrchr(index.index, '.') + 1, "\"i\"");
}

static void test_what_follows_goes_to_the_second_step(void **state) {
    (void)state;
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (a);\n\n"
               "ALTER TABLE public.t CLUSTER ON k;\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY USING INDEX k;\n"
               "ALTER TABLE public.t CLUSTER ON k;\n");
    assert_key("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a);\n\n"
               "ALTER TABLE public.t CLUSTER ON k;\n\nALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX k;\n",
               "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a);",
               "ALTER TABLE ONLY public.t ADD CONSTRAINT k UNIQUE USING INDEX k;\n"
               "ALTER TABLE public.t CLUSTER ON k;\n\nALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX k;\n");
}

static void test_tablespace(void **state) {
    (void)state;
    const char *defn = "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (a);\n";
    KeySplit key = split("CONSTRAINT", defn, "Fast \"1\"");
    assert_string_equal(key.build, "SET LOCAL default_tablespace = \"Fast \"\"1\"\"\";"
                                   "CREATE UNIQUE INDEX k ON ONLY public.t USING btree (a);");
    assert_null(strstr(key.complete, "tablespace"));
    KeySplit index = split("INDEX", "CREATE INDEX i ON t (a);\n\nALTER TABLE t CLUSTER ON i;\n", "fast");
    assert_memory_equal(index.build, "SET LOCAL default_tablespace = ", 31);
    assert_non_null(strstr(index.build, "CREATE INDEX i ON t (a)"));
}

/* The texts of whole entries leave default_tablespace set in the lane's session: a split one must not inherit it. */
static void test_no_tablespace_is_said_too(void **state) {
    (void)state;
    KeySplit index = split("INDEX", "CREATE INDEX i ON t (a);\n\nALTER TABLE t CLUSTER ON i;\n", "");
    assert_string_equal(index.build, NO_TABLESPACE "CREATE INDEX i ON t (a);");
    assert_string_equal(index.complete, "ALTER TABLE t CLUSTER ON i;\n");
}

static void test_refused_keys(void **state) {
    static const char *const texts[] = {
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id, valid WITHOUT OVERLAPS);\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (valid without overlaps);\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k EXCLUDE USING gist (room WITH =, during WITH &&);\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k EXCLUDE USING gist (c WITH &&) WHERE ((a > 0)) DEFERRABLE;\n",
        "ALTER TABLE public.t\n    ADD CONSTRAINT k CHECK ((a > 0)) NOT VALID;\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k NOT NULL a NOT VALID;\n",
        "ALTER TABLE public.t\n    ADD CONSTRAINT k PRIMARY KEY (id);\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id) USING INDEX TABLESPACE x;\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id) FUTURE WORDS;\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id)",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY (id",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k PRIMARY KEY id;\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a) INCLUDE b;\n",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k UNIQUE (a) WITH fillfactor;\n",
        "ALTER TABLE ONLY",
        "",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        assert_whole("CONSTRAINT", texts[i]);
}

static void test_indexes(void **state) {
    (void)state;
    assert_whole("INDEX", "CREATE INDEX i ON public.t USING btree (v);\n");
    assert_whole("INDEX", "CREATE INDEX i ON public.t USING btree ((v || ';'));\n");
    assert_whole("INDEX", "");
    assert_whole("FK CONSTRAINT", "ALTER TABLE ONLY a ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES b(y);\n");
    assert_whole("INDEX ATTACH", "ALTER INDEX a ATTACH PARTITION b;\n\nSELECT 1;\n");
    KeySplit replica = split("INDEX",
                             "CREATE UNIQUE INDEX i ON public.t USING btree ((v || ';'));\n\n"
                             "ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX i;\n",
                             "");
    assert_string_equal(replica.build, NO_TABLESPACE "CREATE UNIQUE INDEX i ON public.t USING btree ((v || ';'));");
    assert_string_equal(replica.complete, "ALTER TABLE ONLY public.t REPLICA IDENTITY USING INDEX i;\n");
    KeySplit statistics = split("INDEX",
                                "CREATE INDEX i ON t USING btree ((a + b));\n"
                                "ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 500;\n",
                                "");
    assert_string_equal(statistics.complete, "ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 500;\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_primary_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unique, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_include_and_storage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deferrable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_name_to_look_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_follows_goes_to_the_second_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tablespace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_tablespace_is_said_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_indexes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
