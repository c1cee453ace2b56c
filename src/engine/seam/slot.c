/* The slot: made or adopted, read once to prove that it can be decoded, then bound to the ledger. Steps 2 and 3 of
 * seam.c. */
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/fd.h"
#include "common/log.h"
#include "engine/ledger/journal.h"
#include "engine/seam/seam_internal.h"
#include "pg/quote.h"
#include "pg/repl.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SLOT_ATTEMPTS = 3 };
enum { WAL_STATUS_VERSION = 130000, MESSAGES_VERSION = 140000, FAILOVER_VERSION = 170000 };
#define BLOCKED_EVERY_US (1 * USEC_PER_SEC)
#define FEEDBACK_US (10 * USEC_PER_SEC)
#define READER_PATIENCE_US (5 * USEC_PER_SEC)
#define READER_PAUSE_US (100 * USEC_PER_MSEC)
#define READ_STEP_US (10 * USEC_PER_SEC)
#define READ_PATIENCE_US (600 * USEC_PER_SEC)

typedef struct SlotJob {
    const DbTarget *target;
    DbConn *source, *dest;
    const Ledger *ledger;
    const SeamNames *names;
    const Stop *stop;
    SeamBlocked blocked;
    void *context;
} SlotJob;

/* --- What is there ------------------------------------------------------------------------------------------------ */

typedef struct SlotFacts {
    bool exists;
    bool is_ours; /* pgoutput, of this database */
    bool is_active;
    bool is_lost;
    Lsn confirmed; /* 0: not ready yet */
} SlotFacts;

static bool read_slot(DbConn *source, const char *slot, SlotFacts *ret_facts, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(db_result_freep) DbResult *row = NULL;
    SlotFacts facts = {0};
    int version = db_version(source);
    const char *sql =
        arena_printf(arena,
                     "SELECT coalesce(plugin, '') = 'pgoutput' AND coalesce(database, '') ="
                     " pg_catalog.current_database() AND NOT temporary, active, %s OR %s, confirmed_flush_lsn"
                     " FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                     version >= WAL_STATUS_VERSION ? "coalesce(wal_status, '') = 'lost'" : "false",
                     version >= FAILOVER_VERSION ? "invalidation_reason IS NOT NULL" : "false");

    if (!db_query(source, sql, 1, (const char *const[]){slot}, &row, err))
        return error_wrap(err, "looking for replication slot %s", slot);
    if (db_rows(row) == 1)
        facts = (SlotFacts){
            .exists = true,
            .is_ours = db_bool(row, 0, 0),
            .is_active = db_bool(row, 0, 1),
            .is_lost = db_bool(row, 0, 2),
        };
    if (facts.exists && !db_is_null(row, 0, 3) && !lsn_parse(db_text(row, 0, 3), &facts.confirmed))
        return error_set(err, REASON_BAD_DATA, "replication slot %s has no position", slot);
    *ret_facts = facts;
    return true;
}

bool seam_drop_slot(DbConn *source, const char *slot, Error *err) {
    SlotFacts facts;

    return read_slot(source, slot, &facts, err) && (!facts.exists || repl_slot_drop(source, slot, err));
}

static bool is_intended(DbConn *dest, const SeamNames *names, bool *ret_intended, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    StringVec slots = {0};

    if (!journal_names(dest, arena, JOURNAL_SLOT, &slots, err))
        return false;
    *ret_intended = string_vec_has(&slots, names->slot);
    return true;
}

static bool refuse_reader(const char *slot, const DbResult *reader, Error *err) {
    (void)error_set(err, REASON_FENCED,
                    "replication slot %s is read by session %s of the source (%s, client %s), and the ledger of this"
                    " destination knows nothing of it",
                    slot, db_text(reader, 0, 0), db_text(reader, 0, 1), db_text(reader, 0, 2));
    return error_remedy(err,
                        "a migration to another server has the same id when this destination is a physical copy of that"
                        " one (pg_basebackup, a clone, an image): give it up there, by pgcrane abort, or take a"
                        " destination with an initdb of its own; if nobody needs that session, on the source: SELECT"
                        " pg_terminate_backend(%s);",
                        db_text(reader, 0, 0));
}

