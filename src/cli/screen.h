/*
 * Standard error while a migration runs: a live area that is redrawn in place, plain lines, or nothing.
 *
 * Contract
 * - Between two calls the cursor always stands at the start of the line below the live area, visible, with colours off:
 *   whatever ends the process, SIGKILL included, leaves a sane terminal. That is why the cursor is not hidden.
 * - Each call is one write(2), so that nothing tears. A screen that cannot be written any more is no error.
 * - What the process prints elsewhere meanwhile (standard output) goes between screen_clear() and the next call.
 */
#pragma once

#include "cli/display.h"
#include "cli/tty.h"

typedef enum ScreenMode { SCREEN_SILENT, SCREEN_WARNINGS, SCREEN_PLAIN, SCREEN_LIVE } ScreenMode;

typedef struct Screen {
    int fd;
    ScreenMode mode;
    DisplayStyle style;
    Arena *arena; /* what `progress` lives in */
    Progress progress;
    bool has_progress;
    bool changed;
    int64_t next_us; /* when the next frame or progress line is due; 0 = with the first picture */
    Buf frame;       /* as drawn now; empty when nothing is */
} Screen;

void screen_init(Screen *screen, int fd, ScreenMode mode, const Tty *tty);
/* Leaves the last picture where it is. */
void screen_fini(Screen *screen);

/* Takes over a PROGRESS message's body; draws it when it is due. */
NODISCARD bool screen_progress(Screen *screen, const json_t *body, Error *err);
/* Milliseconds until screen_tick() wants to be called, -1 = no need. */
int screen_timeout(const Screen *screen);
void screen_tick(Screen *screen);

/* A line above the live area; "info" lines only in the modes that show progress. */
void screen_event(Screen *screen, const char *level, const char *text);
/* A line in every mode. */
void screen_note(Screen *screen, const char *text);
/* Removes the live area until the next tick. */
void screen_clear(Screen *screen);
/* Draws the last picture now. */
void screen_flush(Screen *screen);
/* The terminal has another size. */
void screen_resized(Screen *screen);
/* Something else was on the terminal meanwhile (SIGCONT): what stands there is not ours to erase. */
void screen_forget(Screen *screen);
