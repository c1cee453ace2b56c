/* Connection strings of profiles that are not stored: no store is asked, secrets are opened with a key of this test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "supervise/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "projects/p/locations/l/connectionProfiles/tried"
#define BASTION "\"forwardSshConnectivity\": {\"hostname\": \"bastion\", \"username\": \"mover\", \"port\": 2222}"

typedef struct Fixture {
    char folder[64];
    Arena *arena;
    Secrets *secrets;
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    char path[96];
    Error err;

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-endpoint-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(path, sizeof(path), "%s/keys", f->folder);
    assert_true(secrets_create_file(path, &err));
    assert_true(secrets_load(path, &f->secrets, &err));
    f->arena = arena_new();
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    assert_true(fd_remove_tree(f->folder, &err));
    secrets_free(f->secrets);
    arena_free(f->arena);
    free(f);
    return 0;
}

static json_t *sealed(Fixture *f, const char *field, const char *plain) {
    const unsigned char *bytes = NULL;
    const void *found = NULL;
    size_t len = 0;
    Error err;

    assert_true(secrets_seal(f->secrets, f->arena, NAME, field, plain, strlen(plain), &found, &len, &err));
    bytes = found;
    const char *hex = "";
    for (size_t at = 0; at < len; at++)
        hex = arena_printf(f->arena, "%s%02x", hex, bytes[at]);
    return json_string(hex);
}

/* postgresql: its JSON. fields: pairs of a path and a secret, then NULL. */
static json_t *endpoint(Fixture *f, const char *postgresql, const char *const *fields) {
    CLEANUP(json_freep) json_t *profile = NULL;
    json_t *secrets = json_object(), *made = NULL;
    const char *text = arena_printf(f->arena, "{\"postgresql\": %s}", postgresql);
    Error err;

    for (; *fields != NULL; fields += 2)
        (void)json_object_set_new(secrets, fields[0], sealed(f, fields[0], fields[1]));
    assert_true(json_parse(text, strlen(text), &profile, &err));
    CLEANUP(json_freep)
    json_t *args = json_pack("{s:O, s:o, s:[]}", "profile", profile, "secrets", secrets, "stored");
    if (!endpoint_of_candidate(NULL, f->arena, f->secrets, NAME, args, &made, &err))
        fail_msg("%s", err.message);
    return made;
}

static const char *const no_secrets[] = {NULL};

static void test_without_a_tunnel(void **state) {
    static const char *const secrets[] = {"postgresql.password", "it's \\ one", NULL};
    CLEANUP(json_freep)
    json_t *made = endpoint(*state, "{\"host\": \"db\", \"port\": 5433, \"username\": \"u\"}", secrets);

    assert_string_equal(json_get_string(made, "conninfo", ""),
                        "host='db' port='5433' dbname='postgres' user='u' sslmode='prefer'"
                        " password='it\\'s \\\\ one'");
    assert_null(json_object_get(made, "tunnel"));
}

/* The server's name stays, for its certificate; the port is where the session's tunnel begins, and not known here. */
static void test_through_a_tunnel(void **state) {
    static const char *const secrets[] = {"postgresql.forwardSshConnectivity.privateKey", "BEGIN KEY", NULL};
    CLEANUP(json_freep)
    json_t *made = endpoint(*state,
                            "{\"host\": \"db\", \"port\": 5433, \"username\": \"u\", \"ssl\": {\"sslFlags\":"
                            " {\"sslmode\": \"verify-full\"}}, " BASTION "}",
                            secrets);
    const json_t *tunnel = json_get_object(made, "tunnel");

    assert_string_equal(json_get_string(made, "conninfo", ""),
                        "host='db' dbname='postgres' user='u' sslmode='verify-full'");
    assert_string_equal(json_get_string(tunnel, "bastion", ""), "bastion");
    assert_int_equal(json_get_int(tunnel, "bastion_port", 0), 2222);
    assert_string_equal(json_get_string(tunnel, "user", ""), "mover");
    assert_string_equal(json_get_string(tunnel, "host", ""), "db");
    assert_int_equal(json_get_int(tunnel, "port", 0), 5433);
    assert_string_equal(json_get_string(tunnel, "private_key", ""), "BEGIN KEY");
    assert_null(json_object_get(tunnel, "password"));
}

static void test_by_password(void **state) {
    static const char *const secrets[] = {"postgresql.forwardSshConnectivity.password", "pass", NULL};
    CLEANUP(json_freep)
    json_t *made = endpoint(
        *state, "{\"host\": \"db\", \"forwardSshConnectivity\": {\"hostname\": \"b\", \"username\": \"m\"}}", secrets);
    const json_t *tunnel = json_get_object(made, "tunnel");

    assert_int_equal(json_get_int(tunnel, "bastion_port", 0), 22);
    assert_int_equal(json_get_int(tunnel, "port", 0), 5432);
    assert_string_equal(json_get_string(tunnel, "password", ""), "pass");
    assert_null(json_object_get(tunnel, "private_key"));
}

/* A store may have both, of a profile that went from one to the other. */
static void test_the_key_counts(void **state) {
    static const char *const secrets[] = {"postgresql.forwardSshConnectivity.password", "pass",
                                          "postgresql.forwardSshConnectivity.privateKey", "KEY", NULL};
    CLEANUP(json_freep) json_t *made = endpoint(*state, "{\"host\": \"db\", " BASTION "}", secrets);
    const json_t *tunnel = json_get_object(made, "tunnel");

    assert_string_equal(json_get_string(tunnel, "private_key", ""), "KEY");
    assert_null(json_object_get(tunnel, "password"));
}

/* Of secrets of a tunnel that the profile has no more, nothing is told. */
static void test_a_tunnel_that_was(void **state) {
    static const char *const secrets[] = {"postgresql.forwardSshConnectivity.privateKey", "KEY", NULL};
    CLEANUP(json_freep) json_t *made = endpoint(*state, "{\"host\": \"db\"}", secrets);

    assert_null(json_object_get(made, "tunnel"));
    CLEANUP(json_freep) json_t *none = endpoint(*state, "{\"host\": \"db\", " BASTION "}", no_secrets);
    assert_null(json_object_get(json_get_object(none, "tunnel"), "private_key")); /* session/tunnel.h refuses it */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_without_a_tunnel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_through_a_tunnel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_by_password, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_key_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_tunnel_that_was, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
