/*
 * The control plane: files, socket, and the commands promote, status and abort beside a run, with a scripted worker.
 *
 * As in test_session.c this program is its own worker. CONTROL_TEST names the part it plays; commands run in forked
 * children, each with its own files for standard output and standard error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "common/clock.h"
#include "common/fd.h"
#include "session/connect.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB_ID "3f9a0c"

/* --- the worker's side --- */

static void say(Wire *wire, WireType type, json_t *body) {
    Error err;
    if (!wire_send(wire, type, body, &err))
        _exit(9);
}

static WireType hear(Wire *wire, json_t **ret_body) {
    Error err;
    WireType type;
    return wire_receive(wire, NULL, 0, &type, ret_body, &err) == WIRE_MESSAGE ? type : WIRE_MAX_;
}

static void say_event(Wire *wire, const char *text) {
    say(wire, WIRE_EVENT, json_pack("{s:s,s:s}", "level", "info", "text", text));
}

static json_t *an_error(ErrorReason reason, const char *message) {
    Error error;
    error_set(&error, reason, "%s", message);
    return wire_error_to_json(&error);
}

static void say_progress(Wire *wire, CdcState state, const char *step) {
    Progress progress = {.eta_us = -1};
    progress.phases[PHASE_PREFLIGHT].state = PHASE_DONE;
    progress.phases[PHASE_SEAM].state = PHASE_DONE;
    progress.phases[PHASE_SCHEMA].state = PHASE_DONE;
    progress.phases[PHASE_COPY].state = PHASE_DONE;
    progress.cdc = (CdcProgress){.state = state, .lag_bytes = 42, .promote_step = step, .retained_bytes = -1};
    say(wire, WIRE_PROGRESS, progress_to_json(&progress));
}

static int64_t asked_no; /* of the last PROMOTE */

static void say_promoted(Wire *wire, bool ok, bool dry_run, bool proven, json_t *error) {
    say(wire, WIRE_PROMOTED,
        json_pack("{s:I,s:b,s:b,s:b,s:b,s:i,s:[{s:s,s:i}],s:[s],s:o}", "no", (json_int_t)asked_no, "ok", ok, "dry_run",
                  dry_run, "opened", ok && !dry_run, "proven", proven, "outage_us", 412000, "steps", "name",
                  "stop writes", "us", 120000, "notes", "a note", "error", error));
}

static void finish(Wire *wire, bool proven) {
    Report report = {.job_id = JOB_ID,
                     .source = "app@old/shop",
                     .dest = "app@new/shop",
                     .promoted = true,
                     .proven = proven,
                     .outage_us = 412000};
    report.progress.cdc.state = CDC_PROMOTED;
    say_promoted(wire, true, false, proven, json_null());
    say(wire, WIRE_REPORT, report_to_json(&report));
    say(wire, WIRE_DONE, NULL);
}

/* Tells what it was asked, so that a test can see how options were merged. */
static void do_promote(Wire *wire, const json_t *options) {
    const char *fence = json_get_string(options, "fence", "?");
    CLEANUP(arena_freep) Arena *arena = arena_new();
    say_event(wire, arena_printf(arena, "promote fence=%s lag_limit=%lld source=%s", fence,
                                 (long long)json_get_int(options, "lag_limit", -1),
                                 json_get_string(options, "source", "none")));
    if (json_get_bool(options, "dry_run", false)) {
        say_promoted(wire, true, true, false, json_null());
        return;
    }
    if (strcmp(getenv("CONTROL_TEST"), "refuses") == 0) {
        say_promoted(wire, false, false, false, an_error(REASON_PROMOTE_REFUSED, "table public.a has problems"));
        return;
    }
    say_progress(wire, CDC_PROMOTING, "stop writes on the source");
    if (strcmp(getenv("CONTROL_TEST"), "waits") == 0)
        return; /* for what is said next */
    finish(wire, strcmp(fence, "none") != 0);
}

