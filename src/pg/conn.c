/*
 * Connections to PostgreSQL, opened with deadlines and one fixed list of session settings.
 *
 * Opening. libpq's blocking connect knows no stop flag, so PQconnectPoll is driven here. The price: its
 * connect_timeout, and with it the step from a host that does not answer to the next one of a list, is only in the
 * blocking variant. open_any_host() does that step: after a time-out it starts again with the hosts behind the silent
 * one. (A list with target_session_attrs=prefer-standby then loses its second round over the silent host's
 * predecessors.) getaddrinfo() inside PQconnectStartParams/PQconnectPoll blocks for as long as the resolver wants.
 *
 * Why a login failed. libpq 15 gives no SQLSTATE for it, and the server's text is in the server's language. But with
 * PQERRORS_VERBOSE the SQLSTATE stands in libpq's message, in all languages in the same form: "FATAL:  28P01: text".
 * It is cut out of there. Only where there is none (network, TLS, poolers that answer 08P01 to everything) fragments of
 * libpq's own English text decide; nothing in this program calls setlocale(), so libpq speaks English.
 */
#include "pg/conn.h"

#include "common/log.h"
#include "pg/conn_internal.h"
#include "pg/query.h"
#include "pg/quote.h"
#include "pg/sqlstate.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CONNECT_TIMEOUT_DEFAULT_US (10 * USEC_PER_SEC)
#define PAUSE_MIN_US (200 * USEC_PER_MSEC)
#define PAUSE_MAX_US (10 * USEC_PER_SEC)

#define SQLSTATE_READ_ONLY "25006"

enum { PARAMS_MAX = 80, SETTINGS_SQL_MAX = 8192 };

/* Used where the user says nothing: a dead peer is noticed after about a minute instead of hours. */
static const struct {
    const char *keyword;
    const char *value;
} param_defaults[] = {
    {"keepalives_idle", "30"},
    {"keepalives_interval", "10"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "60000"},
};

typedef struct Fragment {
    const char *text;
    const char *and_text; /* NULL or a second fragment that must be there, too */
    ErrorReason reason;
    bool retryable;
} Fragment;

/* In this order: "no pg_hba.conf entry ... SSL off" is no trouble with TLS. */
static const Fragment fragments[] = {
    {"no pg_hba.conf entry", NULL, REASON_LOGIN_REFUSED, false},
    {"authentication failed", NULL, REASON_LOGIN_REFUSED, false},
    {"no password supplied", NULL, REASON_LOGIN_REFUSED, false},
    {"database \"", "does not exist", REASON_NO_DATABASE, false},
    {"no such database", NULL, REASON_NO_DATABASE, false}, /* pgbouncer */
    {"role \"", "does not exist", REASON_LOGIN_REFUSED, false},
    {"no such user", NULL, REASON_LOGIN_REFUSED, false}, /* pgbouncer */
    {"too many c", NULL, REASON_SERVER_BUSY, true},      /* ...lients already, ...onnections for role */
    {"remaining connection slots", NULL, REASON_SERVER_BUSY, true},
    {"no more connections allowed", NULL, REASON_SERVER_BUSY, true}, /* pgbouncer */
    {"database system is ", NULL, REASON_SERVER_BUSY, true},         /* starting up, shutting down, in recovery mode */
    {"SSL SYSCALL error", NULL, REASON_UNREACHABLE, true}, /* the connection broke: the server went down meanwhile */
    {"SSL", NULL, REASON_TLS_FAILED, false},
    {"certificate", NULL, REASON_TLS_FAILED, false},
    {"private key file", NULL, REASON_TLS_FAILED, false},
    {"SCRAM", NULL, REASON_LOGIN_REFUSED, false},
    {"channel binding", NULL, REASON_LOGIN_REFUSED, false},
    {"server closed the connection", NULL, REASON_UNREACHABLE, true},
};

