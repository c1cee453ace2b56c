/* Progress and report to JSON and back, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/progress.h"

#include <math.h>
#include <string.h>

static Progress sample(Arena *arena) {
    Progress progress = {
        .elapsed_us = 1,
        .bytes_done = 2,
        .bytes_total = INT64_MAX,
        .wire_bytes = 4,
        .rows_done = 5,
        .tables_done = 6,
        .tables_total = 7,
        .indexes_done = 8,
        .indexes_total = 9,
        .bytes_per_second = 0.1,
        .eta_us = -1,
    };
    progress.phases[PHASE_COPY] = (PhaseProgress){PHASE_RUNNING, 10, 11, 12, 13};
    progress.phases[PHASE_PREFLIGHT].state = PHASE_DONE;
    progress.phases[PHASE_ANALYZE].state = PHASE_SKIPPED;
    vec_push(arena, &progress.tasks, ((TaskProgress){"copy", "public.a", 1, 2, 3}));
    vec_push(arena, &progress.tasks, ((TaskProgress){"index", "public.caf\xe9", 0, 0, 4}));
    return progress;
}

static CdcProgress following(Arena *arena) {
    CdcProgress cdc = {
        .state = CDC_CATCHING_UP,
        .applied_lsn = "0/1",
        .source_lsn = "A/FF",
        .lag_bytes = 1,
        .lag_us = 2,
        .eta_us = -1,
        .transactions = 3,
        .inserts = 4,
        .updates = 5,
        .deletes = 6,
        .truncates = 7,
        .ddl = 8,
        .inserts_rate = 0.5,
        .updates_rate = 1.5,
        .deletes_rate = 2.5,
        .retained_bytes = 9,
        .limit_bytes = -1,
        .limit_seconds = 10,
        .catalog_age = 11,
        .promote_step = "stop writes",
    };
    vec_push(arena, &cdc.tables, ((CdcTable){"public.a", 1, 2, 3, 4}));
    vec_push(arena, &cdc.tables, ((CdcTable){"public.b", 5, 6, 7, 8}));
    vec_push(arena, &cdc.problems, "table public.c has lost its key");
    return cdc;
}

static void test_following(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Progress progress = {.cdc = following(arena)}, back;
    const CdcProgress *cdc = &progress.cdc;
    Error err;
    memset(&back, 0x55, sizeof(back));
    CLEANUP(json_freep) json_t *json = progress_to_json(&progress);
    assert_true(progress_from_json(arena, json, &back, &err));
    assert_int_equal(back.cdc.state, CDC_CATCHING_UP);
    assert_string_equal(back.cdc.applied_lsn, "0/1");
    assert_string_equal(back.cdc.source_lsn, "A/FF");
    assert_string_equal(back.cdc.promote_step, "stop writes");
    assert_memory_equal(&back.cdc.lag_bytes, &cdc->lag_bytes,
                        offsetof(CdcProgress, promote_step) - offsetof(CdcProgress, lag_bytes));
    assert_int_equal(back.cdc.tables.len, 2);
    assert_string_equal(back.cdc.tables.items[1].name, "public.b");
    assert_memory_equal(&back.cdc.tables.items[1].inserts, &cdc->tables.items[1].inserts, 4 * sizeof(int64_t));
    assert_int_equal(back.cdc.problems.len, 1);
    assert_string_equal(back.cdc.problems.items[0], "table public.c has lost its key");
}

/* One that does not follow says nothing about it; of one that says little, the rest is not known. */
static void test_following_of_little(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Progress none = {0}, back;
    Error err;
    CLEANUP(json_freep) json_t *without = progress_to_json(&none);
    assert_null(json_get_object(without, "cdc"));
    assert_true(progress_from_json(arena, without, &back, &err));
    assert_int_equal(back.cdc.state, CDC_NONE);
    CLEANUP(json_freep) json_t *little = json_pack("{s:{s:s}}", "cdc", "state", "FOLLOWING");
    assert_true(progress_from_json(arena, little, &back, &err));
    assert_int_equal(back.cdc.state, CDC_FOLLOWING);
    assert_int_equal(back.cdc.lag_bytes, -1);
    assert_int_equal(back.cdc.lag_us, -1);
    assert_int_equal(back.cdc.retained_bytes, -1);
    assert_int_equal(back.cdc.transactions, 0);
    CLEANUP(json_freep) json_t *bad = json_pack("{s:{s:[i]}}", "cdc", "problems", 1);
    assert_false(progress_from_json(arena, bad, &back, &err));
    assert_string_equal(err.message, "progress: problem 0 is no text");
}

