/* Log lines: form, levels, escaping, cutting, and whole lines from many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/log.h"
#include "support/leaks.h"

#include <errno.h>
#include <pthread.h>
#include <regex.h>
#include <string.h>
#include <sys/mman.h>

static int log_file = -1;

static int open_log(void **state UNUSED) {
    log_file = memfd_create("log", MFD_CLOEXEC);
    log_init(log_file, LOG_INFO);
    return log_file < 0 ? -1 : 0;
}

static int close_log(void **state UNUSED) {
    log_init(-1, LOG_INFO);
    log_thread_name("");
    fd_close(&log_file);
    return 0;
}

static void read_log(Buf *into) {
    char step[4096];
    ssize_t got;
    lseek(log_file, 0, SEEK_SET);
    while ((got = read(log_file, step, sizeof(step))) > 0)
        buf_append(into, step, (size_t)got);
}

static void assert_matches(const char *text, const char *pattern) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int result = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (result != 0)
        fail_msg("\"%s\" does not match %s", text, pattern);
}

#define TIME "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z"

static void test_form(void **state UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 10000);
    log_debug("not shown");
    log_info("copy table=\"%s\"", "public.a");
    log_thread_name("lane1");
    log_warning("slow");
    Error err;
    error_set(&err, REASON_SQL_FAILED, "no such column");
    log_error_value(LOG_ERROR, &err);
    memcpy(err.sqlstate, "42703", 6);
    err.file = NULL;
    log_error_value(LOG_ERROR, &err);
    read_log(&text);
    assert_matches(text.data, "^" TIME " info copy table=\"public.a\"\n" TIME " warning lane1 slow\n" TIME
                              " error lane1 reason=SQL_FAILED sqlstate=- at=[^ ]*test_log.c:[0-9]+ msg=\"no such "
                              "column\"\n" TIME " error lane1 reason=SQL_FAILED sqlstate=42703 at=-:[0-9]+ .*\n$");
}

static void test_silent_before_init(void **state UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 100);
    log_init(-1, LOG_DEBUG);
    log_info("lost");
    read_log(&text);
    assert_string_equal(text.data, "");
}

static void test_debug_level(void **state UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 1000);
    log_init(log_file, LOG_DEBUG);
    log_debug("seen");
    read_log(&text);
    assert_matches(text.data, "^" TIME " debug seen\n$");
}

static void test_escapes(void **state UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 1000);
    errno = EBADF;
    log_info("a\nb\rc\td\x1b[0me\x7f \xc3\xa9 \xff");
    assert_int_equal(errno, EBADF);
    read_log(&text);
    assert_non_null(strstr(text.data, " a\\nb\\rc\\td\\x1b[0me\\x7f \xc3\xa9 \xff\n"));
    assert_int_equal(strcspn(text.data, "\n"), text.len - 1);
}

/* Long lines end whole: at a character, and at an escape. */
static void test_cut(void **state UNUSED) {
    static const char *const units[] = {"\xc3\xa9", "\x01", "\n", "\xf0\x9f\x90\x98"};
    for (size_t unit = 0; unit < COUNT_OF(units); unit++) {
        CLEANUP(buf_fini) Buf message, text;
        buf_init(&message, 10000);
        buf_init(&text, 10000);
        while (message.len < 5000)
            buf_append_str(&message, units[unit]);
        assert_int_equal(ftruncate(log_file, 0), 0);
        lseek(log_file, 0, SEEK_SET);
        log_info("%s", message.data);
        read_log(&text);
        assert_true(text.len <= 2048 && text.len > 2040);
        assert_int_equal(text.data[text.len - 1], '\n');
        const char *last = unit == 0 ? "\xc3\xa9\n" : unit == 1 ? "\\x01\n" : unit == 2 ? "\\n\n" : "\x90\x98\n";
        assert_string_equal(text.data + text.len - strlen(last), last);
    }
}

static void test_thread_name_is_cut(void **state UNUSED) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 1000);
    log_thread_name("a-very-long-\xc3\xa9\xc3\xa9\xc3\xa9");
    log_info("x");
    read_log(&text);
    assert_non_null(strstr(text.data, " info a-very-long-\xc3\xa9 x\n"));
}

enum { WRITERS = 4, LINES = 300 };

static void *write_lines(void *data) {
    char name[16];
    snprintf(name, sizeof(name), "w%d", *(int *)data);
    log_thread_name(name);
    for (int i = 0; i < LINES; i++)
        log_info("line %d of %s end", i, name);
    return NULL;
}

static void test_threads(void **state UNUSED) {
    pthread_t threads[WRITERS];
    int numbers[WRITERS];
    /* Appending, as a log file is: else two writes could be at one offset. */
    fcntl(log_file, F_SETFL, O_APPEND);
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);

    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 1000000);
    read_log(&text);
    int next[WRITERS] = {0};
    int seen = 0;
    for (char *line = text.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, seen++) {
        char expected[64];
        *end = '\0';
        const char *rest = strstr(line, " info w");
        assert_non_null(rest);
        int writer = rest[7] - '0';
        assert_in_range(writer, 0, WRITERS - 1);
        snprintf(expected, sizeof(expected), " info w%d line %d of w%d end", writer, next[writer]++, writer);
        assert_string_equal(rest, expected);
    }
    assert_int_equal(seen, WRITERS * LINES);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, open_log, close_log)

int main(void) {
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_form), LOG_TEST(test_silent_before_init), LOG_TEST(test_debug_level), LOG_TEST(test_escapes),
        LOG_TEST(test_cut),  LOG_TEST(test_thread_name_is_cut), LOG_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, leaks_begin, leaks_end);
}
