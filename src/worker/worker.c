/*
 * The worker: one process that does all the work of one migration, or what an instance needs before (worker.h).
 *
 * The main thread walks the table of steps; a reporter thread reads messages and signals and sends progress; lanes are
 * the engine's. None of them waits for the peer to read what they say: it may be a terminal that nobody looks at, while
 * they hold locks on the source. The reporter sends what has to wait. A step that fails with a retryable error runs
 * again after the control connections were opened anew; the lanes (pool.c), following (follow.c) and automatic promotes
 * (follow_promote.c) decide by themselves what they try again. Every step first asks the ledger what is done.
 */
#include "worker/worker.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/run.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/fd.h"

enum { WIRE_FD = 3, STEP_ATTEMPTS_MAX = 6, EVENTS_WAITING_MAX = 1024 * 1024 };
#define LAST_WORDS_US (24 * 3600 * USEC_PER_SEC)
#define LAST_WORDS_STOPPED_US (5 * USEC_PER_SEC)
#define PROGRESS_US (200 * USEC_PER_MSEC)
#define START_PATIENCE_US (30 * USEC_PER_SEC)
#define STEP_PAUSE_US (1 * USEC_PER_SEC)

/* X(function, may be tried again?, in which runs) */
#define WORKER_STEPS(X)                                                                                                \
    X(connect, false, ALL_RUNS)                                                                                        \
    X(orphans, true, ALL_RUNS | ABORT_RUNS)                                                                            \
    X(abort, true, ABORT_RUNS)                                                                                         \
    X(preflight, true, ALL_RUNS)                                                                                       \
    X(dry_run, true, ALL_RUNS)                                                                                         \
    X(start_over, true, ALL_RUNS)                                                                                      \
    X(ledger, true, ALL_RUNS)                                                                                          \
    X(recover, true, FOLLOWING_RUNS)                                                                                   \
    X(seam, true, FOLLOWING_RUNS)                                                                                      \
    X(snapshot, true, ALL_RUNS)                                                                                        \
    X(schema, true, ALL_RUNS)                                                                                          \
    X(pre_data, true, ALL_RUNS)                                                                                        \
    X(load, true, ALL_RUNS)                                                                                            \
    X(foreign_keys, true, ALL_RUNS)                                                                                    \
    X(post_data, true, ALL_RUNS)                                                                                       \
    X(sequences, true, ALL_RUNS)                                                                                       \
    X(refresh, true, ALL_RUNS)                                                                                         \
    X(analyze, true, ALL_RUNS)                                                                                         \
    X(durable, true, ALL_RUNS)                                                                                         \
    X(follow, false, FOLLOWING_RUNS) /* it has a patience of its own */                                                \
    X(close_source, true, AFTER_OPEN)                                                                                  \
    X(statistics, true, AFTER_OPEN)                                                                                    \
    X(finish, true, ALL_RUNS | AFTER_OPEN)

/* AFTER_OPEN: what is left when the destination is open, whether this run opened it or found it so. */
typedef enum RunKind { ONE_TIME = 1, FOLLOWING_RUNS = 2, ABORT_RUNS = 4, AFTER_OPEN = 8, ALL_RUNS = 3 } RunKind;

static const RunStep worker_steps[] = {
#define X(name, retry, kinds) {#name, step_##name, retry, kinds},
    WORKER_STEPS(X)
#undef X
};

static unsigned kind_of(const Run *run) {
    if (run->opened)
        return AFTER_OPEN;
    return run->is_abort ? ABORT_RUNS : run->options.follow ? FOLLOWING_RUNS : ONE_TIME;
}

static bool is_wanted(const Run *run, const RunStep *step) {
    return (step->kinds & kind_of(run)) != 0 || (run->is_abort && step->run == step_connect);
}

/* ---- Messages ---- */

