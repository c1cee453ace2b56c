/*
 * Migration jobs, with what their worker tells of how far it is.
 *
 * `progress` is optional, and so is each number in it. int64 may come as text (proto3 JSON) or as a number.
 */
#include "cli/service/show.h"

#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

enum { BAR_WIDTH = 30 };

/* -1: not said. */
static double number(const json_t *job, const char *key) {
    const json_t *value = json_object_get(json_get_object(job, "progress"), key);

    if (json_is_number(value))
        return json_number_value(value);
    return json_is_string(value) ? strtod(json_string_value(value), NULL) : -1;
}

static const char *bytes_text(const Service *service, double bytes) {
    return bytes >= 0 ? format_bytes(service->arena, (int64_t)MIN(bytes, 9e18)) : NULL;
}

static const char *count_text(const Service *service, double count) {
    return count >= 0 ? format_count(service->arena, (int64_t)MIN(count, 9e18)) : NULL;
}

static const char *seconds_text(const Service *service, double seconds) {
    return seconds >= 0 ? clock_duration(service->arena, (int64_t)(MIN(seconds, 1e12) * (double)USEC_PER_SEC)) : NULL;
}

/* Up to "99%" until all is there. */
static const char *percent_text(const Service *service, double done, double all) {
    if (done < 0 || all <= 0)
        return NULL;
    double share = MIN(done / all, 1.0);
    return arena_printf(service->arena, "%d%%", share >= 1 ? 100 : (int)MIN(share * 100, 99));
}

/* "1.2 MB, 0.40s" */
static const char *lag_text(const Service *service, const json_t *job) {
    const char *bytes = bytes_text(service, number(job, "lagBytes"));
    const char *seconds = seconds_text(service, number(job, "lagSeconds"));

    if (bytes == NULL || seconds == NULL)
        return bytes != NULL ? bytes : seconds;
    return arena_printf(service->arena, "%s, %s", bytes, seconds);
}

/* --- the list --- */

static TableCell phase_cell(const Service *service UNUSED, const json_t *job) {
    return (TableCell){.text = json_get_string(job, "phase", NULL)};
}

static TableCell done_cell(const Service *service, const json_t *job) {
    return (TableCell){.text = percent_text(service, number(job, "bytesDone"), number(job, "bytesTotal"))};
}

static TableCell left_cell(const Service *service, const json_t *job) {
    return (TableCell){.text = seconds_text(service, number(job, "etaSeconds"))};
}

static TableCell lag_cell(const Service *service, const json_t *job) {
    return (TableCell){.text = lag_text(service, job)};
}

static TableCell source_cell(const Service *service, const json_t *job) {
    return (TableCell){.text = service_id(service, json_get_string(job, "source", ""))};
}

static TableCell destination_cell(const Service *service, const json_t *job) {
    return (TableCell){.text = service_id(service, json_get_string(job, "destination", ""))};
}

/* Why it does not go forward, in a line. */
static TableCell trouble_cell(const Service *service, const json_t *job) {
    const char *error = json_get_string(json_get_object(job, "error"), "message", NULL);
    const char *waiting = json_get_string(json_get_object(job, "progress"), "waitingFor", NULL);

    if (error != NULL)
        return (TableCell){.text = arena_strndup(service->arena, error, strcspn(error, "\n")), .ink = INK_RED};
    return (TableCell){
        .text = waiting != NULL && waiting[0] != '\0' ? arena_printf(service->arena, "waits for %s", waiting) : NULL,
        .ink = INK_YELLOW};
}

const ShowColumn show_job_columns[] = {
    {{.title = "Job"}, show_id_cell},
    {{.title = "State"}, show_state_cell},
    {{.title = "Phase"}, phase_cell},
    {{.title = "Copied", .right = true}, done_cell},
    {{.title = "Left", .right = true}, left_cell},
    {{.title = "Lag", .right = true}, lag_cell},
    {{.title = "Source"}, source_cell},
    {{.title = "Destination"}, destination_cell},
    {{.title = "Trouble"}, trouble_cell},
};
const size_t show_job_columns_count = COUNT_OF(show_job_columns);

