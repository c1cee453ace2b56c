/*
 * Shapes of tables, in the ledger and now (shapes.h).
 *
 * Publishing and looking: whoever adds tables to the publication of updates looks before and after. Before: what is not
 * in it is forgotten to be keyed. After: what is in it, and not known as keyed, lacks updates. A table that leaves and
 * comes back between two looks can only do so by our own hand, or by the capture's, which tells it in the stream.
 */
#include "engine/seam/shapes.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/seam/seam_internal.h"
#include "pg/quote.h"

#include <string.h>

enum { GENERATED_VERSION = 120000, PARTS_MAX = 64 << 20 };

/* ---- Reading ---- */

/* pg_publication_tables would say what is published now, whatever the transaction's snapshot shows. */
static const char *read_sql(Arena *arena, int version, uint32_t only) {
    return arena_printf(
        arena,
        "WITH RECURSIVE published (name, oid) AS ("
        " SELECT p.pubname, r.prrelid FROM pg_catalog.pg_publication_rel r"
        "  JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname IN ($1, $2)"
        " UNION SELECT b.name, i.inhrelid FROM published b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid"
        "  JOIN pg_catalog.pg_class l ON l.oid = i.inhrelid WHERE l.relispartition),"
        " columns AS (SELECT a.attrelid, " SHAPE_COLUMNS_SQL(
            "%s") " AS hash, " SHAPE_ALTERED_SQL " AS altered,"
                  "  pg_catalog.string_agg(a.atttypid::text, ',' ORDER BY a.attnum)"
                  "   FILTER (WHERE a.atttypid" TYPE_IS_MADE ") AS types"
                  "  FROM pg_catalog.pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid)"
                  " SELECT c.oid, c.relfilenode, n.nspname, c.relname, coalesce(k.hash, '-'), coalesce(k.altered, '-'),"
                  " c.oid IN (SELECT oid FROM published WHERE name = $1),"
                  " c.relpersistence = 'p' AND c.oid NOT IN (SELECT oid FROM published WHERE name = $2)"
                  "  AND EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.pubname = $2 AND NOT p.puballtables),"
                  " EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'"
                  "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass), coalesce(k.types, '')"
                  " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                  " LEFT JOIN columns k ON k.attrelid = c.oid"
                  " WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
                  " AND n.nspname NOT IN ('information_schema', 'pgcrane')%s ORDER BY c.oid",
        version >= GENERATED_VERSION ? "a.attgenerated::text" : "''",
        only == 0 ? "" : arena_printf(arena, " AND c.oid = %u", only));
}

typedef struct Reading {
    Arena *arena;
    VEC(Shape) shapes;
} Reading;

static bool read_shape(const DbResult *row, void *context, Error *err) {
    Reading *reading = context;
    Arena *arena = reading->arena;
    Shape shape = {
        .oid = (uint32_t)db_int64(row, 0, 0),
        .filenode = (uint32_t)db_int64(row, 0, 1),
        .schema = arena_strdup(arena, db_text(row, 0, 2)),
        .name = arena_strdup(arena, db_text(row, 0, 3)),
        .columns = arena_strdup(arena, db_text(row, 0, 4)),
        .altered = arena_strdup(arena, db_text(row, 0, 5)),
        .keyed = db_bool(row, 0, 6),
        .is_unlisted = db_bool(row, 0, 7),
        .is_extensions = db_bool(row, 0, 8),
        .types = arena_strdup(arena, db_text(row, 0, 9)),
    };

    (void)err;
    vec_push(arena, &reading->shapes, shape);
    return true;
}

bool shapes_read(DbConn *source, Arena *arena, const SeamNames *names, uint32_t only, Shapes *ret_shapes, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Reading reading = {.arena = arena};
    const char *const params[] = {names->publication_keys, names->publication_all};

    if (!db_query_each(source, read_sql(scratch, db_version(source), only), 2, params, read_shape, &reading, err))
        return error_wrap(err, "reading the shapes of the source's tables");
    *ret_shapes = (Shapes){.items = reading.shapes.items, .count = reading.shapes.len};
    return type_shapes_read(source, arena, &ret_shapes->types, err);
}

