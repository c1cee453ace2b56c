/*
 * A job's report as one page of HTML.
 *
 * Everything that comes from servers or clients goes through put_text(), which escapes what HTML gives a meaning, in
 * text and in attributes alike. The page has no script, and loads nothing: style stands in it.
 */
#include "model/job_report.h"

#include "common/clock.h"

#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Migration report</title>\n<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:70rem;margin:2rem auto;padding:0 "
    "1rem}\n"
    "h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .5rem;border-bottom:1px solid #d5dce4}\n"
    "h3{font-size:1rem;margin:1.2rem 0 .3rem}table{border-collapse:collapse;width:100%}\n"
    "th,td{text-align:left;padding:.25rem .7rem .25rem 0;border-bottom:1px solid #e8edf2;vertical-align:top}\n"
    "th{font-weight:600;color:#51606f}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1.2rem;margin:.6rem "
    "0}dt{color:#51606f}dd{margin:0}\n"
    "pre{background:#f4f6f8;padding:.5rem .7rem;margin:.3rem 0;white-space:pre-wrap;overflow-wrap:anywhere}\n"
    ".good{color:#12703c}.bad{color:#a3261d}.quiet{color:#51606f}\n"
    "@media(prefers-color-scheme:dark){body{background:#14181d;color:#dfe6ee}pre{background:#1e242b}"
    "th,dt,.quiet{color:#9aa8b7}h2{border-color:#39424d}th,td{border-color:#2a323b}.good{color:#5cc98a}.bad{color:#"
    "f08a80}}\n"
    "</style></head><body>\n";

static void put(Buf *out, const char *markup) {
    buf_append_str(out, markup);
}

static void put_text(Buf *out, const char *text) {
    for (const char *at = text; *at != '\0'; at++)
        switch (*at) {
        case '&':
            put(out, "&amp;");
            break;
        case '<':
            put(out, "&lt;");
            break;
        case '>':
            put(out, "&gt;");
            break;
        case '"':
            put(out, "&quot;");
            break;
        case '\'':
            put(out, "&#39;");
            break;
        default:
            buf_append_char(out, *at);
        }
}

/* Without text nothing is shown. */
static void put_fact(Buf *out, const char *label, const char *text) {
    if (text[0] == '\0')
        return;
    put(out, "<dt>");
    put_text(out, label);
    put(out, "</dt><dd>");
    put_text(out, text);
    put(out, "</dd>\n");
}

static void put_cell(Buf *out, const char *class, const char *text) {
    put(out, class[0] == '\0' ? "<td>" : "<td class=\"");
    if (class[0] != '\0') {
        put(out, class);
        put(out, "\">");
    }
    put_text(out, text);
    put(out, "</td>");
}

static const char *count_text(Arena *arena, const json_t *object, const char *key) {
    return json_object_get(object, key) == NULL ? "" : format_count(arena, json_get_int(object, key, 0));
}

static const char *bytes_text(Arena *arena, const json_t *object, const char *key) {
    return json_object_get(object, key) == NULL ? "" : format_bytes(arena, json_get_int(object, key, 0));
}

static const char *state_text(Arena *arena, const json_t *report) {
    const char *state = json_get_string(report, "state", ""), *phase = json_get_string(report, "phase", "");

    return phase[0] == '\0' ? state : arena_printf(arena, "%s, %s", state, phase);
}

/* ---- The job ---- */

static const char *totals_text(Arena *arena, const json_t *totals) {
    return arena_printf(arena, "%s rows of %s tables, %s on the source's disk; %s indexes",
                        count_text(arena, totals, "rows"), count_text(arena, totals, "tables"),
                        bytes_text(arena, totals, "bytes"), count_text(arena, totals, "indexes"));
}

static const char *followed_text(Arena *arena, const json_t *followed) {
    if (json_get_int(followed, "transactions", 0) == 0)
        return "";
    return arena_printf(arena, "%s transactions: %s inserts, %s updates, %s deletes",
                        count_text(arena, followed, "transactions"), count_text(arena, followed, "inserts"),
                        count_text(arena, followed, "updates"), count_text(arena, followed, "deletes"));
}