/* --- one --- */

/* "RUNNING, CDC" */
static const char *state_text(const Service *service, const json_t *job) {
    const char *phase = json_get_string(job, "phase", "");

    return arena_printf(service->arena, "%s%s%s", json_get_string(job, "state", "?"), phase[0] != '\0' ? ", " : "",
                        phase);
}

static const char *databases_text(const Service *service, const json_t *job) {
    const json_t *objects = json_get_object(json_get_object(job, "objectsConfig"), "sourceObjectsConfig");
    const json_t *list = json_get_array(objects, "objectConfigs");
    const char *text = NULL;

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *identifier = json_get_object(json_array_get(list, at), "objectIdentifier");
        text = arena_printf(service->arena, "%s%s%s", text != NULL ? text : "", text != NULL ? ", " : "",
                            json_get_string(identifier, "database", "?"));
    }
    return text != NULL ? text : "all";
}

static const char *bar_text(const Service *service, double share) {
    CLEANUP(buf_fini) Buf text;
    Line line = {.out = &text, .width = BAR_WIDTH, .utf8 = service->tty.utf8};

    buf_init(&text, 4096);
    line_bar(&line, INK_PLAIN, share, BAR_WIDTH);
    return arena_strdup(service->arena, text.data);
}

/* "1.5 GB of 3.4 GB"; either may be missing. */
static const char *of_text(const Service *service, const char *done, const char *all) {
    if (done == NULL || all == NULL)
        return done;
    return arena_printf(service->arena, "%s of %s", done, all);
}

static const char *copied_text(const Service *service, const json_t *job) {
    double done = number(job, "bytesDone"), all = number(job, "bytesTotal");
    const char *percent = percent_text(service, done, all);
    const char *text = of_text(service, bytes_text(service, done), bytes_text(service, all));

    if (percent == NULL || !service->tty.is_terminal)
        return percent != NULL ? arena_printf(service->arena, "%s, %s", percent, text) : text;
    return arena_printf(service->arena, "%s %s  %s", bar_text(service, done / all), percent, text);
}

static void copy_facts(const Service *service, const json_t *job, FactVec *facts) {
    const char *speed = bytes_text(service, number(job, "bytesPerSecond"));
    const char *left = seconds_text(service, number(job, "etaSeconds"));

    show_fact(service, facts, "Copied", INK_PLAIN, copied_text(service, job));
    show_fact(service, facts, "Rows", INK_PLAIN, count_text(service, number(job, "rowsDone")));
    show_fact(service, facts, "Tables", INK_PLAIN,
              of_text(service, count_text(service, number(job, "tablesDone")),
                      count_text(service, number(job, "tablesTotal"))));
    show_fact(service, facts, "Indexes", INK_PLAIN,
              of_text(service, count_text(service, number(job, "indexesDone")),
                      count_text(service, number(job, "indexesTotal"))));
    show_fact(service, facts, "Speed", INK_PLAIN, speed != NULL ? arena_printf(service->arena, "%s/s", speed) : NULL);
    show_fact(service, facts, "Left", INK_PLAIN, left != NULL ? arena_printf(service->arena, "about %s", left) : NULL);
}

/* "120 inserts, 40 updates, 3 deletes a second" */
static const char *rates_text(const Service *service, const json_t *job) {
    static const struct {
        const char *key, *what;
    } rates[] = {{"insertsPerSecond", "inserts"}, {"updatesPerSecond", "updates"}, {"deletesPerSecond", "deletes"}};
    const char *text = NULL;

    for (size_t at = 0; at < COUNT_OF(rates); at++) {
        const char *count = count_text(service, number(job, rates[at].key));
        if (count != NULL)
            text = arena_printf(service->arena, "%s%s%s %s", text != NULL ? text : "", text != NULL ? ", " : "", count,
                                rates[at].what);
    }
    return text != NULL ? arena_printf(service->arena, "%s a second", text) : NULL;
}

