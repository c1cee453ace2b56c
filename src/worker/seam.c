/*
 * The seam of a migration that is followed: what is made on the source before the first row is copied, and what must
 * still hold when a run goes on.
 *
 * Order: replica identities, publications, capture of definitions, slot, then for each snapshot barrier, snapshot,
 * marker (engine/seam says why). A run that finds the stream's line in the ledger makes nothing anew: it only asks
 * whether the source is still the one that the stream belongs to.
 *
 * NOTES: crash points
 * - Before the stream's line is written: everything is made again or adopted, by names that derive from the job's id.
 * - After it, before the snapshot: the next run waits at the barrier again, since nothing says that it had passed.
 * - After the snapshot, before W is recorded: W is taken by the next run. A later W is as right: it only has to lie
 *   behind the snapshot, and before the first copied row commits.
 */
#include "worker/run.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ledger/relations.h"
#include "engine/seam/identity_full.h"

#include <string.h>

static void say_blocked(void *context, const char *who) {
    run_event(context, "warning", "the source has transactions that began before ours; waiting for: %s", who);
}

/* Those that the filters of the command let pass. */
static bool keep_wanted(Run *run, SeamTable *tables, size_t *count, Error *err) {
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        bool wanted = false;

        if (!filter_table_by_name(run->arena, &run->options, tables[i].schema, tables[i].name, &wanted, err))
            return false;
        if (wanted)
            tables[kept++] = tables[i];
    }
    *count = kept;
    return true;
}

static bool is_superuser(DbConn *conn, bool *ret_is, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", 0, NULL, &row, err))
        return error_wrap(err, "asking for the role's attributes");
    *ret_is = db_rows(row) == 1 && db_bool(row, 0, 0);
    return true;
}

bool run_publish(Run *run, Arena *arena, SeamTable **ret_tables, size_t *ret_count, Error *err) {
    SeamTable *tables = NULL;
    size_t count = 0;
    bool superuser = false;

    if (!seam_read_identities(run->source, arena, &tables, &count, err) || !keep_wanted(run, tables, &count, err) ||
        !is_superuser(run->source, &superuser, err) ||
        !seam_publish(run->source, run->dest, &run->ledger, &run->names, tables, count, superuser, err))
        return false;
    *ret_tables = tables;
    *ret_count = count;
    return true;
}

/* Before publishing, so that the tables are published with what they got. */
static bool set_identities(Run *run, Error *err) {
    SeamTable *tables = NULL;
    SeamLeft *left = NULL;
    size_t count = 0, left_count = 0;

    if (!run->options.identity_full)
        return true;
    if (!seam_read_identities(run->source, run->arena, &tables, &count, err) ||
        !keep_wanted(run, tables, &count, err) ||
        !seam_identity_full_set(run->source, run->dest, &run->ledger, tables, count, run->arena, &left, &left_count,
                                err))
        return error_wrap(err, "setting replica identities");
    for (size_t i = 0; i < left_count; i++)
        run_event(run, "warning", "--identity-full: table %s stays as it is: %s", left[i].quoted, left[i].why);
    return true;
}

static bool make_seam(Run *run, Error *err) {
    SeamTable *tables = NULL;
    size_t count = 0;
    Lsn l0 = 0;
    bool found = false;

    if (!seam_check_unread(run->source, run->dest, &run->names, err) || !set_identities(run, err))
        return false;
    if (!run_publish(run, run->arena, &tables, &count, err))
        return error_wrap(err, "publishing tables on the source");
    if (run->options.ddl && !ddl_capture_install(run->source, run->dest, &run->ledger, &run->names, err))
        return error_wrap(err, "capturing definitions on the source");
    if (!failpoint("seam.before_slot", err) || !seam_slot(&run->source_target, run->source, run->dest, &run->ledger,
                                                          &run->names, &run->stop, say_blocked, run, &l0, err))
        return error_wrap(err, "making the slot on the source");
    if (!failpoint("seam.after_slot", err) || !journal_get_stream(run->dest, run->arena, &found, &run->stream, err))
        return false;
    return found || error_set(err, REASON_INTERNAL, "the slot was made, but the ledger has no line of it");
}

/* What the destination holds of the source: up to here its history must not have changed. */
static bool held_position(Run *run, Lsn *ret_behind, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    LedgerRelation *relations = NULL;
    Position position = {0};
    size_t count = 0;
    bool found = false;

    if (!relations_read(run->dest, arena, &relations, &count, err) ||
        !position_read(run->dest, 0, &found, &position, err))
        return false;
    for (size_t i = 0; i < count; i++)
        position.lsn = MAX(position.lsn, relations[i].w);
    *ret_behind = MAX(position.lsn, run->stream.l0);
    return true;
}

/* A fail-over that kept all we hold is fine, and is recorded before anything of the new timeline is read: the next
 * check begins there. */
bool run_check_source(Run *run, Error *err) {
    Lsn behind = 0;
    int32_t before = run->stream.timeline;

    if (!held_position(run, &behind, err) ||
        !guard_check_timeline(&run->source_target, &run->stop, &run->stream, behind, err))
        return false;
    if (run->stream.timeline == before)
        return true;
    run_event(run, "info", "the source is on timeline %d now, with everything that was followed",
              (int)run->stream.timeline);
    return guard_record_timeline(run->dest, &run->ledger, run->stream.timeline, err);
}