/* Follows until it is promoted or stopped. True: one more message is wanted. */
static bool take_order(Wire *wire) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type = hear(wire, &body);
    if (type == WIRE_STOP) {
        say(wire, WIRE_FAILED, an_error(REASON_CANCELLED, "stopped"));
        return false;
    }
    if (type != WIRE_PROMOTE)
        return false;
    if (json_get_bool(body, "cancel", false)) {
        say_promoted(wire, false, false, false, an_error(REASON_CANCELLED, "called off as asked"));
        say_progress(wire, CDC_FOLLOWING, "");
        return true;
    }
    asked_no = json_get_int(body, "no", 0);
    do_promote(wire, json_get_object(body, "options"));
    return true;
}

static void flood(Wire *wire) {
    static char text[20001];
    memset(text, 'x', sizeof(text) - 1);
    for (int count = 0; count < 1000; count++)
        say(wire, WIRE_EVENT, json_pack("{s:s,s:s}", "level", "info", "text", text));
    say_event(wire, "end of the flood");
}

static void play(Wire *wire, const char *part, const char *action) {
    const char *id = strcmp(part, "stranger") == 0 ? "ffff" : JOB_ID;
    if (strcmp(part, "login") == 0) {
        say(wire, WIRE_FAILED, an_error(REASON_LOGIN_REFUSED, "no password"));
        return;
    }
    say(wire, WIRE_JOB, json_pack("{s:s,s:s,s:s}", "job_id", id, "source", "app@old/shop", "dest", "app@new/shop"));
    if (strcmp(action, "abort") == 0) {
        say_event(wire, "removed from the source");
        say(wire, WIRE_DONE, NULL);
        return;
    }
    say_progress(wire, strcmp(part, "copies") == 0 ? CDC_NONE : CDC_FOLLOWING, "");
    say_event(wire, "ready");
    while (take_order(wire)) {
        if (strcmp(part, "floods") == 0)
            flood(wire);
    }
}

static int play_worker(void) {
    Wire *wire = wire_new(3);
    CLEANUP(json_freep) json_t *body = NULL;
    if (hear(wire, &body) != WIRE_START)
        return 9;
    play(wire, getenv("CONTROL_TEST"), json_get_string(body, "action", ""));
    wire_freep(&wire);
    return 0;
}

/* --- the test's side --- */

typedef struct Child {
    pid_t pid;
    char name[16];
    int exit_code;
    Buf out, err;
} Child;

typedef struct Fixture {
    Arena *arena;
    char folder[64];
    const char *state_dir;
    MigrateOptions options;
    Child migrate, other, third;
} Fixture;

static void child_init(Child *child, const char *name) {
    snprintf(child->name, sizeof(child->name), "%s", name);
    buf_init(&child->out, 64 * 1024 * 1024);
    buf_init(&child->err, 64 * 1024 * 1024);
}

static int setup(void **state) {
    static const char pattern[] = "/tmp/pgcrane-control-XXXXXX";
    Fixture *this = calloc(1, sizeof(*this));
    this->arena = arena_new();
    memcpy(this->folder, pattern, sizeof(pattern));
    if (mkdtemp(this->folder) == NULL)
        return -1;
    this->state_dir = this->folder;
    options_init(&this->options);
    this->options.source = "host=old password=hush";
    this->options.dest = "host=new";
    this->options.follow = true;
    child_init(&this->migrate, "migrate");
    child_init(&this->other, "other");
    child_init(&this->third, "third");
    unsetenv("PGCRANE_SOURCE");
    unsetenv("PGCRANE_DEST");
    *state = this;
    return 0;
}

static void child_fini(Child *child) {
    if (child->pid > 0) { /* a test that failed */
        kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
    }
    buf_fini(&child->out);
    buf_fini(&child->err);
}

