/*
 * Materialized views: no stream carries what they hold; they are filled again, each after those it reads. Which ones is
 * asked of the source now: the archive knows nothing of those that were made, renamed or first filled since.
 *
 * Locks. REFRESH locks readers out, and whoever reads the view and sits idle in his transaction would be waited for
 * without limit, others' queries of it behind us. So each try is short, and where an autovacuum is in the way as long
 * as that needs to be asked to leave (pg/lock_timeout.h); our own REFRESH of a moment ago is what brings one. Under the
 * fence only a superuser is quick enough for that. One that could not be locked is tried once more behind OPEN and the
 * hook after it, when nobody waits for us, with those that read it; under the fence, where nobody knows how long it
 * takes, it is left alone. Killed between OPEN and that, it stays as it was, as `pgcrane promote --dry-run` and the
 * event of PREPARE have said.
 */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "pg/lock_timeout.h"
#include "pg/quote.h"
#include "pg/sqlstate.h"

#include <string.h>

/* For the lock of a view: how long each try waits; how long there are tries, for a view, and for all of them while
 * applications wait, and when they do not. */
enum { LOCK_TRY_MS = 100, FENCED_TRY_MS = 250 };
#define LOCK_PAUSE_US (50 * USEC_PER_MSEC)
#define PATIENCE_US (3 * USEC_PER_SEC)
#define FENCED_PATIENCE_US (500 * USEC_PER_MSEC)
#define LATE_PATIENCE_US (5 * USEC_PER_SEC)

typedef struct View {
    const char *quoted, *display;
} View;
typedef VEC(View) ViewVec;

/* One walk through the views. */
typedef struct Pass {
    Promote *promote;
    Arena *arena;
    ViewVec views;
    StringVec *due;      /* behind OPEN: those to be refreshed, NULL = all */
    int64_t deadline_us; /* of the tries for locks, 0 = each view has its own */
    int64_t took_us;     /* by all that were refreshed */
} Pass;

static bool is_fenced(const Promote *promote) {
    return promote->step > PROMOTE_FENCE && !promote->result.opened;
}

/* As a lock that was not had: with deadlock_timeout as short as our wait, that is what it may be called. */
static bool is_busy(const Error *err) {
    return err->reason == REASON_LOCK_BUSY || strcmp(err->sqlstate, "40P01") == 0;
}

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

static const ViewTrouble *find_trouble(const Promote *promote, const char *quoted) {
    for (size_t i = 0; i < promote->views.len; i++)
        if (strcmp(promote->views.items[i].quoted, quoted) == 0)
            return &promote->views.items[i];
    return NULL;
}

/* PREPARE and COPY_REST may both fail with it: the later one counts, and people hear of it once. */
static bool add_trouble(Promote *promote, const View *view, const Error *failure, Error *err) {
    ViewTrouble trouble = {.quoted = arena_strdup(promote->arena, view->quoted),
                           .display = arena_strdup(promote->arena, view->display),
                           .message = arena_strdup(promote->arena, failure->message),
                           .is_busy = is_busy(failure),
                           .is_unqualified = sqlstate_is_unqualified(failure->sqlstate, failure->message)};

    if (!read_emptiness(promote, &trouble, err))
        return false;
    if (find_trouble(promote, view->quoted) == NULL)
        promote_event(promote, "warning", "materialized view %s could not be refreshed%s: %s", trouble.display,
                      trouble.is_empty ? ", and is empty" : "", trouble.message);
    forget_trouble(promote, view->quoted);
    vec_push(promote->arena, &promote->views, trouble);
    return true;
}

/* *ret_wait_ms: for how long it would have waited for the lock; *ret_us: how long it took, with what it waited. */
static bool try_refresh(Promote *promote, const View *view, int *ret_wait_ms, int64_t *ret_us, Error *err) {
    DbConn *dest = promote->params->dest;
    int most_ms = is_fenced(promote) ? FENCED_TRY_MS : LOCK_TIMEOUT_MOST_MS;
    int64_t begun = 0;

    if (!ledger_begin(dest, promote->params->load->ledger, err))
        return false;
    bool ok = lock_timeout_set(dest, view->quoted, LOCK_TRY_MS, most_ms, ret_wait_ms, err);
    begun = clock_now_us();
    /* A statement of its own: who asks the server what takes so long reads REFRESH. */
    if (!ok || !db_execf(dest, err, "REFRESH MATERIALIZED VIEW %s", view->quoted)) {
        const Error failure = *err;

        db_rollback(dest);
        *err = failure;
        return false;
    }
    *ret_us = clock_now_us() - begun;
    return ledger_commit(dest, err);
}

