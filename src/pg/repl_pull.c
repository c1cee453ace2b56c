/*
 * A backlog, fetched by SQL instead of streamed.
 *
 * Why. A walsender makes a system call for each message that it sends and one for each WAL record that it reads, which
 * is most of its time when changes are small. pg_logical_slot_get_binary_changes() decodes the same messages into a
 * tuplestore and hands them out through COPY in pieces of 8 kB: measured a third to a sixth of the walsender's
 * processor time (doc/design/following.md). Near the end of the WAL a stream is better: it is told at once.
 *
 * Two slots. The function confirms what it gives at once, which must never happen to the migration's own slot. So a
 * *temporary copy* of that slot, the reader, is read from; it ends with its session, whatever happens. The own slot
 * stays at what is durable in the destination: it is moved there by pg_replication_slot_advance() between chunks, and
 * it alone decides from where the next start goes on.
 *
 *   what dies                            what is there then
 *   this process, the connection         the reader is gone; the own slot is at or before the ledger's position
 *   the source                           the same; a position that was advanced but not yet flushed comes back lower,
 *                                        and what it sends again lies below the ledger's position, so it is dropped
 *   the function, with an error          the server drops its session's temporary slots. Nothing of this chunk was
 *                                        given (all rows are made before the first is sent): the stream goes on from
 *                                        the chunk before
 *
 * What a chunk costs the source. Each call decodes from the reader's restart_lsn again, which moves only past
 * transactions that have ended: so chunks grow while nothing comes out of them (a large transaction is in progress),
 * and when the distance from restart_lsn is more than the window the stream takes over, which never reads twice. A
 * chunk is at least as long as what is read once more for it, so that all in all no more than twice the WAL is decoded.
 * The window also bounds the tuplestore, which is a temporary file of the source beyond work_mem: what commits in a
 * chunk was written behind restart_lsn, but compressed values are larger when they come out. So it is narrow, unless we
 * may set temp_file_limit. While its rows are sent, a chunk's snapshot holds VACUUM back as any query does. Large
 * values gain nothing and go through more hands than in a stream, and none is applied while a chunk is decoded: where
 * they are expected there is no chunk at all (0.75 of the stream's speed, measured), and a chunk of them is the last.
 *
 * Where it is not done. Before the minor releases of is_sound(), where the functions had faults. Where a setting makes
 * promises for the slot that a copy of it does not keep (synchronized_standby_slots), or ends a slot that nobody holds
 * for a while (idle_replication_slot_timeout). Whatever goes wrong before the first row of a chunk: the stream has
 * other limits, and if it is the slot's own trouble, the stream meets it as well and says so.
 *
 * Relies on: get_changes gives whole transactions, up to the first commit at or behind upto_lsn, and confirms exactly
 * the end of the last record that it read (its source code, 13 to 18).
 */
#include "pg/repl_pull.h"

#include "common/failpoint.h"
#include "common/log.h"
#include "common/lsn.h"
#include "pg/quote.h"

#include <endian.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define MB (UINT64_C(1) << 20)
#define BACKLOG_MIN (8 * MB) /* less is streamed before the reader would be there */
#define TAIL (1 * MB)        /* as near to the end as it goes */
#define CHUNK_FIRST (4 * MB) /* the destination waits for the first one */
#define CHUNK_MAX (64 * MB)
#define CHUNK_BYTES (32 * MB) /* of messages: less, and the next chunk may be twice as long */
#define WINDOW (64 * MB)
#define WINDOW_LIMITED (4096 * MB)
#define CONFIRM_BYTES (64 * MB)
#define ANSWER_US (600 * USEC_PER_SEC) /* for a chunk to be decoded, for a slot to be moved */
#define CONFIRM_INTERVAL_US (30 * USEC_PER_SEC)
#define SECONDS_1970_TO_2000 INT64_C(946684800)

enum { LARGE_MESSAGE = 4096, LARGE_MIN = 1 << 20 };
enum { COPY_HEADER = 19, SQL_MAX = 1 << 20 };

typedef enum PullState {
    PULL_IDLE,
    PULL_SENT, /* the statement; the server decodes */
    PULL_ROWS,
} PullState;

