/* Report, findings, plan and errors as they are read by people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/report.h"
#include "common/clock.h"

#include <string.h>

static const int64_t megabyte = 1024 * 1024;

static Report the_report(void) {
    Report report = {
        .job_id = "k3f9",
        .source = "app@old:5432/shop",
        .dest = "app@new:5432/shop",
        .source_version = "15.20",
        .dest_version = "16.4",
        .pg_dump = "/usr/lib/postgresql/16/bin/pg_dump 16.4",
        .jobs = 4,
        .index_jobs = 2,
        .snapshots = 1,
        .chunks_copied = 120,
    };
    Progress *progress = &report.progress;
    progress->elapsed_us = 200 * USEC_PER_SEC;
    progress->bytes_done = 3000 * megabyte;
    progress->wire_bytes = 2000 * megabyte;
    progress->rows_done = 6000000;
    progress->tables_done = progress->tables_total = 40;
    progress->indexes_done = progress->indexes_total = 17;
    for (Phase phase = 0; phase < PHASE_CDC; phase++)
        if (!phase_is_of_follow(phase))
            progress->phases[phase] = (PhaseProgress){.state = PHASE_DONE, .elapsed_us = 2 * USEC_PER_SEC, .done = 1};
    progress->phases[PHASE_COPY] = (PhaseProgress){
        .state = PHASE_DONE,
        .elapsed_us = 100 * USEC_PER_SEC,
        .done = 120,
        .total = 120,
        .busy_us = 390 * USEC_PER_SEC,
    };
    progress->phases[PHASE_ANALYZE].state = PHASE_SKIPPED;
    return report;
}

static void test_report(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Report report = the_report();
    report_render(&out, &report);
    assert_string_equal(out.data, "Migrated app@old:5432/shop to app@new:5432/shop in 3m 20s\n"
                                  "\n"
                                  "  Phase            Duration      Items  Concurrency\n"
                                  "  Check               2.00s          1\n"
                                  "  Snapshot            2.00s          1\n"
                                  "  Schema              2.00s          1\n"
                                  "  Copy               1m 40s        120          3.9\n"
                                  "  Index               2.00s          1\n"
                                  "  Foreign keys        2.00s          1\n"
                                  "  Finish              2.00s          1\n"
                                  "  Analyze           skipped\n"
                                  "\n"
                                  "  Data         2.9 GB on the source's disk, 2.0 GB sent at 20.0 MB/s\n"
                                  "  Rows         6,000,000\n"
                                  "  Tables       40 of 40\n"
                                  "  Indexes      17 of 17\n"
                                  "  Chunks       120 copied\n"
                                  "  Retries      0\n"
                                  "  Snapshots    1: all tables show the same moment of the source\n"
                                  "  Lanes        4 for data, 2 for indexes\n"
                                  "  Source       15.20\n"
                                  "  Destination  16.4\n"
                                  "  Client       /usr/lib/postgresql/16/bin/pg_dump 16.4\n"
                                  "  Job          k3f9\n"
                                  "\n"
                                  "Everything was moved.\n");
}

static void test_report_of_a_resumed_run(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Report report = the_report();
    report.chunks_kept = 1200;
    report.snapshots = 2;
    report.retries = 3;
    report.largest_row = 5 * megabyte;
    NotMoved left = {"subscription", "evil\033[31m", "it belongs to its server"};
    vec_push(arena, &report.not_moved, left);
    vec_push(arena, &report.notes, "read this");
    report_render(&out, &report);
    assert_non_null(strstr(out.data, "120 copied, 1,200 kept from an earlier run\n"));
    assert_non_null(strstr(out.data, "2: tables show different moments"));
    assert_non_null(strstr(out.data, "Largest row  5.0 MB\n"));
    assert_non_null(strstr(out.data, "\nNot moved (1):\n  subscription evil?[31m: it belongs to its server\n"));
    assert_non_null(strstr(out.data, "\nNotes:\n  - read this\n"));
    assert_null(strstr(out.data, "Everything was moved"));
}

static void test_report_of_a_promoted_run(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Report report = the_report();
    report.progress.phases[PHASE_SEAM] = (PhaseProgress){.state = PHASE_DONE, .elapsed_us = USEC_PER_SEC};
    report.progress.phases[PHASE_PROMOTE] = (PhaseProgress){.state = PHASE_DONE, .elapsed_us = 3 * USEC_PER_SEC};
    report.progress.cdc = (CdcProgress){.state = CDC_PROMOTED, .transactions = 5000, .inserts = 1, .updates = 2};
    report.promoted = report.proven = true;
    report.outage_us = 412345;
    vec_push(arena, &report.promote_steps, ((ReportStep){"stop writes on the source", 120000}));
    report_render(&out, &report);
    assert_non_null(strstr(out.data, "\n  Slot                1.00s\n"));
    assert_non_null(strstr(out.data, "\n  Follow            skipped\n"));
    assert_non_null(strstr(out.data, "\n  Promote             3.00s\n"));
    assert_non_null(
        strstr(out.data, "\n  Followed     5,000 transactions; by this run 1 inserts, 2 updates, 0 deletes\n"));
    assert_non_null(strstr(out.data, "\n  Outage       413 ms\n"));
    assert_non_null(strstr(out.data, "\n  Proof        nothing changed on the source"));
    assert_non_null(strstr(out.data, "\nPromote:\n      120 ms  stop writes on the source\n"));
    report.proven = false;
    buf_clear(&out);
    report_render(&out, &report);
    assert_non_null(strstr(out.data, "\n  Proof        none: writes of the last moment may be missing"));
}

static void test_findings(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    FindingVec findings = {0};
    Finding info = {"NOTE_IT", SEVERITY_INFO, "", "source", "", "nothing bad", ""};
    Finding error = {"CANNOT_READ",
                     SEVERITY_ERROR,
                     "",
                     "source",
                     "table public.a",
                     "app may not read it",
                     "GRANT USAGE ON SCHEMA public TO app;\nGRANT SELECT ON public.a TO app;"};
    Finding warning = {"LITTLE_ROOM", SEVERITY_WARNING, "", "destination", "", "3 GB are free\nbut 4 GB needed", ""};
    vec_push(arena, &findings, info);
    vec_push(arena, &findings, error);
    vec_push(arena, &findings, warning);
    findings_render(&out, &findings);
    assert_string_equal(out.data, "error CANNOT_READ: source, table public.a\n"
                                  "  app may not read it\n"
                                  "      GRANT USAGE ON SCHEMA public TO app;\n"
                                  "      GRANT SELECT ON public.a TO app;\n"
                                  "\n"
                                  "warning LITTLE_ROOM: destination\n"
                                  "  3 GB are free\n"
                                  "  but 4 GB needed\n"
                                  "\n"
                                  "info NOTE_IT: source\n"
                                  "  nothing bad\n"
                                  "\n"
                                  "Checked: 1 error, 1 warning, 1 note\n");
}

static void test_no_findings(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1024);
    findings_render(&out, &(FindingVec){0});
    assert_string_equal(out.data, "Checked: 0 errors, 0 warnings, 0 notes\n");
}

static bool plan_of(Arena *arena, const char *text, Plan *plan, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    assert_true(json_parse(text, strlen(text), &json, err));
    return plan_from_json(arena, json, plan, err);
}

static void test_plan(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Plan plan;
    Error err;
    assert_true(plan_of(arena,
                        "{\"tables\": [{\"table\": \"s.small\", \"bytes\": 8192, \"chunks\": 1},"
                        " {\"table\": \"s.big\", \"bytes\": 1073741824, \"chunks\": 16}],"
                        " \"bytes\": 1073750016, \"seconds\": 12.5, \"to_drop\": [\"table s.old\"]}",
                        &plan, &err));
    plan_render(&out, &plan);
    assert_string_equal(out.data, "Plan: 1.0 GB in 2 tables, 17 chunks, about 12.5s\n"
                                  "\n"
                                  "          Size   Chunks  Table\n"
                                  "        1.0 GB       16  s.big\n"
                                  "        8.0 kB        1  s.small\n"
                                  "\n"
                                  "Would be dropped first:\n"
                                  "  table s.old\n"
                                  "\n"
                                  "Dry run: nothing was changed.\n");
}

static void test_plan_shows_twenty(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Plan plan = {.seconds = -1};
    for (int at = 0; at < 23; at++) {
        PlanTable table = {arena_printf(arena, "t%02d", at), at, 1};
        vec_push(arena, &plan.tables, table);
    }
    plan_render(&out, &plan);
    assert_non_null(strstr(out.data, "t22\n"));
    assert_non_null(strstr(out.data, "t03\n"));
    assert_null(strstr(out.data, "t02\n"));
    assert_non_null(strstr(out.data, "and 3 more"));
    assert_null(strstr(out.data, "about"));
    assert_null(strstr(out.data, "dropped"));
}

static void test_bad_plans(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Plan plan;
    Error err;
    assert_false(plan_of(arena, "{\"tables\": [{\"bytes\": 1}]}", &plan, &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);
    assert_false(plan_of(arena, "{\"tables\": [], \"to_drop\": [5]}", &plan, &err));
    assert_int_equal(err.reason, REASON_WIRE_BAD);
}

static void test_error(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 64 * 1024);
    Error err;
    error_set(&err, REASON_DISK_FULL, "copying public.a: No space left\033[2J");
    memcpy(err.sqlstate, "53100", sizeof("53100"));
    error_render(&out, &err);
    assert_string_equal(out.data, "pgcrane: error: copying public.a: No space left?[2J\n"
                                  "  reason: DISK_FULL (SQLSTATE 53100)\n"
                                  "  do: free disk space on that server, then run the same command again\n");
    buf_clear(&out);
    error_set(&err, REASON_SQL_FAILED, "no");
    error_render(&out, &err);
    assert_string_equal(out.data, "pgcrane: error: no\n  reason: SQL_FAILED\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_report_of_a_resumed_run),
        cmocka_unit_test(test_report_of_a_promoted_run),
        cmocka_unit_test(test_findings),
        cmocka_unit_test(test_no_findings),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_shows_twenty),
        cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
