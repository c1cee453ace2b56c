/*
 * Before the fence: would it stand? Privileges, sessions, prepared transactions, room for the locks.
 *
 * Nothing here keeps anybody from anything. That the database may be altered is tried, and rolled back: managed
 * services have rules of their own about that. The rest is what the server says about privileges.
 */
#include "engine/promote/promote_internal.h"

#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

enum { NAMES_SHOWN = 5 };

bool promote_prepared(const Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.quote_literal(gid), owner, pg_catalog.date_trunc('second', prepared)"
                  " FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY prepared",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for prepared transactions");
    for (int i = 0; i < db_rows(rows); i++) {
        const char *gid = db_text(rows, i, 0);

        vec_push(promote->arena, problems,
                 arena_printf(promote->arena,
                              "transaction %s of %s is prepared since %s and could commit at any time: run COMMIT"
                              " PREPARED %s or ROLLBACK PREPARED %s on the source",
                              gid, db_text(rows, i, 1), db_text(rows, i, 2), gid, gid));
    }
    return true;
}

static bool try_setting(Promote *promote, StringVec *problems, Error *err) {
    DbConn *source = promote->params->source;
    const char *name = sql_ident(promote->arena, db_name(source));
    bool ok = db_execf(source, err,
                       "BEGIN READ WRITE; SET LOCAL lock_timeout = '1s';"
                       " ALTER DATABASE %s SET default_transaction_read_only = on; ROLLBACK",
                       name);

    if (ok)
        return true;
    db_rollback(source);
    if (err->reason != REASON_NOT_PERMITTED)
        return error_wrap(err, "trying to make the source database read-only");
    vec_push(promote->arena, problems,
             arena_printf(promote->arena,
                          "%s may not make database %s read-only (%s): as a superuser ALTER DATABASE %s OWNER TO %s,"
                          " or promote with --fence locks",
                          db_user(source), db_name(source), err->message, name,
                          sql_ident(promote->arena, db_user(source))));
    return true;
}

static bool check_sessions(Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    DbConn *source = promote->params->source;

    if (!db_query(source,
                  "SELECT " PROMOTE_WHO ", coalesce(r.rolsuper, true)" PROMOTE_SESSIONS " AND NOT " PROMOTE_MAY_END
                  " ORDER BY 2 DESC, a.pid",
                  1, (const char *const[]){promote->params->job_id}, &rows, err))
        return error_wrap(err, "looking at the source's sessions");
    for (int i = 0; i < MIN(db_rows(rows), NAMES_SHOWN); i++)
        vec_push(promote->arena, problems,
                 db_bool(rows, i, 1)
                     ? arena_printf(promote->arena,
                                    "%s is a superuser's, which only a superuser may end: end it, or promote with"
                                    " --fence locks",
                                    db_text(rows, i, 0))
                     : arena_printf(promote->arena,
                                    "%s may not be ended by us: GRANT pg_signal_backend TO %s, or promote with --fence"
                                    " locks",
                                    db_text(rows, i, 0), sql_ident(promote->arena, db_user(source))));
    return true;
}

/* One that was killed in its fence will set back what we would take for the setting that was there before us, and open
 * the source again behind our back. It may as well be the user's own setting: who knows is that migration's ledger. */
static bool check_interrupted_fence(const Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.substr(s.slot_name::text, 9) FROM pg_catalog.pg_replication_slots s"
                  " WHERE s.database = pg_catalog.current_database() AND NOT s.active AND s.slot_name <> $1"
                  " AND s.slot_name ~ '^pgcrane_[0-9a-f]{16}$' AND EXISTS (SELECT FROM pg_catalog.pg_db_role_setting d"
                  "  WHERE d.setrole = 0 AND d.setdatabase = (SELECT oid FROM pg_catalog.pg_database"
                  "   WHERE datname = pg_catalog.current_database())"
                  "  AND 'default_transaction_read_only=on' = ANY (d.setconfig)) LIMIT 1",
                  1, (const char *const[]){promote->params->names.slot}, &rows, err))
        return error_wrap(err, "looking for the fence of another migration");
    if (db_rows(rows) == 0)
        return true;
    const char *other = db_text(rows, 0, 0);
    error_set(err, REASON_PROMOTE_REFUSED,
              "the source is read-only already, and it may be the interrupted promote of another migration, %s, that"
              " did it",
              other);
    return error_remedy(err,
                        "run that migration's command again, which settles it, or give it up: pgcrane abort %s; then"
                        " promote again",
                        other);
}

/* What it sets back when it is undone, we would take for the setting that was there before us. Both may see one
 * another, and both give up. */
bool promote_other_fence(const Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.split_part(a.application_name, ' ', 2)" PROMOTE_SESSIONS
                  " AND a.application_name ~ '^pgcrane [^ ]+ fence$' LIMIT 1",
                  1, (const char *const[]){promote->params->job_id}, &rows, err))
        return error_wrap(err, "looking for the fence of another migration");
    if (db_rows(rows) == 0)
        return check_interrupted_fence(promote, err);
    error_set(err, REASON_LOCK_BUSY, "another migration of this source, %s, stops its writes just now",
              db_text(rows, 0, 0));
    return error_remedy(err, "promote again when that promote is over");
}

/* ---- The tables to lock ---- */

