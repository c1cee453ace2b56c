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

/* What one side has under that name, as text; NULL when it has nothing. Of what the comparison of the catalogues looks
 * at, that it is there is enough. */
/* clang-format off */
static const char definitions_sql[] =
    "SELECT CASE WHEN w.tag IN ('COMMENT', 'GRANT', 'REVOKE', 'SECURITY LABEL') THEN NULL"
    " WHEN w.kind IN ('view', 'materialized view') THEN pg_catalog.pg_get_viewdef(pg_catalog.to_regclass(w.object))"
    " WHEN w.kind IN ('function', 'procedure') THEN"
    "  (SELECT pg_catalog.pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc p"
    "   WHERE p.oid = pg_catalog.to_regprocedure(w.object))"
    " WHEN w.kind = 'sequence' THEN"
    "  (SELECT pg_catalog.concat_ws(' ', s.seqtypid::pg_catalog.regtype, s.seqstart, s.seqincrement, s.seqmax,"
    "   s.seqmin, s.seqcache, s.seqcycle) FROM pg_catalog.pg_sequence s"
    "   WHERE s.seqrelid = pg_catalog.to_regclass(w.object))"
    " WHEN w.kind IN ('index', 'table', 'foreign table') THEN pg_catalog.to_regclass(w.object)::text"
    " WHEN w.kind IN ('type', 'domain', 'composite type') THEN pg_catalog.to_regtype(w.object)::text"
    " WHEN w.kind = 'schema' THEN pg_catalog.to_regnamespace(w.object)::text"
    " WHEN w.kind = 'extension' THEN"
    "  (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE pg_catalog.quote_ident(e.extname) = w.object)"
    " END,"
    " w.tag NOT IN ('COMMENT', 'GRANT', 'REVOKE', 'SECURITY LABEL') AND w.object <> '' AND w.kind IN"
    "  ('view', 'materialized view', 'function', 'procedure', 'sequence', 'index', 'table', 'foreign table', 'type',"
    "   'domain', 'composite type', 'schema', 'extension')"
    " FROM (VALUES %s) w (no, tag, kind, object) ORDER BY w.no";
/* clang-format on */

static const char *definitions_query(Arena *arena, const DbResult *noted) {
    CLEANUP(buf_fini) Buf values;

    buf_init(&values, (size_t)64 << 20);
    for (int i = 0; i < db_rows(noted); i++)
        buf_printf(&values, "%s(%d, %s, %s, %s)", i > 0 ? ", " : "", i, sql_literal(arena, db_text(noted, i, 0)),
                   sql_literal(arena, db_text(noted, i, 1)), sql_literal(arena, db_text(noted, i, 2)));
    return arena_printf(arena, definitions_sql, values.data);
}

static bool agree(const DbResult *here, const DbResult *there, int row) {
    return db_bool(here, row, 1) && db_is_null(here, row, 0) == db_is_null(there, row, 0) &&
           strcmp(db_text(here, row, 0), db_text(there, row, 0)) == 0;
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
    const char *sql = definitions_query(arena, noted);

    if (!db_query(source, sql, 0, NULL, &here, err) || !db_query(dest, sql, 0, NULL, &there, err))
        return error_wrap(err, "comparing what was not repeated");
    for (int i = 0; i < db_rows(noted); i++)
        if (!agree(here, there, i))
            vec_push(arena, &left, line_of(arena, noted, i));
    *ret_left = left;
    return true;
}
