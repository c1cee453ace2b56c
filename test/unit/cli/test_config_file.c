/* The configuration file of the service: what it takes, what it refuses, and what wins over it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/config_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Fixture {
    Arena *arena;
    SettingVec settings;
    Error err;
} Fixture;

static int setup(void **state) {
    Fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->arena = arena_new();
    unsetenv("PGCRANE_LISTEN");
    unsetenv("PGCRANE_CONFIG");
    unsetenv("PGCRANE_STORE");
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    Fixture *fixture = *state;
    arena_free(fixture->arena);
    free(fixture);
    return 0;
}

static bool parse(Fixture *fixture, const char *command, const char *text) {
    return config_file_parse(fixture->arena, "x.conf", text, strlen(text), command_find(command), &fixture->settings,
                             &fixture->err);
}

/* NULL: it was not said. */
static const char *value_of(const Fixture *fixture, const char *flag) {
    for (size_t at = 0; at < fixture->settings.len; at++)
        if (strcmp(fixture->settings.items[at].info->flag, flag) == 0)
            return fixture->settings.items[at].text;
    return NULL;
}

static void test_lines(void **state) {
    Fixture *fixture = *state;
    assert_true(parse(fixture, "serve",
                      "\n# listen = 1:1\n   \n\tlisten=\t[::1]:9 \r\nstore = postgresql://u:a = #b@h/d\n"
                      "verbose = true"));
    assert_string_equal(value_of(fixture, "listen"), "[::1]:9");
    assert_string_equal(value_of(fixture, "store"), "postgresql://u:a = #b@h/d");
    assert_string_equal(value_of(fixture, "verbose"), "true");
    assert_int_equal(fixture->settings.len, 3);
    assert_true(parse(fixture, "serve", ""));
}

static void test_refused(void **state) {
    Fixture *fixture = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"listen = 1:1\nlisten = 2:2\n", "x.conf, line 2: listen was set before"},
        {"\nlistn = 1:1", "x.conf, line 2: listn is no setting"},
        {"jobs = 4", "x.conf, line 1: jobs is no setting"},
        {"config = other", "x.conf, line 1: config is no setting"},
        {"-- = 1", "x.conf, line 1: -- is no setting"},
        {"= 1", "x.conf, line 1: this is no name = value"},
        {"listen =", "x.conf, line 1: --listen needs a value"},
        {"verbose = perhaps", "x.conf, line 1: --verbose: \"perhaps\" is not true or false"},
        {"postgresql://u:secret@h/d", "x.conf, line 1: this is no name = value"},
        {"postgresql://u:secret@h/d?sslmode=require", "x.conf, line 1: what stands before the equals sign is no name"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        assert_false(parse(fixture, "serve", cases[at].text));
        assert_int_equal(fixture->err.reason, REASON_USAGE);
        assert_string_equal(fixture->err.message, cases[at].message);
    }
    assert_false(config_file_parse(fixture->arena, "x.conf", "a\0b", 3, command_find("serve"), &fixture->settings,
                                   &fixture->err));
    assert_string_equal(fixture->err.message, "x.conf is no text");
}

/* One file for all: what a command does not take is known, and left out. */
static void test_of_other_commands(void **state) {
    Fixture *fixture = *state;
    assert_true(parse(fixture, "tokens", "listen = 127.0.0.1:1\nstate-dir = /x\nkey-file = /k\n"));
    assert_int_equal(fixture->settings.len, 1);
    assert_string_equal(value_of(fixture, "state-dir"), "/x");
    assert_false(parse(fixture, "tokens", "verbose = perhaps\n"));
}

static bool arguments(Fixture *fixture, Arguments *ret_arguments, const char *first, const char *second) {
    char *argv[] = {arena_strdup(fixture->arena, "serve"), arena_strdup(fixture->arena, first),
                    arena_strdup(fixture->arena, second), NULL};
    return arguments_parse(fixture->arena,
                           second != NULL  ? 3
                           : first != NULL ? 2
                                           : 1,
                           argv, ret_arguments, &fixture->err);
}

static void test_what_wins(void **state) {
    Fixture *fixture = *state;
    Arguments got;
    char path[] = "/tmp/pgcrane-config-XXXXXX";
    static const char text[] = "listen = 127.0.0.1:1\nstate-dir = /x\n";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    const char *flag = arena_printf(fixture->arena, "--config=%s", path);

    assert_true(arguments(fixture, &got, flag, NULL));
    assert_string_equal(got.options.listen, "127.0.0.1:1");
    assert_string_equal(got.options.state_dir, "/x");
    setenv("PGCRANE_LISTEN", "127.0.0.1:2", 1);
    assert_true(arguments(fixture, &got, flag, NULL));
    assert_string_equal(got.options.listen, "127.0.0.1:2");
    assert_true(arguments(fixture, &got, flag, "--listen=127.0.0.1:3"));
    assert_string_equal(got.options.listen, "127.0.0.1:3");
    unsetenv("PGCRANE_LISTEN");
    setenv("PGCRANE_CONFIG", path, 1);
    assert_true(arguments(fixture, &got, NULL, NULL));
    assert_string_equal(got.options.listen, "127.0.0.1:1");
    unsetenv("PGCRANE_CONFIG");
    unlink(path);
    assert_false(arguments(fixture, &got, flag, NULL));
    assert_non_null(strstr(fixture->err.message, "--config: cannot open /tmp/pgcrane-config-"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_other_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_wins, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
