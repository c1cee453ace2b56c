/*
 * The ledger: schema `pgcrane` in the destination database.
 *
 * NOTES: who sees what after a crash
 *
 * One run = one worker process with one control connection and several lanes. The control connection holds the advisory
 * lock of the job for its whole life; a second command that starts meanwhile does not get it and says so. When the
 * worker dies, the kernel closes its sockets, the idle control session ends at once and the lock is free. A lane's
 * session may live on for a while in the middle of a CREATE INDEX or a COMMIT that waits for a standby. So a run that
 * has the lock
 *   1. ends all sessions of earlier runs (application_name "pgcrane JOB ...") and waits until they are gone,
 *   2. increments the epoch - which needs the row lock that each writing transaction of an earlier run shares, so that
 * the increment itself waits for any that still commits,
 *   3. only then reads what is done.
 * What an earlier run had in flight is thus either committed with its line, or rolled back without it:
 *
 *   earlier run                         this run
 *   BEGIN; share lock, epoch 7
 *   COPY ...; UPDATE chunk
 *                                       advisory lock; terminate; UPDATE epoch = 8 ... waits
 *   COMMIT (or rolled back by the terminate)
 *                                       ... has the row; reads chunk: rows set (or not)
 *   BEGIN; share lock, epoch 7 -> no row: FENCED
 *
 * A network cut between worker and destination looks the same, but that the old sessions live on until the server finds
 * out, and hold the lock. Whoever knows that one is left (the run that has lost it, or one behind a run that is dead:
 * worker/holder.c) ends it by its pid and the moment when it began; for anybody else the message names it.
 *
 * That lock proves nothing about the source, where another run may work under the same id: source_lock.c.
 *
 * Of two runs of the service that both live (its node was lost, and was not), the one that the service's lease is for
 * seizes the lock: it ends the other's sessions until it has it. The other connects again, waits for the lock, and is
 * refused it, or gets it and finds another epoch; its lanes find that at their next BEGIN. Between lock and epoch they
 * may still write under the old one, which step 1 and 2 settle as after a crash.
 *
 * synchronous_commit is set explicitly, never left to a role: lanes write with `off` (a chunk and its line are lost
 * together or not at all, and are then copied again), the control connection with `on`, whose commits flush everything
 * before them.
 */
#include "engine/ledger/ledger.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/hash.h"
#include "common/log.h"
#include "pg/event_triggers.h"
#include "pg/quote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEDGER_FORMAT = 5, ARCHIVE_PIECE = 1 << 20 };
/* First half of the advisory lock's key: "pgcr". The second is a hash of the job id, so that two jobs into one server's
 * databases do not meet (advisory locks are per database anyway). */
#define LOCK_CLASS "1885561714"

