/*
 * PREPARE: everything that can be found out, or done, while the source is still written to. A promote that would fail
 * under the fence should fail here.
 */
#include "engine/promote/strangers.h"
#include "engine/promote/waiting.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/quote.h"

/* For the estimate: COPY of small tables, and one lock. */
#define COPY_BYTES_PER_US 40
#define LOCK_US 10
enum { FENCE_ROUND_TRIPS = 40 };

static bool measure_round_trip(Promote *promote, Error *err) {
    int64_t begun = clock_now_us();

    if (!db_exec(promote->params->source, "SELECT 1", err) || !db_exec(promote->params->dest, "SELECT 1", err))
        return false;
    promote->round_trip_us = (clock_now_us() - begun) / 2;
    return true;
}

/* Twice: what changed since the load is mended now, so that little is left to do under the fence. */
static bool prepare_objects(Promote *promote, Error *err) {
    promote->objects_locked = false;
    if (!promote_copy_objects(promote, err))
        return false;
    promote->result.large_objects = 0;
    return true;
}

static bool prepare_views(Promote *promote, Error *err) {
    if (!promote_refresh_views(promote, err))
        return false;
    promote->views_again = promote->views_us > 0 && promote->views_us < PROMOTE_VIEWS_QUICK_US;
    if (promote->views_us >= PROMOTE_VIEWS_QUICK_US)
        promote_note(promote,
                     "materialized views show the source as it was just before writes were stopped"
                     " (refreshing them takes %s)",
                     clock_duration(promote->arena, promote->views_us));
    return true;
}

/* A subscription's worker is started again whenever it is ended, and default_transaction_read_only does not stop it: it
 * would write to the old source after OPEN. */
static bool find_subscriptions(const Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (promote->mode == FENCE_NONE)
        return true;
    if (!db_query(promote->params->source,
                  "SELECT pg_catalog.quote_ident(s.subname) FROM pg_catalog.pg_subscription s"
                  " JOIN pg_catalog.pg_database d ON d.oid = s.subdbid"
                  " WHERE d.datname = pg_catalog.current_database() AND s.subenabled ORDER BY s.subname",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for subscriptions");
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena,
                              "subscription %s writes to the source and would go on after the promote: run ALTER"
                              " SUBSCRIPTION %s DISABLE on the source (and ENABLE on the destination afterwards)",
                              db_text(rows, i, 0), db_text(rows, i, 0)));
    return true;
}

bool promote_unrepeated(Promote *promote, StringVec *problems, Error *err) {
    const PromoteParams *params = promote->params;
    StringVec left = {0};

    if (!params->options->ddl || params->options->accept_ddl)
        return true;
    if (!unrepeated_left(params->source, params->dest, promote->arena, &left, err))
        return false;
    for (size_t i = 0; i < left.len; i++)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena,
                              "%s (make both sides alike, or, if they are: pgcrane promote --accept-ddl)",
                              left.items[i]));
    return true;
}

/* The destination is a moment behind. With --ddl that is so of definitions, too: one that the stream brings is no
 * difference. */
static bool compare_caught_up(Promote *promote, StringVec *problems, Error *err) {
    enum { COMPARISONS = 3 };
    size_t notes = promote->result.notes.len;

    for (int i = 1;; i++) {
        problems->len = 0;
        promote->result.notes.len = notes;
        if (!promote_compare_into(promote, problems, err))
            return false;
        if (problems->len == 0 || !promote->params->options->ddl || i == COMPARISONS)
            return true;
        log_info("promote: %zu differences, waiting for definitions", problems->len);
        if (!promote_wait_now(promote, "definitions", err))
            return false;
    }
}

static bool is_listed(const NotMovedVec *list, const char *object) {
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->items[i].object, object) == 0)
            return true;
    return false;
}

/* Settings, grants and comment of the database change while it is followed, too, and nobody is told: no event trigger
 * fires for them. */
