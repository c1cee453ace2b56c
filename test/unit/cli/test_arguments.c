/* The command line of migrate: flags over environment over defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/verbs.h"

#include <stdlib.h>
#include <string.h>

enum { ARGV_MAX = 16 };

typedef struct Fixture {
    Arena *arena;
    int argc;
    char *argv[ARGV_MAX + 1];
    Arguments arguments;
    Error err;
} Fixture;

static int setup(void **state) {
    Fixture *fixture = calloc(1, sizeof(*fixture));
    fixture->arena = arena_new();
    unsetenv("PGCRANE_SOURCE");
    unsetenv("PGCRANE_DEST");
    unsetenv("PGCRANE_JOBS");
    unsetenv("PGCRANE_SCHEMA");
    unsetenv("PGCRANE_VACUUM");
    unsetenv("PGCRANE_RESTART");
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    Fixture *fixture = *state;
    arena_free(fixture->arena);
    free(fixture);
    return 0;
}

/* Words are separated by blanks here. */
static void give(Fixture *fixture, const char *line) {
    fixture->argc = 0;
    while (*line != '\0') {
        size_t len = strcspn(line, " ");
        assert_true(fixture->argc < ARGV_MAX);
        fixture->argv[fixture->argc++] = arena_strndup(fixture->arena, line, len);
        line += len + (line[len] == ' ' ? 1 : 0);
    }
    fixture->argv[fixture->argc] = NULL;
}

static bool parse(Fixture *fixture, const char *line) {
    give(fixture, line);
    return arguments_parse(fixture->arena, fixture->argc, fixture->argv, &fixture->arguments, &fixture->err);
}

static const MigrateOptions *parsed(Fixture *fixture, const char *line) {
    if (!parse(fixture, line))
        fail_msg("%s: %s", line, fixture->err.message);
    return &fixture->arguments.options;
}

