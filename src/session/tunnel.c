/*
 * The session's end of a tunnel: starts its process, hears what has become of it.
 *
 * NOTES
 * Who dies, and what is left:
 *
 *   ssh                 its minder starts another one on the same port, with pauses that grow
 *   the minder          the system kills its ssh (common/proc.h, tied); the session starts another minder, same port
 *   the session         the minder sees the end of file: it ends ssh, removes the files with secrets, and itself
 *   minder and session  the system kills ssh; the next session of the same folder removes the files
 *   the session, before its minder is told anything  there is no ssh yet; files as before
 *   the daemon          nothing: sessions go on without it
 *   the bastion, or the way to it  ssh notices at once, or within 45 s of silence (ServerAliveInterval); then as ssh
 *
 * The minder is told everything in one message and says what becomes of the tunnel: {port}, or {port, error}. It never
 * waits for us to read that.
 */
#include "session/tunnel.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/proc.h"
#include "wire/wire.h"

#include <string.h>
#include <sys/socket.h>

static const int64_t end_us = 5 * USEC_PER_SEC, again_us = 2 * USEC_PER_SEC;
/* wire_receive(): take what is there, do not wait. */
static const int64_t no_wait = 1;

struct Tunnel {
    Arena *arena; /* holds this struct */
    TunnelSpec spec;
    const char *self;
    Wire *wire; /* NULL: its process is lost */
    pid_t pid;
    int port; /* 0 = not known yet */
    bool carries;
    Error why;        /* of one that does not */
    int64_t start_us; /* of the process */
};

static bool start_process(Tunnel *tunnel, Error *err) {
    const char *const argv[] = {tunnel->self, "tunnel", NULL};
    json_t *body = tunnel_spec_to_json(&tunnel->spec);
    int pair[2];

    tunnel->start_us = clock_now_us();
    (void)json_object_set_new(body, "wanted_port", json_integer(tunnel->port));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        json_freep(&body);
        return error_errno(err, REASON_SYSTEM, "socketpair");
    }
    CLEANUP(fd_close) int theirs = pair[1];
    tunnel->wire = wire_new(pair[0]);
    bool ok = proc_spawn(&(ProcSpec){.argv = argv, .fd3 = theirs}, &tunnel->pid, err);
    if (ok)
        return wire_send(tunnel->wire, WIRE_START, body, err);
    json_freep(&body);
    wire_freep(&tunnel->wire);
    return error_wrap(err, "starting a tunnel");
}

static void end_process(Tunnel *tunnel) {
    Error ignored;
    int status;

    wire_freep(&tunnel->wire);
    if (tunnel->pid > 0)
        (void)!proc_wait(tunnel->pid, NULL, clock_now_us() + end_us, &status, &ignored);
    tunnel->pid = 0;
}

bool tunnel_start(const TunnelSpec *spec, Tunnel **ret_tunnel, Error *err) {
    if (!tunnel_check(spec, err))
        return false;
    Arena *arena = arena_new();
    Tunnel *tunnel = arena_new_of(arena, Tunnel);
    CLEANUP(json_freep) json_t *copy = tunnel_spec_to_json(spec);
    tunnel->arena = arena;
    tunnel_spec_from_json(arena, copy, &tunnel->spec);
    error_set(&tunnel->why, REASON_TUNNEL_FAILED, "the SSH tunnel to the %s is not open yet", spec->side);
    if (!proc_self_path(arena, &tunnel->self, err) || !start_process(tunnel, err)) {
        tunnel_stopp(&tunnel);
        return false;
    }
    *ret_tunnel = tunnel;
    return true;
}

/* What it said of a tunnel that does not carry is more than that it has ended. */
static void lose_process(Tunnel *tunnel) {
    end_process(tunnel);
    if (tunnel->carries || tunnel->port == 0)
        error_set(&tunnel->why, REASON_TUNNEL_FAILED,
                  "the process of the SSH tunnel to the %s has ended: session.log has more", tunnel->spec.side);
    tunnel->carries = false;
}

/* False: there was nothing to hear. */
static bool hear(Tunnel *tunnel, int64_t deadline_us) {
    CLEANUP(json_freep) json_t *body = NULL;
    WireType type = WIRE_MAX_;
    Error err;

    switch (wire_receive(tunnel->wire, NULL, deadline_us, &type, &body, &err)) {
    case WIRE_MESSAGE:
        tunnel->carries = json_get_object(body, "error") == NULL;
        if (tunnel->carries)
            tunnel->port = (int)json_get_int(body, "port", 0);
        else
            wire_error_from_json(json_get_object(body, "error"), &tunnel->why);
        return true;
    case WIRE_NOTHING:
        return false;
    case WIRE_CLOSED:
    case WIRE_BROKEN:
    default:
        lose_process(tunnel);
        return true;
    }
}

bool tunnel_wait(Tunnel *tunnel, int64_t deadline_us, Error *err) {
    bool heard = tunnel->wire != NULL && hear(tunnel, deadline_us);

    if (heard && tunnel->carries)
        return true;
    *err = tunnel->why;
    if (!heard)
        error_set(err, REASON_TUNNEL_FAILED, "the SSH tunnel to the %s through %s did not open in time",
                  tunnel->spec.side, tunnel->spec.bastion);
    return false;
}

int tunnel_port(const Tunnel *tunnel) {
    return tunnel->port;
}

bool tunnel_is_down(const Tunnel *tunnel, Error *ret_why) {
    if (!tunnel->carries)
        *ret_why = tunnel->why;
    return !tunnel->carries;
}

/* Its port is ours no more for a moment, and may be lost: then it fails, and so does the session in the end. */
static void start_again(Tunnel *tunnel) {
    Error err;

    if (clock_now_us() < tunnel->start_us + again_us)
        return;
    if (!start_process(tunnel, &err)) {
        end_process(tunnel);
        tunnel->why = err;
    }
}

void tunnel_news(Tunnel *tunnel, Arena *arena, const char **ret_text, bool *ret_bad) {
    bool before = tunnel->carries;

    *ret_text = NULL;
    *ret_bad = false;
    if (tunnel->wire == NULL)
        start_again(tunnel);
    while (tunnel->wire != NULL && tunnel->carries == before && hear(tunnel, no_wait))
        ;
    if (tunnel->carries == before)
        return;
    *ret_bad = before;
    *ret_text = before ? arena_printf(arena, "lost, and being opened again: %s", tunnel->why.message)
                       : arena_printf(arena, "the SSH tunnel to the %s carries again", tunnel->spec.side);
}

void tunnel_stopp(Tunnel **tunnel) {
    if (*tunnel == NULL)
        return;
    end_process(*tunnel);
    arena_free((*tunnel)->arena);
    *tunnel = NULL;
}
