/*
 * The internal command `provision`.
 *
 * NOTES
 * The service starts it and may be gone at any moment after, as with a session (session_main.c): all that is needed
 * comes in one message, all there is to know stands in the folder, in the same files and under the same lock as a
 * session's (session/job_files.h), so that whoever reads those reads these. A process that is killed leaves RUNNING
 * there and the lock free; the same operation is then asked for again, with the next number.
 *
 * What changes an instance is done under the instance's lock beside. Both are an open file description's and so are
 * gone with the process, whatever its children still do. What only looks takes the folder's alone.
 */
#include "cli/provision_main.h"

#include "cli/exit_codes.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "provision/journal.h"
#include "session/job_files.h"
#include "wire/wire.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START_FD = 3, LOG_TEXT_MAX = 1024 * 1024 };
static const int64_t start_us = 60 * USEC_PER_SEC;

typedef struct Run {
    Arena *arena;
    const char *folder;
    json_t *start;
    const Provider *provider;
    ProvisionConfig config;
    ProvisionSpec spec;
    ProvisionStatus status;
    bool has_status;
    Buf log; /* of read_log */
    Stop stop;
} Run;

/* ---- Operations ---- */

typedef bool (*Operation)(Run *run, ProvisionCall *call, Error *err);

static bool run_check(Run *run, ProvisionCall *call, Error *err) {
    return run->provider->check(call, &run->spec, err);
}

static bool keep(Run *run, bool good) {
    run->has_status = good;
    return good;
}

static bool run_create(Run *run, ProvisionCall *call, Error *err) {
    return keep(run, run->provider->create(call, &run->spec, &run->status, err));
}

static bool run_describe(Run *run, ProvisionCall *call, Error *err) {
    return keep(run, run->provider->describe(call, json_get_string(run->start, "id", ""), &run->status, err));
}

static bool run_reconfigure(Run *run, ProvisionCall *call, Error *err) {
    return keep(run, run->provider->reconfigure(call, &run->spec, &run->status, err));
}

static bool run_promote(Run *run, ProvisionCall *call, Error *err) {
    return keep(run, run->provider->promote(call, &run->spec, &run->status, err));
}

static bool run_remove(Run *run, ProvisionCall *call, Error *err) {
    return run->provider->remove(call, json_get_string(run->start, "id", ""), err);
}

/* A place that does it itself is only looked at. */
static bool run_tend(Run *run, ProvisionCall *call, Error *err) {
    if (run->provider->tend == NULL)
        return run_describe(run, call, err);
    return keep(run, run->provider->tend(call, &run->spec, &run->status, err));
}

static bool run_read_log(Run *run, ProvisionCall *call, Error *err) {
    int64_t max = json_get_int(run->start, "max", LOG_TEXT_MAX);

    return run->provider->read_log(call, json_get_string(run->start, "id", ""), (size_t)MIN(MAX(max, 0), LOG_TEXT_MAX),
                                   &run->log, err);
}

static const struct {
    const char *name;
    Operation run;
    bool needs_spec, changes;
} operations[] = {
    {"check", run_check, true, false},        {"create", run_create, true, true},
    {"describe", run_describe, false, false}, {"reconfigure", run_reconfigure, true, true},
    {"promote", run_promote, true, true},     {"remove", run_remove, false, true},
    {"tend", run_tend, true, true},           {"log", run_read_log, false, false},
};

/* ---- What it tells ---- */

static json_t *all_said(const Run *run, const Error *failure) {
    json_t *said = json_object();

    (void)json_object_set_new(said, "error", failure != NULL ? wire_error_to_json(failure) : json_null());
    if (run->has_status)
        (void)json_object_set_new(said, "provision", provision_status_to_json(&run->status));
    if (run->log.len > 0)
        (void)json_object_set_new(said, "log", json_string_lossy(run->log.data));
    return said;
}

static bool write_status(const Run *run, JobState state, const Error *failure, Error *err) {
    CLEANUP(json_freep) json_t *said = all_said(run, failure);
    const Job job = {.id = json_get_string(run->start, "id", ""), .folder = run->folder, .source = "", .dest = ""};
    const JobStatus status = {.state = state, .phase = "", .pid = getpid(), .run = json_get_int(run->start, "run", 0)};

    return job_status_write(&job, &status, said, err);
}

