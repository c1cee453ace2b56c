/*
 * Ports of local instances: of one fixed range, each in the journal of its instance.
 *
 * The range lies below those that systems give to outgoing connections (32768 and up on Linux) and away from 5432,
 * where servers of the machine itself are.
 */
#pragma once

#include "provision/local/internal.h"

enum { PORT_FIRST = 15432, PORT_LAST = 16431 };

/* One that nobody listens at and no journal names, noted under `step` as {"port"} before anybody else can choose. One
 * that is noted already and is free stays. */
NODISCARD bool port_assign(Local *local, Server *server, Error *err);
/* Could a server listen there now? */
bool port_is_free(int port);
/* Who listens there, for people: "process 4711 (postgres)"; where that cannot be seen, "another program". */
const char *port_holder(Arena *arena, int port);
