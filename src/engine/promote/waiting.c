/*
 * What waits for OPEN: found out anew from the source, tried on the destination, done in OPEN's transaction.
 *
 * The archive of the load says what triggers, policies and the like were at its snapshot. Until the promote they may
 * have become others, and so may the tables that they are on. So PREPARE dumps the source's definitions once more, and
 * reads both sides' catalogues: an object that the destination has as the source has it is left alone, every other one
 * is made from the new archive. All of that is tried before writes are stopped, a table at a time, and rolled back:
 * what the destination refuses is a refusal of the promote, not an outage.
 *
 * Under the fence the source's catalogue is read once more. When it is no longer what was dumped, the promote is undone
 * and tried again; the destination's is read again too, since the stream may have brought definitions meanwhile.
 */
#include "engine/promote/waiting.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/load/serial.h"
#include "engine/schema/dump.h"
#include "engine/schema/filter.h"
#include "engine/schema/tablespaces.h"

#include <string.h>

enum { ARCHIVE_MAX = 1 << 30, DUMPS_MAX = 2 };

/* ---- From the source ---- */

static bool read_side(const Promote *promote, DbConn *conn, Arena *arena, ActingVec *ret_objects, Error *err) {
    const PromoteParams *params = promote->params;

    return acting_read(conn, arena, params->drift.ignore_schema, !params->load->replica_role, ret_objects, err);
}

/* In a transaction of the source: pg_dump and our own query see the same moment. */
static bool dump_in_transaction(Promote *promote, Buf *archive, Error *err) {
    const PromoteParams *params = promote->params;
    char *snapshot = NULL;

    if (!db_query_value(params->source, promote->waiting.arena, "SELECT pg_catalog.pg_export_snapshot()", 0, NULL,
                        &snapshot, err) ||
        !read_side(promote, params->source, promote->waiting.arena, &promote->waiting.source, err))
        return false;
    const SchemaDump dump = {.pg_dump = params->pg_dump, .conninfo = params->options->source, .snapshot_id = snapshot};

    return schema_dump(&dump, params->stop, archive, err);
}

/* A table that is dropped or renamed just now cannot be locked by pg_dump: another snapshot does not have it. */
static bool dump(Promote *promote, Buf *archive, Error *err) {
    DbConn *source = promote->params->source;

    for (int i = 1;; i++) {
        if (!db_exec(source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err))
            return false;
        bool ok = dump_in_transaction(promote, archive, err);
        db_rollback(source);
        if (ok || err->reason != REASON_CLIENT_FAILED || i == DUMPS_MAX)
            return ok || error_wrap(err, "reading the source's definitions again");
        log_error_value(LOG_WARNING, err);
    }
}

static bool read_archive(Promote *promote, Error *err) {
    CLEANUP(buf_fini) Buf archive;
    Waiting *waiting = &promote->waiting;
    Selection selection = {0};

    buf_init(&archive, ARCHIVE_MAX);
    if (!dump(promote, &archive, err) || !buf_ok(&archive, "the schema archive", err) ||
        !toc_parse(promote->waiting.arena, archive.data, archive.len, &waiting->toc, err) ||
        !schema_map_tablespaces(promote->waiting.arena, promote->params->source, promote->params->dest,
                                promote->params->options, &waiting->toc, err))
        return false;
    if (!schema_select(promote->waiting.arena, &waiting->toc, promote->params->options, &selection, err)) {
        const Error why = *err; /* a filter that matches nothing any more */

        return error_set(err, REASON_PROMOTE_REFUSED, "%s", why.message);
    }
    waiting->chosen = selection.chosen;
    for (size_t i = 0; i < waiting->toc.count; i++)
        waiting->chosen[i] = waiting->chosen[i] && !promote->params->is_own(&waiting->toc.entries[i]);
    return true;
}

/* ---- What is to be done ---- */

static bool is_kind(const TocEntry *entry, const char *desc) {
    return strcmp(entry->desc, desc) == 0;
}

