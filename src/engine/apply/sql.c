/* The statements that change a table of the destination (table.h). Pure. */
#include "engine/apply/table.h"

#include <string.h>

/* ---- Statements for many rows ---- */

/* "unnest($3::integer[]) AS c7": the array's elements are of the base type, or text for arrays. */
static void append_unnest(Buf *sql, const ApplyTable *table, uint16_t column, int param, char prefix) {
    const ApplyColumn *c = &table->columns[column];

    buf_printf(sql, "%spg_catalog.unnest($%d::%s[]) AS %c%u", param == 1 ? "" : ", ", param,
               c->is_array ? "text" : c->base_type, prefix, column);
}

/* The value in the statement: arrays were text until here. */
static void append_value(Buf *sql, const ApplyTable *table, uint16_t column, char prefix) {
    const ApplyColumn *c = &table->columns[column];

    if (c->is_array)
        buf_printf(sql, "s.%c%u::%s", prefix, column, c->base_type);
    else
        buf_printf(sql, "s.%c%u", prefix, column);
}

/* By the type's output function, whatever casts there are (that of char(n) to text cuts spaces off). */
#define AS_PRINTED(value) "pg_catalog.concat(" value ") COLLATE pg_catalog.\"C\""

static const char *equals_of(const ApplyColumn *column) {
    return column->equals == NULL ? "=" : column->equals;
}

/* One key column, whose value `value` is. The index's own equality is what it can help with; the type's is what the
 * default one can. What is coarse is compared as it is printed besides, which only the same value is alike in. */
static void append_key_equals(Buf *sql, const ApplyColumn *column, const char *value, bool exact) {
    if (column->index_equals == NULL) {
        buf_printf(sql, "t.%s %s %s", column->quoted, equals_of(column), value);
    } else {
        const char *cast = *column->index_type == '\0' ? "" : "::";

        buf_printf(sql, "t.%s%s%s %s %s%s%s", column->quoted, cast, column->index_type, column->index_equals, value,
                   cast, column->index_type);
        if (*column->index_collation != '\0')
            buf_printf(sql, " COLLATE %s", column->index_collation);
    }
    if (exact && column->is_coarse)
        buf_printf(sql, " AND " AS_PRINTED("t.%s") " = " AS_PRINTED("%s"), column->quoted, value);
}

static const char *key_value(Arena *arena, const ApplyTable *table, uint16_t column) {
    const ApplyColumn *c = &table->columns[column];

    return c->is_array ? arena_printf(arena, "s.k%u::%s", column, c->base_type) : arena_printf(arena, "s.k%u", column);
}

static void append_key_match(Buf *sql, Arena *arena, const ApplyTable *table) {
    for (uint16_t k = 0; k < table->keys_count; k++) {
        buf_append_str(sql, k == 0 ? " WHERE " : " AND ");
        append_key_equals(sql, &table->columns[table->keys[k]], key_value(arena, table, table->keys[k]), true);
    }
}

enum { SQL_MAX = 4 << 20 };

static char *take(Arena *arena, Buf *sql) {
    char *text = arena_strndup(arena, sql->data, sql->len);

    buf_fini(sql);
    return text;
}

char *apply_delete_sql(Arena *arena, const ApplyTable *table) {
    Buf sql;

    buf_init(&sql, SQL_MAX);
    buf_printf(&sql, "DELETE FROM ONLY %s t USING (SELECT ", table->quoted);
    for (uint16_t k = 0; k < table->keys_count; k++)
        append_unnest(&sql, table, table->keys[k], k + 1, 'k');
    buf_append_str(&sql, ") s");
    append_key_match(&sql, arena, table);
    return take(arena, &sql);
}

char *apply_twice_sql(Arena *arena, const ApplyTable *table) {
    bool coarse = false;
    Buf sql;

    for (uint16_t k = 0; k < table->keys_count; k++)
        coarse |= table->columns[table->keys[k]].is_coarse;
    if (!coarse || table->batch.identity == 'f')
        return NULL;
    buf_init(&sql, SQL_MAX);
    buf_append_str(&sql, "SELECT FROM (SELECT ");
    for (uint16_t k = 0; k < table->keys_count; k++)
        append_unnest(&sql, table, table->keys[k], k + 1, 'k');
    buf_append_str(&sql, ") s GROUP BY ");
    for (uint16_t k = 0; k < table->keys_count; k++)
        buf_printf(&sql, "%s" AS_PRINTED("%s"), k == 0 ? "" : ", ", key_value(arena, table, table->keys[k]));
    buf_append_str(&sql, " HAVING pg_catalog.count(*) > 1");
    return take(arena, &sql);
}