/* What one attempt works with. */
typedef struct Attempt {
    const DbTarget *target;
    const Stop *stop;
    const PQconninfoOption *options;
    const char *display;
    const char *application_name;
    const char *hosts, *hostaddrs, *ports; /* lists, or NULL */
    const char *session_options;           /* in the place of `options`, or NULL */
    int64_t timeout_us;
    bool answered; /* the server took the connection and we awaited its verdict */
} Attempt;

const char *db_side_name(DbSide side) {
    static const char *const names[] = {[DB_SOURCE] = "source", [DB_DEST] = "destination", [DB_STORE] = "store"};

    return names[side];
}

/* --- Why a login failed ------------------------------------------------------------------------------------------- */

static bool is_sqlstate(const char *text) {
    return strspn(text, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && strncmp(text + 5, ": ", 2) == 0;
}

/* Takes "28P01: " out of "...FATAL:  28P01: ..." (each one: there may be several hosts), keeps the last one. */
static void take_sqlstate(char *message, char ret_sqlstate[6]) {
    for (char *p = strstr(message, ":  "); p != NULL; p = strstr(p + 1, ":  ")) {
        if (!is_sqlstate(p + 3))
            continue;
        memcpy(ret_sqlstate, p + 3, 5);
        ret_sqlstate[5] = '\0';
        memmove(p + 2, p + 10, strlen(p + 10) + 1);
    }
}

/* One line, without the source file positions that PQERRORS_VERBOSE adds. */
static void tidy(char *message) {
    for (char *p; (p = strstr(message, "LOCATION:  ")) != NULL;) {
        const char *end = p + strcspn(p, "\n");
        memmove(p, end, strlen(end) + 1);
    }
    char *out = message;
    for (const char *in = message; *in != '\0'; in++) {
        bool blank = *in == '\n' || *in == '\t' || *in == ' ';
        if (!blank)
            *out++ = *in;
        else if (out > message && out[-1] != ' ')
            *out++ = ' ';
    }
    while (out > message && out[-1] == ' ')
        out--;
    *out = '\0';
}

static const Fragment *find_fragment(const char *message) {
    for (size_t i = 0; i < COUNT_OF(fragments); i++)
        if (strstr(message, fragments[i].text) != NULL &&
            (fragments[i].and_text == NULL || strstr(message, fragments[i].and_text) != NULL))
            return &fragments[i];
    return NULL;
}

static SqlstateInfo login_info(const Attempt *attempt, PGconn *pg, const char *message, const char *sqlstate) {
    SqlstateInfo info = {REASON_UNREACHABLE, true};
    const Fragment *fragment = find_fragment(message);

    if (sqlstate[0] != '\0' && strncmp(sqlstate, "08", 2) != 0)
        info = sqlstate_info(sqlstate);
    else if (fragment != NULL)
        info = (SqlstateInfo){fragment->reason, fragment->retryable};
    else if (PQconnectionNeedsPassword(pg) || (attempt->answered && PQconnectionUsedPassword(pg)))
        info = (SqlstateInfo){REASON_LOGIN_REFUSED, false};
    /* "Is not currently accepting connections" and bad `options`: the server does not want this login. */
    if (info.reason == REASON_SQL_FAILED)
        info.reason = REASON_LOGIN_REFUSED;
    return info;
}

static bool fail_login(const Attempt *attempt, PGconn *pg, Error *err) {
    char message[ERROR_MESSAGE_MAX];
    char sqlstate[6] = "";

    snprintf(message, sizeof(message), "%s", PQerrorMessage(pg));
    take_sqlstate(message, sqlstate);
    tidy(message);
    SqlstateInfo info = login_info(attempt, pg, message, sqlstate);
    error_set(err, info.reason, "cannot connect to the %s %s: %s", db_side_name(attempt->target->side),
              attempt->display, message);
    query_note_sqlstate(info, sqlstate, err);
    if (info.reason == REASON_NO_DATABASE && attempt->target->side == DB_SOURCE) /* an empty one would help nobody */
        return error_remedy(err,
                            "name one that is there; one that was dropped or renamed meanwhile: give it its name back "
                            "(ALTER DATABASE ... RENAME TO ...), or leave it out: a job of the service keeps "
                            "those that pgcrane jobs update JOB names, --database NAME for each");
    return false;
}

/* --- One connection ----------------------------------------------------------------------------------------------- */

static const char * override(const Attempt *attempt, const char *keyword, const char *value) {
    if (strcmp(keyword, "host") == 0)
        return attempt->hosts;
    if (strcmp(keyword, "hostaddr") == 0)
        return attempt->hostaddrs;
    if (strcmp(keyword, "port") == 0)
        return attempt->ports;
    if (strcmp(keyword, "application_name") == 0)
        return attempt->application_name;
    if (strcmp(keyword, "client_encoding") == 0)
        return "UTF8";
    if (strcmp(keyword, "options") == 0 && attempt->session_options != NULL)
        return attempt->session_options;
    if (strcmp(keyword, "dbname") == 0 && attempt->target->database != NULL)
        return attempt->target->database;
    for (size_t i = 0; i < COUNT_OF(param_defaults); i++)
        if (strcmp(keyword, param_defaults[i].keyword) == 0 && (value == NULL || value[0] == '\0'))
            return param_defaults[i].value;
    return value;
}

static PGconn *start(const Attempt *attempt) {
    const char *keywords[PARAMS_MAX + 1];
    const char *values[PARAMS_MAX + 1];
    size_t n = 0;

    for (const PQconninfoOption *o = attempt->options; o->keyword != NULL && n < PARAMS_MAX; o++) {
        const char *value = override(attempt, o->keyword, o->val);
        if (value == NULL || value[0] == '\0')
            continue;
        keywords[n] = o->keyword;
        values[n++] = value;
    }
    keywords[n] = NULL;
    values[n] = NULL;
    return PQconnectStartParams(keywords, values, 0);
}

static bool fail_timeout(const Attempt *attempt, Error *err) {
    return error_set(err, REASON_UNREACHABLE, "cannot connect to the %s %s: no answer within %lld seconds",
                     db_side_name(attempt->target->side), attempt->display,
                     (long long)(attempt->timeout_us / USEC_PER_SEC));
}

/* Drives the connection until it stands; *ret_timed_out = it failed for want of an answer. */
static bool drive(Attempt *attempt, PGconn *pg, bool *ret_timed_out, Error *err) {
    int64_t deadline = clock_now_us() + attempt->timeout_us;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (PQstatus(pg) != CONNECTION_BAD && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED) {
        short events = status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
        WaitResult waited = stop_wait_fd(attempt->stop, PQsocket(pg), events, deadline);
        if (waited == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while connecting to the %s",
                             db_side_name(attempt->target->side));
        if (waited == WAIT_TIMEOUT) {
            *ret_timed_out = true;
            return fail_timeout(attempt, err);
        }
        status = PQconnectPoll(pg);
        attempt->answered = attempt->answered || PQstatus(pg) == CONNECTION_AWAITING_RESPONSE;
    }
    return PQstatus(pg) == CONNECTION_OK || fail_login(attempt, pg, err);
}

static const char *next_item(const char *list) {
    const char *comma = list != NULL ? strchr(list, ',') : NULL;

    return comma != NULL ? comma + 1 : NULL;
}

static bool item_is(const char *list, const char *item) {
    size_t len = strcspn(list, ",");

    return item != NULL && strlen(item) == len && strncmp(list, item, len) == 0;
}

/* Drops the first host of the lists; false when it is the only one. A single port counts for all hosts. */
static bool drop_host(Attempt *attempt) {
    const char *hosts = next_item(attempt->hosts);
    const char *hostaddrs = next_item(attempt->hostaddrs);

    if (hosts == NULL && hostaddrs == NULL)
        return false;
    if (next_item(attempt->ports) != NULL)
        attempt->ports = next_item(attempt->ports);
    attempt->hosts = hosts;
    attempt->hostaddrs = hostaddrs;
    return true;
}

/* Drops all hosts up to the one that `pg` was waiting for. */
static bool drop_silent_host(Attempt *attempt, const char *silent) {
    for (;;) {
        const char *list = attempt->hosts != NULL ? attempt->hosts : attempt->hostaddrs;
        bool found = list == NULL || item_is(list, silent);
        if (!drop_host(attempt))
            return false;
        if (found)
            return true;
    }
}

static bool open_any_host(Attempt *attempt, PGconn **ret_pg, Error *err) {
    for (;;) {
        bool timed_out = false;
        PGconn *pg = start(attempt);
        if (pg == NULL)
            return error_set(err, REASON_SYSTEM, "out of memory");
        PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
        if (drive(attempt, pg, &timed_out, err)) {
            PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
            *ret_pg = pg;
            return true;
        }
        bool more = timed_out && drop_silent_host(attempt, PQhost(pg));
        PQfinish(pg);
        if (!more)
            return false;
    }
}

/* --- A session ---------------------------------------------------------------------------------------------------- */

static void take_notice(void *context, const char *message) {
    DbConn *conn = context;

    conn->notices++;
    log_debug("%s says: %.*s", db_side_name(conn->side), (int)strcspn(message, "\n"), message);
}

/* The name once more: a login trigger has run by now, and may have set another. Sessions are told apart by it, and
 * which of them a fence lets be. */
static bool set_up(DbConn *conn, const DbTarget *target, Error *err) {
    const char *optional = settings_optional(db_version(conn));
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Buf sql CLEANUP(buf_fini);

    buf_init(&sql, SETTINGS_SQL_MAX);
    settings_build(&sql, conn->side, db_version(conn), db_is_sql_ascii(conn));
    buf_printf(&sql, ", pg_catalog.set_config('application_name', %s, false)",
               sql_literal(arena, conn->application_name));
    if (!buf_ok(&sql, "the session settings", err) || !db_exec(conn, sql.data, err))
        return error_wrap(err, "session settings of the %s", db_side_name(conn->side));
    if (optional != NULL && !db_exec(conn, optional, err) && (conn->broken || err->reason == REASON_CANCELLED))
        return false;
    return target->extra_setup == NULL || db_exec(conn, target->extra_setup, err);
}

static bool open_session(Attempt *attempt, DbConn **ret_conn, Error *err) {
    PGconn *pg = NULL;

    if (!open_any_host(attempt, &pg, err))
        return false;
    DbConn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL || PQsetnonblocking(pg, 1) != 0) {
        free(conn);
        PQfinish(pg);
        return error_set(err, REASON_SYSTEM, "out of memory");
    }
    conn->pg = pg;
    conn->stop = attempt->stop;
    conn->side = attempt->target->side;
    (void)snprintf(conn->application_name, sizeof(conn->application_name), "%s", attempt->application_name);
    PQsetNoticeProcessor(pg, take_notice, conn);
    if (!set_up(conn, attempt->target, err)) {
        db_close(conn);
        return false;
    }
    *ret_conn = conn;
    return true;
}