static bool is_note(const TocEntry *entry) {
    return is_kind(entry, "COMMENT") || is_kind(entry, "SECURITY LABEL");
}

/* On a table, and compared as such. */
static bool is_compared(const char *kind) {
    return strcmp(kind, "TRIGGER") == 0 || strcmp(kind, "RULE") == 0 || strcmp(kind, "POLICY") == 0 ||
           strcmp(kind, "FK CONSTRAINT") == 0;
}

static bool is_last(const Promote *promote, const TocEntry *entry) {
    return restore_pass(&promote->waiting.toc, entry, &promote->params->load->restore) == RESTORE_LAST &&
           !is_kind(entry, "MATERIALIZED VIEW DATA");
}

/* The state of one partition's trigger, which differs from its root's, is no object of its own: said again. */
static bool is_state(const TocEntry *entry) {
    return is_kind(entry, "TRIGGER") && strstr(entry->defn, "CREATE ") == NULL;
}

static void choose_entry(const Promote *promote, WaitingWork *work, size_t i) {
    const TocEntry *entry = &promote->waiting.toc.entries[i];
    const Acting *here = acting_find(&promote->waiting.source, entry->desc, entry->schema, entry->tag);
    const Acting *there = acting_find(&work->dest, entry->desc, entry->schema, entry->tag);

    if (!is_compared(entry->desc)) {
        /* What stands on the destination already was made there by somebody, and stays. */
        work->chosen[i] = !is_note(entry) && is_last(promote, entry) && there == NULL;
        return;
    }
    if (is_state(entry)) {
        work->chosen[i] = true;
        return;
    }
    if (here == NULL || (there != NULL && acting_same(here, there)))
        return;
    if (there != NULL)
        vec_push(work->arena, &work->drops, *there);
    if (is_kind(entry, "FK CONSTRAINT"))
        vec_push(work->arena, &work->keys, *here);
    else
        work->chosen[i] = true;
}

/* Comments go with what they are about; those of foreign keys that wait with the keys, by keys.c. */
static void choose_note(const Promote *promote, WaitingWork *work, size_t i) {
    const Toc *toc = &promote->waiting.toc;
    const TocEntry *entry = &toc->entries[i];
    bool of_key = false;

    for (size_t d = 0; d < entry->deps_count; d++) {
        const TocEntry *about = toc_find(toc, entry->deps[d]);

        work->chosen[i] |= about != NULL && work->chosen[about - toc->entries];
        of_key |= about != NULL && is_kind(about, "FK CONSTRAINT");
    }
    if (!of_key || promote->params->load->replica_role)
        work->chosen[i] |= is_last(promote, entry);
    else
        vec_push(work->arena, &work->key_notes, restore_sql(work->arena, entry, &promote->params->load->restore));
}

static bool is_wanted(const Promote *promote, const Acting *object) {
    const DriftParams *drift = &promote->params->drift;

    return drift->wanted == NULL || drift->wanted(drift->context, object->schema, object->relation);
}

static void add_statement(WaitingWork *work, const Acting *object, const char *definition) {
    WaitingStatement statement = {.table = object,
                                  .sql = arena_printf(work->arena, "ALTER TABLE %s %s", object->quoted, definition)};

    vec_push(work->arena, &work->security, statement);
}

#define NO_SECURITY "DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"

static void choose_security(const Promote *promote, WaitingWork *work) {
    const ActingVec *source = &promote->waiting.source;

    for (size_t i = 0; i < source->len; i++) {
        const Acting *here = &source->items[i];

        if (strcmp(here->kind, "ROW SECURITY") != 0 || !is_wanted(promote, here))
            continue;
        const Acting *there = acting_find(&work->dest, here->kind, here->schema, here->tag);

        if (there == NULL || !acting_same(here, there))
            add_statement(work, here, here->definition);
    }
}

/* What the destination alone has: with --ddl its definitions are ours to keep alike; otherwise somebody made it there
 * by hand, or dropped it by hand on the source alone, and has to say which. */
