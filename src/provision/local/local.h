/*
 * PostgreSQL servers on this very machine.
 *
 * Contract
 * - Of any major version whose programs are here (programs.c). Servers run as an unprivileged user, in a session of
 *   their own, and go on when whoever started them is gone.
 * - All of an instance is in STATE_DIR/instances/ID (internal.h), its port is of a fixed range (port.h).
 * - The first address is the loopback's; with networks in the spec it listens everywhere, and pg_hba.conf admits these.
 * - disk_mb is a limit that is watched, not one that a file system enforces: a server is never stopped for it. When it
 *   is passed, tend() says so as the status' trouble, and nothing is loaded into the instance any more (no change to
 *   LOAD). One that is made needs that much free space.
 * - When we are root, folders on the way get the permission to be passed (chmod a+x) where they are ours.
 * - Backups are base backups in the instance's own folder: against mistakes and broken files, not against the loss of
 * the machine.
 */
#pragma once

#include "provision/provider.h"

extern const Provider provider_local;