bool seam_check_unread(DbConn *source, DbConn *dest, const SeamNames *names, Error *err) {
    int64_t deadline = clock_now_us() + READER_PATIENCE_US;
    bool intended = false;

    if (!is_intended(dest, names, &intended, err) || intended)
        return intended;
    for (;;) {
        CLEANUP(db_result_freep) DbResult *reader = NULL;

        if (!db_query(source,
                      "SELECT s.active_pid, coalesce(a.application_name, '?'), coalesce(a.client_addr::text, 'local')"
                      " FROM pg_catalog.pg_replication_slots s"
                      " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid"
                      " WHERE s.slot_name = $1 AND s.active_pid IS NOT NULL",
                      1, (const char *const[]){names->slot}, &reader, err))
            return error_wrap(err, "looking for who reads replication slot %s", names->slot);
        if (db_rows(reader) == 0)
            return true;
        if (clock_now_us() > deadline)
            return refuse_reader(names->slot, reader, err);
        if (stop_wait_fd(db_stop(source), -1, 0, clock_now_us() + READER_PAUSE_US) == WAIT_STOPPED)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
}

/* The timeline from the name of the WAL file being written: the control file's is that of the last checkpoint. */
static bool read_system(DbConn *source, Arena *arena, JournalStream *stream, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(source,
                  "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),"
                  " pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)",
                  0, NULL, &row, err))
        return error_wrap(err, "reading the source's system identifier");
    stream->system_identifier = arena_strdup(arena, db_text(row, 0, 0));
    stream->timeline = (int32_t)strtoul(db_text(row, 0, 1), NULL, 16);
    return true;
}

/* --- Making it ---------------------------------------------------------------------------------------------------- */

/* The command waits in a thread of its own, while this one says who is waited for. */
typedef struct SlotMaker {
    const DbTarget *target;
    const char *slot;
    bool failover;
    Stop stop;
    int done_fd;
    bool made;
    Lsn l0;
    Error err;
} SlotMaker;

static void *make_slot_thread(void *context) {
    SlotMaker *maker = context;
    uint64_t one = 1;

    log_thread_name("slot");
    maker->made = repl_slot_create(maker->target, maker->slot, maker->failover, &maker->stop, &maker->l0, &maker->err);
    if (write(maker->done_fd, &one, sizeof(one)) < 0)
        abort(); /* an eventfd cannot refuse this */
    return NULL;
}

static bool tell_blocked(const SlotJob *job, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *who = "";

    if (!seam_blockers(job->source, arena, 0, &who, err))
        return false;
    log_info("the slot waits for: %s", who);
    if (job->blocked != NULL && who[0] != '\0')
        job->blocked(job->context, who);
    return true;
}

/* Returns when the maker is done, or false when it need not go on. */
static bool watch_maker(const SlotJob *job, const SlotMaker *maker, Error *err) {
    for (;;) {
        switch (stop_wait_fd(job->stop, maker->done_fd, POLLIN, clock_now_us() + BLOCKED_EVERY_US)) {
        case WAIT_READY:
            return true;
        case WAIT_STOPPED:
            return error_set(err, REASON_CANCELLED, "stopped while the replication slot was made");
        case WAIT_TIMEOUT:
            if (!tell_blocked(job, err))
                return false;
            break;
        }
    }
}

static bool run_maker(const SlotJob *job, SlotMaker *maker, Error *err) {
    pthread_t thread;
    int failed = pthread_create(&thread, NULL, make_slot_thread, maker);

    if (failed != 0)
        return error_set(err, REASON_SYSTEM, "no thread: %s", strerror(failed));
    bool watched = watch_maker(job, maker, err);
    if (!watched)
        stop_request(&maker->stop);
    (void)pthread_join(thread, NULL);
    if (watched && !maker->made)
        *err = maker->err;
    return watched && maker->made;
}

static bool make_slot(const SlotJob *job, Lsn *ret_l0, Error *err) {
    CLEANUP(fd_close) int done_fd = eventfd(0, EFD_CLOEXEC);
    SlotMaker maker = {
        .target = job->target,
        .slot = job->names->slot,
        .failover = db_version(job->source) >= FAILOVER_VERSION,
        .done_fd = done_fd,
    };

    if (done_fd < 0)
        return error_errno(err, REASON_SYSTEM, "eventfd");
    if (!stop_init(&maker.stop, err))
        return false;
    bool made = run_maker(job, &maker, err);
    stop_fini(&maker.stop);
    if (!made)
        return false;
    log_info("slot %s made", job->names->slot);
    if (!failpoint("seam.slot_made", err))
        return false;
    *ret_l0 = maker.l0;
    return true;
}

