/* Server-sent events, as the HTML standard has them. */
#include "client/sse.h"

#include <string.h>

enum { LINE_MAX_BYTES = 1024 * 1024, DATA_MAX_BYTES = 4 * 1024 * 1024, ID_MAX_BYTES = 1024 };

void sse_init(SseParser *parser, SseTaker taker, void *context) {
    *parser = (SseParser){.taker = taker, .context = context, .first_line = true};
    buf_init(&parser->line, LINE_MAX_BYTES);
    buf_init(&parser->type, ID_MAX_BYTES);
    buf_init(&parser->data, DATA_MAX_BYTES);
    buf_init(&parser->last_id, ID_MAX_BYTES);
}

void sse_fini(SseParser *parser) {
    buf_fini(&parser->line);
    buf_fini(&parser->type);
    buf_fini(&parser->data);
    buf_fini(&parser->last_id);
}

void sse_restart(SseParser *parser) {
    buf_clear(&parser->line);
    buf_clear(&parser->type);
    buf_clear(&parser->data);
    parser->has_data = false;
    parser->after_cr = false;
    parser->first_line = true;
}

static bool dispatch(SseParser *parser, Error *err) {
    const SseEvent event = {.id = parser->last_id.data, .type = parser->type.data, .data = parser->data.data};
    bool good = !parser->has_data || parser->taker(parser->context, &event, err);

    buf_clear(&parser->type);
    buf_clear(&parser->data);
    parser->has_data = false;
    return good;
}

static void take_field(SseParser *parser, const char *name, size_t name_len, const char *value) {
    if (name_len == strlen("data") && strncmp(name, "data", name_len) == 0) {
        if (parser->has_data)
            buf_append_char(&parser->data, '\n');
        buf_append_str(&parser->data, value);
        parser->has_data = true;
    } else if (name_len == strlen("event") && strncmp(name, "event", name_len) == 0) {
        buf_clear(&parser->type);
        buf_append_str(&parser->type, value);
    } else if (name_len == strlen("id") && strncmp(name, "id", name_len) == 0) {
        buf_clear(&parser->last_id);
        buf_append_str(&parser->last_id, value);
    }
}

static bool all_fit(const SseParser *parser, Error *err) {
    return buf_ok(&parser->line, "a line of the stream of events", err) &&
           buf_ok(&parser->type, "the type of an event", err) && buf_ok(&parser->data, "the data of an event", err) &&
           buf_ok(&parser->last_id, "the id of an event", err);
}

static bool take_line(SseParser *parser, Error *err) {
    static const char mark[] = "\xEF\xBB\xBF";
    const char *line = parser->line.data;

    if (parser->first_line && strncmp(line, mark, strlen(mark)) == 0)
        line += strlen(mark);
    parser->first_line = false;
    if (!all_fit(parser, err))
        return false;
    if (*line == '\0')
        return dispatch(parser, err);
    size_t name_len = strcspn(line, ":");
    const char *value = line + name_len + (line[name_len] == ':');
    take_field(parser, line, name_len, value + (*value == ' '));
    return all_fit(parser, err);
}

bool sse_feed(SseParser *parser, const char *bytes, size_t len, Error *err) {
    for (size_t at = 0; at < len; at++) {
        bool second_half = parser->after_cr && bytes[at] == '\n';

        parser->after_cr = bytes[at] == '\r';
        if (second_half)
            continue;
        if (bytes[at] != '\r' && bytes[at] != '\n') {
            buf_append_char(&parser->line, bytes[at]);
            continue;
        }
        bool good = take_line(parser, err);
        buf_clear(&parser->line);
        if (!good)
            return false;
    }
    return all_fit(parser, err);
}
