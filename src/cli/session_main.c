/*
 * The internal command `session`.
 *
 * NOTES
 * The service starts it and may be gone at any moment after: everything that is needed comes in one message at the
 * beginning, and everything there is to know stands in the folder (session/control.h). So a service that begins anew
 * only has to look there.
 *
 * Certificates, keys and what opens a bastion host for a tunnel (session/tunnel.h) are written to files in memory
 * (session/private_files.h).
 *
 * Tunnels are opened when the folder's lock is held and before there is a worker: what goes wrong with them stands in
 * status.json like all else, and the worker finds connection strings that lead through them. They end after it.
 */
#include "cli/session_main.h"

#include "cli/exit_codes.h"
#include "cli/output.h"
#include "cli/session.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "session/private_files.h"
#include "session/tunnel.h"
#include "wire/wire.h"

#include <string.h>
#include <unistd.h>

enum { START_FD = 3, CONNINFO_MAX = 32 * 1024 };
static const int64_t start_us = 60 * USEC_PER_SEC, tunnels_us = 45 * USEC_PER_SEC;

static const struct {
    const char *key, *option;
} tls_files[] = {{"ca", "sslrootcert"}, {"cert", "sslcert"}, {"key", "sslkey"}};

enum { SIDES = 2 };
static const struct { const char *key, *name; } sides[SIDES] = {{"source", "source"}, {"dest", "destination"}};

typedef struct Companion {
    Arena *arena;
    const char *folder;
    PrivateFiles *files;
    const json_t *start;
    MigrateOptions *options;
    Tunnel *tunnels[SIDES]; /* NULL = none */
} Companion;

/* ---- What is asked for ---- */

static bool write_tls(Arena *arena, PrivateFiles *files, const char *side, const json_t *endpoint, Buf *conninfo,
                      Error *err) {
    for (size_t at = 0; at < COUNT_OF(tls_files); at++) {
        const char *text = json_get_string(endpoint, tls_files[at].key, NULL);
        const char *path = NULL;

        if (text == NULL)
            continue;
        if (!private_files_write(files, arena, arena_printf(arena, "%s-%s", side, tls_files[at].key), text, &path, err))
            return false;
        buf_printf(conninfo, " %s='%s'", tls_files[at].option, path); /* our own path: nothing in it to escape */
    }
    return true;
}

static bool receive_start(json_t **ret_start, Error *err) {
    CLEANUP(wire_freep) Wire *wire = wire_new(START_FD);
    WireType type = WIRE_MAX_;

    switch (wire_receive(wire, NULL, clock_now_us() + start_us, &type, ret_start, err)) {
    case WIRE_MESSAGE:
        return type == WIRE_START || error_set(err, REASON_WIRE_BAD, "%s instead of START", wire_type_name(type));
    case WIRE_BROKEN:
        return false;
    case WIRE_CLOSED:
    case WIRE_NOTHING:
    default:
        return error_set(err, REASON_WIRE_BAD, "nobody said what to do: this command is for pgcrane serve");
    }
}

static bool read_endpoint(Arena *arena, PrivateFiles *files, const char *side, const json_t *start,
                          const char **conninfo, Error *err) {
    const json_t *endpoint = json_get_object(start, side);

    if (endpoint == NULL)
        return true;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, CONNINFO_MAX);
    buf_append_str(&text, json_get_string(endpoint, "conninfo", ""));
    bool ok = write_tls(arena, files, side, endpoint, &text, err) && buf_ok(&text, "a connection string", err);
    *conninfo = ok ? arena_strdup(arena, text.data) : NULL;
    explicit_bzero(text.data, text.len);
    return ok;
}

static bool read_options(Arena *arena, const char *folder, PrivateFiles *files, const json_t *start,
                         MigrateOptions *options, Error *err) {
    options_init(options);
    if (json_get_object(start, "options") != NULL &&
        !options_from_json(arena, json_get_object(start, "options"), options, err))
        return false;
    options->state_dir = folder;
    options->yes = true;
    options->no_color = true;
    return read_endpoint(arena, files, "source", start, &options->source, err) &&
           read_endpoint(arena, files, "dest", start, &options->dest, err) && options_check(options, err);
}

/* ---- Tunnels ---- */

/* OpenSSH reads no key with carriage returns, or without an end of its last line. */
static const char *key_text(Arena *arena, const char *key) {
    char *text = arena_alloc(arena, strlen(key) + 2);
    size_t len = 0;

    for (const char *at = key; *at != '\0'; at++)
        if (*at != '\r')
            text[len++] = *at;
    if (len > 0 && text[len - 1] != '\n')
        text[len++] = '\n';
    return text;
}

static bool write_secret(const Companion *companion, size_t side, const char *key, const char *text,
                         const char **ret_path, Error *err) {
    Arena *arena = companion->arena;

    return text == NULL || private_files_write(companion->files, arena,
                                               arena_printf(arena, "%s-%s", sides[side].key, key), text, ret_path, err);
}

