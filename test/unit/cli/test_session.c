/*
 * A run as the command line sees it, with a worker that behaves as each test wants.
 *
 * session_run() starts /proc/self/exe with the argument `worker`: that is this program again, so main() plays the
 * worker when it is called so. SESSION_TEST names its part. The session itself runs in a forked child, whose standard
 * output and standard error go into one file each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/session.h"
#include "common/clock.h"
#include "common/fd.h"
#include "model/progress.h"
#include "wire/wire.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the worker's side --- */

static void say(Wire *wire, WireType type, json_t *body) {
    Error err;
    if (!wire_send(wire, type, body, &err))
        exit(9);
}

static void say_event(Wire *wire, const char *level, const char *text) {
    say(wire, WIRE_EVENT, json_pack("{s:s,s:s}", "level", level, "text", text));
}

static void say_failed(Wire *wire, ErrorReason reason, const char *message) {
    Error error;
    error_set(&error, reason, "%s", message);
    say(wire, WIRE_FAILED, wire_error_to_json(&error));
}

/* The next message's type; WIRE_MAX_ at the end of file. */
static WireType hear(Wire *wire, json_t **ret_body) {
    Error err;
    WireType type;
    return wire_receive(wire, NULL, 0, &type, ret_body, &err) == WIRE_MESSAGE ? type : WIRE_MAX_;
}

static void part_done(Wire *wire) {
    say_event(wire, "warning", "a table was retried");
    say_event(wire, "info", "chatter");
    say(wire, WIRE_DONE, NULL);
}

static void part_failed(Wire *wire) {
    say_failed(wire, REASON_NOT_PERMITTED, "table public.a may not be read");
}

static void part_findings(Wire *wire) {
    say(wire, WIRE_FINDINGS,
        json_pack("{s:[{s:s,s:s,s:s,s:s,s:s,s:s}]}", "findings", "id", "BAD_THING", "severity", "error", "side",
                  "source", "object", "", "message", "it is bad", "fix", "MEND IT;"));
    say(wire, WIRE_DONE, NULL);
}

static void part_exits(Wire *wire UNUSED) {
    _exit(7);
}

static void part_crashes(Wire *wire UNUSED) {
    raise(SIGKILL);
}

static void part_nonsense(Wire *wire) {
    Error err;
    if (!fd_write_all(wire_fd(wire), "\0\0\0\5hello", 9, &err))
        _exit(9);
    json_t *body = NULL;
    hear(wire, &body); /* until the other side gives up */
}

static void part_wrong_direction(Wire *wire) {
    say(wire, WIRE_START, NULL);
    json_t *body = NULL;
    hear(wire, &body);
}

static void part_stops(Wire *wire) {
    CLEANUP(json_freep) json_t *body = NULL;
    say_event(wire, "warning", "ready");
    if (hear(wire, &body) == WIRE_STOP)
        say_failed(wire, REASON_CANCELLED, "stopped");
}

static void part_hangs(Wire *wire) {
    CLEANUP(json_freep) json_t *body = NULL;
    say_event(wire, "warning", "ready");
    if (hear(wire, &body) != WIRE_STOP)
        return;
    say_event(wire, "warning", "heard");
    pause();
}

static void part_asks(Wire *wire) {
    CLEANUP(json_freep) json_t *body = NULL;
    say(wire, WIRE_CONFIRM, json_pack("{s:s,s:[s]}", "title", "This drops:", "lines", "table public.a"));
    bool yes = hear(wire, &body) == WIRE_CONFIRM && json_get_bool(body, "yes", false);
    if (yes)
        say(wire, WIRE_DONE, NULL);
    else
        say_failed(wire, REASON_CANCELLED, "not confirmed");
}

/* A promote that began by itself is called off when the one that is asked for is on its way. */
static void part_promotes(Wire *wire) {
    Progress progress = {.cdc.state = CDC_FOLLOWING};
    CLEANUP(json_freep) json_t *asked = NULL;
    CLEANUP(json_freep) json_t *stop = NULL;
    Error undone;
    progress.phases[PHASE_CDC].state = PHASE_RUNNING;
    say(wire, WIRE_PROGRESS, progress_to_json(&progress));
    if (hear(wire, &asked) != WIRE_PROMOTE || json_get_int(asked, "no", 0) != 1)
        exit(9);
    error_set(&undone, REASON_PROMOTE_UNDONE, "somebody has the lock");
    say(wire, WIRE_PROMOTED, json_pack("{s:i,s:b,s:o}", "no", 0, "ok", 0, "error", wire_error_to_json(&undone)));
    say(wire, WIRE_PROMOTED, json_pack("{s:i,s:b,s:b,s:i}", "no", 1, "ok", 1, "dry_run", 1, "outage_us", 7000));
    if (hear(wire, &stop) == WIRE_STOP)
        say_failed(wire, REASON_CANCELLED, "stopped");
}

