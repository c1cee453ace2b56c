/* The wire: whole, partial and broken messages, the end of the peer, threads, and errors there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "support/leaks.h"
#include "wire/wire.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

typedef struct Pair {
    Wire *wire;
    int peer; /* raw end */
} Pair;

static Pair pair_new(void) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    return (Pair){.wire = wire_new(ends[0]), .peer = ends[1]};
}

static void pair_end(Pair *pair) {
    wire_freep(&pair->wire);
    assert_null(pair->wire);
    fd_close(&pair->peer);
}

static void put(int fd, const char *json) {
    size_t len = strlen(json);
    char header[4] = {(char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len};
    Error err;
    assert_true(fd_write_all(fd, header, 4, &err) && fd_write_all(fd, json, len, &err));
}

static void test_there_and_back(void **state UNUSED) {
    Pair pair = pair_new();
    Wire *other = wire_new(pair.peer);
    Error err;
    WireType type = WIRE_MAX_;
    assert_true(wire_send(pair.wire, WIRE_EVENT, json_pack("{s:s}", "text", "\xc3\xa9"), &err));
    assert_true(wire_send(pair.wire, WIRE_DONE, NULL, &err));
    CLEANUP(json_freep) json_t *first = NULL, *second = NULL, *none = NULL;
    assert_int_equal(wire_receive(other, NULL, 0, &type, &first, &err), WIRE_MESSAGE);
    assert_int_equal(type, WIRE_EVENT);
    assert_string_equal(json_get_string(first, "text", ""), "\xc3\xa9");
    assert_int_equal(wire_receive(other, NULL, 1, &type, &second, &err), WIRE_MESSAGE);
    assert_int_equal(type, WIRE_DONE);
    assert_int_equal(json_object_size(second), 0);
    assert_int_equal(wire_receive(other, NULL, 1, &type, &none, &err), WIRE_NOTHING);
    assert_int_equal(wire_fd(other), pair.peer);
    wire_freep(&other);
    assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &none, &err), WIRE_CLOSED);
    assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &none, &err), WIRE_CLOSED);
    assert_null(none);
    wire_freep(&pair.wire);
    wire_freep(&pair.wire); /* NULL is fine */
}

/* Every cut of two messages: what came before it is kept, and nothing is handed out early. */
static void test_partial(void **state UNUSED) {
    static const char bytes[] = "\0\0\0\x19{\"type\":\"STOP\",\"body\":{}}\0\0\0\x19{\"type\":\"DONE\",\"body\":{}}";
    const size_t len = sizeof(bytes) - 1, one = 4 + 0x19;
    assert_int_equal(len, 2 * one);
    for (size_t cut = 0; cut <= len; cut++) {
        Pair pair = pair_new();
        Error err;
        WireType type;
        size_t got = 0;
        for (size_t part = 0; part < 2; part++) {
            size_t part_len = part == 0 ? cut : len - cut;
            assert_true(fd_write_all(pair.peer, bytes + (part == 0 ? 0 : cut), part_len, &err));
            CLEANUP(json_freep) json_t *body = NULL;
            while (wire_receive(pair.wire, NULL, 1, &type, &body, &err) == WIRE_MESSAGE) {
                assert_int_equal(type, got == 0 ? WIRE_STOP : WIRE_DONE);
                json_freep(&body);
                got++;
            }
            assert_int_equal(got, part == 0 ? cut / one : 2);
        }
        pair_end(&pair);
    }
}

/* Malformed: says so, each time it is asked. */
static void test_broken(void **state UNUSED) {
    static const char *const bad[] = {
        "",
        "x",
        "[]",
        "{}",
        "{\"type\":\"NONE\",\"body\":{}}",
        "{\"type\":\"DONE\"}",
        "{\"type\":\"DONE\",\"body\":[]}",
        "{\"type\":\"DONE\",\"type\":\"DONE\",\"body\":{}}",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Pair pair = pair_new();
        WireType type = WIRE_MAX_;
        json_t *body = NULL;
        put(pair.peer, bad[i]);
        for (int again = 0; again < 2; again++) {
            Error err = {0};
            assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &body, &err), WIRE_BROKEN);
            assert_int_equal(err.reason, REASON_WIRE_BAD);
        }
        assert_int_equal(type, WIRE_MAX_);
        assert_null(body);
        pair_end(&pair);
    }
}

