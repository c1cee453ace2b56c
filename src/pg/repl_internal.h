/* What repl.c and repl_slot.c share; nobody else includes it. */
#pragma once

#include "pg/conn_internal.h"
#include "pg/repl.h"

#define SQLSTATE_IN_USE "55006"

/* A slot as the source describes it. */
typedef struct ReplSlot {
    const char *name;
    bool exists;
    bool is_ours;           /* made for pgoutput, in this database */
    bool is_lost;           /* nothing can be read from it any more */
    char cause[64];         /* of that, where the server says it */
    int active_pid;         /* 0 = nobody uses it */
    uint64_t confirmed_lsn; /* 0 = it was never completed */
    uint64_t restart_lsn;   /* WAL is read from here; 0 = it has none */
    int server_version;
    uint64_t server_lsn; /* the source's newest WAL */
} ReplSlot;

/* A connection with replication=database and all session settings. Only simple statements (db_exec, db_query_last). */
NODISCARD bool repl_connect(const DbTarget *source, const char *purpose, const Stop *stop, DbConn **ret_conn,
                            Error *err);
/* More memory for decoding, so that large transactions are not written to the source's disk once more. */
NODISCARD bool repl_tune(DbConn *conn, Error *err);
NODISCARD bool repl_slot_read(DbConn *conn, const char *name, ReplSlot *ret_slot, Error *err);
/* Whether the stream may begin there: SLOT_LOST, DEST_WENT_BACK, SOURCE_WENT_BACK, LEDGER_MISMATCH. */
NODISCARD bool repl_slot_check(const ReplSlot *slot, const ReplStart *start, Error *err);
bool repl_slot_fail_active(const char *name, int pid, Error *err);
/* Ends the slot's process when it is a session that this connection's predecessor has left (namesakes.h). */
NODISCARD bool repl_slot_end_namesake(DbConn *conn, int pid, Error *err);
/* Waits a moment for a slot to become free; fails with CANCELLED. */
NODISCARD bool repl_slot_pause(DbConn *conn, Error *err);
/* All of them exist: else PUBLICATION_LOST. */
NODISCARD bool repl_check_publications(DbConn *conn, const char *const *names, Error *err);
