/* `pgcrane jobs logs`: the job's log, page by page, or as it grows. */
#include "cli/service/jobs.h"

#include "cli/service/show.h"
#include "common/clock.h"

#include <string.h>

enum { KIND_WIDTH = 16 };
static const int64_t again_us = USEC_PER_SEC;

/* `to` is a state, perhaps with a phase behind it. */
static Ink state_ink(Arena *arena, const char *to) {
    return show_state_ink(arena_strndup(arena, to, strspn(to, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_")));
}

/* "2026-11-29T04:10:11.123Z  WORKER_READY      the copy has begun  -> RUNNING/FULL_DUMP" */
static void put_line(const Service *service, const json_t *event) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const json_t *detail = json_get_object(event, "detail");
    const char *to = json_get_string(detail, "to", ""), *by = json_get_string(detail, "by", "");
    Line line = {.out = service->out, .width = INT32_MAX, .utf8 = service->tty.utf8, .color = service->tty.color};

    line_put(&line, INK_DIM, json_get_string(event, "time", ""));
    line_put(&line, INK_PLAIN, "  ");
    line_cell(&line, INK_PLAIN, json_get_string(event, "kind", ""), KIND_WIDTH);
    line_put(&line, INK_PLAIN, json_get_string(event, "message", ""));
    if (to[0] != '\0')
        line_put(&line, state_ink(arena, to), arena_printf(arena, "  -> %s", to));
    if (by[0] != '\0')
        line_put(&line, INK_DIM, arena_printf(arena, "  by %s", by));
    line_end(&line);
}

/* JSON is a line for each event, so that a reader need not wait for the end; YAML a document. */
static void put_event(const Service *service, const json_t *event) {
    if (service->format == OUTPUT_TABLE) {
        put_line(service, event);
    } else if (service->format == OUTPUT_JSON) {
        json_print(event, 0, service->out);
        buf_append_char(service->out, '\n');
    } else {
        buf_append_str(service->out, "---\n");
        show_data(OUTPUT_YAML, event, service->out);
    }
}

static bool show_page(Service *service, const json_t *events, Error *err) {
    for (size_t at = 0; at < json_array_size(events); at++)
        put_event(service, json_array_get(events, at));
    return service_flush(service, err);
}

static bool show_pages(Service *service, const char *path, Error *err) {
    const char *token = NULL;

    do {
        CLEANUP(json_freep) json_t *page = NULL;
        const ClientParam params[] = {{"pageSize", "500"}, {"pageToken", token}, {0}};

        if (!service_get(service, path, params, &page, err) || !show_page(service, json_get_array(page, "events"), err))
            return false;
        token = arena_strdup(service->arena, json_get_string(page, "nextPageToken", NULL));
    } while (token != NULL);
    return true;
}

/* --- as it grows --- */

static bool take(void *context, const SseEvent *event, Error *err) {
    CLEANUP(json_freep) json_t *json = NULL;
    Service *service = context;

    if (!json_parse(event->data, strlen(event->data), &json, err))
        return error_wrap(err, "an event of the service");
    put_event(service, json);
    return service_flush(service, err);
}

/* A service that is restarted ends its streams; so does one whose job is gone. */
static bool is_gone(Service *service, const char *name, bool *ret_gone, Error *err) {
    CLEANUP(json_freep) json_t *job = NULL;

    if (service_get(service, name, NULL, &job, err)) {
        *ret_gone = false;
        return true;
    }
    *ret_gone = err->reason == REASON_NO_RESOURCE;
    return *ret_gone;
}

static bool is_lost(const Error *err) {
    return err->reason == REASON_CONNECTION_LOST || err->reason == REASON_UNREACHABLE ||
           err->reason == REASON_STORE_UNAVAILABLE;
}

static bool follow(Service *service, const char *name, const char *path, Error *err) {
    const char *last_id = "";
    bool gone = false;

    /* That it is there is found out first: what fails here is no lost connection. */
    if (!is_gone(service, name, &gone, err))
        return false;
    if (gone)
        return false;
    while (!gone) {
        if (!client_stream(service->client, path, &last_id, service->arena, take, service, err) && !is_lost(err))
            return false;
        if (!client_pause(service->client, again_us, err) || !is_gone(service, name, &gone, err))
            return false;
    }
    return true;
}

bool jobs_logs(Service *service, Error *err) {
    const char *name = NULL;

    if (!jobs_name(service, &name, err))
        return false;
    const char *path = arena_printf(service->arena, "%s/events", name);
    if (!service->options->stream)
        return show_pages(service, path, err);
    return follow(service, name, path, err) || err->reason == REASON_CANCELLED; /* Ctrl-C is how it is ended */
}
