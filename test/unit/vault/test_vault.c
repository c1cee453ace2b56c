/* Secrets of the store and its keys: which key file a store goes with, and rotations that are killed at each moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "vault/vault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OWNERS = 3, FIELDS = 40 }; /* more than two batches */

typedef struct Fixture {
    char folder[64], path[96], keys[96];
    Arena *arena;
    Store *store;
    Secrets *secrets;
} Fixture;

static Store *open_store(Fixture *f, const char *path) {
    const StoreConfig config = {.backend = STORE_SQLITE, .where = path, .patience_us = 20 * USEC_PER_SEC};
    Store *store = NULL;
    Error err;

    (void)f;
    if (!store_open(&config, &store, &err))
        fail_msg("%s", err.message);
    return store;
}

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-vault-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    (void)snprintf(f->keys, sizeof(f->keys), "%s/keys", f->folder);
    f->arena = arena_new();
    f->store = open_store(f, f->path);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    unsetenv("PGCRANE_FAILPOINT");
    secrets_free(f->secrets);
    store_close(f->store);
    arena_free(f->arena);
    assert_true(fd_remove_tree(f->folder, &err));
    free(f);
    return 0;
}

static void must_open(Fixture *f) {
    Error err;

    secrets_freep(&f->secrets);
    if (!vault_open(f->store, f->keys, &f->secrets, &err))
        fail_msg("%s", err.message);
}

static Error open_fails(Fixture *f, const char *keys, ErrorReason reason) {
    Secrets *secrets = NULL;
    Error err = {0};

    assert_false(vault_open(f->store, keys, &secrets, &err));
    assert_null(secrets);
    assert_string_equal(error_reason_name(err.reason), error_reason_name(reason));
    return err;
}

/* --- one secret --- */

typedef struct Job {
    Fixture *f;
    const char *owner, *field, *value;
    Secret got;
} Job;

static bool create_body(StoreTx *tx, void *context, Error *err) {
    const Job *job = context;
    StoreResource resource = {.kind = STORE_CONNECTION_PROFILE, .name = job->owner};

    return store_create(tx, &resource, err);
}

static bool set_body(StoreTx *tx, void *context, Error *err) {
    const Job *job = context;

    return vault_set(tx, job->f->secrets, job->owner, job->field, job->value, strlen(job->value), err);
}

static bool get_body(StoreTx *tx, void *context, Error *err) {
    Job *job = context;

    return vault_get(tx, job->f->secrets, job->owner, job->field, &job->got, err);
}

static void write_with(Fixture *f, StoreBody body, Job job) {
    Error err;

    job.f = f;
    if (!store_write(f->store, f->arena, body, &job, &err))
        fail_msg("%s", err.message);
}

static bool get(Fixture *f, const char *owner, const char *field, const char *expected, Error *err) {
    Job job = {.f = f, .owner = owner, .field = field};

    if (!store_read(f->store, f->arena, get_body, &job, err))
        return false;
    assert_string_equal(job.got.bytes, expected);
    secret_wipe(&job.got);
    return true;
}

static const char *owner_name(Fixture *f, int owner) {
    return arena_printf(f->arena, "profiles/%d", owner);
}

static const char *field_name(Fixture *f, int field) {
    return arena_printf(f->arena, "field%03d", field);
}

static void fill(Fixture *f) {
    must_open(f);
    for (int owner = 0; owner < OWNERS; owner++) {
        write_with(f, create_body, (Job){.owner = owner_name(f, owner)});
        for (int field = 0; field < FIELDS; field++)
            write_with(f, set_body,
                       (Job){.owner = owner_name(f, owner),
                             .field = field_name(f, field),
                             .value = arena_printf(f->arena, "secret %d %d", owner, field)});
    }
}

static void check_all(Fixture *f) {
    Error err;

    for (int owner = 0; owner < OWNERS; owner++)
        for (int field = 0; field < FIELDS; field++)
            if (!get(f, owner_name(f, owner), field_name(f, field),
                     arena_printf(f->arena, "secret %d %d", owner, field), &err))
                fail_msg("%s", err.message);
}

/* --- the key file of a store --- */

static void test_the_first_start_makes_the_keys(void **state) {
    Fixture *f = *state;
    CLEANUP(buf_fini) Buf one, two;
    Error err;

    buf_init(&one, 10000);
    buf_init(&two, 10000);
    must_open(f);
    assert_true(fd_read_file(f->keys, &one, &err));
    must_open(f);
    assert_true(fd_read_file(f->keys, &two, &err));
    assert_string_equal(one.data, two.data);
}

