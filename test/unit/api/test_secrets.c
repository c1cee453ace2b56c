/* Secrets in requests: sealed by the vault, in no body, no answer and no outbox; and who is let in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"
#include "common/clock.h"
#include "common/fd.h"
#include "http/response.h"
#include "http/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROFILES "/v1/projects/p/locations/l/connectionProfiles"
#define PROFILE "projects/p/locations/l/connectionProfiles/src"
#define PEM "-----BEGIN CERTIFICATE-----\\nx\\n-----END CERTIFICATE-----"

typedef struct Fixture {
    char folder[64], path[96];
    Store *store;
    Api *api;
    Arena *arena;
    bool shut; /* nobody is let in */
    AccessNeed need;
    int status;
    json_t *answer;
} Fixture;

/* ---- A vault that turns letters round, so that the plain text is nowhere ---- */

static const char *turn(Arena *arena, const char *field, const void *plain, size_t len) {
    char *sealed = arena_strndup(arena, plain, len);

    for (size_t at = 0; at < len; at++)
        sealed[at] = (char)(sealed[at] ^ 1);
    return arena_printf(arena, "%s=%s", field, sealed);
}

static bool vault_seal(void *context, Arena *arena, const char *resource, const char *field, const void *plain,
                       size_t len, const void **ret_sealed, size_t *ret_sealed_len, Error *err UNUSED) {
    (void)context;
    assert_string_equal(resource, PROFILE);
    *ret_sealed = turn(arena, field, plain, len);
    *ret_sealed_len = strlen(*ret_sealed);
    return true;
}

static bool vault_set(void *context, StoreTx *tx, const char *resource, const char *field, const void *plain,
                      size_t len, Error *err) {
    const Fixture *f = context;
    const char *sealed = turn(f->arena, field, plain, len);

    return store_secret_set(tx, resource, field, sealed, strlen(sealed), err);
}

static bool admit(void *context, const HttpRequest *request UNUSED, HttpResponse *response UNUSED, AccessNeed need,
                  AccessGrant *ret_grant, Error *err) {
    Fixture *f = context;

    f->need = need;
    *ret_grant = (AccessGrant){.who = "token:1", .most = ACCESS_CHANGE};
    return !f->shut || error_set(err, REASON_NOT_PERMITTED, "not you");
}

static int set_up(void **state) {
    static Vault vault = {.set = vault_set, .seal = vault_seal};
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-api-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    const StoreConfig store = {.backend = STORE_SQLITE, .where = f->path};
    if (!store_open(&store, &f->store, &err))
        fail_msg("%s", err.message);
    vault.context = f;
    const ApiConfig config = {.store = f->store, .vault = &vault, .access = {admit, f}};
    assert_true(api_new(&config, &f->api, &err));
    f->arena = arena_new();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    json_freep(&f->answer);
    api_freep(&f->api);
    store_close(f->store);
    arena_free(f->arena);
    assert_true(fd_remove_tree(f->folder, &err));
    free(f);
    return 0;
}

/* ---- Asking ---- */

static void ask(Fixture *f, HttpMethod method, const char *path, const char *query, const char *body) {
    HttpRequest request = {.arena = f->arena,
                           .method = method,
                           .target = path,
                           .raw_path = path,
                           .host = "localhost",
                           .body = body,
                           .body_len = strlen(body),
                           .peer = "127.0.0.1:1"};
    HttpResponse response;
    const char *why = NULL;
    Error err;

    response_init(&response, f->arena, NULL, 0);
    assert_true(target_path(f->arena, path, &request.path, &why));
    assert_true(target_query(f->arena, query, 100, &request.query, &why));
    api_handle(f->api, &request, &response);
    f->status = response.status;
    json_freep(&f->answer);
    if (!json_parse(response.body, response.body_len, &f->answer, &err))
        fail_msg("%s", err.message);
    assert_null(strstr(arena_strndup(f->arena, response.body, response.body_len), "hunter2"));
}

static void create(Fixture *f, const char *postgresql) {
    ask(f, HTTP_METHOD_POST, PROFILES, "connectionProfileId=src",
        arena_printf(f->arena, "{\"postgresql\":{\"host\":\"h\"%s}}", postgresql));
}

static void patch(Fixture *f, const char *mask, const char *body) {
    ask(f, HTTP_METHOD_PATCH, PROFILES "/src", arena_printf(f->arena, "updateMask=%s", mask), body);
}

