/* The SQL and the text of rows that the applier sends: pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/apply/rows.h"

#include <string.h>

static Arena *arena;

static int set_up(void **state) {
    (void)state;
    arena = arena_new();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_free(arena);
    return 0;
}

static const BatchColumn stream_columns[] = {
    {.name = "id", .is_key = true},
    {.name = "n"},
    {.name = "tags"},
    {.name = "sum", .is_generated = true},
};
static const BatchColumn always_columns[] = {
    {.name = "id", .is_key = true},
    {.name = "n", .is_always_identity = true},
    {.name = "tags"},
    {.name = "sum", .is_generated = true},
};
static const ApplyColumn dest_columns[] = {
    {.quoted = "\"id\"", .type = "bigint", .base_type = "bigint", .equals = "="},
    {.quoted = "\"n\"", .type = "numeric(10,2)", .base_type = "numeric", .equals = "="},
    {.quoted = "\"tags\"", .type = "text[]", .base_type = "text[]", .is_array = true},
    {.quoted = "\"sum\"", .type = "integer", .base_type = "integer", .equals = "="},
};
static uint16_t keys[] = {0};
static uint16_t all[] = {0, 1, 2, 3};

static ApplyTable table_with(char identity) {
    return (ApplyTable){
        .batch = {.relation = 1, .identity = identity, .columns_count = 4, .columns = stream_columns},
        .quoted = "\"s\".\"t\"",
        .display = "s.t",
        .columns = dest_columns,
        .keys = identity == 'f' ? all : keys,
        .keys_count = identity == 'f' ? 4 : 1,
        .sent_columns = 3,
    };
}

static PgoValue text(const char *value) {
    return (PgoValue){.kind = PGO_TEXT, .len = (uint32_t)strlen(value), .bytes = value};
}

static void test_delete(void **state) {
    ApplyTable table = table_with('d');

    (void)state;
    assert_string_equal(apply_delete_sql(arena, &table),
                        "DELETE FROM ONLY \"s\".\"t\" t USING (SELECT pg_catalog.unnest($1::bigint[]) AS k0) s"
                        " WHERE t.\"id\" = s.k0");
}

/* What a type takes for equal need not be the same row: the value as it is printed says which it is. The index of the
 * identity is looked into by its own equality. */
static void test_coarse_keys(void **state) {
    static const ApplyColumn columns[] = {
        {.quoted = "\"id\"",
         .type = "citext",
         .base_type = "public.citext",
         .equals = "OPERATOR(public.=)",
         .is_coarse = true,
         .index_equals = "=",
         .index_type = "text",
         .index_collation = "pg_catalog.\"C\""},
        {.quoted = "\"n\"", .type = "numeric", .base_type = "numeric", .equals = "=", .is_coarse = true},
        {.quoted = "\"tags\"", .type = "text[]", .base_type = "text[]", .is_array = true},
        {.quoted = "\"sum\"", .type = "integer", .base_type = "integer", .equals = "="},
    };
    uint16_t both[] = {0, 1};
    ApplyTable table = table_with('i');
    PgoValue values[] = {text("a"), text("1.0"), {.kind = PGO_UNCHANGED}, text("1")};
    BatchChange change = {.op = BATCH_DELETE, .old_kind = 'K', .old_tuple = {.count = 4, .values = values}};
    ApplySingle single;
    Error err = {0};

    (void)state;
    assert_null(apply_twice_sql(arena, &table));
    table.columns = columns;
    table.keys = both;
    table.keys_count = 2;
    assert_string_equal(
        apply_delete_sql(arena, &table),
        "DELETE FROM ONLY \"s\".\"t\" t USING (SELECT pg_catalog.unnest($1::public.citext[]) AS k0,"
        " pg_catalog.unnest($2::numeric[]) AS k1) s WHERE t.\"id\"::text = s.k0::text COLLATE pg_catalog.\"C\""
        " AND pg_catalog.concat(t.\"id\") COLLATE pg_catalog.\"C\" = pg_catalog.concat(s.k0) COLLATE pg_catalog.\"C\""
        " AND t.\"n\" = s.k1"
        " AND pg_catalog.concat(t.\"n\") COLLATE pg_catalog.\"C\" = pg_catalog.concat(s.k1) COLLATE pg_catalog.\"C\"");
    assert_string_equal(apply_twice_sql(arena, &table),
                        "SELECT FROM (SELECT pg_catalog.unnest($1::public.citext[]) AS k0,"
                        " pg_catalog.unnest($2::numeric[]) AS k1) s GROUP BY pg_catalog.concat(s.k0) COLLATE"
                        " pg_catalog.\"C\", pg_catalog.concat(s.k1) COLLATE pg_catalog.\"C\""
                        " HAVING pg_catalog.count(*) > 1");
    assert_true(apply_single(arena, &table, &change, &single, &err));
    assert_non_null(strstr(single.sql, "pg_catalog.concat($2::numeric) COLLATE pg_catalog.\"C\""));
    assert_true(apply_find(arena, &table, &change, &single, &err));
    assert_null(strstr(single.sql, "concat"));
}

