/* The embedded control plane: status.json, and a socket for other terminals. */
#include "session/control.h"

#include "common/clock.h"
#include "common/fd.h"
#include "model/finding.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENT_BACKLOG_MAX = 4 * 1024 * 1024, LISTEN_BACKLOG = 16, EVENTS_KEPT = 32, WARNINGS_KEPT = 20 };
static const int64_t status_us = 1 * USEC_PER_SEC;
static const int64_t last_word_us = 1 * USEC_PER_SEC;
static const int64_t no_wait = 1;

typedef struct Client {
    Wire *wire; /* for receiving alone; NULL = a free place */
    Buf out;    /* whole messages, the first of them perhaps partly sent */
    bool dead;  /* to be dropped when nobody looks at the places */
} Client;

struct Control {
    Arena *arena; /* holds this struct */
    Job job;
    ControlRequest request;
    void *context;
    int lock_fd;
    int folder_fd;
    int listen_fd;
    Client clients[CONTROL_CLIENTS_MAX];
    bool job_missing; /* there is no job.json yet */
    bool job_written;
    JobStatus status; /* state and phase; the JSON beside it is the rest */
    json_t *said;     /* by key of status.json: what was said last */
    int64_t events;   /* that were kept there */
    bool changed;     /* since status.json was written */
    bool failing;     /* the last try to write could not */
    int64_t next_us;
};

/* --- opening --- */

/* A path in sun_path has 108 bytes: the folder is named by its descriptor, so that its own length does not matter. */
static void socket_address(int folder_fd, struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/control.sock", folder_fd);
}

/* Whoever holds the lock may take the place of a socket that is there: its process is gone. The folder is ours alone
 * (0700), and the socket as well before anybody can connect. */
