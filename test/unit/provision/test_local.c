/* What of the local provider needs no server: settings by size and mode, folders without links, ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "provision/local/internal.h"
#include "provision/local/port.h"
#include "provision/local/settings.h"
#include "provision/local/tree.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The last one of that name counts, as for PostgreSQL; NULL = there is none. */
static const char *value_of(const SettingVec *settings, const char *name) {
    const char *value = NULL;

    for (size_t at = 0; at < settings->len; at++)
        if (strcmp(settings->items[at].name, name) == 0)
            value = settings->items[at].value;
    return value;
}

static void test_derived(void **state UNUSED) {
    static const Machine machine = {.cpus = 8, .memory_mb = 16384, .disk_mb = 100000};
    static const struct {
        ProvisionSpec spec;
        const char *name, *value;
    } cases[] = {
        {{.memory_mb = 4096}, "shared_buffers", "1024MB"},
        {{.memory_mb = 4096}, "effective_cache_size", "3072MB"},
        {{.memory_mb = 4096}, "work_mem", "8MB"},
        {{.memory_mb = 4096}, "max_connections", "128"},
        {{.memory_mb = 100}, "shared_buffers", "32MB"},        /* at least */
        {{.memory_mb = 1 << 30}, "shared_buffers", "65536MB"}, /* at most */
        {{.memory_mb = 1 << 30}, "maintenance_work_mem", "512MB"},
        {{0}, "shared_buffers", "1024MB"}, /* a quarter of the machine's */
        {{0}, "max_parallel_workers", "8"},
        {{.cpus = 1}, "max_parallel_workers", "2"},
        {{.cpus = 16}, "max_parallel_workers", "16"},
        {{.cpus = 16}, "max_worker_processes", "32"},
        {{.cpus = 16}, "max_parallel_workers_per_gather", "4"},
        {{0}, "max_wal_size", "5000MB"},
        {{.disk_mb = 1000}, "max_wal_size", "512MB"},
    };
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        SettingVec settings = {0};
        settings_derive(arena, &cases[at].spec, &machine, &settings);
        assert_string_equal(value_of(&settings, cases[at].name), cases[at].value);
    }
}

static void test_modes(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    SettingVec load = {0}, migrating = {0};

    settings_of_mode(arena, PROVISION_LOAD, 100000, &load);
    assert_string_equal(value_of(&load, "fsync"), "on");
    assert_string_equal(value_of(&load, "backend_flush_after"), "512kB");
    assert_string_equal(value_of(&load, "full_page_writes"), "on");
    assert_string_equal(value_of(&load, "wal_level"), "minimal");
    assert_string_equal(value_of(&load, "max_wal_senders"), "0");
    assert_string_equal(value_of(&load, "autovacuum"), "off");
    assert_string_equal(value_of(&load, "max_wal_size"), "25000MB");
    settings_of_mode(arena, PROVISION_MIGRATING, 100000, &migrating);
    assert_string_equal(value_of(&migrating, "fsync"), "on");
    assert_string_equal(value_of(&migrating, "full_page_writes"), "on");
    assert_null(value_of(&migrating, "wal_level")); /* the flags', or PostgreSQL's own */
    assert_null(value_of(&migrating, "max_wal_size"));
}

static void test_refusals(void **state UNUSED) {
    assert_non_null(settings_refusal("fsync"));
    assert_non_null(settings_refusal("FSync"));
    assert_non_null(settings_refusal("port"));
    assert_non_null(settings_refusal("archive_command"));
    assert_non_null(settings_refusal("log_filename")); /* of those that are fixed */
    assert_null(settings_refusal("work_mem"));
    assert_non_null(settings_refusal("autovacuum"));
    assert_null(settings_refusal("autovacuum_naptime"));
}

static void test_quotes(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    assert_string_equal(settings_quote(arena, ""), "''");
    assert_string_equal(settings_quote(arena, "it's"), "'it''s'");
    assert_string_equal(settings_quote(arena, "a\\n"), "'a\\\\n'");
}

/* ---- Folders ---- */

static void put_file(const char *path, size_t size) {
    char text[8192] = "";
    Error err;

    assert_true(size <= sizeof(text));
    assert_true(fd_write_file(path, text, size, 0600, &err));
}

