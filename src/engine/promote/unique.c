/*
 * Deferrable unique and exclusion constraints: do they hold on the destination?
 *
 * In replica role the server does not check them, and the source, which has, knows nothing of a row that somebody wrote
 * to the destination. So each is looked through in PREPARE, while nobody waits. Under the fence that is repeated only
 * for tables that changes were applied to since, and only where it was quick: what is left out is told. A row written
 * by hand is checked by its own session; a constraint comes to be violated only by what we apply.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

#define QUICK_US (500 * USEC_PER_MSEC)

enum { INCLUDE_VERSION = 110000, NULLS_VERSION = 150000 };

/* Keys as the index computes them: an exclusion constraint may be of expressions, and of some rows only. A root's is
 * that of its leaves. Columns: schema, table, constraint, keys, rows, group, match (NULL = all equal). */
static const char list_sql[] =
    "SELECT n.nspname, r.relname, c.conname, k.keys,"
    " pg_catalog.concat_ws(' AND ', '(' || pg_catalog.pg_get_expr(i.indpred, i.indrelid) || ')',"
    "  CASE WHEN NOT %s THEN k.not_null END), k.list, k.match"
    " FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace JOIN pg_catalog.pg_index i ON i.indexrelid = c.conindid,"
    " LATERAL (SELECT pg_catalog.string_agg(pg_catalog.format('(%%s) AS k%%s', d.def, g), ', ' ORDER BY g) AS keys,"
    "  pg_catalog.string_agg(pg_catalog.format('(%%s) IS NOT NULL', d.def), ' AND ') AS not_null,"
    "  pg_catalog.string_agg('k' || g, ', ' ORDER BY g) AS list,"
    "  pg_catalog.string_agg('a.k' || g || ' OPERATOR(' || pg_catalog.quote_ident(m.nspname) || '.' || o.oprname"
    "   || ') b.k' || g, ' AND ') AS match" /* NULL where there are no operators */
    "  FROM pg_catalog.generate_series(1, %s) AS g"
    "  LEFT JOIN pg_catalog.pg_operator o ON o.oid = c.conexclop[g]"
    "  LEFT JOIN pg_catalog.pg_namespace m ON m.oid = o.oprnamespace,"
    "  LATERAL (SELECT pg_catalog.pg_get_indexdef(i.indexrelid, g, false) AS def) AS d) AS k"
    " WHERE c.condeferrable AND c.contype IN ('p', 'u', 'x') AND r.relkind = 'r'"
    " AND n.nspname <> 'pgcrane' ORDER BY 1, 2, 3";

/* COPY_REST makes such a table equal, or the promote is refused for what differs in it. */
static bool is_copied_again(const Promote *promote, const char *display) {
    for (size_t i = 0; i < promote->rest.len; i++)
        if (strcmp(promote->rest.items[i].display, display) == 0)
            return true;
    return false;
}

/* One row of values that the constraint does not allow beside one another. */
static const char *find_sql(Arena *arena, const DbResult *rows, int row) {
    const char *keys = db_text(rows, row, 3), *list = db_text(rows, row, 5), *only = db_text(rows, row, 4);
    const char *from = arena_printf(arena, "(SELECT ctid AS at, %s FROM ONLY %s%s%s)", keys,
                                    sql_qualified(arena, db_text(rows, row, 0), db_text(rows, row, 1)),
                                    only[0] == '\0' ? "" : " WHERE ", only);

    if (db_is_null(rows, row, 6))
        return arena_printf(arena, "SELECT ROW(%s)::text FROM %s a GROUP BY %s HAVING pg_catalog.count(*) > 1 LIMIT 1",
                            list, from, list);
    return arena_printf(arena,
                        "SELECT pg_catalog.concat_ws(' and ', a::text, b::text) FROM %s a JOIN %s b ON %s"
                        " AND a.at < b.at LIMIT 1",
                        from, from, db_text(rows, row, 6));
}