void run_event(Run *run, const char *level, const char *format, ...) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    va_list args;
    bool posted = false;
    Error ignored; /* a control plane that is gone is noticed by the reporter */

    va_start(args, format);
    const char *text = arena_vprintf(arena, format, args);
    va_end(args);
    log_info("event %s: %s", level, text);
    json_t *body = json_pack("{s:s, s:o}", "level", level, "text", json_string_lossy(text));
    if (!wire_post(run->wire, WIRE_EVENT, body, EVENTS_WAITING_MAX, &posted, &ignored))
        stop_request(&run->stop);
    else if (!posted)
        log_warning("the event was left out: nobody has read the ones before it");
}

bool run_send(Run *run, WireType type, json_t *body, Error *err) {
    return wire_post(run->wire, type, body, SIZE_MAX, NULL, err);
}

static void answer_confirm(Run *run, bool yes) {
    (void)pthread_mutex_lock(&run->confirm.lock);
    run->confirm.pending = false;
    run->confirm.yes = yes;
    (void)pthread_cond_broadcast(&run->confirm.answered);
    (void)pthread_mutex_unlock(&run->confirm.lock);
}

bool run_confirm(Run *run, const char *title, const StringVec *lines, bool *ret_yes, Error *err) {
    json_t *list = json_array();

    for (size_t i = 0; i < lines->len; i++)
        (void)json_array_append_new(list, json_string_lossy(lines->items[i]));
    run->confirm.pending = true;
    if (!run_send(run, WIRE_CONFIRM, json_pack("{s:s, s:o}", "title", title, "lines", list), err))
        return false;
    (void)pthread_mutex_lock(&run->confirm.lock);
    while (run->confirm.pending)
        (void)pthread_cond_wait(&run->confirm.answered, &run->confirm.lock);
    *ret_yes = run->confirm.yes;
    (void)pthread_mutex_unlock(&run->confirm.lock);
    return !stop_requested(&run->stop) || error_set(err, REASON_CANCELLED, "stopped");
}

/* ---- The reporter thread ---- */

typedef struct Reporter {
    Run *run;
    int signal_fd;
    atomic_bool running; /* progress is worth sending */
    atomic_bool ended;
} Reporter;

static void stop_run(Run *run) {
    stop_request(&run->stop);
    (void)run_call_off(run);
    answer_confirm(run, false);
}

static void take_message(Run *run, WireType type, const json_t *body) {
    if (type == WIRE_STOP)
        stop_run(run);
    else if (type == WIRE_PROMOTE)
        run_request_promote(run, body);
    else if (type == WIRE_CONFIRM)
        answer_confirm(run, json_get_bool(body, "yes", false));
}

/* All that are there: what was read together with the one before (START, too) makes no descriptor readable. False when
 * the control plane is gone. */
static bool take_messages(Run *run) {
    for (;;) {
        CLEANUP(json_freep) json_t *body = NULL;
        WireType type = WIRE_MAX_;
        Error err = {0};

        switch (wire_receive(run->wire, NULL, 1, &type, &body, &err)) {
        case WIRE_NOTHING:
            return true;
        case WIRE_CLOSED:
            return false;
        case WIRE_BROKEN:
            log_error_value(LOG_ERROR, &err);
            return false;
        case WIRE_MESSAGE:
            take_message(run, type, body);
            break;
        }
    }
}

/* The other threads may all wait for a source that says nothing: what they last said would go on to look well. */
static void count_silence(Run *run, Arena *arena, CdcProgress *cdc) {
    int64_t heard = atomic_load(&run->heard_us);
    int64_t silence = clock_now_us() - heard;

    if (heard == 0 || silence < RUN_SILENCE_US || (cdc->state != CDC_FOLLOWING && cdc->state != CDC_CATCHING_UP))
        return;
    cdc->state = CDC_CATCHING_UP;
    cdc->lag_us = MAX(cdc->lag_us, 0) + silence;
    cdc->eta_us = -1;
    vec_push(arena, &cdc->problems,
             arena_printf(arena, "nothing was heard of the source for %s", clock_duration(arena, silence)));
}

