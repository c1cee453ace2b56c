/*
 * The ledger: schema `pgcrane` in the destination database, the only truth about how far a migration is.
 *
 * Contract
 * - Every transaction that writes to the destination begins with ledger_begin(): BEGIN plus a share lock on the job's
 * row *with our epoch*. Once another run has taken the migration over (a higher epoch), it fails with FENCED, and
 * nothing of ours commits any more.
 * - What a transaction did and the line that says so commit together; so a crash at any moment leaves the line exactly
 * when the work is there.
 * - A Ledger is plain data, read-only after ledger_open(): lanes share it. Functions take the connection to use.
 *
 * See ledger.c for who may see what after a crash at each point.
 */
#pragma once

#include "common/lsn.h"
#include "common/vec.h"
#include "pg/query.h"

typedef struct Ledger {
    const char *job_id;
    int64_t epoch;
} Ledger;

/* What identifies the work: a later run must show the same, else LEDGER_MISMATCH, and DATABASE_REPLACED when only the
 * id differs, which is made of what the servers call the databases among themselves (their oids). */
typedef struct LedgerIdentity {
    const char *job_id;
    const char *source_system; /* system identifier */
    const char *source_database;
    const char *fingerprint; /* options_fingerprint() */
    const char *owner; /* job of the service that began it; "" = a person at a terminal. No part of the comparison */
} LedgerIdentity;

/* Is there one, and whose? *ret_exists false: nothing was made yet. job_id of the ledger in the arena. */
NODISCARD bool ledger_peek(DbConn *dest, Arena *arena, bool *ret_exists, LedgerIdentity *ret_identity, Error *err);

/* For the migration's lock, here and on the source (source_lock.h). */
#define LEDGER_LOCK_PATIENCE_US (15 * USEC_PER_SEC)

/* A session, so that it is known again: no two of a server have both alike. */
typedef struct LedgerHolder {
    const char *pid;   /* NULL = none is known */
    const char *begun; /* timestamptz in UTC */
} LedgerHolder;
/* That of `conn`, of either side; strings in the arena. */
NODISCARD bool ledger_holder(DbConn *conn, Arena *arena, LedgerHolder *ret_holder, Error *err);
/* Ends it, if it is there. NULL, or none known: nothing. */
NODISCARD bool ledger_end_holder(DbConn *conn, const LedgerHolder *left, Error *err);

/* Waits a little for the migration's advisory lock: what is looked at under it, no other run changes meanwhile. Session
 * level; a session may take it again. FENCED when another live run has it. `left` is a session that nobody uses any
 * more, and the server may not know that yet: ended, should it have the lock. */
NODISCARD bool ledger_lock(DbConn *dest, const char *job_id, const LedgerHolder *left, Error *err);
/* The same of a caller who knows that the other run, should it live, is not the one that shall go on: ends its sessions
 * on this server first, the one that has the lock among them, again and again until the lock is ours. The other run
 * then finds that its epoch is over, as after a crash. */
NODISCARD bool ledger_seize(DbConn *dest, const char *job_id, Error *err);
/* Takes the migration for this run: the advisory lock (session level: it ends with `dest`), the schema and its tables
 * if they are not there, an end for sessions of earlier runs, then the next epoch. Another live run: FENCED, naming its
 * session. */
NODISCARD bool ledger_take(DbConn *dest, Arena *arena, const LedgerIdentity *identity, Ledger *ret_ledger, Error *err);
/* After `dest` was reconnected: the advisory lock again, from `left` if need be, and the epoch must still be ours. */
NODISCARD bool ledger_retake(DbConn *dest, const Ledger *ledger, const LedgerHolder *left, Error *err);

NODISCARD bool ledger_begin(DbConn *dest, const Ledger *ledger, Error *err);
/* COMMIT. A lost reply leaves it open whether it happened: the caller asks the ledger after reconnecting. */
NODISCARD bool ledger_commit(DbConn *dest, Error *err);

/* Named one-time steps ("archive", "pre-data", "sequences", ...). Marking belongs in the step's own transaction. */
NODISCARD bool ledger_step_done(DbConn *dest, const char *step, bool *ret_done, Error *err);
NODISCARD bool ledger_mark_step(DbConn *dest, const char *step, Error *err);

/* The schema archive (pg_dump's), in pieces. Save runs in its own transaction, with the step "archive". */
NODISCARD bool ledger_save_archive(DbConn *dest, const Ledger *ledger, const char *bytes, size_t len, Error *err);
NODISCARD bool ledger_load_archive(DbConn *dest, Buf *ret_bytes, bool *ret_found, Error *err);

/* Archive entries that have run. Marking belongs in the entry's own transaction; twice is an error (unique violation).
 */
NODISCARD bool ledger_mark_entry(DbConn *dest, int32_t dump_id, Error *err);
typedef VEC(int32_t) IntVec;
NODISCARD bool ledger_entries(DbConn *dest, Arena *arena, IntVec *ret_dump_ids, Error *err);

/* A snapshot of the source that tables were or are copied under. */
typedef struct LedgerSnapshot {
    int32_t id;              /* 1, 2, ... ; 0 = none */
    const char *snapshot_id; /* pg_export_snapshot(): unique only while the server runs */
    const char *picture;     /* pg_current_snapshot()::text: what an importer must see */
    const char *system_identifier;
    const char *postmaster_start;
    const char *keeper_pid; /* of its server process, to end it */
    Lsn w; /* a flushed position of the source at or after the snapshot; 0 = not recorded: nothing may be copied yet
            * when changes are followed */
} LedgerSnapshot;
/* In its own transaction; fills snapshot->id. */
NODISCARD bool ledger_add_snapshot(DbConn *dest, const Ledger *ledger, LedgerSnapshot *snapshot, Error *err);
NODISCARD bool ledger_last_snapshot(DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, Error *err);
/* Once, in its own transaction, before the first row copied under the snapshot is committed. */
NODISCARD bool ledger_set_snapshot_w(DbConn *dest, const Ledger *ledger, LedgerSnapshot *snapshot, Lsn w, Error *err);
/* The archive that is saved next was written under this snapshot. */
NODISCARD bool ledger_note_schema_snapshot(DbConn *dest, const Ledger *ledger, int32_t snapshot, Error *err);
/* Picture and W of that snapshot; id 0 when none is noted. */
NODISCARD bool ledger_schema_snapshot(DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, Error *err);

/* Drops the schema. Inside the last transaction of a migration, or for a start over. The user's event triggers are not
 * asked, where our role has a say in that; where not, the remedy names those that may have refused it. */
NODISCARD bool ledger_drop(DbConn *dest, Error *err);