static void append_set(Buf *sql, const ApplyTable *table, const uint8_t *uses) {
    const char *comma = "";

    buf_printf(sql, "UPDATE ONLY %s t SET ", table->quoted);
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (uses[c] != BATCH_SET)
            continue;
        buf_printf(sql, "%s%s = ", comma, table->columns[c].quoted);
        append_value(sql, table, c, 'c');
        comma = ", ";
    }
}

char *apply_update_sql(Arena *arena, const ApplyTable *table, const uint8_t *uses) {
    int param = 0;
    Buf sql;

    buf_init(&sql, SQL_MAX);
    append_set(&sql, table, uses);
    buf_append_str(&sql, " FROM (SELECT ");
    for (uint16_t k = 0; k < table->keys_count; k++)
        append_unnest(&sql, table, table->keys[k], ++param, 'k');
    for (uint16_t c = 0; c < table->batch.columns_count; c++)
        if (uses[c] != BATCH_LEAVE)
            append_unnest(&sql, table, c, ++param, 'c');
    buf_append_str(&sql, ") s");
    append_key_match(&sql, arena, table);
    for (uint16_t c = 0; c < table->batch.columns_count; c++)
        if (uses[c] == BATCH_MATCH) {
            buf_printf(&sql, " AND t.%s = ", table->columns[c].quoted);
            append_value(&sql, table, c, 'c');
        }
    return take(arena, &sql);
}

static void append_column_list(Buf *sql, const ApplyTable *table) {
    bool first = true;

    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (table->batch.columns[c].is_generated)
            continue;
        buf_printf(sql, "%s%s", first ? " (" : ", ", table->columns[c].quoted);
        first = false;
    }
    if (!first)
        buf_append_char(sql, ')');
}

char *apply_insert_sql(Arena *arena, const ApplyTable *table) {
    int param = 0;
    bool first = true;
    Buf sql;

    buf_init(&sql, SQL_MAX);
    buf_printf(&sql, "INSERT INTO %s", table->quoted);
    if (table->sent_columns == 0) {
        buf_append_str(&sql, " SELECT FROM pg_catalog.generate_series(1, $1::bigint)");
        return take(arena, &sql);
    }
    append_column_list(&sql, table);
    buf_append_str(&sql, " OVERRIDING SYSTEM VALUE SELECT ");
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (table->batch.columns[c].is_generated)
            continue;
        buf_append_str(&sql, first ? "" : ", ");
        append_value(&sql, table, c, 'c');
        first = false;
    }
    buf_append_str(&sql, " FROM (SELECT ");
    for (uint16_t c = 0; c < table->batch.columns_count; c++)
        if (!table->batch.columns[c].is_generated)
            append_unnest(&sql, table, c, ++param, 'c');
    buf_append_str(&sql, ") s");
    return take(arena, &sql);
}

char *apply_copy_sql(Arena *arena, const ApplyTable *table) {
    Buf sql;

    buf_init(&sql, SQL_MAX);
    buf_printf(&sql, "COPY %s", table->quoted);
    append_column_list(&sql, table);
    buf_append_str(&sql, " FROM STDIN");
    return take(arena, &sql);
}

/* ---- Identity FULL ---- */

enum { PRESELECT_MAX = 4 }; /* columns without an index that narrow the search: a few say nearly all */

static bool is_float(const ApplyColumn *column) {
    return !column->is_array &&
           (strcmp(column->base_type, "double precision") == 0 || strcmp(column->base_type, "real") == 0);
}

/* There are many NaN (-'NaN' is another one), each of which is written as NaN and read as the same one. A binary copy
 * brings them as they are. */
