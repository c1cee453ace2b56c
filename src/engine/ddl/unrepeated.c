/* Captured commands that could not be repeated (unrepeated.h). */
#include "engine/ddl/unrepeated.h"

#include "pg/quote.h"

#include <string.h>

enum { OBJECTS_MAX = 100 };

/* --- Noting ------------------------------------------------------------------------------------------------------- */

static bool add_object(DbConn *dest, const DdlResult *result, const char *kind, const char *identity, Error *err) {
    const char *const values[] = {result->tag, kind, identity, result->reason, result->query};

    return db_query(dest,
                    "INSERT INTO pgcrane.unrepeated (tag, kind, object, reason, query)"
                    " VALUES ($1, $2, $3, $4, pg_catalog.left($5, 10000))",
                    5, values, NULL, err) ||
           error_wrap(err, "noting a command that was not repeated");
}

bool unrepeated_add(DbConn *dest, const DdlResult *result, Error *err) {
    if (result->objects_count == 0)
        return add_object(dest, result, "", "", err);
    for (size_t i = 0; i < MIN(result->objects_count, (size_t)OBJECTS_MAX); i++)
        if (!add_object(dest, result, result->objects[i].kind, result->objects[i].identity, err))
            return false;
    return true;
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

/* Whether one side has an object of that kind and name. What is in it is the comparison's business (drift.h): it has
 * the same kinds, and rules for what may differ between two versions. Names are made of the catalogue's lines, not the
 * other way round: a name whose schema or argument's type is missing is an error of some versions. No lock is taken. */
/* clang-format off */
#define RELATIONS "'table', 'foreign table', 'sequence', 'view', 'materialized view', 'index', 'composite type'"
#define COLUMNS "'view column', 'materialized view column'" /* a table's make the table suspect */
#define FUNCTIONS "'function', 'procedure', 'aggregate'"
#define CLASS(class, kinds) " SELECT 'pg_catalog." class "'::pg_catalog.regclass::oid, ARRAY[" kinds "]::text[], "
#define NAMED(class, column, kinds) \
    " UNION ALL" CLASS(class, kinds) "oid, 0, pg_catalog.quote_ident(" column ") FROM pg_catalog." class

static const char presence_sql[] =
    "WITH w (no, kind, object) AS (VALUES %s), o (classid, kinds, oid, part, name) AS ("
    CLASS("pg_class", COLUMNS) "attrelid, attnum::integer, pg_catalog.quote_ident(attname)"
    "  FROM pg_catalog.pg_attribute WHERE attnum > 0 AND NOT attisdropped"
    NAMED("pg_class", "relname", RELATIONS)
    NAMED("pg_type", "typname", "'type'")
    NAMED("pg_proc", "proname", FUNCTIONS)
    NAMED("pg_namespace", "nspname", "'schema'")
    NAMED("pg_extension", "extname", "'extension'")
    NAMED("pg_opclass", "opcname", "'operator class'")
    NAMED("pg_collation", "collname", "'collation'")
    NAMED("pg_ts_config", "cfgname", "'text search configuration'")
    NAMED("pg_ts_dict", "dictname", "'text search dictionary'")
    " UNION ALL" CLASS("pg_operator", "'operator'") "oid, 0, oprname::text FROM pg_catalog.pg_operator"
    " UNION ALL" CLASS("pg_cast", "'cast'") "oid, 0, '' FROM pg_catalog.pg_cast)"
    " SELECT w.kind IN (" RELATIONS ", " COLUMNS ", " FUNCTIONS ", 'type', 'schema', 'extension', 'operator class',"
    "  'collation', 'text search configuration', 'text search dictionary', 'operator', 'cast'),"
    " EXISTS (SELECT FROM o, LATERAL pg_catalog.pg_identify_object(o.classid, o.oid, o.part) AS i"
    "  WHERE w.kind = ANY (o.kinds) AND o.oid >= 16384 AND pg_catalog.strpos(w.object, o.name) > 0"
    "  AND i.type = w.kind AND i.identity = w.object) FROM w ORDER BY w.no";
/* clang-format on */

static const char *presence_query(Arena *arena, const DbResult *noted) {
    CLEANUP(buf_fini) Buf values;

    buf_init(&values, (size_t)64 << 20);
    for (int i = 0; i < db_rows(noted); i++)
        buf_printf(&values, "%s(%d, %s, %s)", i > 0 ? ", " : "", i, sql_literal(arena, db_text(noted, i, 1)),
                   sql_literal(arena, db_text(noted, i, 2)));
    return arena_printf(arena, presence_sql, values.data);
}

static bool agree(const DbResult *noted, const DbResult *here, const DbResult *there, int row) {
    return strcmp(db_text(noted, row, 0), "SECURITY LABEL") != 0 && db_bool(here, row, 0) &&
           db_bool(here, row, 1) == db_bool(there, row, 1);
}

static const char *line_of(Arena *arena, const DbResult *noted, int row) {
    const char *object = db_text(noted, row, 2);

    return arena_printf(arena, "%s%s%s%s was not repeated on the destination: %s", db_text(noted, row, 1),
                        *object == '\0' ? "" : " ", object,
                        *object == '\0' && *db_text(noted, row, 1) == '\0'
                            ? db_text(noted, row, 0)
                            : arena_printf(arena, ": %s", db_text(noted, row, 0)),
                        db_text(noted, row, 3));
}

bool unrepeated_left(DbConn *source, DbConn *dest, Arena *arena, StringVec *ret_left, Error *err) {
    CLEANUP(db_result_freep) DbResult *noted = NULL;
    CLEANUP(db_result_freep) DbResult *here = NULL;
    CLEANUP(db_result_freep) DbResult *there = NULL;
    StringVec left = {0};

    if (!db_query(dest,
                  "SELECT tag, kind, object, (pg_catalog.array_agg(reason ORDER BY no))[1] FROM pgcrane.unrepeated"
                  " GROUP BY tag, kind, object ORDER BY pg_catalog.min(no)",
                  0, NULL, &noted, err))
        return error_wrap(err, "reading what was not repeated");
    *ret_left = left;
    if (db_rows(noted) == 0)
        return true;
    const char *sql = presence_query(arena, noted);

    if (!db_query(source, sql, 0, NULL, &here, err) || !db_query(dest, sql, 0, NULL, &there, err))
        return error_wrap(err, "comparing what was not repeated");
    for (int i = 0; i < db_rows(noted); i++)
        if (!agree(noted, here, there, i))
            vec_push(arena, &left, line_of(arena, noted, i));
    *ret_left = left;
    return true;
}
