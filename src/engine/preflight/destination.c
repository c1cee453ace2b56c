/* The destination as a server: version, rights, encoding, locale, settings. */
#include "engine/preflight/check.h"
#include "pg/event_triggers.h"

#include <ctype.h>

bool check_dest_version(Preflight *p, Error *err) {
    (void)err;
    int source = db_major(p->input->source);
    int dest = db_major(p->input->dest);
    check_version_of(p, CHECK_DESTINATION_VERSION, DB_DEST);
    if (dest < source)
        finding_add(
            p, CHECK_DESTINATION_OLDER, "",
            arena_printf(p->scratch,
                         "the destination is PostgreSQL %d, older than the source's %d, whose definitions it may "
                         "not understand",
                         dest, source),
            arena_printf(p->scratch, "choose a destination of PostgreSQL %d or later", source));
    return true;
}

typedef struct ServerIdentity {
    const char *system;
    const char *started;
    const char *database;
    bool in_recovery;
} ServerIdentity;

static bool identity_read(Preflight *p, DbSide side, ServerIdentity *ret_identity, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, side,
                         "SELECT EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()), d.oid,"
                         " pg_catalog.pg_is_in_recovery(), s.system_identifier"
                         " FROM pg_catalog.pg_database d, pg_catalog.pg_control_system() s"
                         " WHERE d.datname = pg_catalog.current_database()",
                         &rows, err)) {
        if (err->reason == REASON_NOT_PERMITTED)
            (void)error_remedy(err, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO %s;",
                               (side == DB_SOURCE ? &p->source_role : &p->dest_role)->quoted);
        return false;
    }
    *ret_identity = (ServerIdentity){
        .system = arena_strdup(p->scratch, db_text(rows, 0, 3)),
        .started = arena_strdup(p->scratch, db_text(rows, 0, 0)),
        .database = arena_strdup(p->scratch, db_text(rows, 0, 1)),
        .in_recovery = db_bool(rows, 0, 2),
    };
    return true;
}

/* A server restored from a base backup has the same system identifier and oids, but is another one: it was started at
 * another time. A standby and its primary are one, whenever they were started. */
bool check_same_database(Preflight *p, Error *err) {
    ServerIdentity source, dest;
    if (!identity_read(p, DB_SOURCE, &source, err) || !identity_read(p, DB_DEST, &dest, err))
        return false;
    bool one_server = strcmp(source.started, dest.started) == 0 || source.in_recovery || dest.in_recovery;
    if (one_server && strcmp(source.system, dest.system) == 0 && strcmp(source.database, dest.database) == 0)
        finding_add(
            p, CHECK_SAME_DATABASE, "",
            arena_printf(p->scratch, "source and destination are the same database, %s", db_name(p->input->source)),
            "name another database or server as the destination");
    return true;
}

/* Our sessions set default_transaction_read_only off; what a database or role says otherwise is the reset value. */
bool check_dest_writable(Preflight *p, Error *err) {
    static const SqlCheck standby = {
        .check = CHECK_DESTINATION_STANDBY,
        .side = DB_DEST,
        .sql = "SELECT WHERE pg_catalog.pg_is_in_recovery()",
        .object = "",
        .message = "the destination is a standby and takes no writes",
        .fix = "connect to its primary, or promote it: SELECT pg_promote();",
    };
    static const SqlCheck read_only = {
        .check = CHECK_DESTINATION_READ_ONLY,
        .side = DB_DEST,
        .columns = 1,
        .sql = "SELECT pg_catalog.quote_ident(pg_catalog.current_database()) FROM pg_catalog.pg_settings s"
               " WHERE s.name = 'default_transaction_read_only' AND s.reset_val = 'on'"
               /* a guard's own (engine/demote), which goes with the guard */
               " AND pg_catalog.current_setting('pgcrane.guard', true) IS NULL",
        .object = "database {1}",
        .message =
            "transactions of database {1} of the destination are read only by default: pgcrane writes all the same,"
            " applications will not",
        .fix = "BEGIN READ WRITE; ALTER DATABASE {1} SET default_transaction_read_only = off; COMMIT;",
    };
    return check_by_sql(p, &standby, err) && check_by_sql(p, &read_only, err);
}