static void test_length_too_large(void **state UNUSED) {
    Pair pair = pair_new();
    WireType type;
    json_t *body = NULL;
    Error err;
    assert_true(fd_write_all(pair.peer, "\x04\0\0\x01", 4, &err));
    assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &body, &err), WIRE_BROKEN);
    assert_string_equal(err.message, "message of 67108865 bytes on the wire");
    pair_end(&pair);
}

static void test_end_inside_a_message(void **state UNUSED) {
    Pair pair = pair_new();
    WireType type;
    json_t *body = NULL;
    Error err;
    assert_true(fd_write_all(pair.peer, "\0\0\0\x19{\"ty", 8, &err));
    fd_close(&pair.peer);
    assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &body, &err), WIRE_BROKEN);
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    pair_end(&pair);
}

static void test_peer_died(void **state UNUSED) {
    Pair pair = pair_new();
    WireType type;
    json_t *body = NULL;
    Error err;
    assert_true(wire_send(pair.wire, WIRE_STOP, NULL, &err));
    fd_close(&pair.peer); /* with our message unread: a reset */
    assert_int_equal(wire_receive(pair.wire, NULL, 0, &type, &body, &err), WIRE_CLOSED);
    assert_false(wire_send(pair.wire, WIRE_STOP, NULL, &err)); /* and no SIGPIPE */
    assert_int_equal(err.reason, REASON_WORKER_LOST);
    pair_end(&pair);
}

static void test_not_a_socket(void **state UNUSED) {
    int ends[2];
    WireType type;
    json_t *body = NULL;
    Error err;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    Wire *wire = wire_new(ends[0]);
    assert_int_equal(wire_receive(wire, NULL, 0, &type, &body, &err), WIRE_BROKEN);
    assert_int_equal(err.reason, REASON_SYSTEM);
    assert_false(wire_send(wire, WIRE_STOP, NULL, &err));
    assert_int_equal(err.reason, REASON_SYSTEM);
    wire_freep(&wire);
    fd_close(&ends[1]);
}

static void test_deadline_and_stop(void **state UNUSED) {
    Pair pair = pair_new();
    Stop stop;
    WireType type;
    json_t *body = NULL;
    Error err;
    assert_true(stop_init(&stop, &err));
    int64_t begin = clock_now_us();
    assert_int_equal(wire_receive(pair.wire, &stop, begin + 30000, &type, &body, &err), WIRE_NOTHING);
    assert_true(clock_now_us() - begin >= 30000);
    stop_request(&stop);
    assert_int_equal(wire_receive(pair.wire, &stop, 0, &type, &body, &err), WIRE_NOTHING);
    stop_fini(&stop);
    pair_end(&pair);
}

