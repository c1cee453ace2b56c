/* The tables of a migration as the ledger has them (relations.h). */
#include "engine/ledger/relations.h"

#include <stdio.h>

bool relations_read(DbConn *dest, Arena *arena, LedgerRelation **ret_relations, size_t *ret_count, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = "SELECT r.oid, r.schema_name, r.table_name, s.picture, coalesce(s.w, '0/0'), r.suspect,"
                      " NOT EXISTS (SELECT FROM pgcrane.chunk c WHERE c.relation = r.oid AND c.rows IS NULL)"
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