bool check_dest_create(Preflight *p, Error *err) {
    static const SqlCheck create = {
        .check = CHECK_DESTINATION_CREATE_PRIVILEGE,
        .side = DB_DEST,
        .columns = 2,
        .sql = "SELECT pg_catalog.quote_ident(pg_catalog.current_database()), pg_catalog.quote_ident(current_user)"
               " WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')",
        .object = "database {1}",
        .message = "role {2} may not create schemas in database {1} of the destination",
        .fix = "GRANT CREATE ON DATABASE {1} TO {2};",
    };
    static const SqlCheck temp = {
        .check = CHECK_DESTINATION_TEMP_PRIVILEGE,
        .side = DB_DEST,
        .columns = 2,
        .sql = "SELECT pg_catalog.quote_ident(pg_catalog.current_database()), pg_catalog.quote_ident(current_user)"
               " WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')",
        .object = "database {1}",
        .message = "role {2} may not make temporary tables in database {1} of the destination",
        .fix = "GRANT TEMPORARY ON DATABASE {1} TO {2};",
    };
    return check_by_sql(p, &create, err) && check_by_sql(p, &temp, err);
}

/* Schemas that both sides have and in which the source has something that pg_dump writes. */
bool check_dest_schema_create(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *closed = NULL;
    CLEANUP(db_result_freep) DbResult *used = NULL;
    if (p->input->options->data_only)
        return true;
    if (!preflight_query(p, DB_DEST,
                         "SELECT n.nspname, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n"
                         " WHERE " SQL_USER_SCHEMA " AND NOT pg_catalog.has_schema_privilege(n.oid, 'CREATE')",
                         &closed, err))
        return false;
    if (db_rows(closed) == 0)
        return true;
    if (!preflight_query(
            p, DB_SOURCE,
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')"
            " AND " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(
                "pg_class", "c") " UNION ALL"
                                 " SELECT n.nspname, r.proname FROM pg_catalog.pg_proc r"
                                 " JOIN pg_catalog.pg_namespace n ON n.oid = r.pronamespace"
                                 " WHERE " SQL_USER_SCHEMA " AND " SQL_NOT_MEMBER(
                                     "pg_proc", "r") " UNION ALL"
                                                     " SELECT n.nspname, t.typname FROM pg_catalog.pg_type t"
                                                     " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
                                                     " WHERE t.typtype IN ('d', 'e', 'r') AND " SQL_USER_SCHEMA
                                                     " AND " SQL_NOT_MEMBER("pg_type", "t"),
            &used, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, closed, 0);
    bool *reported = arena_array(p->scratch, bool, (size_t)db_rows(closed));
    for (int row = 0; row < db_rows(used); row++) {
        bool passes = false;
        int found = row_index_find(index, db_text(used, row, 0));
        if (found < 0 || reported[found])
            continue;
        if (!preflight_passes(p, db_text(used, row, 0), db_text(used, row, 1), &passes, err))
            return false;
        if (!passes)
            continue;
        reported[found] = true;
        const char *const values[] = {db_text(closed, found, 1), p->dest_role.quoted};
        finding_add(
            p, CHECK_DESTINATION_SCHEMA_PRIVILEGE, template_fill(p->scratch, "schema {1}", values, 2),
            template_fill(p->scratch, "role {2} may not create objects in schema {1} of the destination", values, 2),
            template_fill(p->scratch, "GRANT CREATE ON SCHEMA {1} TO {2};", values, 2));
    }
    return true;
}

static const char *dest_database(Preflight *p) {
    return arena_printf(p->scratch, "database %s", db_name(p->input->dest));
}

static bool encoding_read(Preflight *p, DbSide side, char **ret_encoding, Error *err) {
    return db_query_value(preflight_conn(p, side), p->scratch, "SELECT pg_catalog.current_setting('server_encoding')",
                          0, NULL, ret_encoding, err);
}

/* Text travels as UTF8, which each server turns into its own encoding. SQL_ASCII turns nothing. */
bool check_encoding(Preflight *p, Error *err) {
    char *source = NULL, *dest = NULL;
    if (!encoding_read(p, DB_SOURCE, &source, err) || !encoding_read(p, DB_DEST, &dest, err))
        return false;
    if (strcmp(source, dest) == 0)
        return true;
    if (strcmp(source, "SQL_ASCII") == 0)
        finding_add(
            p, CHECK_ENCODING_UNCHECKED, dest_database(p),
            arena_printf(p->scratch,
                         "the source is SQL_ASCII, where any bytes are text: those that are not valid as UTF8 will "
                         "be refused by the destination (%s)",
                         dest),
            "CREATE DATABASE name TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'; -- on the destination");
    else if (strcmp(dest, "SQL_ASCII") == 0)
        finding_add(
            p, CHECK_ENCODING_UNCHECKED, dest_database(p),
            arena_printf(p->scratch,
                         "the destination is SQL_ASCII: text of the source (%s) arrives as bytes of UTF8 and is "
                         "never checked again",
                         source),
            "CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8'; -- on the destination");
    else if (strcmp(dest, "UTF8") != 0)
        finding_add(
            p, CHECK_DESTINATION_ENCODING, dest_database(p),
            arena_printf(p->scratch, "the destination's encoding %s does not hold every character of the source's %s",
                         dest, source),
            arena_printf(p->scratch, "CREATE DATABASE name TEMPLATE template0 ENCODING '%s'; -- on the destination",
                         source));
    return true;
}

static const char *locale_skip(const char *text) {
    while (*text == '-')
        text++;
    return text;
}

bool locale_same(const char *left, const char *right) {
    if (strcmp(left, "POSIX") == 0)
        left = "C";
    if (strcmp(right, "POSIX") == 0)
        right = "C";
    for (;;) {
        left = locale_skip(left);
        right = locale_skip(right);
        if (tolower((unsigned char)*left) != tolower((unsigned char)*right))
            return false;
        if (*left == '\0')
            return true;
        left++;
        right++;
    }
}

typedef struct DatabaseLocale {
    const char *provider, *collate, *ctype, *locale;
} DatabaseLocale;

static bool locale_read(Preflight *p, DbSide side, DatabaseLocale *ret_locale, Error *err) {
    int major = db_major(preflight_conn(p, side));
    const char *provider =
        major >= 15 ? "CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END" : "'libc'";
    const char *locale = major >= 17 ? "d.datlocale" : major >= 15 ? "d.daticulocale" : "NULL";
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    if (!preflight_query(p, side,
                         arena_printf(p->scratch,
                                      "SELECT %s, d.datcollate, d.datctype, %s FROM pg_catalog.pg_database d"
                                      " WHERE d.datname = pg_catalog.current_database()",
                                      provider, locale),
                         &rows, err))
        return false;
    *ret_locale = (DatabaseLocale){
        arena_strdup(p->scratch, db_text(rows, 0, 0)),
        arena_strdup(p->scratch, db_text(rows, 0, 1)),
        arena_strdup(p->scratch, db_text(rows, 0, 2)),
        arena_strdup(p->scratch, db_text(rows, 0, 3)),
    };
    return true;
}

static const char *locale_describe(Arena *arena, const DatabaseLocale *locale) {
    if (strcmp(locale->provider, "libc") != 0)
        return arena_printf(arena, "%s %s", locale->provider, locale->locale);
    if (locale_same(locale->collate, locale->ctype))
        return arena_printf(arena, "libc %s", locale->collate);
    return arena_printf(arena, "libc %s with ctype %s", locale->collate, locale->ctype);
}

/* How to make a database that sorts as the source does. */
static const char *locale_fix(Arena *arena, const DatabaseLocale *locale) {
    const char *start = "CREATE DATABASE name TEMPLATE template0";
    if (strcmp(locale->provider, "icu") == 0)
        return arena_printf(arena, "%s LOCALE_PROVIDER icu ICU_LOCALE '%s' LOCALE '%s'; -- on the destination", start,
                            locale->locale, locale->collate);
    if (strcmp(locale->provider, "builtin") == 0)
        return arena_printf(arena, "%s LOCALE_PROVIDER builtin BUILTIN_LOCALE '%s' LOCALE '%s'; -- on the destination",
                            start, locale->locale, locale->collate);
    return arena_printf(arena, "%s LC_COLLATE '%s' LC_CTYPE '%s'; -- on the destination", start, locale->collate,
                        locale->ctype);
}

bool check_locale(Preflight *p, Error *err) {
    DatabaseLocale source, dest;
    if (!locale_read(p, DB_SOURCE, &source, err) || !locale_read(p, DB_DEST, &dest, err))
        return false;
    const char *ours = locale_describe(p->scratch, &source);
    const char *theirs = locale_describe(p->scratch, &dest);
    if (locale_same(ours, theirs))
        return true;
    finding_add(
        p, CHECK_DESTINATION_LOCALE, dest_database(p),
        arena_printf(p->scratch,
                     "the source sorts text by locale %s and the destination by %s: the order of rows, the bounds "
                     "of partitions by text and what counts as a letter may differ",
                     ours, theirs),
        locale_fix(p->scratch, &source));
    return true;
}

bool check_dest_event_trigger(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_DESTINATION_EVENT_TRIGGER,
        .side = DB_DEST,
        .columns = 3,
        .sql = "SELECT pg_catalog.quote_ident(t.evtname), t.evtevent, " SQL_EVENT_TRIGGER_ENABLE(
            "t") " FROM pg_catalog.pg_event_trigger t"
                 " WHERE t.evtenabled <> 'D' AND t.evtevent <> 'login'"
                 " AND " SQL_NOT_MEMBER("pg_event_trigger", "t") " ORDER BY t.evtname",
        .object = "event trigger {1}",
        .message = "event trigger {1} ({2}) of the destination fires on each definition that pgcrane makes",
        .fix = "ALTER EVENT TRIGGER {1} DISABLE; -- until the migration is done; then ALTER EVENT TRIGGER {1} {3};",
    };
    return p->input->resuming || check_by_sql(p, &check, err);
}

