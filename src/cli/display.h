/*
 * The picture of a running migration as text: pure functions from Progress to lines.
 *
 * display_render() is the live area of a terminal; display_plain() and display_changes() are the lines for logs and
 * pipes. Nothing here writes to a descriptor or reads time.
 */
#pragma once

#include "common/buf.h"
#include "model/progress.h"

typedef struct DisplayStyle {
    int columns;
    int rows;
    bool utf8;
    bool color;
    double least_fraction; /* the overall bar never goes back behind this: 0 at first */
} DisplayStyle;

/* Share of the whole migration that is done, 0 to 1; 1 only when nothing is left. By time as soon as an estimate is
 * known (indexes are work too), by bytes until then. */
double display_fraction(const Progress *progress);

/* Lines, each with its newline and at most style->columns wide; at most style->rows - 1 of them. */
void display_render(Buf *out, const Progress *progress, const DisplayStyle *style);
/* "43%  1.5 GB of 3.4 GB  118.2 MB/s  tables 12/40  indexes 2/17  12.3s, about 20.0s left", no newline. */
void display_plain(Buf *out, const Progress *progress);
/* One line for each phase that began or ended between the two pictures. */
void display_changes(Buf *out, const Progress *before, const Progress *now);
