/*
 * One side's catalogue as facts: one query, which is one moment.
 *
 * Definitions are read as text, with an empty search_path and fixed settings (pg/settings.c), so both sides write them
 * alike. They are printed anew: the text that pg_type keeps of a default is from its maker's search_path. Left out:
 * what extensions own, our own schemas, temporary things, invalid indexes (pg_dump leaves them out, too), indexes that
 * belong to a constraint, named NOT NULL constraints (18; the column says it), constraints that partitions have from
 * their root's foreign keys (their names are made up anew).
 */
#include "engine/ddl/drift_internal.h"
#include "engine/seam/seam.h"

#include <stdlib.h>
#include <string.h>

enum { PARENT_VERSION = 110000, GENERATED_VERSION = 120000 };

/* clang-format off */
#define SCOPE_SQL \
    "WITH ns AS (" \
    " SELECT oid, nspname FROM pg_catalog.pg_namespace" \
    " WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgcrane')" \
    " AND nspname !~ " SEAM_OF_A_JOB " AND nspname IS DISTINCT FROM $1::text)," \
    " ext AS (" \
    " SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'" \
    " AND classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass))," \
    " rel AS (" \
    " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relpartbound" \
    " FROM pg_catalog.pg_class c JOIN ns n ON n.oid = c.relnamespace" \
    " WHERE c.relkind IN ('r', 'p', 'f', 'c') AND c.relpersistence <> 't'" \
    " AND c.oid NOT IN (SELECT objid FROM ext WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass)" \
    " AND c.reltype NOT IN (SELECT objid FROM ext WHERE classid = 'pg_catalog.pg_type'::pg_catalog.regclass))," \
    " typ AS (" \
    " SELECT t.oid AS id, t.*, n.nspname FROM pg_catalog.pg_type t JOIN ns n ON n.oid = t.typnamespace" \
    " WHERE t.typtype IN ('e', 'd', 'r')" \
    " AND t.oid NOT IN (SELECT objid FROM ext WHERE classid = 'pg_catalog.pg_type'::pg_catalog.regclass))"

#define COLLATION_SQL(collation, type) \
    "(SELECT pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname)" \
    " FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace" \
    " WHERE co.oid = " collation " AND " collation " <> (SELECT typcollation FROM pg_catalog.pg_type WHERE oid = " \
    type "))"

/* Before 12 an oid is a system column, which * does not have: hence the id. */
#define RELATIONS_SQL \
    " SELECT 1, r.oid, r.nspname::text, r.relname::text, ''," \
    " CASE r.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table'" \
    "  ELSE 'composite type' END," \
    " CASE r.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END," \
    " (SELECT pg_catalog.string_agg(h.inhparent::pg_catalog.regclass::text, ', ' ORDER BY h.inhseqno)" \
    "  FROM pg_catalog.pg_inherits h WHERE h.inhrelid = r.oid)," \
    " pg_catalog.pg_get_expr(r.relpartbound, r.oid)," \
    " CASE r.relkind WHEN 'p' THEN pg_catalog.pg_get_partkeydef(r.oid) END, NULL" \
    " FROM rel r"

#define TYPES_SQL \
    " UNION ALL SELECT 2, t.id, t.nspname::text, t.typname::text, ''," \
    " CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'range' END," \
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)" \
    "  FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.id)," \
    " CASE t.typtype WHEN 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod)" \
    "  WHEN 'r' THEN (SELECT pg_catalog.format_type(g.rngsubtype, NULL) FROM pg_catalog.pg_range g" \
    "   WHERE g.rngtypid = t.id) END," \
    " CASE WHEN t.typnotnull THEN 'NOT NULL' END," \
    " pg_catalog.pg_get_expr(t.typdefaultbin, 'pg_catalog.pg_type'::pg_catalog.regclass)," \
    " CASE WHEN t.typtype = 'd' THEN " COLLATION_SQL("t.typcollation", "t.typbasetype") " END" \
    " FROM typ t"

#define COLUMNS_SQL \
    " UNION ALL SELECT 3, r.oid, r.nspname::text, r.relname::text, a.attname::text," \
    " pg_catalog.format_type(a.atttypid, a.atttypmod)," \
    " CASE WHEN a.attcollation <> ty.typcollation THEN co.quoted END," \
    " CASE WHEN a.attnotnull THEN 'NOT NULL' END," \
    " CASE %1$s WHEN 's' THEN 'STORED' WHEN 'v' THEN 'VIRTUAL' END," \
    " CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END," \
    " pg_catalog.pg_get_expr(d.adbin, d.adrelid)" \
    " FROM rel r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped" \
    " JOIN pg_catalog.pg_type ty ON ty.oid = a.atttypid" \
    " LEFT JOIN (SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) AS quoted" \
    "  FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace) co" \
    "  ON co.oid = a.attcollation" \
    " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum" \
    " UNION ALL SELECT 4, r.oid, r.nspname::text, r.relname::text, ''," \
    " pg_catalog.string_agg(a.attname::text, ', ' ORDER BY a.attnum)," \
    " CASE WHEN r.relpartbound IS NULL AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = r.oid)" \
    "  THEN 'inherits' END, NULL, NULL, NULL, NULL" \
    " FROM rel r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped" \
    " GROUP BY r.oid, r.nspname, r.relname, r.relpartbound IS NULL"

