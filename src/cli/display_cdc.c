/* The part of the live area that tells about following. */
#include "cli/display_cdc.h"

#include "common/clock.h"

enum {
    AGE_SHOWN = 1000000,
    COUNT_WIDTH = 14,
    NAME_WIDTH_MIN = 12,
    INDENT = 2,
    SUMMARY_LINES = 3,
    LINE_MAX_BYTES = 4096
};

static Ink state_ink(CdcState state) {
    static const Ink inks[CDC_STATE_MAX_] = {
        [CDC_CATCHING_UP] = INK_BOLD,     [CDC_FOLLOWING] = INK_GREEN, [CDC_RETRYING] = INK_YELLOW,
        [CDC_COPYING_AGAIN] = INK_YELLOW, [CDC_PROMOTING] = INK_BOLD,  [CDC_PROMOTED] = INK_GREEN,
    };
    return inks[state];
}

/* "lag 1.5 MB, 2.1s"; what is not known is left out. */
static const char *lag_text(Arena *arena, const CdcProgress *cdc) {
    const char *bytes = cdc->lag_bytes >= 0 ? format_bytes(arena, cdc->lag_bytes) : "";
    const char *time = cdc->lag_us >= 0 ? clock_duration(arena, cdc->lag_us) : "";
    if (bytes[0] == '\0' && time[0] == '\0')
        return "lag not known yet";
    return arena_printf(arena, "lag %s%s%s", bytes, bytes[0] != '\0' && time[0] != '\0' ? ", " : "", time);
}

static const char *rates_text(Arena *arena, const CdcProgress *cdc) {
    return arena_printf(arena, "insert %.0f/s  update %.0f/s  delete %.0f/s", cdc->inserts_rate, cdc->updates_rate,
                        cdc->deletes_rate);
}

/* "WAL kept 12.0 MB of 1.0 GB, full in 3h 20m"; what the slot keeps of the catalogues when that is much. */
static const char *retained_text(Arena *arena, const CdcProgress *cdc) {
    if (cdc->retained_bytes < 0)
        return "";
    const char *limit = ", no limit", *left = "", *held = "";
    if (cdc->limit_bytes >= 0)
        limit = arena_printf(arena, " of %s", format_bytes(arena, cdc->limit_bytes));
    if (cdc->limit_seconds >= 0)
        left = arena_printf(arena, ", full in %s", clock_duration(arena, cdc->limit_seconds * USEC_PER_SEC));
    if (cdc->catalog_age >= AGE_SHOWN)
        held = arena_printf(arena, "  catalogues kept for %s transactions", format_count(arena, cdc->catalog_age));
    return arena_printf(arena, "WAL kept %s%s%s%s", format_bytes(arena, cdc->retained_bytes), limit, left, held);
}

static void render_state(Arena *arena, Line *line, const CdcProgress *cdc) {
    line_put(line, state_ink(cdc->state), cdc_state_help(cdc->state));
    if (cdc->promote_step != NULL && cdc->promote_step[0] != '\0')
        line_printf(line, INK_BOLD, ": %s", cdc->promote_step);
    line_printf(line, INK_PLAIN, "  %s", lag_text(arena, cdc));
    if (cdc->eta_us >= 0 && cdc->state == CDC_CATCHING_UP)
        line_printf(line, INK_PLAIN, "  caught up in about %s", clock_duration(arena, cdc->eta_us));
    line_end(line);
}

static void render_rates(Arena *arena, Line *line, const CdcProgress *cdc) {
    line_printf(line, INK_PLAIN, "%s  transactions %s", rates_text(arena, cdc), format_count(arena, cdc->transactions));
    if (cdc->ddl > 0)
        line_printf(line, INK_PLAIN, "  definitions %s", format_count(arena, cdc->ddl));
    line_end(line);
}

