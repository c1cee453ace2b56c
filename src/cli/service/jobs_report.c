/* `pgcrane jobs report`: what a job moved, how long it took, what its promote has shown, and what is left to do. */
#include "cli/service/jobs.h"

#include "cli/service/show.h"
#include "common/clock.h"
#include "model/job_report.h"

#include <string.h>

/* "6,000,000"; NULL when it is not known. */
static const char *count_text(const Service *service, const json_t *object, const char *key) {
    return json_object_get(object, key) == NULL ? NULL : format_count(service->arena, json_get_int(object, key, 0));
}

static const char *bytes_text(const Service *service, const json_t *object, const char *key) {
    return json_object_get(object, key) == NULL ? NULL : format_bytes(service->arena, json_get_int(object, key, 0));
}

static const char *some(const char *text) {
    return text == NULL ? "0" : text;
}

static const char *seconds_text(const Service *service, const json_t *object, const char *key) {
    const char *text = report_seconds_text(service->arena, object, key);

    return text[0] == '\0' ? NULL : text;
}

/* --- the job --- */

static void put_job(const Service *service, const json_t *report, Buf *out) {
    const json_t *totals = json_get_object(report, "totals");
    const char *state = json_get_string(report, "state", "");
    const TableStyle style = {.utf8 = service->tty.utf8, .color = service->tty.color};
    FactVec facts = {0};

    show_fact(service, &facts, "Job", INK_BOLD, service_id(service, json_get_string(report, "name", "")));
    show_fact(service, &facts, "State", show_state_ink(state), state);
    show_fact(service, &facts, "From", INK_PLAIN, service_id(service, json_get_string(report, "source", "")));
    show_fact(service, &facts, "To", INK_PLAIN, service_id(service, json_get_string(report, "destination", "")));
    show_fact(service, &facts, "Begun", INK_PLAIN, show_time(service, json_get_string(report, "startTime", NULL)));
    show_fact(service, &facts, "Ended", INK_PLAIN, show_time(service, json_get_string(report, "endTime", NULL)));
    show_fact(service, &facts, "Copied", INK_PLAIN,
              arena_printf(service->arena, "%s rows of %s tables, %s", some(count_text(service, totals, "rows")),
                           some(count_text(service, totals, "tables")), some(bytes_text(service, totals, "bytes"))));
    show_fact(service, &facts, "Followed", INK_PLAIN,
              arena_printf(service->arena, "%s transactions", some(count_text(service, totals, "transactions"))));
    show_fact(service, &facts, "Longest outage", INK_PLAIN, seconds_text(service, totals, "longestOutageSeconds"));
    facts_render(out, &style, &facts);
    buf_append_char(out, '\n');
}

static const char *proof_word(const json_t *promote) {
    if (promote == NULL)
        return NULL;
    return json_get_bool(promote, "proven", false) ? "yes" : "none";
}

static void put_databases(const Service *service, const json_t *databases, Buf *out) {
    static const TableColumn columns[] = {{"DATABASE", false}, {"STATE", false}, {"TABLES", true},
                                          {"ROWS", true},      {"SOURCE", true}, {"DESTINATION", true},
                                          {"OUTAGE", true},    {"PROOF", false}};
    size_t rows = json_array_size(databases);
    TableCell *cells = arena_array(service->arena, TableCell, rows * COUNT_OF(columns) + 1);
    const TableStyle style = {.utf8 = service->tty.utf8,
                              .color = service->tty.color,
                              .width = service->tty.is_terminal ? service->tty.columns : 0};

    for (size_t at = 0; at < rows; at++) {
        const json_t *database = json_array_get(databases, at), *copied = json_get_object(database, "copied");
        const json_t *promote = json_get_object(database, "promote");
        const char *state = json_get_string(database, "state", "");
        const TableCell row[] = {
            {json_get_string(database, "database", ""), INK_PLAIN},
            {state, show_state_ink(state)},
            {count_text(service, copied, "tables"), INK_PLAIN},
            {count_text(service, copied, "rows"), INK_PLAIN},
            {bytes_text(service, json_get_object(database, "source"), "bytes"), INK_PLAIN},
            {bytes_text(service, json_get_object(database, "destination"), "bytes"), INK_PLAIN},
            {seconds_text(service, promote, "outageSeconds"), INK_PLAIN},
            {proof_word(promote), json_get_bool(promote, "proven", false) ? INK_GREEN : INK_RED},
        };
        memcpy(&cells[at * COUNT_OF(columns)], row, sizeof(row));
    }
    table_render(out, &style, columns, COUNT_OF(columns), cells, rows);
}

