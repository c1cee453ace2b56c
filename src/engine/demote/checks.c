/*
 * What is to be known before a destination is guarded: all of it at once, and nothing is changed.
 *
 * Empty is a database in which no user has anything (preflight_objects_sql), whatever it is called. Those of other jobs
 * are theirs. With allow_non_empty only what clashes counts, and other databases are nobody's business.
 */
#include "engine/demote/demote_internal.h"
#include "engine/instance/provider.h"
#include "engine/preflight/check.h"
#include "pg/quote.h"

#include <string.h>

typedef enum DemoteFinding {
#define X(id, severity, side, google, help) DEMOTE_##id,
#include "engine/demote/findings.def"
#undef X
    DEMOTE_FINDING_MAX_,
} DemoteFinding;

const DemoteFindingInfo demote_findings[] = {
#define X(id, severity, side, google, help) {"DEMOTE_" #id, SEVERITY_##severity, side, google, help},
#include "engine/demote/findings.def"
#undef X
};
const size_t demote_findings_count = COUNT_OF(demote_findings);

enum { NAMES_SHOWN = 20, TEXT_MAX = 16 * 1024 };

typedef struct Check {
    Arena *arena;
    const DemoteInput *input;
    FindingVec *findings;
    DemoteLineVec others; /* lines of other jobs */
} Check;

static void add(const Check *check, DemoteFinding id, const char *object, const char *message, const char *fix) {
    const DemoteFindingInfo *info = &demote_findings[id];
    const Finding finding = {.id = info->id,
                             .code = info->google,
                             .severity = info->severity,
                             .side = info->side,
                             .object = object,
                             .message = message,
                             .fix = fix};

    vec_push(check->arena, check->findings, finding);
}

/* ---- The server ---- */

#define SERVER_SQL                                                                                                     \
    "SELECT pg_catalog.quote_ident(current_user),"                                                                     \
    " (SELECT s.reset_val = 'on' AND pg_catalog.current_setting('pgcrane.guard', true) IS NULL"                        \
    "  FROM pg_catalog.pg_settings s WHERE s.name = 'default_transaction_read_only'),"                                 \
    " pg_catalog.current_setting('synchronous_standby_names'),"                                                        \
    " (SELECT pg_catalog.string_agg(DISTINCT coalesce(w.application_name, '?'), ', ')"                                 \
    "  FROM pg_catalog.pg_stat_replication w),"                                                                        \
    " coalesce((SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'shared_preload_libraries'), ''),"       \
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(o.rolname), ', ' ORDER BY o.rolname)"                       \
    "  FROM pg_catalog.pg_roles o WHERE o.rolsuper AND o.rolcanlogin AND o.rolname <> session_user),"                  \
    " (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(o.rolname), ', ' ORDER BY o.rolname)"                       \
    "  FROM pg_catalog.pg_roles o WHERE o.rolreplication AND NOT o.rolsuper AND o.rolcanlogin"                         \
    "  AND o.rolname <> session_user)"
enum { ROLE, IS_READ_ONLY, SYNCHRONOUS, STANDBYS, LIBRARIES, SUPERUSERS, REPLICATION };

/* Of one that is no superuser. */
#define RIGHTS_SQL                                                                                                     \
    "SELECT pg_catalog.has_database_privilege('" DEMOTE_DATABASE "', 'CREATE')"                                        \
    " OR pg_catalog.to_regnamespace('" DEMOTE_SCHEMA "') IS NOT NULL,"                                                 \
    " pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')"
/* Logins that have whatever ours has: no grant can tell them from us. */
#define MEMBERS_SQL                                                                                                    \
    "SELECT pg_catalog.quote_ident(r.rolname), pg_catalog.quote_ident(session_user) FROM pg_catalog.pg_roles r"        \
    " WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname <> session_user"                                            \
    " AND pg_catalog.pg_has_role(r.oid, session_user, 'USAGE') ORDER BY 1"
#define OWNER_SQL                                                                                                      \
    "SELECT pg_catalog.pg_has_role(d.datdba, 'USAGE'), pg_catalog.quote_ident(r.rolname),"                             \
    " (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(g.rolname), ', ')"                                 \
    "  FROM pg_catalog.aclexplode(d.datacl) AS a JOIN pg_catalog.pg_roles g ON g.oid = a.grantor"                      \
    "  WHERE a.privilege_type = 'CONNECT' AND a.grantor <> d.datdba)"                                                  \
    " FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba WHERE d.datname = $1"