static void put_job(Arena *arena, const json_t *report, Buf *out) {
    const json_t *totals = json_get_object(report, "totals");
    const char *title = json_get_string(report, "displayName", "");

    put(out, "<h1>Migration ");
    put_text(out, title[0] != '\0' ? title : json_get_string(report, "job", ""));
    put(out, "</h1>\n<dl>\n");
    put_fact(out, "Job", json_get_string(report, "name", ""));
    put_fact(out, "State", state_text(arena, report));
    put_fact(out, "Kind", json_get_string(report, "type", ""));
    put_fact(out, "From", json_get_string(report, "source", ""));
    put_fact(out, "To", json_get_string(report, "destination", ""));
    put_fact(out, "Begun", json_get_string(report, "startTime", ""));
    put_fact(out, "Ended", json_get_string(report, "endTime", ""));
    put_fact(out, "Databases",
             arena_printf(arena, "%s, %s promoted, %s with proof", count_text(arena, totals, "databases"),
                          count_text(arena, totals, "promoted"), count_text(arena, totals, "proven")));
    put_fact(out, "Copied", totals_text(arena, totals));
    put_fact(out, "Followed", followed_text(arena, totals));
    put_fact(out, "Longest outage", report_seconds_text(arena, totals, "longestOutageSeconds"));
    put_fact(out, "Not moved", count_text(arena, totals, "notMoved"));
    put_fact(out, "Warnings", count_text(arena, totals, "warnings"));
    put_fact(out, "As of", json_get_string(report, "generateTime", ""));
    put(out, "</dl>\n");
}

static void put_row(Arena *arena, const json_t *database, Buf *out) {
    const json_t *copied = json_get_object(database, "copied"), *promote = json_get_object(database, "promote");
    bool proven = json_get_bool(promote, "proven", false);

    put(out, "<tr>");
    put_cell(out, "", json_get_string(database, "database", ""));
    put_cell(out, "", state_text(arena, database));
    put_cell(out, "n", count_text(arena, copied, "tables"));
    put_cell(out, "n", count_text(arena, copied, "rows"));
    put_cell(out, "n", bytes_text(arena, json_get_object(database, "source"), "bytes"));
    put_cell(out, "n", bytes_text(arena, json_get_object(database, "destination"), "bytes"));
    put_cell(out, "n", report_seconds_text(arena, promote, "outageSeconds"));
    put_cell(out, promote == NULL ? "" : proven ? "good" : "bad", promote == NULL ? "" : proven ? "yes" : "no");
    put(out, "</tr>\n");
}

static void put_overview(Arena *arena, const json_t *databases, Buf *out) {
    put(out,
        "<h2>Databases</h2>\n<table><tr><th>Database</th><th>State</th><th class=\"n\">Tables</th><th class=\"n\">Rows"
        "</th><th class=\"n\">Source</th><th class=\"n\">Destination</th><th "
        "class=\"n\">Outage</th><th>Proof</th></tr>\n");
    for (size_t at = 0; at < json_array_size(databases); at++)
        put_row(arena, json_array_get(databases, at), out);
    put(out, "</table>\n");
}

/* ---- Lists ---- */

static void put_more(Arena *arena, int64_t more, Buf *out) {
    if (more == 0)
        return;
    put(out, "<p class=\"quiet\">");
    put_text(out, arena_printf(arena, "and %s more", format_count(arena, more)));
    put(out, "</p>\n");
}

static void put_sql(const char *sql, Buf *out) {
    if (sql[0] == '\0')
        return;
    put(out, "<pre>");
    put_text(out, sql);
    put(out, "</pre>\n");
}

static void put_item(const char *strong, const char *text, const char *sql, Buf *out) {
    put(out, "<p><strong>");
    put_text(out, strong);
    put(out, "</strong>: ");
    put_text(out, text);
    put(out, "</p>\n");
    put_sql(sql, out);
}

static void put_title(const char *title, Buf *out) {
    put(out, "<h3>");
    put_text(out, title);
    put(out, "</h3>\n");
}

static void put_findings(Arena *arena, const char *title, const json_t *list, int64_t more, Buf *out) {
    if (json_array_size(list) == 0)
        return;
    put_title(title, out);
    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);
        const char *object = json_get_string(item, "object", "");
        const char *strong =
            arena_printf(arena, "%s%s%s", json_get_string(item, "id", ""), object[0] == '\0' ? "" : ", ", object);

        put_item(strong, json_get_string(item, "message", ""), json_get_string(item, "fix", ""), out);
    }
    put_more(arena, more, out);
}

static void put_not_moved(Arena *arena, const json_t *database, Buf *out) {
    const json_t *list = json_get_array(database, "notMoved");

    if (list == NULL)
        return;
    put_title(json_array_size(list) == 0 ? "Everything was moved" : "Not moved", out);
    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        put_item(arena_printf(arena, "%s %s", json_get_string(item, "kind", ""), json_get_string(item, "object", "")),
                 json_get_string(item, "reason", ""), json_get_string(item, "sql", ""), out);
    }
    put_more(arena, json_get_int(database, "notMovedMore", 0), out);
}

