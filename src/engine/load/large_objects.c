/*
 * Large objects, under the snapshot, with owner, grants and comment.
 *
 * Batches of BATCH_OBJECTS by oid; a batch is one transaction on the destination, with a line in the ledger for each
 * object (a start over removes them by it). What has its line is not copied again. Objects are read by lo_get() in
 * pieces of at most PIECE bytes, which every role that may read the object can do; so memory does not depend on the
 * object's size. lo_get() in a read-only transaction reads under its snapshot.
 */
#include "engine/load/load.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/snapshot/snapshot.h"
#include "pg/quote.h"

#include <stdio.h>
#include <string.h>

enum { BATCH_OBJECTS = 64, PIECE = 256 * 1024 };

typedef struct Batch {
    const LoadParams *params;
    DbConn *source, *dest;
    Arena *arena; /* emptied after each batch */
} Batch;

/* The rest of an object longer than one piece. */
static bool copy_rest(const Batch *batch, const char *oid, Error *err) {
    for (int64_t offset = PIECE;; offset += PIECE) {
        CLEANUP(db_result_freep) DbResult *piece = NULL;
        char offset_text[24];
        char len_text[16];

        (void)snprintf(offset_text, sizeof(offset_text), "%lld", (long long)offset);
        (void)snprintf(len_text, sizeof(len_text), "%d", PIECE);
        if (!db_query(batch->source, "SELECT pg_catalog.lo_get($1::oid, $2::bigint, $3::integer)", 3,
                      (const char *const[]){oid, offset_text, len_text}, &piece, err))
            return error_wrap(err, "reading large object %s", oid);
        size_t bytes = (db_length(piece, 0, 0) - 2) / 2; /* \x and two digits a byte */
        if (bytes > 0 && !db_query(batch->dest, "SELECT pg_catalog.lo_put($1::oid, $2::bigint, $3::bytea)", 3,
                                   (const char *const[]){oid, offset_text, db_text(piece, 0, 0)}, NULL, err))
            return error_wrap(err, "writing large object %s", oid);
        tracker_add_copied(batch->params->tracker, 0, (int64_t)bytes, 0);
        if (bytes < PIECE)
            return true;
    }
}

static bool copy_object(const Batch *batch, const char *oid, const char *first_piece, size_t first_len, Error *err) {
    size_t bytes = (first_len - 2) / 2;

    if (!db_query(batch->dest, "SELECT pg_catalog.lo_from_bytea($1::oid, $2::bytea)", 2,
                  (const char *const[]){oid, first_piece}, NULL, err))
        return error_wrap(err, "creating large object %s", oid);
    tracker_add_copied(batch->params->tracker, 0, (int64_t)bytes, 0);
    return bytes < PIECE || copy_rest(batch, oid, err);
}

