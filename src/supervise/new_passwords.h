/*
 * New passwords for roles whose passwords cannot be read at the source (a job's dumpFlags: new-passwords).
 *
 * A job has one seed, sealed, of which the passwords of its roles are made (secrets/new_passwords.h); no password is
 * ever kept. It reaches a session as connection strings do, and what comes back are names of roles, which stand in the
 * job's `run` (job_run_NEW_PASSWORDS). Whoever fetches the passwords takes seed and names away; so does the job's end.
 */
#pragma once

#include "secrets/secrets.h"
#include "supervise/seat.h"

/* Is this one of dumpFlags it? */
bool new_passwords_is_flag(const char *name);
/* Seals a seed for the job when it wants one and has none. `job` is to be saved. */
NODISCARD bool new_passwords_prepare(StoreTx *tx, Secrets *secrets, Record *job, Error *err);
/* *ret_seed NULL: the job has none. */
NODISCARD bool new_passwords_seed_of(StoreTx *tx, Secrets *secrets, const Record *job, json_t **ret_seed, Error *err);
/* Are there roles of the job's seed that a session has told of, and that the job does not have? */
bool new_passwords_are_news(const Record *job, const json_t *said);
/* Adds the roles that a session has told of. It is to be one that was begun with the job's seed: `said` is of no other
 * number than the last. `job` is to be saved. */
void new_passwords_note(Record *job, const json_t *said);
