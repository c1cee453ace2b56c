/* The internal command `session`: one run of a migration for the service, without a terminal. */
#pragma once

/* argv: session FOLDER. Descriptor 3: one START with {"name", "run", "action", "options", "source": endpoint, "dest":
 * endpoint, "state_dir"?, "more"?}; an endpoint is as in supervise/endpoint.h, whose tunnels need "state_dir". */
int session_main(int argc, char **argv);
