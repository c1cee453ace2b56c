/*
 * `pgcrane keeper`: a small process that holds one exported snapshot of the source open, and outlives a worker's crash.
 *
 * Internal command, started by snapshot_obtain() in a session of its own. On descriptor 3 it reads one JSON object
 * {conninfo, job_id, lease_us} up to end of file, answers with one JSON object {snapshot_id, picture,
 * system_identifier, postmaster_start, pid} or {error: ...}, closes it, and then holds the transaction. It ends when
 * its server session ends (pg_terminate_backend: that is how a worker releases it), on SIGTERM, or when no worker of
 * the job has been attached for the lease: a worker is attached while it holds snapshot_attach()'s advisory lock in
 * shared mode on the source. The lock is the server's, so it ends with the worker's session, whatever killed it, and
 * from whichever machine.
 */
#pragma once

int keeper_main(int argc, char **argv);
