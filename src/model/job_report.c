/* What is kept of the sessions of a job. */
#include "model/job_report.h"

#include "common/clock.h"
#include "model/progress.h"

#include <string.h>

#define SUMS "sums"
#define EARLIER "earlier"

/* ---- Bounded copies ---- */

/* Cut between two characters. */
static json_t *text_of(const json_t *object, const char *key) {
    const char *text = json_get_string(object, key, "");
    size_t len = strlen(text);

    if (len <= REPORT_TEXT_MAX)
        return json_string_lossy(text);
    for (len = REPORT_TEXT_MAX; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
        len--;
    return json_stringn(text, len);
}

typedef struct TextRow {
    const char *from, *to;
} TextRow;

static json_t *texts_of(const json_t *object, const TextRow *rows, size_t count) {
    json_t *copy = json_object();

    for (size_t at = 0; at < count; at++)
        if (json_get_string(object, rows[at].from, "")[0] != '\0')
            (void)json_object_set_new(copy, rows[at].to, text_of(object, rows[at].from));
    return copy;
}

/* Names in quotes may hold any word. */
static const char *find_outside_names(const char *text, const char *word) {
    bool in_name = false;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"')
            in_name = !in_name;
        else if (!in_name && strncmp(at, word, strlen(word)) == 0)
            return at;
    }
    return NULL;
}

/* Settings of an application's own, such as app.key, may be secrets of it: ALTER ... SET name TO value. */
static void strike_value(json_t *item, const char *key) {
    const char *text = json_get_string(item, key, ""), *set = find_outside_names(text, " SET "),
               *to = set == NULL ? NULL : find_outside_names(set, " TO ");

    if (to == NULL || memchr(set, '.', (size_t)(to - set)) == NULL)
        return;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    (void)json_object_set_new(item, key,
                              json_string_lossy(arena_printf(arena, "%.*s TO '...'", (int)(to - text), text)));
}

static json_t *not_moved_of(const json_t *item) {
    static const TextRow rows[] = {{"kind", "kind"}, {"object", "object"}, {"reason", "reason"}, {"sql", "sql"}};
    json_t *copy = texts_of(item, rows, COUNT_OF(rows));

    if (strcmp(json_get_string(copy, "kind", ""), "database setting") == 0) {
        strike_value(copy, "object");
        strike_value(copy, "sql");
    }
    return copy;
}

static json_t *finding_of(const json_t *item) {
    static const TextRow rows[] = {{"id", "id"},         {"severity", "severity"}, {"side", "side"},
                                   {"object", "object"}, {"message", "message"},   {"fix", "fix"}};

    return texts_of(item, rows, COUNT_OF(rows));
}

static json_t *left_out_of(const json_t *item) {
    static const TextRow rows[] = {{"name", "database"}, {"reason", "reason"}};

    return texts_of(item, rows, COUNT_OF(rows));
}

/* {"KEY": [...], "KEYMore": how many are not in it}; is_wanted may be NULL. */
static void put_list(json_t *report, const char *key, const json_t *list, json_t *(*copy_of)(const json_t *item),
                     bool (*is_wanted)(const json_t *item)) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *more_key = arena_printf(arena, "%sMore", key);
    json_t *copy = json_array();
    json_int_t more = 0;

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        if (is_wanted != NULL && !is_wanted(item))
            continue;
        if (json_array_size(copy) < REPORT_ITEMS_MAX)
            (void)json_array_append_new(copy, copy_of(item));
        else
            more++;
    }
    (void)json_object_set_new(report, key, copy);
    (void)json_object_del(report, more_key);
    if (more > 0)
        (void)json_object_set_new(report, more_key, json_integer(more));
}

static void put_notes(json_t *report, const json_t *notes) {
    json_t *copy = json_array();

    for (size_t at = 0; at < json_array_size(notes) && at < REPORT_ITEMS_MAX; at++) {
        CLEANUP(json_freep) json_t *item = json_pack("{s:O}", "text", json_array_get(notes, at));
        (void)json_array_append_new(copy, text_of(item, "text"));
    }
    (void)json_object_set_new(report, "notes", copy);
}

