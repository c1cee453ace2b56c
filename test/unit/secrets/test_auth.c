/* Who may do what: each rule of secrets/auth.h, and the numbers of failures that are let through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "secrets/auth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 6 };
static const int64_t wall_us = 2000 * USEC_PER_SEC;

typedef struct Fixture {
    Arena *arena;
    AuthGuard *guard;
    int64_t now_us;
    Secret texts[TOKENS];
    TokenMark marks[TOKENS];
    AuthToken tokens[TOKENS];
    size_t count; /* of those that are "kept" */
    size_t asked;
    bool away;
} Fixture;

enum { VIEWER, OPERATOR, ADMIN, REVOKED, EXPIRED, EXPIRING };

static bool find(void *context, Arena *arena UNUSED, const char *id, AuthToken *ret_token, bool *ret_found,
                 Error *err) {
    Fixture *f = context;

    f->asked++;
    if (f->away)
        return error_set(err, REASON_STORE_UNAVAILABLE, "away");
    for (size_t at = 0; at < f->count; at++) {
        if (strcmp(f->marks[at].id, id) != 0)
            continue;
        *ret_token = f->tokens[at];
        *ret_found = true;
    }
    return true;
}

static bool any(void *context, bool *ret_any, Error *err) {
    Fixture *f = context;

    f->asked++;
    *ret_any = f->count > 0;
    return !f->away || error_set(err, REASON_STORE_UNAVAILABLE, "away");
}

static int set_up(void **state) {
    static const TokenRole roles[TOKENS] = {TOKEN_VIEWER, TOKEN_OPERATOR, TOKEN_ADMIN,
                                            TOKEN_ADMIN,  TOKEN_ADMIN,    TOKEN_ADMIN};
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    f->arena = arena_new();
    f->guard = auth_guard_new();
    f->now_us = 5000 * USEC_PER_SEC;
    f->count = TOKENS;
    for (size_t at = 0; at < TOKENS; at++) {
        assert_true(token_make(roles[at], &f->texts[at], &f->marks[at], &err));
        f->tokens[at] = (AuthToken){.role = roles[at], .name = "ci", .hash = f->marks[at].hash};
    }
    f->tokens[REVOKED].revoke_us = 1;
    f->tokens[EXPIRED].expire_us = wall_us;
    f->tokens[EXPIRING].expire_us = wall_us + 1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;

    for (size_t at = 0; at < TOKENS; at++)
        secret_wipe(&f->texts[at]);
    auth_guard_freep(&f->guard);
    arena_free(f->arena);
    free(f);
    return 0;
}

static AuthAnswer ask(Fixture *f, AuthRequest request) {
    const AuthTokens tokens = {find, any, f};
    AuthAnswer answer = {0};
    Error err;

    if (!auth_check(f->guard, f->arena, &request, &tokens, f->now_us, wall_us, &answer, &err))
        fail_msg("%s", err.message);
    return answer;
}

static const char *bearer_of(Fixture *f, size_t token) {
    return arena_printf(f->arena, "Bearer %s", f->texts[token].bytes);
}

static AuthRequest remote(AuthNeed need, const char *authorization) {
    return (AuthRequest){
        .need = need, .authorization = authorization, .host = "pgcrane.example", .tls = true, .peer = "192.0.2.7:4711"};
}

static AuthRequest local(AuthNeed need) {
    return (AuthRequest){.need = need, .host = "localhost:8432", .peer = "127.0.0.1:4711", .loopback_only = true};
}

/* --- tokens --- */

static void test_what_each_role_may_do(void **state) {
    Fixture *f = *state;
    static const struct {
        size_t token;
        int status[3]; /* read, change, administer */
    } rows[] = {{VIEWER, {200, 403, 403}}, {OPERATOR, {200, 200, 403}}, {ADMIN, {200, 200, 200}}};

    for (size_t at = 0; at < COUNT_OF(rows); at++) {
        for (AuthNeed need = AUTH_READ; need <= AUTH_ADMINISTER; need++) {
            AuthAnswer answer = ask(f, remote(need, bearer_of(f, rows[at].token)));
            assert_int_equal(answer.status, rows[at].status[need]);
            assert_int_equal(answer.role, f->tokens[rows[at].token].role);
            assert_string_equal(answer.token_id, f->marks[rows[at].token].id);
            assert_string_equal(answer.who, arena_printf(f->arena, "token:%s", answer.token_id));
            assert_string_equal(answer.name, "ci");
        }
    }
    AuthAnswer denied = ask(f, remote(AUTH_ADMINISTER, bearer_of(f, VIEWER)));
    assert_string_equal(denied.www_authenticate,
                        "Bearer realm=\"pgcrane\", error=\"insufficient_scope\", scope=\"admin\"");
    assert_string_equal(denied.message, "this needs the role admin; the token's is viewer");
}