static void judge_extra(const Promote *promote, WaitingWork *work, const Acting *there, StringVec *problems) {
    bool is_security = strcmp(there->kind, "ROW SECURITY") == 0;
    const char *undo =
        is_security ? arena_printf(work->arena, "ALTER TABLE %s " NO_SECURITY, there->quoted) : there->drop;

    if (promote->params->options->ddl && is_security)
        add_statement(work, there, NO_SECURITY);
    else if (promote->params->options->ddl)
        vec_push(work->arena, &work->drops, *there);
    else if (!is_security || strncmp(there->definition, "ENABLE", strlen("ENABLE")) == 0)
        vec_push(promote->arena, problems,
                 arena_printf(promote->arena, "%s is on the destination only (there: %s)",
                              acting_display(work->arena, there), undo));
}

static void choose_extras(const Promote *promote, WaitingWork *work, StringVec *problems) {
    for (size_t i = 0; i < work->dest.len; i++) {
        const Acting *there = &work->dest.items[i];

        if ((is_compared(there->kind) || strcmp(there->kind, "ROW SECURITY") == 0) && is_wanted(promote, there) &&
            acting_find(&promote->waiting.source, there->kind, there->schema, there->tag) == NULL)
            judge_extra(promote, work, there, problems);
    }
}

/* `problems` in the promote's arena, all else in the work's. */
static bool find_work(const Promote *promote, WaitingWork *work, StringVec *problems, Error *err) {
    const Waiting *waiting = &promote->waiting;

    if (!read_side(promote, promote->params->dest, work->arena, &work->dest, err))
        return false;
    work->chosen = arena_array(work->arena, bool, MAX(waiting->toc.count, 1));
    for (size_t i = 0; i < waiting->toc.count; i++)
        if (waiting->chosen[i])
            choose_entry(promote, work, i);
    for (size_t i = 0; i < waiting->toc.count; i++)
        if (waiting->chosen[i] && is_note(&waiting->toc.entries[i]))
            choose_note(promote, work, i);
    choose_security(promote, work);
    choose_extras(promote, work, problems);
    return true;
}

/* ---- Doing it ---- */

/* NULL table: what belongs to none, and everything when `all`. */
static bool is_part(const Acting *object, const Acting *table, bool all) {
    return all || (table != NULL && strcmp(object->quoted, table->quoted) == 0);
}

static bool run_entries(const Promote *promote, const bool *chosen, NotMovedVec *not_moved, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    LoadParams load = *promote->params->load;

    load.toc = &promote->waiting.toc;
    load.chosen = chosen;
    load.entry_done = arena_array(scratch, bool, MAX(load.toc->count, 1));
    return serial_run_in_transaction(&load, promote->params->dest, waiting_everything, not_moved, promote->arena, err);
}

/* In the order: what goes, row security, then the entries in archive order, since one may depend on another. */
static bool run_part(const Promote *promote, const WaitingWork *work, const Acting *table, bool all, const bool *chosen,
                     NotMovedVec *not_moved, Error *err) {
    DbConn *dest = promote->params->dest;

    for (size_t i = 0; i < work->drops.len; i++)
        if (is_part(&work->drops.items[i], table, all) && !db_exec(dest, work->drops.items[i].drop, err))
            return error_wrap(err, "dropping %s", acting_display(work->arena, &work->drops.items[i]));
    for (size_t i = 0; i < work->security.len; i++)
        if (is_part(work->security.items[i].table, table, all) && !db_exec(dest, work->security.items[i].sql, err))
            return error_wrap(err, "row level security of %s", work->security.items[i].table->quoted);
    return run_entries(promote, chosen, not_moved, err);
}

bool waiting_everything(const LoadParams *load, size_t entry) {
    (void)load;
    (void)entry;
    return true;
}

/* ---- Trying it ---- */

