/* Unit test of finding pg_dump: folders with small scripts that say a version. */
#include "common/fd.h"
#include "common/stop.h"
#include "pg/client_bins.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static Stop stop;
static Error err;
static Arena *arena;
static char root[PATH_MAX];
static char *old_path;

/* ROOT/NAME/pg_dump, a script with this body. */
static const char *add_program(const char *name, const char *body) {
    const char *folder = arena_printf(arena, "%s/%s", root, name);
    const char *path = arena_printf(arena, "%s/pg_dump", folder);
    const char *script = arena_printf(arena, "#!/bin/sh\n%s\n", body);

    assert_true(fd_make_dirs(folder, &err));
    assert_true(fd_write_file(path, script, strlen(script), 0755, &err));
    return folder;
}

static const char *add_version(const char *name, const char *version) {
    return add_program(name, arena_printf(arena, "echo 'pg_dump (PostgreSQL) %s (Debian %s-1)'", version, version));
}

static int set_up(void **state) {
    char template[] = "/tmp/pgcrane-test-XXXXXX";

    (void)state;
    arena = arena_new();
    old_path = arena_strdup(arena, getenv("PATH"));
    assert_non_null(mkdtemp(template));
    assert_non_null(realpath(template, root));
    unsetenv("PGCRANE_PG_BINDIRS");
    return stop_init(&stop, &err) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    setenv("PATH", old_path, 1);
    unsetenv("PGCRANE_PG_BINDIRS");
    bool removed = fd_remove_tree(root, &err);
    stop_fini(&stop);
    arena_free(arena);
    return removed ? 0 : -1;
}

static bool find(const char *bindir, int source_major, int dest_major, ClientBin *ret_bin) {
    return client_find_pg_dump(arena, bindir, source_major, dest_major, &stop, ret_bin, &err);
}

static void test_named_folder(void **state) {
    const char *folder = add_version("one", "16.4");
    ClientBin bin = {0};

    (void)state;
    assert_true(find(folder, 13, 16, &bin));
    assert_int_equal(bin.major, 16);
    assert_string_equal(bin.version, "16.4");
    assert_string_equal(bin.path, arena_printf(arena, "%s/pg_dump", folder));
}

static void test_named_folder_is_the_only_one(void **state) {
    const char *folder = add_version("one", "400.1");
    ClientBin bin = {0};

    (void)state;
    setenv("PGCRANE_PG_BINDIRS", folder, 1);
    assert_false(find(arena_printf(arena, "%s/none", root), 13, 13, &bin));
    assert_int_equal(err.reason, REASON_CLIENT_MISSING);
    assert_non_null(strstr(err.message, "found: none"));
}

/* Majors that no machine has installed, so that /usr/lib/postgresql does not matter. */
static void test_choice(void **state) {
    ClientBin bin = {0};

    (void)state;
    setenv("PATH", arena_printf(arena, "%s:%s", add_version("a", "403beta1"), old_path), 1);
    setenv("PGCRANE_PG_BINDIRS",
           arena_printf(arena, "%s::%s:%s/none:%s", add_version("b", "401.7"), add_version("c", "402.2"), root,
                        add_version("d", "406.1")),
           1);
    assert_true(find(NULL, 400, 401, &bin));
    assert_int_equal(bin.major, 401);
    assert_true(find(NULL, 402, 401, &bin));
    assert_int_equal(bin.major, 402);
    assert_true(find(NULL, 399, 400, &bin)); /* all are ahead of it: by as little as can be */
    assert_int_equal(bin.major, 401);
    /* Newest of those that write what the destination reads, though a newer one would know the destination as well. */
    assert_true(find(NULL, 401, 404, &bin));
    assert_int_equal(bin.major, 403);
    assert_string_equal(bin.version, "403beta1");
}

static void test_missing(void **state) {
    ClientBin bin = {0};

    (void)state;
    setenv("PGCRANE_PG_BINDIRS", add_version("a", "401.7"), 1);
    assert_false(find(NULL, 402, 403, &bin));
    assert_int_equal(err.reason, REASON_CLIENT_MISSING);
    assert_non_null(strstr(err.message, "/a/pg_dump (401.7)"));
    assert_non_null(strstr(err.remedy, "apt-get install postgresql-client-403"));
    assert_non_null(strstr(err.remedy, "--pg-bindir"));
    assert_null(bin.path);
}

static void test_what_does_not_answer_is_passed_over(void **state) {
    const char *list =
        arena_printf(arena, "%s:%s:%s:%s", add_program("fails", "exit 1"), add_program("babbles", "echo pg_dump 17"),
                     add_program("lies", "echo 'pg_dump (PostgreSQL) next'"), add_version("good", "401.1"));
    ClientBin bin = {0};

    (void)state;
    setenv("PGCRANE_PG_BINDIRS", list, 1);
    assert_true(find(NULL, 401, 401, &bin));
    assert_int_equal(bin.major, 401);
}

static void test_wrapper_is_passed_over(void **state) {
    const char *folder = add_version("real", "401.1");
    const char *linked = arena_printf(arena, "%s/linked", root);
    ClientBin bin = {0};

    (void)state;
    assert_int_equal(rename(arena_printf(arena, "%s/pg_dump", folder), arena_printf(arena, "%s/wrapper", folder)), 0);
    assert_true(fd_make_dirs(linked, &err));
    assert_int_equal(symlink(arena_printf(arena, "%s/wrapper", folder), arena_printf(arena, "%s/pg_dump", linked)), 0);
    assert_false(find(linked, 401, 401, &bin));
    assert_non_null(strstr(err.message, "found: none"));
}

static void test_stop(void **state) {
    const char *folder = add_program("slow", "exec sleep 1000");
    ClientBin bin = {0};

    (void)state;
    stop_request(&stop);
    assert_false(find(folder, 13, 13, &bin));
    assert_int_equal(err.reason, REASON_CANCELLED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_named_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_named_folder_is_the_only_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_choice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_does_not_answer_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrapper_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
