/* The internal command `session`: one run of a migration for the service, without a terminal. */
#pragma once

/* argv: session FOLDER. Descriptor 3: one START with {"name", "run", "action", "options", "source": endpoint, "dest":
 * endpoint, "state_dir"?, "more"?, "migration"?}; an endpoint is as in supervise/endpoint.h, whose tunnels need
 * "state_dir"; migration is the id that it has to have, of an abort of one side. */
int session_main(int argc, char **argv);
