/* The picture of a running migration as text: pure functions from Progress to lines. */
#include "cli/display.h"

#include "cli/display_cdc.h"
#include "cli/tty.h"
#include "common/clock.h"

enum {
    FIXED_LINES = 3, /* rail, bar, counts */
    KIND_WIDTH = 12,
    SIZES_WIDTH = 20,
    ELAPSED_WIDTH = 8,
    INDENT = 2,
    MIN_OBJECT_WIDTH = 12,
    WIDE_COLUMNS = 110,
    TASKS_BESIDE = 4, /* while following */
};

/* How much of the rail is spelled out: less when the terminal is too narrow for all of it. */
typedef enum RailDetail { RAIL_FULL, RAIL_TIGHT, RAIL_DONE_AS_MARKS, RAIL_RUNNING_ONLY, RAIL_DETAILS_ } RailDetail;

static double ratio(double part, double whole) {
    return whole > 0 ? part / whole : 0;
}

static bool all_phases_over(const Progress *progress) {
    for (Phase phase = 0; phase < PHASE_MAX_; phase++) {
        PhaseState state = progress->phases[phase].state;
        if (progress_has_phase(progress, phase) && (state == PHASE_WAITING || state == PHASE_RUNNING))
            return false;
    }
    return true;
}

double display_fraction(const Progress *progress) {
    if (all_phases_over(progress))
        return 1;
    double by_bytes = ratio((double)progress->bytes_done, (double)progress->bytes_total);
    double by_time = ratio((double)progress->elapsed_us, (double)(progress->elapsed_us + progress->eta_us));
    return MIN(progress->eta_us >= 0 ? by_time : by_bytes, 0.99);
}

static int percent_of(double fraction) {
    return (int)(fraction * 100);
}

static const char *phase_mark(PhaseState state, bool utf8) {
    static const char *const marks[][2] = {
        [PHASE_WAITING] = {"-", "·"},
        [PHASE_RUNNING] = {">", "▸"},
        [PHASE_DONE] = {"+", "✓"},
        [PHASE_SKIPPED] = {"x", "–"},
    };
    return marks[state][utf8 ? 1 : 0];
}

static Ink phase_ink(PhaseState state) {
    static const Ink inks[] = {
        [PHASE_WAITING] = INK_DIM,
        [PHASE_RUNNING] = INK_BOLD,
        [PHASE_DONE] = INK_GREEN,
        [PHASE_SKIPPED] = INK_DIM,
    };
    return inks[state];
}

static bool phase_is_spelled(PhaseState state, RailDetail detail) {
    if (state == PHASE_RUNNING || detail <= RAIL_TIGHT)
        return true;
    return state == PHASE_WAITING && detail == RAIL_DONE_AS_MARKS;
}

/* " 43%" or " 2/17" for a phase under way, "" otherwise. */
static const char *phase_amount(Arena *arena, const Progress *progress, Phase phase) {
    const PhaseProgress *this = &progress->phases[phase];
    if (this->state != PHASE_RUNNING)
        return "";
    if (phase == PHASE_COPY && progress->bytes_total > 0)
        return arena_printf(arena, " %d%%",
                            percent_of(ratio((double)progress->bytes_done, (double)progress->bytes_total)));
    if (this->total > 0)
        return arena_printf(arena, " %lld/%lld", (long long)this->done, (long long)this->total);
    return "";
}

/* Marks without a title stand close together, so that the rail of a narrow terminal keeps its order. */
static void rail_phase(Arena *arena, Line *line, const Progress *progress, Phase phase, RailDetail detail) {
    PhaseState state = progress->phases[phase].state;
    bool spelled = phase_is_spelled(state, detail);
    if (phase > 0)
        line_put(line, INK_PLAIN, spelled && detail != RAIL_TIGHT ? "  " : " ");
    const char *mark = phase_mark(state, line->utf8);
    if (!spelled) {
        line_put(line, phase_ink(state), mark);
        return;
    }
    line_printf(line, phase_ink(state), "%s %s%s", mark, phase_title(phase), phase_amount(arena, progress, phase));
}

static void rail(Arena *arena, Line *line, const Progress *progress, RailDetail detail) {
    for (Phase phase = 0; phase < PHASE_MAX_; phase++)
        if (progress_has_phase(progress, phase))
            rail_phase(arena, line, progress, phase, detail);
}

static int rail_width(Arena *arena, const Progress *progress, RailDetail detail, bool utf8) {
    CLEANUP(buf_fini) Buf scratch;
    buf_init(&scratch, 64 * 1024);
    Line line = {.out = &scratch, .width = 10000, .utf8 = utf8};
    rail(arena, &line, progress, detail);
    return line.used;
}

