/*
 * A server that the service made is filled in load mode: should it go down in it, all that is in it is given up
 * (provision/provider.h). Everything behind this step relies on what was committed.
 *
 * NOTES
 * The copy is whole, and is said to be (LOADED, waits). The service takes the server out of load mode when all
 * databases of the job are so far; the server is restarted meanwhile, and our connections with it. We go on when the
 * server itself says that it runs with the settings of production: nobody's word for it is taken.
 *
 *   we die before LOADED was read       the next worker finds the copy whole, and comes here again
 *   the server goes down in load mode   it is thrown away with our ledger: the service ends us and begins anew
 *   ... behind it                       as any crash of a destination
 *   the daemon is away                  we wait; the watch of the slot goes on, --max-retained counts
 */
#include "common/clock.h"
#include "common/log.h"
#include "worker/run.h"

#include <string.h>

#define LOOK_US (300 * USEC_PER_MSEC)

/* What production is: setting, what it may be (the second NULL = only the first). */
static const struct {
    const char *name, *values[2];
} wanted[] = {
    {"fsync", {"on"}}, {"full_page_writes", {"on"}}, {"autovacuum", {"on"}}, {"wal_level", {"logical", "replica"}}};

static bool is_wanted(const char *name, const char *value) {
    for (size_t at = 0; at < COUNT_OF(wanted); at++)
        if (strcmp(name, wanted[at].name) == 0)
            for (size_t of = 0; of < COUNT_OF(wanted[at].values) && wanted[at].values[of] != NULL; of++)
                if (strcmp(value, wanted[at].values[of]) == 0)
                    return true;
    return false;
}

/* *ret_durable: all of them are in force. */
static bool look(Run *run, bool *ret_durable, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    size_t good = 0;

    if (!db_query(run->dest,
                  "SELECT name, setting FROM pg_catalog.pg_settings"
                  " WHERE name IN ('fsync', 'full_page_writes', 'autovacuum', 'wal_level')",
                  0, NULL, &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++)
        good += is_wanted(db_text(rows, row, 0), db_text(rows, row, 1));
    *ret_durable = good == COUNT_OF(wanted);
    return true;
}

static bool tell(Run *run, bool waits, Error *err) {
    return run_send(run, WIRE_LOADED, json_pack("{s:b}", "waits", waits), err);
}

/* A server that is being restarted is away; whatever else is wrong ends the step. */
static bool look_again(Run *run, bool *ret_durable, Error *err) {
    if (look(run, ret_durable, err))
        return true;
    if (!err->retryable || !watch_check(run, err) || stop_requested(&run->stop))
        return false;
    log_error_value(LOG_INFO, err);
    return run_reconnect_within(run, run->options.retry_for * USEC_PER_SEC, err) && look(run, ret_durable, err);
}

bool step_durable(Run *run, Error *err) {
    bool durable = false, told = false;

    while (run->is_made) {
        if (!look_again(run, &durable, err))
            return false;
        if (durable)
            break;
        if (!told && !tell(run, true, err))
            return false;
        told = true;
        if (stop_wait_fd(&run->stop, -1, 0, clock_now_us() + LOOK_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
        if (!watch_check(run, err))
            return false;
    }
    return !told || tell(run, false, err);
}
