/* Tables for people. */
#include "cli/service/table.h"

#include <string.h>

enum { GAP = 2, NARROWEST = 8 };

typedef struct Layout {
    const TableStyle *style;
    const TableColumn *columns;
    size_t count;
    int *widths; /* 0 = left out */
} Layout;

static const char *text_of(const TableCell *cell) {
    return cell->text != NULL ? cell->text : "";
}

static void measure(Layout *layout, const TableCell *cells, size_t rows) {
    for (size_t row = 0; row < rows; row++)
        for (size_t at = 0; at < layout->count; at++) {
            int width = text_width(text_of(&cells[row * layout->count + at]), layout->style->utf8);
            layout->widths[at] = MAX(layout->widths[at], width);
        }
    for (size_t at = 0; at < layout->count; at++)
        if (layout->widths[at] > 0)
            layout->widths[at] = MAX(layout->widths[at], text_width(layout->columns[at].title, layout->style->utf8));
}

static int width_of_all(const Layout *layout) {
    int all = 0;

    for (size_t at = 0; at < layout->count; at++)
        all += layout->widths[at] > 0 ? layout->widths[at] + GAP : 0;
    return all - GAP;
}

/* The widest column gives way, again and again: short ones stay whole. */
static void shrink(Layout *layout) {
    int too_wide = width_of_all(layout) - layout->style->width;

    for (; layout->style->width > 0 && too_wide > 0; too_wide--) {
        size_t widest = 0;
        for (size_t at = 1; at < layout->count; at++)
            if (layout->widths[at] > layout->widths[widest])
                widest = at;
        if (layout->widths[widest] <= NARROWEST)
            return;
        layout->widths[widest]--;
    }
}

static bool is_last(const Layout *layout, size_t at) {
    for (size_t later = at + 1; later < layout->count; later++)
        if (layout->widths[later] > 0)
            return false;
    return true;
}

static void cut_blanks(Buf *out) {
    while (out->len > 0 && out->data[out->len - 1] == ' ')
        out->data[--out->len] = '\0';
}

static void put_row(const Layout *layout, const TableCell *cells, Buf *out) {
    Line line = {.out = out,
                 .width = layout->style->width > 0 ? layout->style->width : INT32_MAX,
                 .utf8 = layout->style->utf8,
                 .color = layout->style->color};

    for (size_t at = 0; at < layout->count; at++) {
        const TableCell *cell = &cells[at];

        if (layout->widths[at] == 0)
            continue;
        if (layout->columns[at].right)
            line_cell_right(&line, cell->ink, text_of(cell), layout->widths[at]);
        else if (is_last(layout, at))
            line_put(&line, cell->ink, text_of(cell));
        else
            line_cell(&line, cell->ink, text_of(cell), layout->widths[at]);
        if (!is_last(layout, at))
            line_put(&line, INK_PLAIN, "  ");
    }
    cut_blanks(out);
    line_end(&line);
}

void table_render(Buf *out, const TableStyle *style, const TableColumn *columns, size_t columns_count,
                  const TableCell *cells, size_t rows) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Layout layout = {
        .style = style, .columns = columns, .count = columns_count, .widths = arena_array(arena, int, columns_count)};
    TableCell *titles = arena_array(arena, TableCell, columns_count);

    measure(&layout, cells, rows);
    shrink(&layout);
    for (size_t at = 0; at < columns_count; at++)
        titles[at] = (TableCell){.text = columns[at].title, .ink = INK_BOLD};
    put_row(&layout, titles, out);
    for (size_t row = 0; row < rows; row++)
        put_row(&layout, &cells[row * columns_count], out);
}

/* --- facts --- */

/* The second and later lines stand under the first. */
static void put_fact(Arena *arena, const Fact *fact, const TableStyle *style, int label_width, Buf *out) {
    const char *text = text_clean(arena, fact->text);
    const char *label = fact->label;

    do {
        size_t len = strcspn(text, "\n");
        Line line = {.out = out,
                     .width = style->width > 0 ? style->width : INT32_MAX,
                     .utf8 = style->utf8,
                     .color = style->color};

        line_cell(&line, INK_PLAIN, label, label_width + GAP);
        line_put(&line, fact->ink, arena_strndup(arena, text, len));
        line_end(&line);
        text += len + (text[len] == '\n');
        label = "";
    } while (*text != '\0');
}

void facts_render(Buf *out, const TableStyle *style, const FactVec *facts) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    int width = 0;

    for (size_t at = 0; at < facts->len; at++)
        width = MAX(width, text_width(facts->items[at].label, style->utf8));
    for (size_t at = 0; at < facts->len; at++)
        if (facts->items[at].text != NULL)
            put_fact(arena, &facts->items[at], style, width, out);
}
