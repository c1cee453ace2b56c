/*
 * The two publications of a job, and which tables are in them.
 *
 * "all" publishes INSERT and TRUNCATE (of all tables when a superuser made it, which takes in tables made later),
 * "keys" publishes UPDATE and DELETE of the tables with a replica identity. One slot reads both and gets the union.
 * Never anything else: publishing updates of all tables would make the application's UPDATE fail on each table without
 * identity, also on one that loses it or is made later.
 *
 * Tables are added in small transactions: each takes a SHARE UPDATE EXCLUSIVE lock on its tables until it commits (no
 * reader or writer waits for that one, but VACUUM, CREATE INDEX CONCURRENTLY and ALTER TABLE do), and the server's lock
 * table is finite. While that lock is held nobody can take a table's key away; so what is in "keys" is looked at again
 * after the addition and before the commit, and a table that lost its identity since the caller looked is out before
 * the application could notice.
 *
 * A publication is *made* only where no slot of ours is (seam.c); a slot that is there and not in use yet goes.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ledger/journal.h"
#include "engine/seam/seam_internal.h"
#include "pg/event_triggers.h"
#include "pg/quote.h"

#include <string.h>

enum { GROUP_MAX = 1000, LIST_SQL_MAX = 4 << 20, VIA_ROOT_VERSION = 130000 };
#define LOCK_PATIENCE_US (60 * USEC_PER_SEC)

typedef struct Publishing {
    DbConn *source, *dest;
    const Ledger *ledger;
    const SeamNames *names;
    bool is_streaming; /* the slot is in use: nothing may be made anew */
} Publishing;

typedef struct Publication {
    const char *name;
    const char *operations;
    bool all_tables;
    bool keys; /* only tables with an identity */
} Publication;

/* --- Making one --------------------------------------------------------------------------------------------------- */

/* As long as the slot is in use a publication stays as it was made: FOR ALL TABLES goes on to hold when its owner is no
 * superuser any more, a list is added to as before when he became one. */
static bool find_publication(const Publishing *job, Publication *wanted, bool *ret_exists, bool *ret_same, Error *err) {
    DbConn *source = job->source;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    int version = db_version(source);
    const char *sql =
        arena_printf(arena,
                     "SELECT puballtables, pg_catalog.concat_ws(', ', CASE WHEN pubinsert THEN 'insert' END,"
                     " CASE WHEN pubupdate THEN 'update' END, CASE WHEN pubdelete THEN 'delete' END, %s), %s"
                     " FROM pg_catalog.pg_publication WHERE pubname = $1",
                     version >= SEAM_TRUNCATE_VERSION ? "CASE WHEN pubtruncate THEN 'truncate' END" : "NULL",
                     version >= VIA_ROOT_VERSION ? "pubviaroot" : "false");

    if (!db_query(source, sql, 1, (const char *const[]){wanted->name}, &row, err))
        return error_wrap(err, "looking for publication %s", wanted->name);
    *ret_exists = db_rows(row) == 1;
    if (*ret_exists && job->is_streaming && !wanted->keys)
        wanted->all_tables = db_bool(row, 0, 0);
    *ret_same = db_rows(row) == 1 && db_bool(row, 0, 0) == wanted->all_tables &&
                strcmp(db_text(row, 0, 1), wanted->operations) == 0 && !db_bool(row, 0, 2);
    return true;
}