static void tell(void *context UNUSED, const char *text) {
    log_info("%s", text);
}

/* ---- What is asked for ---- */

static bool receive_start(json_t **ret_start, Error *err) {
    CLEANUP(wire_freep) Wire *wire = wire_new(START_FD);
    WireType type = WIRE_MAX_;

    switch (wire_receive(wire, NULL, clock_now_us() + start_us, &type, ret_start, err)) {
    case WIRE_MESSAGE:
        return type == WIRE_START || error_set(err, REASON_WIRE_BAD, "a message before what there is to do");
    case WIRE_BROKEN:
        return false;
    case WIRE_CLOSED:
    case WIRE_NOTHING:
        return error_set(err, REASON_WIRE_BAD, "nothing came to tell what there is to do");
    }
    UNREACHABLE();
}

static bool find_operation(const Run *run, size_t *ret_which, Error *err) {
    const char *name = json_get_string(run->start, "operation", "");

    for (size_t at = 0; at < COUNT_OF(operations); at++)
        if (strcmp(operations[at].name, name) == 0) {
            *ret_which = at;
            return true;
        }
    return error_set(err, REASON_WIRE_BAD, "there is no operation \"%.40s\"", name);
}

static bool read_start(Run *run, size_t *ret_which, Error *err) {
    const char *name = json_get_string(run->start, "provider", "");
    const char *id = json_get_string(run->start, "id", "");

    run->config = (ProvisionConfig){.state_dir = json_get_string(run->start, "state_dir", NULL),
                                    .user = json_get_string(run->start, "user", NULL),
                                    .bindirs = json_get_string(run->start, "bindirs", NULL)};
    run->provider = provider_find(name);
    if (run->provider == NULL)
        return error_set(err, REASON_PROVISION_REFUSED, "there is no provider \"%.40s\"", name);
    if (run->config.state_dir == NULL)
        return error_set(err, REASON_WIRE_BAD, "nothing says where instances are (state_dir)");
    if (!find_operation(run, ret_which, err))
        return false;
    if (!operations[*ret_which].needs_spec)
        return true;
    if (!provision_spec_from_json(run->arena, json_get_object(run->start, "spec"), &run->spec, err))
        return false;
    return strcmp(run->spec.id, id) == 0 ||
           error_set(err, REASON_WIRE_BAD, "the spec is of instance %.40s, not of %.40s", run->spec.id, id);
}

/* ---- A stop by signal ---- */

typedef struct Watcher {
    Stop *stop;
    int signals, end; /* end: an eventfd that says that nothing is to be watched any more */
} Watcher;

static void *watch(void *context) {
    const Watcher *watcher = context;
    struct pollfd fds[] = {{.fd = watcher->signals, .events = POLLIN}, {.fd = watcher->end, .events = POLLIN}};

    while (fds[1].revents == 0) {
        if (poll(fds, COUNT_OF(fds), -1) < 0)
            continue; /* interrupted */
        if (fds[0].revents != 0 && signal_is_stop(signals_next(watcher->signals)))
            stop_request(watcher->stop);
    }
    return NULL;
}

/* ---- All of it ---- */

static bool open_journal(Run *run, bool changes, ProvisionJournal **ret_journal, int *ret_lock, Error *err) {
    const char *id = json_get_string(run->start, "id", "");

    if (!provision_journal_open(run->arena, &run->config, id, ret_journal, err))
        return false;
    if (!changes)
        return true;
    if (!provision_lock(*ret_journal, ret_lock, err))
        return false;
    if (*ret_lock >= 0)
        return true;
    error_set(err, REASON_CONFLICT, "another operation on instance %s is under way", id);
    return error_remedy(err, "wait for its end");
}

static ProvisionCall call_of(Run *run, ProvisionJournal *journal) {
    return (ProvisionCall){
        .arena = run->arena, .config = &run->config, .journal = journal, .stop = &run->stop, .tell = tell};
}

static bool operate(Run *run, Error *err) {
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL;
    CLEANUP(fd_close) int lock = -1;
    size_t which = 0;

    if (!read_start(run, &which, err) || !open_journal(run, operations[which].changes, &journal, &lock, err))
        return false;
    ProvisionCall call = {
        .arena = run->arena, .config = &run->config, .journal = journal, .stop = &run->stop, .tell = tell};
    log_info("instance %s: %s", json_get_string(run->start, "id", ""), operations[which].name);
    return operations[which].run(run, &call, err);
}