struct Pull {
    Arena *arena; /* holds this struct */
    DbConn *conn;
    PGconn *pg; /* of conn */
    const char *reader, *slot, *options;
    PullState state;
    char *buffer;         /* libpq's: a piece of the COPY */
    const char *at, *end; /* what is left of it */
    bool has_header;
    size_t rows, bytes; /* of the chunk at hand */
    uint64_t chunk;     /* bytes of WAL */
    uint64_t window;
    uint64_t position;   /* everything that committed before has been given */
    uint64_t restart;    /* from where the next chunk is decoded */
    uint64_t server_lsn; /* the end of the source's WAL, as it was last seen */
    int64_t server_time_us;
    uint64_t durable, confirmed;
    int64_t confirm_due_us;
    int64_t heard_us;
    bool is_over;
};

/* --- Opening ------------------------------------------------------------------------------------------------------ */

static const char *options_of(Arena *arena, const ReplStart *start, int version) {
    const char *names = "";

    for (const char *const *name = start->publications; *name != NULL; name++)
        names = arena_printf(arena, "%s%s%s", names, names[0] != '\0' ? "," : "", sql_ident(arena, *name));
    return arena_printf(arena, "'proto_version', '1', 'publication_names', %s%s", sql_literal(arena, names),
                        start->messages && version >= 140000 ? ", 'messages', 'true'" : "");
}

/* The name is of no importance to anybody but this session. */
static const char *reader_name(Arena *arena, const char *slot) {
    enum { NAME_LEN_MAX = 63 };
    static const char suffix[] = "_reader";
    int room = NAME_LEN_MAX - (int)strlen(suffix);

    return arena_printf(arena, "%.*s%s", room, slot, suffix);
}

/* Advancing a slot keeps the catalog rows that it needs (since 2025), and pgoutput can be started in one session as
 * often as one likes (since 2023). */
static bool is_sound(int version) {
    static const int fixed[][2] = {{13, 21}, {14, 18}, {15, 13}, {16, 9}, {17, 5}};

    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        if (fixed[i][0] == version / 10000)
            return version % 10000 >= fixed[i][1];
    return version >= 180000;
}

/* How large messages will be can only be guessed: from what was written to TOAST tables (a chunk of a value is a row of
 * some 2,000 bytes) for each row changed, since the statistics began. A wrong guess costs time, nothing else. */
static bool expect_small(Pull *pull, Error *err) {
    enum { VALUE_CHUNK = 2000 };
    CLEANUP(arena_freep) Arena *arena = arena_new();
    DbResult *rows CLEANUP(db_result_freep) = NULL;
    const char *sql =
        arena_printf(arena,
                     "SELECT sum(pg_catalog.pg_stat_get_tuples_inserted(reltoastrelid)) * %d > %d *"
                     " sum(pg_catalog.pg_stat_get_tuples_inserted(oid) + pg_catalog.pg_stat_get_tuples_updated(oid) +"
                     " pg_catalog.pg_stat_get_tuples_deleted(oid)) FROM pg_catalog.pg_class WHERE relkind = 'r'",
                     VALUE_CHUNK, LARGE_MESSAGE);

    return db_query(pull->conn, sql, 0, NULL, &rows, err) &&
           (!db_bool(rows, 0, 0) || error_set(err, REASON_INTERNAL, "its values are large"));
}

static bool may_pull(Pull *pull, Error *err) {
    DbResult *rows CLEANUP(db_result_freep) = NULL;

    if (!db_query(pull->conn,
                  "SELECT name FROM pg_catalog.pg_settings WHERE"
                  " (name = 'synchronized_standby_slots' AND setting <> '')"
                  " OR (name = 'idle_replication_slot_timeout' AND setting <> '0')",
                  0, NULL, &rows, err))
        return false;
    return (db_rows(rows) == 0 || error_set(err, REASON_INTERNAL, "%s is set", db_text(rows, 0, 0))) &&
           expect_small(pull, err);
}

/* One of an earlier run whose connection is cut, but which the server does not know yet, would stand in the way. */
static bool make_reader(Pull *pull, Error *err) {
    const char *const params[] = {pull->slot, pull->reader};

    return db_exec(pull->conn,
                   "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3", err) &&
           db_query(pull->conn,
                    "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots"
                    " WHERE slot_name = $1 AND temporary AND active_pid <> pg_catalog.pg_backend_pid()",
                    1, &pull->reader, NULL, err) &&
           db_query(pull->conn, "SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2, true)", 2, params, NULL,
                    err);
}

