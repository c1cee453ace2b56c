/* Materialized views: no stream carries what they hold; they are filled again in the archive's order, which is that of
 * their dependencies. */
#include "engine/promote/promote_internal.h"

#include "common/clock.h"
#include "common/log.h"

#include <string.h>

/* A query of the source's own may fail for reasons of its own; then the view keeps what it had, and that is told. */
static bool is_views_own(const DbConn *dest, const Error *err) {
    return err->sqlstate[0] != '\0' && !err->retryable && err->reason != REASON_CANCELLED && !db_is_broken(dest);
}

static bool refresh(Promote *promote, const TocEntry *entry, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const PromoteParams *params = promote->params;
    const char *sql = restore_sql(scratch, entry, &params->load->restore);

    if (!ledger_begin(params->dest, params->load->ledger, err))
        return false;
    if (db_exec(params->dest, sql, err))
        return ledger_commit(params->dest, err);
    db_rollback(params->dest);
    if (!is_views_own(params->dest, err))
        return error_wrap(err, "refreshing %s.%s", entry->schema, entry->tag);
    promote_event(promote, "warning", "materialized view %s.%s could not be refreshed: %s", entry->schema, entry->tag,
                  err->message);
    promote_note(promote, "materialized view %s.%s could not be refreshed and holds what it held before: %s",
                 entry->schema, entry->tag, err->message);
    return true;
}

static bool is_view(const LoadParams *load, size_t entry) {
    return load->chosen[entry] && strcmp(load->toc->entries[entry].desc, "MATERIALIZED VIEW DATA") == 0;
}

static bool refresh_all(Promote *promote, Error *err) {
    const LoadParams *load = promote->params->load;

    for (size_t i = 0; i < load->toc->count; i++)
        if (is_view(load, i) && !refresh(promote, &load->toc->entries[i], err))
            return false;
    return true;
}

static bool has_views(const LoadParams *load) {
    for (size_t i = 0; i < load->toc->count; i++)
        if (is_view(load, i))
            return true;
    return false;
}

bool promote_refresh_views(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    ViewSettings settings = {0};
    Error ignored;
    int64_t begun = clock_now_us();

    if (!has_views(params->load))
        return true;
    if (!finish_view_settings(params->source, params->dest, &settings, err))
        return false;
    bool ok = refresh_all(promote, err);

    if (!finish_view_settings_back(params->dest, &settings, ok ? err : &ignored))
        return false;
    promote->views_us = clock_now_us() - begun;
    return ok;
}