static void append_as_read(Buf *sql, const ApplyColumn *column, const char *alias) {
    if (is_float(column))
        buf_printf(sql, "(CASE WHEN %s.%s = 'NaN' THEN 'NaN'::%s ELSE %s.%s END)::%s", alias, column->quoted,
                   column->base_type, alias, column->quoted, column->type);
    else
        buf_printf(sql, "%s.%s", alias, column->quoted);
}

/* All columns of one side as a record of the table's own types, which *= insists on. Two row constructors without that
 * cast would be compared column by column. */
static void append_image(Buf *sql, const ApplyTable *table, const char *alias) {
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        buf_append_str(sql, c == 0 ? "ROW(" : ", ");
        append_as_read(sql, &table->columns[c], alias);
    }
    buf_append_str(sql, ")::pg_catalog.record");
}

/* first_param 0: of the statement's own rows, else of parameters. */
static void append_given_image(Buf *sql, const ApplyTable *table, size_t first_param) {
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        buf_append_str(sql, c == 0 ? "ROW(" : ", ");
        if (first_param > 0)
            buf_printf(sql, "$%zu::%s::%s", first_param + c, table->columns[c].base_type, table->columns[c].type);
        else
            buf_printf(sql, "d.k%u::%s", c, table->columns[c].type);
    }
    buf_append_str(sql, ")::pg_catalog.record");
}

static bool narrows(const ApplyColumn *column, int *others) {
    if (column->is_array || column->equals == NULL)
        return false;
    return column->is_indexed || ++*others <= PRESELECT_MAX;
}

/* Equality by a column's own operator is what indexes and hash joins understand; equal images are equal by it too. A
 * table that has no such column is compared by its rows' text first. */
static void append_image_match(Buf *sql, const ApplyTable *table, const bool *preselect) {
    int others = 0, used = 0;

    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (!preselect[c] || !narrows(&table->columns[c], &others))
            continue;
        buf_printf(sql, "t.%s %s d.k%u AND ", table->columns[c].quoted, table->columns[c].equals, c);
        used++;
    }
    if (used == 0) {
        append_image(sql, table, "t");
        buf_append_str(sql, "::pg_catalog.text = ");
        append_given_image(sql, table, 0);
        buf_append_str(sql, "::pg_catalog.text AND ");
    }
    append_image(sql, table, "t");
    buf_append_str(sql, " *= ");
    append_given_image(sql, table, 0);
}

char *apply_full_sql(Arena *arena, const ApplyTable *table, const uint8_t *uses, const bool *preselect) {
    int param = table->keys_count;
    Buf sql;

    buf_init(&sql, SQL_MAX);
    buf_append_str(&sql, "WITH s AS MATERIALIZED (SELECT ");
    for (uint16_t k = 0; k < table->keys_count; k++)
        append_unnest(&sql, table, k, k + 1, 'k');
    buf_printf(&sql, ", pg_catalog.unnest($%d::integer[]) AS image, pg_catalog.unnest($%d::integer[]) AS nth",
               param + 1, param + 2);
    param += 2;
    for (uint16_t c = 0; uses != NULL && c < table->batch.columns_count; c++)
        if (uses[c] != BATCH_LEAVE)
            append_unnest(&sql, table, c, ++param, 'c');
    buf_append_str(&sql, "), f AS MATERIALIZED (SELECT t.ctid AS place, d.image, pg_catalog.row_number() OVER"
                         " (PARTITION BY d.image) AS nth FROM (SELECT * FROM s WHERE nth = 1) d, ONLY ");
    buf_printf(&sql, "%s t WHERE ", table->quoted);
    append_image_match(&sql, table, preselect);
    buf_append_str(&sql, ") ");
    if (uses == NULL)
        buf_printf(&sql, "DELETE FROM ONLY %s t USING", table->quoted);
    else
        append_set(&sql, table, uses);
    buf_printf(&sql, "%s s, f WHERE f.image = s.image AND f.nth = s.nth AND t.ctid = f.place",
               uses == NULL ? "" : " FROM");
    return take(arena, &sql);
}

/* ---- One change ---- */

typedef struct SingleBuilder {
    Arena *arena;
    const ApplyTable *table;
    Buf sql;
    StringVec params;
} SingleBuilder;

/* The batch has a NUL behind each value. */
static const char *value_text(const PgoValue *value) {
    return value->kind == PGO_NULL ? NULL : value->bytes;
}

