/* Materialized views: no stream carries what they hold; they are filled again, each after those it reads. Which ones is
 * asked of the source now: the archive knows nothing of those that were made, renamed or first filled since. */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "pg/quote.h"
#include "pg/sqlstate.h"

#include <string.h>

/* For the lock of a view: how long each try waits, and all of them; applications wait under the fence. */
enum { LOCK_TRY_MS = 100 };
#define LOCK_PAUSE_US (50 * USEC_PER_MSEC)
#define PATIENCE_US (3 * USEC_PER_SEC)
#define FENCED_PATIENCE_US (500 * USEC_PER_MSEC)

typedef struct View {
    const char *quoted, *display;
} View;
typedef VEC(View) ViewVec;

/* A query of the source's own may fail for reasons of its own; then the view keeps what it had, and that is told. */
static bool is_views_own(const DbConn *dest, const Error *err) {
    return err->sqlstate[0] != '\0' && !err->retryable && err->reason != REASON_CANCELLED && !db_is_broken(dest);
}

/* The load of a migration that is followed leaves views empty. So one whose first REFRESH fails does not hold what is
 * old, but nothing at all, and the server refuses each query of it. */
static bool read_emptiness(const Promote *promote, ViewTrouble *trouble, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(promote->params->dest,
                  "SELECT 1 FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)"
                  " AND relispopulated",
                  1, (const char *const[]){trouble->quoted}, &row, err))
        return error_wrap(err, "asking whether %s was ever filled", trouble->display);
    trouble->is_empty = db_rows(row) == 0;
    return true;
}

static void forget_trouble(Promote *promote, const char *quoted) {
    size_t kept = 0;

    for (size_t i = 0; i < promote->views.len; i++)
        if (strcmp(promote->views.items[i].quoted, quoted) != 0)
            promote->views.items[kept++] = promote->views.items[i];
    promote->views.len = kept;
}

static bool is_told(const Promote *promote, const char *quoted) {
    for (size_t i = 0; i < promote->views.len; i++)
        if (strcmp(promote->views.items[i].quoted, quoted) == 0)
            return true;
    return false;
}

/* PREPARE and COPY_REST may both fail with it: the later one counts, and people hear of it once. */
static bool add_trouble(Promote *promote, const View *view, const Error *failure, Error *err) {
    ViewTrouble trouble = {.quoted = arena_strdup(promote->arena, view->quoted),
                           .display = arena_strdup(promote->arena, view->display),
                           .message = arena_strdup(promote->arena, failure->message),
                           .is_unqualified = sqlstate_is_unqualified(failure->sqlstate, failure->message)};

    if (!read_emptiness(promote, &trouble, err))
        return false;
    if (!is_told(promote, view->quoted))
        promote_event(promote, "warning", "materialized view %s could not be refreshed%s: %s", trouble.display,
                      trouble.is_empty ? ", and is empty" : "", trouble.message);
    forget_trouble(promote, view->quoted);
    vec_push(promote->arena, &promote->views, trouble);
    return true;
}

/* *ret_us: how long it took, 0 when it failed. */
static bool try_refresh(Promote *promote, const View *view, int64_t *ret_us, Error *err) {
    DbConn *dest = promote->params->dest;
    int64_t begun = clock_now_us();

    if (!ledger_begin(dest, promote->params->load->ledger, err))
        return false;
    /* A statement of its own: who asks the server what takes so long reads REFRESH. */
    if (!db_execf(dest, err, "SET LOCAL lock_timeout = '%dms'", LOCK_TRY_MS) ||
        !db_execf(dest, err, "REFRESH MATERIALIZED VIEW %s", view->quoted)) {
        const Error failure = *err;

        db_rollback(dest);
        *err = failure;
        return false;
    }
    *ret_us = clock_now_us() - begun;
    return ledger_commit(dest, err);
}

/* Whoever reads the view and sits idle in his transaction would be waited for without limit, others' queries of it
 * behind us, and the wait be taken for the time that the REFRESH needs. So it is tried again and again, for a moment
 * each; LOCK TABLE does not take materialized views. */