static void assert_progress(const Progress *a, const Progress *b) {
    assert_memory_equal(a->phases, b->phases, sizeof(a->phases));
    assert_int_equal(a->elapsed_us, b->elapsed_us);
    assert_int_equal(a->bytes_done, b->bytes_done);
    assert_int_equal(a->bytes_total, b->bytes_total);
    assert_int_equal(a->wire_bytes, b->wire_bytes);
    assert_int_equal(a->rows_done, b->rows_done);
    assert_int_equal(a->tables_done, b->tables_done);
    assert_int_equal(a->tables_total, b->tables_total);
    assert_int_equal(a->indexes_done, b->indexes_done);
    assert_int_equal(a->indexes_total, b->indexes_total);
    assert_true(a->bytes_per_second == b->bytes_per_second);
    assert_int_equal(a->eta_us, b->eta_us);
    assert_int_equal(a->tasks.len, b->tasks.len);
}

static void test_progress(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Progress progress = sample(arena), back;
    Error err;
    memset(&back, 0x55, sizeof(back));
    CLEANUP(json_freep) json_t *json = progress_to_json(&progress);
    assert_true(progress_from_json(arena, json, &back, &err));
    assert_progress(&progress, &back);
    assert_string_equal(back.tasks.items[0].kind, "copy");
    assert_string_equal(back.tasks.items[0].object, "public.a");
    assert_int_equal(back.tasks.items[0].total, 2);
    assert_int_equal(back.tasks.items[1].elapsed_us, 4);
    assert_string_equal(back.tasks.items[1].object, "public.caf?");
}

static void test_progress_of_little(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *empty = json_object();
    Progress back;
    Error err;
    assert_true(progress_from_json(arena, empty, &back, &err));
    assert_int_equal(back.eta_us, -1);
    assert_int_equal(back.phases[PHASE_COPY].state, PHASE_WAITING);
    Progress odd = {.bytes_per_second = NAN};
    CLEANUP(json_freep) json_t *json = progress_to_json(&odd);
    assert_true(json_get_real(json, "bytes_per_second", -1) == 0);
}

