/*
 * The replication stream: opened from where the ledger stands, read without blocking, confirmed.
 *
 * Where a stream may begin. A server forwards a start below confirmed_flush_lsn without an error, and what lies between
 * is never sent. So the slot is read first; only a slot that nobody uses has a confirmed position that stays, therefore
 * a walsender that still holds it (of a process of ours that was killed) is awaited for a while.
 *
 * In COPY BOTH mode libpq serves neither statements nor cancel requests: nothing here calls query_wait() or db_cancel()
 * before the server has ended the mode. The one statement after START_REPLICATION is the end of the connection.
 *
 * Feedback. The positions for written, flushed and applied are all what repl_acknowledge() was told last: the server
 * counts on "flushed" alone, and throws away what lies below it. A feedback that does not fit into libpq's buffer is
 * left out; the next one says the same and more.
 *
 * Silence. A server has something to say every wal_sender_timeout / 2, unless that is 0. After half of `silence_us`
 * without a word it is asked for one, so that a connection that has died unseen (a proxy keeps its half open) ends.
 * Before 15 the limit is generous: a server says nothing then while it decodes a transaction of which nothing is
 * published.
 *
 * Shutdown. A server that shuts down keeps each stream until all that it sent is confirmed, and asks for that again as
 * soon as it is answered. When the destination cannot follow for a while, that would hold it for as long: who insists
 * on one position for `insists_us` is taken for such a server, and left. One that is idle asks too, but not before half
 * of its wal_sender_timeout has passed since it heard of us, which is later than our next feedback.
 *
 * A large backlog is fetched by SQL before the stream begins (repl_pull.c); whoever receives does not notice.
 */
#include "pg/repl.h"

#include "common/lsn.h"
#include "pg/quote.h"
#include "pg/repl_internal.h"
#include "pg/repl_pull.h"

#include <endian.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FEEDBACK_INTERVAL_DEFAULT_US (10 * USEC_PER_SEC)
#define SILENCE_DEFAULT_US (600 * USEC_PER_SEC)
#define SILENCE_SHORT_US (120 * USEC_PER_SEC)
#define SLOT_WAIT_DEFAULT_US (10 * USEC_PER_SEC)
#define SLOT_ENDING_US (2 * USEC_PER_SEC)
#define INSISTS_DEFAULT_US (10 * USEC_PER_SEC)
#define INSISTS_PAUSE_US USEC_PER_SEC
#define CLOSE_TIMEOUT_US USEC_PER_SEC
#define GATHER_RECENT_US 500
#define GATHER_NS (300 * 1000)
#define SECONDS_1970_TO_2000 INT64_C(946684800)

enum { GATHER_ENOUGH = 8 << 10 };
enum { INSISTS_COUNT = 50 };
enum { VERSION_ANSWERS = 150000 }; /* answers also while it decodes what is not published */
enum { DATA_HEADER = 25, KEEPALIVE_SIZE = 18, FEEDBACK_SIZE = 34, START_SQL_MAX = 1 << 20 };

/* Keepalives that ask for a reply, one soon after the other, all with one position that is not durable yet. */
typedef struct Insisting {
    uint64_t lsn;
    int64_t since_us, last_us;
    int count;
} Insisting;

struct ReplStream {
    const DbTarget *source;
    ReplStart start; /* its strings are the caller's */
    const Stop *stop;
    Pull *pull; /* NULL: it streams; else the next three are not there */
    DbConn *conn;
    PGconn *pg;   /* of conn */
    char *buffer; /* libpq's, what the last message points into */
    uint64_t durable_lsn;
    int64_t feedback_interval_us, feedback_due_us;
    int64_t silence_us, heard_us;
    size_t gathered;  /* bytes of messages since the socket was read */
    int64_t asked_us; /* when it was asked to say something, 0 = it was heard since */
    bool unsent;      /* libpq holds some of our feedback */
    Insisting insisting;
    int64_t insists_us;
};

static uint64_t get_u64(const char *bytes) {
    uint64_t value;

    memcpy(&value, bytes, sizeof(value));
    return be64toh(value);
}

