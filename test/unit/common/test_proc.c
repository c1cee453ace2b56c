/* Child processes: descriptors, signals, environment, waiting, stopping, capturing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/proc.h"
#include "support/leaks.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>

#define SHELL(script)                                                                                                  \
    &(const ProcSpec) {                                                                                                \
        .argv = (const char *const[]) {                                                                                \
            "/bin/sh", "-c", (script), NULL                                                                            \
        }                                                                                                              \
    }

static void assert_prints(const ProcSpec *spec, const char *expected) {
    CLEANUP(buf_fini) Buf out;
    Error err = {0};
    buf_init(&out, 10000);
    if (!proc_capture(spec, NULL, &out, &err))
        fail_msg("%s", err.message);
    assert_string_equal(out.data, expected);
}

static void test_capture(void **state UNUSED) {
    assert_prints(SHELL("echo hello; echo noise >&2"), "hello\n");
    assert_prints(SHELL("cat; exit 0"), ""); /* standard input is /dev/null */
}

static void test_status(void **state UNUSED) {
    Error err;
    assert_true(proc_run(SHELL("exit 0"), NULL, &err));
    assert_false(proc_run(SHELL("echo 'it broke' >&2; exit 3"), NULL, &err));
    assert_int_equal(err.reason, REASON_CLIENT_FAILED);
    assert_string_equal(err.message, "/bin/sh failed with status 3: it broke");
    assert_false(proc_run(SHELL("exit 4"), NULL, &err));
    assert_string_equal(err.message, "/bin/sh failed with status 4");
    assert_false(proc_run(SHELL("kill -9 $$"), NULL, &err));
    assert_string_equal(err.message, "/bin/sh was killed by signal 9");
}

/* 40 kB on stderr: more than is kept, with the end kept, and a character at the cut. */
static void test_long_stderr(void **state UNUSED) {
    Error err;
    assert_false(proc_run(SHELL("i=0; while [ $i -lt 2000 ]; do echo \"line $i \303\251\303\251\303\251\303\251\"; "
                                "i=$((i+1)); done >&2; echo 'the end' >&2; exit 1"),
                          NULL, &err));
    const char *gap = strstr(err.message, " ... ");
    assert_non_null(gap);
    assert_string_equal(err.message + strlen(err.message) - 7, "the end");
    assert_null(strstr(err.message, "line 5 ")); /* the first kB are not among the last eight */
    /* One byte more before and behind: both cuts fall into a character in one of the four. */
    static const char *const scripts[] = {"printf aa;", "printf a;"};
    static const char *const ends[] = {"printf zz", "printf z"};
    for (size_t i = 0; i < 4; i++) {
        CLEANUP(arena_freep) Arena *arena = arena_new();
        const char *script = arena_printf(
            arena, "{ %s i=0; while [ $i -lt 600 ]; do printf '\303\251'; i=$((i+1)); done; %s; } >&2; exit 1",
            scripts[i % 2], ends[i / 2]);
        assert_false(proc_run(SHELL(script), NULL, &err));
        gap = strstr(err.message, " ... ");
        assert_non_null(gap);
        assert_int_equal((unsigned char)gap[-1], 0xa9);
        assert_int_equal((unsigned char)gap[5], 0xc3);
    }
}

static void test_start_fails(void **state UNUSED) {
    Error err;
    pid_t pid = 77;
    const ProcSpec none = {.argv = (const char *const[]){"/no/such/program", NULL}};
    assert_false(proc_spawn(&none, &pid, &err));
    assert_int_equal(pid, 77);
    assert_string_equal(err.message, "cannot start /no/such/program: No such file or directory");
    assert_false(proc_run(&none, NULL, &err));
    ProcSpec bad = *SHELL("exit 0");
    bad.fd3 = 9999;
    assert_false(proc_spawn(&bad, &pid, &err));
    assert_non_null(strstr(err.message, "descriptor 9999"));
}

/* ls needs a descriptor of its own for the folder: the first free one. */
static void test_no_other_descriptors(void **state UNUSED) {
    int leaky = open("/dev/null", O_RDONLY); /* as a library might: without O_CLOEXEC */
    ProcSpec spec = {.argv = (const char *const[]){"/bin/ls", "/proc/self/fd", NULL}};
    assert_prints(&spec, "0\n1\n2\n3\n");
    spec.fd3 = leaky;
    assert_prints(&spec, "0\n1\n2\n3\n4\n");
    close(leaky);
}

