/* Which statement of a query string it was, how it is run here, and what is not repeated. */
#include "engine/ddl/replay_internal.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void tags_of_statements(void **state) {
    (void)state;
    static const struct {
        const char *sql, *tag;
        bool has;
    } cases[] = {
        {"create table a ()", "CREATE TABLE", true},
        {"CREATE /* x */ UNLOGGED TABLE a ()", "CREATE TABLE", true},
        {"CREATE LOCAL TEMPORARY TABLE a ()", "CREATE TABLE", true},
        {"CREATE TABLE a AS SELECT 1", "CREATE TABLE", false},
        {"CREATE TABLE a AS SELECT 1", "CREATE TABLE AS", true},
        {"CREATE TABLE a (b int GENERATED ALWAYS AS (1) STORED)", "CREATE TABLE", true},
        {"SELECT 1 INTO a", "SELECT INTO", true},
        {"WITH x AS (SELECT 1) SELECT * INTO a FROM x", "SELECT INTO", true},
        {"SELECT 1", "SELECT INTO", false},
        {"CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE VIEW", true},
        {"CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE VIEW", false},
        {"CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW", true},
        {"CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX", true},
        {"CREATE CONSTRAINT TRIGGER t AFTER INSERT ON x", "CREATE TRIGGER", true},
        {"CREATE OPERATOR CLASS o FOR TYPE int", "CREATE OPERATOR", false},
        {"CREATE OPERATOR CLASS o FOR TYPE int", "CREATE OPERATOR CLASS", true},
        {"CREATE OPERATOR === (LEFTARG = int)", "CREATE OPERATOR", true},
        {"ALTER TABLE a ADD b int", "ALTER TABLE", true},
        {"ALTER INDEX a RENAME TO b", "ALTER TABLE", false},
        {"GRANT SELECT ON a TO b", "GRANT", true},
        {"GRANT a TO b", "GRANT", false},
        {"REVOKE a FROM b", "REVOKE", false},
        {"\"CREATE\" TABLE a ()", "CREATE TABLE", false},
        {"CREATE", "CREATE TABLE", false},
        {"", "CREATE TABLE", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        if (ddl_statement_has_tag(cases[i].sql, cases[i].tag) != cases[i].has)
            fail_msg("%s: %s", cases[i].tag, cases[i].sql);
}

static const char *find(Arena *arena, const char *query, const char *tag, int ordinal, const char *identity) {
    DdlMessage message = {.query = query, .tag = tag, .ordinal = ordinal};
    const char *reason = NULL;

    if (identity != NULL) {
        DdlObject object = {.identity = identity};
        vec_push(arena, &message.objects, object);
    }
    const char *found = ddl_find_statement(arena, &message, &reason);
    assert_true((found == NULL) == (reason != NULL));
    return found;
}

static void statements_are_counted(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *three = "CREATE TABLE a (); DROP TABLE x; -- CREATE TABLE b ()\nCREATE TABLE \"c;\" ();";

    assert_string_equal(find(arena, three, "CREATE TABLE", 1, NULL), "CREATE TABLE a ()");
    assert_string_equal(find(arena, three, "CREATE TABLE", 2, NULL), "CREATE TABLE \"c;\" ()");
    assert_string_equal(find(arena, three, "DROP TABLE", 1, NULL), "DROP TABLE x");
    assert_null(find(arena, three, "CREATE TABLE", 3, NULL));
    assert_null(find(arena, three, "CREATE TABLE", 0, NULL));
    assert_null(find(arena, "SELECT make('CREATE TABLE a ()')", "CREATE TABLE", 1, NULL));
}

static void names_decide_where_transactions_end(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *query =
        "BEGIN; CREATE TABLE a (); ROLLBACK; CREATE TABLE \"B c\" (); CREATE TABLE d (); CREATE TABLE d ()";

    assert_string_equal(find(arena, query, "CREATE TABLE", 1, "public.a"), "CREATE TABLE a ()");
    assert_string_equal(find(arena, query, "CREATE TABLE", 1, "public.\"B c\""), "CREATE TABLE \"B c\" ()");
    assert_null(find(arena, query, "CREATE TABLE", 1, "public.d"));
    assert_null(find(arena, query, "CREATE TABLE", 1, "public.e"));
    assert_null(find(arena, query, "CREATE TABLE", 1, NULL));
    assert_string_equal(find(arena, "BEGIN; CREATE TABLE a (); COMMIT", "CREATE TABLE", 1, NULL), "CREATE TABLE a ()");
}

static void bare_names(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char *const cases[][2] = {
        {"public.a", "a"}, {"a", "a"}, {"s.\"A \"\"b\"\".c\"", "A \"b\".c"}, {"s.f(integer,s.t)", "f"}, {"", ""}};

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(ddl_bare_name(arena, &(DdlObject){.identity = cases[i][0]}), cases[i][1]);
}

static void statements_are_adapted(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char *const cases[][3] = {
        {"CREATE INDEX", "CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX  i ON t (a)"},
        {"CREATE INDEX", "CREATE INDEX \"CONCURRENTLY\" ON t (a)", "CREATE INDEX \"CONCURRENTLY\" ON t (a)"},
        {"ALTER TABLE", "ALTER TABLE p DETACH PARTITION c CONCURRENTLY", "ALTER TABLE p DETACH PARTITION c "},
        {"CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW v AS SELECT 1",
         "CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA"},
        {"CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW v AS SELECT 1 WITH DATA",
         "CREATE MATERIALIZED VIEW v AS SELECT 1  WITH NO DATA"},
        {"CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA",
         "CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA"},
        {"CREATE TABLE", "CREATE TABLE t ()", "CREATE TABLE t ()"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(ddl_adapt(arena, cases[i][1], cases[i][0]), cases[i][2]);
}

/* Of the destination; a column that is called so stays. */
static void tablespaces(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char *const cases[][2] = {
        {"CREATE TABLE t (a int) TABLESPACE fast", "CREATE TABLE t (a int) TABLESPACE \"ssd\""},
        {"CREATE TABLE t (a int) TABLESPACE FAST;", "CREATE TABLE t (a int) TABLESPACE \"ssd\";"},
        {"CREATE INDEX ON t (a) TABLESPACE \"a \"\"b\"", "CREATE INDEX ON t (a) TABLESPACE \"std\""},
        {"ALTER TABLE t ADD PRIMARY KEY (a) USING INDEX TABLESPACE fast, SET TABLESPACE slow",
         "ALTER TABLE t ADD PRIMARY KEY (a) USING INDEX TABLESPACE \"ssd\", SET TABLESPACE \"rest\""},
        {"CREATE TABLE t (tablespace text, b text)", "CREATE TABLE t (tablespace text, b text)"},
        {"CREATE TABLE t (b text, tablespace fast)", "CREATE TABLE t (b text, tablespace fast)"},
        {"ALTER TABLE t ADD tablespace fast", "ALTER TABLE t ADD tablespace fast"},
        {"CREATE VIEW v AS SELECT 'TABLESPACE fast' -- TABLESPACE fast",
         "CREATE VIEW v AS SELECT 'TABLESPACE fast' -- TABLESPACE fast"},
        {"CREATE MATERIALIZED VIEW m TABLESPACE fast AS SELECT 1",
         "CREATE MATERIALIZED VIEW m TABLESPACE \"ssd\" AS SELECT 1"},
        {"CREATE TABLE t () TABLESPACE pg_default", "CREATE TABLE t () TABLESPACE pg_default"},
    };
    TablespaceMap map;
    Error err;

    assert_true(tablespace_map_parse(arena, "fast=ssd,\"a \"\"b\"=,*=rest", &map, &err));
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(ddl_place(arena, cases[i][0], &map, "std"), cases[i][1]);
}

static void values_that_may_differ(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const struct {
        const char *sql, *kind;
        uint32_t before, after; /* types; 0 = not there */
        bool generated, differ;
    } cases[] = {
        {"ALTER TABLE t ADD c int DEFAULT 5", "sure", 0, 23, false, false},
        {"ALTER TABLE t ADD c int DEFAULT f()", "unsure", 0, 23, false, true},
        {"ALTER TABLE t ADD c float DEFAULT random(), ALTER c SET DEFAULT 5", "sure", 0, 701, false, true},
        {"ALTER TABLE t ADD c int GENERATED ALWAYS AS (f(a)) STORED", "unsure", 0, 23, true, false},
        {"ALTER TABLE t ADD IF NOT EXISTS c int DEFAULT 5", "sure", 23, 23, false, true},
        {"ALTER TABLE t ALTER c SET DEFAULT now()", "unsure", 1184, 1184, false, false},
        {"ALTER TABLE t ADD c int", "sure", 23, 0, false, true},
        {"ALTER TABLE t ALTER c TYPE bigint", "unsure", 23, 20, false, false},
        {"ALTER TABLE t ALTER c TYPE text", "sure", 1043, 25, false, false},
        {"ALTER TABLE t ALTER c TYPE text", "sure", 17, 25, false, true},
        {"ALTER TABLE t ALTER c TYPE text", "sure", 701, 25, false, true},
        {"ALTER TABLE t ALTER c TYPE oid", "sure", 2205, 26, false, true},
        {"ALTER TABLE t ALTER c TYPE int USING c + 1", "sure", 23, 23, false, true},
        {"ALTER TABLE t ALTER c TYPE bigint, ADD EXCLUDE USING gist (c WITH &&)", "sure", 23, 20, false, false},
        {"ALTER TABLE t ALTER c TYPE bigint, ADD UNIQUE USING INDEX x", "sure", 23, 20, false, false},
        {"ALTER TABLE t ALTER another TYPE bigint", "sure", 16400, 16400, false, false},
        {"ALTER TABLE t ALTER another TYPE bigint USING 7", "sure", 16400, 16400, false, true},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        DdlMessage message = {.tag = "ALTER TABLE"};
        DdlObject column = {.schema = "s", .name = "t", .identity = "c", .kind = cases[i].kind};
        DdlColumn found = {.schema = "s", .table = "t", .name = "c", .number = 1, .generated = cases[i].generated};
        DdlColumnVec before = {0}, after = {0};

        vec_push(arena, &message.columns, column);
        found.type = cases[i].before;
        if (found.type != 0)
            vec_push(arena, &before, found);
        found.type = cases[i].after;
        if (found.type != 0)
            vec_push(arena, &after, found);
        if ((ddl_why_values_differ(&message, cases[i].sql, &before, &after) != NULL) != cases[i].differ)
            fail_msg("%s", cases[i].sql);
    }
    DdlColumnVec none = {0};
    DdlMessage message = {.tag = "ALTER TABLE"};
    assert_null(ddl_why_values_differ(&message, "ALTER TABLE t SET LOGGED", &none, &none));
    message.rewrite = REWRITE_DEFAULT;
    assert_non_null(ddl_why_values_differ(&message, "ALTER TABLE t", &none, &none));
}

static void only_what_was_dropped_is_dropped(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DdlMessage message = {.tag = "DROP TABLE"};
    DdlObject one = {.identity = "s.\"A\""}, two = {.identity = "s.b"};

    assert_null(ddl_drop_sql(arena, &message, "DROP TABLE x, y"));
    vec_push(arena, &message.objects, one);
    assert_null(ddl_drop_sql(arena, &message, "DROP TABLE \"A\""));
    assert_string_equal(ddl_drop_sql(arena, &message, "DROP TABLE x, \"A\""), "DROP TABLE IF EXISTS s.\"A\"");
    vec_push(arena, &message.objects, two);
    assert_string_equal(ddl_drop_sql(arena, &message, "DROP TABLE x, \"A\", b CASCADE"),
                        "DROP TABLE IF EXISTS s.\"A\", s.b CASCADE");
    message.tag = "DROP FUNCTION";
    assert_null(ddl_drop_sql(arena, &message, "DROP FUNCTION f(int, int)"));
    message.tag = "DROP OWNED";
    assert_null(ddl_drop_sql(arena, &message, "DROP OWNED BY a, b"));
}

static void what_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *tag, *sql;
        int version;
        bool refused;
    } cases[] = {
        {"CREATE TABLE", "CREATE TABLE t ()", 150000, false},
        {"CREATE TABLE AS", "CREATE TABLE t AS SELECT 1", 150000, true},
        {"ALTER TYPE", "ALTER TYPE t ADD VALUE 'x'", 110000, true},
        {"ALTER TYPE", "ALTER TYPE t ADD VALUE 'x'", 120000, false},
        {"ALTER TABLE", "ALTER TABLE t ENABLE ALWAYS TRIGGER x", 150000, false},
        {"CREATE TRIGGER", "CREATE TRIGGER x BEFORE INSERT ON t", 150000, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const DdlMessage message = {.tag = cases[i].tag, .query = cases[i].sql};
        const char *why = ddl_why_not(&message, cases[i].sql, cases[i].version);
        if ((why != NULL) != cases[i].refused)
            fail_msg("%s", cases[i].sql);
    }
}

/* What the promote makes anew need not succeed while the source is followed. */
static void what_waits_for_the_promote(void **state) {
    (void)state;
    static const struct {
        const char *tag, *sql;
        bool with, without; /* the replica role */
    } cases[] = {
        {"CREATE POLICY", "CREATE POLICY p ON t", true, true},
        {"ALTER POLICY", "", true, true},
        {"DROP TRIGGER", "", true, true},
        {"CREATE RULE", "", true, true},
        {"CREATE TABLE", "CREATE TABLE t ()", false, false},
        {"ALTER EVENT TRIGGER", "", false, false},
        {"ALTER TABLE", "", false, false},
        {"ALTER TABLE", "ALTER TABLE ONLY \"a b\".t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", true, true},
        {"ALTER TABLE", "ALTER TABLE IF EXISTS t * DISABLE TRIGGER ALL, enable always rule r", true, true},
        {"ALTER TABLE", "ALTER TABLE t ENABLE TRIGGER x, ADD c numeric(3, 2)", false, false},
        {"ALTER TABLE", "ALTER TABLE t ADD c numeric(3, 2), ENABLE TRIGGER x", false, false},
        {"ALTER TABLE", "ALTER TABLE t VALIDATE CONSTRAINT c", false, true},
        {"ALTER TABLE", "ALTER TABLE t ADD FOREIGN KEY (a, b) REFERENCES u, DROP CONSTRAINT c", false, true},
        {"ALTER TABLE", "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a, b) REFERENCES u", false, true},
        {"ALTER TABLE", "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", false, false},
        {"COMMENT", "COMMENT ON TRIGGER x ON t IS 'y'", true, true},
        {"COMMENT", "COMMENT ON CONSTRAINT x ON t IS 'y'", false, true},
        {"COMMENT", "COMMENT ON TABLE t IS 'TRIGGER'", false, false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const DdlMessage message = {.tag = cases[i].tag};
        if (ddl_waits_for_open(&message, cases[i].sql, true) != cases[i].with ||
            ddl_waits_for_open(&message, cases[i].sql, false) != cases[i].without)
            fail_msg("%s: %s", cases[i].tag, cases[i].sql);
    }
}

static void messages_are_read(void **state) {
    (void)state;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *json = NULL;
    const char *text = "{\"v\":3,\"tag\":\"DROP TABLE\",\"query\":null,\"ordinal\":2,\"nested\":true,\"rewrite\":4,"
                       "\"role\":\"app\",\"settings\":{\"search_path\":\"a\"},\"objects\":[{\"identity\":\"s.t\","
                       "\"oid\":4000000000,\"schema\":null}],\"tables\":null}";
    DdlMessage message = {0};
    Error err = {0};

    assert_true(ddl_message_parse(arena, text, strlen(text), &json, &message, &err));
    assert_false(message.trusted);
    assert_string_equal(message.tag, "DROP TABLE");
    assert_null(message.query);
    assert_true(message.nested && message.ordinal == 2 && message.rewrite == REWRITE_TYPE);
    assert_int_equal(message.objects.len, 1);
    assert_int_equal(message.objects.items[0].oid, 4000000000U);
    assert_null(message.objects.items[0].schema);
    assert_int_equal(message.tables.len, 0);
    assert_string_equal(json_get_string(message.settings, "search_path", ""), "a");

    json_t *untouched = NULL;
    assert_false(ddl_message_parse(arena, "{\"v\":1}", 7, &untouched, &message, &err));
    assert_false(ddl_message_parse(arena, "{\"v\":", 5, &untouched, &message, &err));
    assert_null(untouched);
}

static void only_who_knows_the_secret_is_heard(void **state) {
    (void)state;
    static const struct {
        const char *content, *secret;
        DdlSender sender;
    } cases[] = {
        {"ours 0123 {}", "0123", DDL_SENDER_OURS},
        {"ours 0124 {}", "0123", DDL_SENDER_FORGED},
        {"ours  {}", "0123", DDL_SENDER_FORGED},
        {"ours  {}", "", DDL_SENDER_FORGED},
        {"ours  {}", NULL, DDL_SENDER_FORGED},
        {"ours 0123", "0123", DDL_SENDER_FORGED},
        {"ours 01234{}", "0123", DDL_SENDER_FORGED},
        {"ours", "0123", DDL_SENDER_OTHER},
        {"theirs 0123 {}", "0123", DDL_SENDER_OTHER},
        {"oursToo 0123 {}", "0123", DDL_SENDER_OTHER},
        {"", "0123", DDL_SENDER_OTHER},
        {"{\"slot\":\"ours\"}", "0123", DDL_SENDER_FORGED},
        {"{\"slot\":\"theirs\"}", "0123", DDL_SENDER_OTHER},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const DdlStream stream = {.slot = "ours", .secret = cases[i].secret};
        const char *found = NULL;
        size_t len = 0;

        if (ddl_message_sender(&stream, cases[i].content, strlen(cases[i].content), &found, &len) != cases[i].sender)
            fail_msg("%s", cases[i].content);
        if (cases[i].sender == DDL_SENDER_OURS)
            assert_true(len == 2 && strncmp(found, "{}", len) == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_of_statements),
        cmocka_unit_test(statements_are_counted),
        cmocka_unit_test(bare_names),
        cmocka_unit_test(names_decide_where_transactions_end),
        cmocka_unit_test(statements_are_adapted),
        cmocka_unit_test(tablespaces),
        cmocka_unit_test(values_that_may_differ),
        cmocka_unit_test(only_what_was_dropped_is_dropped),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_waits_for_the_promote),
        cmocka_unit_test(messages_are_read),
        cmocka_unit_test(only_who_knows_the_secret_is_heard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
