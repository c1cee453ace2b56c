/*
 * The guard of a job's destination (demoteDestination), as far as the job remembers it: databases are handed back when
 * they are promoted, all of them with the job.
 *
 * `run` of the job has "guard" as long as anything may be guarded for it: {"state", "released": [databases], "error"?},
 * the keys of a seat (seat.h) for the session that hands back, and "asked", what that was told to.
 */
#pragma once

#include "supervise/look.h"

/* X(name, meaning) */
#define GUARD_STATES(X)                                                                                                \
    X(DEMOTING, "a session was told to guard it, which may have done nothing yet")                                     \
    X(GUARDED, "it is guarded; databases that are yet to be made will be")

extern const char guard_run_STATE[], guard_run_RELEASED[], guard_run_ERROR[];

/* May anything of the destination be guarded for the job? */
bool guard_is_up(const Record *job);
/* Databases of a loaded job that are about to be guarded, as they are made ready: what was handed back of the same
 * names is of a time that is over. Nothing for a job without a guard; NULL = all. */
void guard_note_again(Record *job, const json_t *databases);
/* Is something to be handed back, and has not been? Such a job is not at rest. */
bool guard_is_due(const Look *look);
/* Hands back what is due. Behind the look's own decision: a job that is removed waits for it. */
NODISCARD bool guard_look(Look *look, Error *err);
