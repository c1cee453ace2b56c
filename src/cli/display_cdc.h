/* The part of the live area that tells about following; for display.c. Pure. */
#pragma once

#include "cli/display.h"
#include "cli/tty.h"

/* At most `room` lines. */
void display_cdc_render(Arena *arena, Line *line, const CdcProgress *cdc, int room);
/* "caught up  lag 0 B, 0.31s  insert 12/s  update 3/s  delete 0/s  transactions 1,234  WAL kept 12.0 MB", no newline.
 */
void display_cdc_plain(Arena *arena, Buf *out, const CdcProgress *cdc);
/* Lines for a new state, a new step of the promote, and new problems. */
void display_cdc_changes(Buf *out, const CdcProgress *before, const CdcProgress *now);