static void test_inherits_stderr_and_null_stdout(void **state UNUSED) {
    pid_t pid;
    Error err;
    int status = -1;
    const ProcSpec *spec = SHELL("[ $(readlink /proc/$$/fd/1) = /dev/null ] && "
                                 "[ \"$(readlink /proc/$$/fd/2)\" = \"$(readlink /proc/$PPID/fd/2)\" ]");
    assert_true(proc_spawn(spec, &pid, &err));
    assert_true(proc_wait(pid, NULL, 0, &status, &err));
    assert_int_equal(status, 0);
}

static int text_fd(const char *text) {
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    close(ends[1]);
    return ends[0];
}

/* Descriptor 3 of ours goes to 0, and another one to 3: neither may overwrite the other first. */
static void test_crossed_descriptors(void **state UNUSED) {
    assert_int_equal(fcntl(3, F_GETFD), -1); /* free: pipes below start there */
    int zero = text_fd("zero ");
    int three = text_fd("three");
    int low = MIN(zero, three), high = MAX(zero, three);
    assert_int_equal(low, 3);
    ProcSpec spec = *SHELL("cat; cat <&3");
    spec.stdin_fd = low;
    spec.fd3 = high;
    assert_prints(&spec, low == zero ? "zero three" : "threezero ");
    close(zero);
    close(three);
}

