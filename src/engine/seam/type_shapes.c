/* What types are made of (type_shapes.h). */
#include "engine/seam/type_shapes.h"

#include "common/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MULTIRANGE_VERSION = 140000 };

/* From types that columns have to all that those are made of. UNION ends at what was met before. A label's xmin tells
 * that it was renamed and named back; a composite's attributes cannot be changed and changed back without another
 * number or type, and their names are not in the rows. */
/* clang-format off */
#define TYPES_SQL \
    "WITH RECURSIVE used (type) AS (SELECT DISTINCT a.atttypid FROM pg_catalog.pg_attribute a" \
    "  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'" \
    "  WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid" TYPE_IS_MADE ")," \
    " made_of (start, type) AS (SELECT type, type FROM used UNION SELECT m.start, v.type" \
    "  FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.type, LATERAL (" \
    "   SELECT t.typelem UNION ALL SELECT t.typbasetype" \
    "   UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a" \
    "    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped" \
    "   UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid%s)) AS v (type)" \
    "  WHERE v.type" TYPE_IS_MADE ")" \
    " SELECT m.start, e.oid, pg_catalog.md5(e.xmin || ' ' || e.enumlabel)" \
    "  FROM made_of m JOIN pg_catalog.pg_enum e ON e.enumtypid = m.type" \
    " UNION ALL SELECT m.start, 0, pg_catalog.md5(pg_catalog.string_agg(a.attnum || ' ' || a.attname || ' '" \
    "   || a.atttypid || ' ' || a.atttypmod, ',' ORDER BY a.attnum))" \
    "  FROM made_of m JOIN pg_catalog.pg_type t ON t.oid = m.type" \
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped" \
    "  GROUP BY m.start, m.type ORDER BY 1, 2, 3"
/* clang-format on */

typedef struct Reading {
    Arena *arena;
    VEC(TypePart) parts;
} Reading;

static bool read_part(const DbResult *row, void *context, Error *err) {
    Reading *reading = context;
    TypePart part = {
        .type = (uint32_t)db_int64(row, 0, 0),
        .label = (uint32_t)db_int64(row, 0, 1),
        .hash = arena_strdup(reading->arena, db_text(row, 0, 2)),
    };

    (void)err;
    vec_push(reading->arena, &reading->parts, part);
    return true;
}

bool type_shapes_read(DbConn *source, Arena *arena, TypeShapes *ret_types, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Reading reading = {.arena = arena};
    const char *multirange = db_version(source) >= MULTIRANGE_VERSION ? ", r.rngmultitypid" : "";

    if (!db_query_each(source, arena_printf(scratch, TYPES_SQL, multirange), 0, NULL, read_part, &reading, err))
        return error_wrap(err, "reading what the types of the source's tables are made of");
    *ret_types = (TypeShapes){.items = reading.parts.items, .count = reading.parts.len};
    return true;
}

/* The first part of that type, or where it would be. */
static size_t find_type(const TypeShapes *types, uint32_t type) {
    size_t low = 0, high = types->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (types->items[middle].type < type)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of what the types in `list` are made of, without labels beyond `limit`. False = of nothing. */
static bool hash_types(const TypeShapes *types, const char *list, uint32_t limit, uint32_t *ret_last,
                       uint64_t *ret_hash) {
    uint64_t hash = hash_text64("");
    bool any = false;

    *ret_last = 0;
    for (const char *at = list; *at != '\0';) {
        char *end = NULL;
        uint32_t type = (uint32_t)strtoul(at, &end, 10);

        for (size_t i = find_type(types, type); i < types->count && types->items[i].type == type; i++) {
            const TypePart *part = &types->items[i];

            any = true;
            if (part->label > limit)
                continue;
            *ret_last = MAX(*ret_last, part->label);
            hash = hash_text64_more(hash, part->hash);
        }
        at = *end == ',' ? end + 1 : end;
    }
    *ret_hash = hash;
    return any;
}

const char *type_shapes_note(const TypeShapes *types, Arena *arena, const char *list) {
    uint32_t last = 0;
    uint64_t hash = 0;

    if (!hash_types(types, list, UINT32_MAX, &last, &hash))
        return "";
    return arena_printf(arena, "%" PRIu32 " %016" PRIx64, last, hash);
}

/* The greatest label among those up to the one noted is that one, unless it is gone: then the hash differs, too. */
bool type_shapes_hold(const TypeShapes *types, Arena *arena, const char *list, const char *noted) {
    uint32_t last = 0;
    uint64_t hash = 0;

    if (!hash_types(types, list, (uint32_t)strtoul(noted, NULL, 10), &last, &hash))
        return noted[0] == '\0';
    return strcmp(arena_printf(arena, "%" PRIu32 " %016" PRIx64, last, hash), noted) == 0;
}
