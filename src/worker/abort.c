/*
 * `pgcrane abort`: the source as if nothing had been, the destination without a ledger.
 *
 * Everything that the journal names is removed from the source, a promote that was interrupted is undone, and the
 * snapshot's keeper ends. The rows and definitions that the destination has stay there: they are the user's to drop, or
 * --restart's. A migration whose destination is open is closed instead: there is nothing to go back to.
 *
 * Without the source (--dest-only) what is left on the destination is done: a promote that opened it had yet to
 * validate foreign keys. Each step of that may be done twice, and the ledger goes last: who is killed here, is asked
 * again. So it is for a source whose database was dropped, and for one that lets nobody in and has no slot
 * (abort_open.c): there is nothing to be asked. What only the ledger knows of the source, replica identities and the
 * setting of a fence, is told before it goes, with the SQL; who is killed between both is told again by the next one.
 * Where the database is there, and lets nobody in, the ledger stays while it knows of such: once we are let in, all is
 * undone.
 *
 * Without the destination (--source-only), or where its ledger is gone (dropped, or the destination made anew), there
 * is no journal. Everything but two things has the job's id in its name: a replica identity that was changed, and the
 * setting of a fence, look as if the user had made them. They are left as they are, and named; then the migration's
 * folder stays, so that an abort can be run again and looks again (`left_on_source`). "Everything" is never said: a
 * ledger may be older than what was made.
 */
#include "common/failpoint.h"
#include "common/log.h"
#include "engine/ddl/capture.h"
#include "engine/ledger/journal.h"
#include "engine/seam/identity_full.h"
#include "worker/run.h"

#include <string.h>

#define OBJECT_IN_USE "55006"

/* Of what only a ledger knew. */
#define UNKNOWN_LEFT                                                                                                   \
    "; with --identity-full also REPLICA IDENTITY FULL of tables; of a promote that was interrupted also"              \
    " default_transaction_read_only"

static bool end_keepers(Run *run, Error *err) {
    return db_query(run->source,
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                    " WHERE application_name = 'pgcrane ' || $1 || ' keeper'",
                    1, (const char *const[]){run->identity.job_id}, NULL, err) ||
           error_wrap(err, "ending the snapshot's keeper");
}

/* A process of the source that does not end was waited for already. */
static bool remove_from_source(Run *run, Error *err) {
    if (run_remove_from_source(run, err))
        return true;
    if (strcmp(err->sqlstate, OBJECT_IN_USE) == 0)
        err->retryable = false;
    return false;
}

static bool drop_ledger(Run *run, Error *err) {
    if (!ledger_begin(run->dest, &run->ledger, err))
        return false;
    if (ledger_drop(run->dest, err) && ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return false;
}

/* ---- The source alone ---- */

/* A fence whose worker is gone holds its locks, the keeper its snapshot. */
static bool end_sessions(Run *run, Error *err) {
    return db_query(run->source,
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                    " WHERE pid <> pg_catalog.pg_backend_pid()"
                    " AND pg_catalog.strpos(application_name, 'pgcrane ' || $1 || ' ') = 1",
                    1, (const char *const[]){run->identity.job_id}, NULL, err) ||
           error_wrap(err, "ending our sessions on the source");
}

static bool say_identities(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!run->options.identity_full)
        return true;
    if (!db_query(run->source,
                  "SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c WHERE c.relreplident = 'f'"
                  " AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384 ORDER BY 1",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for replica identities");
    run->left_on_source += db_rows(rows);
    for (int i = 0; i < db_rows(rows); i++)
        run_event(run, "warning",
                  "table %s has REPLICA IDENTITY FULL, and only the ledger knew whether that was set by"
                  " --identity-full; if so: ALTER TABLE %s REPLICA IDENTITY DEFAULT",
                  db_text(rows, i, 0), db_text(rows, i, 0));
    return true;
}

static bool say_setting(Run *run, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source,
                  "SELECT pg_catalog.quote_ident(d.datname) FROM pg_catalog.pg_db_role_setting s"
                  " JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE s.setrole = 0"
                  " AND d.datname = pg_catalog.current_database()"
                  " AND 'default_transaction_read_only=on' = ANY (s.setconfig)",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the source database's settings");
    run->left_on_source += db_rows(row);
    if (db_rows(row) > 0)
        run_event(run, "warning",
                  "the source database is read-only, and only the ledger knew whether a promote did that; if "
                  "so: " PROMOTE_WRITABLE_SQL,
                  db_text(row, 0, 0));
    return true;
}

static void say_left(Run *run) {
    if (run->left_on_source > 0)
        run_event(
            run, "warning",
            "%lld on the source may be this migration's doing, and was left as it is: see above. Its folder stays:"
            " pgcrane abort --source-only %s looks again; when all of it is as it should be, remove %s",
            (long long)run->left_on_source, run->identity.job_id, run->state_dir);
}

/* An address that is not the migration's has nothing of it, and must not be called cleared up. */
static bool find_own(Run *run, bool *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source,
                  "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 UNION ALL"
                  " SELECT 1 FROM pg_catalog.pg_publication WHERE pubname IN ($2, $3)",
                  3, (const char *const[]){run->names.slot, run->names.publication_all, run->names.publication_keys},
                  &row, err))
        return error_wrap(err, "looking for slot %s", run->names.slot);
    *ret_found = db_rows(row) > 0;
    return true;
}