/* ---- Noting ---- */

/* "HASH", or "HASH LABEL HASH": the second part is of its types. */
static const char *noted_columns(Arena *arena, const Shapes *shapes, const Shape *shape) {
    const char *types = type_shapes_note(&shapes->types, arena, shape->types);

    return types[0] == '\0' ? shape->columns : arena_printf(arena, "%s %s", shape->columns, types);
}

static bool note_lines(DbConn *dest, const Shapes *shapes, int32_t snapshot, Error *err) {
    CLEANUP(buf_fini) Buf sql;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    bool any = false;

    buf_init(&sql, PARTS_MAX);
    buf_append_str(&sql, "UPDATE pgcrane.relation r SET columns = s.columns, altered = s.altered,"
                         " filenode = s.filenode, keyed = s.keyed FROM (VALUES ");
    for (size_t i = 0; i < shapes->count; i++) {
        const Shape *shape = &shapes->items[i];

        buf_printf(&sql, "%s(%u::oid, %u::oid, '%s', '%s', %s)", any ? ", " : "", shape->oid, shape->filenode,
                   noted_columns(arena, shapes, shape), shape->altered, shape->keyed ? "true" : "false");
        any = true;
    }
    buf_printf(&sql,
               ") AS s (oid, filenode, columns, altered, keyed)"
               " WHERE r.oid = s.oid AND r.columns IS NULL AND r.snapshot = %d",
               (int)snapshot);
    return !any || (buf_ok(&sql, "the shapes of tables", err) && db_exec(dest, sql.data, err));
}

bool shapes_note(DbConn *dest, const Ledger *ledger, const Shapes *shapes, int32_t snapshot, Error *err) {
    if (!ledger_begin(dest, ledger, err))
        return false;
    if (note_lines(dest, shapes, snapshot, err) && ledger_commit(dest, err))
        return failpoint("seam.shapes_noted", err);
    db_rollback(dest);
    return error_wrap(err, "noting the shapes of tables");
}

bool shape_renew(DbConn *dest, const Shapes *shapes, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Shape *shape = &shapes->items[0];
    const char *const params[] = {arena_printf(arena, "%u", shape->oid), arena_printf(arena, "%u", shape->filenode),
                                  noted_columns(arena, shapes, shape), shape->altered, shape->keyed ? "true" : "false"};

    return db_exec_rows(dest,
                        "UPDATE pgcrane.relation SET filenode = $2::oid, columns = $3, altered = $4,"
                        " keyed = $5::boolean WHERE oid = $1::oid",
                        5, params, 1, err);
}

bool shape_follow(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *shape, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const params[] = {arena_printf(arena, "%u", oid), schema, name, shape};

    return db_query(dest,
                    "UPDATE pgcrane.relation r SET schema_name = $2, table_name = $3,"
                    " filenode = pg_catalog.split_part($4, ' ', 1)::oid, altered = pg_catalog.split_part($4, ' ', 3),"
                    " columns = pg_catalog.regexp_replace(r.columns, '^[^ ]*', pg_catalog.split_part($4, ' ', 2))"
                    " WHERE r.oid = $1::oid AND r.columns IS NOT NULL"
                    " AND NOT EXISTS (SELECT FROM pgcrane.chunk c WHERE c.relation = r.oid AND c.rows IS NULL)",
                    4, params, NULL, err) ||
           error_wrap(err, "noting the shape of a table");
}

/* ---- Checking ---- */

typedef struct Line {
    uint32_t oid, filenode;
    const char *schema, *name, *columns, *altered;
    const char *types; /* NULL = not noted */
    bool keyed, is_suspect;
} Line;

typedef struct Looking {
    const ShapesCheck *check;
    Arena *arena;
    VEC(Line) lines; /* by oid */
    Shapes shapes;
    Buf sql; /* what is to be done in the ledger */
    size_t marked;
    bool truncates_unseen; /* not in the stream: a new file is the only trace */
    bool lacks_types;      /* a command on a type was not repeated */
} Looking;

