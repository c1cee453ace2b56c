/*
 * Replication connections: slots, the stream, feedback.
 *
 * Contract
 * - A ReplStream owns a replication connection (replication=database) and belongs to one thread. Every wait ends at its
 * Stop or deadline.
 * - repl_slot_create() uses SNAPSHOT 'nothing' (NOEXPORT_SNAPSHOT before 15), pgoutput, no two-phase; it waits for
 * running transactions as long as the deadline allows. *ret_lsn is the consistent point L0.
 * - repl_stream_open() asks first for the slot's confirmed_flush_lsn: the server *silently* forwards a start below it,
 * so a position that is older fails with DEST_WENT_BACK, one that the source does not have yet with SOURCE_WENT_BACK; a
 * missing, lost or invalidated slot is SLOT_LOST, a missing publication PUBLICATION_LOST. Nothing is ever created here.
 * - repl_receive() gives one XLogData or keepalive at a time; bytes live until the next call. Feedback goes out on
 * request of the server, and at least every `feedback_interval_us`, always with the positions set by repl_acknowledge()
 * and never with anything newer. Relies on: PostgreSQL documentation, "Streaming Replication Protocol";
 * wal_sender_timeout.
 */
#pragma once

#include "pg/query.h"

typedef struct ReplStream ReplStream;

typedef struct ReplStart {
    const char *slot;
    const char *const *publications; /* NULL-terminated */
    uint64_t lsn;                    /* from the ledger */
    bool unconfirmed;                /* it may not be confirmed yet: repl_acknowledge() says what may be */
    bool binary;                     /* ask for binary values (14+) */
    bool messages;                   /* logical messages too (14+) */
    bool pull;                       /* a large backlog may be fetched by SQL first (12+; repl_pull.c) */
    int64_t feedback_interval_us;    /* 0 = 10 s, or a third of the server's wal_sender_timeout when that is less */
    int64_t slot_wait_us;            /* how long another process may still hold the slot, 0 = 10 s */
    int64_t silence_us;              /* without a word for so long the connection is given up, 0 = 10 min */
    int64_t insists_us;              /* a source that shuts down may ask for what is not durable yet, 0 = 10 s */
} ReplStart;

typedef struct ReplData {
    bool is_keepalive;
    bool reply_requested;
    uint64_t start_lsn;  /* XLogData */
    uint64_t end_lsn;    /* XLogData: of its WAL; keepalive: everything that committed before has been given */
    uint64_t server_lsn; /* the server's end of WAL as far as it is known, 0 = not said */
    int64_t server_time_us;
    const char *bytes;
    size_t len;
} ReplData;

typedef enum ReplResult { REPL_DATA, REPL_TIMEOUT, REPL_STOPPED, REPL_FAILED } ReplResult;

NODISCARD bool repl_slot_create(const DbTarget *source, const char *slot, bool failover, const Stop *stop,
                                uint64_t *ret_lsn, Error *err);
/* Through an ordinary connection; a slot that does not exist is fine; waits until its walsender is gone, ending it. */
NODISCARD bool repl_slot_drop(DbConn *source, const char *slot, Error *err);

NODISCARD bool repl_stream_open(const DbTarget *source, const ReplStart *start, const Stop *stop,
                                ReplStream **ret_stream, Error *err);
void repl_stream_closep(ReplStream **stream); /* ends the COPY politely when it can, within a second */
ReplResult repl_receive(ReplStream *stream, int64_t deadline_us, ReplData *ret_data, Error *err);
/* What is durable in the destination: from now on confirmed. Monotonic. */
void repl_acknowledge(ReplStream *stream, uint64_t durable_lsn);
/* Who cannot read for a while (nowhere to put it) calls this instead, at least every 100 ms: sends what is due. */
NODISCARD bool repl_stay_alive(ReplStream *stream, Error *err);
/* Feedback now; ask: the server shall answer with a keepalive. While a backlog is fetched both happen by themselves. */
NODISCARD bool repl_send_feedback(ReplStream *stream, bool ask, Error *err);
