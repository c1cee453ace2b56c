/*
 * The applier: items of the queue, in order, to the destination (follow.c tells the protocol).
 *
 * A destination's transaction begins with the first item that needs one and ends with the item that says so. The
 * connection is this thread's alone; the hooks run here.
 */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/follow/follow_internal.h"
#include "pg/namesakes.h"

#include <stdio.h>
#include <string.h>

enum { LANE = 0 };

typedef struct Applier {
    Follow *follow;
    DbConn *dest;
    bool is_open; /* the destination's transaction */
    Lsn position; /* the ledger's */
    ApplyCounts counts;
} Applier;

/* --- Tables ------------------------------------------------------------------------------------------------------- */

static FollowTableCount *count_of(Follow *follow, const ApplyTable *table) {
    uint32_t oid = table->batch.relation;
    FollowTableCount *count = oid_map_get(&follow->table_counts, oid);

    if (count == NULL) {
        count = arena_new_of(follow->counts_arena, FollowTableCount);
        oid_map_put(&follow->table_counts, follow->counts_arena, oid, count);
    }
    count->display = table->display; /* of the newest definition */
    return count;
}

static void count_changes(const BatchPart *part, FollowTableCount *count) {
    for (size_t i = 0; i < part->changes_count; i++) {
        count->inserts += part->changes[i].op == BATCH_INSERT;
        count->updates += part->changes[i].op == BATCH_UPDATE;
        count->deletes += part->changes[i].op == BATCH_DELETE;
    }
}

static void count_parts(Follow *follow, const BatchPart *parts, size_t parts_count) {
    (void)pthread_mutex_lock(&follow->lock);
    for (size_t i = 0; i < parts_count; i++)
        count_changes(&parts[i], count_of(follow, (const ApplyTable *)(const void *)parts[i].table));
    (void)pthread_mutex_unlock(&follow->lock);
}

static void count_truncate(Follow *follow, const ApplyTruncate *truncate) {
    (void)pthread_mutex_lock(&follow->lock);
    for (size_t i = 0; i < truncate->count; i++)
        count_of(follow, truncate->tables[i])->truncates++;
    (void)pthread_mutex_unlock(&follow->lock);
}

/* --- Items -------------------------------------------------------------------------------------------------------- */

static void note_conflict(Follow *follow, const BatchPart *parts, size_t count) {
    (void)pthread_mutex_lock(&follow->lock);
    for (size_t i = 0; i < count; i++) {
        const ApplyTable *table = (const ApplyTable *)(const void *)parts[i].table;
        FollowConflict *conflict = &follow->conflict;

        if (table->trouble->refused[0] == '\0')
            continue;
        conflict->table = table->batch.relation;
        (void)snprintf(conflict->display, sizeof(conflict->display), "%s", table->display);
        memcpy(conflict->refused, table->trouble->refused, sizeof(conflict->refused));
    }
    (void)pthread_mutex_unlock(&follow->lock);
}

static bool run_parts(Applier *applier, Item *item, Error *err) {
    const BatchPart *parts = NULL;
    size_t count = 0;

    if (!batch_seal(item->batch, &parts, &count, err))
        return false;
    if (!apply_parts(applier->dest, parts, count, &applier->counts, err)) {
        note_conflict(applier->follow, parts, count);
        return false;
    }
    count_parts(applier->follow, parts, count);
    return true;
}

static bool run_truncate(Applier *applier, Item *item, Error *err) {
    if (!apply_truncate(applier->dest, &item->truncate, &applier->counts, err))
        return false;
    count_truncate(applier->follow, &item->truncate);
    return true;
}

static bool run_message(Applier *applier, Item *item, Error *err) {
    const FollowHooks *hooks = &applier->follow->params.hooks;

    if (!hooks->message(hooks->context, applier->dest, &item->message, err))
        return error_wrap(err, "a message \"%s\" of the source", item->message.prefix);
    return db_forget_prepared(applier->dest, err);
}

static bool open_transaction(Applier *applier, Error *err) {
    if (applier->is_open)
        return true;
    if (!failpoint("follow.before_apply", err) || !apply_begin(applier->dest, applier->follow->params.ledger, err))
        return false;
    applier->is_open = true;
    return true;
}

/* The destination may have another table of the new name. */
static bool check_name(const Item *item, Error *err) {
    const FollowTable *followed = item->followed;
    const PgoRelation *relation = item->relation;

    return followed == NULL || followed->name == NULL ||
           (strcmp(followed->schema, relation->schema) == 0 && strcmp(followed->name, relation->name) == 0) ||
           error_set(err, REASON_TABLE_CHANGED, "it was renamed on the source: it was %s.%s", followed->schema,
                     followed->name);
}

/* Into the item's arena first: a table that has not changed stays what it is, since nothing of the other arena is ever
 * freed. */
static bool load_changed(Applier *applier, const Item *item, ApplyTable **ret_table, Error *err) {
    bool is_keyless = item->followed != NULL && item->followed->is_keyless;

    if (!apply_table_load(applier->dest, item->before == NULL ? applier->follow->tables_arena : item->arena,
                          item->relation, is_keyless, ret_table, err))
        return false;
    return item->before == NULL || apply_table_same(item->before, *ret_table) ||
           apply_table_load(applier->dest, applier->follow->tables_arena, item->relation, is_keyless, ret_table, err);
}

