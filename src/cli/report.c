/* Findings, plan, final report and errors as text for people. */
#include "cli/report.h"

#include "cli/promoted.h"
#include "cli/tty.h"
#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

enum { PLAN_TABLES_SHOWN = 20, LABEL_WIDTH = 13 };

static const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}

/* --- the final report --- */

static void report_fact(Buf *out, const char *label, const char *text) {
    if (text != NULL && text[0] != '\0')
        buf_printf(out, "  %-*s%s\n", LABEL_WIDTH, label, text);
}

static void report_phase(Arena *arena, Buf *out, Phase phase, const PhaseProgress *progress) {
    if (progress->state == PHASE_SKIPPED || progress->state == PHASE_WAITING) {
        buf_printf(out, "  %-14s %10s\n", phase_title(phase), "skipped");
        return;
    }
    buf_printf(out, "  %-14s %10s", phase_title(phase), clock_duration(arena, progress->elapsed_us));
    bool counted = progress->total > 0 || progress->done > 0;
    bool several = progress->busy_us > 0 && progress->elapsed_us > 0;
    if (counted || several)
        buf_printf(out, " %10s", counted ? format_count(arena, progress->done) : "");
    if (several)
        buf_printf(out, " %12.1f", (double)progress->busy_us / (double)progress->elapsed_us);
    buf_append_char(out, '\n');
}

static void report_phases(Arena *arena, Buf *out, const Report *report) {
    buf_printf(out, "  %-14s %10s %10s %12s\n", "Phase", "Duration", "Items", "Concurrency");
    for (Phase phase = 0; phase < PHASE_MAX_; phase++)
        if (progress_has_phase(&report->progress, phase))
            report_phase(arena, out, phase, &report->progress.phases[phase]);
    buf_append_char(out, '\n');
}

/* The rate is of bytes sent by this run: what an earlier one had done is in bytes_done as well. */
static const char *data_text(Arena *arena, const Progress *progress) {
    int64_t copy_us = progress->phases[PHASE_COPY].elapsed_us;
    const char *rate = "";
    if (copy_us > 0 && progress->wire_bytes > 0) {
        double per_second = (double)progress->wire_bytes * (double)USEC_PER_SEC / (double)copy_us;
        rate = arena_printf(arena, " at %s/s", format_bytes(arena, (int64_t)per_second));
    }
    return arena_printf(arena, "%s on the source's disk, %s sent%s", format_bytes(arena, progress->bytes_done),
                        format_bytes(arena, progress->wire_bytes), rate);
}

static const char *chunks_text(Arena *arena, const Report *report) {
    const char *copied = format_count(arena, report->chunks_copied);
    if (report->chunks_kept == 0)
        return arena_printf(arena, "%s copied", copied);
    return arena_printf(arena, "%s copied, %s kept from an earlier run", copied,
                        format_count(arena, report->chunks_kept));
}

static const char *snapshots_text(Arena *arena, const Report *report) {
    if (report->snapshots == 0)
        return "";
    if (report->snapshots == 1)
        return "1: all tables show the same moment of the source";
    return arena_printf(arena, "%s: tables show different moments of the source",
                        format_count(arena, report->snapshots));
}

static void report_totals(Arena *arena, Buf *out, const Report *report) {
    const Progress *progress = &report->progress;
    report_fact(out, "Data", data_text(arena, progress));
    report_fact(out, "Rows", format_count(arena, progress->rows_done));
    report_fact(out, "Tables",
                arena_printf(arena, "%s of %s", format_count(arena, progress->tables_done),
                             format_count(arena, progress->tables_total)));
    report_fact(out, "Indexes",
                arena_printf(arena, "%s of %s", format_count(arena, progress->indexes_done),
                             format_count(arena, progress->indexes_total)));
    report_fact(out, "Chunks", chunks_text(arena, report));
    report_fact(out, "Retries", format_count(arena, report->retries));
    report_fact(out, "Snapshots", snapshots_text(arena, report));
    if (report->largest_row > 0)
        report_fact(out, "Largest row", format_bytes(arena, report->largest_row));
    report_fact(out, "Lanes",
                arena_printf(arena, "%s for data, %s for indexes", format_count(arena, report->jobs),
                             format_count(arena, report->index_jobs)));
    report_fact(out, "Source", report->source_version);
    report_fact(out, "Destination", report->dest_version);
    report_fact(out, "Client", report->pg_dump);
    report_fact(out, "Job", report->job_id);
}

