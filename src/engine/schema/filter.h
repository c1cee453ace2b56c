/*
 * Which TOC entries move, given the filters. Pure.
 *
 * Rules (pg_dump's own -n/-t drop types, functions and extensions that a table needs: we keep them)
 * - No filter: everything.
 * - Patterns as in psql: `*` any text, `?` one character, a dot separates schema from name, unquoted text folds to
 * lower case, "..." is literal. A table pattern without a dot matches in any schema.
 * - --table / --schema: the matching tables (or everything in the matching schemas), closed over dependencies (types,
 * functions, sequences, schemas, extensions, parents), plus what belongs to a chosen table (indexes, constraints,
 * triggers, policies, comments, grants, statistics, owned sequences, attached partitions' attach entries).
 * - --exclude-table / --exclude-schema: those and everything that depends on them goes: a foreign key to an excluded
 * table, a view over it, ... each listed with its reason.
 */
#pragma once

#include "common/vec.h"
#include "engine/schema/toc.h"
#include "model/options.h"
#include "model/progress.h"

typedef struct Selection {
    bool *chosen;        /* per entry of the Toc */
    NotMovedVec dropped; /* what a *dependency* took out (not what the user's own pattern names) */
} Selection;

/* Fails with USAGE when a pattern is malformed or an include pattern matches nothing. */
NODISCARD bool schema_select(Arena *arena, const Toc *toc, const MigrateOptions *options, Selection *ret_selection,
                             Error *err);

/* A pattern as psql understands it. */
typedef struct NamePattern {
    const char *schema; /* glob tokens, NULL = any */
    const char *name;
} NamePattern;
NODISCARD bool name_pattern_parse(Arena *arena, const char *text, bool is_schema, NamePattern *ret_pattern, Error *err);
bool name_pattern_matches(const NamePattern *pattern, const char *schema, const char *name);
/* Does a table pass the filters of options by name (for the plan of a dry run, which has no archive)? */
NODISCARD bool filter_table_by_name(Arena *arena, const MigrateOptions *options, const char *schema, const char *name,
                                    bool *ret_passes, Error *err);
