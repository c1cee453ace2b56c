/* A libpq that plays a script: see fake_pq.h. */
#include "support/fake_pq.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* The linker gives each of libpq's functions two new names: ours is called, the real one stays reachable. */
#define WRAP(type, name, ...)                                                                                          \
    type __real_##name(__VA_ARGS__);                                                                                   \
    type __wrap_##name(__VA_ARGS__);                                                                                   \
    type __wrap_##name(__VA_ARGS__)

enum { FAKES_MAX = 16, RESULTS_MAX = 64, FAKE_COLUMNS_MAX = 24 };
enum Phase { PHASE_IDLE, PHASE_HANG, PHASE_RESULT, PHASE_COPY_OUT, PHASE_COPY_IN, PHASE_END };

static FakeConn *fakes[FAKES_MAX];
static int n_fakes;
static int n_started; /* of those: handed out */

/* What a PGresult made here says, beside what libpq lets us put into it. */
static struct {
    const PGresult *result;
    FakeReply reply;
    bool failed;
} results[RESULTS_MAX];

static FakeConn *fake_of(const PGconn *pg) {
    for (int i = 0; i < n_fakes; i++)
        if ((const void *)fakes[i] == (const void *)pg)
            return fakes[i];
    return NULL;
}

void fake_pq_reset(void) {
    for (int i = 0; i < n_fakes; i++) {
        close(fakes[i]->sockets[0]);
        close(fakes[i]->sockets[1]);
        free(fakes[i]);
    }
    n_fakes = 0;
    n_started = 0;
    memset(results, 0, sizeof(results));
}

FakeConn *fake_conn_new(void) {
    FakeConn *fake = calloc(1, sizeof(*fake));

    assert_non_null(fake);
    assert_true(n_fakes < FAKES_MAX);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fake->sockets), 0);
    fake->server_encoding = "UTF8";
    fake->version = 150020;
    fake->host = "fake";
    fake->error = "";
    fakes[n_fakes++] = fake;
    return fake;
}

void fake_conn_expect(FakeConn *fake, FakeReply reply) {
    assert_true(fake->n_replies < FAKE_REPLIES_MAX);
    fake->replies[fake->n_replies++] = reply;
}

unsigned long fake_checksum(unsigned long sum, const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + (unsigned char)bytes[i];
    return sum;
}

static void make_readable(FakeConn *fake) {
    assert_int_equal(write(fake->sockets[1], "x", 1), 1);
}

static void fill(FakeConn *fake) {
    char bytes[4096] = {0};

    while (write(fake->sockets[0], bytes, sizeof(bytes)) > 0)
        ;
}

static void will_wait(FakeConn *fake) {
    if (fake->stop_when_waiting != NULL)
        stop_request(fake->stop_when_waiting);
}

static void lose(FakeConn *fake) {
    fake->bad = true;
    fake->error = "server closed the connection unexpectedly\n\tThis probably means the server terminated.\n";
}

/* --- Login -------------------------------------------------------------------------------------------------------- */

WRAP(PGconn *, PQconnectStartParams, const char *const *keywords, const char *const *values, int expand_dbname) {
    if (expand_dbname || n_started == n_fakes)
        return __real_PQconnectStartParams(keywords, values, expand_dbname);

    FakeConn *fake = fakes[n_started++];
    for (size_t i = 0, len = 0; keywords[i] != NULL && len < sizeof(fake->params); i++)
        len += (size_t)snprintf(fake->params + len, sizeof(fake->params) - len, "%s=%s;", keywords[i], values[i]);
    return (PGconn *)(void *)fake;
}

WRAP(PostgresPollingStatusType, PQconnectPoll, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQconnectPoll(pg);
    if (fake->login_silent)
        return PGRES_POLLING_READING;
    if (fake->login_error != NULL) {
        fake->bad = true;
        fake->error = fake->login_error;
        return PGRES_POLLING_FAILED;
    }
    fake->logged_in = true;
    return PGRES_POLLING_OK;
}

