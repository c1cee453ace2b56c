/*
 * The internal command `tunnel`: minds one ssh for a session (session/tunnel.h).
 *
 * NOTES
 * The port is bound here, by a socket that never listens, from the beginning to the end: ssh binds it as well, and
 * listens, which the system allows since both say SO_REUSEADDR. So nobody else is given the port while ssh is started
 * anew, and our own attempts to connect never come from it.
 *
 * Whether the tunnel carries is tried with the first bytes of PostgreSQL's protocol: ssh takes a connection also when
 * the bastion cannot or will not lead it on, and closes it then. Any server, and any pooler, answers an SSLRequest with
 * one byte (and one that speaks TLS may note that nobody went on from there). Later on, a server that does not answer
 * is no matter of the tunnel.
 *
 * ssh is tied to this process, and this process to the session by the socket between them: its end of file is the sign.
 */
#include "cli/tunnel_main.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/proc.h"
#include "session/tunnel.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SESSION_FD = 3, POSTED_MAX = 64 * 1024, PORTS_TRIED = 20, SECRET_MAX = 64 * 1024 };

static const int64_t start_us = 60 * USEC_PER_SEC, try_us = 30 * USEC_PER_SEC, probe_us = 50 * USEC_PER_MSEC,
                     pause_first_us = 500 * USEC_PER_MSEC, pause_most_us = 30 * USEC_PER_SEC,
                     steady_us = 60 * USEC_PER_SEC, end_us = 2 * USEC_PER_SEC;

typedef enum State {
    PAUSING, /* no ssh */
    TRYING,  /* there is one, and it does not carry yet */
    CARRYING,
} State;

typedef enum Probe { PROBE_NONE, PROBE_CONNECTING, PROBE_ASKED } Probe;

typedef struct Minder {
    Arena *arena;
    TunnelSpec spec;
    const char *self;
    Wire *wire;
    int port_fd, port;
    int ports_tried;
    State state;
    int64_t next_us;  /* when something is due: a start, a try; 0 = nothing */
    int64_t limit_us; /* of TRYING */
    int64_t since_us; /* of CARRYING */
    int64_t pause_us;
    pid_t ssh;
    int ssh_fd;  /* its pidfd, -1 = there is none */
    int said_fd; /* its stderr */
    Buf said;
    int probe_fd;
    Probe probe;
    bool has_carried;
    bool over;
} Minder;

/* ---- The port ---- */

static bool bind_port(int wanted, int *ret_fd, int *ret_port, Error *err) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)wanted)};
    socklen_t size = sizeof(address);
    int yes = 1;
    CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return error_errno(err, REASON_TUNNEL_FAILED, "no port of 127.0.0.1 for the SSH tunnel");
    *ret_port = ntohs(address.sin_port);
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* ---- What the session hears ---- */

static void tell(const Minder *minder, const Error *error) {
    json_t *body =
        json_pack("{s:i, s:o*}", "port", minder->port, "error", error != NULL ? wire_error_to_json(error) : NULL);
    Error lost;

    if (!wire_post(minder->wire, WIRE_TUNNEL, body, POSTED_MAX, NULL, &lost))
        log_warning("tunnel: %s", lost.message); /* the session is gone: the end of file follows */
}

/* ---- ssh ---- */

static bool find_ssh(Arena *arena, const char **ret_path, Error *err) {
    const char *list = getenv("PATH");

    for (list = list != NULL ? list : "/usr/bin:/bin"; *list != '\0';) {
        size_t len = strcspn(list, ":");
        const char *path = arena_printf(arena, "%.*s/ssh", (int)len, list);
        if (path[0] == '/' && access(path, X_OK) == 0) {
            *ret_path = path;
            return true;
        }
        list += len + (list[len] != '\0');
    }
    return error_set(err, REASON_SSH_MISSING, "there is no ssh in PATH, which tunnels need");
}

static bool spawn_ssh(Minder *minder, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *ssh = NULL;
    int ends[2];

    if (!find_ssh(arena, &ssh, err))
        return false;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a pipe");
    CLEANUP(fd_close) int theirs = ends[1];
    minder->said_fd = ends[0];
    const ProcSpec spec = {
        .argv = tunnel_argv(arena, &minder->spec, ssh, minder->port),
        .extra_env = tunnel_environment(arena, &minder->spec, minder->self),
        .stderr_fd = theirs,
        .tied = true,
    };
    if (!proc_spawn(&spec, &minder->ssh, err)) {
        fd_close(&minder->said_fd);
        return false;
    }
    minder->ssh_fd = (int)syscall(SYS_pidfd_open, minder->ssh, 0);
    return minder->ssh_fd >= 0 || error_errno(err, REASON_SYSTEM, "cannot watch ssh");
}

