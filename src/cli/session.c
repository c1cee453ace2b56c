/*
 * One run of a worker, as the command line sees it: started, listened to, stopped, reaped.
 *
 * NOTES
 * The worker does all the work and is another process, so that this one can always answer Ctrl-C. Between them is a
 * socketpair (descriptor 3 of the worker). A run ends in one of three ways: DONE, FAILED, or the end of file before
 * either: the worker is lost. Whatever happens here, the worker sees the end of file when this process is gone, and
 * ends cleanly by itself.
 *
 * Signals are blocked and read from a signalfd (the worker does not inherit that: proc_spawn() clears its mask).
 * The first SIGINT or SIGTERM is passed on as STOP; the second kills. Both are safe: what is committed at the
 * destination is what the next run goes on from. SIGPIPE is blocked too: a reader of our output that went away must not
 * end the migration.
 *
 * Other terminals speak to the migration through this process (control.h), in the same poll loop. What a PROMOTE of
 * theirs does not say is as this run was begun.
 */
#include "cli/session_internal.h"

#include "cli/confirm.h"
#include "cli/exit_codes.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_MAX = 256 * 1024 * 1024 };
/* How long a worker may take from its last message to its end. */
static const int64_t reap_us = 10 * USEC_PER_SEC;
/* wire_receive(): take what is there, do not wait. */
static const int64_t no_wait = 1;

/* --- results on standard output --- */

/* A reader that went away does not end the migration, but the exit code tells. */
static void print_results(Session *session, const Buf *text) {
    Error err;
    if (session->output_lost)
        return;
    screen_clear(&session->screen);
    if (output_results(text, &err))
        return;
    session->output_lost = true;
    screen_note(&session->screen, err.message);
}

static void print_json(Session *session, WireType type, const json_t *body) {
    CLEANUP(buf_fini) Buf line;
    buf_init(&line, OUTPUT_MAX);
    output_json_line(&line, type, body);
    print_results(session, &line);
}

static void say_promoted(Session *session) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Promoted *promoted = &session->promoted;
    if (!promoted->ok)
        screen_event(&session->screen, "warning",
                     arena_printf(arena, "promote called off: %s", promoted->error.message));
    else if (promoted->dry_run)
        screen_event(&session->screen, "info",
                     arena_printf(arena, "dry run of a promote: writes would be away for about %s",
                                  outage_text(arena, promoted->outage_us)));
}

/* --- messages of the worker --- */

static bool on_findings(Session *session, const json_t *body, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FindingVec findings = {0};
    if (!findings_from_json(arena, json_get_array(body, "findings"), &findings, err))
        return false;
    session->finding_errors += findings_count(&findings, SEVERITY_ERROR);
    if (session->options->json || (findings.len == 0 && !session->options->dry_run))
        return true;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, OUTPUT_MAX);
    findings_render(&text, &findings);
    buf_append_char(&text, '\n');
    print_results(session, &text);
    return true;
}

static bool on_plan(Session *session, const json_t *body, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Plan plan;
    if (!plan_from_json(arena, body, &plan, err))
        return false;
    if (session->options->json)
        return true;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, OUTPUT_MAX);
    plan_render(&text, &plan);
    print_results(session, &text);
    return true;
}

static bool on_confirm(Session *session, const json_t *body, Error *err) {
    ConfirmInput input = {
        .options = session->options,
        .screen = &session->screen,
        .signal_fd = session->signal_fd,
        .worker_fd = wire_fd(session->wire),
    };
    bool yes = confirm_answer(&input, body);
    return wire_send(session->wire, WIRE_CONFIRM, json_pack("{s:b}", "yes", yes ? 1 : 0), err);
}

static bool on_event(Session *session, const json_t *body, Error *err UNUSED) {
    screen_event(&session->screen, json_get_string(body, "level", "info"), json_get_string(body, "text", ""));
    return true;
}

static bool on_progress(Session *session, const json_t *body, Error *err) {
    return screen_progress(&session->screen, body, err) && session_promote_when_following(session, err) &&
           session_promote_that_waited(session, err);
}

static bool request(void *context, WireType type, const json_t *body, Error *err);