/* Arrays travel as text: unnest would flatten them. Their cast comes after it. */
static void test_update(void **state) {
    ApplyTable table = table_with('d');
    const uint8_t uses[] = {BATCH_LEAVE, BATCH_SET, BATCH_SET, BATCH_LEAVE};

    (void)state;
    assert_string_equal(apply_update_sql(arena, &table, uses),
                        "UPDATE ONLY \"s\".\"t\" t SET \"n\" = s.c1, \"tags\" = s.c2::text[]"
                        " FROM (SELECT pg_catalog.unnest($1::bigint[]) AS k0, pg_catalog.unnest($2::numeric[]) AS c1,"
                        " pg_catalog.unnest($3::text[]) AS c2) s WHERE t.\"id\" = s.k0");
}

/* A column that may not be SET is compared instead: a wrong count then shows that it changed. */
static void test_update_matches(void **state) {
    ApplyTable table = table_with('d');
    const uint8_t uses[] = {BATCH_LEAVE, BATCH_MATCH, BATCH_SET, BATCH_LEAVE};

    (void)state;
    const char *sql = apply_update_sql(arena, &table, uses);
    assert_non_null(strstr(sql, "SET \"tags\" = s.c2::text[] FROM"));
    assert_non_null(strstr(sql, "WHERE t.\"id\" = s.k0 AND t.\"n\" = s.c1"));
}

static void test_insert_leaves_generated_columns_out(void **state) {
    ApplyTable table = table_with('d');

    (void)state;
    assert_string_equal(apply_insert_sql(arena, &table),
                        "INSERT INTO \"s\".\"t\" (\"id\", \"n\", \"tags\") OVERRIDING SYSTEM VALUE"
                        " SELECT s.c0, s.c1, s.c2::text[] FROM (SELECT pg_catalog.unnest($1::bigint[]) AS c0,"
                        " pg_catalog.unnest($2::numeric[]) AS c1, pg_catalog.unnest($3::text[]) AS c2) s");
    assert_string_equal(apply_copy_sql(arena, &table), "COPY \"s\".\"t\" (\"id\", \"n\", \"tags\") FROM STDIN");
}

static void test_single_by_key(void **state) {
    ApplyTable table = table_with('d');
    PgoValue values[] = {text("7"), {.kind = PGO_NULL}, {.kind = PGO_UNCHANGED}, text("1")};
    BatchChange change = {.op = BATCH_UPDATE, .new_tuple = {.count = 4, .values = values}};
    ApplySingle single;
    Error err = {0};

    (void)state;
    assert_true(apply_single(arena, &table, &change, &single, &err));
    assert_string_equal(single.sql, "UPDATE ONLY \"s\".\"t\" t SET \"id\" = $1::bigint, \"n\" = $2::numeric"
                                    " WHERE t.\"id\" = $3::bigint");
    assert_int_equal(single.params_count, 3);
    assert_string_equal(single.params[0], "7");
    assert_null(single.params[1]);
    assert_string_equal(single.params[2], "7");
}