static int64_t choose_timeout(const DbTarget *target, const PQconninfoOption *options) {
    const char *given = conninfo_get(options, "connect_timeout");
    long seconds = given != NULL ? strtol(given, NULL, 10) : 0;

    if (target->connect_timeout_us > 0)
        return target->connect_timeout_us;
    if (seconds > 0 && seconds < 24 * 3600)
        return MAX(seconds, 2) * USEC_PER_SEC; /* as libpq: never below 2 s */
    return CONNECT_TIMEOUT_DEFAULT_US;
}

/* A login trigger (17 on) that writes keeps everybody out of a database that a fence has made read-only: whoever has to
 * set that back, too. Only then: a pooler may not know `options`. */
static const char *writable_options(Arena *arena, const PQconninfoOption *options) {
    const char *given = conninfo_get(options, "options");

    return arena_printf(arena, "%s -c default_transaction_read_only=off", given != NULL ? given : "");
}

static void make_name(const char *job_id, const char *purpose, char ret_name[APPLICATION_NAME_MAX]) {
    (void)snprintf(ret_name, APPLICATION_NAME_MAX, "pgcrane %s %s", job_id != NULL ? job_id : "-", purpose);
}

static bool open_resolved(const DbTarget *target, const char *purpose, const Stop *stop,
                          const PQconninfoOption *options, Arena *arena, DbConn **ret_conn, Error *err) {
    char application_name[APPLICATION_NAME_MAX];

    make_name(target->job_id, purpose, application_name);
    const Attempt first = {
        .target = target,
        .stop = stop,
        .options = options,
        .display = conninfo_display(arena, options),
        .application_name = application_name,
        .hosts = conninfo_get(options, "host"),
        .hostaddrs = conninfo_get(options, "hostaddr"),
        .ports = conninfo_get(options, "port"),
        .timeout_us = choose_timeout(target, options),
    };
    Attempt attempt = first;

    if (open_session(&attempt, ret_conn, err))
        return true;
    if (strcmp(err->sqlstate, SQLSTATE_READ_ONLY) != 0)
        return false;
    attempt = first;
    attempt.session_options = writable_options(arena, options);
    return open_session(&attempt, ret_conn, err);
}

