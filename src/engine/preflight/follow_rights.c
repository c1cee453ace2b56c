/* Following, the role's part: to read changes, to publish tables, to stop writes at the promote. */
#include "engine/preflight/follow.h"

#include "pg/event_triggers.h"

#include <string.h>

static bool fence_is(const Preflight *p, const char *how) {
    return p->input->options->fence != NULL && strcmp(p->input->options->fence, how) == 0;
}

/* --- To read changes ---------------------------------------------------------------------------------------------- */

bool check_follow_replication(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *may = NULL;
    Provider provider = PROVIDER_SELF;

    /* The attribute is never inherited: it counts for the role that logged in, and for functions on slots for the one
     * that it became (ALTER ROLE ... SET role). */
    if (!preflight_query(p, DB_SOURCE,
                         "SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles r"
                         " WHERE r.rolname IN (session_user, current_user) AND NOT r.rolsuper AND NOT r.rolreplication"
                         " AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication'"
                         "  AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')) ORDER BY r.rolname = session_user",
                         &may, err) ||
        !provider_of(p, DB_SOURCE, &provider, err))
        return false;
    for (int i = 0; i < db_rows(may); i++) {
        const char *role = db_text(may, i, 0);

        finding_add(p, CHECK_FOLLOW_REPLICATION, "",
                    arena_printf(p->scratch, "role %s may not read the source's changes (no REPLICATION)", role),
                    provider_replication(p->scratch, provider, role));
    }
    return true;
}

/* --- To publish --------------------------------------------------------------------------------------------------- */

bool check_follow_publish(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_PUBLISH,
        .side = DB_SOURCE,
        .columns = 2,
        .sql = "SELECT pg_catalog.quote_ident(pg_catalog.current_database()), pg_catalog.quote_ident(current_user)"
               " WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')",
        .object = "database {1}",
        .message = "role {2} may not create publications in database {1} of the source",
        .fix = "GRANT CREATE ON DATABASE {1} TO {2};",
    };
    return check_by_sql(p, &check, err);
}

bool check_follow_owner(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_PUBLISH_OWNER,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 5,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(o.rolname), pg_catalog.quote_ident(current_user)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " JOIN pg_catalog.pg_roles o ON o.oid = c.relowner"
               " WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND " SQL_USER_SCHEMA
               " AND " SQL_NOT_MEMBER("pg_class", "c") " AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')"
                                                       " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "role {5} may not publish table {3}, which belongs to {4}",
        .fix = "GRANT {4} TO {5};",
    };
    return check_by_sql(p, &check, err);
}

bool check_follow_all_tables(Preflight *p, Error *err) {
    (void)err;
    if (!p->source_role.superuser)
        finding_add(p, CHECK_FOLLOW_PUBLISH_ALL, "",
                    arena_printf(p->scratch,
                                 "role %s is no superuser, so tables are published one by one: one that is made later"
                                 " is noticed, and copied when the migration is promoted",
                                 p->source_role.quoted),
                    "");
    return true;
}

enum { DDL_VERSION = 140000 }; /* before, pgoutput leaves logical messages out */

/* Services let their own administrators make event triggers. */
bool check_follow_ddl(Preflight *p, Error *err) {
    (void)err;
    if (!p->input->options->ddl)
        return true;
    if (db_version(p->input->source) < DDL_VERSION)
        finding_add(p, CHECK_FOLLOW_DDL_VERSION, "",
                    arena_printf(p->scratch,
                                 "the source is PostgreSQL %d: --ddl needs 14 or later, as commands travel in logical"
                                 " messages, which are not in the stream before",
                                 db_major(p->input->source)),
                    "leave out --ddl: changes of definitions are then noticed and reported, not followed");
    else if (!p->source_role.superuser && !p->source_role.managed)
        finding_add(p, CHECK_FOLLOW_DDL, "",
                    arena_printf(p->scratch,
                                 "role %s may not create event triggers on the source, which --ddl needs to follow"
                                 " changes of definitions",
                                 p->source_role.quoted),
                    "connect as a superuser, or leave out --ddl: changes of definitions are then noticed and reported,"
                    " not followed");
    return true;
}

/* What the application's event triggers still see is tried, and rolled back: managed services have their own ways. */
static bool find_unsilenced(Preflight *p, const char **ret_enabled, Error *err) {
    DbConn *source = p->input->source;
    const char *set = NULL;
    bool ok = db_exec(source, "BEGIN", err) && event_triggers_silence(source, &set, err);

    db_rollback(source);
    if (!ok)
        return false;
    if (set == NULL)
        *ret_enabled = "{O,A}";
    else
        *ret_enabled = strcmp(set, "event_triggers") == 0 ? "{}" : "{A,R}";
    return true;
}

static const char *commands_on_source(Preflight *p) {
    const MigrateOptions *options = p->input->options;

    return arena_printf(p->scratch, "{CREATE PUBLICATION,ALTER PUBLICATION,DROP PUBLICATION,COMMENT%s%s}",
                        options->identity_full ? ",ALTER TABLE" : "",
                        options->ddl ? ",CREATE SCHEMA,CREATE FUNCTION,CREATE MATERIALIZED VIEW,REVOKE,DROP SCHEMA"
                                     : "");
}

