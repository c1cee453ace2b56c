/*
 * Carries out what the API is asked for: takes actions out of the store's outbox, runs sessions (one process per
 * database of a job), and tells what comes of it as facts (jobs/fact.h).
 *
 * Contract
 * - One thread of its own; it waits for the store and for files, never for a database that is migrated.
 * - Any number of supervisors share a PostgreSQL store: a job belongs to the one that holds its lease. One that is
 * killed loses its leases after SUPERVISOR_LEASE_US, and others go on with its jobs. Its sessions may live on
 * meanwhile: what they and the new ones do is fenced by the ledger on the destination.
 * - supervisor_freep() ends the thread and gives the leases back; sessions go on without it.
 * - What the config points to outlives it.
 */
#pragma once

#include "secrets/secrets.h"
#include "store/store.h"

#define SUPERVISOR_LEASE_US (INT64_C(10) * 1000000)

typedef struct Supervisor Supervisor;

typedef struct SupervisorConfig {
    Store *store;
    Secrets *secrets;
    const char *state_dir;     /* sessions' folders are in it */
    const char *address;       /* what other nodes are told of this one */
    const char *instance_user; /* that servers run as which are made here when the daemon is root; NULL = "postgres" */
    bool allow_hooks;          /* jobs may name commands that a promote runs here */
} SupervisorConfig;

NODISCARD bool supervisor_new(const SupervisorConfig *config, Supervisor **ret_supervisor, Error *err);
void supervisor_freep(Supervisor **supervisor);
