/*
 * The source for an abort of that side alone.
 *
 * Its database may have another name by now, or be gone: the slot, which keeps the server's WAL, belongs to the server.
 * pg_replication_slots knows the name of now of the slot's database, and pg_drop_replication_slot() takes it from any
 * database. So where there is none of the old name we ask in another one, and go on in the slot's; also where another
 * database has the name meanwhile. PostgreSQL drops no database that has a slot: without a slot, and without a database
 * of the name, there is nothing left that does harm.
 */
#include "worker/run.h"

static const char *const others[] = {"postgres", "template1"};

/* When none lets us in, *err is of the one that was asked for. */
static bool open_other(Run *run) {
    DbTarget target = run->source_target;
    Error why;

    for (size_t at = 0; at < COUNT_OF(others); at++) {
        target.database = others[at];
        if (db_open(&target, "control", &run->stop, &run->source, &why))
            return true;
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

/* One that lets nobody in keeps its publications; the slot goes all the same. */
static bool move_to(Run *run, const char *database, Error *err) {
    DbTarget target = run->source_target;
    DbConn *conn = NULL;
    Error why;

    run->source_now = database;
    target.database = database;
    if (!db_open(&target, "control", &run->stop, &conn, &why)) {
        *err = why;
        run->source_closed = arena_strdup(run->arena, why.message);
        return why.reason != REASON_CANCELLED;
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
