/* Descriptors, whole files and folders, each with the errors the system can be brought to give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "support/leaks.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char folder[64];

static int begin(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/pgcrane-test-fd-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : leaks_begin(state);
}

static int end(void **state) {
    Error err;
    return fd_remove_tree(folder, &err) && access(folder, F_OK) != 0 ? leaks_end(state) : -1;
}

static const char *inside(Arena *arena, const char *name) {
    return arena_printf(arena, "%s/%s", folder, name);
}

static void test_close(void **state UNUSED) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int copy = fd;
    errno = ENOSPC;
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
    fd_close(&fd); /* once more is nothing */
    errno = ENOSPC;
    int bad = 9999;
    fd_close(&bad);
    assert_int_equal(errno, ENOSPC);
}

static void test_file_and_back(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text, back;
    Error err;
    struct stat st;
    const char *path = inside(arena, "file");
    buf_init(&text, 1000000);
    buf_init(&back, 1000000);
    for (int i = 0; i < 100000; i++)
        buf_append(&text, "\0abc", 4);
    assert_true(fd_write_file(path, text.data, text.len, 0640, &err));
    assert_true(fd_read_file(path, &back, &err));
    assert_int_equal(back.len, text.len);
    assert_memory_equal(back.data, text.data, text.len);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_not_equal(access(inside(arena, "file.tmp"), F_OK), 0);

    /* A left-over with other rights does not lend them to the new file. */
    assert_true(fd_write_file(inside(arena, "file.tmp"), "old", 3, 0644, &err));
    assert_true(fd_write_file(path, "new", 3, 0600, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    buf_clear(&back);
    assert_true(fd_read_file(path, &back, &err));
    assert_string_equal(back.data, "new");
}

static void test_read_errors(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    Error err;
    buf_init(&text, 10);
    assert_false(fd_read_file(inside(arena, "none"), &text, &err));
    assert_non_null(strstr(err.message, "No such file"));
    assert_false(fd_read_file(folder, &text, &err));
    assert_non_null(strstr(err.message, "Is a directory"));
    assert_true(fd_write_file(inside(arena, "eleven"), "12345678901", 11, 0600, &err));
    assert_false(fd_read_file(inside(arena, "eleven"), &text, &err));
    assert_non_null(strstr(err.message, "larger than 10 bytes"));
}

static void test_write_errors(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;
    assert_false(fd_write_file(inside(arena, "none/file"), "x", 1, 0600, &err));
    assert_non_null(strstr(err.message, "cannot create"));
    assert_true(fd_make_dirs(inside(arena, "taken/sub"), &err));
    assert_false(fd_write_file(inside(arena, "taken"), "x", 1, 0600, &err));
    assert_non_null(strstr(err.message, "cannot rename"));
    assert_int_not_equal(access(inside(arena, "taken.tmp"), F_OK), 0);

    /* The temporary name may not be a link that leads elsewhere. */
    assert_true(fd_write_file(inside(arena, "victim"), "safe", 4, 0600, &err));
    assert_int_equal(symlink(inside(arena, "victim"), inside(arena, "link.tmp")), 0);
    assert_false(fd_write_file(inside(arena, "link"), "x", 1, 0600, &err));
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 10);
    assert_true(fd_read_file(inside(arena, "victim"), &text, &err));
    assert_string_equal(text.data, "safe");
}

static void test_disk_full(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;
    struct rlimit limit, old;
    const char *path = inside(arena, "full");
    assert_true(fd_write_file(path, "old", 3, 0600, &err));
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){.rlim_cur = 2, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    bool written = fd_write_file(path, "new text", 8, 0600, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_false(written);
    assert_non_null(strstr(err.message, "full.tmp"));
    assert_int_not_equal(access(inside(arena, "full.tmp"), F_OK), 0);
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 100);
    assert_true(fd_read_file(path, &text, &err));
    assert_string_equal(text.data, "old");
}

enum { MUCH = 1000000 };

static void *read_all(void *data) {
    static char bytes[4096];
    size_t *total = data;
    ssize_t got;
    int fd = (int)*total;
    *total = 0;
    while ((got = read(fd, bytes, sizeof(bytes))) > 0)
        *total += (size_t)got;
    return NULL;
}

static void test_write_all_waits(void **state UNUSED) {
    static char bytes[MUCH];
    int ends[2];
    Error err;
    pthread_t thread;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(fd_set_nonblocking(ends[1], &err));
    assert_true((fcntl(ends[1], F_GETFL) & O_NONBLOCK) != 0);
    /* Full before anybody reads: the first call below finds no room. */
    size_t filled = 0;
    ssize_t got;
    while ((got = write(ends[1], bytes, 4096)) > 0)
        filled += (size_t)got;
    size_t total = (size_t)ends[0];
    assert_int_equal(pthread_create(&thread, NULL, read_all, &total), 0);
    assert_true(fd_write_all(ends[1], bytes, MUCH, &err));
    fd_close(&ends[1]);
    pthread_join(thread, NULL);
    assert_int_equal(total, MUCH + filled);
    fd_close(&ends[0]);
}

static void test_bad_descriptor(void **state UNUSED) {
    Error err;
    assert_false(fd_set_nonblocking(-1, &err));
    assert_false(fd_write_all(-1, "x", 1, &err));
    assert_int_equal(err.reason, REASON_SYSTEM);
    assert_true(fd_write_all(-1, "", 0, &err)); /* nothing to do */
}

static void test_make_dirs(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;
    struct stat st;
    const char *path = inside(arena, "a/b//c");
    assert_true(fd_make_dirs(path, &err));
    assert_true(fd_make_dirs(path, &err));
    assert_true(fd_make_dirs(inside(arena, "a/d/"), &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_true(fd_write_file(inside(arena, "a/f"), "", 0, 0600, &err));
    assert_false(fd_make_dirs(inside(arena, "a/f"), &err));
    assert_non_null(strstr(err.message, "File exists"));
    assert_false(fd_make_dirs(inside(arena, "a/f/g"), &err));
}

static void test_remove_tree(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;
    assert_true(fd_make_dirs(inside(arena, "tree/x/y"), &err));
    assert_true(fd_make_dirs(inside(arena, "outside"), &err));
    assert_true(fd_write_file(inside(arena, "outside/kept"), "k", 1, 0600, &err));
    assert_true(fd_write_file(inside(arena, "tree/x/file"), "f", 1, 0400, &err));
    assert_int_equal(symlink(inside(arena, "outside"), inside(arena, "tree/link")), 0);
    assert_true(fd_remove_tree(inside(arena, "tree"), &err));
    assert_int_not_equal(access(inside(arena, "tree"), F_OK), 0);
    assert_int_equal(access(inside(arena, "outside/kept"), F_OK), 0); /* links are not followed */
    assert_true(fd_remove_tree(inside(arena, "tree"), &err));         /* gone is fine */
    assert_true(fd_remove_tree(inside(arena, "outside/kept"), &err)); /* a file is fine */
    assert_false(fd_remove_tree("/proc/self/comm", &err));
    assert_non_null(strstr(err.message, "/proc/self/comm"));
    assert_false(fd_remove_tree("", &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close),          cmocka_unit_test(test_file_and_back),
        cmocka_unit_test(test_read_errors),    cmocka_unit_test(test_write_errors),
        cmocka_unit_test(test_disk_full),      cmocka_unit_test(test_write_all_waits),
        cmocka_unit_test(test_bad_descriptor), cmocka_unit_test(test_make_dirs),
        cmocka_unit_test(test_remove_tree),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