WRAP(ConnStatusType, PQstatus, const PGconn *pg) {
    const FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQstatus(pg);
    if (fake->bad)
        return CONNECTION_BAD;
    return fake->logged_in ? CONNECTION_OK : CONNECTION_AWAITING_RESPONSE;
}

WRAP(char *, PQerrorMessage, const PGconn *pg) {
    const FakeConn *fake = fake_of(pg);
    static char message[1024];

    if (fake == NULL)
        return __real_PQerrorMessage(pg);
    snprintf(message, sizeof(message), "%s", fake->error);
    return message;
}

WRAP(int, PQsocket, const PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQsocket(pg);
    if (fake->bad)
        return -1;
    if (!fake->logged_in && fake->login_silent)
        will_wait(fake);
    return fake->sockets[0];
}

WRAP(void, PQfinish, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        __real_PQfinish(pg);
    else
        fake->finished = true;
}

#define ANSWER(type, name, value)                                                                                      \
    WRAP(type, name, const PGconn *pg) {                                                                               \
        FakeConn *fake = fake_of(pg);                                                                                  \
        return fake != NULL ? (value) : __real_##name(pg);                                                             \
    }

static char text_database[] = "fakedb";
static char text_user[] = "fakeuser";

ANSWER(char *, PQdb, text_database)
ANSWER(char *, PQuser, text_user)
ANSWER(int, PQserverVersion, fake->version)
ANSWER(int, PQbackendPID, 4711)
ANSWER(int, PQconnectionNeedsPassword, fake->needs_password)
ANSWER(int, PQconnectionUsedPassword, fake->used_password)

WRAP(char *, PQhost, const PGconn *pg) {
    static char host[128];
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQhost(pg);
    snprintf(host, sizeof(host), "%s", fake->host);
    return host;
}

WRAP(const char *, PQparameterStatus, const PGconn *pg, const char *name) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQparameterStatus(pg, name);
    return strcmp(name, "server_encoding") == 0 ? fake->server_encoding : NULL;
}

WRAP(int, PQsetnonblocking, PGconn *pg, int on) {
    return fake_of(pg) != NULL ? 0 : __real_PQsetnonblocking(pg, on);
}

WRAP(PGVerbosity, PQsetErrorVerbosity, PGconn *pg, PGVerbosity verbosity) {
    return fake_of(pg) != NULL ? PQERRORS_DEFAULT : __real_PQsetErrorVerbosity(pg, verbosity);
}

WRAP(PQnoticeProcessor, PQsetNoticeProcessor, PGconn *pg, PQnoticeProcessor func, void *context) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQsetNoticeProcessor(pg, func, context);
    fake->notice_func = func;
    fake->notice_context = context;
    return NULL;
}

WRAP(PGTransactionStatusType, PQtransactionStatus, const PGconn *pg) {
    const FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQtransactionStatus(pg);
    if (fake->bad)
        return PQTRANS_UNKNOWN;
    if (fake->phase != PHASE_IDLE)
        return PQTRANS_ACTIVE;
    return fake->in_transaction ? PQTRANS_INTRANS : PQTRANS_IDLE;
}

/* --- Statements --------------------------------------------------------------------------------------------------- */

static int begin_statement(FakeConn *fake, const char *sql) {
    if (fake->bad)
        return 0;
    assert_int_equal(fake->phase, PHASE_IDLE);
    snprintf(fake->sql, sizeof(fake->sql), "%s", sql);
    fake->statements++;
    fake->reply = (FakeReply){0};
    if (fake->next_reply < fake->n_replies)
        fake->reply = fake->replies[fake->next_reply++];
    if (fake->reply.sql_has != NULL && strstr(sql, fake->reply.sql_has) == NULL)
        fail_msg("expected a statement with \"%s\", got: %s", fake->reply.sql_has, sql);

    bool fails_at_once = fake->reply.sqlstate != NULL && fake->reply.n_rows == 0 && fake->reply.speaks_after == 0 &&
                         !fake->reply.fails_late;
    fake->row = 0;
    fake->single_row = false;
    if (fake->reply.kind == FAKE_ROWS && (fake->reply.hangs || fake->reply.loses))
        fake->phase = PHASE_HANG;
    else if ((fake->reply.kind == FAKE_COPY_OUT || fake->reply.kind == FAKE_COPY_BOTH) && !fails_at_once)
        fake->phase = PHASE_COPY_OUT;
    else if (fake->reply.kind == FAKE_COPY_IN && !fails_at_once)
        fake->phase = PHASE_COPY_IN;
    else
        fake->phase = PHASE_RESULT;
    return 1;
}