/* With a position and no stream, there was a slot: another one would begin behind what is missing. */
static bool check_never_made(Run *run, Error *err) {
    Position position = {0};
    bool had = false;

    if (!position_read(run->dest, 0, &had, &position, err))
        return false;
    return !had || error_set(err, REASON_SLOT_LOST,
                             "the slot of this migration was removed: by --max-retained, or by an abort that was "
                             "interrupted");
}

/* What only works from the beginning on: without event triggers of the whole time, "definitions come by the stream"
 * would hide tables that were swapped or made anew. The first run writes down which it was begun with. */
static bool keep_option(Run *run, const char *flag, bool given, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *with = arena_printf(arena, "begun with %s", flag);
    const char *without = arena_printf(arena, "begun without %s", flag);
    const char *mine = given ? with : without;
    bool is_noted = false, is_other = false;

    if (!ledger_step_done(run->dest, mine, &is_noted, err) ||
        !ledger_step_done(run->dest, given ? without : with, &is_other, err))
        return false;
    if (is_other) {
        error_set(err, REASON_LEDGER_MISMATCH, "this migration was %s", given ? without : with);
        return error_remedy(err,
                            "use the same command as before (%s %s), or give it up: pgcrane abort %s, or --restart",
                            given ? "without" : "with", flag, run->identity.job_id);
    }
    if (is_noted || (ledger_begin(run->dest, &run->ledger, err) && ledger_mark_step(run->dest, mine, err) &&
                     ledger_commit(run->dest, err)))
        return true;
    db_rollback(run->dest);
    return false;
}

static bool keep_options(Run *run, Error *err) {
    return keep_option(run, "--ddl", run->options.ddl, err) &&
           keep_option(run, "--identity-full", run->options.identity_full, err);
}

#define PUBLISHED_STEP "published "

/* As they were when they were first seen with the slot in use, over all runs. */
static bool keep_published(Run *run, Error *err) {
    static const char *const sql = "SELECT pg_catalog.substr(name, 1 + pg_catalog.length('" PUBLISHED_STEP "'))"
                                   " FROM pgcrane.step WHERE name LIKE '" PUBLISHED_STEP "%'";
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->dest, sql, 0, NULL, &row, err))
        return error_wrap(err, "reading the ledger");
    if (db_rows(row) > 0) {
        run->published = arena_strdup(run->arena, db_text(row, 0, 0));
        return seam_check_published(run->source, &run->names, run->published, err);
    }
    if (!seam_read_published(run->source, run->arena, &run->names, &run->published, err))
        return false;
    if (ledger_begin(run->dest, &run->ledger, err) &&
        ledger_mark_step(run->dest, arena_printf(run->arena, PUBLISHED_STEP "%s", run->published), err) &&
        ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return false;
}

bool step_seam(Run *run, Error *err) {
    bool found = false;

    tracker_phase_begin(run->tracker, PHASE_SEAM);
    bool ok = keep_options(run, err) && journal_get_stream(run->dest, run->arena, &found, &run->stream, err) &&
              (found ? run_check_source(run, err) : check_never_made(run, err) && make_seam(run, err)) &&
              keep_published(run, err) && position_init(run->dest, &run->ledger, 0, run->stream.l0, err);
    tracker_phase_end(run->tracker, PHASE_SEAM);
    return ok && watch_start(run, err);
}

bool run_before_snapshot(Run *run, Error *err) {
    return !run->options.follow || seam_barrier(run->source, &run->stop, say_blocked, run, err);
}

bool run_mark_snapshot(Run *run, Error *err) {
    Lsn w = 0;

    if (!run->options.follow || run->snapshot.w != 0)
        return true;
    return failpoint("seam.before_marker", err) && seam_marker(run->source, "snapshot", &w, err) &&
           failpoint("seam.after_marker", err) &&
           ledger_set_snapshot_w(run->dest, &run->ledger, &run->snapshot, w, err);
}

bool run_is_own_entry(const TocEntry *entry) {
    return seam_names_a_job(entry->tag) || seam_names_a_job(entry->schema) || seam_names_a_job(entry->defn);
}

/* ---- Away again ---- */

/* A table that is set back must not be in the publication that stays: the application's updates would fail. */
bool run_keep_slot_only(Run *run, Error *err) {
    return seam_identity_full_unpublish(run->source, run->dest, run->names.publication_keys, err) &&
           seam_identity_full_undo(run->source, run->dest, &run->ledger, err) &&
           ddl_capture_remove(run->source, run->dest, &run->ledger, &run->names, err);
}

bool run_remove_from_source(Run *run, Error *err) {
    Error capture;
    DbConn *dest = run->has_ledger ? run->dest : NULL; /* an abort may find none */
    /* The slot is what hurts: it goes first, and whatever becomes of the rest. Event triggers that outlive the
     * publications only write messages that nobody reads. */
    bool seam_gone = seam_remove(run->source, dest, &run->ledger, &run->names, err);
    bool capture_gone = ddl_capture_remove(run->source, dest, &run->ledger, &run->names, &capture);

    if (capture_gone)
        return seam_gone;
    if (seam_gone) {
        *err = capture;
        return false;
    }
    return error_wrap(err, "%.400s; and", capture.message);
}
