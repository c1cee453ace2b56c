/*
 * --restart: drops what the unfinished run made in the destination, after saying what, and nothing else.
 *
 * What was made is known from the ledger: the archive's entries that have run, the large objects, and for --data-only
 * the tables that were filled. Entries are dropped in reverse order, without CASCADE: objects of others that came to
 * depend on ours are not taken along but end this with their names. Some of our own are dropped with their owner (an
 * owned sequence); an entry that cannot go yet is tried again after the others, until nothing changes. Each group of
 * drops commits together with the removal of its ledger lines.
 *
 * From the first drop to the last, the ledger's other lines speak of rows that are gone. The step "start over" is
 * marked before the first one: a run that finds it ends the start over before it does anything else, whether it was
 * given --restart or not.
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "pg/quote.h"
#include "worker/run.h"

#include <stdio.h>
#include <string.h>

/* Removing a large object takes a lock that lasts as long as the transaction: many of them need many transactions. */
#define GROUP_OBJECTS "200"
#define BEGUN "start over"

enum { GROUP_DROPS = 100, LINES_MAX = 20 };

typedef struct StartOver {
    Run *run;
    Arena *arena;
    Ledger ledger;
    Toc toc;
    bool has_archive;    /* without one the tables were there before: only their rows are ours */
    StringVec filled;    /* then: these tables, quoted */
    VEC(size_t) entries; /* that have run and are not dropped yet, in reverse archive order */
} StartOver;

