/*
 * What is looked at while the stream is followed: replica identities, differences of the catalogues, sequences.
 *
 * A table that the application deprives of its identity leaves the publication of updates by the watch (watch.c), which
 * looks through the whole run. Here it becomes suspect, since the stream lacks updates of it; and what got an identity
 * is published.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/finish/finish.h"
#include "engine/ledger/relations.h"
#include "engine/promote/strangers.h"
#include "engine/seam/shapes.h"
#include "worker/following.h"

#include <string.h>

#define IDENTITIES_US (3 * USEC_PER_SEC)
#define SEQUENCES_US (30 * USEC_PER_SEC)
#define DRIFT_US (10 * USEC_PER_SEC)

enum {
    DRIFT_SHARE = 50, /* of the time goes into comparing, at most one part in so many */
    HELD_SHARE = 5,
    DRIFT_FAILURES = 6, /* in a row, before somebody is told */
};

static const SeamTable *find_identity(const Following *following, const SeamTable *table) {
    for (size_t i = 0; i < following->identities_count; i++)
        if (strcmp(following->identities[i].quoted, table->quoted) == 0)
            return &following->identities[i];
    return NULL;
}

static bool differ(const Following *following, const SeamTable *tables, size_t count) {
    bool changed = count != following->identities_count;

    for (size_t i = 0; i < count && !changed; i++) {
        const SeamTable *before = find_identity(following, &tables[i]);

        changed = before == NULL || before->has_identity != tables[i].has_identity;
    }
    return changed;
}

static void on_found(void *context, const char *table, const char *why) {
    Following *following = context;

    run_event(following->run, "warning", "table %s: %s", table, why);
}

/* Nobody knows what is published: the next look publishes all. */
static void forget_identities(Following *following) {
    arena_free(following->identities_arena);
    following->identities_arena = NULL;
    following->identities = NULL;
    following->identities_count = 0;
}

static bool is_wanted(void *context, const char *schema, const char *name) {
    const Following *following = context;

    return run_wanted(following->run, schema, name);
}

/* What commands did while it was silent is not in the stream: all tables are copied again, first marked and then
 * captured anew, and those that nobody knows are marked as well (the shapes). */
static bool look_at_capture(Following *following, bool *ret_renewed, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Run *run = following->run;
    const char *changed = NULL;

    *ret_renewed = false;
    if (!run->options.ddl)
        return true;
    if (!ddl_capture_check(run->source, run->dest, arena, &run->names, &changed, err))
        return false;
    if (changed == NULL)
        return true;
    run_event(
        run, "warning",
        "the capture of definitions (event triggers %s_..., schema %s) was changed on the source: %s. Commands may"
        " have passed it unseen: it is made anew, and all tables are copied again",
        run->names.slot, ddl_capture_schema(arena, &run->names), changed);
    *ret_renewed = true;
    following->capture_renewed = true;
    return relations_set_all_suspect(run->dest, &run->ledger, "the capture of definitions was changed on the source",
                                     err) &&
           failpoint("ddl.capture_marked", err) &&
           ddl_capture_install(run->source, run->dest, &run->ledger, &run->names, err);
}

/* Of the destination. Told when it is seen first; the tables wait until it is gone. */
static bool look_at_strangers(Following *following, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Run *run = following->run;
    StrangerVec found = {0};

    if (run->options.data_only)
        return true;
    if (!strangers_read(run->source, run->dest, arena, run->replica_role, &found, err) ||
        !strangers_mark(run->dest, &run->ledger, &found, err))
        return false;
    for (size_t i = 0; i < found.len; i++)
        if (!found.items[i].is_suspect)
            run_event(run, "warning", "%s", stranger_text(arena, &found.items[i]));
    return true;
}

/* With --ddl a definition that was captured is repeated: names and columns change by it, and new tables come by it. */
bool following_look_at_shapes(Following *following, Error *err) {
    Run *run = following->run;
    ShapesCheck check = {
        .source = run->source,
        .dest = run->dest,
        .ledger = &run->ledger,
        .names = &run->names,
        .definitions = !run->options.ddl,
        .new_tables = !run->options.ddl,
        .wanted = is_wanted,
        .context = following,
        .found = on_found,
    };
    size_t marked = 0;
    bool renewed = false;

    if (!look_at_strangers(following, err) || !look_at_capture(following, &renewed, err))
        return false;
    check.new_tables |= renewed;
    if (!shapes_check(&check, &marked, err))
        return false;
    /* It may have been taken out of a publication by somebody else: the next look puts in again what is missing. */
    if (marked > 0)
        forget_identities(following);
    return true;
}