/* Its id is made of both servers and databases: one of them was made anew, or the address leads elsewhere. */
static bool refuse_other_job(const Session *session, const char *id, Error *err) {
    error_set(err, REASON_LEDGER_MISMATCH, "these two databases are migration %s, not %s", id, session->input->job_id);
    if (session_is_abort(session))
        error_remedy(err,
                     "the address of one leads to another database, or that was made anew; when the destination that"
                     " it had is gone: pgcrane abort --source-only %s",
                     session->input->job_id);
    return false;
}

/* Without its files and socket a migration goes on as well. */
static bool on_job(Session *session, const json_t *body, Error *err) {
    const char *id = json_get_string(body, "job_id", "");
    if (id[0] == '\0' || id[0] == '.' || strchr(id, '/') != NULL)
        return error_set(err, REASON_WIRE_BAD, "JOB: \"%.40s\" is no id of a migration", id);
    if (session->input->job_id != NULL && strcmp(session->input->job_id, id) != 0)
        return refuse_other_job(session, id, err);
    session->job_id = arena_strdup(session->arena, id);
    if (session->input->folder != NULL && session->control != NULL)
        control_note(session->control, "migration", json_deep_copy(body));
    if (session->options->dry_run || session->options->state_dir == NULL || session->control != NULL)
        return true;
    Job job = {
        .id = session->job_id,
        .folder = arena_printf(session->arena, "%s/%s", session->options->state_dir, id),
        .source = json_get_string(body, "source", ""),
        .dest = json_get_string(body, "dest", ""),
        .options = *session->options,
    };
    Error lost;
    if (!control_open(&(ControlParams){.job = &job, .request = request, .context = session}, &session->control, &lost))
        screen_event(&session->screen, "warning",
                     arena_printf(session->arena, "other terminals cannot reach this migration: %s", lost.message));
    return true;
}

/* A promote that began by itself, and was called off while the one that was asked for was on its way to the worker:
 * that one is still to come, and whoever asked for it must not take this for its end. */
static bool is_anothers(const Session *session, const json_t *body) {
    return session->promoting && !json_get_bool(body, "ok", false) &&
           json_get_int(body, "no", 0) != session->promote_no;
}

static bool on_promoted(Session *session, const json_t *body, Error *err) {
    if (!promoted_from_json(session->arena, body, &session->promoted, err))
        return false;
    if (is_anothers(session, body)) {
        say_promoted(session);
        session->kept_back = true;
        return true;
    }
    session->promoting = false;
    session->cancel_sent = false;
    session->has_promoted = true;
    session_note_wish(session, body);
    if (!session->promoted.ok && session->screen.progress.cdc.state == CDC_PROMOTING)
        session->screen.progress.cdc.state = CDC_FOLLOWING; /* the next picture says so too */
    say_promoted(session);
    bool over = session->promote_sent && (!session->promoted.ok || session->promoted.dry_run);
    return !over || wire_send(session->wire, WIRE_STOP, NULL, err);
}

static bool on_report(Session *session, const json_t *body, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Report report;
    if (!report_from_json(arena, body, &report, err))
        return false;
    session->unproven = report.promoted && !report.proven;
    if (session->options->json)
        return true;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, OUTPUT_MAX);
    report_render(&text, &report);
    print_results(session, &text);
    return true;
}

static bool on_failed(Session *session, const json_t *body, Error *err UNUSED) {
    wire_error_from_json(body, &session->failure);
    session->outcome = OUTCOME_FAILED;
    session->failure_printed = true;
    return true;
}

static bool on_done(Session *session, const json_t *body, Error *err UNUSED) {
    session->left = json_get_int(body, "left", 0);
    session->outcome = OUTCOME_DONE;
    return true;
}

/* For the service, which reads it in the file. */
static bool on_noted(Session *session UNUSED, const json_t *body UNUSED, Error *err UNUSED) {
    return true;
}

typedef struct MessageRow {
    bool (*handle)(Session *session, const json_t *body, Error *err); /* NULL: a worker does not say this */
    bool in_json;                                                     /* a line of --json */
} MessageRow;