static void render_rail(Arena *arena, Line *line, const Progress *progress) {
    RailDetail detail = RAIL_FULL;
    while (detail + 1 < RAIL_DETAILS_ && rail_width(arena, progress, detail, line->utf8) > line->width)
        detail++;
    rail(arena, line, progress, detail);
    line_end(line);
}

static const char *amount_text(Arena *arena, int64_t done, int64_t total) {
    if (total <= 0)
        return done > 0 ? format_bytes(arena, done) : "";
    return arena_printf(arena, "%s of %s", format_bytes(arena, done), format_bytes(arena, total));
}

static const char *rate_text(Arena *arena, const Progress *progress) {
    if (progress->bytes_per_second < 1)
        return "";
    return arena_printf(arena, "%s/s", format_bytes(arena, (int64_t)progress->bytes_per_second));
}

static void append_part(Buf *out, const char *separator, const char *text) {
    if (text[0] == '\0')
        return;
    buf_append_str(out, separator);
    buf_append_str(out, text);
}

static void render_bar(Arena *arena, Line *line, const Progress *progress, const DisplayStyle *style) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 4096);
    double fraction = MAX(display_fraction(progress), style->least_fraction);
    buf_printf(&text, " %3d%%", percent_of(fraction));
    append_part(&text, "  ", amount_text(arena, progress->bytes_done, progress->bytes_total));
    append_part(&text, "  ", rate_text(arena, progress));
    append_part(&text, "  ", clock_duration(arena, progress->elapsed_us));
    if (progress->eta_us >= 0)
        append_part(&text, "  ETA ", clock_duration(arena, progress->eta_us));
    int room = line->width - text_width(text.data, line->utf8);
    if (room >= 5)
        line_bar(line, INK_CYAN, fraction, MIN(room, 60));
    line_put(line, INK_PLAIN, text.data);
    line_end(line);
}

static void append_count(Arena *arena, Buf *out, const char *what, int64_t done, int64_t total) {
    if (total <= 0)
        return;
    buf_printf(out, "%s%s %s of %s", out->len > 0 ? "   " : "", what, format_count(arena, done),
               format_count(arena, total));
}

static void render_counts(Arena *arena, Line *line, const Progress *progress) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 4096);
    append_count(arena, &text, "tables", progress->tables_done, progress->tables_total);
    append_count(arena, &text, "indexes", progress->indexes_done, progress->indexes_total);
    if (progress->rows_done > 0)
        buf_printf(&text, "%srows %s", text.len > 0 ? "   " : "", format_count(arena, progress->rows_done));
    line_put(line, INK_DIM, text.data);
    line_end(line);
}

typedef struct TaskColumns {
    int object;
    int bar; /* 0 = no room for one */
    bool sizes;
} TaskColumns;

static int longest_object(const Progress *progress, size_t count, bool utf8) {
    int longest = MIN_OBJECT_WIDTH;
    for (size_t task = 0; task < count; task++)
        longest = MAX(longest, text_width(progress->tasks.items[task].object, utf8));
    return longest;
}

/* The name matters most: bar, then sizes are left out when it would get less than MIN_OBJECT_WIDTH. */
static TaskColumns task_columns(const Progress *progress, size_t count, const DisplayStyle *style) {
    TaskColumns columns = {.bar = style->columns >= WIDE_COLUMNS ? 20 : 10, .sizes = true};
    int fixed = INDENT + KIND_WIDTH + ELAPSED_WIDTH;
    if (style->columns - fixed - SIZES_WIDTH - 1 - columns.bar - 1 < MIN_OBJECT_WIDTH)
        columns.bar = 0;
    if (style->columns - fixed - SIZES_WIDTH - 1 < MIN_OBJECT_WIDTH)
        columns.sizes = false;
    int taken = fixed + (columns.bar > 0 ? columns.bar + 1 : 0) + (columns.sizes ? SIZES_WIDTH + 1 : 0);
    columns.object = MIN(longest_object(progress, count, style->utf8), MAX(style->columns - taken, 1));
    return columns;
}