/* For the log line by line; of one that carries only what comes last is kept, since it may run for months. */
static void hear_ssh(Minder *minder) {
    char step[1024];
    ssize_t got;

    while (minder->said_fd >= 0 && (got = read(minder->said_fd, step, sizeof(step))) != 0) {
        if (got < 0 && errno != EINTR)
            return;
        if (got < 0)
            continue;
        if (minder->state == CARRYING)
            buf_clear(&minder->said);
        if (minder->said.len + (size_t)got > minder->said.max)
            buf_consume(&minder->said, minder->said.len);
        buf_append(&minder->said, step, (size_t)got);
        while (got > 0 && (step[got - 1] == '\n' || step[got - 1] == '\r'))
            got--;
        log_info("ssh: %.*s", (int)got, step);
    }
    fd_close(&minder->said_fd);
}

static void end_probe(Minder *minder) {
    fd_close(&minder->probe_fd);
    minder->probe = PROBE_NONE;
}

static void end_ssh(Minder *minder) {
    Error ignored;
    int status;

    end_probe(minder);
    if (minder->ssh > 0) {
        (void)kill(minder->ssh, SIGTERM);
        if (!proc_wait(minder->ssh, NULL, clock_now_us() + end_us, &status, &ignored))
            log_info("ssh: %s", ignored.message);
    }
    minder->ssh = 0;
    fd_close(&minder->ssh_fd);
    fd_close(&minder->said_fd);
}

/* ---- Its states ---- */

static void pause_after(Minder *minder, const Error *why) {
    int64_t now = clock_now_us();
    bool steady = minder->state == CARRYING && now - minder->since_us > steady_us;

    end_ssh(minder);
    log_warning("tunnel: %s", why->message);
    tell(minder, why);
    minder->pause_us = steady || minder->pause_us == 0 ? pause_first_us : MIN(minder->pause_us * 2, pause_most_us);
    minder->state = PAUSING;
    minder->next_us = now + minder->pause_us;
}

static void begin_try(Minder *minder) {
    Error err;

    buf_clear(&minder->said);
    if (!spawn_ssh(minder, &err)) {
        pause_after(minder, &err);
        return;
    }
    minder->state = TRYING;
    minder->limit_us = clock_now_us() + try_us;
    minder->next_us = clock_now_us() + probe_us;
}

static void begin_carrying(Minder *minder) {
    end_probe(minder);
    minder->state = CARRYING;
    minder->has_carried = true;
    minder->since_us = clock_now_us();
    minder->next_us = 0;
    log_info("tunnel: port %d carries to the %s", minder->port, minder->spec.side);
    tell(minder, NULL);
}

/* Another port, as long as nobody was told of this one. */
static bool take_other_port(Minder *minder) {
    Error err;

    if (minder->has_carried || minder->ports_tried >= PORTS_TRIED || !tunnel_port_was_taken(minder->said.data))
        return false;
    minder->ports_tried++;
    fd_close(&minder->port_fd);
    if (!bind_port(0, &minder->port_fd, &minder->port, &err))
        return false;
    minder->state = PAUSING;
    minder->next_us = 1; /* at once */
    return true;
}

static void on_ssh_end(Minder *minder) {
    Error why;

    hear_ssh(minder);
    end_ssh(minder);
    if (take_other_port(minder))
        return;
    tunnel_explain(&minder->spec, minder->said.data, &why);
    pause_after(minder, &why);
}

/* ---- Does it carry? ---- */

static void try_later(Minder *minder) {
    end_probe(minder);
    minder->next_us = clock_now_us() + probe_us;
}

static void begin_probe(Minder *minder) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)minder->port)};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    minder->next_us = 0;
    minder->probe_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (minder->probe_fd < 0 ||
        (connect(minder->probe_fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS)) {
        try_later(minder); /* ssh does not listen yet */
        return;
    }
    minder->probe = PROBE_CONNECTING;
}

static void ask_server(Minder *minder) {
    static const unsigned char ssl_request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(minder->probe_fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0 ||
        send(minder->probe_fd, ssl_request, sizeof(ssl_request), MSG_NOSIGNAL) != (ssize_t)sizeof(ssl_request)) {
        try_later(minder);
        return;
    }
    minder->probe = PROBE_ASKED;
}

/* Whoever has been told of the tunnel finds out by itself that the server behind it is away. */
static void fail_try(Minder *minder, const char *what) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error why;

    hear_ssh(minder);
    if (minder->has_carried && minder->probe == PROBE_ASKED) {
        begin_carrying(minder);
        return;
    }
    const char *said = minder->said.len > 0 ? minder->said.data : "";
    tunnel_explain(&minder->spec, arena_printf(arena, "%s%s%s", said, said[0] != '\0' ? "\n" : "", what), &why);
    pause_after(minder, &why);
}

static void hear_server(Minder *minder) {
    char answer;
    ssize_t got = recv(minder->probe_fd, &answer, 1, MSG_DONTWAIT);

    if (got == 1)
        begin_carrying(minder);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        fail_try(minder, "the connection was closed");
}

static void on_probe(Minder *minder) {
    if (minder->probe == PROBE_CONNECTING)
        ask_server(minder);
    else if (minder->probe == PROBE_ASKED)
        hear_server(minder);
}