static bool refresh_patiently(Promote *promote, const View *view, int64_t *ret_us, Error *err) {
    bool fenced = promote->step > PROMOTE_FENCE;
    int64_t deadline = clock_now_us() + (fenced ? FENCED_PATIENCE_US : PATIENCE_US);

    while (!try_refresh(promote, view, ret_us, err)) {
        const DbConn *dest = promote->params->dest;

        if (err->reason != REASON_LOCK_BUSY || clock_now_us() > deadline)
            return false;
        if (stop_wait_fd(db_stop(dest), -1, 0, clock_now_us() + LOCK_PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    return true;
}

static bool refresh(Promote *promote, const View *view, int64_t *us, Error *err) {
    int64_t took = 0;

    if (refresh_patiently(promote, view, &took, err)) {
        forget_trouble(promote, view->quoted);
        *us += took;
        return true;
    }
    bool is_busy = err->reason == REASON_LOCK_BUSY;

    (void)promote_explain_lock(promote, view->quoted, err);
    const Error failure = *err;

    if (!is_busy && !is_views_own(promote->params->dest, &failure))
        return error_wrap(err, "refreshing %s", view->display);
    return add_trouble(promote, view, &failure, err);
}

#define UNQUALIFIED_HINT                                                                                               \
    "; a function that it calls names something without its schema, which no REFRESH finds: ALTER FUNCTION ... SET"    \
    " search_path = ... (the schemas it needs), on both sides"

static void list_empty(const Promote *promote, const ViewTrouble *trouble, const char *fill) {
    NotMoved item = {.kind = "MATERIALIZED VIEW DATA",
                     .object = trouble->display,
                     .reason = trouble->message,
                     .sql = arena_printf(promote->arena, "%s;", fill)};

    vec_push(promote->arena, promote->params->not_moved, item);
}

void promote_tell_views(Promote *promote) {
    for (size_t i = 0; i < promote->views.len; i++) {
        const ViewTrouble *trouble = &promote->views.items[i];
        const char *fill = arena_printf(promote->arena, "REFRESH MATERIALIZED VIEW %s", trouble->quoted);

        promote_note(promote,
                     "materialized view %s could not be refreshed and %s: %s%s; when that is mended, on the"
                     " destination: %s",
                     trouble->display,
                     trouble->is_empty ? "is EMPTY on the destination, where every query of it fails"
                                       : "holds what it held before",
                     trouble->message, trouble->is_unqualified ? UNQUALIFIED_HINT : "", fill);
        if (trouble->is_empty && promote->result.opened)
            list_empty(promote, trouble, fill);
    }
}

/* The level of a view: how many views lie between it and the tables, by the longest way. Only by what it is defined as:
 * rules of tables may go in a circle. */
static bool list(const Promote *promote, Arena *arena, ViewVec *ret_views, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const DriftParams *drift = &promote->params->drift;
    ViewVec views = {0};
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
            vec_push(arena, &views,
                     ((View){.quoted = sql_qualified(arena, db_text(rows, i, 0), db_text(rows, i, 1)),
                             .display = sql_display(arena, db_text(rows, i, 0), db_text(rows, i, 1))}));
    *ret_views = views;
    return true;
}

bool promote_refresh_views(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const PromoteParams *params = promote->params;
    ViewSettings settings = {0};
    ViewVec views = {0};
    Error ignored;
    int64_t took = 0;
    bool ok = true;

    if (!list(promote, arena, &views, err))
        return false;
    if (views.len == 0)
        return true;
    if (!finish_view_settings(params->source, params->dest, &settings, err))
        return false;
    for (size_t i = 0; ok && i < views.len; i++)
        ok = refresh(promote, &views.items[i], &took, err);
    if (!finish_view_settings_back(params->dest, &settings, ok ? err : &ignored))
        return false;
    promote->views_us = took;
    return ok;
}
