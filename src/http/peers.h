/* Addresses of peers, and how many connections each has. */
#pragma once

#include "common/arena.h"
#include "common/compiler.h"

#include <sys/socket.h>

typedef struct PeerAddress {
    uint8_t bytes[16]; /* IPv4 in the form of IPv6 */
    uint16_t port;
    uint8_t kind; /* AF_INET, AF_INET6, or AF_UNIX for what has no address */
} PeerAddress;

PeerAddress peer_address(const struct sockaddr *address); /* NULL: none */
const char *peer_print(Arena *arena, const PeerAddress *peer);

typedef struct Peers Peers;

Peers *peers_new(void);
void peers_freep(Peers **peers);
/* Counts one more of the address (of IPv6: the network of 64 bits, which is what one peer has), unless there are `max`;
 * 0 = any number. Unix sockets are not counted. */
NODISCARD bool peers_add(Peers *peers, const PeerAddress *peer, size_t max);
void peers_remove(Peers *peers, const PeerAddress *peer);
