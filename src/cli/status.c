/* The command `status`: what job.json and status.json say, as text, as JSON lines, or watched. */
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_command.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/screen.h"
#include "cli/signals.h"
#include "common/clock.h"
#include "common/fd.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

enum { TEXT_MAX = 16 * 1024 * 1024, PICTURE_ROWS = 60 };
static const int watch_ms = 1000;

/* --- one job --- */

/* "RUNNING, CDC" */
static const char *state_text(Arena *arena, const JobStatus *status) {
    const char *phase = status->phase != NULL ? status->phase : "";
    return arena_printf(arena, "%s%s%s", job_state_name(status->state), phase[0] != '\0' ? ", " : "", phase);
}

static const char *process_text(Arena *arena, const JobStatus *status) {
    if (status->running)
        return arena_printf(arena, "%lld, as of %s", (long long)status->pid, status->updated_at);
    if (status->elsewhere != NULL)
        return arena_printf(arena, "not known here: what is shown is of %s, as of %s",
                            text_clean(arena, status->elsewhere), status->updated_at);
    return "none: nobody works on it now";
}

static void render_facts(Arena *arena, Buf *out, const Job *job, const JobStatus *status) {
    buf_printf(out, "Job          %s, since %s\n", job->id, job->created_at);
    buf_printf(out, "Source       %s\n", text_clean(arena, job->source));
    buf_printf(out, "Destination  %s\n", text_clean(arena, job->dest));
    buf_printf(out, "State        %s\n", state_text(arena, status));
    if (status->state != JOB_COMPLETED)
        buf_printf(out, "Process      %s\n", process_text(arena, status));
}

static void render_job(Buf *out, const Job *job, const JobStatus *status) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Tty tty = tty_probe(STDOUT_FILENO, job->options.no_color);
    render_facts(arena, out, job, status);
    if (status->has_progress && status->state != JOB_COMPLETED) {
        DisplayStyle style = {.columns = tty.columns, .rows = PICTURE_ROWS, .utf8 = tty.utf8, .color = tty.color};
        buf_append_char(out, '\n');
        display_render(out, &status->progress, &style);
    }
    if (status->has_error) {
        buf_append_char(out, '\n');
        error_render(out, &status->error);
    }
}

/* --- all jobs --- */

static const char *lag_text(Arena *arena, const JobStatus *status) {
    const CdcProgress *cdc = &status->progress.cdc;
    if (!status->has_progress || cdc->state == CDC_NONE || cdc->lag_bytes < 0)
        return "-";
    return format_bytes(arena, cdc->lag_bytes);
}

static void render_row(Buf *out, const Job *job, const JobStatus *status) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    buf_printf(out, "%-16s  %-30s  %10s  %s -> %s\n", job->id, state_text(arena, status), lag_text(arena, status),
               text_clean(arena, job->source), text_clean(arena, job->dest));
}

/* --- looking --- */

typedef struct Look {
    const Arguments *arguments;
    Buf *out;
    size_t jobs; /* how many there are */
} Look;

static bool look_at(const Look *look, const Job *job, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *json = NULL;
    JobStatus status;
    if (!job_status_read(arena, job, &status, &json, err))
        return false;
    if (look->arguments->options.json) {
        json_print(json, 0, look->out);
        buf_append_char(look->out, '\n');
    } else if (look->jobs > 1) {
        render_row(look->out, job, &status);
    } else {
        render_job(look->out, job, &status);
    }
    return true;
}

static bool look_at_all(Arena *arena, Look *look, const StringVec *ids, Error *err) {
    look->jobs = ids->len;
    if (ids->len > 1 && !look->arguments->options.json)
        buf_printf(look->out, "%-16s  %-30s  %10s  %s\n", "Job", "State", "Lag", "Source -> destination");
    for (size_t at = 0; at < ids->len; at++) {
        Job job;
        if (!job_read(arena, look->arguments->options.state_dir, ids->items[at], &job, err) ||
            !look_at(look, &job, err))
            return false;
    }
    return true;
}

static int show(Arena *arena, const Arguments *arguments) {
    CLEANUP(buf_fini) Buf text;
    Look look = {.arguments = arguments, .out = &text, .jobs = 1};
    const char *state_dir = arguments->options.state_dir;
    StringVec ids;
    Job job;
    Error err;
    buf_init(&text, TEXT_MAX);
    bool ok = arguments->job != NULL
                  ? job_find(arena, state_dir, arguments->job, &job, &err) && look_at(&look, &job, &err)
                  : job_list(arena, state_dir, &ids, &err) && look_at_all(arena, &look, &ids, &err);
    if (!ok)
        return output_error(&err);
    if (text.len == 0 && !arguments->options.json)
        buf_printf(&text, "There is no migration in %s\n", state_dir);
    return output_finish(&text);
}

/* --- watching --- */

typedef struct Watch {
    const Job *job;
    bool json;
    Screen screen;
    int signal_fd;
    const char *state; /* as last told */
    bool over;
} Watch;

/* Standard output is what a watcher looks at; where it is no terminal, lines are told as they change. */
static bool watch_once(Arena *arena, Watch *watch, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    CLEANUP(json_freep) json_t *json = NULL;
    JobStatus status;
    if (!job_status_read(scratch, watch->job, &status, &json, err))
        return false;
    watch->over = !status.running;
    if (watch->json) {
        CLEANUP(buf_fini) Buf line;
        buf_init(&line, TEXT_MAX);
        json_print(json, 0, &line);
        buf_append_char(&line, '\n');
        return output_results(&line, err);
    }
    const char *state = state_text(arena, &status);
    if (watch->state == NULL || strcmp(watch->state, state) != 0)
        screen_event(&watch->screen, "info", state);
    watch->state = state;
    return !status.has_progress || screen_progress(&watch->screen, json_object_get(json, "progress"), err);
}

/* False when the watcher has seen enough. */
static bool pause_watching(Watch *watch) {
    struct pollfd fd = {.fd = watch->signal_fd, .events = POLLIN};
    (void)poll(&fd, 1, watch_ms);
    for (int number; (number = signals_next(watch->signal_fd)) != 0;) {
        if (signal_is_stop(number))
            return false;
        if (number == SIGWINCH)
            screen_resized(&watch->screen);
        else if (number == SIGCONT)
            screen_forget(&watch->screen);
    }
    return true;
}

static int watch_job(Arena *arena, const Arguments *arguments) {
    Arguments shown = *arguments;
    Job job;
    Error err;
    Watch watch = {.job = &job, .json = arguments->options.json, .signal_fd = -1};
    Tty tty = tty_probe(STDOUT_FILENO, arguments->options.no_color);
    if (!job_find(arena, arguments->options.state_dir, arguments->job, &job, &err) ||
        !signals_open(&watch.signal_fd, &err))
        return output_error(&err);
    screen_init(&watch.screen, STDOUT_FILENO, tty.is_terminal ? SCREEN_LIVE : SCREEN_PLAIN, &tty);
    bool ok = watch_once(arena, &watch, &err);
    while (ok && !watch.over && pause_watching(&watch))
        ok = watch_once(arena, &watch, &err);
    screen_clear(&watch.screen);
    screen_fini(&watch.screen);
    fd_close(&watch.signal_fd);
    if (!ok)
        return output_error(&err);
    shown.job = job.id;
    return arguments->options.json ? EXIT_CODE_OK : show(arena, &shown);
}

int status_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arguments arguments;
    int exit_code;
    if (!job_command_begin(arena, argc, argv, &arguments, &exit_code))
        return exit_code;
    return arguments.options.watch ? watch_job(arena, &arguments) : show(arena, &arguments);
}
