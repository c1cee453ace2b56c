/* The live area and the plain lines, at fixed sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/display.h"
#include "cli/tty.h"
#include "common/clock.h"

#include <locale.h>
#include <string.h>

static const int64_t megabyte = 1024 * 1024;

typedef struct Fixture {
    Arena *arena;
    Buf out;
    Progress progress;
} Fixture;

static Fixture the_fixture(void) {
    Fixture fixture = {.arena = arena_new()};
    buf_init(&fixture.out, 1024 * 1024);
    Progress *progress = &fixture.progress;
    for (Phase phase = PHASE_PREFLIGHT; phase <= PHASE_SCHEMA; phase++)
        if (!phase_is_of_follow(phase))
            progress->phases[phase] = (PhaseProgress){.state = PHASE_DONE, .elapsed_us = USEC_PER_SEC};
    progress->phases[PHASE_COPY] = (PhaseProgress){.state = PHASE_RUNNING, .done = 3, .total = 9};
    progress->phases[PHASE_INDEX] = (PhaseProgress){.state = PHASE_RUNNING, .done = 2, .total = 17};
    progress->elapsed_us = 30 * USEC_PER_SEC;
    progress->eta_us = 70 * USEC_PER_SEC;
    progress->bytes_done = 430 * megabyte;
    progress->bytes_total = 1000 * megabyte;
    progress->bytes_per_second = (double)(120 * megabyte);
    progress->rows_done = 6000000;
    progress->tables_done = 12;
    progress->tables_total = 40;
    progress->indexes_done = 2;
    progress->indexes_total = 17;
    TaskProgress copy = {"copy", "public.orders", 50 * megabyte, 100 * megabyte, 12 * USEC_PER_SEC};
    TaskProgress index = {"index", "public.orders_pkey", 0, 0, 3 * USEC_PER_SEC};
    vec_push(fixture.arena, &progress->tasks, copy);
    vec_push(fixture.arena, &progress->tasks, index);
    return fixture;
}

static void fixture_fini(Fixture *fixture) {
    arena_free(fixture->arena);
    buf_fini(&fixture->out);
}

static int need_utf8(void **state UNUSED) {
    return setlocale(LC_CTYPE, "C.UTF-8") == NULL ? -1 : 0;
}

static void test_80_columns(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 80, .rows = 24});
    assert_string_equal(fixture.out.data,
                        "+ + +  > Copy 43%  > Index 2/17  - Foreign keys  - Finish  - Analyze\n"
                        "######...............  30%  430.0 MB of 1000.0 MB  120.0 MB/s  30.0s  ETA 1m 10s\n"
                        "tables 12 of 40   indexes 2 of 17   rows 6,000,000\n"
                        "  copy        public.orders      #####.....  50.0 MB of 100.0 MB   12.0s\n"
                        "  index       public.orders_pkey                                   3.00s\n");
}

static void test_120_columns_utf8(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 120, .rows = 24, .utf8 = true});
    assert_string_equal(fixture.out.data,
                        "✓ Check  ✓ Snapshot  ✓ Schema  ▸ Copy 43%  ▸ Index 2/17  · Foreign keys  · Finish  · Analyze\n"
                        "██████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  30%  430.0 MB of 1000.0 MB  "
                        "120.0 MB/s  30.0s  ETA 1m 10s\n"
                        "tables 12 of 40   indexes 2 of 17   rows 6,000,000\n"
                        "  copy        public.orders      ██████████░░░░░░░░░░  50.0 MB of 100.0 MB   12.0s\n"
                        "  index       public.orders_pkey                                             3.00s\n");
}

static size_t count_lines(const char *text) {
    size_t lines = 0;
    for (; *text != '\0'; text++)
        lines += *text == '\n' ? 1 : 0;
    return lines;
}

/* Every line within the columns, and the whole one row shorter than the terminal. */
static void check_fits(const Fixture *fixture, const DisplayStyle *style) {
    const char *line = fixture->out.data;
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        int width = text_width(arena_strndup(fixture->arena, line, len), style->utf8);
        if (width > style->columns)
            fail_msg("%d columns: a line of %d: %.*s", style->columns, width, (int)len, line);
        line += len + 1;
    }
    if ((int)count_lines(fixture->out.data) > style->rows - 1)
        fail_msg("%d rows: %zu lines", style->rows, count_lines(fixture->out.data));
}

static void test_fits_every_size(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    for (int extra = 0; extra < 20; extra++) {
        TaskProgress task = {"foreign key", "public.\"日本語テーブル\nvery long name that never ends\"", extra, 100, 1};
        vec_push(fixture.arena, &fixture.progress.tasks, task);
    }
    for (int columns = 1; columns <= 160; columns++) {
        for (int rows = 1; rows <= 30; rows += 1 + columns % 3) {
            DisplayStyle style = {.columns = columns, .rows = rows, .utf8 = columns % 2 == 0};
            buf_clear(&fixture.out);
            display_render(&fixture.out, &fixture.progress, &style);
            check_fits(&fixture, &style);
        }
    }
}

