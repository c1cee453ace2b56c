/*
 * How often each address has failed, and which tokens were good lately.
 *
 * An address is one number, the time at which all its failures are forgotten. Each failure moves it on by
 * AUTH_FAILURE_US, from now at the least; the address has to wait while it is more than the burst away.
 */
#include "secrets/auth_guard.h"

#include "common/heap.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { SETS = 256, WAYS = 4, GOODS = 256 };

typedef struct Place {
    uint64_t key; /* a hash; 0 = never used */
    int64_t until_us;
} Place;

struct AuthGuard {
    pthread_mutex_t lock;
    unsigned char seed[crypto_shorthash_KEYBYTES];
    Place addresses[SETS][WAYS];
    Place goods[GOODS];
};

AuthGuard *auth_guard_new(void) {
    AuthGuard *guard = heap_new_of(AuthGuard);

    if (sodium_init() < 0)
        abort(); /* uncovered: there is no random number generator */
    randombytes_buf(guard->seed, sizeof(guard->seed));
    pthread_mutex_init(&guard->lock, NULL);
    return guard;
}

void auth_guard_freep(AuthGuard **guard) {
    if (*guard != NULL)
        pthread_mutex_destroy(&(*guard)->lock);
    heap_free(*guard);
    *guard = NULL;
}

static uint64_t hash_bytes(const AuthGuard *guard, const void *bytes, size_t len) {
    uint64_t key = 0;

    static_assert(sizeof(key) == crypto_shorthash_BYTES, "SipHash gives 64 bits");
    crypto_shorthash((unsigned char *)&key, bytes, len, guard->seed);
    return key != 0 ? key : 1;
}

size_t auth_host_length(const char *address, const char **ret_start) {
    bool bracket = address[0] == '[';
    const char *start = address + (bracket ? 1 : 0);
    const char *colon = strchr(start, ':');

    *ret_start = start;
    if (bracket)
        return strcspn(start, "]");
    if (colon != NULL && strchr(colon + 1, ':') != NULL)
        return strlen(start); /* a bare IPv6 address */
    return colon != NULL ? (size_t)(colon - start) : strlen(start);
}

/* Without its port, which each connection has another of; of IPv6 the network, since a host has 2^64 addresses there.
 */
static uint64_t peer_key(const AuthGuard *guard, const char *peer) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr v6;
    const char *host = NULL;
    size_t len = auth_host_length(peer, &host);

    if (len < sizeof(text)) {
        memcpy(text, host, len);
        text[len] = '\0';
        if (inet_pton(AF_INET6, text, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6))
            return hash_bytes(guard, &v6, sizeof(v6) / 2);
    }
    return hash_bytes(guard, host, len);
}

/* The address's own place, or else the one that is given up for it. */
static Place *find_place(AuthGuard *guard, uint64_t key) {
    Place *set = guard->addresses[key % SETS];
    Place *oldest = &set[0];

    for (size_t way = 0; way < WAYS; way++) {
        if (set[way].key == key)
            return &set[way];
        if (set[way].until_us < oldest->until_us)
            oldest = &set[way];
    }
    return oldest;
}

void auth_guard_failed(AuthGuard *guard, const char *peer, int64_t now_us) {
    uint64_t key = peer_key(guard, peer);

    pthread_mutex_lock(&guard->lock);
    Place *place = find_place(guard, key);
    int64_t until_us = place->key == key ? MAX(place->until_us, now_us) : now_us;
    *place = (Place){key, MIN(until_us, now_us + AUTH_FAILURES_BURST * AUTH_FAILURE_US) + AUTH_FAILURE_US};
    pthread_mutex_unlock(&guard->lock);
}

int auth_guard_wait(AuthGuard *guard, const char *peer, int64_t now_us) {
    const int64_t burst_us = (AUTH_FAILURES_BURST - 1) * AUTH_FAILURE_US;
    uint64_t key = peer_key(guard, peer);

    pthread_mutex_lock(&guard->lock);
    const Place *place = find_place(guard, key);
    int64_t wait_us = place->key == key ? place->until_us - now_us - burst_us : 0;
    pthread_mutex_unlock(&guard->lock);
    return wait_us > 0 ? (int)((wait_us + 999999) / 1000000) : 0;
}

void auth_guard_good(AuthGuard *guard, const char *hash, int64_t now_us) {
    uint64_t key = hash_bytes(guard, hash, strlen(hash));

    pthread_mutex_lock(&guard->lock);
    guard->goods[key % GOODS] = (Place){key, now_us + AUTH_GOOD_US};
    pthread_mutex_unlock(&guard->lock);
}

bool auth_guard_was_good(AuthGuard *guard, const char *hash, int64_t now_us) {
    uint64_t key = hash_bytes(guard, hash, strlen(hash));

    pthread_mutex_lock(&guard->lock);
    const Place *place = &guard->goods[key % GOODS];
    bool good = place->key == key && place->until_us > now_us;
    pthread_mutex_unlock(&guard->lock);
    return good;
}
