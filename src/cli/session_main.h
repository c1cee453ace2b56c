/* The internal command `session`: one run of a migration for the service, without a terminal. */
#pragma once

/* argv: session FOLDER. Descriptor 3: one START with {"name", "run", "action", "options", "source": endpoint, "dest":
 * endpoint, "more"?, "migration"?}; migration is the id that it has to have, of an abort of one side; an endpoint is
 * {"conninfo", "ca"?, "cert"?, "key"?}. */
int session_main(int argc, char **argv);
