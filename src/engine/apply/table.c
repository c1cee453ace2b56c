/* A table of the stream as it is in the destination, and the SQL that changes it (table.h). */
#include "engine/apply/table.h"

#include "pg/quote.h"

#include <string.h>

/* ---- The destination's catalogue ---- */

typedef struct CatalogColumn {
    const char *name, *type, *base_type;
    bool is_array, is_generated, is_always;
} CatalogColumn;

typedef VEC(CatalogColumn) CatalogColumnVec;

static bool read_columns(DbConn *dest, Arena *arena, const char *quoted, CatalogColumnVec *ret_columns, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    CatalogColumnVec columns = {0};
    const char *sql =
        arena_printf(arena,
                     "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),"
                     " pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),"
                     /* arrays, and types whose arrays have another delimiter (box), go through text */
                     " coalesce(b.typcategory, t.typcategory) = 'A' OR coalesce(b.typdelim, t.typdelim) <> ',', %s <> "
                     "'', a.attidentity = 'a'"
                     " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
                     " LEFT JOIN pg_catalog.pg_type b ON b.oid = nullif(t.typbasetype, 0)"
                     " WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
                     db_version(dest) >= 120000 ? "a.attgenerated" : "''");

    if (!db_query(dest, sql, 1, (const char *const[]){quoted}, &rows, err))
        return error_wrap(err, "reading the columns of %s on the destination", quoted);
    for (int i = 0; i < db_rows(rows); i++) {
        CatalogColumn column = {
            .name = arena_strdup(arena, db_text(rows, i, 0)),
            .type = arena_strdup(arena, db_text(rows, i, 1)),
            .base_type = arena_strdup(arena, db_text(rows, i, 2)),
            .is_array = db_bool(rows, i, 3),
            .is_generated = db_bool(rows, i, 4),
            .is_always = db_bool(rows, i, 5),
        };

        vec_push(arena, &columns, column);
    }
    *ret_columns = columns;
    return true;
}

static const CatalogColumn *find_column(const CatalogColumnVec *columns, const char *name) {
    for (size_t i = 0; i < columns->len; i++)
        if (strcmp(columns->items[i].name, name) == 0)
            return &columns->items[i];
    return NULL;
}

static bool map_columns(Arena *arena, const PgoRelation *relation, const CatalogColumnVec *catalog, ApplyTable *table,
                        Error *err) {
    BatchColumn *stream = arena_array(arena, BatchColumn, relation->columns_count);
    ApplyColumn *columns = arena_array(arena, ApplyColumn, relation->columns_count);

    table->keys = arena_array(arena, uint16_t, relation->columns_count);
    for (uint16_t i = 0; i < relation->columns_count; i++) {
        const PgoColumn *column = &relation->columns[i];
        const CatalogColumn *dest = find_column(catalog, column->name);

        if (dest == NULL)
            return error_set(err, REASON_TABLE_CHANGED, "column %s of table %s is not on the destination", column->name,
                             table->display);
        stream[i] = (BatchColumn){.name = arena_strdup(arena, column->name),
                                  .is_key = column->is_key,
                                  .is_generated = dest->is_generated,
                                  .is_always_identity = dest->is_always};
        columns[i] = (ApplyColumn){.quoted = sql_ident(arena, column->name),
                                   .type = dest->type,
                                   .base_type = dest->base_type,
                                   .is_array = dest->is_array};
        table->has_always_identity |= dest->is_always;
        if (column->is_key)
            table->keys[table->keys_count++] = i;
    }
    table->columns = columns;
    table->batch.columns = stream;
    return true;
}

bool apply_table_load(DbConn *dest, Arena *arena, const PgoRelation *relation, ApplyTable **ret_table, Error *err) {
    const char *schema = relation->schema[0] == '\0' ? "pg_catalog" : relation->schema;
    CatalogColumnVec columns = {0};
    ApplyTable *table = arena_new_of(arena, ApplyTable);

    table->quoted = sql_qualified(arena, schema, relation->name);
    table->display = sql_display(arena, schema, relation->name);
    table->batch = (BatchTable){
        .relation = relation->oid, .identity = relation->identity, .columns_count = relation->columns_count};
    if (!read_columns(dest, arena, table->quoted, &columns, err))
        return false;
    if (columns.len == 0 && relation->columns_count > 0)
        return error_set(err, REASON_TABLE_CHANGED, "table %s is not on the destination", table->display);
    if (!map_columns(arena, relation, &columns, table, err))
        return false;
    *ret_table = table;
    return true;
}

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
        buf_printf(sql, "s.%c%u::%s", prefix, column, c->type);
    else
        buf_printf(sql, "s.%c%u", prefix, column);
}

