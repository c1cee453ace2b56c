/* Addresses of peers, and how many connections each has. */
#include "http/peers.h"

#include "common/heap.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>

/* Out of memory ends the process, as everywhere. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

typedef struct PeerCount {
    uint8_t key[16];
    size_t count;
    UT_hash_handle hh;
} PeerCount;

struct Peers {
    PeerCount *counts;
    uint64_t seed; /* so that nobody chooses addresses that fall together */
};

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

PeerAddress peer_address(const struct sockaddr *address) {
    PeerAddress peer = {.kind = AF_UNIX};

    if (address != NULL && address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        peer.kind = AF_INET;
        peer.port = ntohs(in.sin_port);
        memcpy(peer.bytes, mapped_prefix, sizeof(mapped_prefix));
        memcpy(peer.bytes + sizeof(mapped_prefix), &in.sin_addr, 4);
    } else if (address != NULL && address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof(in6));
        peer.port = ntohs(in6.sin6_port);
        memcpy(peer.bytes, &in6.sin6_addr, sizeof(peer.bytes));
        peer.kind = memcmp(peer.bytes, mapped_prefix, sizeof(mapped_prefix)) == 0 ? AF_INET : AF_INET6;
    }
    return peer;
}

const char *peer_print(Arena *arena, const PeerAddress *peer) {
    char text[INET6_ADDRSTRLEN] = "";

    if (peer->kind == AF_UNIX)
        return "unix";
    bool v4 = peer->kind == AF_INET;
    inet_ntop(peer->kind, peer->bytes + (v4 ? sizeof(mapped_prefix) : 0), text, sizeof(text));
    return arena_printf(arena, v4 ? "%s:%u" : "[%s]:%u", text, peer->port);
}

Peers *peers_new(void) {
    Peers *peers = heap_new_of(Peers);

    if (getrandom(&peers->seed, sizeof(peers->seed), GRND_NONBLOCK) < 0)
        peers->seed = (uintptr_t)peers; /* uncovered: early in the boot of a machine */
    return peers;
}

void peers_freep(Peers **peers) {
    PeerCount *count, *next;

    if (*peers == NULL)
        return;
    HASH_ITER(hh, (*peers)->counts, count, next) {
        HASH_DEL((*peers)->counts, count);
        heap_free(count);
    }
    heap_free(*peers);
    *peers = NULL;
}

static void make_key(const PeerAddress *peer, uint8_t key[static 16]) {
    memset(key, 0, 16);
    memcpy(key, peer->bytes, peer->kind == AF_INET6 ? 8 : 16);
}

/* FNV-1a behind a seed, mixed once more at the end. uthash's own function makes clang warn. */
static unsigned hash(const Peers *peers, const uint8_t key[static 16]) {
    uint64_t value = peers->seed ^ UINT64_C(14695981039346656037);

    for (size_t i = 0; i < 16; i++)
        value = (value ^ key[i]) * UINT64_C(1099511628211);
    value = (value ^ (value >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return (unsigned)(value >> 32);
}

static PeerCount *find(Peers *peers, const PeerAddress *peer) {
    uint8_t key[16];
    PeerCount *count;

    make_key(peer, key);
    HASH_FIND_BYHASHVALUE(hh, peers->counts, key, sizeof(key), hash(peers, key), count);
    return count;
}

bool peers_add(Peers *peers, const PeerAddress *peer, size_t max) {
    if (peer->kind == AF_UNIX)
        return true;
    PeerCount *count = find(peers, peer);
    if (count == NULL) {
        count = heap_new_of(PeerCount);
        make_key(peer, count->key);
        HASH_ADD_BYHASHVALUE(hh, peers->counts, key, sizeof(count->key), hash(peers, count->key), count);
    }
    if (max > 0 && count->count >= max)
        return false;
    count->count++;
    return true;
}

void peers_remove(Peers *peers, const PeerAddress *peer) {
    PeerCount *count = peer->kind == AF_UNIX ? NULL : find(peers, peer);

    if (count == NULL || --count->count > 0)
        return;
    HASH_DEL(peers->counts, count);
    heap_free(count);
}