static void test_tokens_that_are_not_good(void **state) {
    Fixture *f = *state;
    CLEANUP(secret_wipe) Secret strange = {0};
    TokenMark mark;
    Error err;

    assert_true(token_make(TOKEN_ADMIN, &strange, &mark, &err));
    AuthAnswer unknown = ask(f, remote(AUTH_READ, arena_printf(f->arena, "Bearer %s", strange.bytes)));
    assert_int_equal(unknown.status, 401);
    assert_int_equal(unknown.role, TOKEN_NOBODY);
    assert_string_equal(unknown.token_id, "");
    assert_string_equal(unknown.www_authenticate, "Bearer realm=\"pgcrane\", error=\"invalid_token\"");
    assert_non_null(strstr(ask(f, remote(AUTH_READ, bearer_of(f, REVOKED))).message, "revoked"));
    assert_non_null(strstr(ask(f, remote(AUTH_READ, bearer_of(f, EXPIRED))).message, "expired"));
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, REVOKED))).status, 401);
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, EXPIRED))).status, 401);
    assert_int_equal(ask(f, remote(AUTH_ADMINISTER, bearer_of(f, EXPIRING))).status, 200);
    f->tokens[ADMIN].hash = f->marks[VIEWER].hash; /* the id alone is not enough */
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, ADMIN))).status, 401);
    f->tokens[ADMIN].hash = "";
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, ADMIN))).status, 401);
}

static void test_the_text_does_not_give_the_role(void **state) {
    Fixture *f = *state;
    const char *text = arena_printf(f->arena, "Bearer pgc_admin_%s", f->texts[VIEWER].bytes + strlen("pgc_viewer_"));

    assert_int_equal(ask(f, remote(AUTH_READ, text)).status, 401);
    f->tokens[ADMIN].role = TOKEN_VIEWER; /* the record counts */
    assert_int_equal(ask(f, remote(AUTH_CHANGE, bearer_of(f, ADMIN))).status, 403);
}

static void test_the_header(void **state) {
    Fixture *f = *state;
    const char *text = f->texts[VIEWER].bytes;
    static const char *const good[] = {"Bearer %s", "bearer %s", "BEARER  %s", "  Bearer\t%s  "};
    static const char *const bad[] = {"%s",         "Bearer%s",      "Basic %s", "Bearer %s x",
                                      "Bearer %s,", "Bearer \"%s\"", "Token %s"};

    for (size_t at = 0; at < COUNT_OF(good); at++) {
        const char *gap = strstr(good[at], "%s");
        const char *header = arena_printf(f->arena, "%.*s%s%s", (int)(gap - good[at]), good[at], text, gap + 2);
        assert_int_equal(ask(f, remote(AUTH_READ, header)).status, 200);
    }
    for (size_t at = 0; at < COUNT_OF(bad); at++) {
        const char *gap = strstr(bad[at], "%s");
        const char *header = arena_printf(f->arena, "%.*s%s%s", (int)(gap - bad[at]), bad[at], text, gap + 2);
        assert_int_equal(ask(f, remote(AUTH_READ, header)).status, 401);
    }
    size_t asked = f->asked;
    assert_int_equal(ask(f, remote(AUTH_READ, "")).status, 401);
    assert_int_equal(ask(f, remote(AUTH_READ, "Bearer ")).status, 401);
    AuthRequest twice = remote(AUTH_READ, bearer_of(f, VIEWER));
    twice.authorization_twice = true;
    assert_int_equal(ask(f, twice).status, 401);
    assert_int_equal(f->asked, asked); /* what is no token, is not looked for */
}

static void test_no_token_at_all(void **state) {
    Fixture *f = *state;
    AuthAnswer answer = ask(f, remote(AUTH_READ, NULL));

    assert_int_equal(answer.status, 401);
    assert_string_equal(answer.www_authenticate, "Bearer realm=\"pgcrane\"");
    assert_string_equal(answer.who, "anonymous");
    for (int turn = 0; turn < 50; turn++) /* that is a question, and no failure */
        assert_int_equal(ask(f, remote(AUTH_READ, NULL)).status, 401);
}

static void test_tokens_need_tls(void **state) {
    Fixture *f = *state;
    AuthRequest plain = remote(AUTH_READ, bearer_of(f, ADMIN));

    plain.tls = false;
    AuthAnswer answer = ask(f, plain);
    assert_int_equal(answer.status, 403);
    assert_non_null(strstr(answer.message, "TLS"));
    plain.peer = "127.0.0.1:1"; /* a proxy on this machine, or the command line */
    assert_int_equal(ask(f, plain).status, 200);
    plain.peer = "[::1]:1";
    assert_int_equal(ask(f, plain).status, 200);
    plain.peer = "unix";
    assert_int_equal(ask(f, plain).status, 200);
    plain.peer = "127.0.0.1.example:1";
    assert_int_equal(ask(f, plain).status, 403);
}