WRAP(int, PQsendQuery, PGconn *pg, const char *sql) {
    FakeConn *fake = fake_of(pg);

    return fake == NULL ? __real_PQsendQuery(pg, sql) : begin_statement(fake, sql);
}

WRAP(int, PQsendQueryParams, PGconn *pg, const char *sql, int n, const Oid *types, const char *const *values,
     const int *lengths, const int *formats, int format) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQsendQueryParams(pg, sql, n, types, values, lengths, formats, format);
    return begin_statement(fake, sql);
}

WRAP(int, PQsetSingleRowMode, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQsetSingleRowMode(pg);
    fake->single_row = true;
    return 1;
}

WRAP(int, PQflush, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQflush(pg);
    if (fake->flush_fails) {
        lose(fake);
        return -1;
    }
    if (fake->never_writable) {
        fill(fake);
        will_wait(fake);
        return 1;
    }
    return fake->flush_unsent > 0 ? (fake->flush_unsent--, 1) : 0;
}

WRAP(int, PQconsumeInput, PGconn *pg) {
    FakeConn *fake = fake_of(pg);
    char bytes[64];

    if (fake == NULL)
        return __real_PQconsumeInput(pg);
    while (read(fake->sockets[0], bytes, sizeof(bytes)) > 0)
        ;
    if (fake->reply.loses && (fake->phase == PHASE_HANG || fake->phase == PHASE_COPY_OUT))
        lose(fake);
    for (; fake->phase == PHASE_COPY_IN && fake->notices > 0; fake->notices--)
        fake->notice_func(fake->notice_context, "WARNING:  beware\n");
    return !fake->bad;
}

WRAP(int, PQisBusy, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQisBusy(pg);
    if (fake->phase != PHASE_HANG)
        return 0;
    if (fake->reply.loses && !fake->bad)
        make_readable(fake);
    else
        will_wait(fake);
    return 1;
}

/* --- Results ------------------------------------------------------------------------------------------------------ */

static PGresult *remember(PGresult *result, const FakeReply *reply, bool failed) {
    for (int i = 0; i < RESULTS_MAX; i++) {
        if (results[i].result != NULL)
            continue;
        results[i].result = result;
        results[i].reply = *reply;
        results[i].failed = failed;
        return result;
    }
    fail_msg("more than %d results at a time", RESULTS_MAX);
    return result;
}

static PGresult *make_result(const FakeConn *fake, ExecStatusType status, int first_row, int n_rows) {
    PGresult *result = PQmakeEmptyPGresult(NULL, status);
    PGresAttDesc columns[FAKE_COLUMNS_MAX] = {0};

    assert_true(fake->reply.n_columns <= FAKE_COLUMNS_MAX);
    for (int i = 0; i < fake->reply.n_columns; i++)
        columns[i] = (PGresAttDesc){.name = text_user, .typid = 25, .typlen = -1, .atttypmod = -1};
    if (n_rows > 0 || fake->reply.n_columns > 0)
        PQsetResultAttrs(result, fake->reply.n_columns, columns);
    for (int row = 0; row < n_rows; row++)
        for (int column = 0; column < fake->reply.n_columns; column++) {
            const char *value = fake->reply.values[(first_row + row) * fake->reply.n_columns + column];
            char *copy = value != NULL ? strdup(value) : NULL;
            PQsetvalue(result, row, column, copy, value != NULL ? (int)strlen(value) : -1);
            free(copy);
        }
    return remember(result, &fake->reply, status == PGRES_FATAL_ERROR);
}