static void test_tree(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char folder[] = "/tmp/pgcrane-unit-XXXXXX", outside[] = "/tmp/pgcrane-unit-XXXXXX";
    TreeFile *files = NULL;
    size_t count = 0;
    int64_t bytes = 0;
    Error err;

    assert_true(mkdtemp(folder) != NULL && mkdtemp(outside) != NULL);
    assert_true(fd_make_dirs(arena_printf(arena, "%s/a/b/c", folder), &err));
    put_file(arena_printf(arena, "%s/a/b/one", folder), 8192);
    put_file(arena_printf(arena, "%s/two", folder), 1);
    put_file(arena_printf(arena, "%s/precious", outside), 8192);
    assert_int_equal(symlink(outside, arena_printf(arena, "%s/a/link", folder)), 0);
    assert_int_equal(mkfifo(arena_printf(arena, "%s/fifo", folder), 0600), 0);
    assert_true(tree_size(folder, &bytes, &err));
    assert_true(bytes >= 8192 + 1 && bytes < 8192 * 8);
    assert_true(tree_list(arena, folder, false, &files, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(files[0].name, "two");
    assert_true(tree_list(arena, folder, true, &files, &count, &err));
    assert_int_equal(count, 1);
    assert_int_equal(tree_open_in(folder, "fifo"), -1);
    assert_int_equal(tree_open_in(arena_printf(arena, "%s/a", folder), "link"), -1);
    assert_true(tree_remove_in(folder, "two", &err));
    assert_true(tree_remove_in(folder, "two", &err)); /* gone already */
    assert_true(tree_remove(folder, &err));
    assert_true(tree_remove(folder, &err));
    assert_int_equal(access(folder, F_OK), -1);
    assert_int_equal(symlink(outside, folder), 0);
    assert_true(tree_remove(folder, &err)); /* the link alone */
    assert_int_equal(access(arena_printf(arena, "%s/precious", outside), F_OK), 0);
    assert_true(tree_remove(outside, &err));
    assert_true(tree_list(arena, outside, false, &files, &count, &err));
    assert_int_equal(count, 0);
    assert_false(tree_rename_in(outside, "a", "b", &err));
}

static void test_too_deep(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char folder[] = "/tmp/pgcrane-unit-XXXXXX";
    const char *path = folder;
    Error err;

    assert_non_null(mkdtemp(folder));
    for (int depth = 0; depth < 80; depth++)
        path = arena_printf(arena, "%s/d", path);
    assert_true(fd_make_dirs(path, &err));
    assert_false(tree_remove(folder, &err));
    assert_non_null(strstr(err.message, "deep"));
    assert_true(fd_remove_tree(folder, &err));
}

/* ---- Ports ---- */

static void test_port(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);

    assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    int port = ntohs(address.sin_port);
    assert_false(port_is_free(port));
    assert_non_null(strstr(port_holder(arena, port), arena_printf(arena, "process %d (", (int)getpid())));
    fd_close(&fd);
    assert_true(port_is_free(port));
    assert_string_equal(port_holder(arena, port), "another program");
}

/* Words of initdb, of several majors. */
static void test_hopeless(void **state UNUSED) {
    static const struct {
        const char *said;
        bool is;
    } cases[] = {
        {"initdb: error: invalid locale name \"xx_YY\"", true},
        {"initdb: error: encoding mismatch\ninitdb: detail: The encoding you selected (LATIN1) and ...", true},
        {"initdb: error: \"UTF-33\" is not a valid server encoding name", true},
        {"initdb: error: ICU locale must be specified", true},
        {"initdb: error: ICU is not supported in this build", true},
        {"/opt/13/bin/initdb: unrecognized option '--locale-provider=icu'\nTry \"initdb --help\"", true},
        {"FATAL:  could not open collator for locale \"x\": U_ILLEGAL_ARGUMENT_ERROR", true},
        {"FATAL:  could not write to file \"pg_wal/xlogtemp.31\": No space left on device", false},
        {"initdb: error: could not fsync file \"...\": Disk quota exceeded", false},
        {"FATAL:  could not map anonymous shared memory: Cannot allocate memory", false},
        {"FATAL:  could not create semaphores: No space left on device", false},
        {"initdb was killed by signal 9", false},
        {"initdb failed with status 1", false},
    };

    for (size_t at = 0; at < COUNT_OF(cases); at++)
        assert_int_equal(data_is_hopeless(cases[at].said), cases[at].is);
}

/* Words of the server, of several majors. */
static void test_start(void **state UNUSED) {
    static const struct {
        const char *said;
        bool may_pass;
    } cases[] = {
        {"FATAL:  could not access file \"pg_cron\": No such file or directory", false},
        {"postgres: superuser_reserved_connections (200) must be less than max_connections (100)", false},
        {"FATAL:  could not load DH parameters file: No such file or directory", false},
        {"FATAL:  configuration file \"/x/pgcrane.conf\" contains errors", false},
        {"FATAL:  could not map anonymous shared memory: Cannot allocate memory", true},
        {"FATAL:  could not create any TCP/IP sockets", true},
        {"FATAL:  could not create shared memory segment: No space left on device", true},
        {"FATAL:  could not create semaphores: No space left on device", true},
        {"FATAL:  lock file \"postmaster.pid\" already exists", true},
        {"FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use", true},
        {"FATAL:  could not write lock file \"postmaster.pid\": No space left on device", true},
    };

    for (size_t at = 0; at < COUNT_OF(cases); at++)
        assert_int_equal(server_start_may_pass(cases[at].said), cases[at].may_pass);
}

/* The flag that words are about. */
static void test_flags_named(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ProvisionSpec spec = {0};
    const Local local = {.arena = arena, .spec = &spec}, bare = {.arena = arena};
    static const ProvisionFlag flags[] = {
        {"ssl", "on"}, {"shared_preload_libraries", "auto_explain, pg_cron"}, {"ssl_dh_params_file", "/nope"}};

    for (size_t at = 0; at < COUNT_OF(flags); at++)
        vec_push(arena, &spec.flags, flags[at]);
    assert_string_equal(flags_named(&local, "could not access file \"pg_cron\": No such file"), flags[1].name);
    assert_string_equal(flags_named(&local, "could not open \"/nope\""), flags[2].name);
    assert_string_equal(flags_named(&local, "parameter \"SSL_DH_params_file\" cannot be so"), flags[2].name);
    assert_null(flags_named(&local, "could not access file \"pg_other\""));
    assert_null(flags_named(&local, "an unbalanced \" and \"\" nothing"));
    assert_null(flags_named(&bare, "could not access file \"pg_cron\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_derived),     cmocka_unit_test(test_modes),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_quotes),      cmocka_unit_test(test_tree),     cmocka_unit_test(test_too_deep),
        cmocka_unit_test(test_port),        cmocka_unit_test(test_hopeless), cmocka_unit_test(test_start),
        cmocka_unit_test(test_flags_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