/* --- what is left to do --- */

static void put_lines(const Service *service, const char *text, int indent, Buf *out) {
    const char *clean = text_clean(service->arena, text);

    while (*clean != '\0') {
        size_t len = strcspn(clean, "\n");

        buf_printf(out, "%*s%.*s\n", indent, "", (int)len, clean);
        clean += len + (clean[len] == '\n');
    }
}

static void put_more(const Service *service, int64_t more, Buf *out) {
    if (more > 0)
        buf_printf(out, "  and %s more\n", format_count(service->arena, more));
}

static void put_not_moved(const Service *service, const json_t *database, Buf *out) {
    const json_t *list = json_get_array(database, "notMoved");

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        put_lines(service,
                  arena_printf(service->arena, "not moved: %s %s: %s", json_get_string(item, "kind", ""),
                               json_get_string(item, "object", ""), json_get_string(item, "reason", "")),
                  2, out);
        put_lines(service, json_get_string(item, "sql", ""), 6, out);
    }
    put_more(service, json_get_int(database, "notMovedMore", 0), out);
}

static void put_findings(const Service *service, const json_t *list, int64_t more, Buf *out) {
    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        put_lines(service,
                  arena_printf(service->arena, "%s: %s", json_get_string(item, "id", ""),
                               json_get_string(item, "message", "")),
                  2, out);
        put_lines(service, json_get_string(item, "fix", ""), 6, out);
    }
    put_more(service, more, out);
}

static void put_notes(const Service *service, const json_t *notes, Buf *out) {
    for (size_t at = 0; at < json_array_size(notes); at++) {
        const char *text = json_string_value(json_array_get(notes, at));

        put_lines(service, arena_printf(service->arena, "note: %s", text != NULL ? text : ""), 2, out);
    }
}

static void put_database(const Service *service, const json_t *database, Buf *out) {
    const char *proof = report_proof_text(service->arena, json_get_object(database, "promote"));

    buf_printf(out, "\nDatabase %s\n", text_clean(service->arena, json_get_string(database, "database", "")));
    if (proof[0] != '\0')
        put_lines(service, arena_printf(service->arena, "proof: %s", proof), 2, out);
    if (json_get_bool(database, "complete", false) && json_array_size(json_get_array(database, "notMoved")) == 0)
        buf_append_str(out, "  everything was moved\n");
    put_not_moved(service, database, out);
    put_findings(service, json_get_array(database, "warnings"), json_get_int(database, "warningsMore", 0), out);
    put_notes(service, json_get_array(database, "notes"), out);
}

static void put_instance(const Service *service, const json_t *instance, Buf *out) {
    const json_t *left = json_get_array(instance, "databasesLeftOut"), *findings = json_get_array(instance, "findings");

    if (json_array_size(left) + json_array_size(findings) == 0)
        return;
    buf_append_str(out, "\nThe instance\n");
    for (size_t at = 0; at < json_array_size(left); at++)
        put_lines(service,
                  arena_printf(service->arena, "left out: database %s: %s",
                               json_get_string(json_array_get(left, at), "database", ""),
                               json_get_string(json_array_get(left, at), "reason", "")),
                  2, out);
    put_findings(service, findings, json_get_int(instance, "findingsMore", 0), out);
}

static void put_text(const Service *service, const json_t *report, Buf *out) {
    const json_t *databases = json_get_array(report, "databases");

    put_job(service, report, out);
    put_databases(service, databases, out);
    put_instance(service, json_get_object(report, "instance"), out);
    for (size_t at = 0; at < json_array_size(databases); at++)
        put_database(service, json_array_get(databases, at), out);
}

/* The page is made here, from the same data as the service's own. */
bool jobs_report(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *report = NULL;
    const char *name = NULL;

    if (!jobs_name(service, &name, err) ||
        !service_get(service, arena_printf(service->arena, "%s:report", name), NULL, &report, err))
        return false;
    if (service->format == OUTPUT_TABLE)
        put_text(service, report, service->out);
    else if (service->format == OUTPUT_HTML)
        report_html(report, service->out);
    else
        show_data(service->format, report, service->out);
    return true;
}