static void report_promote(Arena *arena, Buf *out, const Report *report) {
    const CdcProgress *cdc = &report->progress.cdc;
    if (!report->promoted)
        return;
    report_fact(out, "Followed",
                arena_printf(arena, "%s transactions; by this run %s inserts, %s updates, %s deletes",
                             format_count(arena, cdc->transactions), format_count(arena, cdc->inserts),
                             format_count(arena, cdc->updates), format_count(arena, cdc->deletes)));
    report_fact(out, "Outage",
                report->outage_us > 0 ? outage_with_hooks_text(arena, report->outage_us, report->outage_with_hooks_us)
                                      : "not known: an earlier run, which was interrupted, opened the destination");
    report_fact(out, "Proof",
                report->proven ? "nothing changed on the source after the last change applied"
                               : "none: writes of the last moment may be missing on the destination");
    if (report->promote_steps.len > 0)
        buf_append_str(out, "\nPromote:\n");
    promote_steps_render(out, &report->promote_steps);
}

static void report_not_moved(Arena *arena, Buf *out, const NotMovedVec *not_moved) {
    if (not_moved->len == 0) {
        buf_append_str(out, "\nEverything was moved.\n");
        return;
    }
    buf_printf(out, "\nNot moved (%zu):\n", not_moved->len);
    for (size_t at = 0; at < not_moved->len; at++) {
        const NotMoved *item = &not_moved->items[at];
        buf_printf(out, "  %s %s: %s\n", text_clean(arena, item->kind), text_clean(arena, item->object),
                   text_clean(arena, item->reason));
    }
}

static void report_notes(Arena *arena, Buf *out, const StringVec *notes) {
    if (notes->len == 0)
        return;
    buf_append_str(out, "\nNotes:\n");
    for (size_t at = 0; at < notes->len; at++)
        buf_printf(out, "  - %s\n", text_clean(arena, notes->items[at]));
}

void report_render(Buf *out, const Report *report) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    buf_printf(out, "Migrated %s to %s in %s\n\n", text_clean(arena, report->source), text_clean(arena, report->dest),
               clock_duration(arena, report->progress.elapsed_us));
    report_phases(arena, out, report);
    report_totals(arena, out, report);
    report_promote(arena, out, report);
    report_not_moved(arena, out, &report->not_moved);
    report_notes(arena, out, &report->notes);
}

/* --- findings --- */

static void append_indented(Buf *out, const char *text, int indent) {
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        buf_printf(out, "%*s%.*s\n", len > 0 ? indent : 0, "", (int)len, text);
        text += len + (text[len] == '\n' ? 1 : 0);
    }
}

static void finding_render(Arena *arena, Buf *out, const Finding *finding) {
    buf_printf(out, "%s %s: %s", severity_name(finding->severity), finding->id, finding->side);
    if (finding->object[0] != '\0')
        buf_printf(out, ", %s", text_clean(arena, finding->object));
    buf_append_char(out, '\n');
    append_indented(out, text_clean(arena, finding->message), 2);
    append_indented(out, text_clean(arena, finding->fix), 6);
    buf_append_char(out, '\n');
}

void findings_render(Buf *out, const FindingVec *findings) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (Severity severity = SEVERITY_ERROR; severity <= SEVERITY_INFO; severity++)
        for (size_t at = 0; at < findings->len; at++)
            if (findings->items[at].severity == severity)
                finding_render(arena, out, &findings->items[at]);
    int64_t errors = (int64_t)findings_count(findings, SEVERITY_ERROR);
    int64_t warnings = (int64_t)findings_count(findings, SEVERITY_WARNING);
    int64_t infos = (int64_t)findings_count(findings, SEVERITY_INFO);
    buf_printf(out, "Checked: %lld error%s, %lld warning%s, %lld note%s\n", (long long)errors, plural(errors),
               (long long)warnings, plural(warnings), (long long)infos, plural(infos));
}

/* --- the plan of a dry run --- */