static PGresult *final_result(FakeConn *fake) {
    fake->phase = PHASE_END;
    if (fake->reply.sqlstate != NULL) {
        if (fake->reply.severity != NULL)
            lose(fake);
        return make_result(fake, PGRES_FATAL_ERROR, 0, 0);
    }
    if (fake->reply.kind != FAKE_ROWS || fake->reply.n_columns == 0)
        return make_result(fake, PGRES_COMMAND_OK, 0, 0);
    return make_result(fake, PGRES_TUPLES_OK, 0, fake->single_row ? 0 : fake->reply.n_rows);
}

WRAP(PGresult *, PQgetResult, PGconn *pg) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQgetResult(pg);
    if (fake->bad && (fake->phase == PHASE_COPY_OUT || fake->phase == PHASE_COPY_IN)) {
        fake->phase = PHASE_END; /* libpq makes up a failure without SQLSTATE */
        return PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR);
    }
    if (fake->phase == PHASE_COPY_OUT && fake->reply.kind == FAKE_COPY_BOTH && fake->copy_ends == 0)
        return make_result(fake, PGRES_COPY_BOTH, 0, 0);
    if (fake->phase == PHASE_COPY_OUT)
        return make_result(fake, PGRES_COPY_OUT, 0, 0);
    if (fake->phase == PHASE_COPY_IN)
        return make_result(fake, PGRES_COPY_IN, 0, 0);
    if (fake->phase == PHASE_RESULT && fake->single_row && fake->row < fake->reply.n_rows)
        return make_result(fake, PGRES_SINGLE_TUPLE, fake->row++, 1);
    if (fake->phase == PHASE_RESULT)
        return final_result(fake);
    fake->phase = PHASE_IDLE;
    return NULL;
}

WRAP(void, PQclear, PGresult *result) {
    for (int i = 0; result != NULL && i < RESULTS_MAX; i++)
        if (results[i].result == result)
            results[i].result = NULL;
    __real_PQclear(result);
}

static const char *error_field(const FakeReply *reply, int field) {
    switch (field) {
    case PG_DIAG_SQLSTATE:
        return reply->sqlstate;
    case PG_DIAG_MESSAGE_PRIMARY:
        return reply->message != NULL ? reply->message : "scripted failure";
    case PG_DIAG_MESSAGE_DETAIL:
        return reply->detail;
    case PG_DIAG_CONTEXT:
        return reply->context;
    case PG_DIAG_SEVERITY_NONLOCALIZED:
        return reply->severity != NULL ? reply->severity : "ERROR";
    default:
        return NULL;
    }
}

WRAP(char *, PQresultErrorField, const PGresult *result, int field) {
    static char text[8][2048];
    static int next;

    for (int i = 0; i < RESULTS_MAX; i++) {
        if (results[i].result != result || !results[i].failed)
            continue;
        const char *value = error_field(&results[i].reply, field);
        next = (next + 1) % 8;
        snprintf(text[next], sizeof(text[next]), "%s", value != NULL ? value : "");
        return value != NULL ? text[next] : NULL;
    }
    return __real_PQresultErrorField(result, field);
}

WRAP(char *, PQcmdTuples, PGresult *result) {
    static char tuples[32];

    for (int i = 0; i < RESULTS_MAX; i++)
        if (results[i].result == result && results[i].reply.tuples != NULL) {
            snprintf(tuples, sizeof(tuples), "%s", results[i].reply.tuples);
            return tuples;
        }
    return __real_PQcmdTuples(result);
}

/* --- COPY --------------------------------------------------------------------------------------------------------- */

static int give_row(char **buffer, const char *bytes, size_t len) {
    *buffer = malloc(len + 1);
    assert_non_null(*buffer);
    if (bytes != NULL)
        memcpy(*buffer, bytes, len);
    else
        memset(*buffer, 'b', len);
    (*buffer)[len] = '\0';
    return (int)len;
}