/* Tried and rolled back: managed services allow it by means of their own that no catalogue shows. */
bool check_dest_replica_role(Preflight *p, Error *err) {
    DbConn *dest = p->input->dest;
    bool may = db_exec(dest, "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK", err);
    db_rollback(dest);
    if (may)
        return true;
    if (err->reason != REASON_NOT_PERMITTED)
        return false;
    const char *fix =
        db_major(dest) >= 15
            ? arena_printf(p->scratch, "GRANT SET ON PARAMETER session_replication_role TO %s;", p->dest_role.quoted)
            : "";
    static const struct {
        CheckId check;
        const char *message;
    } rows[] = {
        {CHECK_DESTINATION_REPLICA_ROLE, "triggers of tables that exist already fire on the rows that arrive"},
        {CHECK_FOLLOW_REPLICA_ROLE, "foreign keys are added only when the source is closed at the promote, which adds"
                                    " their checks to the outage"},
    };
    size_t row = p->input->options->follow ? 1 : 0;
    finding_add(p, rows[row].check, "",
                arena_printf(p->scratch, "role %s may not set session_replication_role: %s", p->dest_role.quoted,
                             rows[row].message),
                fix);
    return true;
}

bool check_dest_wal_size(Preflight *p, Error *err) {
    enum { LARGEST_ADVISED_GB = 64 };
    int64_t bytes = 0;
    char *setting = NULL;
    if (p->input->options->schema_only)
        return true;
    if (!preflight_source_bytes(p, &bytes, err) ||
        !db_query_value(p->input->dest, p->scratch,
                        "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))", 0, NULL,
                        &setting, err))
        return false;
    int64_t gigabytes = MIN(bytes >> 30, LARGEST_ADVISED_GB);
    if (gigabytes < 2 || (gigabytes << 30) <= strtoll(setting, NULL, 10))
        return true;
    finding_add(p, CHECK_DESTINATION_WAL_SIZE, "",
                arena_printf(p->scratch,
                             "max_wal_size is %lld MB for %lld GB of data: frequent checkpoints slow the load down",
                             (long long)(strtoll(setting, NULL, 10) >> 20), (long long)(bytes >> 30)),
                arena_printf(p->scratch, "ALTER SYSTEM SET max_wal_size = '%lldGB'; SELECT pg_reload_conf();",
                             (long long)gigabytes));
    return true;
}

bool check_dest_synchronous(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_DESTINATION_SYNCHRONOUS,
        .side = DB_DEST,
        .columns = 1,
        .sql = "SELECT pg_catalog.current_setting('synchronous_standby_names')"
               " WHERE pg_catalog.current_setting('synchronous_standby_names') <> ''",
        .object = "",
        .message =
            "synchronous_standby_names = {1}: each commit of the load waits for a standby, and for ever when none is"
            " there",
        .fix = "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf(); -- for the time of the load",
    };
    return check_by_sql(p, &check, err);
}
