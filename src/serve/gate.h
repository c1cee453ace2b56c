/*
 * What the API asks of tokens and keys: its Vault and its Access, over the store (src/vault).
 *
 * A Gate outlives the Api; what it is made of outlives the Gate. For any number of threads.
 */
#pragma once

#include "api/access.h"
#include "api/vault.h"
#include "secrets/auth_guard.h"
#include "secrets/secrets.h"

typedef struct Gate {
    Store *store;
    Secrets *secrets;
    AuthGuard *guard;
    bool loopback_only; /* every address that is listened on is of this machine */
} Gate;

Vault gate_vault(Gate *gate);
Access gate_access(Gate *gate);