/* The copy stands where the slot does, which may be before the ledger. What lies between is not even to be decoded
 * (engine/seam/slot.c says why); moving the copy harms nothing, since the own slot holds what both need. */
static bool move_reader(Pull *pull, uint64_t from, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const params[] = {pull->reader, lsn_format(arena, from)};

    return from <= pull->confirmed ||
           db_query(pull->conn, "SELECT pg_catalog.pg_replication_slot_advance($1, $2::pg_catalog.pg_lsn)", 2, params,
                    NULL, err);
}

/* Only few roles may. Before there is a reader: an error would take it away. */
static bool limit_temp_files(Pull *pull, Error *err) {
    Error refused;

    pull->window = WINDOW;
    if (db_exec(pull->conn,
                "SELECT pg_catalog.set_config('temp_file_limit', '2GB', false) FROM pg_catalog.pg_settings"
                " WHERE name = 'temp_file_limit' AND (setting = '-1' OR setting::bigint > 2097152)",
                &refused))
        pull->window = WINDOW_LIMITED;
    return !db_is_broken(pull->conn) || (*err = refused, false);
}

static bool read_state(Pull *pull, Error *err) {
    DbResult *result CLEANUP(db_result_freep) = NULL;

    db_set_deadline(pull->conn, clock_now_us() + ANSWER_US);
    if (!db_query(pull->conn,
                  "SELECT confirmed_flush_lsn, restart_lsn, pg_catalog.pg_current_wal_flush_lsn(),"
                  " (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint"
                  " FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                  1, &pull->reader, &result, err))
        return error_wrap(err, "reading the state of slot \"%s\"", pull->reader);
    if (db_rows(result) != 1 || !lsn_parse(db_text(result, 0, 0), &pull->position) ||
        !lsn_parse(db_text(result, 0, 1), &pull->restart) || !lsn_parse(db_text(result, 0, 2), &pull->server_lsn))
        return error_set(err, REASON_INTERNAL, "slot \"%s\" has no position", pull->reader);
    pull->server_time_us = db_int64(result, 0, 3) - SECONDS_1970_TO_2000 * USEC_PER_SEC;
    return true;
}

static bool is_worth_it(const ReplStart *start, const ReplSlot *slot, int version) {
    return start->pull && is_sound(version) && slot->server_lsn - start->lsn >= BACKLOG_MIN && slot->restart_lsn != 0 &&
           start->lsn + CHUNK_FIRST - slot->restart_lsn <= WINDOW;
}

static Pull *pull_new(const ReplStart *start, const ReplSlot *slot, DbConn *conn) {
    Arena *arena = arena_new();
    Pull *pull = arena_new_of(arena, Pull);

    *pull = (Pull){.arena = arena,
                   .conn = conn,
                   .pg = db_pgconn(conn),
                   .slot = arena_strdup(arena, start->slot),
                   .reader = reader_name(arena, start->slot),
                   .options = options_of(arena, start, db_version(conn)),
                   .chunk = CHUNK_FIRST,
                   .durable = start->unconfirmed ? 0 : start->lsn,
                   .confirmed = slot->confirmed_lsn,
                   .confirm_due_us = clock_now_us() + CONFIRM_INTERVAL_US};
    return pull;
}

bool pull_open(const DbTarget *source, const ReplStart *start, const ReplSlot *slot, const Stop *stop, Pull **ret_pull,
               Error *err) {
    DbConn *conn = NULL;

    *ret_pull = NULL;
    if (!is_worth_it(start, slot, slot->server_version))
        return true;
    Pull *pull = db_open(source, "pull", stop, &conn, err) ? pull_new(start, slot, conn) : NULL;
    if (pull != NULL && may_pull(pull, err) && repl_tune(conn, err) && limit_temp_files(pull, err) &&
        make_reader(pull, err) && move_reader(pull, start->lsn, err) && read_state(pull, err)) {
        log_info("a backlog of %llu MB is fetched by SQL", (unsigned long long)((slot->server_lsn - start->lsn) / MB));
        *ret_pull = pull;
        return true;
    }
    log_info("the backlog is streamed: %s", err->message);
    pull_closep(&pull);
    return err->reason != REASON_CANCELLED;
}

/* --- Chunks ------------------------------------------------------------------------------------------------------- */

static void release(Pull *pull) {
    PQfreemem(pull->buffer);
    pull->buffer = NULL;
    pull->at = pull->end = NULL;
}

/* By each call that goes on from here. */
static uint64_t read_again(const Pull *pull) {
    return pull->position > pull->restart ? pull->position - pull->restart : 0;
}

static uint64_t room(const Pull *pull) {
    return pull->window > read_again(pull) ? pull->window - read_again(pull) : 0;
}

static uint64_t next_len(const Pull *pull) {
    return MIN(MAX(pull->chunk, read_again(pull)), room(pull));
}

static bool send_chunk(Pull *pull, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Buf sql CLEANUP(buf_fini);
    uint64_t upto = MIN(pull->position + next_len(pull), pull->server_lsn);

    buf_init(&sql, SQL_MAX);
    buf_printf(&sql,
               "COPY (SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes(%s, '%s', NULL, %s)) TO STDOUT"
               " (FORMAT binary)",
               sql_literal(arena, pull->reader), lsn_format(arena, upto), pull->options);
    if (!buf_ok(&sql, "a statement", err))
        return false;
    if (PQsendQuery(pull->pg, sql.data) != 1)
        return query_fail_conn(pull->conn, err);
    pull->state = PULL_SENT;
    pull->heard_us = clock_now_us();
    pull->has_header = false;
    pull->rows = 0;
    pull->bytes = 0;
    return query_flush(pull->conn, err);
}

/* What is durable becomes the own slot's position. It costs the source a quick run through the WAL between. */
static bool confirm(Pull *pull, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *const params[] = {pull->slot, lsn_format(arena, pull->durable)};

    pull->confirm_due_us = clock_now_us() + CONFIRM_INTERVAL_US;
    db_set_deadline(pull->conn, clock_now_us() + ANSWER_US);
    if (pull->durable <= pull->confirmed)
        return true;
    if (!db_query(pull->conn, "SELECT pg_catalog.pg_replication_slot_advance($1, $2::pg_catalog.pg_lsn)", 2, params,
                  NULL, err)) {
        if (db_is_broken(pull->conn) || err->reason == REASON_CANCELLED)
            return error_wrap(err, "moving slot \"%s\" to %s", pull->slot, params[1]);
        /* The error has taken the reader away; what is wrong with the slot, the stream's start will say. */
        log_info("the backlog is streamed: %s", err->message);
        pull->is_over = true;
        return true;
    }
    pull->confirmed = pull->durable;
    return true;
}

static void size_next(Pull *pull) {
    if (pull->rows == 0)
        pull->chunk = MIN(pull->chunk * 4, pull->window);
    else if (pull->bytes < CHUNK_BYTES)
        pull->chunk = MIN(pull->chunk * 2, CHUNK_MAX);
    else
        pull->chunk = MIN(MAX(pull->chunk / 2, CHUNK_FIRST), CHUNK_MAX);
    if (pull->bytes >= LARGE_MIN && pull->bytes > pull->rows * LARGE_MESSAGE)
        pull->is_over = true;
}

/* The server drops its session's temporary slots after an error: there is no reader any more. */
static ReplResult give_up(Pull *pull, const Error *why, bool *ret_over) {
    log_info("the backlog is streamed: %s", why->message);
    pull->state = PULL_IDLE;
    pull->is_over = true;
    *ret_over = true;
    return REPL_DATA;
}

/* An answer of the server, not the end of the connection; and before the first piece of the COPY, which brings the
 * header with it. */
static bool gave_nothing(const Pull *pull, const Error *err) {
    return err->sqlstate[0] != '\0' && err->reason != REASON_CONNECTION_LOST && err->reason != REASON_CANCELLED &&
           !db_is_broken(pull->conn) && !pull->has_header && pull->rows == 0;
}

static ReplResult end_chunk(Pull *pull, ReplData *ret_data, bool *ret_over, Error *err) {
    int64_t rows = 0;

    db_set_deadline(pull->conn, clock_now_us() + ANSWER_US); /* its rows may have waited for the destination */
    bool finished = query_finish(pull->conn, &rows, err);
    if (!finished && gave_nothing(pull, err))
        return give_up(pull, err, ret_over);
    if (!finished || !read_state(pull, err)) {
        err->retryable = err->reason != REASON_CANCELLED; /* half given: it says nothing of the slot */
        return REPL_FAILED;
    }
    pull->state = PULL_IDLE;
    size_next(pull);
    if (!failpoint("pull.after_chunk", err))
        return REPL_FAILED;
    *ret_data = (ReplData){.is_keepalive = true,
                           .end_lsn = pull->position,
                           .server_lsn = pull->server_lsn,
                           .server_time_us = pull->server_time_us};
    return REPL_DATA;
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

static ReplResult malformed(Error *err) {
    error_set(err, REASON_WIRE_BAD, "the source sent a malformed COPY of decoded changes");
    return REPL_FAILED;
}

static size_t left(const Pull *pull) {
    return (size_t)(pull->end - pull->at);
}

/* COPY's binary format: a header, then for each row the number of fields and for each field its length; -1 ends. */
static bool skip_header(Pull *pull) {
    static const char signature[] = "PGCOPY\n\377\r\n";
    uint32_t extension = 0;

    if (left(pull) < COPY_HEADER || memcmp(pull->at, signature, sizeof(signature)) != 0)
        return false;
    memcpy(&extension, pull->at + COPY_HEADER - sizeof(extension), sizeof(extension));
    pull->at += COPY_HEADER;
    pull->has_header = true;
    if (be32toh(extension) > left(pull))
        return false;
    pull->at += be32toh(extension);
    return true;
}

/* REPL_TIMEOUT: no whole row is left in the piece. */
static ReplResult next_row(Pull *pull, ReplData *ret_data, Error *err) {
    uint16_t fields = 0;
    uint32_t len = 0;

    if (left(pull) == 0)
        return REPL_TIMEOUT;
    if (!pull->has_header && !skip_header(pull))
        return malformed(err);
    if (left(pull) == 0)
        return REPL_TIMEOUT;
    if (left(pull) < sizeof(fields))
        return malformed(err);
    memcpy(&fields, pull->at, sizeof(fields));
    pull->at += sizeof(fields);
    if (be16toh(fields) == UINT16_MAX && left(pull) == 0)
        return REPL_TIMEOUT;
    if (be16toh(fields) != 1 || left(pull) < sizeof(len))
        return malformed(err);
    memcpy(&len, pull->at, sizeof(len));
    len = be32toh(len);
    pull->at += sizeof(len);
    if (len > left(pull))
        return malformed(err);
    *ret_data = (ReplData){.start_lsn = pull->position,
                           .end_lsn = pull->position,
                           .server_lsn = pull->server_lsn,
                           .server_time_us = pull->server_time_us,
                           .bytes = pull->at,
                           .len = len};
    pull->at += len;
    pull->rows++;
    pull->bytes += len;
    return REPL_DATA;
}

/* --- Receiving ---------------------------------------------------------------------------------------------------- */

/* REPL_DATA = look again. */
static ReplResult wait_for_more(Pull *pull, int64_t deadline_us, Error *err) {
    switch (stop_wait_fd(db_stop(pull->conn), PQsocket(pull->pg), POLLIN, deadline_us)) {
    case WAIT_STOPPED:
        return REPL_STOPPED;
    case WAIT_TIMEOUT:
        if (clock_now_us() - pull->heard_us <= ANSWER_US)
            return REPL_TIMEOUT;
        pull->conn->broken = true;
        error_set(err, REASON_CONNECTION_LOST, "the source has said nothing for %lld seconds",
                  (long long)(ANSWER_US / USEC_PER_SEC));
        return REPL_FAILED;
    case WAIT_READY:
        break;
    }
    pull->heard_us = clock_now_us();
    if (PQconsumeInput(pull->pg) == 1)
        return REPL_DATA;
    query_fail_conn(pull->conn, err);
    return REPL_FAILED;
}

/* The statement failed before it was run; nothing of the chunk was given. */
static ReplResult refused(Pull *pull, const PGresult *result, bool *ret_over, Error *err) {
    Error ignored;
    int64_t rows = 0;

    query_fail_result(pull->conn, result, err);
    if (err->reason == REASON_CONNECTION_LOST || err->reason == REASON_CANCELLED)
        return REPL_FAILED;
    if (!db_is_broken(pull->conn))
        (void)!query_finish(pull->conn, &rows, &ignored);
    return give_up(pull, err, ret_over);
}

/* The server says that rows follow before it makes them: what goes wrong then comes at the end of the COPY. */
static ReplResult take_answer(Pull *pull, int64_t deadline_us, bool *ret_over, Error *err) {
    while (PQisBusy(pull->pg)) {
        ReplResult waited = wait_for_more(pull, deadline_us, err);
        if (waited != REPL_DATA)
            return waited;
    }
    PGresult *result = PQgetResult(pull->pg);
    ReplResult answer = REPL_DATA;
    if (PQresultStatus(result) == PGRES_COPY_OUT)
        pull->state = PULL_ROWS;
    else
        answer = refused(pull, result, ret_over, err);
    PQclear(result);
    return answer;
}

static ReplResult take_rows(Pull *pull, int64_t deadline_us, ReplData *ret_data, bool *ret_over, Error *err) {
    for (;;) {
        ReplResult row = next_row(pull, ret_data, err);
        if (row != REPL_TIMEOUT)
            return row;
        release(pull);
        int len = PQgetCopyData(pull->pg, &pull->buffer, 1);
        if (len == -1)
            return end_chunk(pull, ret_data, ret_over, err);
        if (len < 0) {
            query_fail_conn(pull->conn, err);
            return REPL_FAILED;
        }
        if (len > 0) {
            pull->at = pull->buffer;
            pull->end = pull->buffer + len;
            continue;
        }
        ReplResult waited = wait_for_more(pull, deadline_us, err);
        if (waited != REPL_DATA)
            return waited;
    }
}

static bool has_more(const Pull *pull) {
    return !pull->is_over && pull->position + TAIL < pull->server_lsn && room(pull) >= CHUNK_FIRST;
}

/* Between two chunks; REPL_DATA with *ret_over: it is enough. */
static ReplResult begin_chunk(Pull *pull, bool *ret_over, Error *err) {
    bool more = has_more(pull);
    bool due = pull->durable >= pull->confirmed + MAX(CONFIRM_BYTES, read_again(pull)) ||
               clock_now_us() >= pull->confirm_due_us;

    if ((due || !more) && !confirm(pull, err))
        return REPL_FAILED;
    more = more && !pull->is_over;
    *ret_over = !more;
    return !more || (failpoint("pull.before_chunk", err) && send_chunk(pull, err)) ? REPL_DATA : REPL_FAILED;
}

ReplResult pull_receive(Pull *pull, int64_t deadline_us, ReplData *ret_data, bool *ret_over, Error *err) {
    *ret_over = false;
    if (pull->state == PULL_ROWS)
        return take_rows(pull, deadline_us, ret_data, ret_over, err);
    if (stop_requested(db_stop(pull->conn)))
        return REPL_STOPPED;
    if (pull->state == PULL_IDLE) {
        ReplResult begun = begin_chunk(pull, ret_over, err);
        if (begun != REPL_DATA || *ret_over)
            return begun;
    }
    ReplResult answer = take_answer(pull, deadline_us, ret_over, err);
    return answer == REPL_DATA && !*ret_over ? take_rows(pull, deadline_us, ret_data, ret_over, err) : answer;
}

void pull_acknowledge(Pull *pull, uint64_t durable_lsn) {
    pull->durable = MAX(pull->durable, durable_lsn);
}

void pull_stay_alive(Pull *pull) {
    pull->heard_us = clock_now_us();
}

uint64_t pull_position(const Pull *pull) {
    return pull->position;
}

/* The reader goes with its session; that the session has ended is known when it answers. */
void pull_closep(Pull **pull_pointer) {
    Pull *pull = *pull_pointer;

    if (pull == NULL)
        return;
    release(pull);
    if (!db_is_broken(pull->conn) && pull->state != PULL_IDLE) {
        (void)cancel_send(PQgetCancel(pull->pg));
        (void)conn_drain(pull->conn, NULL);
    }
    if (!db_is_broken(pull->conn)) {
        Error ignored;
        (void)!db_query(pull->conn,
                        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
                        " WHERE slot_name = $1 AND active_pid = pg_catalog.pg_backend_pid()",
                        1, &pull->reader, NULL, &ignored);
    }
    db_close(pull->conn);
    arena_free(pull->arena);
    *pull_pointer = NULL;
}