static void send_picture(Run *run, size_t most) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Progress progress;
    Error ignored;

    (void)pthread_mutex_lock(&run->picture_lock);
    tracker_read(run->tracker, arena, &progress);
    count_silence(run, arena, &progress.cdc);
    bool posted = wire_post(run->wire, WIRE_PROGRESS, progress_to_json(&progress), most, NULL, &ignored);
    (void)pthread_mutex_unlock(&run->picture_lock);
    if (!posted)
        stop_run(run);
}

/* A picture that would come late is of no use: the next one is newer. */
void run_send_progress(Run *run) {
    send_picture(run, 0);
}

static void *reporter_thread(void *argument) {
    Reporter *reporter = argument;
    Run *run = reporter->run;
    bool peer = true;

    log_thread_name("reporter");
    while (!atomic_load(&reporter->ended)) {
        bool pending = false;
        Error ignored; /* the end of the peer is read below */
        if (peer)
            (void)!wire_flush(run->wire, &pending, &ignored);
        struct pollfd fds[] = {{.fd = reporter->signal_fd, .events = POLLIN},
                               {.fd = peer ? wire_fd(run->wire) : -1, .events = pending ? POLLIN | POLLOUT : POLLIN}};
        struct signalfd_siginfo signal_info;

        (void)poll(fds, COUNT_OF(fds), (int)(PROGRESS_US / USEC_PER_MSEC));
        if ((fds[0].revents & POLLIN) != 0 && read(reporter->signal_fd, &signal_info, sizeof(signal_info)) > 0)
            stop_run(run);
        if (peer && !take_messages(run)) {
            peer = false;
            stop_run(run);
        }
        if (peer && atomic_load(&reporter->running))
            run_send_progress(run);
    }
    return NULL;
}

/* ---- The main thread ---- */

/* Runs that are about a whole instance; NULL: about a migration. */
static const RunSteps *steps_of(const char *action) {
    static const RunSteps all[] = {{"instance", instance_steps, &instance_steps_count},
                                   {"demote", demote_steps, &demote_steps_count},
                                   {"release", release_steps, &release_steps_count}};

    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (strcmp(all[i].action, action) == 0)
            return &all[i];
    return NULL;
}

static void read_orphans(Run *run, const json_t *ids) {
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_string(json_array_get(ids, i)))
            vec_push(run->arena, &run->orphans, arena_strdup(run->arena, json_string_value(json_array_get(ids, i))));
}

static bool receive_start(Run *run, Error *err) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type = WIRE_MAX_;

    switch (wire_receive(run->wire, &run->stop, clock_now_us() + START_PATIENCE_US, &type, &body, err)) {
    case WIRE_BROKEN:
        return false;
    case WIRE_CLOSED:
    case WIRE_NOTHING:
        return error_set(err, REASON_CANCELLED, "no START came");
    case WIRE_MESSAGE:
        break;
    }
    if (type != WIRE_START)
        return error_set(err, REASON_WIRE_BAD, "the first message is %s, not START", wire_type_name(type));
    /* The message holds the connection strings; options keep their copies in the run's arena, the JSON goes with this
     * function. */
    const char *action = json_get_string(body, "action", "migrate");
    run->is_abort = strcmp(action, "abort") == 0;
    run->steps = steps_of(action);
    run->instance.wanted = run->steps != NULL;
    run->seizes = json_get_bool(body, "seize", false);
    run->is_made = json_get_bool(body, "made", false);
    read_orphans(run, json_get_array(body, "orphans"));
    run->owner = arena_strdup(run->arena, json_get_string(body, "owner", ""));
    run->owner_name = arena_strdup(run->arena, json_get_string(body, "owner_name", run->owner));
    run_guard_from_json(run, body);
    run->given_job_id = arena_strdup(run->arena, json_get_string(body, "job_id", ""));
    run->known_job_id = arena_strdup(run->arena, json_get_string(body, "known_id", ""));
    return options_from_json(run->arena, json_get_object(body, "options"), &run->options, err) &&
           dry_run_from_json(run, body, err) && (!run->instance.wanted || instance_from_json(run, body, err));
}