static bool create_publication(DbConn *source, const Publication *publication, bool replace, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *name = sql_ident(arena, publication->name);

    if (seam_begin(source, err) && (!replace || db_execf(source, err, "DROP PUBLICATION %s", name)) &&
        db_execf(source, err, "CREATE PUBLICATION %s%s WITH (publish = '%s')", name,
                 publication->all_tables ? " FOR ALL TABLES" : "", publication->operations) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    (void)event_triggers_blame(source, "CREATE PUBLICATION", err);
    return error_wrap(err, "creating publication %s on the source", publication->name);
}

static bool ensure_publication(const Publishing *job, Publication *publication, Error *err) {
    bool exists = false, same = false;

    if (!journal_intend(job->dest, job->ledger, JOURNAL_PUBLICATION, publication->name, err) ||
        !failpoint("seam.publication_intended", err) || !find_publication(job, publication, &exists, &same, err))
        return false;
    if (!same && job->is_streaming)
        return error_set(err, REASON_PUBLICATION_LOST,
                         "publication %s on the source was %s while the stream was in use", publication->name,
                         exists ? "changed" : "dropped");
    /* A slot that is older than its publication cannot be used. */
    if (!same && (!seam_drop_slot(job->source, job->names->slot, err) ||
                  !create_publication(job->source, publication, exists, err)))
        return false;
    log_info("publication %s: %s", publication->name, same ? "there" : "made");
    return failpoint("seam.publication_made", err) &&
           journal_made(job->dest, job->ledger, JOURNAL_PUBLICATION, publication->name, err);
}

/* --- Tables ------------------------------------------------------------------------------------------------------- */

/* Which of the group are there and not published yet: quoted names, oids. */
static bool find_missing(DbConn *source, const char *publication, const SeamTable *const *group, size_t count,
                         DbResult **ret_rows, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, LIST_SQL_MAX);
    buf_append_str(&sql, "SELECT quoted, pg_catalog.to_regclass(quoted)::oid FROM pg_catalog.unnest(ARRAY[");
    for (size_t i = 0; i < count; i++)
        buf_printf(&sql, "%s%s", i > 0 ? "," : "", sql_literal(arena, group[i]->quoted));
    buf_printf(&sql,
               "]::text[]) AS quoted WHERE pg_catalog.to_regclass(quoted) IS NOT NULL AND NOT EXISTS ("
               "SELECT 1 FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
               " WHERE p.pubname = %s AND r.prrelid = pg_catalog.to_regclass(quoted)) ORDER BY quoted",
               sql_literal(arena, publication));
    return buf_ok(&sql, "a list of tables", err) && db_query(source, sql.data, 0, NULL, ret_rows, err);
}

static bool alter_publication(DbConn *source, const char *publication, const char *verb, const DbResult *rows,
                              Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, LIST_SQL_MAX);
    if (db_rows(rows) == 0)
        return true;
    buf_printf(&sql, "ALTER PUBLICATION %s %s TABLE ", sql_ident(arena, publication), verb);
    for (int i = 0; i < db_rows(rows); i++)
        buf_printf(&sql, "%sONLY %s", i > 0 ? ", " : "", db_text(rows, i, 0));
    return buf_ok(&sql, "a list of tables", err) && db_exec(source, sql.data, err);
}

static bool find_keyless(DbConn *source, const char *publication, DbResult **ret_rows, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *sql =
        arena_printf(arena,
                     "SELECT pg_catalog.quote_ident(i.nspname) || '.' || pg_catalog.quote_ident(i.relname)"
                     " FROM (%s) AS i JOIN pg_catalog.pg_publication_rel r ON r.prrelid = i.oid"
                     " JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
                     " WHERE p.pubname = $1 AND NOT i.has_identity ORDER BY 1",
                     seam_identities_sql(arena, db_version(source)));

    return db_query(source, sql, 1, (const char *const[]){publication}, ret_rows, err);
}

/* Takes out what must not be there. Inside the transaction that added. */
static bool drop_keyless(DbConn *source, const char *publication, Error *err) {
    CLEANUP(db_result_freep) DbResult *lost = NULL;

    if (!find_keyless(source, publication, &lost, err))
        return false;
    for (int i = 0; i < db_rows(lost); i++)
        log_warning("table %s has no replica identity any more: its updates and deletes are not published",
                    db_text(lost, i, 0));
    return alter_publication(source, publication, "DROP", lost, err);
}

/* One that was published before, was taken out by the watch while it had no identity and has one again lacks what came
 * between. Nobody else can tell when it happened since the caller looked (shapes.c). Under the lock that keeps the
 * identity, before the commit: when that fails, a table is copied that need not be. */
static bool mark_returning(const Publishing *job, const DbResult *added, Error *err) {
    CLEANUP(buf_fini) Buf sql;
    DbConn *dest = job->dest;

    buf_init(&sql, LIST_SQL_MAX);
    if (db_rows(added) == 0)
        return true;
    buf_append_str(&sql, "UPDATE pgcrane.relation SET keyed = false, suspect = coalesce(suspect,"
                         " 'its updates and deletes were not published all the time')"
                         " WHERE keyed AND columns IS NOT NULL AND oid IN (0");
    for (int i = 0; i < db_rows(added); i++)
        buf_printf(&sql, ",%s", db_text(added, i, 1));
    buf_append_str(&sql, ")");
    if (!buf_ok(&sql, "a list of tables", err) || !ledger_begin(dest, job->ledger, err))
        return false;
    if (db_exec(dest, sql.data, err) && ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "noting tables that are published again");
}

