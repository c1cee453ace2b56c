/* Where logs and reports go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/state_dir.h"
#include "common/fd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Fixture {
    Arena *arena;
    char folder[40];
} Fixture;

static int setup(void **state) {
    static const char pattern[] = "/tmp/pgcrane-state-XXXXXX";
    Fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->arena = arena_new();
    memcpy(fixture->folder, pattern, sizeof(pattern));
    unsetenv("XDG_STATE_HOME");
    *state = fixture;
    return mkdtemp(fixture->folder) != NULL && setenv("HOME", fixture->folder, 1) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    Fixture *fixture = *state;
    Error err;
    bool removed = fd_remove_tree(fixture->folder, &err);
    arena_free(fixture->arena);
    free(fixture);
    return removed ? 0 : -1;
}

static void resolves(const Fixture *fixture, const char *given, const char *below) {
    const char *path = NULL;
    Error err;
    struct stat info;
    if (!state_dir_resolve(fixture->arena, given, &path, &err))
        fail_msg("%s", err.message);
    assert_string_equal(path, arena_printf(fixture->arena, "%s/%s", fixture->folder, below));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
}

static void test_home(void **state) {
    const Fixture *fixture = *state;
    resolves(fixture, NULL, ".local/state/pgcrane");
    resolves(fixture, "", ".local/state/pgcrane"); /* is there already */
}

static void test_xdg(void **state) {
    const Fixture *fixture = *state;
    setenv("XDG_STATE_HOME", arena_printf(fixture->arena, "%s/xdg", fixture->folder), 1);
    resolves(fixture, NULL, "xdg/pgcrane");
    setenv("XDG_STATE_HOME", "relative", 1);
    resolves(fixture, NULL, ".local/state/pgcrane");
}

static void test_given_becomes_absolute(void **state) {
    const Fixture *fixture = *state;
    assert_int_equal(chdir(fixture->folder), 0);
    resolves(fixture, "a/b", "a/b");
    assert_int_equal(chdir("/"), 0);
}

static void test_a_file_in_the_way(void **state) {
    const Fixture *fixture = *state;
    Error err;
    const char *path = "untouched";
    char *file = arena_printf(fixture->arena, "%s/file", fixture->folder);
    assert_true(fd_write_file(file, "x", 1, 0600, &err));
    assert_false(state_dir_resolve(fixture->arena, arena_printf(fixture->arena, "%s/below", file), &path, &err));
    assert_string_equal(path, "untouched");
    assert_non_null(strstr(err.remedy, "--state-dir"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_home, setup, teardown),
        cmocka_unit_test_setup_teardown(test_xdg, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given_becomes_absolute, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_in_the_way, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
