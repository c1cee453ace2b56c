/* What a guard changes of a database: its values now, before and after, and the statements between them. */
#include "engine/demote/demote_internal.h"
#include "pg/quote.h"

#include <stdlib.h>
#include <string.h>

enum { LIMIT_MIN = -1, LIMIT_MAX = 262143 }; /* MAX_BACKENDS */

static const struct {
    const char *name, *text;
} changes[] = {
#define X(name, text, sql) {#name, text},
#include "engine/demote/changes.def"
#undef X
};

const char *demote_change_name(DemoteChange change) {
    return changes[change].name;
}

const char *demote_change_text(DemoteChange change) {
    return changes[change].text;
}

DemoteChange demote_change_from_name(const char *name) {
    DemoteChange change = 0;

    while (change < CHANGE_MAX_ && strcmp(changes[change].name, name) != 0)
        change++;
    return change;
}

bool demote_is_change_of(DemoteChange change, bool superuser) {
    return superuser != (change == CHANGE_CONNECT);
}

const char *demote_guarded_value(DemoteChange change, const DemoteJob *job) {
    switch (change) {
    case CHANGE_LIMIT:
        return "0";
    case CHANGE_READ_ONLY:
        return "on";
    case CHANGE_MARK:
        return job->name;
    case CHANGE_CONNECT:
    case CHANGE_MAX_:
    default:
        return NULL;
    }
}

static char *limit_sql(Arena *arena, const char *name, const char *value) {
    char *end = NULL;
    long limit = value != NULL ? strtol(value, &end, 10) : 0;

    if (value == NULL || end == value || *end != '\0' || limit < LIMIT_MIN || limit > LIMIT_MAX)
        return NULL;
    return arena_printf(arena, "ALTER DATABASE %s CONNECTION LIMIT %ld", name, limit);
}

char *demote_change_sql(Arena *arena, DemoteChange change, const char *database, const char *value) {
    const char *name = sql_ident(arena, database);

    if (change == CHANGE_LIMIT)
        return limit_sql(arena, name, value);
    if (value == NULL)
        return arena_printf(arena, "ALTER DATABASE %s RESET %s", name, changes[change].text);
    return arena_printf(arena, "ALTER DATABASE %s SET %s TO %s", name, changes[change].text, sql_literal(arena, value));
}

static bool is_same(const char *one, const char *other) {
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

DemoteVerdict demote_verdict(const char *before, const char *after, const char *now) {
    if (is_same(now, before))
        return VERDICT_AS_BEFORE;
    return is_same(now, after) ? VERDICT_SET_BACK : VERDICT_FOREIGN;
}

static const char state_sql[] = "SELECT d.oid::text, d.datname"
#define X(name, text, sql) ", " sql
#include "engine/demote/changes.def"
#undef X
                                " FROM pg_catalog.pg_database d"
                                " WHERE CASE WHEN $1::oid IS NULL THEN d.datname = $2 ELSE d.oid = $1::oid END";

bool demote_state_read(DbConn *conn, Arena *arena, const char *oid, const char *name, DemoteState *ret_state,
                       Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    DemoteState state = {0};

    if (!db_query(conn, state_sql, 2, (const char *const[]){oid, name}, &row, err))
        return error_wrap(err, "reading how database %s is set up", name);
    state.exists = db_rows(row) == 1;
    if (state.exists) {
        state.oid = arena_strdup(arena, db_text(row, 0, 0));
        state.name = arena_strdup(arena, db_text(row, 0, 1));
    }
    for (int change = 0; state.exists && change < CHANGE_MAX_; change++)
        if (!db_is_null(row, 0, 2 + change))
            state.values[change] = arena_strdup(arena, db_text(row, 0, 2 + change));
    *ret_state = state;
    return true;
}