/* A parameter with its type. Without modifier, which a cast would obey silently: varchar(3) cuts where the assignment
 * to a column refuses. */
static void append_param(SingleBuilder *single, uint16_t column, const PgoValue *value) {
    vec_push(single->arena, &single->params, value_text(value));
    buf_printf(&single->sql, "$%zu::%s", single->params.len, single->table->columns[column].base_type);
}

/* Which of the change's tuples says the row that the destination has. */
static const PgoTuple *old_of(const BatchChange *change) {
    return change->old_kind != 0 ? &change->old_tuple : &change->new_tuple;
}

static bool append_key_where(SingleBuilder *single, const PgoTuple *old, bool exact, Error *err) {
    const ApplyTable *table = single->table;

    for (uint16_t k = 0; k < table->keys_count; k++) {
        const ApplyColumn *column = &table->columns[table->keys[k]];
        const PgoValue *value = &old->values[table->keys[k]];

        if (value->kind == PGO_UNCHANGED)
            return error_set(err, REASON_BAD_DATA, "a change of table %s lacks the old value of column %s",
                             table->display, column->quoted);
        vec_push(single->arena, &single->params, value_text(value));
        buf_append_str(&single->sql, k == 0 ? " WHERE " : " AND ");
        append_key_equals(&single->sql, column,
                          arena_printf(single->arena, "$%zu::%s", single->params.len, column->base_type), exact);
    }
    return true;
}

/* One of the rows with this image. */
static bool append_image_where(SingleBuilder *single, const PgoTuple *old, Error *err) {
    const ApplyTable *table = single->table;
    Buf *sql = &single->sql;
    size_t params = single->params.len;
    int others = 0;

    buf_printf(sql, " WHERE t.ctid = (SELECT f.ctid FROM ONLY %s f WHERE ", table->quoted);
    append_image(sql, table, "f");
    buf_append_str(sql, " *= ");
    append_given_image(sql, table, params + 1);
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (old->values[c].kind == PGO_UNCHANGED)
            return error_set(err, REASON_BAD_DATA, "a change of table %s lacks the old value of column %s",
                             table->display, table->columns[c].quoted);
        vec_push(single->arena, &single->params, value_text(&old->values[c]));
    }
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        const ApplyColumn *column = &table->columns[c];

        if (old->values[c].kind != PGO_NULL && narrows(column, &others))
            buf_printf(sql, " AND f.%s %s $%zu::%s", column->quoted, column->equals, params + c + 1, column->base_type);
    }
    buf_append_str(sql, " LIMIT 1)");
    return true;
}

static bool append_where(SingleBuilder *single, const BatchChange *change, Error *err) {
    const ApplyTable *table = single->table;

    if (table->batch.identity != 'f')
        return append_key_where(single, old_of(change), true, err);
    if (change->old_kind == 0 || table->batch.columns_count == 0)
        return error_set(err, REASON_BAD_DATA, "a change of table %s came without the old row", table->display);
    return append_image_where(single, old_of(change), err);
}

bool apply_is_loose(const ApplyTable *table, BatchOp op) {
    return op == BATCH_INSERT && table->keys_count == 0 && table->batch.columns_count > 0;
}

bool apply_needs_savepoint(const ApplyTable *table, BatchOp op) {
    return apply_is_loose(table, op) && table->immediate_sql != NULL;
}

static void append_single_insert(SingleBuilder *single, const BatchChange *change) {
    const ApplyTable *table = single->table;
    bool first = true;

    buf_printf(&single->sql, "INSERT INTO %s", table->quoted);
    append_column_list(&single->sql, table);
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (table->batch.columns[c].is_generated)
            continue;
        buf_append_str(&single->sql, first ? " OVERRIDING SYSTEM VALUE VALUES (" : ", ");
        append_param(single, c, &change->new_tuple.values[c]);
        first = false;
    }
    buf_append_str(&single->sql, first ? " DEFAULT VALUES" : ")");
    if (apply_is_loose(table, BATCH_INSERT) && !apply_needs_savepoint(table, BATCH_INSERT))
        buf_append_str(&single->sql, " ON CONFLICT DO NOTHING");
}