/* A table that is gone, or never was there (what such a run ends for), has no rows. */
static bool read_filled(StartOver *over, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    static const char sql[] = "SELECT r.schema_name, r.table_name FROM pgcrane.relation r"
                              " JOIN pg_catalog.pg_namespace n ON n.nspname = r.schema_name"
                              " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_name"
                              " WHERE c.relkind IN ('r', 'p')";

    if (!db_query(over->run->dest, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the ledger's tables");
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(over->arena, &over->filled, sql_qualified(over->arena, db_text(rows, i, 0), db_text(rows, i, 1)));
    return true;
}

static bool read_entries(StartOver *over, Error *err) {
    CLEANUP(buf_fini) Buf archive;
    IntVec ids = {0};
    bool found = false;

    buf_init(&archive, (size_t)1 << 30);
    if (!ledger_load_archive(over->run->dest, &archive, &found, err))
        return false;
    over->has_archive = found;
    if (!found)
        return read_filled(over, err);
    if (!toc_parse(over->arena, archive.data, archive.len, &over->toc, err) ||
        !ledger_entries(over->run->dest, over->arena, &ids, err))
        return false;
    bool *done = arena_array(over->arena, bool, MAX(over->toc.count, 1));
    for (size_t i = 0; i < ids.len; i++) {
        const TocEntry *entry = toc_find(&over->toc, ids.items[i]);

        if (entry != NULL)
            done[entry - over->toc.entries] = true;
    }
    for (size_t i = over->toc.count; i-- > 0;)
        if (done[i])
            vec_push(over->arena, &over->entries, i);
    return true;
}

/* "412 tables, 30 functions, ..." would hide names; the first names of each run are what people check. */
static void describe(const StartOver *over, StringVec *lines) {
    size_t tables = 0, others = 0;

    for (size_t i = 0; i < MIN(over->filled.len, (size_t)LINES_MAX); i++)
        vec_push(over->arena, lines, arena_printf(over->arena, "all rows of %s", over->filled.items[i]));
    if (over->filled.len > 0)
        vec_push(over->arena, lines, arena_printf(over->arena, "together the rows of %zu tables", over->filled.len));
    if (!over->has_archive)
        return;
    for (size_t i = 0; i < over->entries.len; i++) {
        const TocEntry *entry = &over->toc.entries[over->entries.items[i]];
        bool table = strcmp(entry->desc, "TABLE") == 0;

        if (restore_drop_sql(over->arena, entry)[0] == '\0')
            continue;
        tables += table;
        others += !table;
        if (lines->len < LINES_MAX && (table || strcmp(entry->desc, "SCHEMA") == 0))
            vec_push(over->arena, lines,
                     arena_printf(over->arena, "%s %s", entry->desc,
                                  entry->schema[0] == '\0' ? sql_ident(over->arena, entry->tag)
                                                           : sql_display(over->arena, entry->schema, entry->tag)));
    }
    vec_push(over->arena, lines,
             arena_printf(over->arena,
                          "together %zu tables with their rows and %zu other objects, made by the unfinished run",
                          tables, others));
}

static bool try_drop(StartOver *over, const TocEntry *entry, bool *ret_dropped, Error *err) {
    DbConn *dest = over->run->dest;
    const char *sql = restore_drop_sql(over->arena, entry);

    *ret_dropped = true;
    /* CREATE EXTENSION IF NOT EXISTS: it may have been there before us, and creating it again does nothing. */
    if (sql[0] == '\0' || strcmp(entry->desc, "EXTENSION") == 0)
        return true;
    if (!db_exec(dest, "SAVEPOINT drop_entry", err))
        return false;
    if (db_exec(dest, sql, err))
        return db_exec(dest, "RELEASE drop_entry", err);
    *ret_dropped = false;
    return strcmp(err->sqlstate, "2BP01") == 0 && db_exec(dest, "ROLLBACK TO drop_entry; RELEASE drop_entry", err);
}

/* One group; those that others still depend on stay in the list for the next pass. */
static bool drop_group(StartOver *over, size_t first, size_t end, size_t *kept, Error *last_refusal, Error *err) {
    DbConn *dest = over->run->dest;
    size_t keep = *kept;

    if (!ledger_begin(dest, &over->ledger, err))
        return false;
    for (size_t i = first; i < end; i++) {
        size_t index = over->entries.items[i];
        const TocEntry *entry = &over->toc.entries[index];
        bool dropped = false;

        if (!try_drop(over, entry, &dropped, err))
            return error_wrap(err, "dropping %s %s", entry->desc, entry->tag);
        if (!dropped) {
            *last_refusal = *err;
            over->entries.items[keep++] = index;
        } else if (!db_execf(dest, err, "DELETE FROM pgcrane.entry WHERE dump_id = %d", entry->dump_id)) {
            return false;
        }
    }
    if (!ledger_commit(dest, err))
        return false;
    *kept = keep;
    return true;
}

static bool drop_entries(StartOver *over, Error *err) {
    while (over->entries.len > 0) {
        size_t before = over->entries.len;
        size_t kept = 0;
        Error refusal = {0};

        for (size_t first = 0; first < before; first += GROUP_DROPS)
            if (!drop_group(over, first, MIN(first + GROUP_DROPS, before), &kept, &refusal, err)) {
                db_rollback(over->run->dest);
                return false;
            }
        over->entries.len = kept;
        if (kept == before) {
            *err = refusal;
            (void)error_wrap(err, "objects that pgcrane did not make depend on what it made");
            return error_remedy(err, "drop or move them, or drop and create the destination database");
        }
    }
    return true;
}

/* One group and its lines. */
static bool remove_objects(StartOver *over, bool *ret_more, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    static const char sql[] = "WITH line AS (DELETE FROM pgcrane.large_object WHERE oid IN (SELECT oid FROM "
                              "pgcrane.large_object LIMIT " GROUP_OBJECTS ") RETURNING oid)"
                              " SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.lo_unlink(m.oid))"
                              " FROM line LEFT JOIN pg_catalog.pg_largeobject_metadata m USING (oid)";

    if (!ledger_begin(over->run->dest, &over->ledger, err) || !db_query(over->run->dest, sql, 0, NULL, &row, err) ||
        !ledger_commit(over->run->dest, err))
        return error_wrap(err, "removing large objects");
    *ret_more = db_int64(row, 0, 0) > 0;
    return true;
}

static bool remove_large_objects(StartOver *over, Error *err) {
    for (bool more = true; more;)
        if (!remove_objects(over, &more, err)) {
            db_rollback(over->run->dest);
            return false;
        }
    return true;
}

static bool empty_tables(StartOver *over, Error *err) {
    for (size_t i = 0; i < over->filled.len; i++)
        if (!db_execf(over->run->dest, err, "DELETE FROM ONLY %s", over->filled.items[i]))
            return error_wrap(err, "emptying %s", over->filled.items[i]);
    return true;
}

static bool mark_begun(StartOver *over, Error *err) {
    DbConn *dest = over->run->dest;
    bool begun = false;

    if (!ledger_step_done(dest, BEGUN, &begun, err))
        return false;
    return begun ||
           (ledger_begin(dest, &over->ledger, err) && ledger_mark_step(dest, BEGUN, err) && ledger_commit(dest, err));
}

/* What a promote has opened is in use. */
static bool refuse_open(const Run *run, Error *err) {
    if (!run->opened)
        return true;
    error_set(err, REASON_ALREADY_DONE,
              "the destination was opened by a promote: it is in use, and nothing is dropped");
    return error_remedy(err, "run the same command without --restart: it closes what is left of the promote");
}

/* An earlier run that followed: its slot cannot serve another copy. */
static bool clear_source(StartOver *over, Error *err) {
    Run *run = over->run;

    run->names = seam_names(run->arena, run->identity.job_id);
    run->ledger = over->ledger;
    return run_settle_promote(run, err) && refuse_open(run, err) && run_remove_from_source(run, err);
}

static bool drop_all(StartOver *over, const LedgerIdentity *identity, Error *err) {
    Run *run = over->run;
    LedgerSnapshot snapshot;

    if (!ledger_take(run->dest, over->arena, identity, &over->ledger, err) || !mark_begun(over, err) ||
        !ledger_last_snapshot(run->dest, over->arena, &snapshot, err) ||
        !snapshot_release(run->source, &snapshot, err) || !clear_source(over, err) || !drop_entries(over, err) ||
        !failpoint("restart.after_drop", err) || !remove_large_objects(over, err) || !run_remove_report(run, err) ||
        !ledger_begin(run->dest, &over->ledger, err))
        return false;
    if (empty_tables(over, err) && ledger_drop(run->dest, err) && ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return false;
}

bool run_describe_start_over(Run *run, Arena *arena, StringVec *ret_lines, Error *err) {
    StartOver over = {.run = run, .arena = arena};
    StringVec lines = {0};

    if (run->ledger_exists && !read_entries(&over, err))
        return false;
    if (run->ledger_exists)
        describe(&over, &lines);
    *ret_lines = lines;
    return true;
}

bool step_start_over(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StartOver over = {.run = run, .arena = arena};
    LedgerIdentity identity;
    StringVec lines = {0};
    bool exists = false, begun = false, yes = false;

    if (!ledger_peek(run->dest, arena, &exists, &identity, err) ||
        (exists && !ledger_step_done(run->dest, BEGUN, &begun, err)))
        return false;
    if (!exists || (!run->options.restart && !begun))
        return true;
    if (!begun && (!ledger_step_done(run->dest, PROMOTE_STEP_OPENED, &run->opened, err) || !refuse_open(run, err)))
        return false;
    if (!read_entries(&over, err))
        return false;
    if (begun)
        run_event(run, "info", "going on with the start over that was begun");
    describe(&over, &lines);
    if (!begun && !run_confirm(run, arena_printf(arena, "start over: this will be dropped from %s", run->dest_display),
                               &lines, &yes, err))
        return false;
    if (!begun && !yes)
        return error_set(err, REASON_CANCELLED, "nothing was dropped");
    if (!drop_all(&over, &identity, err))
        return error_wrap(err, "starting over");
    run->ledger_exists = false;
    return true;
}