static bool try_socket(Control *control, Error *err) {
    struct sockaddr_un address;
    control->folder_fd = open(control->job.folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (control->folder_fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s", control->job.folder);
    (void)unlinkat(control->folder_fd, "control.sock", 0);
    socket_address(control->folder_fd, &address);
    control->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->listen_fd < 0 || bind(control->listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        fchmodat(control->folder_fd, "control.sock", 0600, 0) != 0 || listen(control->listen_fd, LISTEN_BACKLOG) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s/control.sock", control->job.folder);
    return true;
}

/* One that cannot be made, on a disk that is full, is tried again with the files. */
static bool open_socket(Control *control, Error *err) {
    if (control->listen_fd >= 0 || try_socket(control, err))
        return true;
    fd_close(&control->listen_fd);
    fd_close(&control->folder_fd);
    return false;
}

/* A run with other options may be refused by the ledger, and must not replace what the migration was begun with: where
 * there is a job.json already, it is replaced when the run is past the checks. */
static bool write_job(Control *control, Error *err) {
    if (control->job_written || (!control->job_missing && control->status.state != JOB_RUNNING))
        return true;
    if (!job_write(&control->job, err))
        return false;
    control->job_missing = false;
    control->job_written = true;
    return true;
}

static Control *control_new(const ControlParams *params, int lock_fd) {
    Arena *arena = arena_new();
    Control *control = arena_new_of(arena, Control);
    *control = (Control){.arena = arena,
                         .job = *params->job,
                         .request = params->request,
                         .context = params->context,
                         .lock_fd = lock_fd,
                         .folder_fd = -1,
                         .listen_fd = -1,
                         .changed = true};
    control->job.id = arena_strdup(arena, params->job->id);
    control->job.folder = arena_strdup(arena, params->job->folder);
    control->job.source = arena_strdup(arena, params->job->source);
    control->job.dest = arena_strdup(arena, params->job->dest);
    control->job_missing = access(arena_printf(arena, "%s/job.json", control->job.folder), F_OK) != 0;
    control->said = json_object();
    control->status =
        (JobStatus){.state = JOB_STARTING, .phase = "PREPARING_THE_DUMP", .pid = getpid(), .run = params->run};
    return control;
}

bool control_open(const ControlParams *params, Control **ret_control, Error *err) {
    int lock_fd = -1;
    if (!fd_make_dirs(params->job->folder, err) || !job_lock(params->job->folder, &lock_fd, err))
        return false;
    if (lock_fd < 0) {
        *ret_control = NULL;
        return true;
    }
    Control *control = control_new(params, lock_fd);
    Error later; /* control_tick() tries again at once, and says it */
    (void)!(open_socket(control, &later) && write_job(control, &later));
    *ret_control = control;
    return true;
}

/* --- clients --- */

static void drop_client(Client *client) {
    wire_freep(&client->wire);
    buf_fini(&client->out);
    *client = (Client){0};
}

static void send_some(Client *client) {
    while (!client->dead && client->out.len > 0) {
        ssize_t sent = send(wire_fd(client->wire), client->out.data, client->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            client->dead = errno != EAGAIN;
            return;
        }
        buf_consume(&client->out, (size_t)sent);
    }
}

/* `body` is borrowed. */
static void tell(Client *client, WireType type, const json_t *body) {
    Error err;
    if (client->wire == NULL || client->dead)
        return;
    if (!wire_encode(type, json_deep_copy(body), &client->out, &err)) {
        client->dead = true; /* it did not read for too long */
        return;
    }
    send_some(client);
}

static void accept_client(Control *control) {
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (size_t at = 0; at < CONTROL_CLIENTS_MAX; at++) {
        Client *client = &control->clients[at];
        if (client->wire != NULL)
            continue;
        client->wire = wire_new(fd);
        buf_init(&client->out, CLIENT_BACKLOG_MAX);
        const json_t *progress = json_object_get(control->said, "progress");
        if (progress != NULL)
            tell(client, WIRE_PROGRESS, progress);
        return;
    }
    fd_close(&fd); /* all places are taken: it hears the end of file */
}

static void refuse(Client *client, const Error *err) {
    CLEANUP(json_freep) json_t *body = wire_error_to_json(err);
    tell(client, WIRE_FAILED, body);
}

static void take_request(Control *control, Client *client, WireType type, const json_t *body) {
    Error err;
    if (type != WIRE_PROMOTE && type != WIRE_STOP)
        client->dead = true;
    else if (!control->request(control->context, type, body, &err))
        refuse(client, &err);
}

static void read_client(Control *control, Client *client) {
    while (!client->dead) {
        CLEANUP(json_freep) json_t *body = NULL;
        WireType type = WIRE_MAX_;
        Error err;
        switch (wire_receive(client->wire, NULL, no_wait, &type, &body, &err)) {
        case WIRE_MESSAGE:
            take_request(control, client, type, body);
            break;
        case WIRE_NOTHING:
            return;
        case WIRE_CLOSED:
        case WIRE_BROKEN:
            client->dead = true;
            break;
        }
    }
}

/* Clients are dropped here alone, so that places and descriptors stay the same from one poll to what it said. */
size_t control_poll_fds(Control *control, struct pollfd *fds) {
    fds[0] = (struct pollfd){.fd = control->listen_fd, .events = POLLIN};
    for (size_t at = 0; at < CONTROL_CLIENTS_MAX; at++) {
        Client *client = &control->clients[at];
        if (client->dead)
            drop_client(client);
        fds[at + 1] = (struct pollfd){.fd = client->wire == NULL ? -1 : wire_fd(client->wire),
                                      .events = client->out.len > 0 ? POLLIN | POLLOUT : POLLIN};
    }
    return CONTROL_FDS_MAX;
}

void control_serve(Control *control, const struct pollfd *fds, size_t count) {
    for (size_t at = 1; at < count; at++) {
        Client *client = &control->clients[at - 1];
        if (client->wire == NULL || client->dead)
            continue;
        if ((fds[at].revents & POLLOUT) != 0)
            send_some(client);
        if ((fds[at].revents & ~POLLOUT) != 0)
            read_client(control, client);
    }
    if (fds[0].revents != 0)
        accept_client(control);
}

/* --- what the worker says --- */

/* How it ended is control_end()'s to say. */
static const bool relayed[WIRE_MAX_] = {
    [WIRE_EVENT] = true,
    [WIRE_PROGRESS] = true,
    [WIRE_PROMOTED] = true,
    [WIRE_REPORT] = true,
};

/* A picture of the progress that comes late is of no use: whoever is behind gets the next one. */
static void relay(Control *control, WireType type, const json_t *body) {
    for (size_t at = 0; at < CONTROL_CLIENTS_MAX; at++)
        if (type != WIRE_PROGRESS || control->clients[at].out.len == 0)
            tell(&control->clients[at], type, body);
}

/* What stands in status.json. */
static const char *const said_keys[WIRE_MAX_] = {
    [WIRE_PROGRESS] = "progress", [WIRE_REPORT] = "report",       [WIRE_PROMOTED] = "promoted",
    [WIRE_FINDINGS] = "findings", [WIRE_DATABASES] = "databases", [WIRE_LOADED] = "loaded",
    [WIRE_MENDED] = "mended",
};

static void keep(Control *control, const char *key, const json_t *body) {
    (void)json_object_set_new(control->said, key, json_deep_copy(body));
    control->changed = true;
}

/* At once when it changed in kind, once a second otherwise. */
static void set_state(Control *control, JobState state, const char *phase) {
    if (control->status.state != state || strcmp(control->status.phase, phase) != 0)
        control->next_us = 0;
    control->status.state = state;
    control->status.phase = phase;
    control->changed = true;
}

static bool is_past_checks(const Progress *progress) {
    for (Phase phase = PHASE_PREFLIGHT + 1; phase < PHASE_MAX_; phase++)
        if (progress->phases[phase].state == PHASE_RUNNING || progress->phases[phase].state == PHASE_DONE)
            return true;
    return progress->cdc.state != CDC_NONE;
}

static void note_progress(Control *control, const Progress *progress) {
    JobState state = control->status.state;
    if (state == JOB_STARTING && is_past_checks(progress))
        state = JOB_RUNNING;
    set_state(control, state, job_phase_of(progress));
}

/* The last ones, numbered, for whoever looks into the file now and then. */
static void keep_event(Control *control, const char *level, const char *text) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    json_t *events = json_object_get(control->said, "events");

    if (events == NULL)
        (void)json_object_set_new(control->said, "events", events = json_array());
    if (json_array_size(events) == EVENTS_KEPT)
        (void)json_array_remove(events, 0);
    (void)json_array_append_new(events, json_pack("{s:I, s:s, s:s, s:o}", "no", (json_int_t)++control->events, "at",
                                                  clock_rfc3339(arena, clock_wall_us()), "level", level, "text",
                                                  json_string_lossy(text)));
    control->changed = true;
}

/* Errors end the run, and say so. */
static void keep_warnings(Control *control, const json_t *body) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    FindingVec findings = {0};
    Error ignored; /* the terminal, or the service's own reading of the findings, says it */

    if (!findings_from_json(arena, json_get_array(body, "findings"), &findings, &ignored))
        return;
    for (size_t at = 0; at < findings.len && at < WARNINGS_KEPT; at++)
        if (findings.items[at].severity == SEVERITY_WARNING)
            keep_event(control, "warning",
                       arena_printf(arena, "%s: %s", findings.items[at].id, findings.items[at].message));
}

void control_message(Control *control, WireType type, const json_t *body, const Progress *progress) {
    if (said_keys[type] != NULL)
        keep(control, said_keys[type], body);
    if (type == WIRE_PROGRESS)
        note_progress(control, progress);
    else if (type == WIRE_EVENT)
        keep_event(control, json_get_string(body, "level", "info"), json_get_string(body, "text", ""));
    else if (type == WIRE_FINDINGS)
        keep_warnings(control, body);
    if (relayed[type])
        relay(control, type, body);
}

void control_note(Control *control, const char *key, json_t *value) {
    (void)json_object_set_new(control->said, key, value);
    control->changed = true;
    control->next_us = 0;
}

void control_stopping(Control *control) {
    set_state(control, JOB_STOPPING, control->status.phase);
}

/* --- status.json --- */

int control_timeout(const Control *control) {
    if (!control->changed)
        return -1;
    return control->next_us == 0 ? 0 : clock_poll_timeout(control->next_us);
}

/* All are tried, whatever becomes of the others: what failed is still to be done. */
static bool write_status(Control *control, Error *err) {
    control->next_us = clock_now_us() + status_us;
    bool reached = open_socket(control, err);
    bool job = write_job(control, err);
    bool status = job_status_write(&control->job, &control->status, control->said, err);
    control->changed = !reached || !job || !status;
    return !control->changed;
}

ControlNews control_tick(Control *control, Error *err) {
    if (control_timeout(control) != 0)
        return CONTROL_NO_NEWS;
    bool was_failing = control->failing;
    control->failing = !write_status(control, err);
    if (control->failing == was_failing)
        return CONTROL_NO_NEWS;
    return control->failing ? CONTROL_FAILS : CONTROL_WORKS;
}

/* --- the end --- */

/* Clients hear it last: what they do next finds the files as they should be. */
bool control_end(Control *control, const Error *error, bool forget, Error *err) {
    CLEANUP(json_freep) json_t *body = error == NULL ? json_object() : wire_error_to_json(error);
    JobState state = JOB_COMPLETED;
    if (error != NULL) {
        state = error->reason == REASON_CANCELLED ? JOB_STOPPED : JOB_FAILED;
        keep(control, "error", body);
    }
    set_state(control, state, control->status.phase);
    bool written = forget ? job_forget(control->job.folder, err) : write_status(control, err);
    relay(control, error == NULL ? WIRE_DONE : WIRE_FAILED, body);
    return written;
}

static bool somebody_waits(const Control *control) {
    for (size_t at = 0; at < CONTROL_CLIENTS_MAX; at++)
        if (control->clients[at].out.len > 0 && !control->clients[at].dead)
            return true;
    return false;
}

static void say_last_words(Control *control) {
    int64_t deadline = clock_now_us() + last_word_us;
    while (somebody_waits(control) && clock_now_us() < deadline) {
        struct pollfd fds[CONTROL_FDS_MAX];
        size_t count = control_poll_fds(control, fds);
        fds[0].fd = -1;
        for (size_t at = 1; at < count; at++) {
            fds[at].events = POLLOUT;
            if (control->clients[at - 1].out.len == 0)
                fds[at].fd = -1;
        }
        if (poll(fds, count, clock_poll_timeout(deadline)) < 0 && errno != EINTR)
            return;
        for (size_t at = 1; at < count; at++)
            if (fds[at].revents != 0)
                send_some(&control->clients[at - 1]);
    }
}

void control_closep(Control **control) {
    Control *this = *control;
    if (this == NULL)
        return;
    say_last_words(this);
    for (size_t at = 0; at < CONTROL_CLIENTS_MAX; at++)
        if (this->clients[at].wire != NULL)
            drop_client(&this->clients[at]);
    if (this->listen_fd >= 0)
        (void)unlinkat(this->folder_fd, "control.sock", 0);
    fd_close(&this->listen_fd);
    fd_close(&this->folder_fd);
    fd_close(&this->lock_fd); /* last: who has the lock may make a socket anew */
    json_freep(&this->said);
    Arena *arena = this->arena;
    arena_free(arena);
    *control = NULL;
}
