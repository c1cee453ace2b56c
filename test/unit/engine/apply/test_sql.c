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
static const ApplyColumn dest_columns[] = {
    {.quoted = "\"id\"", .type = "bigint", .base_type = "bigint"},
    {.quoted = "\"n\"", .type = "numeric(10,2)", .base_type = "numeric"},
    {.quoted = "\"tags\"", .type = "text[]", .base_type = "text[]", .is_array = true},
    {.quoted = "\"sum\"", .type = "integer", .base_type = "integer"},
};
static uint16_t keys[] = {0};

static ApplyTable table_with(char identity) {
    return (ApplyTable){
        .batch = {.relation = 1, .identity = identity, .columns_count = 4, .columns = stream_columns},
        .quoted = "\"s\".\"t\"",
        .display = "s.t",
        .columns = dest_columns,
        .keys = keys,
        .keys_count = 1,
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
    assert_string_equal(single.sql, "UPDATE ONLY \"s\".\"t\" t SET \"id\" = $1::bigint, \"n\" = $2::numeric(10,2)"
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
                        " ROW(f.\"id\", f.\"n\", f.\"tags\", f.\"sum\") *= ROW($1::bigint, $2::numeric(10,2),"
                        " $3::text[], $4::integer) LIMIT 1)");
    change.old_kind = 0;
    assert_false(apply_single(arena, &table, &change, &single, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
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
    buf_init(&buf, 1000);
    rows_append_copy(&buf, &table, &row);
    assert_string_equal(buf.data, "1\t\\N\ta\\tb\\nc\\\\d\\re\n");
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_delete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_update, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_update_matches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_insert_leaves_generated_columns_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_by_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_single_by_image, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arrays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_line, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
