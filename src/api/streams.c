/* The event log of a job. */
#include "api/streams.h"

#include "api/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_DEFAULT = 100 };

/* An id of an event: digits only. */
static bool read_id(const char *text, int64_t *ret_id) {
    char *end = NULL;

    errno = 0;
    *ret_id = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' && *ret_id >= 0;
}

static bool wants_stream(const ApiCall *call) {
    const char *accept = http_fields_get(call->request->headers, "accept");

    return accept != NULL && strstr(accept, "text/event-stream") != NULL;
}

static bool send_page(ApiCall *call, int64_t after_id, Error *err) {
    int64_t size = call_number(call, PARAM_PAGE_SIZE);
    size_t wanted = size > 0 ? (size_t)MIN(size, STORE_PAGE_MAX) : PAGE_DEFAULT, count = 0;
    StoreEvent *events = NULL;

    if (!store_event_list(call->tx, call->resource, after_id, wanted, &events, &count, err))
        return false;
    json_t *list = json_array();
    for (size_t at = 0; at < count; at++)
        (void)json_array_append_new(list, watch_event_json(&events[at], call->arena));
    call->answer = json_pack("{s:o}", "events", list);
    if (count == wanted)
        (void)json_object_set_new(call->answer, "nextPageToken",
                                  json_string(arena_printf(call->arena, "%" PRId64, events[count - 1].id)));
    return true;
}

bool job_events(ApiCall *call, Error *err) {
    const char *last = call->request->last_event_id;
    const char *token = call_text(call, PARAM_PAGE_TOKEN);
    StoreResource job = {0};
    int64_t after_id = 0;

    if (!read_id(token, &after_id))
        return call_refuse(call, "pageToken", "must be the id of an event");
    if (last != NULL && !read_id(last, &after_id))
        after_id = 0; /* of another stream: from the beginning */
    if (!store_get(call->tx, call->resource, &job, err))
        return false;
    if (!wants_stream(call))
        return send_page(call, after_id, err);
    call->stream_after = after_id;
    call->wants_stream = true;
    return true;
}
