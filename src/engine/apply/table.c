/* A table of the stream as it is in the destination (table.h). */
#include "engine/apply/table.h"

#include "pg/quote.h"

#include <string.h>

typedef struct CatalogColumn {
    const char *name, *type, *base_type, *equals;
    const char *index_equals, *index_type, *index_collation;
    bool is_array, is_generated, is_always, is_indexed, is_coarse;
    uint32_t type_oid;
    int32_t modifier;
} CatalogColumn;

typedef VEC(CatalogColumn) CatalogColumnVec;

enum { GENERATED_VERSION = 120000 }; /* and collations that are not deterministic */
enum { FIXED_OIDS = 10000 };         /* below, a number means the same on every server */

/*
 * One line a column, or a line of NULLs for a table without columns.
 * - Types without a modifier are written with -1: for NULL format_type says "character", which is character(1).
 * - What unnest() would take apart, or has another delimiter (box), or no array type, travels as text.
 * - The equality is that of the default operator class, which need not be in the search path (citext). The types of
 * classes that stand for many are named.
 * - Types are coarse unless it is certain that equal ones are of the same bytes.
 * - An identity's index of another class or collation is only there to be fast with: which row it is, its key's printed
 * value says. So it does no harm when it is not the source's any more.
 */
/* clang-format off */
#define SQL_EQUALS(o, n) \
    "CASE " n ".nspname WHEN 'pg_catalog' THEN " o ".oprname::pg_catalog.text" \
    " ELSE pg_catalog.format('OPERATOR(%%I.%%s)', " n ".nspname, " o ".oprname) END"
#define SQL_BYTEWISE \
    "(b.typtype = 'e' OR b.oid = ANY ('{bool,int2,int4,int8,oid,uuid,date,time,timestamp,timestamptz,bytea,name," \
    "macaddr,macaddr8,pg_lsn,18}'::pg_catalog.regtype[])" /* 18: "char" */ \
    " OR (b.oid = ANY ('{text,varchar}'::pg_catalog.regtype[]) AND (SELECT %s FROM pg_catalog.pg_collation l" \
    " WHERE l.oid = a.attcollation)))"
#define SQL_IDENTITY_INDEX \
    " LEFT JOIN LATERAL (SELECT " SQL_EQUALS("io", "im") " AS equals," \
    " CASE ic.opcintype WHEN b.oid THEN '' ELSE CASE it.typtype WHEN 'p' THEN ''" \
    " ELSE pg_catalog.format_type(it.oid, -1) END END AS type," \
    " coalesce((SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(l.collname)" \
    " FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace" \
    " WHERE l.oid = k.coll AND l.oid <> a.attcollation), '') AS coll, ic.opcdefault AS is_default" \
    " FROM pg_catalog.pg_index x CROSS JOIN LATERAL unnest(x.indkey::int2[], x.indclass::oid[], x.indcollation::oid[])" \
    " AS k (n, class, coll) JOIN pg_catalog.pg_opclass ic ON ic.oid = k.class" \
    " JOIN pg_catalog.pg_type it ON it.oid = ic.opcintype" \
    " JOIN pg_catalog.pg_amop ip ON ip.amopfamily = ic.opcfamily AND ip.amopstrategy = 3" \
    " AND ip.amoplefttype = ic.opcintype AND ip.amoprighttype = ic.opcintype" \
    " JOIN pg_catalog.pg_operator io ON io.oid = ip.amopopr" \
    " JOIN pg_catalog.pg_namespace im ON im.oid = io.oprnamespace" \
    " WHERE x.indrelid = c.oid AND x.indisreplident AND x.indisvalid AND k.n = a.attnum LIMIT 1) f" \
    " ON NOT f.is_default OR f.coll <> ''"
