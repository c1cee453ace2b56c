/*
 * TRUNCATE as the source did it (apply.h).
 *
 * The message names every table that the source emptied, cascaded ones too, so CASCADE would only reach others, which
 * are none of ours. A table of ours that is never in a message may refer to one: an unlogged one, which is copied anew
 * at the end. So may one that was named and is left out: it waits for a copy, or its copy shows the TRUNCATE already.
 * Then the server refuses TRUNCATE, whatever the role of the session is, and rows are deleted instead. A
 * partitioned table is in the message beside its leaves, and has to be in the statement: foreign keys refer to it.
 */
#include "common/buf.h"
#include "common/log.h"
#include "engine/apply/apply_internal.h"
#include "pg/quote.h"

#include <string.h>

enum { TRUNCATE_SQL_MAX = 16 << 20 };

static bool run_truncate(DbConn *dest, const ApplyTruncate *truncate, Error *err) {
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, TRUNCATE_SQL_MAX);
    for (size_t i = 0; i < truncate->count; i++)
        buf_printf(&sql, "%s%s%s", i == 0 ? "TRUNCATE " : ", ", truncate->tables[i]->is_partitioned ? "" : "ONLY ",
                   truncate->tables[i]->quoted);
    if (truncate->restart_identity)
        buf_append_str(&sql, " RESTART IDENTITY");
    return buf_ok(&sql, "a TRUNCATE", err) && db_exec(dest, sql.data, err);
}

/* A table that holds logged rows, refers to one of these, is not emptied with it and is none of the migration's: what
 * rows those have is the stream's, or a copy's, to say. */
static bool find_outsider(DbConn *dest, Arena *arena, const ApplyTruncate *truncate, const char **ret_name,
                          Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    CLEANUP(buf_fini) Buf sql;

    buf_init(&sql, TRUNCATE_SQL_MAX);
    buf_append_str(&sql, "WITH ours (oid) AS (VALUES ");
    for (size_t i = 0; i < truncate->count; i++)
        buf_printf(&sql, "%s(%s::pg_catalog.regclass)", i == 0 ? "" : ", ",
                   sql_literal(arena, truncate->tables[i]->quoted));
    buf_append_str(&sql, ") SELECT c.conrelid::pg_catalog.regclass FROM pg_catalog.pg_constraint c"
                         " JOIN pg_catalog.pg_class r ON r.oid = c.conrelid WHERE c.contype = 'f'"
                         " AND r.relpersistence <> 'u' AND c.confrelid IN (SELECT oid FROM ours)"
                         " AND c.conrelid NOT IN (SELECT oid FROM ours) AND r.relkind <> 'p' AND NOT EXISTS ("
                         "SELECT FROM pgcrane.relation m JOIN pg_catalog.pg_namespace n ON n.nspname = m.schema_name"
                         " WHERE m.table_name = r.relname AND n.oid = r.relnamespace) LIMIT 1");
    if (!buf_ok(&sql, "a query", err) || !db_query(dest, sql.data, 0, NULL, &row, err))
        return false;
    *ret_name = db_rows(row) == 0 ? NULL : arena_strdup(arena, db_text(row, 0, 0));
    return true;
}

static bool run_deletes(DbConn *dest, const ApplyTruncate *truncate, Error *err) {
    for (size_t i = 0; i < truncate->count; i++)
        if (!truncate->tables[i]->is_partitioned &&
            !db_execf(dest, err, "DELETE FROM ONLY %s", truncate->tables[i]->quoted))
            return false;
    return true;
}

static bool delete_instead(DbConn *dest, const ApplyTruncate *truncate, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *outsider = NULL;
    Error refused = *err;

    if (!db_exec(dest, "ROLLBACK TO parts", err) || !find_outsider(dest, arena, truncate, &outsider, err))
        return false;
    if (outsider != NULL) {
        (void)error_set(err, REASON_CONFLICT,
                        "table %s of the destination refers to a table that the source emptied: %s", outsider,
                        refused.message);
        err->retryable = false;
        return error_remedy(err, "drop the foreign key of %s on the destination, then run the same command again",
                            outsider);
    }
    log_info("rows are deleted where the destination refuses TRUNCATE: %s", refused.message);
    return run_deletes(dest, truncate, err);
}

bool apply_truncate(DbConn *dest, const ApplyTruncate *truncate, ApplyCounts *counts, Error *err) {
    bool ok = truncate->count == 0 || db_exec(dest, "SAVEPOINT parts", err);

    if (ok && truncate->count > 0) {
        ok = run_truncate(dest, truncate, err);
        if (!ok && strcmp(err->sqlstate, "0A000") == 0)
            ok = delete_instead(dest, truncate, err);
        ok = ok && db_exec(dest, "RELEASE parts", err);
    }
    if (!ok)
        return err->reason == REASON_CONFLICT ? false
                                              : error_wrap(err, "truncating %s and %zu more tables",
                                                           truncate->tables[0]->display, truncate->count - 1);
    for (size_t i = 0; i < truncate->count; i++)
        counts->truncates += !truncate->tables[i]->is_partitioned;
    return true;
}
