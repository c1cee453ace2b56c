/* The store in an SQLite file: threads and processes that race, kills, files that are full, locked, damaged or foreign,
 * and the clock. What both backends must do alike is in test/integration/test_store.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "store/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 6, PROCESSES = 4, TURNS = 15 };

typedef struct Fixture {
    char folder[64], path[96];
    Stop stop;
    Store *store;
    Arena *arena;
} Fixture;

static bool open_at(Fixture *f, const char *path, int64_t patience_us, Store **ret_store, Error *err) {
    const StoreConfig config = {.backend = STORE_SQLITE, .where = path, .stop = &f->stop, .patience_us = patience_us};

    return store_open(&config, ret_store, err);
}

static int set_up(void **state) {
    Fixture *f = calloc(1, sizeof(*f));
    Error err;

    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/pgcrane-store-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    assert_true(stop_init(&f->stop, &err));
    f->arena = arena_new();
    *state = f;
    return 0;
}

static int set_up_open(void **state) {
    Error err;

    set_up(state);
    Fixture *f = *state;
    if (!open_at(f, f->path, 20 * USEC_PER_SEC, &f->store, &err))
        fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state) {
    Fixture *f = *state;
    Error err;

    unsetenv("PGCRANE_FAILPOINT");
    store_close(f->store);
    arena_free(f->arena);
    stop_fini(&f->stop);
    assert_true(fd_remove_tree(f->folder, &err));
    free(f);
    return 0;
}

/* --- bodies --- */

typedef struct Increment {
    const char *name;
    int64_t version;
    int runs;
} Increment;

static bool increment(StoreTx *tx, void *context, Error *err) {
    Increment *work = context;
    StoreResource resource;
    char body[32];

    work->runs++;
    if (!store_get(tx, work->name, &resource, err))
        return false;
    (void)snprintf(body, sizeof(body), "%ld", strtol(resource.body, NULL, 10) + 1);
    resource.body = body;
    if (!store_update(tx, &resource, err))
        return false;
    work->version = resource.version;
    return true;
}

static bool create(StoreTx *tx, void *context, Error *err) {
    StoreResource resource = {.kind = STORE_MIGRATION_JOB, .name = context, .body = "0"};

    return store_create(tx, &resource, err);
}

static bool get(StoreTx *tx, void *context, Error *err) {
    StoreResource *resource = context;

    return store_get(tx, resource->name, resource, err);
}

static char counter[] = "counter";

static long count_of(Fixture *f, Store *store) {
    StoreResource resource = {.name = counter};
    Error err;

    if (!store_read(store, f->arena, get, &resource, &err))
        fail_msg("%s", err.message);
    return strtol(resource.body, NULL, 10);
}

static void make_counter(Fixture *f) {
    Error err;

    if (!store_write(f->store, f->arena, create, counter, &err))
        fail_msg("%s", err.message);
}

/* --- threads --- */

static void *increment_often(void *context) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Fixture *f = context;
    Error err;

    for (int i = 0; i < TURNS; i++) {
        Increment work = {.name = counter};
        StoreResource seen = {.name = counter};
        if (!store_write(f->store, arena, increment, &work, &err) || !store_read(f->store, arena, get, &seen, &err))
            return arena; /* not NULL: failed */
        if (seen.version < work.version)
            return f; /* does not read what it wrote */
    }
    return NULL;
}

static void test_threads(void **state) {
    Fixture *f = *state;
    pthread_t threads[THREADS];

    make_counter(f);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, increment_often, f), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = f;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_int_equal(count_of(f, f->store), THREADS * TURNS);
}

static bool nested(StoreTx *tx, void *context, Error *err) {
    Fixture *f = context;
    StoreResource seen = {.name = counter};

    (void)tx;
    return store_read(f->store, f->arena, get, &seen, err);
}

