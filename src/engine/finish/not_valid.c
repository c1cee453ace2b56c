/*
 * Constraints that hold for new rows only (NOT VALID), while a table is copied once more (finish.h).
 *
 * In the load they come when all rows are there. A later copy writes the same old rows, and the server knows no way of
 * leaving a CHECK out: the table could never be copied again. So they go, and come back as they were, in the
 * transaction that copies. A partition's own come from its root, which has to lose them. Domains have such ones, too.
 *
 * A domain's refuse more than a copy: each change of a row comes with all its values, and one of before is checked anew
 * on the destination, though the source did not look at it.
 */
#include "engine/finish/finish.h"

#include "pg/quote.h"

enum { ENFORCED_VERSION = 180000 };

/* clang-format off */
#define MADE_OF_SQL(table) \
    " made_of (type) AS (SELECT a.atttypid FROM pg_catalog.pg_attribute a" \
    "   WHERE a.attrelid = " table " AND a.attnum > 0 AND NOT a.attisdropped" \
    "  UNION SELECT v.type FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.type, LATERAL (" \
    "   SELECT t.typelem UNION ALL SELECT t.typbasetype" \
    "   UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a" \
    "    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped" \
    "   UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) AS v (type)" \
    "  WHERE v.type <> 0)"

/* Those of the table, of what it inherits from, and below a root of all its leaves; the uppermost first: what is below
 * goes with it, unless it has it of its own. Then those of the domains that its columns are made of. Columns: what it
 * is of, name, definition, comment. */
static const char list_sql[] =
    "WITH RECURSIVE up (oid, depth) AS (SELECT pg_catalog.to_regclass($1)::oid, 0"
    "  UNION ALL SELECT i.inhparent, up.depth - 1 FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid),"
    " down (oid, depth) AS (SELECT c.oid, 0 FROM pg_catalog.pg_class c"
    "   WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'p'"
    "  UNION ALL SELECT i.inhrelid, down.depth + 1 FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid),"
    " tree AS (SELECT oid, pg_catalog.min(depth) AS depth FROM (SELECT * FROM up UNION ALL SELECT * FROM down) t"
    "  GROUP BY oid),"
    MADE_OF_SQL("pg_catalog.to_regclass($1)")
    " SELECT s.kind, s.owner, pg_catalog.quote_ident(k.conname), pg_catalog.pg_get_constraintdef(k.oid),"
    "  pg_catalog.obj_description(k.oid, 'pg_constraint')"
    " FROM (SELECT 'TABLE' AS kind, oid::pg_catalog.regclass::text AS owner, depth, oid AS relation, 0 AS type FROM tree"
    "  UNION ALL SELECT DISTINCT 'DOMAIN', pg_catalog.format_type(type, NULL), 0, 0, type FROM made_of) AS s"
    " JOIN pg_catalog.pg_constraint k ON k.conrelid = s.relation AND k.contypid = s.type"
    " WHERE k.contype IN ('c', 'n') AND NOT k.convalidated AND (k.conislocal OR s.kind = 'DOMAIN')%s"
    " ORDER BY s.kind, s.depth, k.conname";

static const char refuses_sql[] =
    "WITH RECURSIVE" MADE_OF_SQL("$1::oid")
    " SELECT pg_catalog.format_type(k.contypid, NULL), k.conname FROM pg_catalog.pg_constraint k"
    " WHERE k.contypid IN (SELECT type FROM made_of) AND k.contype = 'c' AND NOT k.convalidated"
    " AND pg_catalog.strpos($2, k.conname::text) > 0 LIMIT 1";
/* clang-format on */

static const char *back_sql(Arena *arena, const DbResult *rows, int i) {
    const char *kind = db_text(rows, i, 0), *owner = db_text(rows, i, 1), *name = db_text(rows, i, 2);
    const char *sql = arena_printf(arena, "ALTER %s %s ADD CONSTRAINT %s %s", kind, owner, name, db_text(rows, i, 3));

    if (db_is_null(rows, i, 4))
        return sql;
    return arena_printf(arena, "%s; COMMENT ON CONSTRAINT %s ON %s%s IS %s", sql, name, kind[0] == 'D' ? "DOMAIN " : "",
                        owner, sql_literal(arena, db_text(rows, i, 4)));
}

bool finish_not_valid_aside(DbConn *dest, Arena *arena, const char *table, StringVec *ret_back, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    StringVec back = {0};
    const char *sql = arena_printf(arena, list_sql, db_version(dest) >= ENFORCED_VERSION ? " AND k.conenforced" : "");

    if (!db_query(dest, sql, 1, (const char *const[]){table}, &rows, err))
        return error_wrap(err, "listing constraints of %s that are not valid", table);
    for (int i = 0; i < db_rows(rows); i++) {
        /* Behind a domain's, servers refuse the definitions of a later savepoint ("unprocessed inval messages"); the
         * end of one of its own is what they lack. */
        if (!db_execf(dest, err, "SAVEPOINT aside; ALTER %s %s DROP CONSTRAINT %s; RELEASE aside", db_text(rows, i, 0),
                      db_text(rows, i, 1), db_text(rows, i, 2)))
            return error_wrap(err, "setting aside what old rows of %s need not keep", table);
        vec_push(arena, &back, back_sql(arena, rows, i));
    }
    *ret_back = back;
    return true;
}

/* The lowest first, which the upper ones then find there. What was deferred has to be over: a table with work of
 * triggers left cannot be altered. */
bool finish_not_valid_back(DbConn *dest, const StringVec *back, Error *err) {
    if (back->len > 0 && !db_exec(dest, "SET CONSTRAINTS ALL IMMEDIATE", err))
        return false;
    for (size_t i = back->len; i-- > 0;)
        if (!db_execf(dest, err, "SAVEPOINT aside; %s; RELEASE aside", back->items[i]))
            return error_wrap(err, "making constraints again that old rows need not keep");
    return true;
}

bool finish_not_valid_refuses(DbConn *source, Arena *arena, uint32_t table, const char *message, const char **ret_what,
                              Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    *ret_what = NULL;
    if (!db_query(source, refuses_sql, 2, (const char *const[]){arena_printf(arena, "%u", table), message}, &row, err))
        return error_wrap(err, "listing constraints of domains that are not valid");
    if (db_rows(row) > 0)
        *ret_what = arena_printf(arena, "constraint %s of domain %s, which is NOT VALID", db_text(row, 0, 1),
                                 db_text(row, 0, 0));
    return true;
}