static bool take_over_settings(Promote *promote, Error *err) {
    const PromoteParams *params = promote->params;
    NotMovedVec refused = {0};

    if (params->options->dry_run || params->load->data_only)
        return true;
    if (!finish_database(params->load, params->source, params->dest, true, &refused, promote->arena, err))
        return false;
    for (size_t i = 0; i < refused.len; i++)
        if (!is_listed(params->not_moved, refused.items[i].object))
            vec_push(promote->arena, params->not_moved, refused.items[i]);
    return true;
}

/* Somebody has made it so, or it was moved from a source that was frozen when it was copied. */
static bool note_read_only(Promote *promote, Error *err) {
    const char *note = NULL;

    if (!finish_read_only_note(promote->params->dest, promote->arena, &note, err))
        return false;
    if (note != NULL)
        promote_note(promote, "%s", note);
    return true;
}

/* One that we may not read would end the promote under the fence. */
static bool check_sequences(Promote *promote, StringVec *problems, Error *err) {
    const PromoteParams *params = promote->params;
    StringVec readings = {0};

    if (finish_sequences_moved(params->load, params->source, params->dest, promote->arena, &readings, err))
        return true;
    if (err->reason != REASON_NOT_PERMITTED)
        return !db_is_broken(params->source) && err->reason != REASON_CANCELLED; /* dropped just now, say */
    vec_push(promote->arena, problems,
             arena_printf(promote->arena, "%s: GRANT SELECT on it TO %s", err->message,
                          sql_ident(promote->arena, db_user(params->source))));
    return true;
}

bool promote_strangers(Promote *promote, bool mark, StringVec *problems, Error *err) {
    const PromoteParams *params = promote->params;
    StrangerVec found = {0};

    if (params->load->data_only) /* they were there before us */
        return true;
    if (!strangers_read(params->source, params->dest, promote->arena, params->load->replica_role, &found, err) ||
        (mark && !strangers_mark(params->dest, params->load->ledger, &found, err)))
        return false;
    for (size_t i = 0; i < found.len; i++)
        vec_push(promote->arena, problems, stranger_text(promote->arena, &found.items[i]));
    return true;
}

bool promote_prepare(Promote *promote, Error *err) {
    StringVec problems = {0};

    if (!measure_round_trip(promote, err) || !compare_caught_up(promote, &problems, err) ||
        !find_subscriptions(promote, &problems, err) || !promote_fence_check(promote, &problems, err) ||
        !promote_unrepeated(promote, &problems, err) || !promote_strangers(promote, true, &problems, err) ||
        !check_sequences(promote, &problems, err))
        return false;
    /* Tables that differ in their columns could not be compared by their rows. */
    if (!promote_refuse(promote, "not ready to promote", &problems, err) || !promote_rest_list(promote, false, err) ||
        !promote_rest_presume(promote, &problems, err) || !promote_warn_rest(promote, err) ||
        !promote_unique_check(promote, &problems, err) || !waiting_prepare(promote, &problems, err) ||
        !promote_refuse(promote, "not ready to promote", &problems, err))
        return false;
    return prepare_objects(promote, err) && prepare_views(promote, err) && take_over_settings(promote, err) &&
           note_read_only(promote, err) && promote_wait_lag(promote, err) && failpoint("promote.after_prepare", err);
}

int64_t promote_estimate_us(const Promote *promote) {
    int64_t copied = 0;

    for (size_t i = 0; i < promote->rest.len; i++)
        copied += promote->rest.items[i].differs ? promote->rest.items[i].bytes : 0;
    return promote->lag_us + promote->compare_us + promote->rest_us + promote->objects_us + promote->waiting.try_us +
           (promote->views_again ? promote->views_us : 0) + copied / COPY_BYTES_PER_US +
           (int64_t)promote->lock_count * LOCK_US + FENCE_ROUND_TRIPS * promote->round_trip_us;
}