static void test_refused_bodies(void **state UNUSED) {
    Pair pair = pair_new();
    Error err;
    assert_false(wire_send(pair.wire, WIRE_EVENT, json_array(), &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);

    CLEANUP(arena_freep) Arena *arena = arena_new();
    const size_t much = (size_t)64 * 1024 * 1024;
    char *text = arena_alloc(arena, much + 1);
    memset(text, 'x', much);
    assert_false(wire_send(pair.wire, WIRE_EVENT, json_pack("{s:o}", "text", json_stringn_nocheck(text, much)), &err));
    assert_non_null(strstr(err.message, "larger than"));
    char byte;
    assert_int_equal(recv(pair.peer, &byte, 1, MSG_DONTWAIT), -1); /* nothing of either went out */
    pair_end(&pair);
}

enum { SENDERS = 4, MESSAGES = 100, TEXT = 20000 };

static void *send_many(void *data) {
    Wire *wire = data;
    char text[TEXT + 1] = "";
    memset(text, 'y', TEXT);
    for (int i = 0; i < MESSAGES; i++) {
        Error err;
        if (!wire_send(wire, WIRE_EVENT, json_pack("{s:s}", "text", text), &err))
            abort();
    }
    return NULL;
}

/* More than the socket holds, from several threads, over a non-blocking descriptor: all arrive whole. */
static void test_threads(void **state UNUSED) {
    Pair pair = pair_new();
    Wire *receiver = wire_new(pair.peer);
    pthread_t threads[SENDERS];
    Error err;
    assert_true(fd_set_nonblocking(wire_fd(pair.wire), &err));
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, pair.wire), 0);
    clock_sleep_us(20000); /* let the socket fill up; the outcome does not depend on it */
    for (int i = 0; i < SENDERS * MESSAGES; i++) {
        CLEANUP(json_freep) json_t *body = NULL;
        WireType type;
        assert_int_equal(wire_receive(receiver, NULL, 0, &type, &body, &err), WIRE_MESSAGE);
        assert_int_equal(type, WIRE_EVENT);
        assert_int_equal(strspn(json_get_string(body, "text", ""), "y"), TEXT);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    wire_freep(&receiver);
    wire_freep(&pair.wire);
}

static json_t *text_of(size_t len) {
    char text[TEXT + 1] = "";
    assert_true(len <= TEXT);
    memset(text, 'z', len);
    return json_pack("{s:s}", "text", text);
}

/* Posts pictures until one is left out: the socket is full, and the last of them may be partly sent. */
static int fill(Wire *wire) {
    int count = 0;
    Error err;
    for (bool posted = true; posted; count += posted) {
        assert_true(wire_post(wire, WIRE_PROGRESS, text_of(TEXT - 777), 0, &posted, &err));
        assert_true(count < 10000);
    }
    return count;
}

static bool is_pending(Wire *wire) {
    bool pending = false;
    Error err;
    assert_true(wire_flush(wire, &pending, &err));
    return pending;
}

/* Takes one message, while the sender goes on sending what waits. */
static void take(Wire *wire, Wire *receiver, WireType expected, size_t len) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type = WIRE_MAX_;
    Error err;
    WireResult result = WIRE_NOTHING;
    for (int tries = 0; result == WIRE_NOTHING && tries < 100; tries++) {
        (void)is_pending(wire);
        result = wire_receive(receiver, NULL, 1, &type, &body, &err);
    }
    assert_int_equal(result, WIRE_MESSAGE);
    assert_int_equal(type, expected);
    assert_int_equal(strspn(json_get_string(body, "text", ""), "z"), len);
}

/* Nobody reads: nothing waits for that, what may be left out is, and what was begun arrives whole and in order. */
static void test_nobody_reads(void **state UNUSED) {
    Pair pair = pair_new();
    Wire *receiver = wire_new(pair.peer);
    bool posted = false;
    Error err;
    int64_t begin = clock_now_us();
    int pictures = fill(pair.wire);
    assert_true(pictures > 2);
    assert_true(is_pending(pair.wire));
    for (size_t i = 0; i < 5; i++) {
        assert_true(wire_post(pair.wire, WIRE_EVENT, text_of(i), 1000000, &posted, &err));
        assert_true(posted);
    }
    assert_true(wire_post(pair.wire, WIRE_EVENT, text_of(9), 100, &posted, &err)); /* behind too much */
    assert_false(posted);
    assert_true(wire_post(pair.wire, WIRE_PROGRESS, text_of(9), 0, &posted, &err));
    assert_false(posted);
    assert_true(wire_post(pair.wire, WIRE_REPORT, text_of(TEXT), SIZE_MAX, NULL, &err));
    assert_true(clock_now_us() - begin < 5 * USEC_PER_SEC);
    for (int i = 0; i < pictures; i++)
        take(pair.wire, receiver, WIRE_PROGRESS, TEXT - 777);
    for (size_t i = 0; i < 5; i++)
        take(pair.wire, receiver, WIRE_EVENT, i);
    take(pair.wire, receiver, WIRE_REPORT, TEXT);
    assert_false(is_pending(pair.wire));
    assert_true(wire_post(pair.wire, WIRE_PROGRESS, text_of(1), 0, &posted, &err)); /* it is read again */
    assert_true(posted);
    take(pair.wire, receiver, WIRE_PROGRESS, 1);
    wire_freep(&receiver);
    wire_freep(&pair.wire);
}