static void test_the_store_is_away(void **state) {
    Fixture *f = *state;
    const AuthTokens tokens = {find, any, f};
    AuthRequest request = remote(AUTH_READ, bearer_of(f, ADMIN)), nobody = local(AUTH_READ);
    AuthAnswer answer = {.status = 77};
    Error err = {0};

    f->away = true;
    assert_false(auth_check(f->guard, f->arena, &request, &tokens, f->now_us, wall_us, &answer, &err));
    assert_int_equal(err.reason, REASON_STORE_UNAVAILABLE);
    assert_false(auth_check(f->guard, f->arena, &nobody, &tokens, f->now_us, wall_us, &answer, &err));
    assert_int_equal(answer.status, 77); /* nobody is let in meanwhile */
}

/* --- the first one --- */

static void test_loopback_before_the_first_token(void **state) {
    Fixture *f = *state;
    AuthRequest request = local(AUTH_ADMINISTER);

    assert_int_equal(ask(f, request).status, 401); /* there are tokens */
    f->count = 0;
    AuthAnswer answer = ask(f, request);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.role, TOKEN_ADMIN);
    assert_string_equal(answer.who, "local");
    request.peer = "unix";
    request.host = "";
    assert_int_equal(ask(f, request).status, 200);
    assert_int_equal(ask(f, remote(AUTH_READ, NULL)).status, 401);
    f->count = 4; /* only a revoked one and such are left: it stays shut */
    assert_int_equal(ask(f, request).status, 401);
}

static void test_who_is_not_local(void **state) {
    Fixture *f = *state;
    static const char *const peers[] = {
        "192.0.2.7:1", "[2001:db8::1]:1", "128.0.0.1:1", "127.0.0.1.example:1", "[::2]:1", "", ":1"};
    static const char *const hosts[] = {"evil.example",
                                        "127.0.0.1.evil.example",
                                        "localhost.evil.example:8432",
                                        "",
                                        "unix",
                                        "127.1",
                                        "0.0.0.0:8432",
                                        "192.168.0.1",
                                        "[::]:80"};
    static const char *const origins[] = {"null",
                                          "",
                                          "http://evil.example",
                                          "http://localhost:8432.evil.example",
                                          "http://localhost:3000",
                                          "file://",
                                          "localhost:8432"};
    static const char *const good_hosts[] = {"localhost", "LOCALHOST:1", "127.0.0.1:8432",
                                             "127.1.2.3", "[::1]:8432",  "[::1]"};

    f->count = 0;
    for (size_t at = 0; at < COUNT_OF(peers); at++) {
        AuthRequest request = local(AUTH_READ);
        request.peer = peers[at];
        assert_int_equal(ask(f, request).status, 401);
    }
    for (size_t at = 0; at < COUNT_OF(hosts); at++) { /* a name that an attacker has point to this machine */
        AuthRequest request = local(AUTH_READ);
        request.host = hosts[at];
        assert_int_equal(ask(f, request).status, 401);
    }
    for (size_t at = 0; at < COUNT_OF(origins); at++) { /* a page in a browser on this machine */
        AuthRequest request = local(AUTH_READ);
        request.origin = origins[at];
        assert_int_equal(ask(f, request).status, 401);
    }
    for (size_t at = 0; at < COUNT_OF(good_hosts); at++) {
        AuthRequest request = local(AUTH_READ);
        request.host = good_hosts[at];
        request.origin = arena_printf(f->arena, "http://%s", good_hosts[at]); /* our own console */
        assert_int_equal(ask(f, request).status, 200);
    }
}

static void test_a_server_that_others_reach(void **state) {
    Fixture *f = *state;
    AuthRequest request = local(AUTH_READ);

    f->count = 0;
    request.loopback_only = false;
    assert_int_equal(ask(f, request).status, 401);
    request = local(AUTH_READ);
    request.forwarded = true;
    assert_int_equal(ask(f, request).status, 401);
    request = local(AUTH_READ);
    request.host = NULL;
    assert_int_equal(ask(f, request).status, 401);
}

/* --- failures --- */

static int fail_from(Fixture *f, const char *peer) {
    AuthRequest request = remote(AUTH_READ, "Bearer nonsense");

    request.peer = peer;
    return ask(f, request).status;
}