static void put_u64(char *bytes, uint64_t value) {
    value = htobe64(value);
    memcpy(bytes, &value, sizeof(value));
}

/* --- Feedback ----------------------------------------------------------------------------------------------------- */

static bool flush(ReplStream *stream, Error *err) {
    int unsent = PQflush(stream->pg);

    if (unsent < 0)
        return query_fail_conn(stream->conn, err);
    stream->unsent = unsent == 1;
    return true;
}

static bool send_feedback(ReplStream *stream, bool ask, Error *err) {
    char message[FEEDBACK_SIZE] = "r";

    stream->feedback_due_us = clock_now_us() + stream->feedback_interval_us;
    if (stream->unsent && !flush(stream, err))
        return false;
    if (stream->unsent)
        return true; /* the server does not read: another one would only wait behind the first */
    for (size_t i = 0; i < 3; i++)
        put_u64(message + 1 + i * 8, stream->durable_lsn);
    put_u64(message + 25, (uint64_t)(clock_wall_us() - SECONDS_1970_TO_2000 * USEC_PER_SEC));
    message[33] = ask ? 1 : 0;
    if (PQputCopyData(stream->pg, message, sizeof(message)) < 0)
        return query_fail_conn(stream->conn, err);
    return flush(stream, err);
}

bool repl_send_feedback(ReplStream *stream, bool ask, Error *err) {
    return stream->pull != NULL || send_feedback(stream, ask, err);
}

/* Whether the server is silent cannot be told while nothing is read. */
bool repl_stay_alive(ReplStream *stream, Error *err) {
    int64_t now = clock_now_us();

    if (stream->pull != NULL) {
        pull_stay_alive(stream->pull);
        return true;
    }
    stream->heard_us = now;
    stream->asked_us = 0;
    if (stream->unsent && !flush(stream, err))
        return false;
    return now < stream->feedback_due_us || send_feedback(stream, false, err);
}

/* What time demands: feedback, a question, or to give up. */
static bool keep_up(ReplStream *stream, int64_t now, Error *err) {
    if (stream->asked_us > 0 && now - stream->asked_us >= stream->silence_us / 2) {
        stream->conn->broken = true;
        return error_set(err, REASON_CONNECTION_LOST,
                         "the source has said nothing for %lld seconds, not even when asked",
                         (long long)((now - stream->heard_us) / USEC_PER_SEC));
    }
    if (stream->asked_us == 0 && now - stream->heard_us >= stream->silence_us / 2) {
        stream->asked_us = now;
        return send_feedback(stream, true, err);
    }
    return now < stream->feedback_due_us || send_feedback(stream, false, err);
}

/* --- Receiving ---------------------------------------------------------------------------------------------------- */

static void release(ReplStream *stream) {
    PQfreemem(stream->buffer);
    stream->buffer = NULL;
}

static bool parse(const char *bytes, size_t len, ReplData *ret_data, Error *err) {
    if (bytes[0] == 'w' && len >= DATA_HEADER) {
        *ret_data = (ReplData){.start_lsn = get_u64(bytes + 1),
                               .end_lsn = get_u64(bytes + 9),
                               .server_time_us = (int64_t)get_u64(bytes + 17),
                               .bytes = bytes + DATA_HEADER,
                               .len = len - DATA_HEADER};
        return true;
    }
    if (bytes[0] == 'k' && len == KEEPALIVE_SIZE) {
        *ret_data = (ReplData){.is_keepalive = true,
                               .end_lsn = get_u64(bytes + 1),
                               .server_time_us = (int64_t)get_u64(bytes + 9),
                               .reply_requested = bytes[17] != 0};
        return true;
    }
    return error_set(err, REASON_WIRE_BAD,
                     "the source sent a message of unknown type 0x%02X and %zu bytes in its stream",
                     (unsigned char)bytes[0], len);
}

