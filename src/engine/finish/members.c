/*
 * What the source's extensions own, and the destination's do not: it is in no archive, and so nothing else tells of it.
 *
 * pg_dump leaves out what belongs to an extension, since CREATE EXTENSION makes it. That is not so of what was given to
 * one by ALTER EXTENSION ... ADD, by hand or by an update that has no script of its own.
 *
 * Two servers seldom have an extension in the same version, and a later one may lack what an earlier one made. No
 * catalogue says who gave a member to its extension, so what another version lacks is sorted by what it is made of: C
 * functions of the extension's library, and what is made of these (types, operators, aggregates, casts), are taken for
 * the extension's own, in silence. All else is told, with both possible causes: functions in SQL and other languages,
 * views, sequences, other types, C functions of a library that nothing else of the extension is in. Of PostgreSQL's own
 * extensions, in any version of 10 to 19, that tells nothing wrong. What it cannot see: an operator or a cast that
 * somebody made of the extension's own C function.
 *
 * Only reads, both servers: a run that goes on after a crash asks again.
 */
#include "engine/finish/finish.h"

#include <stdlib.h>
#include <string.h>

enum {
    EXTENSION, /* quoted */
    NAME,
    VERSION,
    MEMBER_KEY, /* NULL: it has none */
    KIND,
    OBJECT, /* quoted */
    OF_LIBRARY,
    TABLE_SCHEMA,
    TABLE_NAME, /* NULL: no table */
};

/* More than these of one extension are told as one. */
enum { TOLD_SINGLY = 3 };

/*
 * A key is the same on all servers. It names no schema but the member's own, and not that when it is the extension's,
 * which may be another one on the destination, as may be that of an extension whose types it takes; and 17 has taken
 * to print json where it was pg_catalog.json. What is in pg_catalog no user has made. Row types, arrays and the like
 * are internal to what they belong to, and are members of their own from 17 on. Aggregates are of language internal; a
 * function or a domain may well call what is the extension's, and is somebody's own.
 */
static const char members_sql[] =
    "SELECT pg_catalog.quote_ident(e.extname), e.extname, e.extversion, m.key, m.type, m.identity, m.of_library,"
    " m.schema, m.name FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace x ON x.oid = e.extnamespace"
    " LEFT JOIN LATERAL (SELECT i.type, i.identity, n.nspname AS schema, c.relname AS name,"
    "  pg_catalog.concat_ws(E'\\n', e.extname, i.type, nullif(i.schema, pg_catalog.quote_ident(x.nspname)),"
    "   pg_catalog.regexp_replace(i.identity, '(\"([^\"]|\"\")*\"|[[:alnum:]_$]+)[.]', '', 'g')) AS key,"
    "  i.schema IS NOT DISTINCT FROM 'pg_catalog'"
    "   OR (l.lanname = 'c' AND count(*) OVER (PARTITION BY l.lanname, p.probin) > 1) IS TRUE"
    "   OR EXISTS (SELECT FROM pg_catalog.pg_depend u JOIN pg_catalog.pg_depend f ON f.classid = u.refclassid"
    "    AND f.objid = u.refobjid AND f.deptype = 'e' AND f.refobjid = e.oid AND f.refclassid = d.refclassid"
    "    JOIN pg_catalog.pg_proc q ON q.oid = f.objid JOIN pg_catalog.pg_language b ON b.oid = q.prolang"
    "    WHERE u.classid = d.classid AND u.objid = d.objid AND b.lanname = 'c'"
    "    AND f.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass"
    "    AND coalesce(l.lanname = 'internal', t.typtype <> 'd', true)) AS of_library"
    "  FROM pg_catalog.pg_depend d"
    "  CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i"
    "  LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid"
    "   AND c.relkind IN ('r', 'p')"
    "  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    "  LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.objid"
    "  LEFT JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
    "  LEFT JOIN pg_catalog.pg_type t ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = d.objid"
    "  WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid"
    "  AND d.deptype = 'e' AND i.identity IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o"
    "   WHERE o.classid = d.classid AND o.objid = d.objid AND o.objsubid = 0 AND o.deptype = 'i')) m ON true"
    " ORDER BY e.extname, m.type, m.identity";

typedef struct Keys {
    const char **items; /* sorted */
    size_t count;
} Keys;