static void test_failures_are_bounded(void **state) {
    Fixture *f = *state;
    AuthRequest request = remote(AUTH_READ, bearer_of(f, VIEWER));

    for (int turn = 0; turn < AUTH_FAILURES_BURST; turn++)
        assert_int_equal(fail_from(f, arena_printf(f->arena, "192.0.2.7:%d", 4000 + turn)), 401);
    assert_int_equal(fail_from(f, "192.0.2.7:1"), 429);
    size_t asked = f->asked;
    AuthAnswer answer = ask(f, request);
    assert_int_equal(answer.status, 429);
    assert_int_equal(answer.retry_after_s, 6);
    assert_int_equal(f->asked, asked); /* no look into the store */
    request.peer = "192.0.2.8:4711";
    assert_int_equal(ask(f, request).status, 200);
    f->now_us += answer.retry_after_s * USEC_PER_SEC;
    assert_int_equal(fail_from(f, "192.0.2.7:1"), 401); /* one more */
    assert_int_equal(fail_from(f, "192.0.2.7:1"), 429);
    f->now_us += 2 * AUTH_FAILURES_BURST * AUTH_FAILURE_US;
    for (int turn = 0; turn < AUTH_FAILURES_BURST; turn++)
        assert_int_equal(fail_from(f, "192.0.2.7:1"), 401);
    assert_int_equal(fail_from(f, "192.0.2.7:1"), 429);
}

static void test_who_shares_an_address_is_not_shut_out(void **state) {
    Fixture *f = *state;

    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, VIEWER))).status, 200);
    while (fail_from(f, "192.0.2.7:1") == 401)
        ;
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, VIEWER))).status, 200);
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, ADMIN))).status, 429); /* was not seen before */
    f->tokens[VIEWER].revoke_us = 1;
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, VIEWER))).status, 401);
    f->tokens[VIEWER].revoke_us = 0;
    f->now_us += AUTH_GOOD_US;
    for (int turn = 0; turn < AUTH_FAILURES_BURST; turn++)
        (void)fail_from(f, "192.0.2.7:1");
    assert_int_equal(ask(f, remote(AUTH_READ, bearer_of(f, VIEWER))).status, 429); /* too long ago */
}

static void test_addresses_of_one_network(void **state) {
    Fixture *f = *state;

    for (int turn = 0; turn < AUTH_FAILURES_BURST; turn++)
        assert_int_equal(fail_from(f, arena_printf(f->arena, "[2001:db8:1:2:%x::1]:99", turn)), 401);
    assert_int_equal(fail_from(f, "[2001:db8:1:2:ffff::]:1"), 429);
    assert_int_equal(fail_from(f, "[2001:db8:1:3::1]:1"), 401);
}

static void test_many_addresses_do_not_grow_it(void **state) {
    Fixture *f = *state;

    while (fail_from(f, "192.0.2.7:1") == 401)
        ;
    for (int turn = 0; turn < 200; turn++) /* far fewer than there are places: it is still known */
        (void)fail_from(f, arena_printf(f->arena, "10.0.%d.%d:1", turn / 100, turn % 100));
    assert_int_equal(fail_from(f, "192.0.2.7:1"), 429);
    for (int turn = 0; turn < 20000; turn++)
        assert_int_equal(fail_from(f, arena_printf(f->arena, "10.%d.%d.1:1", 1 + turn / 250, turn % 250)), 401);
}

static void *fail_often(void *context) {
    AuthGuard *guard = context;
    char peer[32];

    for (int turn = 0; turn < 2000; turn++) {
        (void)snprintf(peer, sizeof(peer), "10.0.0.%d:1", turn % 200);
        auth_guard_failed(guard, peer, turn);
        (void)auth_guard_wait(guard, peer, turn);
        auth_guard_good(guard, peer, turn);
        (void)auth_guard_was_good(guard, peer, turn);
    }
    return NULL;
}

static void test_threads(void **state) {
    Fixture *f = *state;
    pthread_t threads[4];

    for (size_t at = 0; at < COUNT_OF(threads); at++)
        assert_int_equal(pthread_create(&threads[at], NULL, fail_often, f->guard), 0);
    for (size_t at = 0; at < COUNT_OF(threads); at++)
        pthread_join(threads[at], NULL);
    assert_true(auth_guard_wait(f->guard, "10.0.0.1:1", 2000) > 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_what_each_role_may_do),
        CASE(test_tokens_that_are_not_good),
        CASE(test_the_text_does_not_give_the_role),
        CASE(test_the_header),
        CASE(test_no_token_at_all),
        CASE(test_tokens_need_tls),
        CASE(test_the_store_is_away),
        CASE(test_loopback_before_the_first_token),
        CASE(test_who_is_not_local),
        CASE(test_a_server_that_others_reach),
        CASE(test_failures_are_bounded),
        CASE(test_who_shares_an_address_is_not_shut_out),
        CASE(test_addresses_of_one_network),
        CASE(test_many_addresses_do_not_grow_it),
        CASE(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
