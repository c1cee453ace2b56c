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

static void add_state(json_t *body, const char *side, MendState state) {
    static const char *const names[] = {[MEND_DONE] = "DONE", [MEND_UNKNOWN] = "UNKNOWN"};

    if (state != MEND_NOT)
        (void)json_object_set_new(body, side, json_string(names[state]));
}

static bool tell_mended(void *context, const MendOutcome *outcome, Error *err) {
    json_t *body = json_object();

    add_state(body, "source", outcome->source);
    add_state(body, "destination", outcome->dest);
    return run_send(context, WIRE_MENDED, body, err);
}

bool dry_run_mend(Run *run, const PreflightInput *input, const FindingVec *findings, Error *err) {
    const MendOrder order = {.mends = &run->mends, .tell = tell_mended, .context = run};

    if (!preflight_mend(input, findings, &order, err))
        return false;
    run_event(run, "info", "carried out: %zu statement%s", run->mends.len, run->mends.len == 1 ? "" : "s");
    return true;
}