static bool read_line(const DbResult *row, void *context, Error *err) {
    Looking *looking = context;
    Arena *arena = looking->arena;
    Line line = {
        .oid = (uint32_t)db_int64(row, 0, 0),
        .filenode = (uint32_t)db_int64(row, 0, 1),
        .schema = arena_strdup(arena, db_text(row, 0, 2)),
        .name = arena_strdup(arena, db_text(row, 0, 3)),
        .columns = arena_strdup(arena, db_text(row, 0, 4)), /* "" = none */
        .altered = arena_strdup(arena, db_text(row, 0, 5)),
        .keyed = db_bool(row, 0, 6),
        .is_suspect = db_bool(row, 0, 7),
    };
    char *types = strchr(line.columns, ' ');

    (void)err;
    if (types != NULL)
        *types++ = '\0';
    line.types = types != NULL ? types : line.columns[0] != '\0' ? "" : NULL;
    vec_push(arena, &looking->lines, line);
    return true;
}

static bool types_hold(const Looking *looking, const Line *line, const Shape *shape) {
    const TypeShapes *types = &looking->shapes.types;

    if (line->types == NULL) /* it came by a command: of what types it was at first, nobody noted */
        return type_shapes_note(types, looking->arena, shape->types)[0] == '\0';
    return type_shapes_hold(types, looking->arena, shape->types, line->types);
}

static const char *why_types(const Looking *looking, const Line *line, const Shape *shape) {
    if (looking->check->definitions && line->columns[0] != '\0' && !types_hold(looking, line, shape))
        return "a type of its columns was changed on the source";
    if (looking->lacks_types && !types_hold(looking, line, shape))
        return "a type of its columns may have been changed on the source by a command that was not repeated";
    return NULL;
}

/* NULL = it is what it was. */
static const char *why_suspect(const Looking *looking, const Line *line, const Shape *shape) {
    bool definitions = looking->check->definitions || looking->check->repeated;

    if (definitions && line->name[0] != '\0' &&
        ((looking->check->definitions && strcmp(line->schema, shape->schema) != 0) ||
         strcmp(line->name, shape->name) != 0))
        return "it was renamed on the source";
    if (definitions && line->columns[0] != '\0' && strcmp(line->columns, shape->columns) != 0)
        return "its columns were changed on the source";
    if (definitions && line->columns[0] != '\0' && strcmp(line->altered, shape->altered) != 0 &&
        line->filenode != shape->filenode)
        return "it was rewritten by ALTER TABLE on the source";
    if (looking->truncates_unseen && line->columns[0] != '\0' && line->filenode != shape->filenode)
        return "it was truncated or rewritten on the source, and PostgreSQL 10 publishes no TRUNCATE";
    const char *types = why_types(looking, line, shape);
    if (types != NULL)
        return types;
    /* Taken out by whoever saw it first (publish.c): that its line says "keyed" is what tells of it, after a crash,
     * too. */
    if (line->keyed && !shape->keyed && line->columns[0] != '\0')
        return "it lost its replica identity while it was followed";
    if (!line->keyed && shape->keyed)
        return "its updates and deletes were not published all the time";
    if (shape->is_unlisted && !shape->is_extensions && line->columns[0] != '\0')
        return "somebody took it out of the publication of inserts";
    return NULL;
}

static void mark(Looking *looking, const Shape *shape, const char *why) {
    const ShapesCheck *check = looking->check;

    looking->marked++;
    log_info("suspect table=%s.%s: %s", shape->schema, shape->name, why);
    if (check->found != NULL)
        check->found(check->context, sql_display(looking->arena, shape->schema, shape->name), why);
}

static void look_at_known(Looking *looking, const Line *line, const Shape *shape) {
    const char *why = line->is_suspect ? NULL : why_suspect(looking, line, shape);

    if (line->keyed && !shape->keyed)
        buf_printf(&looking->sql, "UPDATE pgcrane.relation SET keyed = false WHERE oid = %u;", line->oid);
    if (why == NULL)
        return;
    buf_printf(&looking->sql, "UPDATE pgcrane.relation SET suspect = %s WHERE oid = %u AND suspect IS NULL;",
               sql_literal(looking->arena, why), line->oid);
    mark(looking, shape, why);
}

