/* Standard error while a migration runs: a live area that is redrawn in place, plain lines, or nothing. */
#include "cli/screen.h"

#include "common/clock.h"
#include "common/fd.h"

#include <string.h>

enum { FRAME_MAX = 1024 * 1024 };
static const int64_t frame_us = 200 * USEC_PER_MSEC;
static const int64_t plain_us = 10 * USEC_PER_SEC;

void screen_init(Screen *screen, int fd, ScreenMode mode, const Tty *tty) {
    *screen = (Screen){
        .fd = fd,
        .mode = mode,
        .style = {.columns = tty->columns, .rows = tty->rows, .utf8 = tty->utf8, .color = tty->color},
        .arena = arena_new(),
    };
    buf_init(&screen->frame, FRAME_MAX);
}

void screen_fini(Screen *screen) {
    arena_freep(&screen->arena);
    buf_fini(&screen->frame);
}

static void screen_write(const Screen *screen, const Buf *text) {
    Error lost;
    bool written UNUSED =
        fd_write_all(screen->fd, text->data, text->len, &lost); /* a lost terminal stops no migration */
}

/* --- the live area --- */

/* Columns of a line of the frame, colours not counted. */
static int line_width(const char *line, size_t len, bool utf8) {
    CLEANUP(buf_fini) Buf plain;
    buf_init(&plain, FRAME_MAX);
    for (size_t at = 0; at < len; at++) {
        if (line[at] == '\033') {
            at += strcspn(line + at, "m");
            continue;
        }
        buf_append_char(&plain, line[at]);
    }
    return text_width(plain.data, utf8);
}

/* Rows of the terminal that the frame takes: a terminal that became narrower has wrapped its lines. */
static int frame_rows(const Screen *screen) {
    int rows = 0;
    const char *line = screen->frame.data;
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        int width = line_width(line, len, screen->style.utf8);
        rows += MAX(1, (width + screen->style.columns - 1) / screen->style.columns);
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    return rows;
}

/* Moves to the first line of the live area. Rows that have scrolled out are out of reach, and stay. */
static void append_home(const Screen *screen, Buf *out) {
    int rows = MIN(frame_rows(screen), screen->style.rows - 1);
    buf_append_str(out, "\r");
    if (rows > 0)
        buf_printf(out, "\033[%dA", rows);
}

/* Each line erases what is left of the one below it: less flicker than erasing everything first. */
static void append_frame(const Buf *frame, Buf *out) {
    const char *line = frame->data;
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        buf_append(out, line, len);
        buf_append_str(out, "\033[K\n");
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    buf_append_str(out, "\033[J");
}

/* Draws the area anew, with `above` (whole lines, or NULL) left standing above it. */
static void draw_live(Screen *screen, const char *above) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 2 * FRAME_MAX);
    append_home(screen, &out);
    if (above != NULL) {
        buf_append_str(&out, "\033[J");
        buf_append_str(&out, above);
    }
    buf_clear(&screen->frame);
    if (screen->has_progress) {
        screen->style.least_fraction = MAX(screen->style.least_fraction, display_fraction(&screen->progress));
        display_render(&screen->frame, &screen->progress, &screen->style);
    }
    append_frame(&screen->frame, &out);
    screen_write(screen, &out);
    screen->changed = false;
    screen->next_us = clock_now_us() + frame_us;
}

/* --- plain lines --- */

static void write_plain(Screen *screen) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, FRAME_MAX);
    display_plain(&out, &screen->progress);
    buf_append_char(&out, '\n');
    screen_write(screen, &out);
    screen->changed = false;
    screen->next_us = clock_now_us() + plain_us;
}

static void write_changes(const Screen *screen, const Progress *before, const Progress *now) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, FRAME_MAX);
    display_changes(&out, before, now);
    if (out.len > 0)
        screen_write(screen, &out);
}

/* --- both --- */

void screen_flush(Screen *screen) {
    if (!screen->has_progress)
        return;
    if (screen->mode == SCREEN_LIVE)
        draw_live(screen, NULL);
    else if (screen->mode == SCREEN_PLAIN)
        write_plain(screen);
}

/* The first progress line comes after the first interval: until then the phase lines say enough. */
static void take_progress(Screen *screen, Arena *arena, const Progress *progress) {
    if (screen->mode == SCREEN_PLAIN) {
        write_changes(screen, &screen->progress, progress);
        if (!screen->has_progress)
            screen->next_us = clock_now_us() + plain_us;
    }
    arena_free(screen->arena);
    screen->arena = arena;
    screen->progress = *progress;
    screen->has_progress = true;
    screen->changed = true;
}

bool screen_progress(Screen *screen, const json_t *body, Error *err) {
    Arena *arena = arena_new();
    Progress progress;
    if (!progress_from_json(arena, body, &progress, err)) {
        arena_free(arena);
        return false;
    }
    take_progress(screen, arena, &progress);
    screen_tick(screen);
    return true;
}

int screen_timeout(const Screen *screen) {
    bool shows = screen->mode == SCREEN_LIVE || screen->mode == SCREEN_PLAIN;
    if (!shows || !screen->changed)
        return -1;
    return screen->next_us == 0 ? 0 : clock_poll_timeout(screen->next_us);
}

void screen_tick(Screen *screen) {
    if (screen_timeout(screen) == 0)
        screen_flush(screen);
}

static void write_line(Screen *screen, const char *prefix, const char *text) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *line = arena_printf(arena, "%s%s\n", prefix, text_clean(arena, text));
    if (screen->mode == SCREEN_LIVE) {
        draw_live(screen, line);
        return;
    }
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, FRAME_MAX);
    buf_append_str(&out, line);
    screen_write(screen, &out);
}

void screen_event(Screen *screen, const char *level, const char *text) {
    bool serious = strcmp(level, "warning") == 0 || strcmp(level, "error") == 0;
    if (screen->mode == SCREEN_SILENT || (screen->mode == SCREEN_WARNINGS && !serious))
        return;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    write_line(screen, serious ? arena_printf(arena, "%s: ", level) : "", text);
}

void screen_note(Screen *screen, const char *text) {
    write_line(screen, "pgcrane: ", text);
}

void screen_clear(Screen *screen) {
    if (screen->mode != SCREEN_LIVE || screen->frame.len == 0)
        return;
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, FRAME_MAX);
    append_home(screen, &out);
    buf_append_str(&out, "\033[J");
    screen_write(screen, &out);
    buf_clear(&screen->frame);
    screen->changed = true;
}

void screen_resized(Screen *screen) {
    tty_size(screen->fd, &screen->style.columns, &screen->style.rows);
    if (screen->mode == SCREEN_LIVE)
        draw_live(screen, NULL);
}

void screen_forget(Screen *screen) {
    buf_clear(&screen->frame);
    screen->changed = screen->has_progress;
}