typedef struct Listing {
    const Promote *promote;
    Buf *sql;
    size_t count;
    StringVec forbidden;
} Listing;

static bool is_planned(const Promote *promote, uint32_t oid) {
    const Plan *plan = promote->params->load->plan;

    for (size_t i = 0; i < plan->count; i++)
        if (plan->tables[i].oid == oid)
            return true;
    return false;
}

static bool is_wanted(const Promote *promote, const DbResult *row) {
    const DriftParams *drift = &promote->params->drift;
    const char *schema = db_text(row, 0, 1);

    if (drift->ignore_schema != NULL && strcmp(schema, drift->ignore_schema) == 0)
        return false;
    if (db_bool(row, 0, 4)) /* an extension's: only what is copied */
        return is_planned(promote, (uint32_t)db_int64(row, 0, 0));
    return drift->wanted == NULL || drift->wanted(drift->context, schema, db_text(row, 0, 2));
}

static bool list_table(const DbResult *row, void *context, Error *err) {
    Listing *listing = context;
    Arena *arena = listing->promote->arena;
    const char *quoted = sql_qualified(arena, db_text(row, 0, 1), db_text(row, 0, 2));

    (void)err;
    if (!is_wanted(listing->promote, row))
        return true;
    if (!db_bool(row, 0, 3))
        vec_push(arena, &listing->forbidden, quoted);
    buf_printf(listing->sql, "%sONLY %s", listing->count++ == 0 ? "LOCK TABLE " : ", ", quoted);
    return true;
}

/* Large objects are rows of two catalogues, which only a superuser may lock. */
static void add_large_objects(Promote *promote, Buf *sql) {
    if (!promote->params->load->large_objects || !promote->superuser)
        return;
    buf_printf(sql, "%sONLY pg_catalog.pg_largeobject_metadata, ONLY pg_catalog.pg_largeobject",
               promote->lock_count == 0 ? "LOCK TABLE " : ", ");
    promote->lock_count += 2;
    promote->objects_locked = true;
}

/* Leaves and roots, by oid: an INSERT through a root waits for the root's lock. */
static bool list_tables(Promote *promote, Buf *sql, StringVec *forbidden, Error *err) {
    Listing listing = {.promote = promote, .sql = sql};
    const char *query = "SELECT c.oid, n.nspname, c.relname,"
                        " pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'),"
                        " EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'"
                        "  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)"
                        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                        " WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'"
                        " AND n.nspname NOT IN ('information_schema', 'pgcrane') ORDER BY c.oid";

    if (!db_query_each(promote->params->source, query, 0, NULL, list_table, &listing, err))
        return error_wrap(err, "listing the source's tables");
    promote->lock_count = listing.count;
    *forbidden = listing.forbidden;
    return true;
}

static bool fill_lock_sql(Promote *promote, StringVec *forbidden, Error *err) {
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, (size_t)128 << 20);
    promote->objects_locked = false;
    if (!list_tables(promote, &sql, forbidden, err))
        return false;
    add_large_objects(promote, &sql);
    if (promote->lock_count > 0)
        buf_append_str(&sql, " IN EXCLUSIVE MODE");
    if (!buf_ok(&sql, "the list of tables to lock", err))
        return false;
    promote->lock_sql = arena_strndup(promote->arena, sql.data, sql.len);
    return true;
}

bool promote_fence_tables(Promote *promote, Error *err) {
    StringVec forbidden = {0};

    return fill_lock_sql(promote, &forbidden, err);
}

static bool check_tables(Promote *promote, StringVec *problems, Error *err) {
    StringVec forbidden = {0};

    if (!fill_lock_sql(promote, &forbidden, err))
        return false;
    for (size_t i = 0; i < MIN(forbidden.len, (size_t)NAMES_SHOWN); i++)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena, "%s may not lock table %s: GRANT UPDATE ON %s TO %s (%zu such in all)",
                              db_user(promote->params->source), forbidden.items[i], forbidden.items[i],
                              sql_ident(promote->arena, db_user(promote->params->source)), forbidden.len));
    return true;
}

/* Running out of room in the lock table is an error for the application, too. */
static bool check_room(Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint"
                  " * (pg_catalog.current_setting('max_connections')::bigint"
                  "  + pg_catalog.current_setting('max_prepared_transactions')::bigint)",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the source's room for locks");
    int64_t room = db_int64(row, 0, 0);

    if ((int64_t)promote->lock_count * 10 > room * 9)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena,
                              "%zu tables are to be locked at once, but the source has room for %lld locks: raise"
                              " max_locks_per_transaction there (needs a restart)",
                              promote->lock_count, (long long)room));
    return true;
}

static bool check_superuser(Promote *promote, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(promote->params->source, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", 0,
                  NULL, &row, err))
        return error_wrap(err, "reading our role on the source");
    promote->superuser = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

bool promote_fence_check(Promote *promote, StringVec *problems, Error *err) {
    if (!check_superuser(promote, err) || !promote_prepared(promote, problems, err))
        return false;
    if (promote->mode == FENCE_FULL &&
        (!try_setting(promote, problems, err) || !check_sessions(promote, problems, err) ||
         !promote_setting_exceptions(promote, err)))
        return false;
    return promote->mode == FENCE_NONE || (check_tables(promote, problems, err) && check_room(promote, problems, err));
}
