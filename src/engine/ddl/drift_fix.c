/* The SQL for the destination that ends a difference, where one plain statement does. Pure. */
#include "engine/ddl/drift_internal.h"

#include "engine/schema/sqlscan.h"
#include "pg/quote.h"

#include <string.h>

static const char *relation_of(Arena *arena, const Fact *fact) {
    return sql_qualified(arena, fact->schema, fact->name);
}

static bool has(const Fact *fact, int attr) {
    return *fact->attrs[attr] != '\0';
}

/* --- Missing, too many -------------------------------------------------------------------------------------------- */

static const char *default_clause(Arena *arena, const Fact *column) {
    const char *expression = column->attrs[COLUMN_DEFAULT];

    if (has(column, COLUMN_GENERATED))
        return arena_printf(arena, " GENERATED ALWAYS AS (%s) %s", expression, column->attrs[COLUMN_GENERATED]);
    if (has(column, COLUMN_IDENTITY))
        return arena_printf(arena, " GENERATED %s AS IDENTITY", column->attrs[COLUMN_IDENTITY]);
    return *expression != '\0' ? arena_printf(arena, " DEFAULT %s", expression) : "";
}

static const char *alter(Arena *arena, const Fact *fact) {
    const char *what = "TABLE";

    if (fact->of_type)
        what = fact->kind == FACT_COLUMN ? "TYPE" : "DOMAIN";
    return arena_printf(arena, "ALTER %s %s", what, relation_of(arena, fact));
}

static const char *add_column(Arena *arena, const Fact *column) {
    const char *collation =
        has(column, COLUMN_COLLATION) ? arena_printf(arena, " COLLATE %s", column->attrs[COLUMN_COLLATION]) : "";

    return arena_printf(arena, "%s ADD %s %s %s%s%s%s", alter(arena, column), column->of_type ? "ATTRIBUTE" : "COLUMN",
                        sql_ident(arena, column->part), column->attrs[COLUMN_TYPE], collation,
                        default_clause(arena, column), has(column, COLUMN_NOT_NULL) ? " NOT NULL" : "");
}

const char *drift_fix_missing(Arena *arena, const Fact *source) {
    if (source->kind == FACT_COLUMN)
        return add_column(arena, source);
    if (source->kind == FACT_INDEX)
        return arena_strdup(arena, source->attrs[DEFINITION]);
    if (source->kind == FACT_CONSTRAINT)
        return arena_printf(arena, "%s ADD CONSTRAINT %s %s", alter(arena, source), sql_ident(arena, source->part),
                            source->attrs[DEFINITION]);
    return "";
}

const char *drift_fix_extra(Arena *arena, const Fact *dest) {
    if (dest->kind == FACT_COLUMN)
        return arena_printf(arena, "%s DROP %s %s", alter(arena, dest), dest->of_type ? "ATTRIBUTE" : "COLUMN",
                            sql_ident(arena, dest->part));
    if (dest->kind == FACT_INDEX)
        return arena_printf(arena, "DROP INDEX IF EXISTS %s", sql_qualified(arena, dest->schema, dest->part));
    if (dest->kind == FACT_CONSTRAINT)
        return arena_printf(arena, "%s DROP CONSTRAINT IF EXISTS %s", alter(arena, dest), sql_ident(arena, dest->part));
    return "";
}

/* --- Different ---------------------------------------------------------------------------------------------------- */

/* The labels that the source has more, when they come last. */
static const char *add_labels(Arena *arena, const Fact *source, const Fact *dest) {
    const char *labels = source->attrs[TYPE_LABELS], *known = dest->attrs[TYPE_LABELS];
    const char *fix = "";
    size_t len = strlen(known);

    if (strncmp(labels, known, len) != 0 || (len > 0 && labels[len] != ','))
        return "";
    SqlScanner scanner = {.pos = labels + len};
    for (SqlToken token = sql_next_token(&scanner); token.kind != SQL_TOKEN_END; token = sql_next_token(&scanner))
        if (token.kind == SQL_TOKEN_STRING)
            fix = arena_printf(arena, "%s%sALTER TYPE %s ADD VALUE %.*s", fix, *fix != '\0' ? "; " : "",
                               relation_of(arena, source), (int)token.len, token.text);
    return fix;
}

static const char *alter_column(Arena *arena, const Fact *source, const char *action) {
    return arena_printf(arena, "ALTER TABLE %s ALTER COLUMN %s %s", relation_of(arena, source),
                        sql_ident(arena, source->part), action);
}

static const char *fix_default(Arena *arena, const Fact *source, const Fact *dest) {
    if (has(source, COLUMN_GENERATED) || has(dest, COLUMN_GENERATED))
        return "";
    if (!has(source, COLUMN_DEFAULT))
        return alter_column(arena, source, "DROP DEFAULT");
    return alter_column(arena, source, arena_printf(arena, "SET DEFAULT %s", source->attrs[COLUMN_DEFAULT]));
}

static const char *fix_column(Arena *arena, const Fact *source, const Fact *dest, int attr) {
    const char *type = source->attrs[COLUMN_TYPE];

    if (attr == COLUMN_TYPE)
        return alter_column(arena, source,
                            arena_printf(arena, "TYPE %s USING %s::%s", type, sql_ident(arena, source->part), type));
    if (attr == COLUMN_NOT_NULL)
        return alter_column(arena, source, has(source, COLUMN_NOT_NULL) ? "SET NOT NULL" : "DROP NOT NULL");
    if (attr == COLUMN_DEFAULT)
        return fix_default(arena, source, dest);
    if (attr != COLUMN_IDENTITY)
        return "";
    if (!has(source, COLUMN_IDENTITY))
        return alter_column(arena, source, "DROP IDENTITY");
    if (has(dest, COLUMN_IDENTITY))
        return alter_column(arena, source, arena_printf(arena, "SET GENERATED %s", source->attrs[COLUMN_IDENTITY]));
    return alter_column(arena, source,
                        arena_printf(arena, "ADD GENERATED %s AS IDENTITY", source->attrs[COLUMN_IDENTITY]));
}

static const char *fix_again(Arena *arena, const Fact *source, const Fact *dest) {
    return arena_printf(arena, "%s; %s", drift_fix_extra(arena, dest), drift_fix_missing(arena, source));
}

const char *drift_fix_changed(Arena *arena, const Fact *source, const Fact *dest, int attr) {
    if (source->kind == FACT_COLUMN && source->of_type)
        return "";
    if (source->kind == FACT_COLUMN)
        return fix_column(arena, source, dest, attr);
    if (source->kind == FACT_TYPE && attr == TYPE_LABELS)
        return add_labels(arena, source, dest);
    if (source->kind == FACT_RELATION && attr == RELATION_PERSISTENCE)
        return arena_printf(arena, "ALTER TABLE %s SET %s", relation_of(arena, source),
                            strcmp(source->attrs[attr], "logged") == 0 ? "LOGGED" : "UNLOGGED");
    if (source->kind == FACT_INDEX || source->kind == FACT_CONSTRAINT)
        return fix_again(arena, source, dest);
    return "";
}