/* clang-format off */
static const char *const ledger_ddl =
    "CREATE SCHEMA pgcrane;"
    "COMMENT ON SCHEMA pgcrane IS 'pgcrane''s record of a migration under way; removed when it is done';"
    "REVOKE ALL ON SCHEMA pgcrane FROM PUBLIC;"
    "CREATE TABLE pgcrane.job ("
    " one boolean PRIMARY KEY DEFAULT true CHECK (one),"
    " format integer NOT NULL, job_id text NOT NULL, epoch bigint NOT NULL,"
    " source_system text NOT NULL, source_database text NOT NULL, fingerprint text NOT NULL,"
    " owner text NOT NULL, created_at timestamptz NOT NULL DEFAULT pg_catalog.now());"
    "CREATE TABLE pgcrane.step (name text PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT pg_catalog.now());"
    "CREATE TABLE pgcrane.archive (part integer PRIMARY KEY, bytes bytea NOT NULL);"
    "CREATE TABLE pgcrane.entry (dump_id integer PRIMARY KEY);"
    "CREATE TABLE pgcrane.snapshot ("
    " id integer PRIMARY KEY, snapshot_id text NOT NULL, picture text NOT NULL,"
    " system_identifier text NOT NULL, postmaster_start text NOT NULL, keeper_pid text NOT NULL,"
    " w pg_lsn, taken_at timestamptz NOT NULL DEFAULT pg_catalog.now());"
    "CREATE TABLE pgcrane.relation ("
    " oid oid PRIMARY KEY, snapshot integer NOT NULL REFERENCES pgcrane.snapshot,"
    " schema_name text NOT NULL, table_name text NOT NULL,"
    " filenode oid NOT NULL, columns_hash text NOT NULL, suspect text,"
    " columns text, altered text, keyed boolean NOT NULL DEFAULT true);"
    "CREATE TABLE pgcrane.chunk ("
    " relation oid NOT NULL, no integer NOT NULL, first_block bigint NOT NULL, end_block bigint,"
    " rows bigint, PRIMARY KEY (relation, no)) WITH (fillfactor = 50);"
    "CREATE TABLE pgcrane.large_object (oid oid PRIMARY KEY);"
    "CREATE TABLE pgcrane.source_object ("
    " kind text, name text, made boolean NOT NULL DEFAULT false,"
    " noted_at timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (kind, name));"
    "CREATE TABLE pgcrane.stream ("
    " one boolean PRIMARY KEY DEFAULT true CHECK (one),"
    " slot text NOT NULL, l0 pg_lsn NOT NULL, system_identifier text NOT NULL, timeline integer NOT NULL);"
    "CREATE TABLE pgcrane.after_open ("
    " no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL, sql text NOT NULL);"
    "CREATE TABLE pgcrane.unrepeated ("
    " no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tag text NOT NULL, kind text NOT NULL,"
    " object text NOT NULL, reason text NOT NULL, query text, noted_at timestamptz NOT NULL DEFAULT pg_catalog.now());"
    "CREATE TABLE pgcrane.hook ("
    " step text PRIMARY KEY, id text NOT NULL, digest text NOT NULL,"
    " due_since timestamptz NOT NULL DEFAULT pg_catalog.now());"
    "CREATE TABLE pgcrane.position ("
    " lane integer PRIMARY KEY, lsn pg_lsn NOT NULL, transactions bigint NOT NULL DEFAULT 0) WITH (fillfactor = 10);";
/* clang-format on */

static int32_t lock_key(const char *job_id) {
    return (int32_t)hash_text32(job_id);
}

/* Nor can this version start over, or abort: what the ledger names it cannot read. */
static bool refuse_other_version(Error *err) {
    (void)error_set(err, REASON_LEDGER_MISMATCH, "schema pgcrane of the destination was made by another version");
    return error_remedy(err,
                        "go on, or abort, with the version of pgcrane that made it; or give that migration up: pgcrane"
                        " abort --source-only, then on the destination DROP SCHEMA pgcrane CASCADE");
}