WRAP(int, PQgetCopyData, PGconn *pg, char **buffer, int async) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQgetCopyData(pg, buffer, async);
    if (fake->phase != PHASE_COPY_OUT)
        return -2;
    fake->gap = !fake->gap; /* each row arrives in two packets */
    if (fake->gap && fake->row < fake->reply.n_rows) {
        make_readable(fake);
        return 0;
    }
    if (fake->row < fake->reply.n_rows) {
        const char *row = fake->reply.values[fake->row];
        size_t len = fake->reply.lengths != NULL ? fake->reply.lengths[fake->row] : strlen(row);
        fake->row++;
        return give_row(buffer, row, len);
    }
    if (fake->row == fake->reply.n_rows && fake->reply.big_row > 0) {
        fake->row++;
        return give_row(buffer, NULL, fake->reply.big_row);
    }
    if (fake->reply.garbage)
        return -2;
    if (fake->reply.loses) {
        make_readable(fake);
        return 0;
    }
    if (fake->reply.hangs) {
        will_wait(fake);
        return 0;
    }
    fake->phase = PHASE_RESULT;
    return -1;
}

WRAP(int, PQputCopyData, PGconn *pg, const char *bytes, int len) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQputCopyData(pg, bytes, len);
    if (fake->reply.kind != FAKE_COPY_BOTH)
        assert_int_equal(fake->phase, PHASE_COPY_IN);
    if (fake->put_fails) {
        lose(fake);
        return -1;
    }
    if (fake->put_no_room > 0) {
        fake->put_no_room--;
        return 0;
    }
    size_t before = fake->copied;
    fake->copied += (size_t)len;
    fake->checksum = fake_checksum(fake->checksum, bytes, (size_t)len);
    if (fake->largest_put < (size_t)len)
        fake->largest_put = (size_t)len;
    fake->puts++;
    memcpy(fake->last_put, bytes, MIN((size_t)len, sizeof(fake->last_put)));
    size_t mark = fake->reply.speaks_after;
    if ((mark > 0 && before < mark && fake->copied >= mark) || fake->notices > 0)
        make_readable(fake);
    return 1;
}

WRAP(int, PQputCopyEnd, PGconn *pg, const char *error) {
    FakeConn *fake = fake_of(pg);

    if (fake == NULL)
        return __real_PQputCopyEnd(pg, error);
    fake->copy_ends++;
    fake->copy_end_was_error = error != NULL;
    if (fake->reply.kind == FAKE_COPY_BOTH) {
        fake->reply.hangs = fake->ignores_end;
        make_readable(fake);
        return 1;
    }
    assert_int_equal(fake->phase, PHASE_COPY_IN);
    if (error != NULL && fake->reply.sqlstate == NULL) {
        fake->reply.sqlstate = "57014";
        fake->reply.message = "COPY from stdin failed";
    }
    fake->phase = fake->reply.hangs ? PHASE_HANG : PHASE_RESULT;
    return 1;
}

WRAP(PGnotify *, PQnotifies, PGconn *pg) {
    return fake_of(pg) != NULL ? NULL : __real_PQnotifies(pg);
}

/* --- Cancel ------------------------------------------------------------------------------------------------------- */

WRAP(PGcancel *, PQgetCancel, PGconn *pg) {
    return fake_of(pg) != NULL ? (PGcancel *)(void *)pg : __real_PQgetCancel(pg);
}

WRAP(int, PQcancel, PGcancel *cancel, char *message, int size) {
    FakeConn *fake = fake_of((const PGconn *)(const void *)cancel);

    if (fake == NULL)
        return __real_PQcancel(cancel, message, size);
    fake->cancels++;
    if (fake->ignores_cancel)
        return 1;
    if (fake->phase == PHASE_HANG || fake->phase == PHASE_COPY_OUT) {
        fake->phase = PHASE_RESULT;
        fake->reply.sqlstate = "57014";
        fake->reply.message = "canceling statement due to user request";
        make_readable(fake);
    }
    fake->reply.hangs = false;
    fake->never_writable = false;
    return 1;
}

WRAP(void, PQfreeCancel, PGcancel *cancel) {
    if (fake_of((const PGconn *)(const void *)cancel) == NULL)
        __real_PQfreeCancel(cancel);
}
