/* Where a service is: what people write, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/address.h"

static void check(const char *text, const char *url, const char *socket, bool is_tls, bool is_local) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Address address;
    Error err;

    if (!address_parse(arena, text, &address, &err))
        fail_msg("%s: %s", text, err.message);
    assert_string_equal(address.url, url);
    if (socket != NULL)
        assert_string_equal(address.socket, socket);
    else
        assert_null(address.socket);
    assert_int_equal(address.is_tls, is_tls);
    assert_int_equal(address.is_local, is_local);
}

static void test_urls(void **state UNUSED) {
    check("http://127.0.0.1:8432", "http://127.0.0.1:8432", NULL, false, true);
    check("http://localhost:8432/", "http://localhost:8432", NULL, false, true);
    check("https://migrate.example", "https://migrate.example", NULL, true, false);
    check("https://proxy.example:444/pgcrane/", "https://proxy.example:444/pgcrane", NULL, true, false);
    check("http://[::1]:8432", "http://[::1]:8432", NULL, false, true);
    check("http://192.0.2.7:8432", "http://192.0.2.7:8432", NULL, false, false);
    check("http://127.evil.example", "http://127.evil.example", NULL, false, false);
}

/* As --listen takes it: in the clear only to this machine. */
static void test_host_and_port(void **state UNUSED) {
    check("127.0.0.1:8432", "http://127.0.0.1:8432", NULL, false, true);
    check("localhost:8432", "http://localhost:8432", NULL, false, true);
    check("[::1]:8432", "http://[::1]:8432", NULL, false, true);
    check("migrate.example:8432", "https://migrate.example:8432", NULL, true, false);
}

static void test_sockets(void **state UNUSED) {
    check("unix:/run/pgcrane.sock", "http://localhost", "/run/pgcrane.sock", false, true);
    check("/run/pgcrane.sock", "http://localhost", "/run/pgcrane.sock", false, true);
}

static void test_refused(void **state UNUSED) {
    static const char *const texts[] = {
        "unix:pgcrane.sock",
        "ftp://example",
        "http://u:secret@example",
        "http://u@example",
        "http://example?a=b",
        "http://example/p#frag",
        "http://",
        "http://exa mple",
        "",
        "file:///etc/passwd",
    };
    for (size_t at = 0; at < COUNT_OF(texts); at++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        Address address;
        Error err;

        if (address_parse(arena, texts[at], &address, &err))
            fail_msg("%s is taken as %s", texts[at], address.url);
        assert_int_equal(err.reason, REASON_USAGE);
        assert_null(strstr(err.message, "secret"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_host_and_port),
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
