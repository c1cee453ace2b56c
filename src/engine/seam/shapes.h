/*
 * What each table of the source was when it was copied, and which of them have become something else since.
 *
 * The stream says what happens to rows, not what happens to tables: one that is renamed, made anew under its old name,
 * rewritten by an ALTER TABLE, or was not published for a while looks like any other in it, and in a comparison of both
 * catalogues, too. So the ledger's line of a table keeps its shape, read under the snapshot it was copied under:
 *
 *   columns   a hash of its columns, their numbers included: a column dropped and added again is another one.
 *             Where they are of types that somebody made, also what those are made of (type_shapes.h)
 *   altered   a hash of which transactions last changed its columns' lines in the catalogue. Together with the file
 *             number it tells a rewrite by ALTER TABLE from TRUNCATE, VACUUM FULL and CLUSTER. PostgreSQL 10 publishes
 *             no TRUNCATE: there each new file makes a table suspect
 *   keyed     whether its updates and deletes were published, without a break
 *
 * Besides: where the inserts are published by a list, whether it is in that now.
 *
 * What differs becomes suspect: it is copied again, or compared under the fence.
 */
#pragma once

#include "engine/seam/seam.h"
#include "engine/seam/type_shapes.h"

/* Of the lines `a` of pg_attribute that a table has; the capture of definitions says the same (ddl/capture_sql.c). */
#define SHAPE_COLUMNS_SQL(generated)                                                                                   \
    "pg_catalog.md5(pg_catalog.string_agg(a.attnum || ' ' || a.attname || ' ' || a.atttypid || ' ' || a.atttypmod"     \
    " || ' ' || a.attcollation || ' ' || " generated ", ',' ORDER BY a.attnum))"
#define SHAPE_ALTERED_SQL "pg_catalog.md5(pg_catalog.string_agg(a.xmin::text, ',' ORDER BY a.attnum))"

typedef struct Shape {
    uint32_t oid, filenode;
    const char *schema, *name, *columns, *altered;
    const char *types; /* of its columns: oids of those that somebody made */
    bool keyed;
    bool is_unlisted;   /* its inserts are not published, though they could be */
    bool is_extensions; /* it belongs to an extension */
} Shape;

typedef struct Shapes {
    Shape *items; /* by oid */
    size_t count;
    TypeShapes types;
} Shapes;

/* Of all tables, or of one. In a transaction with a snapshot: as that shows them. */
NODISCARD bool shapes_read(DbConn *source, Arena *arena, const SeamNames *names, uint32_t only, Shapes *ret_shapes,
                           Error *err);

/* Into the lines of a snapshot that have none yet. Before the first of their rows is copied. */
NODISCARD bool shapes_note(DbConn *dest, const Ledger *ledger, const Shapes *shapes, int32_t snapshot, Error *err);
/* Of the only one in `shapes`, which is copied again, in the caller's transaction. */
NODISCARD bool shape_renew(DbConn *dest, const Shapes *shapes, Error *err);

/* A repeated command led to this shape, as the capture told it. In the caller's transaction. A table that came by a
 * command has none, and one that is being copied keeps the one it is copied with. */
NODISCARD bool shape_follow(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *shape,
                            Error *err);

typedef struct ShapesCheck {
    DbConn *source, *dest; /* idle */
    const Ledger *ledger;
    const SeamNames *names;
    bool definitions; /* compare names and columns, too: nobody repeats what is done to them on the destination.
                         Without: types only, and only once a command on a type was not repeated */
    bool repeated; /* compare them too: what was done to them was repeated up to now, and the ledger has what it led to
                      (shape_follow()). Only when nothing is left to be applied; schemas are not compared, whose
                      renaming tells of no table */
    bool new_tables;                                                     /* what the ledger does not have is suspect */
    bool (*wanted)(void *context, const char *schema, const char *name); /* for those */
    void *context;
    void (*found)(void *context, const char *table, const char *why); /* may be NULL */
} ShapesCheck;
/* Marks what has changed as suspect, and forgets that a table is keyed when it is not published now. *ret_marked: how
 * many became suspect. */
NODISCARD bool shapes_check(const ShapesCheck *check, size_t *ret_marked, Error *err);