/* False when there is nothing to SET: then the row is only looked at. */
static bool append_single_set(SingleBuilder *single, const BatchChange *change) {
    const ApplyTable *table = single->table;
    bool first = true;

    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        const BatchColumn *column = &table->batch.columns[c];

        if (column->is_generated || column->is_always_identity || change->new_tuple.values[c].kind == PGO_UNCHANGED)
            continue;
        buf_printf(&single->sql, "%s%s = ", first ? " SET " : ", ", table->columns[c].quoted);
        append_param(single, c, &change->new_tuple.values[c]);
        first = false;
    }
    return !first;
}

/* Columns that cannot be SET have to be what they are already: no row is touched if they are not. */
static void append_always_match(SingleBuilder *single, const BatchChange *change) {
    const ApplyTable *table = single->table;

    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (!table->batch.columns[c].is_always_identity || change->new_tuple.values[c].kind == PGO_UNCHANGED)
            continue;
        buf_printf(&single->sql, " AND t.%s = ", table->columns[c].quoted);
        append_param(single, c, &change->new_tuple.values[c]);
    }
}

static bool append_single_update(SingleBuilder *single, const BatchChange *change, Error *err) {
    const ApplyTable *table = single->table;

    buf_printf(&single->sql, "UPDATE ONLY %s t", table->quoted);
    if (!append_single_set(single, change)) {
        buf_clear(&single->sql);
        buf_printf(&single->sql, "SELECT FROM ONLY %s t", table->quoted);
    }
    if (!append_where(single, change, err))
        return false;
    append_always_match(single, change);
    return true;
}

static bool builder_end(SingleBuilder *single, bool ok, ApplySingle *ret_single) {
    const char *sql = take(single->arena, &single->sql);

    if (ok)
        *ret_single =
            (ApplySingle){.sql = sql, .params = single->params.items, .params_count = (int)single->params.len};
    return ok;
}

bool apply_single(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single,
                  Error *err) {
    SingleBuilder single = {.arena = arena, .table = table};
    bool ok = true;

    buf_init(&single.sql, SQL_MAX);
    switch (change->op) {
    case BATCH_INSERT:
        append_single_insert(&single, change);
        break;
    case BATCH_UPDATE:
        ok = append_single_update(&single, change, err);
        break;
    case BATCH_DELETE:
        buf_printf(&single.sql, "DELETE FROM ONLY %s t", table->quoted);
        ok = append_where(&single, change, err);
        break;
    }
    return builder_end(&single, ok, ret_single);
}

bool apply_replace(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single,
                   Error *err) {
    SingleBuilder single = {.arena = arena, .table = table};
    const char *comma = "";

    buf_init(&single.sql, SQL_MAX);
    buf_printf(&single.sql, "WITH d AS (DELETE FROM ONLY %s t", table->quoted);
    bool ok = append_where(&single, change, err);
    buf_printf(&single.sql, " RETURNING *) INSERT INTO %s", table->quoted);
    append_column_list(&single.sql, table);
    buf_append_str(&single.sql, " OVERRIDING SYSTEM VALUE SELECT ");
    for (uint16_t c = 0; ok && c < table->batch.columns_count; c++) {
        const PgoValue *value = &change->new_tuple.values[c];

        if (table->batch.columns[c].is_generated)
            continue;
        buf_append_str(&single.sql, comma);
        comma = ", ";
        if (value->kind == PGO_UNCHANGED)
            buf_printf(&single.sql, "d.%s", table->columns[c].quoted);
        else
            append_param(&single, c, value);
    }
    buf_append_str(&single.sql, " FROM d");
    return builder_end(&single, ok, ret_single);
}

bool apply_find(Arena *arena, const ApplyTable *table, const BatchChange *change, ApplySingle *ret_single, Error *err) {
    SingleBuilder single = {.arena = arena, .table = table};

    buf_init(&single.sql, SQL_MAX);
    buf_append_str(&single.sql, "SELECT pg_catalog.left(");
    append_image(&single.sql, table, "t");
    buf_printf(&single.sql, "::pg_catalog.text, 300) FROM ONLY %s t", table->quoted);
    return builder_end(&single, append_key_where(&single, old_of(change), false, err), ret_single);
}