static void refused(Fixture *fixture, const char *line, const char *message_part) {
    assert_false(parse(fixture, line));
    assert_int_equal(fixture->err.reason, REASON_USAGE);
    if (strstr(fixture->err.message, message_part) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", fixture->err.message, message_part);
}

static void test_defaults(void **state) {
    const MigrateOptions *options = parsed(*state, "migrate src dst");
    assert_string_equal(options->source, "src");
    assert_string_equal(options->dest, "dst");
    assert_int_equal(options->jobs, 0);
    assert_int_equal(options->snapshot_lease, 600);
    assert_false(options->restart);
    assert_null(options->state_dir);
    assert_int_equal(options->schemas.len, 0);
}

static void test_flags_anywhere(void **state) {
    const MigrateOptions *options =
        parsed(*state, "migrate -j 4 src --split-size=64MB -n a dst --schema b --no-owner -xy --state-dir /tmp/x");
    assert_string_equal(options->source, "src");
    assert_string_equal(options->dest, "dst");
    assert_int_equal(options->jobs, 4);
    assert_int_equal(options->split_size, 64 * 1024 * 1024);
    assert_int_equal(options->schemas.len, 2);
    assert_string_equal(options->schemas.items[0], "a");
    assert_string_equal(options->schemas.items[1], "b");
    assert_true(options->no_owner);
    assert_true(options->no_acl);
    assert_true(options->yes);
    assert_string_equal(options->state_dir, "/tmp/x");
}

/* Some value that is in range for each. */
static const char *value_for(const OptionInfo *info) {
    if (strcmp(info->flag, "promote") == 0)
        return "=auto";
    if (strcmp(info->flag, "fence") == 0)
        return "=locks";
    if (strcmp(info->flag, "tablespace-map") == 0)
        return "=a=b";
    if (strcmp(info->flag, "config") == 0)
        return "=/dev/null";
    return info->kind == OPTION_INT ? "=30" : info->kind == OPTION_FLAG ? "" : "=8MB";
}

/* By each command that takes it, and refused by the others. */
/* By another option than the one that is looked at. */
static bool is_letter_taken(const Command *command, char letter) {
    for (size_t at = 0; at < option_infos_count; at++)
        if (option_infos[at].short_flag == letter && command_takes(command, &option_infos[at]))
            return true;
    return false;
}

static void test_every_option_is_known(void **state) {
    static const char *const lines[] = {"migrate a b --follow", "promote",         "status",        "abort",
                                        "tokens list",          "keys list",       "profiles list", "jobs list",
                                        "objects list",         "operations list", "apply"};
    Fixture *fixture = *state;
    for (size_t line = 0; line < COUNT_OF(lines); line++) {
        const Command *command = command_find(arena_strndup(fixture->arena, lines[line], strcspn(lines[line], " ")));
        for (size_t at = 0; at < option_infos_count; at++) {
            const OptionInfo *info = &option_infos[at];
            const char *value = value_for(info);
            bool follows = strcmp(info->flag, "schema-only") != 0 && strcmp(info->flag, "data-only") != 0;
            bool wanted = command_takes(command, info);
            const char *words = follows ? lines[line] : "migrate a b";
            if (!follows && line > 0)
                continue;
            if (parse(fixture, arena_printf(fixture->arena, "%s --%s%s", words, info->flag, value)) != wanted)
                fail_msg("%s --%s: %s", words, info->flag, fixture->err.message);
            if (info->short_flag != 0 && (wanted || !is_letter_taken(command, info->short_flag)) &&
                parse(fixture, arena_printf(fixture->arena, "%s -%c%s", words, info->short_flag,
                                            value + (value[0] == '=' ? 1 : 0))) != wanted)
                fail_msg("%s -%c: %s", words, info->short_flag, fixture->err.message);
        }
    }
}

static void test_job_commands(void **state) {
    Fixture *fixture = *state;
    setenv("PGCRANE_SOURCE", "env-src", 1);
    setenv("PGCRANE_FENCE", "locks", 1);
    setenv("PGCRANE_JOBS", "7", 1);
    const MigrateOptions *options = parsed(fixture, "promote 3f9 --lag-limit=5 --dry-run");
    unsetenv("PGCRANE_FENCE");
    assert_string_equal(fixture->arguments.job, "3f9");
    assert_string_equal(options->source, "env-src");
    assert_null(options->dest);

    /* Only what was given, and what this command takes, goes onto the options of a job. */
    CLEANUP(json_freep) json_t *given = arguments_given(&fixture->arguments, "Promote");
    CLEANUP(json_freep) json_t *wanted = json_pack("{s:s, s:i, s:b}", "fence", "locks", "lag_limit", 5, "dry_run", 1);
    assert_true(json_equal(given, wanted));
    MigrateOptions job;
    options_init(&job);
    job.fence_timeout = 77;
    assert_true(arguments_apply(fixture->arena, &fixture->arguments, &job, &fixture->err));
    assert_string_equal(job.fence, "locks");
    assert_int_equal(job.lag_limit, 5);
    assert_int_equal(job.fence_timeout, 77);
    assert_int_equal(job.jobs, 0);

    parsed(fixture, "status");
    assert_null(fixture->arguments.job);
    refused(fixture, "status a b", "1 arguments too many: only JOB is expected");
    refused(fixture, "abort --fence=none", "--fence");
    assert_string_equal(fixture->err.remedy, "see pgcrane abort --help");
}

static void test_environment(void **state) {
    setenv("PGCRANE_SOURCE", "env-src", 1);
    setenv("PGCRANE_DEST", "env-dst", 1);
    setenv("PGCRANE_JOBS", "7", 1);
    setenv("PGCRANE_SCHEMA", "a,b", 1);
    setenv("PGCRANE_VACUUM", "true", 1);
    const MigrateOptions *options = parsed(*state, "migrate");
    assert_string_equal(options->source, "env-src");
    assert_string_equal(options->dest, "env-dst");
    assert_int_equal(options->jobs, 7);
    assert_int_equal(options->schemas.len, 2);
    assert_true(options->vacuum);

    options = parsed(*state, "migrate arg-src -j 2 -n only --vacuum=false");
    assert_string_equal(options->source, "arg-src");
    assert_string_equal(options->dest, "env-dst");
    assert_int_equal(options->jobs, 2);
    assert_int_equal(options->schemas.len, 1);
    assert_string_equal(options->schemas.items[0], "only");
    assert_false(options->vacuum);
}

static void test_refused(void **state) {
    refused(*state, "migrate", "SOURCE is missing");
    refused(*state, "migrate src", "DEST is missing");
    refused(*state, "migrate src dst more", "1 arguments too many");
    refused(*state, "migrate src dst --nonsense", "--nonsense");
    refused(*state, "migrate src dst --nonsense=word", "--nonsense");
    refused(*state, "migrate src dst -Z", "-Z");
    refused(*state, "migrate src dst --jobs", "--jobs needs an argument");
    refused(*state, "migrate src dst -j", "-j needs an argument");
    refused(*state, "migrate src dst --jobs=many", "jobs");
    refused(*state, "migrate src dst --schema-only --data-only", "data-only");
}

/* A letter, and an option, mean what the command makes of them. */
static void test_commands_of_the_service(void **state) {
    Fixture *fixture = *state;
    const MigrateOptions *options = &fixture->arguments.options;
    assert_true(parse(fixture, "jobs logs shop -f -o json"));
    assert_true(options->stream);
    assert_false(options->follow);
    assert_string_equal(options->output, "json");
    assert_int_equal(fixture->arguments.words.len, 2);
    assert_true(parse(fixture, "apply -f file.yaml --yes"));
    assert_string_equal(options->file, "file.yaml");
    assert_true(options->yes);
    assert_true(parse(fixture, "migrate a b -f"));
    assert_true(options->follow);
    refused(fixture, "migrate a b --server=x", "--server");
    refused(fixture, "profiles list --jobs=2", "--jobs");
    assert_true(parse(fixture, "jobs list"));
    assert_string_equal(options->server, "http://127.0.0.1:8432");
    assert_string_equal(options->project, "pgcrane");
    assert_string_equal(options->location, "local");
}

/* Lists are split at commas, and a flag replaces them. */
static void test_lists_of_commands_of_the_service(void **state) {
    Fixture *fixture = *state;
    const StringVec *databases = &fixture->arguments.options.databases;
    setenv("PGCRANE_DATABASE", "a,,b", 1);
    assert_true(parse(fixture, "jobs create x y z"));
    assert_int_equal(databases->len, 2);
    assert_string_equal(databases->items[1], "b");
    assert_true(parse(fixture, "jobs create x y z --database c --database d,e"));
    assert_int_equal(databases->len, 2);
    assert_string_equal(databases->items[1], "d,e"); /* a name may hold a comma */
    unsetenv("PGCRANE_DATABASE");
}

static void find_verb(Fixture *fixture, const char *line, const char *problem) {
    const Verb *verb = NULL;
    if (!parse(fixture, line))
        fail_msg("%s: %s", line, fixture->err.message);
    bool found = verb_find(fixture->arena, command_find(fixture->argv[0]), &fixture->arguments, &verb, &fixture->err);
    assert_int_equal(found, problem == NULL);
    if (found)
        assert_string_equal(verb->name, fixture->arguments.words.items[0]);
    else if (strstr(fixture->err.message, problem) == NULL)
        fail_msg("%s: %s", line, fixture->err.message);
}

static void test_verbs(void **state) {
    Fixture *fixture = *state;
    find_verb(fixture, "profiles list --filter=a", NULL);
    find_verb(fixture, "profiles create x uri --host h --output yaml", NULL);
    find_verb(fixture, "profiles create x", NULL);
    find_verb(fixture, "profiles", "the verb is missing");
    find_verb(fixture, "profiles nonsense", "no verb \"nonsense\"");
    find_verb(fixture, "profiles create", "takes ID [URI], and 0 words are given");
    find_verb(fixture, "profiles create a b c", "and 3 words are given");
    find_verb(fixture, "profiles list a", "takes no word, and 1 word is given");
    find_verb(fixture, "profiles list --host h", "profiles list does not take --host");
    find_verb(fixture, "tokens list --role viewer", NULL); /* its verbs do not say which options are theirs */
    setenv("PGCRANE_HOST", "h", 1);
    find_verb(fixture, "profiles list", NULL); /* meant for others */
    unsetenv("PGCRANE_HOST");
}

static void test_errors_show_no_values(void **state) {
    Fixture *fixture = *state;
    refused(fixture, "migrate a b password=hush", "too many");
    assert_null(strstr(fixture->err.message, "hush"));
    refused(fixture, "migrate a b --password=hush", "--password");
    assert_null(strstr(fixture->err.message, "hush"));
}

static void test_help_wins(void **state) {
    Fixture *fixture = *state;
    setenv("PGCRANE_JOBS", "nonsense", 1);
    assert_true(parse(fixture, "migrate --help"));
    assert_true(fixture->arguments.help);
    assert_true(parse(fixture, "migrate -h"));
    assert_true(fixture->arguments.help);
    refused(fixture, "migrate a b", "environment");
}

static void test_resume_command(void **state) {
    Fixture *fixture = *state;
    setenv("PGCRANE_SOURCE", "x", 1);
    setenv("PGCRANE_DEST", "y", 1);
    give(fixture, "migrate --restart -j 2 postgresql://u:pw@h/d --rest -n a* host=h --restart=true -- password=pw");
    assert_string_equal(arguments_resume_command(fixture->arena, fixture->argc, fixture->argv),
                        "pgcrane migrate -j 2 'postgresql://u:**@h/d' -n 'a*' host=h -- 'password=**'");
    assert_string_equal(fixture->argv[4], "postgresql://u:**@h/d");
    assert_null(getenv("PGCRANE_SOURCE"));
    assert_null(getenv("PGCRANE_DEST"));
    setenv("PGCRANE_RESTART", "true", 1);
    give(fixture, "migrate a b");
    assert_string_equal(arguments_resume_command(fixture->arena, fixture->argc, fixture->argv),
                        "pgcrane migrate a b --restart=false");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flags_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_option_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_job_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commands_of_the_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_of_commands_of_the_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verbs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_show_no_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_help_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume_command, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
