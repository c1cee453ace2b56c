/*
 * Looks after the servers that this node has made: has done what is asked of each (jobs/instance.h), and sees to it
 * that they run.
 *
 * Contract
 * - Part of the supervisor's one thread. Never waits for a server: what takes time is done by a process of its own
 *   (`pgcrane provision`), which outlives the daemon and is found again by its folder, STATE_DIR/provision/UID.
 * - Errors are those of the store; what is wrong with an instance stands in its record.
 */
#pragma once

#include "jobs/instance.h"
#include "supervise/supervisor_internal.h"

NODISCARD bool instances_look(Supervisor *this, Error *err);

/* Begins a process beside those: one that only reads, for an errand, which looks at the folder by itself. */
NODISCARD bool provision_start(Supervisor *this, const Record *instance, const char *operation, const char *folder,
                               int64_t run, Error *err);
/* Is it an instance of this node? One that nobody has taken yet is of none. */
bool instance_is_here(const Supervisor *this, const Record *instance);