static bool is_new(const Looking *looking, const Shape *shape) {
    const ShapesCheck *check = looking->check;

    return check->new_tables && !shape->is_extensions && check->wanted(check->context, shape->schema, shape->name);
}

/* Like relation_add_suspect(), of many. */
static void look_at_new(Looking *looking, const Shape *shape) {
    const char *why = "it was made on the source after the copy";

    if (!is_new(looking, shape))
        return;
    buf_printf(&looking->sql,
               "INSERT INTO pgcrane.snapshot (id, snapshot_id, picture, system_identifier, postmaster_start,"
               " keeper_pid, w) SELECT 0, '', '3:3:', system_identifier, '', '', l0 FROM pgcrane.stream"
               " ON CONFLICT DO NOTHING;"
               "INSERT INTO pgcrane.relation (oid, snapshot, schema_name, table_name, filenode, columns_hash, suspect)"
               " VALUES (%u, 0, %s, %s, 0, '', %s) ON CONFLICT DO NOTHING;",
               shape->oid, sql_literal(looking->arena, shape->schema), sql_literal(looking->arena, shape->name),
               sql_literal(looking->arena, why));
    mark(looking, shape, why);
}

static void merge(Looking *looking) {
    const Shapes *shapes = &looking->shapes;
    size_t l = 0;

    for (size_t i = 0; i < shapes->count; i++) {
        const Shape *shape = &shapes->items[i];

        while (l < looking->lines.len && looking->lines.items[l].oid < shape->oid)
            l++;
        if (l < looking->lines.len && looking->lines.items[l].oid == shape->oid)
            look_at_known(looking, &looking->lines.items[l], shape);
        else
            look_at_new(looking, shape);
    }
}

static bool write_marks(const Looking *looking, Error *err) {
    DbConn *dest = looking->check->dest;

    if (looking->sql.len == 0)
        return true;
    if (!buf_ok(&looking->sql, "marks of tables", err) || !ledger_begin(dest, looking->check->ledger, err))
        return false;
    if (db_exec(dest, looking->sql.data, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return false;
}

/* A table's own commands make it suspect when they are not repeated. What is about a type names no table; one that
 * could not be captured may be any. Whether a type was changed, its shape tells. */
static bool read_lacks_types(Looking *looking, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (looking->check->definitions)
        return true;
    if (!db_query(looking->check->dest,
                  "SELECT EXISTS (SELECT FROM pgcrane.unrepeated WHERE tag IN ('ALTER TYPE', 'ALTER TABLE'))", 0, NULL,
                  &row, err))
        return error_wrap(err, "reading which commands were not repeated");
    looking->lacks_types = db_bool(row, 0, 0);
    return true;
}

static bool look(Looking *looking, Error *err) {
    const ShapesCheck *check = looking->check;

    if (!read_lacks_types(looking, err) ||
        !shapes_read(check->source, looking->arena, check->names, 0, &looking->shapes, err) ||
        !db_query_each(check->dest,
                       "SELECT oid, filenode, schema_name, table_name, coalesce(columns, ''), coalesce(altered, ''),"
                       " keyed, suspect IS NOT NULL FROM pgcrane.relation ORDER BY oid",
                       0, NULL, read_line, looking, err))
        return false;
    merge(looking);
    return write_marks(looking, err);
}

bool shapes_check(const ShapesCheck *check, size_t *ret_marked, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Looking looking = {
        .check = check, .arena = arena, .truncates_unseen = db_version(check->source) < SEAM_TRUNCATE_VERSION};

    buf_init(&looking.sql, PARTS_MAX);
    bool ok = look(&looking, err);
    buf_fini(&looking.sql);
    if (!ok)
        return error_wrap(err, "looking for tables that were changed on the source");
    *ret_marked = looking.marked;
    return true;
}