static const json_t *profile_now(Fixture *f) {
    ask(f, HTTP_METHOD_GET, PROFILES "/src", "", "");
    return json_object_get(f->answer, "postgresql");
}

typedef struct Look {
    const char *field;
    const void *bytes;
    size_t len;
    StoreAction *actions;
    size_t count;
} Look;

static bool secret_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    return store_secret_get(tx, PROFILE, look->field, &look->bytes, &look->len, err);
}

static bool take_body(StoreTx *tx, void *context, Error *err) {
    Look *look = context;

    return store_outbox_take(tx, "node", PROFILE, USEC_PER_SEC, 10, &look->actions, &look->count, err);
}

/* What the store has, sealed; NULL = nothing. */
static const char *stored(Fixture *f, const char *field) {
    Look look = {.field = field};
    Error err;

    if (!store_read(f->store, f->arena, secret_body, &look, &err))
        return NULL;
    return arena_strndup(f->arena, look.bytes, look.len);
}

/* Nowhere in the files of the store. */
static void assert_nowhere(Fixture *f, const char *plain) {
    static const char *const suffixes[] = {"", "-wal"};

    for (size_t at = 0; at < COUNT_OF(suffixes); at++) {
        CLEANUP(buf_fini) Buf bytes;
        Error err;

        buf_init(&bytes, 64 * 1024 * 1024);
        assert_true(fd_read_file(arena_printf(f->arena, "%s%s", f->path, suffixes[at]), &bytes, &err));
        assert_null(memmem(bytes.data, bytes.len, plain, strlen(plain)));
    }
}

/* ---- Tests ---- */

static void test_a_password_is_sealed(void **state) {
    Fixture *f = *state;

    create(f, ",\"password\":\"hunter2\"");
    assert_int_equal(f->status, 200);
    assert_int_equal(f->need, ACCESS_CHANGE);
    const json_t *postgresql = profile_now(f);
    assert_int_equal(f->need, ACCESS_READ);
    assert_true(json_get_bool(postgresql, "passwordSet", false));
    assert_null(json_object_get(postgresql, "password"));
    assert_string_equal(stored(f, "postgresql.password"), "postgresql.password=itouds3");
    assert_nowhere(f, "hunter2");
}

static void test_what_a_patch_does_to_a_password(void **state) {
    Fixture *f = *state;

    create(f, ",\"password\":\"hunter2\"");
    patch(f, "", "{\"labels\":{\"a\":\"b\"}}"); /* sends back what it was given: it stays */
    patch(f, "postgresql", "{\"postgresql\":{\"host\":\"h2\"}}");
    assert_string_equal(stored(f, "postgresql.password"), "postgresql.password=itouds3");
    patch(f, "postgresql.host", "{\"postgresql\":{\"host\":\"h3\",\"password\":\"other\"}}"); /* not in the mask */
    assert_string_equal(stored(f, "postgresql.password"), "postgresql.password=itouds3");
    patch(f, "postgresql.password", "{\"postgresql\":{\"password\":\"b\"}}");
    assert_string_equal(stored(f, "postgresql.password"), "postgresql.password=c");
    patch(f, "postgresql.password", "{}"); /* named and not there: taken away */
    assert_null(stored(f, "postgresql.password"));
    assert_null(json_object_get(profile_now(f), "passwordSet"));
    patch(f, "postgresql.password", "{\"postgresql\":{\"password\":\"b\"}}");
    assert_true(json_get_bool(profile_now(f), "passwordSet", false));
    patch(f, "", "{\"postgresql\":{\"password\":\"\"}}"); /* an empty one is none */
    assert_null(stored(f, "postgresql.password"));
}

static void test_certificates_have_to_fit(void **state) {
    Fixture *f = *state;

    create(f, ",\"ssl\":{\"type\":\"SERVER_CLIENT\",\"caCertificate\":\"" PEM "\"}");
    assert_int_equal(f->status, 400);
    create(f, ",\"ssl\":{\"caCertificate\":\"no PEM\"}");
    assert_int_equal(f->status, 400);
    create(f, ",\"ssl\":{\"caCertificate\":\"" PEM "\",\"clientCertificate\":\"" PEM "\"}");
    assert_int_equal(f->status, 400);
    create(f, ",\"ssl\":{\"caCertificate\":\"" PEM "\"}");
    assert_int_equal(f->status, 200);
    assert_string_equal(json_get_string(json_object_get(profile_now(f), "ssl"), "type", ""), "SERVER_ONLY");
    assert_non_null(stored(f, "postgresql.ssl.caCertificate"));
    /* google-cloud-sdk's --ssl-type=REQUIRED names all of them and sends none */
    patch(f,
          "postgresql.ssl.caCertificate%2Cpostgresql.ssl.clientCertificate%2Cpostgresql.ssl.clientKey%2Cpostgresql.ssl."
          "type",
          "{\"postgresql\":{\"ssl\":{\"type\":\"REQUIRED\"}}}");
    assert_int_equal(f->status, 200);
    assert_null(stored(f, "postgresql.ssl.caCertificate"));
}