static const struct {
    const char *name;
    void (*play)(Wire *wire);
} parts[] = {
    {"done", part_done},         {"failed", part_failed},
    {"findings", part_findings}, {"exits", part_exits},
    {"crashes", part_crashes},   {"nonsense", part_nonsense},
    {"stops", part_stops},       {"hangs", part_hangs},
    {"asks", part_asks},         {"wrong-direction", part_wrong_direction},
    {"promotes", part_promotes},
};

static int play_worker(void) {
    Wire *wire = wire_new(3);
    CLEANUP(json_freep) json_t *body = NULL;
    if (hear(wire, &body) != WIRE_START)
        return 9;
    const json_t *options = json_get_object(body, "options");
    const char *source = json_get_string(options, "source", "");
    if (strcmp(source, "host=old password=hush") != 0)
        say_event(wire, "error", "START lacks the source");
    for (size_t at = 0; at < COUNT_OF(parts); at++)
        if (strcmp(parts[at].name, getenv("SESSION_TEST")) == 0)
            parts[at].play(wire);
    wire_freep(&wire);
    return 0;
}

/* --- the test's side --- */

typedef struct Run {
    char folder[64];
    Buf out;
    Buf err;
    MigrateOptions options;
    json_t *promote; /* what the run is for; NULL = nothing of the kind */
    pid_t pid;
    int exit_code;
} Run;

static int setup(void **state) {
    static const char pattern[] = "/tmp/pgcrane-session-XXXXXX";
    Run *run = calloc(1, sizeof(*run));
    memcpy(run->folder, pattern, sizeof(pattern));
    if (mkdtemp(run->folder) == NULL)
        return -1;
    buf_init(&run->out, 1024 * 1024);
    buf_init(&run->err, 1024 * 1024);
    options_init(&run->options);
    run->options.source = "host=old password=hush";
    run->options.dest = "host=new";
    *state = run;
    return 0;
}

static int teardown(void **state) {
    Run *run = *state;
    Error err;
    bool removed = fd_remove_tree(run->folder, &err);
    buf_fini(&run->out);
    buf_fini(&run->err);
    json_freep(&run->promote);
    free(run);
    return removed ? 0 : -1;
}

static void redirect(const Run *run, const char *name, int to) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", run->folder, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, to) < 0)
        _exit(99);
    close(fd);
}

static void begin(Run *run, const char *part) {
    run->pid = fork();
    assert_true(run->pid >= 0);
    if (run->pid > 0)
        return;
    setenv("SESSION_TEST", part, 1);
    close(STDIN_FILENO);
    open("/dev/null", O_RDONLY);
    redirect(run, "out", STDOUT_FILENO);
    redirect(run, "err", STDERR_FILENO);
    _exit(session_run(
        &(SessionInput){.options = &run->options, .promote = run->promote, .resume_command = "pgcrane migrate a b"}));
}

static void read_output(const Run *run, const char *name, Buf *into) {
    char path[128];
    Error err;
    snprintf(path, sizeof(path), "%s/%s", run->folder, name);
    buf_clear(into);
    if (access(path, R_OK) == 0 && !fd_read_file(path, into, &err))
        fail_msg("%s", err.message);
}

static void end(Run *run) {
    int status;
    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    run->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    read_output(run, "out", &run->out);
    read_output(run, "err", &run->err);
}

static void run_part(Run *run, const char *part) {
    begin(run, part);
    end(run);
}

/* Waits until standard error holds `text`. */
static void wait_for(Run *run, const char *text) {
    int64_t deadline = clock_now_us() + 30 * USEC_PER_SEC;
    do {
        read_output(run, "err", &run->err);
        if (strstr(run->err.data, text) != NULL)
            return;
        clock_sleep_us(5000);
    } while (clock_now_us() < deadline);
    kill(run->pid, SIGKILL);
    end(run);
    fail_msg("\"%s\" never came: %s", text, run->err.data);
}