/* What was not published until now lacks updates (shapes.c). */
static bool publish(Following *following, Arena *arena, SeamTable **ret_tables, size_t *ret_count, Error *err) {
    return following_look_at_shapes(following, err) && run_publish(following->run, arena, ret_tables, ret_count, err) &&
           following_look_at_shapes(following, err);
}

/* Tables that lost theirs have left the publication of updates already (watch.c): then all is looked at, and what has
 * an identity again is published again. */
static bool look_at_identities(Following *following, bool unpublished, Error *err) {
    Arena *arena = arena_new();
    SeamTable *tables = NULL;
    size_t count = 0;
    bool first = following->identities == NULL || unpublished;
    bool ok = first || seam_read_identities(following->run->source, arena, &tables, &count, err);
    bool changed = ok && (first || differ(following, tables, count));

    if (changed)
        ok = publish(following, arena, &tables, &count, err);
    if (!ok)
        forget_identities(following);
    if (!ok || !changed) {
        arena_free(arena);
        return ok;
    }
    arena_free(following->identities_arena);
    following->identities_arena = arena;
    following->identities = tables;
    following->identities_count = count;
    return true;
}

/* The catalogues change while they are read: what was in the way is gone at the next look. */
static bool drift_failed(Following *following, Error *err) {
    if (!drift_error_passes(err))
        return error_wrap(err, "comparing the catalogues");
    log_info("comparing the catalogues: %s", err->message);
    following->drift_due_us = clock_now_us() + DRIFT_US;
    if (++following->drift_failures % DRIFT_FAILURES == 0)
        run_event(following->run, "warning",
                  "the catalogues could not be compared %zu times in a row, since definitions change all the time: %s",
                  following->drift_failures, err->message);
    return true;
}

static size_t count_notes(const DriftVec *drifts) {
    size_t count = 0;

    for (size_t i = 0; i < drifts->len; i++)
        count += drifts->items[i].note;
    return count;
}

/* The first one, when there was none before. */
static void tell_drifts(const Following *following, const DriftVec *drifts) {
    size_t count = drifts->len - count_notes(drifts);

    if (count == 0 || following->drifts.len > count_notes(&following->drifts))
        return;
    for (size_t i = 0; i < drifts->len; i++)
        if (!drifts->items[i].note) {
            run_event(following->run, "warning", "%s: %s (%zu difference%s; promote waits for them)",
                      drifts->items[i].object, drifts->items[i].message, count, count == 1 ? "" : "s");
            return;
        }
}

bool following_look_at_drift(Following *following, bool *ret_busy, Error *err) {
    Arena *arena = arena_new();
    DriftVec drifts = {0};
    int64_t began = clock_now_us();

    *ret_busy = false;
    if (!run_compare_briefly(following->run, following->run->source, arena, &drifts, err)) {
        arena_free(arena);
        *ret_busy = drift_error_passes(err);
        return drift_failed(following, err);
    }
    following->drift_failures = 0;
    tell_drifts(following, &drifts);
    arena_free(following->drifts_arena);
    following->drifts_arena = arena;
    following->drifts = drifts;
    /* Large catalogues are looked at less often. */
    int64_t now = clock_now_us();
    following->drift_due_us = now + MAX(DRIFT_US, (now - began) * DRIFT_SHARE);
    following->drift_held_due_us = now + MAX(DRIFT_US, (now - began) * HELD_SHARE);
    return true;
}

/* One that was dropped between two of our statements, that got wider on the source alone, or that we may not read, is
 * no reason to end: the promote reads all of them again. What is missing or differs, the drift tells. */
static bool look_at_sequences(const Following *following, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Run *run = following->run;

    if (finish_sequences(&run->load, run->source, run->dest, arena, NULL, err))
        return true;
    if (db_is_broken(run->source) || db_is_broken(run->dest) || err->sqlstate[0] == '\0')
        return false;
    log_info("looking at sequences: %s", err->message);
    return true;
}

bool following_look_around(Following *following, Error *err) {
    int64_t now = clock_now_us();
    bool unpublished = watch_take_unpublished(following->run);
    bool busy = false;

    if (now >= following->identities_due_us || unpublished) {
        if (!look_at_identities(following, unpublished, err) || !look_at_strangers(following, err))
            return false;
        following->identities_due_us = clock_now_us() + IDENTITIES_US;
    }
    if (now >= following->drift_due_us &&
        (!following_look_at_shapes(following, err) || !following_look_at_drift(following, &busy, err) ||
         !following_look_at_unrepeated(following, err)))
        return false;
    if (now >= following->sequences_due_us) {
        if (!look_at_sequences(following, err))
            return false;
        following->sequences_due_us = clock_now_us() + SEQUENCES_US;
    }
    return true;
}

void following_look_end(Following *following) {
    arena_free(following->identities_arena);
    arena_free(following->drifts_arena);
    arena_free(following->unrepeated_arena);
}