/* One of an earlier run is taken as it is when it is complete: nobody has read it, or the ledger would say so. One that
 * is not complete, or is being read, is what a run left that was killed here: the ledger says that there was one
 * (seam_check_unread()), and we have the lock on the source. */
static bool make_or_adopt(const SlotJob *job, Lsn *ret_l0, Error *err) {
    SlotFacts facts;

    if (!read_slot(job->source, job->names->slot, &facts, err))
        return false;
    if (facts.exists && !facts.is_ours) {
        (void)error_set(err, REASON_SQL_FAILED, "there is a replication slot %s on the source that is not pgcrane's",
                        job->names->slot);
        return error_remedy(err, "if nobody needs it, run there: SELECT pg_drop_replication_slot('%s');",
                            job->names->slot);
    }
    if (facts.exists && !facts.is_active && !facts.is_lost && facts.confirmed != 0) {
        log_info("slot %s adopted", job->names->slot);
        *ret_l0 = facts.confirmed;
        return true;
    }
    if (facts.exists && !repl_slot_drop(job->source, job->names->slot, err))
        return false;
    return make_slot(job, ret_l0, err);
}

/* --- The first moments of a slot ---------------------------------------------------------------------------------- */

/*
 * While a slot is made, the server waits for running transactions twice, and does not note who commits during the first
 * wait. A catalogue change of those (TRUNCATE, ALTER TABLE, ...) is missing in the picture of the catalogue that
 * transactions beginning during the second wait are decoded with, and all later ones too, until the next transaction
 * that changes the catalogue: every reading of the slot fails ("could not map filenode"), or, silently, a column just
 * added is not delivered. So: a change of the catalogue by us, which ends that picture; a barrier, after which nobody
 * has it any more; and the stream begins only here. What the slot had before is over before the snapshot, as with a
 * slot that was made now.
 */
static bool settle_slot(const SlotJob *job, Lsn *ret_l0, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *publication = sql_ident(arena, job->names->publication_keys);
    Lsn message = 0, end = 0;

    if (!seam_begin(job->source, err) ||
        !db_execf(job->source, err, "COMMENT ON PUBLICATION %s IS 'of a migration by pgcrane, removed at its end'",
                  publication) ||
        !db_exec(job->source, "COMMIT", err)) {
        db_rollback(job->source);
        return error_wrap(err, "settling replication slot %s", job->names->slot);
    }
    if (!seam_barrier(job->source, job->stop, job->blocked, job->context, err) ||
        !seam_emit(job->source, "slot", &message, &end, err))
        return false;
    *ret_l0 = end;
    return failpoint("seam.slot_settled", err);
}

/* --- Can it be decoded? ------------------------------------------------------------------------------------------- */

static bool read_up_to(const SlotJob *job, ReplStream *stream, Lsn target, Error *err) {
    int64_t deadline = clock_now_us() + READ_PATIENCE_US;
    Lsn seen = 0;

    while (seen < target) {
        ReplData data = {0};

        switch (repl_receive(stream, clock_now_us() + READ_STEP_US, &data, err)) {
        case REPL_DATA:
            /* Both kinds say how far the server has decoded. Nothing is acknowledged: the position stays L0. */
            if (data.end_lsn > seen || data.start_lsn > seen)
                deadline = clock_now_us() + READ_PATIENCE_US;
            seen = MAX(seen, MAX(data.start_lsn, data.end_lsn));
            break;
        case REPL_TIMEOUT:
            if (clock_now_us() > deadline)
                return error_set(err, REASON_TIMED_OUT, "replication slot %s: nothing decoded for 10 minutes",
                                 job->names->slot);
            break;
        case REPL_STOPPED:
            return error_set(err, REASON_CANCELLED, "stopped while the replication slot was read");
        case REPL_FAILED:
            return false;
        }
    }
    return true;
}

/* Whether the failure is the slot's own: the server read it and could not go on. Everything else (network, rights, a
 * stop) is no reason to throw a slot away. */
static bool is_slots_fault(const Error *err) {
    return err->sqlstate[0] != '\0' && (err->reason == REASON_SQL_FAILED || err->reason == REASON_BAD_DATA) &&
           !err->retryable;
}

