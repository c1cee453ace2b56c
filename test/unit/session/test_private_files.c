/* Files that only we may read: what is kept, what is removed behind whom, and what is not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "session/private_files.h"

#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Fixture {
    Arena *arena;
    char base[40];
} Fixture;

static int setup(void **state) {
    static const char pattern[] = "/tmp/pgcrane-private-XXXXXX";
    Fixture *this = calloc(1, sizeof(*this));
    this->arena = arena_new();
    memcpy(this->base, pattern, sizeof(pattern));
    *state = this;
    return mkdtemp(this->base) != NULL && setenv("RUNTIME_DIRECTORY", this->base, 1) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    Fixture *this = *state;
    Error err;
    bool removed = fd_remove_tree(this->base, &err);
    arena_free(this->arena);
    free(this);
    return removed ? 0 : -1;
}

static size_t count_files(const Fixture *this, const char *pattern) {
    glob_t found = {0};
    size_t count =
        glob(arena_printf(this->arena, "%s/%s", this->base, pattern), 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static const char *folder_of(const Fixture *this, const char *path) {
    char *folder = arena_strdup(this->arena, path);
    *strrchr(folder, '/') = '\0';
    return folder;
}

static PrivateFiles *write_one(const Fixture *this, const char **ret_path) {
    PrivateFiles *files = private_files_new("/session");
    Error err;
    if (!private_files_write(files, this->arena, "source-key", "hush", ret_path, &err))
        fail_msg("%s", err.message);
    return files;
}

/* A process that has written its file and waits to be ended. */
static pid_t start_other(const Fixture *this) {
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const char *path;
        PrivateFiles *files = write_one(this, &path);
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
        private_files_freep(&files);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void await_zombie(pid_t pid) {
    siginfo_t info;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(kill(pid, 0), 0); /* its number is still its own */
}

static void test_kept_and_removed(void **state) {
    const Fixture *this = *state;
    const char *path;
    PrivateFiles *files = write_one(this, &path);
    struct stat there, around;
    char text[8] = "";

    assert_int_equal(stat(path, &there), 0);
    assert_int_equal(there.st_mode & 0777, 0600);
    assert_int_equal(stat(folder_of(this, path), &around), 0);
    assert_int_equal(around.st_mode & 0777, 0700);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 4);
    close(fd);
    assert_string_equal(text, "hush");
    private_files_freep(&files);
    assert_null(files);
    assert_int_equal(count_files(this, "*"), 0);
}

static void test_nothing_written(void **state) {
    PrivateFiles *files = private_files_new("/session");
    assert_int_equal(count_files(*state, "*"), 0);
    private_files_freep(&files);
}

/* Nobody has waited for it: kill() finds it all the same. */
static void test_of_one_that_was_killed(void **state) {
    const Fixture *this = *state;
    pid_t other = start_other(this);

    assert_int_equal(count_files(this, "*/*.pem"), 1);
    await_zombie(other);
    PrivateFiles *files = private_files_new("/session");
    assert_int_equal(count_files(this, "*"), 0);
    private_files_freep(&files);
    assert_int_equal(waitpid(other, NULL, 0), other);
}

static void test_of_one_that_lives(void **state) {
    const Fixture *this = *state;
    pid_t other = start_other(this);
    const char *path;
    PrivateFiles *files = write_one(this, &path);

    assert_int_equal(count_files(this, "*/*.pem"), 2);
    private_files_freep(&files);
    assert_int_equal(count_files(this, "*/*.pem"), 1);
    assert_int_equal(count_files(this, arena_printf(this->arena, "*/source-key-%ld.pem", (long)other)), 1);
    assert_int_equal(kill(other, SIGKILL), 0);
    assert_int_equal(waitpid(other, NULL, 0), other);
}

/* Without a lock only the number is there to go by; ours can only be of somebody who had it before. */
static void test_without_a_lock(void **state) {
    const Fixture *this = *state;
    const char *path;
    PrivateFiles *files = write_one(this, &path);
    const char *folder = folder_of(this, path);
    pid_t gone = fork();
    const long of[] = {(long)getppid(), (long)gone, (long)getpid()};
    Error err;

    if (gone == 0)
        _exit(0);
    assert_int_equal(waitpid(gone, NULL, 0), gone);
    private_files_freep(&files);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (size_t at = 0; at < COUNT_OF(of); at++)
        assert_true(fd_write_file(arena_printf(this->arena, "%s/dest-ca-%ld.pem", folder, of[at]), "x", 1, 0600, &err));
    files = private_files_new("/session");
    assert_int_equal(count_files(this, "*/*"), 1);
    assert_int_equal(count_files(this, arena_printf(this->arena, "*/dest-ca-%ld.pem", of[0])), 1);
    private_files_freep(&files);
}

static void test_a_folder_that_others_see(void **state) {
    const Fixture *this = *state;
    const char *path;
    PrivateFiles *files = write_one(this, &path);
    const char *folder = folder_of(this, path);
    Error err;

    private_files_freep(&files);
    files = private_files_new("/session");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_false(private_files_write(files, this->arena, "source-key", "hush", &path, &err));
    assert_int_equal(err.reason, REASON_FILE_EXPOSED);
    private_files_freep(&files);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept_and_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_one_that_was_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_one_that_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_folder_that_others_see, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