static bool insists(ReplStream *stream, const ReplData *data, int64_t now) {
    Insisting *insisting = &stream->insisting;
    int64_t pause_us = MIN(INSISTS_PAUSE_US, stream->feedback_interval_us);

    if (!data->is_keepalive || data->end_lsn <= stream->durable_lsn) {
        insisting->count = 0;
        return false;
    }
    if (!data->reply_requested)
        return false;
    if (insisting->count == 0 || insisting->lsn != data->end_lsn || now - insisting->last_us >= pause_us)
        *insisting = (Insisting){.lsn = data->end_lsn, .since_us = now};
    insisting->last_us = now;
    insisting->count = MIN(insisting->count + 1, INSISTS_COUNT);
    return insisting->count == INSISTS_COUNT && now - insisting->since_us >= stream->insists_us;
}

static ReplResult leave(ReplStream *stream, Error *err) {
    stream->conn->broken = true;
    error_set(err, REASON_CONNECTION_LOST,
              "the source is shutting down, and the destination does not have yet what it has sent");
    return REPL_FAILED;
}

static ReplResult take_message(ReplStream *stream, size_t len, ReplData *ret_data, Error *err) {
    ReplData data;
    int64_t now = clock_now_us();

    stream->heard_us = now;
    stream->asked_us = 0;
    stream->gathered += len;
    if (!parse(stream->buffer, len, &data, err))
        return REPL_FAILED;
    if (insists(stream, &data, now))
        return leave(stream, err);
    if (data.reply_requested ? !send_feedback(stream, false, err) : !keep_up(stream, now, err))
        return REPL_FAILED;
    *ret_data = data;
    return REPL_DATA;
}

/* The server has ended the stream: its error, or a shutdown. */
static ReplResult fail_ended(ReplStream *stream, Error *err) {
    PGresult *result = NULL;

    if (!query_next(stream->conn, &result, err))
        return err->reason == REASON_CANCELLED ? REPL_STOPPED : REPL_FAILED;
    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        query_fail_result(stream->conn, result, err);
    else
        error_set(err, REASON_CONNECTION_LOST, "the source has ended the stream: it is shutting down");
    PQclear(result);
    stream->conn->broken = true;
    return REPL_FAILED;
}

static int64_t earliest(int64_t deadline, int64_t due) {
    return deadline == 0 ? due : MIN(deadline, due);
}

/* Sleeps until there is something to read, to send or to do. REPL_DATA = look again. */
static ReplResult wait_for_more(ReplStream *stream, int64_t deadline_us, Error *err) {
    int64_t quiet_since = stream->asked_us > 0 ? stream->asked_us : stream->heard_us;
    int64_t wake = earliest(deadline_us, MIN(stream->feedback_due_us, quiet_since + stream->silence_us / 2));
    short events = (short)(POLLIN | (stream->unsent ? POLLOUT : 0));

    switch (stop_wait_fd(stream->conn->stop, PQsocket(stream->pg), events, wake)) {
    case WAIT_STOPPED:
        return REPL_STOPPED;
    case WAIT_READY:
        return !stream->unsent || flush(stream, err) ? REPL_DATA : REPL_FAILED;
    case WAIT_TIMEOUT:
        break;
    }
    int64_t now = clock_now_us();
    if (!keep_up(stream, now, err))
        return REPL_FAILED;
    return deadline_us > 0 && now >= deadline_us ? REPL_TIMEOUT : REPL_DATA;
}

/*
 * A server sends each change by itself, and under a backlog they come faster than a process wakes up: reading each as
 * it comes would cost both sides more than the change. So after a message that is hardly over, more is left to gather
 * before the socket is read again. A stream with pauses never waits here, nor one whose last read was worth its cost.
 */
static void gather(ReplStream *stream) {
    const struct timespec pause = {.tv_nsec = GATHER_NS};

    if (stream->gathered < GATHER_ENOUGH && clock_now_us() - stream->heard_us < GATHER_RECENT_US)
        (void)nanosleep(&pause, NULL);
    stream->gathered = 0;
}

