/* The source's settings for the control session while it fills materialized views (finish.h). */
#include "engine/finish/finish.h"

#include "common/log.h"

#include <string.h>

#define NAMES                                                                                                          \
    "('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output', 'xmloption', 'xmlbinary',"       \
    " 'lc_monetary', 'lc_numeric', 'lc_time', 'default_text_search_config', 'array_nulls', 'transform_null_equals')"

/* A value that does not exist there (a locale) stays as it is. */
static bool apply(DbConn *dest, const DbResult *rows, Error *err) {
    for (int i = 0; i < db_rows(rows); i++) {
        const char *params[] = {db_text(rows, i, 0), db_text(rows, i, 1)};

        if (db_query(dest, "SELECT pg_catalog.set_config($1, $2, false)", 2, params, NULL, err))
            continue;
        if (err->sqlstate[0] == '\0' || err->retryable || db_is_broken(dest))
            return error_wrap(err, "setting %s", params[0]);
        log_warning("materialized views are filled without %s = %s: %s", params[0], params[1], err->message);
    }
    return true;
}

/* reset_val is what a session begins with: of the server, the database and the role. What we set ourselves is not in
 * it. */
bool finish_view_settings(DbConn *source, DbConn *dest, ViewSettings *ret_settings, Error *err) {
    CLEANUP(db_result_freep) DbResult *own = NULL;
    CLEANUP(db_result_freep) DbResult *before = NULL;

    if (!db_query(source, "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name IN " NAMES, 0, NULL, &own,
                  err) ||
        !db_query(dest, "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN " NAMES, 0, NULL, &before, err))
        return error_wrap(err, "reading settings");
    if (!apply(dest, own, err))
        return false;
    ret_settings->before = before;
    before = NULL;
    return true;
}

bool finish_view_settings_back(DbConn *dest, ViewSettings *settings, Error *err) {
    bool ok = apply(dest, settings->before, err);

    db_result_freep(&settings->before);
    return ok;
}