static bool publish_group(const Publishing *job, const Publication *publication, const SeamTable *const *group,
                          size_t count, Error *err) {
    CLEANUP(db_result_freep) DbResult *missing = NULL;
    DbConn *source = job->source;

    if (seam_begin(source, err) && find_missing(source, publication->name, group, count, &missing, err) &&
        alter_publication(source, publication->name, "ADD", missing, err) &&
        (!publication->keys || (mark_returning(job, missing, err) && drop_keyless(source, publication->name, err))) &&
        db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    (void)event_triggers_blame(source, "ALTER PUBLICATION", err);
    return error_wrap(err, "publishing tables in %s", publication->name);
}

/* Locks that others hold, and what was changed between our look and our lock: a table dropped (42P01 undefined table,
 * 3F000 schema), put in (42710) or taken out (42704) by the watch or by the capture of definitions. */
static bool may_try_again(DbConn *source, const Error *err) {
    return !db_is_broken(source) && (err->reason == REASON_LOCK_BUSY || err->reason == REASON_CONFLICT ||
                                     strcmp(err->sqlstate, "42P01") == 0 || strcmp(err->sqlstate, "3F000") == 0 ||
                                     strcmp(err->sqlstate, "42710") == 0 || strcmp(err->sqlstate, "42704") == 0);
}

static bool publish_patiently(const Publishing *job, const Publication *publication, const SeamTable *const *group,
                              size_t count, Error *err) {
    int64_t deadline = clock_now_us() + LOCK_PATIENCE_US;
    Error stopped;

    while (!publish_group(job, publication, group, count, err)) {
        if (!may_try_again(job->source, err) || clock_now_us() > deadline)
            return false;
        log_info("again: %s", err->message);
        if (!seam_pause(job->source, &stopped)) {
            *err = stopped;
            return false;
        }
    }
    return failpoint("seam.group_published", err);
}

static bool publish_tables(const Publishing *job, const Publication *publication, const SeamTable *tables, size_t count,
                           Error *err) {
    const SeamTable *group[GROUP_MAX];
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        if (!publication->keys || tables[i].has_identity)
            group[len++] = &tables[i];
        if (len == GROUP_MAX) {
            if (!publish_patiently(job, publication, group, len, err))
                return false;
            len = 0;
        }
    }
    /* The last one even when it is empty: it takes out what has lost its identity. */
    return publish_patiently(job, publication, group, len, err);
}

bool seam_publish(DbConn *source, DbConn *dest, const Ledger *ledger, const SeamNames *names, const SeamTable *tables,
                  size_t count, bool all_tables, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Publishing job = {.source = source, .dest = dest, .ledger = ledger, .names = names};
    JournalStream stream;
    Publication all = {
        .name = names->publication_all,
        .operations = db_version(source) >= SEAM_TRUNCATE_VERSION ? "insert, truncate" : "insert",
        .all_tables = all_tables,
    };
    Publication keys = {.name = names->publication_keys, .operations = "update, delete", .keys = true};

    return journal_get_stream(dest, arena, &job.is_streaming, &stream, err) && ensure_publication(&job, &all, err) &&
           ensure_publication(&job, &keys, err) && (all.all_tables || publish_tables(&job, &all, tables, count, err)) &&
           publish_tables(&job, &keys, tables, count, err);
}

bool seam_unpublish_keyless(DbConn *source, const SeamNames *names, Arena *arena, StringVec *ret_tables, Error *err) {
    CLEANUP(db_result_freep) DbResult *lost = NULL;

    *ret_tables = (StringVec){0};
    if (!find_keyless(source, names->publication_keys, &lost, err))
        return error_wrap(err, "looking for tables that lost their replica identity");
    for (int i = 0; i < db_rows(lost); i++)
        vec_push(arena, ret_tables, arena_strdup(arena, db_text(lost, i, 0)));
    if (ret_tables->len == 0)
        return true;
    if (seam_begin(source, err) && drop_keyless(source, names->publication_keys, err) && db_exec(source, "COMMIT", err))
        return true;
    db_rollback(source);
    return error_wrap(err, "taking tables without a replica identity out of %s", names->publication_keys);
}
