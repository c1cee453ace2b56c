/*
 * The command `promote`: asks the process that follows, or, when there is none, follows itself first.
 *
 * With a process: PROMOTE goes to its socket, and what comes of it is shown here; the promote itself is the other
 * process's work, and goes on if this one is killed. Without one: a worker of our own goes on with the job from
 * job.json, and is sent PROMOTE as soon as it follows.
 */
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_command.h"
#include "cli/output.h"
#include "session/connect.h"

enum { TEXT_MAX = 1024 * 1024 };

static int print_promoted(const Promoted *promoted) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, TEXT_MAX);
    promoted_render(&text, promoted);
    return output_finish(&text);
}

/* The result is told even when the run had trouble after it: the destination is open then. */
static int conclude(const Arguments *arguments, const ClientResult *result) {
    bool promoted = result->has_promoted && result->promoted.ok;
    int exit_code = EXIT_CODE_OK;
    if (promoted && !arguments->options.json)
        exit_code = print_promoted(&result->promoted);
    if (result->has_promoted && !result->promoted.ok)
        return output_error(&result->promoted.error);
    if (result->has_failed)
        return output_error(&result->error);
    if (!result->has_promoted && !result->is_promoted) { /* an abort came to its end, say */
        Error err;
        error_set(&err, REASON_PROMOTE_REFUSED, "the process that runs the migration has ended without this promote");
        error_remedy(&err, "pgcrane status shows how it ended");
        return output_error(&err);
    }
    bool unproven = promoted ? !result->promoted.dry_run && !result->promoted.proven : result->unproven;
    if (exit_code == EXIT_CODE_OK && unproven)
        return EXIT_CODE_UNPROVEN;
    return exit_code;
}

static int promote_by_process(Arena *arena, const Arguments *arguments, Wire *wire, const json_t *body) {
    ClientResult result;
    Error err;
    const ClientInput input = {
        .wire = wire,
        .request = WIRE_PROMOTE,
        .body = body,
        .json = arguments->options.json,
        .quiet = arguments->options.quiet,
    };
    if (!client_run(arena, &input, &result, &err))
        return output_error(&err);
    return conclude(arguments, &result);
}

static bool check_job(const Job *job, const JobStatus *status, Error *err) {
    if (status->state == JOB_COMPLETED)
        return error_set(err, REASON_ALREADY_DONE, "migration %s is complete", job->id);
    if (!job->options.follow)
        return error_set(err, REASON_PROMOTE_REFUSED, "migration %s was not begun with --follow", job->id);
    return true;
}

static bool find_process(const Job *job, const JobStatus *status, Wire **ret_wire, Error *err) {
    if (!control_connect(job->folder, ret_wire, err))
        return false;
    if (*ret_wire == NULL && status->running) {
        error_set(err, REASON_PROMOTE_REFUSED, "a process runs migration %s, but cannot be reached", job->id);
        return error_remedy(err, "it is beginning or ending: try again in a moment");
    }
    return true;
}

int promote_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(wire_freep) Wire *wire = NULL;
    Arguments arguments;
    Job job;
    JobStatus status;
    Error err;
    int exit_code;
    if (!job_command_begin(arena, argc, argv, &arguments, &exit_code))
        return exit_code;
    if (!job_find(arena, arguments.options.state_dir, arguments.job, &job, &err) ||
        !job_status_read(arena, &job, &status, NULL, &err) || !check_job(&job, &status, &err) ||
        !find_process(&job, &status, &wire, &err))
        return output_error(&err);
    CLEANUP(json_freep) json_t *body = json_pack("{s:o}", "options", arguments_given(&arguments, "Promote"));
    if (wire != NULL)
        return promote_by_process(arena, &arguments, wire, body);
    return job_command_run(arena, &job, &arguments, "migrate", "promote", body);
}
