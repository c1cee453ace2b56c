/* Secrets given by a file: whose files are taken, and what of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fd.h"
#include "secrets/secret_file.h"
#include "support/leaks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[64], path[96];

static int begin(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/pgcrane-test-file-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/secret", folder);
    return leaks_begin(state);
}

static int end(void **state) {
    Error err;
    return fd_remove_tree(folder, &err) ? leaks_end(state) : -1;
}

static void put(const char *text, size_t len) {
    Error err;
    assert_true(fd_write_file(path, text, len, 0600, &err));
}

static void gives(const char *text, const char *expected) {
    CLEANUP(secret_wipe) Secret secret = {0};
    Error err;

    put(text, strlen(text));
    if (!secret_file_read_line(path, 10, &secret, &err))
        fail_msg("%s", err.message);
    assert_int_equal(secret.len, strlen(expected));
    assert_string_equal(secret.bytes, expected);
}

static void refuses(const char *text, size_t len, const char *said) {
    Secret secret = {0};
    Error err = {0};

    put(text, len);
    assert_false(secret_file_read_line(path, 10, &secret, &err));
    assert_int_equal(err.reason, REASON_BAD_DATA);
    assert_non_null(strstr(err.message, said));
    assert_null(secret.bytes);
}

static void test_one_line(void **state UNUSED) {
    gives("secret", "secret");
    gives("secret\n", "secret");
    gives("secret\r\n", "secret");
}

static void test_what_is_kept(void **state UNUSED) {
    gives(" a b\t", " a b\t");
    gives("1234567890", "1234567890");
    gives("1234567890\r\n", "1234567890");
}

static void test_what_is_refused(void **state UNUSED) {
    refuses("", 0, "empty");
    refuses("\n", 1, "empty");
    refuses("\r\n", 2, "empty");
    refuses("a\nb", 3, "more than one line");
    refuses("a\n\n", 3, "more than one line");
    refuses("a\r", 2, "more than one line");
    refuses("a\0b", 3, "NUL");
    refuses("12345678901", 11, "longer than 10");
    refuses("12345678901\n", 12, "longer than 10");
    refuses("1234567890123", 13, "more than the 12");
}

static void test_whose_file(void **state UNUSED) {
    Secret secret = {0};
    Error err = {0};

    put("x", 1);
    for (mode_t bit = 01; bit <= 040; bit <<= 1) {
        bool is_roots = geteuid() == 0 && bit == 040; /* as libpq has it for keys */
        assert_int_equal(chmod(path, 0600 | bit), 0);
        assert_int_equal(secret_file_read_line(path, 10, &secret, &err), is_roots);
        if (!is_roots)
            assert_int_equal(err.reason, REASON_FILE_EXPOSED);
        secret_wipe(&secret);
    }
    assert_int_equal(unlink(path), 0);
    assert_false(secret_file_read_line(path, 10, &secret, &err));
    assert_int_equal(err.reason, REASON_NO_RESOURCE);
    assert_int_equal(mkfifo(path, 0600), 0); /* does not wait for a writer */
    assert_false(secret_file_read_line(path, 10, &secret, &err));
    assert_non_null(strstr(err.message, "no regular file"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0); /* what it points to is anybody's to read */
    assert_false(secret_file_read(path, 1 << 20, &secret, NULL, &err));
    assert_int_equal(err.reason, REASON_FILE_EXPOSED);
    assert_int_equal(unlink(path), 0);
}

static void test_environment(void **state UNUSED) {
    CLEANUP(secret_wipe) Secret secret = {0};
    bool given = true;
    Error err = {0};

    unsetenv("PGCRANE_X");
    unsetenv("PGCRANE_X_FILE");
    assert_true(secret_from_environment("PGCRANE_X", 10, &secret, &given, &err));
    assert_false(given);
    assert_null(secret.bytes);
    setenv("PGCRANE_X", "value", 1);
    setenv("PGCRANE_X_FILE", "", 1);
    assert_true(secret_from_environment("PGCRANE_X", 10, &secret, &given, &err));
    assert_true(given);
    assert_string_equal(secret.bytes, "value");
    assert_null(getenv("PGCRANE_X")); /* no child inherits it */
    put("of the file\n", 12);
    setenv("PGCRANE_X_FILE", path, 1);
    assert_false(secret_from_environment("PGCRANE_X", 10, &secret, &given, &err));
    assert_non_null(strstr(err.message, "PGCRANE_X_FILE: "));
    assert_true(secret_from_environment("PGCRANE_X", 11, &secret, &given, &err));
    assert_string_equal(secret.bytes, "of the file");
    setenv("PGCRANE_X", "value", 1);
    assert_false(secret_from_environment("PGCRANE_X", 11, &secret, &given, &err));
    assert_int_equal(err.reason, REASON_USAGE);
    unsetenv("PGCRANE_X_FILE");
    assert_false(secret_from_environment("PGCRANE_X", 4, &secret, &given, &err));
    assert_int_equal(err.reason, REASON_USAGE);
    assert_string_equal(secret.bytes, "of the file");
    unsetenv("PGCRANE_X");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),   cmocka_unit_test(test_what_is_kept), cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_whose_file), cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