/* Ends a retry loop early when the user stopped, also in the pause. */
static bool pause_before_retry(Run *run, const RunStep *step, int attempt, const Error *err) {
    run_event(run, "warning", "%s; trying again (%d of %d)", err->message, attempt, STEP_ATTEMPTS_MAX - 1);
    log_error_value(LOG_WARNING, err);
    log_info("step %s attempt %d", step->name, attempt + 1);
    tracker_add_retry(run->tracker);
    return stop_wait_fd(&run->stop, -1, 0, clock_now_us() + STEP_PAUSE_US * attempt) != WAIT_STOPPED;
}

/* Connections that cannot be had cost an attempt: a step never runs without them. */
static bool try_step(Run *run, const RunStep *step, int attempt, Error *err) {
    bool (*reconnect)(Run *, Error *) = run->instance.wanted ? run_instance_reconnect : run_reconnect;

    return (attempt == 1 || reconnect(run, err)) && step->run(run, err);
}

static bool run_step(Run *run, const RunStep *step, Error *err) {
    log_info("step %s", step->name);
    for (int attempt = 1;; attempt++) {
        if (try_step(run, step, attempt, err))
            return true;
        if (!watch_check(run, err)) /* it stopped the run: its reason is the reason */
            return false;
        if (stop_requested(&run->stop))
            return error_set(err, REASON_CANCELLED, "stopped");
        if (!step->retry || !err->retryable || attempt >= STEP_ATTEMPTS_MAX ||
            !pause_before_retry(run, step, attempt, err))
            return false;
    }
}

static bool run_instance_steps(Run *run, Error *err) {
    for (size_t i = 0; i < *run->steps->count; i++)
        if (!run_step(run, &run->steps->items[i], err))
            return false;
    return true;
}

static bool run_steps(Run *run, Error *err) {
    if (run->instance.wanted)
        return run_instance_steps(run, err);
    for (size_t i = 0; i < COUNT_OF(worker_steps) && !run->finished; i++)
        if (is_wanted(run, &worker_steps[i]) && !run_step(run, &worker_steps[i], err))
            return false;
    return true;
}

/* What --max-retained promises: the slot does not stay when the run gives up because of it. */
static void give_up_slot(Run *run) {
    Error err = {0};

    db_closep(&run->source);
    db_closep(&run->dest);
    if (!db_open(&run->source_target, "control", NULL, &run->source, &err) || !run_lock_source_again(run, &err) ||
        !db_open(&run->dest_target, "control", NULL, &run->dest, &err) || !run_lock_again(run, &err) ||
        !run_remove_from_source(run, &err)) {
        run_event(run, "error", "not all could be removed from the source: %s%s%s; pgcrane abort tries again",
                  err.message, err.remedy[0] != '\0' ? "; " : "", err.remedy);
        log_error_value(LOG_ERROR, &err);
    }
}

/* A ledger that somebody dropped fails each statement in its own words. */
static void explain_lost_ledger(Run *run, Error *err) {
    Error ignored; /* then it is not known, and stays as the server said it */
    bool gone = false;

    if (err->reason != REASON_SQL_FAILED || !run->has_ledger || run->dest == NULL || db_is_broken(run->dest))
        return;
    db_rollback(run->dest);
    if (!run_ledger_is_gone(run, &gone, &ignored) || !gone)
        return;
    error_set(err, REASON_LEDGER_MISMATCH,
              "the ledger on the destination (schema pgcrane) is gone: somebody dropped it, or the destination was made"
              " anew or restored");
    error_remedy(err,
                 "nobody knows any more how far the destination is: pgcrane abort %s removes what is left on the"
                 " source, then migrate again into an empty destination",
                 run->identity.job_id);
}

static void close_run(Run *run) {
    watch_end(run);
    pool_freep(&run->pool);
    db_closep(&run->source);
    db_closep(&run->dest);
}