static ReplResult receive_streamed(ReplStream *stream, int64_t deadline_us, ReplData *ret_data, Error *err) {
    bool has_read = false; /* since libpq's buffer was found empty */
    bool lost = false;

    release(stream);
    for (;;) {
        if (stop_requested(stream->conn->stop))
            return REPL_STOPPED;
        int len = PQgetCopyData(stream->pg, &stream->buffer, 1);
        if (len > 0)
            return take_message(stream, (size_t)len, ret_data, err);
        if (len == -1)
            return fail_ended(stream, err);
        /* The server's last words may lie before the end of the connection: that counts only when all is read. */
        if (len < 0 || lost) {
            query_fail_conn(stream->conn, err);
            return REPL_FAILED;
        }
        ReplResult waited = has_read ? wait_for_more(stream, deadline_us, err) : REPL_DATA;
        if (waited != REPL_DATA)
            return waited;
        if (!has_read)
            gather(stream);
        lost = !has_read && !PQconsumeInput(stream->pg);
        has_read = !has_read;
    }
}

/* --- Opening and closing ------------------------------------------------------------------------------------------ */

/* The grammar of replication commands knows no E'': only quotes are doubled. */
static void append_literal(Buf *sql, const char *text) {
    buf_append_char(sql, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            buf_append_char(sql, '\'');
        buf_append_char(sql, *text);
    }
    buf_append_char(sql, '\'');
}

/* Version 1 of the protocol has all that is asked for: no streaming of what is not committed, no two-phase. */
static bool build_start(Arena *arena, const ReplStart *start, int version, Buf *sql, Error *err) {
    const char *names = "";

    for (const char *const *name = start->publications; *name != NULL; name++)
        names = arena_printf(arena, "%s%s%s", names, names[0] != '\0' ? "," : "", sql_ident(arena, *name));
    buf_printf(sql, "START_REPLICATION SLOT %s LOGICAL %s (proto_version '1', publication_names ",
               sql_ident(arena, start->slot), lsn_format(arena, start->lsn));
    append_literal(sql, names);
    if (start->binary && version >= 140000)
        buf_append_str(sql, ", binary 'true'");
    if (start->messages && version >= 140000)
        buf_append_str(sql, ", messages 'true'");
    buf_append_char(sql, ')');
    return buf_ok(sql, "the start of replication", err);
}

/* Whether an error of START_REPLICATION has its cause in the slot is best seen there. */
static bool explain_start(DbConn *conn, const ReplStart *start, Error *err) {
    ReplSlot slot;
    Error cause;

    if (!db_is_broken(conn) && err->reason != REASON_CANCELLED && repl_slot_read(conn, start->slot, &slot, &cause) &&
        !repl_slot_check(&slot, start, &cause))
        *err = cause;
    return error_wrap(err, "starting replication from slot \"%s\"", start->slot);
}

/* One attempt; *ret_pid = the process that holds the slot, 0 = the stream has begun. */
static bool try_start(DbConn *conn, const ReplStart *start, const char *sql, int *ret_pid, uint64_t *ret_confirmed,
                      Error *err) {
    ReplSlot slot;

    if (!repl_slot_read(conn, start->slot, &slot, err) || !repl_slot_check(&slot, start, err))
        return false;
    *ret_pid = slot.active_pid;
    *ret_confirmed = slot.confirmed_lsn;
    if (slot.active_pid != 0)
        return true;
    if (query_start_copy(conn, sql, PGRES_COPY_BOTH, err))
        return true;
    if (strcmp(err->sqlstate, SQLSTATE_IN_USE) != 0)
        return explain_start(conn, start, err);
    *ret_pid = -1; /* taken since we looked: who it was, the next look says */
    return true;
}

/* How long a slot that somebody has is waited for. One that is just ending is left to itself for a moment. */
typedef struct SlotWait {
    int64_t patient_us, deadline_us;
} SlotWait;

static SlotWait slot_wait(const ReplStart *start) {
    int64_t now = clock_now_us(), most = start->slot_wait_us > 0 ? start->slot_wait_us : SLOT_WAIT_DEFAULT_US;

    return (SlotWait){now + MIN(SLOT_ENDING_US, most / 2), now + most};
}

