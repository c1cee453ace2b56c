/* Arenas: alignment, zeroing, growth, large allocations, reset, and the ends of the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/vec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

static bool all_zero(const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static void test_aligned_zeroed_apart(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *before = NULL;
    for (size_t size = 0; size < 300; size++) {
        char *memory = arena_alloc(arena, size);
        assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
        assert_true(all_zero(memory, size));
        memset(memory, 0xff, size);
        assert_true(memory != before);
        before = memory;
    }
}

static void test_growth_and_large(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char *large = arena_alloc(arena, 3 * 1024 * 1024); /* the very first one */
    char *small = arena_alloc(arena, 16);
    char *large_again = arena_alloc(arena, 2 * 1024 * 1024);
    char *neighbour = arena_alloc(arena, 16);
    assert_ptr_equal(neighbour, small + 16); /* the block of the small ones stayed in use */
    memset(large, 1, 3 * 1024 * 1024);
    memset(large_again, 2, 2 * 1024 * 1024);
    assert_true(all_zero(small, 16));
    for (int i = 0; i < 10000; i++)
        memset(arena_alloc(arena, 1000), 3, 1000);
    assert_int_equal(large[3 * 1024 * 1024 - 1], 1);
    assert_int_equal(large_again[0], 2);
    assert_true(arena_used(arena) >= 15 * 1000 * 1000);
}

static void test_reset(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    arena_reset(arena); /* empty: nothing to do */
    char *first = arena_alloc(arena, 100);
    memset(first, 0xff, 100);
    assert_true(arena_used(arena) >= 100);
    arena_reset(arena);
    assert_int_equal(arena_used(arena), 0);
#ifdef __SANITIZE_ADDRESS__
    assert_true(__asan_address_is_poisoned(first));
#endif
    char *again = arena_alloc(arena, 50);
    assert_ptr_equal(again, first); /* the block was kept */
    assert_true(all_zero(again, 50));
#ifdef __SANITIZE_ADDRESS__
    assert_true(__asan_address_is_poisoned(again + 50));
#endif
    arena_alloc(arena, 100000);
    arena_reset(arena);
    assert_int_equal(arena_used(arena), 0);
}

static void test_reset_gives_large_back(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    arena_alloc(arena, 5 * 1024 * 1024); /* the newest block is this one */
    arena_reset(arena);
    char *memory = arena_alloc(arena, 10);
    assert_true(all_zero(memory, 10));
    assert_int_equal(arena_used(arena), 16);
}

static void test_texts(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    assert_null(arena_strdup(arena, NULL));
    assert_string_equal(arena_strdup(arena, "abc"), "abc");
    assert_string_equal(arena_strndup(arena, "abcdef", 2), "ab");
    assert_string_equal(arena_printf(arena, "%s-%d", "x", 7), "x-7");
    assert_string_equal(arena_printf(arena, "%2000d", 1) + 1999, "1");
}

static void test_vec(void **state UNUSED) {
    typedef VEC(int) IntVec;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    IntVec vec = {0};
    for (int i = 0; i < 1000; i++)
        vec_push(arena, &vec, i * 3);
    assert_int_equal(vec.len, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(vec.items[i], i * 3);
}

static void test_free_of_nothing(void **state UNUSED) {
    Arena *arena = NULL;
    arena_free(arena);
    arena_freep(&arena);
    arena = arena_new();
    arena_freep(&arena);
    assert_null(arena);
}

static sigjmp_buf aborted;

static NORETURN void on_abort(int signal_number UNUSED) {
    siglongjmp(aborted, 1);
}

/* Runs in a child: what ends the process must not end the test. */
static int status_of(void (*function)(Arena *)) {
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        signal(SIGABRT, on_abort);
        Arena *volatile arena = arena_new();
        volatile int status = 42;
        if (sigsetjmp(aborted, 1) == 0) {
            function(arena);
            status = 0;
        }
        arena_free(arena);
        exit(status); /* not _exit: coverage is written at exit */
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void ask_too_much(Arena *arena) {
    arena_alloc(arena, SIZE_MAX - 10);
}

static void ask_overflowing_array(Arena *arena) {
    arena_alloc_array(arena, 16, SIZE_MAX / 8);
}

static void test_ends_the_process(void **state UNUSED) {
    assert_int_equal(status_of(ask_too_much), 42);
    assert_int_equal(status_of(ask_overflowing_array), 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned_zeroed_apart),
        cmocka_unit_test(test_growth_and_large),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_reset_gives_large_back),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_vec),
        cmocka_unit_test(test_free_of_nothing),
        cmocka_unit_test(test_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