bool check_follow_event_trigger(Preflight *p, Error *err) {
    static const char sql[] = "SELECT pg_catalog.quote_ident(t.evtname), t.evtevent, " SQL_EVENT_TRIGGER_ENABLE(
        "t") " FROM pg_catalog.pg_event_trigger t WHERE t.evtenabled = ANY ($1::\"char\"[]) AND t.evtname !~ "
             "'^pgcrane_'"
             " AND t.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop')"
             " AND coalesce(t.evttags && $2::text[], true) AND " SQL_NOT_MEMBER("pg_event_trigger", "t") " ORDER BY 1";
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *values[] = {NULL, commands_on_source(p)};

    if (!find_unsilenced(p, &values[0], err) || !db_query(p->input->source, sql, 2, values, &rows, err))
        return false;
    for (int i = 0; i < db_rows(rows); i++) {
        const char *name = db_text(rows, i, 0);

        finding_add(
            p, CHECK_FOLLOW_EVENT_TRIGGER, arena_printf(p->scratch, "event trigger %s", name),
            arena_printf(p->scratch,
                         "event trigger %s (%s) of the source fires on what pgcrane makes and removes there, as"
                         " role %s may not keep it from that: what it writes has lines of pgcrane's, and what it"
                         " forbids ends the migration",
                         name, db_text(rows, i, 1), p->source_role.quoted),
            arena_printf(p->scratch,
                         "ALTER EVENT TRIGGER %s DISABLE; -- it arrives disabled, too: behind the promote, on the"
                         " destination (and on the source, when the migration is given up): ALTER EVENT TRIGGER %s %s;",
                         name, name, db_text(rows, i, 2)));
    }
    return true;
}

/* --- To stop writes ----------------------------------------------------------------------------------------------- */

bool check_follow_fence_database(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_FENCE_DATABASE,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(d.datname), pg_catalog.quote_ident(o.rolname),"
               " pg_catalog.quote_ident(current_user) FROM pg_catalog.pg_database d"
               " JOIN pg_catalog.pg_roles o ON o.oid = d.datdba WHERE d.datname = pg_catalog.current_database()"
               " AND NOT pg_catalog.pg_has_role(d.datdba, 'USAGE')",
        .object = "database {1}",
        .message = "role {3} may not make database {1} read-only, which belongs to {2}: promote --fence full will be"
                   " refused",
        .fix = "GRANT {2} TO {3}; -- or ALTER DATABASE {1} OWNER TO {3}, or --fence locks",
    };
    return !fence_is(p, "full") || check_by_sql(p, &check, err);
}

bool check_follow_fence_signal(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_FENCE_SIGNAL,
        .side = DB_SOURCE,
        .columns = 1,
        .sql = "SELECT pg_catalog.quote_ident(current_user)"
               " WHERE NOT pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')",
        .object = "",
        .message = "role {1} may not end the application's sessions: promote --fence full will be refused",
        .fix = "GRANT pg_signal_backend TO {1}; -- or --fence locks",
    };
    return !fence_is(p, "full") || check_by_sql(p, &check, err);
}

/* Tables that the role may not even publish are listed by FOLLOW_PUBLISH_OWNER. */
bool check_follow_fence_lock(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_FENCE_LOCK,
        .side = DB_SOURCE,
        .by_table = true,
        .columns = 4,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(current_user)"
               " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u') AND " SQL_USER_SCHEMA
               " AND " SQL_NOT_MEMBER(
                   "pg_class", "c") " AND (c.relpersistence = 'u' OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))"
                                    " AND NOT pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE')"
                                    " ORDER BY n.nspname, c.relname",
        .object = "table {3}",
        .message = "role {4} may not lock table {3} against writes: the promote will be refused",
        .fix = "GRANT UPDATE ON TABLE {3} TO {4}; -- or --fence none, which proves nothing",
    };
    return fence_is(p, "none") || check_by_sql(p, &check, err);
}

/* All of them at once, beside what the application locks. More than all there is: SOURCE_LOCKS. */
bool check_follow_fence_room(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_FOLLOW_FENCE_ROOM,
        .side = DB_SOURCE,
        .columns = 3,
        .sql = "SELECT t.count, s.slots * s.per_slot, t.count * 2 / s.slots + 1"
               " FROM (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c"
               "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               "  WHERE c.relkind IN ('r', 'p') AND " SQL_USER_SCHEMA ") t,"
               " (SELECT pg_catalog.current_setting('max_connections')::bigint"
               "   + pg_catalog.current_setting('max_prepared_transactions')::bigint AS slots,"
               "   pg_catalog.current_setting('max_locks_per_transaction')::bigint AS per_slot) s"
               " WHERE t.count * 2 > s.slots * s.per_slot AND t.count <= s.slots * s.per_slot",
        .object = "",
        .message = "the promote locks all {1} tables at once, and the source's lock table holds {2}: the application's"
                   " own statements may then fail",
        .fix = "ALTER SYSTEM SET max_locks_per_transaction = {3}; -- then restart the server",
    };
    return fence_is(p, "none") || check_by_sql(p, &check, err);
}