/* The table that an entry, or what it is about, is on; NULL: none. */
static const Acting *table_of(const Promote *promote, const TocEntry *entry) {
    const Waiting *waiting = &promote->waiting;
    const Acting *found = acting_find(&waiting->source, entry->desc, entry->schema, entry->tag);

    for (size_t d = 0; found == NULL && is_note(entry) && d < entry->deps_count; d++) {
        const TocEntry *about = toc_find(&waiting->toc, entry->deps[d]);

        if (about != NULL && is_compared(about->desc))
            found = acting_find(&waiting->source, about->desc, about->schema, about->tag);
    }
    return found == NULL || !is_compared(found->kind) ? NULL : found;
}

enum { LOCK_TRIES = 40 };
#define LOCK_PAUSE_US (50 * USEC_PER_MSEC)

/* The applier must never wait for us while we wait for it. With a plain table there is one lock, so we may wait; one
 * with partitions has many, which we take all at once or not at all. A foreign table cannot be locked. LOCK of a view
 * locks what it reads, too, with the rights of the view's owner, who may have none to that; a trigger or rule on it
 * needs the view alone. */
static bool lock_table(const Promote *promote, const Acting *table, Error *err) {
    DbConn *dest = promote->params->dest;

    if (table == NULL || table->relkind == 'f' || table->relkind == 'v')
        return db_exec(dest, "BEGIN; SET LOCAL lock_timeout = '3s'", err);
    if (table->relkind == 'r')
        return db_execf(dest, err, "BEGIN; SET LOCAL lock_timeout = '3s'; LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE",
                        table->quoted);
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (db_execf(dest, err, "BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT", table->quoted))
            return true;
        if (err->reason != REASON_LOCK_BUSY)
            return false;
        db_rollback(dest);
        if (stop_wait_fd(db_stop(dest), -1, 0, clock_now_us() + LOCK_PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    return false;
}

/* What the destination refuses is a problem; whom it lets wait, or whether it is there at all, is not. */
static bool try_part(Promote *promote, const WaitingWork *work, const Acting *table, const bool *chosen,
                     StringVec *problems, Error *err) {
    DbConn *dest = promote->params->dest;
    NotMovedVec ignored = {0};
    bool ok = lock_table(promote, table, err) && run_part(promote, work, table, false, chosen, &ignored, err);

    if (ok || !db_is_broken(dest))
        db_rollback(dest);
    if (ok)
        return true;
    if (err->reason == REASON_LOCK_BUSY || strcmp(err->sqlstate, "40P01") == 0) {
        log_info("promote: not tried, locked: %s", table == NULL ? "publications and the like" : table->quoted);
        return true;
    }
    if (err->sqlstate[0] == '\0' || err->retryable)
        return false;
    vec_push(promote->arena, problems,
             arena_printf(promote->arena, "%s (on the destination, where it is made when it opens)", err->message));
    return true;
}

/* The tables that anything is to be done on; each once. */
static void list_tables(const Promote *promote, const WaitingWork *work, ActingVec *tables) {
    ActingVec all = {0};
    const Acting *const *table_of_entry = work->tables;

    for (size_t i = 0; i < promote->waiting.toc.count; i++)
        if (work->chosen[i] && table_of_entry[i] != NULL)
            vec_push(work->arena, &all, *table_of_entry[i]);
    for (size_t i = 0; i < work->drops.len; i++)
        vec_push(work->arena, &all, work->drops.items[i]);
    for (size_t i = 0; i < work->security.len; i++)
        vec_push(work->arena, &all, *work->security.items[i].table);
    for (size_t i = 0; i < all.len; i++) {
        bool is_listed = false;

        for (size_t k = 0; k < tables->len && !is_listed; k++)
            is_listed = strcmp(tables->items[k].quoted, all.items[i].quoted) == 0;
        if (!is_listed)
            vec_push(work->arena, tables, all.items[i]);
    }
}

static bool try_all(Promote *promote, WaitingWork *work, StringVec *problems, Error *err) {
    size_t count = promote->waiting.toc.count;
    bool *chosen = arena_array(work->arena, bool, MAX(count, 1));
    ActingVec tables = {0};

    work->tables = arena_array(work->arena, const Acting *, MAX(count, 1));
    for (size_t i = 0; i < count; i++) {
        work->tables[i] = work->chosen[i] ? table_of(promote, &promote->waiting.toc.entries[i]) : NULL;
        /* The trigger of such a state is made in another part, if at all. */
        chosen[i] = work->chosen[i] && work->tables[i] == NULL && !is_state(&promote->waiting.toc.entries[i]);
    }
    list_tables(promote, work, &tables);
    if (!try_part(promote, work, NULL, chosen, problems, err))
        return false;
    for (size_t t = 0; t < tables.len; t++) {
        for (size_t i = 0; i < count; i++)
            chosen[i] = work->tables[i] != NULL && is_part(work->tables[i], &tables.items[t], false);
        if (!try_part(promote, work, &tables.items[t], chosen, problems, err))
            return false;
    }
    return true;
}

/* ---- For the steps ---- */

static bool has_archive(const Promote *promote) {
    return promote->params->load->toc->count > 0;
}

bool waiting_prepare(Promote *promote, StringVec *problems, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    WaitingWork work = {.arena = scratch};

    if (!has_archive(promote))
        return true;
    promote_event(promote, "info", "reading the source's definitions again");
    if (!read_archive(promote, err) || !find_work(promote, &work, problems, err) || !holders_warn(promote, &work, err))
        return false;
    int64_t begun = clock_now_us();

    if (!try_all(promote, &work, problems, err))
        return error_wrap(err, "trying what is made when the destination opens");
    promote->waiting.try_us = clock_now_us() - begun + (int64_t)work.keys.len * 2 * promote->round_trip_us;
    return failpoint("promote.after_waiting", err);
}

static bool check_source(const Promote *promote, Arena *scratch, Error *err) {
    ActingVec now = {0};

    if (!read_side(promote, promote->params->source, scratch, &now, err))
        return false;
    const Acting *changed = acting_difference(&promote->waiting.source, &now);

    if (changed == NULL)
        return true;
    error_set(err, REASON_TABLE_CHANGED, "%s was made, changed or dropped on the source while the promote was prepared",
              acting_display(scratch, changed));
    return error_remedy(err, "promote again");
}

/* What only the destination has is gone with OPEN (--ddl): nobody should have to miss it first. Always true. */
static bool note_drops(Promote *promote, const WaitingWork *work) {
    for (size_t i = 0; i < work->drops.len; i++) {
        const Acting *gone = &work->drops.items[i];

        if (acting_find(&promote->waiting.source, gone->kind, gone->schema, gone->tag) == NULL)
            vec_push(promote->arena, &promote->waiting.dropped,
                     arena_printf(promote->arena, "%s was on the destination only, and was dropped there: %s",
                                  acting_display(work->arena, gone), gone->definition));
    }
    return true;
}

bool waiting_run(Promote *promote, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    WaitingWork work = {.arena = scratch};
    StringVec problems = {0};

    promote->waiting.not_moved.len = 0;
    promote->waiting.dropped.len = 0;
    if (!promote_unrepeated(promote, &problems, err) ||
        !promote_refuse(promote, "definitions are missing on the destination", &problems, err) ||
        !promote_strangers(promote, false, &problems, err) ||
        !promote_refuse(promote, "the destination changes what is written to it", &problems, err))
        return false;
    if (!has_archive(promote))
        return true;
    return check_source(promote, scratch, err) && find_work(promote, &work, &problems, err) &&
           promote_refuse(promote, "source and destination differ", &problems, err) && note_drops(promote, &work) &&
           ((run_part(promote, &work, NULL, true, work.chosen, &promote->waiting.not_moved, err) &&
             waiting_add_keys(promote, &work, err)) ||
            holders_explain(promote, &work, err));
}