static void test_progress_refuses(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *array = json_array();
    CLEANUP(json_freep) json_t *phase = json_pack("{s:[{s:s, s:s}]}", "phases", "phase", "X", "state", "DONE");
    CLEANUP(json_freep) json_t *in_state = json_pack("{s:[{s:s, s:s}]}", "phases", "phase", "COPY", "state", "X");
    Progress back = {.rows_done = 77};
    Error err;
    assert_false(progress_from_json(arena, array, &back, &err));
    assert_false(progress_from_json(arena, phase, &back, &err));
    assert_false(progress_from_json(arena, in_state, &back, &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    assert_int_equal(back.rows_done, 77);
}

static void test_report(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Report report = {
        .job_id = "j1",
        .source = "a@b/c",
        .dest = "d@e/f",
        .source_version = "14.1",
        .dest_version = "17.2",
        .pg_dump = NULL,
        .progress = sample(arena),
        .jobs = 1,
        .index_jobs = 2,
        .snapshots = 3,
        .chunks_copied = 4,
        .chunks_kept = 5,
        .retries = 6,
        .largest_row = 7,
        .promoted = true,
        .proven = true,
        .outage_us = 8,
    };
    Report back;
    Error err;
    vec_push(arena, &report.not_moved, ((NotMoved){"subscription", "s", "of the server"}));
    vec_push(arena, &report.notes, "first");
    vec_push(arena, &report.notes, "second");
    vec_push(arena, &report.promote_steps, ((ReportStep){"stop writes", 5}));
    vec_push(arena, &report.promote_steps, ((ReportStep){"proof", 6}));
    CLEANUP(json_freep) json_t *json = report_to_json(&report);
    assert_true(report_from_json(arena, json, &back, &err));
    assert_string_equal(back.job_id, "j1");
    assert_string_equal(back.source, "a@b/c");
    assert_string_equal(back.dest, "d@e/f");
    assert_string_equal(back.source_version, "14.1");
    assert_string_equal(back.dest_version, "17.2");
    assert_null(back.pg_dump);
    assert_progress(&report.progress, &back.progress);
    assert_memory_equal(&report.jobs, &back.jobs, offsetof(Report, not_moved) - offsetof(Report, jobs));
    assert_string_equal(back.not_moved.items[0].kind, "subscription");
    assert_string_equal(back.not_moved.items[0].object, "s");
    assert_string_equal(back.not_moved.items[0].reason, "of the server");
    assert_int_equal(back.notes.len, 2);
    assert_string_equal(back.notes.items[1], "second");
    assert_true(back.promoted && back.proven);
    assert_int_equal(back.outage_us, 8);
    assert_int_equal(back.promote_steps.len, 2);
    assert_string_equal(back.promote_steps.items[0].name, "stop writes");
    assert_int_equal(back.promote_steps.items[1].us, 6);
}

static void test_report_refuses(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *array = json_array();
    CLEANUP(json_freep) json_t *bare = json_object();
    CLEANUP(json_freep) json_t *note = json_pack("{s:{}, s:[i]}", "progress", "notes", 1);
    Report back = {.jobs = 77};
    Error err;
    assert_false(report_from_json(arena, array, &back, &err));
    assert_false(report_from_json(arena, bare, &back, &err));
    assert_string_equal(err.message, "report: progress: not an object");
    assert_false(report_from_json(arena, note, &back, &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    assert_int_equal(back.jobs, 77);
}

static void test_phases_of_follow(void **state UNUSED) {
    Progress progress = {0};
    progress.phases[PHASE_SEAM].state = PHASE_SKIPPED;
    assert_false(progress_has_phase(&progress, PHASE_SEAM));
    assert_false(progress_has_phase(&progress, PHASE_CDC));
    assert_true(progress_has_phase(&progress, PHASE_COPY));
    progress.cdc.state = CDC_CATCHING_UP;
    assert_true(progress_has_phase(&progress, PHASE_PROMOTE));
    progress.cdc.state = CDC_NONE;
    progress.phases[PHASE_SEAM].state = PHASE_DONE;
    assert_true(progress_has_phase(&progress, PHASE_CDC));
}

static void test_names(void **state UNUSED) {
    assert_string_equal(phase_name(PHASE_FOREIGN_KEY), "FOREIGN_KEY");
    assert_string_equal(phase_title(PHASE_FOREIGN_KEY), "Foreign keys");
    assert_string_equal(phase_help(PHASE_ANALYZE), "planner statistics");
    assert_string_equal(cdc_state_name(CDC_COPYING_AGAIN), "COPYING_AGAIN");
    assert_string_equal(cdc_state_help(CDC_FOLLOWING), "caught up");
    for (CdcState cdc = 0; cdc < CDC_STATE_MAX_; cdc++)
        assert_int_equal(cdc_state_from_name(cdc_state_name(cdc)), cdc);
    assert_int_equal(cdc_state_from_name("caught up"), CDC_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_following),        cmocka_unit_test(test_following_of_little),
        cmocka_unit_test(test_progress),         cmocka_unit_test(test_progress_of_little),
        cmocka_unit_test(test_progress_refuses), cmocka_unit_test(test_report),
        cmocka_unit_test(test_report_refuses),   cmocka_unit_test(test_names),
        cmocka_unit_test(test_phases_of_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
