/* How far the stream has been applied (position.h). */
#include "engine/ledger/position.h"

#include <stdio.h>

bool position_init(DbConn *dest, const Ledger *ledger, int lane, Lsn lsn, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const params[] = {arena_printf(arena, "%d", lane), lsn_format(arena, lsn)};

    if (!ledger_begin(dest, ledger, err))
        return false;
    if (db_query(dest,
                 "INSERT INTO pgcrane.position (lane, lsn) VALUES ($1::integer, $2::pg_lsn) ON CONFLICT DO NOTHING", 2,
                 params, NULL, err) &&
        ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "writing the first position");
}

bool position_read(DbConn *dest, int lane, bool *ret_found, Position *ret_position, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char text[16];
    Lsn lsn = 0;

    (void)snprintf(text, sizeof(text), "%d", lane);
    if (!db_query(dest, "SELECT lsn, transactions FROM pgcrane.position WHERE lane = $1::integer", 1,
                  (const char *const[]){text}, &row, err))
        return error_wrap(err, "reading the position");
    *ret_found = db_rows(row) == 1;
    if (!*ret_found)
        return true;
    if (!lsn_parse(db_text(row, 0, 0), &lsn))
        return error_set(err, REASON_LEDGER_MISMATCH, "the ledger's position cannot be read");
    *ret_position = (Position){.lsn = lsn, .transactions = db_int64(row, 0, 1)};
    return true;
}