static void say_removed(Run *run, bool found, const char *unasked) {
    if (found || !run->options.follow)
        run_event(run, "info",
                  "removed from the source: slot, publications, event triggers and sessions of this migration; %s",
                  unasked);
    else
        run_event(run, "warning",
                  "neither slot %s nor publications of this migration are on %s any more; when that is not where it"
                  " came from (PGCRANE_SOURCE?), look there: SELECT pg_drop_replication_slot('%s'); %s",
                  run->names.slot, run->source_display, run->names.slot, unasked);
}

/* What is in the source's database, and has our names. */
static const char *named_in_database(Run *run, const SeamNames *names) {
    return arena_printf(run->arena,
                        "DROP PUBLICATION IF EXISTS %s, %s; with --ddl also the event triggers and the schema that"
                        " begin with %s_",
                        names->publication_all, names->publication_keys, names->slot);
}

/* known: what has none of our names was told before, or was never made. */
static void say_gone(Run *run, bool known) {
    const SeamNames names = seam_names(run->arena, run->identity.job_id);
    const char *named = named_in_database(run, &names), *unknown = known ? "" : UNKNOWN_LEFT;

    run->finished = true;
    if (run->source_closed != NULL && run->options.follow)
        run_event(run, "warning",
                  "slot %s is not there any more; in the source database, which is called \"%s\" now and cannot be"
                  " looked into (%s), there may be left: %s%s",
                  names.slot, run->source_now, run->source_closed, named, unknown);
    else if (known)
        run_event(run, "info",
                  "%s is not there any more, and neither is slot %s: nothing of this migration is left that does harm",
                  run->source_display, names.slot);
    else
        run_event(run, "warning",
                  "%s is not there any more, neither is slot %s, and no other database that lets us in has anything of"
                  " their name; if it was not dropped, there may be left where it is now: %s%s",
                  run->source_display, names.slot, named, unknown);
}

static void say_renamed(Run *run) {
    run_event(run, "warning", "the source database is called \"%s\" now: what is removed is removed there",
              run->source_now);
}

/* From another database of the server. */
static bool drop_slot_alone(Run *run, Error *err) {
    if (!end_sessions(run, err) || !remove_from_source(run, err))
        return false;
    error_set(err, REASON_NO_DATABASE,
              "slot %s is dropped; publications %s and %s are left in the source database, which is called \"%s\" now"
              " and cannot be looked into: %s",
              run->names.slot, run->names.publication_all, run->names.publication_keys, run->source_now,
              run->source_closed);
    return error_remedy(err, "in it: DROP PUBLICATION IF EXISTS %s, %s", run->names.publication_all,
                        run->names.publication_keys);
}

/* By the names that the job's id gives. A try again counts anew. */
static bool abort_source(Run *run, const char *unasked, Error *err) {
    bool found = false;

    run->names = seam_names(run->arena, run->identity.job_id);
    run->left_on_source = 0;
    if (run->source_gone) {
        say_gone(run, !run->options.follow);
        return true;
    }
    if (run->source_closed != NULL)
        return drop_slot_alone(run, err);
    if (run->source_now != NULL)
        say_renamed(run);
    if (!find_own(run, &found, err) || !end_sessions(run, err) || !remove_from_source(run, err) ||
        !say_identities(run, err) || (run->options.follow && !say_setting(run, err)))
        return false;
    run->finished = true;
    say_removed(run, found, unasked);
    say_left(run);
    return true;
}