#define CONSTRAINTS_SQL \
    " UNION ALL SELECT 5, r.oid, r.nspname::text, r.relname::text, k.conname::text," \
    " pg_catalog.pg_get_constraintdef(k.oid), f.nspname::text, f.relname::text, NULL, NULL, NULL" \
    " FROM rel r JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid" \
    " LEFT JOIN rel f ON f.oid = k.confrelid" \
    " WHERE k.contype = ANY ($2::\"char\"[]) AND (k.contype <> 'f' OR %2$s = 0)" \
    " UNION ALL SELECT 5, t.id, t.nspname::text, t.typname::text, k.conname::text," \
    " pg_catalog.pg_get_constraintdef(k.oid), NULL, NULL, NULL, NULL, NULL" \
    " FROM typ t JOIN pg_catalog.pg_constraint k ON k.contypid = t.id WHERE k.contype = 'c'"

/* One of a partitioned table is valid when all partitions have theirs: what ON makes. ON ONLY, as it is printed, makes one
 * that is not, and is no constraint then. */
#define INDEXES_SQL \
    " UNION ALL SELECT 6, r.oid, r.nspname::text, r.relname::text, c.relname::text," \
    " CASE WHEN r.relkind = 'p' AND i.indisvalid" \
    "  THEN pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ')" \
    "  ELSE pg_catalog.pg_get_indexdef(c.oid) END, NULL, NULL, NULL, NULL, NULL" \
    " FROM rel r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid" \
    " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid" \
    " WHERE $3::boolean AND i.indisready AND (i.indisvalid OR r.relkind = 'p')" \
    " AND c.oid NOT IN (SELECT k.conindid FROM pg_catalog.pg_constraint k WHERE k.contype IN ('p', 'u', 'x'))"
/* clang-format on */

int fact_compare(const Fact *a, const Fact *b) {
    int order = strcmp(a->schema, b->schema);

    if (order == 0)
        order = strcmp(a->name, b->name);
    if (order == 0)
        order = (int)a->kind - (int)b->kind;
    return order != 0 ? order : strcmp(a->part, b->part);
}

static int compare_items(const void *a, const void *b) {
    return fact_compare(a, b);
}

static Fact read_fact(const DbResult *rows, int row) {
    Fact fact = {
        .kind = (FactKind)db_int64(rows, row, 0),
        .oid = (uint32_t)db_int64(rows, row, 1),
        .schema = db_text(rows, row, 2),
        .name = db_text(rows, row, 3),
        .part = db_text(rows, row, 4),
    };

    for (int i = 0; i < FACT_ATTRS; i++)
        fact.attrs[i] = db_text(rows, row, 5 + i);
    return fact;
}

static bool same_owner(const Fact *a, const Fact *b) {
    return a != NULL && strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

/* Sorted, a relation or type comes before what belongs to it. */
static void mark_types(FactList *facts) {
    const Fact *head = NULL;

    for (size_t i = 0; i < facts->len; i++) {
        Fact *fact = &facts->items[i];
        if (fact->kind == FACT_RELATION || fact->kind == FACT_TYPE) {
            head = fact;
            fact->of_type = fact->kind == FACT_TYPE || strcmp(fact->attrs[RELATION_KIND], "composite type") == 0;
        } else if (same_owner(head, fact)) {
            fact->of_type = head->of_type;
        }
    }
}

/* A foreign key is there when both its tables are. */
static bool is_reference_wanted(const DriftParams *params, const Fact *fact) {
    return fact->kind != FACT_CONSTRAINT || *fact->attrs[REFERENCED_NAME] == '\0' ||
           params->wanted(params->context, fact->attrs[REFERENCED_SCHEMA], fact->attrs[REFERENCED_NAME]);
}

void drift_filter(const DriftParams *params, FactList *facts) {
    size_t kept = 0;
    bool is_wanted = false;

    if (params->wanted == NULL)
        return;
    for (size_t i = 0; i < facts->len; i++) {
        const Fact *fact = &facts->items[i];
        if (i == 0 || !same_owner(&facts->items[i - 1], fact))
            is_wanted = params->wanted(params->context, fact->schema, fact->name);
        if (is_wanted && is_reference_wanted(params, fact))
            facts->items[kept++] = *fact;
    }
    facts->len = kept;
}

static const char *wanted_constraints(const DriftParams *params) {
    if (params->indexes)
        return params->foreign_keys ? "{c,u,p,x,f}" : "{c,u,p,x}";
    return params->foreign_keys ? "{f}" : "{}";
}

bool drift_read(DbConn *conn, Arena *arena, const DriftParams *params, FactList *ret_facts, DbResult **ret_result,
                Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    FactList facts = {0};
    const char *sql = arena_printf(arena, SCOPE_SQL RELATIONS_SQL TYPES_SQL COLUMNS_SQL CONSTRAINTS_SQL INDEXES_SQL,
                                   db_version(conn) >= GENERATED_VERSION ? "a.attgenerated" : "''::\"char\"",
                                   db_version(conn) >= PARENT_VERSION ? "k.conparentid" : "0");
    const char *const values[] = {params->ignore_schema, wanted_constraints(params),
                                  params->indexes ? "true" : "false"};

    if (!db_query(conn, sql, 3, values, &rows, err))
        return error_wrap(err, "reading the catalogue of the %s", db_side_name(db_conn_side(conn)));
    facts.items = arena_array(arena, Fact, (size_t)db_rows(rows));
    for (int i = 0; i < db_rows(rows); i++)
        facts.items[facts.len++] = read_fact(rows, i);
    qsort(facts.items, facts.len, sizeof(Fact), compare_items);
    mark_types(&facts);
    *ret_facts = facts;
    *ret_result = rows;
    rows = NULL;
    return true;
}
