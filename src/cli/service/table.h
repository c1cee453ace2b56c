/*
 * Rows under titles, aligned, and pairs of a label and its value. Pure: everything goes into a Buf.
 *
 * Texts may hold anything: control characters become '?'. With a width no line passes it: the widest columns give way,
 * then the line is cut.
 */
#pragma once

#include "cli/tty.h"
#include "common/vec.h"

typedef struct TableStyle {
    int width; /* of the terminal; 0 = as wide as it gets */
    bool utf8, color;
} TableStyle;

typedef struct TableCell {
    const char *text; /* NULL = nothing */
    Ink ink;
} TableCell;

typedef struct TableColumn {
    const char *title;
    bool right; /* numbers */
} TableColumn;

/* cells: row by row. A column without any text is left out, its title too. */
void table_render(Buf *out, const TableStyle *style, const TableColumn *columns, size_t columns_count,
                  const TableCell *cells, size_t rows);

typedef struct Fact {
    const char *label, *text; /* the text may have several lines */
    Ink ink;
} Fact;
typedef VEC(Fact) FactVec;

/* "Label    text", each on a line of its own. */
void facts_render(Buf *out, const TableStyle *style, const FactVec *facts);