static void test_signals_reset(void **state UNUSED) {
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    signal(SIGPIPE, SIG_IGN);
    CLEANUP(buf_fini) Buf out;
    Error err;
    buf_init(&out, 1000);
    static const char *const argv[] = {"/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", NULL};
    assert_true(proc_capture(&(const ProcSpec){.argv = argv}, NULL, &out, &err));
    unsigned long long blocked_there = 1, ignored_there = 1;
    assert_int_equal(sscanf(out.data, "SigBlk: %llx SigIgn: %llx", &blocked_there, &ignored_there), 2);
    assert_int_equal(blocked_there, 0);
    /* 32 and 33 are the C library's own: posix_spawn leaves them ignored, and no program can ask otherwise. */
    assert_int_equal(ignored_there & ~0x180000000ULL, 0);
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void test_environment(void **state UNUSED) {
    setenv("PROC_TEST_A", "old", 1);
    setenv("PROC_TEST_AB", "kept", 1);
    ProcSpec spec = *SHELL("echo $PROC_TEST_A $PROC_TEST_AB $PROC_TEST_C; env | grep -c '^PROC_TEST_A='");
    spec.extra_env = (const char *const[]){"PROC_TEST_A=new", "PROC_TEST_C=more", NULL};
    assert_prints(&spec, "new kept more\n1\n");
    unsetenv("PROC_TEST_A");
    unsetenv("PROC_TEST_AB");
}

static void test_session(void **state UNUSED) {
    ProcSpec spec = *SHELL("[ \"$(cut -d' ' -f6 /proc/$$/stat)\" = $$ ] && echo leader || echo member");
    assert_prints(&spec, "member\n");
    spec.new_session = true;
    assert_prints(&spec, "leader\n");
}

static void test_ceiling(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    Error err;
    buf_init(&out, 1000);
    assert_false(proc_capture(SHELL("head -c 300000 /dev/zero"), NULL, &out, &err));
    assert_non_null(strstr(err.message, "larger than 1000 bytes"));
    assert_true(out.len <= 1000);
}

static void test_large_output(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    Error err;
    buf_init(&out, 10000000);
    assert_true(proc_capture(SHELL("head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2"), NULL, &out, &err));
    assert_int_equal(out.len, 3000000);
}

/* A grandchild that keeps the pipe open does not keep us. */
static void test_grandchild(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    Error err;
    buf_init(&out, 1000);
    int64_t begin = clock_now_us();
    assert_true(proc_capture(SHELL("sleep 20 & echo $!"), NULL, &out, &err));
    assert_true(clock_now_us() - begin < 10 * USEC_PER_SEC);
    pid_t grandchild = (pid_t)strtol(out.data, NULL, 10);
    assert_true(grandchild > 1);
    assert_int_equal(kill(grandchild, SIGKILL), 0);
}

static void test_child_closes_its_output(void **state UNUSED) {
    assert_prints(SHELL("echo x; exec >&- 2>&-; sleep 0.2"), "x\n");
}

static void *request_soon(void *data) {
    clock_sleep_us(100000);
    stop_request(data);
    return NULL;
}

static void test_stop_during_run(void **state UNUSED) {
    Stop stop;
    Error err;
    pthread_t thread;
    assert_true(stop_init(&stop, &err));
    assert_int_equal(pthread_create(&thread, NULL, request_soon, &stop), 0);
    int64_t begin = clock_now_us();
    /* Writes without end: it must not keep us from seeing the stop. */
    assert_false(
        proc_run(&(const ProcSpec){.argv = (const char *const[]){"/bin/sh", "-c", "exec yes >&2", NULL}}, &stop, &err));
    assert_int_equal(err.reason, REASON_CANCELLED);
    assert_true(clock_now_us() - begin < 2 * USEC_PER_SEC);
    pthread_join(thread, NULL);
    stop_fini(&stop);
}

static void test_deadline(void **state UNUSED) {
    pid_t pid;
    int status = 77;
    Error err;
    assert_true(proc_spawn(&(const ProcSpec){.argv = (const char *const[]){"/bin/sleep", "60", NULL}}, &pid, &err));
    assert_false(proc_wait(pid, NULL, clock_now_us() + 20000, &status, &err));
    assert_int_equal(err.reason, REASON_TIMED_OUT);
    assert_int_equal(status, 77);
    assert_int_equal(kill(pid, 0), -1); /* reaped */
}

static void test_deaf_child_is_killed(void **state UNUSED) {
    pid_t pid;
    int status;
    Error err;
    int ends[2];
    char byte;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    ProcSpec spec = *SHELL("trap '' TERM; echo x; while :; do sleep 1; done");
    spec.stdout_fd = ends[1];
    assert_true(proc_spawn(&spec, &pid, &err));
    assert_int_equal(read(ends[0], &byte, 1), 1); /* the trap is set */
    int64_t begin = clock_now_us();
    assert_false(proc_wait(pid, NULL, 1, &status, &err));
    int64_t took = clock_now_us() - begin;
    assert_true(took >= 3 * USEC_PER_SEC && took < 6 * USEC_PER_SEC);
    assert_int_equal(kill(pid, 0), -1);
    close(ends[0]);
    close(ends[1]);
}

static void test_wait_fails(void **state UNUSED) {
    int status = 77;
    Error err;
    pid_t pid;
    assert_false(proc_wait(-1, NULL, 0, &status, &err));
    assert_non_null(strstr(err.message, "cannot watch"));
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps for us */
    assert_true(proc_spawn(&(const ProcSpec){.argv = (const char *const[]){"/bin/sleep", "0.2", NULL}}, &pid, &err));
    assert_false(proc_wait(pid, NULL, 0, &status, &err));
    signal(SIGCHLD, SIG_DFL);
    assert_non_null(strstr(err.message, "cannot wait"));
    assert_int_equal(status, 77);
}

static void test_no_descriptors_left(void **state UNUSED) {
    Error err;
    rlim_t before = limit_descriptors(0);
    bool ran = proc_run(SHELL("exit 0"), NULL, &err);
    restore_descriptors(before);
    assert_false(ran);
    assert_non_null(strstr(err.message, "cannot make a pipe"));
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 10);
    before = limit_descriptors(2);
    ran = proc_capture(SHELL("exit 0"), NULL, &out, &err);
    restore_descriptors(before);
    assert_false(ran);
    assert_non_null(strstr(err.message, "cannot make a pipe"));
}

static void on_alarm(int signal_number UNUSED) {
}

static void test_interruptions(void **state UNUSED) {
    struct sigaction action = {.sa_handler = on_alarm}, old;
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 10000}, {0, 10000}}, NULL);
    assert_prints(SHELL("sleep 0.3; echo done"), "done\n");
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    sigaction(SIGALRM, &old, NULL);
}