static bool open_tunnel(Companion *companion, size_t side, const json_t *tunnel, Error *err) {
    const char *key = json_get_string(tunnel, "private_key", NULL);
    TunnelSpec spec = {
        .side = sides[side].name,
        .bastion = json_get_string(tunnel, "bastion", ""),
        .bastion_port = json_get_int(tunnel, "bastion_port", 22),
        .user = json_get_string(tunnel, "user", ""),
        .host = json_get_string(tunnel, "host", ""),
        .port = json_get_int(tunnel, "port", 5432),
        .folder = json_get_string(companion->start, "state_dir", ""),
    };

    return write_secret(companion, side, "sshkey", key != NULL ? key_text(companion->arena, key) : NULL, &spec.key_file,
                        err) &&
           write_secret(companion, side, "sshpassword", json_get_string(tunnel, "password", NULL), &spec.password_file,
                        err) &&
           tunnel_start(&spec, &companion->tunnels[side], err);
}

/* The server keeps its name, which its certificate has; its address is where the tunnel begins. */
static void lead_through(const Companion *companion, size_t side) {
    const char **conninfo = side == 0 ? &companion->options->source : &companion->options->dest;

    *conninfo = arena_printf(companion->arena, "%s hostaddr='127.0.0.1' port='%d'", *conninfo,
                             tunnel_port(companion->tunnels[side]));
}

static const json_t *tunnel_of(const Companion *companion, size_t side) {
    return json_get_object(json_get_object(companion->start, sides[side].key), "tunnel");
}

static bool has_tunnels(const Companion *companion) {
    return tunnel_of(companion, 0) != NULL || tunnel_of(companion, 1) != NULL;
}

/* Both at the same time. */
static bool open_tunnels(void *context, Error *err) {
    Companion *companion = context;
    int64_t deadline_us = clock_now_us() + tunnels_us;

    for (size_t side = 0; side < SIDES; side++) {
        const json_t *tunnel = tunnel_of(companion, side);
        if (tunnel != NULL && !open_tunnel(companion, side, tunnel, err))
            return false;
    }
    for (size_t side = 0; side < SIDES; side++) {
        if (companion->tunnels[side] == NULL)
            continue;
        if (!tunnel_wait(companion->tunnels[side], deadline_us, err))
            return false;
        lead_through(companion, side);
    }
    return true;
}

static const char *news_of_tunnels(void *context, Arena *arena, bool *ret_bad) {
    const Companion *companion = context;
    const char *text = NULL;

    for (size_t side = 0; side < SIDES && text == NULL; side++)
        if (companion->tunnels[side] != NULL)
            tunnel_news(companion->tunnels[side], arena, &text, ret_bad);
    return text;
}

/* A server behind a tunnel that does not carry is only known not to be reached. */
static void explain(void *context, Error *failure) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const Companion *companion = context;
    bool bad = false;
    bool no_way = failure->reason == REASON_UNREACHABLE || failure->reason == REASON_CONNECTION_LOST ||
                  failure->reason == REASON_TIMED_OUT;

    while (no_way && news_of_tunnels(context, arena, &bad) != NULL)
        ;
    for (size_t side = 0; side < SIDES && no_way; side++)
        if (companion->tunnels[side] != NULL && tunnel_is_down(companion->tunnels[side], failure))
            return;
}

static int run(Companion *companion) {
    const SessionCompanion beside = {
        .context = companion, .prepare = open_tunnels, .news = news_of_tunnels, .explain = explain};
    int exit_code = session_run(&(SessionInput){
        .options = companion->options,
        .action = json_get_string(companion->start, "action", NULL),
        .job_id = json_get_string(companion->start, "migration", NULL),
        .folder = companion->folder,
        .name = json_get_string(companion->start, "name", ""),
        .run = json_get_int(companion->start, "run", 0),
        .more = json_get_object(companion->start, "more"),
        .companion = has_tunnels(companion) ? &beside : NULL,
    });

    for (size_t side = 0; side < SIDES; side++)
        tunnel_stopp(&companion->tunnels[side]);
    return exit_code;
}

int session_main(int argc, char **argv) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *start = NULL;
    MigrateOptions options;
    Error err;

    if (argc != 2) {
        error_set(&err, REASON_USAGE, "pgcrane session is started by pgcrane serve");
        return output_error(&err);
    }
    log_init(STDERR_FILENO, LOG_INFO);
    CLEANUP(private_files_freep) PrivateFiles *files = private_files_new(argv[1]);
    if (!receive_start(&start, &err) || !read_options(arena, argv[1], files, start, &options, &err))
        return output_error(&err);
    return run(&(Companion){.arena = arena, .folder = argv[1], .files = files, .start = start, .options = &options});
}