bool ledger_peek(DbConn *dest, Arena *arena, bool *ret_exists, LedgerIdentity *ret_identity, Error *err) {
    CLEANUP(db_result_freep) DbResult *found = NULL;
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT pg_catalog.to_regclass('pgcrane.job') IS NOT NULL", 0, NULL, &found, err))
        return error_wrap(err, "looking for the ledger");
    if (!db_bool(found, 0, 0)) {
        *ret_exists = false;
        return true;
    }
    /* Earlier formats had no owner. */
    if (!db_query(dest,
                  "SELECT job_id, source_system, source_database, fingerprint, format,"
                  " coalesce(pg_catalog.to_jsonb(j) OPERATOR(pg_catalog.->>) 'owner', '') FROM pgcrane.job j",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the ledger (schema pgcrane of the destination)");
    if (db_rows(row) != 1 || db_int64(row, 0, 4) != LEDGER_FORMAT)
        return refuse_other_version(err);
    *ret_exists = true;
    *ret_identity = (LedgerIdentity){
        .job_id = arena_strdup(arena, db_text(row, 0, 0)),
        .source_system = arena_strdup(arena, db_text(row, 0, 1)),
        .source_database = arena_strdup(arena, db_text(row, 0, 2)),
        .fingerprint = arena_strdup(arena, db_text(row, 0, 3)),
        .owner = arena_strdup(arena, db_text(row, 0, 5)),
    };
    return true;
}

/* Says who holds the job's advisory lock. */
static bool refuse_second_run(DbConn *dest, int32_t key, Error *err) {
    CLEANUP(db_result_freep) DbResult *holder = NULL;
    char key_text[16];

    (void)snprintf(key_text, sizeof(key_text), "%u", (uint32_t)key);
    if (!db_query(dest,
                  "SELECT l.pid, coalesce(a.client_addr::text, 'local'), coalesce(a.application_name, '?')"
                  " FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)"
                  " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = " LOCK_CLASS " AND l.objid = $1::oid"
                  " AND l.database = (SELECT oid FROM pg_catalog.pg_database"
                  " WHERE datname = pg_catalog.current_database())",
                  1, (const char *const[]){key_text}, &holder, err))
        return error_wrap(err, "looking for the other run");
    const char *pid = db_rows(holder) > 0 ? db_text(holder, 0, 0) : "?";

    (void)error_set(err, REASON_FENCED, "another pgcrane is running this migration (destination session %s, client %s)",
                    pid, db_rows(holder) > 0 ? db_text(holder, 0, 1) : "?");
    return error_remedy(err,
                        "let it finish or stop it; if it no longer exists, end its session on the destination:"
                        " SELECT pg_terminate_backend(%s);",
                        pid);
}

/* Sessions of other runs of this job: their names begin alike, ours is this very session. *ret_left: NULL when none is
 * left, else one of them. */
static bool terminate_others(DbConn *dest, Arena *arena, const char *job_id, const char **ret_left, Error *err) {
    CLEANUP(db_result_freep) DbResult *left = NULL;

    if (!db_query(dest,
                  "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                  " WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()"
                  " AND pg_catalog.strpos(application_name, 'pgcrane ' || $1 || ' ') = 1",
                  1, (const char *const[]){job_id}, &left, err))
        return error_wrap(err, "ending sessions of an earlier run");
    *ret_left = db_rows(left) > 0 ? arena_strdup(arena, db_text(left, 0, 0)) : NULL;
    return true;
}

bool ledger_holder(DbConn *conn, Arena *arena, LedgerHolder *ret_holder, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(conn,
                  "SELECT a.pid, a.backend_start FROM pg_catalog.pg_stat_activity a"
                  " WHERE a.pid = pg_catalog.pg_backend_pid() AND a.backend_start IS NOT NULL",
                  0, NULL, &row, err))
        return error_wrap(err, "asking for our own session");
    *ret_holder = (LedgerHolder){0};
    if (db_rows(row) == 1)
        *ret_holder = (LedgerHolder){arena_strdup(arena, db_text(row, 0, 0)), arena_strdup(arena, db_text(row, 0, 1))};
    return true;
}

bool ledger_end_holder(DbConn *conn, const LedgerHolder *left, Error *err) {
    return left == NULL || left->pid == NULL ||
           db_query(conn,
                    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a"
                    " WHERE a.pid = $1::integer AND a.backend_start = $2::pg_catalog.timestamptz"
                    " AND a.pid <> pg_catalog.pg_backend_pid()",
                    2, (const char *const[]){left->pid, left->begun}, NULL, err) ||
           error_wrap(err, "ending our earlier session");
}

static bool lock_or_seize(DbConn *dest, const char *job_id, bool seize, const LedgerHolder *known, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    char key[16];
    int64_t deadline = clock_now_us() + LEDGER_LOCK_PATIENCE_US;

    (void)snprintf(key, sizeof(key), "%d", lock_key(job_id));
    for (;;) {
        CLEANUP(db_result_freep) DbResult *got = NULL;
        const char *left = NULL;

        if (!db_query(dest, "SELECT pg_catalog.pg_try_advisory_lock(" LOCK_CLASS ", $1::integer)", 1,
                      (const char *const[]){key}, &got, err))
            return error_wrap(err, "taking the migration's lock");
        if (db_bool(got, 0, 0))
            return true;
        if (!ledger_end_holder(dest, known, err) || (seize && !terminate_others(dest, arena, job_id, &left, err)))
            return false;
        /* A killed run's session needs a moment to notice. */
        if (clock_now_us() > deadline)
            return refuse_second_run(dest, lock_key(job_id), err);
        if (stop_wait_fd(db_stop(dest), -1, 0, clock_now_us() + 100 * USEC_PER_MSEC) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}

bool ledger_lock(DbConn *dest, const char *job_id, const LedgerHolder *left, Error *err) {
    return lock_or_seize(dest, job_id, false, left, err);
}

bool ledger_seize(DbConn *dest, const char *job_id, Error *err) {
    return lock_or_seize(dest, job_id, true, NULL, err);
}

static bool end_old_sessions(DbConn *dest, const char *job_id, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    int64_t deadline = clock_now_us() + LEDGER_LOCK_PATIENCE_US;

    for (;;) {
        const char *left = NULL;

        if (!terminate_others(dest, arena, job_id, &left, err))
            return false;
        if (left == NULL)
            return true;
        if (clock_now_us() > deadline)
            return error_set(err, REASON_FENCED, "a session of an earlier run (destination, pid %s) does not end",
                             left);
        if (stop_wait_fd(db_stop(dest), -1, 0, clock_now_us() + 50 * USEC_PER_MSEC) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}

static bool create_tables(DbConn *dest, const LedgerIdentity *id, Error *err) {
    char format[16];

    (void)snprintf(format, sizeof(format), "%d", LEDGER_FORMAT);
    if (!db_exec(dest, "BEGIN", err) || !db_exec(dest, ledger_ddl, err) ||
        !db_query(dest,
                  "INSERT INTO pgcrane.job (format, job_id, epoch, source_system, source_database, fingerprint, owner)"
                  " VALUES ($1::integer, $2, 0, $3, $4, $5, $6)",
                  6,
                  (const char *const[]){format, id->job_id, id->source_system, id->source_database, id->fingerprint,
                                        id->owner},
                  NULL, err) ||
        !db_exec(dest, "COMMIT", err))
        return error_wrap(err, "creating the ledger (schema pgcrane in the destination)");
    return failpoint("ledger.created", err);
}

/* A database that was made anew has its old name, and rows of its own: those that the ledger knows of are not its. */
static bool refuse_replaced(const LedgerIdentity *found, const LedgerIdentity *identity, Error *err) {
    error_set(err, REASON_DATABASE_REPLACED,
              "the destination holds unfinished migration %s, and these two databases are %s: one of them was made anew"
              " under its old name",
              found->job_id, identity->job_id);
    return error_remedy(err,
                        "start over with --restart; when the source that it began with was renamed, first remove what"
                        " is there: pgcrane abort --source-only %s",
                        found->job_id);
}

static bool check_identity(const LedgerIdentity *found, const LedgerIdentity *identity, Error *err) {
    if (strcmp(found->source_system, identity->source_system) != 0 ||
        strcmp(found->source_database, identity->source_database) != 0)
        return error_set(err, REASON_LEDGER_MISMATCH,
                         "the destination holds an unfinished migration of another source (database %s of system %s)",
                         found->source_database, found->source_system);
    if (strcmp(found->job_id, identity->job_id) != 0)
        return refuse_replaced(found, identity, err);
    return strcmp(found->fingerprint, identity->fingerprint) == 0 ||
           error_set(err, REASON_LEDGER_MISMATCH,
                     "the destination holds an unfinished migration with other filters or options: it had [%s],"
                     " this command has [%s]",
                     found->fingerprint, identity->fingerprint);
}

bool ledger_take(DbConn *dest, Arena *arena, const LedgerIdentity *identity, Ledger *ret_ledger, Error *err) {
    CLEANUP(db_result_freep) DbResult *taken = NULL;
    LedgerIdentity found = {0};
    bool exists = false;

    if (!db_exec(dest, "SET synchronous_commit = on", err) || !ledger_lock(dest, identity->job_id, NULL, err) ||
        !end_old_sessions(dest, identity->job_id, err) || !ledger_peek(dest, arena, &exists, &found, err))
        return false;
    if (!exists && !create_tables(dest, identity, err)) {
        db_rollback(dest);
        return false;
    }
    if (exists && !check_identity(&found, identity, err))
        return false;
    if (!db_query(dest, "UPDATE pgcrane.job SET epoch = epoch + 1 RETURNING epoch", 0, NULL, &taken, err))
        return error_wrap(err, "taking the next epoch");
    *ret_ledger = (Ledger){.job_id = identity->job_id, .epoch = db_int64(taken, 0, 0)};
    log_info("ledger epoch=%lld exists=%d", (long long)ret_ledger->epoch, exists);
    return true;
}

static bool check_epoch(DbConn *dest, const Ledger *ledger, const DbResult *row, Error *err) {
    if (db_rows(row) == 1)
        return true;
    db_rollback(dest);
    return error_set(err, REASON_FENCED, "another run has taken this migration over (our epoch was %lld)",
                     (long long)ledger->epoch);
}

bool ledger_retake(DbConn *dest, const Ledger *ledger, const LedgerHolder *left, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char epoch[24];

    (void)snprintf(epoch, sizeof(epoch), "%lld", (long long)ledger->epoch);
    if (!db_exec(dest, "SET synchronous_commit = on", err) || !ledger_lock(dest, ledger->job_id, left, err) ||
        !db_query(dest, "SELECT 1 FROM pgcrane.job WHERE epoch = $1::bigint", 1, (const char *const[]){epoch}, &row,
                  err))
        return error_wrap(err, "going back to the ledger");
    return check_epoch(dest, ledger, row, err);
}

bool ledger_begin(DbConn *dest, const Ledger *ledger, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char sql[160];

    (void)snprintf(sql, sizeof(sql), "BEGIN; SELECT 1 FROM pgcrane.job WHERE epoch = %lld FOR SHARE",
                   (long long)ledger->epoch);
    if (!db_query_last(dest, sql, &row, err)) {
        db_rollback(dest);
        return error_wrap(err, "beginning a transaction on the destination");
    }
    return check_epoch(dest, ledger, row, err);
}

bool ledger_commit(DbConn *dest, Error *err) {
    return db_exec(dest, "COMMIT", err) || error_wrap(err, "committing on the destination");
}

bool ledger_step_done(DbConn *dest, const char *step, bool *ret_done, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT 1 FROM pgcrane.step WHERE name = $1", 1, (const char *const[]){step}, &row, err))
        return error_wrap(err, "reading the ledger");
    *ret_done = db_rows(row) == 1;
    return true;
}

bool ledger_mark_step(DbConn *dest, const char *step, Error *err) {
    return db_query(dest, "INSERT INTO pgcrane.step (name) VALUES ($1)", 1, (const char *const[]){step}, NULL, err) ||
           error_wrap(err, "marking step %s in the ledger", step);
}

/* One piece as $2 in bytea's hex form. */
static bool save_piece(DbConn *dest, int part, const char *bytes, size_t len, Error *err) {
    static const char digits[] = "0123456789abcdef";
    CLEANUP(buf_fini) Buf hex;
    char part_text[16];

    buf_init(&hex, 2 * (size_t)ARCHIVE_PIECE + 16);
    (void)snprintf(part_text, sizeof(part_text), "%d", part);
    buf_append_str(&hex, "\\x");
    for (size_t i = 0; i < len; i++) {
        buf_append_char(&hex, digits[(uint8_t)bytes[i] >> 4]);
        buf_append_char(&hex, digits[(uint8_t)bytes[i] & 15]);
    }
    return db_query(dest, "INSERT INTO pgcrane.archive (part, bytes) VALUES ($1::integer, $2::bytea)", 2,
                    (const char *const[]){part_text, hex.data}, NULL, err);
}

static bool save_pieces(DbConn *dest, const char *bytes, size_t len, Error *err) {
    for (size_t at = 0, part = 0; at < len; at += ARCHIVE_PIECE, part++)
        if (!save_piece(dest, (int)part, bytes + at, MIN((size_t)ARCHIVE_PIECE, len - at), err))
            return error_wrap(err, "saving the schema archive in the ledger");
    return true;
}

bool ledger_save_archive(DbConn *dest, const Ledger *ledger, const char *bytes, size_t len, Error *err) {
    if (!ledger_begin(dest, ledger, err))
        return false;
    if (!save_pieces(dest, bytes, len, err) || !ledger_mark_step(dest, "archive", err) || !ledger_commit(dest, err)) {
        db_rollback(dest);
        return false;
    }
    return failpoint("schema.archived", err);
}

static int hex_digit(char c) {
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static bool load_piece(const DbResult *row, void *context, Error *err) {
    Buf *out = context;
    const char *text = db_text(row, 0, 0);
    size_t len = db_length(row, 0, 0);
    char *to = buf_reserve(out, len / 2);

    if (to == NULL)
        return buf_ok(out, "the schema archive", err);
    for (size_t i = 2; i + 1 < len; i += 2) /* after \x */
        *to++ = (char)((hex_digit(text[i]) << 4) | hex_digit(text[i + 1]));
    out->len += len >= 2 ? (len - 2) / 2 : 0;
    return true;
}

bool ledger_load_archive(DbConn *dest, Buf *ret_bytes, bool *ret_found, Error *err) {
    bool found = false;

    if (!ledger_step_done(dest, "archive", &found, err))
        return false;
    if (found &&
        !db_query_each(dest, "SELECT bytes FROM pgcrane.archive ORDER BY part", 0, NULL, load_piece, ret_bytes, err))
        return error_wrap(err, "reading the schema archive from the ledger");
    *ret_found = found;
    return true;
}

bool ledger_mark_entry(DbConn *dest, int32_t dump_id, Error *err) {
    char id[16];

    (void)snprintf(id, sizeof(id), "%d", dump_id);
    return db_query(dest, "INSERT INTO pgcrane.entry (dump_id) VALUES ($1::integer)", 1, (const char *const[]){id},
                    NULL, err) ||
           error_wrap(err, "marking an entry in the ledger");
}

bool ledger_entries(DbConn *dest, Arena *arena, IntVec *ret_dump_ids, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    IntVec ids = {0};

    if (!db_query(dest, "SELECT dump_id FROM pgcrane.entry", 0, NULL, &rows, err))
        return error_wrap(err, "reading the ledger's entries");
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, &ids, (int32_t)db_int64(rows, i, 0));
    *ret_dump_ids = ids;
    return true;
}

bool ledger_add_snapshot(DbConn *dest, const Ledger *ledger, LedgerSnapshot *snapshot, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!ledger_begin(dest, ledger, err))
        return false;
    if (!db_query(dest,
                  "INSERT INTO pgcrane.snapshot"
                  " (id, snapshot_id, picture, system_identifier, postmaster_start, keeper_pid)"
                  " SELECT coalesce(pg_catalog.max(id), 0) + 1, $1, $2, $3, $4, $5 FROM pgcrane.snapshot RETURNING id",
                  5,
                  (const char *const[]){snapshot->snapshot_id, snapshot->picture, snapshot->system_identifier,
                                        snapshot->postmaster_start, snapshot->keeper_pid},
                  &row, err) ||
        !ledger_commit(dest, err)) {
        db_rollback(dest);
        return error_wrap(err, "recording the snapshot in the ledger");
    }
    snapshot->id = (int32_t)db_int64(row, 0, 0);
    return true;
}

bool ledger_last_snapshot(DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest,
                  "SELECT id, snapshot_id, picture, system_identifier, postmaster_start, keeper_pid, w"
                  " FROM pgcrane.snapshot ORDER BY id DESC LIMIT 1",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the ledger's snapshots");
    Lsn w = 0;

    if (db_rows(row) == 1 && !db_is_null(row, 0, 6) && !lsn_parse(db_text(row, 0, 6), &w))
        return error_set(err, REASON_LEDGER_MISMATCH, "the ledger's snapshot has no readable position");
    *ret_snapshot = (LedgerSnapshot){0};
    if (db_rows(row) == 1)
        *ret_snapshot = (LedgerSnapshot){
            .id = (int32_t)db_int64(row, 0, 0),
            .snapshot_id = arena_strdup(arena, db_text(row, 0, 1)),
            .picture = arena_strdup(arena, db_text(row, 0, 2)),
            .system_identifier = arena_strdup(arena, db_text(row, 0, 3)),
            .postmaster_start = arena_strdup(arena, db_text(row, 0, 4)),
            .keeper_pid = arena_strdup(arena, db_text(row, 0, 5)),
            .w = w,
        };
    return true;
}

bool ledger_set_snapshot_w(DbConn *dest, const Ledger *ledger, LedgerSnapshot *snapshot, Lsn w, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const params[] = {arena_printf(arena, "%d", snapshot->id), lsn_format(arena, w)};

    if (!ledger_begin(dest, ledger, err))
        return false;
    if (!db_exec_rows(dest, "UPDATE pgcrane.snapshot SET w = $2::pg_lsn WHERE id = $1::integer AND w IS NULL", 2,
                      params, 1, err) ||
        !ledger_commit(dest, err)) {
        db_rollback(dest);
        return error_wrap(err, "recording the snapshot's position in the ledger");
    }
    snapshot->w = w;
    return true;
}

#define SCHEMA_STEP "schema under snapshot "

bool ledger_note_schema_snapshot(DbConn *dest, const Ledger *ledger, int32_t snapshot, Error *err) {
    if (!ledger_begin(dest, ledger, err))
        return false;
    if (db_execf(dest, err, "INSERT INTO pgcrane.step (name) VALUES ('" SCHEMA_STEP "%d') ON CONFLICT DO NOTHING",
                 snapshot) &&
        ledger_commit(dest, err))
        return true;
    db_rollback(dest);
    return error_wrap(err, "noting the schema's snapshot in the ledger");
}

bool ledger_schema_snapshot(DbConn *dest, Arena *arena, LedgerSnapshot *ret_snapshot, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    Lsn w = 0;

    if (!db_query(dest,
                  "SELECT s.id, s.picture, coalesce(s.w, '0/0') FROM pgcrane.snapshot s JOIN pgcrane.step t"
                  " ON t.name = '" SCHEMA_STEP "' || s.id ORDER BY s.id DESC LIMIT 1",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the schema's snapshot in the ledger");
    if (db_rows(row) == 1 && !lsn_parse(db_text(row, 0, 2), &w))
        return error_set(err, REASON_LEDGER_MISMATCH, "the ledger's snapshot has no readable position");
    *ret_snapshot = (LedgerSnapshot){0};
    if (db_rows(row) == 1)
        *ret_snapshot = (LedgerSnapshot){
            .id = (int32_t)db_int64(row, 0, 0), .picture = arena_strdup(arena, db_text(row, 0, 1)), .w = w};
    return true;
}

/* ---- The end ---- */

static bool fail_drop(DbConn *dest, Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    Error ignored;

    error_wrap(err, "dropping the ledger");
    if (err->retryable || db_is_broken(dest) ||
        !db_exec(dest, "ROLLBACK TO SAVEPOINT " EVENT_TRIGGERS_SAVEPOINT, &ignored))
        return false;
    const char *names = event_triggers_on(dest, scratch, "DROP SCHEMA");

    if (names[0] != '\0')
        error_remedy(err,
                     "event triggers of the destination may have refused it (%.300s): ALTER EVENT TRIGGER ... DISABLE"
                     " there, run the same command again, then ENABLE",
                     names);
    return false;
}

/* A user's event trigger that forbids DROP does not mean a schema of ours, and would end this run and every later one.
 * What comes after it in the transaction is the user's, and his event triggers are asked again. */
bool ledger_drop(DbConn *dest, Error *err) {
    const char *set = NULL;

    if (!event_triggers_silence(dest, &set, err))
        return error_wrap(err, "dropping the ledger");
    if (!db_exec(dest, "DROP SCHEMA pgcrane CASCADE", err))
        return fail_drop(dest, err);
    return set == NULL || db_execf(dest, err, "SET LOCAL %s TO DEFAULT", set) || error_wrap(err, "dropping the ledger");
}