static const MessageRow message_rows[WIRE_MAX_] = {
    [WIRE_FINDINGS] = {on_findings, true}, [WIRE_PLAN] = {on_plan, true},         [WIRE_CONFIRM] = {on_confirm, false},
    [WIRE_EVENT] = {on_event, true},       [WIRE_PROGRESS] = {on_progress, true}, [WIRE_REPORT] = {on_report, true},
    [WIRE_FAILED] = {on_failed, true},     [WIRE_DONE] = {on_done, true},         [WIRE_JOB] = {on_job, true},
    [WIRE_PROMOTED] = {on_promoted, true}, [WIRE_DATABASES] = {on_noted, true},   [WIRE_LOADED] = {on_noted, false},
    [WIRE_MENDED] = {on_noted, false},
};

static bool take_message(Session *session, WireType type, const json_t *body, Error *err) {
    const MessageRow *row = &message_rows[type];
    if (row->handle == NULL)
        return error_set(err, REASON_WIRE_BAD, "the worker sent %s, which is not for it to say", wire_type_name(type));
    if (row->in_json && session->options->json)
        print_json(session, type, body);
    session->kept_back = false;
    if (!row->handle(session, body, err))
        return false;
    if (session->control != NULL && !session->kept_back)
        control_message(session->control, type, body, &session->screen.progress);
    return true;
}

/* Takes all messages that are there. */
static bool drain_wire(Session *session, Error *err) {
    for (;;) {
        WireType type;
        CLEANUP(json_freep) json_t *body = NULL;
        switch (wire_receive(session->wire, NULL, no_wait, &type, &body, err)) {
        case WIRE_MESSAGE:
            if (!take_message(session, type, body, err))
                return false;
            break;
        case WIRE_NOTHING:
            return true;
        case WIRE_CLOSED:
            if (session->outcome == OUTCOME_NONE)
                session->outcome = OUTCOME_LOST;
            return true;
        case WIRE_BROKEN:
            return false;
        }
        if (session->outcome != OUTCOME_NONE)
            return true;
    }
}

/* --- signals --- */

static void ask_to_stop(Session *session) {
    Error err;
    session->stops++;
    if (session->stops > 1) {
        kill(session->worker, SIGKILL);
        return;
    }
    screen_note(&session->screen, "stopping cleanly; again to end at once");
    if (session->control != NULL)
        control_stopping(session->control);
    if (!wire_send(session->wire, WIRE_STOP, NULL, &err))
        screen_note(&session->screen, err.message); /* it is gone: the end of file follows */
}

/* What another terminal asks for. Twice is not more than once: it has no second signal to give. */
static bool request(void *context, WireType type, const json_t *body, Error *err) {
    Session *session = context;
    if (type == WIRE_PROMOTE)
        return session_request_promote(session, body, err);
    screen_note(&session->screen, "asked to stop from another terminal");
    if (session->stops == 0)
        ask_to_stop(session);
    return true;
}

static void take_signals(Session *session) {
    for (int number; (number = signals_next(session->signal_fd)) != 0;) {
        if (signal_is_stop(number))
            ask_to_stop(session);
        else if (number == SIGWINCH)
            screen_resized(&session->screen);
        else if (number == SIGCONT)
            screen_forget(&session->screen);
    }
}

/* --- the worker's life --- */

static bool start_worker(Session *session, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *self;
    int pair[2];
    if (!proc_self_path(arena, &self, err))
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(err, REASON_SYSTEM, "socketpair");
    CLEANUP(fd_close) int theirs = pair[1];
    session->wire = wire_new(pair[0]);
    const char *const argv[] = {self, "worker", NULL};
    if (!proc_spawn(&(ProcSpec){.argv = argv, .fd3 = theirs}, &session->worker, err))
        return error_wrap(err, "starting the worker");
    return true;
}

static bool send_start(Session *session, Error *err) {
    const char *action = session->input->action != NULL ? session->input->action : "migrate";
    json_t *body = json_pack("{s:o, s:s, s:s*}", "options", options_to_json(session->options), "action", action,
                             "job_id", session->input->job_id);
    if (session->input->more != NULL)
        (void)json_object_update(body, (json_t *)(uintptr_t)session->input->more); /* is only read */
    return wire_send(session->wire, WIRE_START, body, err);
}