static void test_self_path(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *path = NULL;
    Error err;
    assert_true(proc_self_path(arena, &path, &err));
    assert_int_equal(access(path, X_OK), 0);
    assert_non_null(strstr(path, "test_proc"));
}

/* --- tied: this program plays the part of pgcrane, see main() --- */

/* In a process of its own: ties a sleep to itself, says its pid, and waits. */
static int tie(int fd) {
    const char *const argv[] = {"/bin/sleep", "100", NULL};
    pid_t pid = 0;
    Error err;
    if (!proc_spawn(&(ProcSpec){.argv = argv, .tied = true}, &pid, &err) || write(fd, &pid, sizeof(pid)) < 0)
        return 1;
    pause();
    return 0;
}

static bool is_gone(pid_t pid) {
    for (int tries = 0; tries < 500; tries++) {
        if (kill(pid, 0) != 0)
            return true;
        clock_sleep_us(10 * USEC_PER_MSEC);
    }
    return false;
}

static void test_tied(void **state UNUSED) {
    int ends[2], status;
    pid_t sleeping = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that the sleep is ours to reap */
    assert_int_equal(pipe(ends), 0);
    pid_t middle = fork();
    if (middle == 0)
        _exit(tie(ends[1]));
    assert_int_equal(read(ends[0], &sleeping, sizeof(sleeping)), sizeof(sleeping));
    clock_sleep_us(200 * USEC_PER_MSEC);
    assert_int_equal(kill(sleeping, 0), 0);
    kill(middle, SIGKILL);
    waitpid(middle, &status, 0);
    assert_int_equal(waitpid(sleeping, &status, 0), sleeping);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(is_gone(sleeping));
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    close(ends[0]);
    close(ends[1]);
}

/* Started by somebody who is gone already, or by hand. */
static void test_tied_to_another(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *words[] = {arena_strdup(arena, "tied"), arena_printf(arena, "%d", (int)getpid()), arena_strdup(arena, "-"),
                     arena_strdup(arena, "/bin/true"), NULL};
    assert_int_equal(proc_tied_main(4, words), 127);
    assert_int_equal(proc_tied_main(3, words), 127);
    prctl(PR_SET_PDEATHSIG, 0);
}

static void test_tied_to_nothing(void **state UNUSED) {
    Error err;
    const ProcSpec spec = {.argv = (const char *const[]){"/no/such/program", NULL}, .tied = true};
    assert_false(proc_run(&spec, NULL, &err));
    assert_string_equal(err.message,
                        "/no/such/program failed with status 127: cannot start /no/such/program: No such file"
                        " or directory");
}

/* As whom the tests run may be anybody; only root can become somebody else. */
static void test_another_user(void **state UNUSED) {
    Error err;
    ProcSpec spec = *SHELL("id -un; umask");

    spec.user = "no-such-user";
    assert_false(proc_run(&spec, NULL, &err));
    assert_non_null(strstr(err.message, "status 127: cannot become user no-such-user"));
    if (getuid() != 0)
        return;
    spec.user = "nobody";
    assert_prints(&spec, "nobody\n0077\n");
    spec.tied = true;
    assert_prints(&spec, "nobody\n0077\n");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "tied") == 0)
        return proc_tied_main(argc - 1, argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_long_stderr),
        cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_no_other_descriptors),
        cmocka_unit_test(test_inherits_stderr_and_null_stdout),
        cmocka_unit_test(test_crossed_descriptors),
        cmocka_unit_test(test_signals_reset),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_large_output),
        cmocka_unit_test(test_grandchild),
        cmocka_unit_test(test_child_closes_its_output),
        cmocka_unit_test(test_stop_during_run),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deaf_child_is_killed),
        cmocka_unit_test(test_wait_fails),
        cmocka_unit_test(test_no_descriptors_left),
        cmocka_unit_test(test_interruptions),
        cmocka_unit_test(test_self_path),
        cmocka_unit_test(test_tied),
        cmocka_unit_test(test_tied_to_another),
        cmocka_unit_test(test_tied_to_nothing),
        cmocka_unit_test(test_another_user),
    };
    return cmocka_run_group_tests(tests, leaks_begin, leaks_end);
}