/* Near the limit the slot is soon given up. */
static void retained_fact(const Service *service, const json_t *job, FactVec *facts) {
    double held = number(job, "retainedBytes"), limit = number(job, "retainedLimitBytes");
    Ink ink = limit > 0 && held > limit * 0.8 ? INK_RED : limit > 0 && held > limit * 0.5 ? INK_YELLOW : INK_PLAIN;

    show_fact(service, facts, "WAL kept", ink,
              of_text(service, bytes_text(service, held), limit > 0 ? bytes_text(service, limit) : NULL));
}

static void follow_facts(const Service *service, const json_t *job, FactVec *facts) {
    show_fact(service, facts, "Lag", INK_PLAIN, lag_text(service, job));
    show_fact(service, facts, "Applied", INK_PLAIN, rates_text(service, job));
    retained_fact(service, job, facts);
    show_fact(service, facts, "Waits for", INK_YELLOW,
              json_get_string(json_get_object(job, "progress"), "waitingFor", NULL));
}

static const char *allowed_text(const Service *service, const json_t *job) {
    const json_t *list = json_get_array(job, "allowedActions");
    const char *text = NULL;

    for (size_t at = 0; at < json_array_size(list); at++)
        text = arena_printf(service->arena, "%s%s%s", text != NULL ? text : "", text != NULL ? ", " : "",
                            json_string_value(json_array_get(list, at)));
    return text;
}

static void trouble_facts(const Service *service, const json_t *job, FactVec *facts) {
    int64_t attempts = json_get_int(job, "attempts", 0);

    show_fact(service, facts, "Error", INK_RED, show_status(service, json_object_get(job, "error")));
    show_fact(service, facts, "Attempts", INK_PLAIN,
              attempts > 0 ? arena_printf(service->arena, "%lld", (long long)attempts) : NULL);
    show_fact(service, facts, "Next attempt", INK_PLAIN,
              show_time(service, json_get_string(job, "nextRetryTime", NULL)));
}

/* Databases that were handed back are the application's. */
static const char *guard_text(const Service *service, const json_t *job) {
    const json_t *guard = json_get_object(job, "destinationGuard");
    size_t released = json_array_size(json_object_get(guard, "released"));
    const char *error = json_get_string(guard, "error", NULL);
    const char *more = released > 0 ? arena_printf(service->arena, ", but for %zu that %s handed back", released,
                                                   released == 1 ? "is" : "are")
                                    : "";

    if (guard == NULL)
        return NULL;
    return error != NULL ? arena_printf(service->arena, "not handed back yet: %s", error)
                         : arena_printf(service->arena, "others are kept out of the destination's databases%s", more);
}

void show_job_facts(const Service *service, const json_t *job, FactVec *facts) {
    const char *took = json_get_string(job, "duration", NULL);

    show_fact(service, facts, "Job", INK_BOLD, service_id(service, json_get_string(job, "name", "")));
    show_fact(service, facts, "Title", INK_PLAIN, json_get_string(job, "displayName", NULL));
    show_fact(service, facts, "State", show_state_ink(json_get_string(job, "state", "")), state_text(service, job));
    show_fact(service, facts, "Type", INK_PLAIN, json_get_string(job, "type", NULL));
    show_fact(service, facts, "Source", INK_PLAIN, source_cell(service, job).text);
    show_fact(service, facts, "Destination", INK_PLAIN, destination_cell(service, job).text);
    show_fact(service, facts, "Databases", INK_PLAIN, databases_text(service, job));
    show_fact(service, facts, "Guard", INK_PLAIN, guard_text(service, job));
    show_fact(service, facts, "Labels", INK_PLAIN, show_labels(service, job));
    copy_facts(service, job, facts);
    follow_facts(service, job, facts);
    show_fact(service, facts, "Created", INK_PLAIN, show_time(service, json_get_string(job, "createTime", NULL)));
    show_fact(service, facts, "Ended", INK_PLAIN, show_time(service, json_get_string(job, "endTime", NULL)));
    show_fact(service, facts, "Took", INK_PLAIN, took != NULL ? seconds_text(service, strtod(took, NULL)) : NULL);
    trouble_facts(service, job, facts);
    show_fact(service, facts, "Takes now", INK_PLAIN, allowed_text(service, job));
}