static void note_owner(const Check *check, const char *database, const DbResult *row, const char *role) {
    Arena *arena = check->arena;
    const char *object = arena_printf(arena, "database %s", database);

    if (!db_bool(row, 0, 0))
        add(check, DEMOTE_RIGHTS, object,
            arena_printf(arena, "role %s neither is a superuser nor a member of %s, who owns database %s", role,
                         db_text(row, 0, 1), database),
            arena_printf(arena, "GRANT %s TO %s; -- on the destination", db_text(row, 0, 1), role));
    if (!db_is_null(row, 0, 2))
        add(check, DEMOTE_GRANTORS, object,
            arena_printf(arena,
                         "CONNECT on database %s was granted by %s, who alone could give it back after the promote",
                         database, db_text(row, 0, 2)),
            "have the owner of the database grant it in their place, or use a superuser");
}

static bool check_owners(const Check *check, const char *role, Error *err) {
    const InstanceList *list = check->input->list;

    for (size_t i = 0; i < list->databases.len; i++) {
        CLEANUP(db_result_freep) DbResult *row = NULL;
        const char *database = list->databases.items[i].name;

        if (!db_query(check->input->conn, OWNER_SQL, 1, &database, &row, err))
            return error_wrap(err, "looking who owns database %s", database);
        if (db_rows(row) == 1)
            note_owner(check, database, row, role);
    }
    return true;
}

static bool check_members(const Check *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(check->input->conn, MEMBERS_SQL, 0, NULL, &rows, err))
        return error_wrap(err, "looking who has the rights of our role");
    for (int row = 0; row < db_rows(rows); row++) {
        const char *role = db_text(rows, row, 0), *ours = db_text(rows, row, 1);

        add(check, DEMOTE_MEMBERS, arena_printf(check->arena, "role %s", role),
            arena_printf(check->arena,
                         "role %s has the rights of %s, as whom pgcrane connects, and so may connect to whatever"
                         " database that may: no grant keeps it out",
                         role, ours),
            arena_printf(check->arena,
                         "REVOKE %s FROM %s; -- on the destination, or from the role through which it has them; or use"
                         " a superuser, or a role of pgcrane's own",
                         ours, role));
    }
    return true;
}

static bool check_rights(const Check *check, const char *role, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Arena *arena = check->arena;

    if (!db_query(check->input->conn, RIGHTS_SQL, 0, NULL, &row, err))
        return error_wrap(err, "asking the destination for our rights");
    if (!db_bool(row, 0, 0))
        add(check, DEMOTE_RIGHTS, "database " DEMOTE_DATABASE,
            arena_printf(arena, "role %s may not keep its journal in database " DEMOTE_DATABASE, role),
            arena_printf(arena, "GRANT CREATE ON DATABASE " DEMOTE_DATABASE " TO %s; -- on the destination", role));
    if (!db_bool(row, 0, 1))
        add(check, DEMOTE_SIGNALS, "",
            arena_printf(arena, "role %s may not end sessions of others: those that are there may write on", role),
            arena_printf(arena, "GRANT pg_signal_backend TO %s; -- on the destination", role));
    return check_owners(check, role, err) && check_members(check, err);
}

/* Of roles that the way of guarding does not keep out: told, since nothing can be done about them here. */
static void check_passing(const Check *check, const DbResult *row, bool superuser) {
    Arena *arena = check->arena;

    if (!db_is_null(row, 0, SUPERUSERS))
        add(check, DEMOTE_SUPERUSERS, "",
            arena_printf(arena,
                         superuser ? "superusers who may log in: %s; their transactions are read-only by default, but"
                                     " nothing keeps a superuser from writing to a database that is guarded. Every"
                                     " other role is kept out"
                                   : "superusers who may log in: %s; nothing keeps a superuser from connecting to a"
                                     " database that is guarded, and from writing to it. Every other role but ours is"
                                     " kept out",
                         db_text(row, 0, SUPERUSERS)),
            "");
    if (superuser && !db_is_null(row, 0, REPLICATION))
        add(check, DEMOTE_REPLICATION, "",
            arena_printf(arena,
                         "roles with REPLICATION: %s; the limit of connections that guards a database does not count"
                         " sessions of replication, which may run SQL in it (replication=database), read-only by"
                         " default",
                         db_text(row, 0, REPLICATION)),
            "ALTER ROLE name NOREPLICATION; -- until the promote");
}

