/* What the terminal is, how wide text is on it, and lines that never pass its width. */
#include "cli/tty.h"

#include <langinfo.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

enum { DEFAULT_COLUMNS = 80, DEFAULT_ROWS = 24, SIZE_LIMIT = 1000 };

/* One character as it goes to the screen. */
typedef struct Glyph {
    char bytes[MB_LEN_MAX + 1];
    int width;
} Glyph;

static const char *const ink_codes[] = {
    [INK_PLAIN] = "",          [INK_BOLD] = "\033[1m", [INK_DIM] = "\033[2m",   [INK_GREEN] = "\033[32m",
    [INK_YELLOW] = "\033[33m", [INK_RED] = "\033[31m", [INK_CYAN] = "\033[36m",
};

void tty_size(int fd, int *columns, int *rows) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0)
        return;
    if (size.ws_col > 0)
        *columns = MIN((int)size.ws_col, SIZE_LIMIT);
    if (size.ws_row > 0)
        *rows = MIN((int)size.ws_row, SIZE_LIMIT);
}

static bool env_is_set(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0';
}

Tty tty_probe(int fd, bool no_color) {
    const char *term = getenv("TERM");
    Tty tty = {.columns = DEFAULT_COLUMNS, .rows = DEFAULT_ROWS};
    tty.is_terminal = isatty(fd) == 1 && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
    tty.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    tty.color = tty.is_terminal && !no_color && !env_is_set("NO_COLOR");
    if (tty.is_terminal)
        tty_size(fd, &tty.columns, &tty.rows);
    return tty;
}

static Glyph glyph_of(const char *bytes, size_t len, int width) {
    Glyph glyph = {.width = width};
    memcpy(glyph.bytes, bytes, len);
    return glyph;
}

/* A byte of text in a locale that knows ASCII only: the first byte of a longer character stands for all of it. */
static Glyph glyph_ascii(unsigned char byte) {
    bool continuation = byte >= 0x80 && byte < 0xC0;
    if (continuation)
        return glyph_of("", 0, 0);
    if (byte < 0x20 || byte >= 0x7F)
        return glyph_of("?", 1, 1);
    return glyph_of((const char[]){(char)byte}, 1, 1);
}

/* Returns how many bytes of `text` (not empty) the next character took. */
static size_t glyph_next(const char *text, bool utf8, Glyph *ret_glyph) {
    if (!utf8 || (unsigned char)text[0] < 0x80) {
        *ret_glyph = glyph_ascii((unsigned char)text[0]);
        return 1;
    }
    wchar_t wide = 0;
    mbstate_t state = {0};
    size_t len = mbrtowc(&wide, text, strnlen(text, MB_LEN_MAX), &state);
    if (len == (size_t)-1 || len == (size_t)-2 || len == 0) {
        *ret_glyph = glyph_of("?", 1, 1);
        return 1;
    }
    int width = wcwidth(wide);
    *ret_glyph = width < 0 ? glyph_of("?", 1, 1) : glyph_of(text, len, width);
    return len;
}

int text_width(const char *text, bool utf8) {
    int width = 0;
    Glyph glyph;
    while (*text != '\0') {
        text += glyph_next(text, utf8, &glyph);
        width += glyph.width;
    }
    return width;
}

/* U+0080 to U+009F are control characters too; in UTF-8 they begin with 0xC2. */
static bool is_c1_control(const unsigned char *bytes) {
    return bytes[0] == 0xC2 && bytes[1] >= 0x80 && bytes[1] <= 0x9F;
}

char *text_clean(Arena *arena, const char *text) {
    char *clean = arena_strdup(arena, text);
    for (unsigned char *at = (unsigned char *)clean; *at != '\0'; at++) {
        if (is_c1_control(at)) {
            at[0] = '?';
            at[1] = '?';
        } else if ((*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7F) {
            *at = '?';
        }
    }
    return clean;
}

static const char *ellipsis(const Line *line) {
    return line->utf8 ? "…" : "~";
}

/* Writes as much of `text` as fits into `room` columns; the last one becomes an ellipsis when there is more. */
static void put_glyphs(Line *line, const char *text, int room) {
    bool cut = text_width(text, line->utf8) > room;
    int left = cut ? room - 1 : room;
    Glyph glyph;
    while (*text != '\0') {
        text += glyph_next(text, line->utf8, &glyph);
        if (glyph.width > left)
            break;
        buf_append_str(line->out, glyph.bytes);
        left -= glyph.width;
        line->used += glyph.width;
    }
    if (cut) {
        buf_append_str(line->out, ellipsis(line));
        line->used++;
    }
}

static void ink_begin(Line *line, Ink ink) {
    if (line->color)
        buf_append_str(line->out, ink_codes[ink]);
}

static void ink_end(Line *line, Ink ink) {
    if (line->color && ink != INK_PLAIN)
        buf_append_str(line->out, "\033[0m");
}

static void put_within(Line *line, Ink ink, const char *text, int room) {
    room = MIN(room, line->width - line->used);
    if (room <= 0 || text[0] == '\0')
        return;
    ink_begin(line, ink);
    put_glyphs(line, text, room);
    ink_end(line, ink);
}

void line_put(Line *line, Ink ink, const char *text) {
    put_within(line, ink, text, line->width - line->used);
}

void line_printf(Line *line, Ink ink, const char *format, ...) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 4096);
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    line_put(line, ink, text.data);
}

static void put_spaces(Line *line, int count) {
    for (; count > 0 && line->used < line->width; count--) {
        buf_append_char(line->out, ' ');
        line->used++;
    }
}

void line_cell(Line *line, Ink ink, const char *text, int width) {
    int end = line->used + width;
    put_within(line, ink, text, width);
    put_spaces(line, end - line->used);
}

void line_cell_right(Line *line, Ink ink, const char *text, int width) {
    put_spaces(line, width - text_width(text, line->utf8));
    put_within(line, ink, text, width);
}

static void put_repeated(Line *line, Ink ink, const char *glyph, int count) {
    count = MIN(count, line->width - line->used);
    if (count <= 0)
        return;
    ink_begin(line, ink);
    for (int done = 0; done < count; done++)
        buf_append_str(line->out, glyph);
    ink_end(line, ink);
    line->used += count;
}

void line_bar(Line *line, Ink ink, double fraction, int width) {
    double bounded = fraction < 0 ? 0 : MIN(fraction, 1.0);
    int full = (int)(bounded * width);
    put_repeated(line, ink, line->utf8 ? "█" : "#", full);
    put_repeated(line, INK_DIM, line->utf8 ? "░" : ".", width - full);
}

void line_end(Line *line) {
    buf_append_char(line->out, '\n');
    line->used = 0;
}