static const char columns_sql[] =
    "SELECT c.relkind, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),"
    " pg_catalog.format_type(b.oid, -1), b.typcategory = 'A' OR b.typdelim <> ',' OR b.typarray = 0,"
    " %s <> '', a.attidentity = 'a', e.equals,"
    " EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL"
    " AND i.indkey[0] = a.attnum), a.atttypid, a.atttypmod,"
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(k.conname),"
    " ', ' ORDER BY k.conname)"
    " FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace"
    " WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x') AND k.condeferrable),"
    " NOT " SQL_BYTEWISE ", f.equals, f.type, f.coll"
    " FROM pg_catalog.pg_class c"
    " LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " LEFT JOIN LATERAL (WITH RECURSIVE chain (type, base) AS ("
    "SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid"
    " UNION ALL SELECT t.oid, t.typbasetype FROM chain h JOIN pg_catalog.pg_type t ON t.oid = h.base)"
    " SELECT type FROM chain WHERE base = 0) r ON true"
    " LEFT JOIN pg_catalog.pg_type b ON b.oid = r.type"
    " LEFT JOIN LATERAL (SELECT " SQL_EQUALS("o", "n") " AS equals"
    " FROM pg_catalog.pg_opclass oc JOIN pg_catalog.pg_am m ON m.oid = oc.opcmethod AND m.amname = 'btree'"
    " JOIN pg_catalog.pg_amop p ON p.amopfamily = oc.opcfamily AND p.amopstrategy = 3"
    " AND p.amoplefttype = oc.opcintype AND p.amoprighttype = oc.opcintype"
    " JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"
    " WHERE oc.opcdefault AND oc.opcintype = CASE WHEN b.typtype = 'e' THEN 'pg_catalog.anyenum'::pg_catalog.regtype"
    " WHEN b.oid = 'pg_catalog.varchar'::pg_catalog.regtype THEN 'pg_catalog.text'::pg_catalog.regtype"
    " ELSE b.oid END LIMIT 1) e ON true" SQL_IDENTITY_INDEX
    " WHERE c.oid = pg_catalog.to_regclass($1)";
/* clang-format on */

static const char *text_or_null(Arena *arena, const DbResult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? NULL : arena_strdup(arena, db_text(rows, row, column));
}

static bool read_columns(DbConn *dest, Arena *arena, ApplyTable *table, CatalogColumnVec *ret_columns, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    CatalogColumnVec columns = {0};
    bool since_12 = db_version(dest) >= GENERATED_VERSION;
    const char *sql = arena_printf(arena, columns_sql, since_12 ? "a.attgenerated" : "''",
                                   since_12 ? "l.collisdeterministic" : "true");

    if (!db_query(dest, sql, 1, (const char *const[]){table->quoted}, &rows, err))
        return error_wrap(err, "reading the columns of %s on the destination", table->display);
    if (db_rows(rows) == 0)
        return error_set(err, REASON_TABLE_CHANGED, "table %s is not on the destination", table->display);
    table->is_partitioned = db_text(rows, 0, 0)[0] == 'p';
    if (!db_is_null(rows, 0, 11))
        table->immediate_sql = arena_printf(arena, "SET CONSTRAINTS %s IMMEDIATE", db_text(rows, 0, 11));
    for (int i = 0; i < db_rows(rows) && !db_is_null(rows, i, 1); i++) {
        CatalogColumn column = {
            .name = text_or_null(arena, rows, i, 1),
            .type = text_or_null(arena, rows, i, 2),
            .base_type = text_or_null(arena, rows, i, 3),
            .is_array = db_bool(rows, i, 4),
            .is_generated = db_bool(rows, i, 5),
            .is_always = db_bool(rows, i, 6),
            .equals = text_or_null(arena, rows, i, 7),
            .is_indexed = db_bool(rows, i, 8),
            .type_oid = (uint32_t)db_int64(rows, i, 9),
            .modifier = (int32_t)db_int64(rows, i, 10),
            .is_coarse = db_bool(rows, i, 12),
            .index_equals = text_or_null(arena, rows, i, 13),
            .index_type = text_or_null(arena, rows, i, 14),
            .index_collation = text_or_null(arena, rows, i, 15),
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

/* A value of numeric(10,4) would be rounded into a numeric(10,2) without a word. Types of users have other numbers on
 * the destination; they are left to whoever compares the catalogues. */
static bool differs(const PgoColumn *column, const CatalogColumn *dest) {
    bool fixed = column->type_oid < FIXED_OIDS && dest->type_oid < FIXED_OIDS;

    return fixed && (column->type_oid != dest->type_oid || column->type_modifier != dest->modifier);
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
        if (differs(column, dest))
            return error_set(err, REASON_TABLE_CHANGED,
                             "column %s of table %s is %s on the destination, not on the source", column->name,
                             table->display, dest->type);
        stream[i] = (BatchColumn){.name = arena_strdup(arena, column->name),
                                  .is_key = column->is_key && !table->is_keyless,
                                  .is_generated = dest->is_generated,
                                  .is_always_identity = dest->is_always};
        columns[i] = (ApplyColumn){.quoted = sql_ident(arena, column->name),
                                   .type = dest->type,
                                   .base_type = dest->base_type,
                                   .equals = dest->equals,
                                   .is_array = dest->is_array,
                                   .is_indexed = dest->is_indexed,
                                   .is_coarse = dest->is_coarse || dest->index_equals != NULL,
                                   .index_equals = dest->index_equals,
                                   .index_type = dest->index_type,
                                   .index_collation = dest->index_collation};
        table->has_always_identity |= dest->is_always;
        table->sent_columns += !dest->is_generated;
        if (stream[i].is_key || table->batch.identity == 'f')
            table->keys[table->keys_count++] = i;
    }
    table->columns = columns;
    table->batch.columns = stream;
    return true;
}

bool apply_table_load(DbConn *dest, Arena *arena, const PgoRelation *relation, bool is_keyless, ApplyTable **ret_table,
                      Error *err) {
    const char *schema = relation->schema[0] == '\0' ? "pg_catalog" : relation->schema;
    CatalogColumnVec columns = {0};
    ApplyTable *table = arena_new_of(arena, ApplyTable);

    table->trouble = arena_new_of(arena, ApplyTrouble);
    table->quoted = sql_qualified(arena, schema, relation->name);
    table->display = sql_display(arena, schema, relation->name);
    table->is_keyless = is_keyless;
    table->batch = (BatchTable){.relation = relation->oid,
                                .identity = is_keyless ? 'n' : relation->identity,
                                .columns_count = relation->columns_count};
    if (!read_columns(dest, arena, table, &columns, err) || !map_columns(arena, relation, &columns, table, err))
        return false;
    *ret_table = table;
    return true;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_column(const ApplyTable *a, const ApplyTable *b, uint16_t i) {
    const BatchColumn *from = &a->batch.columns[i], *to = &b->batch.columns[i];
    const ApplyColumn *left = &a->columns[i], *right = &b->columns[i];

    return strcmp(from->name, to->name) == 0 && from->is_key == to->is_key && from->is_generated == to->is_generated &&
           from->is_always_identity == to->is_always_identity && same_text(left->quoted, right->quoted) &&
           same_text(left->type, right->type) && same_text(left->base_type, right->base_type) &&
           same_text(left->equals, right->equals) && left->is_array == right->is_array &&
           left->is_indexed == right->is_indexed && left->is_coarse == right->is_coarse &&
           same_text(left->index_equals, right->index_equals) && same_text(left->index_type, right->index_type) &&
           same_text(left->index_collation, right->index_collation);
}

bool apply_table_same(const ApplyTable *a, const ApplyTable *b) {
    if (strcmp(a->quoted, b->quoted) != 0 || a->is_partitioned != b->is_partitioned ||
        a->batch.relation != b->batch.relation || a->batch.identity != b->batch.identity ||
        a->batch.columns_count != b->batch.columns_count || !same_text(a->immediate_sql, b->immediate_sql))
        return false;
    for (uint16_t i = 0; i < a->batch.columns_count; i++)
        if (!same_column(a, b, i))
            return false;
    return true;
}