static bool plan_table_from_json(const json_t *json, PlanTable *ret_table, Error *err) {
    const char *table = json_get_string(json, "table", NULL);
    if (table == NULL)
        return error_set(err, REASON_WIRE_BAD, "PLAN: a table without its name");
    *ret_table = (PlanTable){
        .table = table,
        .bytes = json_get_int(json, "bytes", 0),
        .chunks = json_get_int(json, "chunks", 0),
    };
    return true;
}

bool plan_from_json(Arena *arena, const json_t *json, Plan *ret_plan, Error *err) {
    Plan plan = {.bytes = json_get_int(json, "bytes", 0), .seconds = json_get_real(json, "seconds", -1)};
    size_t index;
    const json_t *item;
    json_array_foreach(json_get_array(json, "tables"), index, item) {
        PlanTable table;
        if (!plan_table_from_json(item, &table, err))
            return false;
        table.table = arena_strdup(arena, table.table);
        vec_push(arena, &plan.tables, table);
    }
    json_array_foreach(json_get_array(json, "to_drop"), index, item) {
        if (!json_is_string(item))
            return error_set(err, REASON_WIRE_BAD, "PLAN: to_drop holds something other than text");
        vec_push(arena, &plan.to_drop, arena_strdup(arena, json_string_value(item)));
    }
    *ret_plan = plan;
    return true;
}

static int by_size_descending(const void *left, const void *right) {
    const PlanTable *a = left;
    const PlanTable *b = right;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? 1 : -1;
    return strcmp(a->table, b->table);
}

static void plan_tables_render(Arena *arena, Buf *out, const PlanTableVec *tables) {
    PlanTable *sorted = arena_array(arena, PlanTable, tables->len + 1);
    if (tables->len > 0)
        memcpy(sorted, tables->items, tables->len * sizeof(*sorted));
    qsort(sorted, tables->len, sizeof(*sorted), by_size_descending);
    size_t shown = MIN(tables->len, (size_t)PLAN_TABLES_SHOWN);
    buf_printf(out, "  %12s %8s  %s\n", "Size", "Chunks", "Table");
    for (size_t at = 0; at < shown; at++)
        buf_printf(out, "  %12s %8lld  %s\n", format_bytes(arena, sorted[at].bytes), (long long)sorted[at].chunks,
                   text_clean(arena, sorted[at].table));
    if (shown < tables->len)
        buf_printf(out, "  %12s %8s  and %zu more (all of them with --json)\n", "", "", tables->len - shown);
}

static void plan_drops_render(Arena *arena, Buf *out, const StringVec *to_drop) {
    if (to_drop->len == 0)
        return;
    buf_append_str(out, "\nWould be dropped first:\n");
    for (size_t at = 0; at < to_drop->len; at++)
        buf_printf(out, "  %s\n", text_clean(arena, to_drop->items[at]));
}

void plan_render(Buf *out, const Plan *plan) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    int64_t chunks = 0;
    for (size_t at = 0; at < plan->tables.len; at++)
        chunks += plan->tables.items[at].chunks;
    buf_printf(out, "Plan: %s in %zu table%s, %s chunk%s", format_bytes(arena, plan->bytes), plan->tables.len,
               plural((int64_t)plan->tables.len), format_count(arena, chunks), plural(chunks));
    if (plan->seconds >= 0)
        buf_printf(out, ", about %s", clock_duration(arena, (int64_t)(plan->seconds * (double)USEC_PER_SEC)));
    buf_append_str(out, "\n\n");
    plan_tables_render(arena, out, &plan->tables);
    plan_drops_render(arena, out, &plan->to_drop);
    buf_append_str(out, "\nDry run: nothing was changed.\n");
}

/* --- errors --- */

void error_render(Buf *out, const Error *error) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    buf_printf(out, "pgcrane: error: %s\n  reason: %s", text_clean(arena, error->message),
               error_reason_name(error->reason));
    if (error->sqlstate[0] != '\0')
        buf_printf(out, " (SQLSTATE %s)", error->sqlstate);
    buf_append_char(out, '\n');
    if (error->remedy[0] != '\0')
        buf_printf(out, "  do: %s\n", text_clean(arena, error->remedy));
}