static void test_more_tasks_than_rows(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    for (int extra = 0; extra < 8; extra++) {
        TaskProgress task = {"index", "public.i", 0, 0, 1};
        vec_push(fixture.arena, &fixture.progress.tasks, task);
    }
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 80, .rows = 10});
    assert_int_equal(count_lines(fixture.out.data), 9);
    assert_non_null(strstr(fixture.out.data, "\n  and 5 more\n"));
    buf_clear(&fixture.out);
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 80, .rows = 14});
    assert_null(strstr(fixture.out.data, "more"));
}

static void test_colours_are_closed(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 80, .rows = 24, .color = true});
    size_t opened = 0;
    size_t closed = 0;
    for (const char *at = fixture.out.data; (at = strchr(at, '\033')) != NULL; at++)
        *(strncmp(at, "\033[0m", 4) == 0 ? &closed : &opened) += 1;
    assert_true(opened > 0);
    assert_int_equal(opened, closed);
}

static void test_nothing_known_yet(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    Progress empty = {.eta_us = -1};
    display_render(&fixture.out, &empty, &(DisplayStyle){.columns = 80, .rows = 24});
    assert_non_null(
        strstr(fixture.out.data, "- Check - Snapshot - Schema - Copy - Index - Foreign keys - Finish - Analyze\n"));
    assert_non_null(strstr(fixture.out.data, "  0%"));
    assert_null(strstr(fixture.out.data, "ETA"));
}

static void follow(Fixture *fixture, CdcState state) {
    Progress *progress = &fixture->progress;
    for (Phase phase = 0; phase < PHASE_CDC; phase++)
        progress->phases[phase] = (PhaseProgress){.state = PHASE_DONE, .elapsed_us = USEC_PER_SEC};
    progress->phases[PHASE_CDC].state = PHASE_RUNNING;
    progress->tasks.len = 0;
    progress->cdc = (CdcProgress){
        .state = state,
        .applied_lsn = "0/16B3748",
        .source_lsn = "0/26B3748",
        .lag_bytes = 16 * megabyte,
        .lag_us = 2500000,
        .eta_us = 40 * USEC_PER_SEC,
        .transactions = 12345,
        .inserts_rate = 120.4,
        .updates_rate = 40,
        .retained_bytes = 64 * megabyte,
        .limit_bytes = 1000 * megabyte,
        .limit_seconds = 7200,
    };
    vec_push(fixture->arena, &progress->cdc.tables, ((CdcTable){"public.orders", 1200, 34, 0, 1}));
    vec_push(fixture->arena, &progress->cdc.tables, ((CdcTable){"public.lines", 5, 0, 7, 0}));
}

static void test_catching_up(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    follow(&fixture, CDC_CATCHING_UP);
    vec_push(fixture.arena, &fixture.progress.cdc.problems, "table public.log has lost its key");
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 100, .rows = 24});
    assert_string_equal(fixture.out.data,
                        "+ + + + + + + + +  > Follow  - Promote\n"
                        "catching up  lag 16.0 MB, 2.50s  caught up in about 40.0s\n"
                        "insert 120/s  update 40/s  delete 0/s  transactions 12,345\n"
                        "WAL kept 64.0 MB of 1000.0 MB, full in 2h 00m  applied 0/16B3748 of 0/26B3748\n"
                        "! table public.log has lost its key\n"
                        "  public.orders     ins 1,200        upd 34                     trunc 1\n"
                        "  public.lines          ins 5                       del 7              \n");
}

static void test_what_the_slot_keeps(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    follow(&fixture, CDC_CATCHING_UP);
    CdcProgress *cdc = &fixture.progress.cdc;
    cdc->limit_bytes = cdc->limit_seconds = -1;
    cdc->catalog_age = 150000000;
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 120, .rows = 24});
    assert_non_null(
        strstr(fixture.out.data, "\nWAL kept 64.0 MB, no limit  catalogues kept for 150,000,000 transactions"));
}

/* What is not known is not shown, and one that has caught up has no estimate. */
static void test_caught_up_and_promoting(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    follow(&fixture, CDC_FOLLOWING);
    CdcProgress *cdc = &fixture.progress.cdc;
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 100, .rows = 24});
    assert_non_null(strstr(fixture.out.data, "\ncaught up  lag 16.0 MB, 2.50s\n"));
    cdc->state = CDC_PROMOTING;
    cdc->promote_step = "stop writes on the source";
    cdc->lag_bytes = cdc->lag_us = cdc->retained_bytes = -1;
    buf_clear(&fixture.out);
    display_render(&fixture.out, &fixture.progress, &(DisplayStyle){.columns = 100, .rows = 24});
    assert_non_null(strstr(fixture.out.data, "\npromoting: stop writes on the source  lag not known yet\n"));
    assert_non_null(strstr(fixture.out.data, "\napplied 0/16B3748 of 0/26B3748\n"));
}