/* Identity FULL: the row is known by its image, and only one of equal rows goes. */
static void test_single_by_image(void **state) {
    ApplyTable table = table_with('f');
    PgoValue values[] = {text("7"), text("-0"), {.kind = PGO_NULL}, text("1")};
    BatchChange change = {.op = BATCH_DELETE, .old_kind = 'O', .old_tuple = {.count = 4, .values = values}};
    ApplySingle single;
    Error err = {0};

    (void)state;
    assert_true(apply_single(arena, &table, &change, &single, &err));
    assert_string_equal(single.sql,
                        "DELETE FROM ONLY \"s\".\"t\" t WHERE t.ctid = (SELECT f.ctid FROM ONLY \"s\".\"t\" f WHERE"
                        " ROW(f.\"id\", f.\"n\", f.\"tags\", f.\"sum\")::pg_catalog.record *= ROW($1::bigint::bigint,"
                        " $2::numeric::numeric(10,2), $3::text[]::text[], $4::integer::integer)::pg_catalog.record"
                        " AND f.\"id\" = $1::bigint AND f.\"n\" = $2::numeric AND f.\"sum\" = $4::integer LIMIT 1)");
    change.old_kind = 0;
    assert_false(apply_single(arena, &table, &change, &single, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
}

/* A column that cannot be SET is compared; when it has changed the row is made anew, with what is unchanged. */
static void test_single_with_an_always_column(void **state) {
    ApplyTable table = table_with('d');
    PgoValue values[] = {text("7"), text("8"), {.kind = PGO_UNCHANGED}, text("1")};
    BatchChange change = {.op = BATCH_UPDATE, .new_tuple = {.count = 4, .values = values}};
    ApplySingle single;
    Error err = {0};

    (void)state;
    table.batch.columns = always_columns;
    assert_true(apply_single(arena, &table, &change, &single, &err));
    assert_string_equal(single.sql, "UPDATE ONLY \"s\".\"t\" t SET \"id\" = $1::bigint WHERE t.\"id\" = $2::bigint"
                                    " AND t.\"n\" = $3::numeric");
    assert_true(apply_replace(arena, &table, &change, &single, &err));
    assert_string_equal(single.sql, "WITH d AS (DELETE FROM ONLY \"s\".\"t\" t WHERE t.\"id\" = $1::bigint RETURNING *)"
                                    " INSERT INTO \"s\".\"t\" (\"id\", \"n\", \"tags\") OVERRIDING SYSTEM VALUE"
                                    " SELECT $2::bigint, $3::numeric, d.\"tags\" FROM d");
    assert_int_equal(single.params_count, 3);
}

static void test_rows_without_columns(void **state) {
    ApplyTable table = {.quoted = "\"t\"", .batch = {.identity = 'd'}};
    BatchChange change = {.op = BATCH_INSERT};
    ApplySingle single;
    Error err = {0};

    (void)state;
    assert_string_equal(apply_insert_sql(arena, &table),
                        "INSERT INTO \"t\" SELECT FROM pg_catalog.generate_series(1, $1::bigint)");
    assert_true(apply_single(arena, &table, &change, &single, &err));
    assert_string_equal(single.sql, "INSERT INTO \"t\" DEFAULT VALUES");
}

/* Only columns that may be compared narrow the search; without any the rows' text does. */
static void test_full(void **state) {
    ApplyTable table = table_with('f');
    const bool some[] = {true, false, true, false}, none[] = {false, false, true, false};
    const uint8_t uses[] = {BATCH_SET, BATCH_LEAVE, BATCH_SET, BATCH_LEAVE};

    (void)state;
    const char *sql = apply_full_sql(arena, &table, NULL, some);
    assert_non_null(strstr(sql, "pg_catalog.unnest($5::integer[]) AS image, pg_catalog.unnest($6::integer[]) AS nth)"));
    assert_non_null(strstr(sql, " t WHERE t.\"id\" = d.k0 AND ROW(t.\"id\", "));
    assert_non_null(
        strstr(sql, "d.k2::text[], d.k3::integer)::pg_catalog.record) DELETE FROM ONLY \"s\".\"t\" t USING s, f"));
    sql = apply_full_sql(arena, &table, uses, none);
    assert_non_null(strstr(
        sql,
        " t WHERE ROW(t.\"id\", t.\"n\", t.\"tags\", t.\"sum\")::pg_catalog.record::pg_catalog.text = ROW(d.k0::"));
    assert_non_null(strstr(sql, "pg_catalog.unnest($8::text[]) AS c2)"));
    assert_non_null(strstr(sql, "SET \"id\" = s.c0, \"tags\" = s.c2::text[] FROM s, f WHERE"));
}

static void test_images(void **state) {
    PgoValue a[] = {text("a")}, b[] = {text("")}, null[] = {{.kind = PGO_NULL}};
    BatchRow rows[] = {{.key = null}, {.key = b}, {.key = b}, {.key = a}, {.key = a}, {.key = a}};
    BatchGroup group = {.op = BATCH_DELETE, .rows = rows, .rows_count = COUNT_OF(rows)};
    Buf images, nths;

    (void)state;
    buf_init(&images, 1000);
    buf_init(&nths, 1000);
    rows_append_images(&images, &nths, &group, 1);
    assert_string_equal(images.data, "{1,2,2,3,3,3}");
    assert_string_equal(nths.data, "{1,1,2,1,2,3}");
    buf_fini(&images);
    buf_fini(&nths);
}

static void test_arrays(void **state) {
    PgoValue first[] = {text("a\"b\\c")};
    PgoValue second[] = {{.kind = PGO_NULL}};
    PgoValue third[] = {text("")};
    BatchRow rows[] = {
        {.key = first, .values = first}, {.key = second, .values = second}, {.key = third, .values = third}};
    BatchGroup group = {.op = BATCH_UPDATE, .rows = rows, .rows_count = 3};
    Buf buf;

    (void)state;
    buf_init(&buf, 1000);
    rows_append_key_array(&buf, &group, 0);
    assert_string_equal(buf.data, "{\"a\\\"b\\\\c\",NULL,\"\"}");
    buf_clear(&buf);
    rows_append_column_array(&buf, &group, 0);
    assert_string_equal(buf.data, "{\"a\\\"b\\\\c\",NULL,\"\"}");
    buf_fini(&buf);
}

static void test_copy_line(void **state) {
    ApplyTable table = table_with('d');
    PgoValue values[] = {text("1"), {.kind = PGO_NULL}, text("a\tb\nc\\d\re"), text("not sent")};
    BatchRow row = {.values = values};
    Buf buf;

    (void)state;
    /* In one, and in pieces of any size: the same line. */
    for (size_t most = 1; most <= 20; most++) {
        RowCursor cursor = {0};
        int calls = 1;

        buf_init(&buf, 1000);
        while (!rows_append_copy(&buf, &table, &row, &cursor, most))
            calls++;
        assert_string_equal(buf.data, "1\t\\N\ta\\tb\\nc\\\\d\\re\n");
        assert_true(most < 9 ? calls > 1 : calls == 1);
        buf_fini(&buf);
    }
}

/* Long ones are looked through in another way. */
static void test_copy_of_long_values(void **state) {
    static const char special[] = "\\\n\r\t";
    static const char *const escaped[] = {"\\\\", "\\n", "\\r", "\\t"};
    ApplyTable table = table_with('d');
    char bytes[600];
    Buf buf;

    (void)state;
    for (size_t i = 0; i <= strlen(special); i++) {
        memset(bytes, 'x', sizeof(bytes));
        bytes[sizeof(bytes) - 1] = '\0';
        if (i < strlen(special))
            bytes[577] = special[i];
        PgoValue values[] = {text("1"), text(""), text(bytes), text("not sent")};
        BatchRow row = {.values = values};
        RowCursor cursor = {0};
        buf_init(&buf, 1000);
        assert_true(rows_append_copy(&buf, &table, &row, &cursor, 1000));
        assert_int_equal(buf.len, 3 + 599 + 1 + (i < strlen(special)));
        assert_memory_equal(buf.data, "1\t\tx", 4);
        if (i < strlen(special))
            assert_memory_equal(buf.data + 3 + 577, escaped[i], 2);
        buf_fini(&buf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_delete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_coarse_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_update, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_update_matches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_insert_leaves_generated_columns_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_by_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_by_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_with_an_always_column, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_without_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_images, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arrays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_of_long_values, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