/* Again and again, for a moment each; LOCK TABLE does not take materialized views. */
static bool refresh_patiently(Promote *promote, const View *view, int64_t deadline_us, int64_t *ret_us, Error *err) {
    const DbConn *dest = promote->params->dest;
    int wait_ms = 0;

    while (!try_refresh(promote, view, &wait_ms, ret_us, err)) {
        if (db_is_broken(dest) || !is_busy(err) || clock_now_us() > deadline_us)
            return false;
        if (stop_wait_fd(db_stop(dest), -1, 0, clock_now_us() + LOCK_PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    bool is_slow = *ret_us >= PROMOTE_VIEWS_QUICK_US + wait_ms * USEC_PER_MSEC;

    if (promote->step != PROMOTE_PREPARE || wait_ms <= LOCK_TRY_MS || *ret_us < PROMOTE_VIEWS_QUICK_US || is_slow)
        return true;
    /* Is it quick enough for the fence? An autovacuum may be what it took long for. */
    return try_refresh(promote, view, &wait_ms, ret_us, err) || (is_busy(err) && !db_is_broken(dest));
}

static bool refresh(Pass *pass, const View *view, Error *err) {
    Promote *promote = pass->promote;
    int64_t deadline_us = pass->deadline_us != 0 ? pass->deadline_us : clock_now_us() + PATIENCE_US;
    int64_t took_us = 0;

    if (refresh_patiently(promote, view, deadline_us, &took_us, err)) {
        forget_trouble(promote, view->quoted);
        pass->took_us += took_us;
        return true;
    }
    bool busy = is_busy(err) && !db_is_broken(promote->params->dest);

    (void)promote_explain_view(promote, view->quoted, err);
    const Error failure = *err;

    if (!busy && !is_views_own(promote->params->dest, &failure))
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

static bool is_due(const Pass *pass, const View *view) {
    const ViewTrouble *trouble = find_trouble(pass->promote, view->quoted);

    if (pass->due != NULL)
        return string_vec_has(pass->due, view->quoted);
    return !is_fenced(pass->promote) || trouble == NULL || !trouble->is_busy;
}

/* Materialized views that read it, through others, too: filled before, they show what it held then. */
static bool add_readers(Pass *pass, const View *view, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    static const char sql[] =
        "WITH RECURSIVE reads AS (SELECT r.ev_class AS reader, d.refobjid AS what FROM pg_catalog.pg_rewrite r"
        " JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid"
        " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class"
        " WHERE r.rulename = '_RETURN'),"
        " above AS (SELECT pg_catalog.to_regclass($1)::oid AS oid"
        " UNION SELECT reads.reader FROM above JOIN reads ON reads.what = above.oid)"
        " SELECT n.nspname, c.relname FROM above JOIN pg_catalog.pg_class c USING (oid)"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm'";

    if (!db_query(pass->promote->params->dest, sql, 1, (const char *const[]){view->quoted}, &rows, err))
        return error_wrap(err, "asking what reads %s", view->display);
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(pass->arena, pass->due, sql_qualified(pass->arena, db_text(rows, i, 0), db_text(rows, i, 1)));
    return true;
}

static bool refresh_due(Pass *pass, Error *err) {
    for (size_t i = 0; i < pass->views.len; i++) {
        const View *view = &pass->views.items[i];

        if (!is_due(pass, view))
            continue;
        if (!refresh(pass, view, err))
            return false;
        if (pass->due == NULL || find_trouble(pass->promote, view->quoted) != NULL)
            continue;
        promote_event(pass->promote, "info", "materialized view %s is refreshed now", view->display);
        if (!add_readers(pass, view, err))
            return false;
    }
    return true;
}

static bool walk(Pass *pass, Error *err) {
    const PromoteParams *params = pass->promote->params;
    ViewSettings settings = {0};
    Error ignored;

    if (!list(pass->promote, pass->arena, &pass->views, err))
        return false;
    if (pass->views.len == 0)
        return true;
    if (!finish_view_settings(params->source, params->dest, &settings, err))
        return false;
    bool ok = refresh_due(pass, err);

    return finish_view_settings_back(params->dest, &settings, ok ? err : &ignored) && ok;
}

bool promote_refresh_views(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Pass pass = {.promote = promote,
                 .arena = arena,
                 .deadline_us = is_fenced(promote) ? clock_now_us() + FENCED_PATIENCE_US : 0};

    if (!walk(&pass, err))
        return false;
    promote->views_us = pass.took_us;
    return true;
}

void promote_refresh_busy_views(Promote *promote) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec due = {0};
    Pass pass = {.promote = promote, .arena = arena, .due = &due, .deadline_us = clock_now_us() + LATE_PATIENCE_US};
    Error err = {0};

    for (size_t i = 0; i < promote->views.len; i++)
        if (promote->views.items[i].is_busy)
            vec_push(arena, &due, promote->views.items[i].quoted);
    if (due.len > 0 && !walk(&pass, &err))
        log_error_value(LOG_WARNING, &err);
}