static bool is_warning(const json_t *finding) {
    return strcasecmp(json_get_string(finding, "severity", ""), "info") != 0;
}

/* ---- Numbers over sessions ---- */

typedef struct Merge {
    const json_t *before; /* NULL = nothing */
    json_t *report, *sums, *earlier;
    bool is_new_run;
} Merge;

/* What this session says it did itself, with what sessions before it did. */
static int64_t add_up(const Merge *merge, const char *key, int64_t now) {
    const json_t *before = json_get_object(merge->before, merge->is_new_run ? SUMS : EARLIER);
    int64_t earlier = json_get_int(before, key, 0);

    (void)json_object_set_new(merge->earlier, key, json_integer(earlier));
    (void)json_object_set_new(merge->sums, key, json_integer(earlier + now));
    return earlier + now;
}

/* X(key in progress, key in the report, does it count a session's own work only?) */
typedef struct NumberRow {
    const char *from, *to;
    bool own;
} NumberRow;

static const NumberRow copied_rows[] = {
    {"bytes_done", "bytes", false},     {"rows_done", "rows", false},
    {"tables_done", "tables", false},   {"tables_total", "tablesTotal", false},
    {"indexes_done", "indexes", false}, {"indexes_total", "indexesTotal", false},
    {"wire_bytes", "wireBytes", true},
};
static const NumberRow followed_rows[] = {
    {"transactions", "transactions", false},
    {"inserts", "inserts", true},
    {"updates", "updates", true},
    {"deletes", "deletes", true},
    {"truncates", "truncates", true},
    {"ddl", "definitions", true},
};

static void put_numbers(const Merge *merge, const char *group, const json_t *from, const NumberRow *rows,
                        size_t count) {
    const json_t *before = json_get_object(merge->before, group);
    json_t *numbers = json_object();

    for (size_t at = 0; at < count; at++) {
        const NumberRow *row = &rows[at];
        int64_t now = json_get_int(from, row->from, 0);

        /* What was done stays done: a session that only follows counts no rows. */
        now = row->own ? add_up(merge, row->to, now) : MAX(now, json_get_int(before, row->to, 0));
        (void)json_object_set_new(numbers, row->to, json_integer(now));
    }
    (void)json_object_set_new(merge->report, group, numbers);
}

static json_t *seconds(int64_t us) {
    return json_real((double)us / (double)USEC_PER_SEC);
}

static void put_phases(const Merge *merge, const json_t *phases) {
    json_t *list = json_array();

    for (size_t at = 0; at < json_array_size(phases); at++) {
        const json_t *phase = json_array_get(phases, at);
        const char *name = json_get_string(phase, "phase", "");
        int64_t us = add_up(merge, name, json_get_int(phase, "elapsed_us", 0));

        if (us > 0)
            (void)json_array_append_new(list, json_pack("{s:s, s:o, s:I}", "phase", name, "seconds", seconds(us),
                                                        "items", (json_int_t)json_get_int(phase, "done", 0)));
    }
    (void)json_object_set_new(merge->report, "phases", list);
}

/* ---- The promote ---- */

static json_t *steps_of(const json_t *steps) {
    json_t *list = json_array();

    for (size_t at = 0; at < json_array_size(steps); at++) {
        const json_t *step = json_array_get(steps, at);
        (void)json_array_append_new(list, json_pack("{s:s, s:o}", "name", json_get_string(step, "name", ""), "seconds",
                                                    seconds(json_get_int(step, "us", 0))));
    }
    return list;
}

