/*
 * The source for an abort of that side alone, or of both where the source's database is not the migration's.
 *
 * Its database may have another name by now, or be gone: the slot, which keeps the server's WAL, belongs to the server.
 * pg_replication_slots knows the name of now of the slot's database, and pg_drop_replication_slot() takes it from any
 * database. So where there is none of the old name we ask in another one, and go on in the slot's; also where another
 * database has the name meanwhile.
 *
 * The slot may be gone, and the database not: somebody dropped it, or an abort was killed behind it. What is in the
 * database is found all the same, so that it is undone there:
 *
 *   by its oid     which it keeps under all its names: the migration's id is made of it and of who the destination is.
 *                  With the migration's own ledger at hand it is known who that is, so that no such database means
 *                  that it was dropped, with all that was in it; a new one of its old name is another one
 *   by its names   without that destination: the one that has a publication or event trigger with the id in its name,
 *                  in each database that lets us in. Replica identities and the setting of a fence have no such
 *                  names: where nothing else is left, nothing leads there, and people are told what may be there
 *
 * Which migration it is, both servers' names of their databases tell no more then. The ledger does, when it is the
 * job's; where there is none (the destination is made anew, or a removal was killed behind the ledger), the service
 * knows the id that a session told. Who knows neither has made nothing: the ledger comes before the first thing on the
 * source. At a terminal a name may also be mistyped, so there an id has to be given, and the ledger be there where
 * both names lead somewhere.
 *
 * Killed anywhere, the next abort asks the same again. With the slot gone first, and the ledger last, it finds the
 * database by its oid until all is done. One that lets nobody in keeps what is in it, which is named, and the ledger
 * until the next abort: that finds no slot any more, and drops the ledger unless it alone knows of something (abort.c).
 */
#include "worker/run.h"

#include <string.h>

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

typedef struct Found {
    const char *database; /* its name now, NULL = there is none */
    bool is_here;         /* it is the one that we are in */
    bool has_slot;
} Found;

static bool find_slot(Run *run, const char *slot, Found *found, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(run->source,
                  "SELECT s.database, s.database = pg_catalog.current_database()"
                  " FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1 AND s.database IS NOT NULL",
                  1, &slot, &row, err))
        return error_wrap(err, "looking for slot %s", slot);
    if (db_rows(row) > 0)
        *found = (Found){arena_strdup(run->arena, db_text(row, 0, 0)), db_bool(row, 0, 1), true};
    return true;
}

/* The one that makes the migration's id, together with the destination. */
static bool find_oid(Run *run, Found *found, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *source_system, *dest_system, *dest_database, *unused;

    if (!run_server_identity(run->source, run->arena, &source_system, &unused, err) ||
        !run_server_identity(run->dest, run->arena, &dest_system, &dest_database, err))
        return false;
    if (!db_query(run->source,
                  "SELECT d.oid::text, d.datname, d.datname = pg_catalog.current_database()"
                  " FROM pg_catalog.pg_database d",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for the source database");
    for (int i = 0; i < db_rows(rows) && found->database == NULL; i++) {
        const char *id = run_make_job_id(run->arena, source_system, db_text(rows, i, 0), dest_system, dest_database);

        if (strcmp(id, run->identity.job_id) == 0)
            *found = (Found){arena_strdup(run->arena, db_text(rows, i, 1)), db_bool(rows, i, 2), false};
    }
    return true;
}

/* *ret_has false also where nobody lets us look. */
static bool has_names(Run *run, const char *database, const SeamNames *names, bool *ret_has, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    CLEANUP(db_result_freep) DbResult *row = NULL;
    DbTarget target = run->source_target;

    target.database = database;
    *ret_has =
        db_open(&target, "control", &run->stop, &conn, err) &&
        db_query(conn,
                 "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname IN ($1, $2) UNION ALL"
                 " SELECT 1 FROM pg_catalog.pg_event_trigger WHERE pg_catalog.strpos(evtname, $3 || '_') = 1",
                 3, (const char *const[]){names->publication_all, names->publication_keys, names->slot}, &row, err) &&
        db_rows(row) > 0;
    return row != NULL || err->reason != REASON_CANCELLED;
}

static bool find_names(Run *run, const SeamNames *names, Found *found, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    bool has = false;

    if (!db_query(run->source,
                  "SELECT d.datname, d.datname = pg_catalog.current_database() FROM pg_catalog.pg_database d"
                  " WHERE d.datallowconn AND pg_catalog.has_database_privilege(d.oid, 'CONNECT') ORDER BY 1",
                  0, NULL, &rows, err))
        return error_wrap(err, "looking for the source database");
    for (int i = 0; i < db_rows(rows) && !has; i++) {
        if (!has_names(run, db_text(rows, i, 0), names, &has, err))
            return false;
        if (has)
            *found = (Found){arena_strdup(run->arena, db_text(rows, i, 0)), db_bool(rows, i, 1), false};
    }
    return true;
}

/* there: a database of its name is, its own or another one. */
static bool find_database(Run *run, bool there, Found *found, Error *err) {
    const SeamNames names = seam_names(run->arena, run->identity.job_id);
    bool by_oid = run->dest != NULL, by_names = !there && run->options.follow && run->identity.source_system == NULL;

    return find_slot(run, names.slot, found, err) &&
           (found->database != NULL || !by_oid || find_oid(run, found, err)) &&
           (found->database != NULL || !by_names || find_names(run, &names, found, err));
}

/* One that lets nobody in keeps what is in it; the slot goes all the same, but where it may let us in soon. */
static bool move_to(Run *run, const Found *found, Error *err) {
    DbTarget target = run->source_target;
    DbConn *conn = NULL;
    Error why;

    run->source_now = found->database;
    target.database = found->database;
    if (!db_open(&target, "control", &run->stop, &conn, &why)) {
        *err = why;
        run->source_closed = arena_strdup(run->arena, why.message);
        run->source_gone = !found->has_slot;
        return why.reason != REASON_CANCELLED && (!why.retryable || run_is_source_only(run));
    }
    db_close(run->source);
    run->source = conn;
    run->source_target = target;
    return true;
}

/* source_system is the ledger's: where there is none, nobody knows who the destination was. */
bool run_open_source_alone(Run *run, Error *err) {
    Found found = {0};
    bool there = db_open(&run->source_target, "control", &run->stop, &run->source, err);

    run->source_now = run->source_closed = NULL;
    if (!there && (err->reason != REASON_NO_DATABASE || !open_other(run)))
        return false;
    if (!find_database(run, there, &found, err))
        return false;
    run->source_gone = found.database == NULL && (!there || run->identity.source_system != NULL);
    return found.database == NULL || found.is_here || move_to(run, &found, err);
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
    bool is_told = run->owner[0] != '\0' || run->given_job_id[0] != '\0';

    if (!is_told && why != NULL)
        *err = *why;
    if (!is_told || !find_migration(run, &identity, err))
        return !is_told && why == NULL;
    if (identity.job_id[0] == '\0')
        return why == NULL || find_nothing(run, why, err);
    bool same = why == NULL && strcmp(identity.job_id, run->identity.job_id) == 0;
    bool elsewhere = why == NULL && identity.source_system != NULL &&
                     strcmp(identity.source_system, run->identity.source_system) != 0;
    bool mistyped = why == NULL && identity.source_system == NULL && run->owner[0] == '\0';
    return same || elsewhere || mistyped || open_by_id(run, &identity, err);
}