static void render_task(Arena *arena, Line *line, const TaskProgress *task, const TaskColumns *columns) {
    line_cell(line, INK_PLAIN, "", INDENT);
    line_cell(line, INK_DIM, task->kind, KIND_WIDTH);
    line_cell(line, INK_PLAIN, task->object, columns->object);
    if (columns->bar > 0) {
        line_put(line, INK_PLAIN, " ");
        if (task->total > 0)
            line_bar(line, INK_CYAN, ratio((double)task->done, (double)task->total), columns->bar);
        else
            line_cell(line, INK_PLAIN, "", columns->bar);
    }
    if (columns->sizes) {
        line_put(line, INK_PLAIN, " ");
        line_cell_right(line, INK_PLAIN, amount_text(arena, task->done, task->total), SIZES_WIDTH);
    }
    line_cell_right(line, INK_DIM, clock_duration(arena, task->elapsed_us), ELAPSED_WIDTH);
    line_end(line);
}

/* Below `above` lines. */
static void render_tasks(Arena *arena, Line *line, const Progress *progress, const DisplayStyle *style, int above) {
    size_t room = style->rows > above + 1 ? (size_t)(style->rows - 1 - above) : 0;
    size_t count = progress->tasks.len;
    if (room == 0 || count == 0)
        return;
    size_t shown = count <= room ? count : room - 1;
    TaskColumns columns = task_columns(progress, shown, style);
    for (size_t task = 0; task < shown; task++)
        render_task(arena, line, &progress->tasks.items[task], &columns);
    if (shown < count) {
        line_printf(line, INK_DIM, "  and %zu more", count - shown);
        line_end(line);
    }
}

/* The copy is long over: its place is taken by what follows it. Tasks are those of tables that are copied again. */
static void render_following(Arena *arena, Line *line, const Progress *progress, const DisplayStyle *style) {
    int room = style->rows - (style->rows > 2 ? 2 : 1);
    int tasks = MIN((int)MIN(progress->tasks.len, (size_t)TASKS_BESIDE), MAX(room - FIXED_LINES, 0));
    display_cdc_render(arena, line, &progress->cdc, room - tasks);
    render_tasks(arena, line, progress, style, style->rows - 1 - tasks);
}

void display_render(Buf *out, const Progress *progress, const DisplayStyle *style) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Line line = {.out = out, .width = style->columns, .utf8 = style->utf8, .color = style->color};
    if (style->rows > 2)
        render_rail(arena, &line, progress);
    if (progress->cdc.state != CDC_NONE) {
        render_following(arena, &line, progress, style);
        return;
    }
    if (style->rows > 1)
        render_bar(arena, &line, progress, style);
    if (style->rows > FIXED_LINES)
        render_counts(arena, &line, progress);
    render_tasks(arena, &line, progress, style, FIXED_LINES);
}

static void plain_pair(Buf *out, const char *what, int64_t done, int64_t total) {
    if (total > 0)
        buf_printf(out, "  %s %lld/%lld", what, (long long)done, (long long)total);
}

void display_plain(Buf *out, const Progress *progress) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    if (progress->cdc.state != CDC_NONE) {
        display_cdc_plain(arena, out, &progress->cdc);
        return;
    }
    buf_printf(out, "%d%%", percent_of(display_fraction(progress)));
    append_part(out, "  ", amount_text(arena, progress->bytes_done, progress->bytes_total));
    append_part(out, "  ", rate_text(arena, progress));
    plain_pair(out, "tables", progress->tables_done, progress->tables_total);
    plain_pair(out, "indexes", progress->indexes_done, progress->indexes_total);
    append_part(out, "  ", clock_duration(arena, progress->elapsed_us));
    if (progress->eta_us >= 0)
        buf_printf(out, ", about %s left", clock_duration(arena, progress->eta_us));
}

static void append_ended(Arena *arena, Buf *out, Phase phase, const PhaseProgress *now) {
    buf_printf(out, "%s: done in %s", phase_title(phase), clock_duration(arena, now->elapsed_us));
    if (now->total > 0)
        buf_printf(out, " (%s)", format_count(arena, now->done));
    buf_append_char(out, '\n');
}

void display_changes(Buf *out, const Progress *before, const Progress *now) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (Phase phase = 0; phase < PHASE_MAX_; phase++) {
        PhaseState was = before->phases[phase].state;
        PhaseState is = now->phases[phase].state;
        if (was == is)
            continue;
        if (is == PHASE_RUNNING)
            buf_printf(out, "%s: %s\n", phase_title(phase), phase_help(phase));
        else if (is == PHASE_DONE)
            append_ended(arena, out, phase, &now->phases[phase]);
        else if (is == PHASE_SKIPPED && progress_has_phase(now, phase))
            buf_printf(out, "%s: skipped\n", phase_title(phase));
    }
    display_cdc_changes(out, &before->cdc, &now->cdc);
}
