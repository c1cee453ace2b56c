/* Internal commands: `tunnel`, the process that minds one ssh, and what ssh asks for a password. */
#pragma once

#include "common/compiler.h"

/* argv: tunnel. Descriptor 3: one START with a TunnelSpec and "wanted_port" (0 = any), then TUNNEL from here, until the
 * end of file. */
int tunnel_main(int argc, char **argv);
/* Is it ssh that asks? It gives its program one argument, the question, and no word of ours: so a variable says it. */
bool askpass_is_asked(int argc);
/* Prints what is in the file that the variable names. */
int askpass_main(void);