static void check_settings(const Check *check, const DbResult *row) {
    Arena *arena = check->arena;

    if (db_bool(row, 0, IS_READ_ONLY))
        add(check, DEMOTE_READ_ONLY, "",
            "the server is read-only by default (default_transaction_read_only): applications could not write to it"
            " after the promote, either",
            "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf(); -- or ALTER ROLE, ALTER "
            "DATABASE"
            " " DEMOTE_DATABASE ", where it was set");
    if (db_text(row, 0, SYNCHRONOUS)[0] != '\0')
        add(check, DEMOTE_SYNCHRONOUS, "",
            arena_printf(arena,
                         "synchronous_standby_names = %s: each commit of the load waits for a standby, and for ever"
                         " when none is there",
                         db_text(row, 0, SYNCHRONOUS)),
            "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf(); -- for the time of the load");
    if (!db_is_null(row, 0, STANDBYS))
        add(check, DEMOTE_STANDBYS, "",
            arena_printf(arena, "the destination has standbys or other replicas: %s; they take all of the load, too",
                         db_text(row, 0, STANDBYS)),
            "");
}

static void check_preloaded(const Check *check, const DbResult *row) {
    static const struct {
        DemoteFinding id;
        const char *library, *what;
    } libraries[] = {
        {DEMOTE_PGAUDIT, "pgaudit", "the load may be logged row by row"},
        {DEMOTE_PG_CRON, "pg_cron", "its jobs write to databases that are guarded"},
    };

    for (size_t i = 0; i < COUNT_OF(libraries); i++)
        if (strstr(db_text(row, 0, LIBRARIES), libraries[i].library) != NULL)
            add(check, libraries[i].id, "",
                arena_printf(check->arena, "%s is in the destination's shared_preload_libraries: %s",
                             libraries[i].library, libraries[i].what),
                arena_printf(check->arena,
                             "take %s out of shared_preload_libraries (now: %s) and restart the destination, until the"
                             " promote",
                             libraries[i].library, db_text(row, 0, LIBRARIES)));
}

static bool check_server(const Check *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    bool superuser = false;

    if (!db_query(check->input->conn, SERVER_SQL, 0, NULL, &row, err))
        return error_wrap(err, "looking at the destination");
    if (!demote_is_superuser(check->input->conn, &superuser, err))
        return false;
    check_settings(check, row);
    check_passing(check, row, superuser);
    check_preloaded(check, row);
    return superuser || check_rights(check, db_text(row, 0, ROLE), err);
}

/* ---- Databases of other jobs ---- */

static const DemoteLine *other_job_of(const Check *check, const char *database) {
    for (size_t i = 0; i < check->others.len; i++)
        if (strcmp(check->others.items[i].database, database) == 0)
            return &check->others.items[i];
    return NULL;
}

static bool is_listed(const Check *check, const char *database) {
    const InstanceList *list = check->input->list;

    for (size_t i = 0; i < list->databases.len; i++)
        if (strcmp(list->databases.items[i].name, database) == 0)
            return true;
    return false;
}

static bool check_jobs(Check *check, Error *err) {
    const InstanceList *list = check->input->list;
    DemoteLineVec lines = {0};

    if (!journal_read(check->input->conn, check->arena, NULL, NULL, &lines, err))
        return false;
    for (size_t i = 0; i < lines.len; i++)
        if (strcmp(lines.items[i].job, check->input->job->id) != 0)
            vec_push(check->arena, &check->others, lines.items[i]);
    for (size_t i = 0; i < list->databases.len; i++) {
        const char *database = list->databases.items[i].name;
        const DemoteLine *other = other_job_of(check, database);

        if (other != NULL)
            add(check, DEMOTE_GUARDED, arena_printf(check->arena, "database %s", database),
                arena_printf(check->arena, "database %s is guarded for another job, %s", database, other->job_name),
                "promote or delete that job first, or take the database out of this one");
    }
    return true;
}

/* ---- What databases hold ---- */

