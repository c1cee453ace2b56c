/* The command `abort`: ends a process that runs the migration, then removes what was made on the source. */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/confirm.h"
#include "cli/exit_codes.h"
#include "cli/job_command.h"
#include "cli/output.h"
#include "session/connect.h"

#include <unistd.h>

/* Before anything is asked of anybody. */
static bool confirmed(const Job *job, const Arguments *arguments) {
    Screen screen;
    Tty tty = tty_probe(STDERR_FILENO, true);
    const char *what = arguments->options.dest_only
                           ? "The record of the migration goes from the destination; the source is not asked, and "
                             "this migration can never go on."
                       : arguments->options.source_only
                           ? "What was made on the source is removed, as far as it is known there: the destination is "
                             "not asked, and this migration can never go on."
                       : job->options.follow
                           ? "Slot, publications and all else that was made on the source are removed; what the "
                             "source writes from now on cannot be followed any more."
                           : "What was made on the source is removed.";
    CLEANUP(json_freep)
    json_t *body =
        json_pack("{s:s, s:[s, s, s]}", "title", "This gives the migration up:", "lines", job->source, job->dest, what);
    screen_init(&screen, STDERR_FILENO, SCREEN_SILENT, &tty);
    bool yes = confirm_answer(
        &(ConfirmInput){.options = &arguments->options, .screen = &screen, .signal_fd = -1, .worker_fd = -1}, body);
    screen_fini(&screen);
    return yes;
}

/* *ret_done: it came to its end meanwhile, and there is nothing to give up. */
static bool stop_process(Arena *arena, const Job *job, const Arguments *arguments, bool *ret_done, Error *err) {
    CLEANUP(wire_freep) Wire *wire = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    ClientResult result = {0};
    if (!control_connect(job->folder, &wire, err))
        return false;
    const ClientInput input = {
        .wire = wire,
        .request = WIRE_STOP,
        .body = body,
        .json = arguments->options.json,
        .quiet = arguments->options.quiet,
    };
    if (wire != NULL && !client_run(arena, &input, &result, err))
        return false;
    *ret_done = result.done;
    return true;
}

static bool check_unfinished(const Job *job, bool done, Error *err) {
    return !done ||
           error_set(err, REASON_ALREADY_DONE, "migration %s is complete: nothing is left to give up", job->id);
}

static bool check_one_side(const MigrateOptions *options, Error *err) {
    return !options->source_only || !options->dest_only ||
           error_set(err, REASON_USAGE, "--source-only and --dest-only: one side has to be there");
}

int abort_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Arguments arguments;
    Job job;
    JobStatus status;
    Error err;
    int exit_code;
    bool done = false;
    if (!job_command_begin(arena, argc, argv, &arguments, &exit_code))
        return exit_code;
    if (!check_one_side(&arguments.options, &err) ||
        !job_find(arena, arguments.options.state_dir, arguments.job, &job, &err) ||
        !job_status_read(arena, &job, &status, NULL, &err) ||
        !check_unfinished(&job, status.state == JOB_COMPLETED, &err))
        return output_error(&err);
    if (!confirmed(&job, &arguments)) {
        error_set(&err, REASON_CANCELLED, "not confirmed: nothing was done");
        return output_error(&err);
    }
    if (!stop_process(arena, &job, &arguments, &done, &err) || !check_unfinished(&job, done, &err))
        return output_error(&err);
    return job_command_run(arena, &job, &arguments, "abort", "abort", NULL);
}