static json_t *promote_of(const json_t *promoted) {
    static const NumberRow rows[] = {{"sequences", "sequences", false},
                                     {"large_objects", "largeObjects", false},
                                     {"tables_copied", "tablesCopied", false}};
    json_t *promote = json_pack("{s:b, s:o, s:o}", "proven", json_get_bool(promoted, "proven", false), "outageSeconds",
                                seconds(json_get_int(promoted, "outage_us", 0)), "steps",
                                steps_of(json_get_array(promoted, "steps")));

    if (json_get_int(promoted, "outage_with_hooks_us", 0) > 0)
        (void)json_object_set_new(promote, "outageWithHooksSeconds",
                                  seconds(json_get_int(promoted, "outage_with_hooks_us", 0)));
    if (json_get_string(promoted, "marker", "")[0] != '\0')
        (void)json_object_set_new(promote, "marker", text_of(promoted, "marker"));
    for (size_t at = 0; at < COUNT_OF(rows); at++)
        (void)json_object_set_new(promote, rows[at].to, json_integer(json_get_int(promoted, rows[at].from, 0)));
    return promote;
}

/* Of the session that promoted. When that died behind it, another one only knows what the ledger says. */
static void put_promote(const Merge *merge, const json_t *said, const json_t *report) {
    const json_t *promoted = json_get_object(said, "promoted");
    bool here = json_get_bool(promoted, "ok", false) && !json_get_bool(promoted, "dry_run", false);
    bool opened = here && json_get_bool(promoted, "opened", false);
    const json_t *before = json_get_object(merge->before, "promote");

    if (opened)
        (void)json_object_set_new(merge->report, "promote", promote_of(promoted));
    else if (before != NULL)
        (void)json_object_set(merge->report, "promote", (json_t *)(uintptr_t)before);
    else if (json_get_bool(report, "promoted", false))
        (void)json_object_set_new(merge->report, "promote",
                                  json_pack("{s:b}", "proven", json_get_bool(report, "proven", false)));
}

/* ---- A database ---- */

static void put_side(json_t *report, const char *side, const char *version, int64_t bytes, const char *server) {
    json_t *object = json_object();

    if (server[0] != '\0')
        (void)json_object_set_new(object, "server", json_string_lossy(server));
    if (version[0] != '\0')
        (void)json_object_set_new(object, "version", json_string_lossy(version));
    if (bytes >= 0)
        (void)json_object_set_new(object, "bytes", json_integer(bytes));
    (void)json_object_set_new(report, side, object);
}

/* What a session says when it is done. */
static void put_end(json_t *report, const json_t *end) {
    put_side(report, "source", json_get_string(end, "source_version", ""), json_get_int(end, "source_bytes", -1),
             json_get_string(end, "source", ""));
    put_side(report, "destination", json_get_string(end, "dest_version", ""), json_get_int(end, "dest_bytes", -1),
             json_get_string(end, "dest", ""));
    (void)json_object_set_new(report, "client", text_of(end, "pg_dump"));
    put_list(report, "notMoved", json_get_array(end, "not_moved"), not_moved_of, NULL);
    put_notes(report, json_get_array(end, "notes"));
    (void)json_object_set_new(report, "complete", json_true());
}

json_t *database_report_merge(const json_t *before, const json_t *said, int64_t run, bool is_anew) {
    bool is_new_run = json_get_int(before, "run", 0) != run;
    Merge merge = {.before = is_anew && is_new_run ? NULL : before,
                   .sums = json_object(),
                   .earlier = json_object(),
                   .is_new_run = is_new_run};
    const json_t *progress = json_get_object(said, "progress"), *end = json_get_object(said, "report");
    const json_t *findings = json_get_array(json_get_object(said, "findings"), "findings");

    merge.report = merge.before != NULL ? json_copy((json_t *)(uintptr_t)merge.before) : json_object();
    (void)json_object_set_new(merge.report, "run", json_integer(run));
    if (json_get_string(said, "updated_at", "")[0] != '\0')
        (void)json_object_set_new(merge.report, "updateTime", text_of(said, "updated_at"));
    put_numbers(&merge, "copied", progress, copied_rows, COUNT_OF(copied_rows));
    put_numbers(&merge, "followed", json_get_object(progress, "cdc"), followed_rows, COUNT_OF(followed_rows));
    put_phases(&merge, json_get_array(progress, "phases"));
    put_promote(&merge, said, end);
    if (findings != NULL)
        put_list(merge.report, "warnings", findings, finding_of, is_warning);
    if (end != NULL)
        put_end(merge.report, end);
    (void)json_object_set_new(merge.report, SUMS, merge.sums);
    (void)json_object_set_new(merge.report, EARLIER, merge.earlier);
    return merge.report;
}