void seam_judge_stream(const char *slot, Error *err) {
    Error why = *err;

    /* 58: a file is gone, such as removed WAL. Why that is, only the slot's own state tells (engine/guard). */
    if (!is_slots_fault(err) || strncmp(err->sqlstate, "58", 2) == 0)
        return;
    error_set(err, REASON_SLOT_UNDECODABLE, "the source cannot decode replication slot %s: %s", slot, why.message);
    memcpy(err->sqlstate, why.sqlstate, sizeof(err->sqlstate));
}

/* Reads from the slot as the receiver will, streaming, so that neither side keeps what passes by. The goal is a message
 * just written and flushed: a mere position could lie inside a record that is not complete for hours. */
static bool check_decodable(const SlotJob *job, Lsn l0, Error *err) {
    const char *const publications[] = {job->names->publication_all, job->names->publication_keys, NULL};
    const ReplStart start = {
        .slot = job->names->slot,
        .publications = publications,
        .lsn = l0,
        .messages = db_version(job->source) >= MESSAGES_VERSION,
        .feedback_interval_us = FEEDBACK_US,
    };
    CLEANUP(repl_stream_closep) ReplStream *stream = NULL;
    Lsn message = 0, end = 0;

    return seam_emit(job->source, "slot check", &message, &end, err) &&
           repl_stream_open(job->target, &start, job->stop, &stream, err) && read_up_to(job, stream, message, err);
}

static bool make_decodable(const SlotJob *job, Lsn *ret_l0, Error *err) {
    Error undecodable;
    Lsn l0 = 0;

    for (int attempt = 1;; attempt++) {
        if (!make_or_adopt(job, &l0, err) || !settle_slot(job, &l0, err))
            return false;
        if (check_decodable(job, l0, err))
            break;
        if (!is_slots_fault(err))
            return error_wrap(err, "reading replication slot %s for the first time", job->names->slot);
        log_error_value(LOG_WARNING, err);
        undecodable = *err;
        if (!repl_slot_drop(job->source, job->names->slot, err))
            return false;
        if (attempt == SLOT_ATTEMPTS) {
            *err = undecodable;
            return error_wrap(err, "the source made %d replication slots that cannot be decoded", SLOT_ATTEMPTS);
        }
    }
    *ret_l0 = l0;
    return failpoint("seam.slot_checked", err);
}

/* --- Together ----------------------------------------------------------------------------------------------------- */

static bool resume_slot(const SlotJob *job, const JournalStream *bound, const JournalStream *now, Error *err) {
    SlotFacts facts;

    if (strcmp(bound->slot, job->names->slot) != 0 || strcmp(bound->system_identifier, now->system_identifier) != 0)
        return error_set(err, REASON_LEDGER_MISMATCH,
                         "the stream was begun with slot %s of system %s; this is slot %s of system %s", bound->slot,
                         bound->system_identifier, job->names->slot, now->system_identifier);
    if (!read_slot(job->source, job->names->slot, &facts, err))
        return false;
    if (facts.exists && facts.is_ours && !facts.is_lost)
        return true;
    return error_set(err, REASON_SLOT_LOST, "replication slot %s on the source %s", job->names->slot,
                     !facts.exists   ? "is gone"
                     : facts.is_lost ? "was invalidated: the source no longer has its WAL"
                                     : "was replaced by another");
}

bool seam_slot(const DbTarget *source_target, DbConn *source, DbConn *dest, const Ledger *ledger,
               const SeamNames *names, const Stop *stop, SeamBlocked blocked, void *context, Lsn *ret_l0, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const SlotJob job = {source_target, source, dest, ledger, names, stop, blocked, context};
    JournalStream bound, now = {.slot = names->slot};
    bool is_bound = false;

    if (!journal_get_stream(dest, arena, &is_bound, &bound, err) || !read_system(source, arena, &now, err))
        return false;
    if (is_bound) {
        if (!resume_slot(&job, &bound, &now, err))
            return false;
        *ret_l0 = bound.l0;
        return true;
    }
    if (!journal_intend(dest, ledger, JOURNAL_SLOT, names->slot, err) || !failpoint("seam.slot_intended", err) ||
        !make_decodable(&job, &now.l0, err) || !journal_set_stream(dest, ledger, &now, err))
        return false;
    log_info("stream slot=%s l0=%s timeline=%d", now.slot, lsn_format(arena, now.l0), now.timeline);
    *ret_l0 = now.l0;
    return failpoint("seam.slot_bound", err);
}