/* pid: the slot's process, -1 = not known. */
static bool wait_for_slot(DbConn *conn, const ReplStart *start, const SlotWait *wait, int pid, Error *err) {
    int64_t now = clock_now_us();

    if (pid > 0 && now >= wait->deadline_us)
        return repl_slot_fail_active(start->slot, pid, err);
    return (pid <= 0 || now < wait->patient_us || repl_slot_end_namesake(conn, pid, err)) && repl_slot_pause(conn, err);
}

static bool begin(DbConn *conn, const ReplStart *start, uint64_t *ret_confirmed, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Buf sql CLEANUP(buf_fini);
    SlotWait wait = slot_wait(start);

    buf_init(&sql, START_SQL_MAX);
    if (!build_start(arena, start, db_version(conn), &sql, err))
        return false;
    for (;;) {
        int pid = 0;
        if (!try_start(conn, start, sql.data, &pid, ret_confirmed, err))
            return false;
        if (pid == 0)
            return true;
        if (!wait_for_slot(conn, start, &wait, pid, err))
            return false;
    }
}

/* Late enough not to disturb, early enough for a server that is impatient. */
static bool read_interval(DbConn *conn, int64_t *ret_interval_us, Error *err) {
    DbResult *result CLEANUP(db_result_freep) = NULL;

    if (!db_query_last(conn, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'", &result,
                       err))
        return error_wrap(err, "reading wal_sender_timeout");
    int64_t timeout_us = db_rows(result) == 0 ? 0 : db_int64(result, 0, 0) * USEC_PER_MSEC;
    *ret_interval_us = FEEDBACK_INTERVAL_DEFAULT_US;
    if (timeout_us > 0)
        *ret_interval_us = MIN(FEEDBACK_INTERVAL_DEFAULT_US, timeout_us / 3);
    return true;
}

/* From start->lsn, which may lie before what is durable, but not behind it. */
static bool open_stream(ReplStream *stream, DbConn *conn, const ReplStart *start, Error *err) {
    int64_t interval_us = 0;
    uint64_t confirmed = 0;

    if (!read_interval(conn, &interval_us, err) || !repl_tune(conn, err) || !begin(conn, start, &confirmed, err))
        return false;
    /* Feedback below what the slot has would take some servers back. */
    stream->durable_lsn = MAX(stream->durable_lsn, confirmed);
    bool answers = db_version(conn) >= VERSION_ANSWERS;
    stream->conn = conn;
    stream->pg = db_pgconn(conn);
    stream->feedback_interval_us = start->feedback_interval_us > 0 ? start->feedback_interval_us : interval_us;
    stream->silence_us = answers ? MAX(SILENCE_SHORT_US, interval_us * 6) : SILENCE_DEFAULT_US;
    if (start->silence_us > 0)
        stream->silence_us = start->silence_us;
    stream->insists_us = start->insists_us > 0 ? start->insists_us : INSISTS_DEFAULT_US;
    stream->insisting = (Insisting){0};
    stream->heard_us = clock_now_us();
    stream->feedback_due_us = stream->heard_us + stream->feedback_interval_us;
    return true;
}

static bool connect_stream(ReplStream *stream, DbConn **ret_conn, Error *err) {
    return repl_connect(stream->source, "stream", stream->stop, ret_conn, err) &&
           repl_check_publications(*ret_conn, stream->start.publications, err);
}

/* Nobody holds the slot, and it may be read from there. */
static bool await_slot(DbConn *conn, const ReplStart *start, ReplSlot *ret_slot, Error *err) {
    SlotWait wait = slot_wait(start);

    for (;;) {
        if (!repl_slot_read(conn, start->slot, ret_slot, err) || !repl_slot_check(ret_slot, start, err))
            return false;
        if (ret_slot->active_pid == 0)
            return true;
        if (!wait_for_slot(conn, start, &wait, ret_slot->active_pid, err))
            return false;
    }
}

static bool try_pull(ReplStream *stream, DbConn *conn, Error *err) {
    ReplSlot slot;

    return !stream->start.pull || (await_slot(conn, &stream->start, &slot, err) &&
                                   pull_open(stream->source, &stream->start, &slot, stream->stop, &stream->pull, err));
}