/* What is no object of a schema, and is none that the server was made with; in the form of preflight_objects_sql. */
#define MORE_SQL                                                                                                       \
    "SELECT 'large object ' || m.oid, 'large object', '', '' FROM pg_catalog.pg_largeobject_metadata m UNION ALL"      \
    " SELECT 'event trigger ' || pg_catalog.quote_ident(e.evtname), 'event trigger', '', ''"                           \
    " FROM pg_catalog.pg_event_trigger e WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"                         \
    "  WHERE d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND d.objid = e.oid AND d.deptype = 'e')"  \
    " UNION ALL SELECT 'publication ' || pg_catalog.quote_ident(p.pubname), 'publication', '', ''"                     \
    " FROM pg_catalog.pg_publication p ORDER BY 2, 1"

typedef struct Held {
    DbResult *objects, *more; /* the caller's; NULL when it could not be looked into */
} Held;

static void held_fini(Held *held) {
    db_result_freep(&held->objects);
    db_result_freep(&held->more);
}

static bool read_held(const Check *check, const DbTarget *target, const char *database, Held *ret_held, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    DbTarget there = *target;

    there.database = database;
    return db_open(&there, "demote", db_stop(check->input->conn), &conn, err) &&
           db_query(conn, preflight_objects_sql, 0, NULL, &ret_held->objects, err) &&
           db_query(conn, MORE_SQL, 0, NULL, &ret_held->more, err);
}

/* What cannot be looked into is told; a stop, or a server that is away, ends it. */
static bool look_into(const Check *check, const DbTarget *target, const char *database, Held *ret_held, Error *err) {
    if (read_held(check, target, database, ret_held, err))
        return true;
    held_fini(ret_held);
    if (err->reason == REASON_CANCELLED || err->retryable)
        return error_wrap(err, "looking into database %s of the %s", database, db_side_name(target->side));
    add(check, DEMOTE_CLOSED, arena_printf(check->arena, "database %s", database),
        arena_printf(check->arena, "database %s of the %s cannot be looked into: %s", database,
                     db_side_name(target->side), err->message),
        arena_strdup(check->arena, err->remedy));
    return true;
}

static const char *object_text(Arena *arena, const DbResult *rows, int row) {
    const char *key = db_text(rows, row, 0), *kind = db_text(rows, row, 1);

    return strncmp(key, kind, strlen(kind)) == 0 ? arena_strdup(arena, key) : arena_printf(arena, "%s %s", kind, key);
}

typedef struct Names {
    Buf *text;
    size_t count;
} Names;

static void name_object(const Check *check, const DbResult *rows, int row, Names *names) {
    if (names->count++ < NAMES_SHOWN)
        buf_printf(names->text, "%s%s", names->count > 1 ? ", " : "", object_text(check->arena, rows, row));
}

static const char *names_shown(Arena *arena, const Names *names) {
    return arena_printf(arena, "%s%s", names->text->data,
                        names->count > NAMES_SHOWN ? arena_printf(arena, " and %zu more", names->count - NAMES_SHOWN)
                                                   : "");
}

static void check_empty(const Check *check, const char *database, const Held *held) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, TEXT_MAX);
    Names names = {.text = &text};

    for (int row = 0; row < db_rows(held->objects); row++)
        name_object(check, held->objects, row, &names);
    for (int row = 0; row < db_rows(held->more); row++)
        name_object(check, held->more, row, &names);
    if (names.count > 0)
        add(check, DEMOTE_NOT_EMPTY, arena_printf(check->arena, "database %s", database),
            arena_printf(check->arena,
                         "the destination instance contains existing data or user defined entities: database %s has %s",
                         database, names_shown(check->arena, &names)),
            arena_printf(check->arena,
                         "clear it, with all that is in it: DROP DATABASE %s; -- or ask with allowNonEmpty, when"
                         " nothing of it has the name of what arrives",
                         sql_ident(check->arena, database)));
}

static void check_clash(const Check *check, const char *database, const Held *held, const Held *arrives) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, TEXT_MAX);
    Names names = {.text = &text};
    const RowIndex *index = row_index_new(check->arena, arrives->objects, 0);

    for (int row = 0; row < db_rows(held->objects); row++)
        if (row_index_find(index, db_text(held->objects, row, 0)) >= 0)
            name_object(check, held->objects, row, &names);
    if (names.count > 0)
        add(check, DEMOTE_CLASH, arena_printf(check->arena, "database %s", database),
            arena_printf(check->arena, "database %s of the destination has what the source brings as well: %s",
                         database, names_shown(check->arena, &names)),
            "drop it on the destination, or rename it");
}