static void test_lost_keys_are_not_made_anew(void **state) {
    Fixture *f = *state;
    SecretsKeyIds ids;

    must_open(f);
    secrets_key_ids(f->secrets, &ids);
    assert_int_equal(unlink(f->keys), 0);
    Error err = open_fails(f, f->keys, REASON_KEY_MISSING);
    assert_non_null(strstr(err.message, ids.ids[0])); /* which one to look for */
    assert_non_null(strstr(err.message, f->keys));
    assert_int_not_equal(access(f->keys, F_OK), 0);
}

static void test_another_file_is_refused(void **state) {
    Fixture *f = *state;
    CLEANUP(secrets_freep) Secrets *other = NULL;
    const char *path = arena_printf(f->arena, "%s/other", f->folder);
    Error err;

    must_open(f);
    assert_true(secrets_create_file(path, &err));
    open_fails(f, path, REASON_KEY_WRONG);
    assert_true(secrets_load(path, &other, &err));
    assert_false(vault_check(f->store, other, &err));
    assert_int_equal(err.reason, REASON_KEY_WRONG);
    assert_true(vault_check(f->store, f->secrets, &err));
}

static void test_a_file_made_and_not_noted(void **state) {
    Fixture *f = *state;
    Error err;

    assert_true(secrets_create_file(f->keys, &err)); /* as if the first start had died behind it */
    must_open(f);
    must_open(f);
}

static bool damage_body(StoreTx *tx, void *context, Error *err) {
    return store_setting_set(tx, "secrets.check", context, err);
}

static void test_what_the_store_remembers_is_damaged(void **state) {
    Fixture *f = *state;
    char nonsense[] = "xyz0", cut[] = "01";
    Error err;

    must_open(f);
    assert_true(store_write(f->store, f->arena, damage_body, nonsense, &err));
    open_fails(f, f->keys, REASON_STORE_DAMAGED);
    assert_true(store_write(f->store, f->arena, damage_body, cut, &err));
    open_fails(f, f->keys, REASON_SECRET_DAMAGED);
}

static bool move_body(StoreTx *tx, void *context, Error *err) {
    const void *sealed = NULL;
    size_t len = 0;

    (void)context;
    return store_secret_get(tx, "profiles/0", "field000", &sealed, &len, err) &&
           store_secret_set(tx, "profiles/1", "field000", sealed, len, err) &&
           store_secret_set(tx, "profiles/0", "field001", sealed, len, err);
}

static void test_a_secret_moved_to_another_row(void **state) {
    Fixture *f = *state;
    Error err;

    fill(f);
    assert_true(store_write(f->store, f->arena, move_body, NULL, &err));
    assert_false(get(f, "profiles/1", "field000", "", &err));
    assert_int_equal(err.reason, REASON_SECRET_DAMAGED);
    assert_false(get(f, "profiles/0", "field001", "", &err));
    assert_int_equal(err.reason, REASON_SECRET_DAMAGED);
    assert_true(get(f, "profiles/0", "field000", "secret 0 0", &err));
}

/* --- rotation --- */

static void test_rotation(void **state) {
    Fixture *f = *state;
    VaultReseal result;
    VaultUsage usage;
    size_t dropped = 0;
    Error err;

    fill(f);
    assert_true(secrets_add_key(f->secrets, &err));
    assert_true(vault_usage(f->store, f->secrets, &usage, &err));
    assert_int_equal(usage.keys.count, 2);
    assert_int_equal(usage.counts[0], OWNERS * FIELDS);
    assert_int_equal(usage.counts[1], 0);
    assert_true(vault_prune(f->store, f->secrets, &dropped, &err));
    assert_int_equal(dropped, 0); /* it has sealed all there is */
    assert_true(vault_reseal(f->store, f->secrets, &result, &err));
    assert_int_equal(result.resealed, OWNERS * FIELDS);
    assert_int_equal(result.current + result.failed, 0);
    check_all(f);
    assert_true(vault_reseal(f->store, f->secrets, &result, &err));
    assert_int_equal(result.current, OWNERS * FIELDS);
    assert_int_equal(result.resealed, 0);
    assert_true(vault_prune(f->store, f->secrets, &dropped, &err));
    assert_int_equal(dropped, 1);
    must_open(f); /* the store's own word, too */
    check_all(f);
}