void report_shorten(json_t *report) {
    static const char *const lists[] = {"notMoved", "warnings", "findings", "notes", "databasesLeftOut"};
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t at = 0; at < COUNT_OF(lists); at++) {
        const char *more_key = arena_printf(arena, "%sMore", lists[at]);
        int64_t more = (int64_t)json_array_size(json_get_array(report, lists[at])) + json_get_int(report, more_key, 0);

        if (json_object_del(report, lists[at]) == 0)
            (void)json_object_set_new(report, more_key, json_integer(more));
    }
}

void database_report_close(json_t *report) {
    (void)json_object_del(report, SUMS);
    (void)json_object_del(report, EARLIER);
    (void)json_object_del(report, "run");
}

json_t *instance_report_of(const json_t *said) {
    const json_t *databases = json_get_object(said, "databases");
    json_t *report = json_object();

    put_list(report, "databasesLeftOut", json_get_array(databases, "not_moved"), left_out_of, NULL);
    put_list(report, "findings", json_get_array(json_get_object(said, "findings"), "findings"), finding_of, NULL);
    return report;
}

/* ---- A job ---- */

static void add_numbers(json_t *totals, const json_t *group, const char *const *keys) {
    for (size_t at = 0; keys[at] != NULL; at++)
        (void)json_object_set_new(totals, keys[at],
                                  json_integer(json_get_int(totals, keys[at], 0) + json_get_int(group, keys[at], 0)));
}

static int64_t list_size(const json_t *report, const char *key, const char *more) {
    return (int64_t)json_array_size(json_get_array(report, key)) + json_get_int(report, more, 0);
}

json_t *job_report_totals(const json_t *databases) {
    static const char *const copied[] = {"bytes", "rows", "tables", "indexes", NULL};
    static const char *const followed[] = {"transactions", "inserts", "updates", "deletes", NULL};
    int64_t promoted = 0, proven = 0, not_moved = 0, warnings = 0;
    json_t *totals = json_object();
    double outage = -1;

    for (size_t at = 0; at < json_array_size(databases); at++) {
        const json_t *report = json_array_get(databases, at), *promote = json_get_object(report, "promote");

        add_numbers(totals, json_get_object(report, "copied"), copied);
        add_numbers(totals, json_get_object(report, "followed"), followed);
        promoted += promote != NULL;
        proven += json_get_bool(promote, "proven", false);
        not_moved += list_size(report, "notMoved", "notMovedMore");
        warnings += list_size(report, "warnings", "warningsMore");
        outage = MAX(outage, json_get_real(promote, "outageSeconds", -1));
    }
    (void)json_object_set_new(totals, "databases", json_integer((json_int_t)json_array_size(databases)));
    (void)json_object_set_new(totals, "promoted", json_integer(promoted));
    (void)json_object_set_new(totals, "proven", json_integer(proven));
    (void)json_object_set_new(totals, "notMoved", json_integer(not_moved));
    (void)json_object_set_new(totals, "warnings", json_integer(warnings));
    if (outage >= 0)
        (void)json_object_set_new(totals, "longestOutageSeconds", json_real(outage));
    return totals;
}

/* ---- For people ---- */

const char *report_proof_text(Arena *arena, const json_t *promote) {
    const char *marker = json_get_string(promote, "marker", "");

    if (promote == NULL)
        return "";
    if (!json_get_bool(promote, "proven", false))
        return "none: writes of the last moment may be missing on the destination";
    if (marker[0] == '\0')
        return "nothing changed on the source after the last change applied";
    return arena_printf(arena,
                        "everything up to the marker at %s was applied, nothing changed behind it, and both catalogues"
                        " were compared while writes were stopped",
                        marker);
}

const char *report_seconds_text(Arena *arena, const json_t *object, const char *key) {
    double value = json_get_real(object, key, -1);

    return value < 0 ? "" : clock_duration(arena, (int64_t)(value * (double)USEC_PER_SEC));
}
