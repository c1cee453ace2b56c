/* What the screen writes: the live area is erased exactly, and other lines stand above it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/screen.h"
#include "common/fd.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Fixture {
    int fd;
    Screen screen;
    char *written;
    size_t read_to;
} Fixture;

static int need_utf8(void **state UNUSED) {
    return setlocale(LC_CTYPE, "C.UTF-8") == NULL ? -1 : 0;
}

static void fixture_init(Fixture *fixture, ScreenMode mode) {
    char path[] = "/tmp/pgcrane-screen-XXXXXX";
    *fixture = (Fixture){.fd = mkstemp(path)};
    assert_true(fixture->fd >= 0);
    unlink(path);
    Tty tty = {.is_terminal = true, .utf8 = false, .columns = 80, .rows = 24};
    screen_init(&fixture->screen, fixture->fd, mode, &tty);
}

static void fixture_fini(Fixture *fixture) {
    screen_fini(&fixture->screen);
    fd_close(&fixture->fd);
    free(fixture->written);
}

/* What was written since the last call. */
static const char *written(Fixture *fixture) {
    off_t end = lseek(fixture->fd, 0, SEEK_END);
    size_t len = (size_t)end - fixture->read_to;
    free(fixture->written);
    fixture->written = calloc(1, len + 1);
    assert_int_equal(pread(fixture->fd, fixture->written, len, (off_t)fixture->read_to), len);
    fixture->read_to = (size_t)end;
    return fixture->written;
}

static void give_progress(Fixture *fixture, const Progress *progress) {
    Error err;
    CLEANUP(json_freep) json_t *json = progress_to_json(progress);
    if (!screen_progress(&fixture->screen, json, &err))
        fail_msg("%s", err.message);
}

static void starts_with(const char *text, const char *prefix) {
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        fail_msg("\"%s\" does not start with \"%s\"", text, prefix);
}

static size_t count(const char *text, const char *part) {
    size_t found = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        found++;
    return found;
}

static void test_live_area_is_drawn_over(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    const char *first = written(&fixture);
    assert_int_equal(count(first, "\n"), 3); /* rail, bar, counts */
    assert_null(strstr(first, "A\r"));
    assert_int_equal(first[strlen(first) - 3], '\033'); /* erases below at last, nothing after it */
    screen_flush(&fixture.screen);
    starts_with(written(&fixture), "\r\033[3A");
}

static void test_frames_are_not_drawn_too_often(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    assert_int_equal(screen_timeout(&fixture.screen), -1);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    written(&fixture);
    give_progress(&fixture, &progress);
    assert_string_equal(written(&fixture), "");
    int timeout = screen_timeout(&fixture.screen);
    assert_true(timeout > 0 && timeout <= 200);
}

static void test_events_stand_above(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    written(&fixture);
    screen_event(&fixture.screen, "warning", "look\033[2J");
    const char *text = written(&fixture);
    starts_with(text, "\r\033[3A\033[Jwarning: look?[2J\n");
    assert_int_equal(count(text, "\n"), 4);
}

static void test_clear_leaves_nothing(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    written(&fixture);
    screen_clear(&fixture.screen);
    assert_string_equal(written(&fixture), "\r\033[3A\033[J");
    screen_clear(&fixture.screen);
    assert_string_equal(written(&fixture), "");
}

static void test_wrapped_lines_are_counted(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    written(&fixture);
    /* 80 columns became 40: rail and bar take two rows each now, the empty line below them one.
     */
    fixture.screen.style.columns = 40;
    screen_flush(&fixture.screen);
    starts_with(written(&fixture), "\r\033[5A");
}

static void test_after_a_pause_nothing_is_erased(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_LIVE);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    written(&fixture);
    screen_forget(&fixture.screen);
    screen_flush(&fixture.screen);
    const char *text = written(&fixture);
    assert_int_equal(text[0], '\r');
    assert_int_not_equal(text[1], '\033');
}

static void test_plain_mode(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture;
    fixture_init(&fixture, SCREEN_PLAIN);
    Progress progress = {.eta_us = -1};
    give_progress(&fixture, &progress);
    assert_string_equal(written(&fixture), "");
    int timeout = screen_timeout(&fixture.screen);
    assert_true(timeout > 9000 && timeout <= 10000);
    progress.phases[PHASE_COPY].state = PHASE_RUNNING;
    give_progress(&fixture, &progress);
    assert_string_equal(written(&fixture), "Copy: table data and large objects\n");
    give_progress(&fixture, &progress);
    assert_string_equal(written(&fixture), "");
    screen_flush(&fixture.screen);
    starts_with(written(&fixture), "0%");
}

static void test_levels(void **state UNUSED) {
    static const struct {
        ScreenMode mode;
        const char *expected;
    } cases[] = {
        {SCREEN_PLAIN, "hello\nwarning: careful\npgcrane: note\n"},
        {SCREEN_WARNINGS, "warning: careful\npgcrane: note\n"},
        {SCREEN_SILENT, "pgcrane: note\n"},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        CLEANUP(fixture_fini) Fixture fixture;
        fixture_init(&fixture, cases[at].mode);
        screen_event(&fixture.screen, "info", "hello");
        screen_event(&fixture.screen, "warning", "careful");
        screen_note(&fixture.screen, "note");
        assert_string_equal(written(&fixture), cases[at].expected);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live_area_is_drawn_over),
        cmocka_unit_test(test_frames_are_not_drawn_too_often),
        cmocka_unit_test(test_events_stand_above),
        cmocka_unit_test(test_clear_leaves_nothing),
        cmocka_unit_test(test_wrapped_lines_are_counted),
        cmocka_unit_test(test_after_a_pause_nothing_is_erased),
        cmocka_unit_test(test_plain_mode),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, need_utf8, NULL);
}