static bool check_arriving(const Check *check, const char *database, const Held *held, Error *err) {
    Held arrives = {0};
    bool ok = look_into(check, check->input->source, database, &arrives, err);

    if (ok && arrives.objects != NULL)
        check_clash(check, database, held, &arrives);
    held_fini(&arrives);
    return ok;
}

static bool check_database(const Check *check, const char *database, Error *err) {
    bool is_of_job = is_listed(check, database);
    Held held = {0};
    bool ok = true;

    if (other_job_of(check, database) != NULL || (check->input->allow_non_empty && !is_of_job))
        return true;
    ok = look_into(check, check->input->dest, database, &held, err);
    if (ok && held.objects != NULL && !check->input->allow_non_empty)
        check_empty(check, database, &held);
    else if (ok && held.objects != NULL && db_rows(held.objects) > 0)
        ok = check_arriving(check, database, &held, err);
    held_fini(&held);
    return ok;
}

/* Those that nobody may connect to hold nothing of a user's own; templates are copied, and nothing writes to them. What
 * a managed service keeps for itself is no user's. */
static bool check_databases(const Check *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = arena_printf(check->arena,
                                   "SELECT d.datname FROM pg_catalog.pg_database d WHERE d.datallowconn"
                                   " AND NOT d.datistemplate AND d.datconnlimit <> -2 AND NOT (%s) ORDER BY 1",
                                   provider_database_sql(check->arena, "d.datname"));

    if (!db_query(check->input->conn, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing the databases of the destination");
    for (int row = 0; row < db_rows(rows); row++)
        if (!check_database(check, db_text(rows, row, 0), err))
            return false;
    return true;
}

/* Whoever is no superuser may not (before 16): that is told already. */
static bool may_not_see(const Error *err) {
    return err->reason == REASON_NOT_PERMITTED;
}

/* Its worker is no session that a limit keeps out, and is not read-only. */
static bool check_subscriptions(const Check *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(check->input->conn,
                  "SELECT d.datname, pg_catalog.string_agg(pg_catalog.quote_ident(s.subname), ', ' ORDER BY s.subname)"
                  " FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid GROUP BY 1"
                  " ORDER BY 1",
                  0, NULL, &rows, err))
        return may_not_see(err) || error_wrap(err, "looking for subscriptions of the destination");
    for (int row = 0; row < db_rows(rows); row++) {
        const char *database = db_text(rows, row, 0);

        if (is_listed(check, database))
            add(check, DEMOTE_SUBSCRIPTION, arena_printf(check->arena, "database %s", database),
                arena_printf(check->arena, "subscriptions write to database %s of the destination: %s", database,
                             db_text(rows, row, 1)),
                "ALTER SUBSCRIPTION name DISABLE; then DROP SUBSCRIPTION name; -- in that database");
    }
    return true;
}

/* Whoever commits one has it written then, however long ago it was prepared: no session has to come in before. */
static bool check_prepared(const Check *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(check->input->conn,
                  "SELECT p.database, pg_catalog.string_agg(pg_catalog.quote_literal(p.gid), ', ' ORDER BY p.gid)"
                  " FROM pg_catalog.pg_prepared_xacts p GROUP BY 1 ORDER BY 1",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for prepared transactions of the destination");
    for (int row = 0; row < db_rows(rows); row++) {
        const char *database = db_text(rows, row, 0);

        if (is_listed(check, database))
            add(check, DEMOTE_PREPARED, arena_printf(check->arena, "database %s", database),
                arena_printf(check->arena,
                             "prepared transactions of database %s of the destination, which would be written when they"
                             " are committed: %s",
                             database, db_text(rows, row, 1)),
                "ROLLBACK PREPARED 'name', or COMMIT PREPARED 'name'; -- in that database");
    }
    return true;
}

bool demote_check(Arena *arena, const DemoteInput *input, FindingVec *findings, Error *err) {
    Check check = {.arena = arena, .input = input, .findings = findings};

    return check_server(&check, err) && check_jobs(&check, err) && check_databases(&check, err) &&
           check_subscriptions(&check, err) && check_prepared(&check, err);
}
