/*
 * Connection strings for workers, made of connection profiles and their secrets.
 *
 * Contract
 * - A string made here holds a password: it goes to a session over its descriptor, and nowhere else.
 * - Certificates and keys are no part of it: libpq reads them from files, so the session writes them where only it can
 *   read (cli/session_main.c) and adds their paths. Here they are texts beside the string.
 * - So it is with a tunnel (forwardSshConnectivity): which bastion host, and what opens it. The string has no port
 * then: where the tunnel begins on this machine the session knows, and adds (cli/session_main.c).
 * - For bodies of store_read() and store_write().
 */
#pragma once

#include "jobs/record.h"
#include "secrets/secrets.h"

/* {"conninfo", "ca"?, "cert"?, "key"?, "tunnel"?: {"bastion", "bastion_port", "user", "host", "port", "private_key"? or
 * "password"?}} of a profile, for `database` (NULL = the profile's own, else "postgres"). New reference; to
 * be wiped by whoever is the last to have it. NOT_SERVED for other kinds of profiles, KEY_WRONG and others of
 * vault_get().
 */
NODISCARD bool endpoint_of(StoreTx *tx, Secrets *secrets, const Record *profile, const char *database,
                           json_t **ret_endpoint, Error *err);

/* Of a profile that is not stored: args of TEST_CONNECTION (jobs/errand.h), {"profile", "secrets": {path: sealed bytes
 * as hexadecimal digits}, "stored": paths of secrets in the store that count}. */
NODISCARD bool endpoint_of_candidate(StoreTx *tx, Arena *arena, Secrets *secrets, const char *name, const json_t *args,
                                     json_t **ret_endpoint, Error *err);