static void test_what_does_not_open_is_left(void **state) {
    Fixture *f = *state;
    VaultReseal result;
    VaultUsage usage;
    size_t dropped = 0;
    Error err;

    fill(f);
    assert_true(store_write(f->store, f->arena, move_body, NULL, &err));
    assert_true(secrets_add_key(f->secrets, &err));
    assert_true(vault_reseal(f->store, f->secrets, &result, &err));
    assert_int_equal(result.failed, 2);
    assert_int_equal(result.resealed, OWNERS * FIELDS - 2);
    assert_int_equal(result.first.reason, REASON_SECRET_DAMAGED);
    assert_non_null(strstr(result.first.message, "field001 of profiles/0"));
    assert_true(vault_prune(f->store, f->secrets, &dropped, &err));
    assert_int_equal(dropped, 0); /* its key stays, should somebody mend it */
    assert_true(vault_usage(f->store, f->secrets, &usage, &err));
    assert_int_equal(usage.counts[0], 2);
    assert_int_equal(usage.strange, 0);
    secrets_freep(&f->secrets);
    const char *path = arena_printf(f->arena, "%s/other", f->folder);
    assert_true(secrets_create_file(path, &err));
    assert_true(secrets_load(path, &f->secrets, &err));
    assert_true(vault_usage(f->store, f->secrets, &usage, &err));
    assert_int_equal(usage.strange, OWNERS * FIELDS);
}

#ifdef PGCRANE_FAILPOINTS
/* Rotates in another process, which dies at a fail point; true when it died there. SQLite does not outlive a fork. */
static bool rotate_and_die(Fixture *f, const char *point) {
    secrets_freep(&f->secrets);
    store_closep(&f->store);
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        const StoreConfig config = {.backend = STORE_SQLITE, .where = f->path};
        VaultReseal result;
        Store *store = NULL;
        Secrets *secrets = NULL;
        size_t dropped = 0;
        Error err;
        setenv("PGCRANE_FAILPOINT", point, 1);
        bool good = store_open(&config, &store, &err) && vault_open(store, f->keys, &secrets, &err) &&
                    secrets_add_key(secrets, &err) && vault_reseal(store, secrets, &result, &err) &&
                    vault_prune(store, secrets, &dropped, &err);
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    f->store = open_store(f, f->path);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Each moment: before the file is replaced, before and behind the commit of each batch, while the keys are pruned. */
static void test_killed_at_each_moment(void **state) {
    Fixture *f = *state;
    static const char *const points[] = {
        "keys.replace:kill:1",        "store.before_commit:kill:1", "keys.resealed:kill:1",
        "store.before_commit:kill:2", "keys.resealed:kill:2",       "store.before_commit:kill:3",
        "keys.resealed:kill:3",       "store.before_commit:kill:4", "keys.prune:kill:1",
        "keys.replace:kill:2",        "store.before_commit:kill:5", "store.after_commit:kill:5"};
    VaultReseal result;
    VaultUsage usage;
    size_t dropped = 0;
    Error err;

    fill(f);
    for (size_t at = 0; at < COUNT_OF(points); at++) {
        if (!rotate_and_die(f, points[at]))
            fail_msg("%s was not passed", points[at]);
        must_open(f);
        check_all(f); /* with whatever keys there are now */
        assert_true(vault_usage(f->store, f->secrets, &usage, &err));
        assert_int_equal(usage.strange, 0);
    }
    assert_true(vault_reseal(f->store, f->secrets, &result, &err));
    assert_int_equal(result.failed, 0);
    assert_true(vault_prune(f->store, f->secrets, &dropped, &err));
    assert_true(vault_usage(f->store, f->secrets, &usage, &err));
    assert_int_equal(usage.keys.count, 1);
    must_open(f);
    check_all(f);
}
#endif

/* --- somebody else writes meanwhile --- */

static void test_a_service_seals_while_keys_are_rotated(void **state) {
    Fixture *f = *state;
    VaultReseal result;
    VaultUsage usage;
    size_t dropped = 0;
    Error err;

    fill(f);
    Fixture other = *f; /* another process, as far as the keys are concerned */
    assert_true(secrets_load(f->keys, &other.secrets, &err));
    assert_true(secrets_add_key(other.secrets, &err));
    assert_true(vault_reseal(f->store, other.secrets, &result, &err));
    write_with(f, set_body,
               (Job){.owner = "profiles/0", .field = "new", .value = "later"}); /* it knew the old key only */
    assert_true(vault_prune(f->store, other.secrets, &dropped, &err));
    assert_int_equal(dropped, 1);
    check_all(f);
    assert_true(get(f, "profiles/0", "new", "later", &err));
    assert_true(vault_usage(f->store, other.secrets, &usage, &err));
    assert_int_equal(usage.counts[0], OWNERS * FIELDS + 1);
    secrets_free(other.secrets);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_the_first_start_makes_the_keys),
        CASE(test_lost_keys_are_not_made_anew),
        CASE(test_another_file_is_refused),
        CASE(test_a_file_made_and_not_noted),
        CASE(test_what_the_store_remembers_is_damaged),
        CASE(test_a_secret_moved_to_another_row),
        CASE(test_rotation),
        CASE(test_what_does_not_open_is_left),
#ifdef PGCRANE_FAILPOINTS
        CASE(test_killed_at_each_moment),
#endif
        CASE(test_a_service_seals_while_keys_are_rotated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
