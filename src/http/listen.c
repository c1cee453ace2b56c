/* Addresses to listen on. */
#include "http/internal.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, PAUSE_US = 200 * 1000, ADDRESSES_MAX = 8 };

/* --- accepting --- */

static void on_accept(struct evconnlistener *evlistener, evutil_socket_t fd, struct sockaddr *peer, int len,
                      void *context) {
    const Listener *listener = context;
    (void)evlistener;
    (void)len;
    server_accept(listener->server, fd, peer, listener->server->tls != NULL && listener->unix_path == NULL);
}

static void go_on(void *context) {
    Listener *listener = context;

    loop_timer_freep(&listener->pause);
    evconnlistener_enable(listener->listener);
}

/* Mostly that descriptors ran out: the connection stays in the kernel's queue, and would be told again at once. */
static void on_accept_error(struct evconnlistener *evlistener, void *context) {
    Listener *listener = context;

    log_warning("cannot accept a connection on %s: %s", listener->address, strerror(errno));
    evconnlistener_disable(evlistener);
    if (listener->pause == NULL)
        listener->pause = loop_after(listener->server->loop, PAUSE_US, go_on, listener);
}

static bool add_listener(HttpServer *server, int *fd, const char *address, const char *unix_path, Error *err) {
    Listener *listener = &server->listeners[server->listeners_count];

    *listener = (Listener){.server = server, .address = address, .unix_path = unix_path};
    listener->listener = evconnlistener_new(loop_base(server->loop), on_accept, listener,
                                            LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG, *fd);
    if (listener->listener == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s", address);
    *fd = -1;
    evconnlistener_set_error_cb(listener->listener, on_accept_error);
    server->listeners_count++;
    return true;
}

/* --- unix sockets --- */

/* A socket that nobody listens on was left by a server that died. */
static void remove_stale(const struct sockaddr_un *name) {
    struct stat st;
    CLEANUP(fd_close) int fd = -1;

    if (lstat(name->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)name, sizeof(*name)) < 0 && errno == ECONNREFUSED)
        unlink(name->sun_path);
}

static bool listen_unix(HttpServer *server, const char *path, Error *err) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(name.sun_path))
        return error_set(err, REASON_USAGE, "the path of socket %s is too long", path);
    memcpy(name.sun_path, path, strlen(path));
    remove_stale(&name);
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&name, sizeof(name)) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s", path);
    /* Nobody can connect before listen(2): the mode is in time. */
    if (chmod(path, 0660) < 0 || !add_listener(server, &fd, path, path, err)) {
        unlink(path);
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s", path); /* uncovered: the path was just made */
    }
    return true;
}

/* --- TCP --- */

static const char *bound_address(Arena *arena, int fd) {
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof(name);

    getsockname(fd, (struct sockaddr *)&name, &len);
    PeerAddress address = peer_address((const struct sockaddr *)&name);
    return peer_print(arena, &address);
}

static bool listen_info(HttpServer *server, const char *text, const struct addrinfo *info, Error *err) {
    int on = 1;
    CLEANUP(fd_close) int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)); /* 0.0.0.0 is an address of its own */
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0)
        return error_errno(err, REASON_SYSTEM, "cannot listen on %s", text);
    return add_listener(server, &fd, bound_address(server->arena, fd), NULL, err);
}

static void free_infos(struct addrinfo **infos) {
    if (*infos != NULL)
        freeaddrinfo(*infos);
}

/* "host", "*" or "" and "port" from HOST:PORT or [IPV6]:PORT. */
static bool split(Arena *arena, const char *text, char **ret_host, char **ret_port) {
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || strtol(colon + 1, NULL, 10) > UINT16_MAX)
        return false;
    char *host = arena_strndup(arena, text, (size_t)(colon - text));
    size_t len = strlen(host);
    bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (!bracketed && strchr(host, ':') != NULL)
        return false;
    *ret_host = bracketed ? arena_strndup(arena, host + 1, len - 2) : host;
    *ret_port = arena_strdup(arena, colon + 1);
    return true;
}

/* Of a name with several addresses all are taken; with port 0 the first, since they would get ports that differ. */
static bool listen_tcp(HttpServer *server, const char *text, Error *err) {
    char *host, *port;
    CLEANUP(free_infos) struct addrinfo *infos = NULL;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};

    if (!split(server->arena, text, &host, &port))
        return error_set(err, REASON_USAGE, "\"%s\" is no address to listen on: HOST:PORT, [IPV6]:PORT or a path",
                         text);
    bool any = *host == '\0' || strcmp(host, "*") == 0;
    int why = getaddrinfo(any ? NULL : host, port, &hints, &infos);
    if (why != 0)
        return error_set(err, REASON_USAGE, "cannot listen on %s: %s", text, gai_strerror(why));
    size_t first = server->listeners_count;
    bool one = strtol(port, NULL, 10) == 0, ok = true;
    for (const struct addrinfo *info = infos; info != NULL; info = info->ai_next) {
        if (server->listeners_count - first == ADDRESSES_MAX || (one && server->listeners_count > first))
            break;
        ok = listen_info(server, text, info, err);
        /* A machine without IPv6 listens on what it has. */
        if (!ok && !(any && info->ai_family == AF_INET6))
            return false;
    }
    return server->listeners_count > first || ok;
}

bool listen_all(HttpServer *server, Error *err) {
    const HttpConfig *config = &server->config;

    server->listeners = arena_array(server->arena, Listener, config->listen_count * ADDRESSES_MAX + 1);
    for (size_t i = 0; i < config->listen_count; i++) {
        const char *text = config->listen[i];
        if (!(text[0] == '/' ? listen_unix(server, text, err) : listen_tcp(server, text, err)))
            return false;
    }
    return true;
}

void listen_end(HttpServer *server) {
    for (size_t i = 0; i < server->listeners_count; i++) {
        Listener *listener = &server->listeners[i];
        loop_timer_freep(&listener->pause);
        if (listener->listener == NULL)
            continue;
        evconnlistener_free(listener->listener);
        listener->listener = NULL;
        if (listener->unix_path != NULL)
            unlink(listener->unix_path);
    }
}

const char *http_server_address(const HttpServer *server, size_t index) {
    return index < server->listeners_count ? server->listeners[index].address : NULL;
}
