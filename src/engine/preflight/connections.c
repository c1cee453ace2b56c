/* Room for our sessions on a server: its own limit, the role's and the database's. */
#include "engine/preflight/check.h"

#include <unistd.h>

enum {
    OTHER_SESSIONS = 3, /* snapshot keeper, coordinator and pg_dump */
    OPEN_SESSIONS = 1,  /* the one that asks is counted by the server already */
};

static int64_t sessions_wanted(const MigrateOptions *options) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t jobs = options->jobs > 0 ? options->jobs : MAX((int64_t)cores, 2);
    return MAX(jobs, options->index_jobs) + OTHER_SESSIONS;
}

/* One row: what is left on the server, for the role and for the database (NULL = no limit), with each limit's size. */
static const char *room_sql(Preflight *p, int major) {
    const char *reserved = major >= 16 ? "- pg_catalog.current_setting('reserved_connections')::int" : "";
    return arena_printf(
        p->scratch,
        "SELECT pg_catalog.current_setting('max_connections')::int - s.used"
        " - CASE WHEN r.rolsuper THEN 0"
        "   ELSE pg_catalog.current_setting('superuser_reserved_connections')::int END"
        "   %s, pg_catalog.current_setting('max_connections'),"
        " CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit - s.of_role END, r.rolconnlimit,"
        " CASE WHEN b.datconnlimit >= 0 AND NOT r.rolsuper THEN b.datconnlimit - s.of_database END, b.datconnlimit,"
        " pg_catalog.quote_ident(b.datname)"
        " FROM pg_catalog.pg_roles r, pg_catalog.pg_database b,"
        " (SELECT pg_catalog.count(*) AS used,"
        "   pg_catalog.count(*) FILTER (WHERE a.usesysid = (SELECT u.oid FROM pg_catalog.pg_roles u"
        "     WHERE u.rolname = session_user)) AS of_role,"
        "   pg_catalog.count(*) FILTER (WHERE a.datid = (SELECT d.oid FROM pg_catalog.pg_database d"
        "     WHERE d.datname = pg_catalog.current_database())) AS of_database"
        "   FROM pg_catalog.pg_stat_activity a"
        /* The type is hidden from roles that may not look at the session. */
        "   WHERE a.datid IS NOT NULL AND COALESCE(a.backend_type, 'client backend') = 'client backend') s"
        " WHERE r.rolname = session_user AND b.datname = pg_catalog.current_database()",
        reserved);
}

static bool check_connections(Preflight *p, DbSide side, CheckId check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, side, room_sql(p, db_major(preflight_conn(p, side))), &rows, err))
        return false;
    if (db_rows(rows) != 1)
        return error_set(err, REASON_SQL_FAILED, "%s: the session's role is not in pg_roles", db_side_name(side));
    int64_t more = sessions_wanted(p->input->options) - OPEN_SESSIONS;
    const char *role = (side == DB_SOURCE ? &p->source_role : &p->dest_role)->quoted;
    const char *database = db_text(rows, 0, 6);
    const char *const names[] = {"server", arena_printf(p->scratch, "role %s", role),
                                 arena_printf(p->scratch, "database %s", database)};
    const char *const owners[] = {"SYSTEM", arena_printf(p->scratch, "ROLE %s", role),
                                  arena_printf(p->scratch, "DATABASE %s", database)};
    /* The limit of a database that is yet to be made is the source's, and is looked at there. */
    size_t limits = side == DB_DEST && p->input->dest_absent ? COUNT_OF(names) - 1 : COUNT_OF(names);
    for (size_t i = 0; i < limits; i++) {
        int64_t left = db_int64(rows, 0, (int)(2 * i));
        if (db_is_null(rows, 0, (int)(2 * i)) || left >= more)
            continue;
        int64_t limit = db_int64(rows, 0, (int)(2 * i + 1));
        const char *message =
            arena_printf(p->scratch, "%lld more sessions are needed, but the limit of %lld of the %s leaves %lld",
                         (long long)more, (long long)limit, names[i], (long long)MAX(left, 0));
        const char *fix =
            i > 0 ? arena_printf(p->scratch, "ALTER %s CONNECTION LIMIT -1;", owners[i])
                  : arena_printf(
                        p->scratch,
                        "ALTER SYSTEM SET max_connections = %lld; -- then restart the server; or use fewer --jobs",
                        (long long)(limit + more - left));
        finding_add(p, check, i == 0 ? "" : names[i], message, fix);
    }
    return true;
}

bool check_source_connections(Preflight *p, Error *err) {
    return check_connections(p, DB_SOURCE, CHECK_SOURCE_CONNECTIONS, err);
}

bool check_dest_connections(Preflight *p, Error *err) {
    return check_connections(p, DB_DEST, CHECK_DESTINATION_CONNECTIONS, err);
}