/* Of two times to wait, -1 being for ever. */
static int sooner(int one, int other) {
    return one < 0 || (other >= 0 && other < one) ? other : one;
}

/* As if the worker had said it. */
static void tell_all(Session *session, const char *level, const char *text) {
    CLEANUP(json_freep) json_t *body = json_pack("{s:s, s:o}", "level", level, "text", json_string_lossy(text));
    if (session->options->json)
        print_json(session, WIRE_EVENT, body);
    screen_event(&session->screen, level, text);
    control_message(session->control, WIRE_EVENT, body, &session->screen.progress);
}

static void tell_companion(Session *session, Arena *arena) {
    const SessionCompanion *companion = session->input->companion;
    bool bad = false;
    for (const char *text; companion != NULL && (text = companion->news(companion->context, arena, &bad)) != NULL;)
        tell_all(session, bad ? "warning" : "info", text);
}

/* What cannot be written is tried again: told once, and once when it works again. The migration goes on. */
static void tick(Session *session) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;
    screen_tick(&session->screen);
    tell_companion(session, arena);
    ControlNews news = session->control == NULL ? CONTROL_NO_NEWS : control_tick(session->control, &err);
    if (news == CONTROL_FAILS)
        tell_all(session, "warning",
                 arena_printf(arena,
                              "what other terminals are told is out of date: %s; the migration goes on, and this is"
                              " tried again each second",
                              err.message));
    else if (news == CONTROL_WORKS)
        tell_all(session, "info", "what other terminals are told is up to date again");
}

static bool listen_once(Session *session, Error *err) {
    struct pollfd fds[2 + CONTROL_FDS_MAX] = {
        {.fd = wire_fd(session->wire), .events = POLLIN},
        {.fd = session->signal_fd, .events = POLLIN},
    };
    size_t count = 2;
    int timeout = screen_timeout(&session->screen);
    if (session->control != NULL) {
        count += control_poll_fds(session->control, fds + 2);
        timeout = sooner(timeout, control_timeout(session->control));
    }
    if (session->input->companion != NULL)
        timeout = sooner(timeout, 1000);
    if (poll(fds, count, timeout) < 0) {
        if (errno != EINTR)
            return error_errno(err, REASON_SYSTEM, "poll");
        return true; /* uncovered: signals come through signal_fd */
    }
    if (fds[1].revents != 0)
        take_signals(session);
    if (count > 2)
        control_serve(session->control, fds + 2, count - 2);
    if (fds[0].revents != 0 && !drain_wire(session, err))
        return false;
    tick(session);
    return true;
}

static bool listen_to_worker(Session *session, Error *err) {
    while (session->outcome == OUTCOME_NONE)
        if (!listen_once(session, err))
            return false;
    return true;
}

