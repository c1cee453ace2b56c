/*
 * Both catalogues, sorted and merged.
 *
 * Each side is one query (drift_read.c), each fact one line of it. Facts of one relation stand together, the relation
 * itself first: when it is on one side only, that is one difference, and its columns and indexes are not told. Facts
 * that both sides have are compared attribute by attribute.
 *
 * The order of columns is a fact of its own, told only when the columns agree otherwise: an INSERT without a column
 * list would not. Of a table that inherits it is a note: columns that a parent got later stand behind the child's own
 * there, and no statement can make a table like that (pg_dump's do not).
 *
 * Everything else that a database has is compared by drift_objects.c. Not compared at all: tablespaces, statistics
 * targets, storage and compression of columns, foreign servers and user mappings, security labels, the settings of the
 * database (they are taken over after the promote), and what the promote makes at OPEN as the source has it then
 * (promote/waiting.c): triggers, rules, policies, row level security, event triggers, publications.
 */
#include "engine/ddl/drift_internal.h"

#include "engine/ddl/drift_objects.h"
#include "pg/quote.h"

#include <pthread.h>
#include <string.h>

typedef struct AttrSpec {
    const char *label; /* NULL = not compared */
    bool is_expression;
} AttrSpec;

typedef struct KindSpec {
    const char *label; /* in front of the part's name, "" = the relation itself */
    AttrSpec attrs[FACT_ATTRS];
} KindSpec;

static const KindSpec kinds[] = {
    [FACT_RELATION] = {"",
                       {[RELATION_KIND] = {"it"},
                        [RELATION_PERSISTENCE] = {"persistence"},
                        [RELATION_PARENT] = {"parent"},
                        [RELATION_BOUND] = {"partition bound", true},
                        [RELATION_KEY] = {"partition key", true}}},
    [FACT_TYPE] = {"",
                   {[TYPE_KIND] = {"it"},
                    [TYPE_LABELS] = {"list of labels"},
                    [TYPE_BASE] = {"base type"},
                    [TYPE_NOT_NULL] = {"NOT NULL"},
                    [TYPE_DEFAULT] = {"default", true},
                    [TYPE_COLLATION] = {"collation"}}},
    [FACT_COLUMN] = {"column",
                     {[COLUMN_TYPE] = {""},
                      [COLUMN_COLLATION] = {"collation"},
                      [COLUMN_NOT_NULL] = {"NOT NULL"},
                      [COLUMN_GENERATED] = {"generated"},
                      [COLUMN_IDENTITY] = {"identity"},
                      [COLUMN_DEFAULT] = {"default", true}}},
    [FACT_ORDER] = {"", {[DEFINITION] = {"order of columns"}}},
    [FACT_CONSTRAINT] = {"constraint", {[DEFINITION] = {"", true}}},
    [FACT_INDEX] = {"index", {[DEFINITION] = {"", true}}},
};

typedef struct Comparing {
    Arena *arena;
    DriftVec drifts;
    const Fact *alone;   /* the relation whose facts are not told: it is on one side only */
    const Fact *columns; /* the relation whose columns differ */
} Comparing;

