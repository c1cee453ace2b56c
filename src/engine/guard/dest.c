/* A destination that takes no writes: a standby for a while, or by a setting. */
#include "engine/guard/guard.h"
#include "pg/quote.h"

#include <string.h>

#define SQLSTATE_READ_ONLY "25006"

static bool fail_standby(Error *err) {
    error_set(err, REASON_SERVER_BUSY, "the destination is a standby, and takes no writes");
    return error_remedy(err, "connect to its primary, or promote it: SELECT pg_promote(); then run the same command"
                             " again. In a fail-over it is found when that is done");
}

bool guard_check_dest(DbConn *dest, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &row, err))
        return error_wrap(err, "asking the destination whether it takes writes");
    return !db_bool(row, 0, 0) || fail_standby(err);
}

/* Our sessions turn it off: a pooler, or a server's own rule, has turned it on again. */
static bool fail_setting(DbConn *dest, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Error refused = *err;

    error_set(err, REASON_NOT_PERMITTED, "the destination takes no writes: default_transaction_read_only is on: %s",
              refused.message);
    return error_remedy(err,
                        "on the destination: BEGIN READ WRITE; ALTER DATABASE %s SET default_transaction_read_only ="
                        " off; COMMIT; and see that no pooler sets it",
                        sql_ident(arena, db_name(dest)));
}

bool guard_explain_read_only(DbConn *dest, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const Error refused = *err;
    Error ignored;

    if (strcmp(err->sqlstate, SQLSTATE_READ_ONLY) != 0)
        return false;
    if (dest != NULL && !db_is_broken(dest)) {
        db_rollback(dest);
        if (db_query(dest,
                     "SELECT pg_catalog.pg_is_in_recovery(),"
                     " pg_catalog.current_setting('default_transaction_read_only')::boolean",
                     0, NULL, &row, &ignored)) {
            if (db_bool(row, 0, 0))
                return !fail_standby(err);
            if (db_bool(row, 0, 1))
                return fail_setting(dest, err);
        }
    }
    error_set(err, REASON_SERVER_BUSY, "a server took no writes: %s", refused.message);
    return !error_remedy(err, "see whether the address leads to a standby (SELECT pg_is_in_recovery()), then run the"
                              " same command again");
}
