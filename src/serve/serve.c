/*
 * The daemon.
 *
 * Threads: the loop's (this one), those of the HTTP server, which run the API's handlers, the API's watch of the store,
 * the supervisor's, which carries out what the API is asked for, and one for what is done every few minutes. The loop's
 * thread never waits for the store once it serves.
 */
#include "serve/serve.h"

#include "api/api.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/taskpool.h"
#include "http/server.h"
#include "jobs/operation.h"
#include "secrets/auth.h"
#include "serve/files.h"
#include "serve/gate.h"
#include "serve/notify.h"
#include "supervise/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { HANDLERS = API_WAITING_MAX + 4, BODY_MAX = 512 * 1024 };
static const int64_t stop_timeout_us = 10 * USEC_PER_SEC, tidy_us = 300 * USEC_PER_SEC;
static const int64_t audit_kept_us = INT64_C(400) * 24 * 3600 * USEC_PER_SEC;

typedef struct Serve {
    const MigrateOptions *options;
    Arena *arena;
    Stop stop; /* of the store's waits */
    Store *store;
    Secrets *secrets;
    AuthGuard *guard;
    Gate gate;
    Vault vault;
    Loop *loop;
    Api *api;
    HttpServer *server;
    Supervisor *supervisor;
    TaskPool *pool;
    LoopTimer *timer, *watchdog;
    LoopWatch *signals;
    int signal_fd;
    bool stopping;
} Serve;

/* ---- Where ---- */

/* "[::1]:8432" and "localhost:8432" are loopback; ":8432" is every address. */
static bool is_of_this_machine(const char *listen) {
    return listen[0] == '/' || auth_is_loopback(listen);
}

static bool check_listen(const MigrateOptions *options, Error *err) {
    bool has_cert = options->tls_cert != NULL, has_key = options->tls_key != NULL;

    if (has_cert != has_key) {
        error_set(err, REASON_USAGE, "--tls-cert and --tls-key belong together");
        return error_remedy(err, "give both, or neither");
    }
    if (has_cert || is_of_this_machine(options->listen))
        return true;
    error_set(err, REASON_USAGE, "--listen %s: an address that others reach takes TLS", options->listen);
    return error_remedy(err, "give --tls-cert and --tls-key; or listen on 127.0.0.1, or a unix socket, and reach it "
                             "through ssh -L");
}

static bool open_store(Serve *serve, Error *err) {
    StoreConfig config;

    if (!service_store_config(serve->arena, serve->options, &config, err))
        return false;
    config.stop = &serve->stop;
    if (!store_open(&config, &serve->store, err))
        return error_wrap(err, "the store");
    if (!service_open_secrets(serve->arena, serve->store, serve->options, &serve->secrets, err))
        return error_wrap(err, "the keys of the store");
    serve->guard = auth_guard_new();
    serve->gate = (Gate){.store = serve->store,
                         .secrets = serve->secrets,
                         .guard = serve->guard,
                         .loopback_only = is_of_this_machine(serve->options->listen)};
    serve->vault = gate_vault(&serve->gate);
    return true;
}

/* ---- Every few minutes ---- */

static bool prune(StoreTx *tx, void *context UNUSED, Error *err) {
    int64_t operations = 0, audits = 0;

    return store_operation_prune(tx, OPERATION_KEPT_US, &operations, err) &&
           store_audit_prune(tx, audit_kept_us, &audits, err);
}

static void tidy(void *context) {
    Serve *serve = context;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Error err;

    if (!store_write(serve->store, arena, prune, NULL, &err) || !store_tidy(serve->store, &err))
        log_error_value(LOG_WARNING, &err); /* the next time will do */
}

static void on_timer(void *context) {
    Serve *serve = context;

    if (!taskpool_submit(serve->pool, tidy, serve))
        log_warning("the store is not tidied up: the time before is still at it");
}

/* ---- Signals ---- */

static void on_stopped(void *context) {
    const Serve *serve = context;

    loop_quit(serve->loop);
}

static void on_signal(void *context, int fd, short events UNUSED) {
    Serve *serve = context;
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (serve->stopping) {
        loop_quit(serve->loop);
        return;
    }
    serve->stopping = true;
    log_info("%s: stopping", strsignal((int)info.ssi_signo));
    notify_systemd("STOPPING=1");
    api_stop(serve->api);
    http_server_stop(serve->server);
}