/* Why the worker is gone, in the words of waitpid(2). */
static void describe_loss(Session *session, int status) {
    Error *failure = &session->failure;
    if (session->stops > 1)
        error_set(failure, REASON_CANCELLED, "ended at once, as asked");
    else if (WIFSIGNALED(status))
        error_set(failure, REASON_WORKER_LOST, "the worker was ended by signal %d (%s)", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        error_set(failure, REASON_WORKER_LOST, "the worker ended without a word, exit status %d", WEXITSTATUS(status));
}

/* A worker that crashes after it said how the run ended (in its own clean-up) changes nothing in the outcome. */
static void reap_worker(Session *session) {
    Error err;
    int status = 0;
    wire_freep(&session->wire);
    if (!proc_wait(session->worker, NULL, clock_now_us() + reap_us, &status, &err)) {
        screen_note(&session->screen, err.message);
        status = SIGKILL;
    }
    if (session->outcome == OUTCOME_LOST)
        describe_loss(session, status);
    else if (session->outcome == OUTCOME_DONE && (WIFSIGNALED(status) || WEXITSTATUS(status) != 0))
        screen_event(&session->screen, "warning", "the worker did not end cleanly after its work was done");
}

/* What went wrong here is told unless the worker has told more already. */
static void fail_here(Session *session, const Error *err) {
    if (session->outcome != OUTCOME_NONE)
        return;
    session->failure = *err;
    session->outcome = OUTCOME_FAILED;
}

static bool prepare(const Session *session, Error *err) {
    const SessionCompanion *companion = session->input->companion;
    return companion == NULL || companion->prepare(companion->context, err);
}

static void run_worker(Session *session) {
    Error err;
    bool started = prepare(session, &err) && signals_open(&session->signal_fd, &err) && start_worker(session, &err);
    if (started && !send_start(session, &err))
        session->outcome = OUTCOME_LOST; /* why it is gone, its exit status tells */
    else if (!started || !listen_to_worker(session, &err))
        fail_here(session, &err);
    if (started)
        reap_worker(session);
    if (session->outcome == OUTCOME_FAILED && session->input->companion != NULL)
        session->input->companion->explain(session->input->companion->context, &session->failure);
    wire_freep(&session->wire);
}

/* --- the end --- */

/* What `status` says of a migration that was given up with something left. */
static void describe_left(const Session *session, Error *why) {
    error_set(why, REASON_CANCELLED,
              "given up, but what may be its doing was left on the source: %lld, which the abort"
              " named",
              (long long)session->left);
    error_remedy(why,
                 "pgcrane abort --source-only %s names it again, and takes the migration off the list when nothing"
                 " is left; when all of it is as it should be, remove the folder of the migration in --state-dir",
                 session->job_id);
}

static void end_control(Session *session) {
    Error err, why = session->failure;
    bool done = session->outcome == OUTCOME_DONE;
    bool left = done && session_is_abort(session) && session->left > 0;
    if (session->control == NULL)
        return;
    if (left)
        describe_left(session, &why);
    bool forget = done && session_is_abort(session) && !left && session->input->folder == NULL;
    if (!control_end(session->control, done && !left ? NULL : &why, forget, &err))
        screen_event(&session->screen, "warning", err.message);
    control_closep(&session->control);
}

/* While the copy is under way the keeper holds its snapshot for --snapshot-lease seconds. */
static bool snapshot_is_held(const Session *session) {
    const PhaseProgress *phases = session->screen.progress.phases;
    return phases[PHASE_SNAPSHOT].state == PHASE_DONE && phases[PHASE_COPY].state != PHASE_DONE &&
           phases[PHASE_COPY].state != PHASE_SKIPPED;
}

/* Is there something to go on with? After --restart it is always told: the same command would drop again what this run
 * made. */
static bool can_go_on(const Session *session) {
    if (session->options->dry_run || session->input->resume_command == NULL)
        return false;
    const Error *failure = &session->failure;
    bool begun = session->screen.progress.phases[PHASE_SCHEMA].state != PHASE_WAITING;
    return session->stops > 0 || failure->reason == REASON_WORKER_LOST ||
           (begun && (failure->retryable || session->options->restart));
}

static bool has_slot(const Session *session) {
    return session->options->follow && session->job_id != NULL &&
           progress_has_phase(&session->screen.progress, PHASE_CDC);
}

static void say_how_to_go_on(const Session *session) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, OUTPUT_MAX);
    buf_printf(&text, "  go on with: %s\n", session->input->resume_command);
    if (has_slot(session))
        buf_printf(&text,
                   "  The slot on the source stays, and holds WAL there, until pgcrane promote %s\n"
                   "  or, to give the migration up, pgcrane abort %s\n"
                   "  Until then nobody takes a table out of the publication that loses its primary key: the\n"
                   "  application could not update it, until it goes on or pgcrane abort %s\n",
                   session->job_id, session->job_id, session->job_id);
    int64_t lease_us = session->options->snapshot_lease * USEC_PER_SEC;
    if (snapshot_is_held(session) && lease_us > 0)
        buf_printf(&text,
                   "  The source's snapshot is held for %s.\n"
                   "  Later than that, tables that are not complete are copied anew.\n",
                   clock_duration(arena, lease_us));
    Error lost;
    bool written UNUSED = fd_write_all(STDERR_FILENO, text.data, text.len, &lost);
}

