/* Tokens in a store: from being made to being refused. The rules themselves are in test/unit/secrets/test_auth.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "vault/door.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const DoorCaller caller = {.who = "cli:me", .from = "local"};

typedef struct Fixture {
    char folder[64], path[96];
    Arena *arena;
    Store *store;
    AuthGuard *guard;
    Secret text;
    StoreToken token;
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-door-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    const StoreConfig config = {.backend = STORE_SQLITE, .where = f->path};
    f->arena = arena_new();
    f->guard = auth_guard_new();
    if (!store_open(&config, &f->store, &err))
        fail_msg("%s", err.message);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    secret_wipe(&f->text);
    auth_guard_freep(&f->guard);
    store_close(f->store);
    arena_free(f->arena);
    assert_true(fd_remove_tree(f->folder, &err));
    free(f);
    return 0;
}

static void make(Fixture *f, TokenRole role, int64_t span_us) {
    Error err;

    if (!door_make_token(f->store, f->arena, &caller, role, "ci", span_us, &f->text, &f->token, &err))
        fail_msg("%s", err.message);
}

static AuthAnswer admit(Fixture *f, AuthNeed need, bool with_token) {
    const AuthRequest request = {
        .need = need,
        .authorization = with_token ? arena_printf(f->arena, "Bearer %s", f->text.bytes) : NULL,
        .host = "localhost",
        .peer = "127.0.0.1:1",
        .loopback_only = true,
    };
    AuthAnswer answer;
    Error err;

    if (!door_admit(f->store, f->guard, f->arena, &request, &answer, &err))
        fail_msg("%s", err.message);
    return answer;
}

static bool get_body(StoreTx *tx, void *context, Error *err) {
    Fixture *f = context;

    return store_token_get(tx, f->token.id, &f->token, err);
}

static const StoreToken *kept(Fixture *f) {
    Error err;

    if (!store_read(f->store, f->arena, get_body, f, &err))
        fail_msg("%s", err.message);
    return &f->token;
}

static void test_the_first_token_shuts_the_door(void **state) {
    Fixture *f = *state;

    assert_int_equal(admit(f, AUTH_ADMINISTER, false).status, 200);
    make(f, TOKEN_OPERATOR, 0);
    assert_int_equal(admit(f, AUTH_READ, false).status, 401);
    AuthAnswer answer = admit(f, AUTH_CHANGE, true);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.token_id, f->token.id);
    assert_string_equal(answer.name, "ci");
    assert_int_equal(admit(f, AUTH_ADMINISTER, true).status, 403);
}

static void test_a_use_is_noted(void **state) {
    Fixture *f = *state;

    make(f, TOKEN_VIEWER, 0);
    assert_int_equal(admit(f, AUTH_CHANGE, true).status, 403);
    assert_int_equal(kept(f)->used_us, 0); /* that was none */
    assert_int_equal(admit(f, AUTH_READ, true).status, 200);
    int64_t used_us = kept(f)->used_us;
    assert_true(used_us > 0);
    assert_int_equal(admit(f, AUTH_READ, true).status, 200);
    assert_int_equal(kept(f)->used_us, used_us);
}

static void test_it_ends(void **state) {
    Fixture *f = *state;
    StoreToken gone;
    Error err;

    make(f, TOKEN_VIEWER, 1); /* a microsecond */
    assert_true(f->token.expire_us == f->token.create_us + 1);
    clock_sleep_us(1000);
    assert_string_equal(admit(f, AUTH_READ, true).message, "this token has expired");
    assert_int_equal(door_token_state(kept(f), clock_wall_us()), DOOR_EXPIRED);
    make(f, TOKEN_VIEWER, 0);
    assert_int_equal(admit(f, AUTH_READ, true).status, 200);
    assert_true(door_revoke_token(f->store, f->arena, &caller, f->token.id, &gone, &err));
    assert_string_equal(admit(f, AUTH_READ, true).message, "this token was revoked");
    assert_int_equal(door_token_state(&gone, clock_wall_us()), DOOR_REVOKED);
    assert_int_equal(admit(f, AUTH_READ, false).status, 401); /* that the last one is over opens nothing */
}

static bool forge_body(StoreTx *tx, void *context, Error *err) {
    StoreToken *token = context;

    return store_token_create(tx, token, 0, err);
}

static void test_a_role_that_is_none_may_nothing(void **state) {
    Fixture *f = *state;
    TokenMark mark;
    Error err;

    assert_true(token_make(TOKEN_ADMIN, &f->text, &mark, &err));
    StoreToken token = {.id = mark.id, .hash = mark.hash, .role = "emperor"};
    assert_true(store_write(f->store, f->arena, forge_body, &token, &err));
    assert_int_equal(admit(f, AUTH_READ, true).status, 403);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_the_first_token_shuts_the_door),
        CASE(test_a_use_is_noted),
        CASE(test_it_ends),
        CASE(test_a_role_that_is_none_may_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