static void on_time(Minder *minder) {
    int64_t now = clock_now_us();
    bool due = minder->next_us != 0 && minder->next_us <= now;

    if (minder->state == TRYING && now >= minder->limit_us)
        fail_try(minder, minder->probe == PROBE_ASKED ? "the server does not answer" : "no tunnel came about in time");
    else if (due && minder->state == PAUSING)
        begin_try(minder);
    else if (due && minder->state == TRYING)
        begin_probe(minder);
}

/* ---- The loop ---- */

static void on_session(Minder *minder) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type;
    Error err;
    bool pending = false;

    if (wire_receive(minder->wire, NULL, 1, &type, &body, &err) != WIRE_NOTHING ||
        !wire_flush(minder->wire, &pending, &err))
        minder->over = true;
}

static int timeout_of(const Minder *minder) {
    int64_t next = minder->next_us;

    if (minder->state == TRYING && (next == 0 || minder->limit_us < next))
        next = minder->limit_us;
    return clock_poll_timeout(next);
}

static void mind(Minder *minder) {
    while (!minder->over) {
        struct pollfd fds[] = {
            {.fd = wire_fd(minder->wire), .events = POLLIN},
            {.fd = minder->said_fd, .events = POLLIN},
            {.fd = minder->probe_fd, .events = minder->probe == PROBE_CONNECTING ? POLLOUT : POLLIN},
            {.fd = minder->ssh_fd, .events = POLLIN},
        };
        if (poll(fds, COUNT_OF(fds), timeout_of(minder)) < 0)
            continue; /* interrupted by a signal */
        if (fds[0].revents != 0)
            on_session(minder);
        if (fds[1].revents != 0)
            hear_ssh(minder);
        if (fds[3].revents != 0)
            on_ssh_end(minder);
        else if (fds[2].revents != 0)
            on_probe(minder);
        on_time(minder);
    }
}

/* ---- Beginning and end ---- */

static bool receive_spec(Minder *minder, int *ret_wanted, Error *err) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type = WIRE_MAX_;

    if (wire_receive(minder->wire, NULL, clock_now_us() + start_us, &type, &body, err) != WIRE_MESSAGE ||
        type != WIRE_START)
        return error_set(err, REASON_WIRE_BAD, "pgcrane tunnel is started by pgcrane session");
    tunnel_spec_from_json(minder->arena, body, &minder->spec);
    *ret_wanted = (int)json_get_int(body, "wanted_port", 0);
    minder->has_carried = *ret_wanted != 0;
    return tunnel_check(&minder->spec, err);
}

/* ssh finds its known hosts in the folder in which it is started. */
static bool prepare(Minder *minder, Error *err) {
    int wanted = 0;

    if (!receive_spec(minder, &wanted, err) || !proc_self_path(minder->arena, &minder->self, err))
        return false;
    if (chdir(minder->spec.folder) != 0)
        return error_errno(err, REASON_SYSTEM, "%s", minder->spec.folder);
    return bind_port(wanted, &minder->port_fd, &minder->port, err);
}

/* A session that is killed cannot do it. The folder goes with its last file. */
static void remove_secret(Arena *arena, const char *path) {
    if (path == NULL)
        return;
    (void)unlink(path);
    (void)rmdir(dirname(arena_strdup(arena, path)));
}

int tunnel_main(int argc UNUSED, char **argv UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Minder minder = {
        .arena = arena, .wire = wire_new(SESSION_FD), .port_fd = -1, .ssh_fd = -1, .said_fd = -1, .probe_fd = -1};
    Error err;

    log_init(STDERR_FILENO, LOG_INFO);
    (void)signal(SIGPIPE, SIG_IGN);
    buf_init(&minder.said, TUNNEL_SAID_MAX);
    bool ok = prepare(&minder, &err);
    minder.next_us = 1; /* at once */
    if (ok) {
        mind(&minder);
    } else {
        log_warning("tunnel: %s", err.message);
        tell(&minder, &err);
    }
    end_ssh(&minder);
    fd_close(&minder.port_fd);
    wire_freep(&minder.wire);
    if (ok) {
        remove_secret(arena, minder.spec.key_file);
        remove_secret(arena, minder.spec.password_file);
    }
    buf_fini(&minder.said);
    return ok ? 0 : 1;
}

/* ---- The password ---- */

bool askpass_is_asked(int argc) {
    return argc == 2 && getenv(TUNNEL_ASKPASS_FILE) != NULL;
}

int askpass_main(void) {
    const char *path = getenv(TUNNEL_ASKPASS_FILE);
    const char *kind = getenv("SSH_ASKPASS_PROMPT"); /* "confirm", "none": a question that is not for a password */
    CLEANUP(buf_fini) Buf text;
    Error err;

    buf_init(&text, SECRET_MAX);
    if (path == NULL || (kind != NULL && kind[0] != '\0') || !fd_read_file(path, &text, &err))
        return 1;
    buf_append_char(&text, '\n');
    bool ok = fd_write_all(STDOUT_FILENO, text.data, text.len, &err);
    explicit_bzero(text.data, text.len);
    return ok ? 0 : 1;
}
