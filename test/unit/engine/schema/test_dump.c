/* schema_dump() with a script in pg_dump's place: what it is given, what is left behind, how its failures read. */
#include "engine/schema/dump.h"

#include "common/arena.h"
#include "common/fd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { OUTPUT_MAX = 1024 * 1024 };

typedef struct Fixture {
    Arena *arena;
    char work_dir[64];
    SchemaDump dump;
    Buf out;
    Error err;
} Fixture;

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    f->arena = arena_new();
    memcpy(f->work_dir, "/tmp/pgcrane-test-XXXXXX", sizeof("/tmp/pgcrane-test-XXXXXX"));
    assert_non_null(mkdtemp(f->work_dir));
    buf_init(&f->out, OUTPUT_MAX);
    buf_append_str(&f->out, "before:");
    f->dump = (SchemaDump){
        .pg_dump = arena_printf(f->arena, "%s/pg_dump", f->work_dir),
        .conninfo = "host=h.invalid user=u password=secret-word dbname=d options='-c geqo=off'",
        .snapshot_id = "00000003-1",
    };
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;
    assert_true(fd_remove_tree(f->work_dir, &err));
    buf_fini(&f->out);
    arena_free(f->arena);
    free(f);
    return 0;
}

static void script(Fixture *f, const char *body) {
    char *text = arena_printf(f->arena, "#!/bin/sh\n%s\n", body);
    assert_true(fd_write_file(f->dump.pg_dump, text, strlen(text), 0700, &f->err));
}

static void assert_has(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        fail_msg("not in the text: %s\n--- text:\n%s", part, text);
}

static void passes_parameters_in_a_file_without_a_name(void **state) {
    Fixture *f = *state;
    script(f, "echo args: \"$@\"; echo \"file $PGSERVICEFILE\"; cat \"$PGSERVICEFILE\"");
    if (!schema_dump(&f->dump, NULL, &f->out, &f->err))
        fail_msg("%s", f->err.message);
    assert_true(strncmp(f->out.data, "before:args: ", 13) == 0);
    assert_has(f->out.data, "--snapshot=00000003-1");
    assert_has(f->out.data, "--section=pre-data --section=post-data");
    assert_has(f->out.data, "--exclude-schema=pgcrane");
    assert_has(f->out.data, "--dbname=service=pgcrane");
    assert_has(f->out.data, "\nfile /dev/fd/");
    assert_has(f->out.data, "\npassword=secret-word\n");
    assert_has(f->out.data, "\noptions=-c geqo=off -c standard_conforming_strings=on ");
    const char *args_end = strchr(f->out.data, '\n');
    const char *secret = strstr(f->out.data, "secret-word");
    assert_true(secret > args_end);
}