/* Now that one is in the stream: those before it, since the copy, were not. */
static bool check_keyed(const Item *item, Error *err) {
    return !item->got_keyed ||
           error_set(err, REASON_TABLE_CHANGED, "its updates and deletes were not published all the time");
}

/* A table that does not fit stops itself, not the others. */
static bool load_table(Applier *applier, const Item *item, Answer *answer, Error *err) {
    const FollowHooks *hooks = &applier->follow->params.hooks;
    ApplyTable *table = NULL;

    if (check_keyed(item, err) && check_name(item, err) && load_changed(applier, item, &table, err)) {
        answer->table = item->before != NULL && apply_table_same(item->before, table) ? item->before : table;
        return true;
    }
    if (err->reason != REASON_TABLE_CHANGED || hooks->table_changed == NULL)
        return false;
    const Error why = *err;
    answer->apply = false;
    return open_transaction(applier, err) &&
           hooks->table_changed(hooks->context, applier->dest, item->relation, why.message, err);
}

static bool run_table(Applier *applier, Item *item, Error *err) {
    const FollowHooks *hooks = &applier->follow->params.hooks;
    Answer answer = {.apply = true};

    if (item->asks && !hooks->unknown_table(hooks->context, applier->dest, item->relation, &answer.apply, err))
        return error_wrap(err, "table %s.%s, which was not copied", item->relation->schema, item->relation->name);
    if (answer.apply && !load_table(applier, item, &answer, err))
        return false;
    queue_answer(applier->follow, answer);
    return true;
}

static bool run_advance(Applier *applier, Item *item, Error *err) {
    (void)applier;
    (void)item;
    return failpoint("follow.before_advance", err);
}

static bool (*const runs[ITEM_KINDS_])(Applier *, Item *, Error *) = {
    [ITEM_PARTS] = run_parts, [ITEM_TRUNCATE] = run_truncate, [ITEM_MESSAGE] = run_message,
    [ITEM_TABLE] = run_table, [ITEM_ADVANCE] = run_advance,
};

static bool needs_transaction(const Item *item) {
    return item->kind != ITEM_TABLE || item->asks;
}

static void publish(Applier *applier, const Item *item) {
    Follow *follow = applier->follow;

    (void)pthread_mutex_lock(&follow->lock);
    follow->applied = (Position){.lsn = item->to, .transactions = follow->applied.transactions + item->transactions};
    if (item->time_us != 0)
        follow->applied_time_us = item->time_us;
    follow->applying_oldest_us = 0;
    follow->counts = applier->counts;
    atomic_store(&follow->durable, item->to);
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
}

static bool commit(Applier *applier, const Item *item, Error *err) {
    if (!failpoint("follow.before_commit", err) ||
        !apply_commit(applier->dest, LANE, applier->position, item->to, item->transactions, err) ||
        !failpoint("follow.after_commit", err))
        return false;
    applier->is_open = false;
    applier->position = item->to;
    publish(applier, item);
    return true;
}

static bool run_item(Applier *applier, Item *item, Error *err) {
    if (needs_transaction(item) && !open_transaction(applier, err))
        return false;
    if (!runs[item->kind](applier, item, err))
        return false;
    return item->commits ? commit(applier, item, err) : failpoint("follow.inside_transaction", err);
}

/* --- Life --------------------------------------------------------------------------------------------------------- */

/* A session of ours whose connection broke may still be about to commit, or hold locks: first it has to be gone. Its
 * COMMIT, if it was sent, is then decided, and the position says how. */
static bool open_dest(Applier *applier, bool *ret_replica, Position *ret_position, Error *err) {
    Follow *follow = applier->follow;
    bool found = false;

    if (!db_open(follow->params.dest_target, "apply", &follow->stop, &applier->dest, err) ||
        !apply_session_setup(applier->dest, ret_replica, err) || !db_end_namesakes(applier->dest, err) ||
        !position_read(applier->dest, LANE, &found, ret_position, err))
        return false;
    return found || error_set(err, REASON_LEDGER_MISMATCH, "the ledger has no position to follow from");
}

static bool start(Applier *applier, Error *err) {
    Follow *follow = applier->follow;
    Position position = {0};
    bool replica = false;

    if (!open_dest(applier, &replica, &position, err))
        return false;
    applier->position = position.lsn;
    (void)pthread_mutex_lock(&follow->lock);
    follow->replica_role = replica;
    follow->start = position;
    follow->applied = position;
    follow->has_position = true;
    atomic_store(&follow->durable, position.lsn);
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->lock);
    return true;
}

static bool run(Applier *applier, Error *err) {
    if (!start(applier, err))
        return false;
    for (;;) {
        Item *item = queue_next(applier->follow);
        if (item == NULL)
            return true;
        bool ok = run_item(applier, item, err);
        queue_done(applier->follow, item);
        if (!ok)
            return false;
    }
}

void *applier_main(void *context) {
    Applier applier = {.follow = context};
    Error err = {0};

    log_thread_name("apply");
    if (!run(&applier, &err))
        follow_fail(applier.follow, &err);
    db_close(applier.dest); /* what is open is rolled back */
    return NULL;
}