bool db_open(const DbTarget *target, const char *purpose, const Stop *stop, DbConn **ret_conn, Error *err) {
    Arena *arena CLEANUP(arena_freep) = arena_new();
    PQconninfoOption *options CLEANUP(conninfo_freep) = NULL;

    if (!conninfo_resolve(target->conninfo, &options, err))
        return error_wrap(err, "%s", db_side_name(target->side));
    return open_resolved(target, purpose, stop, options, arena, ret_conn, err);
}

/* Uniform in [low, high]. */
static int64_t random_between(int64_t low, int64_t high) {
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = (uint32_t)clock_now_us();
    return low + (int64_t)((double)(high - low) * (double)random / (double)UINT32_MAX);
}

/* Decorrelated jitter: each pause is drawn between the shortest one and three times the one before, so that lanes which
 * failed together do not come back together. */
bool db_open_patient(const DbTarget *target, const char *purpose, const Stop *stop, int64_t patience_us,
                     DbConn **ret_conn, Error *err) {
    int64_t deadline = clock_now_us() + patience_us;
    int64_t pause = PAUSE_MIN_US;

    for (;;) {
        if (db_open(target, purpose, stop, ret_conn, err))
            return true;
        int64_t now = clock_now_us();
        if (!err->retryable || now + pause >= deadline)
            return false;
        log_debug("trying again in %lld ms: %s", (long long)(pause / USEC_PER_MSEC), err->message);
        if (stop_wait_fd(stop, -1, 0, now + pause) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped while connecting to the %s", db_side_name(target->side));
        pause = MIN(PAUSE_MAX_US, random_between(PAUSE_MIN_US, pause * 3));
    }
}

void db_close(DbConn *conn) {
    if (conn == NULL)
        return;
    PQfinish(conn->pg);
    pipeline_free(conn->pipeline);
    free(conn);
}

void db_closep(DbConn **conn) {
    db_close(*conn);
    *conn = NULL;
}

bool db_is_sql_ascii(const DbConn *conn) {
    const char *encoding = PQparameterStatus(conn->pg, "server_encoding");

    return encoding != NULL && strcmp(encoding, "SQL_ASCII") == 0;
}

int db_version(const DbConn *conn) {
    return PQserverVersion(conn->pg);
}

int db_major(const DbConn *conn) {
    return db_version(conn) / 10000;
}

DbSide db_conn_side(const DbConn *conn) {
    return conn->side;
}

const char *db_name(const DbConn *conn) {
    return PQdb(conn->pg);
}

const char *db_user(const DbConn *conn) {
    return PQuser(conn->pg);
}

const char *db_application_name(const DbConn *conn) {
    return conn->application_name;
}

bool db_rename(DbConn *conn, const char *job_id, const char *purpose, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char name[APPLICATION_NAME_MAX];

    make_name(job_id, purpose, name);
    if (!db_execf(conn, err, "SET application_name = %s", sql_literal(arena, name)))
        return false;
    memcpy(conn->application_name, name, sizeof(name));
    return true;
}

int db_backend_pid(const DbConn *conn) {
    return PQbackendPID(conn->pg);
}

bool db_is_broken(const DbConn *conn) {
    return conn->broken || PQstatus(conn->pg) == CONNECTION_BAD;
}

int64_t db_warnings(const DbConn *conn) {
    return conn->notices;
}

void db_set_deadline(DbConn *conn, int64_t deadline_us) {
    conn->deadline_us = deadline_us;
}

const Stop *db_stop(const DbConn *conn) {
    return conn->stop;
}

void db_set_stop(DbConn *conn, const Stop *stop) {
    conn->stop = stop;
}

PGconn *db_pgconn(DbConn *conn) {
    return conn->pg;
}

int db_socket(const DbConn *conn) {
    return PQsocket(conn->pg);
}

/* --- Cancelling --------------------------------------------------------------------------------------------------- */

/* Throws COPY data away. True = all has come, false = wait for more. */
static bool discard_copy(DbConn *conn) {
    char *row = NULL;
    int n = 0;

    while ((n = PQgetCopyData(conn->pg, &row, 1)) > 0)
        PQfreemem(row);
    if (n == -2)
        conn->broken = true;
    return n < 0;
}

typedef struct Drain {
    bool wait; /* nothing more without waiting */
    bool failed;
    Error *err; /* NULL or where the first failure goes */
} Drain;

/* Takes one result. True = more may come, false = idle. */
static bool drain_step(DbConn *conn, Drain *drain) {
    drain->wait = PQisBusy(conn->pg) != 0;
    if (drain->wait)
        return true;

    PGresult *result = PQgetResult(conn->pg);
    ExecStatusType status = PQresultStatus(result);
    if (result == NULL)
        return false;
    if (status == PGRES_COPY_IN)
        drain->wait = PQputCopyEnd(conn->pg, "given up by pgcrane") != 1;
    else if (status == PGRES_COPY_OUT)
        drain->wait = !discard_copy(conn);
    else if (status == PGRES_FATAL_ERROR && !drain->failed && drain->err != NULL)
        query_fail_result(conn, result, drain->err);
    drain->failed = drain->failed || status == PGRES_FATAL_ERROR;
    PQclear(result);
    return true;
}

static bool drain_wait(DbConn *conn, bool unsent, int64_t deadline) {
    short events = (short)(POLLIN | (unsent ? POLLOUT : 0));

    if (PQsocket(conn->pg) < 0 || stop_wait_fd(NULL, PQsocket(conn->pg), events, deadline) != WAIT_READY)
        return false;
    return PQconsumeInput(conn->pg) || !PQisBusy(conn->pg);
}

bool conn_drain(DbConn *conn, Error *err) {
    int64_t deadline = clock_now_us() + DRAIN_TIMEOUT_US;
    Drain drain = {.err = err};

    while (drain_step(conn, &drain)) {
        bool unsent = PQflush(conn->pg) == 1;
        if (drain.wait && !drain_wait(conn, unsent, deadline))
            conn->broken = true;
        if (conn->broken && (drain.wait || drain.failed))
            break;
    }
    return drain.failed;
}

void db_cancel(DbConn *conn) {
    if (db_is_broken(conn) || PQtransactionStatus(conn->pg) != PQTRANS_ACTIVE)
        return;
    if (!cancel_send(PQgetCancel(conn->pg))) {
        log_debug("%s: the cancel request failed or took too long", db_side_name(conn->side));
        /* The network is as dead for our session. */
        conn->broken = true;
        return;
    }
    conn_drain(conn, NULL);
}