/* A megabyte and more waits: what is sent of it goes from the front of the queue now and then. */
static void test_a_long_queue(void **state UNUSED) {
    Pair pair = pair_new();
    Wire *receiver = wire_new(pair.peer);
    Error err;
    for (size_t i = 0; i < 300; i++)
        assert_true(wire_post(pair.wire, WIRE_EVENT, text_of(TEXT - i), SIZE_MAX, NULL, &err));
    for (size_t i = 0; i < 300; i++)
        take(pair.wire, receiver, WIRE_EVENT, TEXT - i);
    assert_false(is_pending(pair.wire));
    wire_freep(&receiver);
    wire_freep(&pair.wire);
}

static void *send_one(void *data) {
    Error err;
    if (!wire_send(data, WIRE_DONE, text_of(7), &err))
        abort();
    return NULL;
}

/* One thread waits for the peer: the others do not wait for that thread. */
static void test_one_waits(void **state UNUSED) {
    Pair pair = pair_new();
    Wire *receiver = wire_new(pair.peer);
    pthread_t thread;
    bool posted = true;
    Error err;
    int pictures = fill(pair.wire);
    assert_int_equal(pthread_create(&thread, NULL, send_one, pair.wire), 0);
    clock_sleep_us(20000); /* let it wait; the outcome does not depend on it */
    assert_true(wire_post(pair.wire, WIRE_PROGRESS, text_of(0), 0, &posted, &err));
    assert_false(posted);
    for (int i = 0; i < pictures; i++)
        take(pair.wire, receiver, WIRE_PROGRESS, TEXT - 777);
    take(pair.wire, receiver, WIRE_DONE, 7);
    pthread_join(thread, NULL);
    wire_freep(&receiver);
    wire_freep(&pair.wire);
}

static void test_errors(void **state UNUSED) {
    Error err, back;
    error_set(&err, REASON_LOCK_BUSY, "caf\xe9 \xc3\xa9");
    error_remedy(&err, "wait");
    memcpy(err.sqlstate, "55P03", 6);
    err.retryable = false;
    CLEANUP(json_freep) json_t *json = wire_error_to_json(&err);
    wire_error_from_json(json, &back);
    assert_int_equal(back.reason, REASON_LOCK_BUSY);
    assert_string_equal(back.message, "caf? \xc3\xa9");
    assert_string_equal(back.remedy, "wait");
    assert_string_equal(back.sqlstate, "55P03");
    assert_false(back.retryable);

    CLEANUP(json_freep) json_t *strange = json_pack("{s:s, s:s}", "reason", "FROM_THE_FUTURE", "sqlstate", "toolong");
    wire_error_from_json(strange, &back);
    assert_int_equal(back.reason, REASON_INTERNAL);
    assert_string_equal(back.sqlstate, "");
    assert_string_equal(back.message, "the worker failed without saying why");
    assert_string_not_equal(back.remedy, "");
}

static void test_names(void **state UNUSED) {
    assert_string_equal(wire_type_name(WIRE_START), "START");
    assert_string_equal(wire_type_name(WIRE_MAX_), "UNKNOWN");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_length_too_large),
        cmocka_unit_test(test_end_inside_a_message),
        cmocka_unit_test(test_peer_died),
        cmocka_unit_test(test_not_a_socket),
        cmocka_unit_test(test_deadline_and_stop),
        cmocka_unit_test(test_refused_bodies),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nobody_reads),
        cmocka_unit_test(test_a_long_queue),
        cmocka_unit_test(test_one_waits),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, leaks_begin, leaks_end);
}
