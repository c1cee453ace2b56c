/* --watch. */
#include "cli/service/watch.h"

#include "common/clock.h"

#include <string.h>
#include <unistd.h>

enum { PICTURE_MAX = 64 * 1024 * 1024 };
static const int64_t look_us = USEC_PER_SEC;

typedef struct Frame {
    Buf before;
    int rows; /* on the terminal */
} Frame;

/* As many lines as fit; each erases what is left of the one below it. */
static void draw(Service *service, Frame *frame, const Buf *picture) {
    int room = MAX(service->tty.rows - 1, 1), rows = 0;
    const char *line = picture->data;

    if (frame->rows > 0)
        buf_printf(service->out, "\033[%dA", frame->rows);
    for (; *line != '\0' && rows < room; rows++) {
        size_t len = strcspn(line, "\n");
        buf_append(service->out, line, len);
        buf_append_str(service->out, "\033[K\n");
        line += len + (line[len] == '\n');
    }
    buf_append_str(service->out, "\033[J");
    frame->rows = rows;
}

static bool put(Service *service, Frame *frame, const Buf *picture, Error *err) {
    bool is_live = service->tty.is_terminal && service->format == OUTPUT_TABLE;

    if (!is_live && strcmp(frame->before.data, picture->data) == 0)
        return true;
    if (is_live) {
        tty_size(STDOUT_FILENO, &service->tty.columns, &service->tty.rows);
        draw(service, frame, picture);
    } else {
        static const char *const between[] = {
            [OUTPUT_TABLE] = "\n", [OUTPUT_JSON] = "", [OUTPUT_YAML] = "---\n", [OUTPUT_HTML] = ""};
        buf_append_str(service->out, frame->before.len > 0 ? between[service->format] : "");
        buf_append(service->out, picture->data, picture->len);
    }
    buf_clear(&frame->before);
    buf_append(&frame->before, picture->data, picture->len);
    return service_flush(service, err);
}

static bool look_once(Service *service, Frame *frame, WatchLook look, void *context, bool *ret_over, Error *err) {
    CLEANUP(buf_fini) Buf picture;

    buf_init(&picture, PICTURE_MAX);
    return look(service, context, &picture, ret_over, err) && buf_ok(&picture, "the list", err) &&
           put(service, frame, &picture, err);
}

/* What is made for a picture goes with it: --watch may run for weeks. */
static bool look_in_scope(Service *service, Frame *frame, WatchLook look, void *context, bool *ret_over, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arena *whole = service->arena;

    service->arena = arena;
    bool good = look_once(service, frame, look, context, ret_over, err);
    service->arena = whole;
    return good;
}

bool watch_run(Service *service, WatchLook look, void *context, Error *err) {
    Frame frame = {0};
    bool over = false;

    if (!service->options->watch)
        return look(service, context, service->out, &over, err);
    buf_init(&frame.before, PICTURE_MAX);
    bool good = true;
    while (good && !over)
        good = look_in_scope(service, &frame, look, context, &over, err) &&
               (over || client_pause(service->client, look_us, err));
    buf_fini(&frame.before);
    return good || err->reason == REASON_CANCELLED;
}
