/*
 * Both sides' objects, sorted and merged.
 *
 * The order within a name is that of the kinds: PRESENCE first, so that what is attached to a thing that one side does
 * not have is not told by itself. What a side lacks on purpose (it is not moved) is asked of the caller.
 *
 * Under filters nobody knows whether a new view or function belongs to the tables that are moved: those are noted only.
 */
#include "engine/ddl/drift_objects.h"

#include "engine/ddl/drift_internal.h"
#include "pg/quote.h"

#include <string.h>

typedef enum Level { IGNORED, NOTED, BLOCKS } Level;
enum { PRINTED = 1 << 0 };

typedef struct ObjectAttr {
    const char *label; /* NULL = no such attribute */
    unsigned flags;
} ObjectAttr;

typedef struct ObjectSpec {
    const char *label;
    bool attached;
    Level missing, differs, extra;
    const char *descs;
    ObjectAttr attrs[OBJECT_ATTRS];
} ObjectSpec;

static const ObjectSpec specs[] = {
#define X(name, label, attached, missing, differs, extra, descs, ...)                                                  \
    [OBJECT_##name] = {label, attached, missing, differs, extra, descs, {__VA_ARGS__}},
#include "engine/ddl/drift_objects.def"
#undef X
};

typedef struct Merging {
    Arena *arena;
    const DriftParams *params;
    DriftVec *drifts;
    const ObjectFact *alone; /* on one side only: what is attached to it is not told */
} Merging;

/* --- Words -------------------------------------------------------------------------------------------------------- */

static const char *display(Arena *arena, const ObjectFact *fact) {
    const ObjectSpec *spec = &specs[fact->kind];

    if (fact->kind == OBJECT_DEFAULT_PRIVILEGES)
        return arena_printf(arena, "%s %s on %s", spec->label, fact->name, fact->part);
    if (fact->schema[0] == '\0')
        return spec->attached || spec->label[0] == '\0' ? fact->name
                                                        : arena_printf(arena, "%s %s", spec->label, fact->name);
    if (strchr(fact->name, '(') != NULL)
        return arena_printf(arena, "%s.%s", fact->schema, fact->name);
    return sql_display(arena, fact->schema, fact->name);
}

/* What differs, as the beginning of a sentence about the object: "index seen_id", "view", "it". */
static const char *subject(Arena *arena, const ObjectFact *fact) {
    const ObjectSpec *spec = &specs[fact->kind];

    if (fact->kind == OBJECT_FUNCTION)
        return fact->attrs[0];
    if (!spec->attached)
        return fact->schema[0] == '\0' || spec->label[0] == '\0' ? "it" : spec->label;
    return fact->part[0] == '\0' ? spec->label : arena_printf(arena, "%s %s", spec->label, fact->part);
}

static const char *shown(const char *value) {
    return value[0] == '\0' ? "none" : value;
}

/* What is told of it says who may do what. */
static bool is_of_access(const ObjectFact *fact) {
    return fact->kind == OBJECT_GRANT || fact->kind == OBJECT_DEFAULT_PRIVILEGES || fact->kind == OBJECT_PRESENCE;
}

/* A query of many lines tells nobody anything in the middle of a sentence. Of who may do what nothing is left out. */
static bool is_shown(const ObjectFact *fact, const char *value) {
    enum { SHOWN = 120 };

    return is_of_access(fact) || (strlen(value) <= SHOWN && strchr(value, '\n') == NULL);
}

/* For the destination, where it is one statement that is known. */
static const char *fix_missing(Arena *arena, const ObjectFact *fact) {
    const char *name = sql_qualified(arena, fact->schema, fact->name);

    if (fact->kind == OBJECT_SCHEMA || fact->kind == OBJECT_EXTENSION)
        return arena_printf(arena, "CREATE %s %s", fact->kind == OBJECT_SCHEMA ? "SCHEMA" : "EXTENSION",
                            sql_ident(arena, fact->name));
    if (fact->kind == OBJECT_VIEW || fact->kind == OBJECT_MATERIALIZED_VIEW)
        return fact->attrs[2][0] == '\0'
                   ? ""
                   : arena_printf(arena, "CREATE %s %s AS %s", fact->kind == OBJECT_VIEW ? "VIEW" : "MATERIALIZED VIEW",
                                  name, fact->attrs[2]);
    return fact->kind == OBJECT_INDEX || fact->kind == OBJECT_STATISTICS ? fact->attrs[0] : "";
}

/* --- What is told ------------------------------------------------------------------------------------------------- */

static void add(const Merging *merging, Level level, const ObjectFact *about, const char *message, const char *fix) {
    bool unsure = merging->params->filtered && !specs[about->kind].attached && about->of_table[0] == '\0';
    Drift drift = {
        .object = arena_strdup(merging->arena, display(merging->arena, about)),
        .message = message,
        .part = "",
        .fix = arena_strdup(merging->arena, fix),
        .note = level == NOTED || unsure,
        .access = is_of_access(about),
    };

    if (level != IGNORED)
        vec_push(merging->arena, merging->drifts, drift);
}

/* The archive's name for it. */
static const char *tag_of(Arena *arena, const ObjectFact *fact) {
    if (fact->kind == OBJECT_INDEX)
        return fact->part;
    return fact->part[0] == '\0' ? fact->name : arena_printf(arena, "%s %s", fact->name, fact->part);
}

/* Is it the caller's doing that the destination does not have it? */
static bool is_absent(const Merging *merging, const ObjectFact *fact) {
    const DriftParams *params = merging->params;
    const ObjectSpec *spec = &specs[fact->kind];
    const char *tag = tag_of(merging->arena, fact);

    for (const char *desc = spec->descs; params->absent != NULL && *desc != '\0';) {
        size_t len = strcspn(desc, "|");

        if (params->absent(params->context, arena_strndup(merging->arena, desc, len), fact->schema, tag))
            return true;
        desc += len + (desc[len] == '|');
    }
    return false;
}

static bool same_object(const ObjectFact *a, const ObjectFact *b) {
    return a != NULL && strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

/* Of privileges: which. */
static const char *content(Arena *arena, const ObjectFact *fact) {
    bool told = fact->kind == OBJECT_GRANT || fact->kind == OBJECT_DEFAULT_PRIVILEGES;

    return told ? arena_printf(arena, ": %s", shown(fact->attrs[0])) : "";
}

static void add_alone(Merging *merging, const ObjectFact *fact, bool on_source) {
    Arena *arena = merging->arena;
    const ObjectSpec *spec = &specs[fact->kind];

    if (fact->kind == OBJECT_PRESENCE)
        merging->alone = fact;
    if (spec->attached && same_object(merging->alone, fact))
        return;
    if (!on_source)
        add(merging, spec->extra, fact,
            arena_printf(arena, "%s is on the destination only%s", subject(arena, fact), content(arena, fact)), "");
    else if (!is_absent(merging, fact))
        add(merging, spec->missing, fact,
            arena_printf(arena, "%s is missing on the destination%s", subject(arena, fact), content(arena, fact)),
            fix_missing(arena, fact));
}

static const char *changed_message(Arena *arena, const ObjectFact *source, const ObjectFact *dest, int attr) {
    const ObjectSpec *spec = &specs[source->kind];
    const char *label = spec->attrs[attr].label;
    const char *about = spec->attached ? subject(arena, source) : "";
    const char *what = arena_printf(arena, "%s%s%s", about, *about != '\0' && *label != '\0' ? ": " : "", label);

    if (*what == '\0')
        what = "it";
    if (!is_shown(source, source->attrs[attr]) || !is_shown(source, dest->attrs[attr]))
        return arena_printf(arena, "%s differs", what);
    return arena_printf(arena, "%s is %s on the source, %s on the destination", what, shown(source->attrs[attr]),
                        shown(dest->attrs[attr]));
}

static bool same_attr(const ObjectAttr *attr, const char *a, const char *b) {
    return attr->label == NULL || ((attr->flags & PRINTED) != 0 ? drift_same_text(a, b) : strcmp(a, b) == 0);
}

static void compare_pair(const Merging *merging, const ObjectFact *source, const ObjectFact *dest) {
    const ObjectSpec *spec = &specs[source->kind];

    for (int i = 0; i < OBJECT_ATTRS; i++) {
        const ObjectAttr *attr = &spec->attrs[i];

        if (same_attr(attr, source->attrs[i], dest->attrs[i]))
            continue;
        add(merging, spec->differs, source, changed_message(merging->arena, source, dest, i), "");
    }
}

/* --- Both sides --------------------------------------------------------------------------------------------------- */

static bool is_wanted(const DriftParams *params, const ObjectFact *fact) {
    if (fact->schema[0] == '\0')
        return !params->filtered;
    if (params->wanted == NULL)
        return true;
    if (fact->of_table[0] != '\0')
        return params->wanted(params->context, fact->of_schema, fact->of_table);
    return params->wanted(params->context, fact->schema, fact->name);
}

static size_t next_wanted(const DriftParams *params, const ObjectFacts *facts, size_t i) {
    while (i < facts->len && !is_wanted(params, &facts->items[i]))
        i++;
    return i;
}

void objects_compare(Arena *arena, const DriftParams *params, const ObjectFacts *source, const ObjectFacts *dest,
                     DriftVec *drifts) {
    Merging merging = {.arena = arena, .params = params, .drifts = drifts};
    size_t s = next_wanted(params, source, 0), d = next_wanted(params, dest, 0);

    while (s < source->len || d < dest->len) {
        int order = s == source->len ? 1 : d == dest->len ? -1 : object_compare(&source->items[s], &dest->items[d]);

        if (order < 0)
            add_alone(&merging, &source->items[s], true);
        else if (order > 0)
            add_alone(&merging, &dest->items[d], false);
        else
            compare_pair(&merging, &source->items[s], &dest->items[d]);
        s = order <= 0 ? next_wanted(params, source, s + 1) : s;
        d = order >= 0 ? next_wanted(params, dest, d + 1) : d;
    }
}