/* ---- Earlier migrations of the same job, whose destinations are lost with all that was in them ---- */

/* By their names, as where a ledger is gone: an id is that of a source and a destination, and the destination is
 * another one now, so nobody else would remove them. */
bool step_orphans(Run *run, Error *err) {
    const char *own = run->identity.job_id;
    bool ok = true;

    for (size_t i = 0; ok && i < run->orphans.len && !run->options.dry_run && run->source != NULL; i++) {
        run->identity.job_id = run->orphans.items[i];
        run->names = seam_names(run->arena, run->identity.job_id);
        ok = strcmp(run->identity.job_id, own) == 0 ||
             (end_sessions(run, err) && remove_from_source(run, err) && say_identities(run, err));
    }
    run->identity.job_id = own;
    run->left_on_source = 0;
    return ok || error_wrap(err, "removing what the migration into the server that was lost left on the source");
}

/* ---- The destination alone ---- */

/* One job at a time migrates a database to a place: what there is, is the other one's. */
static bool leave_alone(Run *run) {
    run_event(run, "info", "the migration under way in %s is not this job's: nothing was removed", run->dest_display);
    run->finished = true;
    return true;
}

/* Before the lock is asked for, which the other one has while it works. */
static bool look_for_foreign(Run *run, bool *ret_foreign, Error *err) {
    LedgerIdentity found;
    bool exists = false;

    if (!ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    *ret_foreign = exists && !run_is_owned(run, &found);
    return true;
}

static bool take_own_ledger(Run *run, Error *err) {
    LedgerIdentity found;
    bool exists = false;

    if (!run_lock(run, err) || !ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    if (!exists || strcmp(found.job_id, run->identity.job_id) != 0) {
        error_set(err, REASON_LEDGER_MISMATCH, "%s has no ledger of migration %s", run->dest_display,
                  run->identity.job_id);
        return error_remedy(err, "nothing was changed; when that is the migration's destination (PGCRANE_DEST?), there"
                                 " is nothing left to do: remove the folder of the migration in --state-dir");
    }
    run->identity = found;
    run->has_ledger = ledger_take(run->dest, run->arena, &run->identity, &run->ledger, err);
    return run->has_ledger;
}

static void say_closed(Run *run) {
    for (size_t i = 0; i < run->not_moved.len; i++)
        run_event(run, "warning", "not as on the source: %s: %s", run->not_moved.items[i].object,
                  run->not_moved.items[i].reason);
    run_event(run, "info",
              "the destination had been opened, and is closed now: foreign keys are validated, the ledger is gone");
}

static bool say_given_up(Run *run, Error *err) {
    Position position = {0};
    bool found = false;

    if (!position_read(run->dest, 0, &found, &position, err))
        return false;
    run_event(
        run, "warning",
        "the destination had never been opened. It keeps %s%s; it lacks what the source wrote later, and what comes"
        " with a promote: foreign keys, triggers, the values of sequences, the rows of materialized views, some"
        " of its grants",
        found ? "what the source had committed up to " : "a part of what the source had, as of no one moment",
        found ? lsn_format(run->arena, position.lsn) : "");
    return true;
}

/* The database may have any name by then: to be filled in. */
#define NAME_OF_NOW "its name now"

/* As SQL; NULL: it has our name, and is told by that. */
static const char *back_sql(Arena *arena, const JournalObject *object) {
    static const char *const named[] = {JOURNAL_SLOT, JOURNAL_PUBLICATION, JOURNAL_DDL_CAPTURE};
    const char *sql = NULL;

    for (size_t i = 0; i < COUNT_OF(named); i++)
        if (strcmp(object->kind, named[i]) == 0)
            return NULL;
    if (strcmp(object->kind, JOURNAL_IDENTITY_FULL) == 0)
        sql = seam_identity_full_back_sql(arena, object->name);
    if (strcmp(object->kind, JOURNAL_FENCE) == 0)
        sql = promote_setting_back_sql(arena, NAME_OF_NOW, object->name);
    return sql == NULL ? arena_printf(arena, "%s %s", object->kind, object->name)
                       : arena_printf(arena, "BEGIN READ WRITE; %s; COMMIT;", sql);
}

static const char *where_left(const Run *run) {
    return run->source_gone ? "if the source database was not dropped but renamed, there, when its publications are"
                              " dropped"
                            : "should the source come back, there, when its publications are dropped";
}

/* Some at a time: people read it. */
static void say_statements(Run *run, const StringVec *statements) {
    enum { SHOWN = 20 };
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t i = 0; i < statements->len; i += SHOWN) {
        const char *list = "";

        for (size_t at = i; at < MIN(i + SHOWN, statements->len); at++)
            list = arena_printf(arena, "%s %s", list, statements->items[at]);
        run_event(run, "warning", "%s:%s", where_left(run), list);
    }
}

/* It may let us in one day, and then nobody else knows what was made there. */
static bool refuse_closed(const Run *run, Error *err) {
    error_set(
        err, REASON_NO_DATABASE,
        "the source database, which is called \"%s\" now, cannot be looked into, and only the ledger knows what is"
        " to be set back there, so that it stays: %s",
        run->source_now, run->source_closed);
    return error_remedy(err,
                        "let us into it, and run the same command again; or give it up, which names what is to be set"
                        " back by hand: pgcrane abort --dest-only %s",
                        run->identity.job_id);
}

static bool say_unreached(Run *run, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec statements = {0};
    JournalObject *objects = NULL;
    size_t count = 0;

    if (!journal_list(run->dest, arena, &objects, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *sql = back_sql(arena, &objects[i]);

        if (sql != NULL)
            vec_push(arena, &statements, sql);
    }
    if (run->source_gone && run->source_closed != NULL && statements.len > 0)
        return refuse_closed(run, err);
    say_statements(run, &statements);
    return true;
}

/* The source is not asked and nothing on it is removed: should it come back, it has all that was made there. */
static bool abort_dest(Run *run, Error *err) {
    bool opened = false, foreign = false;

    if (!look_for_foreign(run, &foreign, err))
        return false;
    if (foreign)
        return leave_alone(run);
    if (!take_own_ledger(run, err) || !run_close_dest(run, &opened, err) || !say_unreached(run, err) ||
        (!opened && !say_given_up(run, err)) || !failpoint("abort.before_drop", err) || !run_remove_report(run, err) ||
        !drop_ledger(run, err))
        return false;
    run->finished = true;
    if (opened)
        say_closed(run);
    if (run->source_gone) {
        say_gone(run, true);
        return true;
    }
    const SeamNames names = seam_names(run->arena, run->identity.job_id);
    run_event(run, "info",
              "the source was not asked; should it come back, there: SELECT pg_drop_replication_slot('%s'); %s",
              names.slot, named_in_database(run, &names));
    return true;
}

/* ---- The step ---- */

/* What the ledger says that was made, is removed; whatever the command was, it is given up. */
static bool abort_whole(Run *run, const LedgerIdentity *found, Error *err) {
    run->identity.fingerprint = found->fingerprint;
    if (!ledger_take(run->dest, run->arena, &run->identity, &run->ledger, err))
        return err->reason == REASON_LEDGER_MISMATCH &&
               error_remedy(err,
                            "that one is not touched; what this one has left on the source goes by: pgcrane abort"
                            " --source-only %s",
                            run->identity.job_id);
    run->has_ledger = true;
    if (run->source_now != NULL)
        say_renamed(run);
    if (!step_recover(run, err))
        return false;
    if (run->opened) {
        run->finished = true;
        return step_close_source(run, err) && drop_ledger(run, err);
    }
    if (!end_keepers(run, err) || !remove_from_source(run, err) || !run_remove_report(run, err) ||
        !drop_ledger(run, err))
        return false;
    run->finished = true;
    run_event(run, "info",
              "removed from the source: what the ledger says that pgcrane made there; what was copied stays on the"
              " destination");
    return true;
}

bool step_abort(Run *run, Error *err) {
    LedgerIdentity found;
    bool exists = false, foreign = false;

    if (run_is_dest_only(run))
        return abort_dest(run, err);
    if (run_is_source_only(run))
        return abort_source(run, "the destination was not asked", err);
    if (!look_for_foreign(run, &foreign, err))
        return false;
    if (foreign)
        return leave_alone(run);
    if (!run_lock(run, err) || !ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    if (!exists)
        return abort_source(run,
                            "the destination has no ledger of it (schema pgcrane), which would know what else was"
                            " changed there",
                            err);
    if (!run_is_owned(run, &found))
        return leave_alone(run);
    if (run->source_gone)
        return abort_dest(run, err);
    if (run->source_closed != NULL)
        return abort_source(run, "", err);
    return abort_whole(run, &found, err);
}