static int teardown(void **state) {
    Fixture *this = *state;
    Error err;
    child_fini(&this->migrate);
    child_fini(&this->other);
    child_fini(&this->third);
    bool removed = fd_remove_tree(this->folder, &err);
    arena_free(this->arena);
    free(this);
    return removed ? 0 : -1;
}

static void redirect(const Fixture *this, const Child *child, const char *suffix, int to) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.%s", this->folder, child->name, suffix);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || dup2(fd, to) < 0)
        _exit(99);
    close(fd);
}

static bool fork_child(const Fixture *this, Child *child, const char *part) {
    child->pid = fork();
    assert_true(child->pid >= 0);
    if (child->pid > 0)
        return false;
    static const int caught_by_cmocka[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
    for (size_t at = 0; at < COUNT_OF(caught_by_cmocka); at++) /* a crash must not go on with the next test */
        signal(caught_by_cmocka[at], SIG_DFL);
    setenv("CONTROL_TEST", part, 1);
    close(STDIN_FILENO);
    open("/dev/null", O_RDONLY);
    redirect(this, child, "out", STDOUT_FILENO);
    redirect(this, child, "err", STDERR_FILENO);
    return true;
}

static void begin_migrate(Fixture *this, const char *part) {
    if (!fork_child(this, &this->migrate, part))
        return;
    this->options.state_dir = this->state_dir;
    _exit(session_run(&(SessionInput){.options = &this->options, .resume_command = "pgcrane migrate a b"}));
}

/* Words are separated by blanks here; the state folder is added. */
static void begin_command(Fixture *this, Child *child, const char *part, const char *line) {
    char *argv[16] = {NULL};
    int argc = 0;
    if (!fork_child(this, child, part))
        return;
    for (char *word = arena_strdup(this->arena, line); *word != '\0';) {
        size_t len = strcspn(word, " ");
        argv[argc++] = arena_strndup(this->arena, word, len);
        word += len + (word[len] == ' ' ? 1 : 0);
    }
    argv[argc++] = arena_printf(this->arena, "--state-dir=%s", this->state_dir);
    _exit(command_find(argv[0])->run(argc, argv));
}

static void read_output(const Fixture *this, const Child *child, const char *suffix, Buf *into) {
    const char *path = arena_printf(this->arena, "%s/%s.%s", this->folder, child->name, suffix);
    Error err;
    buf_clear(into);
    if (access(path, R_OK) == 0 && !fd_read_file(path, into, &err))
        fail_msg("%s", err.message);
}

static void end(const Fixture *this, Child *child) {
    int status;
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    child->pid = 0;
    child->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    read_output(this, child, "out", &child->out);
    read_output(this, child, "err", &child->err);
}

static void run(Fixture *this, const char *part, const char *line) {
    begin_command(this, &this->other, part, line);
    end(this, &this->other);
}

static void exits(const Child *child, int exit_code) {
    if (child->exit_code != exit_code)
        fail_msg("%s: exit code %d, not %d\n%s\n%s", child->name, child->exit_code, exit_code, child->out.data,
                 child->err.data);
}

static void has(const Buf *text, const char *part) {
    if (strstr(text->data, part) == NULL)
        fail_msg("\"%s\" is not in: %.2000s", part, text->data);
}

static void lacks(const Buf *text, const char *part) {
    if (strstr(text->data, part) != NULL)
        fail_msg("\"%s\" is in: %.2000s", part, text->data);
}

/* Waits until standard error of the child holds `text`. */
static void wait_for(const Fixture *this, Child *child, const char *text) {
    int64_t deadline = clock_now_us() + 30 * USEC_PER_SEC;
    do {
        read_output(this, child, "err", &child->err);
        if (strstr(child->err.data, text) != NULL)
            return;
        clock_sleep_us(5000);
    } while (clock_now_us() < deadline);
    fail_msg("\"%s\" never came: %.2000s", text, child->err.data);
}

static json_t *read_json(const Fixture *this, const char *name) {
    CLEANUP(buf_fini) Buf text;
    const char *path = arena_printf(this->arena, "%s/" JOB_ID "/%s", this->state_dir, name);
    json_t *json = NULL;
    Error err;
    buf_init(&text, 1024 * 1024);
    if (!fd_read_file(path, &text, &err) || !json_parse(text.data, text.len, &json, &err))
        fail_msg("%s", err.message);
    return json;
}

static void status_is(const Fixture *this, const char *state, const char *phase) {
    CLEANUP(json_freep) json_t *json = read_json(this, "status.json");
    assert_string_equal(json_get_string(json, "state", ""), state);
    assert_string_equal(json_get_string(json, "phase", ""), phase);
}

static void mode_is(const Fixture *this, const char *name, unsigned mode) {
    struct stat info;
    assert_int_equal(stat(arena_printf(this->arena, "%s/" JOB_ID "/%s", this->state_dir, name), &info), 0);
    assert_int_equal(info.st_mode & 0777, mode);
}

static bool is_there(const Fixture *this, const char *name) {
    return access(arena_printf(this->arena, "%s/" JOB_ID "/%s", this->state_dir, name), F_OK) == 0;
}

/* The migration follows, and its files say so. */
static void begin_following(Fixture *this, const char *part) {
    begin_migrate(this, part);
    wait_for(this, &this->migrate, "ready");
    int64_t deadline = clock_now_us() + 30 * USEC_PER_SEC;
    for (bool written = false; !written;) {
        CLEANUP(json_freep) json_t *json = NULL;
        if (is_there(this, "status.json"))
            json = read_json(this, "status.json");
        written = strcmp(json_get_string(json, "state", ""), "RUNNING") == 0;
        assert_true(clock_now_us() < deadline);
        clock_sleep_us(2000);
    }
}

static void stop_migrate(Fixture *this) {
    kill(this->migrate.pid, SIGINT);
    end(this, &this->migrate);
    exits(&this->migrate, 3);
}

/* --- files --- */

static void test_files(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    status_is(this, "RUNNING", "CDC");
    mode_is(this, "job.json", 0600);
    mode_is(this, "status.json", 0600);
    mode_is(this, "control.sock", 0600);
    CLEANUP(json_freep) json_t *job = read_json(this, "job.json");
    const json_t *options = json_get_object(job, "options");
    assert_string_equal(json_get_string(options, "source", ""), "host='old'");
    assert_string_equal(json_get_string(options, "dest", ""), "host='new'");
    assert_true(json_get_bool(job, "source_password_struck", false));
    assert_false(json_get_bool(job, "dest_password_struck", true));
    assert_true(json_get_bool(options, "follow", false));
    CLEANUP(json_freep) json_t *status = read_json(this, "status.json");
    assert_int_equal(json_get_int(status, "pid", 0), this->migrate.pid);
    assert_int_equal(json_get_int(json_get_object(json_get_object(status, "progress"), "cdc"), "lag_bytes", -1), 42);
    stop_migrate(this);
    status_is(this, "STOPPED", "CDC");
    assert_false(is_there(this, "control.sock"));
    has(&this->migrate.err,
        "go on with: pgcrane migrate a b\n  The slot on the source stays, and holds WAL there, until "
        "pgcrane promote " JOB_ID "\n");
    has(&this->migrate.err, "pgcrane abort " JOB_ID "\n");
    has(&this->migrate.err, "loses its primary key");
}

static void test_a_dry_run_leaves_no_files(void **state) {
    Fixture *this = *state;
    this->options.dry_run = true;
    begin_migrate(this, "follows");
    wait_for(this, &this->migrate, "ready");
    stop_migrate(this);
    assert_false(is_there(this, "job.json"));
    assert_false(is_there(this, "status.json"));
}

static void test_a_long_path(void **state) {
    Fixture *this = *state;
    char name[151];
    memset(name, 'd', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    this->state_dir = arena_printf(this->arena, "%s/%s", this->folder, name);
    begin_following(this, "follows");
    run(this, "none", "promote");
    exits(&this->other, 0);
    end(this, &this->migrate);
    exits(&this->migrate, 0);
}

/* The second process leaves the first one's files alone; what becomes of it, the ledger says. */
static void test_two_processes(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    Child first = this->migrate;
    if (fork_child(this, &this->third, "follows")) {
        this->options.state_dir = this->state_dir;
        _exit(session_run(&(SessionInput){.options = &this->options, .resume_command = "x"}));
    }
    wait_for(this, &this->third, "ready");
    kill(this->third.pid, SIGTERM);
    end(this, &this->third);
    exits(&this->third, 3);
    assert_true(is_there(this, "control.sock"));
    CLEANUP(json_freep) json_t *status = read_json(this, "status.json");
    assert_int_equal(json_get_int(status, "pid", 0), first.pid);
    assert_string_equal(json_get_string(status, "state", ""), "RUNNING");
    stop_migrate(this);
}

/* --- promote --- */

static void test_promote(void **state) {
    Fixture *this = *state;
    this->options.fence = "locks";
    begin_following(this, "follows");
    run(this, "none", "promote --lag-limit=9");
    exits(&this->other, 0);
    has(&this->other.err, "promote fence=locks lag_limit=9 source=none\n");
    has(&this->other.err, "stop writes on the source\n");
    has(&this->other.out, "Promoted: the destination is the database now. Writes were away for 412 ms\nproven: ");
    has(&this->other.out, "120 ms  stop writes\n");
    has(&this->other.out, "Notes:\n  - a note\n");
    status_is(this, "COMPLETED", "PROMOTE_IN_PROGRESS"); /* now, when the client is through */
    end(this, &this->migrate);
    exits(&this->migrate, 0);
    has(&this->migrate.out, "Outage       412 ms\n");
    run(this, "none", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "ALREADY_DONE");
}

static void test_promote_unproven(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    run(this, "none", "promote " JOB_ID " --fence=none");
    exits(&this->other, 4);
    has(&this->other.out, "not proven: ");
    end(this, &this->migrate);
    exits(&this->migrate, 4);
}

static void test_promote_dry_run(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    run(this, "none", "promote --dry-run");
    exits(&this->other, 0);
    has(&this->other.out, "Dry run: nothing was stopped. Writes would be away for about 412 ms\n");
    run(this, "none", "promote --dry-run --json"); /* and once more: the migration goes on */
    exits(&this->other, 0);
    has(&this->other.out, "{\"type\":\"PROMOTED\",\"body\":{");
    lacks(&this->other.out, "Dry run:");
    stop_migrate(this);
}

static void test_promote_refused(void **state) {
    Fixture *this = *state;
    begin_following(this, "refuses");
    run(this, "none", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "pgcrane: error: table public.a has problems\n  reason: PROMOTE_REFUSED\n");
    wait_for(this, &this->migrate, "promote called off: table public.a has problems");
    run(this, "none", "promote --fence-timeout=9999");
    exits(&this->other, 64);
    has(&this->other.err, "--fence-timeout is from 1 to 3600 seconds");
    stop_migrate(this);
}

/* It waits for the copy; meanwhile it can be called off, and is the only one. */
static void test_promote_too_early(void **state) {
    Fixture *this = *state;
    begin_migrate(this, "copies");
    wait_for(this, &this->migrate, "ready");
    run(this, "none", "promote --fence-timeout=9999");
    exits(&this->other, 64);
    begin_command(this, &this->third, "none", "promote");
    wait_for(this, &this->third, "it begins when the copy is complete");
    run(this, "none", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "a promote of this migration is under way already");
    kill(this->third.pid, SIGINT);
    end(this, &this->third);
    exits(&this->third, 3);
    has(&this->third.err, "called off before it began");
    stop_migrate(this);
}

static void test_promote_twice_and_called_off(void **state) {
    Fixture *this = *state;
    begin_following(this, "waits");
    begin_command(this, &this->third, "none", "promote");
    wait_for(this, &this->third, "stop writes on the source");
    run(this, "none", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "a promote of this migration is under way already");
    kill(this->third.pid, SIGINT);
    end(this, &this->third);
    exits(&this->third, 3);
    has(&this->third.err, "calling the promote off");
    has(&this->third.err, "called off as asked");
    run(this, "none", "promote --dry-run"); /* a new one may begin */
    exits(&this->other, 0);
    stop_migrate(this);
}

/* --- promote without a process --- */

static void test_promote_goes_on_itself(void **state) {
    Fixture *this = *state;
    this->options.fence = "locks";
    begin_following(this, "follows");
    stop_migrate(this);
    run(this, "follows", "promote --dry-run");
    exits(&this->other, 0);
    has(&this->other.out, "Dry run: nothing was stopped.");
    status_is(this, "STOPPED", "CDC");
    run(this, "refuses", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "table public.a has problems");
    run(this, "follows", "promote 3f --lag-limit=1");
    exits(&this->other, 0);
    has(&this->other.err, "promote fence=locks lag_limit=1 source=none\n");
    status_is(this, "COMPLETED", "PROMOTE_IN_PROGRESS");
    CLEANUP(json_freep) json_t *job = read_json(this, "job.json");
    assert_true(json_get_bool(job, "source_password_struck", false)); /* is known still */
}

static void test_promote_says_which_password(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    stop_migrate(this);
    run(this, "login", "promote");
    exits(&this->other, 77);
    has(&this->other.err, "the source's password is not kept: set PGCRANE_SOURCE=\"host='old' password=...\"");
    lacks(&this->other.err, "PGCRANE_DEST");
}

static void test_promote_of_other_databases(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    stop_migrate(this);
    run(this, "stranger", "promote");
    exits(&this->other, 2);
    has(&this->other.err, "these two databases are migration ffff, not " JOB_ID);
}

/* --- status --- */

static void test_status(void **state) {
    Fixture *this = *state;
    run(this, "none", "status");
    exits(&this->other, 0);
    has(&this->other.out, "There is no migration in ");
    run(this, "none", "status 3");
    exits(&this->other, 2);
    has(&this->other.err, "NO_JOB");
    begin_following(this, "follows");
    run(this, "none", "status --json");
    exits(&this->other, 0);
    Error err;
    CLEANUP(json_freep) json_t *json = NULL;
    assert_true(json_parse(this->other.out.data, this->other.out.len, &json, &err));
    assert_string_equal(json_get_string(json, "state", ""), "RUNNING");
    assert_string_equal(json_get_string(json, "phase", ""), "CDC");
    assert_true(json_get_bool(json, "running", false));
    run(this, "none", "status");
    has(&this->other.out, "State        RUNNING, CDC\n");
    has(&this->other.out, "\ncaught up  lag 42 B, 0.00s\n");
    /* A process that is killed says nothing any more: the lock tells. */
    kill(this->migrate.pid, SIGKILL);
    end(this, &this->migrate);
    run(this, "none", "status");
    has(&this->other.out, "State        STOPPED, CDC\n");
    has(&this->other.out, "reason: WORKER_LOST\n");
    run(this, "none", "status --watch --json"); /* over at once */
    exits(&this->other, 0);
    has(&this->other.out, "\"running\":false");
}

static void test_watch(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    begin_command(this, &this->third, "none", "status --watch");
    int64_t deadline = clock_now_us() + 30 * USEC_PER_SEC;
    do {
        read_output(this, &this->third, "out", &this->third.out);
        assert_true(clock_now_us() < deadline);
        clock_sleep_us(5000);
    } while (strstr(this->third.out.data, "Follow: caught up") == NULL);
    run(this, "none", "promote");
    exits(&this->other, 0);
    end(this, &this->third);
    exits(&this->third, 0);
    has(&this->third.out, "State        COMPLETED");
}

/* --- abort --- */

static void test_abort(void **state) {
    Fixture *this = *state;
    begin_following(this, "follows");
    run(this, "none", "abort"); /* nobody to ask */
    exits(&this->other, 3);
    has(&this->other.err, "Slot, publications");
    run(this, "follows", "abort --yes");
    exits(&this->other, 0);
    has(&this->other.err, "removed from the source\n");
    assert_false(is_there(this, "job.json"));
    assert_false(is_there(this, "status.json"));
    end(this, &this->migrate);
    exits(&this->migrate, 3);
    has(&this->migrate.err, "asked to stop from another terminal");
    run(this, "none", "abort --yes");
    exits(&this->other, 2);
    has(&this->other.err, "NO_JOB");
}

/* --- clients that do not behave --- */

static Wire *connect_to(const Fixture *this) {
    Wire *wire = NULL;
    Error err;
    if (!control_connect(arena_printf(this->arena, "%s/" JOB_ID, this->state_dir), &wire, &err))
        fail_msg("%s", err.message);
    assert_non_null(wire);
    return wire;
}

/* 20 MB wait for one that does not read: it is dropped, and nobody waits for it. */
static void test_a_client_that_does_not_read(void **state) {
    Fixture *this = *state;
    begin_following(this, "floods");
    CLEANUP(wire_freep) Wire *idle = connect_to(this);
    Error err;
    assert_true(wire_send(idle, WIRE_PROMOTE, json_pack("{s:{s:b}}", "options", "dry_run", 1), &err));
    wait_for(this, &this->migrate, "dry run of a promote");
    wait_for(this, &this->migrate, "end of the flood"); /* who reads, but slowly, could be left behind by it, too */
    run(this, "none", "promote --dry-run");
    exits(&this->other, 0);
    stop_migrate(this);
    size_t messages = 0;
    for (WireType type = 0; type != WIRE_MAX_; messages++) {
        CLEANUP(json_freep) json_t *body = NULL;
        type = hear(idle, &body);
    }
    assert_in_range(messages, 1, 999);
}

static void test_clients_that_talk_nonsense(void **state) {
    Fixture *this = *state;
    Error err;
    begin_following(this, "follows");
    for (int client = 0; client < 40; client++) { /* more than there are places: each is dropped again */
        CLEANUP(wire_freep) Wire *wire = connect_to(this);
        if (client % 2 == 0)
            assert_true(fd_write_all(wire_fd(wire), "GET / HTTP/1.1\r\n\r\n", 18, &err));
        else
            assert_true(wire_send(wire, WIRE_START, NULL, &err));
        for (WireType type = 0; type != WIRE_MAX_;) {
            CLEANUP(json_freep) json_t *said = NULL;
            type = hear(wire, &said);
        }
    }
    run(this, "none", "promote");
    exits(&this->other, 0);
    end(this, &this->migrate);
    exits(&this->migrate, 0);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return play_worker();
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_files),
        TEST(test_a_dry_run_leaves_no_files),
        TEST(test_a_long_path),
        TEST(test_two_processes),
        TEST(test_promote),
        TEST(test_promote_unproven),
        TEST(test_promote_dry_run),
        TEST(test_promote_refused),
        TEST(test_promote_too_early),
        TEST(test_promote_twice_and_called_off),
        TEST(test_promote_goes_on_itself),
        TEST(test_promote_says_which_password),
        TEST(test_promote_of_other_databases),
        TEST(test_status),
        TEST(test_watch),
        TEST(test_abort),
        TEST(test_a_client_that_does_not_read),
        TEST(test_clients_that_talk_nonsense),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
