#include "pg/lock_timeout.h"

#include "pg/query.h"
#include "pg/quote.h"

/* Between the server's asking and the autovacuum's end: it looks at each page, at the latest. */
enum { YIELD_MS = 200, SHORTENED_MS = 50 };

/* clang-format off */
static const char vacuum_format[] =
    "EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted"
    " AND l.mode = 'ShareUpdateExclusiveLock' AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
    " AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())%s)";
static const char of_relation_format[] =
    " AND l.relation IN (SELECT pg_catalog.unnest(ARRAY[c.oid, c.reltoastrelid]) FROM pg_catalog.pg_class c"
    " WHERE c.oid = pg_catalog.to_regclass(%s))";
/* pg_settings has both in milliseconds. */
static const char set_format[] =
    "SELECT pg_catalog.set_config('deadlock_timeout', '%dms', true)"
    " FROM pg_catalog.pg_roles r, pg_catalog.pg_settings s WHERE r.rolname = current_user AND r.rolsuper"
    " AND s.name = 'deadlock_timeout' AND s.setting::bigint > %d AND %s;"
    "SELECT w.ms, pg_catalog.set_config('lock_timeout', w.ms::text, true) FROM ("
    "SELECT CASE WHEN s.setting::bigint + %d BETWEEN %d AND %d AND %s THEN s.setting::bigint + %d ELSE %d END AS ms"
    " FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout' OFFSET 0) AS w";
/* clang-format on */

bool lock_timeout_set(DbConn *conn, const char *quoted, int ms, int most_ms, int *ret_ms, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *relation = quoted == NULL ? "" : arena_printf(arena, of_relation_format, sql_literal(arena, quoted));
    const char *vacuum = arena_printf(arena, vacuum_format, relation);

    if (!db_query_last(conn,
                       arena_printf(arena, set_format, SHORTENED_MS, SHORTENED_MS, vacuum, YIELD_MS, ms, most_ms,
                                    vacuum, YIELD_MS, ms),
                       &row, err))
        return error_wrap(err, "limiting how long a lock is waited for");
    if (ret_ms != NULL)
        *ret_ms = (int)db_int64(row, 0, 0);
    return true;
}
