/*
 * How often each address has failed, and which tokens were good lately: for auth.c.
 *
 * Contract
 * - Fixed size: a table for 1024 addresses, in sets of four. When a set is full, the address that will be forgotten
 *   first makes room. Places are drawn with a secret seed, so that nobody chooses addresses that fall together.
 * - AUTH_FAILURES_BURST failures at once, then one more each AUTH_FAILURE_US.
 * - For any number of threads. now_us: clock_now_us().
 */
#pragma once

#include "common/compiler.h"

enum { AUTH_FAILURES_BURST = 10 };
#define AUTH_FAILURE_US (INT64_C(6) * 1000000)
#define AUTH_GOOD_US (INT64_C(600) * 1000000) /* how long a good token is remembered */

typedef struct AuthGuard AuthGuard;

RETURNS_NONNULL AuthGuard *auth_guard_new(void);
void auth_guard_freep(AuthGuard **guard);

void auth_guard_failed(AuthGuard *guard, const char *peer, int64_t now_us);
/* Whole seconds until the address may fail again; 0 = now. */
int auth_guard_wait(AuthGuard *guard, const char *peer, int64_t now_us);

/* By the hash of a token (secrets/tokens.h). */
void auth_guard_good(AuthGuard *guard, const char *hash, int64_t now_us);
bool auth_guard_was_good(AuthGuard *guard, const char *hash, int64_t now_us);

/* Length of the host in "host", "host:port", "[v6]:port", "[v6]" or a bare IPv6 address; *ret_start is behind a
 * bracket. */
size_t auth_host_length(const char *address, const char **ret_start);