/* Owner, comment and grants as statements made by the source: one row per statement, in order. */
static bool copy_attributes(const Batch *batch, const char *oids, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *acl =
        " UNION ALL SELECT m.oid, 2, pg_catalog.format('REVOKE ALL ON LARGE OBJECT %s FROM %s', m.oid, o.name)"
        "  FROM m JOIN o ON o.oid = m.lomowner WHERE m.lomacl IS NOT NULL AND NOT EXISTS"
        "  (SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.grantee = m.lomowner)"
        " UNION ALL SELECT m.oid, 3, pg_catalog.format('GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid,"
        "  coalesce(g.name, 'PUBLIC'), CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
        "  FROM m, LATERAL pg_catalog.aclexplode(m.lomacl) a LEFT JOIN o g ON g.oid = a.grantee"
        "  WHERE a.grantee <> m.lomowner";
    const char *owner =
        " UNION ALL SELECT m.oid, 1, pg_catalog.format('ALTER LARGE OBJECT %s OWNER TO %s', m.oid, o.name)"
        "  FROM m JOIN o ON o.oid = m.lomowner";
    const char *sql = arena_printf(
        batch->arena,
        "WITH m AS (SELECT oid, lomowner, lomacl FROM pg_catalog.pg_largeobject_metadata WHERE oid IN (%s)),"
        " o AS (SELECT oid, pg_catalog.quote_ident(rolname) AS name FROM pg_catalog.pg_roles)"
        " SELECT oid, 0 AS step, pg_catalog.format('COMMENT ON LARGE OBJECT %%s IS %%L', oid,"
        "  pg_catalog.obj_description(oid, 'pg_largeobject')) AS sql"
        "  FROM m WHERE pg_catalog.obj_description(oid, 'pg_largeobject') IS NOT NULL",
        oids);

    if (!batch->params->restore.no_owner)
        sql = arena_printf(batch->arena, "%s%s", sql, owner);
    if (!batch->params->restore.no_acl)
        sql = arena_printf(batch->arena, "%s%s", sql, acl);
    sql = arena_printf(batch->arena, "%s ORDER BY 1, 2", sql);
    if (!db_query(batch->source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading owners and grants of large objects");
    for (int i = 0; i < db_rows(rows); i++)
        if (!db_exec(batch->dest, db_text(rows, i, 2), err))
            return error_wrap(err, "large object %s", db_text(rows, i, 0));
    return true;
}

static const char *join_oids(Arena *arena, const DbResult *rows) {
    const char *list = "";

    for (int i = 0; i < db_rows(rows); i++)
        list = arena_printf(arena, "%s%s%s", list, i == 0 ? "" : ",", db_text(rows, i, 0));
    return list;
}

/* Was it made by an earlier run? An object that is there and not in the ledger is somebody else's: creating it fails.
 */
static bool is_in_ledger(const Batch *batch, const char *oid, bool *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(batch->dest, "SELECT 1 FROM pgcrane.large_object WHERE oid = $1::oid", 1, (const char *const[]){oid},
                  &row, err))
        return error_wrap(err, "asking the ledger about large objects");
    *ret_found = db_rows(row) == 1;
    return true;
}

static bool copy_objects(const Batch *batch, const DbResult *oids, Error *err) {
    CLEANUP(db_result_freep) DbResult *pieces = NULL;
    const char *list = join_oids(batch->arena, oids);
    const char *sql = arena_printf(batch->arena,
                                   "SELECT oid, pg_catalog.lo_get(oid, 0, %d) FROM pg_catalog.pg_largeobject_metadata"
                                   " WHERE oid IN (%s) ORDER BY oid",
                                   PIECE, list);
    bool ok = db_query(batch->source, sql, 0, NULL, &pieces, err) || error_wrap(err, "reading large objects");

    for (int i = 0; ok && i < db_rows(pieces); i++) {
        const char *oid = arena_strdup(batch->arena, db_text(pieces, i, 0));
        bool done = false;

        ok = is_in_ledger(batch, oid, &done, err) &&
             (done || copy_object(batch, oid, db_text(pieces, i, 1), db_length(pieces, i, 1), err));
    }
    return ok && copy_attributes(batch, list, err);
}

static bool note_objects(const Batch *batch, const DbResult *oids, Error *err) {
    return db_execf(batch->dest, err,
                    "INSERT INTO pgcrane.large_object SELECT pg_catalog.unnest('{%s}'::oid[]) ON CONFLICT DO NOTHING",
                    join_oids(batch->arena, oids));
}

static bool copy_batch(const Batch *batch, const DbResult *oids, Error *err) {
    bool first_done = false, last_done = false;

    if (!is_in_ledger(batch, db_text(oids, 0, 0), &first_done, err) ||
        !is_in_ledger(batch, db_text(oids, db_rows(oids) - 1, 0), &last_done, err))
        return false;
    if (first_done && last_done && batch->params->snapshot->id == 1)
        return true; /* batches are cut alike under one snapshot */
    if (!ledger_begin(batch->dest, batch->params->ledger, err))
        return false;
    if (copy_objects(batch, oids, err) && note_objects(batch, oids, err) &&
        failpoint("large_objects.before_commit", err) && ledger_commit(batch->dest, err))
        return true;
    db_rollback(batch->dest);
    return false;
}

static bool copy_all(const Batch *batch, Error *err) {
    for (const char *last = "0";;) {
        CLEANUP(db_result_freep) DbResult *oids = NULL;
        char limit[16];
        char last_text[16];

        (void)snprintf(limit, sizeof(limit), "%d", BATCH_OBJECTS);
        (void)snprintf(last_text, sizeof(last_text), "%s", last);
        arena_reset(batch->arena);
        if (!db_query(
                batch->source,
                "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid > $1::oid ORDER BY oid LIMIT $2::integer",
                2, (const char *const[]){last_text, limit}, &oids, err))
            return error_wrap(err, "listing large objects");
        if (db_rows(oids) == 0)
            return true;
        if (!copy_batch(batch, oids, err))
            return false;
        last = arena_strdup(batch->arena, db_text(oids, db_rows(oids) - 1, 0));
    }
}

bool load_large_objects(const LoadParams *params, DbConn *source, DbConn *dest, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Batch batch = {.params = params, .source = source, .dest = dest, .arena = scratch};
    bool done = false;

    if (!ledger_step_done(dest, "large objects", &done, err))
        return false;
    if (done)
        return true;
    if (!snapshot_begin(source, params->snapshot, err))
        return false;
    bool ok = copy_all(&batch, err);
    db_rollback(source);
    return ok && ledger_begin(dest, params->ledger, err) && ledger_mark_step(dest, "large objects", err) &&
           ledger_commit(dest, err);
}

bool load_large_objects_again(const LoadParams *params, DbConn *source, DbConn *dest, const char *oids, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    CLEANUP(db_result_freep) DbResult *all = NULL;
    Batch batch = {.params = params, .source = source, .dest = dest, .arena = scratch};
    const char *sql = arena_printf(
        scratch, "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid IN (%s) ORDER BY oid", oids);

    if (!db_query(source, sql, 0, NULL, &all, err))
        return error_wrap(err, "listing large objects");
    for (int i = 0; i < db_rows(all); i++) {
        CLEANUP(db_result_freep) DbResult *one = NULL;
        const char *oid = db_text(all, i, 0);

        arena_reset(scratch);
        if (!db_query(source, "SELECT $1::oid", 1, (const char *const[]){oid}, &one, err) ||
            !copy_objects(&batch, one, err) || !note_objects(&batch, one, err))
            return false;
    }
    return true;
}
