/*
 * What the source's extensions own, and the destination's do not: it is in no archive, and so nothing else tells of it.
 *
 * pg_dump leaves out what belongs to an extension, since CREATE EXTENSION makes it. That is not so of what was given to
 * one by ALTER EXTENSION ... ADD, by hand or by an update that has no script of its own.
 *
 * Only reads, both servers: a run that goes on after a crash asks again.
 */
#include "engine/finish/finish.h"

#include <stdlib.h>
#include <string.h>

enum {
    EXTENSION, /* quoted */
    EXTENSION_KEY,
    MEMBER_KEY, /* NULL: it has none */
    KIND,
    OBJECT, /* quoted */
    TABLE_SCHEMA,
    TABLE_NAME, /* NULL: no table */
};

/*
 * Two extensions are alike when version and schema are. A table's key does not name the schema of its extension, which
 * may be another one on the destination. Row types, arrays and the like are internal to what they belong to, and are
 * members of their own from 17 on.
 */
static const char members_sql[] =
    "SELECT pg_catalog.quote_ident(e.extname), e.extname || E'\\n' || e.extversion || E'\\n' || x.nspname,"
    " m.key, m.type, m.identity, m.schema, m.name"
    " FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace x ON x.oid = e.extnamespace"
    " LEFT JOIN LATERAL (SELECT i.type, i.identity, n.nspname AS schema, c.relname AS name,"
    "  e.extname || E'\\n' || i.type || E'\\n' || CASE WHEN c.oid IS NULL THEN i.identity"
    "   WHEN n.oid = e.extnamespace THEN c.relname ELSE n.nspname || E'\\n' || c.relname END AS key"
    "  FROM pg_catalog.pg_depend d"
    "  CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i"
    "  LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid"
    "   AND c.relkind IN ('r', 'p')"
    "  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "  WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid"
    "  AND d.deptype = 'e' AND i.identity IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o"
    "   WHERE o.classid = d.classid AND o.objid = d.objid AND o.objsubid = 0 AND o.deptype = 'i')) m ON true"
    " ORDER BY e.extname, m.type, m.identity";

typedef struct Keys {
    const char **items; /* sorted; of extensions and of members */
    size_t count;
} Keys;

static int compare_keys(const void *a, const void *b) {
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static Keys keys_of(Arena *arena, const DbResult *rows) {
    Keys keys = {.items = arena_array(arena, const char *, (size_t)db_rows(rows) * 2 + 1)};

    for (int i = 0; i < db_rows(rows); i++) {
        keys.items[keys.count++] = db_text(rows, i, EXTENSION_KEY);
        if (!db_is_null(rows, i, MEMBER_KEY))
            keys.items[keys.count++] = db_text(rows, i, MEMBER_KEY);
    }
    qsort(keys.items, keys.count, sizeof(*keys.items), compare_keys);
    return keys;
}

static bool has(const Keys *keys, const char *key) {
    return bsearch(&key, keys->items, keys->count, sizeof(*keys->items), compare_keys) != NULL;
}

/* A table has rows, so it counts whatever the versions. Another version may well lack a function; and under filters
 * nobody can say whose it is. */
static bool is_wanted(const MembersParams *params, const Keys *dest, const DbResult *source, int row) {
    if (!db_is_null(source, row, TABLE_NAME))
        return params->wanted(params->context, db_text(source, row, TABLE_SCHEMA), db_text(source, row, TABLE_NAME));
    return !params->filtered && has(dest, db_text(source, row, EXTENSION_KEY));
}

bool finish_extension_members(DbConn *source, DbConn *dest, const MembersParams *params, Arena *arena,
                              NotMovedVec *not_moved, Error *err) {
    CLEANUP(db_result_freep) DbResult *ours = NULL;
    CLEANUP(db_result_freep) DbResult *theirs = NULL;
    CLEANUP(arena_freep) Arena *scratch = arena_new();

    if (!db_query(source, members_sql, 0, NULL, &ours, err) || !db_query(dest, members_sql, 0, NULL, &theirs, err))
        return error_wrap(err, "comparing what extensions own");
    const Keys keys = keys_of(scratch, theirs);
    for (int i = 0; i < db_rows(ours); i++) {
        if (db_is_null(ours, i, MEMBER_KEY) || has(&keys, db_text(ours, i, MEMBER_KEY)) ||
            !is_wanted(params, &keys, ours, i))
            continue;
        const char *kind = db_text(ours, i, KIND), *object = db_text(ours, i, OBJECT);
        const char *extension = db_text(ours, i, EXTENSION);
        NotMoved item = {
            .kind = arena_strdup(arena, kind),
            .object = arena_strdup(arena, object),
            .reason = arena_printf(arena,
                                   "it belongs to extension %s, and CREATE EXTENSION of the destination does not make"
                                   " it; on the source, before a migration: ALTER EXTENSION %s DROP %s %s;",
                                   extension, extension, kind, object)};

        vec_push(arena, not_moved, item);
    }
    return true;
}