static int compare_keys(const void *a, const void *b) {
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static Keys keys_of(Arena *arena, const DbResult *rows) {
    Keys keys = {.items = arena_array(arena, const char *, (size_t)db_rows(rows) + 1)};

    for (int i = 0; i < db_rows(rows); i++)
        if (!db_is_null(rows, i, MEMBER_KEY))
            keys.items[keys.count++] = db_text(rows, i, MEMBER_KEY);
    qsort(keys.items, keys.count, sizeof(*keys.items), compare_keys);
    return keys;
}

static bool has(const Keys *keys, const char *key) {
    return bsearch(&key, keys->items, keys->count, sizeof(*keys->items), compare_keys) != NULL;
}

/* NULL: there is no such extension. */
static const char *version_there(const DbResult *dest, const char *name) {
    for (int i = 0; i < db_rows(dest); i++)
        if (strcmp(db_text(dest, i, NAME), name) == 0)
            return db_text(dest, i, VERSION);
    return NULL;
}

typedef struct Missing {
    int row;
    const char *version; /* of the destination's extension, where that explains it as well; else NULL */
} Missing;
typedef VEC(Missing) MissingVec;

/* A table has rows, so it counts whatever the versions. Under filters nobody can say whose anything else is. */
static bool is_told(const MembersParams *params, const DbResult *source, const DbResult *dest, Missing *missing) {
    int row = missing->row;
    const char *theirs = version_there(dest, db_text(source, row, NAME));

    if (theirs != NULL && strcmp(theirs, db_text(source, row, VERSION)) != 0)
        missing->version = theirs;
    if (!db_is_null(source, row, TABLE_NAME))
        return params->wanted(params->context, db_text(source, row, TABLE_SCHEMA), db_text(source, row, TABLE_NAME));
    return !params->filtered && theirs != NULL && (missing->version == NULL || !db_bool(source, row, OF_LIBRARY));
}

static const char *either(Arena *arena, const DbResult *source, const Missing *missing) {
    return missing->version == NULL
               ? ""
               : arena_printf(arena,
                              " (version %s there, %s on the source: either that no longer has it, or it was given to"
                              " the extension by hand)",
                              missing->version, db_text(source, missing->row, VERSION));
}

/* As ALTER EXTENSION ... DROP wants it: pg_identify_object() has two kinds in other words than SQL. */
static const char *in_sql(Arena *arena, const char *kind, const char *object) {
    static const char for_type[] = "for ", on_language[] = " on language ";
    const char *language = NULL;

    if (strcmp(kind, "foreign-data wrapper") == 0)
        return arena_printf(arena, "FOREIGN DATA WRAPPER %s", object);
    for (const char *at = strstr(object, on_language); at != NULL; at = strstr(at + 1, on_language))
        language = at;
    if (strcmp(kind, "transform") != 0 || language == NULL || strncmp(object, for_type, strlen(for_type)) != 0)
        return arena_printf(arena, "%s %s", kind, object);
    const char *type = object + strlen(for_type);
    return arena_printf(arena, "TRANSFORM FOR %.*s LANGUAGE %s", (int)(language - type), type,
                        language + strlen(on_language));
}

static NotMoved one(Arena *arena, const DbResult *source, const Missing *missing) {
    const char *kind = db_text(source, missing->row, KIND), *object = db_text(source, missing->row, OBJECT);
    const char *extension = db_text(source, missing->row, EXTENSION);

    return (NotMoved){
        .kind = arena_strdup(arena, kind),
        .object = arena_strdup(arena, object),
        .reason = arena_printf(arena,
                               "it belongs to extension %s, and CREATE EXTENSION of the destination does not make"
                               " it%s; %son the source, before a migration: ALTER EXTENSION %s DROP %s;",
                               extension, either(arena, source, missing),
                               missing->version == NULL ? "" : "when it is wanted, make it on the destination; or, ",
                               extension, in_sql(arena, kind, object)),
    };
}

/* Of another version, by which they may all be explained: many functions of one extension at once mostly are. */
static NotMoved many(Arena *arena, const DbResult *source, const Missing *first, size_t count) {
    const char *extension = db_text(source, first->row, EXTENSION), *list = "";

    for (size_t i = 0; i < count; i++) {
        const char *kind = db_text(source, first[i].row, KIND), *object = db_text(source, first[i].row, OBJECT);

        list = arena_printf(arena, "%s%s%s", list, i == 0 ? "" : ", ", in_sql(arena, kind, object));
    }
    return (NotMoved){
        .kind = "members of extension",
        .object = arena_strdup(arena, extension),
        .reason = arena_printf(arena,
                               "%zu that CREATE EXTENSION of the destination does not make (version %s there, %s on the"
                               " source: either that no longer has them, or they were given to the extension by hand);"
                               " those that are wanted, make on the destination; or, on the source, before a migration,"
                               " for each: ALTER EXTENSION %s DROP ...; they are %s",
                               count, first->version, db_text(source, first->row, VERSION), extension, list),
    };
}

/* How many from the first on are one extension's, and may be told as one. Tables are told singly: they have rows. */
static size_t alike(const DbResult *source, const Missing *first, size_t left) {
    size_t count = 0;

    while (count < left && first[count].version != NULL && db_is_null(source, first[count].row, TABLE_NAME) &&
           strcmp(db_text(source, first[count].row, NAME), db_text(source, first->row, NAME)) == 0)
        count++;
    return count;
}

static void tell(Arena *arena, const DbResult *source, const MissingVec *missing, NotMovedVec *not_moved) {
    for (size_t i = 0; i < missing->len;) {
        size_t count = alike(source, &missing->items[i], missing->len - i);
        bool together = count > TOLD_SINGLY;

        vec_push(arena, not_moved,
                 together ? many(arena, source, &missing->items[i], count) : one(arena, source, &missing->items[i]));
        i += together ? count : 1;
    }
}

bool finish_extension_members(DbConn *source, DbConn *dest, const MembersParams *params, Arena *arena,
                              NotMovedVec *not_moved, Error *err) {
    CLEANUP(db_result_freep) DbResult *ours = NULL;
    CLEANUP(db_result_freep) DbResult *theirs = NULL;
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    MissingVec all = {0};

    if (!db_query(source, members_sql, 0, NULL, &ours, err) || !db_query(dest, members_sql, 0, NULL, &theirs, err))
        return error_wrap(err, "comparing what extensions own");
    const Keys keys = keys_of(scratch, theirs);
    for (int i = 0; i < db_rows(ours); i++) {
        Missing missing = {.row = i};

        if (!db_is_null(ours, i, MEMBER_KEY) && !has(&keys, db_text(ours, i, MEMBER_KEY)) &&
            is_told(params, ours, theirs, &missing))
            vec_push(scratch, &all, missing);
    }
    tell(arena, ours, &all, not_moved);
    return true;
}