/* Nothing is held any more: a terminal that is read tomorrow still learns how it ended. Until a signal says that it is
 * enough, or has said so. */
static bool send_rest(Run *run, int signal_fd, bool asked, Error *err) {
    int64_t deadline_us = clock_now_us() + (asked ? LAST_WORDS_STOPPED_US : LAST_WORDS_US);
    bool pending = true;

    for (;;) {
        struct signalfd_siginfo signal_info;
        struct pollfd fds[] = {{.fd = wire_fd(run->wire), .events = POLLOUT},
                               {.fd = asked ? -1 : signal_fd, .events = POLLIN}};

        if (!wire_flush(run->wire, &pending, err))
            return false;
        if (!pending)
            return true;
        if (poll(fds, COUNT_OF(fds), clock_poll_timeout(deadline_us)) == 0)
            return error_set(err, REASON_TIMED_OUT, "nobody reads what this run has said");
        if ((fds[1].revents & POLLIN) != 0 && read(signal_fd, &signal_info, sizeof(signal_info)) > 0) {
            asked = true;
            deadline_us = clock_now_us() + LAST_WORDS_STOPPED_US;
        }
    }
}

/* DONE or FAILED is the last message; both come when all connections are closed, so that the peer may rely on nothing
 * being left. */
static void say_end(Run *run, int signal_fd, bool ok, const Error *err) {
    Error lost;

    if (ok)
        log_info("done");
    else
        log_error_value(LOG_ERROR, err);
    json_t *body = !ok                       ? wire_error_to_json(err)
                   : run->left_on_source > 0 ? json_pack("{s:I}", "left", (json_int_t)run->left_on_source)
                                             : NULL;
    if (!run_send(run, ok ? WIRE_DONE : WIRE_FAILED, body, &lost) ||
        !send_rest(run, signal_fd, !ok && err->reason == REASON_CANCELLED, &lost))
        log_warning("nobody heard how it ended: %s", lost.message);
}

static int open_signals(void) {
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool work(Run *run, Reporter *reporter, Error *err) {
    if (!receive_start(run, err))
        return false;
    pthread_t thread;
    if (pthread_create(&thread, NULL, reporter_thread, reporter) != 0)
        return error_set(err, REASON_SYSTEM, "cannot start a thread");
    atomic_store(&reporter->running, !run->instance.wanted); /* which has no phases to show */
    bool ok = run_steps(run, err);
    if (!ok && err->reason == REASON_RETAINED_LIMIT)
        give_up_slot(run);
    if (!ok)
        explain_lost_ledger(run, err);
    atomic_store(&reporter->running, false);
    close_run(run);
    atomic_store(&reporter->ended, true);
    (void)pthread_join(thread, NULL);
    if (!run->instance.wanted)
        send_picture(run, SIZE_MAX); /* how it ended: the reporter's last picture may be of a moment before */
    if (!ok || run->report == NULL)
        return ok;
    return run_send(run, WIRE_REPORT, run->report, err);
}

int worker_main(int argc, char **argv) {
    Run run = {.arena = arena_new(), .log_fd = -1, .holder_fd = -1};
    Reporter reporter = {.run = &run, .signal_fd = open_signals()};
    Error err = {0};

    (void)argc;
    (void)argv;
    run.wire = wire_new(WIRE_FD);
    run.tracker = tracker_new();
    (void)pthread_mutex_init(&run.confirm.lock, NULL);
    (void)pthread_cond_init(&run.confirm.answered, NULL);
    (void)pthread_mutex_init(&run.request.lock, NULL);
    (void)pthread_mutex_init(&run.picture_lock, NULL);
    bool ok = stop_init(&run.stop, &err) && stop_init(&run.request.called_off, &err) && work(&run, &reporter, &err);
    say_end(&run, reporter.signal_fd, ok, &err);
    wire_freep(&run.wire);
    tracker_freep(&run.tracker);
    arena_free(run.request.arena);
    arena_free(run.arena);
    return 0;
}