static bool same_relation(const Fact *a, const Fact *b) {
    return a != NULL && strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

/* attr: which one differs; -1: it is on one side only. */
enum { ON_ONE_SIDE = -1 };

static bool column_refuses(const Fact *source, const Fact *dest, int attr) {
    if (attr == ON_ONE_SIDE) /* what only the destination has gets its default */
        return source != NULL || (*dest->attrs[COLUMN_NOT_NULL] != '\0' && *dest->attrs[COLUMN_DEFAULT] == '\0');
    return attr == COLUMN_TYPE || attr == COLUMN_GENERATED ||
           (attr == COLUMN_NOT_NULL && *dest->attrs[COLUMN_NOT_NULL] != '\0');
}

/* A value of a composite type is its attributes' values one after the other, without names: each has its place. */
static bool attribute_refuses(int attr) {
    return attr == ON_ONE_SIDE || attr == COLUMN_TYPE;
}

/* May the destination refuse, lose a part of, or take for another, what rows of the source have? */
static bool refuses(const Fact *source, const Fact *dest, int attr) {
    bool of_type = source != NULL ? source->of_type : dest->of_type;

    switch (source != NULL ? source->kind : dest->kind) {
    case FACT_RELATION:
        return attr != RELATION_PERSISTENCE && attr != RELATION_PARENT;
    case FACT_TYPE:
        return attr != TYPE_DEFAULT;
    case FACT_COLUMN:
        return of_type ? attribute_refuses(attr) : column_refuses(source, dest, attr);
    case FACT_ORDER:
        return of_type;
    case FACT_CONSTRAINT: /* foreign keys are not checked while following */
        return dest != NULL && strncmp(dest->attrs[DEFINITION], "FOREIGN KEY", strlen("FOREIGN KEY")) != 0;
    case FACT_INDEX:
        return dest != NULL && strncmp(dest->attrs[DEFINITION], "CREATE UNIQUE", strlen("CREATE UNIQUE")) == 0;
    }
    UNREACHABLE();
}

static bool is_inherited_order(const Fact *source, const Fact *dest) {
    return source != NULL && dest != NULL && source->kind == FACT_ORDER && *source->attrs[ORDER_INHERITS] != '\0' &&
           *dest->attrs[ORDER_INHERITS] != '\0';
}

static void add(Comparing *comparing, const Fact *source, const Fact *dest, int attr, const char *message,
                const char *fix) {
    const Fact *about = source != NULL ? source : dest;
    const char *name = sql_display(comparing->arena, about->schema, about->name);
    Drift drift = {
        .kind = about->kind == FACT_COLUMN                                    ? DRIFT_COLUMN
                : about->kind == FACT_CONSTRAINT || about->kind == FACT_INDEX ? DRIFT_RULE
                                                                              : DRIFT_OBJECT,
        .table = source != NULL && !source->of_type ? source->oid : 0,
        .object = about->of_type ? arena_printf(comparing->arena, "type %s", name) : name,
        .part = arena_strdup(comparing->arena, about->part),
        .message = message,
        .fix = fix,
        .note = is_inherited_order(source, dest),
        .refuses = refuses(source, dest, attr),
    };

    vec_push(comparing->arena, &comparing->drifts, drift);
    if (about->kind == FACT_COLUMN)
        comparing->columns = about;
}

static const char *part_name(Arena *arena, const Fact *fact) {
    const char *label = kinds[fact->kind].label;

    return *label == '\0' ? "" : arena_printf(arena, "%s %s", label, fact->part);
}

/* --- One side only ------------------------------------------------------------------------------------------------ */

static void add_alone(Comparing *comparing, const Fact *fact, bool on_source) {
    Arena *arena = comparing->arena;
    const char *side = on_source ? "is missing on the destination" : "is on the destination only";
    const char *fix = on_source ? drift_fix_missing(arena, fact) : drift_fix_extra(arena, fact);
    const Fact *source = on_source ? fact : NULL, *dest = on_source ? NULL : fact;

    if (fact->kind == FACT_ORDER || same_relation(comparing->alone, fact))
        return;
    if (fact->kind != FACT_RELATION && fact->kind != FACT_TYPE) {
        add(comparing, source, dest, ON_ONE_SIDE, arena_printf(arena, "%s %s", part_name(arena, fact), side), fix);
        return;
    }
    comparing->alone = fact;
    add(comparing, source, dest, ON_ONE_SIDE, arena_printf(arena, "%s %s", fact->attrs[0], side), fix);
}

/* --- Both sides --------------------------------------------------------------------------------------------------- */

static const char *shown(const char *value) {
    return *value == '\0' ? "none" : value;
}

static const char *changed_message(Arena *arena, const Fact *source, const Fact *dest, int attr) {
    const char *label = kinds[source->kind].attrs[attr].label;
    const char *part = part_name(arena, source);
    const char *subject = arena_printf(arena, "%s%s%s", part, *part != '\0' && *label != '\0' ? ": " : "", label);

    if (source->kind == FACT_COLUMN && attr == COLUMN_NOT_NULL)
        return arena_printf(arena, "%s is NOT NULL on the %s only", part,
                            *source->attrs[attr] != '\0' ? "source" : "destination");
    return arena_printf(arena, "%s is %s on the source, %s on the destination%s", subject, shown(source->attrs[attr]),
                        shown(dest->attrs[attr]),
                        is_inherited_order(source, dest)
                            ? ": as an inherited table is restored; SELECT *, and INSERT or COPY without a list of"
                              " columns, have that order there"
                            : "");
}

static bool same_attr(const KindSpec *spec, const Fact *source, const Fact *dest, int attr) {
    const char *a = source->attrs[attr], *b = dest->attrs[attr];

    if (spec->attrs[attr].label == NULL)
        return true;
    return spec->attrs[attr].is_expression ? drift_same_text(a, b) : strcmp(a, b) == 0;
}

static void compare_pair(Comparing *comparing, const Fact *source, const Fact *dest) {
    const KindSpec *spec = &kinds[source->kind];

    if (source->kind == FACT_ORDER && same_relation(comparing->columns, source))
        return;
    for (int attr = 0; attr < FACT_ATTRS; attr++)
        if (!same_attr(spec, source, dest, attr))
            add(comparing, source, dest, attr, changed_message(comparing->arena, source, dest, attr),
                drift_fix_changed(comparing->arena, source, dest, attr));
}

static void merge(Comparing *comparing, const FactList *source, const FactList *dest) {
    size_t s = 0, d = 0;

    while (s < source->len || d < dest->len) {
        int order = 0;

        if (s == source->len)
            order = 1;
        else
            order = d == dest->len ? -1 : fact_compare(&source->items[s], &dest->items[d]);
        if (order < 0)
            add_alone(comparing, &source->items[s++], true);
        else if (order > 0)
            add_alone(comparing, &dest->items[d++], false);
        else
            compare_pair(comparing, &source->items[s++], &dest->items[d++]);
    }
}

/* --- Both at a time ----------------------------------------------------------------------------------------------- */

typedef struct Side {
    DbConn *conn;
    const DriftParams *params;
    Arena *arena;
    ObjectsWay way;
    FactList facts;
    DbResult *rows;
    ObjectFacts objects;
    DbResult *object_rows;
    bool ok;
    Error err;
} Side;

static void *read_side(void *context) {
    Side *side = context;

    side->ok = drift_read(side->conn, side->arena, side->params, &side->facts, &side->rows, &side->err) &&
               (!side->params->objects || objects_read(side->conn, side->arena, side->params, &side->way,
                                                       &side->objects, &side->object_rows, &side->err));
    return NULL;
}

static void side_fini(Side *side) {
    db_result_free(side->rows);
    db_result_free(side->object_rows);
    arena_free(side->arena);
}

bool drift_error_passes(const Error *err) {
    /* Cache lookups and relations that "could not be opened" have the code of an internal error; the others say that a
     * table, column, object, function or schema does not exist. */
    static const char *const passing[] = {"XX000", "42P01", "42703", "42704", "42883", "3F000"};

    for (size_t i = 0; i < COUNT_OF(passing); i++)
        if (strcmp(err->sqlstate, passing[i]) == 0)
            return true;
    return err->reason == REASON_LOCK_BUSY;
}

bool drift_compare(DbConn *source, DbConn *dest, Arena *arena, const DriftParams *params, DriftVec *ret_drifts,
                   Error *err) {
    enum { MAJOR = 10000 };
    const ObjectsWay way = {
        .printed = db_version(source) / MAJOR == db_version(dest) / MAJOR,
        .as_utf8 = !db_is_sql_ascii(source) && !db_is_sql_ascii(dest),
    };
    CLEANUP(side_fini) Side here = {.conn = source, .params = params, .arena = arena_new(), .way = way};
    CLEANUP(side_fini) Side there = {.conn = dest, .params = params, .arena = arena_new(), .way = way};
    Comparing comparing = {.arena = arena};
    pthread_t thread;

    /* The caller has nothing to gain from two waits one after the other. */
    bool threaded = pthread_create(&thread, NULL, read_side, &there) == 0;
    read_side(&here);
    if (threaded)
        (void)pthread_join(thread, NULL);
    else
        read_side(&there);
    if (!here.ok || !there.ok) {
        *err = here.ok ? there.err : here.err;
        return false;
    }
    drift_filter(params, &here.facts);
    drift_filter(params, &there.facts);
    merge(&comparing, &here.facts, &there.facts);
    objects_compare(arena, params, &here.objects, &there.objects, &comparing.drifts);
    *ret_drifts = comparing.drifts;
    return true;
}