/* How the instance is after a failure, where that can be known. */
static void look_behind(Run *run) {
    CLEANUP(provision_journal_closep) ProvisionJournal *journal = NULL;
    const char *id = json_get_string(run->start, "id", "");
    Error unknown;

    if (run->provider == NULL || !provision_journal_open(run->arena, &run->config, id, &journal, &unknown))
        return;
    ProvisionCall call = call_of(run, journal);
    if (!keep(run, run->provider->describe(&call, id, &run->status, &unknown)))
        log_error_value(LOG_WARNING, &unknown);
}

static int tell_end(Run *run, bool good, Error *err) {
    Error unwritten;

    if (!good) {
        log_error_value(LOG_ERROR, err);
        look_behind(run);
    }
    if (!write_status(run, good ? JOB_COMPLETED : JOB_FAILED, good ? NULL : err, &unwritten))
        return output_error(&unwritten);
    return good ? EXIT_CODE_OK : error_reason_exit_code(err->reason);
}

/* The signals are blocked before there is another thread. */
static int run_watched(Run *run) {
    Watcher watcher = {.stop = &run->stop};
    CLEANUP(fd_close) int signals = -1, lock = -1;
    CLEANUP(stop_fini) Stop end;
    pthread_t thread;
    Error err;

    if (!stop_init(&end, &err))
        return output_error(&err);
    if (!job_lock(run->folder, &lock, &err))
        return output_error(&err);
    if (lock < 0) {
        error_set(&err, REASON_CONFLICT, "another process works in %s", run->folder);
        return output_error(&err);
    }
    if (!signals_open_stops(&signals, &err) || !write_status(run, JOB_RUNNING, NULL, &err))
        return output_error(&err);
    watcher.signals = signals;
    watcher.end = end.event_fd;
    if (pthread_create(&thread, NULL, watch, &watcher) != 0) {
        error_set(&err, REASON_SYSTEM, "cannot start a thread");
        return output_error(&err);
    }
    int exit_code = tell_end(run, operate(run, &err), &err);
    stop_request(&end);
    pthread_join(thread, NULL);
    return exit_code;
}

/* What libpq and PostgreSQL's programs would take from whoever started the service. */
static void forget_environment(void) {
    static const char *const names[] = {"PGHOST",
                                        "PGHOSTADDR",
                                        "PGPORT",
                                        "PGDATABASE",
                                        "PGUSER",
                                        "PGPASSWORD",
                                        "PGSERVICE",
                                        "PGOPTIONS",
                                        "PGSSLMODE",
                                        "PGSSLROOTCERT",
                                        "PGSSLCERT",
                                        "PGSSLKEY",
                                        "PGDATA",
                                        "PGPASSFILE",
                                        "PGSERVICEFILE",
                                        "PGCHANNELBINDING",
                                        "PGTARGETSESSIONATTRS",
                                        "PGAPPNAME",
                                        "PGCLIENTENCODING",
                                        "PGTZ",
                                        "PGDATESTYLE"};

    for (size_t at = 0; at < COUNT_OF(names); at++)
        (void)unsetenv(names[at]);
}

int provision_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *start = NULL;
    Error err;

    if (argc != 2) {
        error_set(&err, REASON_USAGE, "pgcrane provision is started by pgcrane serve");
        return output_error(&err);
    }
    log_init(STDERR_FILENO, LOG_INFO);
    forget_environment();
    umask(077);
    if (!receive_start(&start, &err) || !fd_make_dirs(argv[1], &err))
        return output_error(&err);
    Run run = {.arena = arena, .folder = arena_strdup(arena, argv[1]), .start = start};
    /* initdb and others complain about a folder that their user cannot enter. */
    if (run.folder[0] != '/' || chdir("/") != 0) {
        error_set(&err, REASON_USAGE, "%s is no absolute path, or / cannot be entered", run.folder);
        return output_error(&err);
    }
    if (!stop_init(&run.stop, &err))
        return output_error(&err);
    buf_init(&run.log, LOG_TEXT_MAX + 1);
    int exit_code = run_watched(&run);
    buf_fini(&run.log);
    stop_fini(&run.stop);
    return exit_code;
}
