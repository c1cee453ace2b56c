/* Addresses of peers: printed, and counted by address or by network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static PeerAddress peer(const char *text, uint16_t port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return peer_address((const struct sockaddr *)&in);
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return peer_address((const struct sockaddr *)&in6);
}

static bool add(Peers *peers, const char *text, size_t max) {
    PeerAddress address = peer(text, 1);
    return peers_add(peers, &address, max);
}

static void take(Peers *peers, const char *text) {
    PeerAddress address = peer(text, 2);
    peers_remove(peers, &address);
}

static void test_print(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    PeerAddress v4 = peer("192.0.2.1", 80), v6 = peer("2001:db8::1", 443), mapped = peer("::ffff:192.0.2.9", 9);
    PeerAddress none = peer_address(NULL);

    assert_string_equal(peer_print(arena, &v4), "192.0.2.1:80");
    assert_string_equal(peer_print(arena, &v6), "[2001:db8::1]:443");
    assert_string_equal(peer_print(arena, &mapped), "192.0.2.9:9");
    assert_string_equal(peer_print(arena, &none), "unix");
}

static void test_count(void **state UNUSED) {
    Peers *peers = peers_new();

    assert_true(add(peers, "192.0.2.1", 2));
    assert_true(add(peers, "::ffff:192.0.2.1", 2)); /* the same */
    assert_false(add(peers, "192.0.2.1", 2));
    assert_true(add(peers, "192.0.2.2", 2));
    assert_true(add(peers, "192.0.2.1", 0)); /* no limit */
    take(peers, "192.0.2.1");
    take(peers, "192.0.2.1");
    assert_true(add(peers, "192.0.2.1", 2));
    assert_true(add(peers, "2001:db8:0:1::1", 1));
    assert_false(add(peers, "2001:db8:0:1::2", 1)); /* one network */
    assert_true(add(peers, "2001:db8:0:2::1", 1));
    take(peers, "2001:db8:0:1::3");
    assert_true(add(peers, "2001:db8:0:1::2", 1));
    take(peers, "203.0.113.1"); /* not there */
    peers_freep(&peers);
    assert_null(peers);
    peers_freep(&peers);
}

static void test_unix_is_not_counted(void **state UNUSED) {
    Peers *peers = peers_new();
    PeerAddress none = peer_address(NULL);

    for (int i = 0; i < 3; i++)
        assert_true(peers_add(peers, &none, 1));
    peers_remove(peers, &none);
    peers_freep(&peers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_unix_is_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
