/*
 * A look at both sides that changes nothing, as the service has it: of a database that the destination does not have
 * yet, and with findings that it was asked to mend (engine/preflight/mend.c, which is the one thing that changes
 * something).
 */
#include "worker/run.h"

#include <string.h>

bool dry_run_from_json(Run *run, const json_t *body, Error *err) {
    const json_t *mends = json_get_array(body, "mends");

    run->instance_follows = json_get_bool(body, "instance_follows", false);
    for (size_t i = 0; i < json_array_size(mends); i++) {
        const json_t *item = json_array_get(mends, i);
        const Mend mend = {
            .side = arena_strdup(run->arena, json_get_string(item, "side", "")),
            .statement = arena_strdup(run->arena, json_get_string(item, "statement", "")),
        };

        vec_push(run->arena, &run->mends, mend);
    }
    return (run->mends.len == 0 && !run->instance_follows) || run->options.dry_run ||
           error_set(err, REASON_WIRE_BAD, "options: what is for a dry run only");
}

bool dry_run_open_absent(Run *run, Error *err) {
    DbTarget other = run->dest_target;

    other.database = DRY_RUN_MAINTENANCE;
    if (!db_open(&other, "control", &run->stop, &run->dest, err))
        return false;
    run->dest_target = other;
    run->dest_absent = true;
    return true;
}

bool dry_run_mend(Run *run, const PreflightInput *input, const FindingVec *findings, Error *err) {
    if (!preflight_mend(input, findings, &run->mends, err))
        return false;
    run_event(run, "info", "carried out: %zu statement%s", run->mends.len, run->mends.len == 1 ? "" : "s");
    db_closep(&run->source);
    db_closep(&run->dest);
    return db_open(&run->source_target, "control", &run->stop, &run->source, err) &&
           db_open(&run->dest_target, "control", &run->stop, &run->dest, err) &&
           snapshot_attach(run->source, run->identity.job_id, err);
}
