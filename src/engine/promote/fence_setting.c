/*
 * default_transaction_read_only of the source database: on for the fence (fence_undo.c has the way back).
 *
 * The journal's line says what was set before ("reset": nothing) and since when the setting may be on, by the source's
 * clock, and is written first. It is set back even when nobody knows whether it was changed: that changes nothing then.
 * A line that is there already, of a run that was killed, is kept: what it says was before us, what the source says now
 * may be our own.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ledger/journal.h"
#include "pg/quote.h"

#include <string.h>

/* "since 2026-01-31 12:00:00.5+00; set off". Earlier versions wrote no time. */
#define LINE_SINCE "since "
#define LINE_END "; "
#define LINE_RESET "reset"
#define LINE_SET "set "

const char *promote_setting_line(Arena *arena, const char *since, const char *previous) {
    return previous == NULL ? arena_printf(arena, LINE_SINCE "%s" LINE_END LINE_RESET, since)
                            : arena_printf(arena, LINE_SINCE "%s" LINE_END LINE_SET "%s", since, previous);
}

static const char *find_time_end(const char *line) {
    return strncmp(line, LINE_SINCE, strlen(LINE_SINCE)) == 0 ? strstr(line, LINE_END) : NULL;
}

const char *promote_setting_since(Arena *arena, const char *line) {
    const char *end = find_time_end(line), *begin = line + strlen(LINE_SINCE);

    return end == NULL ? "-infinity" : arena_strndup(arena, begin, (size_t)(end - begin));
}

const char *promote_setting_back_sql(Arena *arena, const char *database, const char *line) {
    const char *name = sql_ident(arena, database);
    const char *end = find_time_end(line);

    if (end != NULL)
        line = end + strlen(LINE_END);

    if (strcmp(line, LINE_RESET) == 0)
        return arena_printf(arena, "ALTER DATABASE %s RESET default_transaction_read_only", name);
    if (strncmp(line, LINE_SET, strlen(LINE_SET)) != 0)
        return NULL;
    return arena_printf(arena, "ALTER DATABASE %s SET default_transaction_read_only = %s", name,
                        sql_literal(arena, line + strlen(LINE_SET)));
}

/* And the source's clock. */
static bool read_previous(DbConn *source, Arena *arena, const char **ret_since, const char **ret_previous, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql = "SELECT pg_catalog.clock_timestamp()::text,"
                      " (SELECT pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)"
                      " FROM pg_catalog.pg_db_role_setting s, LATERAL pg_catalog.unnest(s.setconfig) AS c"
                      " WHERE s.setrole = 0 AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database"
                      "  WHERE datname = pg_catalog.current_database())"
                      " AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1)";

    if (!db_query(source, sql, 0, NULL, &row, err))
        return error_wrap(err, "reading the source database's settings");
    *ret_since = arena_strdup(arena, db_text(row, 0, 0));
    *ret_previous = db_is_null(row, 0, 1) ? NULL : arena_strdup(arena, db_text(row, 0, 1));
    return true;
}

bool promote_setting_read_line(DbConn *dest, Arena *arena, const char **ret_line, Error *err) {
    StringVec lines = {0};

    if (!journal_names(dest, arena, JOURNAL_FENCE, &lines, err))
        return false;
    *ret_line = lines.len > 0 ? lines.items[lines.len - 1] : NULL;
    return true;
}

static bool journal_previous(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *line = NULL, *since = NULL, *previous = NULL;

    if (!promote_setting_read_line(params->dest, promote->arena, &line, err) ||
        !read_previous(params->source, promote->arena, &since, &previous, err))
        return false;
    promote->setting_touched = true;
    return line != NULL || journal_intend(params->dest, params->load->ledger, JOURNAL_FENCE,
                                          promote_setting_line(promote->arena, since, previous), err);
}

/* The job's row is shared meanwhile: no other run takes the migration over, and sets the setting back, between our look
 * at the epoch and the setting. */
bool promote_setting_on(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    const char *name = sql_ident(promote->arena, db_name(params->source));

    if (!journal_previous(promote, err) || !failpoint("promote.after_fence_journal", err) ||
        !ledger_begin(params->dest, params->load->ledger, err))
        return false;
    promote->outage_from_us = clock_now_us();
    bool ok = db_execf(params->source, err,
                       PROMOTE_ALTER_SQL "ALTER DATABASE %s SET default_transaction_read_only = on; COMMIT", name);

    if (!ok)
        db_rollback(params->source);
    db_rollback(params->dest);
    return ok ? failpoint("promote.after_fence_setting", err) : error_wrap(err, "making the source database read-only");
}

/* A role's setting goes before a database's, and one of a role in a database before both. What is set there by somebody
 * who may set it is none of ours to change. */
bool promote_setting_exceptions(Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql =
        "SELECT pg_catalog.format('ALTER ROLE %I%s RESET default_transaction_read_only', r.rolname,"
        " CASE WHEN s.setdatabase <> 0 THEN pg_catalog.format(' IN DATABASE %I', pg_catalog.current_database()) END)"
        " FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole,"
        " LATERAL pg_catalog.unnest(s.setconfig) AS c"
        " WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database"
        "  WHERE datname = pg_catalog.current_database()))"
        " AND pg_catalog.strpos(c, 'default_transaction_read_only=') = 1"
        " AND NOT pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)::boolean ORDER BY 1";

    if (!db_query(promote->params->source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the settings of the source's roles");
    for (int i = 0; i < db_rows(rows); i++)
        promote_note(promote,
                     "a role has a setting of its own that goes before the database's, and can write to the source"
                     " after the promote, too, which goes nowhere: on the source, %s",
                     db_text(rows, i, 0));
    return true;
}
