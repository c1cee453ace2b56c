/*
 * What the terminal is, how wide text is on it, and lines that never pass its width.
 *
 * Contract
 * - Text from servers (names, messages) may hold anything: every control character becomes '?', so that no name can
 * move the cursor or colour the screen.
 * - With `utf8` the process's LC_CTYPE must be a UTF-8 locale (main() sets it from the environment): widths come from
 *   wcwidth(3). Without it each character outside ASCII is shown as one '?'.
 */
#pragma once

#include "common/arena.h"
#include "common/buf.h"

typedef struct Tty {
    bool is_terminal; /* and one that understands cursor movement */
    bool utf8;
    bool color;
    int columns;
    int rows;
} Tty;

/* Asks the terminal behind `fd`; 80x24 when it does not say. */
Tty tty_probe(int fd, bool no_color);
/* Size alone, for a terminal that changes while it is looked at. Leaves the outputs when the terminal does not say. */
void tty_size(int fd, int *columns, int *rows);

typedef enum Ink { INK_PLAIN, INK_BOLD, INK_DIM, INK_GREEN, INK_YELLOW, INK_RED, INK_CYAN } Ink;

/* Columns that `text` takes. */
int text_width(const char *text, bool utf8);
/* `text` without control characters other than newline and tab, as it is otherwise: for lists and reports. */
char *text_clean(Arena *arena, const char *text);

/* One line of the screen being written. What would pass `width` is cut, with an ellipsis. */
typedef struct Line {
    Buf *out;
    int width;
    int used;
    bool utf8;
    bool color;
} Line;

void line_put(Line *line, Ink ink, const char *text);
void line_printf(Line *line, Ink ink, const char *format, ...) PRINTF(3, 4);
/* Exactly `width` columns: padded, or cut with an ellipsis. */
void line_cell(Line *line, Ink ink, const char *text, int width);
void line_cell_right(Line *line, Ink ink, const char *text, int width);
/* A bar of `width` columns, `fraction` of it full. */
void line_bar(Line *line, Ink ink, double fraction, int width);
void line_end(Line *line);