/* Before any other thread is there, so that all of them have the signals blocked. */
static bool take_signals(Serve *serve, Error *err) {
    static const int stopping[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t at = 0; at < COUNT_OF(stopping); at++)
        (void)sigaddset(&set, stopping[at]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of the write */
    (void)signal(SIGXFSZ, SIG_IGN); /* so is a store that is as large as files may be */
    serve->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return serve->signal_fd >= 0 || error_errno(err, REASON_SYSTEM, "signalfd");
}

/* Each connection is a descriptor. */
static void raise_descriptors(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warning("the limit of open files stays as it is: %s", strerror(errno));
}

/* ---- The server ---- */

static void on_access(void *context UNUSED, const HttpAccess *access) {
    LogLevel level = access->status >= 500 && access->status != 501 ? LOG_WARNING : LOG_DEBUG;

    log_write(level, "%s %s %s %d %zu bytes %.3f ms", access->peer, http_method_name(access->method), access->target,
              access->status, access->body_out, (double)access->duration_us / 1000.0);
}

/* As long as this thread comes to it: one that hangs is ended, and the unit begins anew. */
static void on_watchdog(void *context UNUSED) {
    notify_systemd("WATCHDOG=1");
}

static void begin_watchdog(Serve *serve) {
    int64_t limit_us = notify_watchdog_us();

    if (limit_us > 0)
        serve->watchdog = loop_every(serve->loop, MAX(limit_us / 3, 1), on_watchdog, serve);
}

static void on_request(void *context, HttpRequest *request, HttpResponse *response) {
    const Serve *serve = context;

    api_handle(serve->api, request, response);
}

static bool begin_api(Serve *serve, Error *err) {
    const ApiConfig config = {.store = serve->store, .vault = &serve->vault, .access = gate_access(&serve->gate)};

    return api_new(&config, &serve->api, err);
}

static bool begin_server(Serve *serve, Error *err) {
    HttpConfig config = {.listen = &serve->options->listen,
                         .listen_count = 1,
                         .tls_cert_file = serve->options->tls_cert,
                         .tls_key_file = serve->options->tls_key,
                         .limits = http_limits_default(),
                         .threads = HANDLERS,
                         .handler = on_request,
                         .on_access = on_access,
                         .on_stopped = on_stopped,
                         .context = serve,
                         .stop_timeout_us = stop_timeout_us};

    config.limits.body_bytes = BODY_MAX;
    return http_server_new(serve->loop, &config, &serve->server, err);
}

static bool begin_supervisor(Serve *serve, Error *err) {
    const SupervisorConfig config = {.store = serve->store,
                                     .secrets = serve->secrets,
                                     .state_dir = serve->options->state_dir,
                                     .address = serve->options->listen,
                                     .instance_user = serve->options->instance_user,
                                     .allow_hooks = serve->options->allow_hooks};

    return serve->options->api_only || supervisor_new(&config, &serve->supervisor, err);
}

static bool run(Serve *serve, Error *err) {
    if (!taskpool_new("tidy", 1, 1, &serve->pool, err) || !loop_new(&serve->loop, err) || !begin_api(serve, err) ||
        !begin_server(serve, err) || !begin_supervisor(serve, err))
        return false;
    serve->signals = loop_watch(serve->loop, serve->signal_fd, POLLIN, on_signal, serve);
    serve->timer = loop_every(serve->loop, tidy_us, on_timer, serve);
    for (size_t at = 0; http_server_address(serve->server, at) != NULL; at++)
        log_info("listening on %s", http_server_address(serve->server, at));
    begin_watchdog(serve);
    notify_systemd("READY=1");
    return loop_run(serve->loop, err);
}

/* In this order: streams are closed by the server, then the API forgets them, then the loop goes. */
static void end(Serve *serve) {
    supervisor_freep(&serve->supervisor); /* it gives its leases back: the store still answers */
    stop_request(&serve->stop);
    loop_timer_freep(&serve->timer);
    loop_timer_freep(&serve->watchdog);
    loop_watch_freep(&serve->signals);
    if (serve->api != NULL)
        api_stop(serve->api);
    http_server_freep(&serve->server);
    api_freep(&serve->api);
    loop_freep(&serve->loop);
    taskpool_freep(&serve->pool);
    auth_guard_freep(&serve->guard);
    secrets_freep(&serve->secrets);
    store_closep(&serve->store);
    if (serve->signal_fd >= 0)
        (void)close(serve->signal_fd);
    stop_fini(&serve->stop);
}

bool serve_run(const MigrateOptions *options, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Serve serve = {.options = options, .arena = arena, .signal_fd = -1};

    if (!check_listen(options, err) || !stop_init(&serve.stop, err))
        return false;
    raise_descriptors();
    bool ok = take_signals(&serve, err) && open_store(&serve, err) && run(&serve, err);
    end(&serve);
    if (ok)
        log_info("stopped");
    return ok;
}