static void put_notes(const json_t *notes, Buf *out) {
    if (json_array_size(notes) == 0)
        return;
    put(out, "<h3>Notes</h3>\n<ul>\n");
    for (size_t at = 0; at < json_array_size(notes); at++) {
        const char *text = json_string_value(json_array_get(notes, at));

        put(out, "<li>");
        put_text(out, text != NULL ? text : "");
        put(out, "</li>\n");
    }
    put(out, "</ul>\n");
}

/* ---- A database ---- */

static void put_times(Arena *arena, const char *title, const json_t *list, const char *key, Buf *out) {
    if (json_array_size(list) == 0)
        return;
    put_title(title, out);
    put(out, "<table>\n");
    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        put(out, "<tr>");
        put_cell(out, "", json_get_string(item, key, ""));
        put_cell(out, "n", report_seconds_text(arena, item, "seconds"));
        put_cell(out, "n", json_get_int(item, "items", 0) > 0 ? count_text(arena, item, "items") : "");
        put(out, "</tr>\n");
    }
    put(out, "</table>\n");
}

static const char *side_text(Arena *arena, const json_t *side) {
    const char *version = json_get_string(side, "version", "");

    if (version[0] == '\0')
        return "";
    return arena_printf(arena, "%s, PostgreSQL %s, %s", json_get_string(side, "server", ""), version,
                        bytes_text(arena, side, "bytes"));
}

static const char *rest_text(Arena *arena, const json_t *promote) {
    if (json_object_get(promote, "sequences") == NULL)
        return "";
    return arena_printf(arena, "%s sequences, %s large objects, %s tables that no stream carries",
                        count_text(arena, promote, "sequences"), count_text(arena, promote, "largeObjects"),
                        count_text(arena, promote, "tablesCopied"));
}

static void put_database(Arena *arena, const json_t *database, Buf *out) {
    const json_t *promote = json_get_object(database, "promote");

    put(out, "<h2>");
    put_text(out, json_get_string(database, "database", ""));
    put(out, "</h2>\n<dl>\n");
    put_fact(out, "State", state_text(arena, database));
    put_fact(out, "Error", json_get_string(json_get_object(database, "error"), "message", ""));
    put_fact(out, "Source", side_text(arena, json_get_object(database, "source")));
    put_fact(out, "Destination", side_text(arena, json_get_object(database, "destination")));
    put_fact(out, "Copied", totals_text(arena, json_get_object(database, "copied")));
    put_fact(out, "Followed", followed_text(arena, json_get_object(database, "followed")));
    put_fact(out, "Outage", report_seconds_text(arena, promote, "outageSeconds"));
    put_fact(out, "With hooks", report_seconds_text(arena, promote, "outageWithHooksSeconds"));
    put_fact(out, "Proof", report_proof_text(arena, promote));
    put_fact(out, "Copied under the fence", rest_text(arena, promote));
    put(out, "</dl>\n");
    put_not_moved(arena, database, out);
    put_findings(arena, "Warnings", json_get_array(database, "warnings"), json_get_int(database, "warningsMore", 0),
                 out);
    put_notes(json_get_array(database, "notes"), out);
    put_times(arena, "Phases", json_get_array(database, "phases"), "phase", out);
    put_times(arena, "Promote", json_get_array(promote, "steps"), "name", out);
}

static void put_instance(Arena *arena, const json_t *instance, Buf *out) {
    const json_t *left = json_get_array(instance, "databasesLeftOut");

    if (json_array_size(left) + json_array_size(json_get_array(instance, "findings")) == 0)
        return;
    put(out, "<h2>The instance</h2>\n");
    for (size_t at = 0; at < json_array_size(left); at++)
        put_item(arena_printf(arena, "database %s", json_get_string(json_array_get(left, at), "database", "")),
                 json_get_string(json_array_get(left, at), "reason", ""), "", out);
    put_findings(arena, "Roles and databases", json_get_array(instance, "findings"),
                 json_get_int(instance, "findingsMore", 0), out);
}

void report_html(const json_t *report, Buf *out) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const json_t *databases = json_get_array(report, "databases");

    put(out, head);
    put_job(arena, report, out);
    put_overview(arena, databases, out);
    put_instance(arena, json_get_object(report, "instance"), out);
    for (size_t at = 0; at < json_array_size(databases); at++)
        put_database(arena, json_array_get(databases, at), out);
    put(out, "</body></html>\n");
}
