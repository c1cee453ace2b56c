/*
 * A libpq that plays a script: linked in place of the real one's functions (fake_pq.wrap) for the error paths that no
 * real server can be asked to take.
 *
 * - fake_conn_new() queues a connection: the next PQconnectStartParams() without expand_dbname gets it. Everything else
 *   (connections that were not queued, parsing of connection strings) goes to the real libpq.
 * - fake_conn_expect() queues what the server answers to the next statement; statements without a script succeed with
 *   no rows. A statement that lacks the expected text fails the test.
 * - The socket is real: it is readable when the script has something to say, so that poll() works as with a server.
 * - `stop_when_waiting` is requested at the moment when the code under test learns that it has to wait: a stop in each
 *   kind of wait, without threads and clocks.
 */
#pragma once

#include "common/stop.h"

#include <libpq-fe.h>

/* FAKE_COPY_BOTH is a COPY OUT into which one may also write, until PQputCopyEnd() ends it. */
typedef enum FakeKind { FAKE_ROWS, FAKE_COPY_OUT, FAKE_COPY_IN, FAKE_COPY_BOTH } FakeKind;

typedef struct FakeReply {
    const char *sql_has; /* must be part of the statement; NULL = any statement */
    FakeKind kind;
    const char *tuples; /* the count of the command tag, "" = none */
    /* Rows of a query (n_rows * n_columns values, NULL = SQL NULL), or of COPY OUT (n_rows values). */
    const char *const *values;
    int n_rows;
    int n_columns;
    const size_t *lengths; /* of COPY OUT's rows; NULL = they are texts */
    size_t big_row;        /* COPY OUT: after the rows one row of this many bytes */
    /* How it ends: with this SQLSTATE, or well when it is NULL. */
    const char *sqlstate;
    const char *message;
    const char *detail;
    const char *context;
    const char *severity; /* NULL = "ERROR" */
    bool fails_late;      /* COPY OUT: announced before it fails, as whatever fails while it runs */
    bool hangs;           /* no answer (COPY OUT: none after the rows) until cancelled */
    bool loses;           /* the connection ends instead of the answer */
    bool garbage;         /* COPY OUT: libpq finds the stream malformed */
    /* COPY IN: the error comes after so many bytes, while data is still sent; 0 = refused at once, SIZE_MAX = at the
     * end. */
    size_t speaks_after;
} FakeReply;

enum { FAKE_REPLIES_MAX = 64, FAKE_SQL_MAX = 8192, FAKE_PUT_MAX = 64 };

typedef struct FakeConn {
    /* Login. */
    const char *login_error; /* NULL = it succeeds */
    bool login_silent;       /* never answers */
    bool needs_password;
    bool used_password;
    const char *server_encoding;
    const char *host;
    int version;
    /* Sending. */
    int flush_unsent;    /* so many PQflush calls leave something */
    bool never_writable; /* the peer does not read */
    bool flush_fails;
    int put_no_room; /* so many PQputCopyData calls find no room */
    bool put_fails;
    int notices; /* sent when the socket is next read in mid-COPY */
    bool ignores_cancel;
    bool ignores_end; /* COPY BOTH goes on after PQputCopyEnd() */
    bool in_transaction;
    Stop *stop_when_waiting;
    /* What was seen. */
    char params[FAKE_SQL_MAX]; /* "keyword=value;" of PQconnectStartParams */
    char sql[FAKE_SQL_MAX];    /* the last statement */
    int statements;
    size_t copied; /* bytes of COPY IN */
    unsigned long checksum;
    size_t largest_put;
    int puts;
    char last_put[FAKE_PUT_MAX];
    int copy_ends;
    bool copy_end_was_error;
    int cancels;
    bool finished;
    /* The script's own. */
    FakeReply replies[FAKE_REPLIES_MAX];
    int n_replies;
    int next_reply;
    FakeReply reply;
    int phase;
    int row;
    bool single_row;
    bool gap;
    bool bad;
    bool logged_in;
    int sockets[2];
    const char *error;
    PQnoticeProcessor notice_func;
    void *notice_context;
} FakeConn;

/* Frees all fakes. Call at each test's begin and end. */
void fake_pq_reset(void);
/* Owned by the fake until fake_pq_reset(), also after PQfinish(). */
FakeConn *fake_conn_new(void);
void fake_conn_expect(FakeConn *conn, FakeReply reply);
/* The running sum that `checksum` holds for all bytes of COPY IN. */
unsigned long fake_checksum(unsigned long sum, const char *bytes, size_t len);