static void test_following_fits_every_size(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    follow(&fixture, CDC_CATCHING_UP);
    for (int extra = 0; extra < 18; extra++) {
        vec_push(fixture.arena, &fixture.progress.cdc.tables, ((CdcTable){"public.\"日本語テーブル\n\"", 1, 2, 3, 4}));
        vec_push(fixture.arena, &fixture.progress.cdc.problems, "a problem that takes more than one narrow line");
        vec_push(fixture.arena, &fixture.progress.tasks, ((TaskProgress){"copy", "public.t", 1, 2, 3}));
    }
    for (int columns = 1; columns <= 160; columns++) {
        for (int rows = 1; rows <= 50; rows += 1 + columns % 3) {
            DisplayStyle style = {.columns = columns, .rows = rows, .utf8 = columns % 2 == 0};
            buf_clear(&fixture.out);
            display_render(&fixture.out, &fixture.progress, &style);
            check_fits(&fixture, &style);
        }
    }
}

static void test_following_in_lines(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    Progress before = fixture.progress;
    follow(&fixture, CDC_CATCHING_UP);
    display_plain(&fixture.out, &fixture.progress);
    assert_string_equal(fixture.out.data,
                        "catching up  lag 16.0 MB, 2.50s  insert 120/s  update 40/s  delete 0/s  transactions 12,345"
                        "  WAL kept 64.0 MB of 1000.0 MB, full in 2h 00m  caught up in about 40.0s");
    before = fixture.progress;
    fixture.progress.cdc.state = CDC_PROMOTING;
    fixture.progress.cdc.promote_step = "stop writes";
    vec_push(fixture.arena, &fixture.progress.cdc.problems, "a\033problem");
    buf_clear(&fixture.out);
    display_changes(&fixture.out, &before, &fixture.progress);
    assert_string_equal(fixture.out.data, "Follow: promoting\nPromote: stop writes\nProblem: a?problem\n");
    before = fixture.progress;
    buf_clear(&fixture.out);
    display_changes(&fixture.out, &before, &fixture.progress);
    assert_string_equal(fixture.out.data, "");
}

static void test_fraction(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    Progress *progress = &fixture.progress;
    assert_int_equal((int)(display_fraction(progress) * 100 + 0.5), 30);
    progress->eta_us = -1;
    assert_int_equal((int)(display_fraction(progress) * 100 + 0.5), 43);
    progress->bytes_done = progress->bytes_total;
    assert_true(display_fraction(progress) < 1); /* indexes are not built yet */
    for (Phase phase = 0; phase < PHASE_MAX_; phase++)
        if (!phase_is_of_follow(phase)) /* those that never begin do not count */
            progress->phases[phase].state = phase == PHASE_ANALYZE ? PHASE_SKIPPED : PHASE_DONE;
    assert_true(display_fraction(progress) >= 1);
}

static void test_bar_never_goes_back(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    DisplayStyle style = {.columns = 80, .rows = 24, .least_fraction = 0.64};
    display_render(&fixture.out, &fixture.progress, &style);
    assert_non_null(strstr(fixture.out.data, " 64%  430"));
}

static void test_plain(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    display_plain(&fixture.out, &fixture.progress);
    assert_string_equal(fixture.out.data,
                        "30%  430.0 MB of 1000.0 MB  120.0 MB/s  tables 12/40  indexes 2/17  30.0s, about 1m 10s left");
}

static void test_changes(void **state UNUSED) {
    CLEANUP(fixture_fini) Fixture fixture = the_fixture();
    Progress before = fixture.progress;
    Progress *now = &fixture.progress;
    display_changes(&fixture.out, &before, now);
    assert_string_equal(fixture.out.data, "");
    now->phases[PHASE_COPY] = (PhaseProgress){.state = PHASE_DONE, .done = 1234, .total = 1234, .elapsed_us = 9000000};
    now->phases[PHASE_FOREIGN_KEY].state = PHASE_RUNNING;
    now->phases[PHASE_ANALYZE].state = PHASE_SKIPPED;
    display_changes(&fixture.out, &before, now);
    assert_string_equal(fixture.out.data, "Copy: done in 9.00s (1,234)\n"
                                          "Foreign keys: added and validated\n"
                                          "Analyze: skipped\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_80_columns),
        cmocka_unit_test(test_120_columns_utf8),
        cmocka_unit_test(test_fits_every_size),
        cmocka_unit_test(test_more_tasks_than_rows),
        cmocka_unit_test(test_colours_are_closed),
        cmocka_unit_test(test_nothing_known_yet),
        cmocka_unit_test(test_catching_up),
        cmocka_unit_test(test_what_the_slot_keeps),
        cmocka_unit_test(test_caught_up_and_promoting),
        cmocka_unit_test(test_following_fits_every_size),
        cmocka_unit_test(test_following_in_lines),
        cmocka_unit_test(test_fraction),
        cmocka_unit_test(test_bar_never_goes_back),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_changes),
    };
    return cmocka_run_group_tests(tests, need_utf8, NULL);
}
