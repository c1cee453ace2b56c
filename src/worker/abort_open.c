/*
 * The source for an abort of that side alone, or of both where the source's database is not the migration's.
 *
 * Its database may have another name by now, or be gone: the slot, which keeps the server's WAL, belongs to the server.
 * pg_replication_slots knows the name of now of the slot's database, and pg_drop_replication_slot() takes it from any
 * database. So where there is none of the old name we ask in another one, and go on in the slot's; also where another
 * database has the name meanwhile. PostgreSQL drops no database that has a slot: without a slot, and without a database
 * of the name, there is nothing left that does harm.
 *
 * Which migration it is, both servers' names of their databases tell no more then. The ledger does, when it is the
 * job's; where there is none (the destination is made anew, or a removal was killed behind the ledger), the service
 * knows the id that a session told. Who knows neither has made nothing: the ledger comes before the first thing on the
 * source. At a terminal a name may also be mistyped, so there an id has to be given.
 *
 * Killed anywhere, the next abort asks the same again: with the slot gone first, and the ledger last, it finds the
 * database by less, and at last nothing. One that lets nobody in keeps its publications, which are named, and the
 * ledger until the next abort: that finds no slot any more.
 */
#include "worker/run.h"

static const char *const others[] = {"postgres", "template1"};

/* When none lets us in, *err is of the one that was asked for. */
static bool open_other(Run *run) {
    DbTarget target = run->source_target;
    Error why;

    for (size_t at = 0; at < COUNT_OF(others); at++) {
        target.database = others[at];
        if (db_open(&target, "control", &run->stop, &run->source, &why)) {
            run->source_target = target; /* should it be opened anew */
            return true;
        }
    }
    return false;
}

/* *ret_database: that has the slot; NULL = there is no slot. */
static bool find_slot(Run *run, const char *slot, const char **ret_database, bool *ret_here, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source,
                  "SELECT s.database, s.database = pg_catalog.current_database()"
                  " FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1 AND s.database IS NOT NULL",
                  1, &slot, &row, err))
        return error_wrap(err, "looking for slot %s", slot);
    *ret_here = db_rows(row) > 0 && db_bool(row, 0, 1);
    *ret_database = db_rows(row) > 0 ? arena_strdup(run->arena, db_text(row, 0, 0)) : NULL;
    return true;
}

/* One that lets nobody in keeps its publications; the slot goes all the same, but where it may let us in soon. */
static bool move_to(Run *run, const char *database, Error *err) {
    DbTarget target = run->source_target;
    DbConn *conn = NULL;
    Error why;

    run->source_now = database;
    target.database = database;
    if (!db_open(&target, "control", &run->stop, &conn, &why)) {
        *err = why;
        run->source_closed = arena_strdup(run->arena, why.message);
        return why.reason != REASON_CANCELLED && (!why.retryable || run_is_source_only(run));
    }
    db_close(run->source);
    run->source = conn;
    run->source_target = target;
    return true;
}

bool run_open_source_alone(Run *run, Error *err) {
    const SeamNames names = seam_names(run->arena, run->identity.job_id);
    const char *database = NULL;
    bool here = false, there = db_open(&run->source_target, "control", &run->stop, &run->source, err);

    if (!there && (err->reason != REASON_NO_DATABASE || !open_other(run)))
        return false;
    if (!find_slot(run, names.slot, &database, &here, err))
        return false;
    run->source_gone = !there && database == NULL;
    return database == NULL || here || move_to(run, database, err);
}

/* Its id is "" where nobody knows of a migration of ours. */
static bool find_migration(Run *run, LedgerIdentity *ret_identity, Error *err) {
    const char *given = run->given_job_id, *told = given[0] != '\0' ? given : run->known_job_id;
    LedgerIdentity found = {0};
    bool exists = false;

    if (!ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    bool ours = exists && run_is_owned(run, &found) && (given[0] == '\0' || strcmp(found.job_id, given) == 0);
    *ret_identity = ours ? found : (LedgerIdentity){.job_id = exists ? "" : told, .fingerprint = ""};
    return true;
}

static bool check_system(Run *run, Error *err) {
    LedgerIdentity *identity = &run->identity;
    const char *system, *database;

    if (!run_server_identity(run->source, run->arena, &system, &database, err))
        return false;
    if (identity->source_system == NULL) { /* of no ledger */
        identity->source_system = system;
        identity->source_database = arena_strdup(run->arena, db_name(run->source));
    }
    if (strcmp(identity->source_system, system) == 0)
        return true;
    error_set(err, REASON_LEDGER_MISMATCH, "the source's address leads to another server now (system %s, was %s)",
              system, identity->source_system);
    return error_remedy(err,
                        "name the source that the migration had; when that is gone for good: pgcrane abort"
                        " --dest-only %s",
                        identity->job_id);
}

static bool open_by_id(Run *run, const LedgerIdentity *identity, Error *err) {
    run->identity = *identity;
    run_set_targets(run);
    db_closep(&run->source);
    return run_open_source_alone(run, err) && check_system(run, err);
}

static bool find_nothing(Run *run, const Error *why, Error *err) {
    *err = *why;
    if (run->owner[0] == '\0')
        return false;
    run->finished = true;
    run_event(run, "info", "%s is not there, and the destination has no ledger of this job: nothing was made for it",
              run->source_display);
    return true;
}

bool run_open_lost_source(Run *run, const Error *why, Error *err) {
    LedgerIdentity identity = {0};
    bool is_told = run->owner[0] != '\0' || (why != NULL && run->given_job_id[0] != '\0');

    if (!is_told && why != NULL)
        *err = *why;
    if (!is_told || !find_migration(run, &identity, err))
        return !is_told && why == NULL;
    if (identity.job_id[0] == '\0')
        return why == NULL || find_nothing(run, why, err);
    bool same = why == NULL && strcmp(identity.job_id, run->identity.job_id) == 0;
    bool elsewhere = why == NULL && identity.source_system != NULL &&
                     strcmp(identity.source_system, run->identity.source_system) != 0;
    return same || elsewhere || open_by_id(run, &identity, err);
}