static void has(const Buf *text, const char *part) {
    if (strstr(text->data, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text->data);
}

static void lacks(const Buf *text, const char *part) {
    if (strstr(text->data, part) != NULL)
        fail_msg("\"%s\" is in: %s", part, text->data);
}

static void test_done(void **state) {
    Run *run = *state;
    run_part(run, "done");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(run->err.data, "warning: a table was retried\nchatter\n");
    assert_string_equal(run->out.data, "");
}

static void test_quiet(void **state) {
    Run *run = *state;
    run->options.quiet = true;
    run_part(run, "done");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(run->err.data, "warning: a table was retried\n");
}

static void test_json(void **state) {
    Run *run = *state;
    run->options.json = true;
    run_part(run, "done");
    assert_int_equal(run->exit_code, 0);
    assert_string_equal(run->err.data, "");
    Error err;
    size_t lines = 0;
    char type[32] = "";
    for (const char *line = run->out.data; *line != '\0'; lines++) {
        CLEANUP(json_freep) json_t *json = NULL;
        size_t len = strcspn(line, "\n");
        if (!json_parse(line, len, &json, &err))
            fail_msg("%s: %.*s", err.message, (int)len, line);
        assert_non_null(json_get_object(json, "body"));
        snprintf(type, sizeof(type), "%s", json_get_string(json, "type", ""));
        line += len + 1;
    }
    assert_int_equal(lines, 3);
    assert_string_equal(type, "DONE");
}

static void test_failed(void **state) {
    Run *run = *state;
    run_part(run, "failed");
    assert_int_equal(run->exit_code, 77);
    has(&run->err, "pgcrane: error: table public.a may not be read\n  reason: NOT_PERMITTED\n");
    lacks(&run->err, "go on with");
}

static void test_dry_run_with_errors(void **state) {
    Run *run = *state;
    run->options.dry_run = true;
    run_part(run, "findings");
    assert_int_equal(run->exit_code, 2);
    has(&run->out, "error BAD_THING: source\n  it is bad\n      MEND IT;\n");
    has(&run->err, "PREFLIGHT_FAILED");
}

static void test_lost(void **state) {
    Run *run = *state;
    run_part(run, "exits");
    assert_int_equal(run->exit_code, 2);
    has(&run->err, "exit status 7");
    has(&run->err, "reason: WORKER_LOST");
    has(&run->err, "go on with: pgcrane migrate a b\n");
}

static void test_lost_by_a_signal_in_json(void **state) {
    Run *run = *state;
    run->options.json = true;
    run_part(run, "crashes");
    assert_int_equal(run->exit_code, 2);
    has(&run->err, "signal 9");
    has(&run->out, "{\"type\":\"FAILED\",\"body\":{");
    has(&run->out, "\"WORKER_LOST\"");
}

static void test_broken_stream(void **state) {
    Run *run = *state;
    run_part(run, "nonsense");
    assert_int_equal(run->exit_code, 2);
    has(&run->err, "WIRE_BAD");
}

static void test_every_failure_is_in_json(void **state) {
    Run *run = *state;
    run->options.json = true;
    run_part(run, "nonsense");
    has(&run->out, "{\"type\":\"FAILED\",\"body\":{");
    has(&run->out, "\"WIRE_BAD\"");
}

static void test_message_in_the_wrong_direction(void **state) {
    Run *run = *state;
    run_part(run, "wrong-direction");
    assert_int_equal(run->exit_code, 2);
    has(&run->err, "the worker sent START");
}

static void stopped_by(Run *run, int signal_number) {
    begin(run, "stops");
    wait_for(run, "ready");
    kill(run->pid, signal_number);
    end(run);
    assert_int_equal(run->exit_code, 3);
    has(&run->err, "stopping cleanly; again to end at once\n");
    has(&run->err, "go on with: pgcrane migrate a b\n");
}

static void test_interrupt_stops_cleanly(void **state) {
    stopped_by(*state, SIGINT);
}

static void test_terminate_stops_cleanly(void **state) {
    stopped_by(*state, SIGTERM);
}

static void test_second_signal_ends_at_once(void **state) {
    Run *run = *state;
    begin(run, "hangs");
    wait_for(run, "ready");
    kill(run->pid, SIGINT);
    wait_for(run, "heard");
    kill(run->pid, SIGINT);
    end(run);
    assert_int_equal(run->exit_code, 3);
    has(&run->err, "ended at once");
    has(&run->err, "go on with: pgcrane migrate a b\n");
}

static void test_nobody_to_ask(void **state) {
    Run *run = *state;
    run_part(run, "asks");
    assert_int_equal(run->exit_code, 3);
    has(&run->err, "This drops:\n  table public.a\n");
    has(&run->err, "--yes");
}

static void test_yes(void **state) {
    Run *run = *state;
    run->options.yes = true;
    run_part(run, "asks");
    assert_int_equal(run->exit_code, 0);
    has(&run->err, "This drops:\n  table public.a\n");
}

/* The end of another's is told, and not taken for the end of ours. */
static void test_a_promote_behind_an_automatic_one(void **state) {
    Run *run = *state;
    run->options.follow = true;
    run->promote = json_pack("{s:{s:b}}", "options", "dry_run", 1);
    run_part(run, "promotes");
    assert_int_equal(run->exit_code, 0);
    has(&run->err, "promote called off: somebody has the lock");
    has(&run->out, "Dry run: nothing was stopped. Writes would be away for about 7 ms");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return play_worker();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_done, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quiet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dry_run_with_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_by_a_signal_in_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_failure_is_in_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_message_in_the_wrong_direction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt_stops_cleanly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_terminate_stops_cleanly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_signal_ends_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_to_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_yes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_promote_behind_an_automatic_one, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
