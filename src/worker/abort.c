/*
 * `pgcrane abort`: the source as if nothing had been, the destination without a ledger.
 *
 * Everything that the journal names is removed from the source, a promote that was interrupted is undone, and the
 * snapshot's keeper ends. The rows and definitions that the destination has stay there: they are the user's to drop, or
 * --restart's. A migration whose destination is open is closed instead: there is nothing to go back to.
 */
#include "common/log.h"
#include "worker/run.h"

static bool end_keepers(Run *run, Error *err) {
    return db_query(run->source,
                    "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                    " WHERE application_name = 'pgcrane ' || $1 || ' keeper'",
                    1, (const char *const[]){run->identity.job_id}, NULL, err) ||
           error_wrap(err, "ending the snapshot's keeper");
}

static bool drop_ledger(Run *run, Error *err) {
    if (!ledger_begin(run->dest, &run->ledger, err))
        return false;
    if (ledger_drop(run->dest, err) && ledger_commit(run->dest, err))
        return true;
    db_rollback(run->dest);
    return false;
}

bool step_abort(Run *run, Error *err) {
    LedgerIdentity found;
    bool exists = false;

    if (!ledger_lock(run->dest, run->identity.job_id, err) || !ledger_peek(run->dest, run->arena, &exists, &found, err))
        return false;
    if (exists)
        run->identity.fingerprint = found.fingerprint; /* whatever the command was, it is given up */
    if (!ledger_take(run->dest, run->arena, &run->identity, &run->ledger, err))
        return false;
    run->has_ledger = true;
    if (!step_recover(run, err))
        return false;
    if (run->opened) {
        run->finished = true;
        return step_close_source(run, err) && drop_ledger(run, err);
    }
    if (!end_keepers(run, err) || !run_remove_from_source(run, err) || !drop_ledger(run, err))
        return false;
    run->finished = true;
    run_event(run, "info",
              "removed from the source: everything that pgcrane made there; what was copied stays on the destination");
    return true;
}