static bool list_constraints(Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const DriftParams *drift = &promote->params->drift;
    DbConn *dest = promote->params->dest;
    Arena *arena = promote->arena;
    const char *sql =
        arena_printf(scratch, list_sql, db_version(dest) >= NULLS_VERSION ? "i.indnullsnotdistinct" : "false",
                     db_version(dest) >= INCLUDE_VERSION ? "i.indnkeyatts" : "i.indnatts");

    promote->unique.len = 0;
    if (!db_query(dest, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing deferrable constraints of the destination");
    for (int i = 0; i < db_rows(rows); i++) {
        UniqueRule rule = {.display = sql_display(arena, db_text(rows, i, 0), db_text(rows, i, 1)),
                           .name = arena_strdup(arena, db_text(rows, i, 2)),
                           .sql = find_sql(arena, rows, i)};

        if (drift->wanted == NULL || drift->wanted(drift->context, db_text(rows, i, 0), db_text(rows, i, 1)))
            vec_push(arena, &promote->unique, rule);
    }
    return true;
}

/* Of each table, how many changes were applied by now. */
static void count_changes(const Promote *promote, int64_t *ret_changes) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    FollowTableCount *counts = NULL;
    size_t count = 0;

    follow_tables(promote->params->follow, scratch, &counts, &count);
    for (size_t i = 0; i < promote->unique.len; i++) {
        ret_changes[i] = 0;
        for (size_t k = 0; k < count; k++)
            if (strcmp(counts[k].display, promote->unique.items[i].display) == 0)
                ret_changes[i] += counts[k].inserts + counts[k].updates;
    }
}

static bool check(Promote *promote, UniqueRule *rule, StringVec *problems, Error *err) {
    CLEANUP(db_result_freep) DbResult *found = NULL;
    int64_t begun = clock_now_us();

    if (!db_query(promote->params->dest, rule->sql, 0, NULL, &found, err))
        return error_wrap(err, "looking through constraint %s of table %s", rule->name, rule->display);
    rule->took_us = clock_now_us() - begun;
    if (db_rows(found) == 0)
        return true;
    vec_push(promote->arena, problems,
             arena_printf(promote->arena,
                          "table %s: constraint %s does not hold on the destination: %.300s is there more than once or"
                          " in conflict; something else wrote to the destination (the constraint is deferrable, and not"
                          " checked while changes are applied): delete that row there",
                          rule->display, rule->name, db_text(found, 0, 0)));
    return true;
}

/* What was counted may not be committed yet, and our session would not see it. */
static bool wait_for_counted(const Promote *promote, Error *err) {
    return promote_wait_now(promote, "constraints", err);
}

bool promote_unique_check(Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    FollowStatus status;

    promote->unique.len = 0;
    follow_status(promote->params->follow, &status);
    if (!status.replica_role) /* then the server checks them at each commit */
        return true;
    if (!list_constraints(promote, err))
        return false;
    int64_t *changes = arena_array(scratch, int64_t, MAX(promote->unique.len, 1));
    if (promote->unique.len == 0)
        return true;
    count_changes(promote, changes);
    if (!wait_for_counted(promote, err))
        return false;
    for (size_t i = 0; i < promote->unique.len; i++) {
        promote->unique.items[i].changes = changes[i];
        if (is_copied_again(promote, promote->unique.items[i].display))
            continue;
        if (!check(promote, &promote->unique.items[i], problems, err))
            return false;
    }
    return true;
}

bool promote_unique_settle(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    int64_t *changes = arena_array(scratch, int64_t, MAX(promote->unique.len, 1));
    StringVec problems = {0};

    if (promote->unique.len > 0)
        count_changes(promote, changes);
    for (size_t i = 0; i < promote->unique.len; i++) {
        UniqueRule *rule = &promote->unique.items[i];

        if (changes[i] == rule->changes)
            continue;
        if (rule->took_us > QUICK_US)
            promote_note(promote,
                         "constraint %s of table %s was looked through just before writes were stopped, and not again"
                         " (it takes %s)",
                         rule->name, rule->display, clock_duration(promote->arena, rule->took_us));
        else if (!check(promote, rule, &problems, err))
            return false;
    }
    return promote_refuse(promote, "the destination has rows that the source cannot have", &problems, err);
}
