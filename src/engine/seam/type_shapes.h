/*
 * What the types of a table's columns are made of: the labels of enums, the attributes of composite types, to any depth
 * (arrays, domains, ranges, composites in composites). A table's own columns do not tell: an enum whose labels changed
 * places is the same type, with the same oid, and its rows travel as labels.
 *
 * Noted is "LABEL HASH": of the labels up to that oid. A label that was added has a greater one, and changes nothing of
 * the rows that are there; one that was renamed is another line of the catalogue, also when it was named back since.
 * (When oids have wrapped around, or labels were put between others so often that all were numbered anew, an added
 * label looks like a change: that costs a copy.)
 */
#pragma once

#include "common/vec.h"
#include "pg/query.h"

typedef struct TypePart {
    uint32_t type;  /* of a column */
    uint32_t label; /* its oid; 0 = no label */
    const char *hash;
} TypePart;

typedef struct TypeShapes {
    TypePart *items; /* by type and label */
    size_t count;
} TypeShapes;

/* SQL, behind a type's oid: is it one that somebody made? Those that came with the server do not change. */
#define TYPE_IS_MADE " >= 16384"

/* Of all types that columns of tables have. */
NODISCARD bool type_shapes_read(DbConn *source, Arena *arena, TypeShapes *ret_types, Error *err);

/* `list`: oids of types of columns, with commas between. "" when they are made of nothing that could change. */
const char *type_shapes_note(const TypeShapes *types, Arena *arena, const char *list);
/* Are they still what was noted? */
bool type_shapes_hold(const TypeShapes *types, Arena *arena, const char *list, const char *noted);