static void test_a_connection_is_tested_with_what_is_not_kept(void **state) {
    Fixture *f = *state;
    Look look = {0};
    Error err;

    create(f, ",\"ssl\":{\"caCertificate\":\"" PEM "\"}");
    ask(f, HTTP_METHOD_PATCH, PROFILES "/src", "updateMask=postgresql.password&validateOnly=True",
        "{\"postgresql\":{\"password\":\"hunter2\"}}");
    assert_int_equal(f->status, 200);
    assert_null(stored(f, "postgresql.password"));
    assert_true(store_write(f->store, f->arena, take_body, &look, &err));
    assert_int_equal(look.count, 1);
    /* "postgresql.password=itouds3" in hexadecimal */
    assert_non_null(strstr(look.actions[0].body, "\"secrets\":{\"postgresql.password\":\"706f737467726573716c2e"
                                                 "70617373776f72643d69746f75647333\"}"));
    assert_non_null(strstr(look.actions[0].body, "\"stored\":[\"postgresql.ssl.caCertificate\"]"));
    assert_nowhere(f, "hunter2");
}

static void test_secrets_of_servers_to_be_made(void **state) {
    Fixture *f = *state;

    ask(f, HTTP_METHOD_POST, PROFILES, "connectionProfileId=src",
        "{\"cloudsql\":{\"settings\":{\"rootPassword\":\"hunter2\",\"databaseVersionName\":\"POSTGRES_17\"}}}");
    assert_int_equal(f->status, 200);
    ask(f, HTTP_METHOD_GET, PROFILES "/src", "", "");
    const json_t *settings = json_object_get(json_object_get(f->answer, "cloudsql"), "settings");
    assert_true(json_get_bool(settings, "rootPasswordSet", false));
    assert_string_equal(stored(f, "cloudsql.settings.rootPassword"), "cloudsql.settings.rootPassword=itouds3");
    assert_nowhere(f, "hunter2");
}

/* The same request with another password is the same request: its hash would help to guess the password. */
static void test_a_request_id_does_not_tell_of_secrets(void **state) {
    Fixture *f = *state;
    const char *query = "connectionProfileId=src&requestId=r1";

    ask(f, HTTP_METHOD_POST, PROFILES, query, "{\"postgresql\":{\"host\":\"h\",\"password\":\"hunter2\"}}");
    assert_int_equal(f->status, 200);
    const char *first = arena_strdup(f->arena, json_get_string(f->answer, "name", ""));
    ask(f, HTTP_METHOD_POST, PROFILES, query, "{\"postgresql\":{\"host\":\"h\",\"password\":\"other\"}}");
    assert_string_equal(json_get_string(f->answer, "name", ""), first);
    assert_string_equal(stored(f, "postgresql.password"), "postgresql.password=itouds3");
}

static void test_who_is_not_let_in_learns_nothing(void **state) {
    Fixture *f = *state;

    create(f, "");
    f->shut = true;
    ask(f, HTTP_METHOD_GET, PROFILES "/src", "", "");
    assert_int_equal(f->status, 403);
    ask(f, HTTP_METHOD_GET, PROFILES "/none", "nonsense=1", "");
    assert_int_equal(f->status, 403);
    ask(f, HTTP_METHOD_DELETE, PROFILES "/src", "", "");
    assert_int_equal(f->status, 403);
    f->shut = false;
    ask(f, HTTP_METHOD_GET, PROFILES "/src", "", "");
    assert_int_equal(f->status, 200);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_password_is_sealed),
        TEST(test_what_a_patch_does_to_a_password),
        TEST(test_certificates_have_to_fit),
        TEST(test_a_connection_is_tested_with_what_is_not_kept),
        TEST(test_secrets_of_servers_to_be_made),
        TEST(test_a_request_id_does_not_tell_of_secrets),
        TEST(test_who_is_not_let_in_learns_nothing),
    };

    return cmocka_run_group_tests_name("secrets of the API", tests, NULL, NULL);
}
