/*
 * The source's settings for sessions that write rows, or build indexes, on the destination (finish.h).
 *
 * A generated column, an index on an expression, a CHECK: what they compute there has to be what the source's sessions
 * computed, and some of it depends on settings though the server calls it immutable: b::text of a bytea is as
 * bytea_output says, f::text of a float as extra_float_digits does; and functions are called immutable by people. With
 * other settings the index would not find what the application's sessions look for.
 *
 * Taken over is what only output looks at, and what changes nothing in the values that come: these are written with our
 * fixed settings (pg/settings.c), times with their offset, dates and intervals in the one form that is read alike with
 * each DateStyle and IntervalStyle. What the reading of a value depends on stays fixed: xmloption, lc_monetary,
 * array_nulls.
 *
 * reset_val is what a session begins with: of the server, the database and our role. What another role, or the
 * application itself, sets cannot be known.
 */
#include "engine/finish/finish.h"

#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

#define NAMES                                                                                                          \
    "('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output', 'xmlbinary', 'lc_numeric',"      \
    " 'lc_time', 'default_text_search_config')"

/* A value that does not exist there (a locale, a configuration that is made later) stays as it is. */
static bool is_taken(DbConn *dest, const char *name, const char *value, bool *ret_taken, Error *err) {
    const char *const params[] = {name, value};

    *ret_taken = db_query(dest, "SELECT pg_catalog.set_config($1, $2, true)", 2, params, NULL, err);
    if (*ret_taken)
        return true;
    if (err->sqlstate[0] == '\0' || err->retryable || db_is_broken(dest))
        return error_wrap(err, "setting %s", name);
    log_info("rows are written without %s = %s: %s", name, value, err->message);
    return true;
}

bool finish_write_settings(DbConn *source, DbConn *dest, Arena *arena, WriteSettings *ret_settings, Error *err) {
    CLEANUP(db_result_freep) DbResult *own = NULL;
    const char *session = "SELECT 1", *local = session;

    if (!db_query(source, "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name IN " NAMES, 0, NULL, &own,
                  err))
        return error_wrap(err, "reading the source's settings");
    for (int i = 0; i < db_rows(own); i++) {
        const char *name = db_text(own, i, 0), *value = sql_literal(arena, db_text(own, i, 1));
        bool taken = false;

        if (!is_taken(dest, name, db_text(own, i, 1), &taken, err))
            return false;
        if (!taken)
            continue;
        session = arena_printf(arena, "%s, pg_catalog.set_config('%s', %s, false)", session, name, value);
        local = arena_printf(arena, "%s, pg_catalog.set_config('%s', %s, true)", local, name, value);
    }
    *ret_settings = (WriteSettings){.session = session, .local = local};
    return true;
}
