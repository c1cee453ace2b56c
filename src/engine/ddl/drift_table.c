/*
 * Which differences of the catalogues concern one table (drift.h).
 *
 * A difference of a type names the type only. So the types that the table's columns are made of are asked for: elements
 * of arrays, bases of domains, columns of composite types, what ranges are of.
 */
#include "engine/ddl/drift.h"

#include "pg/quote.h"

#include <string.h>

static const char names_sql[] =
    "WITH RECURSIVE made_of (type) AS ("
    " SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped"
    " UNION SELECT v.type FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.type, LATERAL ("
    "  SELECT t.typelem UNION ALL SELECT t.typbasetype"
    "  UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a"
    "   WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped"
    "  UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) AS v (type)"
    "  WHERE v.type <> 0)"
    " SELECT n.nspname, c.relname, false FROM pg_catalog.pg_class c"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid"
    " UNION ALL SELECT n.nspname, t.typname, true FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.type"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname <> 'pg_catalog'";

static bool is_among(const StringVec *objects, const char *object) {
    for (size_t i = 0; i < objects->len; i++)
        if (strcmp(objects->items[i], object) == 0)
            return true;
    return false;
}

bool drift_of_table(DbConn *source, Arena *arena, uint32_t oid, const DriftVec *drifts, DriftVec *ret_own, Error *err) {
    CLEANUP(db_result_freep) DbResult *names = NULL;
    StringVec objects = {0};

    *ret_own = (DriftVec){0};
    if (drifts->len == 0)
        return true;
    if (!db_query(source, names_sql, 1, (const char *const[]){arena_printf(arena, "%u", oid)}, &names, err))
        return error_wrap(err, "asking for the types of a table");
    for (int i = 0; i < db_rows(names); i++) {
        const char *name = sql_display(arena, db_text(names, i, 0), db_text(names, i, 1));

        vec_push(arena, &objects, db_bool(names, i, 2) ? arena_printf(arena, "type %s", name) : name);
    }
    for (size_t i = 0; i < drifts->len; i++)
        if (drifts->items[i].refuses && is_among(&objects, drifts->items[i].object))
            vec_push(arena, ret_own, drifts->items[i]);
    return true;
}

static bool is_of_a_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}

/* Whole, in whatever quotes the server's language has. */
static bool has_name(const char *text, const char *name) {
    size_t len = strlen(name);

    for (const char *at = strstr(text, name); at != NULL && len > 0; at = strstr(at + 1, name))
        if ((at == text || !is_of_a_name(at[-1])) && !is_of_a_name(at[len]))
            return true;
    return false;
}

bool drift_explains(const Drift *drift, const char *sqlstate, const char *message) {
    static const char *const null = "23502", *const check = "23514", *const unique = "23505", *const apart = "23P01";
    bool is_value = strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "42", 2) == 0;

    if (!drift->refuses)
        return false;
    if (is_value)
        return true;
    switch (drift->kind) {
    case DRIFT_OBJECT: /* a domain's NOT NULL, a partition's bound */
        return strcmp(sqlstate, null) == 0 || strcmp(sqlstate, check) == 0;
    case DRIFT_COLUMN:
        return strcmp(sqlstate, null) == 0 && has_name(message, drift->part);
    case DRIFT_RULE:
        return (strcmp(sqlstate, check) == 0 || strcmp(sqlstate, unique) == 0 || strcmp(sqlstate, apart) == 0) &&
               has_name(message, drift->part);
    }
    UNREACHABLE();
}
