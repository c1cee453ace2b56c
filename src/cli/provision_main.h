/* The internal command `provision`: one operation on a server that the service makes. */
#pragma once

/* argv: provision FOLDER, absolute. Descriptor 3: one START with {"run", "provider", "operation", "id", "spec"?,
 * "state_dir", "user"?, "bindirs"?, "max"?}; operation is the name of a function of Provider (provision/provider.h), or
 * "log", of which "max" is the size.
 *
 * FOLDER/status.json is as a session's (job_status_write() in session/job_files.h): RUNNING, COMPLETED or FAILED, with
 * "error"; beside that "provision", the status of the instance, also of one that failed where it is known, and "log", a
 * text. A password that was made up is in it. FOLDER/control.lock is held as long as the process lives. */
int provision_main(int argc, char **argv);
