/*
 * A tunnel to a server that only a bastion host reaches: a port of 127.0.0.1 behind which `ssh -L` is, of OpenSSH.
 *
 * A session has one for each side whose profile has forwardSshConnectivity. The tunnel is a process of its own
 * (`pgcrane tunnel`, cli/tunnel_main.c), which starts ssh, tries whether it carries, and starts it again when it ends,
 * always on the same port. Nothing of a tunnel outlives the session that has it, however that ends.
 *
 * Contract
 * - A Tunnel belongs to one thread. Its process is the caller's child; tunnel_stopp() ends and reaps it.
 * - Secrets are in files that the caller has written (mode 0600, in memory) and that the process removes when the
 *   session is gone without having stopped it. No secret is in a TunnelSpec, in argv, in the environment, or in what
 * ssh says.
 * - The first host key that a bastion shows is trusted and kept in FOLDER/ssh_known_hosts; another one later is
 * refused.
 * - While ssh is started anew nobody listens on the port: connections are refused, and whoever uses it tries again.
 *   Only TLS with sslmode verify-ca or verify-full keeps another user of this machine from answering in its place.
 * - Errors: TUNNEL_REFUSED (the bastion does not let us in), TUNNEL_HOST_KEY (its key has changed), SSH_MISSING,
 *   TUNNEL_FAILED (all else; retryable but when the bastion forbids to forward). Each names the bastion, has ssh's last
 *   words, and a command to try by hand. BAD_REQUEST: a spec that ssh could take for something else.
 * - Functions of the group "Pure" touch nothing but their arguments.
 */
#pragma once

#include "common/json.h"

#define TUNNEL_ASKPASS_FILE "PGCRANE_ASKPASS_FILE" /* the variable that names the file with the password */

enum { TUNNEL_SAID_MAX = 4096 };

typedef struct TunnelSpec {
    const char *side;    /* "source" or "destination" */
    const char *bastion; /* its name or address */
    int64_t bastion_port;
    const char *user;
    const char *host; /* of the server, as the bastion knows it */
    int64_t port;
    const char *key_file, *password_file; /* one of them, else NULL */
    const char *folder;                   /* where ssh_known_hosts is */
} TunnelSpec;

typedef struct Tunnel Tunnel;

/* Starts the process. spec is copied. */
NODISCARD bool tunnel_start(const TunnelSpec *spec, Tunnel **ret_tunnel, Error *err);
/* Until it carries: then tunnel_port() is known. Fails with the first thing that goes wrong; TUNNEL_FAILED after
 * deadline_us. */
NODISCARD bool tunnel_wait(Tunnel *tunnel, int64_t deadline_us, Error *err);
int tunnel_port(const Tunnel *tunnel);
/* What has become of it since; does not wait. Starts its process again when that was lost. *ret_text: a line for people
 * in the arena, NULL = no news (call again until it is). *ret_bad: it is no good news. */
void tunnel_news(Tunnel *tunnel, Arena *arena, const char **ret_text, bool *ret_bad);
/* Does it not carry, as far as is known? */
bool tunnel_is_down(const Tunnel *tunnel, Error *ret_why);
void tunnel_stopp(Tunnel **tunnel); /* waits until ssh is gone, at most some seconds; NULL is fine */

/* ---- Pure ---- */

NODISCARD bool tunnel_check(const TunnelSpec *spec, Error *err);
json_t *tunnel_spec_to_json(const TunnelSpec *spec);
/* Copied into the arena. */
void tunnel_spec_from_json(Arena *arena, const json_t *json, TunnelSpec *ret_spec);

/* Of ssh, to be run in spec->folder; `ssh` is its path. */
const char *const *tunnel_argv(Arena *arena, const TunnelSpec *spec, const char *ssh, int port);
/* For ssh: "NAME=value"; `self` is the path of this program, which ssh asks for the password. */
const char *const *tunnel_environment(Arena *arena, const TunnelSpec *spec, const char *self);
/* What went wrong, by what ssh said (stderr, may be anything). */
void tunnel_explain(const TunnelSpec *spec, const char *said, Error *ret_why);
bool tunnel_port_was_taken(const char *said);