static void test_nested_is_refused(void **state) {
    Fixture *f = *state;
    Error err;

    make_counter(f);
    assert_false(store_write(f->store, f->arena, nested, f, &err));
    assert_int_equal(err.reason, REASON_INTERNAL);
    assert_int_equal(count_of(f, f->store), 0);
}

/* --- processes: each opens the file anew, nothing is carried over fork() --- */

typedef void (*ChildFunc)(Fixture *f, Store *store, int number);

static pid_t start_child(Fixture *f, ChildFunc run, int number) {
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        Store *store = NULL;
        Error err;
        if (!open_at(f, f->path, 20 * USEC_PER_SEC, &store, &err))
            _exit(90);
        run(f, store, number);
        _exit(0);
    }
    return pid;
}

static int wait_child(pid_t pid) {
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void close_store(Fixture *f) {
    store_closep(&f->store);
}

static void open_again(Fixture *f) {
    Error err;

    if (!open_at(f, f->path, 20 * USEC_PER_SEC, &f->store, &err))
        fail_msg("%s", err.message);
}

static void child_increments(Fixture *f, Store *store, int number) {
    Error err;

    (void)number;
    for (int i = 0; i < TURNS; i++) {
        Increment work = {.name = counter};
        if (!store_write(store, f->arena, increment, &work, &err))
            _exit(91);
    }
}

static void test_processes(void **state) {
    Fixture *f = *state;
    pid_t children[PROCESSES];

    make_counter(f);
    close_store(f);
    for (int i = 0; i < PROCESSES; i++)
        children[i] = start_child(f, child_increments, i);
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(wait_child(children[i]), 0);
    open_again(f);
    assert_int_equal(count_of(f, f->store), PROCESSES * TURNS);
}

static bool acquire(StoreTx *tx, void *context, Error *err) {
    StoreLease *lease = context;
    bool acquired = false;

    if (!store_lease_acquire(tx, "lease", lease->node, 60 * USEC_PER_SEC, lease, &acquired, err))
        return false;
    lease->epoch = acquired ? lease->epoch : 0;
    return true;
}

/* Ends with 1 for the name and 2 for the lease, if it got them. */
static void child_races(Fixture *f, Store *store, int number) {
    char node[16], name[] = "wanted";
    Error err;

    (void)snprintf(node, sizeof(node), "n%d", number);
    StoreLease lease = {.node = node};
    bool created = store_write(store, f->arena, create, name, &err);
    if (!created && err.reason != REASON_NAME_TAKEN)
        _exit(92);
    if (!store_write(store, f->arena, acquire, &lease, &err))
        _exit(93);
    _exit((created ? 1 : 0) + (lease.epoch > 0 ? 2 : 0));
}

static void test_one_name_and_one_lease(void **state) {
    Fixture *f = *state;
    pid_t children[PROCESSES];
    int names = 0, leases = 0;

    close_store(f);
    for (int i = 0; i < PROCESSES; i++)
        children[i] = start_child(f, child_races, i);
    for (int i = 0; i < PROCESSES; i++) {
        int code = WEXITSTATUS(wait_child(children[i]));
        assert_true(code < 4);
        names += code & 1;
        leases += code >> 1;
    }
    assert_int_equal(names, 1);
    assert_int_equal(leases, 1);
}

#ifdef PGCRANE_FAILPOINTS

static void child_dies(Fixture *f, Store *store, int number) {
    Increment work = {.name = counter};
    Error err;

    setenv("PGCRANE_FAILPOINT", number == 0 ? "store.before_commit:kill" : "store.after_commit:kill", 1);
    (void)!store_write(store, f->arena, increment, &work, &err);
    _exit(94);
}

static void test_killed(void **state) {
    Fixture *f = *state;

    make_counter(f);
    close_store(f);
    for (int i = 0; i < 2; i++) {
        int status = wait_child(start_child(f, child_dies, i));
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        open_again(f);
        assert_int_equal(count_of(f, f->store), i);
        close_store(f);
    }
}

#endif

static void child_never_ends(Fixture *f, Store *store, int number) {
    for (;;)
        child_increments(f, store, number);
}

static void test_killed_somewhere(void **state) {
    Fixture *f = *state;
    long before = 0;

    make_counter(f);
    close_store(f);
    for (int i = 0; i < 8; i++) {
        pid_t child = start_child(f, child_never_ends, i);
        clock_sleep_us((20 + 17 * i) * USEC_PER_MSEC);
        assert_int_equal(kill(child, SIGKILL), 0);
        wait_child(child);
        open_again(f); /* looks at every page */
        long now = count_of(f, f->store);
        assert_true(now >= before);
        before = now;
        close_store(f);
    }
}

/* --- fail points, as the caller sees them --- */

#ifdef PGCRANE_FAILPOINTS

static void test_failpoints(void **state) {
    Fixture *f = *state;
    Increment work = {.name = counter};
    Error err;

    make_counter(f);
    setenv("PGCRANE_FAILPOINT", "store.before_commit:error", 1);
    assert_false(store_write(f->store, f->arena, increment, &work, &err));
    unsetenv("PGCRANE_FAILPOINT");
    assert_int_equal(count_of(f, f->store), 0);
    setenv("PGCRANE_FAILPOINT", "store.after_commit:error", 1);
    assert_false(store_write(f->store, f->arena, increment, &work, &err));
    unsetenv("PGCRANE_FAILPOINT");
    assert_int_equal(count_of(f, f->store), 1);
    assert_int_equal(work.runs, 2); /* neither was run again by itself */
}

#endif

/* --- a body that does not look --- */

static void raw(const char *path, const char *sql) {
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

static bool ignore_failure(StoreTx *tx, void *context, Error *err) {
    StoreAudit audit = {.who = "me"};
    Error ignored;

    assert_false(store_audit_append(tx, &audit, &ignored));
    assert_false(create(tx, context, err));
    return true;
}

static void test_a_failure_cannot_be_ignored(void **state) {
    Fixture *f = *state;
    char name[] = "made";
    StoreResource made = {.name = name};
    Error err;

    raw(f->path, "DROP TABLE audit");
    assert_false(store_write(f->store, f->arena, ignore_failure, name, &err));
    assert_int_equal(err.reason, REASON_INTERNAL);
    assert_false(store_read(f->store, f->arena, get, &made, &err));
    assert_int_equal(err.reason, REASON_NO_RESOURCE);
}

/* --- a full disk --- */

static bool fill(StoreTx *tx, void *context, Error *err) {
    StoreResource resource = {.kind = STORE_MIGRATION_JOB, .name = context};
    char *body = calloc(1, 300001);

    memset(body, 'x', 300000);
    resource.body = body;
    bool good = store_create(tx, &resource, err);
    free(body);
    return good;
}

static void child_fills(Fixture *f, Store *store, int number) {
    const struct rlimit limit = {1500000, 1500000};
    Increment work = {.name = counter};
    char name[16];
    Error err;

    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(95);
    for (number = 0; number < 20; number++) {
        (void)snprintf(name, sizeof(name), "big%d", number);
        if (!store_write(store, f->arena, fill, name, &err))
            break;
    }
    if (number == 20 || number == 0 || err.reason != REASON_STORE_FULL)
        _exit(96);
    StoreResource last = {.name = name};
    if (store_read(store, f->arena, get, &last, &err) || err.reason != REASON_NO_RESOURCE)
        _exit(97); /* half of it is there */
    (void)snprintf(name, sizeof(name), "big%d", number - 1);
    if (!store_read(store, f->arena, get, &last, &err))
        _exit(98); /* what was answered is not */
    (void)!store_write(store, f->arena, increment, &work, &err);
}

static void test_full_disk(void **state) {
    Fixture *f = *state;

    make_counter(f);
    close_store(f);
    assert_int_equal(wait_child(start_child(f, child_fills, 0)), 0);
    open_again(f); /* with room again */
    Increment work = {.name = counter};
    Error err;
    assert_true(store_write(f->store, f->arena, increment, &work, &err));
    assert_true(count_of(f, f->store) >= 1);
}

/* --- files that are not what they should be --- */

static void expect_refused(Fixture *f, const char *path, ErrorReason reason) {
    Store *store = NULL;
    Error err;

    assert_false(open_at(f, path, 100 * USEC_PER_MSEC, &store, &err));
    if (err.reason != reason)
        fail_msg("%s: %s", error_reason_name(err.reason), err.message);
    assert_non_null(strstr(err.message, path));
    assert_true(err.remedy[0] != '\0');
    assert_null(store);
}

static void write_at(const char *path, off_t offset, const void *bytes, size_t len) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, offset), len);
    close(fd);
}

