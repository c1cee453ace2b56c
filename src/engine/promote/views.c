/* Materialized views: no stream carries what they hold; they are filled again, each after those it reads. Which ones is
 * asked of the source now: the archive knows nothing of those that were made, renamed or first filled since. */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "pg/quote.h"

#include <string.h>

/* A query of the source's own may fail for reasons of its own; then the view keeps what it had, and that is told. */
static bool is_views_own(const DbConn *dest, const Error *err) {
    return err->sqlstate[0] != '\0' && !err->retryable && err->reason != REASON_CANCELLED && !db_is_broken(dest);
}

static bool refresh(Promote *promote, const char *name, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const PromoteParams *params = promote->params;
    const char *sql = arena_printf(scratch, "REFRESH MATERIALIZED VIEW %s", name);

    if (!ledger_begin(params->dest, params->load->ledger, err))
        return false;
    if (db_exec(params->dest, sql, err))
        return ledger_commit(params->dest, err);
    db_rollback(params->dest);
    if (!is_views_own(params->dest, err))
        return error_wrap(err, "refreshing %s", name);
    promote_event(promote, "warning", "materialized view %s could not be refreshed: %s", name, err->message);
    promote_note(promote, "materialized view %s could not be refreshed and holds what it held before: %s", name,
                 err->message);
    return true;
}

/* The level of a view: how many views lie between it and the tables, by the longest way. Only by what it is defined as:
 * rules of tables may go in a circle. */
static bool list(const Promote *promote, Arena *arena, StringVec *ret_names, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const DriftParams *drift = &promote->params->drift;
    StringVec names = {0};
    static const char sql[] =
        "WITH RECURSIVE reads AS (SELECT DISTINCT r.ev_class AS reader, d.refobjid AS what FROM pg_catalog.pg_rewrite r"
        " JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid"
        " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class"
        " WHERE r.rulename = '_RETURN'),"
        " levels AS (SELECT c.oid AS view, 0 AS level FROM pg_catalog.pg_class c WHERE c.relkind = 'm'"
        " UNION SELECT reads.reader, levels.level + 1 FROM levels JOIN reads ON reads.what = levels.view)"
        " SELECT n.nspname, c.relname FROM levels JOIN pg_catalog.pg_class c ON c.oid = levels.view"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated"
        " AND n.nspname !~ " SEAM_OF_A_JOB
        " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = c.oid"
        " AND e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)"
        " GROUP BY n.nspname, c.relname ORDER BY pg_catalog.max(levels.level), n.nspname, c.relname";

    if (!db_query(promote->params->source, sql, 0, NULL, &rows, err))
        return error_wrap(err, "listing materialized views");
    for (int i = 0; i < db_rows(rows); i++)
        if (drift->wanted == NULL || drift->wanted(drift->context, db_text(rows, i, 0), db_text(rows, i, 1)))
            vec_push(arena, &names, sql_qualified(arena, db_text(rows, i, 0), db_text(rows, i, 1)));
    *ret_names = names;
    return true;
}

bool promote_refresh_views(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const PromoteParams *params = promote->params;
    ViewSettings settings = {0};
    StringVec names = {0};
    Error ignored;
    int64_t begun = clock_now_us();
    bool ok = true;

    if (!list(promote, arena, &names, err))
        return false;
    if (names.len == 0)
        return true;
    if (!finish_view_settings(params->source, params->dest, &settings, err))
        return false;
    for (size_t i = 0; ok && i < names.len; i++)
        ok = refresh(promote, names.items[i], err);
    if (!finish_view_settings_back(params->dest, &settings, ok ? err : &ignored))
        return false;
    promote->views_us = clock_now_us() - begun;
    return ok;
}