/* Where it stands, and what that costs the source. Less than an hour of room is a warning. */
static void render_source(Arena *arena, Line *line, const CdcProgress *cdc) {
    bool scarce = cdc->limit_seconds >= 0 && cdc->limit_seconds < 3600;
    line_put(line, scarce ? INK_RED : INK_DIM, retained_text(arena, cdc));
    if (cdc->applied_lsn != NULL && cdc->source_lsn != NULL)
        line_printf(line, INK_DIM, "%sapplied %s of %s", cdc->retained_bytes >= 0 ? "  " : "", cdc->applied_lsn,
                    cdc->source_lsn);
    line_end(line);
}

static void render_count(Arena *arena, Line *line, const char *what, int64_t count) {
    line_cell_right(line, INK_DIM, count > 0 ? arena_printf(arena, "%s %s", what, format_count(arena, count)) : "",
                    COUNT_WIDTH);
}

static void render_table(Arena *arena, Line *line, const CdcTable *table, int name_width) {
    line_cell(line, INK_PLAIN, "", INDENT);
    line_cell(line, INK_PLAIN, table->name != NULL ? table->name : "", name_width);
    render_count(arena, line, "ins", table->inserts);
    render_count(arena, line, "upd", table->updates);
    render_count(arena, line, "del", table->deletes);
    render_count(arena, line, "trunc", table->truncates);
    line_end(line);
}

static int name_width_of(const Line *line, const CdcTableVec *tables, size_t count) {
    int longest = NAME_WIDTH_MIN;
    for (size_t at = 0; at < count; at++)
        if (tables->items[at].name != NULL)
            longest = MAX(longest, text_width(tables->items[at].name, line->utf8));
    return MIN(longest, MAX(NAME_WIDTH_MIN, line->width - INDENT - 4 * COUNT_WIDTH));
}

/* Problems matter more than counters: they come first, and tables take what is left. */
void display_cdc_render(Arena *arena, Line *line, const CdcProgress *cdc, int room) {
    if (room > 0)
        render_state(arena, line, cdc);
    if (room > 1)
        render_rates(arena, line, cdc);
    if (room > 2)
        render_source(arena, line, cdc);
    size_t left = room > SUMMARY_LINES ? (size_t)(room - SUMMARY_LINES) : 0;
    size_t problems = MIN(cdc->problems.len, left);
    for (size_t at = 0; at < problems; at++) {
        line_printf(line, INK_YELLOW, "! %s", cdc->problems.items[at]);
        line_end(line);
    }
    size_t tables = MIN(cdc->tables.len, left - problems);
    int name_width = name_width_of(line, &cdc->tables, tables);
    for (size_t at = 0; at < tables; at++)
        render_table(arena, line, &cdc->tables.items[at], name_width);
}

void display_cdc_plain(Arena *arena, Buf *out, const CdcProgress *cdc) {
    buf_printf(out, "%s  %s  %s  transactions %s", cdc_state_help(cdc->state), lag_text(arena, cdc),
               rates_text(arena, cdc), format_count(arena, cdc->transactions));
    if (cdc->retained_bytes >= 0)
        buf_printf(out, "  %s", retained_text(arena, cdc));
    if (cdc->eta_us >= 0 && cdc->state == CDC_CATCHING_UP)
        buf_printf(out, "  caught up in about %s", clock_duration(arena, cdc->eta_us));
}

static bool has_text(const StringVec *list, const char *text) {
    for (size_t at = 0; at < list->len; at++)
        if (strcmp(list->items[at], text) == 0)
            return true;
    return false;
}

void display_cdc_changes(Buf *out, const CdcProgress *before, const CdcProgress *now) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *was = before->promote_step != NULL ? before->promote_step : "";
    const char *is = now->promote_step != NULL ? now->promote_step : "";
    if (before->state != now->state && now->state != CDC_NONE)
        buf_printf(out, "Follow: %s\n", cdc_state_help(now->state));
    if (strcmp(was, is) != 0 && is[0] != '\0')
        buf_printf(out, "Promote: %s\n", text_clean(arena, is));
    for (size_t at = 0; at < now->problems.len; at++)
        if (!has_text(&before->problems, now->problems.items[at]))
            buf_printf(out, "Problem: %s\n", text_clean(arena, now->problems.items[at]));
}