static void test_foreign_files(void **state) {
    Fixture *f = *state;
    char text[5000], content[5000];

    memset(text, 'n', sizeof(text));
    write_at(f->path, 0, text, sizeof(text));
    expect_refused(f, f->path, REASON_STORE_FOREIGN);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(read(fd, content, sizeof(content)), sizeof(content));
    assert_memory_equal(content, text, sizeof(text)); /* untouched */
    close(fd);
    expect_refused(f, f->folder, REASON_STORE_FOREIGN);
    expect_refused(f, "/nowhere/at/all/store.db", REASON_STORE_UNAVAILABLE);
}

static void test_newer_schema(void **state) {
    Fixture *f = *state;

    close_store(f);
    raw(f->path, "PRAGMA user_version = 1000");
    expect_refused(f, f->path, REASON_STORE_NEWER);
}

static void test_other_application(void **state) {
    Fixture *f = *state;

    close_store(f);
    raw(f->path, "PRAGMA application_id = 7");
    expect_refused(f, f->path, REASON_STORE_FOREIGN);
}

static void test_damaged_file(void **state) {
    Fixture *f = *state;
    char noise[4096];
    struct stat file;

    make_counter(f);
    close_store(f);
    assert_int_equal(stat(f->path, &file), 0);
    memset(noise, 0x5a, sizeof(noise));
    for (off_t page = 2; page < file.st_size / 4096; page++)
        write_at(f->path, page * 4096, noise, sizeof(noise));
    expect_refused(f, f->path, REASON_STORE_DAMAGED);
}