static void append_key_match(Buf *sql, const ApplyTable *table) {
    for (uint16_t k = 0; k < table->keys_count; k++) {
        buf_printf(sql, "%st.%s = ", k == 0 ? " WHERE " : " AND ", table->columns[table->keys[k]].quoted);
        append_value(sql, table, table->keys[k], 'k');
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
    append_key_match(&sql, table);
    return take(arena, &sql);
}

char *apply_update_sql(Arena *arena, const ApplyTable *table, const uint8_t *uses) {
    int param = 0;
    bool first = true;
    Buf sql;

    buf_init(&sql, SQL_MAX);
    buf_printf(&sql, "UPDATE ONLY %s t SET ", table->quoted);
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (uses[c] != BATCH_SET)
            continue;
        buf_printf(&sql, "%s%s = ", first ? "" : ", ", table->columns[c].quoted);
        append_value(&sql, table, c, 'c');
        first = false;
    }
    buf_append_str(&sql, " FROM (SELECT ");
    for (uint16_t k = 0; k < table->keys_count; k++)
        append_unnest(&sql, table, table->keys[k], ++param, 'k');
    for (uint16_t c = 0; c < table->batch.columns_count; c++)
        if (uses[c] != BATCH_LEAVE)
            append_unnest(&sql, table, c, ++param, 'c');
    buf_append_str(&sql, ") s");
    append_key_match(&sql, table);
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

/* ---- One change ---- */

typedef struct SingleBuilder {
    Arena *arena;
    const ApplyTable *table;
    Buf sql;
    StringVec params;
} SingleBuilder;

static const char *value_text(Arena *arena, const PgoValue *value) {
    return value->kind == PGO_NULL ? NULL : arena_strndup(arena, value->bytes, value->len);
}

/* A parameter with its type: "$4::numeric(10,2)". */
static void append_param(SingleBuilder *single, uint16_t column, const PgoValue *value) {
    vec_push(single->arena, &single->params, value_text(single->arena, value));
    buf_printf(&single->sql, "$%zu::%s", single->params.len, single->table->columns[column].type);
}

/* The row's WHERE: by key, or one row by its image. */
static bool append_where(SingleBuilder *single, const BatchChange *change, Error *err) {
    const ApplyTable *table = single->table;
    bool full = table->batch.identity == 'f';
    const PgoTuple *old = change->old_kind != 0 ? &change->old_tuple : &change->new_tuple;

    if (full && change->old_kind == 0)
        return error_set(err, REASON_BAD_DATA, "a change of table %s came without the old row", table->display);
    if (full) {
        buf_printf(&single->sql, " WHERE t.ctid = (SELECT f.ctid FROM ONLY %s f WHERE ROW(", table->quoted);
        for (uint16_t c = 0; c < table->batch.columns_count; c++)
            buf_printf(&single->sql, "%sf.%s", c == 0 ? "" : ", ", table->columns[c].quoted);
        buf_append_str(&single->sql, ") *= ROW(");
    } else {
        buf_append_str(&single->sql, " WHERE ");
    }
    bool first = true;
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (!full && !table->batch.columns[c].is_key)
            continue;
        if (old->values[c].kind == PGO_UNCHANGED)
            return error_set(err, REASON_BAD_DATA, "a change of table %s lacks the old value of column %s",
                             table->display, table->columns[c].quoted);
        buf_append_str(&single->sql, first ? "" : full ? ", " : " AND ");
        if (!full)
            buf_printf(&single->sql, "t.%s = ", table->columns[c].quoted);
        append_param(single, c, &old->values[c]);
        first = false;
    }
    if (full)
        buf_append_str(&single->sql, ") LIMIT 1)");
    return true;
}

static void append_single_insert(SingleBuilder *single, const BatchChange *change) {
    const ApplyTable *table = single->table;
    bool first = true;

    buf_printf(&single->sql, "INSERT INTO %s", table->quoted);
    append_column_list(&single->sql, table);
    buf_append_str(&single->sql, " OVERRIDING SYSTEM VALUE");
    for (uint16_t c = 0; c < table->batch.columns_count; c++) {
        if (table->batch.columns[c].is_generated)
            continue;
        buf_append_str(&single->sql, first ? " VALUES (" : ", ");
        append_param(single, c, &change->new_tuple.values[c]);
        first = false;
    }
    buf_append_str(&single->sql, first ? " DEFAULT VALUES" : ")");
}

/* False when there is nothing to SET: then the row is only touched. */
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
        buf_printf(&single.sql, "UPDATE ONLY %s t", table->quoted);
        if (!append_single_set(&single, change)) {
            buf_clear(&single.sql);
            buf_printf(&single.sql, "SELECT FROM ONLY %s t", table->quoted);
        }
        ok = append_where(&single, change, err);
        break;
    case BATCH_DELETE:
        buf_printf(&single.sql, "DELETE FROM ONLY %s t", table->quoted);
        ok = append_where(&single, change, err);
        break;
    }
    *ret_single = (ApplySingle){.params = single.params.items, .params_count = (int)single.params.len};
    ret_single->sql = take(arena, &single.sql);
    return ok;
}