static bool open_first(ReplStream *stream, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;

    if (!connect_stream(stream, &conn, err) || !try_pull(stream, conn, err))
        return false;
    if (stream->pull != NULL)
        return true;
    if (!open_stream(stream, conn, &stream->start, err))
        return false;
    conn = NULL;
    return true;
}

/* The backlog has been fetched: what came since is streamed from where that ended. Confirmed is still what is durable.
 */
static bool open_behind_pull(ReplStream *stream, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    ReplStart start = stream->start;

    start.lsn = MAX(stream->start.lsn, pull_position(stream->pull));
    pull_closep(&stream->pull);
    if (!connect_stream(stream, &conn, err) || !open_stream(stream, conn, &start, err))
        return false;
    conn = NULL;
    return true;
}

bool repl_stream_open(const DbTarget *source, const ReplStart *start, const Stop *stop, ReplStream **ret_stream,
                      Error *err) {
    ReplStream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL)
        return error_set(err, REASON_SYSTEM, "out of memory");
    *stream = (ReplStream){
        .source = source, .start = *start, .stop = stop, .durable_lsn = start->unconfirmed ? 0 : start->lsn};
    if (!open_first(stream, err)) {
        repl_stream_closep(&stream);
        return false;
    }
    *ret_stream = stream;
    return true;
}

ReplResult repl_receive(ReplStream *stream, int64_t deadline_us, ReplData *ret_data, Error *err) {
    if (stream->pull != NULL) {
        bool over = false;
        ReplResult result = pull_receive(stream->pull, deadline_us, ret_data, &over, err);
        if (!over)
            return result;
        if (!open_behind_pull(stream, err))
            return err->reason == REASON_CANCELLED ? REPL_STOPPED : REPL_FAILED;
    }
    return receive_streamed(stream, deadline_us, ret_data, err);
}

/* Throws away what the server still sends. True = all has come. */
static bool discard(ReplStream *stream) {
    int len;

    do {
        release(stream);
        len = PQgetCopyData(stream->pg, &stream->buffer, 1);
    } while (len > 0);
    return len < 0;
}

/* One step towards the end of the session's command: 0 = done, 1 = go on, -1 = wait first. */
static int end_step(ReplStream *stream) {
    if (PQisBusy(stream->pg))
        return -1;
    PGresult *result = PQgetResult(stream->pg);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (result == NULL)
        return 0;
    bool copies = status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
    return copies && !discard(stream) ? -1 : 1;
}

/* The last position, and a word that we are going: the slot is free when the server has answered. */
static void say_goodbye(ReplStream *stream) {
    int64_t deadline = clock_now_us() + CLOSE_TIMEOUT_US;
    Error ignored;

    if (!send_feedback(stream, false, &ignored) || PQputCopyEnd(stream->pg, NULL) != 1)
        return;
    for (;;) {
        int unsent = PQflush(stream->pg);
        int step = end_step(stream);
        short events = (short)(POLLIN | (unsent == 1 ? POLLOUT : 0));
        if (step == 0 || unsent < 0)
            return;
        if (step < 0 && stop_wait_fd(NULL, PQsocket(stream->pg), events, deadline) != WAIT_READY)
            return;
        if (step < 0 && !PQconsumeInput(stream->pg))
            return;
    }
}

void repl_stream_closep(ReplStream **stream) {
    if (*stream == NULL)
        return;
    pull_closep(&(*stream)->pull);
    if ((*stream)->conn != NULL && !db_is_broken((*stream)->conn))
        say_goodbye(*stream);
    release(*stream);
    db_close((*stream)->conn);
    free(*stream);
    *stream = NULL;
}

void repl_acknowledge(ReplStream *stream, uint64_t durable_lsn) {
    stream->durable_lsn = MAX(stream->durable_lsn, durable_lsn);
    if (stream->pull != NULL)
        pull_acknowledge(stream->pull, stream->durable_lsn);
}
