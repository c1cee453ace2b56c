/*
 * The tables of a migration as the ledger has them (relations.h).
 *
 * A table that was made on the source while it was followed has no copy to decide by: it belongs to the snapshot 0, a
 * line that shows nothing (picture 3:3:, the first xid there is), so that every change applies.
 */
#include "engine/ledger/relations.h"

#include <stdio.h>

bool relations_read(DbConn *dest, Arena *arena, LedgerRelation **ret_relations, size_t *ret_count, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "SELECT r.oid, r.schema_name, r.table_name, s.picture, coalesce(s.w, '0/0'), r.suspect,"
                      " NOT EXISTS (SELECT FROM pgcrane.chunk c WHERE c.relation = r.oid AND c.rows IS NULL), s.id = 0,"
                      " r.keyed"
                      " FROM pgcrane.relation r JOIN pgcrane.snapshot s ON s.id = r.snapshot ORDER BY r.oid";

    if (!db_query(dest, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the ledger's tables");
    size_t count = (size_t)db_rows(rows);
    LedgerRelation *relations = arena_array(arena, LedgerRelation, MAX(count, 1));
    for (size_t i = 0; i < count; i++) {
        int row = (int)i;

        relations[i] = (LedgerRelation){
            .oid = (uint32_t)db_int64(rows, row, 0),
            .schema = arena_strdup(arena, db_text(rows, row, 1)),
            .name = arena_strdup(arena, db_text(rows, row, 2)),
            .picture = arena_strdup(arena, db_text(rows, row, 3)),
            .suspect = db_is_null(rows, row, 5) ? NULL : arena_strdup(arena, db_text(rows, row, 5)),
            .copied = db_bool(rows, row, 6),
            .is_new = db_bool(rows, row, 7),
            .keyed = db_bool(rows, row, 8),
        };
        if (!lsn_parse(db_text(rows, row, 4), &relations[i].w))
            return error_set(err, REASON_LEDGER_MISMATCH, "the ledger's snapshot has no readable position");
    }
    *ret_relations = relations;
    *ret_count = count;
    return true;
}

bool relation_set_suspect(DbConn *dest, uint32_t oid, const char *reason, Error *err) {
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", oid);
    return db_query(dest, "UPDATE pgcrane.relation SET suspect = $2 WHERE oid = $1::oid AND suspect IS NULL", 2,
                    (const char *const[]){text, reason}, NULL, err) ||
           error_wrap(err, "marking a table in the ledger");
}

bool relations_set_all_suspect(DbConn *dest, const Ledger *ledger, const char *reason, Error *err) {
    if (ledger_begin(dest, ledger, err) &&
        db_query(dest, "UPDATE pgcrane.relation SET suspect = $1 WHERE suspect IS NULL", 1,
                 (const char *const[]){reason}, NULL, err) &&
        ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "marking all tables in the ledger");
}

static bool add_relation(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *reason,
                         Error *err) {
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", oid);
    return db_exec(dest,
                   "INSERT INTO pgcrane.snapshot (id, snapshot_id, picture, system_identifier, postmaster_start,"
                   " keeper_pid, w) SELECT 0, '', '3:3:', system_identifier, '', '', l0 FROM pgcrane.stream"
                   " ON CONFLICT DO NOTHING",
                   err) &&
           db_query(dest,
                    "INSERT INTO pgcrane.relation"
                    " (oid, snapshot, schema_name, table_name, filenode, columns_hash, suspect)"
                    " VALUES ($1::oid, 0, $2, $3, 0, '', $4)"
                    " ON CONFLICT (oid) DO UPDATE SET schema_name = excluded.schema_name,"
                    " table_name = excluded.table_name WHERE excluded.table_name <> ''",
                    4, (const char *const[]){text, schema, name, reason}, NULL, err);
}

bool relation_add_followed(DbConn *dest, uint32_t oid, Error *err) {
    return add_relation(dest, oid, "", "", NULL, err) || error_wrap(err, "noting a new table in the ledger");
}

bool relation_add_suspect(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *reason,
                          Error *err) {
    return (add_relation(dest, oid, schema, name, reason, err) && relation_set_suspect(dest, oid, reason, err)) ||
           error_wrap(err, "noting a new table in the ledger");
}

bool relation_mark(DbConn *dest, uint32_t oid, const char *schema, const char *name, const char *reason, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", oid);
    if (!db_query(dest, "SELECT 1 FROM pgcrane.relation WHERE oid = $1::oid", 1, (const char *const[]){text}, &row,
                  err))
        return error_wrap(err, "reading a table's line in the ledger");
    return db_rows(row) == 1 ? relation_set_suspect(dest, oid, reason, err)
                             : relation_add_suspect(dest, oid, schema, name, reason, err);
}

bool relations_any_suspect(DbConn *dest, bool *ret_any, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT 1 FROM pgcrane.relation WHERE suspect IS NOT NULL LIMIT 1", 0, NULL, &row, err))
        return error_wrap(err, "looking for suspect tables in the ledger");
    *ret_any = db_rows(row) == 1;
    return true;
}

bool relation_is_followed(DbConn *dest, uint32_t oid, bool *ret_followed, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", oid);
    if (!db_query(dest, "SELECT 1 FROM pgcrane.relation WHERE oid = $1::oid AND (snapshot <> 0 OR suspect IS NULL)", 1,
                  (const char *const[]){text}, &row, err))
        return error_wrap(err, "reading a table's line in the ledger");
    *ret_followed = db_rows(row) == 1;
    return true;
}

bool relation_is_suspect(DbConn *dest, uint32_t oid, bool *ret_suspect, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", oid);
    if (!db_query(dest, "SELECT 1 FROM pgcrane.relation WHERE oid = $1::oid AND suspect IS NOT NULL", 1,
                  (const char *const[]){text}, &row, err))
        return error_wrap(err, "reading a table's line in the ledger");
    *ret_suspect = db_rows(row) == 1;
    return true;
}