/* The command itself says more than the remedy "run the same command again". */
static int tell_failure(Session *session) {
    static const char vague[] = "run the same command again";
    Error failure = session->failure;
    bool go_on = can_go_on(session);
    if (go_on && strncmp(failure.remedy, vague, strlen(vague)) == 0)
        failure.remedy[0] = '\0';
    int exit_code = output_error(&failure);
    if (go_on)
        say_how_to_go_on(session);
    return exit_code;
}

/* The run was for a promote, which did not come about, or was not meant to: that is the result, and not how the run
 * was stopped afterwards. */
static bool ended_with_promoted(const Session *session) {
    return session->promote_sent && session->has_promoted && (!session->promoted.ok || session->promoted.dry_run);
}

static int conclude_promoted(Session *session) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, OUTPUT_MAX);
    if (!session->promoted.ok)
        return output_error(&session->promoted.error);
    promoted_render(&text, &session->promoted);
    if (!session->options->json)
        print_results(session, &text);
    return session->output_lost ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

static int conclude_done(const Session *session) {
    if (session->output_lost)
        return EXIT_CODE_FAILED;
    return session->unproven ? EXIT_CODE_UNPROVEN : EXIT_CODE_OK;
}

static int conclude(Session *session) {
    if (ended_with_promoted(session))
        return conclude_promoted(session);
    if (session->outcome == OUTCOME_DONE && session->finding_errors == 0)
        return conclude_done(session);
    if (session->outcome == OUTCOME_DONE)
        error_set(&session->failure, REASON_PREFLIGHT_FAILED, "the checks found %zu error%s", session->finding_errors,
                  session->finding_errors == 1 ? "" : "s");
    if (session->failure.reason == REASON_LOGIN_REFUSED && session->input->login_remedy != NULL)
        error_remedy(&session->failure, "%s", session->input->login_remedy);
    if (session->options->json && session->outcome != OUTCOME_DONE && !session->failure_printed) {
        CLEANUP(json_freep) json_t *body = wire_error_to_json(&session->failure);
        print_json(session, WIRE_FAILED, body);
    }
    return tell_failure(session);
}

static ScreenMode screen_mode(const MigrateOptions *options, const Tty *tty) {
    if (options->json)
        return SCREEN_SILENT;
    if (options->quiet)
        return SCREEN_WARNINGS;
    return tty->is_terminal ? SCREEN_LIVE : SCREEN_PLAIN;
}

static void fail_busy(Session *session) {
    Error err;
    error_set(&err, REASON_CONFLICT, "another process does the same in %s", session->input->folder);
    fail_here(session, &err);
}

/* Of the service: also what goes wrong before the migration is known stands in the file. *ret_taken false: another
 * process does the same there. */
static bool open_control(Session *session, bool *ret_taken, Error *err) {
    const SessionInput *input = session->input;
    const Job job = {.id = input->name, .folder = input->folder, .source = "", .dest = "", .options = *input->options};
    *ret_taken = true;
    if (input->folder == NULL)
        return true;
    const ControlParams params = {.job = &job, .run = input->run, .request = request, .context = session};
    if (!control_open(&params, &session->control, err))
        return false;
    *ret_taken = session->control != NULL;
    return true;
}

int session_run(const SessionInput *input) {
    Session session = {.input = input, .options = input->options, .arena = arena_new(), .signal_fd = -1};
    Tty tty = tty_probe(STDERR_FILENO, input->options->no_color);
    screen_init(&session.screen, STDERR_FILENO, screen_mode(input->options, &tty), &tty);
    Error err;
    bool taken = false;
    if (!open_control(&session, &taken, &err))
        fail_here(&session, &err);
    else if (!taken)
        fail_busy(&session);
    else
        run_worker(&session);
    end_control(&session);
    if (session.outcome == OUTCOME_DONE)
        screen_clear(&session.screen);
    else
        screen_flush(&session.screen);
    int exit_code = conclude(&session);
    json_freep(&session.waiting);
    fd_close(&session.signal_fd);
    screen_fini(&session.screen);
    arena_free(session.arena);
    return exit_code;
}