static void test_read_only_file(void **state) {
    Fixture *f = *state;

    close_store(f);
    assert_int_equal(chmod(f->path, 0400), 0);
    assert_int_equal(chmod(f->folder, 0755), 0);
    pid_t pid = fork();
    if (pid == 0) {
        Store *store = NULL;
        Error err;
        if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(99);
        bool opened = open_at(f, f->path, 100 * USEC_PER_MSEC, &store, &err);
        _exit(opened ? 1 : err.reason == REASON_STORE_READ_ONLY ? 0 : 2);
    }
    assert_int_equal(wait_child(pid), 0);
}

static void test_others_may_not_read(void **state) {
    Fixture *f = *state;
    struct stat file;

    close_store(f);
    assert_int_equal(chmod(f->path, 0644), 0);
    open_again(f);
    assert_int_equal(stat(f->path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
}

/* --- locks --- */

static void test_locked(void **state) {
    Fixture *f = *state;
    CLEANUP(store_closep) Store *hasty = NULL;
    sqlite3 *other = NULL;
    Error err;
    Increment work = {.name = counter};

    make_counter(f);
    assert_true(open_at(f, f->path, 200 * USEC_PER_MSEC, &hasty, &err));
    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    int64_t start = clock_now_us();
    assert_false(store_write(hasty, f->arena, increment, &work, &err));
    assert_int_equal(err.reason, REASON_STORE_LOCKED);
    assert_true(err.retryable);
    assert_true(clock_now_us() - start >= 200 * USEC_PER_MSEC);
    assert_int_equal(count_of(f, hasty), 0); /* reads go on */
    expect_refused(f, f->path, REASON_STORE_LOCKED);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_true(store_write(hasty, f->arena, increment, &work, &err));
    sqlite3_close(other);
}

static void test_stop_ends_waits(void **state) {
    Fixture *f = *state;
    sqlite3 *other = NULL;
    Increment work = {.name = counter};
    bool woken = false;
    Error err;

    make_counter(f);
    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    stop_request(&f->stop);
    int64_t start = clock_now_us();
    assert_false(store_write(f->store, f->arena, increment, &work, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    (void)!store_wait(f->store, 0, &woken, &err); /* the counter's creation woke */
    assert_false(store_wait(f->store, 0, &woken, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(clock_now_us() - start < 10 * USEC_PER_SEC);
    sqlite3_close(other);
}

/* --- the clock --- */

static bool beat(StoreTx *tx, void *context, Error *err) {
    const StoreNode node = {.id = "n", .ttl_us = 60 * USEC_PER_SEC};
    StoreNode *nodes = NULL, *ret = context;
    size_t count = 0;

    if (!store_node_beat(tx, &node, err) || !store_node_list(tx, &nodes, &count, err))
        return false;
    *ret = nodes[0];
    return true;
}

static int64_t store_time(Fixture *f) {
    StoreNode node;
    Error err;

    if (!store_write(f->store, f->arena, beat, &node, &err))
        fail_msg("%s", err.message);
    assert_true(node.is_alive);
    return node.beat_us;
}

static void test_clock_goes_on(void **state) {
    Fixture *f = *state;
    int64_t first = store_time(f);

    assert_true(llabs(first - clock_wall_us()) < 60 * USEC_PER_SEC);
    close_store(f);
    open_again(f);
    int64_t second = store_time(f);
    assert_true(second >= first && second - first < 60 * USEC_PER_SEC);
    /* Another start of the machine: wall time. */
    close_store(f);
    raw(f->path, "UPDATE store_clock SET boot = 'another', offset_us = 12345");
    open_again(f);
    int64_t third = store_time(f);
    assert_true(third >= second && third - second < 60 * USEC_PER_SEC);
    /* ... unless its wall clock is behind what was seen. */
    close_store(f);
    int64_t ahead = third + 1000 * USEC_PER_SEC;
    char sql[128];
    (void)snprintf(sql, sizeof(sql), "UPDATE store_clock SET boot = 'third', last_us = %" PRId64, ahead);
    raw(f->path, sql);
    open_again(f);
    assert_true(store_time(f) > ahead);
}

static void test_tidy(void **state) {
    Fixture *f = *state;
    char path[128];
    struct stat file;
    Error err;

    make_counter(f);
    (void)snprintf(path, sizeof(path), "%s-wal", f->path);
    assert_int_equal(stat(path, &file), 0);
    assert_true(file.st_size > 0);
    assert_true(store_tidy(f->store, &err));
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_size, 0);
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, set_up_open, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        OPENED(test_threads),
        OPENED(test_nested_is_refused),
        OPENED(test_a_failure_cannot_be_ignored),
        OPENED(test_processes),
        OPENED(test_one_name_and_one_lease),
#ifdef PGCRANE_FAILPOINTS
        OPENED(test_killed),
        OPENED(test_failpoints),
#endif
        OPENED(test_killed_somewhere),
        OPENED(test_full_disk),
        cmocka_unit_test_setup_teardown(test_foreign_files, set_up, tear_down),
        OPENED(test_newer_schema),
        OPENED(test_other_application),
        OPENED(test_damaged_file),
        OPENED(test_read_only_file),
        OPENED(test_others_may_not_read),
        OPENED(test_locked),
        OPENED(test_stop_ends_waits),
        OPENED(test_clock_goes_on),
        OPENED(test_tidy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