static void the_password_is_not_in_the_environment(void **state) {
    Fixture *f = *state;
    script(f, "env");
    assert_true(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_has(f->out.data, "PGSERVICEFILE=");
    assert_null(strstr(f->out.data, "secret-word"));
}

static void options_are_added_where_there_are_none(void **state) {
    Fixture *f = *state;
    f->dump.conninfo = "host=h.invalid user=u dbname=d";
    unsetenv("PGOPTIONS");
    script(f, "cat \"$PGSERVICEFILE\"");
    assert_true(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_has(f->out.data, "\noptions=-c standard_conforming_strings=on ");
}

/* libpq 13 knows no sslsni, and refuses the file. */
static void newer_parameters_go_only_when_they_say_something(void **state) {
    Fixture *f = *state;
    script(f, "cat \"$PGSERVICEFILE\"");
    assert_true(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_null(strstr(f->out.data, "\nsslsni="));
    assert_null(strstr(f->out.data, "\nchannel_binding="));
    f->dump.conninfo = "host=h.invalid user=u dbname=d channel_binding=require sslsni=0";
    assert_true(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_has(f->out.data, "\nsslsni=0\n");
    assert_has(f->out.data, "\nchannel_binding=require\n");
}

static void failures_say_what_pg_dump_said(void **state) {
    Fixture *f = *state;
    static const struct {
        const char *said;
        const char *message, *remedy;
        bool retryable;
    } cases[] = {
        {"pg_dump: warning: x\npg_dump: error: query failed: ERROR:  permission denied for table t\n"
         "pg_dump: detail: Query was: LOCK TABLE s.t IN ACCESS SHARE MODE\n",
         "definitions: query failed: ERROR:  permission denied for table t", "GRANT SELECT", false},
        {"pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n", "statement timeout",
         "pg_blocking_pids", true},
        {"pg_dump: error: query failed: ERROR:  out of shared memory\nHINT:  y\n", "out of shared memory",
         "max_locks_per_transaction", false},
        {"pg_dump: error: query failed: ERROR:  permission denied for schema s\n", "permission denied for schema s",
         "GRANT USAGE ON SCHEMA", false},
        {"pg_dump: error: aborting because of server version mismatch\n", "version mismatch", "--pg-bindir", false},
        {"pg_dump: error: query failed: ERROR:  invalid snapshot identifier: \"x\"\n", "snapshot", "again", true},
        {"something else\n", "status 3: something else", "", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        script(f, arena_printf(f->arena, "echo half an archive; cat >&2 <<'EOT'\n%sEOT\nexit 3", cases[i].said));
        assert_false(schema_dump(&f->dump, NULL, &f->out, &f->err));
        assert_int_equal(f->err.reason, REASON_CLIENT_FAILED);
        assert_has(f->err.message, cases[i].message);
        assert_has(f->err.remedy, cases[i].remedy);
        assert_int_equal(f->err.retryable, cases[i].retryable);
        assert_string_equal(f->out.data, "before:"); /* untouched on failure */
        assert_int_equal(f->out.len, strlen("before:"));
    }
}

static void goes_on_without_options_behind_a_pooler(void **state) {
    Fixture *f = *state;
    script(f, "if grep -q conforming \"$PGSERVICEFILE\"; then\n"
              "echo 'pg_dump: error: FATAL:  unsupported startup parameter: options' >&2; exit 1\nfi\n"
              "cat \"$PGSERVICEFILE\"");
    if (!schema_dump(&f->dump, NULL, &f->out, &f->err))
        fail_msg("%s", f->err.message);
    assert_has(f->out.data, "before:[pgcrane]\n");
    assert_has(f->out.data, "\noptions=-c geqo=off\n");
}

static void a_database_without_encoding_gives_its_bytes(void **state) {
    Fixture *f = *state;
    script(f, "case \"$*\" in *--encoding=UTF8*)\n"
              "echo 'pg_dump: error: ERROR:  invalid byte sequence for encoding \"UTF8\": 0xe4' >&2; exit 1;;\nesac\n"
              "echo \"$*\"");
    if (!schema_dump(&f->dump, NULL, &f->out, &f->err))
        fail_msg("%s", f->err.message);
    assert_has(f->out.data, "--encoding=SQL_ASCII");
    /* each way once: a failure that stays ends it */
    script(f, "echo 'pg_dump: error: ERROR:  invalid byte sequence for encoding \"UTF8\": 0xe4' >&2; exit 1");
    assert_false(schema_dump(&f->dump, NULL, &f->out, &f->err));
}

static void what_cannot_start_is_an_error(void **state) {
    Fixture *f = *state;
    f->dump.pg_dump = "/nowhere/pg_dump";
    assert_false(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_has(f->err.message, "/nowhere/pg_dump");
    f->dump.conninfo = "no such parameter=1";
    assert_false(schema_dump(&f->dump, NULL, &f->out, &f->err));
    assert_int_equal(f->err.reason, REASON_BAD_CONNINFO);
}

static void a_stop_ends_it(void **state) {
    Fixture *f = *state;
    Stop stop;
    assert_true(stop_init(&stop, &f->err));
    stop_request(&stop);
    script(f, "exec sleep 1000");
    assert_false(schema_dump(&f->dump, &stop, &f->out, &f->err));
    assert_int_equal(f->err.reason, REASON_CANCELLED);
    stop_fini(&stop);
}

int main(void) {
#define DUMP_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        DUMP_TEST(passes_parameters_in_a_file_without_a_name),
        DUMP_TEST(the_password_is_not_in_the_environment),
        DUMP_TEST(options_are_added_where_there_are_none),
        DUMP_TEST(newer_parameters_go_only_when_they_say_something),
        DUMP_TEST(failures_say_what_pg_dump_said),
        DUMP_TEST(goes_on_without_options_behind_a_pooler),
        DUMP_TEST(a_database_without_encoding_gives_its_bytes),
        DUMP_TEST(what_cannot_start_is_an_error),
        DUMP_TEST(a_stop_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
